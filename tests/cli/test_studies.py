"""``tftas-optuna studies``: the list, other names, and deletion."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from click.testing import CliRunner, Result
from conftest_cli import SEARCH
from sqlalchemy.pool import NullPool

from tftas_optuna.cli import main
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import claim_island, open_storage

OPTIONS = ("--n-trials", "4", "--objectives", "n_params,macs", "-q")
URL = "sqlite:///tftas.db"


def call(*args: str, **how: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def two(small_space: AutoFormerSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two studies: one of a search, one that is foreign; not to be changed."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
        assert call(*SEARCH, *OPTIONS, "--study-name", "ours").exit_code == 0
        foreign = optuna.create_study(storage=URL, study_name="theirs")
        foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return folder / "tftas.db"


@pytest.fixture
def place(two: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a copy of these two studies."""
    monkeypatch.chdir(folder)
    with (
        contextlib.closing(sqlite3.connect(two)) as source,
        contextlib.closing(sqlite3.connect("tftas.db")) as copy,
    ):
        source.backup(copy)
    return folder


def names(storage: str = URL) -> set[str]:
    return set(optuna.get_all_study_names(storage))


def test_the_list_says_what_and_how_much_and_tells_foreign_studies(place: Path) -> None:
    ours, theirs = json.loads(call("studies", "-f", "json").stdout)
    assert ours["study"] == "ours" and ours["space"] == "small"
    assert ours["objectives"] == ["n_params", "macs"]
    assert ours["directions"] == ["minimize", "minimize"]
    assert ours["trials"] == 4 and ours["seed"] == 0 and ours["problem"] is None
    front = json.loads(call("front", "--study-name", "ours", "-f", "json").stdout)
    assert ours["front"] == len(front)
    assert ours["sampler"] == "screened-nsgaii" and ours["begun"]
    assert theirs["study"] == "theirs" and theirs["space"] is None and theirs["trials"] == 3
    assert theirs["problem"] == "not made by tftas-optuna"

    told = call("studies").stdout
    assert "Studies in sqlite:///tftas.db" in told
    assert "screened-nsgaii, seed 0" in told and "not made by tftas-optuna" in told


def test_a_damaged_study_does_not_hide_the_others(place: Path) -> None:
    study = optuna.load_study(study_name="ours", storage=URL)
    study.set_user_attr("space_definition", {"family": "nothing"})
    ours, theirs = json.loads(call("studies", "-f", "json").stdout)
    assert "nothing" in ours["problem"] and ours["front"] is None
    assert theirs["trials"] == 3


def test_a_list_of_nothing_says_where_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("studies")
    assert done.exit_code == 1 and "tftas-optuna run" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_renamed_study_holds_what_it_held(place: Path) -> None:
    before = optuna.load_study(study_name="ours", storage=URL)
    done = call("studies", "rename", "ours", "mine [x]")
    assert done.exit_code == 0 and done.stdout == ""
    assert done.stderr == "Renamed study ours to mine [x].\n"
    after = optuna.load_study(study_name="mine [x]", storage=URL)
    assert names() == {"mine [x]", "theirs"}
    assert after.trials == before.trials and after.user_attrs == before.user_attrs
    assert after._study_id == before._study_id
    again = call(*SEARCH, *OPTIONS, "--study-name", "mine [x]")
    assert again.exit_code == 0 and len(after.trials) == 8


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("ours", "theirs", 1, "exists already"),
        ("ours", "ours", 1, "exists already"),
        ("nope", "new", 1, "unknown study 'nope'"),
        ("ours", "", 2, "printable"),
        ("ours", "a\nb", 2, "printable"),
        ("ours", "x" * 513, 2, "1 to 512"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    place: Path, old: str, new: str, code: int, said: str
) -> None:
    done = call("studies", "rename", old, new)
    assert done.exit_code == code and said in done.stderr
    assert names() == {"ours", "theirs"}


def test_a_journal_is_not_renamed_and_says_why(place: Path) -> None:
    journal = "journal:///s.journal"
    assert call(*SEARCH, *OPTIONS, "--storage", journal, "--study-name", "one").exit_code == 0
    done = call("studies", "rename", "one", "two", "--storage", journal)
    assert done.exit_code == 1 and "optuna.copy_study" in done.stderr
    (row,) = json.loads(call("studies", "--storage", journal, "-f", "json").stdout)
    assert row["study"] == "one"


def test_deleting_asks_first(place: Path) -> None:
    done = call("studies", "delete", "ours", input="n\n")
    assert done.exit_code == 130 and "Delete study ours with 4 trials?" in done.stderr
    assert call("studies", "delete", "ours", input="").exit_code == 130
    assert names() == {"ours", "theirs"}
    done = call("studies", "delete", "ours", input="y\n")
    assert done.exit_code == 0 and names() == {"theirs"}
    assert call("studies", "delete", "theirs", "--yes").exit_code == 0 and not names()


@pytest.mark.parametrize("where", ["before", "after"])
def test_the_storage_of_the_list_is_that_of_its_commands(
    place: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names():
        optuna.copy_study(from_study_name=name, from_storage=URL, to_storage="sqlite:///other.db")
    monkeypatch.setenv("OPTUNA_STORAGE", URL)
    option = ("--storage", "sqlite:///other.db")
    words = ("studies", *option, "delete") if where == "before" else ("studies", "delete", *option)
    assert call(*words, "ours", "--yes").exit_code == 0
    assert names() == {"ours", "theirs"} and names("sqlite:///other.db") == {"theirs"}


@pytest.mark.parametrize("island", [0, 1])
@pytest.mark.parametrize("storage", [URL, "journal:///s.journal"])
def test_a_study_that_a_search_works_on_is_left_alone(
    place: Path, storage: str, island: int
) -> None:
    if storage != URL:
        call(*SEARCH, *OPTIONS, "--storage", storage, "--study-name", "ours")
    opened = open_storage(storage, create=True)
    claims = [claim_island(opened, "ours") for _ in range(island + 1)]
    for claim in claims[:-1]:
        claim.release()
    for words in (("rename", "ours", "new"), ("delete", "ours", "--yes")):
        done = call("studies", *words, "--storage", storage)
        if words[0] == "rename" and storage != URL:
            continue
        assert done.exit_code == 1 and "a search works on study 'ours'" in done.stderr
    assert "ours" in optuna.get_all_study_names(opened)
    claims[-1].release()
    assert call("studies", "delete", "ours", "--yes", "--storage", storage).exit_code == 0


def test_a_database_that_cannot_be_written_is_told_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tftas_optuna.storage.opening.reading_arguments", read_only)
    for words in (("rename", "theirs", "new"), ("delete", "theirs", "--yes")):
        done = call("studies", *words)
        assert done.exit_code == 1 and "study 'theirs' cannot be changed" in done.stderr
        assert "readonly" in done.stderr and len(done.stderr.splitlines()) == 1
    assert names() == {"ours", "theirs"}


def read_only(path: Path) -> dict[str, Any]:
    """Open a file as where nothing can be written."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)

    return {"creator": connect, "poolclass": NullPool}
