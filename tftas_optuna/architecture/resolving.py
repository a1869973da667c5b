"""What counts as an architecture where one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from tftas_optuna._given import is_several, listed, shown
from tftas_optuna.architecture._base import Architecture
from tftas_optuna.errors import TftasError


class HasArchitecture(Protocol):
    """What has an architecture, such as a :class:`tftas_optuna.Candidate`."""

    @property
    def architecture(self) -> Architecture:
        """The architecture."""


ArchitectureLike: TypeAlias = Architecture | HasArchitecture | Mapping[str, Any]


def architecture_of(given: Any) -> Architecture:
    """Return the architecture that an argument stands for.

    Args:
        given: An architecture, what has one (a candidate of a front), or its plain data.

    Raises:
        TftasError: It is none of these.
    """
    found = getattr(given, "architecture", given)
    if isinstance(found, Architecture):
        return found
    if isinstance(found, Mapping):
        return Architecture.from_dict(dict(found))
    if is_several(found):
        raise TftasError(f"one architecture is expected, not several: {shown(found)}")
    remedy = "give an Architecture, or a candidate of a front"
    if isinstance(found, str):
        remedy = f"tftas_optuna.spaces.find_architecture({found!r}) reads published ones and files"
    raise TftasError(f"{shown(found)} is no architecture; {remedy}")


def architectures_of(given: Any) -> list[Architecture]:
    """Return the architectures that an argument stands for, one or several.

    Raises:
        TftasError: One of them is none; see :func:`architecture_of`.
    """
    return [architecture_of(one) for one in listed(given)]
