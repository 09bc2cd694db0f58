"""``TimedCall``: a call that may be given up while it runs."""

from __future__ import annotations

from concurrent.futures._base import FINISHED
from typing import TypeVar

from threadkit._calling import describe_function
from threadkit._clock import Clock
from threadkit._errors import CallTimeout
from threadkit._future import NOBODY, Call, Host, Work
from threadkit._override import override
from threadkit._unread import Unread

T = TypeVar("T")


class TimedCall(Call[T]):
    """A call that may be given up while it runs, so that two may want to settle it.

    Args:
        clock: where its waiters wait.
        lane: who is told of its end.
        work: the function, its arguments, and the context to run it in, if any.
    """

    __slots__ = ("_called", "_verdict")

    def __init__(self, clock: Clock, lane: Host, work: Work) -> None:
        super().__init__(clock, lane, work)
        self._called = describe_function(work[0])  # for when its time is over and the function is the worker's alone
        self._verdict: list[None] = [None]  # whoever pops it says how a call ends that was begun

    def expire(self, what: str, timeout: float) -> None:
        """Give it up: where it waits it will never be run, and where it runs nobody will hear of its end."""
        self.abandon(CallTimeout(what, timeout))

    def abandon(self, error: BaseException) -> None:
        """Finish it with an error, whether it waits or runs."""
        lane = self._lane  # first: who loses the decision forgets it
        if not self._withdraw(FINISHED, None, error) and self._decide():
            self._unread = lane.unread(self._called, error)
            self._settle(FINISHED, None, error)
            self._tell()

    @override
    def _end(self, result: T | None, error: BaseException | None, unread: Unread | None = None) -> None:
        if self._decide():
            super()._end(result, error, unread)
        else:  # nobody will ask for this error, and it speaks up when it goes
            lane, self._lane = self._lane, NOBODY
            lane.ended(self, failed=True)

    @override
    def _name(self) -> str:
        return self._called

    def _decide(self) -> bool:
        """Return whether the outcome is the caller's to settle; not where the call was withdrawn, which is done."""
        try:
            self._verdict.pop()
        except IndexError:
            return False
        return not self.done()
