"""What an error says itself about when to try again, as servers do by the header ``Retry-After``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from threadkit import _arguments


def wish_of(error: BaseException | None, now: Callable[[], datetime]) -> float | None:
    """Return how many seconds to wait, where an error, or one that it came of, says so.

    It says so by an attribute ``retry_after``, or as the header of an HTTP answer in ``error.response.headers`` or
    ``error.headers``, which is where ``requests``, ``httpx``, ``aiohttp`` and ``urllib`` have it: seconds, a
    ``timedelta``, a number as text, or an HTTP date. Text that is neither is no wish.

    Args:
        error: the error.
        now: returns the present time, which dates are compared with.

    Raises:
        ValueError: a number is negative, ``nan`` or infinite.
    """
    for link in _chain(error):
        for wish in (getattr(link, "retry_after", None), _header(getattr(link, "response", None)), _header(link)):
            if isinstance(wish, str):
                seconds = _parsed(wish, now)
                if seconds is not None:
                    return seconds
            elif isinstance(wish, (int, float, timedelta)) and not isinstance(wish, bool):
                return _arguments.seconds(wish, "retry_after")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came of, as its traceback shows them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _header(answer: object) -> object:
    get = getattr(getattr(answer, "headers", None), "get", None)
    return (get("Retry-After") or get("retry-after")) if callable(get) else None


def _parsed(text: str, now: Callable[[], datetime]) -> float | None:
    with contextlib.suppress(ValueError):
        seconds = float(text)
        return seconds if 0 <= seconds < math.inf else None
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": the time is in UTC, from somewhere unknown
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())
