"""Notes of studies and trials, as optuna-dashboard shows them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from conftest_studies import Search
from optuna_dashboard import get_note, save_note
from random_studies import random_study

from tftas_optuna import pareto_front, search
from tftas_optuna.spaces import AutoFormerSpace, get_space
from tftas_optuna.study.accuracy import record_accuracy
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.notes import escaped, write_study_note, write_trial_notes


def as_running(study: optuna.Study, number: int) -> Any:
    trial = study.get_trials()[number]
    return SimpleNamespace(storage=study._storage, study=study, _trial_id=trial._trial_id)


def shown(text: str) -> list[str]:
    """Return the lines of a note that the dashboard shows."""
    return [line for line in text.splitlines() if line and not line.startswith("[tftas-optuna-")]


@pytest.fixture
def study(run: Search) -> optuna.Study:
    return run(n_trials=8, population_size=4, n_exact=1, fidelity="collapsed")


def test_a_study_says_what_was_searched_and_what_to_type_next(study: optuna.Study) -> None:
    write_study_note(study, 3, [("tftas-optuna front --study-name small", "the whole front")])
    lines = shown(get_note(study))
    assert lines[0] == "**8 trials**, 3 architectures on the Pareto front."
    for row in (
        "| space | small, family autoformer |",
        "| objectives | dss\\_collapsed (maximize), n\\_params (minimize) |",
        "| sampler | screened-nsgaii, seed 0, population size 4 |",
        "| networks | 32x32, 10 classes |",
    ):
        assert row in lines
    assert lines[-2] == "tftas-optuna front --study-name small    # the whole front"


def test_a_trial_says_what_it_stands_for(study: optuna.Study) -> None:
    front = pareto_front(study)
    write_trial_notes(study, front)
    for candidate in front:
        lines = shown(get_note(as_running(study, candidate.trial)))
        assert lines[0] == f"**{escaped(candidate.architecture.summary())}**"
        assert f"| dss\\_collapsed | {candidate.values['dss']:,.6g} |" in lines
        assert any(line.startswith("| dss |") for line in lines) == bool(candidate.exact)
        assert f"| n\\_params | {candidate.n_params:,} |" in lines
        heading = next(i for i, line in enumerate(lines) if line.startswith("block "))
        end = lines.index("```", heading)
        drawn = [line.split() for line in lines[heading + 1 : end]]
        heads = tuple(int(words[1]) for words in drawn)
        assert heads == candidate.architecture.num_heads  # type: ignore[attr-defined]
        idle = [f"`block_{number:02d}`" for number in range(len(heads) + 1, 5)]
        told = [line for line in lines if line.startswith("Not used")]
        assert told == (
            [f"Not used, as they lie beyond its depth: {', '.join(idle)}."] if idle else []
        )


def test_a_trial_says_which_bounds_it_keeps(small_space: AutoFormerSpace) -> None:
    bounds = {"n_params": (40_000.0, 120_000.0), "macs": (None, 2e6)}
    study = random_study(small_space, 12, bounds=bounds)
    candidates = [get_candidate(study, number) for number in range(12)]
    write_trial_notes(study, candidates)
    kept = []
    for candidate in candidates:
        within = 40_000 <= candidate.n_params <= 120_000 and candidate.macs <= 2e6
        kept.append(within)
        lines = shown(get_note(as_running(study, candidate.trial)))
        assert (
            lines.count(
                f"{'Within' if within else 'Beyond'} the bounds: n\\_params \\>= 40.00k,"
                " n\\_params \\<= 120.00k, macs \\<= 2.00M."
            )
            == 1
        )
    assert {True, False} == set(kept)


@pytest.mark.parametrize("preset", ["autoformer-base", "pit-small"])
def test_a_note_of_the_largest_networks_is_small(preset: str) -> None:
    space = get_space(preset)
    study = random_study(space, 1, bounds={"n_params": (1e6, 1e9), "macs": (None, 1e12)})
    record_accuracy(study, 0, {"top1": 91.25, "top5": 99.0, "loss": 0.123456, "recipe": "usual"})
    largest = dataclasses.replace(get_candidate(study, 0), architecture=space.largest())
    write_trial_notes(study, [largest])
    assert len(get_note(as_running(study, 0))) <= 2048


def test_what_else_a_note_says_stays(study: optuna.Study) -> None:
    running = as_running(study, 0)
    old = "**Retrained:** top-1 90.00 % (recipe quick)"
    save_note(running, f"mine\n{old}")
    write_trial_notes(study, [get_candidate(study, 0)])
    save_note(running, get_note(running) + "\nmine too")
    record_accuracy(study, 0, {"top1": 91.25, "loss": 0.123456, "recipe": "qu*ck"})
    write_trial_notes(study, [get_candidate(study, 0)])
    lines = shown(get_note(running))
    assert lines[0] == "mine" and lines[-1] == "mine too"
    assert [line for line in lines if line.startswith("**Retrained:**")] == [
        "**Retrained:** top-1 91.25 % (loss 0.1235, recipe qu\\*ck; trainings td628199)"
    ]
    assert sum("Not used" in line or line.startswith("| dss") for line in lines) <= 3


def test_a_note_that_says_so_already_is_not_written_again(study: optuna.Study) -> None:
    write_trial_notes(study, [get_candidate(study, 0)])
    before = study._storage.get_study_system_attrs(study._study_id)
    write_trial_notes(study, [get_candidate(study, 0)])
    assert study._storage.get_study_system_attrs(study._study_id) == before


HOSTILE = (
    "<img src=x onerror=alert(1)> | **b** `c` [l](javascript:1) $x$"
    " [tftas-optuna-end]: # (the end)"
)


def test_hostile_names_are_shown_as_they_are(small_space: AutoFormerSpace) -> None:
    space = dataclasses.replace(small_space, name=HOSTILE)
    study = search(space, n_trials=2, objectives=("n_params",))
    for _ in range(2):
        write_study_note(study, 1, [(f"tftas-optuna front '```\n# {HOSTILE}'", "all")])
    note = get_note(study)
    (row,) = [line for line in note.splitlines() if line.startswith("| space |")]
    for sign in "<>|*`[]$":
        assert row[10:-2].count(sign) == row[10:-2].count(f"\\{sign}")
    assert note.count("**2 trials**") == 1 and note.count("```\n") == 1
