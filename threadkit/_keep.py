"""``Keep``: how many finished jobs are remembered, and for how long; and what a queue's ``keep`` comes to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Generic, TypeVar

import attrs

from threadkit import _arguments

S = TypeVar("S", bound=str)


@attrs.frozen(init=False)
class Keep:
    """How many finished jobs are remembered, and for how long. What is the first to end is the first to be forgotten.

    Args:
        count: how many at most; ``inf`` is no limit.
        age: seconds after its end when a job is forgotten; None and ``inf`` are never.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is negative or ``nan``.

    Example:
        >>> from datetime import timedelta
        >>> Keep(500, age=timedelta(days=1))
        Keep(count=500, age=86400.0)
    """

    count: float
    age: float | None

    def __init__(self, count: float = 10_000, age: float | timedelta | None = None) -> None:
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # attrs makes it
            _arguments.limit(count, "count", minimum=0), _arguments.timeout(age, "age")
        )


@attrs.frozen
class Bound(Generic[S]):
    """Finished states whose jobs are bounded together, and how."""

    states: tuple[S, ...]
    keep: Keep


def bounds_of(keep: int | Keep | Mapping[S, int | Keep], finished: Collection[S]) -> tuple[Bound[S], ...]:
    """Return what the user gave as bounds, of which each finished state has exactly one.

    Args:
        keep: for all jobs together; or by state, where those that are not named are bounded together as by default.
        finished: the states there are.

    Raises:
        TypeError: it is none of these.
        ValueError: a count is negative, or a key is no finished state.
    """
    if not isinstance(keep, Mapping):
        return (Bound(tuple(finished), _keep_of(keep, "keep")),)
    named = {
        _arguments.choice(state, "a key of keep", tuple(finished)): _keep_of(keep[state], "keep") for state in keep
    }
    own = tuple(Bound((state,), named[state]) for state in finished if state in named)
    others = tuple(state for state in finished if state not in named)
    return (*own, Bound(others, Keep())) if others else own


def _keep_of(value: int | Keep, name: str) -> Keep:
    return value if isinstance(value, Keep) else Keep(_arguments.count(value, name, minimum=0))
