"""Many callers, one transaction: who leads, who follows, and what becomes of both when something breaks."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from helpers import Background, Gate

from threadkit import StoreError, WouldBlock
from threadkit._clock import SYSTEM_CLOCK
from threadkit._commit import GroupCommit


class Book:
    """A transaction is a list that is added to the others when it is committed."""

    def __init__(self) -> None:
        self.committed: list[list[object]] = []
        self.held = False
        self.reached = Gate()
        self.goes_on = Gate()
        self.breaks: BaseException | None = None

    def write(self, take, pieces) -> None:
        lines: list[object] = []
        while (piece := take()) is not None:
            pieces.append(piece)
            piece.value = piece.work(lines)
        if self.held:
            self.held = False
            self.reached.open()
            self.goes_on.pass_through()
        if self.breaks is not None:
            error, self.breaks = self.breaks, None
            if not isinstance(error, Exception):
                raise error
            for piece in pieces:
                piece.error = error
                piece.is_done = piece.gate is not None
            return
        self.committed.append(lines)
        for piece in pieces:
            piece.is_done = True


def line(text: object):
    def work(lines: list[object]) -> object:
        lines.append(text)
        return text

    return work


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def commits(book) -> GroupCommit[list[object]]:
    return GroupCommit(book.write)


def wait_until(commits, count: int) -> None:
    gate = threading.Event()
    for _ in range(500):
        if len(commits._waiting) >= count:
            return
        gate.wait(0.01)
    raise AssertionError("they never came")


def test_a_single_caller_waits_for_nobody(book, commits):
    """One caller leads at once, and gets what its work returned."""
    assert commits.run(line(1)) == 1
    assert commits.run(line(2)) == 2
    assert book.committed == [[1], [2]]


def test_those_who_come_meanwhile_share_one_transaction(book, commits):
    """Callers that come while a transaction is committed are written together in the next, in order."""
    book.held = True
    first = Background(lambda: commits.run(line(0)))
    book.reached.pass_through()
    others = []
    for number in (1, 2, 3):
        others.append(Background(lambda number=number: commits.run(line(number))))
        wait_until(commits, number)
    book.goes_on.open()
    assert [each.result() for each in (first, *others)] == [0, 1, 2, 3]
    assert book.committed == [[0], [1, 2, 3]]


def test_what_is_posted_is_written_with_the_next(book, commits):
    """Posted work waits for somebody who leads, and comes before that one's own."""
    assert not commits.is_anything_posted()
    assert (commits.post(line("a")), commits.post(line("b"))) == (0, 1)
    assert commits.is_anything_posted()
    commits.run(line("c"))
    assert book.committed == [["a", "b", "c"]]


def test_posted_work_outlives_a_failure(book, commits):
    """Work that nobody waits for is written again after a failure; who waits for his own is told."""
    commits.post(line("a"))
    book.breaks = StoreError("x", "is broken")
    with pytest.raises(StoreError):
        commits.run(line("b"))
    commits.run(line("c"))
    assert book.committed == [["a", "c"]]


def test_a_leader_that_is_interrupted_hands_over(book, commits):
    """An interrupt that strikes a leader undoes its own work alone; the others' is written by the next."""
    book.held = True
    book.breaks = KeyboardInterrupt()
    commits.post(line("posted"))
    leader = Background(lambda: commits.run(line("leader")))
    book.reached.pass_through()
    follower = Background(lambda: commits.run(line("follower")))
    wait_until(commits, 1)
    book.goes_on.open()
    with pytest.raises(KeyboardInterrupt):
        leader.result()
    assert follower.result() == "follower"
    assert book.committed == [["posted", "follower"]]


class Struck:
    """A gate at which an interrupt strikes whoever waits."""

    def __init__(self, gate, when) -> None:
        self._gate, self._when = gate, when

    def acquire(self) -> bool:
        when, self._when = self._when, None
        if when is not None:
            when()
            raise KeyboardInterrupt
        return self._gate.acquire()

    def release(self) -> None:
        self._gate.release()


