"""Opens storages, appends to them, locks them between searches, and waits for them."""

from tftas_optuna.storage.appending import Append, check_writable, make_append, write_lock
from tftas_optuna.storage.bulk import annotate_finished
from tftas_optuna.storage.faults import told, told_in_one_line
from tftas_optuna.storage.islands import Claim, claim_island
from tftas_optuna.storage.naming import storage_name
from tftas_optuna.storage.opening import list_studies, load_study, open_storage
from tftas_optuna.storage.renaming import delete_study, rename_study
from tftas_optuna.storage.rescue import merge_rescued
from tftas_optuna.storage.waiting import keep
from tftas_optuna.storage.writer import TrialWriter

__all__ = [
    "Append",
    "Claim",
    "TrialWriter",
    "annotate_finished",
    "check_writable",
    "claim_island",
    "delete_study",
    "keep",
    "list_studies",
    "load_study",
    "make_append",
    "merge_rescued",
    "open_storage",
    "rename_study",
    "storage_name",
    "told",
    "told_in_one_line",
    "write_lock",
]
