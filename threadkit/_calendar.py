"""What the clocks of a time zone show, and when: the arithmetic beneath the triggers.

A *reading* is a datetime without a zone, as clocks show it; ``Readings`` say what clocks show when something is due.
Moments are aware and in UTC, for datetimes that have a zone ignore folds when they are compared and added to.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Protocol, Self

from attrs import frozen

from threadkit import _arguments

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_FIFTY_YEARS = 18_262 * _DAY
_ALIASES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


class Readings(Protocol):
    """What clocks show when something is due."""

    @property
    def is_frequency(self) -> bool:
        """Whether it is due whenever clocks show one of these; else each is due once, when it has been reached."""
        ...

    def after(self, reading: datetime) -> Iterator[datetime]:
        """Yield them in order, from after ``reading`` on."""
        ...


@frozen
class Days:
    """A time of day, on all days or on some.

    Attributes:
        time: the time.
        weekdays: 0 is Monday.
        day: the day of the month, negative from its end; None is any.
    """

    time: time
    weekdays: frozenset[int] = frozenset(range(7))
    day: int | None = None
    is_frequency: bool = False

    def after(self, reading: datetime) -> Iterator[datetime]:
        """Yield what clocks show when it is due."""
        day = reading.date()
        while True:
            wall = datetime.combine(day, self.time)
            of_month = (None, day.day, day.day - 1 - monthrange(day.year, day.month)[1])
            if wall > reading and day.weekday() in self.weekdays and self.day in of_month:
                yield wall
            day += _DAY


@frozen
class Cron:
    """What a cron expression says."""

    expression: str
    is_frequency: bool

    @classmethod
    def read(cls, expression: str) -> Self:
        """Read an expression, or an alias of one.

        Raises:
            ImportError: the package cronsim is not installed.
            TypeError: it is no text.
            ValueError: it is wrong or never true; the error names the field.
        """
        try:
            from cronsim import CronSimError
        except ImportError as error:
            message = "cron() needs the package cronsim: pip install threadkit[cron]"
            raise ImportError(message, name="cronsim") from error
        text = _ALIASES.get(_arguments.text(expression, "expression").strip().lower(), expression)
        readings = cls(text, any(field.startswith("*") for field in text.split()[:-3]))
        try:
            if not next(readings.after(datetime(1970, 1, 1)), None):  # noqa: DTZ001 - a reading
                raise CronSimError("day-of-month and day-of-week never meet")
        except (CronSimError, ValueError) as error:  # ValueError: int() reads no number of thousands of digits
            raise ValueError(
                f"expression must be such as '*/5 9-17 * * mon-fri', not {expression!r}: {error}"
            ) from error
        return readings

    def after(self, reading: datetime) -> Iterator[datetime]:
        """Yield what clocks show when it is due."""
        from cronsim import CronSim

        yield from CronSim(self.expression, reading)  # given a zone, it would miss runs in a fold of half an hour


def next_after(moment: datetime, readings: Readings, zone: tzinfo) -> datetime | None:
    """Return the first moment after ``moment`` at which one of the readings is due in a zone; see ``triggers``."""
    with suppress(OverflowError):
        shown = reading(moment, zone)
        if not readings.is_frequency:
            dues = (first_showing(wall, zone) for wall in readings.after(shown))
            return next((due for due in dues if due > moment), None)  # others are shown once more, in a fold
        # When cronsim gives up, we do too: a time may also fall into a gap every year, for ever.
        start = moment
        while (wall := next(readings.after(shown), None)) and start - moment < _FIFTY_YEARS:
            due = start + (wall - reading(start, zone))
            if not (changed := change(start, due, zone)):
                return due
            start, shown = changed, reading(changed, zone) - _SECOND
    return None


def reading(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the zone's clocks show, without the zone: datetimes that have one ignore folds when compared."""
    return moment.astimezone(zone).replace(tzinfo=None)


def first_showing(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first instant at which the zone's clocks show ``wall`` or a later time."""
    due = wall.replace(tzinfo=zone).astimezone(UTC)  # the first of two in a fold; after the end of a gap
    return due if reading(due, zone) == wall else change(due - _DAY, due, zone) or due


def change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
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


def time_of_day(text: str) -> time:
    """Read a time of day.

    Raises:
        TypeError: it is no text.
        ValueError: it is no time of day.
    """
    if not re.fullmatch(r"([01]\d|2[0-3])(:[0-5]\d){1,2}", _arguments.text(text, "time"), re.ASCII):
        raise ValueError(f"time must be from '00:00' to '23:59:59', two digits each, not {text!r}")
    return time.fromisoformat(text)


def zone_of(tz: str | tzinfo) -> tzinfo:
    """Return a time zone, given itself or by its name.

    Raises:
        TypeError: it is neither.
        ValueError: no zone has this name.
    """
    if isinstance(name := getattr(tz, "zone", None) or tz, tzinfo):  # a zone of pytz misreads folds: take its name
        return name
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(_arguments.text(name, "tz"))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"tz must be a zone such as 'Europe/Berlin' (tzdata installed?), not {tz!r}") from error
