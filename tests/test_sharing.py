"""The tools by which processes share a file: locks that tell who lives, pipes that wake, a bound that is counted."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import StoreError, WorkQueue, _jobfile, stores
from threadkit import _fork as fork
from threadkit._clock import SYSTEM_CLOCK
from threadkit._owners import LockFile
from threadkit._room import Room
from threadkit._wakeup import Doorbell, ring


def test_a_bell_is_heard(tmp_path):
    """Who rings the bell of a process wakes it, also where the bell was left behind by another of its name."""
    path = str(tmp_path / "bell")
    (tmp_path / "bell").write_text("left behind")
    heard = Gate()
    bell = Doorbell(path)
    bell.listen("test-bell", heard.open)
    ring(path)
    heard.pass_through()
    bell.close()
    ring(path)
    assert not (tmp_path / "bell").exists()


def test_a_bell_that_nobody_answers(tmp_path):
    """A pipe that is full has rung already; a file that is no pipe is left alone; and one that nobody reads is, too."""
    path = str(tmp_path / "bell")
    bell = Doorbell(path)
    try:
        while True:
            os.write(bell._outside, bytes(4096))
    except BlockingIOError:
        pass
    ring(path)
    bell.close()
    (tmp_path / "file").write_text("mine")
    ring(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    os.mkfifo(path)
    ring(path)
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def test_a_full_bell_can_be_closed(tmp_path):
    """A bell that is full is closed all the same."""
    bell = Doorbell(str(tmp_path / "bell"))
    bell._is_served = True
    try:
        while True:
            os.write(bell._outside, bytes(4096))
    except BlockingIOError:
        pass
    bell.close()
    bell._dispose()


def test_owners_of_one_process_are_alive(tmp_path):
    """An owner is alive until it releases its byte; a file is opened once however many use it."""
    path = str(tmp_path / "lock")
    assert not LockFile.is_open(path)
    one, other = LockFile.of(path), LockFile.of(path)
    assert one is other
    assert LockFile.is_open(path)
    assert one.hold(7)
    assert other.is_alive(7)
    assert not other.is_alive(8)
    one.release(7)
    assert not other.is_alive(7)
    one.close()
    assert LockFile.is_open(path)
    other.close()
    assert not LockFile.is_open(path)
    with pytest.raises(StoreError, match="for locking"):
        LockFile.of(str(tmp_path / "missing" / "lock"))


def test_nobody_is_dead_by_a_lock_file_that_was_deleted_or_replaced(tmp_path):
    """Of a lock file that does not lie in its place any more it is not concluded that a process is dead."""
    path = tmp_path / "lock"
    file = LockFile.of(str(path))
    assert not file.is_alive(8)
    path.rename(tmp_path / "elsewhere")
    assert file.is_alive(8)
    path.touch()
    assert file.is_alive(8)
    (tmp_path / "elsewhere").rename(path)
    assert not file.is_alive(8)
    file.close()


def test_a_child_holds_no_lock(tmp_path, monkeypatch):
    """In a forked child no file is open: its parent's locks are not its own."""
    path = str(tmp_path / "lock")
    file = LockFile.of(path)
    with monkeypatch.context() as context:
        context.setattr(fork, "_generation", fork.generation() + 1)
        assert not LockFile.is_open(path)
    assert not LockFile.is_open(path)
    os.close(file._descriptor)


def test_room_is_counted():
    """There is room for as many as may wait, less those that wait and those that are on their way."""
    room = Room(SYSTEM_CLOCK, 3, 1)
    assert room.take_now()
    assert room.take_now()
    assert not room.take_now()
    assert room.taken() == 3
    room.update(2, 1)
    assert not room.take_now()
    room.owe()
    room.give()
    waiting = Background(lambda: room.take(None, lambda: False))
    room.update(1, 1)
    assert waiting.result()
    room.resize(1)
    assert room.take_now()
    room.take_anyway()
    assert room.taken() == 4


def test_who_tells_a_room_waits_for_nobody():
    """The store's leader goes on though somebody has the room's lock; what it told is noted by the next who takes."""
    room = Room(SYSTEM_CLOCK, 2, 2)
    with room._lock:
        Background(lambda: room.update(0, 0)).result()
        assert room.taken() == 2
    assert room.take_now()
    assert room.taken() == 1


