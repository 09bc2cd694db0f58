"""``Ledger``: how many jobs are in each state and who has which key, exact at every moment, without one lock for all.

A job's state changes under the lock of its *stripe*, one of 64, together with the stripe's counts. So of two that want
to move the same job one is first and the other is told; a count never lags behind a state; and jobs that follow upon
one another have different locks, so that workers seldom meet. Jobs of one key are of one stripe, so a key changes hands
under that same lock.

Why so many: who has waited for a lock holds it while waiting for the interpreter as well, for five milliseconds if the
others are busy. With few stripes they come to that lock within the time, and wait in turn: a convoy, which costs more
than all the rest. With 64 it dissolves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from threadkit._errors import DuplicateName
from threadkit._records import CANCELLED, FAILED, FINISHED, PENDING, RUNNING, JobRecord, JobState

_STRIPES = 64
_MASK = _STRIPES - 1  # which is quicker than a remainder


class _Stripe:
    """One job in 64; those of one key together."""

    __slots__ = ("counts", "keys", "lock")

    def __init__(self) -> None:
        # Guards the counts, the keys, and the state and fate of each job of this stripe. Nothing is called under it,
        # and nobody waits for another lock while holding it: a finalizer may strike inside and submit a job of any
        # stripe, which would close the circle. It is reentrant for those finalizers: one can only strike between two of
        # the statements below, since a list, an index and a number run no Python code, so what it adds is added whole.
        # It is taken by acquire() and release(), which in CPython 3.11 cost half of what a with block does.
        self.lock = threading.RLock()
        self.counts = [0] * len(JobState)  # by the state's column
        self.keys: dict[str, JobRecord] = {}  # the unfinished job that has a key

    def drop_key(self, record: JobRecord) -> None:
        """Let go of a key that may be another job's by now. The lock MUST be held."""
        if record.key is not None and self.keys.get(record.key) is record:
            del self.keys[record.key]


class Ledger:
    """The one place where jobs change their state."""

    __slots__ = ("_stripes",)

    def __init__(self) -> None:
        self._stripes = tuple(_Stripe() for _ in range(_STRIPES))

    def enter(self, record: JobRecord, *, replace: bool = False) -> JobRecord | None:
        """Count a new job, in the state that it has, unless an unfinished one has its key.

        Args:
            record: the job.
            replace: count it anyway; the key is its own from now on.

        Returns:
            the unfinished job that has, or had, the same key.
        """
        key = record.key
        if key is not None:
            record.spread = hash(key)
        stripe = self._stripes[record.spread & _MASK]
        stripe.lock.acquire()
        try:
            holder = None
            if key is not None:
                # One step, or a finalizer might submit the same key in between.
                first = stripe.keys.setdefault(key, record)
                if first is not record:
                    holder = first
                    if not replace:
                        return holder
                    stripe.keys[key] = record
            stripe.counts[record.state.column] += 1
        finally:
            stripe.lock.release()
        return holder

    def holder(self, key: str) -> JobRecord | None:
        """Return the unfinished job that has a key."""
        return self._stripes[hash(key) & _MASK].keys.get(key)  # a single look needs no lock

    def strike(self, record: JobRecord, state: JobState) -> bool:
        """Take a job out again, as if it had never been there; return False where it has left that state."""
        stripe = self._stripes[record.spread & _MASK]
        stripe.lock.acquire()
        try:
            if record.state is not state:
                return False
            record.state = CANCELLED
            stripe.counts[state.column] -= 1
            stripe.drop_key(record)
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
        stripe = self._stripes[record.spread & _MASK]
        stripe.lock.acquire()
        try:
            if record.state is not before:
                return False
            record.finished = at
            record.why = why
            record.state = after
            stripe.counts[before.column] -= 1
            stripe.counts[after.column] += 1
            if record.key is not None and after in FINISHED:
                stripe.drop_key(record)
        finally:
            stripe.lock.release()
        return True

    def revive(self, record: JobRecord, claim: Callable[[], bool]) -> bool:
        """Make a dead letter pending, with its key; return False, and do nothing, where it is none.

        Args:
            record: the job.
            claim: called under the lock; what it says of the job counts. It MUST be quick, and take no lock.

        Raises:
            DuplicateName: an unfinished job has its key.
        """
        stripe = self._stripes[record.spread & _MASK]
        with stripe.lock:
            if record.state is not FAILED:
                return False
            if record.key is not None and record.key in stripe.keys:
                raise DuplicateName("job", record.key)
            if not claim():
                return False
            record.finished = None
            record.why = ""
            record.renew()
            record.state = PENDING
            stripe.counts[FAILED.column] -= 1
            stripe.counts[PENDING.column] += 1
            if record.key is not None:
                stripe.keys[record.key] = record
        return True

    def condemn(self, record: JobRecord, fate: JobState, why: str) -> bool:
        """Decide now where a running job will go when it stops running.

        Returns:
            False where it does not run, or something else was decided before.
        """
        stripe = self._stripes[record.spread & _MASK]
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
        stripe = self._stripes[record.spread & _MASK]
        stripe.lock.acquire()
        try:
            value = None  # what is let go may run a finalizer, which has to wait until the lock is free
            if record.fate is not None:
                after, record.fate = record.fate, None
                value, record.value = record.value, None
            else:
                record.why = why
            if after in FINISHED:
                record.finished = at
            record.state = after
            stripe.counts[RUNNING.column] -= 1
            stripe.counts[after.column] += 1
            if record.key is not None and after in FINISHED:
                stripe.drop_key(record)
        finally:
            stripe.lock.release()
        del value
        return after

    def snapshot(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of one moment."""
        taken = self._take_all()
        try:
            counts = [list(stripe.counts) for stripe in taken]
        finally:
            _release(taken)
        return {state: sum(row[state.column] for row in counts) for state in JobState}

    def _take_all(self) -> list[_Stripe]:
        """Take all locks, but wait for one only while holding none (see ``_Stripe``)."""
        order = list(self._stripes)
        while True:
            taken: list[_Stripe] = []
            try:
                for stripe in order:
                    if not stripe.lock.acquire(blocking=not taken):
                        break
                    taken.append(stripe)
                else:
                    return taken
            except BaseException:  # Ctrl-C
                _release(taken)
                raise
            _release(taken)
            order.remove(stripe)  # that one is waited for next
            order.insert(0, stripe)


def _release(stripes: list[_Stripe]) -> None:
    for stripe in stripes:
        stripe.lock.release()
