"""Notes of optuna-dashboard, read and written without loading all of it."""

from __future__ import annotations

import subprocess
import sys

import optuna
import optuna_dashboard
import pytest

from tftas_optuna.study import _dashboard


def test_a_note_needs_no_scikit_learn() -> None:
    code = (
        "import sys, optuna\n"
        "from tftas_optuna.study._dashboard import load_notes\n"
        "study = optuna.create_study()\n"
        "load_notes().save(study, 'x' * 5000)\n"
        "assert not {'sklearn', 'optuna_dashboard'} & sys.modules.keys()\n"
        "from optuna_dashboard import get_note\n"
        "assert get_note(study) == 'x' * 5000\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["not_there.py", "_bottle_util.py"])
def test_another_optuna_dashboard_is_loaded_as_a_whole(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dashboard, "_MODULE", module)
    assert _dashboard._alone() is None
    notes = _dashboard.load_notes.__wrapped__()
    study = optuna.create_study()
    notes.save(study, "mine")
    assert notes.get(study) == optuna_dashboard.get_note(study) == "mine"
