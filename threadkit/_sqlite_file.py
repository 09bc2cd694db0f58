"""The file of a ``SQLiteStore``: what is looked at before SQLite may touch it, how it is made, opened and spoken of."""

from __future__ import annotations

import contextlib
import os
import stat
import urllib.parse
from typing import TYPE_CHECKING

from threadkit._errors import StoreError, StoreFormatError, StoreLocked
from threadkit._sqlite_schema import APPLICATION_ID, CREATE, MIGRATIONS, VERSION

if TYPE_CHECKING:
    import sqlite3

_MAGIC = b"SQLite format 3\0"
_HEADER = 100  # bytes
_CHECKED_WHOLE = 64 * 2**20  # bytes; a larger file is checked where it is read


def examine(path: str) -> None:
    """Look at an existing file, without SQLite, which would replay whatever log lies beside it.

    Raises:
        StoreError: it cannot be read.
        StoreFormatError: it is no job store, one of a newer version, or broken.
    """
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        header = b""
        if is_file:  # to open a pipe would wait for somebody at its other end
            with open(path, "rb") as file:
                header = file.read(_HEADER)
    except OSError as error:
        raise StoreError(path, f"cannot be read ({error.strerror})") from error
    if not is_file:
        raise StoreFormatError(path, "this is no file; give the path of a file")
    if not header:
        raise StoreFormatError(path, "the file is empty: it is no job store; delete it, or give another path")
    if len(header) < _HEADER or not header.startswith(_MAGIC) or _number(header, 68) != APPLICATION_ID:
        raise StoreFormatError(path, "this is no job store; give another path")
    _refuse_newer(path, _number(header, 60))
    if _size(f"{path}-journal"):
        raise StoreFormatError(path, "another program has left a journal beside it; open it with that program first")
    if not _size(f"{path}-wal"):
        _check_whole(path)


def create(path: str) -> None:
    """Make a new file, all at once: it is complete before it has its name. Does nothing where there is one by then.

    Raises:
        StoreError: it cannot be made.
    """
    import sqlite3

    draft = f"{path}-new-{os.urandom(4).hex()}"
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {CREATE} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {VERSION}; COMMIT;"
            )
        finally:
            connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path)
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except OSError as error:
        raise StoreError(path, f"cannot be made ({error.strerror}); its folder must exist and be writable") from error
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(draft + end)


def connect(path: str, *, synchronous: str, patience: float) -> sqlite3.Connection:
    """Open a connection, for any thread, but for one at a time.

    Args:
        path: the file, which has been examined.
        synchronous: ``"FULL"`` or ``"NORMAL"``.
        patience: how many seconds to wait while another program holds the file locked.
    """
    import sqlite3

    connection = sqlite3.connect(
        f"file:{urllib.parse.quote(path)}?mode=rw",
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        uri=True,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("SELECT count(*) FROM tally").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring a file up to date; the caller has begun a transaction.

    Raises:
        StoreFormatError: it is of a newer version, which may stand in its log only; see ``examine()``.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _refuse_newer(path, version)
    while version < VERSION:
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        version += 1
        connection.execute(f"PRAGMA user_version = {version}")


def explained(error: Exception, path: str) -> StoreError:
    """Return an error of SQLite's as one that says what to do."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", None) or str(error)
    match code and code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreLocked(path, "another program holds it locked; close that, and try again")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreFormatError(path, f"it is broken ({error}); restore it from a copy, or give another path")
        case sqlite3.SQLITE_FULL:
            return StoreError(path, "the disk is full; free some space, and try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(path, f"cannot be written ({name}); the file and its folder must be writable")
        case sqlite3.SQLITE_IOERR:
            return StoreError(path, f"the disk does not work ({name}); look at the system's log")
        case _:
            return StoreError(path, f"{error}")


def _refuse_newer(path: str, version: int) -> None:
    if version > VERSION:
        raise StoreFormatError(
            path, f"it is of version {version}, and this threadkit knows versions up to {VERSION}; upgrade threadkit"
        )


def _check_whole(path: str) -> None:
    """Have SQLite look at a file, of which it takes no log into account, and which it must not change."""
    import sqlite3

    is_small = _size(path) <= _CHECKED_WHOLE
    try:
        connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro&immutable=1", uri=True)
        try:
            connection.execute("SELECT count(*) FROM tally").fetchone()
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone() if is_small else ("ok",)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok" and not _size(f"{path}-wal"):  # else another process has begun to write this very moment
        raise StoreFormatError(path, f"it is broken ({verdict}); restore it from a copy, or give another path")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _number(header: bytes, at: int) -> int:
    return int.from_bytes(header[at : at + 4], "big")


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
