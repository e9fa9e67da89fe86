"""Reference data: what instruments are, fetched once at start through a session that only asks."""

from __future__ import annotations

import asyncio
from collections import deque

from collectors.connection import Tools
from collectors.http import HttpFailed
from collectors.pipeline import Link, Pipeline, Task
from market.session import Endpoint, Exchange, Fetch, Session
from market.times import SECOND
from runtime import telemetry
from runtime.clock import pause

LONGEST_WAIT_SECONDS = 60.0


async def fetch_reference(
    exchange: Exchange, endpoint: Endpoint, symbols: list[str], pipeline: Pipeline, tools: Tools, stop: asyncio.Event
) -> None:
    """Ask until the session is content or `stop` is set; its patience with failures is its own."""
    clock = tools.clock
    session = exchange.reference(pipeline.market_type, tools.next_session(), symbols, endpoint)
    link, tasks = pipeline.open(
        session, name="reference", source="rest", url=endpoint.rest, now=clock.now(), symbols=symbols
    )
    todo: deque[Task] = deque(tasks)
    cause = "stopped"
    try:
        while not stop.is_set():
            while todo and not stop.is_set():
                todo.extend(await _carry_out(todo.popleft(), link, pipeline, tools))
            deadline = session.next_deadline()
            if deadline is None:
                cause = "done"
                break
            wait = min(max((deadline - clock.now()) / SECOND, 0.05), LONGEST_WAIT_SECONDS)
            if link.rejected:
                _say_failed(pipeline, session, wait)
            await pause(clock, stop, wait)
            todo.extend(pipeline.tick(link, clock.now()))
    finally:
        pipeline.close(link, cause, clock.now(), wanted=False)
    if cause == "done":
        telemetry.reference_loaded(
            exchange=pipeline.exchange, market_type=pipeline.market_type, contracts=link.row.events
        )


async def _carry_out(task: Task, link: Link, pipeline: Pipeline, tools: Tools) -> list[Task]:
    if not isinstance(task, Fetch):
        return []
    await tools.spend(task.weight)
    try:
        answer = await tools.http.fetch(task.method, task.url)
    except HttpFailed as error:
        return list(pipeline.respond(link, task, 0, {"error": str(error)}, b"", tools.clock.now()))
    return list(pipeline.respond(link, task, answer.status, answer.headers, answer.body, tools.clock.now()))


def _say_failed(pipeline: Pipeline, session: Session, wait: float) -> None:
    telemetry.reference_failed(
        exchange=pipeline.exchange, market_type=pipeline.market_type,
        reason=f"no instruments yet after {session.frame_no} answers", retry_seconds=wait,
    )  # fmt: skip
