"""The pytest plugin: fixtures ``lifecycle`` and ``virtual_clock``, and the marker ``no_thread_leaks``.

pytest loads it in every run of every project where threadkit is installed, so it imports threadkit only where it is
used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from threadkit import Lifecycle
    from threadkit.testing import VirtualClock

_CHECK = pytest.StashKey[AbstractContextManager[None]]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "no_thread_leaks: fail where the test leaves threads behind")


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Return a clock that stands still until the test moves it."""
    from threadkit.testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def lifecycle(request: pytest.FixtureRequest) -> Iterator[Lifecycle]:
    """Give a running lifecycle; what is added to it is stopped after the test, and must stop within 5 s.

    Where the test has the fixture ``virtual_clock`` as well, by whatever way, the lifecycle lives on that.
    """
    from threadkit import Lifecycle

    clock = request.getfixturevalue("virtual_clock") if "virtual_clock" in request.fixturenames else None
    with Lifecycle("test", stop_timeout=5.0, clock=clock) as lc:
        yield lc
    assert lc.report is not None
    assert not lc.report.stuck, str(lc.report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Take down which threads there are, before the fixtures of a marked test are made."""
    if item.get_closest_marker("no_thread_leaks") is not None:
        from threadkit.testing import no_thread_leaks

        check = item.stash[_CHECK] = no_thread_leaks()
        check.__enter__()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fail a marked test where there are more threads after its fixtures are gone."""
    yield
    check = item.stash.get(_CHECK, None)
    if check is not None:
        check.__exit__(None, None, None)
