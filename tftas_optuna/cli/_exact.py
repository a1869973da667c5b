"""Exact scores of what leaves a study, with a display while they are computed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna.study.front import exact_values
from tftas_optuna.study.selection import SHOWN, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate


def with_exact_scores(study: Study, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Score candidates exactly where that is missing; return them as the study has them then."""
    if all(len(candidate.exact) == len(candidate.approximated) for candidate in candidates):
        return list(candidates)
    # Only now: PyTorch takes longer to load than most of what needs no score.
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.search import score_exactly
    from tftas_optuna.study.notes import write_trial_notes

    with StepDisplay("exact scores", "architectures") as display:
        score_exactly(study, candidates, callback=display)
    known = exact_values(study)
    scored = [
        dataclasses.replace(
            candidate,
            exact={
                name: known[name][str(candidate.trial)]
                for name in candidate.approximated
                if str(candidate.trial) in known.get(name, {})
            },
        )
        for candidate in candidates
    ]
    write_trial_notes(study, spread(scored, SHOWN))
    return scored
