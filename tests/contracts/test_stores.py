"""What every store promises its queue; what one of them promises beyond that stands in its own tests."""

from __future__ import annotations

import itertools

import pytest
from helpers import HOST, bounds

from threadkit import DuplicateName, JobState, StoreError, WorkQueue, stores
from threadkit import _fork as fork
from threadkit._records import JobFilter, JobRecord

P, R, C = JobState.PENDING, JobState.RUNNING, JobState.COMPLETED
numbers = itertools.count(1)


@pytest.fixture(params=["memory", "power", "process", "eventual"])
def new_store(request, tmp_path):
    if request.param == "memory":
        return stores.MemoryStore
    return lambda: stores.SQLiteStore(tmp_path / "jobs.db", request.param)


@pytest.fixture
def store(new_store):
    made = new_store()
    made.open(bounds(3), HOST)
    made.serve(frozenset({"work"}), frozenset({"limited"}))
    yield made
    for record in made.in_hand():
        if record.state is R:
            made.settle(record, JobState.CANCELLED, 1.0)
    made.close()


def job(priority: int = 0, key: str | None = None, name: str = "work") -> JobRecord:
    number = next(numbers)
    record = JobRecord(f"x-{number}", number, name, None, 0.0)
    record.priority, record.key = priority, key
    return record


def put(store, *records: JobRecord) -> None:
    for record in records:
        assert store.add(record) is None
        store.push(record)


def end(store, record: JobRecord, how: JobState = C) -> None:
    assert store.move(record, P, R)
    store.check(record)
    assert store.settle(record, how, 1.0) is how


def test_the_line_is_sorted_by_priority_then_by_time(store):
    """The next job is one of the highest priority, and of those the first that came."""
    low, first, second, high = job(-1), job(), job(), job(5)
    assert store.claim() is None
    assert not store.has_ready()
    put(store, low, first, second, high)
    assert store.has_ready()
    assert [store.claim() for _ in range(5)] == [high, first, second, low, None]
    assert not store.has_ready()


def test_a_job_that_a_limit_held_comes_first(store):
    """A job that was claimed, and held by a limit of its handler, is the next when it is put in front."""
    held, other = job(name="limited"), job(name="limited")
    put(store, held, other)
    assert store.claim() is held
    assert held.state is P
    store.push(held, front=True)
    assert store.claim() is held
    assert store.move(held, P, R)
    assert not store.move(held, P, JobState.CANCELLED, 1.0)
    assert held.state is R


def test_what_is_put_in_front_can_be_pulled_out(store):
    """A job that waits in front is pulled out by one; who comes too late is told."""
    held = job(name="limited")
    put(store, held)
    assert store.claim() is held
    store.push(held, front=True)
    assert store.pull(held)
    assert not store.pull(held)
    assert not store.pull(job(77))
    assert store.claim() is None


def test_what_has_ended_is_not_claimed(store):
    """A job that was cancelled or removed while it waited is not handed out."""
    one, two, three = job(), job(), job()
    put(store, one, two, three)
    assert store.move(one, P, JobState.CANCELLED, 1.0, "was cancelled")
    store.pull(one)
    assert store.remove(two)
    assert store.claim() is three
    assert (one.state, one.why) == (JobState.CANCELLED, "was cancelled")


def test_the_oldest_is_found_whatever_its_priority(store):
    """The job that has stood in the line longest is found among all priorities."""
    assert store.claim_oldest() is None
    old, high = job(-1), job(5)
    put(store, old, high)
    for each in (old, high):
        assert store.claim_oldest() is each
        assert store.move(each, P, JobState.CANCELLED, 1.0, "was dropped")
    assert store.claim_oldest() is None


def test_a_key_is_held_until_the_job_has_finished(store):
    """Of two jobs with one key the second is not taken in while the first is unfinished."""
    one, other, third = job(key="k"), job(key="k"), job(key="k")
    put(store, one)
    assert store.holder("k") is one
    assert store.add(other) is one
    assert store.get(other.id) is None
    end(store, one)
    assert store.holder("k") is None
    again = job(key="k")
    put(store, again)
    assert store.move(again, P, JobState.CANCELLED, 1.0)
    put(store, third)
    assert store.holder("k") is third


def test_a_key_can_be_taken_over(store):
    """A job that replaces another has its key from then on, also when the other ends."""
    one, other = job(key="k"), job(key="k")
    put(store, one)
    assert store.move(one, P, R)
    assert store.add(other, replace=True) is one
    store.check(one)
    assert store.settle(one, C, 1.0) is (JobState.CANCELLED if store.durable else C)
    assert store.holder("k") is other


def test_a_keyed_job_that_goes_on_keeps_its_key(store):
    """A job that will be tried again is unfinished, so its key stays taken."""
    one = job(key="k")
    put(store, one)
    store.move(one, P, R)
    one.due = 1e9
    assert store.settle(one, JobState.RETRYING, 1.0) is JobState.RETRYING
    assert store.holder("k") is one
    assert not store.move(one, P, JobState.CANCELLED, 1.0)
    assert (store.holder("k"), one.state) == (one, JobState.RETRYING)


