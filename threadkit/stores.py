"""Where a queue keeps its jobs: in memory, or in a file.

A store decides who is first. Whatever several want to do to the same job (run it, cancel it, let it expire), they ask
the store to *move* it, and it grants that to one of them. What counts as done is what the store has accepted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threadkit._codec import JSON, Codec
from threadkit._memory import MemoryStore
from threadkit._storing import DurableStore, Host, JobStore

if TYPE_CHECKING:
    from threadkit._sqlite import SQLiteStore

__all__ = ["JSON", "Codec", "DurableStore", "Host", "JobStore", "MemoryStore", "SQLiteStore"]


def __getattr__(name: str) -> Any:
    # Who keeps jobs in memory need not load what a file takes.
    if name == "SQLiteStore":
        return import_module("threadkit._sqlite").SQLiteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
