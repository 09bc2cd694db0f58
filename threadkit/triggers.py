"""When to run: frozen values that answer ``next_after(moment)``, the next moment at which something is due.

**The contract.** A trigger is pure: it reads no clock and gives the same answer to the same question. ``moment`` has a
time zone; the answer is in UTC and strictly later, or None for "never again" (as after the year 9999). Whoever runs a
trigger begins with ``trigger = trigger.starting(now)``, as one that counts from "now" has no now of its own; then
answers fed back in are strictly increasing until None.

**Daylight saving time.** ``daily``, ``weekly``, ``monthly`` and a ``cron`` expression of fixed time are due *at the
first instant at which the zone's clocks show that time or a later one*: on most days on time; where clocks are put
forward over it, right after the gap (several times in one gap make one run); where clocks are put back and show it
twice, once, at the first. A cron expression with a star at the head of its seconds, minutes or hours asks for a
frequency, not for a time, and follows what clocks show: no run in a gap, runs in both passes of a repeated hour.
``every`` and ``after`` know nothing of zones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from attrs import evolve, frozen

from threadkit import _arguments, _calendar, _durations

Duration = float | timedelta | str
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _SECOND = timedelta(microseconds=1), timedelta(seconds=1)
_THOUSAND_YEARS = 365_250 * 86_400.0
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Trigger(ABC):
    """Says when something is due. For one of your own, subclass it and write ``next_after``.

    Attributes:
        zone: the time zone in which its dates are meant; UTC where it has none.
        interval: the seconds given to ``every`` or ``after``; else None.
        plain: whether elapsed time alone counts, so that ``interval`` is best waited for on the monotonic clock.
        once: whether it is due one time only.

    Example:
        >>> lunch = weekly("mon tue wed thu fri", "12:00") | weekly("sat sun", "13:30")
        >>> print(lunch.except_on(date(2024, 5, 3)).next_after(datetime(2024, 5, 2, 15, tzinfo=UTC)))
        2024-05-04 13:30:00+00:00
    """

    __slots__ = ()
    zone: tzinfo = UTC
    interval: float | None = None
    plain: bool = False
    once: bool = False

    @abstractmethod
    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first due moment strictly later than ``moment``, in UTC, or None for "never again".

        Raises:
            TypeError: ``moment`` is no ``datetime``.
            ValueError: ``moment`` has no time zone.
        """

    def starting(self, moment: datetime) -> Trigger:  # noqa: ARG002  # few need it
        """Return the same trigger begun at ``moment``: ``after``, and ``every`` without a start, count from there.

        Example:
            >>> noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
            >>> print((every("7m") | after("10m")).starting(noon).next_after(noon + timedelta(minutes=8)).time())
            12:10:00
        """
        return self

    def _moments(self) -> frozenset[datetime]:
        """Return the single moments that it is made of, as far as ``at`` and ``after`` have named them."""
        return frozenset()

    def _passed(self, moment: datetime, until: datetime) -> int | None:  # noqa: ARG002  # few can tell
        """Return how many are due later than ``moment`` and up to ``until``; None where that takes asking for each."""
        return None

    def except_on(self, *dates: date) -> Trigger:
        """Return a trigger that skips whatever would be due on these dates.

        Args:
            *dates: dates in the trigger's time zone; in ``a | b``, each in its own.

        Raises:
            TypeError: one is no ``date`` (a ``datetime`` is none here).

        Example:
            >>> eve = datetime(2024, 12, 24, 12, tzinfo=UTC)
            >>> print(daily("09:00").except_on(date(2024, 12, 25), date(2024, 12, 26)).next_after(eve))
            2024-12-27 09:00:00+00:00
        """
        if any(isinstance(day, datetime) or not isinstance(day, date) for day in dates):
            raise TypeError(f"dates must be dates without a time, not {dates!r}")
        return _Except(self, frozenset(dates), self.zone)

    def __or__(self, other: Trigger) -> Trigger:
        """Return a trigger that is due whenever one of the two is: the earlier, and once where both are."""
        return _Either(self, other) if isinstance(other, Trigger) else NotImplemented  # type: ignore[redundant-expr]


def every(
    interval: Duration, *, start: datetime | None = None, end: datetime | None = None, aligned: bool = False
) -> Trigger:
    """Return a trigger that is due again and again, always the same time apart.

    Args:
        interval: seconds, a ``timedelta`` or text such as ``"15m"``; from a microsecond to a thousand years.
        start: the first run, from which the rest is counted. Without it, the first is an interval after ``moment``.
        end: nothing is due after it.
        aligned: count from 1970-01-01 00:00 UTC, so that ``"15m"`` is due at :00, :15, :30, :45; none before ``start``.

    Raises:
        TypeError: ``interval`` is no duration, or ``start`` or ``end`` no ``datetime``.
        ValueError: ``interval`` is out of range or means nothing; ``start`` or ``end`` is naive, or in the wrong order.

    Example:
        >>> print(every("15m", aligned=True).next_after(datetime(2024, 5, 1, 12, 50, 7, tzinfo=UTC)))
        2024-05-01 13:00:00+00:00
    """
    seconds = _durations.positive(interval, "interval")
    if not _MICROSECOND.total_seconds() <= seconds <= _THOUSAND_YEARS:
        raise ValueError(f"interval must be from a microsecond to a thousand years, but is {interval!r}")
    start, end = _bounds(start, end)
    return _Steps(timedelta(seconds=seconds), start, end, aligned, seconds, plain=not (start or end or aligned))


