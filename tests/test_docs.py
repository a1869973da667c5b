"""The pages and the README: commands parse, Python runs, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from tftas_optuna.cli import main
from tftas_optuna.metrics import cost_names, indicator_names
from tftas_optuna.retrain import load_recipe
from tftas_optuna.spaces import space_from_dict

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?P<mark>.+?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
LINKING = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.M)
# As many as show that a block works.
N_TRIALS = re.compile(r"(?<=n_trials=)\d+")


class Block(NamedTuple):
    page: Path
    kind: str
    text: str
    mark: str

    @property
    def where(self) -> str:
        return str(self.page.relative_to(ROOT))


def blocks(kind: str) -> list[Block]:
    return [
        Block(page, kind, found["text"], found["mark"] or "")
        for page in PAGES
        for found in FENCE.finditer(page.read_text(encoding="utf-8"))
        if found["kind"] == kind
    ]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for block in blocks("console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                for command in line[2:].split(" && "):
                    yield block.where, shlex.split(command, comments=True)


def own_arguments(words: list[str]) -> list[str] | None:
    """Return what follows our command in a command line; None for other programs."""
    if words[:1] == ["tftas-optuna"]:
        return words[1:]
    if "-m" in words and words[words.index("-m") + 1] == "tftas_optuna":
        return words[words.index("-m") + 2 :]
    return None


COMMANDS = list(command_lines())


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[" ".join(w) for _, w in COMMANDS])
def test_a_command_of_the_pages_is_one(where: str, words: list[str]) -> None:
    arguments = own_arguments(words)
    if arguments is not None:
        with click.Context(main) as group:
            name, command, rest = main.resolve_command(group, arguments)
            assert name is not None and command is not None
            context = command.make_context(name, rest, parent=group)
        named = context.params.get("objectives") or context.params.get("indicators") or ()
        fused = {fusion for fusion, _ in context.params.get("fusions", ())}
        assert set(named) <= {*indicator_names(), *cost_names(), *fused}, where
        space = context.params.get("space_name") or ""
        assert "/" not in space or (ROOT / space).is_file(), where
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.M), where
    elif words[0].startswith("python") and words[1] != "-m":
        assert (ROOT / words[1]).exists(), where


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[" ".join(w) for _, w in COMMANDS])
def test_a_command_of_the_pages_works_beside_other_studies(where: str, words: list[str]) -> None:
    arguments = own_arguments(words) or [""]
    of_a_front = {"--best", "--knee", "--trial"} & set(arguments)
    if arguments[0] == "front" or of_a_front:
        assert "--study-name" in arguments, where


RUNNING = [block for block in blocks("python") if not block.mark.startswith("not run: ")]


@pytest.mark.slow
@pytest.mark.parametrize("where", dict.fromkeys(block.where for block in RUNNING))
def test_the_python_of_a_page_runs(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What a page registers is not there for other tests.
    monkeypatch.setattr("tftas_optuna.metrics.registry.METRICS.registered", {})
    for block in RUNNING:
        if block.where == where:
            exec(compile(N_TRIALS.sub("4", block.text), where, "exec"), {})


def test_spaces_and_recipes_of_the_pages_are_some(tmp_path: Path) -> None:
    n_spaces = n_recipes = 0
    for block in blocks("yaml"):
        data = yaml.safe_load(block.text)
        if "family" in data:
            space_from_dict(data)
            n_spaces += 1
        if "base" in data:
            path = tmp_path / "recipe.yaml"
            path.write_text(block.text)
            load_recipe(path)
            n_recipes += 1
    assert n_spaces and n_recipes


def anchors(page: Path) -> set[str]:
    """Return what links into a page may name: its headings, as GitHub and the site write them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    words = (re.sub(r"[^\w\- ]", "", found["text"].lower()) for found in HEADING.finditer(text))
    return {each.strip().replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", LINKING, ids=[str(page.relative_to(ROOT)) for page in LINKING])
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        name, _, anchor = found["target"].partition("#")
        if "://" not in name:
            target = page.parent / name if name else page
            assert target.exists(), f"{page.relative_to(ROOT)}: {found['target']}"
            assert not anchor or anchor in anchors(target), found["target"]


@pytest.mark.parametrize(
    ("page", "folder"),
    [
        ("explanation/which_indicator.md", "indicators/measures"),
        ("how-to/objective.md", "costs"),
    ],
)
def test_every_built_in_metric_has_its_line(page: str, folder: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for file in (ROOT / "tftas_optuna" / folder).glob("[!_]*.py"):
        assert re.search(rf"^\| `{file.stem}` \|", text, re.M), file.stem
