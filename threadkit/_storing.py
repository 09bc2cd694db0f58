"""What a queue and its store ask of each other: the protocols ``JobStore`` and ``DurableStore``, and ``Host``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

import attrs

from threadkit._clock import Clock
from threadkit._keep import Bound
from threadkit._permits import Permits
from threadkit._records import ANY_JOB, JobFilter, JobRecord, JobState


def _no_ticket(_: str) -> None:
    """Let jobs come to their limits as they like."""


@attrs.frozen
class Host:
    """What a store may ask of the queue that it belongs to. Each may be called by any thread, under no lock of a store.

    Attributes:
        clock: returns the queue's clock, which may change until the queue is started.
        restore: ``restore(job_id, number, name, payload, created)`` makes a job that comes out of the store.
        may_begin: tells whether a worker that has done with one job may begin the next.
        idle: returns how many workers wait for a job.
        tend_within: called with seconds, within which ``tend()`` is to be called.
        news: called when another process has changed what is in the store.
        trouble: called with an error when the store cannot do its work, and goes on trying; with None when it can
            again.
        line_up: called with the name of a handler that has limits, in the very step that takes one of its jobs out of
            the line; the answer becomes the job's ``ticket``, or is told by ``arrive(None)`` that the job does not
            come. It takes no lock, and may be called under any.
    """

    clock: Callable[[], Clock]
    restore: Callable[[str, int, str, Any, float], JobRecord]
    may_begin: Callable[[], bool]
    idle: Callable[[], int]
    tend_within: Callable[[float], None]
    news: Callable[[], None]
    trouble: Callable[[Exception | None], None]
    line_up: Callable[[str], Any] = _no_ticket


class JobStore(Protocol):
    """What a queue asks of its store. Records go in, claims come out. Any thread may call.

    A store that writes to a disk returns from ``add()``, ``move()`` and ``settle()`` when that is safe, and shows a new
    state only then.

    Example:
        >>> from threadkit import WorkQueue, stores
        >>> store = stores.MemoryStore()
        >>> WorkQueue(store=store).work_left()
        0
    """

    durable: ClassVar[bool]
    """Whether jobs outlive the process, and the queue may treat it as a ``DurableStore``."""

    def open(self, bounds: tuple[Bound[JobState], ...], host: Host) -> None:
        """Begin, and remember finished jobs within these bounds; in a forked child begin anew.

        Raises:
            StoreError: another queue uses it.
        """
        ...

    def close(self) -> None:
        """Let go of everything, since the queue has ended; of what belongs to a running job when that has ended."""
        ...

    def room(self, clock: Clock, maxsize: float) -> Permits:
        """Return what keeps the bound of the jobs that wait: a permit for each."""
        ...

    def serve(self, free: frozenset[str], limited: frozenset[str]) -> None:
        """Hear which handlers can be called from now on, and which of them have limits.

        A store may ignore the first: the queue puts aside what it has no handler for.
        """
        ...

    def add(self, record: JobRecord, *, replace: bool = False) -> JobRecord | None:
        """Take a new job in, unless an unfinished one has its key. The queue calls ``push()`` next if it is pending.

        Args:
            record: the job.
            replace: take it in anyway; the key is its own from now on. A durable store cancels the one that had it in
                the same step, or condemns it if it runs; else that is for the queue to do.

        Returns:
            the unfinished job that has, or had, the same key.
        """
        ...

    def remove(self, record: JobRecord) -> bool:
        """Take a job out that has not begun, as if it had never been there; False where it has."""
        ...

    def push(self, record: JobRecord, *, front: bool = False) -> None:
        """Put a pending job into the line, behind those of its priority or in front of them."""
        ...

    def pull(self, record: JobRecord) -> bool:
        """Take a job out of the line; return False where it is not there."""
        ...

    def claim(self) -> JobRecord | None:
        """Take the next job out of the line; None where it is empty. It has not begun before it is moved."""
        ...

    def claim_oldest(self) -> JobRecord | None:
        """Take the job out of the line that has stood there longest, whatever its priority."""
        ...

    def unclaim(self) -> None:
        """Put back what was claimed for this thread, which will not call ``claim()`` any more."""
        ...

    def has_ready(self) -> bool:
        """Return whether there may be a job in the line."""
        ...

    def move(
        self, record: JobRecord, before: JobState, after: JobState, at: float | None = None, why: str = ""
    ) -> bool:
        """Move a job to another state; return False, and do nothing, where it is not in the first one."""
        ...

    def condemn(self, record: JobRecord, fate: JobState, why: str) -> bool:
        """Decide where a running job will go when it stops running; False where it does not run, or that is decided."""
        ...

    def check(self, record: JobRecord) -> None:
        """Look whether the ``value`` that the handler of a job returned can be kept.

        Raises:
            TypeError: it cannot.
            ValueError: it cannot.
        """
        ...

    def settle(self, record: JobRecord, after: JobState, at: float, why: str = "") -> JobState:
        """Move a job that has stopped running to another state, or to its fate; return which.

        Where the thread has called ``claim()``, and not ``unclaim()`` since, the store may claim the next one at once.
        """
        ...

    def revive(self, record: JobRecord) -> bool:
        """Make a dead letter pending again; False where it is none, or has been forgotten.

        Raises:
            DuplicateName: an unfinished job has its key.
        """
        ...

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job, unless it is unknown or has been forgotten."""
        ...

    def holder(self, key: str) -> JobRecord | None:
        """Return the unfinished job that has a key."""
        ...

    def records(self, wanted: JobFilter = ANY_JOB, limit: int | None = None) -> list[JobRecord]:
        """Return the jobs that are remembered and wanted, in the order of their coming; at most so many."""
        ...

    def forget(self, record: JobRecord) -> bool:
        """Forget a job that has finished; False where it has not, or is forgotten already."""
        ...

    def in_hand(self) -> list[JobRecord]:
        """Return the jobs that somebody in this process may hold, look at or run."""
        ...

    def position(self, record: JobRecord) -> int:
        """Return how many pending jobs come before this one, which is pending."""
        ...

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, as of one moment, with those that have been forgotten."""
        ...

    def tend(self) -> tuple[list[JobRecord], float]:
        """Do what is due: finished jobs that are too old are forgotten.

        Returns:
            the jobs that came to their end by that, and the moment of the clock at which to call again.
        """
        ...


class DurableStore(JobStore, Protocol):
    """What a queue may ask of a store that outlives it, and that it may share with other processes.

    Such a store keeps the times of jobs as well: ``record.due`` and ``record.expires_at``.
    """

    def add_all(self, records: Iterable[JobRecord]) -> None:
        """Take new jobs without keys in, all or none."""
        ...

    def listen(self) -> None:
        """Hear of other processes from now on; see ``Host.news``."""
        ...

    def tend(self) -> tuple[list[JobRecord], float]:
        """Do what is due; jobs whose time has come become pending, or expire, and those of dead processes are rescued.

        Returns:
            the jobs that came to their end by that, and the moment of the clock at which to call again.
        """
        ...

    def refresh(self, record: JobRecord) -> None:
        """Look again at a job that another process may have changed; one that has been forgotten is CANCELLED then."""
        ...

    def condemned(self) -> list[JobRecord]:
        """Return the jobs that run here and that others have condemned since the last call."""
        ...

    def runs_here(self, record: JobRecord) -> bool:
        """Return whether a job is run by this process."""
        ...
