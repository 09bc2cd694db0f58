"""``stop()`` and ``shutdown()`` called by everybody that a lifecycle calls: its parts, its observers, its resources."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import Lifecycle, StopToken, WouldBlock
from threadkit.events import Started

Act = Callable[[], None]
Place = Callable[[Lifecycle, Act], object]
PLACES: dict[str, Place] = {}


def place(func: Place) -> Place:
    """Remember a place. It is given a lifecycle that has not started, and sees to it that ``act`` is called in there."""
    PLACES[func.__name__] = func
    return func


@place
def body(lc: Lifecycle, act: Act) -> None:
    lc.thread("body")(act)


@place
def body_before_it_is_ready(lc: Lifecycle, act: Act) -> None:
    def target(running: StopToken) -> None:
        act()
        running.ready()

    lc.thread("body", ready=True)(target)


@place
def task(lc: Lifecycle, act: Act) -> None:
    lc.every(60, run_immediately=True)(act)


@place
def call_later(lc: Lifecycle, act: Act) -> None:
    lc.call_later(0, act)


@place
def job_handler(lc: Lifecycle, act: Act) -> None:
    jobs = lc.queue()
    jobs.handler("job")(lambda payload: act())
    jobs.submit("job")


@place
def executor_call(lc: Lifecycle, act: Act) -> None:
    lc.executor().submit(act)


@place
def done_callback(lc: Lifecycle, act: Act) -> None:
    lc.executor().submit(int).add_done_callback(lambda _: act())


@place
def bus_handler(lc: Lifecycle, act: Act) -> None:
    bus = lc.bus()
    bus.on("channel")(lambda message: act())
    lc.thread("publisher")(lambda: bus.publish("channel", None))


@place
def bus_handler_on_an_executor(lc: Lifecycle, act: Act) -> None:
    bus = lc.bus(executor=lc.executor())
    bus.on("channel")(lambda message: act())
    lc.thread("publisher")(lambda: bus.publish("channel", None))


@place
def action(lc: Lifecycle, act: Act) -> None:
    bus = lc.bus()
    bus.action("act")(act)
    lc.thread("caller")(lambda: bus.call("act"))


@place
def coroutine(lc: Lifecycle, act: Act) -> None:
    async def run() -> None:
        act()

    loop = lc.loop()
    lc.thread("submitter")(lambda: loop.submit(run()).result())


@place
def on_stop_hook(lc: Lifecycle, act: Act) -> None:
    token = StopToken()
    token.on_stop(act)
    lc.thread("setter")(token.set)


@place
def on_stop_hook_of_its_own(lc: Lifecycle, act: Act) -> None:
    lc.token.on_stop(act)
    lc.thread("setter")(lambda: lc.stop("from inside"))


@place
def observer(lc: Lifecycle, act: Act) -> None:
    lc.observe(lambda event: act() if isinstance(event, Started) else None)
    lc.thread("body")(lambda running: running.wait())


@place
def finalizer(lc: Lifecycle, act: Act) -> None:
    class Thing:
        pass

    def run() -> None:
        thing = Thing()
        weakref.finalize(thing, act)
        del thing

    lc.thread("body")(run)


@place
def own_component(lc: Lifecycle, act: Act) -> None:
    class Own:
        name = "own"

        def start(self) -> None:
            act()

        def stop(self, reason: str | None = None) -> None: ...

        def join(self, timeout: float | None = None) -> bool:
            return True

    lc.add(Own())


@pytest.mark.parametrize("name", PLACES)
def test_stop_from_inside(name: str, quiet: None) -> None:
    """stop() returns at once wherever it is called, and the lifecycle stops well and says why."""
    stopped = Gate()
    lc = Lifecycle()

    def act() -> None:
        lc.stop("from inside")
        lc.stop("again")
        stopped.open()

    PLACES[name](lc, act)

    def run() -> None:
        with lc:
            stopped.pass_through()

    Background(run).result()
    assert lc.report is not None
    assert lc.report.ok, lc.report
    assert lc.report.reason == "from inside"


@pytest.mark.parametrize("name", PLACES)
def test_shutdown_from_inside(name: str, quiet: None) -> None:
    """shutdown() refuses where it would wait for itself, and shuts down elsewhere; in no place does it hang."""
    acted = Gate()
    lc = Lifecycle(start_timeout=0.5)
    outcomes: list[object] = []

    def act() -> None:
        try:
            outcomes.append(lc.shutdown())
        except WouldBlock as refusal:
            outcomes.append(refusal)
        acted.open()

    PLACES[name](lc, act)

    def run() -> None:
        try:
            lc.start()
        except Exception as error:
            outcomes.append(error)
        acted.pass_through()
        lc.shutdown(PATIENCE)

    Background(run).result()
    assert lc.report is not None
    assert len(outcomes) <= 2, outcomes


@pytest.mark.parametrize("ask", ["stop", "shutdown"])
@pytest.mark.parametrize("where", ["observer", "callback", "context manager", "stop", "join", "close"])
def test_asked_while_it_shuts_down(where: str, ask: str, quiet: None) -> None:
    """What a lifecycle calls while it shuts down may ask it to stop; to shut down is refused, since that waits for it."""
    lc = Lifecycle()
    outcomes: list[object] = []

    def act(*_: object) -> None:
        try:
            outcomes.append(getattr(lc, ask)())
        except WouldBlock as refusal:
            outcomes.append(refusal)

    class Own:
        name = "own"

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None:
            act()

        def start(self) -> None: ...
        def stop(self, reason: str | None = None) -> None: ...
        def join(self, timeout: float | None = None) -> bool:
            return True

        def close(self) -> None: ...

    own = Own()
    if where in {"stop", "join", "close"}:
        before = getattr(own, where)
        setattr(own, where, lambda *args: (act(), before(*args))[1])
    lc.add(own)
    if where == "observer":
        lc.observe(act)
    elif where == "callback":
        lc.callback(act)
    elif where == "context manager":
        lc.enter_context(own)
    lc.start()
    Background(lc.shutdown).result()
    expected = type(None) if ask == "stop" else WouldBlock
    assert outcomes
    assert all(isinstance(outcome, expected) for outcome in outcomes[:-1] if where == "observer"), outcomes
    if where != "observer":
        assert [type(outcome) for outcome in outcomes] == [expected]
    assert lc.report is not None
    assert lc.report.ok, lc.report
