"""A private name that Optuna drops takes down what needs it, in one sentence, and no import."""

from __future__ import annotations

import subprocess
import sys

import optuna
import pytest
from optuna.samplers import BaseGASampler

from tftas_optuna import search
from tftas_optuna.errors import UnavailableError
from tftas_optuna.spaces import AutoFormerSpace

# All that the files _optuna.py of the rooms use, gone at once.
WITHOUT_ANY = """
import importlib, pkgutil, sys
import optuna
from optuna import _hypervolume, samplers, storages
from optuna.storages import journal
from optuna.storages.journal import _storage
from optuna.study import _multi_objective

for owner, name in [
    (samplers.BaseGASampler, "_get_generation_key"),
    (_multi_objective, "_fast_non_domination_rank"),
    (_multi_objective, "_is_pareto_front"),
    (_multi_objective, "_get_pareto_front_trials_by_trials"),
    (_hypervolume, "compute_hypervolume"),
    (storages, "_CachedStorage"),
    (storages.RDBStorage, "_get_trials"),
    (journal.JournalStorage, "_sync_with_backend"),
    (_storage.JournalStorageReplayResult, "_apply_create_trial"),
]:
    delattr(owner, name)
sys.modules["optuna.storages._rdb.models"] = None

import tftas_optuna
for module in pkgutil.walk_packages(tftas_optuna.__path__, "tftas_optuna."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(tftas_optuna.search.__name__)
"""


def test_every_module_is_imported_without_any_private_name() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_ANY], capture_output=True, text=True)
    assert done.stdout == "search\n", done.stderr


@pytest.mark.parametrize("sampler", ["screened-nsgaii", "tpe", "random"])
def test_other_samplers_search_without_the_generations_of_optunas_genetic_ones(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.delattr(BaseGASampler, "_get_generation_key")
    study = search(small_space, n_trials=3, objectives=["n_params"], sampler=sampler)
    assert len(study.trials) == 3


@pytest.mark.parametrize("sampler", ["nsgaii", "nsgaiii"])
def test_a_genetic_sampler_says_what_is_gone(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.delattr(BaseGASampler, "_get_generation_key")
    gone = rf"^Optuna {optuna.__version__} no longer has BaseGASampler\._get_generation_key; "
    with pytest.raises(UnavailableError, match=gone):
        search(small_space, n_trials=3, objectives=["n_params"], sampler=sampler)
