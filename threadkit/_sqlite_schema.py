"""What stands in the file of a ``SQLiteStore``: its tables, its version, and how an older one is brought up to date.

One file is one queue. ``job`` holds a row for each job that is remembered, ``tally`` a single row of counts, ``owner``
a row for each queue that has the file open. States are numbered by ``JobState.column``.
"""

from __future__ import annotations

APPLICATION_ID = 0x746B6A73  # "tkjs", at byte 68 of the file
VERSION = 2  # PRAGMA user_version, at byte 60

# Beside what a job is: ``turn`` is its place in the line, ``held_key`` its key while it is unfinished, ``owner`` who
# runs it or has it in hand; ``run_at`` is when it is due, ``ended`` its place among the finished, and ``rev`` goes up
# with each change, so that an older look at a row never overwrites a younger one. Times are POSIX time.
COLUMNS = [
    "seq",
    "id",
    "name",
    "payload",
    "state",
    "priority",
    "turn",
    "key",
    "owner",
    "fate",
    "run_at",
    "expires_at",
    "attempts",
    "crashes",
    "created",
    "started",
    "finished",
    "delay",
    "first_begun",
    "timeout",
    "retry",
    "headers",
    "errors",
    "notes",
    "progress",
    "message",
    "result",
    "why",
    "rev",
]

CREATE = """
CREATE TABLE job (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL, payload, state INTEGER NOT NULL,
    priority INTEGER NOT NULL, turn INTEGER NOT NULL, key TEXT, held_key TEXT, owner INTEGER, fate INTEGER,
    run_at REAL, expires_at REAL, attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, started REAL, finished REAL, ended INTEGER, delay REAL NOT NULL DEFAULT 0, first_begun REAL,
    timeout REAL, retry TEXT, headers TEXT, errors TEXT, notes, progress REAL NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '', result, why TEXT NOT NULL DEFAULT '', rev INTEGER NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX job_id ON job (id);
CREATE UNIQUE INDEX job_key ON job (held_key) WHERE held_key IS NOT NULL;
CREATE INDEX job_line ON job (name, priority DESC, turn) WHERE state = 1 AND owner IS NULL;
CREATE INDEX job_due ON job (run_at) WHERE run_at IS NOT NULL;
CREATE INDEX job_expiry ON job (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX job_owner ON job (owner) WHERE owner IS NOT NULL;
CREATE INDEX job_ended ON job (state, ended) WHERE ended IS NOT NULL;
CREATE TABLE tally (
    scheduled INTEGER NOT NULL, pending INTEGER NOT NULL, running INTEGER NOT NULL, retrying INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL, expired INTEGER NOT NULL,
    discarded INTEGER NOT NULL, turns INTEGER NOT NULL, kept_completed INTEGER NOT NULL, kept_failed INTEGER NOT NULL,
    kept_cancelled INTEGER NOT NULL, kept_expired INTEGER NOT NULL, kept_discarded INTEGER NOT NULL
);
INSERT INTO tally VALUES (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
CREATE TABLE owner (id INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL, doorbell TEXT);
"""

_ENDS = ("completed", "failed", "cancelled", "expired", "discarded")

# MIGRATIONS[n] brings a file of version n to version n + 1, inside the transaction that also writes the new number.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE job ADD COLUMN headers TEXT",
        "DROP INDEX job_ended",
        "CREATE INDEX job_ended ON job (state, ended) WHERE ended IS NOT NULL",
        "ALTER TABLE tally DROP COLUMN kept",
        *(f"ALTER TABLE tally ADD COLUMN kept_{state} INTEGER NOT NULL DEFAULT 0" for state in _ENDS),
        *(
            f"UPDATE tally SET kept_{state} = (SELECT count(*) FROM job WHERE ended IS NOT NULL AND state = {number})"
            for number, state in enumerate(_ENDS, start=4)
        ),
    ),
}
