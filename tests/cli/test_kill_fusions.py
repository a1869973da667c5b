"""A run by a fusion that was killed goes on to the trials it would have come to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest_cli import SEARCH
from processes import PATIENCE, seen
from programs import Begin

from tftas_optuna.storage import load_study

# The command line, with as small a sample to rank among as takes a second all the same.
PROGRAM = """
from tftas_optuna.indicators import fusion
fusion.N_REFERENCE = 48
from tftas_optuna.cli import main
main()
"""
FUSIONS: dict[str, tuple[str, ...]] = {
    "az_nas": (),
    "mine": ("--fuse", "mine=snip,naswot,macs"),
}


def study_of(folder: Path) -> optuna.Study | None:
    """The study of a directory, once it has one."""
    database = folder / "tftas.db"
    try:
        return load_study(f"sqlite:///{database}") if database.exists() else None
    except (ValueError, KeyError):
        return None


def n_stored(folder: Path) -> int:
    study = study_of(folder)
    return 0 if study is None else len(study.get_trials(deepcopy=False))


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
@pytest.mark.parametrize("name", FUSIONS)
def test_killed_while_it_ranks_and_while_it_searches(
    name: str, begin: Begin, folder: Path
) -> None:
    """First while the reference sample is scored, then twice with generations stored."""
    command = (
        *SEARCH, *FUSIONS[name], "--objectives", f"{name},n_params", "--n-images", "2",
        "--population-size", "4", "--seed", "5",
    )  # fmt: skip
    script = folder / "program.py"
    script.write_text(PROGRAM)
    cut = folder / "cut"
    cut.mkdir()
    (cut / "small.yaml").write_text((folder / "small.yaml").read_text())
    stored: list[Any] = []
    for least in (0, 8, 16):
        program = begin(script, cut, *command, "--n-trials", "10000")
        began = time.monotonic()
        while n_stored(cut) < least or (not least and time.monotonic() - began < 1.5):
            assert program.process.is_alive(), program.stderr.read_text()
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.1)
        program.process.kill()
        program.process.join()
        study = study_of(cut)
        after = [] if study is None else seen(study)
        assert len(after) >= least and after[: len(stored)] == stored
        stored = after
    done = begin(script, cut, *command, "--n-trials", "10").end()
    assert done.returncode == 0, done.stderr
    again = study_of(cut)
    assert again is not None and len(again.trials) == len(stored) + 10

    whole = begin(script, folder, *command, "--n-trials", str(len(again.trials)))
    done = whole.end(PATIENCE)
    assert done.returncode == 0, done.stderr
    expected = study_of(folder)
    assert expected is not None
    assert seen(again) == seen(expected)
    assert again.user_attrs["reference"] == expected.user_attrs["reference"]
