"""A whole service under a manager that speaks systemd's protocol: real processes, real signals, real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets"),
]

PATIENCE = 20.0

SERVICE = """
    import sys
    from threadkit import Lifecycle
    from threadkit.health import Status

    lc = Lifecycle("service", check_every=0)
    fine = True

    def check():
        return Status.READY if fine else Status.FAILED

    @lc.thread(check=check)
    def body(running):
        global fine
        print("up", flush=True)
        sys.stdin.readline()
        fine = False
        running.wait()

    sys.exit(lc.run_forever())
"""


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    if request.param == "abstract" and not sys.platform.startswith("linux"):
        pytest.skip("abstract addresses are Linux's")
    name = f"@threadkit-{uuid.uuid4().hex}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("\0" + name[1:] if name.startswith("@") else name)
        ours.settimeout(PATIENCE)
        yield name, ours


@pytest.fixture
def services() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def start(services: list[subprocess.Popen[str]], **variables: str) -> subprocess.Popen[str]:
    """Start the service as systemd would, with these variables in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVICE)],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    services.append(process)
    return process


def end(process: subprocess.Popen[str]) -> None:
    """End the service, whose body waits for its input."""
    assert process.stdin is not None
    process.stdin.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143


def hear(ours: socket.socket) -> list[str]:
    return ours.recv(4096).decode().split("\n")


def test_a_service_under_systemd(manager: tuple[str, socket.socket], services: list[subprocess.Popen[str]]) -> None:
    """A service says that it is up, feeds the watchdog while it is live, and says that it stops."""
    name, ours = manager
    process = start(services, NOTIFY_SOCKET=name, WATCHDOG_USEC="200000")
    assert hear(ours) == ["STATUS=starting"]
    assert hear(ours) == ["READY=1", "STATUS=running"]
    assert hear(ours) == ["WATCHDOG=1", "STATUS=ready"]
    assert [hear(ours) for _ in range(3)] == [["WATCHDOG=1"]] * 3
    assert process.stdin is not None
    process.stdin.write("fail\n")
    process.stdin.flush()
    while (heard := hear(ours)) == ["WATCHDOG=1"]:
        """The check has not been asked since."""
    assert heard == ["STATUS=failed: body"]
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):  # five times as long as it took before
        ours.recv(4096)
    ours.settimeout(PATIENCE)
    process.send_signal(signal.SIGTERM)
    assert hear(ours) == ["STOPPING=1", "STATUS=stopping: signal SIGTERM"]
    (last,) = hear(ours)
    assert last.startswith("STATUS=service stopped well in")
    assert process.wait(PATIENCE) == 143


def test_the_watchdog_of_another_process_is_not_fed(
    manager: tuple[str, socket.socket], services: list[subprocess.Popen[str]]
) -> None:
    """Where the watchdog watches another process, say the one that started this one, nobody interferes."""
    name, ours = manager
    process = start(services, NOTIFY_SOCKET=name, WATCHDOG_USEC="100000", WATCHDOG_PID=str(os.getpid()))
    assert hear(ours) == ["STATUS=starting"]
    assert hear(ours) == ["READY=1", "STATUS=running"]
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):
        ours.recv(4096)
    end(process)


def test_a_manager_that_is_gone_harms_nobody(services: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Where the manager dies the service goes on, says so once, and ends as ever."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(name)
        ours.settimeout(PATIENCE)
        process = start(services, NOTIFY_SOCKET=name, WATCHDOG_USEC="20000")
        assert hear(ours) == ["STATUS=starting"]
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)  # some thirty times it would say that it is alive
    end(process)
    assert process.stderr is not None
    assert process.stderr.read().count("systemd cannot be told") == 1
