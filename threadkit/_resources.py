"""What components use and must outlive them: context managers and callbacks, closed last in, first out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from typing_extensions import ParamSpec

from threadkit import _arguments
from threadkit._observe import logger

P = ParamSpec("P")
T = TypeVar("T")


class Resources:
    """A stack of things to close. Unlike ``contextlib.ExitStack`` it tells every error, and can leave all open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _stack; nothing is called under it
        self._stack: list[tuple[str, Callable[[], object]]] = []

    def enter(self, cm: AbstractContextManager[T]) -> T:
        """Enter a context manager now, and leave it in ``close()``."""
        value = cm.__enter__()
        self._push(type(cm).__qualname__, lambda: cm.__exit__(None, None, None))
        return value

    def call(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``func(*args, **kwargs)`` in ``close()``."""
        _arguments.function(func, "func")
        self._push(_arguments.name_of(func, "callback"), lambda: func(*args, **kwargs))

    def close(self, *, leave_open: bool) -> tuple[list[str], list[BaseException]]:
        """Close all, the last one first, whatever they raise; or only tell their names.

        Returns:
            the names of what was left open, and what was raised.
        """
        with self._lock:
            if leave_open:
                return [name for name, _ in reversed(self._stack)], []
        errors: list[BaseException] = []
        while (top := self._pop()) is not None:  # one by one, so that an interrupt loses no more than the one it struck
            name, close = top
            try:
                close()
            except Exception as error:
                logger.exception("resource %r failed to close", name)
                errors.append(error)
        return [], errors

    def _pop(self) -> tuple[str, Callable[[], object]] | None:
        with self._lock:
            return self._stack.pop() if self._stack else None

    def _push(self, name: str, close: Callable[[], object]) -> None:
        with self._lock:
            self._stack.append((name, close))
