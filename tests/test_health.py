"""How well a component is, and how well a whole."""

from __future__ import annotations

import json

import pytest

from threadkit.health import Health, Status, worst


@pytest.mark.parametrize(
    ("status", "is_ready", "is_live"),
    [
        (Status.READY, True, True),
        (Status.STARTING, False, True),
        (Status.STOPPING, False, True),
        (Status.DEGRADED, True, True),
        (Status.FAILED, False, False),
    ],
)
def test_what_a_status_means(status: Status, is_ready: bool, is_live: bool) -> None:
    """Work goes to what is ready or degraded; only what has failed needs to be replaced."""
    health = Health(status)
    assert (health.is_ready, health.is_live) == (is_ready, is_live)


def test_text() -> None:
    """Health is a word, and a detail where there is one."""
    assert str(Health(Status.READY)) == "ready"
    assert str(Health(Status.FAILED, "no disk")) == "failed: no disk"


def test_worst_part_speaks_for_the_whole() -> None:
    """A whole has the status of its worst part, and names all that have it."""
    parts = {
        "a": Health(Status.READY),
        "b": Health(Status.DEGRADED, "slow"),
        "c": Health(Status.STOPPING),
        "d": Health(Status.DEGRADED),
    }
    whole = worst(parts)
    assert (whole.status, whole.detail) == (Status.DEGRADED, "b (slow), d")
    assert whole.parts == parts


def test_whole_of_the_ready() -> None:
    """Where all parts are ready, or there are none, there is nothing to say."""
    assert worst({"a": Health(Status.READY)}).detail == ""
    assert worst({}) == Health(Status.READY)


def test_as_dict() -> None:
    """Health is plain values for JSON, parts included."""
    plain = worst({"a": Health(Status.FAILED, "no disk")}).as_dict()
    assert plain == {
        "status": "failed",
        "detail": "a (no disk)",
        "parts": {"a": {"status": "failed", "detail": "no disk"}},
    }
    assert json.loads(json.dumps(plain)) == plain
