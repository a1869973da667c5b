"""Measured latency of inference, in milliseconds per batch.

The median time of one forward pass in float32, without gradients, of ``batch_size`` images that
are on the device already, after a warm-up. Where a family falls into blocks, a table is measured
once: the time of every kind of block, from the difference between a deep and a shallow network
of blocks of that kind alone (so that caches see what they see in a whole network), and the time
of everything around the blocks, none below zero. The latency of an architecture is then a sum, and
costs nothing. How far it is from the truth is told by some whole networks, which are measured too.
A device that others share, or that grows hot, drifts in speed: between all visits one reference
network is measured, and times are taken relative to it. Elsewhere every architecture is measured
by itself, once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from tftas_optuna.architecture.blocks import BlockKind
from tftas_optuna.costs._network import empty_model
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meter, Target
    from tftas_optuna.spaces import SearchSpace

_LOG = logging.getLogger("tftas_optuna")
_DEPTHS = (4, 12)
_WARM_UPS = 2
_RUNS = 3
# Many short visits see more of a machine's moods than one long.
_ROUNDS = (3, 7)
_SECONDS = 60.0
# Whole networks that a table is checked against, and median errors of them: to warn, to refuse.
_CHECKED = 8
_DOUBTFUL = 0.15
_USELESS = 0.5
_FITTING_STEPS = 500


def measure_latency(arch: Architecture, target: Target, *, runs: int = 7) -> float:
    """Measure one architecture directly.

    Args:
        arch: What to measure.
        target: Input, device, batch size and threads.
        runs: Forward passes to take the median of, after two to warm up.

    Returns:
        Median milliseconds of one batch.
    """
    import torch

    from tftas_optuna.devices import resolve_device

    device = resolve_device(target.device)
    model = empty_model(arch, target, device)
    images = torch.zeros(
        target.batch_size, target.in_chans, target.img_size, target.img_size, device=device
    )
    times: list[float] = []
    with _threads(target.threads), torch.inference_mode():
        for _ in range(_WARM_UPS + runs):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            before = time.perf_counter()
            model(images)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - before)
    return 1000 * median(times[_WARM_UPS:])


class RelativeClock:
    """Measures architectures by a reference network that is measured between all of them.

    Args:
        reference: The reference network.
        target: Input, device, batch size and threads.
    """

    def __init__(self, reference: Architecture, target: Target) -> None:
        self._reference = reference
        self._target = target
        self._paces: list[float] = []

    @property
    def reference_ms(self) -> float:
        """Median milliseconds of the reference so far."""
        return median(self._paces)

    def round(self, archs: Iterable[Architecture]) -> list[float]:
        """Return each one's latency over the reference's at about the same time."""
        paces, found = [self._measure(self._reference)], []
        for arch in archs:
            found.append(self._measure(arch))
            paces.append(self._measure(self._reference))
        self._paces += paces
        # Three before and three after: one that was held up does not matter.
        return [ms / median(paces[max(i - 2, 0) : i + 4]) for i, ms in enumerate(found)]

    def _measure(self, arch: Architecture) -> float:
        return measure_latency(arch, self._target, runs=_RUNS)


def reference_network(space: SearchSpace) -> Architecture:
    """Choose the network that others of a space are measured by."""
    kinds = space.block_kinds()
    if not kinds:
        raise TftasError(f"networks of family {space.family} do not fall into blocks")
    return space.supernet.with_blocks(kinds[len(kinds) // 2], _DEPTHS[0])


class TableMeter:
    """Latency as a sum over blocks, from a table for one space.

    Args:
        space: The space whose blocks to measure.
        target: Input, device, batch size and threads.
        record: The table of an earlier meter; None to measure.

    Raises:
        UnavailableError: The record is damaged, or what is measured is nothing but noise.
    """

    closed_form = True

    def __init__(
        self, space: SearchSpace, target: Target, record: Mapping[str, Any] | None
    ) -> None:
        if record is None:
            self._check = self._measure(space, target)
            return
        try:
            self._block = {
                BlockKind(int(width), int(heads), float(ratio)): float(ms)
                for width, heads, ratio, ms in record["blocks"]
            }
            self._rest = {int(width): float(ms) for width, ms in record["rest"]}
            self._reference_ms = float(record["reference"])
        except (KeyError, TypeError, ValueError) as error:
            raise UnavailableError(f"the latency table is damaged ({error})") from error
        self._check = dict(record.get("check", {}))
        if n_negative := sum(ms < 0 for ms in (*self._block.values(), *self._rest.values())):
            _LOG.warning(
                "the latency table of this study, of an earlier release, has %d entries below zero"
                " milliseconds: do not trust it for small networks; a new study measures anew",
                n_negative,
            )

    def _measure(self, space: SearchSpace, target: Target) -> dict[str, float]:
        """Measure and fit the table; return how far it is from whole networks."""
        kinds = space.block_kinds()
        _LOG.info(
            "measuring the latency of %d kinds of blocks, in %d to %d rounds", len(kinds), *_ROUNDS
        )
        clock = RelativeClock(reference_network(space), target)
        visits = list(product(kinds, _DEPTHS))
        archs = [space.supernet.with_blocks(*visit) for visit in visits]
        rng = np.random.default_rng(0)
        whole = [space.sample(rng) for _ in range(_CHECKED)]
        rounds: list[list[float]] = []
        least, most = _ROUNDS
        start = time.monotonic()
        while len(rounds) < most:
            if len(rounds) >= least and time.monotonic() - start > _SECONDS:
                break
            rounds.append(clock.round([*archs, *whole]))
            seconds = time.monotonic() - start
            _LOG.info("latency: round %d, after %.0f s", len(rounds), seconds)
        self._reference_ms = clock.reference_ms
        times = [self._reference_ms * median(ratios) for ratios in zip(*rounds, strict=True)]
        self._block, self._rest = {}, {}
        by_kind = dict(
            zip(kinds, np.reshape(times[: len(visits)], (-1, len(_DEPTHS))), strict=True)
        )
        for width in dict.fromkeys(kind.width for kind in kinds):
            same = [kind for kind in kinds if kind.width == width]
            blocks, self._rest[width] = _fit(np.array([by_kind[kind] for kind in same]))
            self._block |= zip(same, blocks.tolist(), strict=True)
        pairs = zip(whole, times[len(visits) :], strict=True)
        errors = [abs(self(arch) / direct - 1) for arch, direct in pairs]
        check = {"networks": len(whole), "median": median(errors), "worst": max(errors)}
        _tell(check)
        return check

    def __call__(self, arch: Architecture) -> float:
        kinds = arch.block_kinds()
        try:
            return self._rest[kinds[0].width] + sum(self._block[kind] for kind in kinds)
        except KeyError as error:
            raise TftasError(f"the latency table has no entry for {error}") from error

    @property
    def record(self) -> dict[str, Any]:
        """The table: milliseconds by kind of block, and around the blocks by width.

        Besides those of the reference network, by which they were measured, and relative errors
        of whole networks.
        """
        return {
            "reference": self._reference_ms,
            "blocks": [[*kind, ms] for kind, ms in self._block.items()],
            "rest": [[width, ms] for width, ms in self._rest.items()],
            "check": self._check,
        }


def _fit(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit the times of one width: of each kind of block, and of all around the blocks.

    The squares of relative errors are least where nothing takes less than no time.

    Args:
        times: Milliseconds by kind of block and depth.

    Returns:
        Milliseconds of a block by kind, and those around the blocks.
    """
    depths, weights = np.array(_DEPTHS), times**-2
    rest = 0.0
    # Either has a closed form given the other; taken in turns they converge to the best pair.
    for _ in range(_FITTING_STEPS):
        blocks = (weights * depths * (times - rest)).sum(1) / (weights * depths**2).sum(1)
        blocks = blocks.clip(min=0)
        around = times - np.outer(blocks, depths)
        rest = max(float((weights * around).sum() / weights.sum()), 0.0)
    return blocks, rest


