"""Several processes on one job file: who runs what, who wakes whom, and what becomes of a fork. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import unmeasured

from threadkit import JobCancelled, JobFailed, JobState, WorkQueue, stores

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PATIENCE = 30.0
WORKER = """
    import os, sys, time, logging
    from threadkit import WorkQueue, stores

    logging.disable()
    queue = WorkQueue(workers=1, store=stores.SQLiteStore(sys.argv[1]))

    @queue.handler
    def echo(payload):
        return [os.getpid(), payload]

    @queue.handler
    def stay(payload, ctx):
        open(payload, "x").close()
        ctx.token.wait(60)

    @queue.handler
    def die(payload):
        os.kill(os.getpid(), 9)

    queue.start()
    print("ready", flush=True)
    sys.stdin.read()
    queue.stop()
    queue.join(10)
"""


class Worker:
    """A process that works on a file until its standard input is closed."""

    def __init__(self, path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.is_ready = self.process.stdout.readline() == "ready\n"  # else it has died before

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
def front(path) -> Iterator[WorkQueue]:
    """A queue that only submits."""
    with WorkQueue("front", workers=0, store=stores.SQLiteStore(path)) as queue:
        for name in ("echo", "stay", "die"):
            queue.declare(name)
        yield queue


@pytest.fixture
def worker(path, front) -> Iterator[Worker]:
    made = Worker(path)
    assert made.is_ready
    yield made
    made.close()


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_a_submit_wakes_a_worker_of_another_process(front, worker):
    """An idle worker of another process begins a job at once, and who waits for the result hears of it at once."""
    took = []
    for number in range(10):
        time.sleep(0.05)
        began = time.monotonic()
        assert front.submit("echo", number).result(PATIENCE) == [worker.process.pid, number]
        took.append(time.monotonic() - began)
    assert sorted(took)[5] < 0.2, took  # the median: a machine may be busy


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the time that was used in /proc")
def test_an_idle_worker_uses_no_cpu(front, worker):
    """A process that waits for jobs of others does not poll for them."""
    front.submit("echo", 1).result(PATIENCE)

    def used() -> float:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(0.5)
    before = used()
    time.sleep(1.5)
    assert used() - before < 0.1


def test_drain_sees_what_other_processes_do(front, worker):
    """drain() waits for jobs that other processes run, and returns when the last is done."""
    front.submit_many("echo", range(50))
    assert front.drain(PATIENCE)
    assert front.stats().completed == 50


def test_a_job_of_a_living_process_is_never_taken(front, worker, path, tmp_path):
    """A job that a living process runs is left to it, however often the file is opened; a cancel reaches it there."""
    job = front.submit("stay", str(tmp_path / "begun"))
    wait_for((tmp_path / "begun").exists)
    for _ in range(3):
        with WorkQueue(workers=1, store=stores.SQLiteStore(path)) as other:
            assert other.get(job.id).state is JobState.RUNNING
            assert other._store._rescue() == []
    assert job.cancel()
    assert isinstance(job.exception(PATIENCE), JobCancelled)
    assert job.state is JobState.CANCELLED


def test_jobs_of_a_dead_process_are_taken_over(front, worker, path, tmp_path):
    """What a process ran, and what it delayed, is picked up by another that has the file open, when it dies."""
    job = front.submit("stay", str(tmp_path / "begun"))
    wait_for((tmp_path / "begun").exists)
    other = Worker(path)
    try:
        (tmp_path / "begun").unlink()
        worker.kill()
        wait_for((tmp_path / "begun").exists)  # the other has begun it
        assert front.get(job.id).state is JobState.RUNNING
        delayed = front.submit("echo", "late", delay=0.2)
        assert job.cancel()
        assert delayed.result(PATIENCE) == [other.process.pid, "late"]
    finally:
        other.close()


def test_a_job_that_kills_its_process_is_a_dead_letter(front, path):
    """A job that ends its process three times is a dead letter; a job that waits beside it is not."""
    job = front.submit("die")
    for _ in range(3):
        assert job.state is not JobState.FAILED
        victim = Worker(path)
        victim.process.wait(PATIENCE)
        victim.close()
    front._store.tend()
    failure = front.get(job.id).exception(PATIENCE)
    assert isinstance(failure, JobFailed)
    assert "its process died while it ran, 3 times" in str(failure.__cause__)
    assert front.submit("echo", 1).state is JobState.PENDING


def test_a_key_is_one_in_all_processes(front, worker, tmp_path):
    """A key that a job of one process has is refused to another, until that job has finished."""
    job = front.submit("stay", str(tmp_path / "begun"), key="k")
    wait_for((tmp_path / "begun").exists)
    assert front.submit("echo", 2, key="k") is job
    new = front.submit("echo", 3, key="k", on_conflict="replace")
    assert new.result(PATIENCE) == [worker.process.pid, 3]
    assert isinstance(job.exception(PATIENCE), JobCancelled)


def run(source: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=env,
    )


FORK = """
    import os, sys, time
    from threadkit import ForkedError, WorkQueue, stores

    queue = WorkQueue(workers=1, store=stores.SQLiteStore(sys.argv[1]))
    queue.handler("work")(lambda payload: [os.getpid() == parent, payload])
    parent = os.getpid()
    queue.start()
    job = queue.submit("work", 1)
    job.result(10)
    child = os.fork()
    if not child:
        try:
            queue.submit("work", 2)
        except ForkedError:
            print("refused", flush=True)
        print(job.done(), flush=True)
        {child}
        sys.exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
    print(queue.submit("work", 3).result(10), flush=True)
    queue.stop()
    queue.join(10)
    print(queue.stats().completed, flush=True)
