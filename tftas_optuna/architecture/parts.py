"""The table of families, for the packages that :mod:`tftas_optuna.families` itself imports.

:mod:`tftas_optuna.families` fills it.
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
    """The classes of a family, each loaded on first access."""

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
    """Return the names of all families: built-in, then registered, then installed ones."""
    return FAMILIES.names(FAMILIES_GROUP)
