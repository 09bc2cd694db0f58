"""What ``SQLiteStore`` promises beyond what every store does: what it keeps, what it refuses, and what it survives."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import attrs
import pytest
from helpers import HOST, PATIENCE, Background, Blocker, Gate, bounds

from threadkit import (
    Closed,
    DuplicateName,
    Full,
    JobCancelled,
    JobFailed,
    JobState,
    Lifecycle,
    RecordedError,
    Retry,
    StoreError,
    StoreFormatError,
    StoreLocked,
    WorkQueue,
    _jobfile,
    _sqlite,
    _sqlite_file,
    _sqlite_line,
    _sqlite_steps,
    backoff,
    events,
    stores,
)
from threadkit._clock import SYSTEM_CLOCK
from threadkit._jobfile import JobFile
from threadkit._records import JobRecord
from threadkit._sqlite_line import Wanted
from threadkit._sqlite_pick import Pick
from threadkit._sqlite_schema import MIGRATIONS, VERSION
from threadkit.testing import VirtualClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def new_queue(path, durability="process", *, workers=1, **options) -> WorkQueue:
    return WorkQueue(workers=workers, store=stores.SQLiteStore(path, durability, patience=0.05), **options)


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_jobs_outlive_their_queue(path):
    """A job shows all that is known about it when the file is opened again."""
    with new_queue(path, retry=Retry(2, backoff.constant(0))) as queue:

        @queue.handler
        def fail(payload, ctx):
            ctx.set_progress(0.5, "half")
            raise ValueError(payload)

        @queue.handler
        def double(payload):
            return {"twice": 2 * payload}

        job = queue.submit(fail, "no", priority=3, timeout=60)
        job.meta["color"] = "red"
        assert isinstance(job.exception(PATIENCE), JobFailed)
        done = queue.submit(double, 21)
        assert done.result(PATIENCE) == {"twice": 42}
    with new_queue(path, workers=0) as queue:
        again = queue.get(job.id)
        assert again is not job
        for name in ("id", "name", "payload", "state", "attempts", "priority", "timeout", "meta", "created_at"):
            assert getattr(again, name) == getattr(job, name), name
        assert (again.started_at, again.finished_at) == (job.started_at, job.finished_at)
        assert (again.progress, again.progress.message) == (0.5, "half")
        first, second = again.errors
        assert isinstance(first.error, RecordedError)
        assert (str(first), first.at) == ("attempt 1: ValueError: no", job.errors[0].at)
        assert second.traceback == job.errors[1].traceback
        assert isinstance(again.exception(0), JobFailed)
        assert again.exception(0).__cause__ is second.error
        assert queue.get(done.id).result(0) == {"twice": 42}
        assert queue.stats().completed == 1


def test_the_retry_of_a_job_is_kept(path):
    """A job's own retry outlives its queue; one with functions or classes of the user's is refused."""
    kept = [
        Retry(7, backoff.exponential(2, cap=9, jitter=None), timeout=60),
        Retry(math.inf, backoff.sequence(1, 2)),
        Retry(2),
    ]
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        jobs = [queue.submit("work", retry=retry) for retry in kept]
        for refused in (Retry(2, on=OSError), Retry(lambda state: True), Retry(otherwise=Retry())):
            with pytest.raises(ValueError, match="to the handler or to the queue"):
                queue.submit("work", retry=refused)
    with new_queue(path, workers=0) as queue:
        assert [queue.get(job.id).retry for job in jobs] == kept


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        ({"to": ("a", "b")}, r"value\['to'\] is a tuple"),
        ([1, {"x": [{2: 3}]}], r"value\[1\]\['x'\]\[0\] has 2 for a key"),
        ([math.nan], r"value\[0\] is nan"),
        (b"bytes", "value is a bytes"),
        (JobState.PENDING, "value is a JobState"),
    ],
)
def test_a_payload_that_json_would_change_is_refused(path, payload, where):
    """A payload that would come back as something else is refused at submit, and the message says where it is."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        with pytest.raises((TypeError, ValueError), match=where):
            queue.submit("work", payload)
        assert queue.stats().submitted == 0


def test_a_payload_that_holds_itself_is_refused(path):
    """A payload without an end is refused."""
    payload: list[object] = []
    payload.append(payload)
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        with pytest.raises(ValueError, match="holds itself"):
            queue.submit("work", payload)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, 2**80, "\ud800 \0", [], {"a": [{"b": None}]}])
def test_what_json_carries_comes_back(path, value):
    """What JSON carries is what the handler gets, and what it returns is the result."""
    with new_queue(path) as queue:
        queue.handler("echo")(lambda payload: payload)
        result = queue.submit("echo", value).result(PATIENCE)
        assert (result, type(result)) == (value, type(value))


def test_a_result_that_cannot_be_kept_fails_the_job(path, quiet):
    """A job whose result cannot be kept is a dead letter at once, and its error says why."""
    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: {payload})
        job = queue.submit("work", 1)
        failure = job.exception(PATIENCE)
        assert isinstance(failure.__cause__, TypeError)
        assert "the result cannot be kept: value is a set" in str(failure.__cause__)
        assert (job.state, job.attempts) == (JobState.FAILED, 1)


class AsItIs:
    """A codec that leaves everything as it is."""

    def encode(self, value):
        return value

    def decode(self, data):
        return data


@pytest.mark.parametrize("value", ["\ud800", 2**80, object(), "x" * 200_000, "x" * 80_000])
def test_a_result_that_sqlite_does_not_take_fails_the_job(path, quiet, value):
    """A job whose result SQLite refuses, alone or in its row, is a dead letter, and its worker goes on."""
    with WorkQueue(workers=1, store=stores.SQLiteStore(path, "process", codec=AsItIs())) as queue:
        for connection in (queue._store._file._reader, queue._store._file._writer):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        queue.handler("work")(lambda payload: value)
        queue.handler("fine")(lambda payload: 7)
        job = queue.submit("work", "x" * 40_000)
        assert isinstance(job.exception(PATIENCE), JobFailed)
        assert isinstance(job.errors[-1].error, TypeError | ValueError)
        assert queue.submit("fine").result(PATIENCE) == 7


def test_a_payload_that_sqlite_does_not_take_is_refused(path):
    """A payload that a codec passes and SQLite does not take is refused at submit."""
    with WorkQueue(workers=0, store=stores.SQLiteStore(path, codec=AsItIs())) as queue:
        queue.declare("work")
        with pytest.raises(ValueError, match="SQLite does not take it"):
            queue.submit("work", object())
        assert queue.stats().submitted == 0


def test_a_codec_of_ones_own(path, quiet):
    """A codec keeps what it likes; a payload that it cannot read later is a dead letter, and shown as it is kept."""

    class Hex:
        def encode(self, value):
            return bytes(value).hex()

        def decode(self, data):
            return bytes.fromhex(data)

    store = stores.SQLiteStore(path, codec=Hex())
    with WorkQueue(workers=0, store=store) as queue:
        queue.declare("work")
        good, bad = queue.submit("work", b"abc"), queue.submit("work", b"")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE job SET payload = 'xyz' WHERE id = ?", (bad.id,))
    connection.commit()
    connection.close()
    with WorkQueue(workers=1, store=stores.SQLiteStore(path, codec=Hex())) as queue:
        queue.handler("work")(lambda payload: payload)
        assert queue.get(good.id).result(PATIENCE) == b"abc"
        dead = queue.get(bad.id)
        assert isinstance(dead.exception(PATIENCE), JobFailed)
        assert "the payload cannot be read" in str(dead.errors[-1].error)
        assert dead.payload == "xyz"


