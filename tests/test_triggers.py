"""Triggers, each on its own; what all of them promise stands in ``contracts/test_triggers.py``.

Two oracles check the rule for daylight saving time. Neither computes with offsets: they look at the clock of a zone
minute by minute, as a patient person would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from threadkit import triggers
from threadkit.triggers import after, at, cron, daily, every, monthly, weekly

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)  # A Wednesday.


def utc(text: str) -> datetime:
    """Read a moment; in UTC unless the text says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def runs(trigger: triggers.Trigger, since: datetime, until: datetime) -> list[datetime]:
    """Return all due moments from ``since`` until before ``until``, as a scheduler would get them."""
    found = []
    due = trigger.next_after(since - timedelta(microseconds=1))
    while due is not None and due < until:
        found.append(due)
        due = trigger.next_after(due)
    return found


# --- every, at, after -------------------------------------------------------------------------------------------------


def test_every_counts_from_the_moment_it_is_asked_about() -> None:
    """Without a start, the first run is one interval later."""
    assert every(90).next_after(NOON) == NOON + timedelta(seconds=90)
    assert every(timedelta(hours=2)).next_after(NOON) == NOON + 2 * HOUR
    assert every("1h30m").next_after(NOON) == NOON + 90 * MINUTE


def test_every_with_a_start_is_due_at_its_multiples() -> None:
    """With a start, the runs are the start and whole intervals after it, whenever one asks."""
    trigger = every("7m", start=NOON)
    assert trigger.next_after(NOON - DAY) == NOON
    assert trigger.next_after(NOON) == NOON + 7 * MINUTE
    assert trigger.next_after(NOON + 7 * MINUTE - timedelta(microseconds=1)) == NOON + 7 * MINUTE
    assert trigger.next_after(NOON + 1000 * MINUTE) == NOON + 1001 * MINUTE


def test_every_aligned_is_due_at_round_times() -> None:
    """Aligned, "15m" is due at the quarters of an hour."""
    found = runs(every("15m", aligned=True), NOON + 7 * MINUTE, NOON + HOUR + MINUTE)
    assert [moment.minute for moment in found] == [15, 30, 45, 0]


def test_every_aligned_counts_from_the_epoch() -> None:
    """An interval that does not divide a day keeps its distance over midnight."""
    for first, second in pairwise(runs(every("7h", aligned=True), NOON, NOON + 3 * DAY)):
        assert second - first == 7 * HOUR
        assert (first - datetime(1970, 1, 1, tzinfo=UTC)) % (7 * HOUR) == timedelta(0)


def test_every_aligned_is_not_due_before_its_start() -> None:
    """The start of an aligned trigger is a bound, and may itself be a run."""
    assert every("15m", aligned=True, start=NOON + MINUTE).next_after(NOON - DAY) == NOON + 15 * MINUTE
    assert every("15m", aligned=True, start=NOON).next_after(NOON - DAY) == NOON


def test_every_ends() -> None:
    """Nothing is due after the end; at the end something may be."""
    trigger = every("1h", start=NOON, end=NOON + 2 * HOUR)
    assert runs(trigger, NOON - DAY, NOON + DAY) == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert trigger.next_after(NOON + 2 * HOUR) is None
    assert every("1h", end=NOON).next_after(NOON - HOUR) == NOON
    assert every("1h", end=NOON).next_after(NOON - HOUR + MINUTE) is None


def test_every_with_equal_start_and_end_is_due_once() -> None:
    """A start that is the end too makes one run."""
    assert runs(every(1, start=NOON, end=NOON), NOON - DAY, NOON + DAY) == [NOON]


def test_every_does_not_drift() -> None:
    """The millionth multiple of a tenth of a second is exact."""
    trigger = every(0.1, start=NOON)
    assert trigger.next_after(NOON + timedelta(seconds=100_000)) == NOON + timedelta(seconds=100_000, milliseconds=100)


@pytest.mark.parametrize(
    ("trigger", "interval", "plain", "once"),
    [
        (every(1 / 3), 1 / 3, True, False),
        (every("15m"), 900.0, True, False),
        (every("15m", aligned=True), 900.0, False, False),
        (every("15m", start=NOON), 900.0, False, False),
        (every("15m", end=NOON), 900.0, False, False),
        (every("15m").starting(NOON), 900.0, False, False),
        (after("10m"), 600.0, True, True),
        (after(0), 0.0, True, True),
        (after("10m").starting(NOON), 600.0, False, True),
        (at(NOON), None, False, True),
        (daily("09:00"), None, False, False),
        (every(1) | every(2), None, False, False),
        (every(1).except_on(), None, False, False),
    ],
    ids=str,
)
def test_what_a_scheduler_may_know(
    trigger: triggers.Trigger, interval: float | None, *, plain: bool, once: bool
) -> None:
    """A trigger says whether elapsed time alone counts, how much of it, and whether it is due one time only."""
    assert (trigger.interval, trigger.plain, trigger.once) == (interval, plain, once)


def test_at_is_due_once() -> None:
    """A given moment is due until it has come."""
    noon = at(datetime(2024, 5, 1, 14, tzinfo=timezone(2 * HOUR)))
    assert noon.next_after(NOON - DAY) == NOON
    assert noon.next_after(NOON - timedelta(microseconds=1)) == NOON
    assert noon.next_after(NOON) is None
    assert noon.next_after(NOON + DAY) is None


