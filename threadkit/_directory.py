"""What is in a lifecycle, and how it fares: components by name, their health, their figures and their events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from threadkit import _arguments
from threadkit._clock import Clock
from threadkit._component import Component, ComponentState
from threadkit._errors import UnknownComponent
from threadkit._observe import Observation, Observer, Observers
from threadkit._registry import Entry, Registry
from threadkit._stop import StopToken
from threadkit.events import describe
from threadkit.health import Health, Status, worst

T = TypeVar("T")


class Directory(ABC):
    """The half of ``Lifecycle`` that looks at what is in it, and takes out what is no longer wanted."""

    _clock: Clock
    _failures: list[BaseException]
    _observers: Observers
    _registry: Registry
    _stop_timeout: float
    _token: StopToken

    @property
    @abstractmethod
    def state(self) -> ComponentState:
        """Where the lifecycle is in its life."""

    def remove(self, name: str, *, timeout: float | timedelta | None = None) -> bool:
        """Stop a component and forget it.

        Args:
            name: its name.
            timeout: seconds to wait for its end; None takes ``stop_timeout``.

        Returns:
            True when it has ended; False where it has not, and stays registered.

        Raises:
            UnknownComponent: there is none of this name.
            ValueError: others require it; or ``timeout`` is out of range.
        """
        entry = self._registry.find(name)
        dependents = self._registry.dependents(entry)
        if dependents:
            raise ValueError(f"component {name!r} is required by {', '.join(map(repr, dependents))}: remove them first")
        given = _arguments.timeout(timeout)
        deadline = self._clock.monotonic() + (self._stop_timeout if given is None else given)
        if entry.up or entry.starting:
            parts = list(self._registry.stop([[entry]], "removed", deadline))
            if parts[0].outcome == "stuck":
                return False
        self._registry.discard(entry)
        return True

    def __getitem__(self, name: str) -> Component:
        return self._registry.find(name).component

    def get(self, name: str, kind: type[T]) -> T:
        """Return a component by name, typed.

        Raises:
            UnknownComponent: there is none of this name.
            TypeError: it is of another class.

        Example:
            >>> lc = Lifecycle()
            >>> lc.queue("jobs") is lc.get("jobs", WorkQueue)
            True
        """
        component = self[name]
        if not isinstance(component, kind):
            raise TypeError(f"component {name!r} is a {type(component).__name__}, not a {kind.__name__}")
        return component

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._registry.find(name) is not None
        except UnknownComponent:
            return False

    def __iter__(self) -> Iterator[Component]:
        return iter([entry.component for entry in self._registry])

    def __len__(self) -> int:
        return len(self._registry)

    def observe(self, callback: Observer) -> Observation:
        """Have ``callback(event)`` called for everything that happens to the lifecycle and its components.

        Raises:
            TypeError: ``callback`` cannot be called.
        """
        return self._observers.add(callback)

    def stats(self) -> dict[str, Any]:
        """Return the figures of each component that has any, by name."""
        figures = {entry.name: getattr(entry.component, "stats", lambda: None)() for entry in self._registry}
        return {name: value for name, value in figures.items() if value is not None}

    def health(self) -> Health:
        """Return how well the whole is, with its ``parts``: the worst of them speaks for all."""
        state = self.state
        if state is ComponentState.NEW:
            return Health(Status.STARTING)
        whole = worst({entry.name: _health_of(entry) for entry in self._registry})
        if self._failures:
            return Health(Status.FAILED, describe(self._failures[0]), whole.parts)
        if state in {ComponentState.STOPPING, ComponentState.STOPPED} and whole.is_live:
            return Health(Status.STOPPING, self._token.reason or "", whole.parts)
        return whole


def _health_of(entry: Entry) -> Health:
    """Ask a component, and its check; what either raises is what is wrong with it."""
    component = entry.component
    try:
        ask: Callable[[], object] | None = getattr(component, "health", None)
        health = ask() if ask is not None else _health_by_state(entry)
        if not isinstance(health, Health):  # a class of the user's may say it by a truth value
            health = Health(Status.READY if health else Status.DEGRADED)
        if entry.check is not None and health.is_ready and entry.check() is False:
            return Health(Status.DEGRADED, "its check says no")
    except Exception as error:  # the border of user code
        return Health(Status.DEGRADED, describe(error))
    return health


def _health_by_state(entry: Entry) -> Health:
    """Judge a component that has no health() of its own."""
    if entry.failure is not None or getattr(entry.component, "state", None) is ComponentState.FAILED:
        return Health(Status.FAILED, describe(entry.failure) if entry.failure else "")
    if entry.told_at is not None:
        return Health(Status.STOPPING)
    return Health(Status.READY if entry.up else Status.STARTING)
