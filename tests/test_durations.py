"""Durations as people write them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkit import _durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1h, 30m", 5400),
        ("1 hour and 30 minutes", 5400),
        ("2 days, and 1 second", 172801),
        ("every 5 minutes", 300),
        (" Every 90 Secs ", 90),
        ("250ms", 0.25),
        ("1.5 h", 5400),
        ("1 week", 604800),
        ("10 mins", 600),
        ("3 milliseconds", 0.003),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    """Numbers with units, one after another, are added up."""
    assert _durations.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "every",
        "5x",
        "5 m x",
        "x5m",
        "-5m",
        "0s",
        "0h0m",
        "5m,",
        "5m and",
        "1,5m",
        "1e3s",
        "5ss",
        "5hs",
        "inf",
    ],
)
def test_what_means_nothing(text: str) -> None:
    """A text that means no duration, or none above zero, is refused with its name and value."""
    with pytest.raises(ValueError, match="every must be a duration such as '5m'") as caught:
        _durations.parse(text, "every")
    assert repr(text) in str(caught.value)


def test_endless_text() -> None:
    """A number that no float can hold is no duration."""
    with pytest.raises(ValueError, match="must be a duration"):
        _durations.parse("9" * 400 + "s")


@pytest.mark.parametrize(("value", "seconds"), [(5, 5.0), (0.5, 0.5), (timedelta(hours=1), 3600.0), ("2m", 120.0)])
def test_positive(value: Any, seconds: float) -> None:
    """A duration may be given in seconds, as a timedelta or as text."""
    assert _durations.positive(value, "every") == seconds


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, timedelta(0), "0s"])
def test_what_is_not_positive(value: Any) -> None:
    """Zero, less, nan and inf are refused."""
    with pytest.raises(ValueError, match="every"):
        _durations.positive(value, "every")
    with pytest.raises(TypeError, match="every"):
        _durations.positive(None, "every")  # type: ignore[arg-type]  # that is the point


@given(hours=st.integers(0, 100), minutes=st.integers(0, 100), seconds=st.integers(1, 100))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    """A duration in parts is the sum of its parts, however they are joined."""
    parts = f"{hours}h", f"{minutes} minutes", f"{seconds}sec"
    expected = hours * 3600 + minutes * 60 + seconds
    for joint in (" ", ", ", " and ", ", and "):
        assert _durations.parse(joint.join(parts)) == pytest.approx(expected)