def test_after_answers_every_question_until_it_is_begun() -> None:
    """Not begun, a delay is added to the moment asked about; begun, it is a moment."""
    delay = after("10m")
    assert delay.next_after(NOON) == NOON + 10 * MINUTE
    assert delay.next_after(NOON + HOUR) == NOON + HOUR + 10 * MINUTE
    begun = delay.starting(NOON)
    assert begun.next_after(NOON) == begun.next_after(NOON + 9 * MINUTE) == NOON + 10 * MINUTE
    assert begun.next_after(NOON + 10 * MINUTE) is None
    assert begun.starting(NOON + DAY) == begun


@pytest.mark.parametrize("delay", [0, 0.0, timedelta(0), 1e-9])
def test_after_no_time_is_later_all_the_same(delay: float) -> None:
    """A delay of nothing is a microsecond, because an answer is later than its question."""
    assert after(delay).next_after(NOON) == NOON + timedelta(microseconds=1)


@pytest.mark.parametrize("trigger", [every("365000d"), after("365000d"), every("1h", end=NOON)], ids=str)
def test_beginning_too_late_is_no_error(trigger: triggers.Trigger) -> None:
    """Begun so late that nothing can be due before the end of the calendar, or before its own, a trigger is not due."""
    begun = trigger.starting(utc("9999-01-01"))
    assert begun.next_after(utc("9999-12-30")) in {None, datetime.max.replace(tzinfo=UTC)}


def test_every_begun_keeps_its_count() -> None:
    """Begun, an interval is due at multiples from there, whenever one asks, and it ends as before."""
    begun = every("10m", end=NOON + HOUR).starting(NOON)
    assert begun.next_after(NOON - DAY) == begun.next_after(NOON) == NOON + 10 * MINUTE
    assert begun.next_after(NOON + 25 * MINUTE) == NOON + 30 * MINUTE
    assert begun.next_after(NOON + HOUR) is None
    assert begun.starting(NOON + MINUTE) == begun


@pytest.mark.parametrize("trigger", [at(NOON), daily("09:00"), every(1, aligned=True), every(1, start=NOON)], ids=str)
def test_beginning_changes_nothing_that_does_not_count_from_now(trigger: triggers.Trigger) -> None:
    """A trigger whose moments are fixed does not care when it is begun."""
    assert trigger.starting(NOON) is trigger


# --- The calendar -----------------------------------------------------------------------------------------------------


def test_daily_is_due_each_day() -> None:
    """A time of day is due once a day, to the second."""
    trigger = daily("12:00:30")
    assert runs(trigger, NOON, NOON + 2 * DAY) == [utc("2024-05-01T12:00:30"), utc("2024-05-02T12:00:30")]
    assert trigger.next_after(utc("2024-05-01T12:00:30")) == utc("2024-05-02T12:00:30")


@pytest.mark.parametrize("tz", ["Asia/Kolkata", timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Asia/Kolkata")])
def test_times_are_those_of_the_zone(tz: str | tzinfo) -> None:
    """A time is what the clocks of the zone show, by whatever name the zone is given."""
    assert daily("09:00", tz=tz).next_after(NOON) == utc("2024-05-02T09:00+05:30")


def test_weekly_is_due_on_its_days() -> None:
    """Days are given in any order, with blanks or commas, in any case."""
    expected = [utc("2024-05-01T12:00"), utc("2024-05-03T12:00"), utc("2024-05-06T12:00")]
    for days in ("mon wed fri", "Fri, Wed,MON", " wed  mon fri mon "):
        assert runs(weekly(days, "12:00"), NOON, NOON + 6 * DAY) == expected


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (1, ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"]),
        (29, ["2024-01-29", "2024-02-29", "2024-03-29", "2024-04-29"]),
        (30, ["2024-01-30", "2024-03-30", "2024-04-30", "2024-05-30"]),
        (31, ["2024-01-31", "2024-03-31", "2024-05-31", "2024-07-31"]),
        (-1, ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]),
        (-30, ["2024-01-02", "2024-03-02", "2024-04-01", "2024-05-02"]),
        (-31, ["2024-01-01", "2024-03-01", "2024-05-01", "2024-07-01"]),
    ],
)
def test_monthly_counts_from_both_ends(day: int, expected: list[str]) -> None:
    """A month that lacks the day is skipped, and negative days count from the month's end."""
    found = runs(monthly(day, "00:00"), utc("2024-01-01"), utc("2024-08-01"))
    assert [str(moment.date()) for moment in found[:4]] == expected


# --- Cron -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@hourly", "2024-05-01T13:00"),
        ("@daily", "2024-05-02T00:00"),
        ("@midnight", "2024-05-02T00:00"),
        ("@weekly", "2024-05-05T00:00"),
        ("@monthly", "2024-06-01T00:00"),
        ("@yearly", "2025-01-01T00:00"),
        ("@annually", "2025-01-01T00:00"),
        (" @Daily ", "2024-05-02T00:00"),
        ("  5  12 * *   * ", "2024-05-01T12:05"),
        ("30 0 12 * * *", "2024-05-01T12:00:30"),
        ("0 0 13 * fri", "2024-05-03T00:00"),
        ("0 0 LW * *", "2024-05-31T00:00"),
        ("0 0 * * 5L", "2024-05-31T00:00"),
        ("0 0 * * mon#2", "2024-05-13T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_cron_reads_expressions(expression: str, expected: str) -> None:
    """Five fields, six fields, names, aliases and the letters of cronsim are understood."""
    assert cron(expression).next_after(NOON) == utc(expected)


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("61 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("0 0 31 2,4,6 *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * someday", "day-of-week"),
        ("60 * * * * *", "second"),
        ("0 0 */30 * mon#2", "day-of-month and day-of-week"),
        ("* * * *", "number of fields"),
        ("@reboot", "number of fields"),
        ("@", "number of fields"),
    ],
)
def test_cron_refuses_what_cannot_be(expression: str, field: str) -> None:
    """An expression that is wrong or never comes true is refused at once, and the error names the field."""
    with pytest.raises(ValueError, match=f"^expression must be .*{field}") as caught:
        cron(expression)
    assert repr(expression) in str(caught.value)


