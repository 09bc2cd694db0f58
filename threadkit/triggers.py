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

import re
from abc import ABC, abstractmethod
from calendar import monthrange
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from attrs import evolve, frozen

from threadkit import _arguments, _durations

Duration = float | timedelta | str
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _SECOND, _DAY = timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=1)
_FIFTY_YEARS, _THOUSAND_YEARS = 18_262 * _DAY, 365_250 * 86_400.0
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALIASES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


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
    start = None if start is None else _arguments.instant(start, "start")
    end = None if end is None else _arguments.instant(end, "end")
    if start and end and end < start:
        raise ValueError(f"end must not be before start, but is {end}")
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
    seconds = _durations.parse(delay, "delay") if isinstance(delay, str) else _arguments.seconds(delay, "delay")
    if seconds > _THOUSAND_YEARS:
        raise ValueError(f"delay must be at most a thousand years, but is {delay!r}")
    return _Steps(max(timedelta(seconds=seconds), _MICROSECOND), interval=seconds, plain=True, once=True)


def daily(time: str, *, tz: str | tzinfo = UTC) -> Trigger:
    """Return a trigger that is due once a day.

    Args:
        time: ``"HH:MM"`` or ``"HH:MM:SS"``, as the zone's clocks show it.
        tz: the zone: a name such as ``"Europe/Berlin"``, or a ``tzinfo``.

    Raises:
        TypeError: ``time`` is no text, or ``tz`` neither text nor a ``tzinfo``.
        ValueError: ``time`` is no time of day, or no zone is called ``tz``.

    Example:
        >>> print(daily("02:30", tz="Europe/Berlin").next_after(datetime(2024, 3, 30, 12, tzinfo=UTC)))
        2024-03-31 01:00:00+00:00
    """
    return _Clocked(_zone(tz), _time(time))


def weekly(days: str, time: str, *, tz: str | tzinfo = UTC) -> Trigger:
    """Return a trigger that is due on some days of every week.

    Args:
        days: one or more of ``mon tue wed thu fri sat sun``, with blanks or commas between.
        time: as for ``daily``.
        tz: as for ``daily``.

    Raises:
        ValueError: ``days`` has an unknown day or none. The rest is as for ``daily``.

    Example:
        >>> print(weekly("mon thu", "09:00").next_after(datetime(2024, 5, 1, tzinfo=UTC)))
        2024-05-02 09:00:00+00:00
    """
    names = frozenset(_arguments.text(days, "days").lower().replace(",", " ").split())
    if not names or not names <= set(_WEEKDAYS):
        raise ValueError(f"days must be names such as 'mon' or 'mon wed fri', not {days!r}")
    return _Clocked(_zone(tz), _time(time), frozenset(map(_WEEKDAYS.index, names)))


def monthly(day: int, time: str, *, tz: str | tzinfo = UTC) -> Trigger:
    """Return a trigger that is due on one day of every month that has this day.

    Args:
        day: 1 to 31 from the month's beginning, or -1 (its last day) to -31 from its end.
        time: as for ``daily``.
        tz: as for ``daily``.

    Raises:
        ValueError: no month has this ``day``. The rest is as for ``daily``.

    Example:
        >>> print(monthly(-1, "18:00").next_after(datetime(2024, 2, 10, tzinfo=UTC)))
        2024-02-29 18:00:00+00:00
    """
    if abs(_arguments.count(day, "day", minimum=-31)) not in range(1, 32):
        raise ValueError(f"day must be 1 to 31, or -1 (the last) to -31, but is {day!r}")
    return _Clocked(_zone(tz), _time(time), day=day)


def cron(expression: str, *, tz: str | tzinfo = UTC) -> Trigger:
    """Return a trigger that is due as a cron expression says. Needs the extra ``threadkit[cron]``.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), or six (second first), or one of
            ``@hourly @daily @midnight @weekly @monthly @yearly @annually``. Fields take numbers, names, ``* , - /``,
            ``L`` and ``LW`` (last day, last working day), ``5L`` and ``5#2`` (last, second Friday). Both day fields
            have to match, or one of them where neither begins with a star.
        tz: as for ``daily``.

    Raises:
        ImportError: the package cronsim is not installed.
        TypeError: ``expression`` is no text, or ``tz`` neither text nor a ``tzinfo``.
        ValueError: ``expression`` is wrong or never true (the error names the field), or no zone is called ``tz``.

    Example:
        >>> print(cron("*/5 9-17 * * mon-fri").next_after(datetime(2024, 5, 3, 17, 58, tzinfo=UTC)))
        2024-05-06 09:00:00+00:00
    """
    try:
        from cronsim import CronSimError
    except ImportError as error:
        raise ImportError("cron() needs the package cronsim: pip install threadkit[cron]", name="cronsim") from error
    text = _ALIASES.get(_arguments.text(expression, "expression").strip().lower(), expression)
    trigger = _Clocked(_zone(tz), cron=text)
    try:
        if not next(trigger.walls(_EPOCH.replace(tzinfo=None)), None):
            raise CronSimError("day-of-month and day-of-week never meet")
    except (CronSimError, ValueError) as error:  # ValueError: int() reads no number of thousands of digits
        raise ValueError(f"expression must be such as '*/5 9-17 * * mon-fri', not {expression!r}: {error}") from error
    return trigger


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

    def next_after(self, moment: datetime) -> datetime | None:
        return min(filter(None, (self.first.next_after(moment), self.second.next_after(moment))), default=None)


