"""``override``: tells type checkers that a method replaces one of its base.

It is that of ``typing_extensions``, which costs a program as much time to import as a quarter of threadkit. Only type
checkers need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override
else:
    M = TypeVar("M", bound=Callable[..., Any])

    def override(method: M) -> M:
        """Return the method as it is."""
        return method


__all__ = ["override"]
