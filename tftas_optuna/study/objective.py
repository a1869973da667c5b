"""The objective: suggests an architecture, scores it, takes its costs, checks its bounds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from optuna.trial import Trial

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
from tftas_optuna.scoring.conditions import Conditions
from tftas_optuna.scoring.panel import Panel, Scores
from tftas_optuna.scoring.scorer import Scorer
from tftas_optuna.study._optuna import trial_id
from tftas_optuna.study.evaluations import Evaluation, Evaluations
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.own import FAILURE_KEY
from tftas_optuna.study.record import (
    check_continues,
    has_settings,
    keep_meter_records,
    keep_reference,
    meter_records,
    reference,
    write_settings,
)
from tftas_optuna.study.settings import StudySettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import BaseTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Bound, Direction
    from tftas_optuna.samplers import Knowledge
    from tftas_optuna.spaces import SearchSpace


class ArchitectureObjective:
    """An Optuna objective over a space of Vision Transformers.

    Works with any sampler and any storage; create the study with :attr:`directions`. It can be
    pickled: what travels is how it was made, and supernets are drawn again.

    Args:
        space: The search space.
        objectives: What to optimise, in order: names of indicators and of costs; see
            :func:`tftas_optuna.metrics.metric_names`. With one the objective returns a number,
            with several a tuple. By default the scorer's indicator against parameters.
        bounds: Lowest and highest allowed value by name, such as ``{"n_params": (None, 6e6)}``;
            they become Optuna constraints.
        scorer: The scorer, of this space; by default ``Scorer(space)`` of the first indicator
            among objectives and bounds. Other indicators are computed on the same supernets,
            exactly.

    Raises:
        TftasError: An objective does not exist, the bounds exclude the whole space, or the scorer
            is one of another space or of an indicator that is no objective.

    Example:
        >>> import optuna
        >>> from tftas_optuna import ArchitectureObjective, get_space
        >>> objective = ArchitectureObjective(get_space("autoformer-tiny"))
        >>> sampler = optuna.samplers.NSGAIISampler(seed=0)
        >>> study = optuna.create_study(directions=objective.directions, sampler=sampler)
        >>> study.optimize(objective, n_trials=2)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        objectives: Sequence[str] | None = None,
        bounds: Mapping[str, Bound] | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        if scorer is not None and scorer.space != space:
            raise TftasError(
                f"the scorer is one of space {scorer.space.name!r}, the objective one of"
                f" {space.name!r}; give Scorer(space) of the same space"
            )
        if objectives is None:
            objectives = (scorer.indicator.name if scorer is not None else "dss", "n_params")
        checked = check_objectives(objectives, space.family)
        conditions = Conditions.of(space) if scorer is None else scorer.conditions
        sizes = {"img_size": conditions.img_size, "num_classes": conditions.num_classes}
        settings = StudySettings(
            conditions,
            objectives=checked,
            directions=tuple(get_metric(name).direction for name in checked),
            bounds=check_bounds(bounds, space, **sizes),
        )
        self._scorer = _scorer(settings, scorer)
        if self._scorer is not None:
            settings = _as_scored(settings, self._scorer)
        if any(get_cost(name).deployed for name in settings.costs):
            device = "auto" if scorer is None else str(scorer.device)
            settings = dataclasses.replace(settings, deployment=Deployment().on(device))
        self.settings = settings
        self._panel = self._make_panel(self._scorer.known_reference if self._scorer else None)
        self._records: Mapping[str, Any] = {}
        self._opened: Evaluations | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "scorer": self._scorer,
            "records": dict(self._records),
            "reference": self._panel.known_reference if self._panel is not None else None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.settings = state["settings"]
        self._scorer = state["scorer"]
        self._panel = self._make_panel(state["reference"])
        self._records = state["records"]
        self._opened = None

    def _make_panel(self, reference: Reference | None) -> Panel | None:
        """Put all indicators on the supernets of the scorer; those beside its own exactly."""
        if self._scorer is None:
            return None
        first = self._scorer.indicator, self._scorer.fidelity
        names = [name for name in self.settings.indicators if name != first[0].name]
        others = [(get_indicator(name), "exact") for name in names]
        return Panel(
            self._scorer.basis,
            [first, *others],
            precision=self._scorer.matmul_precision or "highest",
            reference=reference,
        )

    @property
    def _known(self) -> Evaluations:
        """Evaluations so far; what has to be measured for the space is, when they are needed."""
        if self._opened is None:
            settings = self.settings
            meters = Meters(settings.costs, settings.space, settings.target, self._records)
            self._records = meters.records
            self._opened = Evaluations(settings, meters)
        return self._opened

    @property
    def knowledge(self) -> Knowledge:
        """What is known before a trial, for :class:`tftas_optuna.ScreenedNSGAIISampler`.

        Features of architectures, and costs and bounds in closed form. Two sets of parameters
        that mean the same architecture count as one.
        """
        return ArchitectureKnowledge(self.settings, self._known.meters)

    @property
    def directions(self) -> list[Direction]:
        """Optuna directions of the objectives, for ``create_study(directions=...)``."""
        return list(self.settings.directions)

    def __call__(self, trial: BaseTrial) -> float | tuple[float, ...]:
        """Suggest and evaluate one architecture.

        Of one without a finite score the values are NaN, with which Optuna fails the trial; its
        user attribute ``failure`` says why.
        """
        (evaluation,) = self.evaluate([self.settings.space.suggest(trial)])
        record(trial, evaluation)
        return evaluation.values if len(evaluation.values) > 1 else evaluation.values[0]

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """Evaluate architectures in one batch; each is scored once."""
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        scored = [Scores({}) for _ in new] if self._panel is None else self._panel.scores(new)
        for arch, scores in zip(new, scored, strict=True):
            self._known.add(arch, scores)
        return [self._known[arch] for arch in archs]

    def annotate(self, study: Study) -> None:
        """Write metric names and settings into a study, so that ``front`` and ``export`` know it.

        Call it once, before or after the optimisation; before it where a study goes on whose
        costs were measured, so that the same measurements are used. The reference sample of
        fusions is scored then, if it was not yet.

        Raises:
            UnavailableError: The study has other directions, or was made with other settings.
        """
        directions = [direction.name.lower() for direction in study.directions]
        if directions != self.directions:
            raise UnavailableError(
                f"study {study.study_name!r} has the directions {', '.join(directions)}, the"
                f" objective {', '.join(self.directions)}; create it with"
                " directions=objective.directions"
            )
        if has_settings(study):
            check_continues(study, _like(study, self.settings))
        else:
            write_settings(study, self.settings)
        if self._panel is not None:
            if reference(study) is None:
                keep_reference(study, self._panel.reference)
            kept = reference(study)
            if kept is not None and kept != self._panel.known_reference:
                # That of the study counts, whoever was first to write it.
                self._panel, self._opened = self._make_panel(kept), None
        if not meter_records(study):
            _ = self._known
            keep_meter_records(study, self._records)
        stored = meter_records(study)
        if stored != self._records:
            self._records, self._opened = stored, None


