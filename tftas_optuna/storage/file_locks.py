"""Locks between the searches that work on one file, beside that file.

A lock is free the moment its process is gone, however it went. Its file is removed by whoever held
it; who waits for it meanwhile sees that, and takes the next one.

The package filelock does not do: it leaves its files behind, takes any file in their place for a
lock, keeps what root makes for root, and has no room for the name of the holder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_PAUSE = 0.01
# Nothing, or who holds it: host, process, machine.
_CONTENT = re.compile(rb"(\S+ \d+ \S+)?")
_LONGEST = 1000
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
if sys.platform == "win32":
    _HELD.add(errno.EDEADLOCK)


class LockError(OSError):
    """A lock that cannot be made at all; the message is one line that says what to do."""


class FileLock:
    """Locks a file that lies beside a storage, for one holder at a time.

    The file has the permissions of the storage's own, so whoever can write to the one can lock
    the other. A symbolic link in its place is not followed.

    Args:
        path: The file, made when it is missing.
        storage: The file of the storage.
        timeout: Seconds to wait for another holder.
    """

    def __init__(self, path: Path, storage: Path, *, timeout: float) -> None:
        self._path = path
        self._storage = storage
        self._timeout = timeout
        self._fd: int | None = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait for the lock, and take it.

        Raises:
            TimeoutError: Another holds it all the time.
            LockError: It cannot be made here.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            fd = self._open()
            try:
                held = not self._try(fd)
                if not held and self._is_in_place(fd):
                    self._check_ours(fd)
                    self._fd = fd
                    return
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if held:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another search holds {self._path}")
                time.sleep(_PAUSE)

    def write(self, text: str) -> None:
        """Say in the file who holds it."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text.encode())
        os.fsync(self._fd)

    def release(self) -> None:
        """Free the lock and remove its file, if it is held."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        # If the file cannot be removed, it at least names no holder.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        if sys.platform == "win32":
            os.close(fd)
        with contextlib.suppress(OSError):
            if sys.platform == "win32" or self._is_in_place(fd):
                self._path.unlink()
        if sys.platform != "win32":
            os.close(fd)

    def _open(self) -> int:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        try:
            try:
                fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                try:
                    return os.open(self._path, flags)
                except FileNotFoundError:
                    if self._path.is_symlink():
                        raise
                    # Its holder has removed it at this moment.
                    return self._open()
            if sys.platform != "win32":
                self._share(fd)
            return fd
        except OSError as error:
            if self._path.is_symlink():
                raise LockError(
                    f"the lock {self._path} is a symbolic link, which is not followed; remove it"
                ) from None
            raise LockError(
                f"the lock {self._path} cannot be opened ({error.strerror}); make"
                f" {self._path.parent} and the files in it writable for all who search"
            ) from None

    def _share(self, fd: int) -> None:
        """Let everybody lock who may write to the storage, as SQLite does for its own files."""
        try:
            like = self._storage.stat()
        except FileNotFoundError:
            return  # Whoever held the lock has removed it.
        with contextlib.suppress(PermissionError):
            os.fchown(fd, like.st_uid if os.geteuid() == 0 else -1, like.st_gid)
        os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o666)

    def _is_in_place(self, fd: int) -> bool:
        """Tell whether an open file is still the one at the path, which its holder removes."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _check_ours(self, fd: int) -> None:
        """Check that a file may be written to and removed."""
        os.lseek(fd, 0, os.SEEK_SET)
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not _CONTENT.fullmatch(os.read(fd, _LONGEST)):
            raise LockError(
                f"{self._path} is in the way: it is no lock of tftas-optuna; move it elsewhere"
            )

    def _try(self, fd: int) -> bool:
        try:
            lock(fd)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise LockError(
                f"the file system of {self._path.parent} takes no locks ({error.strerror}); keep"
                " the study on another disk, or on a PostgreSQL or MySQL server"
            ) from None
        return True


def lock(fd: int, *, shared: bool = False) -> None:
    """Lock an open file at once, or raise OSError; on Linux also between machines, over NFS.

    Args:
        fd: The file.
        shared: Beside others who share it.
    """
    if sys.platform == "win32":
        # Windows locks bytes, and nobody else could read those.
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))


def lock_path(storage: Path, study_name: str, purpose: str) -> Path:
    """Return the file of a lock.

    Args:
        storage: The file of a storage.
        study_name: A study in it.
        purpose: What is locked.
    """
    return storage.with_name(f"{storage.name}.tftas-{digest(study_name)[:8]}-{purpose}.lock")


def digest(text: str) -> str:
    """Turn a text into 32 characters that any file system and database takes as a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
