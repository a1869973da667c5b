"""The Optuna objective: it suggests an architecture and evaluates its metrics and bounds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from optuna import Study
from optuna.trial import Trial

from tftas_optuna._given import expect, listed
from tftas_optuna.architecture import architectures_of
from tftas_optuna.costs import Deployment
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics import (
    Meters,
    check_bounds,
    check_objectives,
    get_cost,
    get_indicator,
    get_metric,
)
from tftas_optuna.scoring.basis import resolve_images
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.scoring.fidelity import choose_fidelity
from tftas_optuna.scoring.panel import Panel, Scores
from tftas_optuna.scoring.scorer import Scorer
from tftas_optuna.spaces import get_space
from tftas_optuna.study._optuna import trial_id
from tftas_optuna.study.evaluations import Evaluation, Evaluations
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.own import FAILURE_KEY
from tftas_optuna.study.record import (
    as_recorded,
    check_continues,
    has_settings,
    keep_meter_records,
    keep_reference,
    meter_records,
    reference,
    write_settings,
)
from tftas_optuna.study.settings import StudySettings, recipes_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from optuna.trial import BaseTrial

    from tftas_optuna.architecture import ArchitectureLike
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Bound, Direction
    from tftas_optuna.samplers import Knowledge
    from tftas_optuna.spaces import SearchSpace, SpaceLike


class ArchitectureObjective:
    """An Optuna objective over a space of Vision Transformers.

    It works with any sampler and any storage; create the study with :attr:`directions`. It can be
    pickled; the supernets are not stored but drawn again.

    Args:
        space: The search space, as :func:`tftas_optuna.get_space` takes it.
        objectives: Names of the indicators and costs to optimise, in order; see
            :func:`tftas_optuna.metrics.metric_names`. The objective returns a number for one name
            and a tuple for several. By default the scorer's indicator and parameters.
        bounds: Lowest and highest allowed value by name, such as ``{"n_params": (None, 6e6)}``;
            they become Optuna constraints.
        scorer: A scorer of this space, of an indicator among objectives and bounds, for other
            conditions or a device. Other indicators are computed exactly, on the same supernets.
        supernet: The weights that candidates are cut from if no scorer is given, see
            :class:`tftas_optuna.Scorer`.
        fidelity: The fidelity of indicators that support it, as in :func:`tftas_optuna.search`:
            ``"exact"``, ``"collapsed"``, or ``"auto"``. This is that of the scorer; without one
            collapsed if that is known to rank the family's candidates alike on a drawn supernet,
            else exact; and that of an annotated study that is continued, see :meth:`annotate`.
            Values of one study are comparable only if all are of one fidelity.

    Raises:
        TftasError: An objective does not exist, the bounds exclude the whole space, the fidelity
            does not apply, or the scorer has another space or fidelity, or an indicator that is
            neither an objective nor bounded.

    Example:
        >>> import optuna
        >>> from tftas_optuna import ArchitectureObjective
        >>> objective = ArchitectureObjective("autoformer-tiny")
        >>> sampler = optuna.samplers.NSGAIISampler(seed=0)
        >>> study = optuna.create_study(directions=objective.directions, sampler=sampler)
        >>> study.optimize(objective, n_trials=2)
    """

    def __init__(
        self,
        space: SpaceLike,
        *,
        objectives: str | Sequence[str] | None = None,
        bounds: Mapping[str, Bound] | None = None,
        scorer: Scorer | None = None,
        supernet: str | os.PathLike[str] | None = None,
        fidelity: str = "auto",
    ) -> None:
        space = get_space(space)
        if scorer is not None:
            _check_scorer(scorer, space, supernet, fidelity)
        if objectives is None:
            objectives = (scorer.indicator.name if scorer is not None else "dss", "n_params")
        checked = check_objectives(objectives, space.family)
        if scorer is None:
            conditions = Conditions.of(space, supernet=SupernetSource.of(supernet))
        else:
            conditions = scorer.conditions
        sizes = {"img_size": conditions.img_size, "num_classes": conditions.num_classes}
        settings = StudySettings(
            conditions,
            objectives=checked,
            directions=tuple(get_metric(name).direction for name in checked),
            bounds=check_bounds(bounds, space, **sizes),
        )
        self._follows = scorer is None and fidelity == "auto"
        settings = _with_fidelity(settings, scorer, fidelity)
        self._scorer = scorer or _first_scorer(settings, supernet)
        if self._scorer is not None:
            settings = _as_scored(settings, self._scorer)
        if any(get_cost(name).deployed for name in settings.costs):
            device = "auto" if scorer is None else str(scorer.device)
            settings = dataclasses.replace(settings, deployment=Deployment().on(device))
        self.settings = settings
        self._panel = self._make_panel(self._scorer.known_reference if self._scorer else None)
        self._records: Mapping[str, Any] = {}
        self._cached_evaluations: Evaluations | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "follows": self._follows,
            "scorer": self._scorer,
            "records": dict(self._records),
            "reference": self._panel.known_reference if self._panel is not None else None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.settings, self._follows = state["settings"], state["follows"]
        self._scorer = state["scorer"]
        self._panel = self._make_panel(state["reference"])
        self._records = state["records"]
        self._cached_evaluations = None

    def _make_panel(self, reference: Reference | None) -> Panel | None:
        """Return a panel of all indicators on the scorer's supernets; None without a scorer."""
        if self._scorer is None:
            return None
        settings, first = self.settings, self._scorer.indicator
        indicators = [first, *(get_indicator(n) for n in settings.indicators if n != first.name)]
        return Panel(
            self._scorer.basis,
            [(indicator, settings.fidelity_of(indicator.name)) for indicator in indicators],
            precision=self._scorer.matmul_precision or "highest",
            reference=reference,
        )

    def __repr__(self) -> str:
        labels = ", ".join(map(self.settings.label, self.settings.objectives))
        return f"<{type(self).__name__} of {labels} in {self.settings.space.name}>"

    @property
    def _evaluations(self) -> Evaluations:
        """The evaluations so far; the costs of the space are measured at the first access."""
        if self._cached_evaluations is None:
            settings = self.settings
            meters = Meters(settings.costs, settings.space, settings.target, self._records)
            self._records = meters.records
            self._cached_evaluations = Evaluations(settings, meters)
        return self._cached_evaluations

    @property
    def knowledge(self) -> Knowledge:
        """What is known of a trial in advance, for :class:`tftas_optuna.ScreenedNSGAIISampler`.

        This is the features of its architecture, and costs and bounds in closed form. Parameters
        that give the same architecture count as equal.
        """
        return ArchitectureKnowledge(self.settings, self._evaluations.meters)

    @property
    def directions(self) -> list[Direction]:
        """Optuna directions of the objectives, for ``create_study(directions=...)``."""
        return list(self.settings.directions)

    def __call__(self, trial: BaseTrial) -> float | tuple[float, ...]:
        """Suggest and evaluate one architecture.

        An architecture without a finite score has the values NaN, so Optuna fails the trial. Its
        user attribute ``failure`` holds the reason.
        """
        (evaluation,) = self.evaluate([self.settings.space.suggest(trial)])
        record(trial, evaluation)
        return evaluation.values if len(evaluation.values) > 1 else evaluation.values[0]

    def evaluate(self, archs: ArchitectureLike | Iterable[ArchitectureLike]) -> list[Evaluation]:
        """Evaluate architectures, or candidates of a front, in one batch; none is scored twice."""
        archs = architectures_of(archs)
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._evaluations]
        scored = [Scores({}) for _ in new] if self._panel is None else self._panel.scores(new)
        for arch, scores in zip(new, scored, strict=True):
            self._evaluations.add(arch, scores)
        return [self._evaluations[arch] for arch in archs]

    def annotate(self, study: Study) -> None:
        """Write metric names and settings into a study, so that ``front`` and ``export`` read it.

        Call it once, before or after the optimisation. If you continue a study with measured
        costs, call it before, so that the same measurements are used. The reference sample of
        fusions is scored here, unless it was scored before. Called before the first score, it also
        takes the study's fidelity, if none was chosen.

        Raises:
            UnavailableError: The study has other directions, or was made with other settings.
        """
        expect("study", study, Study, "a study; optuna.create_study(...) makes one")
        directions = [direction.name.lower() for direction in study.directions]
        if directions != self.directions:
            raise UnavailableError(
                f"study {study.study_name!r} has the directions {', '.join(directions)}, the"
                f" objective {', '.join(self.directions)}; create it with"
                " directions=objective.directions"
            )
        if has_settings(study):
            if self._follows and not self._cached_evaluations:
                self._follow(study)
            check_continues(study, _with_search_settings(study, self.settings))
        else:
            write_settings(study, self.settings)
        if self._panel is not None:
            if reference(study) is None:
                keep_reference(study, self._panel.reference)
            kept = reference(study)
            if kept is not None and kept != self._panel.known_reference:
                # Another process may have written the reference first: use what is in the study.
                self._panel, self._cached_evaluations = self._make_panel(kept), None
        if not meter_records(study):
            _ = self._evaluations  # Measures the costs.
            keep_meter_records(study, self._records)
        stored = meter_records(study)
        if stored != self._records:
            self._records, self._cached_evaluations = stored, None

    def _follow(self, study: Study) -> None:
        """Take the fidelity of a study that is continued."""
        settings = as_recorded(self.settings, study, ["fidelity", "approximated"])
        if self._scorer is None or settings == self.settings:
            return
        indicator = self._scorer.indicator
        fidelity = settings.fidelity_of(indicator.name)
        self._scorer = Scorer(self._scorer.basis, indicator=indicator, fidelity=fidelity)
        self.settings, self._cached_evaluations = settings, None
        self._panel = self._make_panel(None)


