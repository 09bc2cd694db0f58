"""Jobs that are written down here and done by a cluster: what is submitted survives this process and the cluster's."""

import tempfile
from pathlib import Path

from threadkit import BoundedExecutor, Retry, WorkQueue, backoff, executors, stores

ENGINE = executors.dask()  # a small cluster that is started here; executors.dask("tcp://10.0.0.1:8786") is yours


def primes_below(limit: int) -> int:
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


def main(path: Path) -> None:
    with WorkQueue(workers=0, store=stores.SQLiteStore(path)) as front:
        front.declare("primes_below")
        front.submit_many("primes_below", [1_000, 2_000, 3_000])

    again = Retry(max_attempts=5, backoff=backoff.exponential(1, cap=60))  # where the cluster loses a call
    with (
        BoundedExecutor(inner=ENGINE) as executor,
        WorkQueue(workers=8, store=stores.SQLiteStore(path), executor=executor, retry=again) as queue,
    ):
        queue.handler(primes_below)
        queue.drain()
        for job in queue.jobs("completed"):
            print(job.result())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "jobs.db")
