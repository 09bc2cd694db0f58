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
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import attrs

from threadkit import Lifecycle, Message, Retry, StopToken, backoff, events

_CHUNK = 1 << 20
_WATCH_EVERY = 1.0  # seconds between two looks at a watched folder
_REPORT_EVERY = 0.5

Stamp = tuple[int, int]
"""When a file was changed, in nanoseconds, and its size: it has changed when they have."""


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

    lc = Lifecycle("demo", stop_timeout=8.0)
    files = lc.enter_context(Index(path))  # closes last, when nothing can write to it any more
    progress = lc.enter_context(_progress(quiet=as_json or not sys.stderr.isatty()))
    summary = Summary(on_complete=lambda: lc.stop("every file is indexed"))

    def look(running: StopToken) -> Iterator[tuple[str, Stamp]]:
        ours = {path, f"{path}-journal"}
        return ((name, stamp) for name, stamp in walk(running, folder, skip) if name not in ours)

    furnish(lc, files, progress, summary, look, workers=workers, watch=watch)
    code = lc.run_forever()

    result = {**totals(path), "failed": summary.as_dict()["failed"], "index": path}
    result["seconds"] = round(time.perf_counter() - began, 3)
    if as_json:
        print(json.dumps(result))
    else:
        print(_table(result), lc.report, sep="\n\n")
    return code


def furnish(
    lc: Lifecycle,
    files: Index,
    progress: Display,
    summary: Summary,
    look: Callable[[StopToken], Iterator[tuple[str, Stamp]]],
    *,
    workers: int,
    watch: bool,
) -> None:
    """Put the six primitives into the lifecycle."""
    bus = lc.bus()
    bus.on("file.indexed")(summary.add)
    measuring = lc.executor("measure", max_workers=workers)
    # When a stop is asked for, finish what runs and leave the rest: the report says how much that was. What the
    # handlers use is required, so it stays up until they have ended.
    jobs = lc.queue(
        "index",
        workers=workers,
        on_stop="finish",
        retry=Retry(3, backoff.exponential(0.1), on=OSError),
        requires=[bus, measuring],
    )
    jobs.observe(summary.note)

    @jobs.handler
    def index_file(payload: str) -> None:
        facts = measuring.submit(measure, payload).result()
        files.store(facts)
        bus.publish("file.indexed", facts)

    @jobs.handler
    def forget_file(payload: str) -> None:
        files.remove(payload)

    @bus.action("status")
    def status() -> dict[str, int]:
        return {**summary.as_dict(), "waiting": jobs.stats().pending}

    @lc.every(_REPORT_EVERY, fixed="delay")  # a display wants a pause between two, on a busy machine too
    def report() -> None:
        files.commit()
        progress.show(bus.call("status"))

    @lc.thread
    def walker(running: StopToken) -> None:
        for handler, path in changes(running, look, watch=watch):
            if not running():
                return
            if handler == "index_file":
                summary.find()
            jobs.submit(handler, path)  # waits while the queue is full
        summary.end_walk()


def changes(
    running: StopToken, look: Callable[[StopToken], Iterator[tuple[str, Stamp]]], *, watch: bool
) -> Iterator[tuple[str, str]]:
    """Yield a handler and a path for every file that is new or changed, and for every one that is gone."""
    known: dict[str, Stamp] = {}
    while True:
        found = dict(look(running))
        yield from (("index_file", path) for path, stamp in found.items() if known.get(path) != stamp)
        yield from (("forget_file", path) for path in known.keys() - found.keys())
        known = found
        if not watch or not running.sleep(_WATCH_EVERY):
            return


def walk(running: StopToken, folder: str, skip: frozenset[str]) -> Iterator[tuple[str, Stamp]]:
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
    chunks: list[bytes] = []
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
    """What has happened so far. Written by many threads.

    Args:
        on_complete: called when the walk has ended and every file that it found has been dealt with.
    """

    def __init__(self, on_complete: Callable[[], None]) -> None:
        self._on_complete = on_complete
        self._lock = threading.Lock()  # guards all below
        names: tuple[str, ...] = ("found", "files", "failed", "bytes", "lines", "functions", "classes")
        self._figures: dict[str, int] = dict.fromkeys(names, 0)
        self._walk_ended = False

    def find(self) -> None:
        """Count a file that is going to be indexed."""
        self._count(found=1)

    def add(self, message: Message) -> None:
        """Count a file that has been indexed: a subscriber of ``file.indexed``."""
        facts: Facts = message.payload
        self._count(
            files=1, bytes=facts.size, lines=facts.lines, functions=facts.functions or 0, classes=facts.classes or 0
        )

    def note(self, event: events.Event) -> None:
        """Count a file that could not be read: an observer of the queue."""
        if isinstance(event, events.JobDied):
            self._count(failed=1)

    def end_walk(self) -> None:
        """Note that no more files will be found."""
        with self._lock:
            self._walk_ended = True
        self._count()

    def as_dict(self) -> dict[str, int]:
        """Return the figures as of one moment."""
        with self._lock:
            return dict(self._figures)

    def _count(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._figures[name] += amount
            done = self._figures["files"] + self._figures["failed"]
            is_complete = self._walk_ended and done == self._figures["found"]
        if is_complete:
            self._on_complete()


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


class Display(Protocol):
    """Where progress is shown."""

    def show(self, status: dict[str, int]) -> None:
        """Show how far the work has come."""
        ...


class _Quiet:
    def show(self, status: dict[str, int]) -> None:
        pass


class _Lines:
    """Progress as plain lines, with the rate since the last one."""

    def __init__(self) -> None:
        self._last = (time.perf_counter(), 0)

    def show(self, status: dict[str, int]) -> None:
        print(self.text(status), file=sys.stderr)

    def text(self, status: dict[str, int]) -> str:
        (then, before), now = self._last, time.perf_counter()
        self._last = (now, status["files"])
        rate = (status["files"] - before) / (now - then)
        return f"{status['files']} of {status['found']} files, {rate:.0f} a second, {status['failed']} failed"


class _Status(_Lines):
    """The same in one line that stays in its place, by rich."""

    def __init__(self, status: Any) -> None:
        super().__init__()
        self._status = status

    def show(self, status: dict[str, int]) -> None:
        self._status.update(self.text(status))


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Generator[Display]:
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
    return "\n".join(
        f"{key:>8}  {value:,}" if isinstance(value, int) else f"{key:>8}  {value}" for key, value in result.items()
    )
