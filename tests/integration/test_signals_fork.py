"""A process that takes signals, and its forked children."""

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


def outcome_of(source: str) -> tuple[int, str]:
    """Run a program, and return its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_signal_to_a_child_is_not_heard_by_its_parent() -> None:
    """SIGTERM ends a forked child, as it would have without the parent's handlers, and does not stop the parent."""
    source = """
        import os, signal
        from threadkit import Lifecycle

        lc = Lifecycle()

        @lc.thread
        def boss(running):
            ours, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(theirs, b".")  # what comes before that, Python itself drops in a child
                signal.pause()
                os._exit(1)
            os.read(ours, 1)
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
            # Whoever had heard would be quick: the listener waits for nothing else.
            print(os.WTERMSIG(status), running.wait(timeout=0.3))
            lc.stop("done")

        raise SystemExit(lc.run_forever())
    """
    assert outcome_of(source) == (0, "15 False\n")


def test_a_child_does_not_keep_its_parent_from_ending() -> None:
    """The parent gives its signals back and ends although a forked child holds copies of its descriptors."""
    source = """
        import os, signal
        from threadkit import Lifecycle

        lc = Lifecycle()
        child = 0

        @lc.thread
        def boss(running):
            global child
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(1)
            lc.stop("done")

        status = lc.run_forever()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("the parent has ended first")
        raise SystemExit(status)
    """
    assert outcome_of(source) == (0, "the parent has ended first\n")
