"""What a forked child of a program does with the program's lifecycle, beside what servers do with theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
]

PATIENCE = 20.0


def outcome_of(source: str) -> tuple[int, str, str]:
    """Run a program, and return its exit status, what it printed, and its errors."""
    done = subprocess.run(
        [sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_child_calls_back_but_does_not_leave_what_the_parent_entered() -> None:
    """In a child that starts anew the callbacks come at its end; a parent's temporary folder is left by the parent."""
    source = """
        import os, tempfile
        from threadkit import Lifecycle

        service = Lifecycle()
        folder = service.enter_context(tempfile.TemporaryDirectory())
        service.callback(lambda: print("called back in", "child" if child == 0 else "parent"))
        child = os.fork()
        if child == 0:
            with service:
                pass
            print(os.path.exists(folder))
            os._exit(0)
        os.waitpid(child, 0)
        with service:
            print(os.path.exists(folder))
        print(os.path.exists(folder))
    """
    said = ["called back in child", "True", "True", "called back in parent", "False"]
    assert outcome_of(source) == (0, "\n".join([*said, ""]), "")


def test_a_fork_under_a_lock_harms_nobody() -> None:
    """A child that was forked while another thread of the parent held every lock of the lifecycle can start it anew."""
    source = """
        import os, threading
        from threadkit import Lifecycle

        service = Lifecycle()
        worker = service.thread("worker")(lambda running: running.wait())
        service.start()
        locked, unlock = threading.Event(), threading.Event()

        def hold():
            thread = service["worker"]
            with service._condition, service._registry._condition, service._resources._lock, thread._condition:
                locked.set()
                unlock.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        locked.wait()
        child = os.fork()
        if child == 0:
            service.observe(lambda event: None)
            with service:
                service.thread("another")(lambda running: running.wait())
            print(service.report.ok)
            os._exit(0)
        os.waitpid(child, 0)
        unlock.set()
        holder.join()
        print(service.shutdown().ok)
    """
    assert outcome_of(source) == (0, "True\nTrue\n", "")
