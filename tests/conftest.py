from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import optuna
import programs
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from processes import CONTEXT

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.spaces import AutoFormerSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def small_space() -> AutoFormerSpace:
    """A space whose candidates score in milliseconds, at 32x32 pixels."""
    return AutoFormerSpace(
        name="small",
        embed_dim=(32, 48, 64),
        depth=(2, 3, 4),
        num_heads=(1, 2, 3),
        mlp_ratio=(2.0, 3.5, 4.0),
        supernet=AutoFormerArchitecture(
            64, (4,) * 4, (4.0,) * 4, head_dim=16, patch_size=8, max_relative_position=3
        ),
    )


@pytest.fixture(scope="session", autouse=True)
def versions_of_tables_are_read_once() -> Iterator[None]:
    """Optuna reads its scripts for all of them whenever a database is opened."""
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        where = config.get_main_option("script_location")
        if where not in known:
            known[where] = read(config)
        return known[where]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are complete outside a terminal; processes of pytest-xdist have a width."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def quick_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers come from the server that has the imports behind it, and do not start anew."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: CONTEXT)


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory) -> programs.Begin:
    """Begin a program in a directory."""

    def begin(what: str | Path, cwd: Path, *args: str, **env: str) -> programs.Program:
        return programs.begin(tmp_path_factory.mktemp("streams"), what, cwd, args, env)

    return begin
