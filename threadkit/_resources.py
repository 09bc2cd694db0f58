"""What components use and must outlive them: context managers and callbacks, closed last in, first out."""

from __future__ import annotations

import contextlib
import reprlib
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from types import GeneratorType
from typing import NamedTuple, ParamSpec, TypeVar

from threadkit import _arguments
from threadkit._clock import Clock, open_gate
from threadkit._observe import logger
from threadkit._stacks import stacks_of

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 1.0  # seconds that closing has at least, before it is called late


class _Resource(NamedTuple):
    name: Callable[[], str]  # asked only when somebody is to be told
    close: Callable[[], object]
    entered: bool  # a context manager, not a callback


class Resources:
    """A stack of things to close. Unlike ``contextlib.ExitStack`` it tells every error, and can leave all open.

    They are closed by the thread that calls ``close()``, and no other: much that is entered must be left in its own
    thread (a connection of ``sqlite3``, a context variable that is set back). So one that hangs cannot be given up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _stack; nothing is called under it
        self._stack: list[_Resource] = []
        self._closing: _Resource | None = None  # written by close() alone
        self._parent: Resources | None = None  # kept alive in a forked child: finalizers would close what is in there

    def of_child(self) -> Resources:
        """Return what a forked child starts anew with: the callbacks.

        What the parent has entered, a connection or a temporary folder, is the parent's to leave.
        """
        child = Resources()
        child._stack = [resource for resource in self._stack if not resource.entered]  # alone: no lock is needed
        child._parent = self
        return child

    def enter(self, cm: AbstractContextManager[T]) -> T:
        """Enter a context manager now, and leave it in ``close()``."""
        value = cm.__enter__()
        self._push(_Resource(lambda: _text_of(cm), lambda: cm.__exit__(None, None, None), entered=True))
        return value

    def call(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``func(*args, **kwargs)`` in ``close()``."""
        _arguments.function(func, "func")
        self._push(_Resource(lambda: _text_of_call(func, args, kwargs), lambda: func(*args, **kwargs), entered=False))

    def close(self, *, leave_open: bool) -> tuple[list[str], list[BaseException]]:
        """Close all, the last one first, whatever they raise; or only tell their names.

        Returns:
            the names of what was left open, and what was raised.
        """
        if leave_open:
            with self._lock:
                left = self._stack[::-1]
            return [resource.name() for resource in left], []
        errors: list[BaseException] = []
        while (top := self._pop()) is not None:  # one by one, so that an interrupt loses no more than the one it struck
            self._closing = top
            try:
                top.close()
            except Exception as error:
                logger.exception("resource %s failed to close", top.name())
                errors.append(error)
        return [], errors

    @contextlib.contextmanager
    def watched(self, clock: Clock, deadline: float) -> Generator[None]:
        """Log what closes in this block, and where it is, if it has not ended at the deadline."""
        over = clock.gate()
        closer = threading.current_thread()

        def watch() -> None:
            if not clock.park(over, max(deadline, clock.monotonic() + _PATIENCE)) and self._closing is not None:
                stack = "".join(stacks_of([closer]).values())
                logger.error("resource %s is late to close, and the end waits for it:\n%s", self._closing.name(), stack)

        if self._stack:
            with contextlib.suppress(RuntimeError):  # no thread is to be had, at interpreter exit say: nobody looks
                clock.spawn(watch, "threadkit-resources")
        try:
            yield
        finally:
            open_gate(over)

    def _pop(self) -> _Resource | None:
        with self._lock:
            return self._stack.pop() if self._stack else None

    def _push(self, resource: _Resource) -> None:
        with self._lock:
            self._stack.append(resource)


_words = reprlib.Repr()  # a line of bearable length, also for what fails to write itself down
_words.maxother = _words.maxstring = 100


def _text_of(cm: object) -> str:
    """Return what a person would call a context manager: its own words, else its maker's or its class's name."""
    generator = getattr(cm, "gen", None)
    if isinstance(generator, GeneratorType):  # a function under contextlib.contextmanager
        return f"{generator.__qualname__}()"
    if type(cm).__repr__ is object.__repr__:  # an address tells nobody anything
        return type(cm).__qualname__
    return _words.repr(cm)


def _text_of_call(func: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    given = [*map(_words.repr, args), *(f"{name}={_words.repr(value)}" for name, value in kwargs.items())]
    return f"{_arguments.name_of(func, 'callback')}({', '.join(given)})"