def strike(commits, monkeypatch, when) -> None:
    from threadkit import _commit

    made = SYSTEM_CLOCK.gate
    monkeypatch.setattr(_commit, "SYSTEM_CLOCK", SimpleNamespace(gate=lambda: Struck(made(), when)))


def test_a_follower_that_is_interrupted_while_it_waits(book, commits, monkeypatch):
    """An interrupt that strikes a follower in time takes its work back."""
    book.held = True
    leader = Background(lambda: commits.run(line("leader")))
    book.reached.pass_through()
    strike(commits, monkeypatch, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        commits.run(line("follower"))
    book.goes_on.open()
    leader.result()
    assert commits.run(line("next")) == "next"
    assert book.committed == [["leader"], ["next"]]


def test_a_follower_that_is_interrupted_as_it_becomes_the_leader(book, commits, monkeypatch):
    """An interrupt that strikes a follower whose turn it has just become lets the next one lead."""
    book.held = True
    leader = Background(lambda: commits.run(line("leader")))
    book.reached.pass_through()

    def when() -> None:
        book.goes_on.open()
        leader.result()

    strike(commits, monkeypatch, when)
    with pytest.raises(KeyboardInterrupt):
        commits.run(line("follower"))
    monkeypatch.undo()
    assert commits.run(line("next")) == "next"
    assert book.committed == [["leader"], ["next"]]


def test_a_follower_that_is_interrupted_too_late(book, commits, monkeypatch):
    """An interrupt that strikes a follower whose work is being written is raised when that is done."""
    book.held = True
    first = Background(lambda: commits.run(line("first")))
    book.reached.pass_through()
    second: list[Background[object]] = []
    struck = Gate()

    def when() -> None:  # the second leads by now, and has taken the follower's work
        book.reached, old = Gate(), book.goes_on
        book.held, book.goes_on = True, Gate()
        old.open()
        first.result()
        book.reached.pass_through()
        struck.open()

    second.append(Background(lambda: commits.run(line("second"))))
    wait_until(commits, 1)
    strike(commits, monkeypatch, when)

    def follow() -> None:
        with pytest.raises(KeyboardInterrupt):
            commits.run(line("follower"))

    follower = Background(follow)
    struck.pass_through()
    book.goes_on.open()
    follower.result()
    assert second[0].result() == "second"
    assert book.committed == [["first"], ["second", "follower"]]


def test_a_finalizer_that_strikes_within_is_refused(book, commits):
    """A call inside of a call, as a finalizer would make it, is refused instead of waiting for itself."""

    def work(lines: list[object]) -> None:
        with pytest.raises(WouldBlock, match="finalizer"):
            commits.run(line("inner"))
        lines.append("outer")

    commits.run(work)
    assert book.committed == [["outer"]]


def test_a_finalizer_that_strikes_before_its_thread_leads(commits, book, monkeypatch):
    """A call that a finalizer makes while its thread waits with another is the one that leads, and writes both."""
    book.held = True
    leader = Background(lambda: commits.run(line("leader")))
    book.reached.pass_through()
    wait = commits._await

    def struck(piece):  # the outer call has brought its piece by then
        monkeypatch.undo()
        opener = Background(lambda: (wait_until(commits, 2), book.goes_on.open()))
        assert commits.run(line("inner")) == "inner"
        opener.result()
        return wait(piece)

    monkeypatch.setattr(commits, "_await", struck)
    assert commits.run(line("outer")) == "outer"
    leader.result()
    assert book.committed == [["leader"], ["outer", "inner"]]


def test_a_leader_that_is_interrupted_before_it_writes(commits, book, monkeypatch):
    """An interrupt that strikes before a piece is written takes it back."""

    def struck(take, pieces) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commits, "_write", struck)
    with pytest.raises(KeyboardInterrupt):
        commits.run(line("lost"))
    monkeypatch.undo()
    assert commits.run(line("next")) == "next"
    assert book.committed == [["next"]]
