from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import databases
import optuna
import pytest
from processes import SIZES

from tftas_optuna import search
from tftas_optuna.spaces import AutoFormerSpace

Search = Callable[..., optuna.Study]


@pytest.fixture
def run(small_space: AutoFormerSpace) -> Search:
    """Search the small space, by default for 20 trials in memory."""

    def run(**kwargs: object) -> optuna.Study:
        return search(small_space, **{"n_trials": 20, **SIZES, **kwargs})

    return run


@pytest.fixture(params=["postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from databases.fresh_database(request.param)


@pytest.fixture
def postgresql() -> Iterator[str]:
    yield from databases.fresh_database("postgresql")


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh storage of each kind that searches are killed on."""
    if request.param == "postgresql":
        yield from databases.fresh_database("postgresql")
    elif request.param == "journal":
        yield f"journal:///{tmp_path}/study.journal"
    else:
        yield f"sqlite:///{tmp_path}/study.db"
