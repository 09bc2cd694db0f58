"""What is done to the rows of a job file: each function is one step, inside a transaction that somebody else commits.

A step changes rows and counts, and nothing in memory: the transaction may fail, and the step be done again. What it
returns is told to the jobs in memory after the commit.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from threadkit._errors import DuplicateName
from threadkit._records import CANCELLED, EXPIRED, FAILED, FINISHED, PENDING, RUNNING, JobState
from threadkit._stamps import EARLY
from threadkit._transaction import ALL, Row, Transaction, as_row, state_at

CRASHESALLOWED = 2  # a job that ends its process once more is a dead letter
_BATCH = 500  # rows that one transaction promotes, lets expire or rescues
_MOST_NAMES = 200  # in one statement

_INSERT = (
    "INSERT INTO job (id, name, payload, state, priority, turn, key, held_key, run_at, expires_at, created, timeout,"
    " retry, headers, owner, attempts, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_BEGIN = "UPDATE job SET state = 2, owner = ?, attempts = attempts + 1, started = ?, expires_at = NULL, rev = rev + 1 "
_FINISH = (
    "UPDATE job SET state = ?, owner = NULL, fate = NULL, held_key = NULL, run_at = NULL, expires_at = NULL,"
    " finished = ?, ended = ?, why = ?, rev = rev + 1"
)
_SETTLE = (
    ", attempts = ?, started = ?, result = ?, errors = ?, notes = ?, progress = ?, message = ?"
    " WHERE seq = ? AND fate IS NULL RETURNING rev"
)
_GO_ON = (
    "UPDATE job SET state = ?, owner = ?, fate = NULL, run_at = ?, delay = ?, first_begun = ?, why = ?, rev = rev + 1"
)


class New(NamedTuple):
    """What is inserted of a new job."""

    id: str
    name: str
    payload: Any
    priority: int
    key: str | None
    run_at: float | None
    expires_at: float | None
    created: float
    timeout: float | None
    retry: str | None
    headers: str | None


def add(
    tx: Transaction, new: New, state: JobState, *, replace: bool = False, begins: Callable[[], bool] | None = None
) -> tuple[int, JobState, Row | None]:
    """Insert a job unless an unfinished one has its key.

    Args:
        tx: the transaction.
        new: the job.
        state: SCHEDULED or PENDING.
        replace: insert it anyway, and cancel that one, or condemn it to that if it runs.
        begins: asked, where nothing else waits, whether it is to begin at once.

    Returns:
        where it is, 0 for nowhere; its state; and the row that has or had the key.
    """
    holder = None
    tx.arrived += 1
    if new.key is not None:
        holder = tx.row("held_key = ?", new.key)
        if holder is not None:
            if not replace:
                return 0, state, holder
            holder = _replace(tx, holder)
    owner, attempts, started, expires_at = None, 0, None, new.expires_at
    if begins is not None and not tx.tally[PENDING.column] and begins():
        state, owner, attempts, started, expires_at = RUNNING, tx.owner, 1, tx.now, None
    cursor = tx.execute(
        _INSERT,
        (
            *(new.id, new.name, new.payload, state.column, new.priority, tx.next_turn(), new.key, new.key, new.run_at),
            *(expires_at, new.created, new.timeout, new.retry, new.headers, owner, attempts, started),
        ),
    )
    tx.tally[state.column] += 1
    if state is PENDING:
        tx.fill_line()
    return cursor.lastrowid or 0, state, holder


def _replace(tx: Transaction, holder: Row) -> Row | None:
    """Cancel the job that has a key, and take it away from it."""
    before, seq, why = state_at(holder["state"]), holder["seq"], "was replaced"
    if before is RUNNING:
        condemn(tx, seq, CANCELLED, why)
        tx.execute("UPDATE job SET held_key = NULL WHERE seq = ?", (seq,))
        return tx.row("seq = ?", seq)
    return withdraw(tx, seq, before, CANCELLED, tx.now, why)


def remove(tx: Transaction, seq: int) -> bool:
    """Delete a job that has not begun."""
    found = tx.execute(
        "DELETE FROM job WHERE seq = ? AND state IN (0, 1) AND owner IS NULL RETURNING state", (seq,)
    ).fetchall()
    if not found:
        return False
    tx.tally[found[0][0]] -= 1
    tx.news = True
    return True


class Claimed(NamedTuple):
    """A job that was claimed."""

    row: Row
    begins: bool  # else it is in hand, until the limits of its handler let it go


def claim(tx: Transaction, free: Sequence[str], limited: Sequence[str]) -> Claimed | None:
    """Take the next job of these handlers: to begin it, or, where its handler has limits, to have it in hand."""
    best: tuple[Any, ...] | None = None
    if tx.tally[PENDING.column]:
        names = (*free, *limited)
        for start in range(0, len(names), _MOST_NAMES):
            some = names[start : start + _MOST_NAMES]
            values = tuple(each for name in some for each in (name, tx.now + EARLY))
            found = tx.execute(_line_query(len(some)), values).fetchone()
            if found is not None and (best is None or found[:2] < best[:2]):
                best = found
    if best is None:
        return None
    row = as_row(best[2:])
    row["owner"] = tx.owner
    row["rev"] += 1
    begins = row["name"] not in limited
    if begins:
        tx.execute(f"{_BEGIN} WHERE seq = ?", (tx.owner, tx.now, row["seq"]))
        tx.count(PENDING, RUNNING)
        tx.news = True  # there is room for one more
        # Its row has no expiry any more; the job has it until its handler is called, for the case that it is put back.
        row.update(state=RUNNING.column, attempts=row["attempts"] + 1, started=tx.now)
    else:
        tx.execute("UPDATE job SET owner = ?, rev = rev + 1 WHERE seq = ?", (tx.owner, row["seq"]))
    return Claimed(row, begins)


@functools.cache
def _line_query(names: int) -> str:
    """Return what finds the first in line of so many handlers, with one look into the index for each."""
    one = (
        f"SELECT -priority, turn, {ALL} FROM job"
        " WHERE name = ? AND state = 1 AND owner IS NULL AND (expires_at IS NULL OR expires_at > ?)"
        " ORDER BY priority DESC, turn LIMIT 1"
    )
    if names == 1:
        return one
    return " UNION ALL ".join([f"SELECT * FROM ({one})"] * names) + " ORDER BY 1, 2 LIMIT 1"


def oldest(tx: Transaction) -> Row | None:
    """Return the job that has stood in the line longest. Linear in the number of jobs."""
    return tx.row("state = 1 AND owner IS NULL ORDER BY turn LIMIT 1")


def begin(tx: Transaction, seq: int) -> Row | None:
    """Begin a job that is in hand, or in nobody's; None where somebody else was quicker."""
    found = tx.execute(
        f"{_BEGIN} WHERE seq = ? AND state = 1 AND (owner IS NULL OR owner = ?) RETURNING {ALL}",
        (tx.owner, tx.now, seq, tx.owner),
    ).fetchall()
    if not found:
        return None
    tx.count(PENDING, RUNNING)
    tx.news = True  # there is room for one more
    return as_row(found[0])


