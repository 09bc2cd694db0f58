"""``Ledger``: how many jobs are in each state, exact at every moment, without a lock that all share.

A job's state changes under the lock of its *stripe*, one of sixteen, together with the stripe's counts. So of two that
want to move the same job one is first and the other is told; a count never lags behind a state; and jobs that follow
upon one another have different locks, so that workers seldom meet.
"""

from __future__ import annotations

import threading

from threadkit._records import CANCELLED, FINISHED, RUNNING, JobRecord, JobState

_STRIPES = 16
_MASK = _STRIPES - 1  # which is quicker than a remainder


class _Stripe:
    """A sixteenth of the jobs."""

    __slots__ = ("counts", "lock")

    def __init__(self) -> None:
        # Guards the counts, and the state and fate of each job of this stripe. Nothing is called under it. It is taken
        # by acquire() and release(), which in CPython 3.11 cost half of what a with block does. It is reentrant for
        # finalizers that submit: one can only strike between two of the statements below, since a list, an index and a
        # number run no Python code, so what it adds is added whole.
        self.lock = threading.RLock()
        self.counts = [0] * len(JobState)  # by the state's column


class Ledger:
    """The one place where jobs change their state."""

    __slots__ = ("_stripes",)

    def __init__(self) -> None:
        self._stripes = tuple(_Stripe() for _ in range(_STRIPES))

    def enter(self, record: JobRecord) -> None:
        """Count a new job, in the state that it has."""
        stripe = self._stripes[record.number & _MASK]
        stripe.lock.acquire()
        try:
            stripe.counts[record.state.column] += 1
        finally:
            stripe.lock.release()

    def strike(self, record: JobRecord, state: JobState) -> bool:
        """Take a job out again, as if it had never been there; return False where it has left that state."""
        stripe = self._stripes[record.number & _MASK]
        stripe.lock.acquire()
        try:
            if record.state is not state:
                return False
            record.state = CANCELLED
            stripe.counts[state.column] -= 1
        finally:
            stripe.lock.release()
        return True

    def move(
        self, record: JobRecord, before: JobState, after: JobState, at: float | None = None, why: str = ""
    ) -> bool:
        """Move a job from one state to another; return False, and do nothing, where it is not in the first.

        Args:
            record: the job.
            before: the state it must be in.
            after: the state it will be in.
            at: when it finished, if that is what it does.
            why: why it ends without a result.
        """
        stripe = self._stripes[record.number & _MASK]
        stripe.lock.acquire()
        try:
            if record.state is not before:
                return False
            record.finished = at
            record.why = why
            record.state = after
            stripe.counts[before.column] -= 1
            stripe.counts[after.column] += 1
        finally:
            stripe.lock.release()
        return True

    def condemn(self, record: JobRecord, fate: JobState, why: str) -> bool:
        """Decide now where a running job will go when it stops running.

        Returns:
            False where it does not run, or something else was decided before.
        """
        stripe = self._stripes[record.number & _MASK]
        stripe.lock.acquire()
        try:
            if record.state is not RUNNING or record.fate is not None:
                return False
            record.fate = fate
            record.why = why
            if fate not in FINISHED:
                record.attempts -= 1  # it goes back to where it came from: no attempt is spent
        finally:
            stripe.lock.release()
        return True

    def settle(self, record: JobRecord, after: JobState, at: float, why: str = "") -> JobState:
        """Move a job that has stopped running to another state, or to its fate, and return which.

        Args:
            record: the job; it is running.
            after: where it goes unless it is condemned.
            at: when it finished, if that is what it does.
            why: why it has no result.
        """
        stripe = self._stripes[record.number & _MASK]
        stripe.lock.acquire()
        try:
            if record.fate is not None:
                after, record.fate = record.fate, None
                record.value = None
            else:
                record.why = why
            if after in FINISHED:
                record.finished = at
            record.state = after
            stripe.counts[RUNNING.column] -= 1
            stripe.counts[after.column] += 1
        finally:
            stripe.lock.release()
        return after

    def snapshot(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of one moment."""
        taken: list[_Stripe] = []
        try:
            for stripe in self._stripes:  # always in this order, and nobody else holds two
                stripe.lock.acquire()
                taken.append(stripe)
            return {state: sum(stripe.counts[state.column] for stripe in taken) for state in JobState}
        finally:
            for stripe in taken:
                stripe.lock.release()
