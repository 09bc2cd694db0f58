"""``Unread``: an error that waits to be asked for, and speaks up when it goes unheard."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Unread:
    """Lies in a future beside an error until somebody asks for the outcome.

    Only calls that fail have one, so those that succeed pay nothing for it. It must not hold the future: then it would
    never go.

    Args:
        error: what was raised.
        tell: told of the error where nobody has asked.
    """

    __slots__ = ("_error", "_tell")

    def __init__(self, error: BaseException, tell: Callable[[BaseException], object]) -> None:
        self._error = error
        self._tell: Callable[[BaseException], object] | None = tell

    def read(self) -> None:
        """Somebody has asked."""
        self._tell = None

    def __del__(self) -> None:
        if self._tell is not None and not sys.is_finalizing():
            self._tell(self._error)
