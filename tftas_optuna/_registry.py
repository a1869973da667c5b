"""Tables of what is built in, registered by a call, or brought by installed packages."""

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
    """Entries by name; none is loaded before it is looked up.

    The lowest room that asks for entries holds the table. A room that knows them fills it, so that
    nobody has to name a room that imports it. What was registered counts before what is built in,
    and that before what an installed package brings.

    Attributes:
        registered: By name, the group that an entry was registered in, and the entry.

    Args:
        what: What messages call an entry.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._built_in: dict[str, Mapping[str, T]] = {}
        self._readers: dict[str, Callable[[str, object], T]] = {}
        self._entry_points: dict[str, dict[str, metadata.EntryPoint]] = {}
        self._loaded: dict[str, T] = {}
        self.registered: dict[str, tuple[str, T]] = {}

    def fill(
        self, group: str, built_in: Mapping[str, T], read: Callable[[str, object], T]
    ) -> None:
        """Say what is built in, and where installed packages bring more.

        Args:
            group: The group of entry points.
            built_in: Entries by name; it may load each when it is asked for.
            read: Makes an entry of a name and what a package brings under it, or raises a
                ``TftasError``.
        """
        self._built_in[group], self._readers[group] = built_in, read

    def check_free(self, name: str) -> None:
        """Check that a name can be given to a new entry.

        Raises:
            TftasError: It is taken.
        """
        if name in self:
            raise TftasError(
                f"{self._what} {name!r} exists already; give another name, or replace=True to take"
                " its place"
            )

    def add(self, group: str, name: str, entry: T) -> None:
        """Register an entry for this process, in place of one of its name."""
        self.registered[name] = group, entry

    def names(self, group: str) -> list[str]:
        """List a group: what is built in, then what was registered, then what is installed."""
        of = {name: its_group for name, (its_group, _) in self.registered.items()}
        names = dict.fromkeys([*self._built_in[group], *of, *self._installed(group)])
        return [name for name in names if of.get(name, group) == group]

    def __contains__(self, name: str) -> bool:
        return name in self.registered or any(
            name in self._built_in[group] or name in self._installed(group)
            for group in self._readers
        )

    def __getitem__(self, name: str) -> T:
        """Look an entry up.

        Raises:
            KeyError: There is none of that name.
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
                f"{self._what} {name!r} cannot be loaded from {entry_point.value} of an installed"
                f" package: {type(error).__name__}: {error}"
            ) from error

    def _installed(self, group: str) -> dict[str, metadata.EntryPoint]:
        if group not in self._entry_points:
            entries = {entry.name: entry for entry in metadata.entry_points(group=group)}
            for name in entries.keys() & set(self._built_in[group]):
                _LOG.warning("%s is not used: %s is built in", entries.pop(name).value, name)
            self._entry_points[group] = entries
        return self._entry_points[group]
