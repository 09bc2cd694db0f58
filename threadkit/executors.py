"""Where a ``BoundedExecutor``'s calls may run: ``BoundedExecutor(inner=executors.processes(4))``.

Each function here returns a factory: a callable that makes a ``concurrent.futures.Executor``, now and again whenever
that one breaks. Any callable that does so will do as ``inner``; these also say how many calls run at once, and whether
they run in this process, which is what contexts need.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal

import attrs

from threadkit import _arguments
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

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: ``max_workers`` is below 1, or ``start_method`` is unknown.

    Example:
        >>> processes(2).workers
        2
    """
    workers = _workers(max_workers, processors())
    _arguments.choice(start_method, "start_method", _START_METHODS)
    if initializer is not None:
        _arguments.function(initializer, "initializer")
    make = functools.partial(_make_processes, workers, start_method, initializer, initargs)
    return Factory(make, workers, in_process=False)


def _make_processes(
    workers: int, start_method: StartMethod, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Executor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if start_method not in multiprocessing.get_all_start_methods():
        start_method = "spawn"  # Windows has nothing else
    context = multiprocessing.get_context(start_method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=initializer, initargs=initargs)


def _workers(max_workers: int | None, default: int) -> int:
    return default if max_workers is None else _arguments.count(max_workers, "max_workers")
