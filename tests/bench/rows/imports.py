"""What ``import threadkit`` costs a program, in an interpreter that has imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from row import Case, Figure, Figures, Goal, Row

PROGRAM = "from time import perf_counter as now; began = now(); import {what}; print(now() - began)"


def fresh_import(what: str, size: int) -> Figures:
    """Import it in so many fresh interpreters; the first import, which may have to compile, does not count."""
    command = [sys.executable, "-I", "-c", PROGRAM.format(what=what)]
    times = [float(subprocess.check_output(command, timeout=60)) for _ in range(size + 1)]
    return {"milliseconds": median(times[1:]) * 1e3}


IMPORT = Row(
    name="import",
    title="import in a fresh interpreter, median of {size}",
    figures=(Figure("milliseconds", "ms"),),
    cases=(
        Case("threadkit", lambda size: fresh_import("threadkit", size), "threadkit"),
        Case(
            "concurrent.futures.thread, attrs, logging",
            lambda size: fresh_import("concurrent.futures.thread, attrs, logging", size),
            "attrs",
        ),
        Case("asyncio", lambda size: fresh_import("asyncio", size)),
    ),
    goals=(Goal("milliseconds", 1.5, "concurrent.futures.thread, attrs, logging"),),
    size=9,
    quick=1,
    baseline="concurrent.futures.thread, attrs, logging",
    note="asyncio is there for comparison; threadkit loads it on first use.",
)
