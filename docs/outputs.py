"""Runs commands of the pages and puts what they print below them; ``make figures`` runs it.

A console block after ``<!-- output -->`` is run and shows what it printed, one after
``<!-- run -->`` is run because later ones need it. The commands of a page run one after the other
in a folder of their own, where ``benchmarks`` and ``examples`` lie as in the repository.

python docs/outputs.py [PAGE ...]
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^<!-- (?P<mark>run|output) -->\n```console\n(?P<text>.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^\$ (?:.*\\\n)*.*\n", re.M)
# Progress is printed every few seconds: only the last line is the same each time.
PROGRESS = re.compile(r"^(?:.*: )?(?P<done>\d+)/(?P<all>\d+) (?P<what>[a-z ]+)")
ROW = re.compile(r"^│|: epoch \d")
MOST_ROWS = 5

Run = Callable[[list[str], Path], str]


def run(words: list[str], folder: Path) -> str:
    """Run a command of a page; return all that it prints.

    Raises:
        SystemExit: It failed.
    """
    program = {"python": [], "tftas-optuna": ["-m", "tftas_optuna"]}[words[0]]
    environment = {k: v for k, v in os.environ.items() if k not in ("OPTUNA_STORAGE", "COLUMNS")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, *program, *words[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(f"{shlex.join(words)} failed:\n{done.stdout}")
    return done.stdout


def refreshed(text: str, folder: Path, run: Run = run) -> str:
    """Return a page whose marked blocks show what their commands print now.

    Args:
        text: The page.
        folder: An empty folder to run in.
        run: Runs the words of a command in that folder, and returns what it prints.
    """
    for name in ("benchmarks", "examples"):
        (folder / name).symlink_to(ROOT / name)

    def block(found: re.Match[str]) -> str:
        lines = ""
        for command in COMMAND.findall(found["text"]):
            words = shlex.split(command[2:].replace("\\\n", " "), comments=True)
            printed = run(words, folder)
            lines += command
            if found["mark"] == "output":
                lines += "".join(f"{line}\n" for line in abridged(printed.splitlines()))
        return f"<!-- {found['mark']} -->\n```console\n{lines}```"

    return BLOCK.sub(block, text)


def abridged(lines: list[str]) -> Iterator[str]:
    """Leave out the middle of long tables and trainings, and all progress but the last."""
    lines = [line.rstrip() for line in lines if not _is_passing(line)]
    for is_row, group in groupby(lines, key=lambda line: bool(ROW.search(line))):
        rows = list(group)
        if is_row and len(rows) > MOST_ROWS:
            rows = [*rows[:3], "  ...", rows[-1]]
        yield from rows


def _is_passing(line: str) -> bool:
    found = PROGRESS.match(line)
    return bool(found) and (found["done"] != found["all"] or "trials" not in found["what"])


def main() -> None:
    for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
        text = page.read_text(encoding="utf-8")
        if BLOCK.search(text):
            print(page.relative_to(ROOT), flush=True)
            with tempfile.TemporaryDirectory() as folder:
                page.write_text(refreshed(text, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