def test_what_a_file_cannot_hold_is_refused(path):
    """Numbers of more than 64 bits and halves of characters are refused where SQLite could not keep them."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        with pytest.raises(ValueError, match="64 bits"):
            queue.submit("work", priority=2**63)
        with pytest.raises(ValueError, match="key must be text that can be written"):
            queue.submit("work", key="\ud800")
        assert queue.submit("work", key="k").state is JobState.PENDING


def test_waiting_jobs_are_not_in_memory(path):
    """Of jobs that nobody holds the file knows, and memory but a few."""
    with new_queue(path, workers=0, maxsize=math.inf) as queue:
        queue.declare("work")
        queue.submit_many("work", range(2000))
        assert len(queue._store.in_hand()) <= 512
        assert queue.stats().pending == 2000


def test_many_are_submitted_in_one_transaction(path):
    """submit_many() takes all payloads, in order, or none where one of them is refused."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        seen = []
        queue.observe(seen.append)
        jobs = queue.submit_many("work", [1, 2, 3])
        assert [type(event) for event in seen] == [events.JobSubmitted] * 3
        with pytest.raises(TypeError, match="payload cannot be kept"):
            queue.submit_many("work", [4, {5}])
        assert queue.jobs() == jobs
    with pytest.raises(Closed):
        queue.submit_many("work", [6])


def test_many_are_submitted_as_there_is_room(path):
    """submit_many() on a queue with less room writes what there is room for, and refuses the rest."""
    with new_queue(path, workers=0, maxsize=2, on_full="reject") as queue:
        queue.declare("work")
        with pytest.raises(Full):
            queue.submit_many("work", [1, 2, 3])
        assert [job.payload for job in queue.jobs()] == [1, 2]
    with new_queue(path, workers=0, maxsize=2, on_full="caller_runs") as queue:
        queue.handler("work")(lambda payload: payload)
        assert [job.state for job in queue.submit_many("work", [4, 5])] == [JobState.COMPLETED] * 2


def test_the_bound_is_of_the_file(path):
    """What waits in the file counts, whoever put it there, and what is refused leaves no trace."""
    with new_queue(path, workers=0, maxsize=2, on_full="reject") as queue:
        queue.declare("work")
        queue.submit("work", 1, key="a")
        queue.submit("work", 2)
        with pytest.raises(Full):
            queue.submit("work", 3)
        assert queue.submit("work", 3, key="a").payload == 1
    with new_queue(path, workers=0, maxsize=2, on_full="reject") as queue:
        queue.declare("work")
        with pytest.raises(Full):
            queue.submit("work", 3)
        assert queue.cancel(queue.jobs()[0].id)
        queue.submit("work", 4)
        with pytest.raises(Full):
            queue.submit("work", 5)


def test_a_submit_waits_for_room(path):
    """A submit that waits for room goes on when a job begins."""
    blocker = Blocker()
    with new_queue(path, maxsize=1) as queue:
        queue.handler("work")(lambda payload: blocker() and None)
        queue.submit("work", 1)
        blocker.wait_until_called()
        queue.submit("work", 2)
        blocker.let_go()
        queue.submit("work", 3)
        assert queue.drain(PATIENCE)


async def submit_on_loop(queue):
    return await queue.asubmit("work", 21)


def test_submit_on_an_event_loop(path):
    """asubmit() writes without keeping the event loop from its work."""
    import asyncio

    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: 2 * payload)
        assert asyncio.run(submit_on_loop(queue)).result(PATIENCE) == 42


def test_limits_hold_jobs_of_a_file(path):
    """A handler's limits hold for jobs of a file, and what they hold is given back when the queue ends."""
    blocker = Blocker()
    with new_queue(path, workers=3) as queue:
        queue.handler("one", concurrency=1)(lambda payload: blocker() and None)
        queue.handler("free")(lambda payload: payload)
        jobs = queue.submit_many("one", [1, 2, 3])
        blocker.wait_until_called()
        assert queue.submit("free", 1).result(PATIENCE) == 1
        assert [job.state for job in jobs].count(JobState.RUNNING) == 1
        assert jobs[2].cancel()
        blocker.let_go()
        assert queue.drain(PATIENCE)
        assert [job.state for job in jobs] == ["completed", "completed", "cancelled"]


def test_eventual_submits_are_committed_soon(path):
    """With durability "eventual" a submit does not wait; what was submitted is found by whoever asks, and run."""
    with new_queue(path, "eventual", maxsize=math.inf) as queue:
        queue.handler("work")(lambda payload: payload)
        jobs = [queue.submit("work", number) for number in range(300)]
        assert queue.get(jobs[-1].id) is jobs[-1]
        assert queue.drain(6 * PATIENCE)
        assert queue.stats().completed == 300
    with new_queue(path, "eventual", workers=0) as queue:
        queue.declare("later")
        job = queue.submit("later", 1)
        assert job.cancel()
        assert queue.stats().cancelled == 1


def test_an_eventual_submit_needs_nobody_to_be_committed(path):
    """What was submitted with durability "eventual" is on the disk soon, although nobody waits for it."""
    with new_queue(path, "eventual", workers=0) as queue:
        queue.declare("work")
        committed = Gate()
        tend = queue._store.tend

        def tended():
            outcome = tend()
            if not queue._store._file.is_anything_posted():
                committed.open()
            return outcome

        queue._store.tend = tended
        queue.submit("work", 1)
        committed.pass_through()


# -- what a stop leaves -----------------------------------------------------------------------------------------------


def test_a_stop_leaves_what_waits(path):
    """What waits at a stop is left in the file, and run by the next queue; who waits for it here is told."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        job = queue.submit("work", 1)
    assert isinstance(job.exception(0), JobCancelled)
    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: payload)
        assert queue.get(job.id).result(PATIENCE) == 1


def test_an_interrupted_job_is_this_processs_until_its_thread_ends(path, quiet):
    """A job that is interrupted is not run by another while its thread goes on, and spends no attempt."""
    blocker = Blocker()
    queue = new_queue(path)
    queue.handler("work")(lambda payload: blocker() and None)
    queue.start()
    job = queue.submit("work", 1)
    blocker.wait_until_called()
    queue.stop()
    assert not queue.join(0)
    queue.close()
    assert isinstance(job.exception(0), JobCancelled)
    with new_queue(path, workers=0) as other:
        seen = other.get(job.id)
        assert (seen.state, seen.attempts) == (JobState.RUNNING, 0)
    blocker.let_go()
    assert queue.join(PATIENCE)
    assert not queue._store._file.is_open
    with new_queue(path) as other:
        other.handler("work")(lambda payload: "done")
        again = other.get(job.id)
        assert again.result(PATIENCE) == "done"
        assert again.attempts == 1


def test_a_drain_does_not_begin_again_what_it_interrupts(path):
    """A job that unwinds for a stop is interrupted once, left to nobody while its queue drains, and free at its end."""
    begun, runs = Gate(), []
    queue = new_queue(path, on_stop="drain")

    @queue.handler
    def work(payload, ctx):
        runs.append(payload)
        begun.open()
        assert ctx.token.wait(PATIENCE)
        if len(runs) < 9:  # else the drain goes on for ever
            ctx.token.raise_if_set()

    with new_queue(path, workers=0) as other:
        other.declare("work")
        queue.start()
        job = queue.submit(work, 1)
        begun.pass_through()
        queue.stop()
        assert queue.join(PATIENCE)
        assert (runs, queue.stats().interrupted, job.attempts) == ([1], 1, 0)
        assert other._store.claim_oldest().id == job.id


def test_who_condemns_a_job_hears_so_though_another_thread_reads_it_first(path, monkeypatch):
    """A job is condemned by who wrote that, also where another thread has read the row before it is noted."""
    store = opened(path)
    record = record_of(1)
    store.add(record)
    assert store.claim() is record
    note, read = store._known.condemn, []
    monkeypatch.setattr(store._known, "condemn", lambda *given: (read.extend(store.condemned()), note(*given))[1])
    assert store.condemn(record, JobState.PENDING, "was interrupted")
    assert read == [record]
    assert not store.condemn(record, JobState.PENDING, "was interrupted")
    store.settle(record, JobState.COMPLETED, 1.0)
    store.close()


def test_what_is_interrupted_is_left_to_others_as_its_thread_ends(path, quiet):
    """Of two jobs that a closed queue has interrupted, each is left to others as its own thread ends."""
    one, other = Blocker(), Blocker()
    queue = new_queue(path, workers=2)
    queue.handler("one")(lambda payload: one() and None)
    queue.handler("other")(lambda payload: other() and None)
    queue.start()
    first, _ = queue.submit("one"), queue.submit("other")
    one.wait_until_called()
    other.wait_until_called()
    queue.stop()
    queue.close()
    settled = Gate()
    queue._store._close_if_done, close = lambda: (close(), settled.open()), queue._store._close_if_done
    with new_queue(path, workers=0) as heir:
        heir.declare("one")
        one.let_go()
        settled.pass_through()
        assert heir._store.claim_oldest().id == first.id
    other.let_go()
    assert queue.join(PATIENCE)


def test_a_store_can_be_looked_at_after_the_end(path):
    """A queue that has ended still shows its jobs and figures, and changes nothing."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        job = queue.submit("work", 1, key="k")
    assert queue.stats().pending == 1
    assert queue.get(job.id) is job
    assert queue.jobs() == [job]
    assert queue.work_left() == 1
    with pytest.raises(Closed, match="has ended"):
        job.cancel()
    queue.close()