def at(moment: datetime) -> Trigger:
    """Return a trigger that is due once, at ``moment``; never where that is past already, as triggers look forward.

    Raises:
        TypeError: ``moment`` is no ``datetime``.
        ValueError: ``moment`` has no time zone.

    Example:
        >>> noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
        >>> print(at(noon).next_after(noon - timedelta(days=1)), at(noon).next_after(noon))
        2024-05-01 12:00:00+00:00 None
    """
    moment = _arguments.instant(moment, "moment")
    return _Steps(_SECOND, moment, moment, once=True)


def after(delay: Duration) -> Trigger:
    """Return a trigger that is due once, a while after it was started.

    Knowing no "now", it answers ``moment + delay`` to every question; begun by ``starting(now)``, it is due just once.

    Args:
        delay: seconds, a ``timedelta`` or text such as ``"10m"``; up to a thousand years. Zero makes a microsecond.

    Raises:
        TypeError: ``delay`` is no duration.
        ValueError: ``delay`` is out of range or means nothing.

    Example:
        >>> noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
        >>> print(after("4h30m").starting(noon).next_after(noon))
        2024-05-01 16:30:00+00:00
    """
    seconds = _durations.seconds(delay, "delay")
    if seconds > _THOUSAND_YEARS:
        raise ValueError(f"delay must be at most a thousand years, but is {delay!r}")
    return _Steps(max(timedelta(seconds=seconds), _MICROSECOND), interval=seconds, plain=True, once=True)


def daily(time: str, *, tz: str | tzinfo = UTC, start: datetime | None = None, end: datetime | None = None) -> Trigger:
    """Return a trigger that is due once a day.

    Args:
        time: ``"HH:MM"`` or ``"HH:MM:SS"``, as the zone's clocks show it.
        tz: the zone: a name such as ``"Europe/Berlin"``, or a ``tzinfo``.
        start: nothing is due before it.
        end: nothing is due after it.

    Raises:
        TypeError: ``time`` is no text, ``tz`` neither text nor a ``tzinfo``, or ``start`` or ``end`` no ``datetime``.
        ValueError: ``time`` is no time of day, no zone is called ``tz``, or ``start`` or ``end`` is naive, or in the
            wrong order.

    Example:
        >>> print(daily("02:30", tz="Europe/Berlin").next_after(datetime(2024, 3, 30, 12, tzinfo=UTC)))
        2024-03-31 01:00:00+00:00
    """
    return _within(_Clocked(_calendar.zone_of(tz), _calendar.Days(_calendar.time_of_day(time))), start, end)


def weekly(
    days: str, time: str, *, tz: str | tzinfo = UTC, start: datetime | None = None, end: datetime | None = None
) -> Trigger:
    """Return a trigger that is due on some days of every week.

    Args:
        days: one or more of ``mon tue wed thu fri sat sun``, with blanks or commas between.
        time: as for ``daily``.
        tz: as for ``daily``.
        start: as for ``daily``.
        end: as for ``daily``.

    Raises:
        ValueError: ``days`` has an unknown day or none. The rest is as for ``daily``.

    Example:
        >>> print(weekly("mon thu", "09:00").next_after(datetime(2024, 5, 1, tzinfo=UTC)))
        2024-05-02 09:00:00+00:00
    """
    names = frozenset(_arguments.text(days, "days").lower().replace(",", " ").split())
    if not names or not names <= set(_WEEKDAYS):
        raise ValueError(f"days must be names such as 'mon' or 'mon wed fri', not {days!r}")
    readings = _calendar.Days(_calendar.time_of_day(time), weekdays=frozenset(map(_WEEKDAYS.index, names)))
    return _within(_Clocked(_calendar.zone_of(tz), readings), start, end)


def monthly(
    day: int, time: str, *, tz: str | tzinfo = UTC, start: datetime | None = None, end: datetime | None = None
) -> Trigger:
    """Return a trigger that is due on one day of every month that has this day.

    Args:
        day: 1 to 31 from the month's beginning, or -1 (its last day) to -31 from its end.
        time: as for ``daily``.
        tz: as for ``daily``.
        start: as for ``daily``.
        end: as for ``daily``.

    Raises:
        ValueError: no month has this ``day``. The rest is as for ``daily``.

    Example:
        >>> print(monthly(-1, "18:00").next_after(datetime(2024, 2, 10, tzinfo=UTC)))
        2024-02-29 18:00:00+00:00
    """
    if abs(_arguments.count(day, "day", minimum=-31)) not in range(1, 32):
        raise ValueError(f"day must be 1 to 31, or -1 (the last) to -31, but is {day!r}")
    return _within(_Clocked(_calendar.zone_of(tz), _calendar.Days(_calendar.time_of_day(time), day=day)), start, end)


