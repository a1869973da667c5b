"""The package for OptunaHub: what `make optunahub` writes, loaded as OptunaHub loads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import optunahub
import pytest
import yaml
from problems import run, trade

from tftas_optuna import ScreenedNSGAIISampler

ROOT = Path(__file__).parents[2]
NAME = "samplers/screened_nsgaii"

# Neither torch nor this package can be imported. `load_module` would ask the network.
ALONE = """
import functools, re, runpy, sys
sys.modules.update(dict.fromkeys(("torch", "timm", "scipy", "tftas_optuna")))
import optuna, optunahub, pytest
optuna.logging.set_verbosity(optuna.logging.WARNING)
optunahub.load_module = functools.partial(
    optunahub.load_local_module, registry_root="package"
)
folder = "package/samplers/screened_nsgaii"
runpy.run_path(f"{folder}/example.py", run_name="__main__")
text = open(f"{folder}/README.md", encoding="utf-8").read()
exec(re.search(r"```python\\n(.*?)```", text, re.S)[1])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", f"{folder}/tests"]))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    script = ROOT / ".ci" / "optunahub.py"
    subprocess.run([sys.executable, script, root], check=True, capture_output=True)
    return root


def test_it_works_alone(registry: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=registry,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d\d passed", done.stdout, re.M), done.stdout


def test_the_same_seed_gives_the_same_study_there_and_here(registry: Path) -> None:
    package = optunahub.load_local_module(NAME, registry_root=str(registry / "package"))
    there, here = (
        run(trade, kind(population_size=10, n_offspring=20, seed=3), 35)
        for kind in (package.ScreenedNSGAIISampler, ScreenedNSGAIISampler)
    )
    assert [(t.params, t.system_attrs) for t in there.trials] == [
        (t.params, t.system_attrs) for t in here.trials
    ]


def test_the_registry_finds_what_it_asks_for(registry: Path) -> None:
    package = registry / "package" / NAME
    _, front, text = (package / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    matter = yaml.safe_load(front)
    lists = [matter.pop("tags"), matter.pop("optuna_versions")]
    assert {*matter} == {"author", "title", "description", "license"}
    assert all(isinstance(each, str) for each in [*matter.values(), *lists[0], *lists[1]])
    assert matter["license"] == "MIT License" and "sampler" in lists[0]
    assert re.findall("^## (.+)", text, re.M) == [
        "Abstract",
        "APIs",
        "Installation",
        "Example",
        "Others",
    ]
    assert (package / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    required = (package / "requirements.txt").read_text(encoding="utf-8").split()
    assert [each.partition(">=")[0] for each in required] == ["numpy", "optuna", "threadpoolctl"]


def rows() -> Iterator[list[str]]:
    text = (ROOT / ".ci" / "optunahub" / "README.md").read_text(encoding="utf-8")
    for line in re.findall(r"^\| (.+\.\d+) \|$", text, re.M):
        yield line.split(" | ")


def test_its_table_is_measured() -> None:
    path = ROOT / "benchmarks" / "results" / "sampler_functions.json"
    problems = json.loads(path.read_text(encoding="utf-8"))["problems"]
    assert len(list(rows())) == 16
    for problem, *shown in rows():
        samplers = (problems[problem][name] for name in ("screened", "nsgaii 50", "nsgaii 20"))
        assert shown == [f"{mean(each['hypervolume']['300']):.3f}" for each in samplers]
