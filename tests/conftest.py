"""Fixtures for all tests. Helpers that are imported stand in ``helpers.py``."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from threadkit.testing import no_thread_leaks

# A run says of a commit what the next one will. To search elsewhere: pytest --hypothesis-profile=default
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _heed_ctrl_c() -> None:
    """Have SIGINT obeyed here and in the programs that tests start: a shell tells its background jobs to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _leave_no_thread_behind() -> Iterator[None]:
    """Fail each test that leaves a thread running."""
    with no_thread_leaks(grace=2.0):
        yield


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Log nothing of threadkit's, in tests that are full of failures."""
    caplog.set_level(logging.CRITICAL + 1, logger="threadkit")
