"""A clock that stands still until a test moves it, and that drives threads which really block.

Every wait of threadkit parks at a gate on its clock, and every thread of threadkit is started by its clock. So this
clock knows whom it drives, and whether each of them is parked: a thread is parked while its gate is registered here
*and was not opened*. Whoever wakes a thread opens its gate, and from that moment on the thread counts as running, long
before the operating system lets it run. There is nothing to guess and nothing to sleep for.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from threadkit import Clock, Gate, triggers

_PATIENCE = 5.0  # real seconds that a driven thread may run before advance() gives up on it
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class _Gate:
    """A lock that says that it was opened until whoever passes has left it.

    A plain lock would not do: it is taken, and so looks closed again, before its thread has been let run.
    """

    __slots__ = ("_lock", "acquire", "is_open")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.acquire = self._lock.acquire
        self.is_open = False  # written by who opens, before the lock; unset by who has passed, with the clock's lock

    def release(self) -> None:
        self.is_open = True
        self._lock.release()

    def locked(self) -> bool:
        return not self.is_open


class _Parked:
    """One thread at one gate."""

    __slots__ = ("deadline", "gate", "timed_out")

    def __init__(self, gate: Gate, deadline: float | None) -> None:
        self.gate = gate
        self.deadline = deadline
        self.timed_out = False


class VirtualClock:
    """A clock for tests: time passes by ``advance()`` only.

    Give it to any component, or to the lifecycle (``Lifecycle(clock=clock)``), from which the others inherit it.

    Args:
        start: the wall clock's time at the beginning, aware; 2026-01-01 00:00 UTC by default.

    Raises:
        ValueError: ``start`` has no time zone.

    Example:
        >>> from threadkit import IntervalTask
        >>> clock = VirtualClock()
        >>> ticks = []
        >>> task = IntervalTask(lambda: ticks.append(clock.now()), every="1h", clock=clock)
        >>> task.start()
        >>> clock.advance(24 * 3600)
        >>> len(ticks), ticks[-1].isoformat()
        (24, '2026-01-02T00:00:00+00:00')
        >>> task.stop()
    """

    def __init__(self, start: datetime = _EPOCH) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must have a time zone, but is {start!r}")
        # Guards all below; notified whenever a driven thread parks or ends, or a sleeper joins.
        self._changed = threading.Condition()
        self._monotonic = 0.0
        self._zero = start.astimezone(UTC)
        self._parked: dict[threading.Thread, _Parked] = {}
        self._driven: set[threading.Thread] = set()

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made; they never go back."""
        with self._changed:
            return self._monotonic

    def now(self) -> datetime:
        """Return the virtual wall clock's time, in UTC."""
        with self._changed:
            return self._now()

    def gate(self) -> Gate:
        """Return a new gate that nobody has opened yet."""
        return _Gate()

    def park(self, gate: Gate, deadline: float | None) -> bool:
        """Wait until the gate opens, or until the clock is moved to the deadline."""
        thread = threading.current_thread()
        with self._changed:
            if deadline is not None and deadline <= self._monotonic:
                try:
                    return gate.acquire(blocking=False)
                finally:
                    _leave(gate)
            parked = self._parked[thread] = _Parked(gate, deadline)
            self._changed.notify_all()
            is_driven = thread in self._driven
        try:
            if deadline is None or is_driven:
                gate.acquire()
            else:
                self._acquire_impatiently(gate, deadline)
        finally:
            with self._changed:
                del self._parked[thread]
                _leave(gate)
        return not parked.timed_out

    def _acquire_impatiently(self, gate: Gate, deadline: float) -> None:
        """Wait in a thread of the test's own: where nobody moves the clock meanwhile, it would wait for ever."""
        moved_to = self.monotonic()
        while not gate.acquire(timeout=_PATIENCE):
            now = self.monotonic()
            if now == moved_to:
                raise RuntimeError(
                    f"thread {threading.current_thread().name!r} waits until {deadline:g} s on a virtual clock that "
                    f"has stood at {now:g} s for {_PATIENCE:g} real seconds; move it from another thread"
                )
            moved_to = now

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a thread that this clock drives."""

        def run() -> None:
            try:
                contextvars.Context().run(target)
            finally:
                with self._changed:
                    self._driven.discard(thread)
                    self._changed.notify_all()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._changed:
            self._driven.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._changed:
                self._driven.discard(thread)
            raise
        return thread

    def advance(self, seconds: float | timedelta | str) -> None:
        """Let time pass: step from due time to due time, and at each wait until every driven thread is parked again.

        Args:
            seconds: how much: a number, a ``timedelta`` or text such as ``"5m"``.

        Raises:
            ValueError: ``seconds`` is negative, ``nan`` or infinite, or means nothing.
            RuntimeError: called from a thread that the clock drives; or such a thread is still running after 5 real
                seconds, which it is named for.
        """
        amount = _in_seconds(seconds)
        if amount == math.inf:
            raise ValueError(f"seconds must be finite, but is {seconds!r}")
        with self._changed:
            if threading.current_thread() in self._driven:
                raise RuntimeError("advance() must not be called from a thread that the clock itself drives")
            target = self._monotonic + amount
            self._settle()
            while (due := self._next_due()) is not None and due <= target:
                self._move_to(due)
                for parked in self._parked.values():
                    if parked.deadline is not None and parked.deadline <= due and parked.gate.locked():
                        parked.timed_out = True
                        with contextlib.suppress(RuntimeError):  # somebody has just opened it
                            parked.gate.release()
                self._settle()
            self._move_to(target)

    def settle(self) -> None:
        """Wait until every driven thread is parked, without letting time pass.

        Raises:
            RuntimeError: a driven thread is still running after 5 real seconds, which it is named for.
        """
        with self._changed:
            self._settle()

    def wait_for_sleepers(self, n: int) -> None:
        """Wait until at least ``n`` threads are parked with a time limit.

        Raises:
            RuntimeError: there were fewer after 5 real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._sleepers() >= n, _PATIENCE):
                raise RuntimeError(
                    f"{self._sleepers()} thread(s) sleep on the virtual clock after {_PATIENCE:g} s, not {n}"
                )

    def set_wall(self, moment: datetime) -> None:
        """Set the wall clock, forward or back, as an administrator would; ``monotonic()`` is not touched.

        Raises:
            ValueError: ``moment`` has no time zone.
        """
        if moment.tzinfo is None:
            raise ValueError(f"moment must have a time zone, but is {moment!r}")
        with self._changed:
            self._zero = moment.astimezone(UTC) - timedelta(seconds=self._monotonic)

    def suspend(self, seconds: float | timedelta | str) -> None:
        """Let the machine sleep: the wall clock goes on, ``monotonic()`` does not (as on Linux).

        Args:
            seconds: how long; as for ``advance()``.

        Raises:
            ValueError: ``seconds`` is negative or ``nan``, or means nothing.
        """
        amount = timedelta(seconds=_in_seconds(seconds))
        with self._changed:
            self._zero += amount

    def __repr__(self) -> str:
        return f"<VirtualClock {self._monotonic:g} s, {self.now().isoformat()}>"

    def _now(self) -> datetime:
        # One sum instead of many steps: a timedelta is rounded to the microsecond.
        return self._zero + timedelta(seconds=self._monotonic)

    def _sleepers(self) -> int:
        return sum(1 for parked in self._parked.values() if parked.deadline is not None and parked.gate.locked())

    def _next_due(self) -> float | None:
        # An open gate's deadline is of no interest: its thread has been woken, and settling has let it run.
        return min(
            (
                parked.deadline
                for parked in self._parked.values()
                if parked.deadline is not None and parked.gate.locked()
            ),
            default=None,
        )

    def _move_to(self, moment: float) -> None:
        self._monotonic = max(self._monotonic, moment)  # a deadline in the past must not take time back

    def _running(self) -> list[threading.Thread]:
        return [
            thread for thread in self._driven if thread not in self._parked or not self._parked[thread].gate.locked()
        ]

    def _settle(self) -> None:
        if self._changed.wait_for(lambda: not self._running(), _PATIENCE):
            return
        lines: list[str] = []
        frames = sys._current_frames()
        for thread in self._running():
            frame = frames.get(thread.ident or 0)
            place = "".join(traceback.format_stack(frame)[-5:]) if frame else "(not begun)"
            lines.append(f"thread {thread.name!r} is still running:\n{place}")
        raise RuntimeError(
            f"not every thread on the virtual clock is parked after {_PATIENCE:g} real seconds; "
            "wait on the clock (a token, a job, a run) instead of on something real\n" + "\n".join(lines)
        )


def _leave(gate: Gate) -> None:
    if isinstance(gate, _Gate):
        gate.is_open = False


def _in_seconds(value: float | timedelta | str) -> float:
    if isinstance(value, str):
        return triggers.after(value).interval or 0.0  # reads the texts that everything else reads
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not seconds >= 0:
        raise ValueError(f"seconds must not be negative or nan, but is {value!r}")
    return seconds


_: type[Clock] = VirtualClock
