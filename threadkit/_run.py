"""The runs of an interval task: the settings they run on, what there is to know of each, and the figures of all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Literal

import attrs

from threadkit._clock import Clock
from threadkit._due import Due, Rhythm
from threadkit._stop import StopToken
from threadkit._verdicts import Stopping
from threadkit.backoff import Backoff

Overlap = Literal["skip", "queue", "parallel", "cancel"]
Misfire = Literal["run", "skip"]

GRACE = 60.0
"""Seconds; a run that is later than this was missed, though no other is due yet."""


@attrs.frozen
class AgainIn:
    """What a function returns to say when it wants to be run next; made by ``IntervalTask.again_in()``."""

    seconds: float


@attrs.frozen(eq=False)
class Settings:
    """How a task is to be run; see ``IntervalTask``."""

    name: str
    func: Callable[..., object]
    wants_run: bool
    rhythm: Rhythm
    overlap: Overlap
    max_parallel: float
    misfire: Misfire
    max_runs: int | None
    backoff: Backoff | None
    elsewhere: Callable[..., Future[Any]] | None  # begins a run, not on the scheduler's threads: f(token, *arguments)
    random: Callable[[], float]


@attrs.frozen
class Run:
    """What a function that asks for it learns about its run.

    Attributes:
        scheduled_at: when the run was due, jitter included, in UTC; of several missed ones, the first.
        started_at: when it began, in UTC.
        lateness: the seconds between.
        number: 1 for the first run of the task.
        token: set when the task is to stop, or where ``overlap="cancel"`` wants this run to end.

    Example:
        >>> from threadkit import IntervalTask
        >>> from threadkit.testing import VirtualClock
        >>> clock = VirtualClock()
        >>> with IntervalTask(lambda run: print(run.number, run.lateness, run.token()), 60, clock=clock):
        ...     clock.advance(60)
        1 0.0 True
    """

    scheduled_at: datetime
    started_at: datetime
    lateness: float
    number: int
    token: StopToken


class ActiveRun:
    """What a task keeps of a run that is going on."""

    __slots__ = ("began", "due", "future", "number", "thread", "token")

    def __init__(self, number: int, due: Due, token: StopToken) -> None:
        self.number = number
        self.due = due
        self.token = token
        self.began = 0.0
        self.thread: threading.Thread | None = None  # None on a foreign executor
        self.future: Future[Any] | None = None

    def arguments(self, settings: Settings, clock: Clock) -> tuple[Run, ...]:
        """Return what the function is to be called with."""
        if not settings.wants_run:
            return ()
        due = self.due
        return (Run(due.moment(clock), clock.now(), due.lateness(clock), self.number, self.token),)

    def call(self, settings: Settings, clock: Clock) -> tuple[object, BaseException | None]:
        """Call the function; return what it returned, or what it raised."""
        try:
            return settings.func(*self.arguments(settings, clock)), None
        except Stopping as stopping:
            return None, None if self.token.is_set() else stopping
        except BaseException as error:  # the border of user code: an error is a value from here on
            return None, error


@attrs.frozen
class TaskStats:
    """The figures of an interval task.

    Attributes:
        runs: how many runs have ended, the failed ones included.
        failures: how many of them have raised.
        skipped: how many were left out because others were going on, or waited and were dropped.
        missed: how many were due while nothing could run, or in a pause.
        running: how many are going on.
        next_run_at: when the next one is due, in UTC.
        last_run_at: when the last one began, in UTC.
        last_duration: how many seconds the one took that ended last.

    Example:
        >>> from threadkit import IntervalTask
        >>> IntervalTask(print, 60).stats().as_dict()["runs"]
        0
    """

    runs: int
    failures: int
    skipped: int
    missed: int
    running: int
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_duration: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; times are ISO 8601."""
        plain = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}


class Figures:
    """The figures while they grow. The recurrence's lock MUST be held to change them, save ``last_run_at``."""

    __slots__ = (
        "failures",
        "failures_in_a_row",
        "last_duration",
        "last_error",
        "last_run_at",
        "missed",
        "runs",
        "skipped",
    )

    def __init__(self) -> None:
        self.runs = self.failures = self.failures_in_a_row = self.skipped = self.missed = 0
        self.last_run_at: datetime | None = None
        self.last_duration: float | None = None
        self.last_error: BaseException | None = None

    def count(self, duration: float, error: BaseException | None) -> None:
        """Count a run that has ended."""
        self.runs += 1
        self.last_duration = duration
        if error is None:
            self.failures_in_a_row = 0
        else:
            self.failures += 1
            self.failures_in_a_row += 1
            self.last_error = error

    def stats(self, running: int, next_run_at: datetime | None) -> TaskStats:
        """Return them as of now."""
        return TaskStats(
            self.runs,
            self.failures,
            self.skipped,
            self.missed,
            running,
            next_run_at,
            self.last_run_at,
            self.last_duration,
        )