@frozen
class _Except(Trigger):
    trigger: Trigger
    dates: frozenset[date]
    zone: tzinfo

    def starting(self, moment: datetime) -> Trigger:
        return evolve(self, trigger=self.trigger.starting(moment))

    def next_after(self, moment: datetime) -> datetime | None:
        trigger = self.trigger.starting(moment)  # else the leap over a date would begin the count anew
        due = trigger.next_after(moment)
        while due and (day := _reading(due, self.zone).date()) in self.dates:
            midnight = _first_showing(datetime.combine(day, time.max), self.zone)
            due = trigger.next_after(max(due, midnight - _MICROSECOND))
        return due


@frozen
class _Clocked(Trigger):  # due when clocks show a time of day on certain days, or what a cron expression says
    zone: tzinfo
    time: time = time()
    weekdays: frozenset[int] = frozenset(range(7))
    day: int | None = None
    cron: str = ""

    def walls(self, reading: datetime) -> Iterator[datetime]:
        """Yield what clocks show when it is due, as datetimes without a zone, from after ``reading`` on."""
        if self.cron:
            from cronsim import CronSim

            yield from CronSim(self.cron, reading)  # given a zone, it would miss runs in a fold of half an hour
            return
        day = reading.date()
        while True:
            wall = datetime.combine(day, self.time)
            of_month = (None, day.day, day.day - 1 - monthrange(day.year, day.month)[1])
            if wall > reading and day.weekday() in self.weekdays and self.day in of_month:
                yield wall
            day += _DAY

    def next_after(self, moment: datetime) -> datetime | None:
        start = moment = _arguments.instant(moment, "moment")
        with suppress(OverflowError):
            reading = _reading(moment, self.zone)
            if not any(field.startswith("*") for field in self.cron.split()[:-3]):
                dues = (_first_showing(wall, self.zone) for wall in self.walls(reading))
                return next((due for due in dues if due > moment), None)  # others are shown once more, in a fold
            # When cronsim gives up, we do too: a time may also fall into a gap every year, for ever.
            while (wall := next(self.walls(reading), None)) and start - moment < _FIFTY_YEARS:
                due = start + (wall - _reading(start, self.zone))
                if not (change := _change(start, due, self.zone)):
                    return due
                start, reading = change, _reading(change, self.zone) - _SECOND
        return None


def _reading(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the zone's clocks show, without the zone: datetimes that have one ignore folds when compared."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _first_showing(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first instant at which the zone's clocks show ``wall`` or a later time."""
    due = wall.replace(tzinfo=zone).astimezone(UTC)  # the first of two in a fold; after the end of a gap
    return due if _reading(due, zone) == wall else _change(due - _DAY, due, zone) or due


def _change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """Return the first instant after ``start``, up to ``end``, at which the zone's offset is another one, if any."""
    low = high = start.replace(microsecond=0)  # offsets change at whole seconds, and not twice a day
    offset = low.astimezone(zone).utcoffset()
    while high.astimezone(zone).utcoffset() == offset:
        if high >= end:
            return None
        low, high = high, min(high + _DAY, end)
    while (seconds := (high - low) // _SECOND) > 1:
        middle = low + seconds // 2 * _SECOND
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
    return high


def _time(text: str) -> time:
    if not re.fullmatch(r"([01]\d|2[0-3])(:[0-5]\d){1,2}", _arguments.text(text, "time"), re.ASCII):
        raise ValueError(f"time must be from '00:00' to '23:59:59', two digits each, not {text!r}")
    return time.fromisoformat(text)


def _zone(tz: str | tzinfo) -> tzinfo:
    if isinstance(name := getattr(tz, "zone", None) or tz, tzinfo):  # a zone of pytz misreads folds: take its name
        return name
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(_arguments.text(name, "tz"))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"tz must be a zone such as 'Europe/Berlin' (tzdata installed?), not {tz!r}") from error
