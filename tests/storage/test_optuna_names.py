"""A name of Optuna that is gone is told with Optuna's version."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalStorageReplayResult

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import _optuna

JOURNAL = object.__new__(JournalStorage)
BACKED = object.__new__(JournalStorage)
BACKED._backend = object.__new__(JournalFileBackend)

GONE: dict[str, Callable[[], object]] = {
    "JournalStorage._backend": lambda: _optuna.journal_path(JOURNAL),
    "JournalFileBackend._file_path": lambda: _optuna.journal_path(BACKED),
    "JournalFileBackend._lock": lambda: _optuna.journal_lock(BACKED),
    "JournalStorage._replay_result": lambda: _optuna.SharingJournal._sync_with_backend(
        object.__new__(_optuna.SharingJournal)
    ),
    "RDBStorage.engine": lambda: _optuna.engine_of(object.__new__(RDBStorage)),
    "GrpcStorageProxy._host": lambda: _optuna.proxy_address(object.__new__(GrpcStorageProxy)),
    "_CachedStorage._backend": lambda: _optuna.unwrapped(
        object.__new__(optuna.storages._CachedStorage)
    ),
}


def expected(name: str) -> str:
    return rf"Optuna {optuna.__version__} no longer has {name}; tftas-optuna was tried with 5\.0: "


@pytest.mark.parametrize("name", GONE)
def test_an_attribute_that_is_gone(name: str) -> None:
    with pytest.raises(UnavailableError, match=expected(name)) as caught:
        GONE[name]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("owner", "attribute", "name", "use"),
    [
        (models, "TrialParamModel", "models.TrialParamModel", _optuna.trial_tables),
        (models, "VersionInfoModel", "models.VersionInfoModel", _optuna.version_table),
        (
            models.TrialValueModel,
            "value_to_stored_repr",
            "TrialValueModel.value_to_stored_repr",
            lambda: _optuna.stored_value(1.0),
        ),
        (
            models.TrialValueModel,
            "stored_repr_to_value",
            "TrialValueModel.stored_repr_to_value",
            _optuna.value_reader,
        ),
        (
            models.TrialIntermediateValueModel,
            "stored_repr_to_intermediate_value",
            "TrialIntermediateValueModel.stored_repr_to_intermediate_value",
            _optuna.intermediate_value_reader,
        ),
        (
            JournalStorageReplayResult,
            "_apply_create_trial",
            "JournalStorageReplayResult._apply_create_trial",
            lambda: _optuna._SharingCreation(JournalStorageReplayResult("worker")),
        ),
        (
            optuna.storages,
            "_CachedStorage",
            "optuna.storages._CachedStorage",
            lambda: _optuna.unwrapped(optuna.storages.InMemoryStorage()),
        ),
    ],
)
def test_a_model_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    attribute: str,
    name: str,
    use: Callable[[], object],
) -> None:
    use()
    monkeypatch.delattr(owner, attribute)
    with pytest.raises(UnavailableError, match=expected(name)):
        use()


@pytest.mark.parametrize(
    ("ours", "method"),
    [
        (_optuna.ReadingStorage, "_get_trials"),
        (_optuna.SharingJournal, "_sync_with_backend"),
    ],
)
def test_a_method_that_stands_in_for_optunas_takes_the_same(ours: type, method: str) -> None:
    theirs = inspect.signature(getattr(ours.__base__, method)).parameters
    assert list(inspect.signature(getattr(ours, method)).parameters) == list(theirs)


def test_a_module_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "optuna.storages._rdb.models", nothing)
    with pytest.raises(UnavailableError, match=expected(r"optuna\.storages\._rdb\.models")):
        _optuna.trial_tables()


def test_no_other_file_of_the_room_uses_private_names() -> None:
    folder = Path(_optuna.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "_optuna.py":
            text = path.read_text()
            assert "optuna.storages._" not in text, path
            assert "storage._backend" not in text and "study._storage" not in text, path
