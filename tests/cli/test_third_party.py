"""Costs and indicators that an installed package brings, taken by name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from conftest_cli import SEARCH, Run

MODULE = """
from tftas_optuna.metrics import Cost, Target


def n_heads(arch, *, img_size, num_classes, in_chans):
    return sum(arch.num_heads)


class Meter:
    record = {}

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, arch):
        return arch.depth * self.target.img_size


pixels = Cost("pixels", lambda space, target, record: Meter(target), unit="px")


def mean_weight(model, images):
    weights = [p.abs().mean() for p in model.parameters()]
    return float(sum(weights) / len(weights))
"""

ENTRY_POINTS = """
[tftas_optuna.costs]
n_heads = third_party:n_heads
pixels = third_party:pixels
missing = third_party:missing

[tftas_optuna.indicators]
mean_weight = third_party:mean_weight
"""


def test_a_third_party_package_is_taken_by_name(tftas: Run, folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "third_party.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)

    def run(*args: str, path: str = str(site)) -> subprocess.CompletedProcess[str]:
        return tftas(folder, *args, PYTHONPATH=path)

    objectives = ("--objectives", "mean_weight,n_heads,pixels", "--bound", "n_heads<=7")
    done = run(*SEARCH, *objectives, "--n-trials", "8")
    assert done.returncode == 0, done.stderr
    assert "n heads" in done.stdout and "pixels (px)" in done.stdout
    rows = json.loads(run("front", "-f", "json").stdout)
    assert rows and all(row["n_heads"] <= 7 and row["mean_weight"] > 0 for row in rows)
    for row in rows:
        assert row["n_heads"] == sum(row["architecture"]["num_heads"])
        assert row["pixels"] == 32 * row["architecture"]["depth"]
    # The study is read where the package is missing; it is not gone on with.
    assert json.loads(run("front", "-f", "json", path="").stdout) == rows
    without = run(*SEARCH, *objectives, "--n-trials", "1", path="")
    assert without.returncode == 2 and "objective 'mean_weight' does not" in without.stderr
    broken = run(*SEARCH, "--objectives", "dss,missing", "--study-name", "other")
    assert broken.returncode == 1 and broken.stderr.count("\n") == 1
    assert "'missing' cannot be loaded from third_party:missing" in broken.stderr
