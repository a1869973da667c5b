"""What a score depends on: if that is equal, one score can replace another."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.metrics import get_indicator

if TYPE_CHECKING:
    from tftas_optuna.study.settings import StudySettings


def ground_of(settings: StudySettings, name: str) -> dict[str, Any]:
    """Return what the scores of an indicator depend on, beside its fidelity, as plain data."""
    indicator = get_indicator(name)
    return {
        "indicator": name,
        # Parts and, where it was calibrated, weights: another one may have the same name.
        "made_of": indicator.recipe,
        "options": {**indicator.options, **settings.options.get(name, {})},
        **settings.conditions.key(indicator),
    }


def score_key(settings: StudySettings, indicator: str) -> dict[str, Any]:
    """Return the key of an indicator's scores in a cache."""
    return {
        "fidelity": get_indicator(indicator).fidelity_for(settings.fidelity),
        # A later release may compute them differently.
        "version": metadata.version("tftas-optuna"),
        **_code_of(indicator),
        **ground_of(settings, indicator),
    }


def _code_of(name: str) -> dict[str, str]:
    """Return digests of the user's files that define an indicator and its parts."""
    indicator = get_indicator(name)
    digests = {}
    for part in (indicator, *indicator.made_of):
        definition: Any = part.defined_by
        if not inspect.isroutine(definition) and not inspect.isclass(definition):
            definition = type(definition)
        if definition.__module__.partition(".")[0] == "tftas_optuna":
            continue
        # Code that was typed interactively has no file.
        with contextlib.suppress(TypeError, OSError):
            code = Path(inspect.getfile(definition)).read_bytes()
            digests[part.name] = hashlib.sha256(code).hexdigest()
    return {"code": json.dumps(digests, sort_keys=True)} if digests else {}
