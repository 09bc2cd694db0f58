"""Where an executor runs what it is given: on threads of this interpreter, which share its objects, or elsewhere."""

from __future__ import annotations

import sys
from concurrent.futures import Executor


def is_in_process(executor: Executor, factory: object = None) -> bool:
    """Tell whether an executor runs calls on threads of this interpreter: as it or its factory says, or by its class.

    Args:
        executor: any; it or its factory says so by an attribute ``in_process``.
        factory: what has made it.
    """
    said = getattr(factory, "in_process", getattr(executor, "in_process", None))
    if isinstance(said, bool):
        return said
    # Looked up, since importing it would cost those who never need it. The interpreters of 3.14 derive from threads.
    threads = sys.modules.get("concurrent.futures.thread")
    interpreters = sys.modules.get("concurrent.futures.interpreter")
    return (
        threads is not None
        and isinstance(executor, threads.ThreadPoolExecutor)
        and not (interpreters is not None and isinstance(executor, interpreters.InterpreterPoolExecutor))
    )
