"""``Lifecycle.health()``: what is asked, when, and that nothing can hold the answer up."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
from helpers import Background, Gate, Parked

from threadkit import ComponentState, Lifecycle, ManagedThread, Phase, StopToken, WouldBlock
from threadkit.health import Health, Status
from threadkit.testing import VirtualClock


class Part:
    """A user's own component."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = True

    def start(self) -> None:
        """Begin."""

    def stop(self, reason: str | None = None) -> None:
        """Hear of the end."""

    def join(self, timeout: float | None = None) -> bool:
        return self.ended


class Hanging:
    """A function that returns when it is let go, by way of the clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self.calls = 0
        self._door = StopToken(clock=clock)
        self.let_go = self._door.set

    def __call__(self) -> bool:
        self.calls += 1
        return self._door.wait()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def health_of(lc: Lifecycle, name: str) -> str:
    return str(lc.health().parts[name])


def test_one_bad_check_cannot_hang_the_answer(clock: VirtualClock) -> None:
    """A check that hangs costs the limit once, counts as degraded, and leaves all others as they are."""
    hanging = Hanging(clock)
    with Lifecycle(clock=clock, check_timeout=2) as lc:
        lc.add(Part("db"), check=hanging)
        lc.add(Part("cache"), check=lambda: Health(Status.DEGRADED, "cold"))
        lc.thread("body")(lambda running: running.wait())
        asking = Parked(clock, lc.health)
        clock.advance(2)
        health = asking.result()
        assert str(health) == "degraded: db (its check has not answered for 2 s), cache (cold)"
        assert health.is_ready
        assert health.parts["body"].status is Status.READY
        assert health_of(lc, "db") == "degraded: its check has not answered for 2 s"
        assert hanging.calls == 1
        hanging.let_go()
        clock.settle()
        assert health_of(lc, "db") == "ready"
        assert hanging.calls == 1
    assert lc.report.ok


def test_a_component_that_hangs_over_its_health_cannot_either(clock: VirtualClock) -> None:
    """A class of the user's that hangs in health() counts as degraded, and is not asked again meanwhile."""
    hanging = Hanging(clock)
    with Lifecycle(clock=clock) as lc:
        part = lc.add(Part("own"))
        part.health = hanging
        asking = Parked(clock, lc.health)
        clock.advance(1)
        assert str(asking.result().parts["own"]) == "degraded: its health() has not answered for 1 s"
        lc.health()
        assert hanging.calls == 1
        hanging.let_go()
        clock.settle()
        assert health_of(lc, "own") == "ready"
        assert hanging.calls == 2


@pytest.mark.parametrize("attribute", ["health", "state"])
def test_a_property_that_hangs_cannot_either(attribute: str, clock: VirtualClock) -> None:
    """A class of the user's that hangs where its state, or the very method health, is looked up counts as degraded."""
    hanging = Hanging(clock)

    class Property(Part):
        """A component that hangs when it is looked at."""

    setattr(Property, attribute, property(lambda self: hanging() and None))
    with Lifecycle(clock=clock) as lc:
        lc.add(Property("own"))
        asking = Parked(clock, lc.health)
        clock.advance(1)
        assert "has not answered for 1 s" in str(asking.result().parts["own"])
        hanging.let_go()
        clock.settle()
        assert health_of(lc, "own") == "ready"


