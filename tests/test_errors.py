"""The tree of errors, and what user code raises to steer: texts, parents, and a trip through pickle."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest

import threadkit
from threadkit import (
    ActionError,
    CallTimeout,
    Closed,
    DependencyCycle,
    Discard,
    DuplicateName,
    ForkedError,
    Full,
    JobCancelled,
    JobFailed,
    LeaseError,
    RecordedError,
    RetryLater,
    Snooze,
    StartTimeout,
    Stopping,
    StoreError,
    StoreFormatError,
    StoreLocked,
    ThreadkitError,
    UnknownComponent,
    UnknownHandler,
    Unresponsive,
    WouldBlock,
)

# Each error with the builtin that it is also a child of, and a piece of its sentence.
ERRORS: list[tuple[BaseException, type[BaseException], str]] = [
    (Closed("queue", "jobs"), RuntimeError, "queue 'jobs' is closed"),
    (Closed("queue", "jobs", "start another"), RuntimeError, "start another"),
    (Full("queue", "jobs", 3), RuntimeError, "queue 'jobs' is full: 3 are waiting"),
    (WouldBlock("submit()", "a loop", "acall()"), RuntimeError, "submit() would block a loop"),
    (ForkedError("queue", "jobs"), RuntimeError, "queue 'jobs' belongs to the parent process"),
    (UnknownHandler("a", ["b", "c"]), LookupError, "no handler is called 'a'; known are 'b', 'c'"),
    (UnknownHandler("a"), LookupError, "there are none yet"),
    (UnknownComponent("a", iter(["b"])), LookupError, "no component is called 'a'; known are 'b'"),
    (DuplicateName("component", "a"), ValueError, "a component called 'a' exists already"),
    (DependencyCycle(["a", "b"]), ValueError, "'a' -> 'b' -> 'a'"),
    (DependencyCycle(iter(["a"])), ValueError, "'a' -> 'a'"),
    (StartTimeout("feed", 10), TimeoutError, "component 'feed' was not ready within 10 s"),
    (Unresponsive("feed", 10.0), TimeoutError, "thread 'feed' gave no sign of life for 10 s"),
    (CallTimeout("action 'a'", 0.5), TimeoutError, "action 'a' gave no reply within 0.5 s"),
    (JobFailed("7f", "resize", "failed"), RuntimeError, "job 7f ('resize') failed"),
    (JobCancelled("7f", "resize", "was cancelled"), RuntimeError, "job 7f ('resize') was cancelled"),
    (ActionError("status", "KeyError: 'x'"), RuntimeError, "action 'status' failed: KeyError: 'x'"),
    (StoreError("jobs.db", "disk full"), OSError, "job store 'jobs.db': disk full"),
    (StoreLocked("jobs.db", "held"), StoreError, "job store 'jobs.db': held"),
    (StoreFormatError("a.png", "no store"), StoreError, "job store 'a.png': no store"),
    (RecordedError("OSError: no disk", ""), RuntimeError, "OSError: no disk"),
    (LeaseError("/run/app.lock", "no folder"), OSError, "lease '/run/app.lock': no folder"),
    (RetryLater(30), ThreadkitError, "try again in 30 s"),
    (RetryLater(timedelta(minutes=1)), ThreadkitError, "try again in 0:01:00"),
    (Snooze(5), ThreadkitError, "not now: again in 5 s"),
    (Discard("gone"), ThreadkitError, "discarded: gone"),
    (Discard(), ThreadkitError, "discarded"),
    (Stopping("SIGTERM"), BaseException, "stopping: SIGTERM"),
    (Stopping(), BaseException, "stopping"),
]


@pytest.mark.parametrize(("error", "parent", "text"), ERRORS)
def test_sentence(error: BaseException, parent: type[BaseException], text: str) -> None:
    """An error is a child of the builtin that fits, and its sentence says what happened and to whom."""
    assert isinstance(error, parent)
    assert text in str(error)


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS])
def test_pickle(error: BaseException) -> None:
    """An error survives pickle and copy with its sentence and its attributes."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_one_base_catches_all() -> None:
    """Every error at the door is a ThreadkitError, but for Stopping, which no ``except Exception`` may swallow."""
    at_the_door = [value for value in vars(threadkit).values() if isinstance(value, type)]
    errors = {value for value in at_the_door if issubclass(value, BaseException)}
    assert {type(error) for error, _, _ in ERRORS} | {ThreadkitError} == errors
    assert [error for error in errors if not issubclass(error, ThreadkitError)] == [Stopping]
    assert not issubclass(Stopping, Exception)
