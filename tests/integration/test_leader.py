"""Leaders in whole processes: one leads, another takes over, and there are never two."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from threadkit._lease import Lease

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no record locks, so no leaders"),
]

PATIENCE = 20.0
TAKEOVER = 1.0
"""Seconds after which somebody else leads, at the latest."""

WORKER = """
    import os, sys, time
    from threadkit import Lifecycle

    path, log = sys.argv[1:3]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what):  # one write to a file that is open for appending is never mixed with another
        os.write(descriptor, f"{{time.monotonic()}} {{os.getpid()}} {{what}}\\n".encode())

    with Lifecycle("worker") as lc:
        leader = lc.leader(path)

        @leader.thread
        def work(running):
            note("begin")
            while running.sleep(0.005):
                note("beat")
            note("end")

        {more}
        note("up")
        raise SystemExit(lc.run_forever())
"""


class Staff:
    """Worker processes with one lock file and one log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.lock"
        self.log = folder / "log"
        self.log.touch()
        self.workers: dict[int, subprocess.Popen[str]] = {}

    def hire(self, count: int = 1, more: str = "") -> None:
        """Start workers, and wait until all are up."""
        for _ in range(count):
            worker = self.start(WORKER.format(more=more), str(self.path), str(self.log))
            self.workers[worker.pid] = worker
        wait_for(lambda: {pid for _, pid, what in self.notes() if what == "up"} >= self.workers.keys())

    @staticmethod
    def start(source: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(source), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def notes(self) -> list[tuple[float, int, str]]:
        lines = self.log.read_text().splitlines()
        return [(float(when), int(pid), what) for when, pid, what in map(str.split, lines)]

    def reigns(self) -> list[tuple[float, float, int]]:
        """Return who worked from when to when, as their notes tell."""
        reigns: list[tuple[float, float, int]] = []
        for when, pid, what in self.notes():
            if what == "begin":
                reigns.append((when, when, pid))
            elif what in {"beat", "end"}:
                (number,) = [index for index, reign in enumerate(reigns) if reign[2] == pid]
                reigns[number] = (reigns[number][0], when, pid)
        return reigns

    def await_leader(self, number: int) -> tuple[float, int]:
        """Wait until somebody leads for the ``number``-th time; return since when, and who."""
        wait_for(lambda: len(self.reigns()) >= number)
        began, _, pid = self.reigns()[number - 1]
        return began, pid

    def kill(self, pid: int, signum: int = signal.SIGKILL) -> tuple[float, int, str]:
        """End a worker; return when, its exit status and what it said on standard error."""
        worker = self.workers.pop(pid)
        worker.send_signal(signum)
        _, err = worker.communicate(timeout=PATIENCE)
        return time.monotonic(), worker.returncode, err

    def end(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.communicate(timeout=PATIENCE)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def is_locked(path: Path) -> bool:
    """Tell whether another process is refused the lock."""
    source = f"import sys; from threadkit._lease import Lease; sys.exit(not Lease({str(path)!r}).acquire())"
    return subprocess.run([sys.executable, "-c", source], check=False, timeout=PATIENCE).returncode == 1


@pytest.fixture
def staff(tmp_path: Path) -> Iterator[Staff]:
    staff = Staff(tmp_path)
    yield staff
    staff.end()


def test_never_two_at_once(staff: Staff) -> None:
    """Of four processes one leads; each time it is killed another one does within a second, and never do two."""
    staff.hire(4)
    killed = time.monotonic()
    for number in range(1, 5):
        began, pid = staff.await_leader(number)
        assert began - killed < TAKEOVER
        assert staff.path.read_text().startswith(f"{pid} ")
        time.sleep(0.3)  # in which the others could try
        assert len(staff.reigns()) == number
        killed, status, _ = staff.kill(pid)
        assert status == -signal.SIGKILL
    reigns = staff.reigns()
    assert len({pid for _, _, pid in reigns}) == 4
    for (_, ended, _), (began, _, _) in itertools.pairwise(reigns):
        assert ended < began


def test_a_stop_hands_over(staff: Staff) -> None:
    """A leader that is stopped by SIGTERM ends its work first; then another process begins it, within a second."""
    staff.hire(2)
    _, pid = staff.await_leader(1)
    _, status, err = staff.kill(pid, signal.SIGTERM)
    assert (status, err) == (128 + signal.SIGTERM, "")
    began, successor = staff.await_leader(2)
    assert successor != pid
    (_, ended, _), _ = staff.reigns()
    assert 0 < began - ended < TAKEOVER
    assert [what for _, who, what in staff.notes() if who == pid][-1] == "end"


def test_forked_children_do_not_keep_the_lease(staff: Staff) -> None:
    """A leader that is killed is followed within a second, though children that it had forked live on."""
    more = """
        import ctypes, subprocess, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        leader.wait()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        libc = ctypes.PyDLL(None)
        deaf = libc.fork()  # as C code does: nothing of Python's, or threadkit's, is told of it
        if deaf == 0:
            libc.sleep(60)
            os._exit(0)
        other = subprocess.Popen(["sleep", "60"], close_fds=False)
        open(f"{path}.{os.getpid()}", "w").write(f"{child} {deaf} {other.pid}")
    """
    staff.hire(1, textwrap.indent(textwrap.dedent(more), " " * 8).lstrip())
    _, pid = staff.await_leader(1)
    staff.hire(1)
    children = [int(word) for word in Path(f"{staff.path}.{pid}").read_text().split()]
    try:
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        began, successor = staff.await_leader(2)
        assert successor != pid
        assert began - killed < TAKEOVER
        for child in children:
            state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], stdout=subprocess.PIPE, check=True).stdout  # noqa: S607 - where ps is differs
            assert not state.startswith(b"Z")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_a_file_that_is_replaced(staff: Staff) -> None:
    """Where somebody puts another file in its place that he has locked, the leader sees it, stops, and tells why."""
    staff.hire(2)
    _, pid = staff.await_leader(1)
    usurper = Lease(f"{staff.path}.new")
    assert usurper.acquire()
    replaced = time.monotonic()
    Path(usurper.path).rename(staff.path)
    worker = staff.workers.pop(pid)
    _, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 1
    assert "'leader' has lost the lead" in err
    assert "LeaseError" in err
    ((_, ended, _),) = staff.reigns()
    assert ended - replaced < TAKEOVER
    released = time.monotonic()
    usurper.release()
    began, successor = staff.await_leader(2)
    assert successor != pid
    assert began - released < TAKEOVER