def unclaim(tx: Transaction, seq: int, expires_at: float | None) -> Row | None:
    """Put a job back that was claimed, and not begun; one that has been condemned since meets its fate."""
    row = tx.row("seq = ? AND owner = ?", seq, tx.owner)
    if row is not None and row["fate"] is not None:
        _meet_fate(tx, seq, (None, None, None, None, None, 0.0, ""))
    elif row is not None:
        before = state_at(row["state"])  # PENDING if it was in hand only
        tx.execute(
            "UPDATE job SET state = 1, owner = NULL, attempts = attempts - ?, expires_at = ?, rev = rev + 1"
            " WHERE seq = ?",
            (before is RUNNING, expires_at, seq),
        )
        tx.count(before, PENDING)
        tx.fill_line()
    return tx.row("seq = ?", seq)


def withdraw(tx: Transaction, seq: int, before: JobState, after: JobState, at: float | None, why: str) -> Row | None:
    """End a job that waits; None where it is not in that state."""
    turn = tx.next_turn()
    found = tx.execute(
        f"{_FINISH} WHERE seq = ? AND state = ? RETURNING {ALL}", (after.column, at, turn, why, seq, before.column)
    ).fetchall()
    if not found:
        return None
    tx.count(before, after)
    tx.news = True
    return as_row(found[0])


