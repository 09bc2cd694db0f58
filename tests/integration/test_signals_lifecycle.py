"""Signals that come at bad moments: while a lifecycle starts, while its stop is stuck, twice, under a ``with``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from programs import Program

pytestmark = pytest.mark.integration

SOON = 3.0
"""Seconds in which a program that does not wait for anything has ended, on a machine that has other things to do."""


Start = Callable[[str], Program]


@pytest.fixture
def run() -> Iterator[Start]:
    """Return ``run(source)``, and kill what is left of its programs at the end."""
    programs: list[Program] = []

    def start(source: str) -> Program:
        programs.append(Program(source))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.communicate()


STARTING = """
    import threading
    from threadkit import Lifecycle

    lc = Lifecycle()

    class Slow:
        name = "slow"
        def start(self):
            print("starting")
            {start}
        def stop(self, reason=None):
            print("stopped")
        def join(self, timeout=None):
            return True

    lc.thread("up", phase=2000)({up})
    lc.add(Slow(), phase=1000)
    lc.thread("never")(lambda running: print("never"))
    lc.callback(print, "closed")
    try:
        code = lc.run_forever()
    finally:
        print(lc.report)
    raise SystemExit(code)
"""


def test_a_signal_while_run_forever_starts(run: Start) -> None:
    """SIGTERM while run_forever() starts the components lets the one end its start, starts no more, and gives 143."""
    program = run(STARTING.format(start="lc.wait()", up="lambda running: running.wait()"))
    program.wait_for("starting")
    program.kill(signal.SIGTERM)
    status, out, err = program.end(SOON)
    assert (status, err) == (143, "")
    assert out.splitlines()[:2] == ["stopped", "closed"]
    assert "app stopped well" in out


def test_a_second_signal_forces_a_start_that_is_stuck(run: Start) -> None:
    """A second SIGTERM gives up a start that hangs and what was up, and ends the program with 143 at once."""
    stuck = "threading.Event().wait()"
    program = run(STARTING.format(start=stuck, up=f"lambda: {stuck}"))
    program.wait_for("starting")
    program.kill(signal.SIGTERM)
    program.kill(signal.SIGTERM, after=0.5)
    status, out, _ = program.end(SOON)
    assert status == 143
    assert out.startswith("stopped\n")
    assert "up: stuck" in out
    assert "left open: print" in out


def test_a_second_signal_that_comes_out_as_another_error(run: Start) -> None:
    """A second SIGTERM that strikes where Python makes another error of it forces a start all the same."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle

        start = threading.Thread.start

        def struck(thread):
            if thread.name != "body":
                return start(thread)
            try:
                print("starting")
                threading.Event().wait()
            except SystemExit:
                raise RuntimeError("release unlocked lock")  # as Thread.start() does where it strikes in its Condition

        threading.Thread.start = struck
        lc = Lifecycle()
        lc.thread("up", phase=2000)(lambda running: running.wait() and print("stopped"))
        lc.thread("body")(lambda running: running.wait())
        lc.run_forever()
        """
    )
    program.wait_for("starting")
    program.kill(signal.SIGTERM)
    program.kill(signal.SIGTERM, after=0.5)
    status, out, _ = program.end(SOON)
    assert status == 143
    assert out.startswith("stopped\n")


def test_a_signal_before_anything_started(run: Start) -> None:
    """SIGTERM that comes before run_forever() has begun ends the program as if there were no lifecycle."""
    program = run(
        """
        import time
        from threadkit import Lifecycle
        lc = Lifecycle()
        lc.thread("body")(lambda running: running.wait())
        print("made")
        time.sleep(30)
        """
    )
    program.wait_for("made")
    program.kill(signal.SIGTERM)
    assert program.end(SOON) == (-signal.SIGTERM, "", "")


STUCK = """
    import threading
    from threadkit import Lifecycle

    lc = Lifecycle(stop_timeout={stop_timeout})

    @lc.thread
    def stuck(running):
        print("ready")  # run_forever() has taken the signals before it started anything
        running.wait()
        print("stopping")
        threading.Event().wait()

    lc.callback(print, "closed")
    code = lc.run_forever()
    print(lc.report.forced, [part.name for part in lc.report.stuck], lc.report.resources_left_open)
    raise SystemExit(code)
