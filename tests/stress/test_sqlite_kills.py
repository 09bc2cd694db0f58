"""A hundred kills of processes that work on a job file, for each durability. Runs in ``nox -s stress`` only."""

from __future__ import annotations

import pytest
from crashes import Crashes

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]

ROUNDS = 100


@pytest.mark.parametrize("durability", ["power", "process", "eventual"])
def test_nothing_is_lost_by_a_hundred_kills(tmp_path, durability, quiet):
    """Every job whose submit returned runs, and none that was seen to be completed runs again, over 100 kills."""
    with Crashes(tmp_path, durability, seed=3) as crashes:
        for _ in range(ROUNDS):
            crashes.round()
        crashes.finish()
