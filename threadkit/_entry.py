"""``Entry``: what a registry knows of one component."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from threadkit import _arguments, _fork
from threadkit._attendant import Attendant, Errand
from threadkit._checkup import Question
from threadkit._clock import Clock, deadline_after
from threadkit._component import Component
from threadkit._errors import StartTimeout
from threadkit._observe import logger
from threadkit._stop import StopToken

T = TypeVar("T")


@attrs.define(eq=False)
class Entry:
    """One registered component, and how far it has come."""

    name: str
    component: Component
    phase: int
    requires: tuple[str, ...]
    number: int  # the order of registration
    token: StopToken  # the parent of the component's own token
    check: Callable[[], object] | None = None
    check_timeout: float | None = None
    check_every: float | None = None
    stop_timeout: float | None = None
    questions: dict[str, Question] = attrs.field(factory=dict[str, Question])  # what it is asked by, by the method
    answers: dict[str, object] = attrs.field(factory=dict[str, object])  # what those said that are not about its health
    attendant: Attendant | None = None  # makes the calls of a component of the user's; None for threadkit's own
    starter: threading.Thread | None = None  # who is in its start(), where that is no attendant
    # Guarded by the registry's condition, as all below. What its failed() was called with last; else what its stop(),
    # join() or close() raised first.
    failure: BaseException | None = None
    starting: bool = False
    up: bool = False
    leaving: bool = False  # somebody removes it: it is not started any more, and nothing can require it
    told_at: float | None = None
    telling: Errand[None] | None = None  # its stop(), where an attendant makes the call; written by who set told_at
    seconds: float | None = None  # from being told until it was joined
    closed: bool = False

    def threads(self) -> list[threading.Thread]:
        """Return the threads that the component has at this moment, if it can tell, and who hangs in its start."""
        own = answer_of(self.component, "threads", list[threading.Thread])
        return own if self.starter is None else [*own, self.starter]


# Who answers for a component that runs: its entry, by the component's id, which is no other's while the entry keeps it
# alive. Single dict operations, each atomic.
_running: dict[int, Entry] = {}
_fork.after_fork(_running.clear)


def claim(entry: Entry) -> None:
    """Let this entry answer for its component from now on, until ``release()``.

    Raises:
        ValueError: another one does, in another lifecycle or leader.
    """
    if _running.setdefault(id(entry.component), entry) is not entry:
        raise ValueError(f"component {entry.name!r} runs in another lifecycle; it can be in one at a time")


def release(entry: Entry) -> None:
    """Let another entry have its component, since that has ended or is wanted no longer."""
    if _running.get(id(entry.component)) is entry:  # nobody else takes it away, and nobody gives it meanwhile
        _running.pop(id(entry.component), None)


def runs_elsewhere(entry: Entry) -> bool:
    """Tell whether another entry answers for its component."""
    return _running.get(id(entry.component), entry) is not entry


def start(entry: Entry, clock: Clock, timeout: float | None) -> None:
    """Start a component, and wait until it is up.

    threadkit's own bound their start themselves. What a user's class does in ``start()`` is unknown, so its attendant
    calls it, and it is given up after ``timeout`` seconds.

    Raises:
        StartTimeout: it was not up in time.
        BaseException: whatever its ``start()`` raised.
    """
    if entry.attendant is not None:
        starting = entry.attendant.do(functools.partial(_call_start, entry))
        if not starting.wait(deadline_after(clock, timeout)):
            raise StartTimeout(entry.name, timeout or 0.0)
        starting.result()
        return
    entry.starter = threading.current_thread()
    try:
        entry.component.start()
    finally:
        entry.starter = None


def _call_start(entry: Entry) -> None:
    try:
        entry.component.start()
    except BaseException:
        if entry.up:  # it was given up, and nobody else hears of this
            logger.exception("the start() of component %r failed when its time was over", entry.name)
        raise


def answer_of(component: Component, name: str, otherwise: Callable[[], T]) -> T:
    """Ask a component by a method that it may not have. Where that raises, it is logged, and nothing is held up."""
    try:
        answer: T = getattr(component, name, otherwise)()
    except Exception:
        logger.exception("the %s() of component %r failed", name, component.name)
        return otherwise()
    return answer


def check_shape(component: Component) -> None:
    """Refuse what lacks one of the four names.

    Raises:
        TypeError: it is no component, and this is why.
        ValueError: its name is empty.
    """
    for method in ("start", "stop", "join"):
        if not callable(getattr(component, method, None)):
            raise TypeError(f"component must have a method {method}(), but {component!r} has none")
    if not isinstance(getattr(component, "name", None), str):
        raise TypeError(f"component must have a name of type str, but {component!r} has none")
    _arguments.text(component.name, "name")


def name_of(required: str | Component) -> str:
    """Return the name of what is required, be it given as a name or as a component.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(required, str):
        return required
    name = getattr(required, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"requires takes names and components, not {required!r}")
    return name