def test_cron_refuses_a_number_of_thousands_of_digits() -> None:
    """What Python itself will not read as a number is refused like any other text."""
    with pytest.raises(ValueError, match=r"^expression must be"):
        cron("9" * 5000 + " * * * *")


@given(st.text(alphabet="0123456789*/-,L#W MONsunfri@?", max_size=20))
@settings(deadline=None, max_examples=120)
def test_cron_refuses_gibberish_in_one_way(expression: str) -> None:
    """Whatever is written, it is either an expression that comes true or a ValueError."""
    try:
        due = cron(expression).next_after(NOON)
    except ValueError as error:
        verdict = str(error)
    else:
        verdict = "later" if due > NOON else "wrong"
    assert verdict == "later" or verdict.startswith("expression must ")


def test_cron_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cronsim, the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"pip install threadkit\[cron\]") as caught:
        cron("* * * * *")
    assert caught.value.name == "cronsim"


# --- Nights in which clocks are changed -------------------------------------------------------------------------------


def local(found: Iterable[datetime], zone: str) -> list[str]:
    """Return what the clocks show, with the offset, so that the passes of a fold are told apart."""
    return [moment.astimezone(ZoneInfo(zone)).strftime("%H:%M%z")[:-2] for moment in found]


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (lambda tz: daily("02:30", tz=tz), ["03:00+02"]),
        (lambda tz: weekly("sun", "02:00", tz=tz), ["03:00+02"]),
        (lambda tz: monthly(31, "02:59", tz=tz), ["03:00+02"]),
        (lambda tz: daily("03:00", tz=tz), ["03:00+02"]),
        (lambda tz: daily("02:30", tz=tz) | daily("02:45", tz=tz) | daily("03:00", tz=tz), ["03:00+02"]),
        (lambda tz: cron("30 2 * * *", tz=tz), ["03:00+02"]),
        (lambda tz: cron("0 30 2 * * *", tz=tz), ["03:00+02"]),
        (lambda tz: cron("0,30 1-3 * * *", tz=tz), ["01:00+01", "01:30+01", "03:00+02", "03:30+02"]),
        (lambda tz: cron("30 * * * *", tz=tz), ["00:30+01", "01:30+01", "03:30+02", "04:30+02"]),
        (lambda tz: cron("*/30 1-3 * * *", tz=tz), ["01:00+01", "01:30+01", "03:00+02", "03:30+02"]),
        (lambda tz: cron("*/30 2 * * *", tz=tz), []),
        (lambda tz: cron("*/30 30 2 * * *", tz=tz), []),
        (lambda tz: cron("*/30 59 2 * * *", tz=tz), []),
    ],
)
def test_gap(trigger: Callable[[str], triggers.Trigger], expected: list[str]) -> None:
    """Where the clocks of Berlin are put forward, a fixed time is due right after the gap, and a frequency skips it."""
    found = runs(trigger("Europe/Berlin"), utc("2024-03-31T00:00+01:00"), utc("2024-03-31T05:00+02:00"))
    assert local(found, "Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (lambda tz: daily("02:30", tz=tz), ["02:30+02"]),
        (lambda tz: daily("02:00", tz=tz), ["02:00+02"]),
        (lambda tz: daily("03:00", tz=tz), ["03:00+01"]),
        (lambda tz: cron("30 2 * * *", tz=tz), ["02:30+02"]),
        (lambda tz: cron("0 30 2 * * *", tz=tz), ["02:30+02"]),
        (lambda tz: cron("0 1-3 * * *", tz=tz), ["01:00+02", "02:00+02", "03:00+01"]),
        (lambda tz: cron("30 * * * *", tz=tz), ["01:30+02", "02:30+02", "02:30+01", "03:30+01"]),
        (lambda tz: cron("*/30 2 * * *", tz=tz), ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        (lambda tz: cron("*/30 30 2 * * *", tz=tz), ["02:30+02", "02:30+02", "02:30+01", "02:30+01"]),
    ],
)
def test_fold(trigger: Callable[[str], triggers.Trigger], expected: list[str]) -> None:
    """Where the clocks of Berlin are put back, a fixed time is due once, and a frequency in both passes."""
    found = runs(trigger("Europe/Berlin"), utc("2024-10-27T01:00+02:00"), utc("2024-10-27T04:00+01:00"))
    assert local(found, "Europe/Berlin") == expected


def test_fold_of_half_an_hour() -> None:
    """On Lord Howe Island, where clocks are put back by half an hour, a frequency loses no run (in cronsim it does)."""
    zone = "Australia/Lord_Howe"
    found = runs(cron("*/15 2 * * *", tz=zone), utc("2024-04-06T12:00"), utc("2024-04-06T18:00"))
    assert local(found, zone) == ["02:00+10", "02:15+10", "02:30+10", "02:45+10"]


def test_day_that_is_left_out() -> None:
    """In Samoa, which had no 30 December 2011, what was due on that day is due as the next begins."""
    found = runs(daily("09:00", tz="Pacific/Apia"), utc("2011-12-29T00:00-10:00"), utc("2012-01-01T00:00+14:00"))
    assert found == [utc("2011-12-29T09:00-10:00"), utc("2011-12-31T00:00+14:00"), utc("2011-12-31T09:00+14:00")]


