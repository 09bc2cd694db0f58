"""A main thread that sleeps in a lock runs no handlers: that a signal is heard all the same takes real time to show."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit._signals import SignalTrap

pytestmark = pytest.mark.integration


def test_a_signal_is_heard_while_the_main_thread_is_deaf() -> None:
    """The listener hears of a signal that another thread takes while the main thread is stuck in a lock."""
    calls: list[tuple[int, str]] = []
    heard = Gate()
    lock = threading.Lock()
    lock.acquire()

    def on_signal(signum: int, name: str) -> None:
        calls.append((signum, name))
        heard.open()

    def kill() -> None:
        time.sleep(0.3)  # by then the main thread is in the lock
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def release() -> bool:
        heard.pass_through()
        lock.release()
        return threading.main_thread().is_alive()

    with SignalTrap(on_signal):
        killer, releaser = Background(kill), Background(release)
        # Nothing interrupts this wait: without the listener the handler would run when its time is over.
        assert lock.acquire(timeout=PATIENCE / 2)
        killer.result()
        assert releaser.result()
    assert calls[0] == (signal.SIGTERM, "SIGTERM")
