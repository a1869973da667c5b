"""Fusions: several metrics as one indicator, by their ranks in a reference sample."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna._given import listed
from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.metrics import get_metric, metric_names, register_indicator
from tftas_optuna.metrics.base import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.spaces import SearchSpace

N_REFERENCE = 256
# The least share of architectures with a finite score for an indicator to be useful.
LEAST_SCORED = 0.1


@dataclasses.dataclass(frozen=True)
class FusionIndicator(CompositeIndicator):
    """The sum over its parts of the logarithm of a candidate's rank in a reference sample.

    Lee and Ham, AZ-NAS, CVPR 2024, equation 12, rank the candidates of a search among each other,
    so a value depends on which other candidates were scored. Here candidates are ranked in a
    fixed sample: 256 architectures drawn uniformly from the space with the seed of the supernet.
    See :func:`tftas_optuna.indicators.fusion.rank`. Higher is better, also for parts that are
    minimised, whose ranks are reversed. Costs count as capacity: more is better, as in AZ-NAS.
    """

    relative: bool = dataclasses.field(default=True, kw_only=True)

    def combine(
        self,
        arch: Architecture,
        values: Mapping[str, float],
        reference: Mapping[str, Sequence[float]],
    ) -> float:
        """Compute the value of a candidate; see :meth:`CompositeIndicator.combine`."""
        total = 0.0
        for part in self.parts:
            share = rank(values[part], reference[part])
            if part in self.indicators and get_metric(part).direction == "minimize":
                share = 1 + 1 / (len(reference[part]) + 1) - share
            total += math.log(share)
        return total


def rank(value: float, reference: Sequence[float]) -> float:
    """Return the share of a sample that a value exceeds, from 1/257 to 1 for a sample of 256.

    Between two values of the sample the rank is interpolated. Beyond the lowest and the highest
    it approaches 1/257 and 1 without reaching them, so a greater value always ranks higher.

    Args:
        value: The value.
        reference: The sample, ascending.
    """
    sample = np.asarray(reference, dtype=np.float64)
    distinct, counts = np.unique(sample, return_counts=True)
    # For each distinct value, the number of lower values and half of the equal ones.
    places = np.cumsum(counts) - counts / 2
    low, high = distinct[0], distinct[-1]
    scale = (high - low) or abs(high) or 1.0
    if value < low:
        place = places[0] * scale / (scale + low - value)
    elif value > high:
        place = len(sample) - (len(sample) - places[-1]) * scale / (scale + value - high)
    else:
        place = np.interp(value, distinct, places)
    return float((1 + place) / (len(sample) + 1))


def reference_sample(space: SearchSpace, seed: int) -> list[Architecture]:
    """Draw the architectures of the reference sample.

    Args:
        space: The search space.
        seed: The seed of the first supernet.
    """
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(N_REFERENCE)]


def reference_of(
    parts: Iterable[str],
    sample: Sequence[Architecture],
    n_seeds: int,
    value: Callable[[str, Architecture, int], float],
) -> Reference:
    """Collect the finite values of a reference sample.

    Args:
        parts: Names of the parts.
        sample: The architectures.
        n_seeds: Number of supernets.
        value: Returns the value of a part for an architecture on the supernet of a position.
    """
    return {
        part: [
            sorted(filter(math.isfinite, (value(part, arch, offset) for arch in sample)))
            for offset in range(n_seeds)
        ]
        for part in parts
    }


def check_reference(
    fusion: CompositeIndicator, reference: Reference, reasons: Mapping[str, str] | None = None
) -> None:
    """Check that the reference sample has enough values to rank candidates in.

    Args:
        fusion: A relative indicator.
        reference: The values, from :func:`reference_of`.
        reasons: By part, the reason why some architecture has no value.

    Raises:
        NotFiniteError: A part is finite for hardly any architecture of the sample.
    """
    for part in fusion.parts:
        fewest = min(map(len, reference[part]))
        if fewest < LEAST_SCORED * N_REFERENCE:
            reason = (reasons or {}).get(part)
            raise NotFiniteError(
                f"{fusion.name} is not defined: {part} is finite for {fewest} of the {N_REFERENCE}"
                f" architectures of its reference sample{f': {reason}' if reason else ''}"
            )


def register_fusion(
    name: str, parts: str | Sequence[str], *, replace: bool = False
) -> FusionIndicator:
    """Register a fusion of metrics, so that its name works in objectives, bounds and scorers.

    Args:
        name: Up to 64 lower-case letters, digits and underscores.
        parts: Names of indicators, and of costs in closed form.
        replace: Whether to take the place of a metric of the same name.

    Raises:
        TftasError: The name is not allowed or already taken, or a part does not exist.

    Example:
        >>> from tftas_optuna import register_fusion
        >>> fusion = register_fusion("mine", ["snip", "naswot", "macs"])
    """
    parts = tuple(listed(parts))
    if not parts:
        raise TftasError(f"fusion {name!r} has no parts; name indicators or costs")
    fusion = FusionIndicator(name, parts=parts)
    fusion.check()
    if name in metric_names() and get_metric(name) == fusion:
        return fusion
    register_indicator(name, fusion, replace=replace)
    return fusion
