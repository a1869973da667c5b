"""What to type next, and the notes that tell it in optuna-dashboard."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from tftas_optuna.cli._options import DEFAULT_STORAGE
from tftas_optuna.study.selection import SHOWN, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate


def next_commands(
    storage: str, study_name: str, front: Sequence[Candidate]
) -> list[tuple[str, str]]:
    """Return command lines for a searched study, each with its purpose."""
    where = "" if storage == DEFAULT_STORAGE else f" --storage {shlex.quote(storage)}"
    where += f" --study-name {shlex.quote(study_name)}"
    exact = " --exact" if any(len(c.exact) < len(c.approximated) for c in front) else ""
    shown = spread(front, SHOWN)
    budget = _rounded_up(shown[len(shown) // 2].n_params)
    return [
        (f"tftas-optuna front{where}{exact} -f csv", "the whole front"),
        (f"tftas-optuna export{where} --best --params-max {budget}", "one of a budget"),
        (f"tftas-optuna retrain{where} --top 3 --data-dir DIR", "the three best, trained"),
        (f"tftas-optuna dashboard{where}", "the study in a browser"),
    ]


def write_notes(study: Study, storage: str, front: Sequence[Candidate]) -> None:
    """Write the notes of a study and of the members of its front that are shown.

    Args:
        study: The study.
        storage: Its storage as it was given; a password in it does not reach the notes.
        front: Its front, not empty.
    """
    from tftas_optuna.storage.naming import shown
    from tftas_optuna.study.notes import write_study_note, write_trial_notes

    write_study_note(study, len(front), next_commands(shown(storage), study.study_name, front))
    write_trial_notes(study, spread(front, SHOWN))


def _rounded_up(count: int) -> str:
    """Write a count as options take it, with three digits: ``7.19M``, ``36.4k``."""
    unit, name = (1e6, "M") if count >= 1e6 else (1e3, "k")
    step = 10 ** (math.floor(math.log10(count)) - 2)
    return f"{math.ceil(count / step) * step / unit:g}{name}"