"""


def test_a_stop_that_is_stuck_ends_by_its_deadline(run: Start) -> None:
    """SIGTERM ends a program whose thread is stuck when its time is over, with 143 and the name of the thread."""
    program = run(STUCK.format(stop_timeout=0.5))
    program.wait_for("ready")
    program.kill(signal.SIGTERM)
    program.wait_for("stopping")
    assert program.end(SOON)[:2] == (143, "False ['stuck'] (\"print('closed')\",)\n")


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_the_second_signal_cuts_a_stuck_stop_short(first: int, second: int, run: Start) -> None:
    """A second signal, the same or the other, ends the wait for a stuck thread; the code is that of the first."""
    program = run(STUCK.format(stop_timeout=60))
    program.wait_for("ready")
    program.kill(first)
    program.wait_for("stopping")
    program.kill(second, after=0.1)
    assert program.end(SOON)[:2] == (128 + first, "True ['stuck'] (\"print('closed')\",)\n")


def test_many_signals_at_once(run: Start) -> None:
    """A burst of signals, as an impatient person or a supervisor sends it, ends a program with 128 + n of the first."""
    program = run(STUCK.format(stop_timeout=60))
    program.wait_for("ready")
    program.kill(signal.SIGTERM)
    program.wait_for("stopping")
    for _ in range(20):
        program.kill(signal.SIGTERM)
        time.sleep(0.001)
    status, _, err = program.end(SOON)
    assert status in {143, -signal.SIGTERM}, err  # the last ones may come when the signals have been given back


WITH = """
    import threading, time
    from threadkit import Lifecycle

    with Lifecycle(stop_timeout=60) as lc:
        lc.callback(print, "closed")

        @lc.thread
        def body(running):
            running.wait()
            print("stopping:", running.reason)
            {stop}

        print("ready")
        {work}
"""


@pytest.mark.parametrize("work", ["time.sleep(60)", "lc.wait()", "threading.Event().wait()"])
def test_ctrl_c_under_with(work: str, run: Start) -> None:
    """Ctrl-C in a plain with block stops everything in order, and is the KeyboardInterrupt that it always was."""
    program = run(WITH.format(work=work, stop="pass"))
    program.wait_for("ready")
    program.kill(signal.SIGINT, after=0.2)
    status, out, err = program.end(SOON)
    assert (status, out) == (-signal.SIGINT, "stopping: KeyboardInterrupt\nclosed\n")
    assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_ctrl_c_twice_under_with(run: Start) -> None:
    """A second Ctrl-C cuts the stop short; the end of the interpreter takes up what is left, on its own deadline."""
    stop = "threading.Event().wait()"
    program = run(WITH.format(work="time.sleep(60)", stop=stop).replace("import threading", QUICK_EXIT, 1))
    program.wait_for("ready")
    program.kill(signal.SIGINT, after=0.2)
    program.wait_for("stopping: KeyboardInterrupt")
    program.kill(signal.SIGINT, after=0.2)
    status, out, err = program.end(SOON)
    assert (status, out) == (-signal.SIGINT, "")
    assert "abandoned at interpreter exit, still running: 'body' of lifecycle 'app'" in err


QUICK_EXIT = "from threadkit import _exit; _exit.EXIT_TIMEOUT = 0.3; import threading"


def test_sigterm_under_with_is_not_taken(run: Start) -> None:
    """A plain with block takes no signals: SIGTERM ends the process as the system does."""
    program = run(WITH.format(work="time.sleep(60)", stop="pass"))
    program.wait_for("ready")
    program.kill(signal.SIGTERM, after=0.2)
    assert program.end(SOON) == (-signal.SIGTERM, "", "")


OTHER_THREAD = """
    import threading
    from threadkit import Lifecycle

    lc = Lifecycle()
    lc.callback(print, "closed")

    @lc.thread
    def body(running):
        print("ready")
        running.wait()
        print("stopping:", running.reason)

    runner = threading.Thread(target=lc.run_forever, daemon={daemon})
    runner.start()
    runner.join()
"""


def test_run_forever_in_another_thread(run: Start) -> None:
    """In a thread that is not the main one signals are the program's own: Ctrl-C ends it, and its end the lifecycle."""
    program = run(OTHER_THREAD.format(daemon=True))
    program.wait_for("ready")
    program.kill(signal.SIGINT, after=0.2)
    status, out, err = program.end(SOON)
    assert (status, out) == (-signal.SIGINT, "stopping: the interpreter exits\nclosed\n")
    assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_sigterm_with_a_lifecycle_in_another_thread(run: Start) -> None:
    """SIGTERM ends a program whose lifecycle runs in another thread as the system does, unless it has a handler."""
    program = run(OTHER_THREAD.format(daemon=True))
    program.wait_for("ready")
    program.kill(signal.SIGTERM, after=0.2)
    assert program.end(SOON) == (-signal.SIGTERM, "", "")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups here")
def test_a_handler_of_the_user_may_stop_it(run: Start) -> None:
    """A handler that a user has installed may call stop(), wherever it runs; run_forever() then returns 0."""
    program = run(
        """
        import signal, threading
        from threadkit import Lifecycle

        lc = Lifecycle()
        signal.signal(signal.SIGTERM, lambda *_: lc.stop("mine"))
        codes = []
        lc.thread("body")(lambda running: (print("ready"), running.wait()))
        runner = threading.Thread(target=lambda: codes.append(lc.run_forever()))
        runner.start()
        runner.join()
        print(codes, lc.report.reason)
        """
    )
    program.wait_for("ready")
    program.kill(signal.SIGTERM, after=0.2)
    assert program.end(SOON) == (0, "[0] mine\n", "")
