"""A lifecycle in a real uvicorn."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hosting import Host

pytestmark = pytest.mark.integration

UVICORN = ("uvicorn", "service:asgi", "--fd", "{fd}")


def test_an_application_runs_and_ends_with_its_server(tmp_path: Path) -> None:
    """Under uvicorn all parts run and no signal is taken; SIGTERM ends everything in order, at once."""
    with Host(tmp_path, *UVICORN) as host:
        answer = host.ask()
        (pid,) = host.wait_for("works")
        assert answer == {"pid": pid, "doubled": 42, "signals kept": True}
        assert host.terminate() < host.soon()
        assert host.process.returncode == -signal.SIGTERM  # uvicorn sends itself the signal again when all is done
        assert host.noted_by(pid) == ["works", "thread ends", "resource closed", "signals kept"]


def test_every_process_of_a_server_has_its_own(tmp_path: Path) -> None:
    """Under uvicorn with two workers each has a lifecycle of its own, which ends with it."""
    with Host(tmp_path, *UVICORN, "--workers", "2") as host:
        pids = host.wait_for("works", times=2)
        assert host.ask()["pid"] in pids
        assert host.terminate() < host.soon()
        for pid in pids:
            assert host.noted_by(pid) == ["works", "thread ends", "resource closed", "signals kept"]
