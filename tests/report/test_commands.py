"""Commands to type next: they work when they are copied."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from tftas_optuna import AutoFormerSpace, UnavailableError, pareto_front, search
from tftas_optuna.metrics import get_indicator
from tftas_optuna.report.commands import (
    next_commands,
    search_command,
    shared_commands,
    trained_command,
)
from tftas_optuna.scoring.conditions import Conditions, ImageSource, SupernetSource
from tftas_optuna.storage import load_study
from tftas_optuna.study.record import read_settings

NAME = 'it\'s "mine"'


def options(line: str) -> dict[str, str]:
    words = shlex.split(line, comments=True)
    return dict(zip(words[2::2], words[3::2], strict=True))


@pytest.fixture
def storage(small_space: AutoFormerSpace, tmp_path: Path) -> str:
    """A storage whose name and study need quotes."""
    storage = f"sqlite:///{tmp_path}/a study's.db"
    for name in (NAME, "small-dss", "small-dss-2"):
        search(
            small_space, n_trials=2, population_size=2, objectives=("n_params",), storage=storage,
            study_name=name,
        )  # fmt: skip
    return storage


def test_names_and_storages_are_quoted(storage: str) -> None:
    study = load_study(storage, NAME)
    for line, _ in next_commands(storage, NAME, pareto_front(study), read_settings(study)):
        words = shlex.split(line)
        assert words[words.index("--storage") + 1] == storage
        assert words[words.index("--study-name") + 1] == NAME
        # There is one member only, and nothing to train it together with.
        assert "--shared" not in words
    assert options(trained_command(storage, NAME, "3f"))["--storage"] == storage


def test_a_new_search_gets_its_own_study_in_the_same_storage(
    small_space: AutoFormerSpace, storage: str
) -> None:
    conditions = Conditions.of(small_space)
    line = search_command(get_indicator("dss"), conditions, "my spaces/small.yaml", storage)
    assert options(line) == {
        "--space": "my spaces/small.yaml",
        "--objectives": "dss,n_params",
        "--storage": storage,
        "--study-name": "small-dss-3",
    }
    (again, _), _ = shared_commands("trained/it-s-mine-shared", "my data", storage, NAME)
    assert options(again)["--storage"] == storage
    assert options(again)["--study-name"] == "it-s-mine-accuracy"
    with pytest.raises(UnavailableError):
        load_study(storage, "it-s-mine-accuracy")


def test_a_search_by_an_indicator_repeats_its_conditions(small_space: AutoFormerSpace) -> None:
    conditions = Conditions.of(
        small_space, img_size=32, num_classes=10, supernet=SupernetSource(7), n_seeds=2,
        images=ImageSource(4, "my data"),
    )  # fmt: skip
    line = search_command(get_indicator("snip"), conditions, "small.yaml", "sqlite:///no.db")
    given = {
        "--img-size": "32", "--num-classes": "10", "--supernet-seed": "7", "--n-seeds": "2",
        "--n-images": "4", "--data-dir": "my data",
    }  # fmt: skip
    assert given.items() <= options(line).items()
    # An indicator that sees no images refuses them.
    blind = options(search_command(get_indicator("dss"), conditions, "s.yaml", "sqlite:///no.db"))
    assert not {"--n-images", "--data-dir"} & blind.keys() and blind["--n-seeds"] == "2"
    usual = dataclasses.replace(conditions, images=ImageSource(), n_seeds=1)
    line = search_command(get_indicator("snip"), usual, "s.yaml", "sqlite:///no.db")
    assert not {"--n-images", "--data-dir", "--n-seeds"} & options(line).keys()
