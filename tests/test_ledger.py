"""The exact counts behind a queue's figures, and the stamps of its records."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from helpers import PATIENCE, Background

from threadkit import JobState
from threadkit._ledger import Ledger
from threadkit._records import UNFINISHED, JobError, JobRecord, Progress
from threadkit._stamps import Stamps
from threadkit.testing import VirtualClock


def record(number: int = 1, state: JobState = JobState.PENDING) -> JobRecord:
    made = JobRecord(f"x-{number}", number, "work", None, 0.0)
    made.state = state
    return made


def counts(ledger: Ledger) -> dict[str, int]:
    return {str(state): count for state, count in ledger.snapshot().items() if count}


def test_a_move_takes_the_count_along():
    """A job that moves is counted where it is, and nowhere else."""
    ledger, job = Ledger(), record()
    ledger.enter(job)
    assert counts(ledger) == {"pending": 1}
    assert ledger.move(job, JobState.PENDING, JobState.RUNNING)
    assert counts(ledger) == {"running": 1}
    assert job.state is JobState.RUNNING


def test_only_the_first_moves_a_job():
    """A job is moved out of a state once; who comes too late is told and changes nothing."""
    ledger, job = Ledger(), record()
    ledger.enter(job)
    assert ledger.move(job, JobState.PENDING, JobState.CANCELLED, 7.0, "was cancelled")
    assert not ledger.move(job, JobState.PENDING, JobState.RUNNING)
    assert (job.state, job.finished, job.why) == (JobState.CANCELLED, 7.0, "was cancelled")
    assert counts(ledger) == {"cancelled": 1}


def test_a_struck_job_was_never_there():
    """A job that is struck leaves no count behind; one that has moved on cannot be struck."""
    ledger, job, other = Ledger(), record(1), record(2)
    ledger.enter(job)
    ledger.enter(other)
    assert ledger.strike(job, JobState.PENDING)
    assert not ledger.strike(job, JobState.PENDING)
    ledger.move(other, JobState.PENDING, JobState.RUNNING)
    assert not ledger.strike(other, JobState.PENDING)
    assert counts(ledger) == {"running": 1}


@pytest.mark.parametrize(("fate", "attempts", "finished"), [(JobState.CANCELLED, 1, 9.0), (JobState.PENDING, 0, None)])
def test_a_condemned_job_meets_its_fate(fate, attempts, finished):
    """Where a running job is condemned, that decides where it goes; only an interrupted one gets its attempt back."""
    ledger, job = Ledger(), record(1, JobState.RUNNING)
    ledger.enter(job)
    job.attempts, job.value = 1, "result"
    assert ledger.condemn(job, fate, "because")
    assert not ledger.condemn(job, JobState.CANCELLED, "again")
    assert ledger.settle(job, JobState.COMPLETED, 9.0) is fate
    assert (job.state, job.why, job.value, job.fate) == (fate, "because", None, None)
    assert (job.attempts, job.finished) == (attempts, finished)
    assert counts(ledger) == {str(fate): 1}


def test_only_what_runs_is_condemned():
    """A job that does not run cannot be condemned."""
    ledger, job = Ledger(), record()
    ledger.enter(job)
    assert not ledger.condemn(job, JobState.CANCELLED, "no")
    assert job.fate is None


def test_a_settled_job_is_where_its_attempt_led():
    """A job that nobody condemned settles where it wants; a time of finish is kept only by what has finished."""
    ledger, one, other = Ledger(), record(1, JobState.RUNNING), record(2, JobState.RUNNING)
    ledger.enter(one)
    ledger.enter(other)
    assert ledger.settle(one, JobState.RETRYING, 9.0) is JobState.RETRYING
    assert ledger.settle(other, JobState.DISCARDED, 9.0, "was discarded") is JobState.DISCARDED
    assert (one.finished, other.finished, other.why) == (None, 9.0, "was discarded")


def test_a_key_has_one_unfinished_job():
    """A key is its first job's until that has finished, unless it is taken over; a job that finishes lets go of it."""
    ledger, first, second, third = Ledger(), record(1), record(2), record(3)
    first.key = second.key = third.key = "key"
    assert ledger.enter(first) is None
    assert ledger.enter(second) is first
    assert counts(ledger) == {"pending": 1}
    assert ledger.enter(third, replace=True) is first
    assert ledger.holder("key") is third
    ledger.move(first, JobState.PENDING, JobState.CANCELLED)  # it lost the key before, and must not take it along
    assert ledger.holder("key") is third
    ledger.move(third, JobState.PENDING, JobState.RUNNING)
    assert ledger.holder("key") is third
    ledger.settle(third, JobState.COMPLETED, 1.0)
    assert ledger.holder("key") is None


