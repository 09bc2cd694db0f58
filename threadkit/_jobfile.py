"""``JobFile``: an open job file, its transactions, and the other processes that have it open.

Two connections: one writes, by whoever leads the group commit, and one reads what is committed. Neither goes over a
fork: a forked child neither uses nor closes them, since closing would tear down what its parent works with.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from threadkit import _fork, _sqlite_file
from threadkit._commit import GroupCommit, Piece
from threadkit._errors import Closed, StoreError, ThreadkitError
from threadkit._observe import logger
from threadkit._owners import LockFile
from threadkit._transaction import Transaction
from threadkit._wakeup import Doorbell, ring

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
Step = Callable[[Transaction], T]


class JobFile:
    """A file, open.

    Args:
        path: where it is; it is made if need be.
        synchronous: ``"FULL"`` or ``"NORMAL"``.
        patience: how many seconds to wait while another program holds it locked.
        finish: a step that ends each transaction.
        now: returns the POSIX time.
        on_commit: told of each transaction that was committed, and of the counts where others committed something.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        patience: float,
        finish: Step[None],
        now: Callable[[], float],
        on_commit: Callable[[list[int], Transaction | None], None],
    ) -> None:
        import sqlite3

        import_module("ctypes")  # so that a forked child need not load it; see _strand()
        self.path = path
        self.owner = 0
        self.doorbell: Doorbell | None = None
        self._patience = patience
        self._synchronous = synchronous
        self._finish = finish
        self._now = now
        self._on_commit = on_commit
        self._commits: GroupCommit[Transaction] = GroupCommit(self._write_alone)
        self.writing = threading.RLock()  # the leader's while it writes, and whoever forks takes it; see _hold_still()
        # The leader's alone: what the file said when this process wrote last, and who else has it open.
        self._version = -1
        self._tally: list[int] = []
        self._peers: list[str] = []
        self._is_cramped = False  # the disk was full when somebody tried last
        self.reading = threading.RLock()  # guards the reader, and is_open; nothing is called under it
        self.is_open = False
        if not LockFile.is_open(f"{path}-lock"):  # else it has been looked at, and reading it now would unlock it
            if not os.path.lexists(path):
                _sqlite_file.create(path)
            _sqlite_file.examine(path)
        self._lock = LockFile.of(f"{path}-lock")
        try:
            self._writer = self._connect()
            self._reader = self._connect()
            self._register()
        except BaseException as error:
            self._dispose()
            if isinstance(error, sqlite3.Error):
                raise _sqlite_file.explained(error, path) from error
            raise
        self.is_open = True
        _open_files.add(self)

    # -- writing ------------------------------------------------------------------------------------------------------

    def run(self, step: Step[T]) -> T:
        """Do a step in a transaction, and return what it returned when that is as safe as was asked for.

        Raises:
            StoreError: it could not be done, and nothing of it was.
            Closed: the file has been closed.
        """
        return self._commits.run(step)

    def post(self, step: Step[object]) -> int:
        """Have a step done with the next that somebody waits for; return how many wait already."""
        return self._commits.post(step)

    def sync(self) -> None:
        """Commit what was posted, and look whether others have changed the file."""
        self.run(lambda _: None)

    def is_anything_posted(self) -> bool:
        """Return whether there are steps that are not on the disk."""
        return self._commits.is_anything_posted()

    def _write_alone(self, take: Callable[[], Piece[Transaction] | None], pieces: list[Piece[Transaction]]) -> None:
        with self.writing:
            self._write(take, pieces)

    def _write(self, take: Callable[[], Piece[Transaction] | None], pieces: list[Piece[Transaction]]) -> None:
        """Do steps in one transaction, as long as there are any."""
        tx: Transaction | None = None
        try:
            tx = self._begin()
            while len(pieces) < _MOST_PIECES and (piece := take()) is not None:
                pieces.append(piece)
                piece.error = None
                try:
                    piece.value = piece.work(tx)
                except ThreadkitError as refusal:  # before it changed anything
                    piece.error = refusal
            self._commit(tx)
        except Exception as error:
            self._roll_back()
            self._blame(error, take, pieces)
            return
        except BaseException:  # Ctrl-C
            if tx is None or self._writer.in_transaction:
                self._roll_back()
                raise
            self._tell(tx, pieces)
            raise
        self._tell(tx, pieces)

    def _blame(
        self, error: Exception, take: Callable[[], Piece[Transaction] | None], pieces: list[Piece[Transaction]]
    ) -> None:
        """A transaction has failed: tell those whom it concerns."""
        import sqlite3

        is_the_files = isinstance(error, ThreadkitError | sqlite3.OperationalError) or (
            type(error) is sqlite3.DatabaseError
        )
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            self._is_cramped = True
        if is_the_files and not pieces:  # it did not even begin, and whoever waits must hear of it
            while (piece := take()) is not None:
                pieces.append(piece)
        if isinstance(error, sqlite3.Error):
            error = _sqlite_file.explained(error, self.path) if is_the_files else _refused(error)
        if not is_the_files and len(pieces) > 1:  # one of them is at fault; the others must not suffer for it
            for piece in pieces:
                self._write(iter([piece, None]).__next__, [])
            return
        for piece in pieces:
            piece.error = error
            piece.is_done = piece.gate is not None or not is_the_files  # what was posted is tried again
            if piece.is_done and piece.gate is None:
                logger.error("job store %r could not do what nobody waited for", self.path, exc_info=piece.error)

    def _begin(self) -> Transaction:
        if not self.is_open:
            raise Closed("job store", self.path, "its queue has ended; make a new queue")
        execute = self._writer.execute
        if self._is_cramped:
            # What room there is now is for the file: then its log, which may hold a page many times, can be emptied.
            (is_busy, *_) = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._is_cramped = bool(is_busy)
        execute("BEGIN IMMEDIATE")
        (version,) = execute("PRAGMA data_version").fetchone()
        if version != self._version or not self._tally:  # another process has written
            self._tally = list(execute("SELECT * FROM tally").fetchone())
            self._peers = [
                path
                for (path,) in execute("SELECT doorbell FROM owner WHERE id != ? AND doorbell NOT NULL", (self.owner,))
            ]
            self._version = version
            self._on_commit(self._tally, None)
        return Transaction(self._writer, self._tally.copy(), self.owner, self._now())

    def _commit(self, tx: Transaction) -> None:
        self._finish(tx)
        if tx.tally != self._tally:
            tx.execute(_WRITE_TALLY, tx.tally)
        tx.execute("COMMIT")

    def _roll_back(self) -> None:
        import sqlite3

        self._tally = []
        with contextlib.suppress(sqlite3.Error):  # SQLite has done it itself, or cannot; then the next begin tells
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _tell(self, tx: Transaction, pieces: list[Piece[Transaction]]) -> None:
        """What has been committed is true: tell everybody."""
        self._tally = tx.tally
        self._on_commit(tx.tally, tx)
        for piece in pieces:
            piece.is_done = True
        if tx.news:
            for path in self._peers:
                ring(path)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what is committed, also after the file was closed.

        Raises:
            StoreError: it cannot be read.
        """
        import sqlite3

        if self._commits.is_anything_posted() and self.is_open:
            self.sync()
        try:
            with self.reading:
                if self.is_open:
                    return self._reader.execute(query, values).fetchall()
            connection = self._connect()
            try:
                return connection.execute(query, values).fetchall()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise _sqlite_file.explained(error, self.path) from error

    def try_value(self, value: object) -> None:
        """Look whether SQLite takes a value, once the file is open.

        Raises:
            Exception: whatever SQLite raises where it does not.
        """
        with self.reading:
            if self.is_open:
                self._reader.execute("SELECT ? IS NULL", (value,)).fetchone()

    # -- others -------------------------------------------------------------------------------------------------------

    def dead(self) -> list[int]:
        """Return the owners that are in the file, and whose processes are dead."""
        found = self.read("SELECT id FROM owner UNION SELECT owner FROM job WHERE owner IS NOT NULL")
        return [owner for (owner,) in found if not self._lock.is_alive(owner)]

    def is_dead(self, owner: int) -> bool:
        """Look again, inside a transaction, so that of two who look one comes first."""
        return not self._lock.is_alive(owner)

    def bury(self, owner: int) -> None:
        """Take away what a dead process has left beside the file; its number is never used again."""
        with contextlib.suppress(OSError):
            os.unlink(self._bell_of(owner))

    def _bell_of(self, owner: int) -> str:
        return f"{self.path}-wake-{owner}"

    def ring_all(self) -> None:
        """Have the other processes look."""
        for (path,) in self.read("SELECT doorbell FROM owner WHERE id != ? AND doorbell NOT NULL", self.owner):
            ring(path)

    def _register(self) -> None:
        """Become an owner. Whoever sees the row finds the lock held."""
        execute = self._writer.execute
        execute("BEGIN IMMEDIATE")
        _sqlite_file.migrate(self._writer, self.path)
        self.owner = execute("INSERT INTO owner (pid) VALUES (?)", (os.getpid(),)).lastrowid or 0
        if not self._lock.hold(self.owner):
            raise StoreError(
                self.path, "another process holds the lock of a new owner; is the lock file that of a copy?"
            )
        with contextlib.suppress(OSError):  # this file system has no pipes: others are noticed by the slow look
            self.doorbell = Doorbell(self._bell_of(self.owner))
            execute("UPDATE owner SET doorbell = ? WHERE id = ?", (self.doorbell.path, self.owner))
        execute("COMMIT")

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close it, and be no owner any more, unless somebody here runs a job. What is not committed is lost."""
        with contextlib.suppress(StoreError, Closed):  # without a disk nobody has just begun one, either
            if not self.run(_leave):
                return
        with self.reading:
            if not self.is_open:
                return
            self.is_open = False
        _open_files.discard(self)
        self._dispose()

    def _dispose(self) -> None:
        for name in ("_reader", "_writer"):  # the writer last: it may write what the log holds into the file
            connection: sqlite3.Connection | None = getattr(self, name, None)
            if connection is not None:
                connection.close()
        if self.doorbell is not None:
            self.doorbell.close()
        if self.owner:
            self._lock.release(self.owner)
        self._lock.close()

    def _connect(self) -> sqlite3.Connection:
        return _sqlite_file.connect(self.path, synchronous=self._synchronous, patience=self._patience)


