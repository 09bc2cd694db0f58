"""A service as a user writes it, for real servers to host: ``asgi`` by its lifespan, ``wsgi`` by gunicorn's hooks.

It reports to the test through a pipe, a line each: the process and what it does there.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import wsgiref.types
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from threadkit import ForkedError, Lifecycle, StopToken
from threadkit.testing import no_thread_leaks

NOTES = os.open(os.environ["NOTES"], os.O_WRONLY)
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGHUP, signal.SIGUSR1)

service = Lifecycle("service")
jobs = service.queue("jobs", workers=1)
pool = service.executor("pool", max_workers=1)
ticked = threading.Event()


def note(words: str) -> None:
    """Tell the test; a short write to a pipe is in one piece."""
    os.write(NOTES, f"{os.getpid()} {words}\n".encode())


@jobs.handler
def double(number: int) -> int:
    """Be a job."""
    return 2 * number


@service.every(0.01, run_immediately=True, fixed="delay")
def tick() -> None:
    """Be a task."""
    ticked.set()


@service.thread
def checker(running: StopToken) -> None:
    """Use everything in this process, say so, and be a thread until the end."""
    assert pool.submit(double, jobs.submit("double", 21).result(timeout=5)).result(timeout=5) == 84
    assert ticked.wait(5)
    note("works")
    running.wait()
    note("thread ends")


service.callback(lambda: note("resource closed" if jobs.state.has_ended else "resource closed too early"))


def handlers() -> dict[int, Any]:
    """Return who handles the signals, and who is woken by them."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return {signum: signal.getsignal(signum) for signum in SIGNALS} | {-1: wakeup}


of_the_host: dict[int, Any] = {}


def answer() -> bytes:
    """Return what a request is told."""
    try:
        doubled = jobs.submit("double", 21).result(timeout=5)
    except ForkedError:
        doubled = "ForkedError"
    return json.dumps({"pid": os.getpid(), "doubled": doubled, "signals kept": handlers() == of_the_host}).encode()


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Be an ASGI application."""
    if scope["type"] == "lifespan":
        await receive()
        of_the_host.update(handlers())
        with no_thread_leaks(grace=2.0):
            async with service.lifespan(asgi):
                await send({"type": "lifespan.startup.complete"})
                await receive()
        note("signals kept" if handlers() == of_the_host else "signals taken")
        await send({"type": "lifespan.shutdown.complete"})
        return
    job = await jobs.asubmit("double", 21)
    assert await job == 42
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer()})


def wsgi(environ: wsgiref.types.WSGIEnvironment, start_response: wsgiref.types.StartResponse) -> Iterable[bytes]:
    """Be a WSGI application."""
    start_response("200 OK", [])
    return [answer()]


if os.environ.get("START") == "import":  # too early where the server forks after it has imported
    of_the_host.update(handlers())
    service.start()
