"""Indicators beside DSS on the command line: scored, fused, calibrated."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

import pytest
from conftest_cli import SEARCH, SMALL, Run
from tables import draw, table_rows, write_csv

from tftas_optuna import AutoFormerSpace

FEW = ("--n-images", "2")


def test_several_indicators_of_several_networks(tftas: Run, folder: Path) -> None:
    names = ("tf-tas-tiny", "autoformer-tiny", "test_vit.r160_in1k")
    done = tftas(
        folder, "score", *names, "--indicators", "naswot, ffn_capacity", *FEW, "-f", "csv",
        "--img-size", "64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0])[:3] == ["name", "naswot", "ffn_capacity"] and "dss" not in rows[0]
    assert all(float(row["naswot"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "tf-tas-tiny", "--indicators", "nope"), "indicator 'nope' does not exist;"),
        (("score", "vit_tiny_patch16_224", "--indicators", "az_nas"), "score its parts: expres"),
        ((*SEARCH, "--fuse", "mine"), "'mine' is no fusion; write it like mine=snip,naswot,macs"),
        ((*SEARCH, "--fuse", "mine=snip,nope"), "is made of 'nope', which does not exist;"),
        ((*SEARCH, "--fuse", "dss=snip,macs"), "metric 'dss' exists already"),
        ((*SEARCH, "--data-dir", "."), "data_dir does not apply: this study computes dss"),
        ((*SEARCH, "--objectives", "snip,n_params", "--data-dir", "no"), "'no' is no folder"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tftas: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = tftas(folder, *arguments)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not list(folder.glob("*.db"))


def test_a_fusion_is_searched_continued_and_shown(tftas: Run, folder: Path) -> None:
    command = (*SEARCH, "--fuse", "mine=ffn_capacity,macs", "--objectives", "mine,n_params")
    for n_trials in (8, 16):
        done = tftas(folder, *command, "--n-trials", "8")
        assert done.returncode == 0, done.stderr
        assert f"of {n_trials} trials" in done.stdout and "mine" in done.stdout
    shown = tftas(folder, "front", "-f", "csv")
    assert all(float(row["mine"]) < 0 for row in csv.DictReader(io.StringIO(shown.stdout)))


@pytest.mark.slow
def test_a_calibration_becomes_an_objective(
    tftas: Run, folder: Path, small_space: AutoFormerSpace
) -> None:
    write_csv(folder / "t.csv", table_rows(draw(small_space, 20)))
    learned = tftas(
        folder, "correlate", "t.csv", *SMALL, *FEW, "--indicators", "naswot", "--calibrate",
        "mine", "--device", "cpu",
    )  # fmt: skip
    assert learned.returncode == 0, learned.stderr
    assert "mine (left out)" in learned.stdout and "best column (left" in learned.stdout
    assert "mine is calibrated on 20 networks" in learned.stderr
    # The command that is printed works where it is copied: file of the space, sizes, images.
    words = shlex.split(learned.stderr.splitlines()[-1])
    assert words[:6] == ["tftas-optuna", "run", "--space", "small.yaml", "--objectives", words[5]]
    done = tftas(folder, *words[1:], "--n-trials", "8", "--device", "cpu", "-q")
    assert done.returncode == 0, done.stderr
    command = (*SEARCH, "--objectives", "mine,n_params", "--n-trials", "8")
    done = tftas(folder, *command, *FEW)
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout and "on the front lie outside of what mine" in done.stderr
    other = tftas(folder, *command, *FEW, "--study-name", "x", "--supernet-seed", "5")
    assert other.returncode == 2 and "calibrated with supernet seed 0, not 5" in other.stderr
