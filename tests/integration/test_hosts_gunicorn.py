"""A lifecycle in a real gunicorn, which forks: before it imports the application, or with ``--preload`` after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosting import Host

pytestmark = pytest.mark.integration

GUNICORN = ("gunicorn", "--bind", "fd://{fd}", "--no-control-socket")
END = ["works", "thread ends", "resource closed", "stopped well", "signals kept"]
END_OF_LIFESPAN = ["works", "thread ends", "resource closed", "signals kept"]


def preload(wanted: bool) -> list[str]:
    return ["--preload"] if wanted else []


@pytest.mark.parametrize("preloaded", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
def test_sync_workers_run_it_by_hooks(preloaded: bool, workers: int, tmp_path: Path) -> None:
    """Each sync worker starts a lifecycle in post_worker_init and stops it in worker_exit; no signal is taken."""
    command = [*GUNICORN, "-c", "hooks.py", "-w", str(workers), *preload(preloaded), "service:wsgi"]
    with Host(tmp_path, *command) as host:
        pids = host.wait_for("works", workers)
        assert (answer := host.ask()) == {"pid": answer["pid"], "doubled": 42, "signals kept": True}
        assert answer["pid"] in pids
        assert host.process.pid not in pids
        assert host.terminate() < host.soon()
        assert host.process.returncode == 0
        assert [host.noted_by(pid) for pid in pids] == [END] * workers


@pytest.mark.parametrize("preloaded", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
def test_uvicorn_workers_run_it_by_the_lifespan(preloaded: bool, workers: int, tmp_path: Path) -> None:
    """Each uvicorn worker runs a lifecycle by its application's lifespan, also where the fork came after the import."""
    kind = "uvicorn_worker.UvicornWorker"
    command = [*GUNICORN, "-k", kind, "-w", str(workers), *preload(preloaded), "service:asgi"]
    with Host(tmp_path, *command) as host:
        pids = host.wait_for("works", workers)
        assert (answer := host.ask()) == {"pid": answer["pid"], "doubled": 42, "signals kept": True}
        assert host.process.pid not in pids
        assert host.terminate() < host.soon()
        assert host.process.returncode == 0
        assert [host.noted_by(pid) for pid in pids] == [END_OF_LIFESPAN] * workers


def test_a_start_at_import_is_used_in_the_worker(tmp_path: Path) -> None:
    """Without --preload a worker imports for itself: what starts then runs there, and ends when the worker exits."""
    with Host(tmp_path, *GUNICORN, "service:wsgi", START="import") as host:
        (pid,) = host.wait_for("works")
        assert host.ask() == {"pid": pid, "doubled": 42, "signals kept": True}
        assert host.terminate() < host.soon()
        assert host.process.returncode == 0
        assert host.noted_by(pid) == ["works", "thread ends", "resource closed"]


def test_a_start_before_the_fork_is_told(tmp_path: Path) -> None:
    """With --preload what starts at import runs in the master; to use it in a worker raises ForkedError, at once."""
    with Host(tmp_path, *GUNICORN, "--preload", "service:wsgi", START="import") as host:
        assert host.wait_for("works") == {host.process.pid}
        assert (answer := host.ask()) == {"pid": answer["pid"], "doubled": "ForkedError", "signals kept": False}
        assert answer["pid"] != host.process.pid
        assert host.terminate() < host.soon()
        assert host.process.returncode == 0
        assert host.notes == [(host.process.pid, noted) for noted in ("works", "thread ends", "resource closed")]


def test_a_start_in_the_worker_is_a_fresh_one(tmp_path: Path) -> None:
    """What was started before the fork, and is started again in a worker, runs in both and ends in both."""
    command = [*GUNICORN, "--preload", "-c", "hooks.py", "-w", "2", "service:wsgi"]
    with Host(tmp_path, *command, START="import") as host:
        pids = host.wait_for("works", 3)
        assert host.ask()["doubled"] == 42
        assert host.terminate() < host.soon()
        assert host.process.returncode == 0
        assert host.noted_by(host.process.pid) == ["works", "thread ends", "resource closed"]
        assert [host.noted_by(pid) for pid in pids - {host.process.pid}] == [END] * 2
