"""A ``gunicorn.conf.py``: a lifecycle is started and stopped in each worker, whoever has imported it."""

from __future__ import annotations

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Start, in the worker."""
    import service  # only now: gunicorn reads this file before it forks

    service.of_the_host.update(service.handlers())
    service.service.start()


def worker_exit(server: Any, worker: Any) -> None:
    """Stop, in the worker."""
    import service

    report = service.service.shutdown()
    service.note("stopped well" if report.ok else f"did not stop well: {report}")
    service.note("signals kept" if service.handlers() == service.of_the_host else "signals taken")
