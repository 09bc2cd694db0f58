"""Executors in whole processes: the end of the interpreter, forks, signals, killed workers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from programs import unmeasured

pytestmark = pytest.mark.integration

PATIENCE = 30.0


def run(source: str, folder: Path, env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
    """Run a program from a file, for processes that are spawned import it; return status, lines and errors."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=PATIENCE, check=False, env=env
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    "executor",
    [
        "BoundedExecutor(2)",
        "BoundedExecutor(inner=executors.threads(2))",
        "BoundedExecutor(inner=lambda: ThreadPoolExecutor(2))",
        "BoundedExecutor(inner=executors.processes(2))",
        "BoundedExecutor(inner=executors.loky(2))",
    ],
)
@pytest.mark.parametrize("ending", ["", "executor.shutdown(wait=False)", "executor.stop('enough')", "del executor"])
def test_exit_with_work_queued(executor: str, ending: str, tmp_path: Path) -> None:
    """At the end of the program an executor that stands alone, or was dropped, finishes what was submitted."""
    if "loky" in executor:
        pytest.importorskip("loky", reason="the extra loky is not installed")
    status, lines, errors = run(
        f"""
        import os, time
        from concurrent.futures import ThreadPoolExecutor
        from threadkit import BoundedExecutor, executors

        def work(number):
            time.sleep(0.05)
            os.write(1, b"%d\\n" % number)  # in one piece, unlike print()

        if __name__ == "__main__":
            executor = {executor}
            for number in range(10):
                executor.submit(work, number)
            {ending}
        """,
        tmp_path,
    )
    assert (status, errors) == (0, "")
    assert sorted(lines, key=int) == [str(number) for number in range(10)]


def test_submit_while_the_interpreter_exits(tmp_path: Path) -> None:
    """At exit a call is refused, by executors that run and by one that would have to start, and nothing hangs."""
    status, lines, errors = run(
        """
        import atexit

        def late():
            for executor in (running, fresh, over):
                try:
                    executor.submit(print, "never")
                except RuntimeError as error:
                    print(type(error).__name__)

        atexit.register(late)  # before threadkit's own hook, so called after it

        if __name__ == "__main__":
            from threadkit import BoundedExecutor, executors
            running, fresh = BoundedExecutor(1), BoundedExecutor(1)
            over = BoundedExecutor(inner=executors.processes(1))
            running.start()
            over.start()
        """,
        tmp_path,
    )
    assert (status, errors) == (0, "")
    assert lines == ["Closed", "Closed", "Closed"]


def test_a_thread_that_submits_while_the_interpreter_exits(tmp_path: Path) -> None:
    """A call may submit more until the executor is told to stop at exit; every one that was taken is finished."""
    status, lines, errors = run(
        """
        import threading
        from threadkit import BoundedExecutor

        executor = BoundedExecutor(1, max_pending=10)

        def chain(number):
            threading.Event().wait(0.01)
            try:
                executor.submit(chain, number + 1)
            except RuntimeError as error:
                print(type(error).__name__)

        executor.submit(chain, 0)
        """,
        tmp_path,
    )
    assert (status, errors, lines) == (0, "", ["Closed"])


def test_fork(tmp_path: Path) -> None:
    """In a forked child the parent's executor refuses everything at once until it is started there."""
    status, lines, errors = run(
        """
        import os, warnings
        from threadkit import BoundedExecutor, ForkedError

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads, which is tested here
        executor = BoundedExecutor(2)
        assert executor.submit(abs, -1).result(5) == 1
        pid = os.fork()
        if pid == 0:
            for use in (lambda: executor.submit(abs, -1), lambda: executor.try_submit(abs, -1), executor.stats,
                        lambda: executor.resize(3), executor.shutdown, lambda: executor.map(abs, [1])):
                try:
                    use()
                    print("used")
                except ForkedError:
                    pass
            executor.start()
            print("child", executor.submit(abs, -2).result(5), flush=True)
        else:
            os.waitpid(pid, 0)
            print("parent", executor.submit(abs, -3).result(5), flush=True)
        """,
        tmp_path,
    )
    assert (status, errors, lines) == (0, "", ["child 2", "parent 3"])


def test_fork_in_the_middle_of_load(tmp_path: Path) -> None:
    """Forks while threads submit and workers run leave the parent's calls alone, and the child may start anew."""
    status, lines, errors = run(
        """
        import os, threading, warnings
        from threadkit import BoundedExecutor

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads, which is tested here
        executor = BoundedExecutor(4, max_pending=50)
        done = []

        def load():
            for number in range(2_000):
                done.append(executor.submit(abs, -number))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                executor.start()
                os._exit(executor.submit(abs, -7).result(10))
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for thread in threads:
            thread.join()
        print(set(statuses), sum(future.result(10) for future in done))
        """,
        tmp_path,
        unmeasured(),
    )
    assert (status, errors, lines) == (0, "", [f"{{7}} {3 * sum(range(2_000))}"])


