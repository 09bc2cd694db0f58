"""Whole processes: real signals, the end of the interpreter, forks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from programs import Program, unmeasured

pytestmark = pytest.mark.integration


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Collect the programs of a test, and kill those that are left."""
    started: list[Program] = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
        program.end()


def run(source: str, programs: list[Program], env: dict[str, str] | None = None) -> Program:
    program = Program(source, env)
    programs.append(program)
    return program


SERVICE = """
    from threadkit import Lifecycle

    with Lifecycle("service") as lc:
        jobs = lc.queue()

        @jobs.handler
        def work(payload):
            pass

        @lc.thread
        def reader(running):
            while running.sleep(0.01):
                jobs.submit("work")

        @lc.every(1, run_immediately=True)
        def tick():
            pass

        print("ready")
        code = lc.run_forever()
    print(lc.report.reason)
    raise SystemExit(code)
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_service_in_order(signum: int, code: int, programs: list[Program]) -> None:
    """SIGINT and SIGTERM end run_forever() with 128 + n, in time, with nothing on standard error."""
    program = run(SERVICE, programs)
    program.wait_for("ready")
    time.sleep(0.2)  # run_forever() takes the signals just after it says so
    began = time.monotonic()
    program.kill(signum)
    status, out, err = program.end()
    assert (status, out, err) == (code, f"signal {signal.Signals(signum).name}\n", "")
    assert time.monotonic() - began < 5


def test_a_signal_during_the_start_is_safe(programs: list[Program]) -> None:
    """With signals=True a SIGTERM that comes while components start ends the program in order."""
    program = run(
        """
        import sys
        from threadkit import Lifecycle

        lc = Lifecycle(signals=True)

        class Slow:
            name = "slow"
            def start(self):
                print("starting")
                lc.wait(10)
            def stop(self, reason=None):
                print("stopped")
            def join(self, timeout=None):
                return True

        lc.add(Slow())
        lc.thread(lambda running: print("never"))
        lc.start()
        report = lc.shutdown()
        sys.exit(report.exit_code)
        """,
        programs,
    )
    program.wait_for("starting")
    program.kill(signal.SIGTERM)
    assert program.end() == (143, "stopped\n", "")


def test_a_signal_during_the_start_of_run_forever_is_safe(programs: list[Program]) -> None:
    """A SIGTERM that comes while run_forever() starts components keeps the rest from starting, and ends with 143."""
    program = run(
        """
        import sys
        from threadkit import Lifecycle, Phase

        lc = Lifecycle()

        @lc.thread(ready=True, phase=Phase.BACKGROUND)
        def slow(running):
            print("starting")
            lc.wait(10)
            running.ready()
            running.wait()
            print("stopped")

        lc.thread(lambda running: print("never"))
        sys.exit(lc.run_forever())
        """,
        programs,
    )
    program.wait_for("starting")
    began = time.monotonic()
    program.kill(signal.SIGTERM)
    assert program.end()[0] == 143
    assert time.monotonic() - began < 5


STUCK = """
    import threading
    from threadkit import Lifecycle

    lc = Lifecycle(stop_timeout=60)

    @lc.thread
    def stuck(running):
        running.wait()
        print("stopping")
        threading.Event().wait()

    lc.thread("boss")(lambda running: lc.stop("done"))
    code = lc.run_forever()
    print(lc.report.reason, lc.report.forced, [part.name for part in lc.report.stuck])
    raise SystemExit(code)
