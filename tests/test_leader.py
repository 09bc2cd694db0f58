"""``Leader`` on a virtual clock, with real files. Several processes stand in ``integration/test_leader.py``."""

from __future__ import annotations

import inspect
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from helpers import PATIENCE, Gate, Parked

from threadkit import (
    Closed,
    ComponentState,
    DuplicateName,
    ForkedError,
    IntervalTask,
    Leader,
    LeaseError,
    Lifecycle,
    ManagedThread,
    Phase,
    StopToken,
    UnknownComponent,
    WouldBlock,
    _fork,
    _leader,
    events,
)
from threadkit._lease import Lease
from threadkit.health import Status
from threadkit.testing import VirtualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.lock"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Part:
    """A user's own component, which writes down what is asked of it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.ends = True

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self, reason: str | None = None) -> None:
        self.log.append(f"stop {self.name}")

    def join(self, timeout: float | None = None) -> bool:
        return self.ends


def names_of(seen: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in seen]


def wait_for_stop(running: StopToken) -> None:
    running.wait()


# --- leading ---------------------------------------------------------------------------------------------------------


def test_its_components_start_and_stop_in_order(path: Path, clock: VirtualClock) -> None:
    """Components start when it gets the lease, engines first, and stop the other way before the lease is given back."""
    log: list[str] = []
    leader = Leader(path, clock=clock)
    leader.add(Part("reader", log), phase=Phase.INTAKE)
    leader.add(Part("pool", log), phase=Phase.ENGINES)
    leader.observe(lambda event: log.append(type(event).__name__))
    other = Lease(path)
    with leader:
        assert leader.wait(5)
        clock.settle()
        assert leader.is_leader
        assert not other.acquire()
        leader.stop("enough")
        assert leader.join(PATIENCE)
    log.remove("Started")  # the leader's own, told by another thread
    assert log == ["BecameLeader", "start pool", "start reader", "stop reader", "stop pool", "LeadReleased", "Stopped"]
    assert not leader.is_leader
    assert other.acquire()
    other.release()


def test_two_in_one_process(path: Path, clock: VirtualClock) -> None:
    """Of two leaders on one file one leads; the other one takes over within ``retry`` seconds of its end."""
    leads: list[str] = []
    first, second = Leader(path, name="first", clock=clock), Leader(path, name="second", retry=2, clock=clock)
    for leader in (first, second):
        leader.every(60, run_immediately=True, name="tick")(lambda name=leader.name: leads.append(name))
    with first:
        clock.settle()
        with second:
            clock.advance(120)
            assert (first.is_leader, second.is_leader) == (True, False)
            assert leads == ["first"] * 3
            first.stop()
            assert first.join(PATIENCE)
            clock.advance(1.9)
            assert (first.is_leader, second.is_leader) == (False, False)
            clock.advance(0.1)
            assert second.is_leader
            clock.advance(60)
    assert leads == ["first"] * 3 + ["second"] * 2


def test_in_a_lifecycle(path: Path, clock: VirtualClock) -> None:
    """A lifecycle's leader is on its clock, its tasks on its scheduler, its events told and its parts in the health."""
    seen: list[events.Event] = []
    runs: list[int] = []
    with Lifecycle(clock=clock) as lc:
        lc.observe(seen.append)
        leader = lc.leader(path)
        assert lc["leader"] is leader
        assert leader.default_phase == Phase.INTAKE

        @leader.every("1m")
        def tick() -> None:
            runs.append(1)

        leader.thread(wait_for_stop)
        jobs = leader.queue(workers=1)
        clock.advance(180)
        assert runs == [1, 1, 1]
        assert leader.get("tick", IntervalTask)._host_scheduler is lc._scheduler
        assert list(lc.health().parts["leader"].parts) == ["jobs", "tick", "wait_for_stop"]
        assert lc.stats()["leader"]["components"]["tick"].runs == 3
        assert leader.work_left() == 0
    assert jobs.state is ComponentState.STOPPED
    assert [(part.name, part.outcome) for part in lc.report.components] == [("leader", "stopped")]
    assert {"BecameLeader", "LeadReleased", "Stopped"} <= set(names_of(seen))


def test_components_that_were_there_before_its_lifecycle(path: Path, clock: VirtualClock) -> None:
    """A leader that is filled first and added then hands clock and scheduler of its lifecycle on to its components."""
    runs: list[int] = []
    leader = Leader(path)
    leader.every("1m")(lambda: runs.append(1))
    lc = Lifecycle(clock=clock)
    lc.add(leader)
    with lc:
        clock.advance(120)
    assert runs == [1, 1]