class DSSObjective(ArchitectureObjective):
    """:class:`ArchitectureObjective` with the DSS-indicator, by default against parameters.

    Args:
        space: The search space.
        objectives: What to optimise, DSS among it.
        bounds: Lowest and highest allowed value by name.
        scorer: A scorer of DSS.

    Raises:
        TftasError: DSS is no objective; see also :class:`ArchitectureObjective`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        objectives: Sequence[str] = ("dss", "n_params"),
        bounds: Mapping[str, Bound] | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        if "dss" not in objectives:
            raise TftasError(
                f"objectives are {', '.join(objectives)}, without dss; use ArchitectureObjective"
            )
        super().__init__(space, objectives=objectives, bounds=bounds, scorer=scorer)


def record(trial: BaseTrial, evaluation: Evaluation) -> None:
    """Attach an evaluation's attributes and constraints to a running trial."""
    for name, value in evaluation.attributes.items():
        trial.set_user_attr(name, value)
    if evaluation.failure is not None:
        trial.set_user_attr(FAILURE_KEY, evaluation.failure)
    for name, value in evaluation.violations.items():
        trial.set_constraint(name, value)
    if evaluation.violations and isinstance(trial, Trial):
        # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
        trial.storage.set_trial_system_attr(
            trial_id(trial), "constraints", list(evaluation.violations.values())
        )


def _scorer(settings: StudySettings, scorer: Scorer | None) -> Scorer | None:
    """Return the scorer of the first indicator, or the given one; None where there is none."""
    wanted = settings.indicators
    if scorer is None:
        return Scorer(settings.space, indicator=wanted[0]) if wanted else None
    first = scorer.indicator.name
    if first not in wanted:
        raise TftasError(
            f"the scorer computes {first!r}, which is no objective and no bound; give"
            f" objectives=({first!r}, ...), or another scorer"
        )
    return scorer


def _as_scored(settings: StudySettings, scorer: Scorer) -> StudySettings:
    indicator = scorer.indicator
    usual = get_metric(indicator.name)
    options = {} if indicator == usual else {indicator.name: indicator.options}
    return dataclasses.replace(
        settings,
        conditions=resolve_images(scorer.conditions, settings.indicators),
        fidelity=scorer.fidelity,
        approximated=() if scorer.fidelity == "exact" else (indicator.name,),
        options=options,
    )


def _like(study: Study, settings: StudySettings) -> StudySettings:
    """Return the settings of an objective, with what only a search has as the study has it."""
    from_search = ("seed", "population_size", "sampler")
    recorded: dict[str, Any] = {name: study.user_attrs.get(name) for name in from_search}
    return dataclasses.replace(settings, **recorded)
