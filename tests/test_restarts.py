"""How often something may be restarted: rules and budgets, without a clock or a thread."""

from __future__ import annotations

import pytest

from threadkit import ThreadkitError, backoff
from threadkit._restarts import RestartBudget, RestartRules


def budget(max_restarts: int | None = 2, within: float = 60, *delays: float) -> RestartBudget:
    return RestartBudget(RestartRules.of(max_restarts, within, backoff.sequence(*delays or (1,))))


def test_budget_grants_so_many_and_no_more() -> None:
    """A budget of two grants two restarts, and refuses the third with how often it was asked."""
    two = budget(2)
    assert [two.spend(now, None) for now in (0, 5, 10)] == [1, 1, None]
    refusal = two.refusal("thread 'feed'", None)
    assert isinstance(refusal, ThreadkitError)
    assert str(refusal) == "thread 'feed' ended 3 times within 60 s: no restart"


def test_refusal_is_the_last_error_with_a_note() -> None:
    """What something dies of is what it raised last, with a note that says why there is no restart."""
    none = budget(0)
    error = OSError("no disk")
    assert none.spend(0, error) is None
    assert none.refusal("thread 'feed'", error) is error
    assert error.__notes__ == ["thread 'feed' ended 1 times within 60 s: no restart"]


def test_window_slides() -> None:
    """What lies as far back as the window is long does not count."""
    two = budget(2, 60)
    assert [two.spend(now, None) for now in (0, 30, 59.9, 60, 89.9, 90)] == [1, 1, None, 1, None, 1]


def test_backoff_begins_anew_after_a_healthy_period() -> None:
    """The delays grow, until it has gone well for as long as the window, counted from the end of the last delay."""
    free = budget(None, 60, 1, 10, 100)
    assert [free.spend(now, None) for now in (0, 1, 11)] == [1, 10, 100]
    assert free.spend(170.9, None) == 100  # up again since 111
    assert free.spend(330.9, None) == 1  # up again since 270.9


def test_unlimited_remembers_nothing() -> None:
    """Without a limit no list of the past grows."""
    free = budget(None)
    assert all(free.spend(now, None) == 1 for now in range(1000))
    assert not free._ends


def test_backoff_sees_the_error_and_the_last_delay() -> None:
    """A backoff learns how many restarts there were in a row, of what, and how long the last delay was."""
    seen: list[object] = []

    def wait(state: backoff.RetryState) -> float:
        seen.append((state.attempt_number, state.error, state.previous_delay))
        return 2.0

    error = OSError()
    rules = RestartBudget(RestartRules.of(5, 60, wait))
    rules.spend(0, error)
    rules.spend(3, None)
    assert seen == [(1, error, 0.0), (2, None, 2.0)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_restarts": -1}, "max_restarts must be at least 0, but is -1"),
        ({"within": float("inf")}, "within must be finite, but is inf"),
        ({"backoff": None}, "backoff must be callable, not None"),
    ],
)
def test_bad_rules_are_refused(given: dict[str, object], message: str) -> None:
    """Bad rules are refused by an error that names the parameter and the value."""
    with pytest.raises((TypeError, ValueError)) as refusal:
        RestartRules.of(**{"max_restarts": 5, "within": 60, "backoff": backoff.constant(1)} | given)  # type: ignore[arg-type]  # that is the point
    assert str(refusal.value) == message
