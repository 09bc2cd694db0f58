"""A real server in a process of its own, which hosts ``tests/integration/hosted/service.py``."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from programs import unmeasured

HOSTED = Path(__file__).parent / "integration" / "hosted"
PATIENCE = 20.0


class Host:
    """A server on the loopback interface, at a port that the kernel has chosen.

    The listening socket is made here and inherited by the server, so a request may be sent at once: it waits in the
    socket's backlog until somebody takes it. The service's notes come through a named pipe, whose end tells that of the
    last process that holds it.

    Args:
        folder: where the pipe is made.
        command: the server's module and its arguments; ``{fd}`` becomes the number of the listening socket.
        environ: what is added to the environment.
    """

    def __init__(self, folder: Path, *command: str, **environ: str) -> None:
        pipe = folder / "notes"
        os.mkfifo(pipe)
        self._notes = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = pipe.open("wb")  # keeps the pipe from ending while nobody else has opened it yet
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._address: tuple[str, int] = listener.getsockname()
            fd = str(listener.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *(word.replace("{fd}", fd) for word in command)],
                cwd=HOSTED,
                env=self._environ() | {"NOTES": str(pipe)} | environ,
                pass_fds=(listener.fileno(),),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its children can be found
            )
        self.notes: list[tuple[int, str]] = []
        self._rest = b""

    @staticmethod
    def _environ() -> dict[str, str]:
        # What looks at the coverage would write its files while the time is taken that a server needs to end.
        environ = unmeasured()
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOSTED), environ.get("PYTHONPATH")]))
        return environ

    def ask(self, path: str = "/") -> dict[str, Any]:
        """Send a request, and return the answer."""
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def wait_for(self, words: str, times: int = 1) -> set[int]:
        """Wait until so many processes have noted the words, and return which."""
        deadline = time.monotonic() + PATIENCE
        while len(pids := {pid for pid, noted in self.notes if noted == words}) < times:
            assert self._read(deadline), f"only {self.notes}\n{self._output()}"
        return pids

    def terminate(self) -> float:
        """Send SIGTERM, wait for the end of all processes, and return the seconds until then."""
        began = time.monotonic()
        self._writer.close()
        self.process.send_signal(signal.SIGTERM)
        while self._read(began + PATIENCE):
            pass
        self.process.wait(PATIENCE)
        return time.monotonic() - began

    @staticmethod
    def soon() -> float:
        """Return the seconds in which a server has ended: two, or in proportion more under overload."""
        return 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    def noted_by(self, pid: int) -> list[str]:
        """Return what one process has noted, in its order."""
        return [noted for noter, noted in self.notes if noter == pid]

    def _read(self, deadline: float) -> bool:
        """Read notes; return False at their end."""
        ready, _, _ = select.select([self._notes], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no news within {PATIENCE} s, only {self.notes}\n{self._output()}"
        data = os.read(self._notes, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            pid, _, noted = line.decode().partition(" ")
            self.notes.append((int(pid), noted))
        return bool(data)

    def _output(self) -> str:
        self._kill()
        out, _ = self.process.communicate(timeout=PATIENCE)
        return out.decode()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # all have ended, as they should
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate(timeout=PATIENCE)
        self._writer.close()
        os.close(self._notes)
