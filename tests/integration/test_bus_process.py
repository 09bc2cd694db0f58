"""A bus in whole processes: Ctrl-C, forks, and the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from programs import unmeasured

pytestmark = pytest.mark.integration

PATIENCE = 30.0
PROLOGUE = """
import os, signal, threading, time
from threadkit import *
from threadkit import testing
from concurrent.futures import ThreadPoolExecutor
"""


def run(source: str, env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
    """Run a program; return its status, what it printed, and its errors."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROLOGUE + textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=env,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot send itself a Ctrl-C alone")
@pytest.mark.parametrize(
    "wait",
    [
        "Bus(executor=pool)|bus.call('wait')",  # in a call, for the reply
        "Bus(executor=pool, maxsize=1)|[bus.publish('wait') for _ in range(9)]",  # in a publish, for room
        "Bus()|bus.call('wait')",  # in a handler
        "Bus()|bus.publish('wait')",
        "Bus()|bus.call('async wait')",
        "Bus(executor=testing.InlineExecutor())|bus.call('wait')",
        "Bus(executor=testing.InlineExecutor())|bus.publish('wait')",
    ],
)
def test_ctrl_c(wait: str) -> None:
    """Ctrl-C ends a wait in the main thread, wherever that is; afterwards the bus stops as always."""
    made, waiting = wait.split("|")
    status, lines, errors = run(f"""
        import asyncio

        pool, release, inside = ThreadPoolExecutor(1), threading.Event(), threading.Event()
        bus = {made}
        bus.start()

        @bus.on("wait")
        def on_wait(message):
            wait()

        @bus.action("wait")
        def wait():
            inside.set()
            release.wait()

        @bus.action("async wait")
        async def async_wait():
            inside.set()
            await asyncio.sleep(60)

        def interrupt():
            inside.wait()
            time.sleep(0.3)  # until the main thread waits
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        try:
            {waiting}
        except KeyboardInterrupt:
            print("interrupted")
        release.set()
        bus.stop()
        print(bus.join(10), bus.work_left())
        pool.shutdown()
    """)
    assert (status, lines) == (0, ["interrupted", "True 0"]), errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_fork_in_the_middle_of_load() -> None:
    """A child of a busy process is refused at first; after a fresh start its bus works, and the parent's goes on."""
    status, lines, errors = run(
        """
            executor = BoundedExecutor(2)
            bus = Bus(executor=executor, maxsize=10)
            heard, is_over = [], threading.Event()
            bus.subscribe("a", lambda message: heard.append(message.payload))
            bus.action("double")(lambda request: 2 * request.payload)
            bus.start()

            def load():
                while not is_over.is_set():
                    bus.publish("a", 0)
                    bus.call("double", 1)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            statuses = []
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)
                    for use in (lambda: bus.publish("a"), lambda: bus.call("double", 1), bus.stop):
                        try:
                            use()
                        except ForkedError:
                            pass
                        else:
                            os._exit(1)
                    executor.start()
                    bus.start()
                    heard.clear()
                    for number in range(100):
                        bus.publish("a", number)
                    if bus.call("double", 21, timeout=10) != 42 or bus.stats().published != 100:
                        os._exit(2)
                    bus.stop()
                    os._exit(0 if bus.join(10) and heard == list(range(100)) else 3)
                statuses.append(os.waitpid(child, 0)[1])
            is_over.set()
            for thread in threads:
                thread.join()
            bus.stop()
            print(bus.join(10), bus.stats().published == bus.stats().delivered, set(statuses))
        """,
        unmeasured(),
    )
    assert (status, lines) == (0, ["True True {0}"]), errors


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor(2)", "BoundedExecutor(2)"])
@pytest.mark.parametrize("start", ["", "bus.start()"])
def test_exit_with_messages_waiting(executor: str, start: str) -> None:
    """At the end of a program what is in the mailboxes is delivered first; status 0, no word."""
    status, lines, errors = run(f"""
        executor = {executor}
        bus = Bus(executor=executor)
        {start}

        def note(message):
            time.sleep(0.02)
            os.write(1, b"%d\\n" % message.payload)

        bus.subscribe("a", note)
        for number in range(20):
            bus.publish("a", number)
    """)
    assert (status, lines, errors) == (0, [str(number) for number in range(20)], "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_publish_from_a_signal_handler() -> None:
    """A signal handler may publish on the bus that it interrupts, over and over; nothing is lost and nothing hangs."""
    status, lines, errors = run("""
        bus = Bus(executor=BoundedExecutor(2, max_pending=float("inf")), on_full="drop_oldest", maxsize=100_000)
        subscription = bus.subscribe("*", lambda message: None)
        struck = []

        def strike(number, frame):
            struck.append(bus.publish("struck").reached)

        signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(20_000):
            bus.publish("a")
        signal.setitimer(signal.ITIMER_REAL, 0)
        bus.stop()
        print(bus.join(20), len(struck) > 3, bus.stats().delivered + subscription.dropped == 20_000 + sum(struck))
    """)
    assert (status, lines) == (0, ["True True True"]), errors
