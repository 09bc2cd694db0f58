"""What user code raises, or returns, to tell threadkit how to go on. None of these is a failure.

DONE         returned by a body or a task's function: a good end, do not call me again
STOP_ALL     returned by a body: a good end, and everything else is to stop too
RetryLater   [ThreadkitError]  from a job's handler: try again after a delay
Snooze       [ThreadkitError]  from a job's handler: run again later, no attempt spent
Discard      [ThreadkitError]  from a job's handler: give the job up, no dead letter
Stopping     [BaseException]   from ``StopToken.raise_if_set()``: unwind, a stop has been asked for
"""

from __future__ import annotations

import enum
from datetime import timedelta

from threadkit._errors import ThreadkitError


class Verdict(enum.Enum):
    """The type of ``DONE`` and ``STOP_ALL``, so that each has a name and there is but one."""

    DONE = "done"
    STOP_ALL = "stop all"


DONE = Verdict.DONE
STOP_ALL = Verdict.STOP_ALL


class RetryLater(ThreadkitError):
    """Raise it in a job's handler to have the job run again after ``delay`` seconds. It counts as an attempt.

    Args:
        delay: seconds until the next attempt (a number or a ``timedelta``).

    Example:
        >>> print(RetryLater(30))
        try again in 30 s
    """

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(delay)
        self.delay = delay

    def __str__(self) -> str:
        return f"try again in {_text(self.delay)}"


class Snooze(ThreadkitError):
    """Raise it in a job's handler to have the job run again after ``delay`` seconds, spending no attempt.

    Args:
        delay: seconds until it runs again (a number or a ``timedelta``).

    Example:
        >>> print(Snooze(5))
        not now: again in 5 s
    """

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(delay)
        self.delay = delay

    def __str__(self) -> str:
        return f"not now: again in {_text(self.delay)}"


class Discard(ThreadkitError):
    """Raise it in a job's handler to give the job up: no retry, and no dead letter.

    Args:
        reason: why, for the record.

    Example:
        >>> print(Discard("the user is gone"))
        discarded: the user is gone
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"discarded: {self.reason}" if self.reason else "discarded"


class Stopping(BaseException):
    """A stop has been asked for. Raised by ``StopToken.raise_if_set()`` to unwind a body.

    It is a ``BaseException``, so that an ``except Exception`` in a loop does not swallow a stop.

    Args:
        reason: why, if a reason was given.

    Example:
        >>> print(Stopping("signal SIGTERM"))
        stopping: signal SIGTERM
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"stopping: {self.reason}" if self.reason else "stopping"


def _text(delay: float | timedelta) -> str:
    return str(delay) if isinstance(delay, timedelta) else f"{delay:g} s"
