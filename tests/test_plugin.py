"""The pytest plugin, in tests of its own that pytest runs."""

from __future__ import annotations

import pytest

pytest_plugins = "pytester"


def test_marker_fails_a_test_that_leaves_a_thread(pytester: pytest.Pytester) -> None:
    """A test marked with no_thread_leaks is an error where a thread of it is alive after its fixtures are gone."""
    pytester.makepyfile(
        """
        import threading

        import pytest

        door = threading.Event()

        @pytest.fixture
        def tidied():
            thread = threading.Thread(target=door.wait, daemon=True, name="tidied")
            thread.start()
            yield
            door.set()
            thread.join(5)

        @pytest.mark.no_thread_leaks
        def test_leaves_a_thread():
            threading.Thread(target=threading.Event().wait, daemon=True, name="left").start()

        @pytest.mark.no_thread_leaks
        def test_whose_fixture_tidies_up(tidied):
            pass

        def test_that_may():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*threads were started and are still alive: left"])


def test_fixtures(pytester: pytest.Pytester) -> None:
    """The fixture lifecycle runs and is stopped after the test; virtual_clock stands still until it is moved."""
    pytester.makepyfile(
        """
        ended = []

        def test_lifecycle(lifecycle):
            @lifecycle.thread
            def body(running):
                running.wait()
                ended.append(running.reason)

            assert lifecycle.state.value == "running"

        def test_it_was_stopped():
            assert ended == ["leaving the with block"]

        def test_clock(virtual_clock):
            virtual_clock.advance(60)
            assert virtual_clock.monotonic() == 60
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_fixtures_together(pytester: pytest.Pytester) -> None:
    """A test that asks for both fixtures, in either order or through another one, has a lifecycle on its clock."""
    pytester.makepyfile(
        """
        import pytest

        def ticks(lifecycle, clock):
            ticked = []
            lifecycle.every("1h")(lambda: ticked.append(clock.monotonic()))
            clock.advance(3 * 3600)
            return ticked

        def test_lifecycle_first(lifecycle, virtual_clock):
            assert ticks(lifecycle, virtual_clock) == [3600, 7200, 10800]

        def test_clock_first(virtual_clock, lifecycle):
            assert ticks(lifecycle, virtual_clock) == [3600, 7200, 10800]

        @pytest.mark.usefixtures("virtual_clock")
        def test_by_a_mark(lifecycle, request):
            assert len(ticks(lifecycle, request.getfixturevalue("virtual_clock"))) == 3
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)