def _tell(check: Mapping[str, float]) -> None:
    """Say how far a table is from whole networks.

    Raises:
        UnavailableError: So far that it says nothing.
    """
    off = (
        f"the latency table is off by {check['median']:.0%} (median of {check['networks']} whole"
        f" networks, {check['worst']:.0%} at worst)"
    )
    advice = (
        "networks as small as these drown in noise: stop other programs, or measure with a larger"
        " batch or one thread (--latency-batch-size, --latency-threads)"
    )
    if check["median"] > _USELESS:
        raise UnavailableError(f"{off}; {advice}")
    if check["median"] > _DOUBTFUL:
        _LOG.warning("%s; %s", off, advice)
    else:
        _LOG.info("%s", off)


class DirectMeter:
    """Latency of every architecture by itself, measured once each."""

    record: dict[str, Any] = {}
    closed_form = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._known: dict[Architecture, float] = {}

    def __call__(self, arch: Architecture) -> float:
        if arch not in self._known:
            self._known[arch] = measure_latency(arch, self._target)
        return self._known[arch]


def _open(space: SearchSpace, target: Target, record: Mapping[str, Any] | None) -> Meter:
    return TableMeter(space, target, record) if space.block_kinds() else DirectMeter(target)


METRIC = Cost("latency", _open, unit="ms", measured=True, deployed=True)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