def test_one_step_that_is_at_fault_does_not_hurt_the_others(tmp_path):
    """Of several steps in one transaction one that SQLite refuses is told so; the others are done."""
    store = stores.SQLiteStore(tmp_path / "jobs.db", "process")
    with WorkQueue(workers=0, store=store) as queue:
        queue.declare("work")
        file = store._file
        begun, goes_on = Gate(), Gate()

        def slow(_: object) -> None:
            begun.open()
            goes_on.pass_through()

        first = Background(lambda: file.run(slow))
        begun.pass_through()
        bad = Background(lambda: file.run(lambda tx: tx.execute("SELECT ?", ("\ud800",))))
        good = Background(lambda: queue.submit("work", 1))
        while len(file._commits._waiting) < 2:
            SYSTEM_CLOCK.park(SYSTEM_CLOCK.gate(), SYSTEM_CLOCK.monotonic() + 0.001)
        goes_on.open()
        first.result()
        with pytest.raises(UnicodeEncodeError):
            bad.result()
        assert good.result().state == "pending"
        assert queue.stats().submitted == 1


def test_an_interrupt_within_a_transaction(tmp_path):
    """Ctrl-C within a transaction undoes it; just after the commit it undoes nothing, and all are told."""
    store = stores.SQLiteStore(tmp_path / "jobs.db", "process")
    queue = WorkQueue(workers=0, store=store)  # not started: else it would strike whichever of its threads writes
    queue.declare("work")
    file = store._file

    def interrupted(tx) -> None:
        tx.execute("UPDATE tally SET failed = 99")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file.run(interrupted)
    assert queue.stats().failed == 0
    commit = file._commit

    def struck(tx) -> None:
        file._commit = commit
        commit(tx)
        raise KeyboardInterrupt

    file._commit = struck
    with pytest.raises(KeyboardInterrupt):
        queue.submit("work", 1)
    assert queue.stats().submitted == 1
    assert queue.submit("work", 2).state == "pending"
    queue.stop()
    queue.close()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("SELECT count(*) FROM job").fetchone() == (2,)
    connection.close()
    assert queue.join(PATIENCE)


HOLDER = """
import fcntl, sys
lock = open(sys.argv[1], "wb")
fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_that_another_process_holds(tmp_path):
    """A new owner whose lock another process holds, as in a copy's lock file, is refused; nothing stays open."""
    path = tmp_path / "jobs.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"{path}-lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StoreError, match="lock of a new owner"):
        WorkQueue(store=stores.SQLiteStore(path))
    holder.communicate()
    assert not LockFile.is_open(f"{path}-lock")
    with WorkQueue(store=stores.SQLiteStore(path)) as queue:
        assert queue.stats().submitted == 0


def test_a_fork_waits_until_no_file_is_in_use(tmp_path):
    """Whoever forks waits for a transaction, and for a look into the file, and holds nothing while it waits."""
    store = stores.SQLiteStore(tmp_path / "jobs.db", "process")
    with WorkQueue(workers=0, store=store) as queue:
        queue.declare("work")
        reached, waits, goes_on, holds = Gate(), Gate(), Gate(), Gate()
        reading = store._file.reading

        class Watched:
            release = reading.release
            __enter__ = staticmethod(reading.__enter__)
            __exit__ = staticmethod(reading.__exit__)

            def acquire(self, *, blocking: bool) -> bool:
                if blocking:
                    waits.open()
                return reading.acquire(blocking)

        store._file.reading = Watched()

        def read() -> None:
            with reading:
                reached.open()
                goes_on.pass_through()

        def fork() -> None:
            _jobfile._hold_still()
            holds.open()
            _jobfile._go_on()

        reader = Background(read)
        reached.pass_through()
        forking = Background(fork)
        waits.pass_through()
        assert queue.submit("work", 1).state == "pending"  # the transaction is free meanwhile
        assert not holds.is_open()
        goes_on.open()
        reader.result()
        forking.result()
        assert queue.submit("work", 2).state == "pending"


def test_a_value_is_not_tried_once_the_file_is_closed(tmp_path):
    """A file that has been closed has no opinion on what SQLite takes; an open one refuses what it does not."""
    store = stores.SQLiteStore(tmp_path / "jobs.db", "process")
    with WorkQueue(workers=0, store=store):
        with pytest.raises(UnicodeEncodeError):
            store._file.try_value("\ud800")
        store._file.try_value("text")
    store._file.try_value("\ud800")


def test_a_step_that_was_posted_and_cannot_be_done(tmp_path, caplog):
    """What nobody waits for and cannot be done is told to the log, and keeps nothing from being done."""
    store = stores.SQLiteStore(tmp_path / "jobs.db", "process")
    with WorkQueue(workers=0, store=store) as queue:

        def break_down(_: object) -> None:
            raise UnicodeError("half a character")

        store._file.post(break_down)
        assert queue.stats().submitted == 0
    assert "half a character" in caplog.text
