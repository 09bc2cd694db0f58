"""Every error that threadkit raises, on the lowest floor, so that nothing need be imported to fail.

An error is made from typed arguments and composes its own sentence: what happened, to whom, and what to do.
The arguments stay in ``args``, so every error survives a trip through pickle. What user code raises to steer threadkit
(``RetryLater``, ``Snooze``, ``Discard``, ``Stopping``) stands in ``_verdicts.py``, ``LeaseError`` in ``_lease.py``.

    ThreadkitError
     |-- Closed             [RuntimeError]   used after it was stopped
     |-- Full               [RuntimeError]   a bound was reached and the policy is to refuse
     |-- WouldBlock         [RuntimeError]   waiting here would stop the very thread that has to go on
     |-- ForkedError        [RuntimeError]   made by the parent process, used by its child
     |-- UnknownHandler     [LookupError]    no handler or action has this name
     |-- UnknownComponent   [LookupError]    no component has this name
     |-- DuplicateName      [ValueError]     the name is taken
     |-- DependencyCycle    [ValueError]     ``requires`` goes round in a circle
     |-- StartTimeout       [TimeoutError]   not ready in time
     |-- CallTimeout        [TimeoutError]   no reply in time
     |-- JobFailed          [RuntimeError]   the job is a dead letter; the cause is ``__cause__``
     |-- JobCancelled       [RuntimeError]   the job will never have a result
     |-- ActionError        [RuntimeError]   the action raised; the cause is ``__cause__``
     `-- StoreError         [OSError]        a job store could not do its work
          |-- StoreLocked                    somebody else holds the file
          `-- StoreFormatError               the file is not a job store of this version
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ThreadkitError(Exception):
    """The base of every error of this package: ``except ThreadkitError`` catches them all.

    Example:
        >>> try:
        ...     raise Full("queue", "jobs", 3)
        ... except ThreadkitError as error:
        ...     print(type(error).__name__)
        Full
    """


class Closed(ThreadkitError, RuntimeError):
    """A component was used after it was stopped.

    Args:
        what: the kind of component, such as ``"queue"``.
        name: its name.
        advice: what to do instead.

    Example:
        >>> print(Closed("queue", "jobs"))
        queue 'jobs' is closed: it has been stopped and takes nothing more; make a new one
    """

    def __init__(self, what: str, name: str, advice: str = "make a new one") -> None:
        super().__init__(what, name, advice)
        self.what = what
        self.name = name
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what} {self.name!r} is closed: it has been stopped and takes nothing more; {self.advice}"


class Full(ThreadkitError, RuntimeError):
    """A bound was reached, and what is above it is refused.

    Args:
        what: the kind of component, such as ``"queue"``.
        name: its name.
        limit: how many it holds at most.

    Example:
        >>> print(Full("queue", "jobs", 3))
        queue 'jobs' is full: 3 are waiting, which is its limit; submit later, raise the limit or let on_full block
    """

    def __init__(self, what: str, name: str, limit: float) -> None:
        super().__init__(what, name, limit)
        self.what = what
        self.name = name
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.what} {self.name!r} is full: {self.limit} are waiting, which is its limit; "
            "submit later, raise the limit or let on_full block"
        )


class WouldBlock(ThreadkitError, RuntimeError):
    """A call would make a thread wait for itself.

    Args:
        call: the call that was refused, such as ``"submit()"``.
        where: the thread that must not wait, such as ``"an event loop's thread"``.
        instead: the call to use there.

    Example:
        >>> print(WouldBlock("submit()", "an event loop's thread", "await acall()"))
        submit() would block an event loop's thread, which has to go on; use await acall() there
    """

    def __init__(self, call: str, where: str, instead: str) -> None:
        super().__init__(call, where, instead)
        self.call = call
        self.where = where
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.call} would block {self.where}, which has to go on; use {self.instead} there"


class ForkedError(ThreadkitError, RuntimeError):
    """A component of the parent process was used in a child that was forked from it.

    Threads do not survive a fork, so nothing in the child would ever do the work.

    Args:
        what: the kind of component.
        name: its name.

    Example:
        >>> print(ForkedError("queue", "jobs"))
        queue 'jobs' belongs to the parent process and its threads did not survive the fork; call its start() here first
    """

    def __init__(self, what: str, name: str) -> None:
        super().__init__(what, name)
        self.what = what
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.what} {self.name!r} belongs to the parent process and its threads did not survive the fork; "
            "call its start() here first"
        )


class _Unknown(ThreadkitError, LookupError):
    """What the two errors about unknown names share."""

    kind = "name"

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        known = tuple(known)
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        if not self.known:
            return f"no {self.kind} is called {self.name!r}: there are none yet"
        return f"no {self.kind} is called {self.name!r}; known are {', '.join(map(repr, self.known))}"


class UnknownHandler(_Unknown):
    """No handler or action is registered under this name.

    Args:
        name: the name that was asked for.
        known: the names that exist.

    Example:
        >>> print(UnknownHandler("resise", ["resize", "send"]))
        no handler is called 'resise'; known are 'resize', 'send'
    """

    kind = "handler"


class UnknownComponent(_Unknown):
    """No component is registered under this name.

    Args:
        name: the name that was asked for.
        known: the names that exist.

    Example:
        >>> print(UnknownComponent("jobs"))
        no component is called 'jobs': there are none yet
    """

    kind = "component"


class DuplicateName(ThreadkitError, ValueError):
    """A name is taken.

    Args:
        kind: what the name would be for, such as ``"component"``.
        name: the name.

    Example:
        >>> print(DuplicateName("component", "jobs"))
        a component called 'jobs' exists already; choose another name or remove the first
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"a {self.kind} called {self.name!r} exists already; choose another name or remove the first"


