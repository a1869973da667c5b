"""Notes of optuna-dashboard, without all that the package imports.

That brings scikit-learn, which takes longer to load than a short search; the one module that
reads and writes notes needs Optuna alone.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE = "_note.py"


class Notes(NamedTuple):
    """The public functions of optuna-dashboard, of a study or a running trial.

    Attributes:
        get: Reads a note.
        save: Writes one.
    """

    get: Callable[[Any], str]
    save: Callable[[Any, str], None]


@functools.cache
def load_notes() -> Notes:
    """Load the functions: from their module where it lies as it did, else from the package."""
    found = None if "optuna_dashboard" in sys.modules else _alone()
    if found is not None:
        return found
    from optuna_dashboard import get_note, save_note

    return Notes(get_note, save_note)


def _alone() -> Notes | None:
    package = importlib.util.find_spec("optuna_dashboard")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        return None
    path = Path(folders[0]) / _MODULE
    spec = importlib.util.spec_from_file_location(f"{__name__}.note", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return Notes(module.get_note, module.save_note)
    except (OSError, ImportError, AttributeError):
        # Another version of it.
        return None
