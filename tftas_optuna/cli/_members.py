"""Picks the members of a front that a command works on, and scores them exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import check_members

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate


def pick(
    study: Study,
    *,
    trials: Sequence[int],
    best: bool,
    knee: bool,
    limits: Mapping[str, float],
    trained: str | None = None,
    top: int | None = None,
    spread: int | None = None,
) -> list[Candidate]:
    """Return trials by number, or members of the front within budgets: all or some.

    Raises:
        TftasError: There are no trainings called ``trained``.
        UnavailableError: There is no such trial, or nothing is within the budgets.
    """
    from tftas_optuna.study import front, selection
    from tftas_optuna.study.record import read_settings

    if trials:
        return [front.get_candidate(study, number, trained=trained) for number in trials]
    chosen = selection.within(front.pareto_front(study, trained=trained), limits)
    if knee:
        return [selection.knee(chosen, read_settings(study))]
    if best or top or spread:
        return best_of(study, chosen, 1 if best else top, spread)
    return chosen


def best_of(
    study: Study, front: Sequence[Candidate], top: int | None, spread: int | None
) -> list[Candidate]:
    """Return members of a front, best first: all, the first few, or some spread over it."""
    from tftas_optuna.study import selection
    from tftas_optuna.study.record import read_settings

    settings = read_settings(study)
    if spread is not None:
        front = selection.spread(front, spread, settings)
    return selection.best_first(front, settings)[:top]


def check_picks(
    *,
    trials: Sequence[int],
    best: bool,
    knee: bool,
    limits: Mapping[str, float],
    top: int | None = None,
    spread: int | None = None,
) -> None:
    """Check that the options go together, before a study is opened."""
    check_members(top, spread)
    picks = {
        "--trial": trials,
        "--best": best,
        "--knee": knee,
        "--top": top,
        "--spread": spread,
    }
    given = [option for option, value in picks.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other; give one of them")
    if trials and limits:
        raise click.UsageError("--trial names its trials; budgets do not apply")


def with_exact_scores(
    study: Study, candidates: Sequence[Candidate], most: int | None = None
) -> list[Candidate]:
    """Return candidates with exact scores; missing ones are computed and stored in the study.

    Args:
        study: The study.
        candidates: The candidates.
        most: How many to score, spread over them; None for all.
    """
    from tftas_optuna.study import selection
    from tftas_optuna.study.record import read_settings

    wanted = candidates
    if most is not None:
        wanted = selection.spread(candidates, most, read_settings(study))
    if all(len(candidate.exact) == len(candidate.approximated) for candidate in wanted):
        return list(candidates)
    # Imported late: PyTorch is slow to load, and usually nothing has to be scored.
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.search import score_exactly
    from tftas_optuna.study.front import exact_values

    with StepDisplay("exact scores", "architectures") as display:
        score_exactly(study, wanted, callback=display)
    exact_scores = exact_values(study)
    return [
        dataclasses.replace(
            candidate,
            exact={
                name: exact_scores[name][str(candidate.trial)]
                for name in candidate.approximated
                if str(candidate.trial) in exact_scores.get(name, {})
            },
        )
        for candidate in candidates
    ]
