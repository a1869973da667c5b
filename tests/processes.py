"""Searches in processes of their own, to be killed; they start in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from tftas_optuna import Deployment, Execution, TftasError, search, spaces
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.storage import load_study

CONTEXT = multiprocessing.get_context("forkserver")
# What searches, commands and trainings import. Modules of the tests cannot be among it: not every
# Python tells the server where they are. Nor can `tftas_optuna.models`, which asks what is
# installed: tests install more.
CONTEXT.set_forkserver_preload(
    [
        "alembic.config",
        "alembic.migration",
        "optuna.storages._rdb.models",
        "psycopg",
        "pymysql",
        "sqlalchemy.dialects.mysql",
        "sqlalchemy.dialects.postgresql",
        "sqlalchemy.dialects.sqlite",
        "tftas_optuna.cli._progress",
        "tftas_optuna.cli._tables",
        "tftas_optuna.export.files",
        "tftas_optuna.indicators.measures.dss",
        "tftas_optuna.search.api",
        "timm.data",
        "timm.optim",
        "timm.scheduler",
    ]
)

# Beneath a private folder, as `mktemp -d` makes, another user cannot read the packages.
_HIDDEN = not os.environ.get("CI") and not all(
    folder.stat().st_mode & 0o001 for folder in Path(sys.prefix).resolve().parents
)
becomes_another_user = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or _HIDDEN,
    reason="only root becomes another user, where that one can read the packages",
)

Storage = str | BaseStorage

N_KILLS = int(os.environ.get("TFTAS_TEST_KILLS", "4"))
# Kinds of storages; a journal is the same file, however it is spelled.
KINDS = ("sqlite", "journal", "postgresql")

# Seconds to wait for a search that ends by itself, however slow the machine is.
PATIENCE = 240

SIZES: dict[str, Any] = dict(img_size=32, num_classes=10, population_size=8)


def grouped(arguments: dict[str, Any]) -> dict[str, Any]:
    """Put arguments of ``Execution`` and ``Deployment`` into their groups, on a CPU by default."""
    kept = dict(arguments)
    execution = {n: kept.pop(n) for n in ("device", "workers", "cluster") if n in kept}
    deployment = {n: kept.pop(n) for n in ("batch_size", "threads") if n in kept}
    return {
        **kept,
        "execution": Execution(**{"device": "cpu", **execution}),
        "deployment": Deployment(**deployment),
    }


def seen(study: optuna.Study) -> list[tuple[object, ...]]:
    """Everything of a study that must not depend on how it was run."""
    return [
        (t.number, t.params, t.values, t.user_attrs, t.system_attrs, t.state) for t in study.trials
    ]


def stored(storage: Storage) -> list[tuple[object, ...]]:
    """What a storage shows of its study so far."""
    try:
        return seen(load_study(storage))
    except (TftasError, KeyError):
        return []


def at(n_done: int, act: Callable[[], object]) -> Callable[[SearchProgress], None]:
    """A callback that acts once, after so many trials."""
    pending = [act]

    def callback(progress: SearchProgress) -> None:
        if progress.n_done >= n_done and pending:
            pending.pop()()

    return callback


def start(space: dict[str, Any], n_trials: int, storage: Storage, **kwargs: Any) -> BaseProcess:
    """Start a search of the small space."""
    process = CONTEXT.Process(target=_search, args=(space, n_trials, storage, kwargs))
    process.start()
    return process


def _search(
    space: dict[str, Any], n_trials: int, storage: Storage, kwargs: dict[str, Any]
) -> None:
    import torch

    from tftas_optuna.storage import journal

    torch.set_num_threads(1)
    # A killed search leaves its journal's lock; nobody here is slow enough to wait ten seconds.
    journal._LOCK_SECONDS = 1
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search(
        spaces.space_from_dict(space),
        n_trials=n_trials,
        storage=storage,
        **grouped({**SIZES, **kwargs}),
    )
