"""The bus in a storm: everybody does everything at once, under a switch interval of a microsecond."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal

import pytest
from helpers import Background

from threadkit import BoundedExecutor, Bus, Closed, EventLoopThread, Message, Request, current_request, executors

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600), pytest.mark.usefixtures("quiet")]

PUBLISHERS, MESSAGES = 8, 1_000
Policy = Literal["block", "drop_oldest", "reject"]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Have the interpreter switch threads a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


ROOMY: dict[str, Callable[[], Executor]] = {
    "pool": lambda: ThreadPoolExecutor(4),
    "bounded": lambda: BoundedExecutor(4),
    "caller-runs": lambda: BoundedExecutor(2, max_pending=1, on_full="caller_runs"),
    "inner": lambda: BoundedExecutor(inner=executors.threads(3)),
}
NARROW = {"rejecting": lambda: BoundedExecutor(2, max_pending=1, on_full="reject")}


@pytest.fixture(params=[*ROOMY, *NARROW])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Executors that take everything, refuse much, or run what they have no room for in the caller's thread."""
    with (ROOMY | NARROW)[request.param]() as one:
        yield one


@pytest.fixture(params=ROOMY)
def roomy(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Those of them that refuse nothing."""
    with ROOMY[request.param]() as one:
        yield one


def together(*functions: Callable[[], object]) -> None:
    """Run all at once, and fail where one fails."""
    for one in [Background(function) for function in functions]:
        one.thread.join(300)
        one.result()


class Listener:
    """A subscriber that notes what it hears, and that it is never called twice at once."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self._is_busy = threading.Lock()

    def __call__(self, message: Message) -> None:
        assert self._is_busy.acquire(blocking=False), "called twice at once"
        self.heard.append(message.payload)
        self._is_busy.release()

    def check(self) -> None:
        """Nothing was heard twice, and of each publisher everything in order."""
        assert len(self.heard) == len(set(self.heard))
        for publisher in range(PUBLISHERS):
            numbers = [number for who, number in self.heard if who == publisher]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "reject"])
def test_storm(executor: Executor, policy: Policy) -> None:
    """While others come and go, a subscriber hears each message once and in order, and what it misses is counted."""
    bus, faithful = Bus(executor=executor, maxsize=20, on_full=policy), Listener()
    subscription = bus.subscribe("storm.*", faithful)
    is_over = threading.Event()

    def publish(publisher: int) -> None:
        for number in range(MESSAGES):
            bus.publish(f"storm.{publisher}", (publisher, number))

    def come_and_go() -> None:
        while not is_over.is_set():
            with bus.subscribe("storm.**", lambda message: None):
                bus.publish("elsewhere")
            bus.subscribe("storm.3", lambda message: None, once=True)

    visitor = Background(come_and_go)
    with bus:
        together(*(lambda publisher=publisher: publish(publisher) for publisher in range(PUBLISHERS)))  # type: ignore[misc]  # a default argument
        is_over.set()
        visitor.thread.join(300)
        visitor.result()
    assert bus.work_left() == 0
    assert bus.stats().failed == 0
    faithful.check()
    assert len(faithful.heard) + subscription.dropped == PUBLISHERS * MESSAGES
    if policy == "block":
        assert subscription.dropped == 0


def test_stop_in_the_storm(executor: Executor) -> None:
    """Over many rounds, what a delivery says it reached is heard, and nothing is heard after join()."""
    for _ in range(100):
        bus, heard, reached = Bus(executor=executor, maxsize=3), itertools.count(), itertools.count()
        bus.subscribe("a", lambda message, heard=heard: next(heard))  # type: ignore[misc]  # a default argument

        def publish(bus: Bus = bus, reached: itertools.count[int] = reached) -> None:
            try:
                while True:
                    for _ in range(bus.publish("a").reached):
                        next(reached)
            except Closed:
                pass

        bus.start()
        crowd = [Background(publish) for _ in range(4)]
        while bus.stats().delivered < 20:
            pass
        bus.stop()
        assert bus.join(60)
        told = next(heard)
        for one in crowd:
            one.result()
        assert told == next(heard) - 1 == next(reached)
        assert bus.work_left() == 0


def test_calls_in_a_storm(roomy: Executor) -> None:
    """Of thousands of calls at once, nested ones among them, each is answered once, with its own request and answer."""
    bus, ids = Bus(executor=roomy), itertools.count()
    seen: set[str] = set()

    @bus.action("inner")
    def inner(request: Request) -> object:
        assert current_request() is request
        next(ids)
        seen.add(request.id)
        return request.payload

    @bus.action("outer")
    def outer(request: Request) -> object:
        answer = bus.call("inner", request.payload, timeout=60)
        assert current_request() is request
        return answer

    def call(worker: int) -> None:
        for number in range(100):
            assert bus.call("outer", (worker, number)) == (worker, number)

    with bus:
        together(*(lambda worker=worker: call(worker) for worker in range(10)))  # type: ignore[misc]  # a default argument
    assert next(ids) == len(seen) == 1_000
    assert bus.stats().calls == 2_000
    assert bus.stats().calls_failed == 0


def test_a_thousand_calls_on_an_event_loop(roomy: Executor) -> None:
    """A thousand tasks of one loop that call plain and async handlers each get their own answer."""
    with Bus(executor=roomy) as bus, EventLoopThread() as loop:
        bus.action("plain")(lambda request: (current_request() is request, request.payload))

        @bus.action("async")
        async def asynchronous(request: Request) -> object:
            answer = await bus.acall("plain", request.payload, timeout=60)
            return (current_request() is request, answer)

        async def crowd() -> list[object]:
            return await asyncio.gather(*(bus.acall("async", number) for number in range(1_000)))

        answers = loop.submit(crowd()).result(60)
    assert answers == [(True, (True, number)) for number in range(1_000)]