class YearlyGap(tzinfo):
    """A zone made by hand: each year, clocks go from 00:00 to 01:00 on 31 March and back on 31 October."""

    def utcoffset(self, moment: datetime) -> timedelta:
        return HOUR if self._is_summer(moment) else timedelta(0)

    def dst(self, moment: datetime) -> timedelta:
        return self.utcoffset(moment)

    def tzname(self, moment: datetime) -> str:
        return "gap"

    def fromutc(self, moment: datetime) -> datetime:
        begin, end = moment.replace(month=3, day=31, hour=0), moment.replace(month=10, day=30, hour=23)
        begin, end = (each.replace(minute=0, second=0, microsecond=0) for each in (begin, end))
        shown = moment + HOUR if begin <= moment < end else moment
        return shown.replace(fold=1) if end <= moment < end + HOUR else shown

    def _is_summer(self, moment: datetime) -> bool:
        month_day = (moment.month, moment.day)
        if month_day == (3, 31) and moment.hour == 0:
            return moment.fold == 1  # In the gap: the first reading has the offset before it.
        if month_day == (10, 30) and moment.hour == 23:
            return moment.fold == 0
        return (3, 31) <= month_day <= (10, 30)


def test_frequency_that_always_falls_into_the_gap() -> None:
    """A cron expression that asks for minutes that a zone leaves out every year is never due, and says so in time."""
    assert cron("*/15 0 31 3 *", tz=YearlyGap()).next_after(NOON) is None
    assert cron("0 0 31 3 *", tz=YearlyGap()).next_after(NOON) == utc("2025-03-31T00:00")


def transitions(zone: str) -> list[datetime]:
    """Return the moments, 2011 to 2025, at which clocks of the zone are changed, by looking closer and closer."""

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(info).utcoffset()

    info, found, moment = ZoneInfo(zone), [], datetime(2011, 1, 1, tzinfo=UTC)
    while moment.year < 2026:
        if offset(moment) == offset(moment + DAY):
            moment += DAY
            continue
        for step in (HOUR, MINUTE):
            while offset(moment) == offset(moment + step):
                moment += step
        moment += MINUTE
        found.append(moment)
    return found


# Whole hours and halves; at night, at midnight (Havana, Sao Paulo), a minute past it (St. John's in 2011); a day left
# out (Apia), winter as the exception (Dublin), twice more around Ramadan (Casablanca), never (Kolkata).
ZONES = [
    "Africa/Casablanca", "America/Havana", "America/New_York", "America/Nuuk", "America/Sao_Paulo", "America/St_Johns",
    "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin", "Pacific/Apia",
]  # fmt: skip
TRANSITIONS = {zone: transitions(zone) or [NOON] for zone in ZONES}
WINDOW = 27 * HOUR  # More than the day that Samoa left out.


@cache
def watch(zone: str, around: datetime) -> list[tuple[datetime, datetime, list[datetime]]]:
    """Watch a clock minute by minute, and note the moment, what is shown, and what has been reached or passed."""
    info, seen, before = ZoneInfo(zone), [], None
    for n in range(int(2 * WINDOW / MINUTE)):
        moment = around - WINDOW + n * MINUTE
        shown = moment.astimezone(info).replace(tzinfo=None, fold=0)
        passed = max(1, int((shown - before) / MINUTE)) if before else 1
        seen.append((moment, shown, [shown - k * MINUTE for k in range(passed)]))
        before = shown
    return seen


def times_seen(matches: Callable[[datetime], bool], zone: str, around: datetime) -> list[datetime]:
    """Return when a fixed time is due: when it is reached or passed, unless that has been so before."""
    found, done = [], set()
    for moment, _, passed in watch(zone, around):
        due = {wall for wall in passed if matches(wall)} - done
        if due:
            found.append(moment)
            done |= due
    return found


def frequency_seen(matches: Callable[[datetime], bool], zone: str, around: datetime) -> list[datetime]:
    """Return when a frequency is due: whenever the clock shows it."""
    return [moment for moment, shown, _ in watch(zone, around) if matches(shown)]


def check(trigger: triggers.Trigger, expected: list[datetime], around: datetime, questions: Iterable[int]) -> None:
    """Compare a trigger with an oracle: all of its answers in a row, and those to questions out of it."""
    span = WINDOW if len(expected) < 100 else 90 * MINUTE
    assert runs(trigger, around - span, around + span) == [
        due for due in expected if abs(due - around) < span or due == around - span
    ]
    for minutes in questions:
        moment = around + minutes * MINUTE
        answer = trigger.next_after(moment)
        foreseen = next((due for due in expected if due > moment), None)
        assert answer == foreseen if foreseen else answer is None or answer >= around + WINDOW


nights = st.sampled_from([(zone, moment) for zone, moments in TRANSITIONS.items() for moment in moments])
clock_times = st.builds(time, st.sampled_from([0, 1, 2, 3, 4, 9, 22, 23]), st.integers(0, 59))
questions = st.lists(st.integers(-180, 180), max_size=4)
RIGOROUS = settings(deadline=None, max_examples=60)


@given(nights, clock_times, questions)
@RIGOROUS
def test_daily_agrees_with_a_patient_person(night: tuple[str, datetime], clock: time, asked: list[int]) -> None:
    """Around every change of clocks, a time of day is due when somebody watching the clock would say so."""
    zone, around = night
    expected = times_seen(lambda wall: wall.time() == clock, zone, around)
    check(daily(clock.isoformat("minutes"), tz=zone), expected, around, asked)


