"""Jobs: what was asked for of venues' pasts, how far it is, and asking for more. The daemon carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from api import models
from api.answers import json_answer, page
from api.errors import Refused, not_found, wrong
from api.models import BulkDownload, Download, NewJob, model_of
from api.reading import Streamed
from api.routes.live import EVENT_STREAM
from api.rows import time_of
from api.state import Served, State
from lake.jobs import OVER, Action, AttemptRow, ChunkRow, JobRow, JobState, JobStatus
from market.times import DAY

router = APIRouter(tags=["jobs"])
Id = Annotated[str, Path(max_length=100, description="As the list of jobs says it.")]
ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"description": "It is a job of the daemon."}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": 'event: progress\ndata: {"done": 3, "total": 10}\n\n'}}}
}
FULL = 1_500_000_000_000_000
"""2017-07-14: before this no venue that is known here has a past to ask for."""
DAYS = 30
"""Of a download, where no beginning is said."""
KINDS = {"raw": ("kline",), "funding": ("funding_rate",), "both": ("kline", "funding_rate")}
"""What another lake's words of a download mean."""


@router.get("/jobs", response_model=models.page_of("jobs", JobStatus), summary="All jobs")
async def listed(
    served: State,
    state: Annotated[JobState | None, Query(description="Only those in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows of a page.")] = 100,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Where the page begins.")] = 0,
) -> Response:
    """Jobs in the order in which they were asked for, the newest last, each with how far it is."""
    held = await served.reading.ask(lambda: served.lake.manifest.job_statuses(state))
    return json_answer(page(held, limit, offset, "jobs"))


@router.post("/jobs", response_model=models.Started, status_code=202, responses=ACCEPTED, summary="Start a job")
async def start(served: State, asked: NewJob) -> Response:
    """Ask the daemon for a work (`backfill`); `job` is null where nothing is left to do, and `planned` says why."""
    return json_answer(await _start(served, asked.work, asked.arguments), 202)


@router.get("/jobs/{job}", response_model=models.JobDetail, summary="One job, its parts and attempts")
async def one(served: State, job: Id) -> Response:
    """A job, how far it is, its chunks, and each attempt at them."""

    def read() -> dict[str, Any] | None:
        with served.lake.manifest.snapshot() as now:
            found = now.job_status(job)
            if found is None:
                return None
            chunks: list[ChunkRow] = now.job_chunks(job)
            attempts: list[AttemptRow] = now.job_attempts(job)
            return {"job": found.job, "progress": found.progress, "chunks": chunks, "attempts": attempts}

    held = await served.reading.ask(read)
    if held is None:
        raise not_found(f"there is no job {job!r}")
    return json_answer(held)


@router.post("/jobs/{job}/{action}", response_model=model_of(JobRow), summary="Pause, resume or cancel a job")
async def move(
    served: State, job: Id, action: Annotated[Literal["pause", "resume", "cancel"], Path(description="What to do.")]
) -> Response:
    """The job as it is then. What a cancelled one brought in stays."""
    await _known(served, job)
    word: Action = action
    return json_answer(await served.control.ask(f"job_{word}", {"job": job}))


@router.get("/jobs/{job}/events", response_class=StreamingResponse, responses=EVENTS, summary="Watch a job (SSE)")
async def events(served: State, job: Id) -> Response:
    """Server-sent events: `progress` as often as the daemon says it, then `done` or `failed`, which is the end."""
    row = await _known(served, job)
    if row.state in OVER:
        return StreamingResponse(_once(row), media_type=EVENT_STREAM)
    release = served.listening()

    async def told() -> AsyncIterator[bytes]:
        try:
            async for said in served.control.follow("job_follow", {"job": job}):
                name = "progress" if "progress" in said else "done"
                yield _event(name, said.get("progress") or said.get("result"))
        except Refused as refused:
            yield _event("failed", {"detail": str(refused), "error": refused.name})

    return Streamed(told(), release, EVENT_STREAM)


# --- by another lake's names ---


@router.get("/ingest/status", response_model=models.Tasks, summary="Downloads that are under way")
async def tasks(served: State) -> Response:
    """Jobs that are not over, as `{task_id, status, message}`."""
    held = await served.reading.ask(lambda: served.lake.manifest.job_statuses(("queued", "running", "paused")))
    shown = [
        {"task_id": one.job.job, "status": one.job.state, "message": one.job.what, "progress": one.progress}
        for one in held
    ]
    return json_answer({"tasks": shown})


@router.post("/ingest/download", response_model=models.Task, status_code=202, responses=ACCEPTED, summary="Download")
async def download(served: State, asked: Download) -> Response:
    """One symbol's past from any venue: candles, funding, or the `kinds` that are named. A job of the daemon."""
    return await _download(served, asked, (asked.symbol,))


@router.post(
    "/ingest/bulk-download", response_model=models.Task, status_code=202, responses=ACCEPTED, summary="Download many"
)
async def bulk(served: State, asked: BulkDownload) -> Response:
    """The same of many symbols of one venue, in one job."""
    return await _download(served, asked, tuple(asked.symbols))


async def _download(served: Served, asked: Download | BulkDownload, symbols: Sequence[str]) -> Response:
    now = served.clock.now()
    first, last = time_of(asked.start_date), time_of(asked.end_date)
    end = now if last is None else last
    if asked.full_history and first is not None:
        raise wrong("start_date and full_history are two beginnings: give one of them")
    start = FULL if asked.full_history else first if first is not None else end - DAYS * DAY
    if start >= min(end, now):
        raise wrong("the period ends before it begins")
    wanted = {
        "exchange": asked.exchange.strip().lower(), "market_type": asked.market.strip().lower(),
        "kinds": list(asked.kinds) or list(KINDS[asked.data_type]), "symbols": list(symbols), "start": start,
        "end": min(end, now), **({"deleted": True} if asked.deleted else {}),
    }  # fmt: skip
    said = await _start(served, "backfill", wanted)
    job = said["job"]
    message = _nothing(said["planned"]) if job is None else job["what"]
    task = {"task_id": None if job is None else job["job"], "status": "done" if job is None else job["state"]}
    return json_answer({**task, "message": message}, 202)


def _nothing(planned: Mapping[str, Any]) -> str:
    if planned.get("deleted"):
        return "nothing to ask for: some of it was deleted from this lake, and deleted=true asks for that again"
    return "nothing to ask for: what the venue gives of it is held already"


async def _start(served: Served, work: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"work": work, "arguments": dict(arguments), "asked_by": "REST API"}
    said: dict[str, Any] = await served.control.ask("job_start", asked)
    return said


async def _known(served: Served, job: str) -> JobRow:
    """Raises Refused."""
    row = await served.reading.ask(lambda: served.lake.manifest.job(job))
    if row is None:
        raise not_found(f"there is no job {job!r}")
    return row


async def _once(row: JobRow) -> AsyncIterator[bytes]:
    yield _event("failed" if row.state == "failed" else "done", {"job": row, "detail": row.error})


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"
