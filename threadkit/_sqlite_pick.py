"""``Pick``: the step that claims a job out of a job file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from threadkit import _sqlite_steps
from threadkit._sqlite_line import Wanted
from threadkit._sqlite_steps import Claimed
from threadkit._transaction import Transaction


class Pick:
    """A step that claims a job, and takes a ticket where its handler has limits.

    Where its transaction fails and is done again there are tickets too many; ``close()`` gives them back.

    Args:
        line_up: takes a ticket; see ``Host``.
        wanted: whose jobs may be claimed; None is nobody's.
    """

    def __init__(self, line_up: Callable[[str], Any], wanted: Wanted | None) -> None:
        self._line_up = line_up
        self._wanted = wanted
        self._tickets: list[Any] = []

    def __call__(self, tx: Transaction) -> Claimed | None:
        if self._wanted is None:
            return None
        claimed = _sqlite_steps.claim(tx, self._wanted.free, self._wanted.limited)
        if claimed is None:
            tx.found_nothing = self._wanted.news
        elif not claimed.begins:
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
