"""What it takes to explore the interleavings of threadkit's threads under frontrun (0.7).

Three things are particular. A *gate* is a lock that its maker takes at once and that somebody else opens; frontrun
takes a thread that waits for a lock of its own for a deadlock, so gates are semaphores here, which nobody owns. The
systematic search (``strategy="dpor"``) does not see what happens to a container that sits in a slot: it would explore
one interleaving and be content. So the search is by chance, opcode by opcode, from a fixed seed. And an installed
package is traced only by its name.

Nor does frontrun expect a finalizer of ours in the middle of its own steps: it would trace it, and wait for itself for
ever. So no garbage is collected while it explores; what a reference count ends is unaffected.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import frontrun
import pytest

from threadkit import SystemClock


@pytest.fixture(autouse=True)
def _gates_that_nobody_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "gate", lambda clock: threading.Semaphore(0))


@pytest.fixture
def explore() -> Callable[..., None]:
    """Return ``explore(setup, *workers, invariant, attempts=200, ops=2000)``.

    It fails where an interleaving of so many opcodes breaks the invariant.
    """

    def explore(
        setup: Callable[[], Any],
        *workers: Callable[[Any], Any],
        invariant: Callable[[Any], bool],
        attempts: int = 200,
        ops: int = 2000,
    ) -> None:
        gc.collect()
        gc.disable()
        try:
            result = frontrun.explore(
                setup=setup,
                workers=list(workers),
                invariant=invariant,
                strategy="random",
                max_attempts=attempts,
                max_ops=ops,
                seed=1,
                timeout_per_run=60.0,  # a run takes a second or so, on a machine that has nothing else to do
                trace_packages=["threadkit", "threadkit.*"],
            )
        finally:
            gc.enable()
        result.assert_holds()

    return explore
