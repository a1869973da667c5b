"""An architecture without a finite score is a failed trial, and not the end of a search."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from click.testing import CliRunner
from images import draw_images
from optuna.trial import TrialState
from PIL import Image
from processes import at, seen
from torch import nn

from tftas_optuna import (
    ArchitectureObjective,
    Scorer,
    ScreenedNSGAIISampler,
    TftasError,
    pareto_front,
    register_fusion,
    register_indicator,
    score_exactly,
)
from tftas_optuna.cli import main
from tftas_optuna.indicators import fusion
from tftas_optuna.indicators.measures import trainability
from tftas_optuna.metrics import registry
from tftas_optuna.plots.choices import effects
from tftas_optuna.scoring import pool as executors
from tftas_optuna.scoring.calibrated import CalibratedIndicator, register_calibration, shape_inputs
from tftas_optuna.scoring.conditions import Conditions, ImageSource
from tftas_optuna.scoring.panel import Scores
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study
from tftas_optuna.study.own import FAILURE_KEY, failure_of

Search = Callable[..., optuna.Study]
OBJECTIVES = ("half", "n_params")


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two indicators of the user's: one has no value of networks 64 wide, the other of any."""
    monkeypatch.setattr(registry.METRICS, "registered", dict(registry.METRICS.registered))
    monkeypatch.setattr(fusion, "N_REFERENCE", 24)

    def half(model: nn.Module, images: torch.Tensor) -> float:
        return math.nan if model.num_features == 64 else len(list(model.modules()))

    register_indicator("half", half)
    register_indicator("void", lambda model, images: -math.inf)


def states(study: optuna.Study, space: AutoFormerSpace) -> list[tuple[int, TrialState]]:
    return [(space.decode(trial.params).embed_dim, trial.state) for trial in study.trials]


def is_as_it_should_be(study: optuna.Study, space: AutoFormerSpace) -> bool:
    """Tell whether exactly the networks 64 wide failed, some of them."""
    found = states(study, space)
    failed = [width for width, state in found if state == TrialState.FAIL]
    done = [width for width, state in found if state == TrialState.COMPLETE]
    return set(failed) == {64} and 64 not in done and len(failed) + len(done) == len(found)


@pytest.mark.parametrize("sampler", ["screened-nsgaii", "nsgaii", "tpe"])
def test_a_search_goes_on_without_it(
    small_space: AutoFormerSpace, run: Search, sampler: str
) -> None:
    study = run(objectives=OBJECTIVES, sampler=sampler, n_trials=24)
    assert is_as_it_should_be(study, small_space) and len(study.trials) == 24
    failed = next(trial for trial in study.trials if trial.state == TrialState.FAIL)
    reason = failed.user_attrs[FAILURE_KEY]
    assert reason.startswith("indicator 'half' gives nan, which is not a finite number (64 x ")
    assert {"n_params", "macs"} < failed.user_attrs.keys()
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert len(set(archs)) == len(archs)
    front = pareto_front(study)
    assert front and all(candidate.architecture.embed_dim < 64 for candidate in front)
    assert effects(study, "half")


@pytest.mark.parametrize("sampler", ["screened-nsgaii", "nsgaii", "tpe"])
def test_cut_off_it_goes_on_to_the_same_study(run: Search, tmp_path: Path, sampler: str) -> None:
    fixed: dict[str, Any] = {"objectives": OBJECTIVES, "sampler": sampler}
    whole = seen(run(n_trials=16, **fixed))
    for cut, kind in ((1, "journal"), (5, "sqlite"), (11, "journal")):
        url = f"{kind}:///{tmp_path}/{cut}.{kind}"
        run(n_trials=cut, storage=url, **fixed)
        run(n_trials=16 - cut, storage=url, **fixed)
        assert seen(load_study(url)) == whole


