"""The light pool of threads under executor and scheduler."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
from helpers import Background, Blocker, Gate

from threadkit import StopToken, SystemClock
from threadkit._pool import ThreadPool
from threadkit.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def pools() -> Iterator[list[ThreadPool]]:
    """Pools that are closed after the test."""
    made: list[ThreadPool] = []
    yield made
    for pool in made:
        pool.close()
        assert pool.join(None)


class StingyClock(VirtualClock):
    """A clock that makes only so many threads."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threads

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if self.threads == 0:
            raise RuntimeError("can't start new thread")
        self.threads -= 1
        return super().spawn(target, name)


def test_items_are_called_in_order(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """One thread calls what is put into the pool in the order in which it was put."""
    pools.append(pool := ThreadPool(clock, "p", 1))
    seen: list[int] = []
    for number in range(5):
        pool.put(lambda number=number: seen.append(number))
    clock.settle()
    assert seen == [0, 1, 2, 3, 4]


def test_threads_are_made_on_demand(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread is made only for an item that finds nobody idle."""
    pools.append(pool := ThreadPool(clock, "p", 4))
    assert pool.threads() == []
    for _ in range(3):
        pool.put(lambda: None)
        clock.settle()
    assert [thread.name for thread in pool.threads()] == ["p_0"]


def test_never_more_threads_than_allowed(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """However many items wait, there are no more threads than max_workers, and all of them work."""
    pools.append(pool := ThreadPool(clock, "p", 3))
    item = Blocker()
    for _ in range(10):
        pool.put(item)
    item.wait_until_called(3)
    assert len(pool.threads()) == 3
    assert len(pool) == len(pool.waiting()) == 7
    item.let_go()
    clock.settle()


def test_idle_threads_end(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """With idle_timeout a thread that had nothing to do for so long ends, and the next item makes a new one."""
    pools.append(pool := ThreadPool(clock, "p", 2, idle_timeout=10))
    seen: list[int] = []
    pool.put(lambda: seen.append(1))
    clock.settle()
    clock.advance(9)
    assert len(pool.threads()) == 1
    clock.advance(1)
    assert pool.threads() == []
    pool.put(lambda: seen.append(2))
    clock.settle()
    assert seen == [1, 2]


def test_an_item_that_comes_as_the_last_thread_leaves(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread whose time is over gives its place back, then looks at the line once more, and stays for an item."""
    pools.append(pool := ThreadPool(clock, "p", 1, idle_timeout=10))
    seen: list[int] = []
    pool.put(lambda: seen.append(1))
    clock.settle()

    class Slow(dict):
        """Puts an item into the line in the moment in which the thread's place has become free."""

        def __delitem__(self, number: int) -> None:
            super().__delitem__(number)
            pool._items.append(lambda: seen.append(2))
            pool._workers = dict(self)

    pool._workers = Slow(pool._workers)
    clock.advance(10)
    assert seen == [1, 2]
    assert len(pool.threads()) == 1


def test_a_place_is_taken_as_the_last_thread_leaves(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread that finds an item after it has left, but its place taken, leaves the item to whoever took the place."""
    pools.append(pool := ThreadPool(clock, "p", 1, idle_timeout=10))
    seen: list[int] = []
    pool.put(lambda: seen.append(1))
    clock.settle()

    class Taken(dict):
        def __delitem__(self, number: int) -> None:
            super().__delitem__(number)
            pool._items.append(lambda: seen.append(2))

    class Nothing(type(pool._free)):  # type: ignore[misc]  # a deque out of which somebody is always quicker
        def pop(self) -> int:
            raise IndexError

    pool._workers = Taken(pool._workers)
    pool._free = Nothing(pool._free)
    clock.advance(10)
    assert pool.threads() == []
    pool._workers = {}
    pool.put(lambda: seen.append(3))
    clock.settle()
    assert seen == [1, 2, 3]


def test_a_ring_is_passed_on(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread that is woken and sees two items wakes the next, for it may be that both rings were spent on it."""
    pools.append(pool := ThreadPool(clock, "p", 2))
    item = Blocker()
    pool.put(item)
    pool.put(item)
    item.wait_until_called(2)
    item.let_go()
    clock.settle()
    token = StopToken(clock=clock)
    pool._items.extend([token.wait, token.wait])
    pool._bell.ring()
    clock.settle()
    assert pool.waiting() == []
    token.set()
    clock.settle()


def test_saturation_is_told_once(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """on_saturated is called for the first item that has to wait, and again only after a thread has been idle."""
    told: list[int] = []
    pools.append(pool := ThreadPool(clock, "p", 1, on_saturated=lambda: told.append(1)))
    for round_ in (1, 2):
        item = Blocker()
        pool.put(item)
        pool.put(lambda: None)
        pool.put(lambda: None)
        assert len(told) == round_
        item.let_go()
        clock.settle()


def test_a_failing_item_harms_nobody(
    clock: VirtualClock, pools: list[ThreadPool], caplog: pytest.LogCaptureFixture
) -> None:
    """What an item raises, even SystemExit, is logged, and the same thread calls the next item."""
    pools.append(pool := ThreadPool(clock, "p", 1))
    seen: list[str] = []

    def fail() -> None:
        raise SystemExit(3)

    with caplog.at_level(logging.ERROR, "threadkit"):
        pool.put(fail)
        pool.put(lambda: seen.append(threading.current_thread().name))
        clock.settle()
    assert seen == ["p_0"]
    assert "fail" in caplog.text


def test_nothing_is_held_by_an_idle_thread(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread that waits keeps no reference to what it called last."""

    class Item:
        def __call__(self) -> None:
            pass

    pools.append(pool := ThreadPool(clock, "p", 1))
    item = Item()
    gone = weakref.ref(item)
    pool.put(item)
    del item
    clock.settle()
    assert gone() is None


def test_no_thread_while_another_works(pools: list[ThreadPool]) -> None:
    """Where no thread can be made but one works already, the item waits for that one."""
    clock = StingyClock(1)
    pools.append(pool := ThreadPool(clock, "p", 4))
    item, seen = Blocker(), []
    pool.put(item)
    pool.put(lambda: seen.append(1))
    item.wait_until_called()
    assert len(pool.threads()) == 1
    item.let_go()
    clock.settle()
    assert seen == [1]


def test_no_thread_at_all() -> None:
    """Where no thread can be made and none works, put() and start() fail, and the item is taken back."""
    clock = StingyClock(0)
    pool = ThreadPool(clock, "p", 2)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.put(lambda: None)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    assert len(pool) == 0
    clock.threads = 1
    pool.put(lambda: None)
    assert [thread.name for thread in pool.threads()] in ([], ["p_0"])
    pool.close()
    assert pool.join(None)


def test_two_puts_while_no_thread_can_be_made() -> None:
    """A put() that finds the only place taken by a thread that is then not made fails as well, and strands no item."""
    here, go = Gate(), Gate()

    class Failing(VirtualClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            here.open()
            go.pass_through()
            raise RuntimeError("can't start new thread")

    pool = ThreadPool(Failing(), "p", 1)
    first = Background(lambda: pool.put(lambda: None))
    here.pass_through()
    second = Background(lambda: pool.put(lambda: None))
    go.open()
    for put in (first, second):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            put.result()
    assert len(pool) == 0


def test_start_makes_one_thread(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """start() makes the first thread, and does nothing where there is one."""
    pools.append(pool := ThreadPool(clock, "p", 2))
    pool.start()
    pool.start()
    clock.settle()
    assert len(pool.threads()) == 1


def test_close_finishes_what_waits(clock: VirtualClock) -> None:
    """close() lets the threads call what waits, then they end; on_end is called by the last one."""
    ended: list[str] = []
    pool = ThreadPool(clock, "p", 1, on_end=lambda: ended.append(threading.current_thread().name))
    item, seen = Blocker(), []
    pool.put(item)
    pool.put(lambda: seen.append(1))
    pool.close()
    assert not pool.join(clock.monotonic())
    item.let_go()
    assert pool.join(None)
    clock.settle()
    assert (seen, ended, pool.threads()) == ([1], ["p_0"], [])


def test_put_after_close() -> None:
    """A closed pool refuses an item and does not keep it; an item that a worker took in that moment is not refused."""
    pool = ThreadPool(VirtualClock(), "p", 1)
    pool.close()
    assert pool.join(None)
    with pytest.raises(RuntimeError, match="'p' is closed"):
        pool.put(lambda: None)
    assert len(pool) == 0

    class Quick(type(pool._items)):  # type: ignore[misc]  # a line from which a worker takes each item at once
        def append(self, item: Callable[[], object]) -> None:
            item()

    pool._items = Quick()
    seen: list[int] = []
    pool.put(lambda: seen.append(1))
    assert seen == [1]


def test_put_while_the_pool_is_closed(clock: VirtualClock) -> None:
    """An item that is put after the last thread has ended is refused, even if the pool was open when put() began."""
    pool = ThreadPool(clock, "p", 1)
    pool.start()

    class Late(type(pool._items)):  # type: ignore[misc]  # a line that an item reaches too late
        def append(self, item: Callable[[], object]) -> None:
            pool.close()
            assert pool.join(None)
            super().append(item)

    pool._items = Late()
    with pytest.raises(RuntimeError, match="'p' is closed"):
        pool.put(lambda: None)
    assert len(pool) == 0


def test_close_after_the_thread_has_looked(clock: VirtualClock) -> None:
    """A thread that found nothing, and then sees that the pool is closed, looks again for what was put in between."""
    pool = ThreadPool(clock, "p", 1)
    seen: list[int] = []

    class Late(type(pool._items)):  # type: ignore[misc]  # a line that looks empty the first time
        looks = 0

        def popleft(self) -> Callable[[], object]:
            Late.looks += 1
            if self.looks == 1:
                pool.put(lambda: seen.append(1))
                pool.close()
                raise IndexError
            return super().popleft()  # type: ignore[no-any-return]  # it is an item

    pool._items = Late()
    pool.start()
    assert pool.join(None)
    assert seen == [1]


def test_join_waits(clock: VirtualClock) -> None:
    """join() waits until a pool that works is closed and its threads have ended."""
    pool = ThreadPool(clock, "p", 1)
    pool.start()
    joiner = Background(lambda: pool.join(None))
    clock.settle()
    pool.close()
    assert joiner.result()
    empty = ThreadPool(clock, "q", 1)
    joiner = Background(lambda: empty.join(None))
    empty.close()
    assert joiner.result()


def test_withdraw(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """An item that waits can be taken back once; one that was called cannot."""
    pools.append(pool := ThreadPool(clock, "p", 1))
    first, second = Blocker(), Blocker()
    pool.put(first)
    first.wait_until_called()
    pool.put(second)
    assert pool.first() is second
    assert pool.withdraw(second)
    assert not pool.withdraw(second)
    assert not pool.withdraw(first)
    first.let_go()
    clock.settle()
    with pytest.raises(IndexError):
        pool.first()


def test_resize_up(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A pool that is made larger makes threads for what waits at once."""
    pools.append(pool := ThreadPool(clock, "p", 1))
    item = Blocker()
    for _ in range(3):
        pool.put(item)
    item.wait_until_called()
    assert pool.resize(3) == 2
    item.wait_until_called(2)
    assert pool.max_workers == 3
    item.let_go()
    clock.settle()


def test_resize_down(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """Threads that are too many end after their present item, idle ones at once; the others go on."""
    pools.append(pool := ThreadPool(clock, "p", 4))
    item = Blocker()
    for _ in range(4):
        pool.put(item)
    item.wait_until_called(4)
    assert pool.resize(2) == -2
    item.let_go()
    clock.settle()
    assert len(pool.threads()) == 2
    assert pool.resize(1) == -1
    clock.settle()
    assert len(pool.threads()) == 1
    assert pool.resize(3) == 2
    assert pool.resize(1) == -2  # places that nobody has taken go without a word
    seen: list[int] = []
    pool.put(lambda: seen.append(1))
    clock.settle()
    assert seen == [1]


def test_resize_down_and_up_again(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """A thread that was to end, and has not, stays where the pool is made larger again."""
    pools.append(pool := ThreadPool(clock, "p", 2))
    item = Blocker()
    for _ in range(2):
        pool.put(item)
    item.wait_until_called(2)
    threads = set(pool.threads())
    pool.resize(1)
    pool.resize(3)
    item.let_go()
    clock.settle()
    assert set(pool.threads()) == threads


def test_a_broken_initializer(clock: VirtualClock) -> None:
    """What the initializer raises goes to on_broken, and that thread ends without calling anything."""
    told: list[BaseException] = []
    seen: list[int] = []

    def fail() -> None:
        raise ValueError("no licence")

    pool = ThreadPool(clock, "p", 1, initializer=fail, on_broken=told.append)
    pool.put(lambda: seen.append(1))
    clock.settle()
    assert [str(error) for error in told] == ["no licence"]
    assert (seen, pool.threads()) == ([], [])
    quiet = ThreadPool(clock, "q", 1, initializer=fail)
    quiet.start()
    clock.settle()
    assert quiet.threads() == []


def test_an_initializer_comes_first(clock: VirtualClock, pools: list[ThreadPool]) -> None:
    """The initializer is called once in each thread, before its first item."""
    seen: list[str] = []
    pools.append(pool := ThreadPool(clock, "p", 1, initializer=lambda: seen.append("ready")))
    pool.put(lambda: seen.append("item"))
    pool.put(lambda: seen.append("item"))
    clock.settle()
    assert seen == ["ready", "item", "item"]


def test_a_finalizer_may_put() -> None:
    """An item may be put by a finalizer that strikes while a thread is being made."""
    pool: ThreadPool
    seen: list[int] = []

    class Nested(SystemClock):
        depth = 0

        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            self.depth += 1
            if self.depth == 1:
                pool.put(lambda: seen.append(2))  # what a __del__ that strikes here would do
            return super().spawn(target, name)

    pool = ThreadPool(Nested(), "p", 1)
    pool.put(lambda: seen.append(1))
    pool.close()
    assert pool.join(None)
    assert sorted(seen) == [1, 2]
