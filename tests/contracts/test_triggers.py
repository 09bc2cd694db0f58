"""What every trigger promises, whatever it is made of."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadkit.triggers import Trigger, after, at, cron, daily, every, monthly, weekly

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
TRIGGERS = [
    pytest.param(trigger, id=name)
    for name, trigger in {
        "every": every(90),
        "every with start": every("7h", start=NOON),
        "every with end": every("7h", end=NOON),
        "every between": every("90m", start=NOON, end=NOON + timedelta(days=9)),
        "every aligned": every("15m", aligned=True),
        "every aligned between": every("15m", aligned=True, start=NOON, end=NOON + timedelta(days=9)),
        "at": at(NOON),
        "after": after("10m"),
        "after nothing": after(0),
        "daily": daily("02:30"),
        "daily in Berlin": daily("02:30", tz="Europe/Berlin"),
        "weekly": weekly("mon thu", "00:00", tz="America/New_York"),
        "daily between": daily("02:30", tz="Europe/Berlin", start=NOON, end=NOON + timedelta(days=9)),
        "monthly": monthly(31, "23:59:59", tz="Asia/Kolkata"),
        "monthly from the end": monthly(-1, "00:30", tz="Australia/Lord_Howe"),
        "cron, a time": cron("30 2 * * *", tz="Europe/Dublin"),
        "cron, a frequency": cron("*/20 1-3 * * *", tz="America/St_Johns"),
        "cron, seconds": cron("*/40 30 2 * * *", tz="Africa/Casablanca"),
        "either": daily("02:30", tz="Europe/Berlin") | every("5h", aligned=True),
        "either, of now": every("10m") | after("25m"),
        "except": daily("12:00").except_on(date(2024, 5, 1), date(2024, 5, 2)),
        "except, of now": every("10m").except_on(date(2024, 5, 1)),
        "except and either": (daily("12:00") | at(NOON)).except_on(date(2024, 5, 1)) | monthly(1, "00:00"),
    }.items()
]
every_trigger = pytest.mark.parametrize("trigger", TRIGGERS)
moments = st.datetimes(datetime(2023, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
quickly = settings(deadline=None, max_examples=15)


@every_trigger
@given(moment=moments)
@quickly
def test_answer_is_later_and_in_utc(trigger: Trigger, moment: datetime) -> None:
    """An answer is None, or a moment in UTC that is strictly later than the question."""
    due = trigger.next_after(moment)
    assert due is None or (due > moment and due.tzinfo is UTC)


@every_trigger
@given(moment=moments)
@quickly
def test_same_question_has_the_same_answer(trigger: Trigger, moment: datetime) -> None:
    """Asking changes nothing, and the zone in which the question is put does not matter."""
    first = trigger.next_after(moment)
    trigger.next_after(moment + timedelta(days=400))
    assert trigger.next_after(moment) == first
    assert trigger.next_after(moment.astimezone(timezone(timedelta(hours=-9)))) == first


@every_trigger
@given(moment=moments, later=st.timedeltas(timedelta(0), timedelta(days=40)))
@quickly
def test_later_question_has_no_earlier_answer(trigger: Trigger, moment: datetime, later: timedelta) -> None:
    """Answers of a count that has begun never go back, and once there is none, there is none later."""
    trigger = trigger.starting(moment)  # else each question begins the count of ``every("10m")`` anew
    first, second = trigger.next_after(moment), trigger.next_after(moment + later)
    assert second is None or (first is not None and second >= first)


@every_trigger
@given(moment=moments, share=st.floats(0, 1, exclude_max=True))
@quickly
def test_begun_trigger_misses_nothing(trigger: Trigger, moment: datetime, share: float) -> None:
    """Begun, a trigger gives the same next moment to every question that is asked before it."""
    begun = trigger.starting(moment)
    due = begun.next_after(moment)
    if due is not None:
        between = min(moment + (due - moment) * share, due - timedelta(microseconds=1))
        assert begun.next_after(between) == due


@every_trigger
@given(moment=moments)
@quickly
def test_answers_fed_back_increase(trigger: Trigger, moment: datetime) -> None:
    """Begun, a trigger that is asked about its own answers goes strictly forward, until None for ever."""
    begun = trigger.starting(moment)
    for _ in range(20):
        due = begun.next_after(moment)
        if due is None:
            assert begun.next_after(moment + timedelta(days=4000)) is None
            break
        assert due > moment
        moment = due


@every_trigger
@given(moment=moments)
@quickly
def test_composing_with_nothing_new_changes_nothing(trigger: Trigger, moment: datetime) -> None:
    """Either of itself, or except on no date, is the trigger itself."""
    due = trigger.next_after(moment)
    assert (trigger | trigger).next_after(moment) == due
    assert trigger.except_on().next_after(moment) == due


@every_trigger
def test_question_must_have_a_time_zone(trigger: Trigger) -> None:
    """A moment without a time zone, or what is no moment, is refused by name."""
    with pytest.raises(ValueError, match=r"moment must have a time zone.* but is datetime"):
        trigger.next_after(NOON.replace(tzinfo=None))
    with pytest.raises(TypeError, match="moment must be a datetime, not 'now'"):
        trigger.next_after("now")


@every_trigger
@pytest.mark.parametrize("margin", [timedelta(0), timedelta(microseconds=1)], ids=["last", "last but one"])
def test_calendar_has_an_end(trigger: Trigger, margin: timedelta) -> None:
    """At the end of the calendar there is no answer, rather than an error."""
    due = trigger.next_after(datetime.max.replace(tzinfo=UTC) - margin)
    assert due is None or due == datetime.max.replace(tzinfo=UTC)


@every_trigger
def test_trigger_is_a_value(trigger: Trigger) -> None:
    """A trigger is equal to its copy, can be a key, travels by pickle and cannot be changed."""
    copy = pickle.loads(pickle.dumps(trigger))
    assert copy == trigger
    assert {trigger: 1}[copy] == 1
    assert copy.next_after(NOON) == trigger.next_after(NOON)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        trigger.interval = 5.0


@every_trigger
def test_trigger_is_a_trigger(trigger: Trigger) -> None:
    """Whatever makes a trigger, it is known by one class."""
    assert isinstance(trigger, Trigger)
