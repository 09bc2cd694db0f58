"""What users write where they limit a handler: rates, ``PerKey``, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

import attrs

from threadkit import _arguments

L = TypeVar("L")

RateLike = float | str | tuple[int, float]
By = Callable[[Any], Hashable]


@attrs.frozen
class PerKey(Generic[L]):
    """A limit that each key has for itself, for ``concurrency`` and ``rate`` of ``WorkQueue.handler()``.

    Attributes:
        limit: what would stand there without a key: a number for ``concurrency``; ``"10/s"`` and the like for ``rate``.
        by: a function of the payload that returns the key, which must be hashable. It is called when a job is
            submitted, by the thread that submits it.

    Example:
        >>> from threadkit import WorkQueue
        >>> with WorkQueue(workers=4) as queue:
        ...     @queue.handler(rate=["100/s", PerKey("10/s", lambda order: order["customer"])])
        ...     def pack(order):
        ...         return order["item"]
        ...     queue.submit(pack, {"customer": 7, "item": "tea"}).result(timeout=5)
        'tea'
    """

    limit: L
    by: By

    def __attrs_post_init__(self) -> None:
        _arguments.function(self.by, "by")


_Given = float | str | tuple[Any, ...] | PerKey[Any]


def parse_rate(rate: object) -> tuple[int, float]:
    """Return a rate as a count and seconds: ``10`` and ``0.5`` a second, ``"100/m"``, ``"5/h"`` or ``(10, 2.5)``.

    Raises:
        TypeError: it is no number, text or pair of numbers.
        ValueError: it makes no sense.
    """
    if isinstance(rate, str):
        match = re.fullmatch(r"\s*(\d+)\s*/\s*([smhd])\s*", rate)
        if match is None:
            raise ValueError(f'rate must look like "10/s", "100/m", "5/h" or "1/d", not {rate!r}')
        rate = (int(match[1]), {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])
    elif isinstance(rate, int | float) and not isinstance(rate, bool):
        per_second = _arguments.seconds(rate, "rate", above_zero=True)
        count = max(1, int(per_second))
        return count, count / per_second
    if not isinstance(rate, tuple) or len(cast("tuple[object, ...]", rate)) != 2:  # noqa: PLR2004 - a pair
        raise TypeError(f'rate must be a number, text such as "10/s", or a pair (count, seconds), not {rate!r}')
    count, seconds = cast("tuple[int, float]", rate)  # which is what these two look at
    return _arguments.count(count, "rate"), _arguments.seconds(seconds, "rate", above_zero=True)


def checked_limits(limit: _Given | list[Any] | None, check: Callable[[Any], L]) -> list[PerKey[L] | L]:
    """Return what the user gave, one limit or a list of them, as a list of limits that were checked.

    None is an empty one. Those for each key come first; see ``_limits.py``.

    Raises:
        TypeError, ValueError: what ``check()`` raises.
    """
    if limit is None:
        return []
    given: list[_Given] = limit if isinstance(limit, list) else [limit]
    keyed: list[PerKey[L] | L] = [PerKey(check(each.limit), each.by) for each in given if isinstance(each, PerKey)]
    return keyed + [check(each) for each in given if not isinstance(each, PerKey)]
