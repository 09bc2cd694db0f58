"""Four ways to wait, each built on gates, so that a clock of any kind can drive them.

``Waiters``   all are woken, by anyone, without a lock: what a flag that is set once needs.
``Condition`` a predicate under a lock, with an absolute deadline: joins, drains, states.
``Bell``      one ring wakes one idle worker: what a pool needs.
``Channel``   a first-in-first-out line with a bell.

``outcome_of()`` waits for a future of somebody else's.

``Waiters``, ``Bell`` and ``Channel`` take no lock. Their steps are single operations on a ``dict`` or ``deque``
(``d[k] = v``, ``d.pop(k, None)``, ``d.popitem()``, ``append``, ``popleft``, ``remove``), each of which is atomic: under
the GIL because it is one C call that runs no Python code (gates and cells compare by identity), and on free-threaded
builds because the container locks itself. So a finalizer or a signal handler that strikes inside one may use it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from threadkit._clock import Clock, Gate, open_gate

T = TypeVar("T")


class Waiters:
    """Threads that wait for something that happens once.

    The rule that loses nobody: a waiter enters first and then looks at the flag; a setter sets the flag first and then
    wakes. Whichever order the two meet in, the waiter sees the flag or the setter sees the waiter.
    """

    __slots__ = ("_gates",)

    def __init__(self) -> None:
        self._gates: dict[Gate, None] = {}

    def enter(self, gate: Gate) -> None:
        """Let ``wake_all()`` open this gate from now on."""
        self._gates[gate] = None

    def leave(self, gate: Gate) -> None:
        """Forget a gate, whether it was opened or not."""
        self._gates.pop(gate, None)

    def wake_all(self) -> None:
        """Open every gate. Callable from anywhere, also from a signal handler inside ``enter()``."""
        while self._gates:
            try:
                gate, _ = self._gates.popitem()
            except KeyError:  # somebody else has just woken the last one
                return
            open_gate(gate)

    def wait(self, clock: Clock, done: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until ``done()`` or the deadline; return ``done()``."""
        if done():
            return True
        gate = clock.gate()
        self.enter(gate)
        try:
            if not done():
                clock.park(gate, deadline)
        finally:
            self.leave(gate)
        return done()


class Condition:
    """A lock, and waiting for a predicate under it.

    Use it as ``with condition:`` around every look at, and change of, what it guards; ``wait_until`` and ``notify_all``
    MUST be called with the lock held. Unlike ``threading.Condition`` it waits on a clock and until an absolute
    deadline.
    """

    # What ``with`` calls are the lock's own methods, in slots of the class, where ``with`` looks for them. So no Python
    # runs between taking the lock and the block: there Ctrl-C would strike, and leave it locked for ever.
    __slots__ = ("__enter__", "__exit__", "_clock", "_gates", "_lock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Reentrant for finalizers, which may strike in the middle of a ``with`` block and submit something. They never
        # wait.
        self._lock = lock = threading.RLock()
        self.__enter__: Callable[[], bool] = lock.__enter__
        self.__exit__: Callable[..., None] = lock.__exit__
        self._gates: list[Gate] = []  # guarded by _lock

    def wait_until(self, predicate: Callable[[], bool], deadline: float | None) -> bool:
        """Give the lock up until ``predicate()`` is true or the deadline has passed; return ``predicate()``."""
        while not predicate():
            gate = self._clock.gate()
            self._gates.append(gate)
            try:
                self._lock.release()  # in here, since an interrupt may come with its return
                opened = self._clock.park(gate, deadline)
            finally:
                self._lock.acquire()
                if gate in self._gates:  # time-out or interrupt: notify_all() has not taken it out
                    self._gates.remove(gate)
            if not opened:
                return predicate()
        return True

    def notify_all(self) -> None:
        """Have everybody who waits look at the predicate again."""
        gates, self._gates = self._gates, []
        for gate in gates:
            open_gate(gate)


class Bell:
    """Where idle workers wait for work that lies elsewhere; one ring wakes one of them.

    The worker's loop is: take; if there is nothing, ``wait``; repeat. Two rules keep work from lying beside an idle
    worker: a giver puts the work down first and rings then; and a worker that waited, got work and sees more of it
    passes the ring on (``ring()``), since a ring meant for the other piece may have been spent on it.
    """

    __slots__ = ("_clock", "_idle")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: deque[Gate] = deque()

    def ring(self) -> bool:
        """Wake one idle worker; return False where nobody was idle."""
        if not self._idle:  # while all are busy this is the common case, and to look is cheaper than to fail
            return False
        try:
            gate = self._idle.popleft()
        except IndexError:
            return False
        open_gate(gate)
        return True

    def ring_all(self) -> None:
        """Wake every idle worker."""
        while self.ring():
            pass

    def idle(self) -> int:
        """Return how many are waiting at this moment."""
        return len(self._idle)

    def wait(self, ready: Callable[[], object], deadline: float | None = None) -> bool:
        """Wait for a ring, unless ``ready()`` says that there is no need to.

        Returns:
            False when the deadline passed and nobody rang; else True: look for work again.
        """
        gate = self._clock.gate()
        self._idle.append(gate)
        try:
            rung = bool(ready()) or self._clock.park(gate, deadline)
        except BaseException:
            if not self._withdraw(gate):
                self.ring()  # an interrupt took this worker away: its ring goes to the next
            raise
        # Where the gate is gone a ring was spent on this worker, even if the time was over or there was work anyway.
        return not self._withdraw(gate) or rung

    def _withdraw(self, gate: Gate) -> bool:
        try:
            self._idle.remove(gate)
        except ValueError:
            return False
        return True


class Channel(Generic[T]):
    """A line of things, first in, first out; ``get`` waits at the bell while it is empty."""

    __slots__ = ("_bell", "_items")

    def __init__(self, clock: Clock) -> None:
        self._items: deque[T] = deque()
        self._bell = Bell(clock)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item, and wake one who waits for it."""
        self._items.append(item)
        self._bell.ring()

    def get(self, deadline: float | None = None) -> T:
        """Return the first item, waiting for one if need be.

        Raises:
            IndexError: there was none before the deadline.
        """
        try:
            return self._items.popleft()
        except IndexError:
            pass
        while True:
            rung = self._bell.wait(self.__len__, deadline)
            try:
                item = self._items.popleft()
            except IndexError:
                if not rung:
                    raise
                continue
            if self._items:
                self._bell.ring()
            return item


def outcome_of(future: Future[T], clock: Clock) -> T:
    """Park until a future is settled; return its result, or raise its exception."""
    gate = clock.gate()
    future.add_done_callback(lambda _: open_gate(gate))
    clock.park(gate, None)
    return future.result()
