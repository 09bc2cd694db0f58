"""``as_completed()``: jobs in the order in which they are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import cast

from threadkit import _arguments
from threadkit._clock import Gate, deadline_after
from threadkit._errors import CallTimeout
from threadkit._job import Job
from threadkit._waiting import Channel, Waiters


def as_completed(jobs: Iterable[Job], timeout: float | timedelta | None = None) -> Iterator[Job]:
    """Yield jobs as they are done, each once, as the function of this name in ``concurrent.futures`` does.

    Args:
        jobs: of one queue or of several; those of several must be on one clock.
        timeout: seconds from now until the last of them is done; None and ``inf`` are for ever.

    Raises:
        CallTimeout: the time was over first; raised by the iterator.
        TypeError: ``timeout`` is no duration.
        ValueError: ``timeout`` is negative or ``nan``.

    Example:
        >>> from threadkit import WorkQueue, as_completed
        >>> with WorkQueue(workers=1) as queue:
        ...     double = queue.handler("double")(lambda number: 2 * number)
        ...     jobs = queue.submit_many("double", [1, 2, 3])
        ...     print([job.result() for job in as_completed(jobs, timeout=5)])
        [2, 4, 6]
    """
    wanted = dict.fromkeys(jobs)
    seconds = _arguments.timeout(timeout)
    if not wanted:
        return iter(())
    clock = next(iter(wanted))._queue._clock
    return _arrivals(wanted, Channel(clock), seconds, deadline_after(clock, seconds))


def _arrivals(
    wanted: dict[Job, None], line: Channel[Job], seconds: float | None, deadline: float | None
) -> Iterator[Job]:
    """Yield what comes down the line, into which each job is put when it may be done."""
    entered: dict[Job, tuple[Waiters, Gate]] = {}
    left = wanted.copy()
    try:
        for job in wanted:
            if not job.done():  # else nobody would take its waiters out again
                gate = cast("Gate", _Arrival(job, line))  # waiters do nothing with a gate but open it
                entered[job] = job._waiters(), gate
                entered[job][0].enter(gate)
            if job.done():
                line.put(job)
        while left:
            try:
                job = line.get(deadline)
            except IndexError:
                raise CallTimeout(f"{len(left)} of {len(wanted)} jobs", seconds or 0.0) from None
            if job in left:  # else it has come twice: it was done just as it was looked at
                del left[job]
                yield job
    finally:
        for waiters, gate in entered.values():
            waiters.leave(gate)


class _Arrival:
    """A gate at which nobody stands: to open it puts a job into a line."""

    __slots__ = ("_job", "_line")

    def __init__(self, job: Job, line: Channel[Job]) -> None:
        self._job = job
        self._line = line

    def release(self) -> None:
        self._line.put(self._job)
