"""Several indicators of a candidate, computed together in as few passes as possible."""

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

# An indicator and its fidelity.
PanelEntry = tuple["Indicator", str]
# For each candidate, its score on every supernet.
Column = list[tuple[float, ...]]
# For each indicator and fidelity, the scores of every candidate.
_Tables = dict[tuple[str, str], dict["Architecture", tuple[float, ...]]]


class Scores(dict[str, tuple[float, ...]]):
    """The scores of one candidate: for each indicator, one score per seed, NaN if not finite.

    Attributes:
        gaps: For each indicator without a finite score, the reason.
    """

    def __init__(self, by_seed: Mapping[str, tuple[float, ...]]) -> None:
        super().__init__(by_seed)
        self.gaps: dict[str, str] = {}


def reasons_of(scored: Iterable[Scores]) -> dict[str, str]:
    """Return, for each indicator that fails on some candidate, the reason of one failure."""
    return {name: reason for scores in scored for name, reason in scores.gaps.items()}


class Panel:
    """Indicators that share supernets and images.

    Args:
        basis: The supernets and images.
        entries: The indicators with their fidelities; no two of the same name.
        precision: torch's precision of float32 matrix products, if all are sums over layers.
        reference: The value of :attr:`reference`, if it was computed before.

    Raises:
        TftasError: An indicator cannot be scored, has parts that it cannot have, or does not
            apply to the conditions.
    """

    def __init__(
        self,
        basis: Basis,
        entries: Sequence[PanelEntry],
        *,
        precision: MatmulPrecision = "highest",
        reference: Reference | None = None,
    ) -> None:
        self._basis = basis
        self._entries = list(entries)
        self._precision = precision
        self._alone: list[Panel] = []
        self._dividing = threading.Lock()
        self._composites = [cast("CompositeIndicator", i) for i, _ in entries if i.composite]
        self._meters: dict[str, Meter] = {}
        for composite in self._composites:
            composite.check()
            composite.check_conditions(basis.conditions_seen(composite.batches))
            self._meters |= composite.meters(basis.conditions.space, basis.conditions.target)
        plain = [entry for entry in entries if not entry[0].composite]
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
        """Most candidates in one pass; scoring more at once is not faster."""
        return min(engine.batch_size for engines in self._engines for engine in engines)

    @property
    def reference(self) -> Reference:
        """Values of the parts of relative indicators on the reference sample, ascending.

        At the first access, those are computed that were not given.

        Raises:
            NotFiniteError: A part is finite for hardly any architecture of the sample.
        """
        given = self._reference or {}
        relative = [c for c in self._composites if c.relative]
        parts = [p for p in dict.fromkeys(p for c in relative for p in c.parts) if p not in given]
        if parts:
            conditions = self._basis.conditions
            sample = reference_sample(conditions.space, conditions.supernet.seed)
            indicators = [get_indicator(part) for part in parts if part not in self._meters]
            scored: dict[Architecture, Scores] = {}
            if indicators:
                panel = Panel(self._basis, [(indicator, "exact") for indicator in indicators])
                distinct = list(dict.fromkeys(sample))
                scored = dict(zip(distinct, panel.scores(distinct), strict=True))
            computed = reference_of(
                parts,
                sample,
                conditions.n_seeds,
                lambda part, arch, offset: (
                    float(self._meters[part](arch))
                    if part in self._meters
                    else scored[arch][part][offset]
                ),
            )
            given = {**computed, **given}
            reasons = reasons_of(scored.values())
            for composite in relative:
                check_reference(composite, given, reasons)
        self._reference = given
        return given

    @property
    def known_reference(self) -> Reference | None:
        """The reference if it was given or computed, else None."""
        return self._reference

    @property
    def batches(self) -> int:
        """Number of batches of images that the indicators see; 0 if they see none."""
        return max((indicator.batches for indicator, _ in self._entries), default=0)

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may score with this panel at the same time."""
        return all(indicator.side_by_side for group in self._groups for indicator, _ in group)

    def prepare(self) -> None:
        """Draw the weights now, so that the first score does not wait for them."""
        for engines in self._engines:
            for engine in engines:
                engine.prepare()

    def by_seed(self, archs: Sequence[Architecture]) -> dict[str, Column]:
        """Return, for each indicator, the scores of the candidates, one per seed."""
        tables = self._plain(archs)
        columns: dict[str, Column] = {}
        for indicator, fidelity in self._entries:
            if indicator.composite:
                composite = cast("CompositeIndicator", indicator)
                columns[indicator.name] = [self._combined(composite, tables, a) for a in archs]
            else:
                table = tables[indicator.name, fidelity]
                columns[indicator.name] = [table[arch] for arch in archs]
        return columns

    def scores(self, archs: Sequence[Architecture]) -> list[Scores]:
        """Score several candidates; one without a finite score does not stop the others."""
        try:
            columns = self.by_seed(archs)
        except NotFiniteError as error:
            if len(archs) > 1:
                return [self.scores([arch])[0] for arch in archs]
            if len(self._entries) == 1:
                return [self._gap(str(error))]
            return [self._one_by_one(archs)]
        return [
            Scores(dict(zip(columns, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]

    def _gap(self, reason: str) -> Scores:
        ((indicator, _),) = self._entries
        gap = Scores({indicator.name: (math.nan,) * len(self._basis.grounds)})
        gap.gaps[indicator.name] = reason
        return gap

    def _one_by_one(self, archs: Sequence[Architecture]) -> Scores:
        """Score a candidate by one indicator at a time, to find out which ones fail."""
        with self._dividing:
            if not self._alone:
                self._alone = [
                    Panel(
                        self._basis, [entry], precision=self._precision, reference=self._reference
                    )
                    for entry in self._entries
                ]
        together = Scores({})
        for panel in self._alone:
            (scores,) = panel.scores(archs)
            together |= scores
            together.gaps |= scores.gaps
        return together

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Return what each layer adds to the first indicator of a candidate, in forward order.

        Raises:
            TftasError: The indicator is not a sum over layers.
        """
        first, _ = self._entries[0]
        if first.composite:
            first.refuse_layers()
        return self._engines[0][0].explain(arch)

    def _plain(self, archs: Sequence[Architecture]) -> _Tables:
        """Score candidates by every indicator, or part of one, that needs passes."""
        distinct = list(dict.fromkeys(archs))
        tables = {}
        for g, group in enumerate(self._groups):
            by_ground = [engines[g].batch(distinct) for engines in self._engines]
            for i, (indicator, fidelity) in enumerate(group):
                tables[indicator.name, fidelity] = {
                    arch: tuple(rows[row][i] for rows in by_ground)
                    for row, arch in enumerate(distinct)
                }
        return tables

    def _combined(
        self,
        composite: CompositeIndicator,
        tables: _Tables,
        arch: Architecture,
    ) -> tuple[float, ...]:
        reference = self.reference if composite.relative else {}
        scores = []
        for offset in range(len(self._basis.grounds)):
            values = {part: self._part(part, tables, arch, offset) for part in composite.parts}
            sample = {part: reference[part][offset] for part in composite.parts if reference}
            scores.append(
                checked(composite.name, composite.combine(arch, values, sample), arch.summary())
            )
        return tuple(scores)

    def _part(self, part: str, tables: _Tables, arch: Architecture, offset: int) -> float:
        if part in self._meters:
            return float(self._meters[part](arch))
        return tables[part, "exact"][arch][offset]


def _groups(entries: Sequence[PanelEntry]) -> list[list[PanelEntry]]:
    """Group indicators by the engine that computes them, without repeats, in their order."""
    groups: dict[tuple[object, str], dict[str, PanelEntry]] = {}
    for indicator, fidelity in entries:
        group = groups.setdefault((type(indicator).engine, fidelity), {})
        group.setdefault(indicator.name, (indicator, fidelity))
    return [list(group.values()) for group in groups.values()]
