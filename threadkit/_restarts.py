"""How often something may be restarted, and how soon: rules, and how much of them has been used.

Both are pure: nothing here looks at a clock, waits, or holds a lock. A managed thread has a budget of its own; a group
has one for all its children.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import timedelta
from typing import Literal

import attrs

from threadkit import _arguments
from threadkit._errors import ThreadkitError
from threadkit.backoff import Backoff, RetryState, delay_of

RestartPolicy = Literal["never", "on_failure", "always"]


@attrs.frozen
class RestartRules:
    """How many restarts there may be within so many seconds, and how long to wait before each.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.
    """

    max_restarts: float
    within: float
    backoff: Backoff

    @classmethod
    def of(cls, max_restarts: int | None, within: float | timedelta, backoff: Backoff) -> RestartRules:
        """Check what the user gave; None is no limit."""
        return cls(
            math.inf if max_restarts is None else _arguments.count(max_restarts, "max_restarts", minimum=0),
            _arguments.seconds(within, "within", above_zero=True),
            _arguments.function(backoff, "backoff"),
        )


class RestartBudget:
    """What is left of the rules at a moment. One thread at a time uses it."""

    __slots__ = ("_delay", "_ends", "_row", "_rules", "_well_since")

    def __init__(self, rules: RestartRules) -> None:
        self._rules = rules
        self._ends: deque[float] = deque()  # when restarts were granted, as far back as the window reaches
        self._row = 0  # restarts since the last healthy period
        self._delay = 0.0  # the last one
        self._well_since = 0.0  # when what was restarted last came up again

    def spend(self, now: float, error: BaseException | None) -> float | None:
        """Book one restart.

        Args:
            now: the moment.
            error: what was raised, for the backoff.

        Returns:
            the seconds to wait before it, or None where the budget is spent.

        Raises:
            BaseException: whatever the user's backoff raises.
        """
        rules, ends = self._rules, self._ends
        while ends and ends[0] <= now - rules.within:
            ends.popleft()
        if len(ends) >= rules.max_restarts:
            return None
        if now - self._well_since >= rules.within:  # it was well for a while: begin anew
            self._row, self._delay = 0, 0.0
        if rules.max_restarts != math.inf:  # unlimited: nothing to remember
            ends.append(now)
        self._row += 1
        self._delay = delay_of(rules.backoff, RetryState(self._row, error, previous_delay=self._delay))
        self._well_since = now + self._delay
        return self._delay

    def refusal(self, who: str, error: BaseException | None) -> BaseException:
        """Return what to die of when ``spend()`` gave None: the last error with a note, or one that says the same."""
        note = f"{who} ended {len(self._ends) + 1} times within {self._rules.within:g} s: no restart"
        if error is None:
            return ThreadkitError(note)
        error.add_note(note)
        return error
