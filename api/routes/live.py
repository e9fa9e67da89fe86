"""What happens now: the daemon and its streams, and the events as they come (SSE, WebSocket)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, WebSocket
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from api import models
from api.answers import json_answer
from api.errors import Refused, in_the_lake
from api.questions import MAX_SYMBOLS, Exchange, Kind, TheMarket, lower
from api.reading import Streamed
from api.state import Served, State
from api.tailing import EVERY_SECONDS, Batch, Tail, Wish

router = APIRouter(tags=["live"])
EVENT_STREAM = "text/event-stream"
QUIET_STEPS = 60
"""Steps without an event after which the tail says that it goes on."""
EXAMPLE = (
    'event: trade\ndata: {"exchange":"binance","market_type":"spot","kind":"trade",'
    '"event":{"symbol":"BTCUSDT","price":"64134.89"}}\n\n'
)
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"example": EXAMPLE}}}}
Symbols = Annotated[
    list[str] | None, Query(max_length=MAX_SYMBOLS, description="Only these symbols, as the venue spells them.")
]


@router.get("/status", response_model=models.Status, summary="The lake in numbers, and who writes it")
async def status(served: State) -> Response:
    """Files, gaps and segments of one snapshot; `writer` is the process that writes the lake, null where none does.

    Where another user's process writes it that is not known: `writer_unknown` says why.
    """

    def read() -> dict[str, Any]:
        with served.lake.manifest.snapshot() as now:
            return {**msgspec.to_builtins(now.meta()), **msgspec.to_builtins(now.stats())}

    holder, unknown = await served.control.seen()
    writer = None if holder is None else {"pid": holder.pid, "takes_jobs": bool(holder.port)}
    why = in_the_lake(unknown, served.root) if unknown else None
    return json_answer({"writer": writer, "writer_unknown": why, **await served.reading.ask(read)})


@router.get("/live/status", response_model=models.LiveStatus, summary="The daemon's services and streams")
async def live(served: State) -> Response:
    """What the running daemon says of itself: services, streams with watermark and lag; `running` is false without."""
    holder = await served.control.holder()
    if holder is None or not holder.port:
        return json_answer({"running": False, "status": None})
    return json_answer({"running": True, "status": await served.control.ask("status", {})})


def _wish(market_type: TheMarket, exchange: Exchange = None, kind: Kind = None, symbol: Symbols = None) -> Wish:
    """Which events are to be told."""
    return Wish(lower(exchange), market_type, lower(kind), tuple(symbol or ()))


Wished = Annotated[Wish, Depends(_wish)]


@router.get("/live/tail", response_class=StreamingResponse, responses=EVENTS, summary="Events as they come (SSE)")
async def tail(served: State, wish: Wished) -> Response:
    """Server-sent events without an end, each named by its kind: `{"exchange", "market_type", "kind", "event": line}`.

    `event: skipped` says how many bytes came faster than they are passed on; a comment every 15 s that it goes on.
    """
    release = served.listening()

    async def events() -> AsyncIterator[bytes]:
        holder = await served.control.holder()
        collects = holder is not None and holder.port
        yield b": listening\n\n" if collects else b": nothing comes until a daemon collects into this lake\n\n"
        async for batch in _batches(served, wish):
            yield _sse(batch)

    return Streamed(events(), release, EVENT_STREAM)


@router.websocket("/live/tail")
async def socket(websocket: WebSocket, served: State, wish: Wished) -> None:
    """The same events as text messages."""
    try:
        release = served.listening()
    except Refused as refused:
        await websocket.close(1013, str(refused)[:120])
        return
    await websocket.accept()
    loop = asyncio.get_running_loop()
    telling, leaving = loop.create_task(_tell(websocket, served, wish)), loop.create_task(_left(websocket))
    try:
        await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await telling
    except WebSocketDisconnect:
        pass  # nobody listens any more
    finally:
        telling.cancel()
        leaving.cancel()
        await asyncio.gather(telling, leaving, return_exceptions=True)
        release()


async def _tell(websocket: WebSocket, served: Served, wish: Wish) -> None:
    async for batch in _batches(served, wish):
        for _, said in _told(batch):
            await websocket.send_text(said.decode())
        if batch.skipped:
            await websocket.send_text(msgspec.json.encode({"skipped": batch.skipped}).decode())


async def _left(websocket: WebSocket) -> None:
    """Until nobody listens any more, or the server ends: where nothing comes, nothing that is sent would tell."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _batches(served: Served, wish: Wish) -> AsyncIterator[Batch]:
    """Batches with something in them, and an empty one after a while of silence, until the server is told to stop."""
    tail, quiet = Tail(served.root, served.lake.manifest, wish), 0
    try:
        while not served.ending:
            batch = await served.reading.ask(tail.step)
            quiet += 1
            if batch.lines or batch.skipped or quiet == QUIET_STEPS:
                quiet = 0
                yield batch
            await served.clock.sleep(EVERY_SECONDS)
    finally:
        tail.close()


def _told(batch: Batch) -> Iterator[tuple[str, bytes]]:
    """The kind of each event, and what is said of it."""
    for exchange, market_type, kind, line in batch.lines:
        head = msgspec.json.encode({"exchange": exchange, "market_type": market_type, "kind": kind})[:-1]
        yield kind, head + b',"event":' + line + b"}"


def _sse(batch: Batch) -> bytes:
    if not batch.lines and not batch.skipped:
        return b": nothing new\n\n"
    said = [f"event: {kind}\ndata: ".encode() + line + b"\n\n" for kind, line in _told(batch)]
    if batch.skipped:
        said.append(b'event: skipped\ndata: {"skipped":%d}\n\n' % batch.skipped)
    return b"".join(said)
