"""File locks between searches that use the same storage file.

A lock is free as soon as its process ends, however it ends. Its holder removes the lock file; a
search that waits for the lock notices that and creates a new file.

The package filelock does not suffice: it leaves its files behind, takes any file in their place
for a lock, locks out others from files that root has created, and cannot store who holds a lock.
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
# Empty, or the holder: host, process, machine.
_CONTENT = re.compile(rb"(\S+ \d+ \S+)?")
_LONGEST = 1000
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
if sys.platform == "win32":
    _HELD.add(errno.EDEADLOCK)


class LockError(OSError):
    """A lock cannot be created; the message is one line that says what to do."""


class FileLock:
    """A lock file beside a storage, with one holder at a time.

    It has the permissions of the storage's file, so whoever can write to the storage can lock it.
    A symbolic link in its place is not followed.

    Args:
        path: The lock file, created if it is missing.
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
            TimeoutError: Another holder keeps it for too long.
            LockError: It cannot be created here.
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
        """Write the name of the holder to the file."""
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
        # If the file cannot be removed, it should at least not name a holder.
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
                    # Its holder has just removed it.
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
                f" {self._path.parent} and the files in it writable for everybody who searches"
            ) from None

    def _share(self, fd: int) -> None:
        """Give the lock the storage's permissions, as SQLite does for its own files."""
        try:
            like = self._storage.stat()
        except FileNotFoundError:
            return  # Another holder of the lock has removed it.
        with contextlib.suppress(PermissionError):
            os.fchown(fd, like.st_uid if os.geteuid() == 0 else -1, like.st_gid)
        os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o666)

    def _is_in_place(self, fd: int) -> bool:
        """Return whether an open file is still at the path, and not removed by its last holder."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _check_ours(self, fd: int) -> None:
        """Check that a file is a lock of ours, so that it may be overwritten and removed."""
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
    """Lock an open file without waiting, or raise OSError; works over NFS on Linux.

    Args:
        fd: The file.
        shared: Whether others may hold a shared lock as well.
    """
    if sys.platform == "win32":
        # Windows locks bytes and lets nobody else read them, so lock one past the contents.
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))


def lock_path(storage: Path, study_name: str, purpose: str) -> Path:
    """Return the path of a lock file.

    Args:
        storage: The file of a storage.
        study_name: A study in it.
        purpose: What is locked.
    """
    return storage.with_name(f"{storage.name}.tftas-{digest(study_name)[:8]}-{purpose}.lock")


def digest(text: str) -> str:
    """Return a digest of 32 characters that any file system and database accepts as a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