@pytest.mark.parametrize("engine", ["processes", "loky"])
def test_a_killed_worker(engine: str, tmp_path: Path) -> None:
    """When a worker process is killed the calls in flight fail, idempotent ones are made once more, and it goes on."""
    if engine == "loky":
        pytest.importorskip("loky", reason="the extra loky is not installed")
    status, lines, errors = run(
        """
        import logging, os, signal, sys
        from concurrent.futures import BrokenExecutor
        from threadkit import BoundedExecutor, executors

        logging.disable()

        def die_once(path):
            try:
                open(path, "x").close()
            except FileExistsError:
                return "survived"
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            folder = os.path.dirname(os.path.abspath(__file__))
            with BoundedExecutor(inner=executors.ENGINE(1)) as executor:
                error = executor.submit(die_once, os.path.join(folder, "first")).exception(20)
                print(isinstance(error, BrokenExecutor))
                print(executor.submit(abs, -1).result(20))
                careful = executor.options(idempotent=True)
                print(careful.submit(die_once, os.path.join(folder, "second")).result(20))
                print(executor.stats().rebuilds)
        """.replace("ENGINE", engine),
        tmp_path,
    )
    assert (status, errors, lines) == (0, "", ["True", "1", "survived", "2"])


def test_a_call_that_kills_every_worker(tmp_path: Path) -> None:
    """A call that may run twice and kills its process twice is named and given up; those beside it are made."""
    status, lines, errors = run(
        """
        import logging, os, signal
        from threadkit import BoundedExecutor, Retry, backoff, events, executors

        logging.disable()

        def poison():
            os.kill(os.getpid(), signal.SIGKILL)

        def name(event):
            if isinstance(event, events.CallQuarantined):
                print(event.function)

        if __name__ == "__main__":
            retry = Retry(10, backoff.constant(0.05))
            with BoundedExecutor(inner=executors.processes(1), submit_retry=retry) as executor:
                executor.observe(name)
                careful = executor.options(idempotent=True)
                bad, good = careful.submit(poison), [careful.submit(abs, -number) for number in range(20)]
                print([future.result(20) for future in good] == list(range(20)))
                print(type(bad.exception(20)).__name__, executor.stats().rebuilds)
        """,
        tmp_path,
    )
    assert (status, errors, lines) == (0, "", ["poison", "True", "BrokenExecutor 2"])


def test_an_initializer_that_always_fails(tmp_path: Path) -> None:
    """Where every new process fails at once, calls fail after a bounded number of rebuilds, and nothing hangs."""
    status, lines, _ = run(
        """
        import logging
        from concurrent.futures import BrokenExecutor
        from threadkit import BoundedExecutor, Retry, backoff, executors

        logging.disable()

        def fail():
            raise OSError("no licence")

        if __name__ == "__main__":
            retry = Retry(4, backoff.constant(0.01))
            inner = executors.processes(1, initializer=fail)
            with BoundedExecutor(inner=inner, recreate=2, submit_retry=retry) as executor:
                for _ in range(8):
                    try:
                        print(isinstance(executor.submit(abs, -1).exception(20), BrokenExecutor))
                    except BrokenExecutor:
                        print(True)
                print(executor.stats().rebuilds)
        """,
        tmp_path,
    )
    assert status == 0
    assert lines == ["True"] * 8 + ["2"]


def test_ctrl_c_in_a_blocked_submit(tmp_path: Path) -> None:
    """Ctrl-C interrupts a submit() that waits, a result(), a wait() and a shutdown(), and the executor ends."""
    status, lines, errors = run(
        """
        import concurrent.futures, os, signal, threading, time
        from threadkit import BoundedExecutor

        def interrupt():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

        executor = BoundedExecutor(1, max_pending=0, on_full="block")
        door = threading.Event()
        future = executor.submit(door.wait)
        all_of_them = lambda: concurrent.futures.wait([future])
        for wait in (lambda: executor.submit(print, "never"), future.result, all_of_them, executor.shutdown):
            if wait == executor.shutdown:
                door.set()
                future.result()
                assert executor.submit(abs, -1).result() == 1
                door.clear()
                future = executor.submit(door.wait)
            threading.Thread(target=interrupt).start()
            try:
                wait()
            except KeyboardInterrupt:
                print("interrupted")
        door.set()
        """,
        tmp_path,
    )
    assert (status, errors, lines) == (0, "", ["interrupted"] * 4)


@pytest.mark.parametrize("recreate", [0, 3])
@pytest.mark.parametrize("pool", ["processes", "loky"])
def test_a_lost_call_holds_nothing_up(pool: str, recreate: int, tmp_path: Path) -> None:
    """A call that was given up delays neither shutdown() nor the end of the program: its process is killed."""
    if pool == "loky":
        pytest.importorskip("loky", reason="the extra loky is not installed")
    status, lines, errors = run(
        f"""
        import time
        from threadkit import BoundedExecutor, executors

        if __name__ == "__main__":
            executor = BoundedExecutor(inner=executors.{pool}(1, lost_after=2), recreate={recreate})
            lost = executor.submit(time.sleep, {10 * PATIENCE})
            print(type(lost.exception()).__name__)
            executor.shutdown()
            print(executor.state.value)
        """,
        tmp_path,
    )
    assert (status, lines) == (0, ["BrokenExecutor", "stopped"]), errors


def test_a_pool_that_gets_no_thread_for_itself(tmp_path: Path) -> None:
    """A process pool that could not make its manager's thread is replaced; the call is made, and the program ends."""
    status, lines, errors = run(
        """
        from concurrent.futures import process
        from threadkit import BoundedExecutor, executors

        start, failures = process._ExecutorManagerThread.start, [RuntimeError("can't start new thread")]

        def start_later(thread):
            if failures:
                raise failures.pop()
            start(thread)

        if __name__ == "__main__":
            process._ExecutorManagerThread.start = start_later
            with BoundedExecutor(inner=executors.processes(1)) as executor:
                print(executor.submit(abs, -1).result())
            print(executor.stats().rebuilds)
        """,
        tmp_path,
    )
    assert (status, lines) == (0, ["1", "1"]), errors