def test_a_store_can_be_opened_again(path):
    """A store whose queue has ended may be given to another queue."""
    store = stores.SQLiteStore(path)
    for _ in range(2):
        with WorkQueue(workers=0, store=store) as queue:
            queue.declare("work")
            queue.submit("work")
    assert queue.stats().submitted == 2


# -- whose file it is -------------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(path):
    """All files of a store can be read and written by their owner only, and the file is left alone at the end."""
    before = os.umask(0)
    try:
        with new_queue(path) as queue:
            queue.handler("work")(lambda payload: payload)
            queue.submit("work").result(PATIENCE)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert {name.removesuffix("-1") for name in modes} == {
        f"jobs.db{end}" for end in ("", "-wal", "-shm", "-lock", "-wake")
    }
    assert set(modes.values()) == {0o600}
    assert {file.name for file in path.parent.iterdir()} == {"jobs.db", "jobs.db-lock"}


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")
    connection.commit()
    copies = {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal")}
    connection.close()
    for end, content in copies.items():  # as after a crash: the log has not been brought into the file
        Path(f"{path}{end}").write_bytes(content)


def old_store(path: Path) -> bytes:
    with new_queue(path, workers=0, maxsize=math.inf) as queue:
        queue.declare("work")
        queue.submit_many("work", ["x" * 500] * 200)
    Path(f"{path}-lock").unlink()
    return path.read_bytes()


def newer(path: Path) -> None:
    content = bytearray(old_store(path))
    content[60:64] = (99).to_bytes(4, "big")
    path.write_bytes(content)


def corrupt(path: Path) -> None:
    content = bytearray(old_store(path))
    content[4096 : 4096 * 6] = os.urandom(4096 * 5)
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(old_store(path)[: 4096 * 5 + 100])


def with_journal(path: Path) -> None:
    old_store(path)
    Path(f"{path}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (foreign_database, "no job store"),
        (lambda path: path.write_text("hello"), "no job store"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(50)), "no job store"),
        (newer, "version 99"),
        (corrupt, "broken"),
        (truncated, "broken"),
        (with_journal, "journal"),
    ],
    ids=["foreign", "text", "empty", "short", "newer", "corrupt", "truncated", "journal"],
)
def test_what_is_no_store_of_ours_is_refused_and_left_alone(path, make, problem):
    """A foreign, newer, broken or truncated file is refused by its name, and neither it nor its folder changes."""
    make(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(StoreFormatError, match=problem) as caught:
        new_queue(path)
    assert caught.value.path == str(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_newer_version_is_refused_that_stands_in_the_log_only(path):
    """A file whose newer version has not been brought from its log into its header yet is refused, and not written."""
    old_store(path)
    newer_one = sqlite3.connect(path, isolation_level=None)
    newer_one.execute("PRAGMA user_version = 99")
    log = Path(f"{path}-wal").read_bytes()
    with pytest.raises(StoreFormatError, match="of version 99"):
        new_queue(path)
    assert Path(f"{path}-wal").read_bytes() == log
    newer_one.close()


def test_a_folder_is_no_store(path):
    """A path that is no file, or whose folder is not there, is refused."""
    path.mkdir()
    with pytest.raises(StoreFormatError, match="no file"):
        new_queue(path)
    with pytest.raises(StoreError, match="folder must exist"):
        new_queue(path / "missing" / "jobs.db")


# -- what it survives -------------------------------------------------------------------------------------------------


def test_a_file_that_another_program_has_locked(path, quiet):
    """While another program holds the file a submit is refused, the workers wait, and all goes on afterwards."""
    seen = []
    recovered = Gate()

    def observe(event):
        seen.append(type(event))
        if isinstance(event, events.StoreRecovered):
            recovered.open()

    blocker = Blocker()
    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: blocker())
        queue.observe(observe)
        job = queue.submit("work", 1)
        blocker.wait_until_called()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match=str(path)):
            queue.submit("work", 2)
        blocker.let_go()
        with pytest.raises(StoreLocked):
            queue.submit("work", 3)
        assert job.state is JobState.RUNNING
        other.execute("ROLLBACK")
        other.close()
        recovered.pass_through()
        assert job.result(PATIENCE) == "let go"
        assert queue.stats().submitted == 1
    assert seen.count(events.StoreFailed) == seen.count(events.StoreRecovered) >= 1


def test_a_locked_file_cannot_be_opened(path):
    """A file that another program holds for itself is refused in time."""
    old_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreLocked):
            new_queue(path)
    finally:
        other.close()


def fill(queue: WorkQueue) -> int:
    """Submit until the disk is full; return how many submits were taken."""
    for number in range(10_000):
        try:
            queue.submit("work", "x" * 3000)
        except StoreError as error:
            if "disk is full" not in str(error):
                raise
            return number
    raise AssertionError("the disk was never full")


def test_a_full_disk(path, quiet):
    """When there is no room on the disk a submit is refused, nothing is half done, and work goes on when there is."""
    gate = Gate()
    with new_queue(path, maxsize=math.inf) as queue:
        file = queue._store._file
        queue.handler("work")(lambda payload: gate.pass_through() or payload)
        with file.writing:
            (pages,) = file._writer.execute("PRAGMA page_count").fetchone()
            file._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
        taken = fill(queue)
        assert taken > 3
        assert queue.stats().submitted == taken
        gate.open()
        with file.writing:  # else the workers' transactions would find a statement of ours in their way
            file._writer.execute("PRAGMA max_page_count = 1073741823")
        assert queue.drain(PATIENCE)
        assert (queue.stats().submitted, queue.stats().completed) == (taken, taken)


class Faulty:
    """A connection that fails at the Nth call of all, once, as SQLite does: what was begun is rolled back."""

    calls = 0
    fails_at = 0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.close = connection.close

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, *args):
        Faulty.calls += 1
        if Faulty.calls == Faulty.fails_at:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            error.sqlite_errorname = "SQLITE_IOERR"
            raise error
        return self._connection.execute(*args)


def live(path: Path, ran: list[int]) -> tuple[set[int], set[int]]:
    """Do a bit of everything; return what was surely submitted, and what was perhaps."""
    sure: set[int] = set()
    unsure: set[int] = set()
    with new_queue(path, retry=Retry(3, backoff.constant(0))) as queue:
        failed_once: set[int] = set()

        @queue.handler
        def work(number):
            ran.append(number)
            if number == 2 and number not in failed_once:
                failed_once.add(number)
                raise ValueError

        queue.handler("narrow", concurrency=1)(ran.append)
        for number, name, options in [
            (1, "work", {}),
            (2, "work", {"key": "k"}),
            (3, "narrow", {}),
            (4, "work", {"delay": 0.001}),
        ]:
            try:
                queue.submit(name, number, **options)
                sure.add(number)
            except StoreError:
                unsure.add(number)
        try:
            queue.submit_many("narrow", [5, 6])
            sure.update([5, 6])
        except StoreError:
            unsure.update([5, 6])
        for _ in range(3):
            try:
                if queue.drain(PATIENCE):
                    break
            except StoreError:
                continue
    return sure, unsure


