"""What becomes of a queue's jobs when the process ends, with and without a stop. Real processes, real time."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.integration

PATIENCE = 30.0


def run(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_exit_without_a_stop_finishes_what_runs() -> None:
    """At the end of the program what runs is finished, what waits is left, and nothing is said about it."""
    done = run("""
        import threading, time
        from threadkit import WorkQueue

        begun = threading.Event()
        queue = WorkQueue(workers=1)
        queue.start()

        @queue.handler
        def work(payload):
            begun.set()
            time.sleep(0.3)
            print("done", payload, flush=True)

        queue.submit_many(work, [1, 2])
        begun.wait(10)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", "")


def test_exit_with_delayed_jobs_is_quick() -> None:
    """Delayed jobs and jobs that wait for their next attempt do not keep the program from ending."""
    done = run("""
        import logging
        from threadkit import Retry, WorkQueue, backoff

        logging.disable()
        queue = WorkQueue(retry=Retry(5, backoff.constant(1000)))
        queue.start()

        @queue.handler
        def fail(payload):
            raise ValueError

        queue.submit(fail)
        queue.submit(fail, delay=1000, expires=500)
        while not queue.stats().retrying:
            pass
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_during_the_exit_is_left() -> None:
    """A job that fails while the interpreter ends, when no thread for a timer can be had, is left in silence."""
    done = run("""
        import logging, threading, time
        from threadkit import Retry, WorkQueue

        logging.disable(logging.WARNING)
        begun = threading.Event()
        queue = WorkQueue(workers=1, retry=Retry(5))
        queue.start()

        @queue.handler
        def fail(payload):
            begun.set()
            time.sleep(0.3)
            raise ValueError

        queue.submit(fail)
        begun.wait(10)
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_queue_in_a_with_block_does_everything() -> None:
    """Leaving a with block does what is ready, also thousands of jobs from several threads, and the figures add up."""
    done = run("""
        import threading
        from threadkit import WorkQueue

        with WorkQueue(workers=4, maxsize=100, keep=10) as queue:
            queue.handler("work")(lambda payload: payload)
            threads = [threading.Thread(target=lambda: queue.submit_many("work", range(2000))) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        stats = queue.stats()
        print(stats.submitted, stats.completed, len(queue.jobs()), queue.work_left())
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "6000 6000 10 0\n", "")


def test_handlers_in_other_processes(tmp_path) -> None:
    """With an executor of processes the handlers run there."""
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
            import os
            from concurrent.futures import ProcessPoolExecutor
            from threadkit import WorkQueue

            def where(payload):
                return os.getpid()

            async def double(payload):
                return 2 * payload

            if __name__ == "__main__":
                with ProcessPoolExecutor(1) as processes, WorkQueue(workers=2, executor=processes) as queue:
                    queue.handler(where)
                    queue.handler(double)
                    print(queue.submit(where).result(20) != os.getpid(), queue.submit(double, 21).result(20))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 42\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
def test_a_forked_child_begins_anew() -> None:
    """A forked child may not use its parent's queue before it starts it, and finds it empty then."""
    done = run("""
        import os, sys, warnings
        from threadkit import ForkedError, WorkQueue

        warnings.simplefilter("ignore")
        queue = WorkQueue(workers=2)
        queue.handler("work")(lambda payload: payload)
        queue.start()
        queue.submit("work", 1).result(5)
        child = os.fork()
        if child == 0:
            try:
                queue.submit("work", 2)
            except ForkedError:
                queue.start()
                good = queue.submit("work", 3).result(5) == 3 and queue.stats().submitted == 1
                queue.stop()
                os._exit(0 if queue.join(5) and good else 1)
            os._exit(2)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), queue.submit("work", 4).result(5))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 4\n", "")


FINALIZERS = """
import gc, itertools, threading
from threadkit import WorkQueue

numbers = itertools.count()
done = threading.Semaphore(0)


class Cycle:
    def __init__(self, queue):
        self.me, self.queue = self, queue

    def __del__(self):  # struck by the collector, wherever and in whatever thread that happens to be
        number = next(numbers)
        self.queue.submit("job")
        self.queue.submit("job", delay=1000, priority=number % 5)
        self.queue.submit("job", key=str(number))
        done.release()


for round in range(20):
    queue = WorkQueue(workers=2, maxsize=10**6)
    queue.handler("job")(lambda payload: None)
    queue.start()
    thresholds = range(1 + round % 7, 40)
    for threshold in thresholds:
        gc.set_threshold(threshold)
        Cycle(queue)
        queue.stats()
        queue.submit("job", key=f"mine {threshold}")
        queue.submit("job", delay=5000)
    gc.set_threshold(700)
    for _ in thresholds:
        while not done.acquire(timeout=0.05):
            gc.collect()  # which does nothing while another thread is collecting
    assert queue.stats().submitted == 5 * len(thresholds), queue
    queue.stop()
    assert queue.join(20), queue
"""


def test_finalizers_may_submit() -> None:
    """A finalizer that strikes inside a submit, or inside stats(), may submit itself; nothing hangs or is lost."""
    done = subprocess.run([sys.executable, "-c", FINALIZERS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
