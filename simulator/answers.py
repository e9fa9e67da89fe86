"""Spoils REST answers and WebSocket upgrades on command, and writes every request down."""

from __future__ import annotations

import asyncio
import zlib
from email.utils import formatdate

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from simulator.connection import reset_on_close
from simulator.faults import ON_REQUESTS, Fault
from simulator.hub import Hub

WEB_PAGE = "<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center></body></html>"
PIECE = 4 * 1024 * 1024
ENDLESS_PIECE = 64 * 1024
ENDLESS_EVERY = 0.01
SLOW_EVERY = 0.5
JSON = "application/json"


def rest_faults(hub: Hub) -> Middleware:
    """The middleware that spoils REST answers and upgrades, and writes every request down."""

    @web.middleware
    async def spoil(request: web.Request, handler: Handler) -> web.StreamResponse:
        market = request.path.split("/")[1]
        if market == "sim":
            return await handler(request)
        target = str(request.rel_url)
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade and (refusal := hub.strikes.refused(market, target)) is not None:
            return _refuse(request, refusal)
        came = hub.clock.now()
        fault = _fault_for(hub, request, market, upgrade)
        response = await (handler(request) if fault is None else _spoiled(hub, fault, request, handler))
        if not upgrade or fault is not None:
            hub.log.line("http", market, request.method, target, response.status, came)
        return response

    return spoil


def _refuse(request: web.Request, fault: Fault) -> web.Response:
    if fault.form != "status" and request.transport is not None:
        reset_on_close(request.transport)
        request.transport.abort()
    return web.Response(status=fault.status)


def _fault_for(hub: Hub, request: web.Request, market: str, upgrade: bool) -> Fault | None:
    for fault in hub.faults:
        if fault.fault not in ON_REQUESTS or fault.market not in (None, market) or fault.count < 1:
            continue
        if fault.path == "ws" if upgrade else fault.path is None or (fault.path != "ws" and fault.path in request.path):
            return fault
    return None


async def _spoiled(hub: Hub, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    fault.count -= 1
    target = {"target": str(request.rel_url)}
    hub.log.line("fault", fault.id, fault.fault, fault.parameters(), "applied", target, hub.clock.now())
    match fault.fault:
        case "html_200":
            return web.Response(text=WEB_PAGE, content_type="text/html")
        case "http_status":
            return _status(fault, hub.clock.now())
        case "empty_body":
            return web.Response(body=b"", content_type=JSON)
        case "endless_body":
            return await _endless(request, fault.seconds)
        case "gzip_bomb":
            return await _bomb(request, fault.size)
    whole = await handler(request)
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b"{}"
    if fault.fault == "slow_body":
        return await _slow(request, body, fault.seconds)
    if fault.fault == "gzip_cut":
        return await _cut_short(request, zlib.compress(body, wbits=31), {"Content-Encoding": "gzip"})
    return await _cut_short(request, body, {}, told=len(body))


def _status(fault: Fault, now: int) -> web.Response:
    headers = {}
    if fault.retry_after is not None:
        at = formatdate(now // 1_000_000 + fault.retry_after, usegmt=True)
        headers["Retry-After"] = at if fault.retry_date else str(fault.retry_after)
    if fault.form == "html":
        return web.Response(text=WEB_PAGE, content_type="text/html", status=fault.status, headers=headers)
    if fault.form == "empty":
        return web.Response(body=b"", status=fault.status, headers=headers)
    body = {"code": -1003 if fault.status in (418, 429) else -1000, "msg": "An error occurred on command."}
    return web.Response(body=msgspec.json.encode(body), status=fault.status, headers=headers, content_type=JSON)


async def _begun(request: web.Request, headers: dict[str, str], length: int | None = None) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": JSON} | headers)
    if length is None:
        answer.enable_chunked_encoding()
    else:
        answer.content_length = length
    await answer.prepare(request)
    return answer


async def _cut_short(
    request: web.Request, body: bytes, headers: dict[str, str], told: int | None = None
) -> web.StreamResponse:
    """Half of the body; where the connection ends before `told` bytes, or the body's own end is missing."""
    half = body[: len(body) // 2]
    answer = await _begun(request, headers, len(half) if told is None else told)
    await answer.write(half)
    if told is not None and request.transport is not None:
        request.transport.close()
    return answer


async def _endless(request: web.Request, seconds: float) -> web.StreamResponse:
    answer = await _begun(request, {})
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        while loop.time() < end:
            await answer.write(b" " * ENDLESS_PIECE)
            await _pause(ENDLESS_EVERY)
    except ConnectionError:
        return answer
    return answer


async def _slow(request: web.Request, body: bytes, seconds: float) -> web.StreamResponse:
    answer = await _begun(request, {}, len(body))
    try:
        for n in range(min(len(body), int(seconds / SLOW_EVERY))):
            await answer.write(body[n : n + 1])
            await _pause(SLOW_EVERY)
    except ConnectionError:
        return answer
    if request.transport is not None:
        request.transport.close()
    return answer


async def _bomb(request: web.Request, size: int) -> web.StreamResponse:
    """`size` blanks, compressed a thousandfold: the same compressed piece again and again."""
    deflate = zlib.compressobj(9, wbits=31)
    first = deflate.compress(b" " * PIECE) + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(b" " * PIECE) + deflate.flush(zlib.Z_FULL_FLUSH)
    answer = await _begun(request, {"Content-Encoding": "gzip"})
    try:
        await answer.write(first)
        for _ in range(size // PIECE):
            await answer.write(piece)
    except ConnectionError:
        return answer
    return answer


async def _pause(seconds: float) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = asyncio.get_running_loop().call_later(seconds, waiting.set_result, None)
    try:
        await waiting
    finally:
        timer.cancel()
