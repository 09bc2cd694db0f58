"""Processes that put jobs into a file and work on them until they are killed, and write down what they saw.

    python jobfile_child.py PATH HISTORY DURABILITY

It reads requests: ``start N`` forks a process whose jobs have the numbers from N on, and is answered by the process's
own number when it works; ``kill N`` kills one, and is answered when it is dead. At the end of its input it kills them
all.

Each line of the history is written by one system call, so that a kill leaves whole lines: ``submitted N``, ``begun N``,
``ended N`` and ``completed N``, with the number of the process and the moment of the system's monotonic clock.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sqlite3  # noqa: F401 - so that the children need not load it
import sys
import time
from typing import Any

from threadkit import WorkQueue, events, stores


def work_on(path: str, history: str, durability: Any, first: int) -> None:
    log = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, number: object) -> None:
        os.write(log, f"{what} {number} {os.getpid()} {time.monotonic()}\n".encode())

    queue = WorkQueue(workers=3, maxsize=300, keep=10**6, store=stores.SQLiteStore(path, durability))
    numbers: dict[str, int] = {}

    @queue.handler
    def work(number: int, ctx: Any) -> None:
        note("begun", number)
        numbers[ctx.job_id] = number
        if number % 7 == 0:
            time.sleep(0.002)
        note("ended", number)

    def observe(event: events.Event) -> None:
        if isinstance(event, events.JobCompleted):
            note("completed", numbers[event.job_id])

    queue.observe(observe)
    queue.start()
    print(os.getpid(), flush=True)
    for number in itertools.count(first):
        if number % 10 == 9:
            queue.submit_many(work, [number])
        else:
            queue.submit(work, number, delay=0.05 if number % 5 == 4 else 0)
        note("submitted", number)


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(path: str, history: str, durability: str) -> None:
    logging.disable()
    children: set[int] = set()
    repr(stores.SQLiteStore(path))  # so that the children need not load what it takes
    for line in sys.stdin:
        request, number = line.split()
        if request == "start":
            child = os.fork()
            if not child:
                work_on(path, history, durability, int(number))
            children.add(child)
        else:
            children.remove(int(number))
            kill(int(number))
            print("dead", flush=True)
    for child in children:
        kill(child)


if __name__ == "__main__":
    main(*sys.argv[1:])
