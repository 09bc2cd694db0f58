"""What a store promises its queue. ``MemoryStore`` is the one there is."""

from __future__ import annotations

import itertools

import pytest
from helpers import HOST

from threadkit import DuplicateName, JobState, StoreError, WorkQueue
from threadkit import _fork as fork
from threadkit._records import JobRecord
from threadkit._storing import JobStore
from threadkit.stores import MemoryStore

P, R, C = JobState.PENDING, JobState.RUNNING, JobState.COMPLETED
numbers = itertools.count(1)


@pytest.fixture
def store() -> JobStore:
    made = MemoryStore()
    made.open(3, HOST)
    return made


def job(priority: int = 0, key: str | None = None) -> JobRecord:
    number = next(numbers)
    record = JobRecord(f"x-{number}", number, "work", None, 0.0)
    record.priority, record.key = priority, key
    return record


def put(store: JobStore, *records: JobRecord) -> None:
    for record in records:
        assert store.add(record) is None
        store.push(record)


def end(store: JobStore, record: JobRecord, how: JobState = C) -> None:
    assert store.move(record, P, R)
    assert store.settle(record, how, 1.0) is how


def test_the_line_is_sorted_by_priority_then_by_time(store):
    """The next job is one of the highest priority, and of those the first that came."""
    low, first, second, high = job(-1), job(), job(), job(5)
    assert store.claim() is None
    assert not store.has_ready()
    put(store, low, first, second, high)
    assert store.has_ready()
    assert [store.claim() for _ in range(5)] == [high, first, second, low, None]


def test_the_front_of_the_line(store):
    """A job that is put in front is the next of its priority."""
    one, other = job(), job()
    put(store, one)
    store.add(other)
    store.push(other, front=True)
    assert [store.claim(), store.claim()] == [other, one]


def test_a_job_can_be_pulled_out_once(store):
    """A job is pulled out of the line by one; who comes too late, or asks for one that was never there, is told."""
    one, other, strange = job(), job(), job(77)
    put(store, one, other)
    assert store.pull(one)
    assert not store.pull(one)
    assert not store.pull(strange)
    assert store.claim() is other


def test_the_oldest_is_found_whatever_its_priority(store):
    """The job that has stood in the line longest is claimed from among all priorities."""
    assert store.claim_oldest() is None
    old, high = job(-1), job(5)
    put(store, old, high)
    assert [store.claim_oldest(), store.claim_oldest(), store.claim_oldest()] == [old, high, None]


def test_a_key_is_held_until_the_job_has_finished(store):
    """Of two jobs with one key the second is not taken in while the first is unfinished."""
    one, other, third = job(key="k"), job(key="k"), job(key="k")
    put(store, one)
    assert store.holder("k") is one
    assert store.add(other) is one
    assert store.get(other.id) is None
    end(store, one)
    assert store.holder("k") is None
    put(store, other)
    assert store.move(other, P, JobState.CANCELLED, 1.0)
    put(store, third)
    assert store.holder("k") is third


def test_a_key_can_be_taken_over(store):
    """A job that replaces another has its key from then on, also when the other ends."""
    one, other = job(key="k"), job(key="k")
    put(store, one)
    assert store.add(other, replace=True) is one
    end(store, one)
    assert store.holder("k") is other


def test_a_keyed_job_that_goes_on_keeps_its_key(store):
    """A job that will be tried again is unfinished, so its key stays taken."""
    one = job(key="k")
    put(store, one)
    store.move(one, P, R)
    assert store.settle(one, JobState.RETRYING, 1.0) is JobState.RETRYING
    assert store.holder("k") is one
    assert not store.move(one, P, JobState.CANCELLED, 1.0)
    assert store.holder("k") is one


def test_old_jobs_are_forgotten_but_counted(store):
    """As many finished jobs are remembered as the store was told to keep; all are counted."""
    jobs = [job() for _ in range(5)]
    put(store, *jobs)
    for each in jobs[:4]:
        end(store, each)
    assert store.move(jobs[4], P, JobState.EXPIRED, 1.0)
    assert store.records() == jobs[2:]
    assert store.get(jobs[0].id) is None
    assert store.get(jobs[4].id) is jobs[4]
    assert (store.counts()[C], store.counts()[JobState.EXPIRED]) == (4, 1)


def test_a_job_that_has_not_begun_can_be_removed(store):
    """A job that is taken out before it began leaves no record, no count, no key and no place in the line."""
    plain, keyed, begun = job(), job(key="k"), job()
    put(store, plain, keyed, begun)
    assert store.remove(plain)
    assert store.remove(keyed)
    assert store.claim() is begun
    assert store.move(begun, P, R)
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
    assert (dead.state, dead.finished) == (P, None)


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


def test_a_store_belongs_to_one_queue():
    """A store that one queue uses is refused to another."""
    store = MemoryStore()
    WorkQueue("one", store=store)
    with pytest.raises(StoreError, match="make one for each queue"):
        WorkQueue("other", store=store)


def test_a_child_begins_anew(store, monkeypatch):
    """In a forked child a store may be opened again, and is empty then."""
    put(store, job())
    monkeypatch.setattr(fork, "_generation", fork.generation() + 1)
    store.open(3, HOST)
    assert store.records() == []
    assert sum(store.counts().values()) == 0
