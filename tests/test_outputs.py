"""What the pages show as printed is what the commands print, but for figures."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import Begin

ROOT = Path(__file__).parents[1]
OUTPUTS = runpy.run_path(str(ROOT / "docs" / "outputs.py"), run_name="outputs")
SHOWING = [
    page for page in OUTPUTS["PAGES"] if OUTPUTS["BLOCK"].search(page.read_text(encoding="utf-8"))
]


# The command line, all that it prints in one stream, in order.
PROGRAM = """
import os, sys
os.dup2(1, 2)
sys.stdout.reconfigure(line_buffering=True)
from tftas_optuna.cli import main
main()
"""


def quickly(begin: Begin, script: Path) -> Callable[[list[str], Path], str]:
    """Run the commands of a page in processes that have the imports behind them.

    A search is short. A training sees a few images, for as few epochs as still are left out of
    the middle, and is named as it is here: which trials are the best depends on how a processor
    rounds.
    """
    script.write_text(PROGRAM)

    def run(words: list[str], folder: Path) -> str:
        trained = sorted(folder.glob("tuned/*-trial*"))
        if "--n-trials" in words:
            words = [*words, "--n-trials", "60"]
        if "retrain" in words:
            words = [*words, "--set", "epochs=6"]
            for path in (folder / words[words.index("--data-dir") + 1]).glob("*/*"):
                for image in sorted(path.iterdir())[8:]:
                    image.unlink()
        elif trained:
            words = [re.sub(r"digits-trial\d+", trained[0].name, word) for word in words]
        program, *arguments = words
        path = folder / arguments.pop(0) if program == "python" else script
        done = begin(path, folder, *arguments).end()
        assert done.returncode == 0, (words, done)
        # What few images and epochs teach is often nothing.
        lines = done.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if "no better than chance" not in line)

    return run


def unvarying(block: str) -> list[str]:
    """Leave figures out of a block, and what follows from how wide they are."""
    block = re.sub(r"\d[\d.,]*( ms| s| min| h|[KkMG](?!\w))?", "0", block)
    return [re.sub(r"[━─ ]+", " ", line) for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
def test_pages_show_what_is_printed(page: Path, begin: Begin, tmp_path: Path) -> None:
    shown = page.read_text(encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    printed = OUTPUTS["refreshed"](shown, folder, quickly(begin, tmp_path / "program.py"))
    blocks = (OUTPUTS["BLOCK"].finditer(text) for text in (shown, printed))
    for then, now in zip(*blocks, strict=True):
        assert unvarying(then[0]) == unvarying(now[0])


def test_long_tables_and_progress_are_abridged() -> None:
    lines = ["0/9 trials", "a: 4/9 trials", "9/9 trials, screen 1", "20/20 exact scores"]
    table = ["┏━┓", *(f"│{i}│" for i in range(9)), "└─┘", *(f"n: epoch {i}/6" for i in range(6))]
    assert list(OUTPUTS["abridged"](lines + table)) == [
        "9/9 trials, screen 1",
        *("┏━┓", "│0│", "│1│", "│2│", "  ...", "│8│", "└─┘"),
        *("n: epoch 0/6", "n: epoch 1/6", "n: epoch 2/6", "  ...", "n: epoch 5/6"),
    ]