@given(nights, clock_times, st.sets(st.integers(0, 6), min_size=1), questions)
@RIGOROUS
def test_weekly_agrees_with_a_patient_person(
    night: tuple[str, datetime], clock: time, days: set[int], asked: list[int]
) -> None:
    """Around every change of clocks, days of the week are those that the clock's calendar shows."""
    zone, around = night
    expected = times_seen(lambda wall: wall.time() == clock and wall.weekday() in days, zone, around)
    names = [name for day, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun")) if day in days]
    check(weekly(" ".join(names), clock.isoformat("minutes"), tz=zone), expected, around, asked)


@given(nights, clock_times, st.integers(-1, 1), st.booleans(), questions)
@RIGOROUS
def test_monthly_agrees_with_a_patient_person(
    night: tuple[str, datetime], clock: time, shift: int, from_end: bool, asked: list[int]
) -> None:
    """Around every change of clocks, a day of the month is the one that the clock's calendar shows."""
    zone, around = night

    def of_month(day: date) -> int:
        following = (day.replace(day=1) + 31 * DAY).replace(day=1)
        return (day - following).days if from_end else day.day

    day = of_month((around + shift * DAY).astimezone(ZoneInfo(zone)).date())
    expected = times_seen(lambda wall: wall.time() == clock and of_month(wall.date()) == day, zone, around)
    check(monthly(day, clock.isoformat("minutes"), tz=zone), expected, around, asked)


@st.composite
def cron_fields(draw: st.DrawFn, low: int, high: int, common: Iterable[int]) -> tuple[str, set[int]]:
    """Draw a field of a cron expression, and what it means."""
    value = st.sampled_from(sorted(common))
    first, second = sorted((draw(value), draw(value)))
    step = draw(st.integers(1, high))
    everything = range(low, high + 1)
    return draw(
        st.sampled_from(
            [
                ("*", set(everything)),
                (f"*/{step}", set(everything[::step])),
                (f"{first}", {first}),
                (f"{first},{second}", {first, second}),
                (f"{first}-{second}", set(range(first, second + 1))),
                (f"{first}-{second}/{step}", set(range(first, second + 1)[::step]) if first < second else None),
            ]
        ).filter(lambda field: field[1] is not None)
    )


@given(
    nights,
    cron_fields(0, 59, range(60)),
    cron_fields(0, 23, [0, 1, 2, 3, 4, 22, 23]),
    cron_fields(1, 31, range(1, 29)),
    cron_fields(0, 6, range(7)),
    questions,
)
@settings(deadline=None, max_examples=120)
@example(  # Half an hour back, and a run every quarter of it.
    ("Australia/Lord_Howe", utc("2024-04-06T15:00")), ("*/15", {0, 15, 30, 45}), ("2", {2}), ("*", set(range(1, 32))),
    ("*", set(range(7))), [-1, 0, 1, 29, 30, 31],
)  # fmt: skip
def test_cron_agrees_with_a_patient_person(
    night: tuple[str, datetime],
    minute: tuple[str, set[int]],
    hour: tuple[str, set[int]],
    day: tuple[str, set[int]],
    weekday: tuple[str, set[int]],
    asked: list[int],
) -> None:
    """Around every change of clocks, fixed times are due when reached or passed, and frequencies when shown."""
    zone, around = night
    days_meet = all if "*" in (day[0][0], weekday[0][0]) else any

    def matches(wall: datetime) -> bool:
        right_day = days_meet([wall.day in day[1], wall.isoweekday() % 7 in weekday[1]])
        return wall.minute in minute[1] and wall.hour in hour[1] and right_day

    oracle = frequency_seen if "*" in (minute[0][0], hour[0][0]) else times_seen
    trigger = cron(f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}", tz=zone)
    check(trigger, oracle(matches, zone, around), around, asked)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_answers_increase_strictly_over_every_transition(zone: str) -> None:
    """Over every change of clocks in fifteen years, answers in UTC are strictly increasing, and none is lost."""
    sparse = [
        *(daily(text, tz=zone) for text in ("00:00", "00:30", "01:59:59", "02:30", "03:00", "23:30")),
        weekly("sat sun", "02:15", tz=zone),
        monthly(-1, "00:01", tz=zone),
        cron("*/7 0-3 * * *", tz=zone),
        cron("3,33 1-3 * * *", tz=zone),
        cron("30 * * * *", tz=zone),
        cron("*/20 15 2 * * *", tz=zone),
        daily("02:30", tz=zone) | cron("30 2 * * *", tz=zone) | every("1h", aligned=True),
    ]
    for around in TRANSITIONS[zone]:
        for trigger in sparse:
            before = around - 3 * HOUR
            while before < around + 3 * HOUR:
                due = trigger.next_after(before)
                assert due > before
                assert due.tzinfo is UTC
                assert due - before < 32 * DAY
                before = due


ALL_ZONES = sorted(available_timezones())
moments = st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sampled_from(ALL_ZONES), moments, clock_times, st.sampled_from(["daily", "0-29 {} * * *", "*/30 {} * * *"]))
@settings(deadline=None, max_examples=120)
def test_answers_increase_in_every_zone_there_is(zone: str, moment: datetime, clock: time, kind: str) -> None:
    """In any zone, from any moment since clocks are in step with zones, answers come later and later, in UTC."""
    trigger = daily(clock.isoformat(), tz=zone) if kind == "daily" else cron(kind.format(clock.hour), tz=zone)
    first = trigger.next_after(moment)
    second = trigger.next_after(first)
    assert moment < first < second < moment + 4 * DAY
    assert first.tzinfo is second.tzinfo is UTC
    assert trigger.next_after(moment + (first - moment) / 2) == first


# --- Composition ------------------------------------------------------------------------------------------------------