def _refused(error: Exception) -> ValueError:
    """Return an error of SQLite's that what it was given is at fault for, and not the file."""
    refusal = ValueError(f"SQLite does not take it: {error}")
    refusal.__cause__ = error
    return refusal


def _leave(tx: Transaction) -> bool:
    """Be no owner any more, unless somebody has just begun a job."""
    if tx.execute("SELECT 1 FROM job WHERE owner = ? AND state = 2 LIMIT 1", (tx.owner,)).fetchone() is not None:
        return False
    tx.execute("DELETE FROM owner WHERE id = ?", (tx.owner,))
    return True


_MOST_PIECES = 1000  # in one transaction
_WRITE_TALLY = (
    "UPDATE tally SET scheduled = ?, pending = ?, running = ?, retrying = ?, completed = ?, failed = ?, cancelled = ?,"
    " expired = ?, discarded = ?, turns = ?, kept_completed = ?, kept_failed = ?, kept_cancelled = ?, kept_expired = ?,"
    " kept_discarded = ?"
)
_open_files: weakref.WeakSet[JobFile] = weakref.WeakSet()


class _Fork(threading.local):
    """What the thread holds that forks at this moment."""

    def __init__(self) -> None:
        self.held: list[threading.RLock] = []


_fork_of = _Fork()


def _hold_still() -> None:
    """Before a fork: wait until no file is in use. A child's SQLite would believe for ever that it still is."""
    held = _fork_of.held
    locks = [lock for file in list(_open_files) for lock in (file.writing, file.reading)]
    while len(held) < len(locks):
        for lock in locks:
            if not lock.acquire(blocking=not held):  # nobody waits for a second lock while holding one
                _go_on()
                locks.remove(lock)  # that one is waited for next
                locks.insert(0, lock)
                break
            held.append(lock)


def _go_on() -> None:
    held = _fork_of.held
    while held:
        held.pop().release()


def _strand() -> None:
    """In a forked child: see to it that nothing of the parent's is ever closed, not even when the child ends."""
    for file in list(_open_files):
        import ctypes

        for connection in (file._reader, file._writer):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    _open_files.clear()


_fork.after_fork(_strand)
_fork.around_fork(_hold_still, _go_on)
