"""``Transaction``: what the steps of a job file work on, and how its rows are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from threadkit._records import COMPLETED, FINISHED, JobState
from threadkit._sqlite_schema import COLUMNS

if TYPE_CHECKING:
    import sqlite3

Row = dict[str, Any]

STATES: tuple[JobState, ...] = tuple(JobState)  # by column
# Columns of the tally after those of the states; how many of a finished state are remembered: KEPT + its column.
TURNS, KEPT = len(JobState), len(JobState) + 1 - COMPLETED.column
ALL = ", ".join(COLUMNS)


def state_at(column: int) -> JobState:
    """Return the state that a number in a row means."""
    return STATES[column]


def as_row(values: tuple[Any, ...]) -> Row:
    """Return the columns of a row by name."""
    return dict(zip(COLUMNS, values, strict=True))


class Transaction:
    """What a step works on.

    Args:
        connection: a transaction has been begun on it.
        tally: the row of counts, which is written back before the commit.
        owner: the number of this process's queue.
        now: the POSIX time.
    """

    __slots__ = ("arrived", "execute", "fills_line", "found_nothing", "news", "now", "owner", "tally")

    def __init__(self, connection: sqlite3.Connection, tally: list[int], owner: int, now: float) -> None:
        self.execute: Callable[..., sqlite3.Cursor] = connection.execute
        self.tally = tally
        self.owner = owner
        self.now = now
        self.fills_line = False  # whether there is a job for somebody
        self.found_nothing: object = None  # what was the last news for who found no job after that; see Line
        self.news = False  # whether other processes should look
        self.arrived = 0  # jobs that were on their way here

    def count(self, before: JobState, after: JobState) -> None:
        """Count a job that goes from one state to another."""
        self.tally[before.column] -= 1
        self.tally[after.column] += 1
        if after in FINISHED:
            self.tally[KEPT + after.column] += 1
        if before in FINISHED:
            self.tally[KEPT + before.column] -= 1

    def next_turn(self) -> int:
        """Return a number that is higher than all before."""
        self.tally[TURNS] += 1
        return self.tally[TURNS]

    def row(self, where: str, *values: object) -> Row | None:
        """Return one row, if there is one."""
        found = self.execute(f"SELECT {ALL} FROM job WHERE {where}", values).fetchone()
        return None if found is None else as_row(found)

    def fill_line(self) -> None:
        """Note that there is a job for somebody."""
        self.fills_line = self.news = True
        self.found_nothing = None
