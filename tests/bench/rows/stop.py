"""Stopping much that takes its time: the times must not add up."""

from __future__ import annotations

import contextlib
import threading
import time

from row import Case, Figure, Figures, Goal, Row

REST = 0.2


def own(size: int) -> Figures:
    from threadkit import Lifecycle, ManagedThread, StopToken

    def body(token: StopToken) -> None:
        token.wait()
        time.sleep(REST)

    lc = Lifecycle()
    for index in range(size):
        lc.add(ManagedThread(body, name=f"worker-{index}"))
    lc.start()
    began = time.perf_counter()
    report = lc.shutdown()
    seconds = time.perf_counter() - began
    if not report.ok:
        raise RuntimeError(str(report))
    return {"seconds": seconds}


def additive(size: int) -> Figures:
    """Close each where it was opened, one after the other, as ``ExitStack`` and most frameworks do."""

    class Worker:
        def __init__(self) -> None:
            self._over = threading.Event()
            self._thread = threading.Thread(target=self._run)
            self._thread.start()

        def _run(self) -> None:
            self._over.wait()
            time.sleep(REST)

        def close(self) -> None:
            self._over.set()
            self._thread.join()

    with contextlib.ExitStack() as stack:
        for _ in range(size):
            stack.callback(Worker().close)
        began = time.perf_counter()
    return {"seconds": time.perf_counter() - began}


STOP = Row(
    name="stop",
    title="stop {size} components that take 0.2 s each",
    figures=(Figure("seconds", "s"),),
    cases=(
        Case("threadkit", own, "threadkit"),
        Case("ExitStack, one by one", additive, rounds=1),
    ),
    goals=(Goal("seconds", 0.5),),
    size=100,
    quick=2,
    baseline="ExitStack, one by one",
    note="One by one is arithmetic, and is measured once.",
)
