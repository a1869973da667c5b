"""Importances of a study's parameters, computed by Optuna."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from tftas_optuna.errors import UnavailableError
from tftas_optuna.plots._drawing import COLOURS, panels, plain, rounded
from tftas_optuna.plots.trials import Finished, finished_trials

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

    from tftas_optuna.spaces import SearchSpace

# The best tenth of fewer trials is too small.
LEAST_TRIALS = 50


def importances(study: Study) -> dict[str, dict[str, float]]:
    """Return how much each parameter decides whether a trial is among the best tenth.

    Uses Optuna's PED-ANOVA, which needs no other package. Parameters of blocks that not every
    architecture has are left out: where they have no meaning, they would reveal the depth.

    Returns:
        By objective, the importance of each parameter; they add up to 1.

    Raises:
        UnavailableError: The study has fewer than ``LEAST_TRIALS`` finished trials, or was not
            made by this package.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    finished = finished_trials(study)
    settings = finished.settings
    if len(finished.trials) < LEAST_TRIALS:
        raise UnavailableError(
            f"importances say nothing of {len(finished.trials)} trials; they need {LEAST_TRIALS}"
        )
    shared = _shared_parameters(settings.space)
    own_study = _without_foreign(study, finished)
    by_objective = {}
    for i, (name, direction) in enumerate(
        zip(settings.objectives, settings.directions, strict=True)
    ):
        sign = -1 if direction == "maximize" else 1
        with warnings.catch_warnings():
            # It is experimental, and warns that it assumes minimization, which holds here.
            warnings.simplefilter("ignore")
            by_objective[name] = get_param_importances(
                own_study,
                evaluator=PedAnovaImportanceEvaluator(),
                params=shared,
                target=partial(_loss, i, sign),
            )
    return by_objective


def plot_importances(study: Study) -> Figure:
    """Draw which parameters matter, with a bar for each objective.

    Returns:
        A Plotly figure of ``importances``, in the order of the space.

    Raises:
        UnavailableError: The study has too few trials, or was not made by this package.
    """
    from plotly import graph_objects as graph

    by_objective = importances(study)
    names = list(finished_trials(study).settings.space.distributions())
    figure = panels([""], 1)
    for number, (objective, values) in enumerate(by_objective.items()):
        shown = [name for name in names if name in values]
        figure.add_trace(
            graph.Bar(
                x=[plain(name) for name in shown],
                y=rounded(values[name] for name in shown),
                marker={"color": COLOURS[number % len(COLOURS)]},
                hovertemplate=f"{objective}: %{{x}} %{{y:.3f}}<extra></extra>",
                name=objective,
            )
        )
    figure.update_layout(showlegend=True)
    figure.update_yaxes(title_text="importance", rangemode="tozero")
    return figure


def _without_foreign(study: Study, finished: Finished) -> Study:
    """Return a study of the finished trials alone, as Optuna uses all complete ones."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) == len(finished.trials):
        return study
    own = optuna.create_study(directions=study.directions)
    own.add_trials(finished.trials)
    return own


def _shared_parameters(space: SearchSpace) -> list[str]:
    """Return the parameters that matter in every architecture of a space.

    The smallest architecture has only blocks that all have, so a parameter that changes it always
    matters.
    """
    smallest = space.smallest()
    params = space.encode(smallest)
    return [
        name
        for name, distribution in space.distributions().items()
        if any(
            space.decode({**params, name: choice}) != smallest for choice in distribution.choices
        )
    ]


def _loss(objective: int, sign: int, trial: FrozenTrial) -> float:
    value: float = trial.values[objective]
    return sign * value
