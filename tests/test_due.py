"""When runs are due: ticks that do not drift, appointments that survive a clock that is set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from threadkit import triggers
from threadkit._due import LONGEST_SLEEP, Appointment, Once, Rhythm, Tick, seconds
from threadkit.testing import VirtualClock
from threadkit.triggers import Trigger

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def zero() -> float:
    return 0.0


def rhythm(every: object, jitter: float = 0.0, random: Callable[[], float] = zero, *, delay: bool = False) -> Rhythm:
    return Rhythm(every, jitter, random, after_the_end=delay)  # type: ignore[arg-type]  # also what is refused


def test_once() -> None:
    """A single point tells how late it is, and nothing follows it."""
    clock = VirtualClock()
    due = Once(5.0)
    clock.advance(3)
    assert due.lateness(clock) == -2
    assert due.wake_at(clock) == 5
    assert due.moment(clock) == EPOCH + timedelta(seconds=5)
    assert due.following(clock, 0.0) == (None, 0)
    assert due.revised(clock) is due


def test_the_end_of_the_calendar() -> None:
    """A point after the year 9999 is shown as the last moment that there is."""
    assert Once(1e300).moment(VirtualClock()) == datetime.max.replace(tzinfo=UTC)


def test_ticks_are_multiples() -> None:
    """The millionth tick of a tenth of a second is where the multiplication puts it."""
    clock = VirtualClock()
    tick = Tick(0.0, 0.1)
    clock.advance(100_000)
    last, passed = tick.following(clock, 0.0)
    assert last.number == 1_000_001
    assert last.at == 0.1 * 1_000_001
    assert passed == 999_999


@given(
    origin=st.floats(0, 1e6),
    interval=st.floats(1e-3, 1e5),
    number=st.integers(1, 1000),
    late=st.floats(0, 1e5),
)
def test_the_following_tick(origin: float, interval: float, number: int, late: float) -> None:
    """The tick that follows is the first after now on the same grid, and those in between are counted."""
    clock = VirtualClock()
    tick = Tick(origin, interval, number)
    clock.advance(tick.at + late)
    now = clock.monotonic()
    following, passed = tick.following(clock, 0.0)
    assert following.at > now
    assert passed == following.number - number - 1
    assert passed >= 0
    if passed:
        assert origin + (following.number - 1) * interval <= now
    exact = Fraction(origin) + following.number * Fraction(interval)
    assert abs(Fraction(following.at) - exact) <= Fraction(1, 10**6)


def test_a_shift_moves_the_tick_and_not_the_grid() -> None:
    """A shifted tick is late by its shift, and the next one lies on the grid again."""
    clock = VirtualClock()
    tick = Tick(0.0, 10.0, 1, shift=4.0)
    clock.advance(14)
    assert tick.lateness(clock) == 0
    following, passed = tick.following(clock, 1.0)
    assert (following.at, passed) == (21.0, 0)


def test_another_pace() -> None:
    """A new interval counts from the tick before; where that has passed, from now, at once."""
    clock = VirtualClock()
    clock.advance(30)
    tick = Tick(0.0, 60.0)
    assert tick.paced(45.0, clock).at == 45
    at_once = tick.paced(10.0, clock)
    assert at_once.at == 30
    assert at_once.following(clock, 0.0)[0].at == 40
    assert at_once.paced(20.0, clock).at == 30


def test_appointments_sleep_a_minute_at_most() -> None:
    """A point of the wall clock is looked at again every minute, and at its time."""
    clock = VirtualClock()
    due = Appointment.after(triggers.daily("12:00"), clock.now(), 0.0)
    assert due is not None
    assert due.wake_at(clock) == LONGEST_SLEEP
    clock.advance(12 * 3600 - 10)
    assert due.wake_at(clock) == 12 * 3600
    clock.set_wall(EPOCH + timedelta(hours=13))
    assert due.wake_at(clock) == clock.monotonic()
    assert due.lateness(clock) == 3600


def test_missed_appointments_are_counted() -> None:
    """After a long sleep the next appointment is in the future; of those in between even steps are all counted."""
    clock = VirtualClock()
    due = Appointment.after(triggers.every(60, aligned=True), clock.now(), 0.0)
    assert due is not None
    clock.suspend(10 * 60)
    following, passed = due.following(clock, 0.0)
    assert following is not None
    assert (following.at, passed) == (EPOCH + timedelta(minutes=11), 9)
    clock.suspend(365 * 86400)
    following, passed = due.following(clock, 0.0)
    assert following is not None
    assert (following.at, passed) == (EPOCH + timedelta(days=365, minutes=11), 365 * 1440 + 9)
    asked = Appointment(triggers.every(60, aligned=True) | triggers.at(EPOCH), due.point, EPOCH, 0.0)
    following, passed = asked.following(clock, 0.0)
    assert following is not None
    assert (following.at, passed) == (EPOCH + timedelta(days=365, minutes=11), 1000)


def test_a_small_step_back_repeats_nothing() -> None:
    """A wall clock that is set back by up to an hour leaves the appointment as it is."""
    clock = VirtualClock()
    clock.advance(86400 - 60)
    due = Appointment.after(triggers.every(3600, aligned=True), clock.now(), 0.0)
    assert due is not None
    clock.set_wall(clock.now() - timedelta(hours=1))
    assert due.revised(clock) is due


def test_a_large_step_back_begins_anew() -> None:
    """A wall clock that is set back by more than an hour has the trigger asked from the new time on."""
    clock = VirtualClock()
    clock.advance(86400)
    due = Appointment.after(triggers.daily("12:00"), clock.now(), 5.0)
    assert due is not None
    clock.set_wall(EPOCH)
    revised = due.revised(clock)
    assert revised is not None
    assert revised.point == EPOCH + timedelta(hours=12)
    assert revised.at - revised.point == timedelta(seconds=5)


class Stuck(Trigger):
    """A trigger that breaks its contract."""

    __slots__ = ()

    @override
    def next_after(self, moment: datetime) -> datetime | None:
        return EPOCH + timedelta(hours=1)


def test_a_trigger_must_go_on() -> None:
    """A trigger that names a moment again is refused instead of being followed for ever."""
    clock = VirtualClock()
    due = Appointment.after(Stuck(), clock.now(), 0.0)
    assert due is not None
    clock.advance(3600)
    with pytest.raises(ValueError, match=r"Stuck.* names 2026-01-01 01:00:00\+00:00 as later than"):
        due.following(clock, 0.0)


@pytest.mark.parametrize("every", [60, 60.0, timedelta(minutes=1), "1m", triggers.every("1m"), lambda: 60])
def test_ways_to_say_a_minute(every: object) -> None:
    """Seconds, timedelta, text, a plain trigger and a function all make ticks of a minute."""
    due = rhythm(every).first(VirtualClock())
    assert isinstance(due, Tick)
    assert (due.at, due.interval) == (60, 60)


def test_after_counts_on_the_monotonic_clock() -> None:
    """What is due once after a while is not moved by a wall clock that is set."""
    clock = VirtualClock()
    mine = rhythm(triggers.after("10m"))
    due = mine.first(clock)
    assert type(due) is Once
    assert due.at == 600
    assert mine.from_now(clock) is None


def test_a_single_moment_that_has_passed_is_late() -> None:
    """A trigger with one moment, which has passed, is due now; one with many, all passed, is over."""
    clock = VirtualClock()
    due = rhythm(triggers.at(EPOCH - timedelta(days=1))).first(clock)
    assert due is not None
    assert due.lateness(clock) == 86400
    over = triggers.every("1h", start=EPOCH - timedelta(days=9), end=EPOCH - timedelta(days=1))
    assert rhythm(over).first(clock) is None


def test_jitter() -> None:
    """Each due time is shifted by its own share of the jitter."""
    draws = iter([0.5, 0.25])
    mine = rhythm(60, 8.0, lambda: next(draws))
    clock = VirtualClock()
    first = mine.first(clock)
    assert first is not None
    assert first.lateness(clock) == -64
    clock.advance(64)
    following, passed = mine.following(first, clock)
    assert following is not None
    assert (following.wake_at(clock), passed) == (122, 0)


def test_from_the_end_of_a_run() -> None:
    """A delay says nothing before the end of a run, and a rate says nothing then."""
    clock = VirtualClock()
    delay, rate = rhythm(60, delay=True), rhythm(60)
    due = delay.first(clock)
    assert due is not None
    assert delay.following(due, clock) == (None, 0)
    clock.advance(75)
    after = delay.after_end(clock)
    assert after is not None
    assert after.wake_at(clock) == 135
    assert rate.after_end(clock) is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (True, TypeError),
        (None, TypeError),
        ([], TypeError),
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (1e-9, ValueError),
        ("soon", ValueError),
        ("", ValueError),
    ],
)
def test_what_is_no_interval(value: object, error: type[Exception]) -> None:
    """What is no duration of at least a microsecond is refused by name."""
    with pytest.raises(error, match="every"):
        seconds(value, "every")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(error, match=r"every\(\)"):
        rhythm(lambda: value).first(VirtualClock())
