"""Durations as people write them: ``"5m"``, ``"1h30m"``, ``"250ms"``, ``"every 5 minutes"``."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from threadkit import _arguments

_UNITS = {
    "ms": 0.001,
    "millisecond": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_JOINT = re.compile(r"\s*(?:,\s*)?(?:and\s+)?")


def parse(text: str, name: str = "duration") -> float:
    """Return the seconds that a text means.

    Args:
        text: numbers with units (ms, s, m, h, d, w, or spelled out), one after another; a leading "every" is allowed.
        name: the parameter's name, for the error.

    Raises:
        ValueError: the text means no duration, or none above zero.

    Example:
        >>> parse("1h30m"), parse("every 5 minutes"), parse("250ms")
        (5400.0, 300.0, 0.25)
    """
    rest = text.strip().lower().removeprefix("every ").strip()
    total, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        factor = part and _factor(part[2])
        if not part or not factor:
            break
        total += float(part[1]) * factor
        position = part.end()
        joint = _JOINT.match(rest, position)
        if joint and joint.end() < len(rest):
            position = joint.end()
    if position < len(rest) or not 0 < total < math.inf:
        raise ValueError(f"{name} must be a duration such as '5m', '1h30m' or '250ms', not {text!r}")
    return total


def _factor(unit: str) -> float | None:
    if len(unit) > len("min"):  # what is spelled out may be in the plural
        unit = unit.removesuffix("s")
    return _UNITS.get(unit)


def seconds(value: float | timedelta | str, name: str) -> float:
    """Return a finite duration, zero or more, given in seconds, as a ``timedelta`` or as text.

    Raises:
        TypeError: it is none of these.
        ValueError: it is ``nan``, negative or infinite, or the text means no duration.
    """
    return parse(value, name) if isinstance(value, str) else _arguments.seconds(value, name)


def positive(value: float | timedelta | str, name: str) -> float:
    """Return a finite duration above zero, given in seconds, as a ``timedelta`` or as text.

    Raises:
        TypeError: it is none of these.
        ValueError: it is ``nan``, zero, negative or infinite, or the text means no duration.
    """
    if isinstance(value, str):
        return parse(value, name)
    return _arguments.seconds(value, name, above_zero=True)
