"""``Pick``: the step that claims a job out of a job file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from threadkit import _sqlite_steps
from threadkit._sqlite_steps import Claimed
from threadkit._transaction import Transaction


class Pick:
    """A step that claims a job, and takes a ticket where its handler has limits.

    Where its transaction fails and is done again there are tickets too many; ``close()`` gives them back.

    Args:
        line_up: takes a ticket; see ``Host``.
        free: handlers without limits whose jobs may be claimed.
        limited: those with limits.
    """

    def __init__(self, line_up: Callable[[str], Any], free: Sequence[str], limited: Sequence[str]) -> None:
        self._line_up = line_up
        self._names = free, limited
        self._tickets: list[Any] = []

    def __call__(self, tx: Transaction) -> Claimed | None:
        claimed = _sqlite_steps.claim(tx, *self._names)
        if claimed is not None and not claimed.begins:
            self._tickets.append(self._line_up(claimed.row["name"]))
        return claimed

    def ticket(self) -> Any:
        """Return the ticket that counts, if there is one."""
        return self._tickets.pop() if self._tickets else None

    def close(self) -> None:
        """Give the tickets back that nobody has asked for."""
        while self._tickets:
            ticket = self._tickets.pop()
            if ticket is not None:
                ticket.arrive(None)
