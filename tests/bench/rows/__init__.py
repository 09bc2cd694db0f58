"""All rows, in the order in which they are measured and shown."""

from row import Row
from rows.bus import BUS, BUS_ALONE
from rows.executor import EXECUTOR, MAP, ROUND_TRIP
from rows.imports import IMPORT
from rows.intervals import INTERVALS, MANY, TICKS
from rows.jobs import QUEUE
from rows.jobs_on_disk import ON_DISK
from rows.memory import MEMORY
from rows.scaling import SCALING_PROCESSES, SCALING_THREADS
from rows.stop import STOP
from rows.threads import THREADS

ROWS: tuple[Row, ...] = (
    EXECUTOR,
    ROUND_TRIP,
    MAP,
    SCALING_THREADS,
    SCALING_PROCESSES,
    QUEUE,
    ON_DISK,
    INTERVALS,
    TICKS,
    MANY,
    THREADS,
    BUS,
    BUS_ALONE,
    STOP,
    IMPORT,
    MEMORY,
)