class DSSObjective(ArchitectureObjective):
    """:class:`ArchitectureObjective` with the DSS-indicator, by default against parameters.

    Args:
        space: The search space, as :func:`tftas_optuna.get_space` takes it.
        objectives: Names of the metrics to optimise; one of them is ``"dss"``.
        bounds: Lowest and highest allowed value by name.
        scorer: A scorer of DSS.
        supernet: The weights that candidates are cut from if no scorer is given.
        fidelity: The fidelity of DSS; by default that of the scorer, and collapsed without one,
            as in :func:`tftas_optuna.search`.

    Raises:
        TftasError: DSS is not an objective; see also :class:`ArchitectureObjective`.
    """

    def __init__(
        self,
        space: SpaceLike,
        *,
        objectives: str | Sequence[str] = ("dss", "n_params"),
        bounds: Mapping[str, Bound] | None = None,
        scorer: Scorer | None = None,
        supernet: str | os.PathLike[str] | None = None,
        fidelity: str = "auto",
    ) -> None:
        names = listed(objectives)
        if "dss" not in names:
            raise TftasError(
                f"objectives are {', '.join(map(str, names))}, without dss; use"
                " ArchitectureObjective"
            )
        super().__init__(
            space,
            objectives=names,
            bounds=bounds,
            scorer=scorer,
            supernet=supernet,
            fidelity=fidelity,
        )


