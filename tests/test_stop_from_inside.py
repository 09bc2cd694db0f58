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
    """Remember a place: it is given a lifecycle that has not started, and has ``act`` called in there later."""
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
    pool = lc.executor()
    lc.thread("submitter")(lambda: pool.submit(act))


@place
def done_callback(lc: Lifecycle, act: Act) -> None:
    pool = lc.executor()
    lc.thread("submitter")(lambda: pool.submit(int).add_done_callback(lambda _: act()))


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


def test_start_from_inside_a_start(quiet: None) -> None:
    """What a lifecycle calls while it starts is refused another start, rather than made to wait for itself."""
    lc = Lifecycle()
    outcomes: list[object] = []

    def act(_: object) -> None:
        try:
            outcomes.append(lc.start())
        except WouldBlock as refusal:
            outcomes.append(str(refusal))

    lc.observe(act)
    lc.thread("body")(lambda running: running.wait())
    Background(lc.start).result()
    told = "start() would block the start of lifecycle 'app', which has to go on; use stop() there"
    assert outcomes == [told, None]  # the second event tells that it is up
    assert lc.shutdown().ok


class Own:
    """A component, and a context manager, of the user's."""

    name = "own"

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None: ...
    def stop(self, reason: str | None = None) -> None: ...
    def join(self, timeout: float | None = None) -> bool:
        return True

    def close(self) -> None: ...


@pytest.mark.parametrize("ask", ["stop", "shutdown"])
@pytest.mark.parametrize("where", ["stop", "join", "close", "callback", "context manager"])
def test_asked_while_it_shuts_down(where: str, ask: str, quiet: None) -> None:
    """What a lifecycle calls while it shuts down may ask it to stop; to shut down would wait for itself."""
    lc = Lifecycle()
    outcomes: list[object] = []

    def act(*_: object) -> bool:
        try:
            outcomes.append(getattr(lc, ask)())
        except WouldBlock as refusal:
            outcomes.append(refusal)
        return True

    own = Own()
    if where == "callback":
        lc.callback(act)
    elif where == "context manager":
        own.close = act
        lc.enter_context(own)
    else:
        setattr(own, where, act)
        lc.add(own)
    lc.start()
    Background(lc.shutdown).result()
    assert [type(outcome) for outcome in outcomes] == [type(None) if ask == "stop" else WouldBlock]
    assert lc.report is not None
    assert lc.report.ok, lc.report


def test_an_observer_that_shuts_down(quiet: None) -> None:
    """An observer is refused a shutdown while one goes on, and gets the report when that is over."""
    lc = Lifecycle()
    outcomes: list[object] = []

    def act(_: object) -> None:
        try:
            outcomes.append(lc.shutdown())
        except WouldBlock as refusal:
            outcomes.append(str(refusal))

    lc.start()
    lc.observe(act)
    Background(lc.shutdown).result()
    told = "shutdown() would block a thread of lifecycle 'app', which has to go on; use stop() there"
    assert outcomes == [told, lc.report]