def test_either_is_the_earlier_of_two() -> None:
    """Two triggers together are due whenever one of them is, once where both are, and end when both have ended."""
    both = daily("12:00") | every("8h", start=NOON, end=NOON + 16 * HOUR) | at(NOON + 2 * DAY + HOUR)
    assert runs(both, NOON, NOON + 3 * DAY) == [
        NOON,
        NOON + 8 * HOUR,
        NOON + 16 * HOUR,
        NOON + DAY,
        NOON + 2 * DAY,
        NOON + 2 * DAY + HOUR,
    ]
    assert (at(NOON) | at(NOON + HOUR)).next_after(NOON + HOUR) is None


def test_either_of_what_counts_from_now_has_to_be_begun() -> None:
    """Begun, both count from the same moment, so that the slower one has its turn."""
    begun = (every("10m") | after("25m")).starting(NOON)
    assert runs(begun, NOON, NOON + 31 * MINUTE) == [NOON + minutes * MINUTE for minutes in (10, 20, 25, 30)]


@pytest.mark.parametrize("other", [None, 60, "5m", NOON])
def test_either_takes_triggers_only(other: object) -> None:
    """A number or a text is no trigger: it has to be wrapped first."""
    with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for \|"):
        daily("09:00") | other


def test_except_on_skips_dates() -> None:
    """What would be due on one of the dates is left out, the rest is as before."""
    trigger = daily("09:00").except_on(date(2024, 5, 2), date(2024, 5, 3)).except_on(date(2024, 5, 5))
    found = runs(trigger, NOON, NOON + 6 * DAY)
    assert [moment.day for moment in found] == [4, 6, 7]


def test_except_on_means_the_dates_of_the_zone() -> None:
    """A date is that of the trigger's own zone, and in UTC where it has none."""
    auckland = "Pacific/Auckland"
    trigger = daily("09:00", tz=auckland).except_on(date(2024, 5, 2))
    assert local(runs(trigger, NOON, NOON + 2 * DAY), auckland) == ["09:00+12"]
    assert trigger.next_after(NOON) == utc("2024-05-03T09:00+12:00")
    assert every("1h", start=NOON).except_on(NOON.date()).next_after(NOON) == utc("2024-05-02T00:00")


def test_except_on_either_means_the_dates_of_each() -> None:
    """In ``a | b`` every part is judged by the date where it belongs to."""
    both = daily("05:00", tz="Asia/Tokyo") | daily("21:00", tz="America/New_York")
    found = runs(both.except_on(date(2024, 5, 2)), utc("2024-05-01T12:00"), utc("2024-05-03T12:00"))
    assert found == [utc("2024-05-01T21:00-04:00"), utc("2024-05-03T05:00+09:00")]


def test_except_on_leaps() -> None:
    """A day of a trigger that is due a million times a second is left out at once, and the count is kept."""
    trigger = every(1e-6).except_on(NOON.date())
    assert trigger.next_after(NOON) == utc("2024-05-02T00:00")
    assert every("7h").except_on(date(2024, 5, 2)).next_after(NOON) == NOON + 7 * HOUR
    assert every("7h").except_on(NOON.date(), date(2024, 5, 2)).next_after(NOON) == NOON + 42 * HOUR
    begun = every("7h").except_on(NOON.date()).starting(NOON)
    assert begun.next_after(NOON + HOUR) == NOON + 14 * HOUR


def test_except_on_ends_with_a_date_that_ends_in_a_gap() -> None:
    """In Greenland, where clocks go from 23:00 to midnight, the date left out takes nothing of the next with it."""
    trigger = cron("0 * * * *", tz="America/Nuuk").except_on(date(2024, 3, 30))
    assert trigger.next_after(utc("2024-03-30T12:00")) == utc("2024-03-31T00:00-01:00")


def test_except_on_may_leave_nothing() -> None:
    """A trigger whose last dates are left out is never due again."""
    assert at(NOON).except_on(NOON.date()).next_after(NOON - DAY) is None
    assert after("10m").except_on(NOON.date()).next_after(NOON) is None
    end_of_time = date(9999, 12, 31)
    assert daily("09:00").except_on(end_of_time).next_after(utc("9999-12-30T12:00")) is None


@given(nights, st.integers(-1, 1), st.sampled_from(["5-59/55 * * * *", "*/40 * * * *", "0 0 * * *", "0 23 * * *"]))
@RIGOROUS
def test_except_on_leaves_out_that_date_and_no_more(night: tuple[str, datetime], shift: int, expression: str) -> None:
    """Around every change of clocks, just those runs are missing that the clock's calendar puts on the date."""
    zone, around = night
    day = (around + shift * DAY).astimezone(ZoneInfo(zone)).date()
    trigger = cron(expression, tz=zone)
    expected = [
        due for due in runs(trigger, around - WINDOW, around + WINDOW) if due.astimezone(ZoneInfo(zone)).date() != day
    ]
    assert runs(trigger.except_on(day), around - WINDOW, around + WINDOW) == expected