def record(trial: BaseTrial, evaluation: Evaluation) -> None:
    """Write the attributes and constraints of an evaluation into a running trial."""
    for name, value in evaluation.attributes.items():
        trial.set_user_attr(name, value)
    if evaluation.failure is not None:
        trial.set_user_attr(FAILURE_KEY, evaluation.failure)
    for name, value in evaluation.violations.items():
        trial.set_constraint(name, value)
    if evaluation.violations and isinstance(trial, Trial):
        # optuna-dashboard reads the format of Optuna 4; Optuna 5 reads both.
        trial.storage.set_trial_system_attr(
            trial_id(trial), "constraints", list(evaluation.violations.values())
        )


def _check_scorer(
    scorer: Scorer, space: SearchSpace, supernet: str | os.PathLike[str] | None, fidelity: str
) -> None:
    """Check a scorer that was given, and that no other argument contradicts it.

    Raises:
        TftasError: It is no scorer, or something contradicts it.
    """
    expect("scorer", scorer, Scorer, "Scorer(space, ...)")
    if supernet is not None:
        raise TftasError("the scorer has a supernet already; give one of scorer and supernet")
    if scorer.space != space:
        raise TftasError(
            f"the scorer is one of space {scorer.space.name!r}, the objective one of"
            f" {space.name!r}; give Scorer(space) of the same space"
        )
    if fidelity not in ("auto", scorer.fidelity):
        raise TftasError(
            f"fidelity is {fidelity!r}, the scorer's is {scorer.fidelity!r}; leave one out"
        )


def _first_scorer(
    settings: StudySettings, supernet: str | os.PathLike[str] | None
) -> Scorer | None:
    """Return a scorer of the first indicator; None if there is none."""
    if not settings.indicators:
        return None
    first = settings.indicators[0]
    fidelity = settings.fidelity_of(first)
    return Scorer(settings.space, indicator=first, supernet=supernet, fidelity=fidelity)


def _with_fidelity(settings: StudySettings, scorer: Scorer | None, fidelity: str) -> StudySettings:
    """Return settings with the fidelity of a scorer, or with the given one."""
    names = settings.indicators
    if scorer is None:
        fidelity, approximated = choose_fidelity(fidelity, names, settings.conditions)
        return dataclasses.replace(settings, fidelity=fidelity, approximated=approximated)
    first = scorer.indicator.name
    if first not in names:
        raise TftasError(
            f"the scorer computes {first!r}, which is no objective and no bound; give"
            f" objectives=({first!r}, ...), or another scorer"
        )
    approximated = () if scorer.fidelity == "exact" else (first,)
    return dataclasses.replace(settings, fidelity=scorer.fidelity, approximated=approximated)


def _as_scored(settings: StudySettings, scorer: Scorer) -> StudySettings:
    indicator = scorer.indicator
    registered = get_metric(indicator.name)
    options = {} if indicator == registered else {indicator.name: indicator.options}
    return dataclasses.replace(
        settings,
        conditions=resolve_images(scorer.conditions, settings.indicators),
        options=options,
        recipes=recipes_of(settings.indicators),
    )


def _with_search_settings(study: Study, settings: StudySettings) -> StudySettings:
    """Return settings with the seed, population size and sampler of a study."""
    from_search = ("seed", "population_size", "sampler")
    recorded: dict[str, Any] = {name: study.user_attrs.get(name) for name in from_search}
    return dataclasses.replace(settings, **recorded)
