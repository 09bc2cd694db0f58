"""A Dask cluster for tests: a scheduler and workers, each a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Cluster:
    """A scheduler and two workers with one thread each. They are ended by their handles, and by nothing else."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler: subprocess.Popen[bytes]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """Start all of it, on the same port as before, and return when the scheduler listens."""
        command = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard")
        self.scheduler = subprocess.Popen([*command, "--port", str(self._port)], **_QUIET)
        self._wait_for_scheduler()
        for _ in range(2):
            self.add_worker()

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start one worker more."""
        command = (sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--host", "127.0.0.1")
        options = ("--nthreads", "1", "--no-dashboard", "--no-nanny")
        self.workers.append(subprocess.Popen([*command, *options], **_QUIET))
        return self.workers[-1]

    def wait_for_workers(self) -> None:
        """Wait until the scheduler knows both workers."""
        import distributed

        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=30)

    def kill_scheduler(self) -> None:
        """Kill the scheduler; workers end by themselves then."""
        self.scheduler.kill()
        self.scheduler.wait()

    def stop(self) -> None:
        """End all of it."""
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()

    def _wait_for_scheduler(self) -> None:
        deadline = time.monotonic() + 30  # noqa: TID251 - a process of its own has a clock of its own
        while time.monotonic() < deadline:  # noqa: TID251
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            assert self.scheduler.poll() is None, "the scheduler has ended"
            time.sleep(0.05)  # noqa: TID251
        raise AssertionError("the scheduler does not listen")


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a cluster for as long as the block."""
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.stop()
        gc.collect()  # clients leave finalizers in cycles; struck by one, ast.parse() fails before 3.11.8 (gh-106905)
