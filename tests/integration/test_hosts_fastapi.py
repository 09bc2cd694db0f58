"""A web front end of a queue: FastAPI in a real uvicorn, and jobs in a file."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hosting import Host

pytestmark = pytest.mark.integration

FASTAPI = ("uvicorn", "front:app", "--fd", "{fd}")


def test_a_front_end_tells_status_and_position(tmp_path: Path) -> None:
    """A page that submits jobs is told where each is, waits for results, and finds them again after a restart."""
    environ = {"JOBS": str(tmp_path / "jobs.db")}
    with Host(tmp_path, *FASTAPI, **environ) as host:
        ids = [host.ask(f"/submit/{month}")["id"] for month in ("may", "june", "july")]
        host.wait_for("may begun")
        assert [host.ask(f"/status/{job_id}") for job_id in ids] == [
            {"state": "running", "position": None, "progress": 0.5, "says": "half"},
            {"state": "pending", "position": 0, "progress": 0.0, "says": ""},
            {"state": "pending", "position": 1, "progress": 0.0, "says": ""},
        ]
        assert host.ask("/status/42") == {"detail": "no such job"}
        figures = host.ask("/stats")
        assert (figures["submitted"], figures["running"], figures["pending"]) == (3, 1, 2)
        host.ask("/open")
        assert [host.ask(f"/result/{job_id}") for job_id in ids] == [
            {"month": month, "by": "ada"} for month in ("may", "june", "july")
        ]
        assert host.terminate() < 5
        assert host.process.returncode == -signal.SIGTERM
    (tmp_path / "notes").unlink()
    with Host(tmp_path, *FASTAPI, **environ) as host:
        assert host.ask(f"/status/{ids[0]}")["state"] == "completed"
        assert host.ask(f"/result/{ids[0]}") == {"month": "may", "by": "ada"}
        host.terminate()
