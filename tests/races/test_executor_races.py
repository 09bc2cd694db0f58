"""Calls, permits and the pool among several threads, in every order that chance finds."""

from __future__ import annotations

import concurrent.futures as cf
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from threadkit import BoundedExecutor, Retry, SystemClock, backoff
from threadkit._future import Call
from threadkit._permits import Permits
from threadkit._pool import ThreadPool
from threadkit._timed_call import TimedCall

pytestmark = pytest.mark.races

Explore = Callable[..., None]
CLOCK = SystemClock()


class Scene:
    """One call, and everything that is told of it."""

    def __init__(self, kind: type[Call[str]] = Call) -> None:
        self.told: list[str] = []
        self.runs: list[int] = []
        self.seen: list[Any] = []
        self.call = kind(CLOCK, self, (self._run, (), {}, None))

    def _run(self) -> str:
        self.runs.append(1)
        return "done"

    def ended(self, _call: Call[Any], /, *, failed: bool) -> None:
        self.told.append("ended")

    def withdrawn(self, _call: Call[Any], /, *, failed: bool) -> None:
        self.told.append("failed" if failed else "withdrawn")

    def unread(self, name: str, error: BaseException) -> None:
        """Nobody is told."""

    def see(self, what: Any) -> None:
        self.seen.append(what)

    def outcome(self) -> str:
        try:
            return self.call.result(10)
        except BaseException as error:
            return type(error).__name__


def test_run_against_cancel_against_waiter(explore: Explore) -> None:
    """A call that is run and cancelled at once does one of the two; its host and its waiter hear of the same end."""
    explore(
        Scene,
        lambda scene: scene.call(),
        lambda scene: scene.see(scene.call.cancel()),
        lambda scene: scene.see(scene.outcome()),
        invariant=lambda scene: (
            (scene.told, scene.runs, set(scene.seen))
            in ((["ended"], [1], {False, "done"}), (["withdrawn"], [], {True, "CancelledError"}))
        ),
    )


def test_two_cancel_while_it_is_run(explore: Explore) -> None:
    """Two who cancel a call that is being run get the same answer, and it is true."""
    explore(
        Scene,
        lambda scene: scene.call(),
        lambda scene: scene.see(scene.call.cancel()),
        lambda scene: scene.see(scene.call.cancel()),
        invariant=lambda scene: scene.seen == [scene.call.cancelled()] * 2 and len(scene.told) == 1,
    )


def test_two_run_it(explore: Explore) -> None:
    """A call that two threads run is run once."""
    explore(
        Scene,
        lambda scene: scene.call(),
        lambda scene: scene.call(),
        invariant=lambda scene: (scene.runs, scene.told) == ([1], ["ended"]),
    )


def test_callback_against_end(explore: Explore) -> None:
    """A callback that is added while the call ends is called once."""
    explore(
        Scene,
        lambda scene: scene.call(),
        lambda scene: scene.call.add_done_callback(lambda _: scene.see(1)),
        invariant=lambda scene: scene.seen == [1],
        attempts=400,
    )


def test_standard_wait_against_end(explore: Explore) -> None:
    """concurrent.futures.wait() does not miss a call that ends while it looks."""
    explore(
        Scene,
        lambda scene: scene.call(),
        lambda scene: scene.see(len(cf.wait([scene.call], 10).done)),
        invariant=lambda scene: scene.seen == [1],
    )


def test_expiry_against_end(explore: Explore) -> None:
    """A call whose time is over while it is run has one outcome, which never changes again, and one end."""
    explore(
        lambda: Scene(TimedCall),
        lambda scene: scene.call(),
        lambda scene: scene.call.expire("the call", 1),
        lambda scene: scene.see(scene.outcome()),
        invariant=lambda scene: (
            scene.outcome() == scene.seen[0] in {"done", "CallTimeout"}
            and scene.told == (["ended"] if scene.runs else ["failed"])
        ),
    )


def test_permit_against_permit(explore: Explore) -> None:
    """A permit that is given back reaches one of those who wait, and none is lost or doubled."""

    def use(permits: Permits) -> None:
        assert permits.take(None, lambda: False)
        permits.give()

    explore(
        lambda: Permits(CLOCK, 1),
        use,
        use,
        use,
        invariant=lambda permits: permits.taken() == 0 and len(permits._tokens) == 1,
    )


def test_permit_against_resize(explore: Explore) -> None:
    """Changing the number while permits come and go leaves as many as the new number says."""

    def use(permits: Permits) -> None:
        if permits.take_now():
            permits.give()

    explore(
        lambda: Permits(CLOCK, 2),
        use,
        use,
        lambda permits: permits.resize(-1),
        invariant=lambda permits: permits.taken() == 0 and permits.take_now() and not permits.take_now(),
    )


class Stage(SystemClock):
    """A pool whose threads are the explorer's: what would be a thread's body is kept for a worker to run."""

    def __init__(self, **settings: Any) -> None:
        self.bodies: list[Callable[[], None]] = []
        self.ran: list[int] = []
        self.refused: list[int] = []
        self.ended: list[int] = []
        self.pool: ThreadPool = ThreadPool(self, "p", 1, on_end=lambda: self.ended.append(1), **settings)
        self.pool.start()

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        self.bodies.append(target)
        return threading.current_thread()

    def work(self) -> None:
        self.bodies.pop()()

    def put(self, number: int) -> None:
        try:
            self.pool.put(lambda: self.ran.append(number))
        except RuntimeError:
            self.refused.append(number)


