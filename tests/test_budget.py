"""``Budget``: how one deadline is shared among the stages of a stop."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from threadkit import Phase
from threadkit._budget import Budget, Limit, phase_timeouts


def test_a_tenth_of_the_whole_is_kept_for_each_later_stage() -> None:
    """A stage may use what remains, less a tenth of the whole for each later one."""
    budget = Budget(0.0, 10.0, 3, {})
    assert budget.begin_stage(0.0, 100) == (8.0, "deadline")
    assert budget.begin_stage(1.0, 200) == (9.0, "deadline")
    assert budget.begin_stage(9.0, 300) == (10.0, "deadline")


def test_what_remains_is_shared_where_there_is_too_little() -> None:
    """Where less remains than a tenth of the whole for each, all that remains is shared equally."""
    budget = Budget(0.0, 10.0, 3, {})
    budget.begin_stage(0.0, 100)
    assert budget.begin_stage(9.0, 200) == (9.5, "deadline")


def test_a_phase_has_its_own_limit() -> None:
    """The limit of a phase counts from its beginning, ends with it, and never lengthens."""
    budget = Budget(0.0, 10.0, 3, {100: 2.0, 300: 60.0})
    assert budget.begin_stage(0.0, 100) == (2.0, "phase_timeouts")
    assert budget.begin_stage(2.0, 200) == (9.0, "deadline")
    assert budget.begin_stage(2.0, 300) == (10.0, "deadline")


def test_the_stages_of_a_phase_share_its_limit() -> None:
    """Where a phase stops in several stages, also with what stands in an earlier phase, they have one limit."""
    budget = Budget(0.0, 10.0, 3, {100: 1.0, 200: 3.0})
    assert budget.begin_stage(0.0, 200) == (3.0, "phase_timeouts")
    assert budget.begin_stage(2.0, 200) == (3.0, "phase_timeouts")
    assert budget.begin_stage(2.5, 100) == (3.0, "phase_timeouts")


def test_the_shortest_limit_counts() -> None:
    """Of limits the earliest one is the least."""
    assert min(Limit(3.0, "deadline"), Limit(2.0, "stop_timeout"), Limit(2.5, "phase_timeouts")).name == "stop_timeout"


def test_phase_timeouts_in_seconds() -> None:
    """Durations of any kind become seconds, by phase; None is none."""
    assert phase_timeouts(None) == {}
    given = {Phase.WORK: timedelta(seconds=90), 7: 0, -5: math.inf}
    assert phase_timeouts(given) == {200: 90.0, 7: 0.0, -5: math.inf}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5.0, r"phase_timeouts must map phases to seconds, as \{Phase.WORK: 5.0\} does, not 5.0"),
        ([(200, 5)], "phase_timeouts must map phases"),
        ({"WORK": 5}, "phase_timeouts must have whole numbers for phases, not 'WORK'"),
        ({True: 5}, "phase_timeouts must have whole numbers for phases, not True"),
        ({Phase.WORK: None}, r"phase_timeouts\[200\] must be a number of seconds"),
        ({Phase.WORK: "5"}, r"phase_timeouts\[200\] must be a number of seconds"),
        ({Phase.WORK: True}, r"phase_timeouts\[200\] must be a number of seconds"),
        ({Phase.WORK: -1}, r"phase_timeouts\[200\] must not be negative or nan, but is -1"),
        ({Phase.WORK: math.nan}, r"phase_timeouts\[200\] must not be negative or nan"),
    ],
)
def test_bad_phase_timeouts_are_refused(value: object, message: str) -> None:
    """What is no mapping of phases to durations is refused by an error that names the place and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        phase_timeouts(value)
