from __future__ import annotations

import multiprocessing
from pathlib import Path

import optuna
import programs
import pytest
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