def test_figures_that_hang_are_left_out(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A stats() that hangs costs the limit once, is left out and logged, and is not called again meanwhile."""
    hanging = Hanging(clock)
    with Lifecycle(clock=clock) as lc:
        lc.add(Part("own")).stats = hanging
        lc.add(Part("other")).stats = lambda: {"received": 12}
        lc.queue()
        asking = Parked(clock, lc.stats)
        clock.advance(1)
        assert asking.result().keys() == {"other", "jobs"}
        assert "component 'own': its stats() has not answered for 1 s" in caplog.text
        assert lc.stats()["other"] == {"received": 12}
        assert hanging.calls == 1
        hanging.let_go()
        clock.settle()
        assert lc.stats()["own"] is True


def test_where_no_thread_is_to_be_had_nobody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """At interpreter exit no thread can be made to ask: the figures are left out, and that is no fault to be logged."""

    class Poor(VirtualClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            if name.startswith("threadkit-check"):
                raise RuntimeError("can't start new thread")
            return super().spawn(target, name)

    with Lifecycle(clock=Poor()) as lc:
        lc.add(Part("own")).stats = lambda: 12
        assert lc.stats() == {}
    assert caplog.text == ""


def test_threads_that_hang_hold_a_stop_up_for_a_moment(clock: VirtualClock) -> None:
    """A class whose threads() hangs when a shutdown looks who calls it is reported, and the rest is stopped."""
    hanging = Hanging(clock)
    lc = Lifecycle(clock=clock)
    lc.add(Part("own")).threads = hanging
    lc.start()
    stopping = Parked(clock, lc.shutdown)
    clock.advance(3)
    report = stopping.result()
    assert [(part.name, part.outcome) for part in report.components] == [
        ("own", "stopped"),
        ("threads() of own", "stuck"),
    ]
    hanging.let_go()
    clock.settle()


def test_who_stands_for_another_is_asked_like_that(clock: VirtualClock) -> None:
    """A component that looks its attributes up elsewhere is asked for its health, and may have none."""

    class Proxy:
        def __init__(self, part: Part) -> None:
            self.part = part

        def __getattr__(self, name: str) -> object:
            return getattr(self.part, name)

    with Lifecycle(clock=clock) as lc:
        silent, ill = lc.add(Proxy(Part("silent"))), lc.add(Proxy(Part("ill")))
        ill.part.health = lambda: Status.DEGRADED
        assert health_of(lc, "silent") == "ready"
        assert health_of(lc, "ill") == "degraded"
        assert silent.part.ended


def test_a_subclass_of_ours_that_hangs_cannot_either(clock: VirtualClock) -> None:
    """Where a user's class overrides our health() that is user code as well."""
    hanging = Hanging(clock)

    class Mine(ManagedThread):
        def health(self) -> Health:
            hanging()
            return Health(Status.FAILED, "no good")

    with Lifecycle(clock=clock) as lc:
        lc.add(Mine(lambda running: running.wait(), name="mine"))
        asking = Parked(clock, lc.health)
        clock.advance(1)
        assert asking.result().parts["mine"].status is Status.DEGRADED
        hanging.let_go()
        clock.settle()
        assert health_of(lc, "mine") == "failed: no good"


def test_checks_are_asked_no_more_often_than_they_are_to_be(clock: VirtualClock) -> None:
    """However often a balancer asks, a check is called once in check_every seconds, its own or the lifecycle's."""
    calls: list[str] = []
    with Lifecycle(clock=clock, check_every=5) as lc:
        lc.add(Part("usual"), check=lambda: calls.append("usual"))
        lc.add(Part("rare"), check=lambda: calls.append("rare"), check_every=60)
        for _ in range(60):
            lc.health()
            clock.advance(0.5)
    assert (calls.count("usual"), calls.count("rare")) == (6, 1)


def test_a_limit_of_its_own_makes_a_check_late_earlier(clock: VirtualClock) -> None:
    """A check may have a shorter limit than the whole; the answer of the whole is there as soon as all are."""
    hanging = Hanging(clock)
    with Lifecycle(clock=clock, check_timeout=5) as lc:
        lc.add(Part("db"), check=hanging, check_timeout=0.5)
        asking = Parked(clock, lc.health)
        clock.advance(0.5)
        assert str(asking.result()) == "degraded: db (its check has not answered for 0.5 s)"
        hanging.let_go()


def test_a_check_is_asked_only_while_its_component_is_up(clock: VirtualClock) -> None:
    """Before a component is up, and from its stop on, its check is not asked: it would fail, and mean nothing."""
    calls: list[str] = []
    lc = Lifecycle(clock=clock, check_every=0)
    part = lc.add(Part("db"), check=lambda: calls.append("check"))
    own = lc.add(ManagedThread(lambda running: running.wait(), name="own"), check=lambda: calls.append("check"))
    part.start = lambda: calls.append(f"while it starts: {lc.health().parts['db'].status.name}")
    assert lc.health() == Health(Status.STARTING)
    with lc:
        assert calls == ["while it starts: STARTING"]
        lc.health()
        assert calls[1:] == ["check", "check"]
        assert lc.remove(own.name)
    assert str(lc.health()) == "stopping: leaving the with block"
    assert len(calls) == 3


def test_what_has_ended_well_does_not_make_the_whole_unready(clock: VirtualClock) -> None:
    """A body that has returned and a task after its last run stay among the parts, and do not count for the whole."""
    with Lifecycle(clock=clock, check_every=0) as lc:
        once = lc.add(ManagedThread(lambda: None, name="once"), check=lambda: False)
        lc.every(1, name="task", max_runs=1)(lambda: None)
        lc.thread("main")(lambda running: running.wait())
        clock.advance(1)
        assert once.join()
        health = lc.health()
        assert health == Health(
            Status.READY,
            parts={"main": Health(Status.READY), "once": Health(Status.STOPPING), "task": Health(Status.STOPPING)},
        )
    assert str(lc.health()) == "stopping: leaving the with block"


def test_what_has_failed_counts_though_it_has_ended(clock: VirtualClock) -> None:
    """A body that has died for good makes the whole fail, where the lifecycle goes on without it."""

    def die() -> None:
        raise LookupError("gone")

    with Lifecycle(clock=clock, on_failure="log") as lc:
        dying = lc.add(ManagedThread(die, name="dying"))
        assert dying.join()
        assert str(lc.health()) == "failed: dying (LookupError: gone)"


@pytest.mark.parametrize(
    ("own", "check", "status"),
    [
        (Status.READY, Status.DEGRADED, Status.DEGRADED),
        (Status.DEGRADED, Status.READY, Status.DEGRADED),
        (Status.DEGRADED, Status.FAILED, Status.FAILED),
        (Status.READY, Status.STARTING, Status.STARTING),
        (Status.FAILED, Status.READY, Status.FAILED),
        (Status.STOPPING, Status.FAILED, Status.STOPPING),
    ],
)
def test_the_worse_of_two_words_counts(own: Status, check: Status, status: Status) -> None:
    """Of a component's own word and its check's the worse one counts; one that is not ready says it by itself."""
    with Lifecycle() as lc:
        part = lc.add(Part("part"), check=lambda: check)
        part.health = lambda: Health(own)
        assert lc.health().status is status


def test_a_state_of_failed_is_a_failure() -> None:
    """A component that has no word of its own but says by its state that it has failed has failed."""
    with Lifecycle() as lc:
        lc.add(Part("part")).state = ComponentState.FAILED
        assert health_of(lc, "part") == "failed"


class Odd(Part):
    """A component whose very attributes fail."""

    @property
    def health(self) -> Callable[[], Health]:
        raise LookupError("no health")


class Stateful(Part):
    """A component whose state cannot be read."""

    @property
    def state(self) -> None:
        raise LookupError("no state")


@pytest.mark.parametrize(("part", "said"), [(Odd, "no health"), (Stateful, "no state")])
def test_what_asking_raises_is_the_answer(part: type[Part], said: str) -> None:
    """An attribute that fails when it is looked at is a fault of the component, not of the asker."""
    with Lifecycle() as lc:
        lc.add(part("odd"), check=lambda: True)
        assert health_of(lc, "odd") == f"degraded: LookupError: {said}"


@pytest.mark.parametrize(("said", "status"), [(True, Status.READY), (None, Status.DEGRADED), (0, Status.DEGRADED)])
def test_a_class_may_say_it_by_a_truth_value(said: object, status: Status) -> None:
    """What health() of a user's class returns counts by its truth, where it is neither a Health nor a Status."""
    with Lifecycle() as lc:
        part = lc.add(Part("part"))
        part.health = lambda: said
        assert lc.health().status is status
        part.health = lambda: Status.READY
        assert lc.health().status is Status.READY


def test_changes_of_health_are_events(clock: VirtualClock) -> None:
    """Who observes the lifecycle hears when a check changes its mind."""
    answers = [True, False, True]
    seen: list[str] = []
    with Lifecycle(clock=clock, check_every=0) as lc:
        lc.add(Part("db"), check=lambda: answers.pop(0))
        lc.observe(lambda event: seen.append(str(event)))
        for _ in range(3):
            lc.health()
        assert seen == ["the health of 'db' is now degraded: its check says no", "the health of 'db' is now ready"]


def test_nobody_asks_nothing_costs() -> None:
    """A lifecycle with checks that is never asked makes no thread for them."""
    before = threading.active_count()
    with Lifecycle() as lc:
        lc.add(Part("db"), check=lambda: True)
        running = threading.active_count()
        assert threading.active_count() == running
    assert before <= running


def test_a_check_that_hangs_keeps_resources_open(clock: VirtualClock) -> None:
    """A check may use what is about to close: one that hangs at the end is reported, and resources stay open."""
    hanging = Hanging(clock)
    closed: list[str] = []
    lc = Lifecycle(clock=clock)
    lc.callback(closed.append, "db")
    lc.add(Part("db"), phase=Phase.WORK, check=hanging)
    lc.start()
    asking = Parked(clock, lc.health)
    stopping = Parked(clock, lc.shutdown)
    clock.advance(1)
    asking.result()
    report = stopping.result()
    assert [(part.name, part.phase, part.outcome) for part in report.components] == [
        ("db", 200, "stopped"),
        ("check of db", 200, "stuck"),
    ]
    assert (closed, report.resources_left_open, report.ok) == ([], ("append('db')",), False)
    hanging.let_go()
    clock.settle()


def test_a_check_that_wants_to_wait_for_the_end_is_refused() -> None:
    """A check cannot shut its own lifecycle down, which waits for it."""
    seen: list[BaseException] = []
    lc = Lifecycle()

    def check() -> None:
        try:
            lc.shutdown()
        except WouldBlock as error:
            seen.append(error)

    with lc:
        lc.add(Part("db"), check=check)
        lc.health()
    assert len(seen) == 1


def test_several_ask_at_once() -> None:
    """Any number of threads may ask at the same time, and each has the whole answer."""
    door = Gate()
    calls: list[int] = []

    def check() -> bool:
        calls.append(1)
        door.pass_through()
        return False

    with Lifecycle(check_timeout=5, check_every=1000) as lc:
        lc.add(Part("db"), check=check)
        asking = [Background(lc.health) for _ in range(8)]
        door.open()
        assert {str(each.result()) for each in asking} == {"degraded: db (its check says no)"}
    assert len(calls) == 1


def test_the_defaults_are_a_second() -> None:
    """A check is late after a second, and its answer is good for a second, unless somebody says otherwise."""
    lc = Lifecycle()
    assert (lc._check_timeout, lc._check_every) == (1.0, 1.0)
    assert lc._checkup._timeout < math.inf
