"""A light pool of threads: a line of things to call, and workers that call them.

It knows neither futures nor bounds; those belong to the executor above. Its line, its free places and its idle workers
are deques, and every step on them is a single ``append``, ``popleft``, ``remove`` or ``pop``, which is atomic with and
without the GIL (see ``_waiting.py``). So giving work to a worker that exists takes no lock at all.

Three orders keep an item from lying in the line beside nobody:

1. ``put`` appends, then looks for a worker; a worker that has waited too long leaves, then looks at the line again.
2. ``put`` appends, then looks whether the pool is closed; a worker sees that it is closed and leaves, then looks again.
3. A worker that was woken and sees more than one item wakes the next, for two rings may have been spent on it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from threadkit._clock import Clock, deadline_after
from threadkit._waiting import Bell, Waiters

Item = TypeVar("Item", bound=Callable[[], object])

_logger = logging.getLogger("threadkit")


class ThreadPool(Generic[Item]):
    """Calls what is put into it, in order, on at most ``max_workers`` threads.

    A thread is made when an item comes and nobody is idle. What an item raises is logged and harms nobody.

    Args:
        clock: where threads come from, and where they park.
        name: its threads are called ``name_0``, ``name_1`` and so on.
        max_workers: how many threads it has at most.
        idle_timeout: seconds after which an idle thread ends; None keeps threads until ``close()``.
        initializer: called first in each new thread.
        on_saturated: called by ``put()`` when an item has to wait and no more threads may be made; not again before a
            worker has been idle.
        on_broken: called with what the initializer raised, in the thread, which then ends.
        on_end: called by the last thread before it ends, after ``close()``.
    """

    __slots__ = (
        "_bell",
        "_clock",
        "_closed",
        "_ended",
        "_free",
        "_growing",
        "_idle_timeout",
        "_initializer",
        "_items",
        "_limit",
        "_name",
        "_numbers",
        "_on_broken",
        "_on_end",
        "_on_saturated",
        "_saturated",
        "_starting",
        "_surplus",
        "_workers",
    )

    def __init__(
        self,
        clock: Clock,
        name: str,
        max_workers: int,
        *,
        idle_timeout: float | None = None,
        initializer: Callable[[], object] | None = None,
        on_saturated: Callable[[], object] | None = None,
        on_broken: Callable[[BaseException], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._clock = clock
        self._name = name
        self._idle_timeout = idle_timeout
        self._initializer = initializer
        self._on_saturated = on_saturated
        self._on_broken = on_broken
        self._on_end = on_end
        self._items: deque[Item] = deque()
        self._bell = Bell(clock)
        self._ended = Waiters()
        self._closed = False  # written once, by close()
        self._saturated = False  # a hint: anyone may write it, and a lost write costs one call too many
        # A place is a number that a thread works under. Whoever pops it owns it, so there are never too many threads,
        # even where a finalizer that strikes inside put() calls put(). free + taken - surplus = limit.
        self._numbers = itertools.count()
        self._free = deque(itertools.islice(self._numbers, max_workers))
        self._starting: dict[int, None] = {}  # the places of threads that have not begun yet
        self._workers: dict[int, threading.Thread] = {}  # by place
        self._surplus: deque[None] = deque()  # one for each thread that is to end with its place
        # Guards _limit, and has threads made one after the other: whoever finds every place taken and nobody at work
        # waits for the outcome. Reentrant for finalizers. No user code runs under it.
        self._growing = threading.RLock()
        self._limit = max_workers

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    @property
    def max_workers(self) -> int:
        """How many threads there may be."""
        return self._limit

    def start(self) -> None:
        """Make the first thread now, for there may be no thread to be had later.

        Raises:
            RuntimeError: the system or the interpreter gives no thread.
        """
        with self._growing:
            if not self._workers and not self._starting:
                self._spawn(self._free.popleft())

    def put(self, item: Item) -> None:
        """Have ``item()`` called. Callable from a finalizer.

        Raises:
            RuntimeError: the pool is closed; or it has no thread and the system gives none. The item is taken back.
        """
        self._items.append(item)
        if self._closed:
            if self.withdraw(item):
                raise RuntimeError(f"pool {self._name!r} is closed")
            return
        if self._bell.ring():
            return
        if self._free or not self._workers:
            self._grow(item)
        elif self._on_saturated is not None and not self._saturated:
            self._saturated = True
            self._on_saturated()

    def waiting(self) -> list[Item]:
        """Return the items that wait, in their order."""
        return list(self._items.copy())

    def first(self) -> Item:
        """Return the item that has waited longest.

        Raises:
            IndexError: none waits.
        """
        return self._items[0]

    def withdraw(self, item: Item) -> bool:
        """Take this very item out; return False where somebody else has taken it. Linear in the length of the line."""
        try:
            self._items.remove(item)
        except ValueError:
            return False
        return True

    def resize(self, max_workers: int) -> int:
        """Change how many threads there may be, and return by how many. Those too many end after their present item."""
        with self._growing:
            change = max_workers - self._limit
            for _ in range(self._limit, max_workers):
                if not _pop(self._surplus):  # else a thread that was to end stays
                    self._free.append(next(self._numbers))
            for _ in range(max_workers, self._limit):
                if not _pop(self._free):
                    self._surplus.append(None)
            self._limit = max_workers
        for _ in range(min(len(self._items), len(self._free))):
            self._grow(None)
        if self._surplus:
            self._bell.ring_all()
        return change

    def close(self) -> None:
        """Take nothing more; the threads end after what waits. Lock-free: callable from a signal handler."""
        self._closed = True
        self._bell.ring_all()
        if self._is_over():
            self._ended.wake_all()

    def join(self, deadline: float | None) -> bool:
        """Wait until the pool is closed and its threads have ended; return False where the deadline came first."""
        return self._ended.wait(self._clock, self._is_over, deadline)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive."""
        return list(self._workers.copy().values())

    def _is_over(self) -> bool:
        return self._closed and not self._starting and not self._workers

    def _grow(self, item: Item | None) -> None:
        """Make one more thread if there is a place for it; where there is none at all, take the item back and fail."""
        with self._growing:
            try:
                number = self._free.popleft()
            except IndexError:
                return  # all are at work; or were being made, and whoever makes them has succeeded by now or given back
            try:
                self._spawn(number)
            except RuntimeError:
                if not self._workers and not self._starting and item is not None and self.withdraw(item):
                    raise

    def _spawn(self, number: int) -> None:
        self._starting[number] = None
        try:
            self._clock.spawn(functools.partial(self._work, number), f"{self._name}_{number}")
        except RuntimeError:  # not Ctrl-C, which strikes while the new thread is awaited: that one lives
            del self._starting[number]
            self._free.appendleft(number)
            raise

    def _work(self, place: int) -> None:
        self._workers[place] = threading.current_thread()
        del self._starting[place]
        number: int | None = place if self._initialize() else self._leave(place, may_return=False)
        items = self._items
        while number is not None:
            if self._surplus:
                number = self._leave(number)
                continue
            try:
                item = items.popleft()
            except IndexError:
                if not self._wait():
                    number = self._leave(number)
                continue
            try:
                item()
            except BaseException:
                _logger.exception("pool %r: %r failed", self._name, item)
            del item  # a thread that waits keeps nothing alive

    def _initialize(self) -> bool:
        if self._initializer is None:
            return True
        try:
            self._initializer()
        except BaseException as error:
            if self._on_broken is not None:
                self._on_broken(error)
            return False
        return True

    def _wait(self) -> bool:
        """Wait for an item; return False where none came and this thread should leave."""
        if self._closed:
            return False
        self._saturated = False
        called = self._bell.wait(self._is_called, deadline_after(self._clock, self._idle_timeout))
        if len(self._items) > 1:
            self._bell.ring()
        return called

    def _is_called(self) -> bool:
        return bool(self._items or self._closed or self._surplus)

    def _leave(self, number: int, *, may_return: bool = True) -> int | None:
        """Give the place back and end; but return a place to go on at where an item has come meanwhile."""
        del self._workers[number]
        if not _pop(self._surplus):
            self._free.append(number)
        if may_return and self._items:
            with contextlib.suppress(IndexError):  # somebody makes a thread at this very place, which will do
                number = self._free.pop()
                self._workers[number] = threading.current_thread()
                return number
        if self._is_over():
            self._ended.wake_all()
            if self._on_end is not None:
                self._on_end()
        return None


def _pop(places: deque[Any]) -> bool:
    """Take one away; return False where there was none."""
    try:
        places.pop()
    except IndexError:
        return False
    return True