def test_standby(path: Path, clock: VirtualClock) -> None:
    """While another one leads nothing of it runs, it is well, and it tells who leads."""
    log: list[str] = []
    lease = Lease(path)
    lease.acquire()
    with Leader(path, clock=clock) as leader:
        leader.add(Part("one", log))
        clock.advance(3600)
        assert log == []
        assert not leader.is_leader
        assert str(leader.health()) == "ready: on standby"
        assert leader.stats() == {"is_leader": False, "holder": None, "components": {}}
        assert leader.remove("one")
        leader.add(Part("two", log))
        lease.release()
        clock.advance(0.25)
        assert leader.stats()["holder"] == path.read_text().strip()
    assert log == ["start two", "stop two"]


def test_what_is_added_while_it_leads_starts_at_once(path: Path, clock: VirtualClock) -> None:
    """A component that is added while it leads is up when add() returns, and can be removed; its name must be free."""
    log: list[str] = []
    with Leader(path, clock=clock) as leader:
        assert leader.wait(5)
        clock.settle()
        part = leader.add(Part("late", log))
        assert log == ["start late"]
        assert leader["late"] is part
        with pytest.raises(DuplicateName):
            leader.add(Part("late", log))
        with pytest.raises(UnknownComponent):
            leader.add(Part("later", log), requires=["ghost"])
        assert leader.remove("late")
    assert log == ["start late", "stop late"]


def test_calls_that_are_put_off_leave_it_when_they_are_made(path: Path, clock: VirtualClock) -> None:
    """call_later() counts from the moment at which it leads, and what was called is not kept."""
    calls: list[float] = []
    lease = Lease(path)
    lease.acquire()
    with Leader(path, clock=clock) as leader:
        leader.call_later(60, lambda: calls.append(clock.monotonic()))
        clock.advance(99.9)
        lease.release()
        clock.advance(100)
        assert calls == [160.0]
        assert len(leader) == 0


def test_two_leaders_for_two_files(tmp_path: Path, clock: VirtualClock) -> None:
    """Each file is a lease of its own, also in one lifecycle."""
    with Lifecycle(clock=clock) as lc:
        leaders = [lc.leader(tmp_path / name, name) for name in ("mail", "reports")]
        with pytest.raises(DuplicateName):
            lc.leader(tmp_path / "third", "mail")
        assert all(leader.wait(5) for leader in leaders)


