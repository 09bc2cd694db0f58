"""What is in a whole, and how it fares: components by name, their health, figures and events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from threadkit import _arguments
from threadkit._checkup import Checkup, Question
from threadkit._clock import Clock
from threadkit._component import Component, ComponentState
from threadkit._entry import Entry, answer_of
from threadkit._errors import UnknownComponent
from threadkit._observe import Observation, Observer, Observers
from threadkit._registry import Registry
from threadkit._stop import StopToken
from threadkit.events import describe
from threadkit.health import Health, Status, worst

T = TypeVar("T")


class Directory(ABC):
    """The part of ``Lifecycle`` and ``Leader`` that looks at what is in them, and ends what is no longer wanted."""

    _checkup: Checkup
    _clock: Clock
    _failures: list[BaseException]
    _is_quiet: bool = False  # written by a lifecycle's quiet(), once
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
        figures: dict[str, Any] = {
            entry.name: answer_of(entry.component, "stats", lambda: None) for entry in self._registry
        }
        return {name: value for name, value in figures.items() if value is not None}

    def health(self) -> Health:
        """Return how well the whole is, with its ``parts``: the worst of them speaks for all.

        Checks, and what classes of yours say of their health, are asked in threads that are not the caller's, all at
        once. No answer takes longer than ``check_timeout``: what is late counts as degraded, and is not asked again
        before it has answered. The answer of a check is good for ``check_every`` seconds.
        """
        state = self.state
        if state is ComponentState.NEW:
            return Health(Status.STARTING)
        whole = worst(self._examine())
        if self._failures:
            return Health(Status.FAILED, describe(self._failures[0]), whole.parts)
        if state in {ComponentState.STOPPING, ComponentState.STOPPED} and whole.is_live:
            return Health(Status.STOPPING, self._token.reason or "", whole.parts)
        if self._is_quiet and whole.is_live:
            return Health(Status.STOPPING, "quiet", whole.parts)
        return whole

    def _examine(self) -> dict[str, Health]:
        """Return the health of each component, by its name."""
        words = {entry: _word_of(entry) for entry in self._registry}
        checks = {entry: _check_of(entry, word) for entry, word in words.items()}
        asked = [each for each in (*words.values(), *checks.values()) if isinstance(each, Question)]
        answers = self._checkup.ask(asked)
        healths: dict[str, Health] = {}
        for entry, word in words.items():
            health = word if isinstance(word, Health) else answers[word]
            check = checks[entry]
            if check is not None and health.is_ready:
                health = max(health, answers[check], key=lambda each: each.status)
            healths[entry.name] = health
        return healths


def _word_of(entry: Entry) -> Health | Question:
    """Return what a component says of its health; where user code says it, the question by which that is asked."""
    component = entry.component
    try:
        ask: Callable[[], Health] | None = getattr(component, "health", None)
        if ask is None:
            return _health_by_state(entry)
        is_ours = str(getattr(ask, "__module__", "")).startswith("threadkit.")
        if is_ours and not isinstance(component, Directory):  # ours answer at once, unless they have to ask in turn
            return ask()
    except Exception as error:  # a property of the user's
        return Health(Status.DEGRADED, describe(error))
    return entry.questions.setdefault(  # atomic: of two who ask at once both get the same one
        "health()", Question(entry.name, entry.phase, "health()", lambda: _said_by(component), every=0.0)
    )


def _said_by(component: Any) -> object:
    said = component.health()
    return said if isinstance(said, (Health, Status)) else bool(said)


def _check_of(entry: Entry, word: Health | Question) -> Question | None:
    """Return the question by which its check is asked; None where there is none, or it would be asked too early."""
    is_ready = word.is_ready if isinstance(word, Health) else entry.up and entry.told_at is None
    if entry.check is None or not is_ready:
        return None
    return entry.questions.setdefault(
        "check",
        Question(entry.name, entry.phase, "check", entry.check, timeout=entry.check_timeout, every=entry.check_every),
    )


def _health_by_state(entry: Entry) -> Health:
    """Judge a component by what is known of it from outside."""
    if entry.failure is not None:
        return Health(Status.FAILED, describe(entry.failure))
    if getattr(entry.component, "state", None) is ComponentState.FAILED:
        return Health(Status.FAILED)
    if entry.told_at is not None:
        return Health(Status.STOPPING)
    return Health(Status.READY if entry.up else Status.STARTING)
