"""The objective: suggests an architecture, scores it, counts its costs, checks its bounds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from optuna.trial import Trial

from tftas_optuna.indicators import Scorer
from tftas_optuna.metrics.bounds import check_bounds, check_metrics
from tftas_optuna.study.evaluations import Evaluation, Evaluations
from tftas_optuna.study.settings import StudySettings, deployment_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import BaseTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics.bounds import CostName
    from tftas_optuna.plugins import Direction
    from tftas_optuna.spaces import SearchSpace


class DSSObjective:
    """An Optuna objective over a space of Vision Transformers.

    Works with any sampler and any storage; create the study with :attr:`directions`.

    Args:
        space: The search space.
        metrics: Objectives, in order: ``"dss"``, names of costs (see :mod:`tftas_optuna.costs`)
            and of indicators of your own. With one metric the objective returns a number, with
            several a tuple.
        constraints: Lowest and highest allowed value by cost name, such as
            ``{"n_params": (None, 6e6)}``; they become Optuna constraints.
        scorer: The scorer; by default ``Scorer(space)``.

    Raises:
        TftasError: A metric does not exist, or the constraints exclude the whole space.

    Example:
        >>> import optuna
        >>> from tftas_optuna import DSSObjective, get_space
        >>> objective = DSSObjective(get_space("autoformer-tiny"))
        >>> sampler = optuna.samplers.NSGAIISampler(seed=0)
        >>> study = optuna.create_study(directions=objective.directions, sampler=sampler)
        >>> study.optimize(objective, n_trials=2)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        metrics: Sequence[str] = ("dss", "n_params"),
        constraints: Mapping[CostName, tuple[float | None, float | None]] | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        checked = check_metrics(metrics)
        sizes = {"img_size": space.img_size, "num_classes": space.num_classes}
        if scorer is not None:
            sizes = {"img_size": scorer.img_size, "num_classes": scorer.num_classes}
        bounds = check_bounds(constraints, space, **sizes)
        self.scorer = scorer if scorer is not None else Scorer(space)
        self.settings = StudySettings(
            space=space,
            metrics=checked,
            indicator=self.scorer.indicator,
            fidelity=self.scorer.fidelity,
            seed=self.scorer.seed,
            n_seeds=self.scorer.n_seeds,
            img_size=self.scorer.img_size,
            num_classes=self.scorer.num_classes,
            head_weight=self.scorer.head_weight,
            bounds=bounds,
        )
        self.settings = dataclasses.replace(
            self.settings, deployment=deployment_for(self.settings, str(self.scorer.device))
        )
        self._known = Evaluations(self.settings)

    @property
    def directions(self) -> list[Direction]:
        """Optuna directions of the metrics, for ``create_study(directions=...)``."""
        return self.settings.directions

    def __call__(self, trial: BaseTrial) -> float | tuple[float, ...]:
        """Suggest and evaluate one architecture."""
        (evaluation,) = self.evaluate([self.settings.space.suggest(trial)])
        record(trial, evaluation)
        return evaluation.values if len(evaluation.values) > 1 else evaluation.values[0]

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """Evaluate architectures in one batch; the score of each is computed once."""
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        tables = [self.scorer.by_seed(new)]
        tables += [self.scorer.own_by_seed(name, new) for name in self.settings.own_indicators]
        for arch, scores in zip(new, zip(*tables, strict=True), strict=True):
            self._known.add(arch, sum(scores, ()))
        return [self._known[arch] for arch in archs]

    def annotate(self, study: Study) -> None:
        """Write metric names and settings into a study, so that ``front`` and ``export`` know it.

        Call it once, before or after the optimisation; before it where a study goes on whose
        costs were measured, so that the same measurements are used.
        """
        if not StudySettings.recorded(study):
            self.settings.write(study)
        self.settings = self.settings.measured(study).keep_records(study)
        self._known.settings = self.settings


def record(trial: BaseTrial, evaluation: Evaluation) -> None:
    """Attach an evaluation's attributes and constraints to a running trial."""
    for name, value in evaluation.attributes.items():
        trial.set_user_attr(name, value)
    for name, value in evaluation.violations.items():
        trial.set_constraint(name, value)
    if evaluation.violations and isinstance(trial, Trial):
        # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
        trial.storage.set_trial_system_attr(
            trial._trial_id, "constraints", list(evaluation.violations.values())
        )
