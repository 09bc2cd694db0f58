"""``SQLiteStore``: jobs in a file, where they outlive the process, and where several processes may share them.

The rows are the truth. In memory is what this process works on, and what somebody here holds; each row has a ``rev``
that goes up, and a job in memory never goes back to an older one. Every change is a step of ``_sqlite_steps.py`` in a
transaction that ``JobFile`` commits, together with those of other threads.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from threadkit import _sqlite_steps
from threadkit._errors import Closed, StoreError
from threadkit._records import COMPLETED, FINISHED, PENDING, RUNNING, JobError, JobRecord, JobState
from threadkit._sqlite_pick import Pick
from threadkit._sqlite_rows import SQL_INTEGER, Place, clean, pack_errors, pack_notes, pack_retry, unpack_errors
from threadkit._sqlite_steps import Claimed, New
from threadkit._sqlite_view import View
from threadkit._transaction import Row, Transaction, state_at

_COMMIT_WITHIN = 0.05  # seconds; what "eventual" may lose
_MOST_POSTED = 1000  # after so many, "eventual" waits for their commit


class SQLiteStore(View):
    """Keeps jobs in a file. They outlive the process, and several processes may work on them.

    Nothing to install and no server: the file is written by the standard library's ``sqlite3``. Jobs are run *at least
    once*: a job whose process dies is run again, by this process when it opens the file, or at once by another that
    has it open. One that was shown as completed never is. A job that ends its process for the third time becomes a dead
    letter.

    Args:
        path: the file; it is made where there is none, readable for its owner only. Not on a network drive.
        durability: what a ``submit()`` that has returned, and a job that was shown as completed, survive. ``"power"``:
            the death of the process and of the machine. ``"process"``: the death of the process; when the power goes,
            the last moments before may be undone. ``"eventual"``: as ``"process"``, but a ``submit()`` does not wait:
            what was submitted within the last 0.05 seconds may be lost with the process.
        codec: how payloads and results are kept; None is ``stores.JSON()``, which refuses what it would change.
        patience: how many seconds to wait while another program holds the file locked, before ``StoreLocked``.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> import tempfile, threadkit
        >>> folder = tempfile.mkdtemp()
        >>> with threadkit.WorkQueue(workers=0, store=SQLiteStore(f"{folder}/jobs.db")) as queue:
        ...     queue.declare("greet")
        ...     number = queue.submit("greet", "Ada").id
        >>> with threadkit.WorkQueue(workers=0, store=SQLiteStore(f"{folder}/jobs.db")) as queue:
        ...     print(queue.get(number).payload)
        Ada
    """

    # -- jobs come ----------------------------------------------------------------------------------------------------

    def add(self, record: JobRecord, *, replace: bool = False) -> JobRecord | None:
        """Take a new job in, unless an unfinished one has its key; see ``JobStore``.

        Raises:
            TypeError: its payload cannot be kept.
            ValueError: its payload, priority or retry cannot be kept.
            StoreError: the file cannot be written; the job is not in it.
        """
        try:
            new = self._packed(record)
            self._known.enter(record)
            if self._durability == "eventual" and self._is_listening and record.key is None:
                self._post(record, new)
                return None
            begins = self._may_hand_over if record.state is PENDING and self._line.is_served(record.name) else None
            seq, state, holder = self._file.run(
                lambda tx: _sqlite_steps.add(tx, new, record.state, replace=replace, begins=begins)
            )
        except BaseException:
            self._known.forget(record)
            self._room.update(None, 1)
            raise
        if not seq:
            self._known.forget(record)
        elif state is RUNNING:
            self._known.began(record, seq)
            self._handed.append(record)
            if self._is_closing:  # which is written first, and what has been handed is put back then
                self._put_back_handed()
        else:
            self._known.place(record, seq)
        if holder is None:
            return None
        return self._replaced(holder) if replace else self._known.learn(holder)

    def _replaced(self, holder: Row) -> JobRecord:
        """Return the job whose key a new one has taken, and show that it is cancelled, or condemned."""
        if state_at(holder["state"]) is RUNNING:
            record = self._known.learn(holder)
            self._known.condemn(record, state_at(holder["fate"]), holder["why"], holder)
            return record
        self._line.let_go()
        return self._known.learn(holder, is_mine=False)

    def add_all(self, records: Iterable[JobRecord]) -> None:
        """Take new jobs in, all or none, in one transaction; see ``DurableStore``."""
        batch = list(records)
        try:
            packed = [(record, self._packed(record)) for record in batch]
            for record in batch:
                self._known.enter(record)

            def step(tx: Transaction) -> list[int]:
                return [_sqlite_steps.add(tx, new, one.state)[0] for one, new in packed]

            places = self._file.run(step)
        except BaseException:
            for record in batch:
                self._known.forget(record)
            self._room.update(None, len(batch))
            raise
        for record, seq in zip(batch, places, strict=True):
            self._known.place(record, seq)

    def remove(self, record: JobRecord) -> bool:
        """Take a job out that has not begun; see ``JobStore``."""
        seq = self._seq(record)
        if not self._file.run(lambda tx: _sqlite_steps.remove(tx, seq)):
            return False
        self._known.forget(record)
        return True

    def push(self, record: JobRecord, *, front: bool = False) -> None:
        """Put a job in front that was in hand; a new one is in the line already."""
        if front:
            self._front.appendleft(record)

    def pull(self, record: JobRecord) -> bool:
        """Take a job back that was put in front."""
        try:
            self._front.remove(record)
        except ValueError:
            return False
        return True

    # -- jobs run -----------------------------------------------------------------------------------------------------

    def claim(self) -> JobRecord | None:
        """Take the next job; see ``JobStore``. One of a handler without limits runs already, as far as its row goes."""
        hand = self._hand
        hand.claims = True
        record, hand.job = hand.job, None
        if record is not None:
            return record
        for line in (self._handed, self._front):
            with contextlib.suppress(IndexError):
                return line.popleft()
        if not self.has_ready():  # as was found when the job before this one was settled
            return None
        with contextlib.closing(Pick(self._host.line_up, self._line.wanted())) as pick:
            try:
                claimed = self._file.run(lambda tx: None if self._is_closing else pick(tx))
                self._recover()
                return None if claimed is None else self._take(claimed, pick)
            except Closed:
                return None
            except StoreError as error:
                self._report(error)
                self._pause()
                return None

    def claim_oldest(self) -> JobRecord | None:
        """Return the job that has stood in the line longest. Linear in the number of jobs."""
        row = self._file.run(_sqlite_steps.oldest)
        return None if row is None else self._known.learn(row)

    def unclaim(self) -> None:
        """Put back what was claimed for this thread; see ``JobStore``."""
        hand = self._hand
        hand.claims = False
        record, hand.job = hand.job, None
        if record is not None and record.state is RUNNING:
            self._put_back(record)
        elif record is not None:  # it is in hand, and keeps its ticket
            self._front.append(record)
        if not self._host.may_begin():
            self._put_back_handed()

    def has_ready(self) -> bool:
        """Return whether there may be a job in the line."""
        if self._handed or self._front:
            return True
        return self._line.is_filled and (self._pending > 0 or self._file.is_anything_posted())

    def move(
        self, record: JobRecord, before: JobState, after: JobState, at: float | None = None, why: str = ""
    ) -> bool:
        """Move a job to another state; see ``JobStore``."""
        if after is RUNNING:
            return (record.state is RUNNING and record.row.is_mine) or self._begin(record)
        seq, text = self._seq(record), clean(why)
        row = self._file.run(lambda tx: _sqlite_steps.withdraw(tx, seq, before, after, at, text))
        if row is None:
            self.refresh(record)
            return False
        self._known.learn(row, is_mine=False)
        if self._line.let_go():
            self._host.tend_within(0)  # which wakes them
        return True

    def condemn(self, record: JobRecord, fate: JobState, why: str) -> bool:
        """Decide where a running job will go; see ``JobStore``."""
        seq, text = self._seq(record), clean(why)
        try:
            row = self._file.run(lambda tx: _sqlite_steps.condemn(tx, seq, fate, text))
        except StoreError as error:
            if fate in FINISHED or not record.row.is_mine:
                raise
            self._report(error)  # the queue ends: that it is interrupted is written when its thread has ended
            return self._known.condemn(record, fate, why, None)
        if row is None:
            self.refresh(record)
            return False
        return self._known.condemn(record, fate, why, row)

    def check(self, record: JobRecord) -> None:
        """Look whether a result can be kept; see ``JobStore``."""
        record.row.packed = None
        if record.value is not None:
            packed = self._codec.encode(record.value)
            self._file.try_value(packed)
            record.row.packed = packed

    def settle(self, record: JobRecord, after: JobState, at: float, why: str = "") -> JobState:
        """Move a job that has stopped running; see ``JobStore``. Waits for a file that cannot be written."""
        place: Place = record.row
        after, why = (record.fate, record.why) if record.fate is not None else (after, why)
        when: tuple[float | None, ...] = (at,)
        if after not in FINISHED:
            is_due = after is not PENDING and record.due is not None
            when = (self._posix(record.due) if is_due else None, record.delay, self._posix(record.first_begun))
        what = (
            *(record.attempts, record.started, place.packed if after is COMPLETED else None),
            *(pack_errors(record.errors), pack_notes(record.notes, record.id)),
            *(float(record.progress), clean(record.progress.message)),
        )
        hand, text = self._hand, clean(why)
        looks = hand.claims and hand.job is None and not (self._front or self._handed) and self._host.may_begin()

        def step(tx: Transaction) -> tuple[tuple[JobState, int, str], Claimed | None]:
            outcome = _sqlite_steps.settle(tx, place.seq, after, text, when, what)
            return outcome, None if self._is_closing else pick(tx)

        with contextlib.closing(Pick(self._host.line_up, self._line.wanted() if looks else None)) as pick:
            try:
                (after, rev, why), claimed = self._insist(step)
            except (StoreError, Closed):
                # The queue ends: what the job came to is written if the disk is back by the end. Else nobody knows of
                # it, and the job is run again.
                self._file.post(step)
                self._known.let_go(record)
                self._close_if_done()
                return PENDING
            self._known.settle(record, after, rev, why, at)
            if claimed is not None:
                hand.job = self._take(claimed, pick)
            elif self._is_closing:
                self._close_if_done()
        return after

    def revive(self, record: JobRecord) -> bool:
        """Make a dead letter pending again; see ``JobStore``.

        Raises:
            DuplicateName: an unfinished job has its key.
        """
        seq = self._seq(record)
        row = self._file.run(lambda tx: _sqlite_steps.revive(tx, seq))
        if row is None:
            return False
        self._known.learn(row)
        return True

    def runs_here(self, record: JobRecord) -> bool:
        """Return whether a job is run by this process."""
        return record.row is not None and record.row.is_mine and record.state is RUNNING

    def _begin(self, record: JobRecord) -> bool:
        """Begin a job that is in hand, or that its submitter wants to run.

        One in hand has its places in the limits of its handler, and nobody else here can begin it; so it is insisted
        on, as long as the queue is not closed.
        """
        seq = self._seq(record)
        run = self._insist if record.row.is_mine else self._file.run
        try:
            row = run(lambda tx: None if self._is_closing else _sqlite_steps.begin(tx, seq))
        except Closed:
            return False
        except StoreError as error:
            self._report(error)
            return False
        self._line.let_go()  # who has it here looks for the next
        if row is None:
            self.refresh(record, is_mine=False)
            return False
        self._known.learn(row, is_mine=True)
        return True

    def _take(self, claimed: Claimed, pick: Pick) -> JobRecord | None:
        """Return the job that was claimed; None where its payload cannot be read: then it is a dead letter.

        Raises:
            StoreError: the file cannot be written, and the queue is closed.
        """
        row = claimed.row
        try:
            if self._known.expects(row["id"], row["rev"]):  # most of what it says need not be read
                record = self._known.claimed(row, begins=claimed.begins)
            else:
                record = self._known.learn(row, is_mine=True)
        except Exception as error:  # the border of user code: a codec
            self._spoil(row["seq"], error)
            return None
        record.turn, record.ticket = row["turn"], pick.ticket()
        return record

    def _spoil(self, seq: int, error: Exception) -> None:
        """Make a dead letter of a job whose payload cannot be read."""
        failure = TypeError(f"the payload cannot be read: {error!r}")
        failure.__cause__ = error

        def step(tx: Transaction) -> Row | None:
            row = tx.row("seq = ? AND owner = ?", seq, tx.owner)
            if row is None:  # it has expired, or was cancelled
                return None
            told = JobError(row["attempts"], self._host.clock().now(), failure)
            return _sqlite_steps.spoil(tx, row, pack_errors((*unpack_errors(row["errors"], ()), told)))

        row = self._insist(step)
        if row is not None:
            self._ended.append(self._known.learn(row, is_mine=False))
            self._host.tend_within(0)

    def _post(self, record: JobRecord, new: New) -> None:
        """Have a job written soon; the commit is brought about by whoever calls next, or by tend()."""

        def step(tx: Transaction) -> None:
            _sqlite_steps.add(tx, new, record.state)

        posted = self._file.post(step)
        self._line.fill()
        if posted == 0:
            self._host.tend_within(_COMMIT_WITHIN)
        elif posted >= _MOST_POSTED:
            self._file.sync()

    def _may_hand_over(self) -> bool:
        """Return whether a worker is idle, and will be woken by whoever submits a job now."""
        return not self._is_closing and self._host.idle() > len(self._handed) and self._host.may_begin()

    def _packed(self, record: JobRecord) -> New:
        """Return what is inserted of a new job."""
        if record.priority not in SQL_INTEGER:
            raise ValueError(f"priority must have at most 64 bits where jobs are kept in a file, not {record.priority}")
        for text, name in ((record.name, "name"), (record.key, "key")):
            if text is not None and clean(text) != text:
                raise ValueError(f"{name} must be text that can be written down, not {text!r}")
        payload = None
        if record.payload is not None:
            try:
                payload = self._codec.encode(record.payload)
            except (TypeError, ValueError) as error:
                raise type(error)(f"payload cannot be kept: {error}") from error
        return New(
            *(record.id, record.name, payload, record.priority, record.key, self._posix(record.due)),
            *(self._posix(record.expires_at), record.created, record.timeout, pack_retry(record.retry)),
            json.dumps(dict(record.headers)) if record.headers else None,
        )
