"""``Reception``: how jobs come into a queue."""

from __future__ import annotations

import itertools
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, TypeVar, Unpack, cast

from threadkit import _arguments, _fork
from threadkit._calling import is_on_event_loop
from threadkit._errors import Closed, DuplicateName, Full, WouldBlock
from threadkit._handlers import Caller, Handler, retry_of
from threadkit._intake import OnFull
from threadkit._job import Job, _current, running_job
from threadkit._override import override
from threadkit._records import FINISHED, PENDING, RUNNING, SCHEDULED, JobRecord
from threadkit._storing import DurableStore
from threadkit._waitlist import Waitlist
from threadkit.backoff import Retry
from threadkit.events import JobSubmitted

T = TypeVar("T")
OnConflict = Literal["return", "reject", "replace"]

# The very objects that are the defaults, so that to look for them costs nothing.
_ZERO = 0
_RETURN: OnConflict = "return"


class SubmitOptions(TypedDict, total=False):
    """The keywords of ``WorkQueue.submit()``."""

    delay: float | timedelta
    at: datetime | None
    priority: int
    key: str | None
    on_conflict: OnConflict
    retry: Retry | None
    expires: float | timedelta | None
    timeout: float | timedelta | None
    headers: Mapping[str, str] | None


class Reception(Waitlist):
    """The part of ``WorkQueue`` that takes jobs in."""

    _on_full: OnFull
    _is_abandoned: bool

    @abstractmethod
    def _leave(self, record: JobRecord) -> None: ...

    @abstractmethod
    def _run(self, job: Job, caller: Caller) -> None: ...

    @abstractmethod
    def _cancel(self, record: JobRecord, why: str) -> bool: ...

    @abstractmethod
    def _new_caller(self, worker: threading.Thread | None = None) -> Caller: ...

    @override
    def _reset(self) -> None:
        super()._reset()
        self._prefix = os.urandom(4).hex()  # of the ids; another one in a forked child
        self._numbers = itertools.count(10_000_001)  # all of one length, so that ids sort as text

    def submit(
        self,
        name_or_handler: str | Callable[..., Any],
        payload: Any = None,
        *,
        delay: float | timedelta = _ZERO,
        at: datetime | None = None,
        priority: int = _ZERO,
        key: str | None = None,
        on_conflict: OnConflict = _RETURN,
        retry: Retry | None = None,
        expires: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Job:
        """Have a job done, and return at once; also before ``start()``.

        With a durable store it returns when the job is on the disk. That takes a moment, and up to the store's
        ``patience`` while another program holds the file locked. On an event loop's thread all of it stands still
        meanwhile: use ``asubmit()`` there, which writes in another thread.

        Args:
            name_or_handler: the name of a handler, or the handler itself.
            payload: what the handler is given.
            delay: seconds until it may run.
            at: an aware point in time from which on it may run, instead of a delay. The delay is worked out now.
            priority: the highest first; those of one priority in order. Meant for a handful of levels.
            key: at most one unfinished job has this key.
            on_conflict: what happens if one has: ``"return"`` returns it, ``"reject"`` raises ``DuplicateName``,
                ``"replace"`` cancels it and takes the new one; if it runs, its token is set.
            retry: how it is tried again; None is the handler's way, or the queue's.
            expires: seconds after which it is not begun any more, but expires.
            timeout: seconds that an attempt has; None is the handler's. See ``handler()``.
            headers: what travels with the job beside its payload, such as a tenant, a user or a trace: text by name.
                What ``job.headers`` and the handler's ``ctx.headers`` show.

        Raises:
            Closed: the queue has been stopped, or was while this call waited.
            Full: as many jobs wait as may, and the policy is to refuse.
            WouldBlock: as many wait, the policy is to wait, and this is an event loop's thread (use ``asubmit()``) or a
                job of this very queue.
            UnknownHandler: there is no handler of this name.
            DuplicateName: the key is taken, and ``on_conflict`` is ``"reject"``.
            ForkedError: the queue belongs to the parent process.
            TypeError: an argument is of the wrong kind.
            ValueError: an argument is out of range; or both ``delay`` and ``at`` are given.
        """
        job = self._make(name_or_handler, payload)
        # What is the very default needs no look; so whatever is refused is seen, and the common case costs little.
        if delay is not _ZERO or at is not None or expires is not None:
            self._set_times(job, delay, at, expires)
        if priority is not _ZERO or retry is not None or timeout is not None:
            self._set_rules(job, priority, retry, timeout)
        if headers is not None:
            job.headers = _arguments.strings(headers, "headers")
        if key is not None or on_conflict is not _RETURN:
            holder = self._set_key(job, key, on_conflict)
            if holder is not None:
                return holder
        if not self._permits.take_now() and not self._make_room(job):
            return self._run_here(job, on_conflict)
        return self._take_in(job, on_conflict)

    async def asubmit(
        self, name_or_handler: str | Callable[..., Any], payload: Any = None, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Do as ``submit()``, but wait for room without blocking the event loop.

        It waits where the policy is ``"block"``, and where it is ``"caller_runs"``: a handler would block the loop.

        Raises:
            WouldBlock: as many wait as may, and this is a job of this very queue.
            Closed, Full, UnknownHandler, DuplicateName, ForkedError, TypeError, ValueError: as ``submit()``.
        """
        job = self._make(name_or_handler, payload)
        self._set_times(job, options.get("delay", _ZERO), options.get("at"), options.get("expires"))
        self._set_rules(job, options.get("priority", _ZERO), options.get("retry"), options.get("timeout"))
        headers = options.get("headers")
        if headers is not None:
            job.headers = _arguments.strings(headers, "headers")
        on_conflict = options.get("on_conflict", _RETURN)
        holder = self._set_key(job, options.get("key"), on_conflict)
        if holder is not None:
            return holder
        if not self._permits.take_now():
            if self._on_full in {"reject", "drop_oldest"}:
                self._make_room(job)
            else:
                self._refuse_own_job("asubmit()")
                if not await self._permits.take_on_loop(lambda: self._closing):
                    raise Closed(self.kind, self.name)
        if self._shared is None:
            return self._take_in(job, on_conflict)
        return await _off_the_loop(self._take_in, job, on_conflict)

    def submit_many(self, name_or_handler: str | Callable[..., Any], payloads: Iterable[Any]) -> list[Job]:
        """Submit a job for each payload, in order.

        Args:
            name_or_handler: the name of a handler, or the handler itself.
            payloads: what the handler is given.

        Raises:
            Closed, Full, WouldBlock, UnknownHandler, ForkedError, TypeError: as ``submit()``. With jobs in memory
                those before the one that was refused are in the queue. A durable store takes as many as there is room
                for in one step, all or none; so if there is room for all, and one is refused, none is in the queue.
        """
        if self._shared is None:
            return [self.submit(name_or_handler, payload) for payload in payloads]
        jobs = [self._make(name_or_handler, payload) for payload in payloads]
        taken = 0
        while taken < len(jobs):
            first = jobs[taken]
            if not self._permits.take_now() and not self._make_room(first):
                self._run_here(first, _RETURN)
                taken += 1
                continue
            most = len(jobs) - taken
            count = 1 + sum(1 for _ in itertools.takewhile(bool, (self._permits.take_now() for _ in range(most - 1))))
            self._take_all_in(jobs[taken : taken + count])
            taken += count
        return jobs

    def _make(self, name_or_handler: str | Callable[..., Any], payload: Any) -> Job:
        """Return a new job that nobody knows of."""
        if self._generation != _fork.generation():
            self._refuse_forked()
        if self._closing:
            self._refuse_closed()
        handler = self._handlers.find(name_or_handler)
        number = next(self._numbers)
        # The parts of a queue together are what a job takes for its owner.
        job = Job(self, f"{self._prefix}-{number}", number, handler.name, payload, self._stamps.now())  # type: ignore[arg-type]
        job.handler = handler
        if handler.limits is not None:
            job.keys = handler.keys_of(payload)
        return job

    def _set_times(
        self, job: Job, delay: float | timedelta, at: datetime | None, expires: float | timedelta | None
    ) -> None:
        """Look at these, and note when the job may run, if that is not now."""
        now = self._clock.monotonic()
        limit = None if expires is None else _arguments.timeout(expires, "expires")
        if limit is not None:
            job.expires_at = now + limit
        seconds = _arguments.seconds(delay, "delay")
        if at is not None:
            if seconds:
                raise ValueError(f"delay and at exclude each other, but are {delay!r} and {at!r}")
            seconds = (_arguments.instant(at, "at") - self._clock.now()).total_seconds()
        if seconds > 0:
            job.due = now + seconds
            job.state = SCHEDULED

    def _set_rules(self, job: Job, priority: int, retry: Retry | None, timeout: float | timedelta | None) -> None:
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise TypeError(f"priority must be a whole number, not {priority!r}")
        job.priority = priority
        job.retry = None if retry is None else retry_of(retry)
        job.timeout = _arguments.timeout(timeout)

    def _set_key(self, job: Job, key: str | None, on_conflict: OnConflict) -> Job | None:
        """Look at these, and return the unfinished job that has the key, where that is what the user wants."""
        _arguments.choice(on_conflict, "on_conflict", ("return", "reject", "replace"))
        job.key = None if key is None else _arguments.text(key, "key")
        return self._holder(job, on_conflict)

    def _holder(self, job: Job, on_conflict: OnConflict) -> Job | None:
        if job.key is None or on_conflict == "replace":
            return None
        holder = cast("Job | None", self._store.holder(job.key))
        if holder is not None and on_conflict == "reject":
            raise DuplicateName("job", job.key)
        return holder

    def _make_room(self, job: Job) -> bool:
        """Get a permit although there is none, as the policy says; False: run the job here and now."""
        if self._on_full == "block":
            if is_on_event_loop():
                raise WouldBlock("submit()", "an event loop's thread", "await asubmit()")
            self._refuse_own_job("submit()")
            if not self._permits.take(None, lambda: self._closing):
                raise Closed(self.kind, self.name)
            return True
        if self._on_full == "drop_oldest":
            while not self._permits.take_now():
                oldest = self._store.claim_oldest()
                if oldest is None:
                    raise Full(self.kind, self.name, self._maxsize)
                self._drop(oldest)
            return True
        if self._on_full == "reject" or job.due is not None or is_on_event_loop():
            raise Full(self.kind, self.name, self._maxsize)
        handler: Handler = job.handler
        if handler.func is None or handler.limits is not None:
            raise Full(self.kind, self.name, self._maxsize)
        return False

    def _take_in(self, job: Job, on_conflict: OnConflict) -> Job:
        """Add a job that has a permit."""
        holder = self._store.add(job, replace=on_conflict == "replace")
        if holder is not None:
            if on_conflict != "replace":  # it has come this very moment
                self._permits.give()
                return self._holder(job, on_conflict) or cast("Job", holder)
            self._replace(holder)
        if self._observers.is_heard():
            self._emit(JobSubmitted(component=self.name, job_id=job.id, handler=job.name))
        is_due = job.due is None
        try:
            if not is_due or job.expires_at is not None:
                self._times.note(job)
            if is_due:
                self._store.push(job)
                self._bell.ring()
        except RuntimeError:  # no thread is to be had for the timer: nothing half-submitted stays behind
            self._take_back(job)
            raise
        if self._closing:
            self._meet_stop(job)
        return job

    def _meet_stop(self, job: Job) -> None:
        """A stop has overtaken a submit. A job in memory is taken back; one in a file is left to the next queue.

        Raises:
            Closed: it was taken back.
        """
        if self._shared is None:
            if self._take_back(job):
                raise Closed(self.kind, self.name)
        elif self._is_abandoned:  # which is written before the jobs of this moment are left
            self._leave(job)

    def _replace(self, holder: JobRecord) -> None:
        """See to it that the job is cancelled whose key a new one has taken."""
        if self._shared is None:
            self._cancel(holder, "was replaced")
        elif holder.state in FINISHED:  # by the step that took the new one in
            self._see_off(holder)
        else:
            self._tell_condemned(holder)

    def _take_all_in(self, jobs: list[Job]) -> None:
        """Add plain jobs that have permits, in one step of a durable store."""
        cast("DurableStore", self._shared).add_all(jobs)
        for job in jobs:
            if self._observers.is_heard():
                self._emit(JobSubmitted(component=self.name, job_id=job.id, handler=job.name))
            self._bell.ring()
            if self._closing:
                self._meet_stop(job)

    def _take_back(self, job: Job) -> bool:
        """Undo a submit; return False where the job runs already, and the submit stands."""
        if not self._store.remove(job):
            return False
        self._times.forget(job)
        self._permits.give()
        return True

    def _run_here(self, job: Job, on_conflict: OnConflict) -> Job:
        """Run a job in the thread that submits it."""
        self._permits.take_anyway()  # as every job that waits has one, which it gives back as it begins
        holder = self._store.add(job, replace=on_conflict == "replace")
        if holder is not None:
            if on_conflict != "replace":
                self._permits.give()
                return cast("Job", holder)
            self._replace(holder)
        if self._observers.is_heard():
            self._emit(JobSubmitted(component=self.name, job_id=job.id, handler=job.name))
        if self._store.move(job, PENDING, RUNNING):
            self._run_in_this_thread(job)
        return job

    def _run_in_this_thread(self, job: Job) -> None:
        """Make an attempt of a job in a thread that is none of the queue's, and may itself be running another job."""
        outer, caller = running_job(), self._new_caller()
        try:
            self._run(job, caller)
        except BaseException as error:
            self._rescue(job, error)
            raise
        finally:
            _current.set(outer)
            caller.close()


async def _off_the_loop(func: Callable[..., T], *args: Any) -> T:
    """Do what waits for a disk without keeping the event loop from its work."""
    import asyncio

    return await asyncio.to_thread(func, *args)
