"""Who hears what: channels with wildcards, and the handle of one subscriber.

Nothing here takes a lock, because ``publish`` may be called by a finalizer that strikes inside ``publish``. Each step
is a single operation on a ``dict`` or a one-element ``list``, which is atomic with and without the GIL (see
``_waiting.py``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import attrs

from threadkit import _arguments
from threadkit._calling import accepts, is_async
from threadkit._tally import Tally

# A program may put an id into each channel's name: then the cache starts anew now and then instead of growing for ever.
_MOST_ROUTES = 4096


@attrs.frozen
class Message:
    """What a subscriber is called with.

    Attributes:
        channel: the channel that it was published on.
        payload: what was published.

    Example:
        >>> Message("file.indexed", {"path": "a.py"}).channel
        'file.indexed'
    """

    channel: str
    payload: Any = None


def channel_name(channel: str) -> str:
    """Return the channel, if one may publish on it: parts between dots, none empty, no wildcard.

    Raises:
        TypeError: it is no string.
        ValueError: a part is empty or has a ``*``.
    """
    if "" in _arguments.text(channel, "channel").split(".") or "*" in channel:
        raise ValueError(f"channel must be names between dots, such as 'file.indexed', but is {channel!r}")
    return channel


def channel_pattern(channel: str) -> re.Pattern[str]:
    """Return what matches the channels (each with a dot at its end) that a subscriber's channel stands for.

    Raises:
        TypeError: it is no string.
        ValueError: a part is empty, has a ``*`` beside other characters, or two ``**`` follow each other.
    """
    parts = _arguments.text(channel, "channel").split(".")
    if "" in parts or any("*" in part and part not in _WILDCARDS for part in parts):
        raise ValueError(f"channel must be names, '*' or '**' between dots, such as 'file.*', but is {channel!r}")
    if ("**", "**") in itertools.pairwise(parts):
        raise ValueError(f"channel must not have '**' twice in a row, since one says it all, but is {channel!r}")
    return re.compile("".join(_WILDCARDS.get(part) or re.escape(part) + r"\." for part in parts), re.DOTALL)


_WILDCARDS = {"*": r"[^.]+\.", "**": r"(?:[^.]+\.)*"}


class Subscription:
    """A subscriber's place on a bus: a handle with ``remove()``, which is also a context manager.

    Attributes:
        channel: what it listens to, as it was given.
        handler: the name of the function.
        dropped: how many messages its mailbox has left out: there was no room, or the executor gave them up.

    Example:
        >>> from threadkit import Bus
        >>> bus = Bus()
        >>> with bus.subscribe("file.*", print):
        ...     delivery = bus.publish("file.indexed", "a.py")
        Message(channel='file.indexed', payload='a.py')
        >>> bus.publish("file.indexed", "b.py").reached
        0
    """

    __slots__ = ("__weakref__", "_dropped", "_on_removed", "_once", "_pattern", "_slot", "channel", "handler")

    def __init__(
        self,
        channel: str,
        function: Callable[[Message], object],
        *,
        once: bool,
        on_removed: Callable[[Subscription], None],
    ) -> None:
        self._pattern = channel_pattern(channel)
        if is_async(_arguments.function(function, "function")) or not accepts(function, 1):
            raise TypeError(f"function must be a plain f(message), not {function!r}")
        self._slot = [function]  # empty once removed; whoever pops it has removed it
        self._once = once
        self._on_removed = on_removed
        self._dropped = Tally()
        self.channel: str = channel
        self.handler: str = _arguments.name_of(function, repr(function))

    @property
    def dropped(self) -> int:
        return self._dropped.value()

    def remove(self) -> bool:
        """Call the subscriber no more; what waits for it is left out. Callable from anywhere, also from a finalizer.

        Returns:
            False where it was removed before.
        """
        return self._take() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Subscription of {self.handler} to {self.channel!r}{'' if self._slot else ', removed'}>"

    def is_live(self) -> bool:
        return bool(self._slot)

    def count_drop(self) -> None:
        self._dropped.up()

    def hears(self, channel: str) -> bool:
        return self._pattern.fullmatch(f"{channel}.") is not None

    def claim(self) -> Callable[[Message], object] | None:
        """Return the function, to be called now, or None where it is not to be called any more."""
        if self._once:
            return self._take()
        try:
            return self._slot[0]
        except IndexError:
            return None

    def _take(self) -> Callable[[Message], object] | None:
        try:
            function = self._slot.pop()
        except IndexError:
            return None
        self._on_removed(self)
        return function


class Subscriptions:
    """Who listens, and a cache of who hears which channel.

    A subscriber enters (or leaves) ``_members`` and then replaces the cache by an empty one; a publisher takes the
    cache and then looks at ``_members``. So what a publisher worked out too early lands in a cache that nobody reads
    any more.
    """

    __slots__ = ("_members", "_routes")

    def __init__(self) -> None:
        self._members: dict[Subscription, None] = {}  # in the order of their coming
        self._routes: dict[str, tuple[Subscription, ...]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def all(self) -> list[Subscription]:
        """Return all subscribers of this moment."""
        return list(self._members)

    def add(self, subscription: Subscription) -> None:
        """Let one hear what is published from now on."""
        self._members[subscription] = None
        self._routes = {}

    def discard(self, subscription: Subscription) -> None:
        """Forget one."""
        self._members.pop(subscription, None)
        self._routes = {}

    def listening_to(self, channel: str) -> tuple[Subscription, ...]:
        """Return who hears a channel.

        Raises:
            TypeError: it is no string.
            ValueError: it has an empty part or a wildcard.
        """
        routes = self._routes
        try:
            return routes[channel]
        except (KeyError, TypeError):  # not known yet; or no string, and cannot even be looked up
            pass
        channel_name(channel)
        if len(routes) >= _MOST_ROUTES:
            routes.clear()
        route = routes[channel] = tuple(each for each in self.all() if each.hears(channel))
        return route
