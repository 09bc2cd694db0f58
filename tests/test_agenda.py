"""What is due when, as a heap; its owners, who lock it, have tests of their own."""

from __future__ import annotations

import math

from threadkit._agenda import Agenda


def test_order() -> None:
    """What is due is taken out in the order of the times, and of the writing down where they are equal."""
    agenda = Agenda()
    for due, name in [(3.0, "c"), (1.0, "a"), (3.0, "d"), (2.0, "b"), (4.0, "e")]:
        agenda.add(due, print, name)
    assert agenda.next_due() == 1
    assert [name for _, name in agenda.pop_due(3)] == ["a", "b", "c", "d"]
    assert (agenda.next_due(), len(agenda)) == (4, 1)
    assert agenda.pop_due(3) == []


def test_cancelled_entries_are_passed_over() -> None:
    """A cancelled entry is neither what is next nor taken out, wherever it lies."""
    agenda = Agenda()
    entries = [agenda.add(float(number), print, number) for number in range(5)]
    assert agenda.is_head(entries[0])
    assert all(agenda.cancel(entries[number]) for number in (0, 2))
    assert not agenda.cancel(entries[0])
    assert (agenda.next_due(), len(agenda)) == (1, 3)
    assert [number for _, number in agenda.pop_due(3)] == [1, 3]
    assert not agenda.cancel(entries[1])


def test_cancelled_entries_are_swept() -> None:
    """Many cancelled entries do not stay until their time, and the others keep their order."""
    agenda = Agenda()
    entries = [agenda.add(float(number), print, number) for number in range(2000)]
    for entry in entries[::2] + entries[1:1001:2]:
        agenda.cancel(entry)
    assert len(agenda._heap) < 1000
    assert [number for _, number in agenda.pop_due(2000)] == list(range(1001, 2000, 2))


def test_empty() -> None:
    """An agenda with nothing in it is never due."""
    agenda = Agenda()
    assert agenda.next_due() == math.inf
    assert agenda.pop_due(math.inf) == []
    entry = agenda.add(1.0, print)
    agenda.clear()
    assert not agenda.is_head(entry)
    assert not agenda.cancel(entry)
    assert (agenda.next_due(), len(agenda)) == (math.inf, 0)
