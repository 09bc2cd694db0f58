"""How jobs become rows, and rows jobs; and ``Known``, the jobs of a file that this process has in memory."""

from __future__ import annotations

import functools
import json
import threading
import weakref
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any, cast

import attrs

from threadkit._codec import Codec
from threadkit._observe import logger
from threadkit._records import (
    CANCELLED,
    COMPLETED,
    FINISHED,
    RUNNING,
    JobError,
    JobRecord,
    JobState,
    Progress,
    RecordedError,
)
from threadkit._storing import Host
from threadkit._transaction import Row, state_at
from threadkit.backoff import Exponential, Retry, Sequence

_RECENT = 512  # jobs that are kept in memory although nobody holds them
_TRACEBACK_KEPT = 8_000  # characters of each, from its end
SQL_INTEGER = range(-(2**63), 2**63)


@attrs.define(eq=False)
class Place:
    """What a store notes on a job: where its row is, and which state of it this process knows."""

    seq: int
    rev: int = 0
    crashes: int = 0
    is_mine: bool = False  # it runs here, or is in hand here; then the job in memory is ahead of its row
    packed: Any = None  # its result


class Known:
    """The jobs that somebody in this process holds, looks at or runs: one object for each, however it was found.

    Args:
        host: what makes them.
        codec: what reads payloads and results.
        to_moment: turns POSIX time into a moment of the clock's ``monotonic()``.
    """

    def __init__(self, host: Host, codec: Codec, to_moment: Callable[[float], float]) -> None:
        self._host = host
        self._codec = codec
        self._to_moment = to_moment
        # Guards the two below, and what a row says about each job. Reentrant for finalizers.
        self.lock = threading.RLock()
        self._by_id: weakref.WeakValueDictionary[str, JobRecord] = weakref.WeakValueDictionary()
        self._mine: dict[int, JobRecord] = {}
        self._recent: deque[JobRecord] = deque(maxlen=_RECENT)  # which are likely to be run soon, and need not be read

    def all(self) -> list[JobRecord]:
        """Return all of them."""
        # Not values(), which goes through the dict step by step, while others put jobs into it: this is a single copy.
        return [record for found in self._by_id.valuerefs() if (record := found()) is not None]

    def mine(self) -> list[JobRecord]:
        """Return those that run here, or are in hand here."""
        return list(self._mine.copy().values())

    def enter(self, record: JobRecord) -> None:
        """Know a job whose row is about to be written, so that whoever claims it finds the same object."""
        with self.lock:
            record.row = Place(0)
            self._by_id[record.id] = record
            self._recent.append(record)

    def place(self, record: JobRecord, seq: int) -> None:
        """Note where the row of a new job is, unless somebody has learned more by now."""
        with self.lock:
            place: Place = record.row
            place.seq, place.rev = seq, max(place.rev, 1)

    def forget(self, record: JobRecord) -> None:
        """Do not know a job any more that has no row."""
        with self.lock:
            self._by_id.pop(record.id, None)
            record.state = CANCELLED

    def condemn(self, record: JobRecord, fate: JobState, why: str, row: Row | None) -> bool:
        """A running job has been condemned, in its row too if that is given; return False where it was before."""
        with self.lock:
            if not record.row.is_mine and row is not None:
                self.learn(row)
                return True
            is_news = record.state is RUNNING and record.fate is None
            if is_news:  # else condemn_mine() may have read the very row by now
                self._condemn(record, fate, why)
            record.row.rev = record.row.rev if row is None else row["rev"]
            return is_news or row is not None

    def condemn_mine(self, found: list[tuple[int, int, str, int]]) -> list[JobRecord]:
        """Look through the rows that are condemned; return the jobs that did not know it."""
        news: list[JobRecord] = []
        with self.lock:
            for seq, fate, why, rev in found:
                record = self._mine.get(seq)
                if record is not None and record.state is RUNNING and record.fate is None:
                    self._condemn(record, state_at(fate), why)
                    record.row.rev = rev
                    news.append(record)
        return news

    def settle(self, record: JobRecord, after: JobState, rev: int, why: str, at: float) -> None:
        """A running job has come to the end of an attempt."""
        with self.lock:
            place: Place = record.row
            if rev > place.rev:  # else somebody has run it again by now
                self._keep(record, is_mine=False)
                if record.fate is not None or after is not COMPLETED:
                    record.value = None
                record.fate, place.packed, place.rev = None, None, rev
                record.why = why
                record.finished = at if after in FINISHED else None
                record.state = after

    def let_go(self, record: JobRecord) -> None:
        """Note that a job does not run here any more, whatever its row says."""
        with self.lock:
            self._keep(record, is_mine=False)

    def _condemn(self, record: JobRecord, fate: JobState, why: str) -> None:
        record.fate, record.why = fate, why
        record.attempts -= fate not in FINISHED  # no attempt is spent on what goes back to where it came from

    def _keep(self, record: JobRecord, *, is_mine: bool) -> None:
        """Note whether a job is this process's. The lock MUST be held."""
        place: Place = record.row
        place.is_mine = is_mine
        if is_mine:
            self._mine[place.seq] = record
        else:
            self._mine.pop(place.seq, None)

    def learn(self, row: Row, *, is_mine: bool | None = None) -> JobRecord:
        """Return the job of a row, and have it show what the row says, unless it knows better.

        Args:
            row: the row.
            is_mine: whether this process has claimed the job, or let it go, by what made the row so; None: neither.

        Raises:
            Exception: whatever the codec raises where it cannot read the payload of a job that is to be run.
        """
        payload, value = self._read(row, "payload", must=is_mine is True), self._read(row, "result")
        record = self._by_id.get(row["id"])
        if record is None:  # made before the lock is taken: to make one takes the lock of the handlers
            record = self._host.restore(row["id"], row["seq"], row["name"], payload, row["created"])
            record.row = Place(row["seq"])
        with self.lock:
            record = self._by_id.setdefault(record.id, record)
            place: Place = record.row
            place.seq = row["seq"]
            if row["rev"] > place.rev and (is_mine is not None or not place.is_mine):
                if is_mine is False:
                    self._keep(record, is_mine=False)
                place.rev, place.crashes = row["rev"], row["crashes"]
                self._show(record, row)
                record.value = value
            if is_mine:  # even where somebody has looked at the row since it was claimed, and knows as much
                record.payload = payload
                # The row has counted the attempt that is to begin; the job does so when it begins.
                record.attempts = row["attempts"] - (state_at(row["state"]) is RUNNING)
                self._keep(record, is_mine=True)
            return record

    def expects(self, job_id: str, rev: int) -> bool:
        """Return whether a job is in memory as it was just before this ``rev``, or later."""
        with self.lock:
            record = self._by_id.get(job_id)
            if record is None or record.row.rev < rev - 1:
                return False
            self._recent.append(record)  # so that it is there for claimed()
            return True

    def claimed(self, row: Row, *, begins: bool) -> JobRecord:
        """Return a job that this process has just claimed, and that it knew all of but that; see ``expects()``.

        Raises:
            Exception: whatever the codec raises where it cannot read the payload.
        """
        payload = None if row["payload"] is None else self._codec.decode(row["payload"])
        with self.lock:
            record = self._by_id[row["id"]]
            place: Place = record.row
            place.seq = row["seq"]
            if place.rev < row["rev"]:
                place.rev = row["rev"]
                record.state = RUNNING if begins else record.state
            # The row has counted the attempt that is to begin; the job does so when it begins.
            record.payload, record.attempts = payload, row["attempts"] - begins
            self._keep(record, is_mine=True)
        return record

    def began(self, record: JobRecord, seq: int) -> None:
        """A new job was begun as it was submitted."""
        with self.lock:
            place: Place = record.row
            place.seq, place.rev = seq, max(place.rev, 1)
            record.state = RUNNING
            self._keep(record, is_mine=True)

    def lose(self, record: JobRecord) -> None:
        """Note that there is no row of a job any more: it has finished elsewhere, and been forgotten."""
        with self.lock:
            if record.state not in FINISHED:
                record.state, record.why = CANCELLED, "ended in another process, and has been forgotten"

    def _read(self, row: Row, column: str, *, must: bool = False) -> Any:
        data = row[column]
        if data is None:
            return None
        try:
            return self._codec.decode(data)
        except Exception:  # the border of user code
            if must:
                raise
            logger.exception("the %s of job %s cannot be read, and is shown as it is kept", column, row["id"])
            return data

    def _show(self, record: JobRecord, row: Row) -> None:
        record.state = state_at(row["state"])
        record.fate = None if row["fate"] is None else state_at(row["fate"])
        record.priority, record.turn, record.key = row["priority"], row["turn"], row["key"]
        record.attempts, record.delay, record.timeout = row["attempts"], row["delay"], row["timeout"]
        if row["run_at"] is not None:  # else its time has come, and how long ago is still of interest
            record.due = self._moment(row["run_at"])
        record.expires_at = self._moment(row["expires_at"])
        record.first_begun = self._moment(row["first_begun"])
        record.created, record.started, record.finished = row["created"], row["started"], row["finished"]
        record.retry = unpack_retry(row["retry"])
        if row["headers"] is not None:
            record.headers = MappingProxyType(json.loads(row["headers"]))
        record.errors = unpack_errors(row["errors"], record.errors)
        record.progress = Progress(row["progress"], row["message"])
        if row["notes"] is not None:
            record.notes = json.loads(row["notes"])
        record.why = row["why"]

    def _moment(self, posix: float | None) -> float | None:
        return None if posix is None else self._to_moment(posix)


