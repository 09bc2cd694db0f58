"""``Scheduler``: one thread that knows what is due when, and a few that do it.

All interval tasks of a lifecycle share one. There are three parts to play:

- The *watch* is the scheduler's own thread. It sleeps until something is due, puts it into a line, and runs nothing: so
  a slow task delays nobody, and any number of idle tasks cost one parked thread.
- *Servers* are threads of the pool, which work through the line. At most one is *summoned* at a time. Once it has come
  and taken something, it summons the next if more is left. While it blocks, that one takes over; while it does not,
  that one waits for the interpreter, and a thousand short tasks are done by one or two threads instead of thirty-two.
  Nothing is left lying: who adds to the line then looks whether somebody is to come; who comes says so, then looks at
  the line.
- An *attendant* is a server that has emptied the line and sees that more is due soon. It stays, sleeps in
  the watch's place, and runs what becomes due itself, as long as that was quick the last time: to wake one thread for
  each moment costs less than half of waking two. It takes no shorter naps than ten milliseconds, or than the fastest
  task can bear: so what is due close together is done together, never early. Meanwhile the watch is patient: it looks
  a while after each due time, and again while something lies in the line. It steps in where the attendant is stuck in a
  call that used to be quick: has taken nothing new since the last look, and somebody waits.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from threadkit._agenda import Agenda, Entry
from threadkit._clock import Clock, is_at_exit
from threadkit._observe import Observers, logger
from threadkit._pool import ThreadPool
from threadkit._waiting import Condition
from threadkit.events import Event, PoolSaturated

MAX_THREADS = 32
"""How many runs there may be at once, of all tasks of a scheduler that have no executor of their own."""

_IDLE_TIMEOUT = 30.0
_RETRY_DELAY = 1.0
_SOON = 0.04  # seconds; an attendant stays for what is due within it
_PATIENCE = 0.02  # seconds; so long may an attendant be stuck before the watch steps in
_NAP = 0.01  # seconds; so much may something be late for the sake of what is due right after it
_QUICK = 0.001  # seconds; what takes longer is not for an attendant
_SHARE = 0.04  # of its interval; a task may be late by no more for the sake of others

Call = Callable[[], object]


class Tempo:
    """How fast a task goes, as far as its scheduler cares.

    Attributes:
        is_quick: whether its last run took no time to speak of; before the first, it is thought to be.
        slack: the seconds by which it may be late for the sake of others.
    """

    __slots__ = ("is_quick", "slack")

    def __init__(self) -> None:
        self.is_quick: bool = True
        self.slack: float = math.inf

    def follow(self, interval: float | None) -> None:
        """Take over the interval of the task; None where it has none."""
        self.slack = math.inf if interval is None else interval * _SHARE

    def took(self, seconds: float) -> None:
        """Take note of how long a run took."""
        self.is_quick = seconds < _QUICK


class Scheduler:
    """Calls functions at given moments, on a pool of up to 32 threads; idle threads end.

    Args:
        clock: the clock whose ``monotonic()`` the moments are of.
        name: what its events go by.
        emit: called with an event when all threads are busy; None logs it.
    """

    __slots__ = (
        "_agenda",
        "_alarm",
        "_attendant",
        "_batches",
        "_clock",
        "_condition",
        "_emit",
        "_is_watched",
        "_line",
        "_name",
        "_nap",
        "_pool",
        "_stopped",
        "_summoned",
        "_watch",
    )

    def __init__(self, clock: Clock, name: str = "scheduler", emit: Callable[[Event], object] | None = None) -> None:
        self._clock = clock
        self._name = name
        self._emit = emit or Observers().emit
        self._line: deque[tuple[Call, Tempo | None]] = deque()  # append and popleft are atomic
        # A flag that can be tested and set in one step: locked while somebody is to come.
        self._summoned = threading.Lock()
        self._pool: ThreadPool[Callable[[], object]] = ThreadPool(
            clock, "threadkit-task", MAX_THREADS, idle_timeout=_IDLE_TIMEOUT, on_saturated=self._tell_saturation
        )
        # Guards all below; notified when what is due first changes, and by stop(). Nothing is called under it.
        self._condition = Condition(clock)
        self._agenda = Agenda()
        self._stopped = False  # written once, by stop()
        self._is_watched = False  # the watch is there, or somebody is making it
        self._watch: threading.Thread | None = None
        self._alarm = math.inf  # when the watch is going to wake up
        self._attendant: threading.Thread | None = None
        self._nap = _NAP  # the shortest; it only ever gets shorter
        self._batches = 0  # how many attendants have put into the line

    def schedule(self, due: float, call: Call, tempo: Tempo | None = None) -> Entry:
        """Have ``call()`` run on the pool when the clock's ``monotonic()`` reaches ``due``.

        Args:
            due: the moment.
            call: what to call.
            tempo: tells, when it is due, whether the call is quick; None is for what may take long.

        Returns:
            the entry, for ``cancel()``.

        Raises:
            RuntimeError: the system or the interpreter gives no thread.
        """
        with self._condition:
            if self._stopped:
                return [due, 0, None, None]
            if tempo is not None and tempo.slack < self._nap:
                self._nap = tempo.slack
            entry = self._agenda.add(due, call, tempo)
            if self._is_watched:
                if self._agenda.is_head(entry):
                    self._condition.notify_all()
                return entry
            self._is_watched = True
        # Not under the lock: who starts a thread waits for its first steps, and a finalizer that strikes there may want
        # the lock.
        try:
            self._clock.spawn(self._keep_watch, "threadkit-scheduler")
        except RuntimeError:
            with self._condition:
                self._is_watched = False
                self._agenda.cancel(entry)
                self._condition.notify_all()
            raise
        return entry

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return False where it has been handed to the pool, or was cancelled before."""
        with self._condition:
            return self._agenda.cancel(entry)  # if it was the first, the watch wakes up in vain, once

    def run(self, call: Call) -> None:
        """Have ``call()`` run on the pool as soon as a thread is free. After ``stop()`` it may be dropped."""
        self._line.append((call, None))
        self._summon()

    def stop(self) -> None:
        """Forget what is due; the threads end after what has been handed to them. Returns at once."""
        with self._condition:
            self._stopped = True
            self._agenda.clear()
            self._condition.notify_all()
        self._pool.close()

    def join(self, deadline: float | None) -> bool:
        """Wait until all threads have ended; return False where the deadline came first."""
        with self._condition:
            ended = self._condition.wait_until(lambda: not self._is_watched, deadline)
        return ended and self._pool.join(deadline)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive."""
        watch = self._watch
        return self._pool.threads() if watch is None else [watch, *self._pool.threads()]

    # --- the watch ---------------------------------------------------------------------------------------------------

    def _keep_watch(self) -> None:
        self._watch = threading.current_thread()
        while self._sleep():
            if self._line:
                self._summon()

    def _sleep(self) -> bool:
        """Sleep until something is due, and put it into the line; False ends the watch."""
        with self._condition:
            while not self._stopped:
                now = self._clock.monotonic()
                due = self._agenda.next_due()
                if self._attendant is None and due <= now:
                    self._line.extend(self._agenda.pop_due(now))
                    return True
                patient, batches = self._attendant is not None, self._batches
                self._alarm = alarm = self._latest(now)
                changed = self._condition.wait_until(
                    partial(self._must_look, alarm, now), None if alarm == math.inf else alarm
                )
                is_left = self._line or self._agenda.next_due() + _PATIENCE <= alarm
                if patient and not changed and is_left and self._batches == batches:
                    self._attendant = None  # it is stuck
                    return True
            self._watch = None
            self._is_watched = False
            self._condition.notify_all()
            return False

    def _must_look(self, alarm: float, now: float) -> bool:
        """Tell whether it is wrong by now to sleep until the alarm. The lock MUST be held."""
        return self._stopped or self._latest(now) < alarm

    def _latest(self, now: float) -> float:
        """Return how long the watch may sleep that looked at this moment. The lock MUST be held."""
        due = self._agenda.next_due()
        if self._attendant is None:
            return due
        # What is in the line is due already. It lies behind the call that the attendant is in, which may be stuck.
        return (now if self._line else max(due, now)) + _PATIENCE

    # --- servers -----------------------------------------------------------------------------------------------------

    def _summon(self) -> None:
        """Have a thread come to the line, unless one is to come already."""
        if not self._summoned.acquire(blocking=False):
            return
        try:
            self._pool.put(self._serve)
        except RuntimeError as error:
            self._summoned.release()
            if not (self._stopped or is_at_exit(error)):
                # No thread is to be had. A task that is not looked after once would never be due again, so:
                logger.warning("%s: %s; trying again in %g s", self._name, error, _RETRY_DELAY)
                self.schedule(self._clock.monotonic() + _RETRY_DELAY, bool)  # to have the watch summon again

    def _serve(self) -> None:
        self._summoned.release()
        must_summon = True  # who has just come; and an attendant never, unless a call may take long
        while True:
            try:
                call, tempo = self._line.popleft()
            except IndexError:  # it is done, by this thread or by others
                if not self._attend():
                    return
                must_summon = False
                continue
            is_slow = tempo is None or not tempo.is_quick
            if is_slow:
                self._leave()
            if self._line and (is_slow or must_summon):
                self._summon()
            must_summon = False
            call()

    # --- the attendant -----------------------------------------------------------------------------------------------

    def _attend(self) -> bool:
        """Stay for what is due soon, and put it into the line; False where there is no need to stay."""
        with self._condition:
            me = threading.current_thread()
            if self._attendant is None:
                self._attendant = me
            while self._attendant is me and not self._stopped:
                now = self._clock.monotonic()
                due = self._agenda.next_due()
                if due <= now:
                    self._line.extend(self._agenda.pop_due(now))
                    self._batches += 1
                    return True
                if due > now + _SOON:
                    break
                self._condition.wait_until(partial(self._is_earlier, due), max(due, now + self._nap))
        self._leave()
        return False

    def _is_earlier(self, due: float) -> bool:
        return self._stopped or self._agenda.next_due() < due

    def _leave(self) -> None:
        """Attend no longer, if this thread did: leave what is due next to the watch."""
        with self._condition:
            if self._attendant is threading.current_thread():
                self._attendant = None
                if self._agenda.next_due() < self._alarm:
                    self._condition.notify_all()

    def _tell_saturation(self) -> None:
        self._emit(PoolSaturated(component=self._name, threads=MAX_THREADS))
