"""What ``map`` does: many calls, and their results in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future as StandardFuture
from typing import Any, TypeVar

from threadkit._future import Call

T = TypeVar("T")

Item = TypeVar("Item")


def run_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Call ``fn`` with each set of arguments; in a module, so that it can be sent to another process."""
    return [fn(*args) for args in chunk]


def chunks_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``."""
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def results(
    submit: Callable[[Item], Call[T]], items: Iterator[Item], buffersize: int | None, deadline: float | None
) -> Iterator[T]:
    """Do ``submit(item)`` for all items, or for the first ``buffersize``, now; return an iterator over the results.

    What is not done when the iterator fails, times out or is closed is cancelled.
    """
    calls: deque[Call[T]] = deque()
    more = map(submit, items)
    try:
        calls.extend(itertools.islice(more, buffersize))
    except BaseException:
        _cancel(calls)
        raise
    # What has been submitted does not need its executor any more, which may be dropped; what has not does.
    return _collect(calls, iter(()) if buffersize is None else more, deadline)


def flat(lists: Iterator[list[T]]) -> Iterator[T]:
    """Yield the elements of lists, and hold none that was yielded."""
    for elements in lists:
        elements.reverse()
        while elements:
            yield elements.pop()


def _collect(calls: deque[Call[T]], more: Iterator[Call[T]], deadline: float | None) -> Iterator[T]:
    try:
        while calls:
            if not calls[0].wait(deadline):
                raise TimeoutError
            calls.extend(itertools.islice(more, 1))  # one for each that is taken
            yield calls.popleft().result()
    finally:
        _cancel(calls)


def _cancel(calls: deque[Call[Any]]) -> None:
    for call in calls:
        if not call.cancel():
            call.add_done_callback(_read)  # who wants no more results wants no more errors, either


def _read(call: StandardFuture[Any]) -> None:
    call.exception()
