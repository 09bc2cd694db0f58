"""What a job file shows: jobs by their id, key or state, and figures."""

from __future__ import annotations

from threadkit._records import FINISHED, PENDING, RUNNING, JobRecord, JobState
from threadkit._sqlite_rows import Place, clean
from threadkit._sqlite_upkeep import Upkeep
from threadkit._transaction import ALL, as_row

_SELECT = f"SELECT {ALL} FROM job "


class View(Upkeep):
    """The part of ``SQLiteStore`` that reads."""

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job, unless it is unknown or has been forgotten."""
        return self._first("WHERE id = ?", job_id)

    def holder(self, key: str) -> JobRecord | None:
        """Return the unfinished job that has a key."""
        return self._first("WHERE held_key = ?", key) if clean(key) == key else None

    def records(self, state: JobState | None = None) -> list[JobRecord]:
        """Return all jobs that are remembered, or those in one state, in the order of their coming."""
        if state is None:
            where = ""
        elif state in FINISHED:
            where = f"WHERE ended IS NOT NULL AND state = {state.column} "
        elif state is RUNNING:
            where = f"WHERE owner IS NOT NULL AND state = {state.column} "
        elif state is PENDING:
            where = f"WHERE state = {state.column} "
        else:
            where = f"WHERE run_at IS NOT NULL AND state = {state.column} "
        rows = self._file.read(f"{_SELECT}{where}ORDER BY seq")
        return [self._known.learn(as_row(row)) for row in rows]

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