def test_put_against_close(explore: Explore) -> None:
    """An item that is put while the pool is closed is either called or refused, and the thread ends."""
    explore(
        Stage,
        lambda stage: stage.work(),
        lambda stage: stage.put(1),
        lambda stage: stage.pool.close(),
        invariant=lambda stage: stage.ran + stage.refused == [1] and stage.ended == [1] and stage.pool.join(0),
    )


def test_put_against_withdraw(explore: Explore) -> None:
    """An item that is withdrawn while a thread takes it is called or withdrawn, not both."""

    def setup() -> Stage:
        stage = Stage()
        stage.item = lambda: stage.ran.append(1)
        stage.pool.put(stage.item)
        stage.pool.close()
        return stage

    explore(
        setup,
        lambda stage: stage.work(),
        lambda stage: stage.refused.append(1) if stage.pool.withdraw(stage.item) else None,
        invariant=lambda stage: stage.ran + stage.refused == [1],
    )


def test_put_against_a_thread_that_leaves(explore: Explore) -> None:
    """An item that is put while the last idle thread gives up waiting is called, by that thread or by the next."""

    def put_and_work(stage: Stage) -> None:
        stage.put(1)
        while stage.bodies:
            stage.work()

    explore(
        lambda: Stage(idle_timeout=0.0),
        lambda stage: stage.work(),
        put_and_work,
        invariant=lambda stage: stage.ran == [1] and not stage.pool.threads(),
    )


class Actors(SystemClock):
    """A clock whose threads are the explorer's, as a stage's are, for whole executors."""

    def __init__(self) -> None:
        self.bodies: deque[Callable[[], None]] = deque()

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        self.bodies.append(target)
        return threading.current_thread()

    def work(self) -> None:
        self.bodies.popleft()()


class Office:
    """An executor with one worker, and what came of its calls."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Actors()
        self.executor: BoundedExecutor | None = BoundedExecutor(1, clock=self.clock, **settings)
        self.executor.start()
        self.lane: Any = self.executor._lane
        self.futures: list[cf.Future[Any]] = []
        self.refused: list[int] = []

    def submit(self, number: int) -> None:
        executor = self.executor
        assert executor is not None
        try:
            self.futures.append(executor.submit(abs, -number))
        except RuntimeError:
            self.refused.append(number)

    def stop(self) -> None:
        assert self.executor is not None
        self.executor.stop()

    def drop(self) -> None:
        self.executor = None

    def came_to(self) -> list[object]:
        return [future.result(0) for future in self.futures if not future.cancelled()]


def test_submit_against_shutdown(explore: Explore) -> None:
    """A call that is submitted while the executor is stopped is made or refused, and its permit comes back."""
    explore(
        Office,
        lambda office: office.clock.work(),
        lambda office: office.submit(1),
        lambda office: office.stop(),
        invariant=lambda office: (
            [*office.came_to(), *office.refused] == [1] and office.lane.permits.taken() == 0 and office.executor.join(0)
        ),
        attempts=100,
    )


def test_permit_against_cancel_and_run(explore: Explore) -> None:
    """A call that is cancelled while it is taken up and the next one waits for its room gives the permit back once."""

    def setup() -> Office:
        office = Office(max_pending=0)
        office.submit(1)
        return office

    def submit_and_stop(office: Office) -> None:
        office.submit(2)
        office.stop()

    explore(
        setup,
        lambda office: office.clock.work(),
        lambda office: office.futures[0].cancel(),
        submit_and_stop,
        invariant=lambda office: office.came_to()[-1] == 2 and office.lane.permits.taken() == 0,
        attempts=100,
    )


def test_drop_against_the_last_call(explore: Explore) -> None:
    """An executor that is dropped while its last call ends lets its thread end, and the call is made."""

    def setup() -> Office:
        office = Office()
        office.submit(1)
        return office

    explore(
        setup,
        lambda office: office.clock.work(),
        lambda office: office.drop(),
        invariant=lambda office: office.came_to() == [1] and office.lane.join(0) and office.lane.permits.taken() == 0,
        attempts=100,
    )


class Fragile(cf.Executor):
    """Breaks with the first call it is given; the next of its kind is sound."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self._is_sound = type(self).made > 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        if not self._is_sound:
            raise cf.BrokenExecutor("dead")
        future: cf.Future[Any] = cf.Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_break_under_several_submitters(explore: Explore) -> None:
    """However many submit to a broken engine at once, it is replaced once, and every call is made."""

    class Repaired(Office):
        def __init__(self) -> None:
            Fragile.made = 0
            self.clock = Actors()
            retry = Retry(5, backoff.constant(0))
            self.executor = BoundedExecutor(inner=Fragile, clock=self.clock, submit_retry=retry)
            self.executor.start()
            self.lane = self.executor._lane
            self.futures, self.refused, self.told = [], [], []

    def submit(number: int) -> Callable[[Office], None]:
        def submit_and_wait(office: Office) -> None:
            office.submit(number)
            office.told.append(cf.wait(office.futures, 10).not_done)
            if len(office.told) == 2:
                office.stop()

        return submit_and_wait

    explore(
        Repaired,
        lambda office: office.clock.work(),
        submit(1),
        submit(2),
        invariant=lambda office: (
            Fragile.made == 2 and sorted(office.came_to()) == [1, 2] and office.lane.permits.taken() == 0
        ),
        attempts=20,
    )