class DependencyCycle(ThreadkitError, ValueError):
    """Components require each other in a circle, so none of them could start first.

    Args:
        cycle: the names in order; the last one requires the first.

    Example:
        >>> print(DependencyCycle(["web", "jobs"]))
        requires goes round in a circle: 'web' -> 'jobs' -> 'web'; take one of the arrows away
    """

    def __init__(self, cycle: Iterable[str]) -> None:
        cycle = tuple(cycle)
        super().__init__(cycle)
        self.cycle = cycle

    def __str__(self) -> str:
        arrows = " -> ".join(map(repr, (*self.cycle, *self.cycle[:1])))
        return f"requires goes round in a circle: {arrows}; take one of the arrows away"


class StartTimeout(ThreadkitError, TimeoutError):
    """A component was not ready in time.

    Args:
        name: the component's name.
        timeout: how long it was waited for, in seconds.

    Example:
        >>> print(StartTimeout("feed", 10.0))
        component 'feed' was not ready within 10 s; raise start_timeout, or call token.ready() earlier
    """

    def __init__(self, name: str, timeout: float) -> None:
        super().__init__()
        self.args: tuple[Any, ...] = (name, timeout)
        self.name = name
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"component {self.name!r} was not ready within {self.timeout:g} s; "
            "raise start_timeout, or call token.ready() earlier"
        )


class CallTimeout(ThreadkitError, TimeoutError):
    """A call had no reply in time. What it asked for may still be going on.

    Args:
        what: what was called, such as ``"action 'status'"``.
        timeout: how long it was waited for, in seconds.

    Example:
        >>> print(CallTimeout("action 'status'", 0.5))
        action 'status' gave no reply within 0.5 s; it may still be running
    """

    def __init__(self, what: str, timeout: float) -> None:
        super().__init__()
        self.args: tuple[Any, ...] = (what, timeout)
        self.what = what
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.what} gave no reply within {self.timeout:g} s; it may still be running"


class _NoResult(ThreadkitError, RuntimeError):
    """What the two errors about jobs without a result share."""

    def __init__(self, job_id: str, name: str, why: str) -> None:
        super().__init__(job_id, name, why)
        self.job_id = job_id
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"job {self.job_id} ({self.name!r}) {self.why}"


class JobFailed(_NoResult):
    """A job has no result: it failed for good. The last error is the ``__cause__``.

    Args:
        job_id: the job's id.
        name: the name of its handler.
        why: what became of it, in a few words.

    Example:
        >>> print(JobFailed("7f3a", "resize", "failed after 4 attempts"))
        job 7f3a ('resize') failed after 4 attempts
    """


class JobCancelled(_NoResult):
    """A job has no result: it was cancelled, replaced or dropped before it could finish.

    Args:
        job_id: the job's id.
        name: the name of its handler.
        why: what became of it, in a few words.

    Example:
        >>> print(JobCancelled("7f3a", "resize", "was cancelled"))
        job 7f3a ('resize') was cancelled
    """


class ActionError(ThreadkitError, RuntimeError):
    """The handler of an action raised. What it raised is the ``__cause__``.

    Args:
        action: the action's name.
        problem: the error, as one line of text.

    Example:
        >>> print(ActionError("status", "KeyError: 'x'"))
        action 'status' failed: KeyError: 'x'
    """

    def __init__(self, action: str, problem: str) -> None:
        super().__init__(action, problem)
        self.action = action
        self.problem = problem

    def __str__(self) -> str:
        return f"action {self.action!r} failed: {self.problem}"


class StoreError(ThreadkitError, OSError):
    """A job store could not do its work.

    Args:
        path: the file.
        problem: what is the matter and what to do.

    Example:
        >>> print(StoreError("jobs.db", "the disk is full; free some space and submit again"))
        job store 'jobs.db': the disk is full; free some space and submit again
    """

    def __init__(self, path: str, problem: str) -> None:
        # Two arguments would make OSError take them for errno and strerror.
        super().__init__()
        self.args: tuple[Any, ...] = (path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"job store {self.path!r}: {self.problem}"


class StoreLocked(StoreError):
    """Another program holds the job store's file locked.

    Args:
        path: the file.
        problem: what is the matter and what to do.

    Example:
        >>> print(StoreLocked("jobs.db", "another program holds it; close that first"))
        job store 'jobs.db': another program holds it; close that first
    """


class StoreFormatError(StoreError):
    """A file is not a job store that this version can read. It is left as it was.

    Args:
        path: the file.
        problem: what is the matter and what to do.

    Example:
        >>> print(StoreFormatError("photo.png", "this is no job store; give another path"))
        job store 'photo.png': this is no job store; give another path
    """
