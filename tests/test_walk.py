"""docs/architecture.md follows the code: the files and names that it shows are there."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tftas_optuna"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CODE = re.compile(r"(?<!`)`([^`\n]+)`")
STEP = re.compile(r"^\d+\. .*?(?=^\d+\. |^\n)", re.M | re.S)
STEPS = [CODE.findall(step) for step in STEP.findall(PAGE)]


def look_up(name: str, file: str) -> Any:
    """Return what a step means by a name: something of its file, or of the whole package."""
    if name.startswith("tftas_optuna."):
        return reduce(getattr, name.split(".")[1:], import_module("tftas_optuna"))
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return reduce(getattr, name.split("."), import_module(f"tftas_optuna.{module}"))


@pytest.mark.parametrize("names", STEPS, ids=[step[0] for step in STEPS])
def test_the_names_of_a_step_are_in_its_file(names: list[str]) -> None:
    file, *others = names
    assert (PACKAGE / file).is_file()
    for name in others:
        if "/" in name:
            assert (PACKAGE / name).exists(), name
        else:
            look_up(name, file)


def test_both_walks_are_read() -> None:
    firsts = {names[0] for names in STEPS}
    assert {"cli/run.py", "study/front.py", "indicators/measures/dss.py"} < firsts


def test_a_name_that_is_gone_is_noticed() -> None:
    with pytest.raises(AttributeError):
        look_up("Coordinator.gone", "search/coordinator.py")


def test_files_of_the_page_are_there() -> None:
    files = [name for name in CODE.findall(PAGE) if name.endswith(".py")]
    assert files and [name for name in files if not (PACKAGE / name).is_file()] == []


def test_the_page_has_the_rooms_of_contributing() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", contributing.split("## The rooms")[1], re.M)
    table = PAGE.split("## The rooms")[1]
    firsts = " ".join(re.findall(r"^\| (`.+?) \|", table, re.M))
    assert CODE.findall(firsts) and set(CODE.findall(firsts)) == set(rooms)