@pytest.mark.parametrize("share", range(1, 7))
def test_a_fault_at_every_call(path, monkeypatch, quiet, share):
    """Whichever call of SQLite fails, no job is lost, none is there twice, and none runs again that had completed."""
    connect = JobFile._connect
    monkeypatch.setattr(JobFile, "_connect", lambda self: Faulty(connect(self)))
    for number in range(share, 1000, 6):
        Faulty.calls, Faulty.fails_at = 0, number
        file = path.with_name(f"{number}.db")
        ran: list[int] = []
        try:
            sure, unsure = live(file, ran)
        except StoreError:  # it could not be opened
            sure, unsure = set(), set()
        assert not [each for each in _jobfile._open_files if each.path == str(file)]
        was_hit = Faulty.calls >= number
        Faulty.fails_at = 0
        with new_queue(file, workers=2) as queue:
            queue.handler("work")(ran.append)
            queue.handler("narrow")(ran.append)
            assert queue.drain(PATIENCE)
            done = [job.payload for job in queue.jobs(JobState.COMPLETED)]
            assert len(done) == len(set(done)) == queue.stats().submitted, [
                error.traceback for job in queue.dead_letters() for error in job.errors
            ]
        assert sure <= set(done) <= sure | unsure
        for payload in done:
            assert ran.count(payload) == (2 if payload == 2 else 1), f"job {payload}, fault at call {number}"
        if not was_hit:
            assert number > 30
            return


def test_two_queues_share_a_file_within_one_process(path):
    """Two queues on one file know that both are alive, and neither takes the other's jobs."""
    blocker = Blocker()
    with new_queue(path) as one, new_queue(path) as other:
        one.handler("work")(lambda payload: blocker())
        job = one.submit("work", 1)
        blocker.wait_until_called()
        other.handler("work")(lambda payload: "other")
        assert other._store._rescue() == []
        assert other.get(job.id).state is JobState.RUNNING
        assert not other._store.runs_here(other.get(job.id))
        with pytest.raises(DuplicateName):
            one.submit("work", key="k", delay=1000)
            other.submit("work", key="k", on_conflict="reject")
        blocker.let_go()
        assert job.result(PATIENCE) == "let go"
        assert other.get(job.id).result(PATIENCE) == "let go"


def test_a_file_is_one_by_whichever_link_it_is_opened(path):
    """Two queues that open one file, one of them through a link, know of each other: a job that runs is not rescued."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    one = opened(path)
    record = record_of(1)
    one.add(record)
    assert one.claim() is record
    other = opened(link)
    assert other.claim() is None
    assert other.get(record.id).state is JobState.RUNNING
    other.close()
    one.settle(record, JobState.COMPLETED, 1.0)
    one.close()
    assert sorted(each.name for each in path.parent.iterdir() if "lock" in each.name) == ["jobs.db-lock"]


def test_a_job_of_another_queue_is_cancelled(path):
    """A job that another queue runs has its token set there, and ends as cancelled; one that waits ends at once."""
    begun, ended = Gate(), threading.Event()
    with new_queue(path) as one, new_queue(path, workers=0) as other:

        @one.handler
        def work(payload, ctx):
            begun.open()
            if ctx.token.wait(PATIENCE):
                ended.set()

        job = one.submit(work, 1)
        begun.pass_through()
        waiting = one.submit(work, 2)
        assert other.cancel(waiting.id)
        assert other.cancel(job.id)
        assert isinstance(other.get(job.id).exception(PATIENCE), JobCancelled)
        assert ended.is_set()
        assert isinstance(job.exception(PATIENCE), JobCancelled)
        assert isinstance(waiting.exception(PATIENCE), JobCancelled)
        assert (job.state, waiting.state) == (JobState.CANCELLED, JobState.CANCELLED)


def test_a_claimed_job_is_put_back(path):
    """What was claimed for a thread that will not run it goes back into the line, without an attempt spent."""
    store = stores.SQLiteStore(path)
    store.open(bounds(10), HOST)
    store.serve(frozenset({"work"}), frozenset())
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        one, other = queue.submit_many("work", [1, 2])
        store._answer()
        first = store.claim()
        assert first.id == one.id
        store.check(first)
        store.settle(first, JobState.COMPLETED, 1.0)
        assert queue.get(other.id).state is JobState.RUNNING
        store.unclaim()
        assert (queue.get(other.id).state, queue.get(other.id).attempts) == (JobState.PENDING, 0)
        store.unclaim()
    store.close()


# -- what the dead leave behind ---------------------------------------------------------------------------------------


def leave_behind(path, changes: str) -> list[str]:
    """Make a file with four jobs that a dead process owned, as if it had been killed."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        ids = [job.id for job in queue.submit_many("work", [1, 2, 3, 4])]
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO owner (id, pid, doorbell) VALUES (999, 1, ?)", (f"{path}-wake-999",))
    connection.execute(f"UPDATE job SET owner = 999, attempts = 1, state = 2, {changes}")  # noqa: S608 - a test's words
    connection.execute("UPDATE job SET owner = 999, attempts = 0, state = 1 WHERE seq = 4")
    connection.execute("UPDATE tally SET pending = 1, running = 3")
    connection.commit()
    connection.close()
    return ids


def test_jobs_of_a_dead_process_wait_again(path):
    """What a dead process ran waits again, with its crash counted and no attempt spent; what it only held is free."""
    ids = leave_behind(path, "crashes = seq - 1")
    pipe = path.with_name("jobs.db-wake-999")
    os.mkfifo(pipe)
    with new_queue(path, workers=0) as queue:
        first, second, third, fourth = (queue.get(each) for each in ids)
        assert [job.state for job in (first, second, third, fourth)] == ["pending", "pending", "failed", "pending"]
        assert [job.row.crashes for job in (first, second, third, fourth)] == [1, 2, 3, 3]
        assert [job.attempts for job in (first, second, third, fourth)] == [0, 0, 1, 0]
        assert "its process died while it ran, 3 times" in str(third.errors[-1].error)
        stats = queue.stats()
        assert (stats.pending, stats.running, stats.failed, stats.submitted) == (3, 0, 1, 4)
        assert queue.replay(third.id).row.crashes == 0
        assert not pipe.exists()


def test_what_a_dead_process_was_told_is_done(path):
    """A job that was cancelled while a dead process ran it is cancelled; one that was interrupted is no crash."""
    ids = leave_behind(path, "fate = CASE seq WHEN 1 THEN 6 ELSE 1 END")
    seen = []
    queue = new_queue(path, workers=0)
    queue.observe(seen.append)
    with queue:
        jobs = [queue.get(each) for each in ids]
        assert [job.state for job in jobs] == ["cancelled", "pending", "pending", "pending"]
        assert [job.row.crashes for job in jobs] == [0, 0, 0, 0]
        assert [job.attempts for job in jobs] == [1, 1, 1, 0]
        told = Gate()
        queue.observe(told.open)
        if not any(isinstance(event, events.JobEnded) for event in seen):
            told.pass_through()
    assert any(isinstance(event, events.JobEnded) and event.job_id == ids[0] for event in seen)


