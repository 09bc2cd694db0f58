"""What threads are doing at this moment, as text that begins where the user's own code begins."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

_OUR_FOLDER = str(Path(__file__).parent)


def stacks_of(threads: Iterable[threading.Thread]) -> dict[str, str]:
    """Return the stack of each thread that is alive, by the thread's name, the innermost call last.

    The outermost calls, by which Python and threadkit came to the user's function, are left out: they are the same for
    every thread. A thread that is in no function of the user's is shown whole.
    """
    frames = _current_frames()
    return {thread.name: _text(frames[thread.ident]) for thread in threads if thread.ident in frames}


def _current_frames() -> dict[int, FrameType]:
    """Ask the interpreter, without a garbage collection inside.

    Up to 3.12.1 it holds the lock by which threads begin and end meanwhile. A collection runs finalizers, which may
    give another thread its turn; and where that one wants the lock, both wait for ever (gh-106883).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if was_enabled:
            gc.enable()


def _text(frame: FrameType) -> str:
    stack = traceback.extract_stack(frame)
    first = next((number for number, call in enumerate(stack) if not _is_bootstrap(call.filename)), 0)
    return "".join(traceback.format_list(stack[first:]))


def _is_bootstrap(filename: str) -> bool:
    return filename == threading.__file__ or filename.startswith(_OUR_FOLDER)
