"""``Overtime``: attempts that go on long after their time-out, and are given up.

A thread cannot be killed. So an attempt belongs to whoever *decides* it first: the worker, when its handler returns;
the timer, when its time-out and a grace are over, and then the worker's thread is abandoned; or the end of the queue,
and then it is interrupted and belongs to its worker for good.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from threadkit._agenda import Entry
from threadkit._clock import Clock
from threadkit._job import Job
from threadkit._stacks import stacks_of
from threadkit._timer import Timer
from threadkit.events import Event, JobAbandoned

_REFILL_AFTER = 1.0  # seconds after which the system is asked for a thread again that it did not give

Decider = Literal["worker", "timer", "end"]


class Attempt:
    """One attempt that has a time-out."""

    __slots__ = ("_decided", "entry", "job", "seconds", "thread", "waited")

    def __init__(self, job: Job, thread: threading.Thread, seconds: float, waited: float) -> None:
        self.job = job
        self.thread = thread
        self.seconds = seconds  # that it has
        self.waited = waited  # the seconds for which its job could have run before
        self.entry: Entry | None = None
        self._decided: dict[str, Decider] = {}

    def decide(self, who: Decider) -> Decider:
        """Return who was the first to decide."""
        return self._decided.setdefault("by", who)  # a single step, with and without the GIL


class Crew(Protocol):
    """What is needed of the queue's workers."""

    def abandon(self, thread: threading.Thread) -> None: ...
    def refill(self) -> None: ...


class Overtime:
    """The attempts of a queue that have a time-out.

    Args:
        clock: where time comes from.
        timer: what calls.
        name: the queue's.
        grace: seconds after a time-out at which an attempt is given up; ``inf`` is never.
        crew: the workers.
        book: called with an attempt that is given up, and with the error that it failed by.
        emit: told of it.
        have_done: has a function called in another thread than the timer's; the two before are called there.
    """

    def __init__(
        self,
        clock: Clock,
        timer: Timer,
        name: str,
        grace: float,
        crew: Crew,
        book: Callable[[Attempt, TimeoutError], object],
        emit: Callable[[Event], object],
        have_done: Callable[[Callable[[], object]], object],
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._name = name
        self._grace = grace
        self._crew = crew
        self._book = book
        self._emit = emit
        self._have_done = have_done
        self._lock = threading.Lock()  # guards changes of the one below
        # The last attempt of each job that has not ended; one that is given up stays until that is booked.
        self._going_on: dict[Job, Attempt] = {}

    def begin(self, job: Job, thread: threading.Thread, deadline: float, waited: float) -> Attempt:
        """Look after an attempt that this thread is about to make."""
        attempt = Attempt(job, thread, deadline - job.begun, waited)
        with self._lock:
            self._going_on[job] = attempt
        moment = deadline + self._grace
        if moment != math.inf:
            with contextlib.suppress(RuntimeError):  # no thread is to be had: the process is ending
                attempt.entry = self._timer.at(moment, self._look, attempt)
        return attempt

    def end(self, attempt: Attempt) -> bool:
        """Hear that the handler has returned; False: the attempt had been given up, and the job is not its any more."""
        if attempt.decide("worker") == "timer":
            return False
        self._forget(attempt)
        if attempt.entry is not None:
            self._timer.cancel(attempt.entry)
        return True

    def lateness(self, job: Job, failure: BaseException | None, deadline: float) -> TimeoutError | None:
        """Return an error where an attempt that has just ended took too long."""
        if self._clock.monotonic() < deadline:
            return None
        late = TimeoutError(f"attempt {job.attempts} took longer than {deadline - job.begun:g} s")
        late.__cause__ = failure
        return late

    def interrupt(self, job: Job) -> bool:
        """Give no attempt of a job up from now on; False: it is being given up."""
        attempt = self._going_on.get(job)
        return attempt is None or attempt.decide("end") != "timer"

    def _look(self, attempt: Attempt) -> None:
        """Give an attempt up, unless it has ended. The timer's callback."""
        job, thread = attempt.job, attempt.thread
        if job.fate is not None and not job.fate.is_finished:  # the end of the queue has it
            return
        if attempt.decide("timer") != "timer":
            return
        job._context = None  # so that what its handler says from here on is not heard
        seconds = self._clock.monotonic() - job.begun
        stack = "".join(stacks_of([thread]).values())
        try:
            self._crew.abandon(thread)
        except RuntimeError:
            self._refill_later()
        told = JobAbandoned(
            component=self._name,
            job_id=job.id,
            handler=job.name,
            attempt=job.attempts,
            seconds=seconds,
            stack=stack,
        )
        self._have_done(partial(self._close_account, attempt, told))

    def _close_account(self, attempt: Attempt, told: JobAbandoned) -> None:
        """Do what may take its time: hooks, a backoff of the user's, a store that waits for its disk."""
        self._emit(told)
        number = attempt.job.attempts
        self._book(
            attempt,
            TimeoutError(f"attempt {number} took longer than {attempt.seconds:g} s, and its thread goes on"),
        )
        self._forget(attempt)

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            if self._going_on.get(attempt.job) is attempt:  # else the next one has begun
                del self._going_on[attempt.job]

    def _refill_later(self) -> None:
        with contextlib.suppress(RuntimeError):  # not even for the timer: the process is ending
            self._timer.at(self._clock.monotonic() + _REFILL_AFTER, self._refill)

    def _refill(self, _: object) -> None:
        try:
            self._crew.refill()
        except RuntimeError:
            self._refill_later()
