"""Where a ``BoundedExecutor``'s calls may run: ``BoundedExecutor(inner=executors.processes(4))``.

Each function here returns a factory: a callable that makes a ``concurrent.futures.Executor``, now and again whenever
that one breaks. Any callable that does so will do as ``inner``; these also say how many calls run at once, and whether
they run in this process, which is what contexts need.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, Literal

import attrs

from threadkit import _arguments
from threadkit._dask import DaskExecutor, leave
from threadkit._executor import BoundedExecutor
from threadkit._lane import processors

StartMethod = Literal["forkserver", "spawn", "fork"]
_START_METHODS: tuple[StartMethod, ...] = ("forkserver", "spawn", "fork")


@attrs.frozen
class Factory:
    """Makes executors of one kind.

    Attributes:
        make: makes one.
        workers: how many calls it runs at once.
        in_process: whether it runs them on threads of this process.
        own_threads: how many of our own threads will do instead; None where another kind is meant.
        is_broken: asked with the executor and None before each call, and with the error of each call that fails: True
            has the executor replaced. ``BrokenExecutor`` always means that.
        lost_after: seconds after which an executor that has not ended a call is taken for broken; None is never.
        kill: called with an executor that is given up, before its ``shutdown()``, to end what it is at; None lets that
            go on.

    Example:
        >>> factory = threads(4)
        >>> factory.workers, factory.in_process
        (4, True)
        >>> with factory() as executor:
        ...     executor.submit(pow, 2, 10).result(timeout=5)
        1024
    """

    make: Callable[[], Executor]
    workers: int
    in_process: bool
    own_threads: int | None = None
    is_broken: Callable[[Executor, BaseException | None], bool] | None = None
    lost_after: float | None = None
    kill: Callable[[Executor], object] | None = None

    def __call__(self) -> Executor:
        """Make an executor."""
        return self.make()


def threads(max_workers: int | None = None) -> Factory:
    """Run calls on threads of this process, as a ``BoundedExecutor`` does without ``inner``.

    Args:
        max_workers: how many; None is the number of processors and four, at most 32.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 1.

    Example:
        >>> from threadkit import BoundedExecutor
        >>> with BoundedExecutor(inner=threads(2)) as executor:
        ...     executor.submit(pow, 2, 10).result(timeout=5)
        1024
    """
    workers = _workers(max_workers, min(32, processors() + 4))
    return Factory(functools.partial(BoundedExecutor, workers, max_pending=math.inf), workers, True, workers)


def processes(
    max_workers: int | None = None,
    *,
    start_method: StartMethod = "forkserver",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    lost_after: float | timedelta | None = None,
) -> Factory:
    """Run calls in processes of their own, by ``concurrent.futures.ProcessPoolExecutor``.

    Functions, arguments and results are pickled, and the program's main module must be importable (``if __name__ ==
    "__main__":``).

    Args:
        max_workers: how many; None is the number of processors.
        start_method: how processes are made. "fork" copies the locks of other threads in whatever state they are in, so
            a program that has threads had better not use it. Where the system has no "forkserver", "spawn" is used.
        initializer: called first in each process.
        initargs: its arguments.
        lost_after: seconds that a call may take, not counting the time it waits for a process. Then it has failed, and
            its pool is killed and replaced, as if a process had died. None is for ever.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: ``max_workers`` is below 1, ``start_method`` is unknown, or ``lost_after`` is negative or ``nan``.

    Example:
        >>> processes(2).workers
        2
    """
    workers = _workers(max_workers, processors())
    _arguments.choice(start_method, "start_method", _START_METHODS)
    if initializer is not None:
        _arguments.function(initializer, "initializer")
    make = functools.partial(_make_processes, workers, start_method, initializer, initargs)
    return Factory(
        make, workers, in_process=False, lost_after=_arguments.timeout(lost_after, "lost_after"), kill=_kill_processes
    )


def loky(
    max_workers: int | None = None,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    lost_after: float | timedelta | None = None,
) -> Factory:
    """Run calls in processes of their own, by loky, which sends lambdas and functions of the main module too.

    It needs the package loky: ``pip install threadkit[loky]``.

    Args:
        max_workers: how many; None is the number of processors.
        initializer: called first in each process.
        initargs: its arguments.
        lost_after: seconds that a call may take, not counting the time it waits for a process. Then it has failed, and
            its pool is killed and replaced, as if a process had died. None is for ever.

    Raises:
        ImportError: the package is not installed.
        TypeError: an argument is of the wrong kind.
        ValueError: ``max_workers`` is below 1, or ``lost_after`` is negative or ``nan``.

    Example:
        >>> loky(2).workers
        2
    """
    workers = _workers(max_workers, processors())
    if initializer is not None:
        _arguments.function(initializer, "initializer")
    seconds = _arguments.timeout(lost_after, "lost_after")
    _require("loky", "loky")
    make = functools.partial(_make_loky, workers, initializer, initargs)
    return Factory(make, workers, in_process=False, lost_after=seconds, kill=_kill_loky)


def dask(
    address: str | Callable[[], Any] | None = None,
    *,
    connect_timeout: float | timedelta = 10.0,
    lost_after: float | timedelta | None = None,
) -> Factory:
    """Run calls on many machines, by a Dask cluster.

    It needs the package distributed: ``pip install threadkit[dask]``. Dask calls once more what a worker did not finish
    before it died, so calls had better be such that this does no harm. A call that runs there is not interrupted when
    it is cancelled, though its future is.

    Args:
        address: the scheduler's, such as "tcp://10.0.0.1:8786"; or a function that returns a ``distributed.Client``,
            for what needs more than an address; or None, which starts processes on this machine. Their scheduler is
            a part of this program, so shut the executor down before the program ends.
        connect_timeout: seconds that connecting to the scheduler may take; those of a function are its own business.
        lost_after: seconds that a call may take, not counting the time it waits for one of the threads that the
            cluster's workers had when it was connected. Then it has failed, and the connection is replaced. None is for
            ever.

    Raises:
        ImportError: the package is not installed.
        TypeError: an argument is of the wrong kind.
        ValueError: ``connect_timeout`` or ``lost_after`` is negative or ``nan``.

    Example:
        >>> dask("tcp://10.0.0.1:8786", lost_after=3600).lost_after
        3600.0
    """
    if address is not None and not isinstance(address, str):
        _arguments.function(address, "address")
    timeout = _arguments.timeout(connect_timeout, "connect_timeout")
    seconds = _arguments.timeout(lost_after, "lost_after")
    _require("distributed", "dask")
    connect = address if callable(address) else functools.partial(_connect, address, timeout)
    make = functools.partial(DaskExecutor, connect, timeout)
    return Factory(make, 0, in_process=False, is_broken=_is_away, lost_after=seconds)


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{extra}() needs the package {package}: pip install threadkit[{extra}]", name=package)


def _make_loky(workers: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> Executor:
    module: Any = importlib.import_module("loky")  # it has no annotations
    executor: Executor = module.ProcessPoolExecutor(workers, initializer=initializer, initargs=initargs)
    return executor


def _connect(address: str | None, timeout: float | None) -> Any:
    module: Any = importlib.import_module("distributed")
    # Not the default client of this program, which is the user's to choose. A local cluster shows no page.
    local = {"host": "127.0.0.1", "dashboard_address": None} if address is None else {}
    client = module.Client.__new__(module.Client)
    if address is not None:
        # The client's own time-out does not count while it waits for a greeting, for which there is none at all: a
        # scheduler that is stopped, or whose machine is overloaded, takes connections and never says a word.
        client.start = functools.partial(client.start, callback_timeout=timeout)
    try:
        client.__init__(address, timeout=timeout, set_as_default=False, **local)
    except BaseException as error:
        leave(client)
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"no Dask scheduler answers at {address} within {timeout:g} s") from error
        raise
    return client


def _is_away(executor: Executor, _error: BaseException | None) -> bool:
    return isinstance(executor, DaskExecutor) and executor.is_broken()


def _make_processes(
    workers: int, start_method: StartMethod, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Executor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if start_method not in multiprocessing.get_all_start_methods():
        start_method = "spawn"  # Windows has nothing else
    context = multiprocessing.get_context(start_method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=initializer, initargs=initargs)


def _processes_of(executor: Executor) -> list[Any]:
    """Return the processes of a pool, for which the standard library's, before Python 3.14, and loky's have no way."""
    processes: dict[int, Any] | None = getattr(executor, "_processes", None)  # None after its shutdown
    return list((processes or {}).copy().values())  # copied in one step, for the pool's own thread changes it


def _kill_processes(executor: Executor) -> None:
    for process in _processes_of(executor):
        process.kill()


def _kill_loky(executor: Executor) -> None:
    module: Any = importlib.import_module("loky.backend.utils")
    for process in _processes_of(executor):
        module.kill_process_tree(process)


def _workers(max_workers: int | None, default: int) -> int:
    return default if max_workers is None else _arguments.count(max_workers, "max_workers")
