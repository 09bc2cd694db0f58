"""Supervised threads in whole processes: the end of the interpreter, with and without references to them."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.integration

PATIENCE = 30.0


def run(source: str, *options: str) -> tuple[int, str, str]:
    """Run a program; return its status, what it printed, and its errors."""
    command = [sys.executable, *options, "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_thread_that_is_kept_is_stopped_in_silence() -> None:
    """A running thread that the program still refers to at its end is stopped, and nothing is said."""
    status, printed, errors = run(
        """
        from threadkit import ManagedThread

        def body(running):
            running.wait()
            print(running.reason, flush=True)

        thread = ManagedThread(body)
        thread.start()
        """,
        "-W",
        "error",
        "-X",
        "dev",
    )
    assert (status, printed, errors) == (0, "the interpreter exits\n", "")


def test_a_thread_that_was_dropped_is_warned_of_and_stopped() -> None:
    """A thread that was dropped while it ran is warned of at once, runs on, and is stopped at the end."""
    status, printed, errors = run(
        """
        import threading
        from threadkit import ManagedThread

        def body(running):
            began.set()
            running.wait()
            print(running.reason, flush=True)

        began = threading.Event()
        ManagedThread(body, name="stray").start()
        began.wait()
        print("dropped", flush=True)
        """,
        "-W",
        "default",
    )
    assert (status, printed) == (0, "dropped\nthe interpreter exits\n")
    assert "ResourceWarning: thread 'stray' was dropped while its body runs" in errors
    assert errors.count("dropped") == 1


def test_a_dropped_thread_that_does_not_end_is_abandoned() -> None:
    """A dropped thread that no stop reaches does not keep the program alive, and is named."""
    status, _, errors = run(
        """
        import threading
        from threadkit import ManagedThread, _exit

        _exit.EXIT_TIMEOUT = 0.2
        ManagedThread(threading.Event().wait, name="deaf").start()
        """
    )
    assert status == 0
    assert errors == "abandoned at interpreter exit, still running: thread 'deaf'\n"


def test_a_group_is_stopped_at_the_end() -> None:
    """A group that stands alone is stopped at the end of the program, also while a child waits for its restart."""
    status, printed, errors = run(
        """
        import logging
        import threading
        from threadkit import ThreadGroup, backoff

        logging.getLogger("threadkit").setLevel(logging.CRITICAL)
        group = ThreadGroup("outer", "one_for_all", backoff=backoff.constant(3600))
        failed = threading.Event()

        @group.thread
        def fails():
            failed.set()
            raise OSError("no disk")

        @group.group("inner").thread
        def waits(running):
            running.wait()

        group.start()
        failed.wait()
        """,
        "-W",
        "error",
        "-X",
        "dev",
    )
    assert (status, printed, errors) == (0, "", "")


def test_threads_that_are_watched_end_in_silence() -> None:
    """A thread with a heartbeat that rests at the end, when no thread can be made any more, is not complained of."""
    status, printed, errors = run(
        """
        import time
        from threadkit import ManagedThread

        thread = ManagedThread(lambda running: running.wait(), name="rests", heartbeat=0.05, on_wedged="replace")
        thread.start()
        time.sleep(0.2)
        """,
        "-X",
        "dev",
    )
    assert (status, printed, errors) == (0, "", "")
