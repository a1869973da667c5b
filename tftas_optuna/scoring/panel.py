"""Several indicators of a study, computed together in as few passes as they allow."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, cast

from tftas_optuna.indicators.fusion import check_reference, reference_of, reference_sample
from tftas_optuna.metrics import NotFiniteError, checked, get_indicator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import CompositeIndicator, Reference
    from tftas_optuna.metrics import Indicator, Meter
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.scoring.basis import Basis

# An indicator, and how it is computed.
Wanted = tuple["Indicator", str]
# By candidate, the score of every supernet.
Column = list[tuple[float, ...]]


class Scores(dict[str, tuple[float, ...]]):
    """Scores of one candidate: by indicator, the score of every seed, NaN where it has none.

    Attributes:
        gaps: Of each indicator that has no finite score, why.
    """

    def __init__(self, by_seed: Mapping[str, tuple[float, ...]]) -> None:
        super().__init__(by_seed)
        self.gaps: dict[str, str] = {}


def reasons_of(scored: Iterable[Scores]) -> dict[str, str]:
    """Tell by indicator why some candidate has no score of it."""
    return {name: reason for scores in scored for name, reason in scores.gaps.items()}


class Panel:
    """Indicators on the same supernets and images.

    Args:
        basis: What they are computed on.
        wanted: The indicators; no two of one name.
        precision: torch's precision of float32 matrix products, where all are sums over layers.
        reference: What :attr:`reference` would return, if it is known.

    Raises:
        TftasError: An indicator is of no kind that is known, has parts that it cannot have, or
            would not mean here what it says.
    """

    def __init__(
        self,
        basis: Basis,
        wanted: Sequence[Wanted],
        *,
        precision: MatmulPrecision = "highest",
        reference: Reference | None = None,
    ) -> None:
        self._basis = basis
        self._wanted = list(wanted)
        self._precision = precision
        self._alone: list[Panel] = []
        self._dividing = threading.Lock()
        self._composites = [cast("CompositeIndicator", i) for i, _ in wanted if i.composite]
        self._meters: dict[str, Meter] = {}
        for composite in self._composites:
            composite.check()
            composite.check_conditions(basis.conditions)
            self._meters |= composite.meters(basis.conditions.space, basis.conditions.target)
        plain = [each for each in wanted if not each[0].composite]
        parts = [(get_indicator(p), "exact") for c in self._composites for p in c.indicators]
        self._groups = _groups([*plain, *parts])
        self._engines = [
            [
                first.engine(ground, [i for i, _ in group], fidelity=fidelity, precision=precision)
                for group in self._groups
                for first, fidelity in group[:1]
            ]
            for ground in basis.grounds
        ]
        self._reference = reference

    @property
    def batch_size(self) -> int:
        """Candidates that one pass takes; more at once gain nothing."""
        return min(engine.batch_size for engines in self._engines for engine in engines)

    @property
    def reference(self) -> Reference:
        """Values of the parts of relative indicators on the reference sample, ascending.

        Raises:
            NotFiniteError: Hardly any architecture of the sample has a finite value of a part.
        """
        if self._reference is None:
            relative = [c for c in self._composites if c.relative]
            parts = dict.fromkeys(part for composite in relative for part in composite.parts)
            conditions = self._basis.conditions
            sample = (
                reference_sample(conditions.space, conditions.supernet.seed) if relative else []
            )
            indicators = [get_indicator(part) for part in parts if part not in self._meters]
            scored: dict[Architecture, Scores] = {}
            if indicators:
                panel = Panel(self._basis, [(each, "exact") for each in indicators])
                distinct = list(dict.fromkeys(sample))
                scored = dict(zip(distinct, panel.scores(distinct), strict=True))
            reference = reference_of(
                parts,
                sample,
                conditions.n_seeds,
                lambda part, arch, offset: (
                    float(self._meters[part](arch))
                    if part in self._meters
                    else scored[arch][part][offset]
                ),
            )
            reasons = reasons_of(scored.values())
            for composite in relative:
                check_reference(composite, reference, reasons)
            self._reference = reference
        return self._reference

    @property
    def known_reference(self) -> Reference | None:
        """The reference, if it was given or computed."""
        return self._reference

    @property
    def batches(self) -> int:
        """Batches of images that its indicators see; 0 where none of them sees any."""
        return max((indicator.batches for indicator, _ in self._wanted), default=0)

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may compute it at the same time."""
        return all(indicator.side_by_side for group in self._groups for indicator, _ in group)

    def prepare(self) -> None:
        """Draw the weights, for which the first score would wait."""
        for engines in self._engines:
            for engine in engines:
                engine.prepare()

    def by_seed(self, archs: Sequence[Architecture]) -> dict[str, Column]:
        """Score several candidates; return each one's score of every seed, by indicator."""
        known = self._plain(archs)
        columns: dict[str, Column] = {}
        for indicator, fidelity in self._wanted:
            if indicator.composite:
                composite = cast("CompositeIndicator", indicator)
                columns[indicator.name] = [self._combined(composite, known, a) for a in archs]
            else:
                table = known[indicator.name, fidelity]
                columns[indicator.name] = [table[arch] for arch in archs]
        return columns

    def scores(self, archs: Sequence[Architecture]) -> list[Scores]:
        """Score several candidates; one without a finite score is no hindrance to the others."""
        try:
            columns = self.by_seed(archs)
        except NotFiniteError as error:
            if len(archs) > 1:
                return [self.scores([arch])[0] for arch in archs]
            if len(self._wanted) == 1:
                return [self._gap(str(error))]
            return [self._one_by_one(archs)]
        return [
            Scores(dict(zip(columns, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]

    def _gap(self, reason: str) -> Scores:
        ((indicator, _),) = self._wanted
        gap = Scores({indicator.name: (math.nan,) * len(self._basis.grounds)})
        gap.gaps[indicator.name] = reason
        return gap

    def _one_by_one(self, archs: Sequence[Architecture]) -> Scores:
        """Score a candidate by each indicator alone, to find those that it has no score by."""
        with self._dividing:
            if not self._alone:
                self._alone = [
                    Panel(
                        self._basis, [each], precision=self._precision, reference=self._reference
                    )
                    for each in self._wanted
                ]
        together = Scores({})
        for panel in self._alone:
            (found,) = panel.scores(archs)
            together |= found
            together.gaps |= found.gaps
        return together

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer by the first indicator, in forward order.

        Raises:
            TftasError: It is no sum over layers.
        """
        first, _ = self._wanted[0]
        if first.composite:
            first.refuse_layers()
        return self._engines[0][0].explain(arch)

    def _plain(
        self, archs: Sequence[Architecture]
    ) -> dict[tuple[str, str], dict[Architecture, tuple[float, ...]]]:
        """Score candidates by all that needs passes: by indicator and fidelity."""
        distinct = list(dict.fromkeys(archs))
        known = {}
        for g, group in enumerate(self._groups):
            tables = [engines[g].batch(distinct) for engines in self._engines]
            for i, (indicator, fidelity) in enumerate(group):
                known[indicator.name, fidelity] = {
                    arch: tuple(table[row][i] for table in tables)
                    for row, arch in enumerate(distinct)
                }
        return known

    def _combined(
        self,
        composite: CompositeIndicator,
        known: Mapping[tuple[str, str], Mapping[Architecture, tuple[float, ...]]],
        arch: Architecture,
    ) -> tuple[float, ...]:
        reference = self.reference if composite.relative else {}
        scores = []
        for offset in range(len(self._basis.grounds)):
            values = {part: self._part(part, known, arch, offset) for part in composite.parts}
            among = {part: reference[part][offset] for part in composite.parts if reference}
            scores.append(
                checked(composite.name, composite.combine(arch, values, among), arch.summary())
            )
        return tuple(scores)

    def _part(
        self,
        part: str,
        known: Mapping[tuple[str, str], Mapping[Architecture, tuple[float, ...]]],
        arch: Architecture,
        offset: int,
    ) -> float:
        if part in self._meters:
            return float(self._meters[part](arch))
        return known[part, "exact"][arch][offset]


def _groups(wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    """Sort indicators into those that one engine computes, each once; in order of appearance."""
    groups: dict[tuple[object, str], dict[str, Wanted]] = {}
    for indicator, fidelity in wanted:
        group = groups.setdefault((type(indicator).engine, fidelity), {})
        group.setdefault(indicator.name, (indicator, fidelity))
    return [list(group.values()) for group in groups.values()]
