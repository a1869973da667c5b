"""What a score depends on; where that is equal, one score may stand for another."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.task import batches_seen, fidelity_of
from tftas_optuna.metrics import FunctionIndicator, get_indicator

if TYPE_CHECKING:
    from tftas_optuna.study.settings import StudySettings

# Settings that scores do not depend on. Whatever comes to them later counts, until it stands here.
_NO_MATTER = (
    "approximated",
    "bounds",
    "data_dir",
    "deployment",
    "fidelity",
    "objectives",
    "options",
    "population_size",
    "sampler",
    "seed",
    "space",
)
_IMAGES = ("n_images", "pictures")


def ground_of(settings: StudySettings, indicator: str) -> dict[str, Any]:
    """Return what the scores of an indicator depend on, beside its fidelity, as plain data."""
    found = get_indicator(indicator)
    blind = () if batches_seen([indicator]) else _IMAGES
    matters = {n: v for n, v in settings.attributes().items() if n not in (*_NO_MATTER, *blind)}
    return {
        "indicator": indicator,
        # Parts and, where it was calibrated, weights: another one may have the same name.
        "made_of": dataclasses.asdict(found) if isinstance(found, CompositeIndicator) else {},
        "options": {**found.options, **settings.options.get(indicator, {})},
        **matters,
    }


def score_key(settings: StudySettings, indicator: str) -> dict[str, Any]:
    """Return what the scores of an indicator are known by in a cache."""
    return {
        "fidelity": fidelity_of(indicator, settings.fidelity),
        # A later release may compute otherwise.
        "version": metadata.version("tftas-optuna"),
        **_code_of(indicator),
        **ground_of(settings, indicator),
    }


def _code_of(name: str) -> dict[str, str]:
    """Return digests of the user's files that define an indicator and its parts."""
    indicator = get_indicator(name)
    names = indicator.indicators if isinstance(indicator, CompositeIndicator) else ()
    found = {}
    for each in (indicator, *map(get_indicator, names)):
        written: Any = each.score if isinstance(each, FunctionIndicator) else type(each)
        if not inspect.isroutine(written) and not inspect.isclass(written):
            written = type(written)
        if written.__module__.partition(".")[0] == "tftas_optuna":
            continue
        # Code that was typed interactively has no file.
        with contextlib.suppress(TypeError, OSError):
            code = Path(inspect.getfile(written)).read_bytes()
            found[each.name] = hashlib.sha256(code).hexdigest()
    return {"code": json.dumps(found, sort_keys=True)} if found else {}
