"""Scores candidates of a space on shared supernets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.indicators._registry import INDICATORS, make_indicator
from tftas_optuna.indicators.device import resolve_device
from tftas_optuna.indicators.engine import FIDELITIES, Engine, MatmulPrecision
from tftas_optuna.indicators.function import OwnEngine
from tftas_optuna.plugins import get_indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.measures.dss import LayerScore
    from tftas_optuna.spaces import SearchSpace

_AT_ONCE = {
    ("exact", "cpu"): 1,
    ("collapsed", "cpu"): 256,
    ("exact", "cuda"): 64,
    ("collapsed", "cuda"): 1024,
}


class Scorer:
    """What a candidate is worth, untrained.

    All candidates of one scorer are slices of one supernet, drawn from one seed: their ranking
    is far more stable than with weights of their own, while the scores of two seeds differ by
    some 10 %. Compare scores of one seed only, or average over several.

    Args:
        space: The search space; its supernet bounds the candidates that can be scored.
        indicator: Name of the indicator: ``"dss"``, or one of your own; see
            :func:`tftas_optuna.register_indicator`. Fidelities are those of DSS.
        fidelity: ``"exact"``, or ``"collapsed"``: all patches as one token, an approximation
            that ranks candidates alike and is some 90 times faster (PiT: three times).
        seed: Seed of the supernet's weights.
        n_seeds: Supernets to average over, with the seeds ``seed``, ``seed + 1``, ...
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        img_size: Height and width of the all-ones input, in pixels; the space's own by default.
        num_classes: Outputs of the classifier; the space's own by default.
        head_weight: Factor of the classifier; see :class:`tftas_optuna.indicators.DSS`.
        dtype: Floating-point type of the passes.
        matmul_precision: Precision of float32 matrix products, as in
            ``torch.set_float32_matmul_precision``; below ``"highest"`` ranks change slightly.

    Raises:
        TftasError: The indicator, the fidelity or the device does not exist, or ``n_seeds`` is
            below 1.

    Example:
        >>> from tftas_optuna import Scorer, get_space
        >>> space = get_space("autoformer-tiny")
        >>> scorer = Scorer(space)
        >>> score = scorer(space.supernet)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        indicator: str = "dss",
        fidelity: str = "exact",
        seed: int = 0,
        n_seeds: int = 1,
        device: str | torch.device = "auto",
        img_size: int | None = None,
        num_classes: int | None = None,
        head_weight: float = 1.0,
        dtype: torch.dtype = torch.float32,
        matmul_precision: MatmulPrecision = "highest",
    ) -> None:
        check_fidelity(fidelity)
        if n_seeds < 1:
            raise TftasError(f"n_seeds is {n_seeds}, allowed is 1 or more")
        if matmul_precision not in ("highest", "high", "medium"):
            raise TftasError(
                f"matmul_precision is {matmul_precision!r}, allowed: highest, high, medium"
            )
        self.space = space
        self.indicator = indicator
        self.fidelity = fidelity
        self.seed = seed
        self.n_seeds = n_seeds
        self.device = resolve_device(device)
        self.img_size = space.img_size if img_size is None else img_size
        self.num_classes = space.num_classes if num_classes is None else num_classes
        self.head_weight = head_weight
        self._shape = (space.in_chans, self.img_size, self.img_size)
        own = None if indicator in INDICATORS else get_indicator(indicator)
        self._engines: list[Engine | OwnEngine] = []
        for offset in range(n_seeds):
            supernet = get_family(space.family).supernet(
                space.supernet,
                seed=seed + offset,
                img_size=self.img_size,
                num_classes=self.num_classes,
                in_chans=space.in_chans,
                device=self.device,
                dtype=dtype,
            )
            if own is not None:
                self._engines.append(OwnEngine(supernet, indicator, own, self._shape))
                continue
            self._engines.append(
                Engine(
                    supernet,
                    make_indicator(indicator, head_weight=head_weight),
                    fidelity=fidelity,
                    batch_size=_fitting(supernet.pass_bytes(fidelity), fidelity, self.device),
                    precision=matmul_precision,
                )
            )
        self.supernet: Any = self._engines[0].supernet

    @property
    def batch_size(self) -> int:
        """Candidates that one pass takes; more at once gain nothing."""
        return min(engine.batch_size for engine in self._engines)

    def __call__(self, arch: Architecture) -> float:
        """Score one candidate.

        Raises:
            TftasError: It does not fit the supernet, or its score is not finite.
        """
        return self.batch([arch])[0]

    def batch(self, archs: Sequence[Architecture]) -> list[float]:
        """Score several candidates, many in one pass where that is faster.

        When memory runs out the batch is halved, with a warning on the logger ``tftas_optuna``.

        Returns:
            The scores, in the order of the candidates: means over the seeds.

        Raises:
            TftasError: A candidate does not fit the supernet, or a score is not finite.
        """
        return [math.fsum(scores) / self.n_seeds for scores in self.by_seed(archs)]

    def by_seed(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score several candidates; give each one's score of every seed."""
        return list(zip(*(engine.batch(archs) for engine in self._engines), strict=True))

    def own_by_seed(self, name: str, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score candidates by an indicator of the user, on the same supernets."""
        own = get_indicator(name)
        engines = [OwnEngine(each.supernet, name, own, self._shape) for each in self._engines]
        return list(zip(*(engine.batch(archs) for engine in engines), strict=True))

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer, in forward order, on the first seed."""
        return self._engines[0].explain(arch)

    def subnet(self, arch: Architecture) -> nn.Module:
        """Build a stand-alone network with the candidate's slices, signs kept, in eval mode."""
        network: nn.Module = self.supernet.subnet(arch)
        return network


def check_fidelity(fidelity: str) -> str:
    """Make sure that a fidelity exists.

    Raises:
        TftasError: It does not.
    """
    if fidelity not in FIDELITIES:
        known = ", ".join(FIDELITIES)
        raise TftasError(f"fidelity {fidelity!r} does not exist; known: {known}")
    return fidelity


def most_at_once(fidelity: str, device_type: str) -> int:
    """Give the candidates of one pass beyond which more gain nothing, memory permitting."""
    return _AT_ONCE[fidelity, device_type]


def _fitting(pass_bytes: int, fidelity: str, device: torch.device) -> int:
    """Candidates that fit into half of the free memory; on a CPU, what its caches like."""
    most = most_at_once(fidelity, device.type)
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(most, free // 2 // pass_bytes))
