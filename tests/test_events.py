"""Events: each a sentence by ``str()`` and a flat dict by ``as_dict()``."""

from __future__ import annotations

import inspect
import json
import logging
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from threadkit import events

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VALUES: dict[str, Any] = {
    "component": "jobs",
    "at": NOON,
    "reason": "enough",
    "error": LookupError("no"),
    "restarts": 2,
    "delay": 1.5,
    "number": 3,
    "scheduled_at": NOON,
    "count": 4,
    "threads": 32,
    "job_id": "7f3a",
    "handler": "resize",
    "attempt": 2,
    "seconds": 0.25,
    "state": "cancelled",
    "policy": "reject",
    "limit": 1000,
    "rebuilds": 1,
    "function": "resize_image",
    "channel": "file.indexed",
    "ok": True,
}
KINDS = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
SENTENCES = {
    "Started": "'jobs' started",
    "Failed": "'jobs' failed: LookupError: no",
    "Restarted": "thread 'jobs' ended (LookupError: no); restart 2 in 1.5 s",
    "RunFailed": "task 'jobs': run 3 failed: LookupError: no",
    "JobCompleted": "queue 'jobs': job 7f3a (resize) completed in 0.25 s",
    "JobEnded": "queue 'jobs': job 7f3a (resize) cancelled enough",
    "HandlerFailed": "bus 'jobs': resize failed on 'file.indexed': LookupError: no",
    "MessageDropped": "bus 'jobs': a message on 'file.indexed' was dropped, since resize is too slow",
    "ShutdownFinished": "'jobs' is down after 0.25 s (all well: True)",
}


def example(kind: type[events.Event]) -> events.Event:
    return kind(**{field.name: VALUES[field.name] for field in attrs.fields(kind)})  # type: ignore[arg-type]  # attrs


@pytest.mark.parametrize("kind", KINDS)
def test_every_event(kind: type[events.Event]) -> None:
    """Every event reads as a sentence about its component, and is plain values for JSON."""
    event = example(kind)
    assert "'jobs'" in str(event)
    assert "{" not in str(event)
    assert repr(event) == f"<{kind.__name__}: {event}>"
    plain = event.as_dict()
    assert plain["event"] == kind.__name__
    assert plain["at"] == "2026-01-01T12:00:00+00:00"
    assert plain.keys() - {"event"} == {field.name for field in attrs.fields(kind)}  # type: ignore[arg-type]  # attrs
    assert json.loads(json.dumps(plain)) == plain
    assert kind.__doc__


@pytest.mark.parametrize(("name", "sentence"), SENTENCES.items())
def test_sentences(name: str, sentence: str) -> None:
    """The sentence has the fields in their places, errors in one line."""
    assert str(example(getattr(events, name))) == sentence


def test_events_are_frozen() -> None:
    """What has happened cannot be changed."""
    event = events.Stopped(component="jobs")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.reason = "another"  # type: ignore[misc]  # that is the point


def test_time_is_now_and_in_utc() -> None:
    """An event knows when it was made."""
    before = datetime.now(UTC)
    assert before <= events.Started(component="jobs").at <= datetime.now(UTC)


def test_failures_are_seen_without_configuration() -> None:
    """What is a failure is logged at WARNING or above."""
    for kind in KINDS:
        is_failure = any(field.name == "error" for field in attrs.fields(kind))  # type: ignore[arg-type]  # attrs
        assert kind.level >= (logging.WARNING if is_failure else logging.DEBUG)


def test_describe() -> None:
    """An error is described by its class and its message, where it has one and can tell it."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("not even this")

    assert events.describe(LookupError("no")) == "LookupError: no"
    assert events.describe(SystemExit()) == "SystemExit"
    assert events.describe(Mute()) == "Mute: (its message cannot be read)"
    assert str(events.Failed(component="jobs", error=Mute())) == "'jobs' failed: Mute: (its message cannot be read)"
