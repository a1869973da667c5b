"""A family that an installed package brings, from the search to the trained network."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import tower
import yaml
from conftest_cli import Run
from images import draw_images

SPACE = {"name": "towers", "family": "tower", "width": [8, 16], "depth": [1, 2, 3]}
SEARCH = ("run", "--space", "towers.yaml", "--population-size", "6", "--device", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_family_is_searched_scored_exported_and_retrained(
    tftas: Run, tmp_path: Path
) -> None:
    site, folder = tmp_path / "site", tmp_path / "work"
    info = site / "tower_family-1.0.dist-info"
    info.mkdir(parents=True)
    folder.mkdir()
    shutil.copy(tower.__file__, site / "tower_family.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tower-family\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tftas_optuna.families]\ntower = tower_family:family\n"
    )
    (folder / "towers.yaml").write_text(yaml.safe_dump(SPACE))
    draw_images(folder / "images", train=6, val=3)

    def run(*args: str, rc: int = 0, path: str = str(site)) -> subprocess.CompletedProcess[str]:
        done = tftas(folder, *args, PYTHONPATH=path)
        assert done.returncode == rc, done.stderr
        errors = [line for line in done.stderr.splitlines() if not line.startswith("towers, seed")]
        assert rc == 0 or len(errors) == 1, done.stderr
        return done

    run(*SEARCH, "--n-trials", "9", "--workers", "2")
    rows = json.loads(run("front", "-f", "json").stdout)
    assert rows and all(row["dss"] > 0 for row in rows)
    run("export", "--out", "found")
    files = sorted((folder / "found").iterdir())
    assert len(files) == 2 * len(rows)  # yaml and json, no training configuration
    document = yaml.safe_load(files[1].read_text())
    assert document["architecture"]["family"] == "tower"
    assert document["model"]["name"] == "tftas_tower"
    scored = json.loads(run("score", str(files[1]), "--device", "cpu", "-f", "json").stdout)
    assert scored[0]["dss"] == pytest.approx(document["scores"]["dss"], rel=1e-6)
    run(
        *("retrain", str(files[1]), "--data-dir", "images", "--recipe", "quick"),
        *("--set", "warmup_epochs=0", "--epochs", "1", "--batch-size", "6"),
        *("--weights", "supernet", "--out", "trained", "--device", "cpu"),
    )
    result = json.loads(next((folder / "trained").rglob("result.json")).read_text())
    assert result["n_train"] == 18 and 0 <= result["top1"] <= 100
    run("spaces", "towers.yaml")

    # What the family does not have is told.
    said = run("export", "-f", "retrain", "--out", "other", rc=2).stderr
    assert "format 'retrain' does not exist for family tower; export yaml or json" in said
    name = ("--study-name", "other", "--n-trials", "2")
    for given, reason in (
        (("--objectives", "dss,reference_macs"), "reference_macs; use macs, the true count"),
        (("--bound", "reference_macs<=1M"), "reference_macs; use macs, the true count"),
        (("--fidelity", "collapsed"), "fidelity 'collapsed'; it has: exact"),
    ):
        said = run(*SEARCH, *name, *given, rc=2).stderr
        assert said == f"Error: family 'tower' has no {reason}\n"
    name = ("--study-name", "fast", "--n-trials", "2")
    run(*SEARCH, *name, "--objectives", "dss,latency,activations")
    # Where the package is missing, its study cannot be read, and that is said.
    said = run("front", "--study-name", "towers", rc=1, path="").stderr
    assert "unknown family 'tower'; known: autoformer, pit" in said
