"""``tftas-optuna front`` of several studies: one table, with a column for the study."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from conftest_cli import SEARCH

from tftas_optuna.cli import main
from tftas_optuna.spaces import AutoFormerSpace

BOTH = ("front", "--study-name", "b", "--study-name", "a")


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture(scope="module")
def several(small_space: AutoFormerSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with studies a and b, which no test changes."""
    folder = tmp_path_factory.mktemp("several")
    search = (*SEARCH, "--n-trials", "4", "-q")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
        for name, objectives in (("a", "n_params,macs"), ("b", "activations,n_params")):
            done = call(*search, "--study-name", name, "--objectives", objectives)
            assert done.exit_code == 0
    return folder


@pytest.fixture
def place(several: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(several)
    return several


def test_fronts_of_several_studies_are_one_table(place: Path) -> None:
    done = call(*BOTH)
    assert done.exit_code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Fronts of b: ") and "; a: " in lines[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert {row[0] for row in rows} == {"a", "b"}
    # Study a knows no activations.
    assert all(("-" in row) == (row[0] == "a") for row in rows)


def test_forms_for_machines_say_which_study(place: Path) -> None:
    alone = {
        name: json.loads(call("front", "--study-name", name, "-f", "json").stdout)
        for name in ("a", "b")
    }
    together = json.loads(call(*BOTH, "-f", "json").stdout)
    assert together == [{"study": name, **row} for name in ("b", "a") for row in alone[name]]
    rows = list(csv.DictReader(io.StringIO(call(*BOTH, "-f", "csv").stdout)))
    assert [row["study"] for row in rows] == [row["study"] for row in together]
    assert all((row["activations"] == "") == (row["study"] == "a") for row in rows)


def test_a_study_that_is_named_twice_is_shown_once(place: Path) -> None:
    twice = call("front", "--study-name", "a", "--study-name", "a")
    assert twice.stdout == call("front", "--study-name", "a").stdout


def test_of_several_studies_one_that_is_missing_is_named(place: Path) -> None:
    done = call("front", "--study-name", "a", "--study-name", "nope")
    assert done.exit_code == 1 and "unknown study 'nope'" in done.stderr and done.stdout == ""


def test_scores_of_different_supernets_are_not_compared_silently(place: Path) -> None:
    search = (*SEARCH, "--n-trials", "2", "-q")
    for seed, fidelity in (("0", "collapsed"), ("1", "exact"), ("0", "exact")):
        name = f"{fidelity}{seed}"
        how = ("--supernet-seed", seed, "--fidelity", fidelity)
        assert call(*search, *how, "--study-name", name).exit_code == 0
    done = call("front", "--study-name", "collapsed0", "--study-name", "exact1")
    assert "dss of these studies was measured on different supernets" in done.stderr
    assert "collapsed DSS" in done.stdout and "exact DSS" in done.stdout
    done = call("front", "--study-name", "collapsed0", "--study-name", "exact0")
    assert done.stderr == ""
