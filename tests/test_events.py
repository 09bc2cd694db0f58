"""Events: each a sentence by ``str()`` and a flat dict by ``as_dict()``."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import re
from datetime import UTC, datetime
from typing import Any

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
    "hook": "page",
    "attempt": 2,
    "seconds": 0.25,
    "state": "cancelled",
    "status": "degraded",
    "health": "degraded: no disk",
    "policy": "reject",
    "limit": 1000,
    "rebuilds": 1,
    "function": "resize_image",
    "channel": "file.indexed",
    "payload": object(),
    "ok": True,
    "path": "/run/app.lock",
    "culprit": "read",
    "others": "'parse'",
    "stack": "in read",
}
KINDS = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
SENTENCES = {
    "Started": "'jobs' started",
    "Failed": "'jobs' failed: LookupError: no",
    "Restarted": "'jobs' ended (LookupError: no); restart 2 in 1.5 s",
    "RunFailed": "task 'jobs': run 3 failed: LookupError: no",
    "JobCompleted": "queue 'jobs': job 7f3a (resize) completed in 0.25 s",
    "JobEnded": "queue 'jobs': job 7f3a (resize) cancelled enough",
    "HandlerFailed": "bus 'jobs': resize failed on 'file.indexed': LookupError: no",
    "MessageDropped": "bus 'jobs': a message on 'file.indexed' was dropped and did not reach resize",
    "HealthChanged": "the health of 'jobs' is now degraded: no disk",
    "ShutdownFinished": "'jobs' is down after 0.25 s (all well: True)",
}


def fields(kind: type[events.Event]) -> list[str]:
    """Return the names of an event's fields, as its annotations tell them."""
    annotations = [inspect.get_annotations(each) for each in reversed(kind.__mro__)]
    return [name for each in annotations for name, type_ in each.items() if not type_.startswith("ClassVar")]


def example(kind: type[events.Event]) -> events.Event:
    return kind(**{name: VALUES[name] for name in fields(kind)})


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
    payload = {"payload"} if kind is events.MessageUnheard else set[str]()
    assert list(plain) == ["event", *(name for name in fields(kind) if name not in payload)]
    assert json.loads(json.dumps(plain)) == plain
    assert kind.__doc__


@pytest.mark.parametrize(("name", "sentence"), SENTENCES.items())
def test_sentences(name: str, sentence: str) -> None:
    """The sentence has the fields in their places, errors in one line."""
    assert str(example(getattr(events, name))) == sentence


def test_events_are_frozen() -> None:
    """What has happened cannot be changed."""
    event = events.Stopped(component="jobs")
    told = "'reason' of <Stopped: 'jobs' stopped (None)> cannot be changed: it has happened"
    with pytest.raises(AttributeError, match=re.escape(told)):
        event.reason = "another"  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError, match="cannot be changed"):
        del event.component
    assert (event.component, event.reason) == ("jobs", None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "Failed() takes component, at, error, but was given "),
        ({"component": "jobs"}, "Failed() takes component, at, error, but was given component"),
        (
            {"component": "jobs", "error": OSError(), "reason": "no"},
            "Failed() takes component, at, error, but was given component, error, reason",
        ),
    ],
)
def test_fields_are_what_is_annotated(given: dict[str, Any], told: str) -> None:
    """A field that is missing, or that there is not, is refused by name; and so are positions."""
    with pytest.raises(TypeError, match=re.escape(told)):
        events.Failed(**given)
    with pytest.raises(TypeError, match="positional"):
        events.Stopped("jobs")  # type: ignore[misc]  # that is the point


def test_a_signature_tells_the_fields() -> None:
    """What help() and the documentation show of an event is its fields, with what they are where nothing is given."""
    signature = inspect.signature(events.Stopped)
    assert str(signature) == "(*, component: 'str', at: 'datetime' = now, reason: 'str | None' = None)"
    assert str(inspect.signature(events.Started)) == "(*, component: 'str', at: 'datetime' = now)"


def test_events_are_themselves() -> None:
    """An event equals itself alone, can be a key, and survives pickle and copy with all its fields."""
    event = events.Restarted(component="feed", error=OSError("no"), restarts=1, delay=0.5)
    assert event != events.Restarted(component="feed", at=event.at, error=event.error, restarts=1, delay=0.5)
    assert {event: "kept"}[event] == "kept"
    for twin in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
        assert type(twin) is events.Restarted
        assert twin.as_dict() == event.as_dict()
        with pytest.raises(AttributeError, match="cannot be changed"):
            twin.delay = 1.0


def test_time_is_now_and_in_utc() -> None:
    """An event knows when it was made."""
    before = datetime.now(UTC)
    assert before <= events.Started(component="jobs").at <= datetime.now(UTC)


def test_failures_are_seen_without_configuration() -> None:
    """What is a failure is logged at WARNING or above."""
    for kind in KINDS:
        is_failure = "error" in fields(kind)
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
