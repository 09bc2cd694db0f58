"""``Lease``: a right that one holder has at a time, of all processes of a machine. It is a lock on a file.

The lock is POSIX's record lock, ``fcntl.lockf``. It belongs to a *process*: the system takes it back when the process
dies, by SIGKILL too, and a forked child does not have it (with ``flock`` the lock would live on in the child). Two
consequences have to be made good:

1. A process that asks twice is given it twice. So there is a table of what this process holds, by device and inode.
2. Whoever closes *any* descriptor of the file in the process loses the lock. So a file that is in the table is never
   opened again; and since code that is not ours may do so, ``confirm()`` takes the lock anew.

The file stays when the lease is given back: between looking at a file and deleting it somebody else may have locked it.
It tells people who holds the lease, ``pid host``, and is empty while nobody does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

from threadkit import _arguments, _fork
from threadkit._errors import ThreadkitError
from threadkit._override import override

_Key = tuple[int, int]  # device and inode

_SIGNATURE = re.compile(rb"\d*(?: \S*)?\n?")  # the whole of "pid host", or as much as got to the disk
_LENGTH = 512  # bytes, more than any signature

_ADVICE = {
    errno.ENOENT: "its folder does not exist; make that, or give another path",
    errno.ENOTDIR: "its folder is no folder; give another path",
    errno.EISDIR: "this is a folder; give the path of a file in it",
    errno.ELOOP: "this is a symbolic link; give the path that it stands for",
    errno.EACCES: "this process may not write it; change its permissions, or give another path",
    errno.EPERM: "this process may not write it; change its permissions, or give another path",
    errno.EROFS: "the file system is read-only; give a path on another one",
    errno.ENOLCK: "the file system gives no locks; give a path on a local one",
    errno.EOPNOTSUPP: "the file system gives no locks; give a path on a local one",
    errno.ENOSYS: "the file system gives no locks; give a path on a local one",
}


class LeaseError(ThreadkitError, OSError):
    """A lease cannot be had, or was lost. Where the system refused something, its error is the ``__cause__``.

    Args:
        path: the file.
        problem: what is the matter and what to do.

    Example:
        >>> print(LeaseError("/run/app.lock", "its folder does not exist; make that, or give another path"))
        lease '/run/app.lock': its folder does not exist; make that, or give another path
    """

    def __init__(self, path: str, problem: str) -> None:
        # Two arguments would make OSError take them for errno and strerror.
        super().__init__()
        self.args: tuple[Any, ...] = (path, problem)
        self.path = path
        self.problem = problem

    @override
    def __str__(self) -> str:
        return f"lease {self.path!r}: {self.problem}"


class Lease:
    """An exclusive right, bound to a path. It lasts until ``release()`` or the end of the process.

    Args:
        path: the file, which is made if need be; all who share the lease give the same.

    Raises:
        LeaseError: this system has no record locks.
        TypeError: ``path`` is no path.
        ValueError: ``path`` is empty.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = _arguments.text(os.fspath(path) if isinstance(path, os.PathLike) else path, "path")
        self.path = str(Path(text).absolute())  # it has to stay the same file when the process changes its folder
        self.holder: str | None = None  # who had it at the last look, "pid host"
        self._key: _Key | None = None
        self._descriptors: list[int] = []  # the first one has the lock; none may be closed before it is given back
        try:
            import fcntl
        except ImportError as error:
            raise LeaseError(self.path, "this system has no record locks; run the leader on one that has") from error
        self._lockf = fcntl.lockf
        self._exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB

    def is_held(self) -> bool:
        """Return True where this object has the lease."""
        with _lock:
            return self._is_held()

    def acquire(self) -> bool:
        """Take the lease if nobody has it. Never waits.

        Returns:
            True when this object has it now.

        Raises:
            LeaseError: the file cannot be made, opened or locked, or holds something else.
        """
        with _lock, self._explaining():
            return self._is_held() or self._take()

    def confirm(self) -> bool:
        """Make sure that the lease is still this object's; to be called every now and then.

        Where the file was deleted or replaced, others can lock the new one. So that is taken, too, if it is free.

        Returns:
            False where somebody else may have it. Call ``release()`` then.

        Raises:
            LeaseError: the file is gone and no new one can be made, or the system gives no lock any more.
        """
        with _lock, self._explaining():
            if not self._is_held() or not self._lock(self._descriptors[0]):
                return False
            if self._find() == self._key:
                return True
            former_key, former_descriptors = self._key, self._descriptors
            if not self._take():
                return False
            _held.pop(former_key, None)
            _close(former_descriptors)
            return True

    def release(self) -> None:
        """Give the lease back; where this object does not have it, do nothing."""
        with _lock:
            if not self._is_held():
                return
            with contextlib.suppress(OSError):  # what it says is for people; what counts follows
                if self._lock(self._descriptors[0]):  # lest another holder's signature be wiped out
                    os.ftruncate(self._descriptors[0], 0)
            _held.pop(self._key, None)
            self._forget()

    # All below is called with the lock held.

    def _is_held(self) -> bool:
        return _held.get(self._key) is self

    def _forget(self) -> None:
        _close(self._descriptors)
        self._key, self._descriptors = None, []

    def _take(self) -> bool:
        """Lock the file that the path names. Where that fails, what this object had before it still has."""
        if self._find() in _held:
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        status = os.fstat(descriptor)
        key = _key_of(status)
        if key in _held:  # it came to this name a moment ago. To close it now would take the lock from its holder
            _held[key]._descriptors.append(descriptor)
            return False
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LeaseError(self.path, "this is no regular file; give the path of one")
            content = os.pread(descriptor, _LENGTH, 0)
            if not _SIGNATURE.fullmatch(content):
                raise LeaseError(self.path, "it holds something else, which is left alone; give a path of its own")
            if not self._lock(descriptor):
                self.holder = content.decode(errors="replace").strip() or None
                return False
            if self._find() != key:  # it was replaced before we had the lock; let the next attempt see the new one
                return False
            self._sign(descriptor)
            undo.pop_all()
        self._key, self._descriptors = key, [descriptor]
        _held[key] = self
        return True

    def _sign(self, descriptor: int) -> None:
        self.holder = f"{os.getpid()} {os.uname().nodename}"
        with contextlib.suppress(OSError):  # the disk is full, say; the lock is what counts
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{self.holder}\n".encode(), 0)

    def _lock(self, descriptor: int) -> bool:
        """Lock a file, be it again; return False where another process has the lock."""
        try:
            self._lockf(descriptor, self._exclusive)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _find(self) -> _Key | None:
        """Look which file the path names; None where there is none."""
        try:
            return _key_of(os.lstat(self.path))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _explaining(self) -> Generator[None]:
        """Raise as a LeaseError, which says what to do, what the system refuses."""
        try:
            yield
        except LeaseError:
            raise
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, error.strerror or "the system refuses it")
            raise LeaseError(self.path, advice) from error


def _key_of(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _forget_parent() -> None:
    # The child has none of the parent's locks. Its descriptors go now: to close one later might take away a lock that
    # the child has taken itself by then. Nothing of this reaches the parent.
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it at the fork
    for lease in _held.values():
        lease._forget()
    _held.clear()


_lock = threading.Lock()  # guards _held and all its leases; the system is called under it, nothing else
_held: dict[_Key | None, Lease] = {}  # never under None; lookups may be
_fork.after_fork(_forget_parent)
