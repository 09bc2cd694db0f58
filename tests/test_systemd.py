"""What is told to systemd, read from real sockets. Whole services stand in ``integration/``."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import PATIENCE, Background, Parked

from threadkit import Lifecycle, StopToken
from threadkit._systemd import Systemd
from threadkit.health import Health, Status
from threadkit.testing import VirtualClock

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets")


class Manager:
    """The end of the socket where systemd would listen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(PATIENCE)

    def hear(self) -> list[str]:
        """Return the lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")

    def has_heard_all(self) -> bool:
        """Tell whether there is no other datagram."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract":
        if os.name != "posix" or not os.path.exists("/proc/net/unix"):  # noqa: PTH110 - a question, not a path
            pytest.skip("abstract addresses are Linux's")
        name = f"@threadkit-{uuid.uuid4().hex}"
    else:
        name = str(tmp_path / "notify")
    manager = Manager(name)
    yield manager
    manager.socket.close()


def test_fields_and_news_are_sent(manager: Manager) -> None:
    """A datagram has its fields and the first line of a text; a text that is no news is left out."""
    systemd = Systemd({"NOTIFY_SOCKET": manager.name})
    systemd.tell("running\nand more", READY=1)
    systemd.tell("running", WATCHDOG=1)
    systemd.tell("running")
    systemd.tell("über")
    systemd.close()
    systemd.tell("too late")
    assert [manager.hear() for _ in range(3)] == [["READY=1", "STATUS=running"], ["WATCHDOG=1"], ["STATUS=über"]]
    assert manager.has_heard_all()


def test_without_a_socket_nothing_happens() -> None:
    """Where the environment names no socket there is neither a socket nor a watchdog."""
    systemd = Systemd({"WATCHDOG_USEC": "1000000"})
    systemd.tell("running", READY=1)
    assert systemd.watchdog_interval is None
    assert systemd._socket is None
    systemd.close()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_watchdog(environment: dict[str, str], interval: float | None) -> None:
    """The watchdog is fed twice as often as it asks for, where it watches this very process."""
    assert Systemd({"NOTIFY_SOCKET": "/nowhere", **environment}).watchdog_interval == interval


def test_a_socket_that_is_gone_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody listens that is logged once, and telling goes on when somebody does."""
    name = str(tmp_path / "notify")
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.tell("one")
    systemd.tell("two")
    assert len(caplog.records) == 1
    assert "systemd cannot be told ['STATUS=one']" in caplog.text
    manager = Manager(name)
    systemd.tell("three")
    assert manager.hear() == ["STATUS=three"]
    manager.socket.close()
    systemd.tell("four")
    assert len(caplog.records) == 2
    systemd.close()


def test_a_socket_that_is_full_holds_nobody_up(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody reads, telling returns at once, and what is said then is lost."""
    systemd = Systemd({"NOTIFY_SOCKET": manager.name})

    def flood() -> None:
        for _ in range(100_000):
            if caplog.records:
                return
            systemd.tell("flood" * 100, WATCHDOG=1)

    Background(flood).result()
    assert "systemd cannot be told" in caplog.text
    systemd.close()


def test_a_service_tells_its_life(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """run_forever() says that it starts, is up, lives, and stops; while it is not live it feeds no watchdog."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    clock = VirtualClock()
    health = [Health(Status.READY)]
    lc = Lifecycle("app", clock=clock, check_every=0)
    lc.thread("body", check=lambda: health[0])(lambda running: running.wait())
    running = Parked(clock, lc.run_forever)
    assert manager.hear() == ["STATUS=starting"]
    assert manager.hear() == ["READY=1", "STATUS=running"]
    clock.advance(10)
    assert manager.hear() == ["WATCHDOG=1", "STATUS=ready"]
    clock.advance(10)
    assert manager.hear() == ["WATCHDOG=1"]
    health[0] = Health(Status.DEGRADED, "slow")
    clock.advance(10)
    assert manager.hear() == ["WATCHDOG=1", "STATUS=degraded: body (slow)"]
    health[0] = Health(Status.FAILED, "no disk")
    clock.advance(20)
    assert manager.hear() == ["STATUS=failed: body (no disk)"]
    assert manager.has_heard_all()
    manager.socket.settimeout(PATIENCE)
    lc.stop("enough")
    assert running.result() == 0
    assert manager.hear() == ["STOPPING=1", "STATUS=stopping: enough"]
    assert manager.hear() == ["STATUS=app stopped well in 0.00 s (enough)"]
    assert manager.has_heard_all()


def test_a_service_that_is_stopped_while_it_starts_is_never_ready(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the stop comes before the service is up, it says that it stops, and not that it is ready."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    lc = Lifecycle("app")

    @lc.thread(ready=True)
    def body(running: StopToken) -> None:
        lc.stop("changed my mind")
        running.ready()
        running.wait()

    assert lc.run_forever() == 0
    assert manager.hear() == ["STATUS=starting"]
    assert manager.hear() == ["STOPPING=1", "STATUS=stopping: changed my mind"]
    assert manager.hear()[0].startswith("STATUS=app stopped well")
    assert manager.has_heard_all()


def test_a_service_that_cannot_start_says_why(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a service from starting is its last word."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    lc = Lifecycle("app")

    @lc.thread(ready=True)
    def body() -> None:
        raise OSError("port in use")

    with pytest.raises(OSError, match="port in use"):
        lc.run_forever()
    assert manager.hear() == ["STATUS=starting"]
    assert manager.hear() == ["STATUS=OSError: port in use"]
    assert manager.has_heard_all()


def test_only_run_forever_tells(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lifecycle that does not own the process tells systemd nothing."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    with Lifecycle() as lc:
        lc.thread("body")(lambda running: running.wait())
    assert manager.has_heard_all()