def test_the_maker_takes_what_a_leader_takes() -> None:
    """The keywords of ``lc.leader()`` are those of ``Leader`` and those of add()."""
    own = set(inspect.signature(Leader).parameters) - {"path", "name"}
    placement = set(inspect.signature(Lifecycle.add).parameters) - {"self", "component"}
    assert set(_leader.LeaderOptions.__annotations__) == own | placement


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "path must be a string"),
        ({"name": ""}, "name must not be empty"),
        ({"retry": 0}, "retry must be above zero"),
        ({"retry": float("nan")}, "retry must not be negative or nan"),
        ({"retry": True}, "retry must be a number of seconds"),
        ({"start_timeout": -1}, "start_timeout must not be negative"),
        ({"stop_timeout": "1"}, "stop_timeout must be a number of seconds"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    """A bad option is refused by an error that names the parameter and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        Leader(**{"path": "app.lock", **options})


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_wait(path: Path, clock: VirtualClock) -> None:
    """wait() tells whether it leads in time, and gives up when it is stopped."""
    lease = Lease(path)
    lease.acquire()
    leader = Leader(path, clock=clock)
    early = Parked(clock, leader.wait)
    with leader:
        in_time = Parked(clock, lambda: leader.wait(timedelta(seconds=2)))
        in_vain = Parked(clock, lambda: leader.wait(1))
        clock.advance(1)
        assert in_vain.result() is False
        lease.release()
        clock.advance(0.25)
        assert in_time.result() is True
        assert early.result() is True
        assert leader.wait(0) is True
    assert leader.wait() is False
    with pytest.raises(ValueError, match="timeout must not be negative"):
        leader.wait(-1)


@pytest.mark.parametrize("how", ["stop", "host"])
def test_who_waits_is_told_of_the_stop(path: Path, clock: VirtualClock, how: str) -> None:
    """Whoever waits for the lead is told when there will be none, be it that its host is told to stop."""
    lease = Lease(path)
    lease.acquire()
    host = StopToken("host")
    leader = Leader(path)
    leader.adopt(clock, host)
    leader.start()
    waiting = Parked(clock, leader.wait)
    if how == "stop":
        leader.stop()
    else:
        host.set("closing time")
    assert waiting.result() is False
    assert leader.join(PATIENCE)
    lease.release()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_stop_from_inside(path: Path, clock: VirtualClock) -> None:
    """A component may stop its leader; what would wait for itself is refused or returns at once."""
    seen: list[object] = []
    lc = Lifecycle(clock=clock)
    leader = lc.leader(path)

    @leader.thread
    def worker(running: StopToken) -> None:
        with pytest.raises(WouldBlock):
            lc.shutdown()
        seen.append(leader.join())
        leader.stop("from inside")
        running.wait()
        seen.append(running.reason)

    with lc:
        assert leader.join(PATIENCE)
        assert not lc.wait(0)
    assert seen == [False, "from inside"]
    assert leader.state is ComponentState.STOPPED


def test_nothing_is_added_at_the_end(path: Path, clock: VirtualClock) -> None:
    """Once its components are being stopped nothing more is added."""
    refused: list[bool] = []
    leader = Leader(path, clock=clock)

    class Late(Part):
        def stop(self, reason: str | None = None) -> None:
            with pytest.raises(Closed, match="leader 'leader' is closed"):
                leader.add(Part("another", []))
            refused.append(True)

    leader.add(Late("one", []))
    with leader:
        assert leader.wait(5)
        clock.settle()
    assert refused == [True]
    with pytest.raises(Closed):
        leader.add(Part("another", []))


def test_a_stop_while_components_start_starts_no_more(path: Path, clock: VirtualClock) -> None:
    """A stop that comes while components start keeps the rest from starting; those that are up are stopped."""
    log: list[str] = []
    leader = Leader(path, clock=clock)
    one = leader.add(Part("one", log))
    leader.add(Part("two", log))
    one.start = lambda: (log.append("start one"), leader.stop())
    with leader:
        assert leader.join(PATIENCE)
    assert log == ["start one", "stop one"]


def test_a_stop_frees_the_start_of_a_component(path: Path, clock: VirtualClock) -> None:
    """A body that waits for its token before it is ready is told of the leader's stop, and how long that may take."""
    left: list[float | None] = []
    leader = Leader(path, clock=clock)

    @leader.thread(ready=True)
    def never_ready(running: StopToken) -> None:
        running.wait()
        left.append(running.remaining())

    lc = Lifecycle(stop_timeout=8, clock=clock)
    lc.add(leader)
    with lc:
        assert leader.wait(5)
        clock.settle()
    assert (left, clock.monotonic()) == ([8.0], 0.0)
    assert lc.report.ok


def test_a_stop_before_it_leads(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was taken by start() is given back where the stop comes before anything else, and nobody led."""
    seen: list[events.Event] = []
    leader = Leader(path, clock=clock)
    leader.observe(seen.append)
    gate = Gate()
    run = leader._run
    monkeypatch.setattr(leader, "_run", lambda: (gate.pass_through(), run()))
    leader.start()
    leader.stop()
    gate.open()
    assert leader.join(PATIENCE)
    assert names_of(seen) == ["Started", "Stopped"]
    assert Lease(path).acquire()
    Lease(path).release()


def test_it_has_its_share_of_the_deadline(path: Path) -> None:
    """Its components have stopped, or are given up, in order and before its lifecycle gives it up."""
    clock = VirtualClock()
    told: dict[str, float] = {}
    release = Gate()
    lc = Lifecycle(clock=clock, stop_timeout=10)
    lc.thread("after", phase=Phase.BACKGROUND)(wait_for_stop)
    leader = lc.leader(path)

    class Told(Part):
        def stop(self, reason: str | None = None) -> None:
            told[self.name] = clock.monotonic()

    def deaf(running: StopToken) -> None:
        running.wait()
        told["deaf"] = running.remaining()
        while not release.is_open():
            clock.park(clock.gate(), clock.monotonic() + 1)

    leader.thread(deaf)
    leader.add(Told("last", []))
    lc.start()
    assert leader.wait(5)
    clock.settle()
    stopping = Parked(clock, lc.shutdown)
    clock.advance(10)
    report = stopping.result()
    # Two stages of the lifecycle leave the leader 9 s, and two stages of the leader leave the first one 8.1 s.
    assert told == {"deaf": pytest.approx(8.1), "last": pytest.approx(8.1)}
    assert [(part.name, part.outcome) for part in report.components] == [("leader", "stuck"), ("after", "stopped")]
    assert "deaf" in report.stuck[0].stacks
    assert leader.is_leader
    assert not Lease(path).acquire()
    release.open()
    clock.advance(2)
    assert leader.join(PATIENCE)


@pytest.mark.parametrize(("own", "expected"), [(None, 10.0), (3, 3.0)])
def test_outside_of_a_lifecycle_it_has_a_deadline_of_its_own(
    path: Path, clock: VirtualClock, own: float | None, expected: float
) -> None:
    """Alone its components have 10 seconds to stop, or as long as ``stop_timeout`` says."""
    leader = Leader(path, stop_timeout=own, clock=clock)
    told: list[float | None] = []

    def body(running: StopToken) -> None:
        running.wait()
        told.append(running.remaining())

    leader.thread(body)
    with leader:
        assert leader.wait(5)
        clock.settle()
        leader.stop()
        assert leader.join(PATIENCE)
    assert told == [expected]


def test_its_own_limit_holds_in_a_lifecycle_too(path: Path, clock: VirtualClock) -> None:
    """Of its own ``stop_timeout`` and what its lifecycle gives it the shorter one counts."""
    told: list[float | None] = []

    def body(running: StopToken) -> None:
        running.wait()
        told.append(running.remaining())

    with Lifecycle(clock=clock) as lc:
        leader = lc.leader(path, stop_timeout=2)
        leader.thread(body)
        assert leader.wait(5)
        clock.settle()
    assert told == [2.0]


def test_the_lease_is_kept_under_a_stuck_component(path: Path, clock: VirtualClock) -> None:
    """While a component is stuck the lease is held, for what is stuck may still be at work; then it is given back."""
    seen: list[events.Event] = []
    leader = Leader(path, stop_timeout=1, clock=clock)
    leader.observe(seen.append)
    stuck = leader.add(Part("stuck", []))
    stuck.ends = False
    leader.start()
    assert leader.wait(5)
    clock.settle()
    leader.stop()
    clock.advance(60)
    assert not leader.join(0)
    assert leader.is_leader
    assert not Lease(path).acquire()
    stuck.ends = True
    clock.advance(0.25)
    assert leader.join(PATIENCE)
    assert names_of(seen)[-3:] == ["ComponentStuck", "LeadReleased", "Stopped"]


@pytest.mark.parametrize("method", ["stop", "join", "close", "work_left", "threads"])
def test_the_lease_is_kept_while_a_component_hangs(method: str, path: Path, clock: VirtualClock) -> None:
    """A component of the user's that hangs holds up neither its neighbours nor the lifecycle, and keeps the lease."""
    log: list[str] = []
    end = StopToken(clock=clock)
    lc = Lifecycle("app", stop_timeout=10, clock=clock)
    leader = lc.leader(path, stop_timeout=1)
    hanging = leader.add(Part("hanging", log))
    leader.add(Part("other", log))
    answer = {"join": True, "work_left": 0, "threads": []}.get(method)
    setattr(hanging, method, lambda *_: (end.wait(), answer)[1])
    lc.start()
    assert leader.wait(5)
    clock.settle()
    stopping = Parked(clock, lc.shutdown)
    clock.advance(20)
    assert "stop other" in log
    # Who is only asked for its threads has ended all the same.
    assert stopping.result().ok is (method == "threads")
    assert leader.is_leader is (method != "threads")
    end.set()
    clock.advance(1)
    assert leader.join(PATIENCE)
    assert not leader.is_leader


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_component_that_dies(path: Path, clock: VirtualClock) -> None:
    """When a component dies the others are stopped, the lease is given back, and the lifecycle learns of it."""
    log: list[str] = []
    gate = Gate()
    lc = Lifecycle("app", clock=clock)
    leader = lc.leader(path)
    leader.add(Part("other", log))

    @leader.thread
    def broken() -> None:
        gate.pass_through()
        raise ValueError("no feed")

    def live() -> None:
        with lc:
            gate.open()
            assert lc.wait(PATIENCE)

    with pytest.raises(ExceptionGroup) as caught:
        live()
    assert [str(error) for error in caught.value.exceptions] == ["no feed"]
    assert log == ["start other", "stop other"]
    assert leader.state is ComponentState.FAILED
    assert str(leader.failure) == "no feed"
    assert lc.report.reason == "component 'leader' failed: ValueError: no feed"
    assert not leader.is_leader
    assert leader.health().status is Status.FAILED
    assert leader.wait() is False


def test_a_component_that_cannot_start(path: Path, clock: VirtualClock) -> None:
    """Where a component cannot start, those that are up are stopped and the lease is given back for others to try."""
    log: list[str] = []
    told: list[BaseException] = []
    leader = Leader(path, clock=clock)
    leader.failed = told.append
    leader.add(Part("first", log))
    bad = leader.add(Part("bad", log))

    def fail() -> None:
        raise OSError("port in use")

    bad.start = fail
    leader.start()
    assert leader.join(PATIENCE)
    assert log == ["start first", "stop bad", "stop first"]
    assert str(told[0]) == "port in use"
    assert told[0].__notes__ == ["while component 'bad' of leader 'leader' was starting"]
    assert leader.state is ComponentState.FAILED
    lease = Lease(path)
    assert lease.acquire()
    lease.release()


def test_a_start_that_meets_the_exit(path: Path, clock: VirtualClock) -> None:
    """Components that come up as the interpreter exits, and get no thread any more, do not make the leader fail."""
    leader = Leader(path, clock=clock)
    log: list[str] = []
    late = leader.add(Part("late", log))
    leader.add(Part("never", log))
    tried = Gate()

    def refuse() -> None:
        tried.open()
        raise RuntimeError("can't create new thread at interpreter shutdown")

    late.start = refuse
    with leader:
        tried.pass_through()
    assert leader.failure is None
    assert "start never" not in log


def test_requirements_that_nobody_meets(path: Path, clock: VirtualClock) -> None:
    """An unknown requirement is refused by start(); one that came while it was on standby is a failure."""
    leader = Leader(path, clock=clock)
    leader.add(Part("web", []), requires=["db"])
    with pytest.raises(UnknownComponent, match="'db'"):
        leader.start()
    lease = Lease(path)
    assert lease.acquire()
    other = Leader(path, clock=clock)
    other.start()
    other.add(Part("web", []), requires=["db"])
    lease.release()
    clock.advance(0.25)
    assert other.join(PATIENCE)
    assert isinstance(other.failure, UnknownComponent)


def test_a_lease_that_cannot_be_had(tmp_path: Path) -> None:
    """A path that cannot be locked is refused by start(), and so by that of the lifecycle."""
    lc = Lifecycle()
    lc.leader(tmp_path / "no such folder" / "app.lock")
    with pytest.raises(LeaseError, match="its folder does not exist"):
        lc.start()


def test_a_lease_that_cannot_be_had_any_more(tmp_path: Path, clock: VirtualClock) -> None:
    """Where the path goes bad while it is on standby it fails, and says why."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "app.lock"
    lease = Lease(path)
    lease.acquire()
    leader = Leader(path, clock=clock)
    leader.start()
    clock.settle()
    path.unlink()
    path.parent.rmdir()
    clock.advance(0.25)
    assert leader.join(PATIENCE)
    assert "its folder does not exist" in str(leader.failure)
    lease.release()


def test_a_replaced_file_is_taken_again(path: Path, clock: VirtualClock) -> None:
    """Where the file is deleted under it, it takes a new one and goes on without a break."""
    log: list[str] = []
    with Leader(path, clock=clock) as leader:
        leader.add(Part("one", log))
        assert leader.wait(5)
        clock.settle()
        path.unlink()
        clock.advance(0.25)
        assert path.exists()
        assert leader.is_leader
        assert log == ["start one"]


def test_a_lost_lead(path: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Where another one has taken a new file first, it sees that within ``retry`` seconds, stops and has failed."""
    seen: list[events.Event] = []
    leading: list[bool] = []
    leader = Leader(path, clock=clock)
    leader.observe(seen.append)

    @leader.thread
    def one(running: StopToken) -> None:
        running.wait()
        leading.append(leader.is_leader)

    leader.start()
    assert leader.wait(5)
    clock.settle()
    path.unlink()
    lease = Lease(path)
    assert lease.acquire()
    clock.advance(0.25)
    assert leader.join(PATIENCE)
    assert leading == [False]
    assert names_of(seen)[-3:] == ["LostLead", "Failed", "Stopped"]
    assert isinstance(leader.failure, LeaseError)
    assert "has lost the lead" in caplog.text
    assert lease.confirm()
    lease.release()


def test_no_thread_to_be_had(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no thread start() raises, and the lease is given back."""
    clock = VirtualClock()

    def refuse(*_: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clock, "spawn", refuse)
    leader = Leader(path, clock=clock)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        leader.start()
    lease = Lease(path)
    assert lease.acquire()
    lease.release()


def test_belongs_to_its_process(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child it refuses to tell anything that would be the parent's."""
    with Leader(path, clock=clock) as leader, monkeypatch.context() as child:
        child.setattr(_fork, "_generation", _fork.generation() + 1)
        for use in (lambda: leader.is_leader, leader.wait, leader.stop, lambda: leader.add(ManagedThread(print))):
            with pytest.raises(ForkedError):
                use()
