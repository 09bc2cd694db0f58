"""A year of a mixed schedule on a clock that is moved by hand, tick for tick beside an oracle.

The oracle is a patient person: it walks through the year, reads the clocks of each zone every five minutes (all times
here are multiples of five), and writes down what is due by the sentences of the documentation. It knows no trigger, no
heap, no offset and no arithmetic of calendars; what a zone's clocks show it asks ``zoneinfo``, again and again.

In the middle of the year the machine sleeps for three hours; in summer its wall clock is set forward by forty minutes,
and in autumn back by thirty.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from threadkit import IntervalTask, Lifecycle, Run, _due
from threadkit.testing import VirtualClock
from threadkit.triggers import Trigger, cron, daily, every, monthly, weekly

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, STEP, DAY = timedelta(minutes=1), timedelta(minutes=5), timedelta(days=1)
MINUTES = 365 * 1440

# What happens to the clocks, when by the minutes of the monotonic one: minutes by which the wall clock is then ahead.
# It leaps over 13:00 to 15:30 UTC, in New York a morning of "office"; over 18:00; and shows 12:00 twice.
SLEPT, FORWARD, BACK = 130 * 1440 + 12 * 60 + 38, 200 * 1440 + 14 * 60 + 43, 270 * 1440 + 8 * 60 + 33
SHIFTS = {SLEPT: 180, FORWARD: 40, BACK: -30}

HOLIDAYS = (date(2026, 4, 3), date(2026, 4, 6), date(2026, 12, 25))
SPRING, AUTUMN = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 10, 31, 12, tzinfo=UTC)
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"

CALENDAR: dict[str, Trigger] = {
    "aligned": every("6h", aligned=True),
    "berlin": daily("02:30", tz=BERLIN).except_on(*HOLIDAYS),
    "new york": daily("02:30", tz=NEW_YORK),
    "lord howe": daily("02:10", tz=LORD_HOWE),
    "weekly": weekly("sun wed", "02:45", tz=BERLIN),
    "monthly": monthly(-1, "23:30", tz=NEW_YORK),
    "thirty-first": monthly(31, "12:00"),
    "office": cron("*/30 9-11 * * mon-fri", tz=NEW_YORK, start=SPRING, end=AUTUMN),
    "night": cron("*/20 1-2 * * sun", tz=LORD_HOWE),
    "fixed": cron("15 2 * * *", tz=BERLIN),
    "either": daily("06:30", tz=BERLIN) | weekly("mon", "18:00", tz=NEW_YORK),
}


# --- the oracle ----------------------------------------------------------------------------------------------------

Matches = Callable[[datetime], bool]


def at(clock: str, day: Callable[[datetime], bool] = lambda shown: True) -> Matches:
    """Tell of what a clock shows whether it is this time, on such a day."""
    hour, minute = map(int, clock.split(":"))
    return lambda shown: shown.minute == minute and shown.hour == hour and day(shown)


def on(*weekdays: int) -> Matches:
    return lambda shown: shown.weekday() in weekdays


class Walk:
    """A walk through the year, and through the hours after it that the shifts of the wall clock lead to."""

    def __init__(self) -> None:
        self.moments = [BEGIN + number * MINUTE for number in range(5, MINUTES + 1440, 5)]
        ahead, self.walls = 0, list[datetime]()  # what the wall clock shows at each minute of the monotonic one
        for minute in range(1, MINUTES + 1):
            ahead += SHIFTS.get(minute - 1, 0)
            self.walls.append(BEGIN + (minute + ahead) * MINUTE)

    def shown_in(self, zone: str) -> list[datetime]:
        """Return what the clocks of a zone show at each moment."""
        info = ZoneInfo(zone)
        return [moment.astimezone(info).replace(tzinfo=None) for moment in self.moments]

    def times_seen(self, matches: Matches, shown: list[datetime]) -> list[datetime]:
        """Write down the moments at which clocks show a time, or have just leapt over it; no time is seen twice."""
        found, latest = list[datetime](), shown[0] - STEP
        for moment, reading in zip(self.moments, shown, strict=True):
            while latest < reading:
                latest += STEP
                if matches(latest) and found[-1:] != [moment]:
                    found.append(moment)
        return found

    def frequency_seen(self, matches: Matches, shown: list[datetime]) -> list[datetime]:
        """Write down every moment at which clocks show it."""
        return [moment for moment, reading in zip(self.moments, shown, strict=True) if matches(reading)]

    def what_is_due(self) -> dict[str, list[datetime]]:
        """Return when each calendar task is due, were nobody to touch the clock."""
        utc, berlin, new_york, lord_howe = map(self.shown_in, ("UTC", BERLIN, NEW_YORK, LORD_HOWE))
        workday, zone = on(0, 1, 2, 3, 4), ZoneInfo(BERLIN)

        def in_office(shown: datetime) -> bool:
            return shown.minute in {0, 30} and 9 <= shown.hour <= 11 and workday(shown)

        def at_night(shown: datetime) -> bool:
            return shown.minute in {0, 20, 40} and 1 <= shown.hour <= 2 and shown.weekday() == 6

        early, late = self.times_seen(at("06:30"), berlin), self.times_seen(at("18:00", on(0)), new_york)
        nights = self.times_seen(at("02:30"), berlin)
        office = self.frequency_seen(in_office, new_york)
        return {
            "aligned": self.frequency_seen(lambda shown: shown.minute == 0 and shown.hour % 6 == 0, utc),
            "berlin": [minute for minute in nights if minute.astimezone(zone).date() not in HOLIDAYS],
            "new york": self.times_seen(at("02:30"), new_york),
            "lord howe": self.times_seen(at("02:10"), lord_howe),
            "weekly": self.times_seen(at("02:45", on(2, 6)), berlin),
            "monthly": self.times_seen(at("23:30", lambda shown: (shown + DAY).day == 1), new_york),
            "thirty-first": self.times_seen(at("12:00", lambda shown: shown.day == 31), utc),
            "office": [minute for minute in office if SPRING <= minute <= AUTUMN],
            "night": self.frequency_seen(at_night, lord_howe),
            "fixed": self.times_seen(at("02:15"), berlin),
            "either": sorted({*early, *late}),
        }

    def what_is_run(self, due: list[datetime]) -> tuple[list[datetime], int]:
        """Return for which times a task is run whose clock is touched, and how many it misses.

        What the wall clock leaps over is run once, for the first of them; what it shows again is not run again.
        """
        runs, missed, left = list[datetime](), 0, iter([*due, datetime.max.replace(tzinfo=UTC)])
        following = next(left)
        for wall in self.walls:
            if following <= wall:
                runs.append(following)
                while (following := next(left)) <= wall:
                    missed += 1
        return runs, missed


# --- the year ------------------------------------------------------------------------------------------------------


class Diary:
    """Writes down the runs of a task: for when they were due, or when they began by the monotonic clock."""

    def __init__(self, clock: VirtualClock, takes: float = 0.0) -> None:
        self.clock = clock
        self.takes = takes
        self.due: list[datetime] = []
        self.began: list[float] = []
        self.latest = 0.0

    def __call__(self, run: Run) -> None:
        self.due.append(run.scheduled_at)
        self.began.append(self.clock.monotonic())
        self.latest = max(self.latest, run.lateness)
        if self.takes:
            run.token.sleep(self.takes)


def live_through(clock: VirtualClock, tasks: list[IntervalTask], patch: pytest.MonkeyPatch) -> None:
    """Let the year pass, with what happens to the clocks in it.

    Each calendar task looks at the wall clock once a minute, in case it was set. While nobody sets it that changes
    nothing, so then it is left out here, for the sake of those who wait for the test.
    """
    for minute, shift in sorted(SHIFTS.items()):
        patch.setattr(_due, "LONGEST_SLEEP", 366 * 86_400.0)
        clock.advance(minute * 60 - clock.monotonic())
        patch.setattr(_due, "LONGEST_SLEEP", 60.0)
        for task in tasks:  # which has them sleep for a minute from now on
            task.pause()
            task.resume()
        if minute == SLEPT:
            clock.suspend(f"{shift}m")
        else:
            clock.set_wall(clock.now() + shift * MINUTE)
        clock.advance("5m")
    patch.setattr(_due, "LONGEST_SLEEP", 366 * 86_400.0)
    clock.advance(MINUTES * 60 - clock.monotonic())


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_year_tick_for_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a year each task of a mixed schedule is run exactly when a patient person says, and misses what they say."""
    clock = VirtualClock(BEGIN)
    diaries = {name: Diary(clock) for name in CALENDAR}
    rate, delay, overrun = Diary(clock), Diary(clock, takes=13 * 60), Diary(clock, takes=20 * 3600)
    with Lifecycle(clock=clock) as lc:
        for name, trigger in CALENDAR.items():
            lc.add(IntervalTask(diaries[name], trigger, name=name, jitter=0))
        lc.add(IntervalTask(rate, "3h7m", name="rate"))
        lc.add(IntervalTask(delay, "401m", name="delay", fixed="delay"))
        overrunning = lc.add(IntervalTask(overrun, "15h", name="overrun"))
        tasks = [lc.get(name, IntervalTask) for name in CALENDAR]
        live_through(clock, tasks, monkeypatch)
        missed = {task.name: task.missed for task in tasks}
        skipped = overrunning.skipped

    assert (missed["office"], missed["aligned"]) == (5, 0)
    walk = Walk()
    for name, due in walk.what_is_due().items():
        assert (diaries[name].due, missed[name]) == walk.what_is_run(due), name
        assert diaries[name].latest <= 180 * 60, name
    every_minute = range(1, MINUTES + 1)
    assert rate.began == [minute * 60 for minute in every_minute if minute % 187 == 0]
    assert delay.began == [minute * 60 for minute in every_minute if minute % (401 + 13) == 401]
    assert overrun.began == [minute * 60 for minute in every_minute if minute % 1800 == 900]
    assert skipped == sum(minute % 1800 == 0 for minute in every_minute)
    assert max(diary.latest for diary in (rate, delay, overrun)) == 0
