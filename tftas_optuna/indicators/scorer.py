"""Scores candidates of a space on shared supernets."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from tftas_optuna.devices import resolve_device
from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.indicators.base import LayerIndicator
from tftas_optuna.indicators.engine import LayerEngine, MatmulPrecision
from tftas_optuna.indicators.function import FunctionEngine
from tftas_optuna.metrics import FunctionIndicator, get_indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.base import LayerScore
    from tftas_optuna.metrics import Indicator
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

_PRECISIONS = ("highest", "high", "medium")


class Scorer:
    """What a candidate is worth, untrained.

    All candidates of one scorer are slices of one supernet, drawn from one seed: their ranking
    is far more stable than with weights of their own, while the scores of two seeds differ by
    some 10 %. Compare scores of one seed only, or average over several.

    A scorer can be pickled: what travels is how it was made, and the supernets are drawn again.

    Args:
        space: The search space; its supernet bounds the candidates that can be scored.
        indicator: Name of the indicator, or the indicator itself; see
            :func:`tftas_optuna.register_indicator`.
        fidelity: ``"exact"``, or ``"collapsed"`` where the indicator and the family have it: all
            patches as one token, an approximation that ranks candidates alike and is some 90
            times faster (PiT: some five times).
        seed: Seed of the supernet's weights.
        n_seeds: Supernets to average over, with the seeds ``seed``, ``seed + 1``, ...
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        img_size: Height and width of the input, in pixels; the space's own by default.
        num_classes: Outputs of the classifier; the space's own by default.
        dtype: Floating-point type of the passes.
        matmul_precision: Precision of float32 matrix products, as in
            ``torch.set_float32_matmul_precision``; below ``"highest"`` ranks change slightly.
            Only for indicators that are sums over layers.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Attributes:
        space: The search space.
        indicator: The indicator, with its options.
        fidelity: How it is computed.
        seed: Seed of the first supernet.
        n_seeds: Number of supernets.
        device: Where it is computed.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.

    Raises:
        TftasError: The indicator, an option, the fidelity or the device does not exist, or
            something is asked for that does not apply to this indicator.

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
        indicator: str | Indicator = "dss",
        fidelity: str = "exact",
        seed: int = 0,
        n_seeds: int = 1,
        device: str | torch.device = "auto",
        img_size: int | None = None,
        num_classes: int | None = None,
        dtype: torch.dtype = torch.float32,
        matmul_precision: MatmulPrecision | None = None,
        **options: Any,
    ) -> None:
        found = get_indicator(indicator) if isinstance(indicator, str) else indicator
        if n_seeds < 1:
            raise TftasError(f"n_seeds is {n_seeds}, allowed is 1 or more")
        self.space = space
        self.indicator = found.with_options(**options)
        self.fidelity = fidelity
        self.seed = seed
        self.n_seeds = n_seeds
        self.device = resolve_device(device)
        self.img_size = space.img_size if img_size is None else img_size
        self.num_classes = space.num_classes if num_classes is None else num_classes
        self._dtype = dtype
        self._precision = matmul_precision
        self._check()
        make = get_family(space.family).supernet
        self._supernets = [
            make(
                space.supernet,
                seed=seed + offset,
                img_size=self.img_size,
                num_classes=self.num_classes,
                in_chans=space.in_chans,
                device=self.device,
                dtype=dtype,
            )
            for offset in range(n_seeds)
        ]
        self._engines = [self._engine(supernet) for supernet in self._supernets]

    def sharing(self, indicator: str, fidelity: str = "exact") -> Scorer:
        """Make a scorer of another indicator on the same supernets.

        Args:
            indicator: Name of the indicator.
            fidelity: How it is computed.

        Raises:
            TftasError: The indicator or its fidelity does not exist.
        """
        other = object.__new__(Scorer)
        other.__dict__.update(self.__dict__)
        other.indicator = get_indicator(indicator)
        other.fidelity = fidelity
        if not isinstance(other.indicator, LayerIndicator):
            other._precision = None
        other._check()
        other._engines = [other._engine(supernet) for supernet in other._supernets]
        return other

    def _check(self) -> None:
        """Check that everything that was asked for applies to the indicator."""
        self.indicator.check_fidelity(self.fidelity)
        check_family_fidelity(self.space.family, self.fidelity)
        if self._precision is None:
            return
        if not isinstance(self.indicator, LayerIndicator):
            raise TftasError(
                f"matmul_precision does not apply to indicator {self.indicator.name!r}, a"
                " function; leave it out"
            )
        if self._precision not in _PRECISIONS:
            raise TftasError(
                f"matmul_precision is {self._precision!r}, allowed: {', '.join(_PRECISIONS)}"
            )

    def _engine(self, supernet: Supernet) -> LayerEngine | FunctionEngine:
        if isinstance(self.indicator, FunctionIndicator):
            return FunctionEngine(supernet, self.indicator)
        if not isinstance(self.indicator, LayerIndicator):
            raise TftasError(
                f"indicator {self.indicator.name!r} is neither a function nor a sum over layers"
            )
        return LayerEngine(
            supernet,
            self.indicator,
            fidelity=self.fidelity,
            batch_size=_fitting(supernet, self.fidelity),
            precision=self._precision or "highest",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        arguments: dict[str, Any] = {
            "indicator": self.indicator,
            "fidelity": self.fidelity,
            "seed": self.seed,
            "n_seeds": self.n_seeds,
            "device": str(self.device),
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "dtype": self._dtype,
            "matmul_precision": self._precision,
        }
        return partial(type(self), self.space, **arguments), ()

    @property
    def supernet(self) -> Supernet:
        """The weights of the first seed."""
        return self._supernets[0]

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
        """Score several candidates; return each one's score of every seed."""
        return list(zip(*(engine.batch(archs) for engine in self._engines), strict=True))

    def prepare(self) -> None:
        """Draw the weights, for which the first score would wait."""
        if isinstance(self.indicator, LayerIndicator):
            for supernet in self._supernets:
                supernet.prepare(self.fidelity)

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer, in forward order, on the first seed.

        Raises:
            TftasError: The indicator is no sum over layers.
        """
        return self._engines[0].explain(arch)

    def subnet(self, arch: Architecture) -> nn.Module:
        """Build a stand-alone network with the candidate's slices, signs kept, in eval mode."""
        return self.supernet.subnet(arch)


def check_family_fidelity(family: str, fidelity: str) -> None:
    """Check that the supernets of a family know a fidelity.

    Raises:
        TftasError: They do not.
    """
    known = get_family(family).supernet.fidelities
    if fidelity not in known:
        raise TftasError(
            f"family {family!r} has no fidelity {fidelity!r}; it has: {', '.join(known)}"
        )


def _fitting(supernet: Supernet, fidelity: str) -> int:
    """Count the candidates that fit into half of the free memory; on a CPU, into its caches."""
    most = supernet.at_once[fidelity, supernet.device.type]
    if supernet.device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(supernet.device)
    return max(1, min(most, free // 2 // supernet.pass_bytes(fidelity)))
