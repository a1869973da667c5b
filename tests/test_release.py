"""What is released: extras hold what messages say of them, and names agree between files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tftas_optuna.storage.naming import parse_url
from tftas_optuna.storage.opening import _EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# In messages, and as pages install from a clone.
NAMED = re.compile(r"(?:tftas-optuna|'\.)\[([a-z,]+)\]")
DISTRIBUTIONS = {"grpc": "grpcio", "torch": "tensorboard"}


def brought(extra: str) -> set[str]:
    """Return the distributions of an extra, those of the extras in it among them."""
    names = set()
    for requirement in EXTRAS[extra]:
        name, _, inner = re.fullmatch(r"([\w.-]+)(\[([\w,-]+)\])?.*", requirement).groups()
        if name == PROJECT["name"]:
            names |= set().union(*map(brought, inner.split(",")))
        names.add(name)
    return names


def texts() -> Iterator[tuple[str, str]]:
    folders = ("tftas_optuna", "docs", "benchmarks", "examples")
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*")):
        if path.suffix in (".py", ".md") and "_build" not in path.parts:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def test_extras_that_are_named_exist() -> None:
    named = {
        (where, extra)
        for where, text in texts()
        for found in NAMED.findall(text)
        for extra in found.split(",")
    }
    assert {extra for _, extra in named} >= {"png", "onnx", "cluster", "grpc"}
    assert not [each for each in named if each[1] not in EXTRAS]


def optional_imports() -> Iterator[tuple[str, str, str]]:
    """Yield where something is imported that may be missing, what, and the extra it names."""
    for path in (ROOT / "tftas_optuna").rglob("*.py"):
        for attempt in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(attempt, ast.Try):
                continue
            for extra in NAMED.findall(" ".join(map(ast.unparse, attempt.handlers))):
                for line in map(ast.unparse, attempt.body):
                    if module := re.match(r"(?:import|from) (\w+)", line):
                        yield str(path.relative_to(ROOT)), module[1], extra


def test_what_is_missing_is_in_the_extra_that_the_message_names() -> None:
    found = list(optional_imports())
    assert {"kaleido", "onnx", "distributed", "grpc"} <= {m for _, m, _ in found}
    for where, module, extra in found:
        assert DISTRIBUTIONS.get(module, module) in brought(extra), where


@pytest.mark.parametrize(
    ("url", "extra"), [("postgresql://h/db", "postgres"), ("mysql://h/db", "mysql")]
)
def test_drivers_are_in_the_extra_of_their_database(url: str, extra: str) -> None:
    parsed = parse_url(url)
    assert _EXTRAS[parsed.get_backend_name()] == extra
    driver = parsed.drivername.partition("+")[2]
    assert any(re.match(rf"{driver}\b", requirement) for requirement in EXTRAS[extra])


def test_the_changelog_has_a_dated_section_of_this_release() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(PROJECT['version'])}\] - \d{{4}}-\d\d-\d\d$"
    assert re.search(heading, text, re.M)


@pytest.mark.parametrize(
    ("workflow", "first", "variable"),
    [("release", "publish", "PUBLISH_TO_PYPI"), ("docs", "build", "PUBLISH_DOCS")],
)
def test_nothing_is_published_before_an_owner_turns_it_on(
    workflow: str, first: str, variable: str
) -> None:
    jobs = workflow_of(workflow)["jobs"]
    assert jobs[first]["if"].endswith(f"vars.{variable} == 'true'")
    # Only they may write, and none runs unless the first of them does.
    writing = [name for name, job in jobs.items() if "permissions" in job]
    assert writing and all(name == first or jobs[name]["needs"] == first for name in writing)


@pytest.mark.parametrize(("tag", "code"), [(f"v{PROJECT['version']}", 0), ("v0.0.1", 1)])
def test_a_tag_that_is_not_the_version_is_refused(tag: str, code: int) -> None:
    (step,) = (
        step
        for step in workflow_of("release")["jobs"]["build"]["steps"]
        if step.get("if") == "github.ref_type == 'tag'"
    )
    env = {**os.environ, "GITHUB_REF_NAME": tag}
    done = subprocess.run(["bash", "-ec", step["run"]], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == code


def workflow_of(name: str) -> dict[str, Any]:
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_citation_is_of_this_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert "2203.12217" in citation["references"][0]["url"]
