"""An in-process concurrency toolkit: threads, recurring tasks, a job queue, executors, a bus, and their life cycle.

Where things live, from the ground up (an import goes strictly down; ``tests/test_architecture.py`` holds the table):

    floor 0  words         _errors _override _fork _arguments _chance _clock _calling _agenda _stacks _frozen
    floor 0                _whereabouts
    floor 1  values        _verdicts _durations _calendar events health _waiting _stamps
    floor 1                _lease _systemd _tally _request _unread _codec _commit _owners _wakeup _sqlite_schema
    floor 1                _keep _retry_after _meter _quotas
    floor 2  rules         backoff triggers _order _report _delivery _records _timer _stopper _future _permits _pool
    floor 2                _attendant
    floor 3  tools         _stop _observe _exit _action _subscription _mailbox _map _due _ledger _limits
    floor 3                _restarts _pulse _budget _checkup _pace _storing _room _transaction _lost _timed_call
    floor 3                _retrying _clerk
    floor 4  the waist     _component _resources _postoffice _lane _run _setback _job _handlers
    floor 4                _plant _engine_call _steward _body _coroutines _jobtimes _memory _sqlite_file _sqlite_rows
    floor 5  engines       _supervised _member _bus _loop _signals _entry _engine _intake _scheduler _crew _waitlist
    floor 5                _dask _jobfile _sqlite_line _sqlite_steps _sqlite_retention _as_completed _overtime
    floor 6  compositions  _thread _supervisor _submitter _dispatcher _reception _ending _recurrence
    floor 6                _roster _sqlite_upkeep _sqlite_pick
    floor 7  wholes        _group _interval _executor _workqueue _registry _sqlite_view
    floor 8  the makers    _makers executors _directory _runner _sqlite
    floor 9  half of it    _composite stores
    floor 10 one of many   _leader
    floor 11 the whole     _lifecycle
    floor 12 the door      here
    floor 13 edges         __main__ demo testing                they import the door only

The door opens at once: apart from the errors, a name is loaded with what it needs when it is first used. So a program
that wants a thread does not load the job queue.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

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
from threadkit._verdicts import Discard, RetryLater, Snooze, Stopping

if TYPE_CHECKING:
    from threadkit import (
        backoff as backoff,
    )
    from threadkit import (
        events as events,
    )
    from threadkit import (
        executors as executors,
    )
    from threadkit import (
        health as health,
    )
    from threadkit import (
        stores as stores,
    )
    from threadkit import (
        triggers as triggers,
    )
    from threadkit._as_completed import as_completed as as_completed
    from threadkit._bus import Bus as Bus
    from threadkit._clock import Clock as Clock
    from threadkit._clock import Gate as Gate
    from threadkit._clock import SystemClock as SystemClock
    from threadkit._component import Component as Component
    from threadkit._component import ComponentState as ComponentState
    from threadkit._component import Phase as Phase
    from threadkit._delivery import BusStats as BusStats
    from threadkit._delivery import Delivery as Delivery
    from threadkit._executor import BoundedExecutor as BoundedExecutor
    from threadkit._group import ThreadGroup as ThreadGroup
    from threadkit._interval import IntervalTask as IntervalTask
    from threadkit._job import Job as Job
    from threadkit._job import JobContext as JobContext
    from threadkit._job import current_job as current_job
    from threadkit._keep import Keep as Keep
    from threadkit._lane import ExecutorStats as ExecutorStats
    from threadkit._leader import Leader as Leader
    from threadkit._lease import LeaseError as LeaseError
    from threadkit._lifecycle import Lifecycle as Lifecycle
    from threadkit._loop import EventLoopThread as EventLoopThread
    from threadkit._observe import Observation as Observation
    from threadkit._pulse import Unresponsive as Unresponsive
    from threadkit._quotas import PerKey as PerKey
    from threadkit._records import JobError as JobError
    from threadkit._records import JobState as JobState
    from threadkit._records import QueueStats as QueueStats
    from threadkit._records import RecordedError as RecordedError
    from threadkit._report import ComponentReport as ComponentReport
    from threadkit._report import ShutdownReport as ShutdownReport
    from threadkit._request import Request as Request
    from threadkit._request import current_request as current_request
    from threadkit._run import Run as Run
    from threadkit._run import TaskStats as TaskStats
    from threadkit._stop import StopHook as StopHook
    from threadkit._stop import StopToken as StopToken
    from threadkit._subscription import Message as Message
    from threadkit._subscription import Subscription as Subscription
    from threadkit._thread import ManagedThread as ManagedThread
    from threadkit._workqueue import WorkQueue as WorkQueue
    from threadkit.backoff import Retry as Retry

# Where each of the other names lives. tests/test_public_api.py holds it against the imports above.
_HOMES = {
    "BoundedExecutor": "_executor",
    "Bus": "_bus",
    "BusStats": "_delivery",
    "Clock": "_clock",
    "Component": "_component",
    "ComponentReport": "_report",
    "ComponentState": "_component",
    "Delivery": "_delivery",
    "EventLoopThread": "_loop",
    "ExecutorStats": "_lane",
    "Gate": "_clock",
    "IntervalTask": "_interval",
    "Job": "_job",
    "JobContext": "_job",
    "JobError": "_records",
    "JobState": "_records",
    "Keep": "_keep",
    "Leader": "_leader",
    "LeaseError": "_lease",
    "Lifecycle": "_lifecycle",
    "ManagedThread": "_thread",
    "Message": "_subscription",
    "Observation": "_observe",
    "PerKey": "_quotas",
    "Phase": "_component",
    "QueueStats": "_records",
    "RecordedError": "_records",
    "Request": "_request",
    "Retry": "backoff",
    "Run": "_run",
    "ShutdownReport": "_report",
    "StopHook": "_stop",
    "StopToken": "_stop",
    "Subscription": "_subscription",
    "SystemClock": "_clock",
    "TaskStats": "_run",
    "ThreadGroup": "_group",
    "Unresponsive": "_pulse",
    "WorkQueue": "_workqueue",
    "as_completed": "_as_completed",
    "backoff": "backoff",
    "current_job": "_job",
    "current_request": "_request",
    "events": "events",
    "executors": "executors",
    "health": "health",
    "stores": "stores",
    "triggers": "triggers",
}

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
    "Keep",
    "Leader",
    "LeaseError",
    "Lifecycle",
    "ManagedThread",
    "Message",
    "Observation",
    "PerKey",
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
    "ThreadGroup",
    "ThreadkitError",
    "UnknownComponent",
    "UnknownHandler",
    "Unresponsive",
    "WorkQueue",
    "WouldBlock",
    "as_completed",
    "backoff",
    "current_job",
    "current_request",
    "events",
    "executors",
    "health",
    "stores",
    "triggers",
]


def _make_public(thing: type | FunctionType) -> None:
    """Let a thing say in tracebacks and pickles that it lives where users import it from."""
    thing.__module__ = __name__


for _name in [name for name in __all__ if name not in _HOMES]:  # the errors, which are loaded already
    _make_public(globals()[_name])


def __getattr__(name: str) -> object:
    """Load a public name when it is first used, and the version when somebody asks for it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("threadkit")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'threadkit' has no attribute {name!r}")
    module = import_module(f"threadkit.{home}")
    if home == name:
        return module
    thing: type | FunctionType = getattr(module, name)
    _make_public(thing)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
