"""An in-process concurrency toolkit: threads, recurring tasks, a job queue, executors, a bus, and their life cycle.

Where things live, from the ground up (an import goes strictly down; ``tests/test_architecture.py`` holds the table):

    floor 0  words         _errors _fork _arguments _chance _clock _calling
    floor 1  values        _verdicts _durations events health _waiting
    floor 2  rules         backoff triggers _order _report _delivery _records _timer _stopper _future _permits _pool
    floor 3  tools         _stop _observe _tally _exit _action _subscription _map _due _ledger _limits
    floor 4  the waist     _component stores _resources _mailbox _lane _run _job _handlers
    floor 5  engines       _thread _bus _loop _signals _registry _engine _intake _scheduler _crew _waitlist
    floor 6  compositions  _submitter _dispatcher _reception _directory _runner _recurrence
    floor 7  wholes        _interval _executor _workqueue
    floor 8  the makers    _makers executors
    floor 9  the whole     _lifecycle
    floor 10 the door      here
    floor 11 edges         __main__ demo testing                they import the door only
"""

from threadkit import backoff, events, executors, health, stores, triggers
from threadkit._action import Request, current_request
from threadkit._bus import Bus
from threadkit._clock import Clock, Gate, SystemClock
from threadkit._component import Component, ComponentState, Phase
from threadkit._delivery import BusStats, Delivery
from threadkit._errors import (
    ActionError,
    CallTimeout,
    Closed,
    DependencyCycle,
    DuplicateName,
    ForkedError,
    Full,
    JobCancelled,
    JobFailed,
    StartTimeout,
    StoreError,
    StoreFormatError,
    StoreLocked,
    ThreadkitError,
    UnknownComponent,
    UnknownHandler,
    WouldBlock,
)
from threadkit._executor import BoundedExecutor
from threadkit._interval import IntervalTask
from threadkit._job import Job, JobContext, current_job
from threadkit._lane import ExecutorStats
from threadkit._lifecycle import Lifecycle
from threadkit._loop import EventLoopThread
from threadkit._observe import Observation
from threadkit._records import JobError, JobState, QueueStats
from threadkit._report import ComponentReport, ShutdownReport
from threadkit._run import Run, TaskStats
from threadkit._stop import StopHook, StopToken
from threadkit._subscription import Message, Subscription
from threadkit._thread import ManagedThread
from threadkit._verdicts import Discard, RetryLater, Snooze, Stopping
from threadkit._workqueue import WorkQueue
from threadkit.backoff import Retry

__all__ = [
    "ActionError",
    "BoundedExecutor",
    "Bus",
    "BusStats",
    "CallTimeout",
    "Clock",
    "Closed",
    "Component",
    "ComponentReport",
    "ComponentState",
    "Delivery",
    "DependencyCycle",
    "Discard",
    "DuplicateName",
    "EventLoopThread",
    "ExecutorStats",
    "ForkedError",
    "Full",
    "Gate",
    "IntervalTask",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobError",
    "JobFailed",
    "JobState",
    "Lifecycle",
    "ManagedThread",
    "Message",
    "Observation",
    "Phase",
    "QueueStats",
    "Request",
    "Retry",
    "RetryLater",
    "Run",
    "ShutdownReport",
    "Snooze",
    "StartTimeout",
    "StopHook",
    "StopToken",
    "Stopping",
    "StoreError",
    "StoreFormatError",
    "StoreLocked",
    "Subscription",
    "SystemClock",
    "TaskStats",
    "ThreadkitError",
    "UnknownComponent",
    "UnknownHandler",
    "WorkQueue",
    "WouldBlock",
    "backoff",
    "current_job",
    "current_request",
    "events",
    "executors",
    "health",
    "stores",
    "triggers",
]

# What users see in tracebacks, pickles and documentation is the name that they import.
for _name in __all__:
    _thing = globals()[_name]
    if getattr(_thing, "__module__", "").startswith("threadkit._"):
        _thing.__module__ = "threadkit"
del _name, _thing


def __getattr__(name: str) -> str:
    """Look up the version of the installed package when somebody asks for it, which is seldom."""
    if name == "__version__":
        from importlib.metadata import version

        return version("threadkit")
    raise AttributeError(f"module 'threadkit' has no attribute {name!r}")