def test_jobs_of_one_key_share_a_lock():
    """A key changes hands under the lock under which its jobs change their states: there is no second to wait for."""
    ledger, jobs = Ledger(), [record(number) for number in range(20)]
    for job in jobs:
        job.key = "key"
        ledger.enter(job, replace=True)
    assert len({job.spread for job in jobs}) == 1


def test_a_snapshot_waits_empty_handed():
    """Who wants all locks waits for one only while holding none, since a finalizer may want any of them meanwhile."""
    ledger = Ledger()
    *others, held = ledger._stripes
    with held.lock:
        snapshot = Background(ledger.snapshot)
        for _ in range(50):  # so that it is met at every stage
            for stripe in others:
                assert stripe.lock.acquire(timeout=PATIENCE)
                stripe.lock.release()
    assert sum(snapshot.result().values()) == 0


def test_an_interrupted_snapshot_lets_go():
    """A Ctrl-C that strikes while a snapshot takes its locks leaves none of them taken."""
    ledger = Ledger()

    class Struck:
        def acquire(self, blocking: bool = True) -> bool:
            raise KeyboardInterrupt

    real, ledger._stripes[3].lock = ledger._stripes[3].lock, Struck()
    with pytest.raises(KeyboardInterrupt):
        ledger.snapshot()
    ledger._stripes[3].lock = real
    assert Background(ledger.snapshot).result() == ledger.snapshot()


def test_figures_add_up_under_load():
    """Whatever moves meanwhile, every look at the counts finds as many jobs as there are, and none below zero."""
    ledger, jobs = Ledger(), [record(number) for number in range(64)]
    for job in jobs:
        ledger.enter(job)

    def shuffle(part: list[JobRecord]) -> None:
        for _ in range(60):
            for job in part:
                assert ledger.move(job, JobState.PENDING, JobState.RUNNING)
                assert ledger.settle(job, JobState.RETRYING, 0.0) is JobState.RETRYING
                assert ledger.move(job, JobState.RETRYING, JobState.PENDING)

    movers = [Background(lambda part=jobs[start::4]: shuffle(part)) for start in range(4)]
    while any(mover.thread.is_alive() for mover in movers):
        seen = ledger.snapshot()
        assert sum(seen.values()) == 64
        assert min(seen.values()) >= 0
    for mover in movers:
        mover.result()
    assert counts(ledger) == {"pending": 64}


def test_states_know_whether_they_are_the_end():
    """Five states are the end of a job, and the other four are not."""
    assert {state for state in JobState if not state.is_finished} == UNFINISHED
    assert len(UNFINISHED) == 4
    assert JobState("failed") is JobState.FAILED


def test_an_error_of_a_job_is_text_where_it_must_be():
    """What an attempt raised can be had as a line, as a traceback and as plain values."""
    try:
        raise OSError("no disk")
    except OSError as raised:
        error = JobError(2, datetime(2026, 1, 1, tzinfo=UTC), raised)
    assert str(error) == "attempt 2: OSError: no disk"
    assert error.traceback.startswith("Traceback")
    assert error.as_dict() == {
        "attempt": 2,
        "at": "2026-01-01T00:00:00+00:00",
        "error": "OSError: no disk",
        "traceback": error.traceback,
    }


def test_progress_is_a_number_with_a_message():
    """Progress compares and calculates as the fraction it is, and carries the message."""
    progress = Progress(0.5, "half")
    assert progress == 0.5
    assert progress.message == "half"


def test_stamps_follow_the_wall_clock():
    """A stamp is the POSIX time of its moment; a step of the wall clock is seen within a second."""
    clock = VirtualClock()
    stamps = Stamps(clock)
    began = stamps.now()
    assert began == clock.now().timestamp()
    clock.advance(0.5)
    assert stamps.now() == began + 0.5
    clock.set_wall(datetime(2030, 1, 1, tzinfo=UTC))
    assert stamps.at(clock.monotonic()) == began + 0.5
    clock.advance(0.5)
    assert stamps.now() == datetime(2030, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC).timestamp()
