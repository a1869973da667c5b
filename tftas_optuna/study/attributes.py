"""User attributes of a study, of any size.

MySQL limits an attribute to 65,535 bytes, and some attributes grow with the number of trials. A
longer value is stored in parts, ``NAME:DIGEST:0``, ``NAME:DIGEST:1``, ..., with the digest of the
whole value, and ``NAME`` lists the parts. The list is written last, so that a concurrent reader
gets the old value or the new one, never a mix.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from optuna import Study

from tftas_optuna._given import expect
from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

# In ASCII characters. Parts are shorter, as quotes and backslashes in a string take two bytes.
_LONGEST = 60_000
_PART = 30_000
_PARTS = "stored in parts"
_IS_PART = re.compile(r".+:[0-9a-f]{16}:[0-9]+", re.DOTALL)


def attributes(study: Study) -> dict[str, Any]:
    """Return the user attributes of a study, with the parts of long values joined.

    Raises:
        TftasError: It is no study.
        UnavailableError: Parts of an attribute are missing.
    """
    expect("study", study, Study, "a study; optuna.load_study(...) opens one")
    stored = study.user_attrs
    return {
        name: _joined(study, name, value, stored)
        for name, value in stored.items()
        if not _IS_PART.fullmatch(name)
    }


def write_attribute(study: Study, name: str, value: Any) -> None:
    """Write a user attribute of any length.

    Args:
        study: The study.
        name: Name of the attribute.
        value: Its value as plain data.
    """
    text = json.dumps(value)
    before = _parts_of(name, study.user_attrs.get(name)) or []
    parts: list[str] = []
    if len(text) <= _LONGEST:
        study.set_user_attr(name, value)
    else:
        digest = _digest(text)
        for i, start in enumerate(range(0, len(text), _PART)):
            parts.append(f"{name}:{digest}:{i}")
            study.set_user_attr(parts[-1], text[start : start + _PART])
        study.set_user_attr(name, {_PARTS: parts})
    for old in before:
        if old not in parts:
            # Optuna cannot delete attributes of a study, but an empty one takes no space.
            study.set_user_attr(old, "")


def _joined(study: Study, name: str, value: Any, stored: Mapping[str, Any]) -> Any:
    parts = _parts_of(name, value)
    if parts is None:
        return value
    text = "".join(str(stored.get(part)) for part in parts)
    if any(part.split(":")[-2] != _digest(text) for part in parts):
        raise UnavailableError(
            f"attribute {name!r} of study {study.study_name!r} is damaged: not all of its"
            f" {len(parts)} parts are there; copy the study anew, or give another --study-name"
        )
    return json.loads(text)


def _parts_of(name: str, value: Any) -> list[str] | None:
    """Return the names of the parts of an attribute; None if it is stored whole."""
    parts = value.get(_PARTS) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(parts, list) or not all(_IS_PART.fullmatch(str(part)) for part in parts):
        return None
    return parts


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
