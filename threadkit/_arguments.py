"""Bad input is refused where it enters, by an error that names the parameter and the value.

Every function here takes what the user gave and the parameter's name, and returns the value in the one form that the
rest of the package uses: seconds as ``float``, counts as ``int``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar

C = TypeVar("C", bound=str)
F = TypeVar("F", bound=Callable[..., Any])


def seconds(value: float | timedelta, name: str, *, above_zero: bool = False, infinite: bool = False) -> float:
    """Return a duration in seconds.

    Args:
        value: a number of seconds or a ``timedelta``.
        name: the parameter's name, for the error.
        above_zero: refuse zero.
        infinite: accept ``inf`` for "no limit".

    Raises:
        TypeError: it is no number (``bool`` is none here) and no ``timedelta``.
        ValueError: it is ``nan``, negative, or zero or infinite where that makes no sense.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {value!r}")
    else:
        try:
            number = float(value)
        except OverflowError:  # a whole number larger than any float
            number = math.inf if value > 0 else -math.inf
    if math.isnan(number) or number < 0:
        raise ValueError(f"{name} must not be negative or nan, but is {value!r}")
    if above_zero and number == 0:
        raise ValueError(f"{name} must be above zero, but is {value!r}")
    if math.isinf(number) and not infinite:
        raise ValueError(f"{name} must be finite, but is {value!r}")
    return number


def timeout(value: float | timedelta | None, name: str = "timeout") -> float | None:
    """Return a relative timeout in seconds, or None for "no limit" (``None`` and ``inf`` both mean it).

    Raises:
        TypeError: it is neither a number, a ``timedelta`` nor None.
        ValueError: it is negative or ``nan``.
    """
    if value is None:
        return None
    number = seconds(value, name, infinite=True)
    return None if math.isinf(number) else number


def count(value: int, name: str, *, minimum: int = 1) -> int:
    """Return a whole number.

    Raises:
        TypeError: it is no ``int`` (``bool`` is none here).
        ValueError: it is below ``minimum``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, but is {value!r}")
    return value


def limit(value: float, name: str, *, minimum: int = 1) -> float:
    """Return a whole number or ``inf``, which means "no limit".

    Raises:
        TypeError: it is neither an ``int`` nor ``inf``.
        ValueError: it is below ``minimum``.
    """
    if value == math.inf:
        return math.inf
    return count(value, name, minimum=minimum)  # type: ignore[arg-type]  # count() refuses every other float


def choice(value: C, name: str, options: tuple[C, ...]) -> C:
    """Return one of the strings that a parameter may have.

    Raises:
        ValueError: it is none of them.
    """
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, not {value!r}")
    return value


def text(value: str, name: str) -> str:
    """Return a string that is not empty.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def strings(value: Mapping[str, str], name: str) -> Mapping[str, str]:
    """Return a read-only copy of a flat mapping from text to text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of strings, not {value!r}")
    copy = dict(value)
    for part in (*copy, *copy.values()):
        if not isinstance(part, str):
            raise TypeError(f"{name} must be a dict of strings, but holds {part!r}")
    return MappingProxyType(copy)


def function(value: F, name: str) -> F:
    """Return something that can be called.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")
    return value


def instant(value: datetime, name: str) -> datetime:
    """Return a point in time, in UTC.

    Raises:
        TypeError: it is no ``datetime``.
        ValueError: it has no time zone.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, not {value!r}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone, as datetime.now(timezone.utc) has, but is {value!r}")
    return value.astimezone(UTC)


def name_of(func: Callable[..., object], fallback: str) -> str:
    """Return the name a function goes by when the user gave none (a ``partial`` has none of its own)."""
    return getattr(func, "__name__", "") or getattr(getattr(func, "func", None), "__name__", "") or fallback
