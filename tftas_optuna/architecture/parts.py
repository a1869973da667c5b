"""The table of families, as far as the rooms below :mod:`tftas_optuna.families` ask for it.

:mod:`tftas_optuna.families`, which names all rooms, fills it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tftas_optuna._registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from tftas_optuna.architecture._base import Architecture
    from tftas_optuna.spaces import SearchSpace

FAMILIES_GROUP = "tftas_optuna.families"


class Parts(Protocol):
    """A family: its classes, each loaded when it is asked for."""

    @property
    def architecture(self) -> type[Architecture]:
        """The class of its architectures."""

    @property
    def space(self) -> type[SearchSpace]:
        """The class of its search spaces."""

    @property
    def network(self) -> type[nn.Module]:
        """The class of its stand-alone networks."""


FAMILIES: Registry[Parts] = Registry("family")


def family_names() -> list[str]:
    """List all families: built-in ones first, then registered and installed ones."""
    return FAMILIES.names(FAMILIES_GROUP)
