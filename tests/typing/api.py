"""What users' type checkers see. Never executed: mypy and pyright read it."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from datetime import datetime, timedelta
from typing import assert_type

from threadkit import (
    BoundedExecutor,
    Bus,
    Clock,
    Component,
    EventLoopThread,
    IntervalTask,
    Job,
    JobState,
    Leader,
    Lifecycle,
    ManagedThread,
    Phase,
    Retry,
    Run,
    ShutdownReport,
    StopToken,
    ThreadGroup,
    WorkQueue,
    backoff,
    triggers,
)
from threadkit.health import Health, Status
from threadkit.testing import InlineExecutor, VirtualClock


def add(one: int, other: int) -> int:
    return one + other


lc = Lifecycle("app", clock=VirtualClock())
assert_type(lc.shutdown(), ShutdownReport)
assert_type(lc.run_forever(), int)
assert_type(lc.queue("jobs", workers=2, phase=5), WorkQueue)
assert_type(lc.executor(max_workers=1, requires=["jobs"]), BoundedExecutor)
assert_type(lc.bus(), Bus)
assert_type(lc.loop(), EventLoopThread)
leader = lc.leader("/run/app.lock", retry=1, requires=["jobs"])
assert_type(leader, Leader)
assert_type(leader.wait(1), bool)
assert_type(leader.queue("mails"), WorkQueue)
assert_type(lc.get("jobs", WorkQueue), WorkQueue)
lc.leader()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(lc["jobs"], Component)
assert_type(lc.call_later(5, print, "late"), IntervalTask)
assert_type(lc.quiet(timeout=1), bool)
assert_type(Lifecycle(phase_timeouts={Phase.WORK: 5, 7: timedelta(seconds=1)}, check_timeout=1).health(), Health)
lc.executor(check=lambda: Status.READY, check_timeout=0.5, check_every=60, stop_timeout=timedelta(seconds=1))
lc.queue(speed=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lc.call_later(5, add, "two", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@lc.thread
def bare(running: StopToken) -> int:
    return 1 if running() else 0


@lc.thread("named", restart="always", backoff=backoff.constant(1))
def named() -> str:
    return ""


@lc.every(triggers.every("5m"), jitter=2)
def report(run: Run) -> None:
    assert_type(run.scheduled_at, datetime)


loop = lc.loop()


@lc.thread("reader", loop=loop)
async def reader(running: StopToken) -> None: ...


@lc.every(60, loop=loop)
async def poll(run: Run) -> int:
    return run.number


ManagedThread(reader, loop=loop)
IntervalTask(poll, 60, loop=loop)
lc.queue("async", loop=loop)
ManagedThread(reader, loop="loop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

group = lc.group("feed", "one_for_all", max_restarts=None, phase=5)
assert_type(group, ThreadGroup)
assert_type(group.group("inner", "rest_for_one", within=5), ThreadGroup)
assert_type(group.add(ManagedThread(named)), ManagedThread)
assert_type(group["named"], ManagedThread | ThreadGroup)
assert_type(group.remove("named", timeout=5), bool)
lc.group("feed", "all_for_one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@group.thread("child", restart="always", heartbeat=5, on_wedged="replace")
def child(running: StopToken) -> int:
    running.beat()
    return 1 if running() else 0


@group.thread
def another() -> str:
    return ""


assert_type(child(StopToken()), int)
assert_type(another(), str)
group.thread("no", max_restarts=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
assert_type(bare(StopToken()), int)
assert_type(named(), str)
report("now")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the decorators leave its type alone


class Mine:
    """A component of the user's own."""

    name = "mine"

    def start(self) -> None: ...
    def stop(self, reason: str | None = None) -> None: ...
    def join(self, timeout: float | None = None) -> bool:
        return True


assert_type(lc.add(Mine()), Mine)
component: Component = Mine()
clock: Clock = VirtualClock()
executors: list[Executor] = [BoundedExecutor(2), InlineExecutor()]

pool = BoundedExecutor()
assert_type(pool.submit(add, 1, 2), Future[int])
assert_type(pool.submit(add, 1, other=2).result(), int)
pool.submit(add, "1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

queue = WorkQueue(retry=Retry(3, backoff.exponential(1), on=(OSError, TimeoutError)))


@queue.handler
def double(payload: int) -> int:
    return 2 * payload


assert_type(double(3), int)
job = queue.submit(double, 3, delay=1, priority=5)
assert_type(job, Job)
assert_type(job.state, JobState)

ManagedThread(bare, ready=True)
ManagedThread(bare, restart="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
token = StopToken()
assert_type(token.wait(1), bool)
assert_type(token.remaining(), float | None)
