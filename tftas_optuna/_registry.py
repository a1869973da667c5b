"""Registries of built-in, registered and installed entries."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import TYPE_CHECKING, Generic, TypeVar

from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_LOG = logging.getLogger("tftas_optuna")


class Registry(Generic[T]):
    """Entries by name, loaded on first use.

    A registry is defined in a low-level package that looks entries up, and filled by a package
    that knows them, so that imports go in one direction. Registered entries take precedence over
    built-in ones, and these over entries of installed packages.

    Attributes:
        registered: The group and the entry of every registered name.

    Args:
        kind: Name of the kind of entries, for error messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._built_in: dict[str, Mapping[str, T]] = {}
        self._readers: dict[str, Callable[[str, object], T]] = {}
        self._entry_points: dict[str, dict[str, metadata.EntryPoint]] = {}
        self._loaded: dict[str, T] = {}
        self.registered: dict[str, tuple[str, T]] = {}

    def fill(
        self, group: str, built_in: Mapping[str, T], read: Callable[[str, object], T]
    ) -> None:
        """Add the built-in entries of a group, and a reader for entries of installed packages.

        Args:
            group: The group of entry points.
            built_in: Entries by name; the mapping may load them on first access.
            read: Function that turns the name and the object of an entry point into an entry, or
                raises a ``TftasError``.
        """
        self._built_in[group], self._readers[group] = built_in, read

    def check_free(self, name: str) -> None:
        """Check that no entry has a name yet.

        Raises:
            TftasError: The name already exists.
        """
        if name in self:
            raise TftasError(
                f"{self._kind} {name!r} exists already; give another name, or replace=True to"
                " replace it"
            )

    def add(self, group: str, name: str, entry: T) -> None:
        """Register an entry in this process; it replaces any entry of the same name."""
        self.registered[name] = group, entry

    def names(self, group: str) -> list[str]:
        """Return the names of a group: built-in, then registered, then installed ones."""
        groups = {name: own_group for name, (own_group, _) in self.registered.items()}
        names = dict.fromkeys([*self._built_in[group], *groups, *self._installed(group)])
        return [name for name in names if groups.get(name, group) == group]

    def __contains__(self, name: str) -> bool:
        return name in self.registered or any(
            name in self._built_in[group] or name in self._installed(group)
            for group in self._readers
        )

    def __getitem__(self, name: str) -> T:
        """Return the entry of a name.

        Raises:
            KeyError: There is no such entry.
            UnavailableError: It belongs to an installed package that cannot be loaded.
        """
        if name in self.registered:
            return self.registered[name][1]
        for built_in in self._built_in.values():
            if name in built_in:
                return built_in[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        group = next((group for group in self._readers if name in self._installed(group)), None)
        if group is None:
            raise KeyError(name)
        entry_point = self._installed(group)[name]
        try:
            return self._readers[group](name, entry_point.load())
        except TftasError as error:
            raise UnavailableError(
                f"{entry_point.value} of an installed package: {error}"
            ) from error
        except Exception as error:
            raise UnavailableError(
                f"{self._kind} {name!r} cannot be loaded from {entry_point.value} of an installed"
                f" package: {type(error).__name__}: {error}"
            ) from error

    def _installed(self, group: str) -> dict[str, metadata.EntryPoint]:
        if group not in self._entry_points:
            entries = {entry.name: entry for entry in metadata.entry_points(group=group)}
            for name in entries.keys() & set(self._built_in[group]):
                _LOG.warning("%s is not used: %s is built in", entries.pop(name).value, name)
            self._entry_points[group] = entries
        return self._entry_points[group]
