"""What the family of stores is: its names, and what ``MemoryStore`` does beyond the contract of all stores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import HOST, bounds

from threadkit import stores
from threadkit._records import JobRecord
from threadkit.stores import MemoryStore


def test_a_job_can_be_pulled_out_of_the_middle():
    """A job is pulled out of a line in memory wherever it stands, once."""
    store = MemoryStore()
    store.open(bounds(3), HOST)
    one, other = JobRecord("x-1", 1, "work", None, 0.0), JobRecord("x-2", 2, "work", None, 0.0)
    for record in (one, other):
        store.add(record)
        store.push(record)
    assert store.pull(one)
    assert not store.pull(one)
    assert store.claim() is other


def test_the_front_of_the_line():
    """A job that is put in front is the next of its priority."""
    store = MemoryStore()
    store.open(bounds(3), HOST)
    one, other = JobRecord("x-1", 1, "work", None, 0.0), JobRecord("x-2", 2, "work", None, 0.0)
    store.add(one)
    store.push(one)
    store.add(other)
    store.push(other, front=True)
    assert [store.claim(), store.claim()] == [other, one]


def test_a_store_that_there_is_not():
    """The family has the names that it lists, and no others."""
    for name in stores.__all__:
        assert getattr(stores, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'RedisStore'"):
        stores.RedisStore  # noqa: B018


def test_jobs_in_memory_load_no_database():
    """Who keeps jobs in memory loads neither sqlite3 nor what is around it."""
    source = (
        "import sys; from threadkit import WorkQueue\n"
        "with WorkQueue() as queue: queue.handler('work')(print)\n"
        "print([name for name in sys.modules if 'sqlite' in name])"
    )
    # A child that coverage measures has loaded sqlite3 by itself.
    unmeasured = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", source], env=unmeasured, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "[]\n", done.stderr
