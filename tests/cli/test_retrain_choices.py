"""Which networks ``tftas-optuna retrain`` trains, and how, without training any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest_cli import SEARCH
from images import draw_images

from tftas_optuna import pareto_front
from tftas_optuna.cli import main
from tftas_optuna.retrain import recorded
from tftas_optuna.storage import load_study
from tftas_optuna.study.front import Candidate

ROW = {"top1": 1.0, "top5": 2.0, "loss": 3.0, "n_params": 4, "seconds": 5.0}


def call(*args: str) -> Result:
    command = ["retrain", *args, "--data-dir", "images", "--device", "cpu"]
    return CliRunner().invoke(main, command, catch_exceptions=False)


@pytest.fixture
def front(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """The front of the searched study, and an empty directory to work in."""
    storage = f"sqlite:///{searched}/tftas.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", storage)
    draw_images(tmp_path / "images", train=1, val=1, side=8)
    return pareto_front(load_study(storage))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be trained; every training ends at once."""
    trainings: list[dict[str, Any]] = []

    def train(network: Any, **how: Any) -> dict[str, Any]:
        trainings.append({"network": network, **how})
        return {"name": network.label, **ROW, "out": f"{how['out'] / network.label}"}

    monkeypatch.setattr(recorded, "train_and_record", train)
    return trainings


def trials(asked: list[dict[str, Any]]) -> list[int]:
    return [training["trial"] for training in asked]


def test_the_best_of_a_front_is_trained(front: Any, asked: Any) -> None:
    assert call("--study", "small").exit_code == 0
    assert trials(asked) == [front[-1].trial]
    assert asked[0]["network"].architecture == front[-1].architecture
    assert asked[0]["study"].study_name == "small" and asked[0]["weights"] == "scratch"


def test_members_spread_over_a_front_are_trained_best_first(front: Any, asked: Any) -> None:
    done = call("--study", "small", "--spread", "2")
    assert done.exit_code == 0, done.stderr
    assert trials(asked) == [front[-1].trial, front[0].trial]
    refused = call("--study", "small", "--spread", "2", "--top", "2")
    assert refused.exit_code == 2 and "--top and --spread exclude each other" in refused.stderr


def test_the_best_within_a_budget_are_trained(front: Any, asked: Any) -> None:
    middle = front[-3]
    done = call("--study", "small", "--top", "2", "--params-max", str(middle.n_params))
    assert done.exit_code == 0, done.stderr
    assert trials(asked) == [middle.trial, front[-4].trial]
    cells = [line.split() for line in done.stdout.splitlines() if "│" in line]
    assert [row[1] for row in cells] == [
        f"trained/small-trial{trial:05d}" for trial in trials(asked)
    ]


def test_named_trials_are_trained_as_they_are_given(front: Any, asked: Any) -> None:
    assert call("--study", "small", "--trial", "3", "--trial", "0").exit_code == 0
    assert trials(asked) == [3, 0]


def test_options_of_their_own_stand_above_the_recipe(front: Any, asked: Any) -> None:
    done = call(
        *("--study", "small", "--img-size", "64", "--epochs", "7", "--lr", "0.25"),
        *("--batch-size", "32", "--seed", "9", "--teacher", "deit_tiny_patch16_224"),
        *("--set", "epochs=5", "--set", "warmup_epochs=2", "--weights", "supernet"),
        *("--workers", "0", "--num-classes", "3", "--tensorboard"),
        *("--train-split", "one", "--val-split", "two"),
    )
    assert done.exit_code == 0, done.stderr
    (training,) = asked
    recipe = training["recipe"]
    assert (recipe.epochs, recipe.warmup_epochs, recipe.lr) == (7, 2, 0.25)
    assert (recipe.batch_size, recipe.seed) == (32, 9)
    assert recipe.teacher == "deit_tiny_patch16_224"
    assert training["network"].img_size == 64
    told = ("weights", "workers", "num_classes", "tensorboard")
    assert [training[name] for name in told] == ["supernet", 0, 3, True]
    assert (training["source"].train_split, training["source"].val_split) == ("one", "two")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--study", "s", "--trial", "1", "--top", "2"),
            "--trial names its trials; --top, --spread and",
        ),
        (("--study", "s", "--trial", "1", "--macs-max", "1G"), "--trial names its trials; --top"),
        (("x.yaml", "--trial", "1"), "--top, --spread, --trial and budgets choose from"),
        (("x.yaml", "--bound", "macs<=1G"), "--top, --spread, --trial and budgets choose from"),
        (("--study", "s", "--bound", "macs>=1G"), "a budget is an upper limit"),
    ],
)
def test_choices_that_do_not_go_together(options: tuple[str, ...], message: str) -> None:
    done = call(*options)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {message}")


def test_a_front_without_a_member_has_nothing_to_train(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    draw_images(folder / "images", train=1, val=1, side=8)
    search = (*SEARCH, "--n-trials", "2", "--bound", "dss>=1e30", "-q")
    assert CliRunner().invoke(main, search).exit_code == 0
    done = call("--study", "small")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr == "Error: study 'small' has nothing to train: no feasible trial\n"


def test_an_interrupted_training_says_what_is_kept(
    front: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(network: Any, **_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "train_and_record", train)
    done = call("--study", "small", "--top", "2", "--out", "kept")
    assert done.exit_code == 130 and done.stdout == ""
    folder = f"kept/small-trial{front[-1].trial:05d}"
    told = f"Interrupted; whole epochs are kept in {folder}. Go on with the same command.\n"
    # The second network is not begun.
    assert done.stderr.strip() == told.strip()
