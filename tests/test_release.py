"""What is released: extras hold what messages say of them, and names agree between files."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

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


def test_a_citation_is_of_this_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert "2203.12217" in citation["references"][0]["url"]