class HighTide(triggers.Trigger):
    """A trigger as a user would write it."""

    def next_after(self, moment: datetime) -> datetime | None:
        tide, known = timedelta(hours=12, minutes=25), datetime(2024, 5, 1, tzinfo=UTC)
        return known + ((moment - known) // tide + 1) * tide


def test_triggers_of_ones_own_compose() -> None:
    """A subclass that writes ``next_after`` has everything else."""
    tide = HighTide()
    assert tide.next_after(NOON) == NOON + 25 * MINUTE
    assert tide.starting(NOON) is tide
    assert tide.except_on(NOON.date()).next_after(NOON) == utc("2024-05-02T00:50")
    assert (tide | daily("12:10")).next_after(NOON) == NOON + 10 * MINUTE
    assert (daily("12:30") | tide).starting(NOON).next_after(NOON) == NOON + 25 * MINUTE


def test_trigger_without_an_answer_cannot_be_made() -> None:
    """The base class alone is no trigger."""
    with pytest.raises(TypeError, match="next_after"):
        triggers.Trigger()


# --- What is refused --------------------------------------------------------------------------------------------------

NAIVE = NOON.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: every(0), ValueError, "interval must be above zero, but is 0"),
        (lambda: every(-1), ValueError, "interval must not be negative or nan, but is -1"),
        (lambda: every(float("nan")), ValueError, "interval must not be negative or nan, but is nan"),
        (lambda: every(float("inf")), ValueError, "interval must be finite, but is inf"),
        (lambda: every(1e-7), ValueError, "interval must be from a microsecond to a thousand years, but is 1e-07"),
        (lambda: every(1e300), ValueError, "interval must be from a microsecond to a thousand years, but is 1e+300"),
        (lambda: every("9" * 400 + "s"), ValueError, "interval must be a duration such as '5m'"),
        (lambda: every(True), TypeError, "interval must be a number of seconds or a timedelta, not True"),
        (lambda: every(None), TypeError, "interval must be a number of seconds or a timedelta, not None"),
        (lambda: every("soon"), ValueError, "interval must be a duration such as '5m', '1h30m' or '250ms', not 'soon'"),
        (lambda: every(1, start=NAIVE), ValueError, "start must have a time zone"),
        (lambda: every(1, end=NAIVE), ValueError, "end must have a time zone"),
        (lambda: every(1, start=0), TypeError, "start must be a datetime, not 0"),
        (lambda: every(1, end=""), TypeError, "end must be a datetime, not ''"),
        (
            lambda: every(1, start=NOON, end=NOON - HOUR),
            ValueError,
            "end must not be before start, but is 2024-05-01 1",
        ),
        (lambda: every(1).starting(NAIVE), ValueError, "moment must have a time zone"),
        (lambda: at(NAIVE), ValueError, "moment must have a time zone"),
        (lambda: at(NOON.date()), TypeError, "moment must be a datetime, not datetime.date(2024, 5, 1)"),
        (lambda: at(5), TypeError, "moment must be a datetime, not 5"),
        (lambda: after(-1), ValueError, "delay must not be negative or nan, but is -1"),
        (lambda: after(float("nan")), ValueError, "delay must not be negative or nan, but is nan"),
        (lambda: after(float("inf")), ValueError, "delay must be finite, but is inf"),
        (lambda: after(1e12), ValueError, "delay must be at most a thousand years, but is 1000000000000.0"),
        (lambda: after(False), TypeError, "delay must be a number of seconds or a timedelta, not False"),
        (lambda: after("soon"), ValueError, "delay must be a duration such as"),
        (lambda: daily("25:00"), ValueError, "time must be from '00:00' to '23:59:59', two digits each, not '25:00'"),
        (lambda: daily("24:00"), ValueError, "not '24:00'"),
        (lambda: daily("12:60"), ValueError, "not '12:60'"),
        (lambda: daily("12:00:60"), ValueError, "not '12:00:60'"),
        (lambda: daily("2:7"), ValueError, "not '2:7'"),
        (lambda: daily("02:30\n"), ValueError, "not '02:30\\n'"),
        (lambda: daily("02:30:15.5"), ValueError, "not '02:30:15.5'"),
        (lambda: daily("٠٢:٣٠"), ValueError, "time must be from '00:00' to '23:59:59'"),
        (lambda: daily(""), ValueError, "time must not be empty"),
        (lambda: daily(time(2, 30)), TypeError, "time must be a string, not datetime.time(2, 30)"),
        (lambda: daily("02:30", tz="Mars/Base"), ValueError, "tz must be a zone such as 'Europe/Berlin'"),
        (lambda: daily("02:30", tz="Europe"), ValueError, "not 'Europe'"),
        (lambda: daily("02:30", tz="../etc/passwd"), ValueError, "not '../etc/passwd'"),
        (lambda: daily("02:30", tz=""), ValueError, "tz must be a zone"),
        (lambda: daily("02:30", tz="x" * 5000), ValueError, "tz must be a zone"),
        (lambda: daily("02:30", tz=None), TypeError, "tz must be a string, not None"),
        (lambda: daily("02:30", tz=1), TypeError, "tz must be a string, not 1"),
        (lambda: weekly("someday", "09:00"), ValueError, "days must be names such as 'mon' or 'mon wed fri'"),
        (lambda: weekly("mon someday", "09:00"), ValueError, "not 'mon someday'"),
        (lambda: weekly(" ,", "09:00"), ValueError, "not ' ,'"),
        (lambda: weekly("", "09:00"), ValueError, "days must not be empty"),
        (lambda: weekly(1, "09:00"), TypeError, "days must be a string, not 1"),
        (lambda: weekly("mon", "9"), ValueError, "time must be from"),
        (lambda: monthly(0, "09:00"), ValueError, "day must be 1 to 31, or -1 (the last) to -31, but is 0"),
        (lambda: monthly(32, "09:00"), ValueError, "day must be 1 to 31, or -1 (the last) to -31, but is 32"),
        (lambda: monthly(-32, "09:00"), ValueError, "day must be at least -31, but is -32"),
        (lambda: monthly(True, "09:00"), TypeError, "day must be a whole number, not True"),
        (lambda: monthly(1.0, "09:00"), TypeError, "day must be a whole number, not 1.0"),
        (lambda: monthly("1", "09:00"), TypeError, "day must be a whole number, not '1'"),
        (lambda: cron(5), TypeError, "expression must be a string, not 5"),
        (lambda: cron("* * * * *", tz="Mars/Base"), ValueError, "tz must be a zone"),
        (lambda: daily("09:00").except_on("2024-12-25"), TypeError, "dates must be dates without a time"),
        (
            lambda: daily("09:00").except_on(NOON),
            TypeError,
            "dates must be dates without a time, not (datetime.datetime(",
        ),
        (lambda: (daily("09:00") | at(NOON)).except_on(5), TypeError, "dates must be dates without a time, not (5,)"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], triggers.Trigger], error: type[Exception], message: str) -> None:
    """What cannot be meant is refused when the trigger is made, by an error that names the parameter and the value."""
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


