"""Pictures of the user's in place of noise, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import images
import pytest
import yaml
from conftest_cli import SEARCH, SMALL, Run
from tables import draw, table_rows, write_csv

from tftas_optuna import AutoFormerSpace, Scorer
from tftas_optuna.storage import load_study
from tftas_optuna.study.accuracy import record_accuracy

CPU = ("--device", "cpu", "-f", "json")
SEES = ("--indicators", "snip", "--n-images", "4")


@pytest.fixture(scope="module")
def seen(
    tftas: Run, tmp_path_factory: pytest.TempPathFactory, small_space: AutoFormerSpace
) -> Path:
    """A directory with pictures, a table, and a search that saw them; not to be changed."""
    folder = tmp_path_factory.mktemp("seen")
    images.draw_images(folder / "data", train=4, val=2, side=40)
    (folder / "small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
    write_csv(folder / "t.csv", table_rows(draw(small_space, 6)))
    done = tftas(
        folder, *SEARCH, "--n-trials", "8", "--objectives", "snip,n_params",
        "--n-images", "4", "--data-dir", "data",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = load_study(f"sqlite:///{folder}/tftas.db")
    for trial in study.trials:
        record_accuracy(study, trial.number, {"top1": 50.0 + trial.number * 3 % 7})
    return folder


def found(tftas: Run, folder: Path, *args: str) -> list[dict[str, Any]]:
    done = tftas(folder, *args, *CPU)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_a_file_of_a_search_scores_as_its_trial_on_the_same_pictures(
    tftas: Run, seen: Path, tmp_path: Path
) -> None:
    done = tftas(seen, "export", "--best", "--params-max", "1M", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.yaml")
    score = yaml.safe_load(path.read_text())["scores"]["snip"]
    (row,) = found(tftas, seen, "score", str(path), *SEES, "--data-dir", "data")
    assert row["snip"] == pytest.approx(score, rel=1e-6)
    (noise,) = found(tftas, seen, "score", str(path), *SEES)
    assert noise["snip"] != pytest.approx(score, rel=1e-3)


def test_a_timm_model_sees_them_with_their_labels(tftas: Run, seen: Path, tmp_path: Path) -> None:
    score = ("score", "test_vit", "--indicators", "zico,snip", *SEES[2:], "--num-classes", "3")
    (row,) = found(tftas, seen, *score, "--data-dir", "data")
    (noise,) = found(tftas, seen, *score)
    assert row["snip"] != noise["snip"] and row["zico"] != noise["zico"]
    # The same pictures under other labels.
    two = tmp_path / "two"
    shutil.copytree(seen / "data" / "train", two)
    for old, new in (("blue", "z"), ("red", "blue"), ("z", "red")):
        (two / old).rename(two / new)
    (other,) = found(tftas, seen, *score, "--data-dir", str(two))
    assert other["snip"] != row["snip"]


def test_a_table_is_scored_on_them(tftas: Run, seen: Path, small_space: AutoFormerSpace) -> None:
    found(tftas, seen, "correlate", "t.csv", *SMALL, *SEES, "--data-dir", "data")
    kept = json.loads((seen / "t.csv.scores.json").read_text())["scores"]
    (scores,) = (entry["scores"] for entry in kept if entry["ground"]["pictures"] != "noise")
    scorer = Scorer(
        small_space, indicator="snip", n_images=4, data_dir=str(seen / "data"), device="cpu",
        img_size=32, num_classes=10,
    )  # fmt: skip
    expected = sorted(scorer.batch(draw(small_space, 6)))
    assert sorted(score for (score,) in scores.values()) == pytest.approx(expected, rel=1e-6)


def test_a_study_says_what_it_saw_and_is_told_where_that_lies_now(
    tftas: Run, seen: Path, tmp_path: Path
) -> None:
    shutil.copytree(seen, tmp_path, dirs_exist_ok=True)
    command = ("correlate", "--study", "small", "--indicators", "snip,naswot")
    rows = found(tftas, tmp_path, *command)
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "small.scores.json").unlink()
    done = tftas(tmp_path, *command, *CPU)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the pictures of study 'small' lay in 'data', which is no folder here" in done.stderr
    again = found(tftas, tmp_path, *command, "--data-dir", "moved")
    for row in (*rows, *again):
        del row["seconds"]
    assert rows == again


def test_pictures_that_nothing_sees_are_refused(tftas: Run, seen: Path) -> None:
    done = tftas(seen, "score", "test_vit", "--data-dir", "data")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "--data-dir does not apply: dss sees no images; name --indicators that do" in done.stderr
    )