def condemn(tx: Transaction, seq: int, fate: JobState, why: str) -> Row | None:
    """Decide where a running job will go; None where it does not run, or that is decided."""
    found = tx.execute(
        "UPDATE job SET fate = ?, why = ?, attempts = attempts - ?, rev = rev + 1"
        f" WHERE seq = ? AND state = 2 AND fate IS NULL RETURNING {ALL}",
        (fate.column, why, fate not in FINISHED, seq),
    ).fetchall()
    tx.news = True
    return as_row(found[0]) if found else None


def settle(
    tx: Transaction, seq: int, after: JobState, why: str, when: tuple[float | None, ...], what: tuple[Any, ...]
) -> tuple[JobState, int, str]:
    """End an attempt; return where the job went, its ``rev``, and why it has no result.

    Args:
        tx: the transaction.
        seq: where the job is.
        after: where it goes unless it is condemned.
        why: why it has no result.
        when: the POSIX time at which it finished, or when it is due; its last delay; when its first attempt began.
        what: its attempts, the POSIX time at which the last one began, its result, errors, notes, progress and message.
    """
    if after in FINISHED:
        values: tuple[Any, ...] = (after.column, when[0], tx.next_turn(), why)
        found = tx.execute(_FINISH + _SETTLE, (*values, *what, seq)).fetchall()
    else:
        found = tx.execute(_GO_ON + _SETTLE, (after.column, None, *when, why, *what, seq)).fetchall()
    if not found:
        return _meet_fate(tx, seq, what)
    tx.count(RUNNING, after)
    tx.news = True
    return after, found[0][0], why


def _meet_fate(tx: Transaction, seq: int, what: tuple[Any, ...]) -> tuple[JobState, int, str]:
    query = "SELECT fate, attempts, why FROM job WHERE seq = ?"
    fate, attempts, why = tx.execute(query, (seq,)).fetchone()
    after = state_at(fate)
    what = (attempts, what[1], None, *what[3:])
    tx.execute("UPDATE job SET fate = NULL WHERE seq = ?", (seq,))
    if after in FINISHED:
        values: tuple[Any, ...] = (after.column, tx.now, tx.next_turn(), why)
        found = tx.execute(_FINISH + _SETTLE, (*values, *what, seq)).fetchall()
    else:
        # One that the end of its queue has interrupted stays in hand, so that the same end does not begin it again.
        values = (after.column, tx.owner, None, 0.0, None, why)
        found = tx.execute(_GO_ON + _SETTLE, (*values, *what, seq)).fetchall()
    tx.count(RUNNING, after)
    tx.news = True
    return after, found[0][0], why


def let_go(tx: Transaction) -> None:
    """Leave to others what is in hand here, and does not run."""
    if tx.execute("UPDATE job SET owner = NULL WHERE owner = ? AND state = 1", (tx.owner,)).rowcount:
        tx.fill_line()


def spoil(tx: Transaction, row: Row, errors: str | None) -> Row | None:
    """Make a dead letter of a job that this process has claimed, and cannot run."""
    tx.execute(f"{_FINISH}, errors = ? WHERE seq = ?", (FAILED.column, tx.now, tx.next_turn(), "", errors, row["seq"]))
    tx.count(state_at(row["state"]), FAILED)
    tx.news = True
    return tx.row("seq = ?", row["seq"])


def revive(tx: Transaction, seq: int) -> Row | None:
    """Make a dead letter pending; None where it is none.

    Raises:
        DuplicateName: an unfinished job has its key.
    """
    row = tx.row("seq = ? AND state = 5", seq)
    if row is None:
        return None
    if row["key"] is not None and tx.row("held_key = ?", row["key"]) is not None:
        raise DuplicateName("job", row["key"])
    tx.execute(
        "UPDATE job SET state = 1, held_key = key, turn = ?, attempts = 0, crashes = 0, delay = 0, first_begun = NULL,"
        " finished = NULL, ended = NULL, why = '', rev = rev + 1 WHERE seq = ?",
        (tx.next_turn(), seq),
    )
    tx.count(FAILED, PENDING)
    tx.fill_line()
    return tx.row("seq = ?", seq)