def test_a_file_of_version_1_is_brought_up_to_date(path):
    """A file that version 1 has made shows the same jobs and figures when it is opened, and goes on."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript((Path(__file__).parent / "schema" / "jobs-1.sql").read_text())
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with new_queue(path, keep=3) as queue:
        queue.pause()
        waiting = {"scheduled", "retrying", "pending"}  # and overdue: they become pending when the timer comes to them
        shown = [
            (job.name, "waiting" if job.state in waiting else job.state, job.attempts, len(job.errors), job.headers)
            for job in queue.jobs()
        ]
        assert shown == [
            ("double", "completed", 1, 0, {}),
            ("fail", "failed", 2, 2, {}),
            ("fail", "waiting", 1, 1, {}),
            ("later", "waiting", 0, 0, {}),
            ("later", "cancelled", 0, 0, {}),
            ("later", "waiting", 0, 0, {}),
        ]
        queue.handler("later")(lambda payload: payload)
        job = queue.submit("later", headers={"tenant": "a"})
        queue.resume()
        assert job.result(PATIENCE) is None
        assert (queue.stats().submitted, queue.stats().failed) == (7, 1)
        assert queue._store._file.read("PRAGMA user_version") == [(VERSION,)]
    columns = "SELECT name FROM pragma_table_info('job') ORDER BY name"
    indices = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
    tally = "SELECT name FROM pragma_table_info('tally')"
    with new_queue(path.with_name("new.db")) as fresh:
        for query in (columns, indices, tally):
            assert queue._store._file.read(query) == fresh._store._file.read(query)


def test_a_migration_is_all_or_nothing(path, monkeypatch):
    """Where a step of a migration fails, the file is what it was."""
    from threadkit import _sqlite_file, _sqlite_schema

    old_store(path)
    for module in (_sqlite_file, _sqlite_schema):
        monkeypatch.setattr(module, "VERSION", VERSION + 1)
    monkeypatch.setitem(MIGRATIONS, VERSION, ("ALTER TABLE owner ADD COLUMN host TEXT", "SELECT * FROM nowhere"))
    with pytest.raises(StoreError, match="nowhere"):
        new_queue(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    monkeypatch.undo()
    with new_queue(path, workers=0) as queue:
        assert queue.stats().submitted == 200


def test_without_pipes_the_slow_look_finds_what_others_do(path, monkeypatch):
    """Where the file system knows no pipes a store works all the same; others look by themselves."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: payload)
        assert queue._store._file.doorbell is None
        assert queue.submit("work", 1).result(PATIENCE) == 1


def test_a_forgotten_job_is_seen_as_ended(path):
    """Who waits for a job that another process finished, and that has been forgotten, is told so."""
    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        job = queue.submit("work", 1)
        connection = sqlite3.connect(path)
        connection.execute("DELETE FROM job")
        connection.commit()
        connection.close()
        failure = job.exception(PATIENCE)
        assert "has been forgotten" in str(failure)
        assert not job.cancel()


def test_to_replace_a_job_is_one_step(path, monkeypatch):
    """A submit that replaces a job and fails leaves the old one with its key, and no new one."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with new_queue(path, workers=0) as queue:
        queue.declare("work")
        old = queue.submit("work", "old", key="k")
        with monkeypatch.context() as context:
            context.setattr(_sqlite_steps, "withdraw", fail)
            with pytest.raises(StoreError):
                queue.submit("work", "new", key="k", on_conflict="replace")
        assert [job.id for job in queue.jobs()] == [old.id]
        assert queue.submit("work", key="k") is old
        new = queue.submit("work", "new", key="k", on_conflict="replace")
        assert (old.state, str(old.exception(0))) == (JobState.CANCELLED, f"job {old.id} ('work') was replaced")
        assert queue.submit("work", key="k") is new


def test_a_running_job_that_is_replaced_is_told(path):
    """A job that runs and is replaced by one with its key has its token set, and ends as cancelled."""
    blocker, stopped = Blocker(), []
    with new_queue(path) as queue:

        @queue.handler
        def work(payload, ctx):
            if payload == "old":
                blocker()
                stopped.append(ctx.token.reason)

        old = queue.submit("work", "old", key="k")
        blocker.wait_until_called()
        new = queue.submit("work", "new", key="k", on_conflict="replace")
        assert (old.state, queue.submit("work", key="k")) == (JobState.RUNNING, new)
        blocker.let_go()
        assert new.wait(PATIENCE)
        assert (old.state, stopped) == (JobState.CANCELLED, ["was replaced"])


def test_a_job_that_expires_or_comes_due_in_a_file(path):
    """Jobs in a file expire and come due at their time, on the queue's own clock."""
    clock = VirtualClock()
    with WorkQueue(workers=1, store=stores.SQLiteStore(path, "process"), clock=clock) as queue:
        queue.declare("never")
        queue.handler("work")(lambda payload: payload)
        late = queue.submit("never", 1, expires=10)
        delayed = queue.submit("work", 2, delay=20)
        clock.advance(9)
        assert (late.state, delayed.state) == (JobState.PENDING, JobState.SCHEDULED)
        clock.advance(2)
        assert (late.state, delayed.state) == (JobState.EXPIRED, JobState.SCHEDULED)
        clock.advance(10)
        assert delayed.result(0) == 2


def test_a_job_that_is_put_back_expires(path):
    """A job that was claimed ahead, and put back before its handler was called, expires when it would have."""
    clock, ran = VirtualClock(), []
    with new_queue(path, workers=0, clock=clock) as queue:
        work = queue.handler("work")(ran.append)
        queue.submit(work, 1)
        job = queue.submit(work, 2, expires=8)
        queue.run_next()
        assert job.state is JobState.PENDING
        clock.advance(9)
        assert job.state is JobState.EXPIRED
        assert queue.run_next() is None
    assert ran == [1]


def test_a_job_that_comes_due_when_it_expires(path):
    """A job that may run from the very moment on at which it expires does not run."""
    clock = VirtualClock()
    with WorkQueue(workers=1, store=stores.SQLiteStore(path, "process"), clock=clock) as queue:
        queue.handler("work")(lambda payload: payload)
        job = queue.submit("work", 1, delay=10, expires=10)
        clock.advance(11)
        assert (job.state, job.attempts) == (JobState.EXPIRED, 0)


def test_a_queue_that_is_adopted_keeps_its_jobs(path):
    """A queue with a file that was given jobs before a lifecycle adopted it runs them on the lifecycle's clock."""
    clock = VirtualClock()
    queue = WorkQueue(workers=1, store=stores.SQLiteStore(path, "process"))
    queue.handler("work")(lambda payload: payload)
    with Lifecycle(clock=clock) as lc:
        lc.add(queue)
        job = queue.submit("work", 2, delay=20)
        clock.advance(21)
        assert job.result(0) == 2


def test_a_store_in_words(path):
    """A store shows its file and its durability."""
    assert repr(stores.SQLiteStore(path, "eventual")) == f"<SQLiteStore {str(path)!r} eventual>"
    assert repr(stores.JSON()) == "JSON()"
    with pytest.raises(ValueError, match="durability"):
        stores.SQLiteStore(path, "maybe")
    with pytest.raises(ValueError, match="patience"):
        stores.SQLiteStore(path, patience=-1)


def test_a_queue_that_ends_without_its_disk(path, quiet):
    """A queue whose file cannot be written ends all the same; what ran to its end unseen is run again."""
    blocker = Blocker()
    queue = new_queue(path)
    queue.handler("work")(lambda payload: blocker())
    queue.start()
    job = queue.submit("work", 1)
    blocker.wait_until_called()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    queue.stop()
    queue.close()
    assert isinstance(job.exception(0), JobCancelled)
    blocker.let_go()
    assert queue.join(PATIENCE)
    other.execute("ROLLBACK")
    other.close()
    assert not queue._store._file.is_open
    with new_queue(path) as again:
        again.handler("work")(lambda payload: "again")
        assert again.get(job.id).result(PATIENCE) == "again"


