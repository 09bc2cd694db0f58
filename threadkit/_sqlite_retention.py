"""What is forgotten of a job file: steps on the rows of finished jobs; see ``_sqlite_steps.py``."""

from __future__ import annotations

from threadkit._keep import Bound
from threadkit._records import JobState
from threadkit._stamps import EARLY
from threadkit._transaction import KEPT, Transaction

_SLACK = 16  # a sixteenth more than are to be kept may be remembered: to delete many at a time costs less
_BATCH = 500  # rows that are looked at at once

Bounds = tuple[Bound[JobState], ...]


def forget_many(tx: Transaction, bounds: Bounds) -> None:
    """Delete the jobs that finished first, where more are remembered than should be."""
    for bound in bounds:
        count = bound.keep.count
        kept = sum(tx.tally[KEPT + state.column] for state in bound.states)
        if kept > count + count // _SLACK:
            _delete(tx, f"seq IN (SELECT seq FROM ({_first(bound)}))", count=kept - int(count))


def forget_old(tx: Transaction, bounds: Bounds) -> float | None:
    """Delete jobs that finished too long ago; return the POSIX time at which there will be more to delete."""
    moments = [moment for bound in bounds if (moment := _forget_old(tx, bound)) is not None]
    return min(moments, default=None)


def _forget_old(tx: Transaction, bound: Bound[JobState]) -> float | None:
    age = bound.keep.age
    while age is not None and (first := tx.execute(_first(bound), {"count": _BATCH}).fetchall()):
        for seq, finished, _ in first:
            if finished + age > tx.now + EARLY:
                moment: float = finished + age
                return moment
            _delete(tx, "seq = :seq", seq=seq)
    return None


def forget(tx: Transaction, job_id: str) -> bool:
    """Delete a job that has finished; return False where there is none."""
    return _delete(tx, "id = :id AND ended IS NOT NULL", id=job_id) > 0


def _first(bound: Bound[JobState]) -> str:
    """Return what finds those that finished first, as many as ``:count``, with one look for each state."""
    parts = [
        "SELECT * FROM (SELECT seq, finished, ended FROM job"
        f" WHERE ended IS NOT NULL AND state = {state.column} ORDER BY ended LIMIT :count)"
        for state in bound.states
    ]
    return f"{' UNION ALL '.join(parts)} ORDER BY ended LIMIT :count"


def _delete(tx: Transaction, where: str, **values: object) -> int:
    """Delete rows of finished jobs, and return how many."""
    deleted = tx.execute(f"DELETE FROM job WHERE {where} RETURNING state", values).fetchall()
    for (column,) in deleted:
        tx.tally[KEPT + column] -= 1
    return len(deleted)