def cron(
    expression: str, *, tz: str | tzinfo = UTC, start: datetime | None = None, end: datetime | None = None
) -> Trigger:
    """Return a trigger that is due as a cron expression says. Needs the extra ``threadkit[cron]``.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), or six (second first), or one of
            ``@hourly @daily @midnight @weekly @monthly @yearly @annually``. Fields take numbers, names, ``* , - /``,
            ``L`` and ``LW`` (last day, last working day), ``5L`` and ``5#2`` (last, second Friday). Both day fields
            have to match, or one of them where neither begins with a star.
        tz: as for ``daily``.
        start: as for ``daily``.
        end: as for ``daily``.

    Raises:
        ImportError: the package cronsim is not installed.
        TypeError: ``expression`` is no text; or as for ``daily``.
        ValueError: ``expression`` is wrong or never true (the error names the field); or as for ``daily``.

    Example:
        >>> print(cron("*/5 9-17 * * mon-fri").next_after(datetime(2024, 5, 3, 17, 58, tzinfo=UTC)))
        2024-05-06 09:00:00+00:00
    """
    return _within(_Clocked(_calendar.zone_of(tz), _calendar.Cron.read(expression)), start, end)


def _bounds(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    start = None if start is None else _arguments.instant(start, "start")
    end = None if end is None else _arguments.instant(end, "end")
    if start and end and end < start:
        raise ValueError(f"end must not be before start, but is {end}")
    return start, end


def _within(trigger: Trigger, start: datetime | None, end: datetime | None) -> Trigger:
    start, end = _bounds(start, end)
    return _Within(trigger, start, end, trigger.zone) if start or end else trigger


@frozen
class _Steps(Trigger):
    step: timedelta  # whole microseconds, so that its multiples are exact
    start: datetime | None = None
    end: datetime | None = None
    aligned: bool = False
    interval: float | None = None
    plain: bool = False
    once: bool = False

    def starting(self, moment: datetime) -> Trigger:
        if self.start or self.aligned:
            return self
        first = self.next_after(moment) or datetime.max.replace(tzinfo=UTC)
        return evolve(self, start=first, end=first if self.once else self.end, plain=False)

    def _moments(self) -> frozenset[datetime]:
        return frozenset([self.start] if self.once and self.start else [])

    def _passed(self, moment: datetime, until: datetime) -> int | None:
        origin = _EPOCH if self.aligned else self.start
        if origin is None:
            return None
        floor = max(moment, self.start - _MICROSECOND) if self.start else moment
        last = min(until, self.end) if self.end else until
        return max(0, (last - origin) // self.step - (floor - origin) // self.step)

    def next_after(self, moment: datetime) -> datetime | None:
        with suppress(OverflowError):
            moment = _arguments.instant(moment, "moment")
            origin = _EPOCH if self.aligned else self.start or moment
            floor = max(moment, self.start - _MICROSECOND) if self.start else moment
            due = origin + ((floor - origin) // self.step + 1) * self.step
            return None if self.end and due > self.end else due
        return None


@frozen
class _Either(Trigger):
    first: Trigger
    second: Trigger

    def starting(self, moment: datetime) -> Trigger:
        return _Either(self.first.starting(moment), self.second.starting(moment))

    def except_on(self, *dates: date) -> Trigger:
        return _Either(self.first.except_on(*dates), self.second.except_on(*dates))

    def _moments(self) -> frozenset[datetime]:
        return self.first._moments() | self.second._moments()

    def next_after(self, moment: datetime) -> datetime | None:
        return min(filter(None, (self.first.next_after(moment), self.second.next_after(moment))), default=None)


@frozen
class _Except(Trigger):
    trigger: Trigger
    dates: frozenset[date]
    zone: tzinfo

    def starting(self, moment: datetime) -> Trigger:
        return evolve(self, trigger=self.trigger.starting(moment))

    def _moments(self) -> frozenset[datetime]:
        moments = self.trigger._moments()
        return frozenset(m for m in moments if _calendar.reading(m, self.zone).date() not in self.dates)

    def next_after(self, moment: datetime) -> datetime | None:
        trigger = self.trigger.starting(moment)  # else the leap over a date would begin the count anew
        due = trigger.next_after(moment)
        while due and (day := _calendar.reading(due, self.zone).date()) in self.dates:
            midnight = _calendar.first_showing(datetime.combine(day, time.max), self.zone)
            due = trigger.next_after(max(due, midnight - _MICROSECOND))
        return due


@frozen
class _Within(Trigger):
    trigger: Trigger
    start: datetime | None
    end: datetime | None
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        due = self.trigger.next_after(_arguments.instant(moment, "moment"))
        if due and self.start and due < self.start:
            due = self.trigger.next_after(self.start - _MICROSECOND)
        return None if due and self.end and due > self.end else due


@frozen
class _Clocked(Trigger):
    zone: tzinfo
    readings: _calendar.Readings

    def next_after(self, moment: datetime) -> datetime | None:
        return _calendar.next_after(_arguments.instant(moment, "moment"), self.readings, self.zone)
