"""What the process says of jobs that were asked for.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import say


def job_begun(*, job: str, what: str) -> None:
    """A job that was queued is worked on."""
    say("INFO", "job_begun", f"job {job} begins: {what}", job=job)


def job_ended(*, job: str, state: str, why: str | None) -> None:
    """A job is over, or was interrupted; `why` is what kept it from bringing in all."""
    metrics.JOBS_ENDED.labels(state).inc()
    level = "WARNING" if why else "INFO"
    say(level, "job_ended", f"job {job} is {state}" + (f": {why}" if why else ""), job=job, state=state)
