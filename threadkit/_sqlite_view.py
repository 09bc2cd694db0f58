"""What a job file shows: jobs by their id, key or state, and figures."""

from __future__ import annotations

from threadkit import _sqlite_retention
from threadkit._records import ANY_JOB, FINISHED, RETRYING, RUNNING, SCHEDULED, JobFilter, JobRecord, JobState
from threadkit._sqlite_rows import Place, clean
from threadkit._sqlite_upkeep import Upkeep
from threadkit._transaction import ALL, as_row

_SELECT = f"SELECT {ALL} FROM job "

# What is true of all jobs of a state anyway, and lets an index be used.
_INDEXED = {
    **dict.fromkeys(JobState, ""),
    **dict.fromkeys(FINISHED, "ended IS NOT NULL AND "),
    **dict.fromkeys((SCHEDULED, RETRYING), "run_at IS NOT NULL AND "),
    RUNNING: "owner IS NOT NULL AND ",
}


class View(Upkeep):
    """The part of ``SQLiteStore`` that reads."""

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job, unless it is unknown or has been forgotten."""
        return self._first("WHERE id = ?", job_id)

    def holder(self, key: str) -> JobRecord | None:
        """Return the unfinished job that has a key."""
        return self._first("WHERE held_key = ?", key) if clean(key) == key else None

    def records(self, wanted: JobFilter = ANY_JOB, limit: int | None = None) -> list[JobRecord]:
        """Return the jobs that are remembered and wanted, in the order of their coming; at most so many."""
        state = wanted.state
        terms = {
            f"{'' if state is None else _INDEXED[state]}state = ?": None if state is None else state.column,
            "name = ?": None if wanted.name is None else clean(wanted.name),
            "key = ?": None if wanted.key is None else clean(wanted.key),
            "created >= ?": wanted.since,
            "created < ?": wanted.until,
        }
        given = {term: value for term, value in terms.items() if value is not None}
        where = f"WHERE {' AND '.join(given)} " if given else ""
        rows = self._file.read(f"{_SELECT}{where}ORDER BY seq LIMIT ?", *given.values(), -1 if limit is None else limit)
        return [self._known.learn(as_row(row)) for row in rows]

    def forget(self, record: JobRecord) -> bool:
        """Forget a job that has finished; False where it has not, or is forgotten already."""
        return self._file.run(lambda tx: _sqlite_retention.forget(tx, record.id))

    def in_hand(self) -> list[JobRecord]:
        """Return the jobs that somebody in this process holds, looks at or runs."""
        return self._known.all()

    def position(self, record: JobRecord) -> int:
        """Return how many pending jobs come before this one. Linear in their number."""
        (found,) = self._file.read(
            "SELECT count(*) FROM job AS other, (SELECT priority, turn FROM job WHERE seq = ?) AS this"
            " WHERE other.state = 1 AND (-other.priority, other.turn) < (-this.priority, this.turn)",
            self._seq(record),
        )
        count: int = found[0]
        return count

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of one moment, with those that have been forgotten."""
        (tally,) = self._file.read("SELECT * FROM tally")
        return dict(zip(JobState, tally, strict=False))

    def refresh(self, record: JobRecord, *, is_mine: bool | None = None) -> None:
        """Look again at a job; see ``DurableStore``."""
        rows = self._file.read(f"{_SELECT}WHERE id = ?", record.id)
        if rows:
            self._known.learn(as_row(rows[0]), is_mine=is_mine)
        else:
            self._known.lose(record)

    def _first(self, where: str, value: str) -> JobRecord | None:
        rows = self._file.read(_SELECT + where, value)
        return self._known.learn(as_row(rows[0])) if rows else None

    def _seq(self, record: JobRecord) -> int:
        """Return where the row of a job is."""
        place: Place = record.row
        if not place.seq:  # it was submitted a moment ago, and not waited for
            rows = self._file.read("SELECT seq FROM job WHERE id = ?", record.id)
            self._known.place(record, rows[0][0] if rows else 0)
        return place.seq

    def _posix(self, moment: float | None) -> float | None:
        return None if moment is None else self._almanac.posix(moment)
