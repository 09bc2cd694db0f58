"""What survives when a process that works on a job file is killed at a random moment. Real processes, real kills."""

from __future__ import annotations

import pytest
from crashes import Crashes

pytestmark = pytest.mark.integration

ROUNDS = 20


@pytest.mark.parametrize("durability", ["power", "process", "eventual"])
def test_nothing_is_lost_by_a_kill(tmp_path, durability, quiet):
    """Every job whose submit returned runs, and none that was seen to be completed runs again, over 20 kills."""
    with Crashes(tmp_path, durability, seed=1) as crashes:
        for _ in range(ROUNDS):
            crashes.round()
        crashes.finish()


@pytest.mark.parametrize("durability", ["power", "process", "eventual"])
def test_nothing_is_lost_where_one_of_two_is_killed(tmp_path, durability, quiet):
    """The same where two processes work on one file, and one of them is killed: the other takes its jobs over."""
    with Crashes(tmp_path, durability, seed=2) as crashes:
        alive = crashes.start()
        for _ in range(ROUNDS // 4):
            crashes.round()
            other = crashes.start()
            crashes.kill(alive)
            alive = other
        crashes.kill(alive)
        crashes.finish()
