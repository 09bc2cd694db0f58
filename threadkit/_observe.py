"""Who is told of what happens, and how often it has happened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from threadkit import _arguments
from threadkit.events import Event, describe

logger = logging.getLogger("threadkit")  # no NullHandler: where nobody configured logging, failures must still be seen

Observer = Callable[[Event], object]

_GONE = object()  # what a dict answers instead of the None that it holds


class Observers:
    """The observers of one component. An observer runs in the thread that it happened in, never under a lock of ours.

    They may come and go meanwhile: each step is a single operation on a dict, and atomic (see ``_waiting``).
    """

    __slots__ = ("_observations", "_wholes")

    def __init__(self) -> None:
        self._observations: dict[Observation, None] = {}
        self._wholes: dict[Observers, None] = {}

    def is_heard(self) -> bool:
        """Return True where anybody would see an event of everyday life; who makes many asks before making one."""
        return logger.isEnabledFor(logging.DEBUG) or bool(
            self._observations or (self._wholes and self._is_heard_above())
        )

    def _is_heard_above(self) -> bool:
        return any(whole._observations or whole._is_heard_above() for whole in list(self._wholes))

    def join(self, whole: Observers) -> None:
        """Have the observers of a whole, be there any, told of all events from now on."""
        self._wholes[whole] = None

    def add(self, callback: Observer) -> Observation:
        """Have ``callback(event)`` called for each event from now on.

        Raises:
            TypeError: it cannot be called.
        """
        observation = Observation(self, _arguments.function(callback, "callback"))
        self._observations[observation] = None
        return observation

    def discard(self, observation: Observation) -> bool:
        """Forget one; return False where it is not there."""
        return self._observations.pop(observation, _GONE) is None

    def emit(self, event: Event) -> None:
        """Log the event and tell all observers. Nothing that they raise gets out."""
        if logger.isEnabledFor(event.level):
            error = getattr(event, "error", None)
            logger.log(event.level, "%s", event, exc_info=error, extra={"threadkit": event.as_dict()})
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Tell all observers, here and of the wholes; it is in the log already."""
        for observation in list(self._observations):
            callback = observation._callback
            try:
                callback(event)
            except BaseException as error:  # the border of user code: even SystemExit must not end a worker
                logger.error("observer %r failed on %s: %s", callback, event, describe(error), exc_info=error)  # noqa: TRY400 - says more
        for whole in list(self._wholes):
            whole.tell(event)


class Observation:
    """What ``observe()`` returns: a handle with ``remove()``, which is also a context manager.

    Example:
        >>> from threadkit import Bus
        >>> seen = []
        >>> with Bus("bus").observe(seen.append):
        ...     pass
    """

    __slots__ = ("_callback", "_observers")

    def __init__(self, observers: Observers, callback: Observer) -> None:
        self._observers = observers
        self._callback = callback

    def remove(self) -> bool:
        """Stop observing; return False where that was done before."""
        return self._observers.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


class Counters:
    """Named counts that only go up. For what happens seldom: each step takes the lock."""

    __slots__ = ("_counts", "_lock")

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()  # guards _counts
        self._counts = dict.fromkeys(names, 0)

    def add(self, name: str, amount: int = 1) -> int:
        """Count, and return the new number."""
        with self._lock:
            self._counts[name] += amount
            return self._counts[name]

    def get(self, name: str) -> int:
        """Return one count."""
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """Return all counts, as of one moment."""
        with self._lock:
            return dict(self._counts)
