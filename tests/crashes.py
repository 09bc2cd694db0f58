"""Kills processes that work on one job file, and compares what they saw with what is in it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Self

import attrs

from threadkit import JobState, WorkQueue, stores

CHILD = Path(__file__).with_name("jobfile_child.py")
GRACE = {"power": 0.0, "process": 0.0, "eventual": 1.0}  # seconds before a kill in which submits may be lost
PATIENCE = 60.0


@attrs.frozen
class Line:
    """What a child saw."""

    what: str
    number: int
    process: int
    at: float


class Crashes:
    """A job file, and the history of those that worked on it."""

    def __init__(self, folder: Path, durability: str, seed: int) -> None:
        self.path = folder / "jobs.db"
        self.history = folder / "history"
        self.durability = durability
        self.random = random.Random(seed)
        self.kills: dict[int, float] = {}
        self.first = 0
        # To fork takes a hundredth of the time that an interpreter takes to start and to load everything.
        self._parent = subprocess.Popen(
            [sys.executable, CHILD, self.path, self.history, durability],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()

    def start(self) -> int:
        """Start a process, wait until it works, and return its number."""
        self.first += 1_000_000
        return int(self._ask(f"start {self.first}"))

    def kill(self, child: int) -> None:
        """Kill a process in the middle of whatever it does."""
        self.kills[child] = time.monotonic()
        assert self._ask(f"kill {child}") == "dead"

    def round(self) -> None:
        """Let a process work for a moment, and kill it."""
        child = self.start()
        time.sleep(self.random.uniform(0.0, 0.25))
        self.kill(child)

    def _ask(self, request: str) -> str:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(request, file=self._parent.stdin, flush=True)
        return self._parent.stdout.readline().strip()

    def lines(self) -> list[Line]:
        """Return what all processes saw, in order."""
        found = []
        for line in self.history.read_text().splitlines():
            what, number, process, at = line.split()
            found.append(Line(what, int(number), int(process), float(at)))
        return found

    def finish(self) -> None:
        """Open the file once more, and do what is left."""
        ran: list[int] = []
        before = self.lines()
        with WorkQueue(workers=2, maxsize=float("inf"), keep=10**6, store=stores.SQLiteStore(self.path)) as queue:
            queue.handler("work")(ran.append)
            assert queue.drain(PATIENCE), queue.stats()
            stats, jobs = queue.stats(), queue.jobs()
        completed = Counter(line.number for line in before if line.what == "completed")
        seen: set[int] = set()
        for line in before:  # no job that was seen to be completed ran again
            if line.what == "completed":
                seen.add(line.number)
            elif line.what == "begun":
                assert line.number not in seen, f"{line} was completed before"
        assert not seen & set(ran)
        assert max(completed.values(), default=0) <= 1
        grace = GRACE[self.durability]
        promised = {
            line.number
            for line in before
            if line.what == "submitted" and line.at < self.kills.get(line.process, float("inf")) - grace
        }
        done = {job.payload for job in jobs if job.state is JobState.COMPLETED}
        dead = {job.payload for job in jobs if job.state is JobState.FAILED}
        assert promised <= done | dead, f"lost: {sorted(promised - done - dead)[:10]}"
        assert seen <= done
        assert len(jobs) == stats.submitted == len(done) + len(dead), "a job is there twice"
        self.no_two_at_once(before)

    def no_two_at_once(self, lines: list[Line]) -> None:
        """Look that no job was run by two processes at once, save where the first had been killed."""
        running: dict[int, Line] = {}
        for line in lines:
            if line.what == "begun":
                other = running.get(line.number)
                if other is not None:
                    assert self.kills.get(other.process, float("inf")) < line.at, f"{line} while {other}"
                running[line.number] = line
            elif line.what == "ended":
                running.pop(line.number, None)
