"""A search goes on in a study to which others have added trials that it cannot read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import foreign
import optuna
import pytest
from click.testing import CliRunner

from tftas_optuna.cli import main
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study
from tftas_optuna.study.place import place_of

Search = Callable[..., optuna.Study]


@pytest.mark.parametrize("sampler", ["screened-nsgaii", "nsgaii", "tpe"])
def test_a_search_goes_on(small_space: AutoFormerSpace, run: Search, sampler: str) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = run(n_trials=8, storage=storage, sampler=sampler)
    for kind in foreign.KINDS.values():
        kind(study, small_space)
    foreign.add_decodable(study, small_space)
    run(n_trials=16, storage=storage, sampler=sampler)
    mine = [trial for trial in study.trials if place_of(trial) is not None]
    assert len(mine) == 24 and len(study.trials) == 24 + len(foreign.KINDS) + 1


def test_those_that_come_while_it_runs_are_skipped_too(
    small_space: AutoFormerSpace, run: Search
) -> None:
    storage = optuna.storages.InMemoryStorage()
    added: list[int] = []

    def add(progress: object) -> None:
        if len(added) < 3 and (studies := optuna.get_all_study_names(storage)):
            study = optuna.load_study(study_name=studies[0], storage=storage)
            foreign.told_without_parameters(study, small_space)
            added.append(study.trials[-1].number)

    study = run(n_trials=24, storage=storage, callback=add)
    assert len(added) == 3 and len(study.trials) == 27


def test_every_command_names_them_once(
    small_space: AutoFormerSpace, run: Search, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(small_space.to_dict()))
    storage = f"sqlite:///{tmp_path}/t.db"
    run(n_trials=8, storage=storage)
    study = load_study(storage)
    foreign.without_a_parameter(study, small_space)
    where = ["--storage", storage, "--study-name", "small"]
    search = ["--space", str(tmp_path / "small.yaml"), "--population-size", "8", "--img-size"]
    for command in (
        ["run", *where, *search, "32", "--num-classes", "10", "--n-trials", "8", "-q"],
        ["front", *where, "-f", "json"],
        ["report", *where, "--out", str(tmp_path / "r.html")],
        ["export", *where, "--knee", "--out", str(tmp_path / "out")],
        ["studies", "--storage", storage],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, (command, done.output)
        lines = [line for line in done.stderr.splitlines() if "skipped" in line]
        assert len(lines) == 1 and "study 'small': trial 8 skipped" in lines[0], command
    done = CliRunner().invoke(main, ["export", *where, "--trial", "8", "--out", str(tmp_path)])
    assert done.exit_code == 1 and "trial 8 of study 'small' is no architecture" in done.stderr
