"""Names and deletion on database servers; files are tested through the command line."""

from __future__ import annotations

import optuna
import pytest

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import claim_island, delete_study, open_storage, rename_study


def test_a_server_renames_and_deletes_what_no_search_works_on(database: str) -> None:
    opened = open_storage(database, create=True)
    study = optuna.create_study(storage=opened, study_name="old")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    first, second = (claim_island(opened, "old") for _ in range(2))
    first.release()
    for change in (
        lambda: rename_study(opened, "old", "new"),
        lambda: delete_study(opened, "old"),
    ):
        with pytest.raises(UnavailableError, match="a search works on study 'old'"):
            change()
    second.release()
    rename_study(opened, "old", "new")
    assert optuna.load_study(study_name="new", storage=opened).trials == study.trials
    delete_study(opened, "new")
    assert optuna.get_all_study_names(opened) == []
