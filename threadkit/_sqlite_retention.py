"""What is forgotten of a job file: steps on the rows of finished jobs; see ``_sqlite_steps.py``."""

from __future__ import annotations

from threadkit._keep import Bound
from threadkit._records import JobState
from threadkit._stamps import EARLY
from threadkit._transaction import KEPT, Transaction

_SLACK = 16  # a sixteenth more than are to be kept may be remembered: to delete a few at a time costs less
_BATCH = 500  # rows that are looked at at once

Bounds = tuple[Bound[JobState], ...]


def forget_many(tx: Transaction, bounds: Bounds) -> None:
    """Delete the jobs that finished first, where more are remembered than should be."""
    for bound in bounds:
        count = bound.keep.count
        kept = sum(tx.tally[KEPT + state.column] for state in bound.states)
        if kept > count + count // _SLACK:
            _delete(tx, [seq for seq, _ in _first(tx, bound, kept - int(count))])


def forget_old(tx: Transaction, bounds: Bounds) -> float | None:
    """Delete jobs that finished too long ago, as many as are due; return the POSIX time of the next that will have."""
    moments = [moment for bound in bounds if (moment := _forget_old(tx, bound)) is not None]
    return min(moments, default=None)


def _forget_old(tx: Transaction, bound: Bound[JobState]) -> float | None:
    age = bound.keep.age
    while age is not None and (first := _first(tx, bound, _BATCH)):
        for seq, finished in first:
            if finished + age > tx.now + EARLY:
                return finished + age
            _delete(tx, [seq])
    return None


def _first(tx: Transaction, bound: Bound[JobState], count: int) -> list[tuple[int, float]]:
    """Return where those that finished first are, and when they did, with one look into the index for each state."""
    parts = [
        "SELECT * FROM (SELECT seq, finished, ended FROM job"
        f" WHERE ended IS NOT NULL AND state = {state.column} ORDER BY ended LIMIT {count})"
        for state in bound.states
    ]
    found = tx.execute(f"{' UNION ALL '.join(parts)} ORDER BY ended LIMIT {count}").fetchall()
    return [(seq, finished) for seq, finished, _ in found]


def _delete(tx: Transaction, places: list[int]) -> None:
    for seq in places:
        ((column,),) = tx.execute("DELETE FROM job WHERE seq = ? RETURNING state", (seq,)).fetchall()
        tx.tally[KEPT + column] -= 1
