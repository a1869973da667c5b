"""Measured latency of inference, in milliseconds per batch.

The median time of one forward pass in float32 after a warm-up, without gradients, with
``batch_size`` images that are already on the device.

For families that consist of blocks, a table is measured once. It holds the time of every kind of
block, from the difference between a deep and a shallow network of such blocks (so that caches
behave as in a whole network), and the time of everything around the blocks; no entry is negative.
The latency of an architecture is then a sum that costs nothing. A few whole networks are measured
as well and show the error of the table. A device that is shared or gets hot changes its speed, so
a reference network is measured between all networks, and times are relative to it.

For other families every architecture is measured directly, once.
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
# Many short rounds average out changes of a machine's speed better than a long one.
_ROUNDS = (3, 7)
_SECONDS = 60.0
# Number of whole networks that a table is checked against, and the median errors above which it
# gives a warning or is refused.
_CHECKED = 8
_DOUBTFUL = 0.15
_USELESS = 0.5
_FITTING_STEPS = 500


def measure_latency(arch: Architecture, target: Target, *, runs: int = 7) -> float:
    """Measure one architecture directly.

    Args:
        arch: The architecture.
        target: Input, device, batch size and threads.
        runs: Number of timed forward passes, after two for warm-up.

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
    """A clock that measures latencies relative to a reference network, to cancel drift.

    Args:
        reference: The reference network.
        target: Input, device, batch size and threads.
    """

    def __init__(self, reference: Architecture, target: Target) -> None:
        self._reference = reference
        self._target = target
        self._references: list[float] = []

    @property
    def reference_ms(self) -> float:
        """Median milliseconds of the reference network so far."""
        return median(self._references)

    def round(self, archs: Iterable[Architecture]) -> list[float]:
        """Return the ratio of each latency to that of the reference at about the same time."""
        references, times = [self._measure(self._reference)], []
        for arch in archs:
            times.append(self._measure(arch))
            references.append(self._measure(self._reference))
        self._references += references
        # The median of three before and three after is robust to a single delay.
        return [ms / median(references[max(i - 2, 0) : i + 4]) for i, ms in enumerate(times)]

    def _measure(self, arch: Architecture) -> float:
        return measure_latency(arch, self._target, runs=_RUNS)


def reference_network(space: SearchSpace) -> Architecture:
    """Return the reference network for measuring the latencies of a space."""
    kinds = space.block_kinds()
    if not kinds:
        raise TftasError(f"networks of family {space.family} do not fall into blocks")
    return space.supernet.with_blocks(kinds[len(kinds) // 2], _DEPTHS[0])


class TableMeter:
    """Latency as a sum over blocks, from a table measured for one space.

    Args:
        space: The space whose blocks to measure.
        target: Input, device, batch size and threads.
        record: The recorded table of an earlier meter; None to measure a new one.

    Raises:
        UnavailableError: The record is damaged, or the measurements are too noisy.
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
                "the latency table of this study, from an earlier release, has %d entries below"
                " zero milliseconds: do not trust it for small networks; a new study measures"
                " again",
                n_negative,
            )

    def _measure(self, space: SearchSpace, target: Target) -> dict[str, float]:
        """Measure and fit the table; return its errors on whole networks."""
        kinds = space.block_kinds()
        _LOG.info(
            "measuring the latency of %d kinds of blocks, in %d to %d rounds", len(kinds), *_ROUNDS
        )
        clock = RelativeClock(reference_network(space), target)
        uniform = list(product(kinds, _DEPTHS))
        archs = [space.supernet.with_blocks(kind, depth) for kind, depth in uniform]
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
            zip(kinds, np.reshape(times[: len(uniform)], (-1, len(_DEPTHS))), strict=True)
        )
        for width in dict.fromkeys(kind.width for kind in kinds):
            same = [kind for kind in kinds if kind.width == width]
            blocks, self._rest[width] = _fit(np.array([by_kind[kind] for kind in same]))
            self._block |= zip(same, blocks.tolist(), strict=True)
        pairs = zip(whole, times[len(uniform) :], strict=True)
        errors = [abs(self(arch) / measured - 1) for arch, measured in pairs]
        check = {"networks": len(whole), "median": median(errors), "worst": max(errors)}
        _report_check(check)
        return check

    def __call__(self, arch: Architecture) -> float:
        kinds = arch.block_kinds()
        try:
            return self._rest[kinds[0].width] + sum(self._block[kind] for kind in kinds)
        except KeyError as error:
            raise TftasError(f"the latency table has no entry for {error}") from error

    @property
    def record(self) -> dict[str, Any]:
        """The table: milliseconds per kind of block, and around the blocks per width.

        Also holds the milliseconds of the reference network and the relative errors on whole
        networks.
        """
        return {
            "reference": self._reference_ms,
            "blocks": [[*kind, ms] for kind, ms in self._block.items()],
            "rest": [[width, ms] for width, ms in self._rest.items()],
            "check": self._check,
        }


def _fit(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit the times of the blocks and of everything around them, for one width.

    Minimises the squared relative errors under the constraint that no time is negative.

    Args:
        times: Milliseconds by kind of block and depth, shape (kinds, depths).

    Returns:
        Milliseconds of a block by kind, and milliseconds around the blocks.
    """
    depths, weights = np.array(_DEPTHS), times**-2
    rest = 0.0
    # Each has a closed form given the other, so alternating updates converge to the optimum.
    for _ in range(_FITTING_STEPS):
        blocks = (weights * depths * (times - rest)).sum(1) / (weights * depths**2).sum(1)
        blocks = blocks.clip(min=0)
        around = times - np.outer(blocks, depths)
        rest = max(float((weights * around).sum() / weights.sum()), 0.0)
    return blocks, rest


def _report_check(check: Mapping[str, float]) -> None:
    """Log the errors of a table on whole networks.

    Raises:
        UnavailableError: They are so large that the table is useless.
    """
    summary = (
        f"the latency table is off by {check['median']:.0%} (median of {check['networks']} whole"
        f" networks, {check['worst']:.0%} at worst)"
    )
    advice = (
        "networks this small are hard to time: stop other programs, or measure with a larger batch"
        " or one thread (--latency-batch-size, --latency-threads)"
    )
    if check["median"] > _USELESS:
        raise UnavailableError(f"{summary}; {advice}")
    if check["median"] > _DOUBTFUL:
        _LOG.warning("%s; %s", summary, advice)
    else:
        _LOG.info("%s", summary)


class DirectMeter:
    """Latency measured directly, once for every architecture."""

    record: dict[str, Any] = {}
    closed_form = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._latencies: dict[Architecture, float] = {}

    def __call__(self, arch: Architecture) -> float:
        if arch not in self._latencies:
            self._latencies[arch] = measure_latency(arch, self._target)
        return self._latencies[arch]


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
