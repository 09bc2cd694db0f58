"""A web front end of a queue, as a user writes it with FastAPI: it takes work in, and tells what became of it."""

from __future__ import annotations

import os
import threading
from typing import Any

from fastapi import FastAPI, HTTPException

from threadkit import Job, JobContext, Lifecycle, stores

NOTES = os.open(os.environ["NOTES"], os.O_WRONLY)

service = Lifecycle("service")
jobs = service.queue("jobs", workers=1, store=stores.SQLiteStore(os.environ["JOBS"]))
app = FastAPI(lifespan=service.lifespan)
gate = threading.Event()


@jobs.handler
def report(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """Work until the test says that it is enough."""
    ctx.set_progress(0.5, "half")
    os.write(NOTES, f"{os.getpid()} {payload['month']} begun\n".encode())
    assert gate.wait(20)
    return {"month": payload["month"], "by": ctx.headers["user"]}


def found(job_id: str) -> Job:
    """Return a job, or answer 404."""
    job = jobs.get(job_id)
    if job is None:
        raise HTTPException(404, "no such job")
    return job


@app.get("/submit/{month}")
async def submit(month: str) -> dict[str, Any]:
    """Take a job in; it is on the disk before this is answered, and the event loop goes on meanwhile."""
    job = await jobs.asubmit("report", {"month": month}, headers={"user": "ada"})
    return {"id": job.id, "state": job.state}


@app.get("/status/{job_id}")
def status(job_id: str) -> dict[str, Any]:
    """Tell where a job is."""
    job = found(job_id)
    return {
        "state": job.state,
        "position": jobs.position(job_id),
        "progress": job.progress,
        "says": job.progress.message,
    }


@app.get("/result/{job_id}")
async def result(job_id: str) -> Any:
    """Wait for the result, without a thread."""
    return await found(job_id)


@app.get("/open")
def open_gate() -> dict[str, Any]:
    """Let the jobs go on."""
    gate.set()
    return {}


@app.get("/stats")
def stats() -> dict[str, Any]:
    """Tell the figures."""
    return jobs.stats().as_dict()