def test_no_step_goes_through_all_rows(path):
    """What is done for every job finds its rows by an index, however many there are."""
    from threadkit import _sqlite_steps

    asked: list[str] = []
    with new_queue(path, workers=1, keep=0) as queue:
        queue.handler("work")(lambda payload: payload)
        queue.handler("narrow", concurrency=1)(lambda payload: payload)
        writer = queue._store._file._writer
        writer.set_trace_callback(asked.append)
        queue.submit("work", 1, key="k", delay=0.001, expires=100)
        queue.submit("narrow", 1)
        queue.submit_many("work", [2, 3])
        assert queue.drain(PATIENCE)
        queue.submit("work", 1, delay=100, expires=200).cancel()
        queue._store.tend()
        writer.set_trace_callback(None)
        assert any(_sqlite_steps._line_query(2)[:40] in statement for statement in asked)
        plans = {
            (statement, plan[3])
            for statement in asked
            if statement.startswith(("SELECT", "UPDATE", "DELETE"))
            for plan in writer.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        }
    assert plans
    scans = {(statement, plan) for statement, plan in plans if plan.startswith("SCAN") and "job" in plan}
    assert not {each for each in scans if "INDEX" not in each[1]}


# -- what happens in between ------------------------------------------------------------------------------------------


def record_of(number: int, name: str = "work") -> JobRecord:
    return JobRecord(f"x-{number}", number, name, number, 0.0)


def opened(path, *, idle: int = 0, may_begin=lambda: True, news=lambda: None, **options) -> stores.SQLiteStore:
    """Return a store without a queue."""
    store = stores.SQLiteStore(path, "process", patience=0, **options)
    told: list[Exception | None] = []
    store.open(bounds(10), attrs.evolve(HOST, idle=lambda: idle, may_begin=may_begin, news=news, trouble=told.append))
    store.serve(frozenset({"work"}), frozenset({"narrow"}))
    store.told = told
    return store


