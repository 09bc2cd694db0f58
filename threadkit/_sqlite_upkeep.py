"""The upkeep of a job file: opening, closing, what is due, what the dead left behind, and what to do without a disk."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections import deque
from datetime import UTC, datetime
from typing import ClassVar, Literal

from threadkit import _arguments, _fork, _sqlite_retention, _sqlite_steps
from threadkit._clock import Clock, Gate, open_gate
from threadkit._codec import JSON, Codec
from threadkit._errors import Closed, StoreError
from threadkit._jobfile import JobFile, Step, T
from threadkit._observe import logger
from threadkit._permits import Permits
from threadkit._records import FINISHED, PENDING, RETRYING, RUNNING, SCHEDULED, JobRecord
from threadkit._room import Room
from threadkit._sqlite_line import Line
from threadkit._sqlite_retention import Bounds
from threadkit._sqlite_rows import Known
from threadkit._stamps import EARLY, Almanac
from threadkit._storing import Host
from threadkit._transaction import Row, Transaction, state_at

Durability = Literal["power", "process", "eventual"]

_LOOK_EVERY = 5.0  # seconds; what another process does not tell of is found by then
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries while the file cannot be written


class _Hand(threading.local):
    """What a thread has to do with a store."""

    claims = False  # it is a worker, and will call claim() again
    job: JobRecord | None = None  # what was claimed for it as it settled another


class Upkeep:
    """The part of ``SQLiteStore`` that keeps its file in order."""

    durable: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: Durability = "power",
        *,
        codec: Codec | None = None,
        patience: float = 5.0,
    ) -> None:
        # As SQLite resolves it: what lies beside the file is the same for all who open it, by whichever link.
        self._path: str = os.path.realpath(os.fspath(path))
        self._durability: Durability = _arguments.choice(durability, "durability", ("power", "process", "eventual"))
        self._codec: Codec = codec if codec is not None else JSON()
        self._patience = _arguments.seconds(patience, "patience")
        self._generation: int | None = None  # None: it was never opened
        self._file: JobFile

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r} {self._durability}>"

    def open(self, bounds: Bounds, host: Host) -> None:
        """Begin; see ``JobStore``. In a forked child the file is opened anew.

        Raises:
            StoreError: another queue uses this object; or the file cannot be opened.
            StoreLocked: another program holds the file locked.
            StoreFormatError: it is no job store of a version that is known, or it is broken.
        """
        if self._generation == _fork.generation() and self._file.is_open:
            raise StoreError(self._path, "another queue uses this object; make one for each queue")
        self._host = host
        self._bounds = bounds
        self._almanac = Almanac(host.clock)
        self._known = Known(host, self._codec, self._almanac.moment)
        self._hand = _Hand()
        self._line = Line(self._known.mine)
        self._handed: deque[JobRecord] = deque()  # jobs that were begun as they were submitted, for an idle worker
        self._front: deque[JobRecord] = deque()  # jobs in hand that their limits let go
        self._pending = self._waiting = 0
        self._room = Room(host.clock(), math.inf, 0)  # until room() is called
        self._is_listening = False
        self._is_closing = False
        self._trouble: deque[Exception] = deque(maxlen=1)  # guarded by the lock of _known, with the one below
        self._next_pause = _FIRST_PAUSE
        self._pauses: deque[Gate] = deque()  # gates of those who wait for the file to work again
        self._file = JobFile(
            self._path,
            synchronous="FULL" if self._durability == "power" else "NORMAL",
            patience=self._patience,
            finish=lambda tx: _sqlite_retention.forget_many(tx, bounds),
            now=self._almanac.now,
            on_commit=self._on_commit,
        )
        self._generation = _fork.generation()
        try:
            self._file.sync()  # to know the counts
            self._ended = self._rescue()  # jobs that the next tend() tells of
            self._file.ring_all()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file, as soon as nothing of it runs here any more; see ``JobStore``."""
        if self._generation != _fork.generation() or not self._file.is_open:
            return
        self._is_closing = True
        while self._pauses:
            with contextlib.suppress(IndexError):  # the last one has just gone on by itself
                open_gate(self._pauses.popleft())
        self._put_back_handed()
        self._close_if_done()

    def room(self, clock: Clock, maxsize: float) -> Permits:
        """Return what keeps the bound by the number of rows that wait, whoever put them there."""
        self._room = Room(clock, maxsize, self._waiting)
        return self._room

    def serve(self, free: frozenset[str], limited: frozenset[str]) -> None:
        """Hear which handlers can be called; jobs of no others are claimed."""
        self._line.serve(free, limited)

    def listen(self) -> None:
        """Hear of other processes from now on; see ``DurableStore``."""
        self._is_listening = True
        if self._file.doorbell is not None:
            self._file.doorbell.listen(f"{os.path.basename(self._path)}-doorbell", self._answer)

    def tend(self) -> tuple[list[JobRecord], float]:
        """Do what is due; see ``DurableStore``."""
        now = self._host.clock().monotonic()
        if self._is_closing:
            return [], now + _LOOK_EVERY
        self._almanac.adjust()
        ended, self._ended = self._ended, []
        try:
            ended += self._rescue()
            is_more = True
            while is_more and not self._is_closing:
                rows, is_more = self._file.run(_sqlite_steps.promote)
                for row in rows:
                    if state_at(row["state"]) in FINISHED:
                        ended.append(self._known.learn(row, is_mine=False))
                        self._line.let_go()  # who calls this has the others look
                    else:
                        self._known.learn(row)
            due = self._file.run(self._look_on)
        except (StoreError, Closed) as error:
            self._ended = ended
            self._report(error)
            return [], now + _LONGEST_PAUSE
        self._recover()
        again = now + _LOOK_EVERY
        return ended, again if due is None else min(again, self._almanac.moment(due) - EARLY / 2)

    def _look_on(self, tx: Transaction) -> float | None:
        """Forget what is too old; return the POSIX time at which there is something to do again."""
        moments = (_sqlite_steps.next_due(tx), _sqlite_retention.forget_old(tx, self._bounds))
        return min((moment for moment in moments if moment is not None), default=None)

    def condemned(self) -> list[JobRecord]:
        """Return the jobs that run here and that others have condemned since the last call; see ``DurableStore``."""
        found = self._file.read(
            "SELECT seq, fate, why, rev FROM job WHERE owner = ? AND fate NOT NULL", self._file.owner
        )
        return self._known.condemn_mine(found)

    def _rescue(self) -> list[JobRecord]:
        """Take over the jobs of processes that are dead; return those that came to their end by that."""
        ended: list[JobRecord] = []
        for owner in self._file.dead():
            is_more = True
            while is_more:
                rows, is_more = self._file.run(functools.partial(self._rescue_some, owner))
                ended += [self._known.learn(row) for row in rows]
            self._file.bury(owner)
        return ended

    def _rescue_some(self, owner: int, tx: Transaction) -> tuple[list[Row], bool]:
        if not self._file.is_dead(owner):
            return [], False
        return _sqlite_steps.rescue(tx, owner, datetime.fromtimestamp(tx.now, UTC).isoformat())

    def _on_commit(self, tally: list[int], tx: Transaction | None) -> None:
        """Know what the file says. The leader's callback; no other thread writes these, but all may read them."""
        self._pending = tally[PENDING.column]
        waiting = tally[SCHEDULED.column] + tally[RETRYING.column] + self._pending
        if tx is None or (tx.fills_line and tx.found_nothing is None):
            self._line.fill()
        elif tx.found_nothing is not None:
            self._line.found_nothing(tx.found_nothing)
        self._waiting = waiting
        self._room.update(waiting, 0 if tx is None else tx.arrived)

    def _answer(self) -> None:
        """Another process has rung."""
        try:
            self._file.sync()  # which looks whether the file has changed
            self._host.news()
        except (StoreError, Closed) as error:
            self._report(error)
        except Exception:
            logger.exception("job store %r could not hear of other processes", self._path)

    # -- without a disk -----------------------------------------------------------------------------------------------

    def _insist(self, step: Step[T]) -> T:
        """Do a step, however long it takes until the file can be written, or the queue is closed.

        Raises:
            StoreError: the queue is closed.
        """
        while True:
            try:
                value = self._file.run(step)
            except StoreError as error:
                self._report(error)
                if self._is_closing:
                    raise
                self._pause()
            else:
                self._recover()
                return value

    def _pause(self) -> None:
        """Wait a moment, longer each time, until the file is tried again; or until the queue is closed."""
        with self._known.lock:
            seconds, self._next_pause = self._next_pause, min(2 * self._next_pause, _LONGEST_PAUSE)
        clock = self._host.clock()
        gate = clock.gate()
        self._pauses.append(gate)
        if not self._is_closing:  # which is written first, and the gates are opened then
            clock.park(gate, clock.monotonic() + seconds)
        with contextlib.suppress(ValueError):  # close() has taken it out
            self._pauses.remove(gate)

    def _report(self, error: Exception) -> None:
        """Tell of the first error in a row."""
        with self._known.lock:
            is_known = bool(self._trouble)
            self._trouble.append(error)
        if not is_known:
            self._host.trouble(error)

    def _recover(self) -> None:
        while self._trouble:
            with contextlib.suppress(IndexError):  # somebody else has just told
                with self._known.lock:
                    self._trouble.pop()
                    self._next_pause = _FIRST_PAUSE
                self._host.trouble(None)

    def _put_back(self, record: JobRecord) -> None:
        """Put a job back that was claimed, and that nobody will run."""
        expires_at = None if record.expires_at is None else self._almanac.posix(record.expires_at)
        try:
            row = self._insist(lambda tx: _sqlite_steps.unclaim(tx, record.row.seq, expires_at))
        except (StoreError, Closed):
            return  # it is run again when this process has ended
        if row is not None and self._known.learn(row, is_mine=False).state in FINISHED:
            self._ended.append(record)
            self._host.tend_within(0)
        self._close_if_done()

    def _put_back_handed(self) -> None:
        """Put the jobs back that were begun as they were submitted, and that no worker has taken."""
        while self._handed:
            with contextlib.suppress(IndexError):  # a worker has just taken the last one
                self._put_back(self._handed.popleft())

    def _close_if_done(self) -> None:
        """Where the end has been asked for leave to others what does not run; close the file where nothing does."""
        if not self._is_closing:
            return
        try:
            self._file.run(_sqlite_steps.let_go)
        except StoreError as error:
            self._report(error)
        except Closed:  # by whoever has just ended the last job
            return
        if not any(record.state is RUNNING for record in self._known.mine()):
            self._file.close()
