"""``MemoryStore``: jobs in memory.

A store decides who is first. Whatever several want to do to the same job (run it, cancel it, let it expire), they ask
the store to *move* it, and it grants that to one of them. What counts as done is what the store has accepted.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections import deque
from typing import ClassVar

from threadkit import _fork
from threadkit._clock import Clock
from threadkit._errors import StoreError
from threadkit._keep import Bound, Keep
from threadkit._ledger import Ledger
from threadkit._permits import Permits
from threadkit._records import (
    ANY_JOB,
    FAILED,
    FINISHED,
    PENDING,
    RETRYING,
    SCHEDULED,
    JobFilter,
    JobRecord,
    JobState,
)
from threadkit._stamps import EARLY
from threadkit._storing import Host


class MemoryStore:
    """Keeps jobs as long as the process lives; what a queue uses by default.

    Example:
        >>> from threadkit import WorkQueue, stores
        >>> queue = WorkQueue(store=stores.MemoryStore(), workers=0)
        >>> queue.stats().submitted
        0
    """

    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._generation: int | None = None

    def open(self, bounds: tuple[Bound[JobState], ...], host: Host) -> None:
        """Begin, and remember finished jobs within these bounds; in a forked child begin anew.

        Raises:
            StoreError: another queue uses it.
        """
        if self._generation == _fork.generation():
            raise StoreError("in memory", "another queue uses it; make one for each queue")
        self._generation = _fork.generation()
        self._host = host
        self._limited: frozenset[str] = frozenset()
        # Held while a job is claimed and gets its ticket, where any handler has limits. Nothing is called under it but
        # line_up(); reentrant as the other one.
        self._claim_lock = threading.RLock()
        self._ledger = Ledger()
        # Single steps on a dict or deque (d[k] = v, pop, append, appendleft, popleft, remove, copy) are atomic, with
        # and without the GIL: records compare by identity and ids are plain text, so no Python code runs inside.
        self._table: dict[str, JobRecord] = {}
        shelves = {state: shelf for bound in bounds for shelf in [_Shelf(bound.keep)] for state in bound.states}
        self._shelves = tuple(shelves.get(state, _Shelf(Keep())) for state in JobState)  # by the state's column
        # Whether tend() will be called. Who finishes a job puts it on the shelf first, and looks here then; tend()
        # writes False first, and looks at the shelf then. So one sees the other; to be called twice does no harm.
        self._is_tended = False
        self._turns = itertools.count(1)
        # One deque for each priority, highest first. Copied on write, so claim() reads it without a lock.
        self._lines: tuple[deque[JobRecord], ...] = ()
        self._line_of: dict[int, deque[JobRecord]] = {}
        self._lines_lock = threading.RLock()  # guards the making of lines; reentrant for finalizers that submit

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def room(self, clock: Clock, maxsize: float) -> Permits:
        """Return permits of which each job that waits already has one."""
        permits = Permits(clock, maxsize)
        counts = self._ledger.snapshot()
        for _ in range(counts[SCHEDULED] + counts[PENDING] + counts[RETRYING]):
            permits.owe()
        return permits

    def serve(self, free: frozenset[str], limited: frozenset[str]) -> None:  # noqa: ARG002 - see there
        """Hear which handlers have limits; what there is no handler for the queue puts aside."""
        self._limited = limited

    def add(self, record: JobRecord, *, replace: bool = False) -> JobRecord | None:
        """Take a new job in, unless an unfinished one has its key; see ``JobStore``."""
        # Counted first: who finds the job by its key or id may end it.
        holder = self._ledger.enter(record, replace=replace)
        if holder is not None and not replace:
            return holder
        self._table[record.id] = record
        return holder

    def remove(self, record: JobRecord) -> bool:
        """Take a job out that has not begun, as if it had never been there; False where it has."""
        if not (self._ledger.strike(record, PENDING) or self._ledger.strike(record, SCHEDULED)):
            return False
        self.pull(record)
        self._table.pop(record.id, None)
        return True

    def push(self, record: JobRecord, *, front: bool = False) -> None:
        """Put a pending job into the line, behind those of its priority or in front of them."""
        try:
            line = self._line_of[record.priority]
        except KeyError:
            line = self._make_line(record.priority)
        if front:
            line.appendleft(record)
        else:
            record.turn = next(self._turns)
            line.append(record)

    def pull(self, record: JobRecord) -> bool:
        """Take a job out of the line; return False where it is not there. Linear in its length."""
        line = self._line_of.get(record.priority)
        if line is None:
            return False
        try:
            line.remove(record)
        except ValueError:
            return False
        return True

    def claim(self) -> JobRecord | None:
        """Take the next job out of the line; None where it is empty."""
        if not self._limited:
            return self._claim_first()
        with self._claim_lock:
            record = self._claim_first()
            if record is not None and not record.passed and record.name in self._limited:
                record.ticket = self._host.line_up(record.name)
            return record

    def _claim_first(self) -> JobRecord | None:
        for line in self._lines:
            if line:
                try:
                    return line.popleft()
                except IndexError:  # somebody else has just taken the last one
                    continue
        return None

    def claim_oldest(self) -> JobRecord | None:
        """Take the job out of the line that has stood there longest, whatever its priority."""
        while True:
            heads: list[JobRecord] = []
            for line in self._lines:
                try:
                    heads.append(line[0])
                except IndexError:
                    continue
            if not heads:
                return None
            oldest = min(heads, key=lambda record: record.turn)
            if self.pull(oldest):
                return oldest

    def unclaim(self) -> None:
        """Do nothing: nothing is claimed ahead."""

    def has_ready(self) -> bool:
        """Return whether there is a job in the line."""
        return any(self._lines)

    def move(
        self, record: JobRecord, before: JobState, after: JobState, at: float | None = None, why: str = ""
    ) -> bool:
        """Move a job to another state; return False, and do nothing, where it is not in the first one."""
        moved = self._ledger.move(record, before, after, at, why)
        if moved and after in FINISHED:
            self._keep_finished(record, after)
        return moved

    def condemn(self, record: JobRecord, fate: JobState, why: str) -> bool:
        """Decide where a running job will go when it stops running; False where it does not run, or that is decided."""
        return self._ledger.condemn(record, fate, why)

    def check(self, record: JobRecord) -> None:
        """Do nothing: whatever it is, it can be kept."""

    def settle(self, record: JobRecord, after: JobState, at: float, why: str = "") -> JobState:
        """Move a job that has stopped running to another state, or to its fate; return which."""
        after = self._ledger.settle(record, after, at, why)
        if after in FINISHED:
            self._keep_finished(record, after)
        return after

    def revive(self, record: JobRecord) -> bool:
        """Make a dead letter pending again; False where it is none, or has been forgotten.

        Raises:
            DuplicateName: an unfinished job has its key.
        """
        return self._ledger.revive(record, lambda: self._unkeep(record, FAILED))

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job, unless it is unknown or has been forgotten."""
        return self._table.get(job_id)

    def holder(self, key: str) -> JobRecord | None:
        """Return the unfinished job that has a key."""
        return self._ledger.holder(key)

    def records(self, wanted: JobFilter = ANY_JOB, limit: int | None = None) -> list[JobRecord]:
        """Return the jobs that are remembered and wanted, in the order of their coming; at most so many."""
        return list(itertools.islice(filter(wanted.takes, self._table.copy().values()), limit))

    def forget(self, record: JobRecord) -> bool:
        """Forget a job that has finished; False where it has not, or is forgotten already."""
        if not self._unkeep(record, record.state):
            return False
        self._table.pop(record.id, None)
        return True

    def in_hand(self) -> list[JobRecord]:
        """Return all jobs that are remembered."""
        return self.records()

    def position(self, record: JobRecord) -> int:
        """Return how many pending jobs come before this one. Linear in the number of jobs that are remembered."""
        place = _place(record)
        return sum(_place(other) < place for other in self.records(JobFilter(PENDING)))

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of one moment, with those that have been forgotten."""
        return self._ledger.snapshot()

    def tend(self) -> tuple[list[JobRecord], float]:
        """Forget finished jobs that are too old; see ``JobStore``."""
        self._is_tended = False
        clock = self._host.clock()
        posix, again = clock.now().timestamp(), math.inf
        for shelf in {id(shelf): shelf for shelf in self._shelves}.values():
            if shelf.age is not None:
                again = min(again, self._forget_old(shelf, posix - shelf.age))
        if again < math.inf:
            self._is_tended = True
        return [], clock.monotonic() + again

    def _forget_old(self, shelf: _Shelf, until: float) -> float:
        """Forget what finished before a POSIX time; return how many seconds later the next one did."""
        while shelf.jobs:
            with contextlib.suppress(IndexError, ValueError):  # somebody else has just taken it
                oldest = shelf.jobs[0]
                finished = oldest.finished
                if finished is not None and finished - until > EARLY:
                    return finished - until
                shelf.jobs.remove(oldest)
                self._table.pop(oldest.id, None)
        return math.inf

    def _make_line(self, priority: int) -> deque[JobRecord]:
        with self._lines_lock:
            if priority not in self._line_of:
                line_of = {**self._line_of, priority: deque[JobRecord]()}
                # First where workers look, then where jobs are put: else a job could lie where nobody looks.
                self._lines = tuple(line_of[each] for each in sorted(line_of, reverse=True))
                self._line_of = line_of
            return self._line_of[priority]

    def _keep_finished(self, record: JobRecord, state: JobState) -> None:
        """Remember a job that has finished, and forget the one that finished first where there are too many."""
        shelf = self._shelves[state.column]
        shelf.jobs.append(record)
        if len(shelf.jobs) > shelf.count:
            self._forget_oldest(shelf)
        if shelf.age is not None and not self._is_tended:
            self._is_tended = True
            self._host.tend_within(shelf.age)

    def _forget_oldest(self, shelf: _Shelf) -> None:
        with contextlib.suppress(IndexError):  # somebody else has just forgotten the last one
            self._table.pop(shelf.jobs.popleft().id, None)

    def _unkeep(self, record: JobRecord, state: JobState) -> bool:
        """Take a finished job back. Who succeeds owns it: it can neither be forgotten nor revived twice."""
        try:
            self._shelves[state.column].jobs.remove(record)
        except ValueError:
            return False
        return True


class _Shelf:
    """The finished jobs that are bounded together, in the order of their ends."""

    __slots__ = ("age", "count", "jobs")

    def __init__(self, keep: Keep) -> None:
        self.count = keep.count
        self.age = keep.age
        self.jobs: deque[JobRecord] = deque()


def _place(record: JobRecord) -> tuple[int, float, int]:
    """Return what pending jobs are sorted by. One that was never in the line stands at its end."""
    return -record.priority, record.turn or math.inf, record.number