def lock(path) -> sqlite3.Connection:
    """Hold a file locked until the connection that is returned is closed."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_claim_that_is_not_noted_yet_keeps_the_file_open(path):
    """A file stays open, and its owner alive, while a job has been begun that no thread has noted so far."""
    store = opened(path)
    record = record_of(1)
    store.add(record)
    pick = Pick(HOST.line_up, Wanted(("work",), (), None))
    claimed = store._file.run(pick)
    store.close()
    assert store._file.is_open
    assert store.claim() is None
    assert store._take(claimed, pick) is record
    assert store.settle(record, JobState.COMPLETED, 1.0) is JobState.COMPLETED
    assert not store._file.is_open


def test_nothing_begins_once_the_store_is_closed(path):
    """A store that has been closed gives no job to anybody, and says so without an error."""
    store = opened(path)
    one, other, third = record_of(1), record_of(2), record_of(3, "narrow")
    for record in (one, other, third):
        store.add(record)
    assert store.claim() is one
    assert store.claim() is other
    assert store.claim() is third
    store.close()
    assert store._file.is_open
    assert not store.move(third, JobState.PENDING, JobState.RUNNING)
    assert store.settle(one, JobState.COMPLETED, 1.0) is JobState.COMPLETED
    store._pause()
    assert store.tend()[0] == []
    assert store.settle(other, JobState.COMPLETED, 1.0) is JobState.COMPLETED
    assert not store._file.is_open
    assert store.claim() is None
    assert not store.move(third, JobState.PENDING, JobState.RUNNING)
    assert store.counts()[JobState.PENDING] == 1


def test_a_job_that_is_handed_over_as_the_store_closes(path):
    """A job that was begun for an idle worker as it was submitted is put back when the store closes at that moment."""
    store = opened(path, idle=1, may_begin=lambda: setattr(store, "_is_closing", True) or True)
    record = record_of(1)
    store.add(record)
    assert record.state is JobState.PENDING
    assert (store.counts()[JobState.PENDING], store.counts()[JobState.RUNNING]) == (1, 0)
    store.close()


@pytest.mark.parametrize("name", ["work", "narrow"])
def test_a_job_that_begins_is_told_to_others(path, monkeypatch, name):
    """When a job begins the other processes hear of it, since one of them may wait for the room that it leaves."""
    front, back = opened(path), opened(path)
    record = record_of(1, name)
    front.add(record)
    back._answer()
    rung: list[str] = []
    monkeypatch.setattr(_jobfile, "ring", rung.append)
    job = back.claim()
    assert back.move(job, JobState.PENDING, JobState.RUNNING)
    assert rung == [front._file.doorbell.path]
    back.settle(job, JobState.COMPLETED, 1.0)
    front.close()
    back.close()


def test_a_job_that_is_handed_over_to_nobody(path):
    """A job that was begun for an idle worker is put back when that may not begin one, and when the store closes."""
    begins = True
    store = opened(path, idle=1, may_begin=lambda: begins)
    record = record_of(1)
    store.add(record)
    assert record.state is JobState.RUNNING
    assert store.has_ready()
    begins = False
    store.unclaim()
    assert (record.state, record.attempts) == (JobState.PENDING, 0)
    begins = True
    other = record_of(2)
    store._pending = 0
    store.remove(record)
    store.add(other)
    assert other.state is JobState.RUNNING
    store.close()
    assert other.state is JobState.PENDING
    assert not store._file.is_open


def test_a_claimed_job_that_was_cancelled_meets_its_fate(path):
    """A job that was claimed ahead and cancelled since ends as it is put back, and the next look tells of it."""
    store = opened(path)
    one, other = record_of(1), record_of(2)
    store.add(one)
    store.add(other)
    assert store.claim() is one
    store.check(one)
    store.settle(one, JobState.COMPLETED, 1.0)
    assert other.state is JobState.RUNNING
    assert store.condemn(other, JobState.CANCELLED, "was cancelled")
    store.unclaim()
    assert (other.state, other.why) == (JobState.CANCELLED, "was cancelled")
    assert store.tend()[0] == [other]
    store.close()


def test_a_job_in_hand_is_left_to_other_workers(path):
    """A job that was claimed ahead, and whose handler has limits, is for another worker here until the store closes."""
    store, other = opened(path), opened(path)
    first, second = record_of(1), record_of(2, "narrow")
    store.add(first)
    store.add(second)
    assert store.claim() is first
    store.check(first)
    store.settle(first, JobState.COMPLETED, 1.0)
    assert other.claim() is None
    store.unclaim()
    other._answer()
    assert other.claim() is None
    assert store.has_ready()
    assert store._front[0] is second
    store.close()
    other._answer()
    assert other.claim().id == second.id
    other.unclaim()
    other.close()


def test_a_job_in_hand_that_is_cancelled_lets_the_next_in_order_come(path):
    """A job that was claimed ahead, put in front and cancelled there does not keep later ones of its handler back."""
    ran = []
    with new_queue(path, workers=0) as queue:
        work = queue.handler("work", serial_by=lambda payload: 0)(ran.append)
        _, second = queue.submit(work, 1), queue.submit(work, 2)
        queue.run_next()
        assert second.cancel()
        queue.submit(work, 3)
        queue.run_due()
    assert ran == [1, 3]


def test_a_claim_that_is_done_again_lets_the_next_in_order_come(path, quiet):
    """A job that was claimed in a transaction that failed, and that is gone by the next try, keeps no others back."""
    ran = []
    with new_queue(path, workers=0) as queue, new_queue(path, workers=0) as other:
        work = queue.handler("work", serial_by=lambda payload: 0)(ran.append)
        _, second = queue.submit(work, 1), queue.submit(work, 2)
        file, failed = queue._store._file, []

        def commit(tx) -> None:
            if not failed and tx.row("id = ? AND owner NOT NULL", second.id):
                failed.append(tx)
                raise sqlite3.OperationalError("disk I/O error")
            file_commit(tx)

        file._commit, file_commit = commit, file._commit
        queue._store._pause = lambda: other.cancel(second.id)
        queue.run_next()
        queue.submit(work, 3)
        queue.run_due()
    assert failed
    assert ran == [1, 3]


def test_a_begin_that_is_done_again_keeps_its_places(path, monkeypatch, quiet):
    """A job whose begin the file refuses at first begins when it can, in its order, and beside no other of its key."""
    begin, refused, runs, most = _sqlite_steps.begin, [], [], []
    is_settled, is_over = Gate(), Gate()
    here = threading.current_thread()

    def refuse(tx, seq):
        if not refused:
            refused.append(seq)
            raise sqlite3.OperationalError("disk I/O error")
        return begin(tx, seq)

    def another() -> None:
        queue.run_next()
        is_settled.open()

    with new_queue(path, workers=0) as queue:

        @queue.handler(serial_by=lambda payload: 0)
        def work(payload):
            runs.append(payload)
            most.append(queue.stats().running)
            if threading.current_thread() is not here:
                is_settled.open()
                is_over.pass_through()

        def pause() -> None:
            others.append(Background(another))
            is_settled.pass_through()

        others: list[Background[None]] = []
        queue._store._pause = pause
        queue.submit_many(work, [1, 2, 3])
        monkeypatch.setattr(_sqlite_steps, "begin", refuse)
        queue.run_due()
        is_over.open()
        for other in others:
            other.result()
    assert len(others) == len(refused) == 1
    assert (runs, most) == ([1, 2, 3], [1, 1, 1])


def test_a_job_that_is_gone_is_not_put_back(path):
    """Of a job that has been forgotten meanwhile nothing is put back."""
    store = opened(path)
    assert store._file.run(lambda tx: _sqlite_steps.unclaim(tx, 99, None)) is None
    assert store.counts()[JobState.PENDING] == 0
    store.close()


def test_a_job_in_hand_that_was_cancelled_is_not_put_back(path):
    """A job that was claimed ahead, and cancelled by another before it began, stays cancelled."""
    store = opened(path)
    first, second = record_of(1), record_of(2, "narrow")
    store.add(first)
    store.add(second)
    assert store.claim() is first
    store.check(first)
    store.settle(first, JobState.COMPLETED, 1.0)
    assert store.move(second, JobState.PENDING, JobState.CANCELLED, 1.0)
    store.unclaim()
    assert second.state is JobState.CANCELLED
    store.close()


def test_a_pause_ends_with_the_store(path):
    """Who waits until the file can be written goes on at once when the store is closed."""
    store = opened(path)
    store._next_pause = 1000.0
    paused = Background(store._pause)
    while not store._pauses:
        SYSTEM_CLOCK.park(SYSTEM_CLOCK.gate(), SYSTEM_CLOCK.monotonic() + 0.001)
    store.close()
    paused.result()


def test_a_submitter_runs_what_it_has_not_waited_for(path):
    """A job that was submitted without waiting can be run by its submitter at once, where there is no room."""
    ran = []
    with new_queue(path, "eventual", workers=0, maxsize=1, on_full="caller_runs") as queue:
        queue.handler("work")(ran.append)
        queue.submit("work", 1)
        queue.stats()
        assert queue.submit("work", 2).state is JobState.COMPLETED
    assert ran == [2]


def test_a_job_that_cannot_be_put_back(path):
    """A job that was claimed ahead is run again after the end where the file cannot be written as its store closes."""
    store = opened(path)
    one, other = record_of(1), record_of(2)
    store.add(one)
    store.add(other)
    assert store.claim() is one
    store.check(one)
    store.settle(one, JobState.COMPLETED, 1.0)
    locked = lock(path)
    store.close()
    store.unclaim()
    locked.close()
    assert other.state is JobState.RUNNING
    store._file.close()
    store._file._dispose()  # the process ends
    again = opened(path)
    job = again.claim()
    assert job.id == other.id
    again.settle(job, JobState.COMPLETED, 1.0)
    again.close()
    assert not again._file.is_open


def test_a_locked_file_refuses_what_users_ask_for(path):
    """While another program holds the file a cancel is refused, and a job that its submitter would run waits."""
    store = opened(path)
    running, waiting = record_of(1), record_of(2)
    store.add(running)
    assert store.claim() is running
    store.add(waiting)
    locked = lock(path)
    with pytest.raises(StoreLocked):
        store.condemn(running, JobState.CANCELLED, "was cancelled")
    assert not store.move(waiting, JobState.PENDING, JobState.RUNNING)
    assert store.condemn(running, JobState.PENDING, "was interrupted")
    assert not store.condemn(running, JobState.PENDING, "was interrupted")
    store._answer()
    locked.close()
    assert store.tend()[0] == []
    assert [type(error) for error in store.told] == [StoreLocked, type(None)]
    assert store.settle(running, JobState.COMPLETED, 1.0) is JobState.PENDING
    store.unclaim()
    assert store.counts()[JobState.PENDING] == 2
    store.close()


def test_an_observer_that_fails_keeps_no_bell_from_ringing(path, caplog):
    """What goes wrong as a process is told of others is told to the log, and the next ring is heard."""

    def fail() -> None:
        raise LookupError("nobody there")

    store = opened(path, news=fail)
    store._answer()
    assert "nobody there" in caplog.text
    store.close()


def test_the_jobs_that_are_known_can_be_listed_while_more_come(path):
    """Whoever goes through the jobs in memory, to drain say, is not disturbed by others that put some there."""
    store, over = opened(path), threading.Event()

    def put() -> None:
        numbers = itertools.count()
        while not over.is_set():
            records = [record_of(next(numbers)) for _ in range(200)]
            for record in records:
                store._known.enter(record)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # with values() of the dict, a handful of looks is enough for one to fail
    putting = Background(put)
    try:
        for _ in range(500):
            assert all(record.name == "work" for record in store._known.all())
    finally:
        sys.setswitchinterval(before)
        over.set()
        putting.result()
    store.close()


def test_a_file_is_closed_once(path):
    """Closing a job file that another thread has just closed does nothing."""
    store = opened(path)
    store._file.close()
    store._file.close()
    assert not store._file.is_open


def test_an_owner_that_lives_is_not_rescued_from(path):
    """Of two that look whether an owner is dead the second sees that it is alive, or has been taken care of."""
    store = opened(path)
    assert store._file.run(lambda tx: store._rescue_some(store._file.owner, tx)) == ([], False)
    store.close()


def test_many_jobs_of_a_dead_process(path, monkeypatch):
    """The jobs of a dead process are taken over a few at a time."""
    monkeypatch.setattr(_sqlite_steps, "_BATCH", 1)
    leave_behind(path, "crashes = 0")
    with new_queue(path, workers=0) as queue:
        assert queue.stats().pending == 4


def test_a_job_that_somebody_else_took_first(path):
    """A job that another process has ended meanwhile does not begin here."""
    one, other = opened(path), opened(path)
    record = record_of(1)
    one.add(record)
    theirs = other.get(record.id)
    assert other.move(theirs, JobState.PENDING, JobState.CANCELLED, 1.0)
    assert not one.move(record, JobState.PENDING, JobState.RUNNING)
    assert record.state is JobState.CANCELLED
    one.close()
    other.close()


def test_an_older_look_does_not_undo_a_younger_one(path):
    """What is known of a job never goes back, and one that has ended stays so when it is forgotten."""
    store = opened(path)
    record = record_of(1)
    store.add(record)
    assert store.claim() is record
    store._known.settle(record, JobState.COMPLETED, 1, "", 1.0)
    assert record.state is JobState.RUNNING
    row = store._file.run(lambda tx: tx.row("seq = ?", record.row.seq))
    assert store._known.claimed({**row, "rev": row["rev"] - 1}, begins=True) is record
    assert record.row.rev == row["rev"]
    store.check(record)
    store.settle(record, JobState.COMPLETED, 1.0)
    store._file.run(lambda tx: tx.execute("DELETE FROM job"))
    store.refresh(record)
    assert record.state is JobState.COMPLETED
    store.close()


def test_a_payload_that_cannot_be_read_and_is_gone(path):
    """A job whose payload cannot be read is no dead letter where it has ended meanwhile."""

    class Gone:
        def encode(self, value):
            return value

        def decode(self, data):
            store._file.run(lambda tx: tx.execute("UPDATE job SET state = 7, owner = NULL"))
            raise ValueError(data)

    store = opened(path, codec=Gone())
    store.add(record_of(1, "narrow"))
    assert store.claim() is None
    assert store.tend()[0] == []
    store.close()


def test_jobs_in_hand_are_bounded(path, monkeypatch):
    """Where enough jobs are held by the limits of their handlers only jobs of others are claimed."""
    monkeypatch.setattr(_sqlite_line, "_MOST_HELD", 1)
    store = opened(path)
    for number, name in enumerate(["narrow", "narrow", "work"]):
        store.add(record_of(number, name))
    assert [store.claim().id for _ in range(2)] == ["x-0", "x-2"]
    assert store.claim() is None
    store.settle(store.get("x-2"), JobState.COMPLETED, 1.0)
    store.close()


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_jobs_behind_those_in_hand_come_when_those_end(path, monkeypatch, how):
    """Jobs behind as many held ones as may be in hand are looked at when those are cancelled, or expire."""
    monkeypatch.setattr(_sqlite_line, "_MOST_HELD", 2)
    clock, ran = VirtualClock(), []
    with new_queue(path, workers=1, clock=clock) as queue:
        work = queue.handler("work", rate=(1, 10))(ran.append)
        jobs = [queue.submit(work, number, expires=8 if 0 < number < 3 else None) for number in range(4)]
        clock.settle()
        assert ran == [0]
        assert [job.row.is_mine for job in jobs] == [False, True, True, False]
        if how == "cancel":
            assert jobs[1].cancel()
            assert jobs[2].cancel()
            clock.advance(0.001)
            assert jobs[3].row.is_mine
        clock.advance(9)
        clock.advance(2)
        assert ran == [0, 3]


def test_a_handler_that_comes_while_a_worker_looks_gets_its_jobs(path):
    """Who has looked for the jobs of the handlers there were does not keep those of a newer one from being seen."""
    store = opened(path)
    record = record_of(1, "new")
    store.add(record)
    run = store._file.run
    store._file.run = lambda step: (store.serve(frozenset({"work", "new"}), frozenset()), run(step))[1]
    assert store.claim() is None
    store._file.run = run
    assert store.has_ready()
    assert store.claim() is record
    store.settle(record, JobState.COMPLETED, 1.0)
    store.close()


def test_a_drain_waits_until_the_handles_show_it(path, monkeypatch):
    """Once drain() has returned no job here looks as if it ran, though the file knew before that it was over."""
    with new_queue(path) as queue:
        queue.handler("work")(lambda payload: payload)
        settled, may_show = Gate(), Gate()
        show = queue._store._known.settle

        def late(*given) -> None:
            settled.open()
            may_show.pass_through()
            show(*given)

        monkeypatch.setattr(queue._store._known, "settle", late)
        job = queue.submit("work")
        settled.pass_through()
        assert queue._store.counts()[JobState.COMPLETED] == 1
        assert not queue.drain(0)
        draining = Background(queue.drain)
        may_show.open()
        assert draining.result()
        assert job.state is JobState.COMPLETED


def test_eventual_submits_are_bounded(path, monkeypatch):
    """Who submits without waiting waits after so many; and what was submitted a moment ago can be cancelled."""
    monkeypatch.setattr(_sqlite, "_MOST_POSTED", 2)
    with new_queue(path, "eventual", workers=0, clock=VirtualClock()) as queue:  # whose timer never comes
        queue.declare("work")
        commits, posted, jobs = queue._store._file._commits, [], []
        for number in range(10):
            jobs.append(queue.submit("work", number))
            posted.append(len(commits._waiting))
        assert 1 <= max(posted) <= 2
        last = queue.submit("work", 10)
        assert last.cancel()
        assert (jobs[0].state, last.state) == (JobState.PENDING, JobState.CANCELLED)


def test_meta_that_cannot_be_kept(path, caplog):
    """A job whose meta is no JSON completes all the same, without it, and the log tells."""
    with new_queue(path) as queue:

        @queue.handler
        def work(payload, ctx):
            meta = queue.get(ctx.job_id).meta
            meta["self"] = meta

        job = queue.submit(work)
        assert job.wait(PATIENCE)
        assert job.state is JobState.COMPLETED
    assert f"the meta of job {job.id} cannot be kept" in caplog.text


def test_a_cancelled_job_without_a_context(path):
    """A job that another queue cancels, and whose handler asked for no context, ends as cancelled."""
    blocker = Blocker()
    with new_queue(path) as one, new_queue(path, workers=0) as other:
        one.handler("work")(lambda payload: blocker())
        job = one.submit("work")
        blocker.wait_until_called()
        assert other.cancel(job.id)
        one._on_news()
        blocker.let_go()
        assert isinstance(job.exception(PATIENCE), JobCancelled)


def test_a_stop_in_the_middle_of_a_batch(path, monkeypatch):
    """Jobs that are in the file as their queue is stopped stay there, and their submit returns."""
    queue = new_queue(path, workers=0)
    queue.declare("work")
    add_all = queue._store.add_all

    def add_and_stop(jobs):
        add_all(jobs)
        queue._closing = True

    monkeypatch.setattr(queue._store, "add_all", add_and_stop)
    assert len(queue.submit_many("work", [1, 2])) == 2
    assert queue.stats().submitted == 2
    queue.stop()
    queue.close()


def test_a_submit_that_an_end_overtakes_stands(path, monkeypatch):
    """A submit whose job is in the file as its queue ends returns; the job is left, and who waits for it is told."""
    queue = new_queue(path, workers=0)
    queue.declare("work")
    queue.start()
    place = queue._store._known.place

    def place_and_end(*given) -> None:
        monkeypatch.setattr(queue._store, "in_hand", list)  # the end has looked for them before
        queue.stop()
        assert queue.join(PATIENCE)
        place(*given)

    monkeypatch.setattr(queue._store._known, "place", place_and_end)
    job = queue.submit("work", 1)
    assert isinstance(job.exception(0), JobCancelled)
    with new_queue(path, workers=0) as heir:
        assert heir.get(job.id).state is JobState.PENDING


def test_a_file_that_is_not_there(path):
    """A link that leads to itself, and a folder in which nothing can be made, are refused with their names."""
    path.symlink_to(path)
    with pytest.raises(StoreError, match="cannot be read"):
        new_queue(path)


def test_a_file_that_cannot_be_made(path, monkeypatch):
    """Where SQLite cannot make a file nothing is left of it."""
    monkeypatch.setattr(_sqlite_file, "CREATE", "nonsense;")
    with pytest.raises(StoreError, match="nonsense"):
        new_queue(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (sqlite3.SQLITE_BUSY, StoreLocked, "close that"),
        (sqlite3.SQLITE_CORRUPT, StoreFormatError, "restore it from a copy"),
        (sqlite3.SQLITE_NOTADB, StoreFormatError, "restore it from a copy"),
        (sqlite3.SQLITE_FULL, StoreError, "free some space"),
        (sqlite3.SQLITE_READONLY, StoreError, "must be writable"),
        (sqlite3.SQLITE_IOERR, StoreError, "system's log"),
        (sqlite3.SQLITE_MISUSE, StoreError, "in a word"),
    ],
)
def test_an_error_of_sqlite_says_what_to_do(code, kind, advice):
    """Each error of SQLite's becomes one of ours that names the file, and tells how to go on."""
    error = sqlite3.OperationalError("in a word")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_SOMETHING"
    told = _sqlite_file.explained(error, "/jobs.db")
    assert type(told) is kind
    assert "/jobs.db" in str(told)
    assert advice in str(told)
