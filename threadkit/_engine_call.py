"""``EngineCall``: a call that somebody else's executor runs, and what its engine's own future has to do with it."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from typing import Any, TypeVar

from threadkit._clock import Clock
from threadkit._future import Host, Work
from threadkit._override import override
from threadkit._stop import StopToken
from threadkit._timed_call import TimedCall
from threadkit._waiting import Waiters

T = TypeVar("T")


class EngineCall(TimedCall[T]):
    """A call that somebody else's executor runs.

    Args:
        clock: where its waiters wait.
        lane: who is told of its end.
        work: the function, its arguments, and the context to run it in, if any.
        idempotent: whether it may be submitted again when the engine broke under it.
    """

    __slots__ = ("idempotent", "inner", "is_asked_for", "lost", "strikes")

    def __init__(self, clock: Clock, lane: Host, work: Work, *, idempotent: bool) -> None:
        super().__init__(clock, lane, work)
        self.inner: StandardFuture[Any] | None = None
        self.idempotent = idempotent
        self.strikes = 0  # the keeper's own
        self.is_asked_for = False  # its cancellation, by somebody other than the engine
        self.lost: BrokenExecutor | None = None  # why it was given up, where the engine never said a word

    @override
    def cancel(self) -> bool:
        """Cancel it, unless the engine says that it is running or done.

        Returns:
            True when it is cancelled now, by this call or an earlier one.
        """
        self.is_asked_for = True  # first: the engine's future may tell of the end at once
        inner = self.inner
        if inner is not None and not inner.cancel():
            return self.cancelled()
        return super().cancel()

    @override
    def drop(self) -> bool:
        """Cancel it in favour of another; return True to one of all who do so and find it cancelled."""
        me = object()  # it may be cancelled by way of its engine's future, so who did it cannot be told
        return not self.done() and self.cancel() and vars(self).setdefault("_dropped_by", me) is me

    @override
    def running(self) -> bool:
        """Return True while the engine says so."""
        inner = self.inner
        return not self.done() and inner is not None and inner.running()

    def wait_unless_stopped(self, deadline: float | None, token: StopToken) -> None:
        """Wait until it is done, the token is set, or the clock reaches ``deadline``."""
        waiters = Waiters()  # not those of the audience, who wait for the end alone
        self.add_done_callback(lambda _: waiters.wake_all())
        with token.on_stop(waiters.wake_all):
            waiters.wait(self._clock, lambda: self.done() or token.is_set(), deadline)

    def follow(self, inner: StandardFuture[Any]) -> None:
        """End as the engine's own future has ended."""
        if inner.cancelled():
            self._withdraw(CANCELLED_AND_NOTIFIED, None, None)
            return
        error = inner.exception()
        if self._claim():
            if error is None:
                self._end(inner.result(), None)
            else:
                self._end(None, error, self._lane.unread(self._called, error))
