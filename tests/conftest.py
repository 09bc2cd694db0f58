"""Fixtures for all tests. Helpers that are imported stand in ``helpers.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from threadkit.testing import no_thread_leaks


@pytest.fixture(autouse=True)
def _leave_no_thread_behind() -> Iterator[None]:
    """Fail each test that leaves a thread running."""
    with no_thread_leaks(grace=2.0):
        yield
