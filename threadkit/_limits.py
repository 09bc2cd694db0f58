"""What may keep a job from running although a worker is free: concurrency, serial order, rate.

A job that may not run now is *held* by the limit that stopped it. It keeps no worker and stands in nobody's way. When a
place comes free it is *handed over* to the best of those that are held, so that nobody can come in between.

A job passes its handler's limits one after the other; ``record.passed`` counts them. Who holds a job, or has it in
hand, is its owner and the only one to write that. Limits for each key come first: a key that has reached its limit
must not take places from the others.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol, cast

from threadkit._clock import Clock
from threadkit._records import UNKNOWN, JobRecord

_Held = list[tuple[int, int, int, JobRecord]]  # a heap: the highest priority first, then by turn
_SLACK = 64  # keys that are remembered although nothing is known of them but that they are idle


class Limit(Protocol):
    """One thing that may stop a job."""

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        ...

    def leave(self, record: JobRecord) -> JobRecord | None:
        """Take the place back of a job that passed, and return one that was held and has it now."""
        ...

    def discard(self, record: JobRecord) -> bool:
        """Forget a job; return False where it is not held here."""
        ...


class _Places:
    """The places of one key."""

    __slots__ = ("held", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.held: _Held = []


class Concurrency:
    """At most so many at once of each key.

    Args:
        limit: how many.
        axis: which of the job's keys; None is one and the same for all.
    """

    def __init__(self, limit: int, axis: int | None = None) -> None:
        self._limit = limit
        self._axis = axis
        self._lock = threading.Lock()  # guards the one below
        self._places: dict[Hashable, _Places] = {}  # of the keys that have taken any

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        key = _key_of(record, self._axis)
        with self._lock:
            places = self._places.setdefault(key, _Places())
            if places.taken < self._limit:
                places.taken += 1
                return True
            _hold(places.held, record)
            return False

    def leave(self, record: JobRecord) -> JobRecord | None:
        """Give the place to the next one of the same key."""
        key = _key_of(record, self._axis)
        with self._lock:
            places = self._places[key]
            successor = _best(places.held)
            if successor is None:
                places.taken -= 1
                if not places.taken:
                    del self._places[key]
            return successor

    def discard(self, record: JobRecord) -> bool:
        """Forget a job."""
        key = _key_of(record, self._axis)
        with self._lock:
            places = self._places.get(key)
            return places is not None and _drop(places.held, record)


class _Bucket:
    """The tokens of one key."""

    __slots__ = ("full_at", "held", "is_waking")

    def __init__(self, full_at: float) -> None:
        # The moment at which it would be full again. Moments add up where amounts would be rounded away.
        self.full_at = full_at
        self.held: _Held = []
        self.is_waking = False


class Rate:
    """A bucket of tokens for each key: it holds ``count``, is full at first and gets one every ``seconds / count``.

    Args:
        clock: where time comes from.
        count: how many may begin at once.
        seconds: how long it takes to fill the empty bucket.
        wake: ``wake(due, callback, key)`` has ``callback(key)`` called at a moment of the clock.
        release: called with a job that was held and may pass now.
        axis: which of the job's keys; None is one and the same for all.
    """

    def __init__(
        self,
        clock: Clock,
        count: int,
        seconds: float,
        wake: Callable[[float, Callable[[Any], None], Hashable], None],
        release: Callable[[JobRecord], None],
        axis: int | None = None,
    ) -> None:
        self._clock = clock
        self._count = count
        self._every = seconds / count
        self._wake = wake
        self._release = release
        self._axis = axis
        self._lock = threading.Lock()  # guards the two below
        self._buckets: dict[Hashable, _Bucket] = {}  # a key that has none has a full one
        self._most = _SLACK  # so many are kept before it is looked which are full again

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        key = _key_of(record, self._axis)
        with self._lock:
            bucket = self._bucket(key)
            if not bucket.held and self._take(bucket):
                return True
            _hold(bucket.held, record)
            due = self._due(bucket)
        self._sleep(due, key)
        return False

    def leave(self, record: JobRecord) -> None:
        """Do nothing: a token that was used is gone."""

    def discard(self, record: JobRecord) -> bool:
        """Forget a job."""
        key = _key_of(record, self._axis)
        with self._lock:
            bucket = self._buckets.get(key)
            return bucket is not None and _drop(bucket.held, record)

    def _bucket(self, key: Hashable) -> _Bucket:
        """Return the bucket of a key. The lock MUST be held."""
        bucket = self._buckets.get(key)
        if bucket is None:
            now = self._clock.monotonic()
            if len(self._buckets) >= self._most:  # it doubles, so that all looks together cost as much as the keys
                self._buckets = {key: each for key, each in self._buckets.items() if each.held or each.full_at > now}
                self._most = _SLACK + 2 * len(self._buckets)
            bucket = self._buckets[key] = _Bucket(now)
        return bucket

    def _take(self, bucket: _Bucket) -> bool:
        now = self._clock.monotonic()
        full_at = max(bucket.full_at, now) + self._every
        if full_at > now + self._every * self._count * (1 + 1e-9):  # floats: a tick that is due is due
            return False
        bucket.full_at = full_at
        return True

    def _due(self, bucket: _Bucket) -> float | None:
        """Return when to look again, if nobody has been told. The lock MUST be held."""
        if bucket.is_waking or not bucket.held:
            return None
        bucket.is_waking = True
        return bucket.full_at - self._every * (self._count - 1)

    def _sleep(self, due: float | None, key: Hashable) -> None:
        if due is not None:
            self._wake(due, self._tick, key)

    def _tick(self, key: Hashable) -> None:
        released: list[JobRecord] = []
        with self._lock:
            bucket = self._bucket(key)
            bucket.is_waking = False
            while bucket.held and self._take(bucket):
                released.append(heapq.heappop(bucket.held)[-1])
            due = self._due(bucket)
        for record in released:
            self._release(record)
        self._sleep(due, key)


class Ticket:
    """A place in a procession; see ``Procession``."""

    __slots__ = ("_procession", "is_here", "record")

    def __init__(self, procession: Procession) -> None:
        self._procession = procession
        self.record: JobRecord | None = None
        self.is_here = False

    def arrive(self, record: JobRecord | None) -> bool:
        """Bring the job, or None in its stead; return True where it has passed the limits."""
        self.record = record
        self.is_here = True
        return self._procession.move(record)


class Procession:
    """Jobs on their way from the line to the limits, in the order in which they were claimed.

    A worker that has claimed a job may be overtaken, on its way here, by one that claimed the next. So a ticket is
    taken in the step that claims; jobs come up in the order of the tickets, and whoever brings the first one in brings
    in those who came early.

    Args:
        admit: lets a job pass, or has it held.
        release: called with a job that has passed, and that another worker brought.
    """

    def __init__(self, admit: Callable[[JobRecord], bool], release: Callable[[JobRecord], None]) -> None:
        self._admit = admit
        self._release = release
        self._tickets: deque[Ticket] = deque()  # append, popleft and a look at the first are atomic
        # Held by whoever takes tickets off; nobody waits for it. Who fails to take it has noted that his ticket is
        # here before, and who lets it go looks at the first ticket again after.
        self._moving = threading.Lock()

    def join(self) -> Ticket:
        """Take a ticket. Lock-free. It MUST be brought back by ``arrive()``."""
        ticket = Ticket(self)
        self._tickets.append(ticket)
        return ticket

    def move(self, mine: JobRecord | None) -> bool:
        """Let all pass whose turn it is; return True where ``mine`` is among them."""
        has_passed = False
        while self._is_first_here() and self._moving.acquire(blocking=False):
            try:
                while self._is_first_here():
                    record = self._tickets.popleft().record
                    if record is not None and self._admit(record):
                        if record is mine:
                            has_passed = True
                        else:
                            self._release(record)
            finally:
                self._moving.release()
        return has_passed

    def _is_first_here(self) -> bool:
        try:
            return self._tickets[0].is_here
        except IndexError:
            return False


class Limits:
    """All limits of one handler, in the order in which a job passes them.

    Args:
        limits: at least one.
        release: called with a job that has passed, and that nobody has in hand.
        in_order: whether jobs come to them in the order in which they are claimed.
    """

    def __init__(
        self, limits: tuple[Limit, ...], release: Callable[[JobRecord], None] | None = None, *, in_order: bool = False
    ) -> None:
        self._limits = limits
        self._procession = Procession(self._pass, release) if in_order and release is not None else None

    def line_up(self) -> Ticket | None:
        """Take a ticket for a job that is just claimed, where jobs come in order. Lock-free."""
        return None if self._procession is None else self._procession.join()

    def admit(self, record: JobRecord) -> bool:
        """Let the job pass what it has not passed yet; False: it is held, and belongs to somebody else from now on."""
        ticket = record.ticket
        if ticket is None:
            return self._pass(record)
        record.ticket = None
        return cast("Ticket", ticket).arrive(record)

    def _pass(self, record: JobRecord) -> bool:
        while record.passed < len(self._limits):
            if not self._limits[record.passed].enter(record):
                return False
            record.passed += 1
        return True

    def release(self, record: JobRecord) -> list[JobRecord]:
        """Take back all places of a job; return the jobs that have them now and should go on."""
        passed, record.passed = record.passed, 0
        successors: list[JobRecord] = []
        for limit in self._limits[:passed]:
            successor = limit.leave(record)
            if successor is not None:
                successor.passed += 1
                successors.append(successor)
        return successors

    def discard(self, record: JobRecord) -> bool:
        """Forget a job that is held; return False where it is not."""
        # One whose keys nobody has asked for yet, out of a file say, has come to no limit.
        return record.keys is not UNKNOWN and any(limit.discard(record) for limit in self._limits)


def _key_of(record: JobRecord, axis: int | None) -> Hashable:
    return None if axis is None else record.keys[axis]


def _hold(held: _Held, record: JobRecord) -> None:
    heapq.heappush(held, (-record.priority, record.turn, record.number, record))


def _best(held: _Held) -> JobRecord | None:
    """Take the best out. It may have been cancelled this very moment; the worker that gets it will see."""
    return heapq.heappop(held)[-1] if held else None


def _drop(held: _Held, record: JobRecord) -> bool:
    for index, (*_, other) in enumerate(held):
        if other is record:
            del held[index]
            heapq.heapify(held)
            return True
    return False