"""


def test_signals_during_a_stuck_stop(programs: list[Program]) -> None:
    """A stop that nobody signalled and that is stuck is asked by the first SIGTERM, and forced by the second."""
    program = run(STUCK, programs)
    program.wait_for("stopping")
    program.kill(signal.SIGTERM)
    time.sleep(0.5)
    assert program.process.poll() is None
    began = time.monotonic()
    program.kill(signal.SIGTERM)
    status, out, _ = program.end()
    assert (status, out) == (143, "done True ['stuck']\n")
    assert time.monotonic() - began < 5


def test_two_signals_at_once(programs: list[Program]) -> None:
    """Two signals that come together end a service, be it in order or by force."""
    program = run(SERVICE, programs, unmeasured())
    program.wait_for("ready")
    time.sleep(0.2)
    program.kill(signal.SIGTERM)
    program.kill(signal.SIGINT)
    status, out, _ = program.end()
    assert status in {143, 130}
    assert out in {"signal SIGTERM\n", "signal SIGINT\n", ""}  # by force it may leave before it has said why


def test_several_failures_are_one_group_and_a_status_of_one(programs: list[Program]) -> None:
    """Where several components die, run_forever() raises all of it in one group, and the process exits with 1."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle, Phase

        lc = Lifecycle("app")
        both = threading.Barrier(3)

        @lc.thread(phase=Phase.BACKGROUND)
        def one():
            both.wait()
            raise ValueError("first")

        @lc.thread(phase=Phase.BACKGROUND)
        def two():
            both.wait()
            raise LookupError("second")

        @lc.thread(ready=True)
        def last(running):
            both.wait()
            lc["one"].join(5), lc["two"].join(5)
            running.ready()

        lc.callback(int, "third")
        lc.run_forever()
        """,
        programs,
    )
    status, _, err = program.end()
    assert status == 1
    group = err[err.rindex("ExceptionGroup: lifecycle 'app' failed (3 sub-exceptions)") :]
    for line in ("ValueError: first", "LookupError: second", "invalid literal for int() with base 10: 'third'"):
        assert line in group, err


def test_signals_are_the_programs_again_after_another_thread_has_shut_down(programs: list[Program]) -> None:
    """A shutdown by another thread leaves a program that SIGTERM ends as it ends any other."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle

        lc = Lifecycle(signals=True)
        lc.start()
        other = threading.Thread(target=lc.shutdown)
        other.start()
        other.join()
        print("ready")
        threading.Event().wait(60)
        """,
        programs,
    )
    program.wait_for("ready")
    time.sleep(0.2)
    program.kill(signal.SIGTERM)
    assert program.end() == (-signal.SIGTERM, "", "")


def test_a_second_signal_forces(programs: list[Program]) -> None:
    """A second signal ends a shutdown that is stuck, at once, and the program tells who was stuck."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle

        with Lifecycle(stop_timeout=60) as lc:

            @lc.thread
            def stuck(running):
                print("ready")
                threading.Event().wait()

            lc.callback(print, "closed")
            code = lc.run_forever()
        print(lc.report.forced, [part.name for part in lc.report.stuck])
        raise SystemExit(code)
        """,
        programs,
    )
    program.wait_for("ready")
    time.sleep(0.2)
    program.kill(signal.SIGTERM)
    time.sleep(0.3)
    began = time.monotonic()
    program.kill(signal.SIGTERM)
    status, out, _ = program.end()
    assert status == 143
    assert out == "True ['stuck']\n"
    assert time.monotonic() - began < 5


def test_exit_without_any_stop(programs: list[Program]) -> None:
    """A program that just ends stops what runs: exit status 0, nothing on standard error, running work ended."""
    program = run(
        """
        import sys
        import time
        from threadkit import BoundedExecutor, Bus, IntervalTask, Lifecycle, ManagedThread, WorkQueue

        def say(text):
            sys.stdout.write(text + "\\n")  # in one piece, unlike print()

        def body(running):
            running.wait()
            say(f"body ended: {running.reason}")

        ManagedThread(body).start()
        IntervalTask(lambda: None, 1, run_immediately=True).start()
        queue = WorkQueue()
        queue.handler("job")(lambda payload: (time.sleep(0.2), say("job ended")))
        queue.start()
        queue.submit("job")
        pool = BoundedExecutor(2)
        for number in range(4):
            pool.submit(lambda: (time.sleep(0.1), say("call ended")))
        Bus().start()
        lc = Lifecycle()
        lc.thread(body)
        lc.queue()
        lc.every(1, run_immediately=True)(lambda: None)
        lc.callback(say, "resource closed")
        lc.start()
        time.sleep(0.05)
        """,
        programs,
    )
    status, out, err = program.end()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines.count("call ended") == 4
    assert lines.count("job ended") == 1
    assert lines.count("body ended: the interpreter exits") == 2
    assert lines.count("resource closed") == 1


def test_exit_names_what_it_abandons(programs: list[Program]) -> None:
    """A thread that does not end keeps the process no longer than the deadline, and is named in the log."""
    program = run(
        """
        import threading
        from threadkit import ManagedThread, _exit

        _exit.EXIT_TIMEOUT = 0.2
        ManagedThread(lambda: threading.Event().wait(), name="deaf").start()
        """,
        programs,
    )
    status, _, err = program.end()
    assert status == 0
    assert err == "abandoned at interpreter exit, still running: thread 'deaf'\n"


def test_exit_does_not_wait_for_a_start_that_hangs(programs: list[Program]) -> None:
    """A process whose lifecycle hangs in its start, in a thread, ends within the deadline and names the component."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle

        inside = threading.Event()
        lc = Lifecycle(stop_timeout=0.3)

        @lc.every(lambda: (inside.set(), threading.Event().wait()))
        def task():
            pass

        threading.Thread(target=lc.start, daemon=True).start()
        inside.wait()
        """,
        programs,
    )
    status, _, err = program.end()
    assert status == 0
    assert "still running: 'task' of lifecycle 'app'" in err


def test_start_in_another_thread(programs: list[Program]) -> None:
    """A lifecycle can live in any thread, and ends with the interpreter all the same."""
    program = run(
        """
        import threading
        from threadkit import Lifecycle

        lc = Lifecycle()
        lc.thread("body")(lambda running: (running.wait(), print("ended")))
        starter = threading.Thread(target=lc.start)
        starter.start()
        starter.join()
        """,
        programs,
    )
    assert program.end() == (0, "ended\n", "")


FORK = """
    import os
    import sys
    import logging
    import threading
    import warnings
    from threadkit import ForkedError, Lifecycle, WorkQueue

    warnings.simplefilter("ignore", DeprecationWarning)
    lc = Lifecycle()
    jobs = lc.queue(workers=1)
    jobs.handler("pid")(lambda payload: os.getpid())
    lc.add(WorkQueue("checked"), check=lambda: os.getpid() != parent or door.wait())
    parent, door = os.getpid(), threading.Event()
    ticks = []
    lc.every(1, run_immediately=True)(lambda: ticks.append(os.getpid()))
    {before}
    pid = os.fork()
    if pid == 0:
        {child}
        lc.start()
        assert jobs.submit("pid").result(timeout=5) == os.getpid()
        while os.getpid() not in ticks:
            lc.wait(0.01)
        assert str(lc.health()) == "ready"
        assert lc.quiet()
        assert lc.shutdown().ok
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    {after}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_fork_before_the_start(programs: list[Program]) -> None:
    """A lifecycle that was made before a fork and is started in the child works there, as under gunicorn --preload."""
    source = FORK.format(before="", child="", after="lc.start(); assert lc.shutdown().ok")
    assert run(source, programs).end() == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_fork_after_the_start(programs: list[Program]) -> None:
    """In a child of a running lifecycle its use raises, until start() makes it the child's own; the parent goes on."""
    child = """uses = lc.shutdown, lc.quiet, lc.health, jobs.stats, lambda: jobs.submit("pid"), lambda: lc.add(None)
        for use in uses:
            try:
                use()
            except ForkedError:
                pass
            else:
                sys.exit(f"{use} did not raise")"""
    after = 'assert jobs.submit("pid").result(timeout=5) == os.getpid(); assert lc.shutdown().ok'
    source = FORK.format(
        before="logging.disable(); lc.start(); lc.health(); door.set(); lc.quiet()", child=child, after=after
    )
    assert run(source, programs).end() == (0, "", "")


def test_importing_starts_nothing(programs: list[Program]) -> None:
    """An import starts no thread, takes no signal, and loads neither asyncio nor sqlite3 nor zoneinfo."""
    program = run(
        """
        import signal, sys, threading
        loaded = set(sys.modules)  # what looks at the coverage is there already
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        import threadkit
        from threadkit import *
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert threading.active_count() == 1
        print(sorted({"asyncio", "sqlite3", "zoneinfo", "multiprocessing", "random"} & (set(sys.modules) - loaded)))
        """,
        programs,
    )
    assert program.end() == (0, "[]\n", "")