def promote(tx: Transaction) -> tuple[list[Row], bool]:
    """Let jobs whose time has come be pending, or expire; return those that changed, and whether there are more."""
    late = tx.execute("SELECT seq, state FROM job WHERE expires_at <= ? LIMIT ?", (tx.now + EARLY, _BATCH)).fetchall()
    due = tx.execute(
        "SELECT seq, state FROM job WHERE run_at <= ? ORDER BY run_at, seq LIMIT ?", (tx.now + EARLY, _BATCH)
    ).fetchall()
    rows: list[Row | None] = []
    for seq, state in late:
        rows.append(withdraw(tx, seq, state_at(state), EXPIRED, tx.now, "has expired: nobody began it in time"))
    gone = {seq for seq, _ in late}
    for seq, state in due:
        if seq in gone:
            continue
        tx.execute(
            "UPDATE job SET state = 1, run_at = NULL, turn = ?, rev = rev + 1 WHERE seq = ?", (tx.next_turn(), seq)
        )
        tx.count(state_at(state), PENDING)
        tx.fill_line()
        rows.append(tx.row("seq = ?", seq))
    return [row for row in rows if row is not None], _BATCH in {len(late), len(due)}


def rescue(tx: Transaction, owner: int, happened: str) -> tuple[list[Row], bool]:
    """Take over what belonged to a process that is dead; return the dead letters, and whether there is more.

    Args:
        tx: the transaction.
        owner: whose process is dead.
        happened: the moment of this rescue, in ISO 8601.
    """
    found = tx.execute(
        "SELECT seq, state, fate, attempts, crashes, errors FROM job WHERE owner = ? LIMIT ?", (owner, _BATCH)
    ).fetchall()
    ended: list[Row] = []
    for seq, state, fate, attempts, crashes, errors in found:
        if state_at(state) is PENDING:
            tx.execute("UPDATE job SET owner = NULL, rev = rev + 1 WHERE seq = ?", (seq,))
        elif fate is not None and state_at(fate) is CANCELLED:
            tx.execute(f"{_FINISH} WHERE seq = ?", (fate, tx.now, tx.next_turn(), "was cancelled", seq))
            tx.count(RUNNING, CANCELLED)
            ended += filter(None, [tx.row("seq = ?", seq)])
        elif fate is None and crashes >= CRASHESALLOWED:
            text = f"its process died while it ran, {crashes + 1} times"
            told = [
                *json.loads(errors or "[]"),
                {"attempt": attempts, "at": happened, "error": text, "traceback": text},
            ]
            tx.execute(
                f"{_FINISH}, crashes = crashes + 1, errors = ? WHERE seq = ?",
                (FAILED.column, tx.now, tx.next_turn(), "", json.dumps(told), seq),
            )
            tx.count(RUNNING, FAILED)
            ended += filter(None, [tx.row("seq = ?", seq)])
        else:  # an attempt that was cut short is not spent; that of an interrupted job has been given back before
            crashed = fate is None
            tx.execute(
                "UPDATE job SET state = 1, owner = NULL, fate = NULL, why = '', attempts = attempts - ?,"
                " crashes = crashes + ?, rev = rev + 1 WHERE seq = ?",
                (crashed, crashed, seq),
            )
            tx.count(RUNNING, PENDING)
        tx.fill_line()
    is_all = len(found) < _BATCH
    if is_all:
        tx.execute("DELETE FROM owner WHERE id = ?", (owner,))
    return ended, not is_all


def next_due(tx: Transaction) -> float | None:
    """Return the POSIX time of the next job that is due, or expires."""
    moments = tx.execute("SELECT min(run_at) FROM job WHERE run_at IS NOT NULL").fetchone()
    moments += tx.execute("SELECT min(expires_at) FROM job WHERE expires_at IS NOT NULL").fetchone()
    return min((moment for moment in moments if moment is not None), default=None)
