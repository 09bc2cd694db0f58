"""Whole processes with a component of the user's own that hangs for ever: SIGTERM, twice, and the interpreter's end."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from programs import Program

pytestmark = pytest.mark.integration

PARTS = """
    import logging, sys, threading
    from threadkit import Lifecycle

    class Part:
        def __init__(self, name, hangs_in=None):
            self.name = name
            if hangs_in:
                setattr(self, hangs_in, self.hang)

        def hang(self, *_):
            threading.Event().wait()

        def start(self): ...
        def stop(self, reason=None): print("told", self.name)
        def join(self, timeout=None): return True

    lc = Lifecycle("service", stop_timeout=1)
    lc.add(Part("first"))
    lc.add(Part("hanging", {hangs_in!r}))
    lc.add(Part("last"))
    lc.callback(print, "closed")
"""

SERVICE = (
    PARTS
    + """
    threading.Timer(0.3, print, ["ready"]).start()
    code = lc.run_forever()
    print(lc.report)
    sys.exit(code)
"""
)

FORGETFUL = (
    PARTS
    + """
    lc.start()
    lc.health()
    print("the end")
"""
)


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Collect the programs of a test, and kill those that are left."""
    started: list[Program] = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
        program.end()


def run(source: str, programs: list[Program], hangs_in: str) -> Program:
    program = Program(source.replace("{hangs_in!r}", repr(hangs_in)))
    programs.append(program)
    return program


@pytest.mark.parametrize("method", ["stop", "join", "close", "work_left", "threads"])
def test_sigterm_ends_a_process_whose_component_hangs(method: str, programs: list[Program]) -> None:
    """Whatever a component hangs in, the process ends in time, with the signal's code, and says who hangs and where."""
    program = run(SERVICE, programs, method)
    program.wait_for("ready")
    program.kill(signal.SIGTERM)
    status, out, _ = program.end(within=6)
    assert status == 128 + signal.SIGTERM
    assert [line for line in out.splitlines() if line.startswith("told")].count("told first") == 1
    assert "service did not stop well" in out
    assert "hanging: stuck after" in out
    assert "in hang" in out
    assert "left open: print('closed')" in out


def test_a_second_signal_gets_out_at_once(programs: list[Program]) -> None:
    """A second SIGTERM ends the wait for a stop() that hangs, long before its time is over."""
    program = run(SERVICE.replace("stop_timeout=1", "stop_timeout=60"), programs, "stop")
    program.wait_for("ready")
    program.kill(signal.SIGTERM)
    program.wait_for("told first")
    program.kill(signal.SIGTERM, after=0.3)
    status, out, _ = program.end(within=6)
    assert status == 128 + signal.SIGTERM
    assert "hanging: stuck after" in out
    assert "in hang" in out


@pytest.mark.parametrize("method", ["stop", "join", "close", "health"])
def test_the_end_of_the_interpreter_comes_all_the_same(method: str, programs: list[Program]) -> None:
    """A program that ends without a stop ends in time, though no thread can be made then; the log names who hangs."""
    program = run(FORGETFUL, programs, method)
    status, out, err = program.end(within=8)
    assert status == 0
    assert out.splitlines().count("told first") == 1
    if method != "health":
        assert "abandoned at interpreter exit, still running: 'hanging' of lifecycle 'service'" in err


def test_the_end_of_the_interpreter_is_quiet_where_nothing_hangs(programs: list[Program]) -> None:
    """Components of the user's that stop as they should are stopped at exit in their order, and nothing is logged."""
    program = run(FORGETFUL.replace("    lc.start()", "    lc['last'].threads = list\n    lc.start()"), programs, "")
    assert program.end() == (0, "the end\ntold last\ntold hanging\ntold first\nclosed\n", "")
