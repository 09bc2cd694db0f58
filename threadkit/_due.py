"""When a run is due: a point in time, never changed once made, that knows which one follows it.

``Once`` and ``Tick`` lie on the monotonic clock, which no administrator can set. Ticks form a grid: each is its origin
plus a whole number of intervals, so that rounding never adds up to a drift. An ``Appointment`` comes from a trigger and
is kept by the wall clock, which may be set; see there for the rule. ``Rhythm`` makes them.

Each may be *shifted* (jitter): it then comes later than its place in the row, and the row goes on from the place.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from threadkit import _arguments, _durations
from threadkit._clock import Clock
from threadkit._override import override
from threadkit.events import describe
from threadkit.triggers import Trigger

Pace = float | timedelta | str
Every = Pace | Callable[[], Pace] | Trigger

LONGEST_SLEEP = 60.0
"""Seconds after which the wall clock is looked at again, for it may have been set, or the machine have been asleep."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_SHORTEST = 1e-6  # seconds; the resolution of timedelta
_SET_RIGHT = timedelta(hours=1)  # a clock that is set back by more than this was wrong before
_MOST_COUNTED = 1000  # missed appointments, where a trigger has to be asked for each: more would take too long


class Due(Protocol):
    """A point in time at which a run is due."""

    __slots__ = ()

    def lateness(self, clock: Clock) -> float:
        """Return the seconds that have passed since; negative while it is still to come."""
        ...

    def wake_at(self, clock: Clock) -> float:
        """Return the time of the monotonic clock at which to look again."""
        ...

    def moment(self, clock: Clock) -> datetime:
        """Return it in UTC."""
        ...

    def following(self, clock: Clock, shift: float) -> tuple[Due | None, int]:
        """Return the first one that is still to come, and how many there are between this one and that."""
        ...

    def revised(self, clock: Clock) -> Due | None:
        """Return what is due instead, after the clock has been set."""
        ...


