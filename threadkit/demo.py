"""A small service, made of all six primitives: it indexes a folder, and can go on watching it.

    walker (thread) --submits--> index (queue) --calls--> measure (executor)
                                     |
                                     `--publishes 'file.indexed'--> bus --> the running summary
    report (task) --asks the action 'status' on the bus--> progress on the terminal

Everything here is threadkit's public interface, so it can be read as an example. Start reading at ``run()``.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import attrs

from threadkit import Lifecycle, Message, Retry, StopToken, backoff, events

_CHUNK = 1 << 20
_WATCH_EVERY = 1.0  # seconds between two looks at a watched folder
_REPORT_EVERY = 0.5


class Refused(ValueError):
    """The command cannot run with these arguments."""


def run(folder: str | None, *, watch: bool, workers: int, index: str | None, as_json: bool) -> int:
    """Index ``folder``, or the standard library, and return what the process should exit with: 0, or 128 + n.

    Raises:
        Refused: an argument makes no sense.
    """
    # What pip installs lies inside the standard library's folder, but is no part of it.
    skip = frozenset({"site-packages", "dist-packages"}) if folder is None else frozenset[str]()
    folder = folder if folder is not None else sysconfig.get_path("stdlib")
    if not os.path.isdir(folder):
        raise Refused(f"FOLDER must be a folder, but {folder!r} is none")
    if workers < 1:
        raise Refused(f"--workers must be at least 1, but is {workers}")
    path = os.path.abspath(index or os.path.join(tempfile.mkdtemp(prefix="threadkit-"), "index.db"))
    warnings.simplefilter("ignore", SyntaxWarning)  # the files that are parsed are not ours to criticise
    began = time.perf_counter()

    summary = Summary()
    lc = Lifecycle("demo", stop_timeout=8.0)
    files = lc.enter_context(Index(path))  # closes last, when nothing can write to it any more
    progress = lc.enter_context(_progress(quiet=as_json or not sys.stderr.isatty()))
    bus = lc.bus()
    measuring = lc.executor("measure", max_workers=workers)
    # When a stop is asked for, finish what runs and leave the rest: the report says how much that was. What the handlers use
    # is required, so it stays up until they have ended.
    jobs = lc.queue(
        "index",
        workers=workers,
        on_stop="finish",
        retry=Retry(3, backoff.exponential(0.1), on=OSError),
        requires=[bus, measuring],
    )

    @jobs.handler
    def index_file(payload: str) -> None:
        facts = measuring.submit(measure, payload).result()
        files.store(facts)
        bus.publish("file.indexed", facts)

    @jobs.handler
    def forget_file(payload: str) -> None:
        files.remove(payload)

    @bus.on("file.*")
    def count(message: Message) -> None:
        if message.channel == "file.indexed":
            summary.add(message.payload)
        else:
            summary.fail()
        if summary.is_complete():
            lc.stop("every file is indexed")

    def tell_dead_letters(event: events.Event) -> None:
        if isinstance(event, events.JobDied):
            bus.publish("file.failed", event.job_id)

    jobs.observe(tell_dead_letters)

    @bus.action("status")
    def status() -> dict[str, Any]:
        return {**summary.as_dict(), "waiting": jobs.stats().pending}

    @lc.every(_REPORT_EVERY)
    def report() -> None:
        files.commit()
        progress.show(bus.call("status"))

    @lc.thread
    def walker(running: StopToken) -> None:
        known: dict[str, tuple[int, int]] = {}
        ours = {path + suffix for suffix in ("", "-journal")}
        while True:
            found = {name: stamp for name, stamp in walk(running, folder, skip) if name not in ours}
            for name, stamp in found.items():
                if not running():
                    return
                if known.get(name) != stamp:
                    summary.find()
                    jobs.submit("index_file", name)  # waits while the queue is full
            for name in known.keys() - found.keys():
                jobs.submit("forget_file", name)
            known = found
            if not watch:
                break
            running.sleep(_WATCH_EVERY)
        if summary.end_walk():
            lc.stop("every file is indexed")

    code = lc.run_forever()
    result = {**totals(path), "failed": summary.as_dict()["failed"], "index": path}
    result["seconds"] = round(time.perf_counter() - began, 3)
    if as_json:
        print(json.dumps(result))
    else:
        print(_table(result), lc.report, sep="\n\n")
    return code


def walk(running: StopToken, folder: str, skip: frozenset[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the path, and the time of change and size, of each regular file. Symbolic links are not followed."""
    for directory, folders, names in os.walk(os.path.abspath(folder)):
        folders[:] = sorted(set(folders) - skip)
        if not running():
            return
        for name in names:
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):  # it is gone since the folder was read
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield path, (status.st_mtime_ns, status.st_size)


@attrs.frozen
class Facts:
    """One row of the index."""

    path: str
    size: int
    lines: int
    sha256: str
    functions: int | None
    classes: int | None


