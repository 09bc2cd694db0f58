"""Bad input is refused where it enters, by an error that names the parameter and the value."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest

from threadkit import _arguments


@pytest.mark.parametrize(("value", "seconds"), [(0, 0.0), (2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0)])
def test_seconds(value: Any, seconds: float) -> None:
    """A duration is a number of seconds or a timedelta, and becomes a float."""
    result = _arguments.seconds(value, "every")
    assert (result, type(result)) == (seconds, float)


@pytest.mark.parametrize("value", [None, True, "5", b"5", 1j, Decimal(5), [5]])
def test_what_is_no_duration(value: Any) -> None:
    """What is no number is refused with its name and value; ``bool`` is no number here."""
    with pytest.raises(TypeError, match="every must be a number") as caught:
        _arguments.seconds(value, "every")
    assert repr(value) in str(caught.value)
    assert _arguments.timeout(None) is None


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf, timedelta(seconds=-1), -(10**400)])
def test_negative_durations(value: Any) -> None:
    """A negative duration and nan are refused, however large."""
    for check in (_arguments.seconds, _arguments.timeout):
        with pytest.raises(ValueError, match="pause must not be negative or nan"):
            check(value, "pause")


def test_zero_and_infinity() -> None:
    """Zero and inf are taken only where they make sense."""
    with pytest.raises(ValueError, match="every must be above zero, but is 0"):
        _arguments.seconds(0, "every", above_zero=True)
    for endless in (math.inf, 10**400):
        with pytest.raises(ValueError, match="every must be finite"):
            _arguments.seconds(endless, "every")
        assert _arguments.seconds(endless, "every", infinite=True) == math.inf
        assert _arguments.timeout(endless) is None


def test_timeout() -> None:
    """A time-out in seconds stays; None and inf mean no limit."""
    assert _arguments.timeout(2) == 2.0
    assert _arguments.timeout(timedelta(seconds=3)) == 3.0
    assert _arguments.timeout(None) is None
    with pytest.raises(TypeError, match="start_timeout"):
        _arguments.timeout("soon", "start_timeout")  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("check", [_arguments.count, _arguments.limit])
def test_count(check: Callable[..., float]) -> None:
    """A count is a whole number of at least its minimum."""
    assert check(3, "workers") == 3
    assert check(0, "workers", minimum=0) == 0
    with pytest.raises(ValueError, match="workers must be at least 1, but is 0"):
        check(0, "workers")
    for wrong in (None, True, "3", 3.0, math.nan, -math.inf, Decimal(3)):
        with pytest.raises(TypeError, match="workers must be a whole number"):
            check(wrong, "workers")


def test_limit() -> None:
    """A limit may be inf, a count may not."""
    assert _arguments.limit(math.inf, "maxsize") == math.inf
    with pytest.raises(TypeError, match="maxsize must be a whole number, not inf"):
        _arguments.count(math.inf, "maxsize")  # type: ignore[arg-type]  # that is the point


def test_choice() -> None:
    """A choice is one of the strings that are listed in the error otherwise."""
    assert _arguments.choice("block", "on_full", ("block", "reject")) == "block"
    for wrong in ("Block", None, ["block"]):
        with pytest.raises(ValueError, match="on_full must be one of 'block', 'reject', not"):
            _arguments.choice(wrong, "on_full", ("block", "reject"))  # type: ignore[type-var]  # that is the point


def test_text() -> None:
    """A text is a string with something in it."""
    assert _arguments.text("jobs", "name") == "jobs"
    with pytest.raises(ValueError, match="name must not be empty"):
        _arguments.text("", "name")
    for wrong in (None, 7, b"jobs"):
        with pytest.raises(TypeError, match="name must be a string"):
            _arguments.text(wrong, "name")  # type: ignore[arg-type]  # that is the point


def test_function() -> None:
    """A function is anything that can be called, and is given back as it is."""
    assert _arguments.function(print, "callback") is print
    with pytest.raises(TypeError, match="callback must be callable, not 'print'"):
        _arguments.function("print", "callback")  # type: ignore[type-var]  # that is the point


class Nowhere(tzinfo):
    """A time zone that knows no offset."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


def test_instant() -> None:
    """A point in time has a zone, and becomes UTC."""
    east = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert _arguments.instant(east, "at").isoformat() == "2026-01-01T10:00:00+00:00"
    assert _arguments.instant(east, "at").tzinfo is UTC
    for naive in (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=Nowhere())):  # noqa: DTZ001 - that is the point
        with pytest.raises(ValueError, match="at must have a time zone"):
            _arguments.instant(naive, "at")
    with pytest.raises(TypeError, match="at must be a datetime, not 5"):
        _arguments.instant(5, "at")  # type: ignore[arg-type]  # that is the point


def test_name_of() -> None:
    """A function goes by its own name, a partial by that of what it calls, anything else by the fallback."""

    class Nameless:
        def __call__(self) -> None: ...

    assert _arguments.name_of(test_name_of, "task") == "test_name_of"
    assert _arguments.name_of(functools.partial(test_name_of), "task") == "test_name_of"
    assert _arguments.name_of(functools.partial(Nameless()), "task") == "task"
    assert _arguments.name_of(Nameless(), "task") == "task"
