"""A process that puts jobs into a file and works on them until it is killed, and writes down what it saw.

    python jobfile_child.py PATH HISTORY DURABILITY FIRST

Each line of the history is written by one system call, so that a kill leaves whole lines: ``submitted N``, ``begun N``,
``ended N`` and ``completed N``, with the number of the process and the moment of the system's monotonic clock.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from typing import Any

from threadkit import WorkQueue, events, stores


def main(path: str, history: str, durability: Any, first: str) -> None:
    logging.disable()
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
    print("ready", flush=True)
    for number in itertools.count(int(first)):
        if number % 10 == 9:
            queue.submit_many(work, [number])
        else:
            queue.submit(work, number, delay=0.05 if number % 5 == 4 else 0)
        note("submitted", number)


if __name__ == "__main__":
    main(*sys.argv[1:])
