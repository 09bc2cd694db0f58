"""``ShutdownReport``: what a shutdown came to, for people, for JSON and for the shell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from threadkit import ShutdownReport
from threadkit._report import ComponentReport

STOPPED = ComponentReport("feed", 100, "stopped", 0.5)
FAILED = ComponentReport("task", 100, "failed", 0.0, error=LookupError("no"))
STUCK = ComponentReport("jobs", 200, "stuck", 10.0, work_left=3, stacks={"jobs_0": "line 1\nline 2"})


def report(**fields: Any) -> ShutdownReport:
    return ShutdownReport(name="app", **({"reason": None, "seconds": 1.5} | fields))


@pytest.mark.parametrize(
    ("fields", "ok", "exit_code"),
    [
        ({}, True, 0),
        ({"components": (STOPPED,)}, True, 0),
        ({"components": (STOPPED, STUCK)}, False, 1),
        ({"components": (STOPPED, FAILED)}, False, 1),
        ({"errors": (LookupError("no"),)}, False, 1),
        ({"resources_left_open": ("db",)}, False, 1),
        ({"signal": 15}, True, 143),
        ({"signal": 2, "components": (STUCK,)}, False, 130),
        ({"forced": True}, True, 0),
    ],
)
def test_verdict(fields: dict[str, Any], ok: bool, exit_code: int) -> None:
    """All is well where everything stopped in time and nothing failed; a signal decides the exit code."""
    assert report(**fields).ok is ok
    assert report(**fields).exit_code == exit_code


def test_stuck() -> None:
    """The report tells which components go on."""
    assert report(components=(STOPPED, STUCK, FAILED)).stuck == (STUCK,)


def test_text_of_a_component() -> None:
    """A component's line says how it ended, what it left, and what it died of."""
    assert str(STOPPED) == "feed: stopped after 0.50 s"
    assert str(STUCK) == "jobs: stuck after 10.00 s, 3 left undone"
    assert str(FAILED) == "task: failed after 0.00 s, LookupError: no"


def test_text_when_all_is_well() -> None:
    """A good shutdown is a line for the whole and one for each component."""
    text = str(report(reason="enough", components=(STOPPED,)))
    assert text.splitlines() == ["app stopped well in 1.50 s (enough)", "  feed: stopped after 0.50 s"]


def test_text_when_it_is_not() -> None:
    """A bad one tells also what is left open, what failed, and where the stuck are."""
    text = str(report(components=(STUCK, FAILED), errors=(LookupError("no"),), resources_left_open=("db",)))
    assert text.splitlines() == [
        "app did not stop well in 1.50 s",
        "  jobs: stuck after 10.00 s, 3 left undone",
        "  task: failed after 0.00 s, LookupError: no",
        "  left open: db",
        "  error: LookupError: no",
        "  where jobs_0 of jobs is stuck:",
        "    line 1",
        "    line 2",
    ]


def test_as_dict() -> None:
    """A report is plain values for JSON."""
    plain = report(
        components=(STUCK, FAILED), errors=(LookupError("no"),), resources_left_open=("db",), signal=15
    ).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["ok"], plain["exit_code"], plain["errors"]) == (False, 143, ["LookupError: no"])
    stuck, failed = plain["components"]
    assert (stuck["outcome"], stuck["work_left"], stuck["error"]) == ("stuck", 3, None)
    assert (failed["error"], failed["stacks"]) == ("LookupError: no", {})