class Once(Due):
    """A point on the monotonic clock that nothing follows."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    @override
    def lateness(self, clock: Clock) -> float:
        return clock.monotonic() - self.at

    @override
    def wake_at(self, clock: Clock) -> float:
        return self.at

    @override
    def moment(self, clock: Clock) -> datetime:
        try:
            return clock.now() + timedelta(seconds=self.at - clock.monotonic())
        except OverflowError:
            return _END_OF_TIME

    @override
    def following(self, clock: Clock, shift: float) -> tuple[Due | None, int]:
        return None, 0

    @override
    def revised(self, clock: Clock) -> Due | None:
        return self


class Tick(Once):
    """A point on a grid of the monotonic clock: ``origin + number * interval``, and a shift."""

    __slots__ = ("interval", "number", "origin", "shift")

    def __init__(self, origin: float, interval: float, number: int = 1, shift: float = 0.0) -> None:
        self.origin = origin
        self.interval = interval
        self.number = number
        self.shift = shift
        self.at = origin + number * interval + shift

    @override
    def following(self, clock: Clock, shift: float) -> tuple[Tick, int]:
        now = clock.monotonic() - self.shift
        number = self.number + 1
        if self.origin + number * self.interval <= now:
            number = max(number, int((now - self.origin) / self.interval))
            while self.origin + number * self.interval <= now:  # the quotient was rounded
                number += 1
        return Tick(self.origin, self.interval, number, shift), number - self.number - 1

    def paced(self, interval: float, clock: Clock) -> Tick:
        """Return the tick that comes ``interval`` after the one before this, on a new grid; now if that has passed.

        Where this is the first of its grid, and still to come, nothing is known of one before: then after now.
        """
        now = clock.monotonic()
        if self.number == 0:
            return Tick(now, interval, 1, self.shift) if self.at > now else Tick(now, interval, 0)
        tick = Tick(self.origin + (self.number - 1) * self.interval, interval, 1, self.shift)
        return tick if tick.at > now else Tick(now, interval, 0)


class Appointment(Due):
    """A point that a trigger has named. The wall clock decides whether it has come.

    Whatever happens to that clock is seen within a minute. Where it was set forward, or the machine was asleep, what
    has become due is late. Where it was set back by up to an hour, nothing that has been is due again: the next one
    stays what it was. Where it was set back by more, it was wrong before, and the trigger is asked anew.
    """

    __slots__ = ("asked_at", "at", "point", "trigger")

    def __init__(self, trigger: Trigger, point: datetime, asked_at: datetime, shift: float) -> None:
        self.trigger = trigger
        self.point = point
        self.asked_at = asked_at
        self.at = point + timedelta(seconds=shift)

    @classmethod
    def after(cls, trigger: Trigger, now: datetime, shift: float) -> Appointment | None:
        """Return the first appointment later than ``now``."""
        point = trigger.next_after(now)
        return None if point is None else cls(trigger, point, now, shift)

    @override
    def lateness(self, clock: Clock) -> float:
        return (clock.now() - self.at).total_seconds()

    @override
    def wake_at(self, clock: Clock) -> float:
        return clock.monotonic() + min(max(0.0, -self.lateness(clock)), LONGEST_SLEEP)

    @override
    def moment(self, clock: Clock) -> datetime:
        return self.at

    @override
    def following(self, clock: Clock, shift: float) -> tuple[Appointment | None, int]:
        now = clock.now()
        reached = now - (self.at - self.point)
        passed, point = 0, self._next_after(self.point)
        if point is not None and point <= reached and (known := self.trigger._passed(self.point, reached)) is not None:
            passed, point = known, self._next_after(reached)
        while point is not None and point <= reached:
            passed += 1
            point = self._next_after(point if passed < _MOST_COUNTED else reached)
        return (None if point is None else Appointment(self.trigger, point, now, shift)), passed

    @override
    def revised(self, clock: Clock) -> Appointment | None:
        now = clock.now()
        if self.asked_at - now <= _SET_RIGHT:
            return self
        return self.after(self.trigger, now, (self.at - self.point).total_seconds())

    def _next_after(self, moment: datetime) -> datetime | None:
        point = self.trigger.next_after(moment)
        if point is not None and point <= moment:
            raise ValueError(f"trigger {self.trigger!r} names {point} as later than {moment}")
        return point


class Belated(Appointment):
    """The first of some single moments that had passed when the task started; the others are folded into it."""

    __slots__ = ("folded",)

    def __init__(self, trigger: Trigger, point: datetime, asked_at: datetime, folded: int) -> None:
        super().__init__(trigger, point, asked_at, 0.0)
        self.folded = folded

    @override
    def following(self, clock: Clock, shift: float) -> tuple[Appointment | None, int]:
        started = Appointment(self.trigger, self.asked_at, self.asked_at, 0.0)
        following, passed = started.following(clock, shift)
        return following, self.folded + passed


class Detour(Once):
    """A point on the monotonic clock, after which a trigger has its say again, if there is one."""

    __slots__ = ("trigger",)

    def __init__(self, at: float, trigger: Trigger | None) -> None:
        super().__init__(at)
        self.trigger = trigger

    @override
    def following(self, clock: Clock, shift: float) -> tuple[Appointment | None, int]:
        return None if self.trigger is None else Appointment.after(self.trigger, clock.now(), shift), 0


class Rhythm:
    """What ``every``, ``fixed`` and ``jitter`` of a task come to: it names the first due time, and what follows.

    Args:
        every: seconds, a ``timedelta``, text, a function returning one of these, or a trigger.
        after_the_end: count from the end of a run, instead of from one due time to the next.
        jitter: the longest shift, in seconds.
        random: where chance comes from.

    Raises:
        TypeError: ``every`` is none of these.
        ValueError: ``every`` is out of range.
    """

    __slots__ = ("_every", "_jitter", "_random", "_started", "after_the_end", "ask", "interval", "trigger")

    def __init__(self, every: Every, jitter: float, random: Callable[[], float], *, after_the_end: bool) -> None:
        self.after_the_end = after_the_end
        self._jitter = jitter
        self._random = random
        self.interval: float | None = None  # where time is counted
        self.trigger: Trigger | None = None  # where something else says what is due
        self.ask: Callable[[], Pace] | None = None  # where the interval is asked for
        self._started: Trigger | None = None  # the trigger, once its count has begun
        if isinstance(every, Trigger):
            if every.plain and not every.once:
                self.interval = every.interval
            else:
                self.trigger = every
        elif callable(every):
            self.ask = every
        else:
            self.interval = seconds(every, "every")

    @property
    def pace(self) -> float | None:
        """The seconds from one run to the next, where there is such a thing."""
        return self.interval if self.trigger is None else self.trigger.interval

    def first(self, clock: Clock) -> Due | None:
        """Return what is due first, counted from now.

        Single moments that have passed already are late rather than over.
        """
        if self.ask is not None:
            self.interval = seconds(self.ask(), "every()")
        if self.trigger is None:
            return self.from_now(clock)
        if self.trigger.plain and self.trigger.interval is not None:
            return Once(clock.monotonic() + self.trigger.interval + self.shift())
        now = clock.now()
        self._started = self.trigger.starting(now)
        past = [moment for moment in self._started._moments() if moment <= now]
        if past:
            return Belated(self._started, min(past), now, len(past) - 1)
        first = self.from_now(clock)
        if first is None:
            late = Appointment.after(self._started, _LONG_AGO, 0.0)
            if late is not None and late.following(clock, 0.0) == (None, 0):
                return late
        return first

    def from_now(self, clock: Clock) -> Due | None:
        """Return what is due next, counted from now; None where nothing is."""
        if self.interval is not None:
            return Tick(clock.monotonic(), self.interval, 1, self.shift())
        return None if self._started is None else Appointment.after(self._started, clock.now(), self.shift())

    def following(self, due: Due, clock: Clock) -> tuple[Due | None, int]:
        """Return what is due after ``due``, and how many were in between; None where the end of a run decides."""
        return (None, 0) if self.after_the_end else due.following(clock, self.shift())

    def after_end(self, clock: Clock) -> Due | None:
        """Return what is due after a run that ends now; None where that is known already."""
        return self.from_now(clock) if self.after_the_end else None

    def after_pause(
        self, due: Due | None, put_off: Callable[[Due, Clock], Due], clock: Clock
    ) -> tuple[Due | None, int]:
        """Return what is due after a pause that ends now, and how many runs were left out for it.

        Args:
            due: what was due next when it began; None where the end of a run was to decide.
            put_off: returns the end of a backoff where that is later.
            clock: where time comes from.
        """
        if due is None:
            return self.after_end(clock), 0
        meant = put_off(due, clock)
        if meant.lateness(clock) < 0:
            return due, 0
        following, passed = due.following(clock, self.shift())
        if following is None:  # the last of all is run late
            return due, 0
        return following, 1 if self.after_the_end or meant is not due else passed + 1

    def again_in(self, delay: float, clock: Clock) -> Due:
        """Return what is due ``delay`` seconds from now, because the task has asked for it.

        An interval is counted from there; a trigger says what is due after it.
        """
        at = clock.monotonic() + delay
        return Detour(at, self._started) if self.interval is None else Tick(at, self.interval, 0)

    @staticmethod
    def ask_again(ask: Callable[[], Pace], error: BaseException | None) -> tuple[float | None, BaseException | None]:
        """Return the interval that the user's function wants after a run, and the error of the run, if it has one.

        If the function fails the run has, if it had not yet; and the interval stays as it was: it is None.
        """
        try:
            return seconds(ask(), "every()"), error
        except BaseException as failure:
            if error is None:
                return None, failure
            error.add_note(f"Then every() failed: {describe(failure)}")
            return None, error

    def shift(self) -> float:
        """Return the shift of the next due time, in seconds."""
        return self._jitter and self._jitter * self._random()


def seconds(value: Pace, name: str) -> float:
    """Return an interval in seconds.

    Raises:
        TypeError: it is no duration.
        ValueError: it is ``nan``, infinite, or shorter than a microsecond; or the text means no duration.
    """
    number = _arguments.seconds(value, name) if isinstance(value, (float, int)) else _durations.positive(value, name)
    if number < _SHORTEST:
        raise ValueError(f"{name} must be at least a microsecond, but is {value!r}")
    return number