def test_a_condemned_job_meets_its_fate(store):
    """A running job goes where it was condemned to, whatever its handler did; it is condemned once."""
    one, other = job(), job()
    put(store, one, other)
    assert not store.condemn(one, JobState.CANCELLED, "was cancelled")
    store.move(one, P, R)
    one.attempts = 1
    assert store.condemn(one, JobState.CANCELLED, "was cancelled")
    assert not store.condemn(one, P, "was interrupted")
    assert store.settle(one, C, 1.0) is JobState.CANCELLED
    assert (one.state, one.why, one.value) == (JobState.CANCELLED, "was cancelled", None)
    store.move(other, P, R)
    other.attempts = 1
    assert store.condemn(other, P, "was interrupted")
    assert other.attempts == 0
    assert store.settle(other, C, 1.0) is P
    assert store.counts()[P] == 1


def test_old_jobs_are_forgotten_but_counted(store):
    """As many finished jobs are remembered as the store was told to keep; all are counted."""
    jobs = [job() for _ in range(5)]
    put(store, *jobs)
    for each in jobs[:4]:
        end(store, each)
    assert store.move(jobs[4], P, JobState.EXPIRED, 1.0)
    assert store.records() == jobs[2:]
    assert store.records(JobFilter(C)) == jobs[2:4]
    assert store.records(JobFilter(JobState.EXPIRED)) == jobs[4:]
    assert store.get(jobs[0].id) is None
    assert store.get(jobs[4].id) is jobs[4]
    assert (store.counts()[C], store.counts()[JobState.EXPIRED]) == (4, 1)


def test_jobs_are_listed_by_state(store):
    """Jobs can be listed by each state, in the order of their coming."""
    scheduled, pending, running, retrying = job(), job(), job(), job()
    scheduled.state, scheduled.due = JobState.SCHEDULED, 1e9
    assert store.add(scheduled) is None
    put(store, pending, running, retrying)
    store.move(running, P, R)
    store.move(retrying, P, R)
    retrying.due = 1e9
    store.settle(retrying, JobState.RETRYING, 1.0)
    assert store.records() == [scheduled, pending, running, retrying]
    for each in store.records():
        assert store.records(JobFilter(each.state)) == [each]


def test_the_position_counts_who_comes_first(store):
    """The position of a pending job is the number of those that come before it."""
    low, first, second, high = job(-1), job(), job(), job(5)
    put(store, low, first, second, high)
    assert [store.position(each) for each in (high, first, second, low)] == [0, 1, 2, 3]


def test_a_job_that_has_not_begun_can_be_removed(store):
    """A job that is taken out before it began leaves no record, no count, no key and no place in the line."""
    plain, keyed, begun = job(), job(key="k"), job()
    put(store, plain, keyed, begun)
    assert store.remove(plain)
    assert store.remove(keyed)
    assert store.claim() is begun
    assert store.move(begun, P, R)
    assert not store.remove(begun)
    assert store.records() == [begun]
    assert store.holder("k") is None
    assert sum(store.counts().values()) == 1


def test_a_dead_letter_is_revived_once(store):
    """A dead letter becomes pending again by one call; nothing else does, nor what has been forgotten."""
    dead, done = job(), job()
    put(store, dead, done)
    end(store, dead, JobState.FAILED)
    end(store, done)
    assert store.revive(dead)
    assert not store.revive(dead)
    assert not store.revive(done)
    assert store.get(done.id) is done
    assert (dead.state, dead.finished, dead.attempts) == (P, None, 0)


def test_a_forgotten_dead_letter_stays_dead(store):
    """A dead letter that the store has forgotten cannot be revived: nobody would find it by its id."""
    dead = [job() for _ in range(4)]
    put(store, *dead)
    for record in dead:
        end(store, record, JobState.FAILED)
    assert not store.revive(dead[0])
    assert store.revive(dead[1])
    assert store.counts()[JobState.FAILED] == 3


def test_a_revived_job_takes_its_key_again(store):
    """A dead letter is revived with its key, unless another job has it by now."""
    dead = job(key="k")
    put(store, dead)
    end(store, dead, JobState.FAILED)
    other = job(key="k")
    put(store, other)
    with pytest.raises(DuplicateName, match="'k'"):
        store.revive(dead)
    end(store, other)
    assert store.revive(dead)
    assert store.holder("k") is dead


def test_a_store_belongs_to_one_queue(new_store):
    """A store that one queue uses is refused to another."""
    store = new_store()
    with WorkQueue("one", store=store), pytest.raises(StoreError, match="make one for each queue"):
        WorkQueue("other", store=store)


def test_a_child_begins_anew(store, monkeypatch):
    """In a forked child a store may be opened again; only what is in a file is found there."""
    put(store, job())
    monkeypatch.setattr(fork, "_generation", fork.generation() + 1)
    assert store.in_hand()
    if store.durable:
        return  # that a child may open the file anew takes a real fork; see tests/integration/test_sqlite_processes.py
    store.open(bounds(3), HOST)
    assert store.records() == []
    assert sum(store.counts().values()) == 0