def pack_errors(errors: tuple[JobError, ...]) -> str | None:
    """Return errors as text."""
    if not errors:
        return None
    return json.dumps([_packed_error(error) for error in errors])


def _packed_error(error: JobError) -> dict[str, Any]:
    packed = error.as_dict()
    packed["traceback"] = packed["traceback"][-_TRACEBACK_KEPT:]
    return packed


def unpack_errors(text: str | None, known: tuple[JobError, ...]) -> tuple[JobError, ...]:
    """Return errors from text; of those that happened here, the very exceptions."""
    if text is None:
        return ()
    here = {(error.attempt, error.at.isoformat()): error for error in known}
    return tuple(
        here.get((each["attempt"], each["at"]))
        or JobError(
            each["attempt"], datetime.fromisoformat(each["at"]), RecordedError(each["error"], each["traceback"])
        )
        for each in json.loads(text)
    )


def pack_notes(notes: dict[str, Any] | None, job_id: str) -> str | None:
    """Return a job's own notes as text; what JSON does not know becomes its ``str()``."""
    if not notes:
        return None
    try:
        return json.dumps(notes, default=str)
    except (TypeError, ValueError):
        logger.exception("the meta of job %s cannot be kept", job_id)
        return None


def pack_retry(retry: Retry | None) -> str | None:
    """Return a retry as text.

    Raises:
        ValueError: it holds functions or classes of the user's, which a file cannot.
    """
    if retry is None:
        return None
    backoff = retry.backoff
    is_plain = retry.on is Exception and retry.stop is None and retry.otherwise is None
    if not is_plain or type(backoff) not in {Exponential, Sequence}:
        raise ValueError(
            "retry of a job that is kept in a file must have a number of attempts, a backoff of threadkit.backoff, "
            f"and neither on nor otherwise, but is {retry!r}; "
            "give such a retry to the handler or to the queue"
        )
    fields = attrs.asdict(cast("Any", backoff))
    return json.dumps({"max_attempts": retry.max_attempts, "timeout": retry.timeout, "backoff": fields})


@functools.lru_cache(maxsize=64)
def unpack_retry(text: str | None) -> Retry | None:
    """Return a retry from text."""
    if text is None:
        return None
    fields = json.loads(text)
    backoff = fields["backoff"]
    made = Sequence(tuple(backoff["delays"])) if "delays" in backoff else Exponential(**backoff)
    return Retry(fields["max_attempts"], made, timeout=fields["timeout"])


def clean(text: str) -> str:
    """Return text that SQLite takes: without halves of characters."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