class Pytz(tzinfo):
    """A zone of pytz, as far as it matters: put into a datetime it yields the mean time of the nineteenth century."""

    zone = "Europe/Berlin"

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(minutes=53)


def test_zones_of_pytz_are_taken_by_name() -> None:
    """A zone of pytz, which breaks the rules that datetime has for zones, gives the same answers as its name."""
    assert daily("09:00", tz=Pytz()) == daily("09:00", tz="Europe/Berlin")


# --- start and end ----------------------------------------------------------------------------------------------------

BOUNDED = [
    lambda **bounds: daily("12:00", **bounds),
    lambda **bounds: weekly("mon tue wed thu fri sat sun", "12:00", **bounds),
    lambda **bounds: cron("0 12 * * *", **bounds),
]


@pytest.mark.parametrize("make", BOUNDED)
def test_a_calendar_with_bounds(make: Callable[..., triggers.Trigger]) -> None:
    """Nothing is due before the start or after the end; at either of them something may be."""
    bounded = make(start=NOON, end=NOON + 2 * DAY)
    assert runs(bounded, NOON - 9 * DAY, NOON + 9 * DAY) == [NOON, NOON + DAY, NOON + 2 * DAY]
    second = timedelta(seconds=1)
    assert runs(make(start=NOON + second, end=NOON + 2 * DAY - second), NOON - DAY, NOON + 9 * DAY) == [NOON + DAY]
    assert make(start=NOON + second, end=NOON + 2 * second).next_after(NOON - DAY) is None
    assert make(end=NOON).next_after(NOON - second) == NOON
    assert make(start=NOON) != make() == make(start=None, end=None)


def test_a_month_with_bounds() -> None:
    """Bounds are points in time, in any zone, whatever the zone of the trigger."""
    east = timezone(2 * HOUR)
    trigger = monthly(31, "12:00", start=datetime(2024, 3, 31, 14, tzinfo=east), end=datetime(2024, 7, 1, tzinfo=east))
    assert runs(trigger, NOON - 99 * DAY, NOON + 99 * DAY) == [utc("2024-03-31T12:00"), utc("2024-05-31T12:00")]


def test_bounds_and_exceptions() -> None:
    """The dates left out of a bounded trigger are those of its zone, and the first and last bounds stay."""
    auckland = "Pacific/Auckland"
    trigger = daily("09:00", tz=auckland, start=NOON, end=NOON + 3 * DAY).except_on(date(2024, 5, 2))
    assert runs(trigger, NOON - DAY, NOON + 9 * DAY) == [utc("2024-05-03T09:00+12:00"), utc("2024-05-04T09:00+12:00")]
    assert trigger.starting(NOON) == trigger


@pytest.mark.parametrize("make", [*BOUNDED, lambda **bounds: monthly(1, "12:00", **bounds)])
def test_bounds_that_are_refused(make: Callable[..., triggers.Trigger]) -> None:
    """A bound that is naive, no moment, or on the wrong side of the other is refused."""
    with pytest.raises(ValueError, match="start must have a time zone"):
        make(start=NAIVE)
    with pytest.raises(TypeError, match="end must be a datetime, not 5"):
        make(end=5)
    with pytest.raises(ValueError, match="end must not be before start, but is 2024-05-01 11:00"):
        make(start=NOON, end=NOON - HOUR)
    with pytest.raises(ValueError, match="moment must have a time zone"):
        make(start=NOON).next_after(NAIVE)


def test_a_start_at_the_beginning_of_the_calendar() -> None:
    """A start as early as can be is no bound at all."""
    assert daily("12:00", start=datetime.min.replace(tzinfo=UTC)).next_after(NOON) == NOON + DAY


@settings(deadline=None)
@given(
    step=st.integers(1, 50),
    start=st.none() | st.integers(-100, 100),
    length=st.none() | st.integers(0, 150),
    moment=st.integers(-200, 200),
    span=st.integers(0, 200),
    aligned=st.booleans(),
)
def test_steps_are_counted_as_if_asked_for(
    step: int, start: int | None, length: int | None, moment: int, span: int, aligned: bool
) -> None:
    """How many steps lie in a span is worked out, and the same as who asks for one after the other would count."""
    base = datetime(2024, 5, 1, tzinfo=UTC)
    begin = None if start is None else base + timedelta(seconds=start)
    end = None if length is None else (begin or base) + timedelta(seconds=length)
    trigger = every(step, start=begin, end=end, aligned=aligned)
    first = base + timedelta(seconds=moment)
    last = first + timedelta(seconds=span)
    counted, due = 0, trigger.next_after(first)
    while due and due <= last:
        counted, due = counted + 1, trigger.next_after(due)
    assert trigger._passed(first, last) == (counted if begin or aligned else None)