def measure(path: str) -> Facts:
    """Read a file once and work its facts out."""
    digest, size, lines = hashlib.sha256(), 0, 0
    chunks = []
    is_python = path.endswith(".py")
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            if is_python:
                chunks.append(chunk)
    functions, classes = count_definitions(b"".join(chunks)) if is_python else (None, None)
    return Facts(path, size, lines, digest.hexdigest(), functions, classes)


def count_definitions(source: bytes) -> tuple[int, int] | tuple[None, None]:
    """Return the number of functions and of classes in Python source, or Nones where it does not parse."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, None
    functions = sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes)
    return functions, sum(isinstance(node, ast.ClassDef) for node in nodes)


class Summary:
    """What has happened so far. Written by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the figures
        self._figures = {"found": 0, "files": 0, "failed": 0, "bytes": 0, "lines": 0, "functions": 0, "classes": 0}
        self._walk_ended = False

    def find(self) -> None:
        """Count a file that is going to be indexed."""
        with self._lock:
            self._figures["found"] += 1

    def add(self, facts: Facts) -> None:
        """Count a file that has been indexed."""
        with self._lock:
            self._figures["files"] += 1
            self._figures["bytes"] += facts.size
            self._figures["lines"] += facts.lines
            self._figures["functions"] += facts.functions or 0
            self._figures["classes"] += facts.classes or 0

    def fail(self) -> None:
        """Count a file that could not be read."""
        with self._lock:
            self._figures["failed"] += 1

    def end_walk(self) -> bool:
        """Note that no more files will be found; return ``is_complete()``."""
        with self._lock:
            self._walk_ended = True
        return self.is_complete()

    def is_complete(self) -> bool:
        """Return True when every file there is has been dealt with."""
        with self._lock:
            done = self._figures["files"] + self._figures["failed"]
            return self._walk_ended and done == self._figures["found"]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as of one moment."""
        with self._lock:
            return dict(self._figures)


class Index:
    """The SQLite file. One connection for all threads, behind a lock; a context manager that closes it."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()  # guards the connection
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False)
            self._connection.executescript(
                "DROP TABLE IF EXISTS files;"
                "CREATE TABLE files (path PRIMARY KEY, size INTEGER NOT NULL, lines INTEGER NOT NULL,"
                " sha256 TEXT NOT NULL, functions INTEGER, classes INTEGER) WITHOUT ROWID;"
            )
        except sqlite3.Error as error:
            raise Refused(f"--index {path!r} cannot be used: {error}") from error

    def store(self, facts: Facts) -> None:
        """Write a row; a file that is there already is replaced."""
        row = (_storable(facts.path), *attrs.astuple(facts)[1:])
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", row)

    def remove(self, path: str) -> None:
        """Delete a row."""
        with self._lock:
            self._connection.execute("DELETE FROM files WHERE path = ?", (_storable(path),))

    def commit(self) -> None:
        """Make what was written visible to others, and lasting."""
        with self._lock:
            self._connection.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._connection.commit()
            self._connection.close()


def totals(path: str) -> dict[str, Any]:
    """Return what the finished index says of itself: how many files, how many bytes."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        files, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM files").fetchone()
    return {"files": files, "bytes": size}


def _storable(path: str) -> str | bytes:
    """Return a path as SQLite can keep it: the few that are no valid text as the bytes that they are."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


class _Display(Protocol):
    def show(self, status: dict[str, Any]) -> None: ...


class _Quiet:
    def show(self, status: dict[str, Any]) -> None:
        pass


class _Lines:
    """Progress as plain lines, with the rate since the last one."""

    def __init__(self) -> None:
        self._last = (time.perf_counter(), 0)

    def show(self, status: dict[str, Any]) -> None:
        print(self.text(status), file=sys.stderr)

    def text(self, status: dict[str, Any]) -> str:
        (then, before), now = self._last, time.perf_counter()
        self._last = (now, status["files"])
        rate = (status["files"] - before) / (now - then)
        return f"{status['files']} of {status['found']} files, {rate:.0f} a second, {status['failed']} failed"


class _Status(_Lines):
    """The same in one line that stays in its place, by rich."""

    def __init__(self, status: Any) -> None:
        super().__init__()
        self._status = status

    def show(self, status: dict[str, Any]) -> None:
        self._status.update(self.text(status))


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[_Display]:
    if quiet:
        yield _Quiet()
        return
    try:
        from rich.console import Console
    except ImportError:
        yield _Lines()
        return
    with Console(stderr=True).status("looking for files") as status:
        yield _Status(status)


def _table(result: dict[str, Any]) -> str:
    return "\n".join(f"{key:>8}  {value:,}" if isinstance(value, int) else f"{key:>8}  {value}" for key, value in result.items())
