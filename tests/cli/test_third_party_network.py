"""An indicator that sees images, brought by an installed package."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest_cli import SEARCH, Run

import tftas_optuna

MODULE = """
import dataclasses
from typing import ClassVar

from tftas_optuna.indicators import Needs, NetworkIndicator, Tally


class Mean(Tally):
    total = 0.0

    def activation(self, before):
        self.total += float(before.abs().mean())

    def value(self):
        return self.total


@dataclasses.dataclass(frozen=True)
class Loudness(NetworkIndicator):
    name: str = "loudness"
    needs: ClassVar[Needs] = Needs.of("activations")

    def tally(self, network):
        return Mean()


loudness = Loudness()
"""


@pytest.mark.slow
def test_workers_score_it_as_one_process_does(tftas: Run, folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "third_party.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tftas_optuna.indicators]\nloudness = third_party:loudness\n"
    )

    # Workers are processes that find the packages anew.
    here = Path(tftas_optuna.__file__).parents[1]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = tftas(folder, *args, PYTHONPATH=os.pathsep.join(map(str, (site, here))))
        assert done.returncode == 0, done.stderr
        return done

    fronts = []
    for workers in ("1", "2"):
        name = ("--study-name", f"workers-{workers}")
        objectives = ("--objectives", "loudness,snip,n_params")
        run(*SEARCH, *name, *objectives, "--n-trials", "12", "--workers", workers)
        fronts.append(json.loads(run("front", *name, "-f", "json").stdout))
    assert fronts[0] == fronts[1] and fronts[0]
    assert all(row["loudness"] > 0 for row in fronts[0])
