"""What is in a whole, and how it fares: components by name, their health, figures and events."""

from __future__ import annotations

import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import attrs

from threadkit import _arguments
from threadkit._checkup import Checkup, Question
from threadkit._clock import Clock
from threadkit._component import BaseComponent, Component, ComponentState
from threadkit._entry import Entry, answer_of
from threadkit._errors import UnknownComponent
from threadkit._observe import Observation, Observer, Observers, logger
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

    @abstractmethod
    def _refuse_forked(self) -> None:
        """Raise in a forked child: a lock of the registry may be held there for ever."""

    def remove(self, name: str, *, timeout: float | timedelta | None = None) -> bool:
        """Stop a component and forget it. From now on nothing can be added that requires it, though it may not end.

        Args:
            name: its name.
            timeout: seconds to wait for its end; None takes ``stop_timeout``.

        Returns:
            True when it has ended; False where it has not, and stays registered.

        Raises:
            UnknownComponent: there is none of this name.
            ValueError: others require it; or ``timeout`` is out of range.
            ForkedError: it belongs to the parent process.
        """
        self._refuse_forked()
        entry = self._registry.find(name)
        given = _arguments.timeout(timeout)
        self._registry.begin_removal(entry)
        deadline = self._clock.monotonic() + (self._stop_timeout if given is None else given)
        if entry.up or entry.starting:
            parts = list(self._registry.stop([[entry]], "removed", deadline))
            if parts[0].outcome == "stuck":
                return False
        self._registry.discard(entry)
        return True

    def __getitem__(self, name: str) -> Component:
        self._refuse_forked()
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
        self._refuse_forked()
        try:
            return isinstance(name, str) and self._registry.find(name) is not None
        except UnknownComponent:
            return False

    def __iter__(self) -> Iterator[Component]:
        self._refuse_forked()
        return iter([entry.component for entry in self._registry])

    def __len__(self) -> int:
        self._refuse_forked()
        return len(self._registry)

    def observe(self, callback: Observer) -> Observation:
        """Have ``callback(event)`` called for everything that happens to the lifecycle and its components.

        Raises:
            TypeError: ``callback`` cannot be called.
        """
        return self._observers.add(callback)

    def stats(self) -> dict[str, Any]:
        """Return the figures of each component that has any, by name.

        Classes of yours are asked as ``health()`` asks them. Whose figures are late is left out, and logged.
        """
        self._refuse_forked()
        figures = self._answers("stats", self._registry, _no_figures)
        return {entry.name: value for entry, value in figures.items() if value is not None}

    def health(self) -> Health:
        """Return how well the whole is, with its ``parts``: the worst of them speaks for all.

        What has ended well while the others run, as a thread whose body has returned, does not count.

        Checks, and what classes of yours say of their health, are asked in threads that are not the caller's, all at
        once. No answer takes longer than ``check_timeout``: what is late counts as degraded, and is not asked again
        before it has answered. The answer of a check is good for ``check_every`` seconds.
        """
        state = self.state
        if state is ComponentState.NEW:
            return Health(Status.STARTING)
        whole = self._examine()
        if self._failures:
            return Health(Status.FAILED, describe(self._failures[0]), whole.parts)
        if state in {ComponentState.STOPPING, ComponentState.STOPPED} and whole.is_live:
            return Health(Status.STOPPING, self._token.reason or "", whole.parts)
        if self._is_quiet and whole.is_live:
            return Health(Status.STOPPING, "quiet", whole.parts)
        return whole

    def _threads_of(self, entries: Iterable[Entry]) -> list[threading.Thread]:
        """Return the threads that these components have at this moment, with those that call them."""
        chosen = list(entries)
        calls = [thread for entry in chosen if entry.attendant is not None for thread in entry.attendant.threads()]
        own = self._answers("threads", chosen, list[threading.Thread])
        return calls + [thread for threads in own.values() for thread in threads]

    def _answers(self, method: str, entries: Iterable[Entry], otherwise: Callable[[], T]) -> dict[Entry, T]:
        """Call a method that components may have. threadkit's own answer at once; others are asked as checks are."""
        answers: dict[Entry, T] = {}
        questions: dict[Entry, Question] = {}
        for entry in entries:
            if entry.attendant is None:
                answers[entry] = answer_of(entry.component, method, otherwise)
            elif _may_have(entry.component, method):
                questions[entry] = _question(entry, f"{method}()", functools.partial(_note, entry, method, otherwise))
        verdicts = self._checkup.collect(questions.values())
        for entry, question in questions.items():
            if verdicts[question].status is Status.READY:
                answers[entry] = cast("T", entry.answers[method])
            elif self._checkup.is_asking(question):  # else no thread was to be had, as at interpreter exit
                logger.warning("component %r: %s", entry.name, verdicts[question].detail)
        return answers

    def _examine(self) -> Health:
        """Return the health of the components, with that of each as a part."""
        words = {entry: _word_of(entry) for entry in self._registry}
        checks = {entry: _check_of(entry, word) for entry, word in words.items()}
        asked = [each for each in (*words.values(), *checks.values()) if isinstance(each, Question)]
        answers = self._checkup.ask(asked)
        parts: dict[str, Health] = {}
        counted: dict[str, Health] = {}
        for entry, word in words.items():
            health = word if isinstance(word, Health) else answers[word]
            check = checks[entry]
            if check is not None and health.is_ready:
                health = max(health, answers[check], key=lambda each: each.status)
            parts[entry.name] = health
            if not _has_ended_well(entry):  # looked up last: what ended after its word was asked does not count either
                counted[entry.name] = health
        return attrs.evolve(worst(counted), parts=parts)


def _word_of(entry: Entry) -> Health | Question:
    """Return what a component says of its health; where user code says it, the question by which that is asked."""
    component = entry.component
    if isinstance(component, BaseComponent) and _answers_at_once(component):
        return component.health()
    if _may_have(component, "health"):
        return _question(entry, "health()", lambda: _said_by(entry))
    if _may_have(component, "state"):
        return _question(entry, "state", lambda: _health_by_state(entry))
    return _health_by_state(entry)


def _answers_at_once(component: BaseComponent) -> bool:
    """Tell whether its health() is threadkit's, and has nobody to ask in turn."""
    own_word = str(getattr(type(component).health, "__module__", ""))
    return own_word.startswith("threadkit.") and not isinstance(component, Directory)


def _has_ended_well(entry: Entry) -> bool:
    """Tell whether it is one of threadkit's and is done: a body that has returned, a task after its last run."""
    return isinstance(entry.component, BaseComponent) and entry.component.state is ComponentState.STOPPED


def _may_have(component: Component, name: str) -> bool:
    """Tell whether it has this attribute, without a call of user code: it may be a property that hangs."""
    return any(inspect.getattr_static(component, each, None) is not None for each in (name, "__getattr__"))


def _question(entry: Entry, what: str, ask: Callable[[], object]) -> Question:
    """Return what a component is asked this by: always the same question, so that it is put once at a time."""
    question = Question(entry.name, entry.phase, what, ask, every=0.0)
    return entry.questions.setdefault(what, question)  # atomic: of two who ask at once both get the same one


def _note(entry: Entry, method: str, otherwise: Callable[[], object]) -> None:
    entry.answers[method] = answer_of(entry.component, method, otherwise)


def _no_figures() -> Any:
    return None


def _said_by(entry: Entry) -> object:
    ask: Callable[[], object] | None = getattr(entry.component, "health", None)
    if ask is None:  # it had a __getattr__, and that does not know it
        return _health_by_state(entry)
    said = ask()
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
