"""A storage that is spelled wrong is answered with the right spelling, and no file is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import open_storage

ROOT = ", or {} for a file in the root of the disk"


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("sqlite:x.db", "write sqlite:///x.db"),
        ("sqlite:/x.db", "write sqlite:///x.db" + ROOT.format("sqlite:////x.db")),
        ("sqlite://x.db", "write sqlite:///x.db"),
        ("SQLite:///x.db", "write sqlite:///x.db"),
        ("sqlite3:///x.db", "write sqlite:///x.db"),
        ("journal:x.log", "write journal:///x.log"),
        ("journal:/x.log", "write journal:///x.log" + ROOT.format("journal:////x.log")),
        ("journal://x.log", "write journal:///x.log"),
        ("file:///tmp/x.db", "give the path alone, /tmp/x.db"),
        ("file:x.db", "give the path alone, x.db"),
        ("postgres://u:secret@h/nas", "write postgresql://u:***@h/nas"),
        ("postgres://u:sec:ret@secret/secret@h/nas", "write postgresql://u:***@h/nas"),
        ("postgres://h/x?user=u&password=secret", "write postgresql://h/x?user=u&password=***"),
        ("postgresql:u:secret@h/nas", "write postgresql://u:***@h/nas"),
        ("postgresql:///u:secret@h/nas", "write postgresql://u:***@h/nas"),
        ("mysql:/u:secret@h/nas", "write mysql://u:***@h/nas"),
        ("grpc:localhost:13000", "write grpc://localhost:13000"),
        ("localhost:13000", "write grpc://localhost:13000"),
        ("C:\\nas\\x.db", "is a path of Windows; give a path of this machine"),
        ("postgresql+nope://u:secret@h/nas", "and write postgresql:// for its driver"),
        ("redis://h/0", "known: sqlite:///FILE, journal:///FILE, "),
    ],
)
def test_the_right_spelling_is_told(
    storage: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnavailableError, match=re.escape(told)) as caught:
        open_storage(storage, create=True)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_with_a_colon_in_its_name_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_storage("sqlite:///journal:x.db", create=True)
    assert open_storage("journal:x.db", create=False)
