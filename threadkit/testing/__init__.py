"""What a test of concurrent code needs: a clock that stands still, work without threads, a leak check.

Nothing here is switched on for a whole process: a clock is handed to the component that is tested.
"""

from threadkit.testing._inline import InlineExecutor
from threadkit.testing._jobs import assert_enqueued, run_inline
from threadkit.testing._leaks import no_thread_leaks
from threadkit.testing._virtual_clock import VirtualClock

__all__ = ["InlineExecutor", "VirtualClock", "assert_enqueued", "no_thread_leaks", "run_inline"]