def test_interrupted_within_a_generation_it_goes_on_to_the_same_study(
    run: Search, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/t.db"

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(n_trials=16, storage=url, objectives=OBJECTIVES, callback=at(3, stop))
    begun = len(load_study(url).trials)
    run(n_trials=16 - begun, storage=url, objectives=OBJECTIVES)
    assert seen(load_study(url)) == seen(run(n_trials=16, objectives=OBJECTIVES))


def overflowing(space: AutoFormerSpace) -> CalibratedIndicator:
    """An indicator that travels to workers, and is infinite for all but small networks."""
    n_shape = len(shape_inputs(space, space.smallest()))
    least = float(space.costs(space.smallest()).n_params)
    return CalibratedIndicator(
        "mine",
        parts=("n_params", "snip"),
        conditions=Conditions.of(space, img_size=32, num_classes=10, images=ImageSource(4)),
        logs=(False, False),
        means=(*(0.0,) * n_shape, least, 0.0),
        weights=(*(0.0,) * n_shape, 1e304, 1.0),
        constant=0.0,
    )


@pytest.mark.usefixtures("quick_workers")
def test_workers_change_nothing(small_space: AutoFormerSpace, run: Search) -> None:
    register_calibration(overflowing(small_space))
    fixed: dict[str, Any] = dict(objectives=("mine", "n_params"), n_trials=16, n_images=4)
    alone, together = (seen(run(workers=count, **fixed)) for count in (1, 2))
    assert alone == together
    assert {state for *_, state in alone} == {TrialState.COMPLETE, TrialState.FAIL}


def test_a_bound_on_it_fails_a_trial_too(small_space: AutoFormerSpace, run: Search) -> None:
    study = run(objectives=("dss", "n_params"), bounds={"half": (1.0, None)}, n_trials=16)
    assert is_as_it_should_be(study, small_space)


def test_several_supernets_are_one_trial(small_space: AutoFormerSpace, run: Search) -> None:
    study = run(objectives=("half", "dss", "n_params"), n_seeds=2, n_trials=16)
    assert is_as_it_should_be(study, small_space)
    done = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    assert {"half_sd", "dss_sd"} < done.user_attrs.keys()
    failed = next(trial for trial in study.trials if trial.state == TrialState.FAIL)
    assert "dss" in failed.user_attrs and "half_sd" not in failed.user_attrs


def test_a_fusion_ranks_among_what_is_finite_of_its_sample(
    small_space: AutoFormerSpace, run: Search
) -> None:
    register_fusion("mine", ["half", "macs"])
    fixed: dict[str, Any] = dict(objectives=("mine", "n_params"))
    study = run(n_trials=16, **fixed)
    assert is_as_it_should_be(study, small_space)
    ((kept,), (macs,)) = (study.user_attrs["reference"][part] for part in ("half", "macs"))
    assert 0 < len(kept) < len(macs) == 24 and all(map(math.isfinite, kept))
    scorer = Scorer(small_space, indicator="mine", img_size=32, num_classes=10, device="cpu")
    done = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    assert scorer(small_space.decode(done.params)) == done.values[0]


def test_a_fusion_that_has_nothing_to_rank_among_is_refused(run: Search) -> None:
    register_fusion("mine", ["void", "macs"])
    message = (
        "mine is not defined: void is finite for 0 of the 24 architectures of its reference"
        r" sample: indicator 'void' gives -inf, which is not a finite number \(\d+ x \d"
    )
    with pytest.raises(TftasError, match=message):
        run(objectives=("mine", "n_params"))


def test_a_study_with_hardly_any_score_ends_with_one_line(run: Search, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    fixed: dict[str, Any] = dict(objectives=("void", "n_params"), storage=url, n_trials=40)
    for _ in range(2):
        with pytest.raises(TftasError, match="20 of 20 trials of study 'small' have no score, su"):
            run(**fixed)
        # What was tried is kept, and not tried again.
        assert len(load_study(url).trials) == 20


def test_a_short_search_without_any_score_ends_with_one_line(run: Search) -> None:
    with pytest.raises(TftasError, match=r"4 of 4 trials .*: indicator 'void' gives -inf, .*; gi"):
        run(objectives=("void", "n_params"), n_trials=4)


def test_the_pictures_are_named(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(small_space.to_dict()))
    pictures = draw_images(tmp_path / "equal", train=2, val=0, side=32)
    for path in pictures.rglob("*.png"):
        Image.new("RGB", (32, 32), (9, 9, 9)).save(path)
    command = ["run", "--space", str(tmp_path / "small.yaml"), "--objectives", "naswot,n_params"]
    command += ["--storage", f"sqlite:///{tmp_path}/t.db", "--n-trials", "30", "-q"]
    command += ["--img-size", "32", "--num-classes", "10", "--n-images", "4", "--device", "cpu"]
    done = CliRunner().invoke(main, [*command, "--data-dir", str(pictures)])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert (
        "indicator 'naswot' gives -inf" in line and f"; on pictures of {str(pictures)!r})" in line
    )


def test_what_a_user_raises_is_shown_as_it_is(run: Search) -> None:
    def broken(model: nn.Module, images: torch.Tensor) -> float:
        raise ZeroDivisionError("mine")

    register_indicator("broken", broken)
    with pytest.raises(ZeroDivisionError, match="mine"):
        run(objectives=("broken", "n_params"))


@pytest.mark.parametrize("score", [None, 10**400, torch.zeros(2)], ids=["none", "big", "many"])
def test_what_is_no_number_is_told_by_indicator_and_architecture(
    run: Search, score: object
) -> None:
    register_indicator("mine", lambda model, images: score)
    with pytest.raises(TftasError, match=r"indicator 'mine' gives a \w+ that is not a number \("):
        run(objectives=("mine", "n_params"))


def test_an_exact_score_that_is_not_finite_is_missing(
    small_space: AutoFormerSpace,
    run: Search,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    score = executors.score

    def exact_fails(home: Any, task: Any, archs: Any) -> Iterable[Scores]:
        for scores, arch in zip(score(home, task, archs), archs, strict=True):
            if task.fidelity == "exact" and arch.embed_dim == 64:
                scores.gaps["dss"] = "it is too wide"
            yield scores

    monkeypatch.setattr(executors, "score", lambda *args: list(exact_fails(*args)))
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        study = run(fidelity="collapsed", n_exact=None)
        score_exactly(study)
    front = pareto_front(study)
    lacking = [c.trial for c in front if not c.exact]
    assert lacking == [c.trial for c in front if c.architecture.embed_dim == 64] != []
    assert len(lacking) < len(front)
    first, again = caplog.messages
    assert first == again and f"such as trial {min(lacking)}: it is too wide" in first


@pytest.mark.parametrize("objectives", [("half",), OBJECTIVES])
def test_in_a_study_of_ones_own_optuna_fails_the_trial(
    small_space: AutoFormerSpace, objectives: tuple[str, ...]
) -> None:
    scorer = Scorer(small_space, indicator="half", img_size=32, num_classes=10, device="cpu")
    objective = ArchitectureObjective(small_space, objectives=objectives, scorer=scorer)
    sampler = ScreenedNSGAIISampler(
        population_size=4, n_offspring=20, knowledge=objective.knowledge, seed=0
    )
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    objective.annotate(study)
    study.optimize(objective, n_trials=24)
    assert is_as_it_should_be(study, small_space)
    assert all(
        (failure_of(trial) is None) == (trial.state == TrialState.COMPLETE)
        for trial in study.trials
    )
    assert pareto_front(study)


def test_a_search_goes_on_from_what_failed_in_a_study_of_ones_own(
    small_space: AutoFormerSpace, run: Search
) -> None:
    storage = optuna.storages.InMemoryStorage()
    scorer = Scorer(small_space, indicator="half", img_size=32, num_classes=10, device="cpu")
    objective = ArchitectureObjective(small_space, objectives=OBJECTIVES, scorer=scorer)
    study = optuna.create_study(
        storage=storage, study_name="small", directions=objective.directions
    )
    objective.annotate(study)
    study.enqueue_trial(small_space.encode(small_space.largest()))
    study.optimize(objective, n_trials=1)
    run(objectives=OBJECTIVES, storage=storage, n_trials=8, start=[small_space.largest()])
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert archs.count(small_space.largest()) == 1


def test_no_gradient_is_no_trainability() -> None:
    tally = trainability._Tally()
    tally.block(torch.zeros(4, 3), torch.ones(4, 3))
    assert tally.value() == -math.inf
    tally.block(torch.ones(4, 3), torch.ones(4, 3))
    assert tally.value() == -math.inf
