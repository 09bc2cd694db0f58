"""What ``import threadkit`` costs a program, in an interpreter that has imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from row import Case, Figure, Figures, Goal, Row

PROGRAM = "from time import perf_counter as now; began = now(); {statement}; print(now() - began)"


def fresh(statement: str, size: int) -> Figures:
    """Import in so many fresh interpreters; the first time, which may have to compile, does not count."""
    command = [sys.executable, "-I", "-c", PROGRAM.format(statement=statement)]
    times = [float(subprocess.check_output(command, timeout=60)) for _ in range(size + 1)]
    return {"milliseconds": median(times[1:]) * 1e3}


BASELINE = "concurrent.futures.thread, attrs, logging"

IMPORT = Row(
    name="import",
    title="import in a fresh interpreter, median of {size}",
    figures=(Figure("milliseconds", "ms"),),
    cases=(
        Case("threadkit", lambda size: fresh("import threadkit", size), "threadkit"),
        Case("threadkit, all its names", lambda size: fresh("from threadkit import *", size), "threadkit"),
        Case(BASELINE, lambda size: fresh(f"import {BASELINE}", size), "attrs"),
        Case("asyncio", lambda size: fresh("import asyncio", size)),
    ),
    goals=(
        Goal("milliseconds", 1.5, BASELINE),
        Goal("milliseconds", 1.5, BASELINE, case="threadkit, all its names"),
    ),
    size=9,
    quick=1,
    baseline=BASELINE,
    note="threadkit loads a public name when it is first used; to have them all loaded is the worst case.",
)