def test_a_file_that_is_deleted(staff: Staff) -> None:
    """Where the file is deleted a new one is made; within a second there is one leader, and it has the lock."""
    staff.hire(1)
    staff.await_leader(1)
    staff.path.unlink()
    wait_for(staff.path.exists)
    wait_for(lambda: staff.path.read_text() != "")
    assert is_locked(staff.path)
    assert len(staff.reigns()) == 1


def test_code_that_closes_the_file(tmp_path: Path) -> None:
    """Code of this process that opens and closes the file gives the lock away; confirm() takes it back."""
    path = tmp_path / "app.lock"
    lease = Lease(path)
    lease.acquire()
    assert is_locked(path)
    path.read_text()
    assert not is_locked(path)
    assert lease.confirm()
    assert is_locked(path)
    lease.release()
    assert not is_locked(path)


FORK = """
    import os, sys, time, warnings
    from threadkit import ForkedError, Lifecycle

    warnings.simplefilter("ignore", DeprecationWarning)
    lc = Lifecycle()
    leader = lc.leader(sys.argv[1])
    ticks = []
    leader.every(60, run_immediately=True)(lambda: ticks.append(os.getpid()))

    def say(word):
        os.write(1, word.encode() + b"\\n")  # in one piece, unlike print()

    def follow(up=1):
        "Start in this process, lead once nobody else does, and work."
        with lc:
            say("up")
            os.write(up, b"\\n")
            assert leader.wait(10)
            while not ticks or ticks[-1] != os.getpid():
                lc.wait(0.01)
            say("led")
        os._exit(0)
"""


def test_fork_before_the_start(staff: Staff) -> None:
    """A leader that was made before a fork and is started in each child leads in one after the other."""
    program = staff.start(
        FORK
        + """
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            follow()
        children.append(pid)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        str(staff.path),
    )
    out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, "")
    assert sorted(out.split()) == ["led"] * 3 + ["up"] * 3


def test_fork_after_the_start(staff: Staff) -> None:
    """A child of a leader does not lead, and cannot take the lease from its parent; started anew it follows it."""
    program = staff.start(
        FORK
        + """
    lc.start()
    assert leader.wait(10)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            leader.is_leader
        except ForkedError:
            pass
        else:
            sys.exit("the child believes that it leads")
        leader._lease.release()
        follow(theirs)
    os.read(ours, 1)
    time.sleep(0.2)  # in which the child tries to lead
    assert leader.is_leader and leader._lease.confirm()
    assert lc.shutdown().ok
    say("over")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
        str(staff.path),
    )
    out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, "")
    assert out.split() == ["up", "over", "led"]


@pytest.mark.parametrize("host", ["lifecycle", "alone"])
def test_exit_without_any_stop(staff: Staff, host: str) -> None:
    """A program that just ends stops the leader's components first, and then gives the lease back."""
    program = staff.start(
        """
        import sys
        from threadkit import Leader, Lifecycle

        path, host = sys.argv[1:]
        if host == "alone":
            whole = leader = Leader(path)
        else:
            whole = Lifecycle()
            leader = whole.leader(path)

        @leader.thread
        def body(running):
            sys.stdout.write("begun\\n")
            running.wait()
            sys.stdout.write(f"ended: {leader.is_leader}\\n")

        leader.every(1, run_immediately=True)(lambda: None)
        whole.start()
        assert leader.wait(10)
        while not body_has_begun():
            pass
        """.replace("body_has_begun()", "leader['body'].is_alive()"),
        str(staff.path),
        host,
    )
    out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, "")
    assert out.split("\n")[-2] == "ended: True"
    assert staff.path.read_text() == ""
