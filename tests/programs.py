"""Python programs in processes of their own, for tests of signals and of exits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

PATIENCE = 20.0
"""Seconds after which a test gives up on a program."""


def unmeasured() -> dict[str, str]:
    """Return an environment in which coverage does not look at what a program does.

    It takes a lock in each thread, which stays locked for ever where a handler of a signal raises inside of it, and in
    a forked child where another thread was inside. So it is for programs with a storm of signals, or that fork under
    load.
    """
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}


class Program:
    """A program that prints a line when it is where the test wants it."""

    def __init__(self, source: str, env: dict[str, str] | None = None) -> None:
        # Unbuffered, so that a line that was printed can be read; as a child of the shell it gets default signals.
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )

    def wait_for(self, word: str) -> None:
        """Read on until a line says the word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"the program ended without saying {word!r}: {self.end()}")

    def kill(self, signum: int, *, after: float = 0.0) -> None:
        """Send a signal, so many seconds from now."""
        time.sleep(after)  # noqa: TID251 - a process of its own has a clock of its own
        self.process.send_signal(signum)

    def end(self, within: float = PATIENCE) -> tuple[int, str, str]:
        """Return exit status, output and errors, once the program has ended; it must do so in that many seconds."""
        began = time.monotonic()  # noqa: TID251
        out, err = self.process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < within, (self.process.returncode, out, err)  # noqa: TID251
        return self.process.returncode, out, err