"""


def test_a_fork_leaves_the_parents_file_alone(path):
    """A child of a fork is refused; that it ends closes nothing of its parent's, who works on."""
    done = run(FORK.format(child="pass"), path)
    assert (done.returncode, done.stdout.split("\n")) == (
        0,
        ["refused", "True", "0", "[True, 3]", "2", ""],
    ), done.stderr


def test_a_child_may_start_anew(path):
    """A child of a fork that starts the queue opens the file for itself, beside its parent."""
    child = "queue.start(); print(queue.submit('work', 2).result(10), flush=True); queue.stop(); queue.join(10)"
    done = run(FORK.format(child=child), path)
    lines = done.stdout.split("\n")
    assert (done.returncode, lines[:3]) == (0, ["refused", "True", "[False, 2]"]) or lines[2] == "[True, 2]", (
        done.stderr
    )
    assert lines[-4:] == ["0", "[True, 3]", "3", ""], done.stdout + done.stderr


def test_forks_in_the_middle_of_transactions(path):
    """However often a process forks while its threads write, each child can open the file for itself."""
    done = run(
        """
        import os, sys, threading
        from threadkit import WorkQueue, stores

        queue = WorkQueue(workers=2, maxsize=100, store=stores.SQLiteStore(sys.argv[1], "process", patience=2))
        queue.handler("work")(lambda payload: payload)
        queue.start()
        done = threading.Event()

        def submit():
            while not done.is_set():
                queue.submit("work", 1)

        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(8):
            child = os.fork()
            if not child:
                try:
                    with WorkQueue(workers=0, store=stores.SQLiteStore(sys.argv[1], "process", patience=2)) as other:
                        other.declare("work")
                        other.submit("work", 2)
                    os._exit(0)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(1)
            codes.append(os.waitpid(child, 0)[1])
        done.set()
        for thread in threads:
            thread.join()
        print(sum(codes), queue.drain(20), flush=True)
        """,
        path,
        env=unmeasured(),
    )
    assert done.stdout == "0 True\n", done.stdout + done.stderr


def test_a_full_file_system(tmp_path):
    """On a full file system a submit is refused, and the queue works on when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("only root may mount a small file system, where that is allowed at all")
    try:
        done = run(
            """
            import sys, logging
            from threadkit import StoreError, WorkQueue, stores

            logging.disable()
            with WorkQueue(workers=1, maxsize=10**6, store=stores.SQLiteStore(sys.argv[1] + "/jobs.db")) as queue:
                queue.handler("work")(lambda payload: None)
                with open(sys.argv[1] + "/ballast", "wb") as file:
                    file.write(bytes(300_000))
                queue.pause()
                taken = 0
                try:
                    while taken < 5000:
                        queue.submit("work", "x" * 2000)
                        taken += 1
                except StoreError as error:
                    print(error.problem)
                import os
                os.unlink(sys.argv[1] + "/ballast")
                queue.resume()
                print(queue.drain(20), queue.stats().completed == queue.stats().submitted == taken > 10)
            """,
            disk,
        )
        lines = done.stdout.splitlines()
        assert lines[0].startswith(("the disk is full", "the disk does not work")), done.stdout + done.stderr
        assert lines[1:] == ["True True"]
    finally:
        subprocess.run(["/bin/umount", disk], check=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    """A folder in which nothing may be made is refused by its name, before anything is done."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    source = """
        import ctypes, os, sqlite3, sys
        from threadkit import StoreError, WorkQueue, stores
        store = stores.SQLiteStore(sys.argv[1] + "/jobs.db")
        if not os.geteuid():
            os.setuid(65534)  # the superuser may write anywhere
        try:
            WorkQueue(store=store)
        except StoreError as error:
            print("folder must exist and be writable" in str(error))
    """
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith(("pytest", "test")):
            parent.chmod(0o755)
    if not os.geteuid():
        os.chown(folder, 65534, 65534)
    done = run(source, folder)
    assert (done.stdout, list(folder.iterdir())) == ("True\n", []), done.stderr
