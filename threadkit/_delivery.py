"""What a bus says of its work: ``Delivery``, of one message; ``BusStats``, of all."""

from __future__ import annotations

import functools
from typing import Any

import attrs

from threadkit.events import describe


@attrs.frozen
class Delivery:
    """What became of a message.

    Attributes:
        reached: how many subscribers were called, or have it in their mailbox.
        errors: what they raised while ``publish`` called them, or why a mailbox did not take it (``Full``,
            ``WouldBlock``).
        failed: whom each error is of, by the function's name.

    Example:
        >>> Delivery(reached=2).ok
        True
    """

    reached: int
    errors: tuple[BaseException, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True where nobody failed; also where nobody listens."""
        return not self.errors

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; errors become text."""
        errors = [describe(error) for error in self.errors]
        return {"reached": self.reached, "errors": errors, "failed": list(self.failed)}


@attrs.frozen
class BusStats:
    """What a bus has done so far.

    Attributes:
        actions: handlers of actions.
        subscriptions: subscribers.
        calls: calls made.
        calls_failed: calls whose handler raised, also when nobody waited for it any more.
        published: messages published.
        delivered: times that a subscriber was called and returned.
        failed: times that a subscriber was called and raised.
        dropped: times that a message was left out for one subscriber: no room, or its executor gave it up.
        waiting: messages and calls that wait for the executor, or are being handled there, at this moment.

    Example:
        >>> from threadkit import Bus
        >>> bus = Bus()
        >>> with bus.subscribe("file.*", lambda message: None):
        ...     delivery = bus.publish("file.indexed")
        >>> bus.stats().published, bus.stats().delivered
        (1, 1)
    """

    actions: int
    subscriptions: int
    calls: int
    calls_failed: int
    published: int
    delivered: int
    failed: int
    dropped: int
    waiting: int

    def as_dict(self) -> dict[str, int]:
        """Return the figures by name."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}


def with_problems(reached: int, problems: list[tuple[BaseException, str]]) -> Delivery:
    """Return what became of a message that not everybody took well: errors, and whom each is of."""
    return Delivery(reached, tuple(error for error, _ in problems), tuple(name for _, name in problems))


# Most deliveries are alike, and since they are frozen everybody may have the same one. Keyed by a small number.
all_well = functools.cache(Delivery)
