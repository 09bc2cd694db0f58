"""What a test asks of a ``WorkQueue``: that jobs were submitted, and that they run where they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import Any

from threadkit import Job, WorkQueue

_ANY: Any = object()


def assert_enqueued(
    queue: WorkQueue, name: str, payload: Any = _ANY, *, key: str | None = None, count: int | None = None
) -> list[Job]:
    """Fail unless there are jobs that wait: scheduled, pending or retrying.

    Args:
        queue: where they wait.
        name: that of their handler.
        payload: what they are given; compared by ``==``.
        key: their key.
        count: how many there are, exactly; 0 is none. None is one at least.

    Returns:
        the jobs.

    Raises:
        AssertionError: there are not so many; it tells what waits.

    Example:
        >>> queue = WorkQueue(workers=0)
        >>> queue.declare("mail")
        >>> job = queue.submit("mail", {"to": "ada"}, delay=60)
        >>> assert_enqueued(queue, "mail", {"to": "ada"}) == [job]
        True
        >>> assert_enqueued(queue, "mail", {"to": "grace"})
        Traceback (most recent call last):
            ...
        AssertionError: no 'mail' with {'to': 'grace'} waits in queue 'jobs', but 'mail' with {'to': 'ada'}
    """
    waiting = [job for state in ("scheduled", "pending", "retrying") for job in queue.jobs(state)]
    found = [
        job
        for job in waiting
        if job.name == name and (payload is _ANY or job.payload == payload) and (key is None or job.key == key)
    ]
    if len(found) != count if count is not None else not found:
        wanted = repr(name) if payload is _ANY else f"{name!r} with {payload!r}"
        wanted = wanted if key is None else f"{wanted} and key {key!r}"
        number = "no" if count is None else f"{len(found)} instead of {count}"
        others = ", ".join(f"{job.name!r} with {job.payload!r}" for job in waiting) or "nothing"
        raise AssertionError(f"{number} {wanted} waits in queue {queue.name!r}, but {others}")
    return found


@contextlib.contextmanager
def run_inline(queue: WorkQueue) -> Generator[None]:
    """Have jobs run inside the call that submits them, in the caller's thread, within the ``with`` block.

    What is delayed, or waits for its next attempt, waits for its time and the next ``submit()`` or ``run_due()``. The
    queue should have no workers, or not be started, else those may be quicker.

    Args:
        queue: whose jobs.

    Example:
        >>> queue = WorkQueue(workers=0)
        >>> double = queue.handler("double")(lambda number: 2 * number)
        >>> with run_inline(queue):
        ...     print(queue.submit("double", 21).state)
        completed
    """

    def running(submit: Callable[..., Any]) -> Callable[..., Any]:
        def submit_and_run(*args: Any, **options: Any) -> Any:
            submitted = submit(*args, **options)
            queue.run_due()
            return submitted

        return submit_and_run

    async def asubmit(*args: Any, **options: Any) -> Job:
        job = await type(queue).asubmit(queue, *args, **options)
        await asyncio.to_thread(queue.run_due)
        return job

    ways: dict[str, Any] = {
        "submit": running(queue.submit),
        "submit_many": running(queue.submit_many),
        "asubmit": asubmit,
    }
    vars(queue).update(ways)
    try:
        yield
    finally:
        for name in ways:
            del vars(queue)[name]
