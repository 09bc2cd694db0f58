"""``LockFile``: which of the processes that share a file are alive, exactly, without a guess by time.

Each owner locks one byte of the file for as long as it lives. The system lets go of such a lock when the process ends,
however it ends, and a forked child does not inherit it. It also lets go of all locks that a process has on a file as
soon as the process closes *any* descriptor of it; so within a process a file is opened once, whoever uses it.
"""

from __future__ import annotations

import os
import threading

from threadkit import _fork
from threadkit._errors import StoreError

_lock = threading.RLock()  # guards the two below, and the fields of each LockFile; nothing is called under it
_files: dict[tuple[int, int], LockFile] = {}
_generation = _fork.generation()


class LockFile:
    """A file whose bytes are locked. Use ``of()``, and ``close()`` once for each.

    Args:
        path: where it was opened.
        descriptor: the open file.
        identity: its device and inode.
    """

    def __init__(self, path: str, descriptor: int, identity: tuple[int, int]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._identity = identity
        self._uses = 0
        self._held: set[int] = set()  # the owners that are of this process

    @staticmethod
    def is_open(path: str) -> bool:
        """Return whether this process has the file open."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        with _lock:
            return (found.st_dev, found.st_ino) in _table()

    @staticmethod
    def of(path: str) -> LockFile:
        """Return the lock file at a path, which is made if need be.

        Raises:
            StoreError: it cannot be made.
        """
        with _lock:
            try:
                found = os.stat(path)
                file = _table().get((found.st_dev, found.st_ino))
            except OSError:
                file = None
            if file is None:
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                except OSError as error:
                    raise StoreError(path, f"cannot be opened for locking ({error.strerror})") from error
                found = os.fstat(descriptor)
                identity = (found.st_dev, found.st_ino)
                file = _table()[identity] = LockFile(path, descriptor, identity)
            file._uses += 1
            return file

    def hold(self, owner: int) -> bool:
        """Lock a byte for as long as this process lives; return False where another process has it."""
        with _lock:
            if not self._try(owner):
                return False
            self._held.add(owner)
            return True

    def release(self, owner: int) -> None:
        """Unlock a byte."""
        with _lock:
            self._held.discard(owner)
            self._unlock(owner)

    def is_alive(self, owner: int) -> bool:
        """Return whether the process that locked a byte still lives; True where that cannot be known any more.

        When somebody has deleted or replaced the file, those who have come since lock bytes of another one.
        """
        with _lock:
            if owner in self._held or not self._is_in_place():
                return True
            if not self._try(owner):
                return True
            self._unlock(owner)
            return False

    def close(self) -> None:
        """Close the file, if nobody else in this process uses it."""
        with _lock:
            self._uses -= 1
            if not self._uses:
                _table().pop(self._identity, None)
                os.close(self._descriptor)

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _try(self, owner: int) -> bool:
        import fcntl

        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
        except (BlockingIOError, PermissionError):  # which of the two depends on the system
            return False
        return True

    def _unlock(self, owner: int) -> None:
        import fcntl

        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, owner)


def _table() -> dict[tuple[int, int], LockFile]:
    """Return the files of this process: a forked child has none. The lock MUST be held."""
    global _files, _generation
    if _generation != _fork.generation():
        _files, _generation = {}, _fork.generation()
    return _files


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


_fork.after_fork(_renew_lock)
