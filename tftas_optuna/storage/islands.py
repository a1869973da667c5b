"""Numbers the searches that work on one study; a search keeps its number while it runs.

A number is locked by a connection to the database server, or by a file beside a storage file, so
it is free again as soon as its process ends, however it ends.
"""

from __future__ import annotations

import glob
from functools import partial
from typing import TYPE_CHECKING, Protocol

from optuna.storages import RDBStorage

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage._optuna import engine_of, unwrapped
from tftas_optuna.storage.file_locks import FileLock, lock_path
from tftas_optuna.storage.machines import check_machine, this_holder
from tftas_optuna.storage.naming import storage_file
from tftas_optuna.storage.server_locks import ServerLock, has_server_locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

_MOST = 1000
# Servers do not list locks by name, so numbers below this are tried. Searches take the lowest free
# number, so a higher one means that as many searches were running at once.
_LIKELY = 32


class Claim(Protocol):
    """The number of a search within its study.

    Attributes:
        island: The number; 0 for a search that is alone.
    """

    island: int

    def renew(self) -> None:
        """Check that the number is still this search's; take it again after a lost connection.

        Raises:
            UnavailableError: Another search has taken it in the meantime.
        """

    def release(self) -> None:
        """Return the number."""


def claim_island(storage: BaseStorage, study_name: str) -> Claim:
    """Take the lowest number that no other search of the study holds.

    Args:
        storage: The storage.
        study_name: The study.

    Raises:
        UnavailableError: Locks cannot be created, or a search on another machine uses a file
            that is for one machine at a time.
    """
    storage = unwrapped(storage)
    path = storage_file(storage)
    if path is not None:
        claim = _lowest(lambda island: _FileClaim(path, study_name, island))
        if isinstance(storage, RDBStorage):
            try:
                # Checked after taking a number, so that of two searches that start at the same
                # time at least one sees the other.
                check_machine(path)
            except UnavailableError:
                claim.release()
                raise
        return claim
    if isinstance(storage, RDBStorage) and has_server_locks(engine_of(storage)):
        engine = engine_of(storage)
        return _lowest(lambda island: _ServerClaim(engine, study_name, island))
    return _NoClaim()


def check_unsearched(storage: BaseStorage, study_name: str, claim: Claim) -> None:
    """Check that no other search works on a study right now.

    This cannot be checked for a storage without locks, such as a proxy.

    Args:
        storage: The storage.
        study_name: The study.
        claim: A number in it that the caller holds.

    Raises:
        UnavailableError: A search works on it.
    """
    storage = unwrapped(storage)
    path = storage_file(storage)
    claims: list[Callable[[], Claim]] = []
    if path is not None:
        for lock in path.parent.glob(glob.escape(lock_path(path, study_name, "").stem) + "*"):
            island = lock.stem.rpartition("-")[2]
            if island.isdigit() and int(island) != claim.island:
                claims.append(partial(_FileClaim, path, study_name, int(island)))
    elif isinstance(storage, RDBStorage) and has_server_locks(engine_of(storage)):
        engine = engine_of(storage)
        numbers = set(range(_LIKELY)) - {claim.island}
        claims = [partial(_ServerClaim, engine, study_name, number) for number in numbers]
    if any(map(_is_taken, claims)):
        raise UnavailableError(
            f"a search works on study {study_name!r}; stop it, or wait until it has ended"
        )


def _is_taken(take: Callable[[], Claim]) -> bool:
    try:
        take().release()
    except TimeoutError:
        return True
    return False


class _NoClaim:
    """The number in a storage without locks: memory, or a proxy, for one search at a time."""

    island = 0

    def renew(self) -> None: ...

    def release(self) -> None: ...


class _FileClaim:
    def __init__(self, path: Path, study_name: str, island: int) -> None:
        self.island = island
        self._lock = FileLock(lock_path(path, study_name, str(island)), path, timeout=0)
        try:
            self._lock.acquire()
            self._lock.write(str(this_holder()))
        except TimeoutError:
            raise
        except OSError as error:
            self._lock.release()
            raise UnavailableError(str(error)) from error

    def renew(self) -> None: ...

    def release(self) -> None:
        self._lock.release()


class _ServerClaim:
    def __init__(self, engine: Engine, study_name: str, island: int) -> None:
        self.island = island
        self._lock = ServerLock(engine, study_name, str(island), timeout=0)
        self._lock.acquire()

    def renew(self) -> None:
        if self._lock.is_held():
            return
        self._lock.release()
        try:
            self._lock.acquire()
        except TimeoutError:
            raise UnavailableError(
                "while the database was away another search took this one's place in the"
                " study; run the same command again to go on beside it"
            ) from None

    def release(self) -> None:
        self._lock.release()


def _lowest(take: _Take) -> Claim:
    for island in range(_MOST):
        try:
            return take(island)
        except TimeoutError:
            continue
    raise UnavailableError(f"{_MOST} searches work on this study already")


class _Take(Protocol):
    def __call__(self, island: int) -> Claim: ...
