"""``Setback``: the time in which a task begins no run, because its last ones failed."""

from __future__ import annotations

from collections.abc import Callable

from threadkit._clock import Clock
from threadkit._due import Due, Once
from threadkit.backoff import Backoff, RetryState, delay_of


class Setback:
    """Grows with each failed run in a row, as a backoff says, and is over with the first that succeeds.

    The lock of the task MUST be held to set ``until``; whoever reads it without sees the old or the new.

    Args:
        backoff: how long; None is not at all.
        random: where chance comes from.
    """

    __slots__ = ("_backoff", "_delay", "_random", "until")

    def __init__(self, backoff: Backoff | None, random: Callable[[], float]) -> None:
        self._backoff = backoff
        self._random = random
        self._delay = 0.0
        self.until: float | None = None
        """The moment before which no run begins; None where there is no such moment."""

    def after(self, row: int, error: BaseException, ended: float) -> float | None:
        """Return the new ``until`` after so many failures in a row, the last of which ended then. Asks the user's code.

        Runs in parallel that fail at once may give the same number.
        """
        if self._backoff is None:
            return None
        state = RetryState(row, error, previous_delay=self._delay if row > 1 else 0.0, random=self._random)
        self._delay = delay_of(self._backoff, state)
        return ended + self._delay

    def put_off(self, due: Due, clock: Clock) -> Due:
        """Return the end of the setback where that is later than ``due``."""
        until = self.until
        if until is None:
            return due
        end = Once(until)
        return due if due.lateness(clock) <= end.lateness(clock) else end
