"""What happens now: who writes the lake, what the daemon says, events as they come; and which venues there are."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import tailing
from api.app import create
from api.config import ServeConfig
from api.routes import live
from api.serving import server_of
from api.state import MOST_LISTENERS, Served
from api.tailing import MOST_BYTES, Tail, Wish
from daemon.control import ControlService
from lake import lock
from lake.errors import StorageFailed
from lake.layout import LOCK
from lake.lock import read_lock
from lake.rows import SegmentRow
from lake.writer import LakeWriter
from tests.support.asgi import Asgi, alive
from tests.support.clock import ManualClock
from tests.support.market_rows import T0

PATH = "raw/exchange=binance/market_type=spot/data_type=trade/date=2024-07-19/000000-node-000001.jsonl"


def line(symbol: str, n: int) -> bytes:
    return json.dumps({"symbol": symbol, "seq": n}).encode() + b"\n"


class Writing:
    """A segment under a test's hand, and the daemon's control port over the same lake."""

    def __init__(self, root: Path) -> None:
        self.writer = LakeWriter.open(root, "node", T0)
        self.file = root / (PATH + ".open")
        self.file.parent.mkdir(parents=True)

    def say(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(data)

    def record(self, state: str = "open") -> None:
        self.writer.manifest.upsert_segments([
            SegmentRow(path=PATH, exchange="binance", market_type="spot", kind="trade", state=state, period_start=T0,
                       period_end=None if state == "open" else T0 + 1)
        ])  # fmt: skip


@pytest.fixture
def writing(tmp_path: Path) -> Any:
    held = Writing(tmp_path / "lake")
    yield held
    held.writer.close()


@pytest.fixture
def tails(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes tails that look at each step, and closes them."""
    monkeypatch.setattr(tailing, "LOOK_EVERY", 1)
    made: list[Tail] = []

    def make(**wish: Any) -> Tail:
        made.append(Tail(writing.writer.root, writing.writer.manifest, Wish(**wish)))
        return made[-1]

    yield make
    for tail in made:
        tail.close()


@pytest.fixture
async def here(writing: Writing) -> AsyncIterator[tuple[Asgi, Served]]:
    held = Served(writing.writer.root, ServeConfig(), ManualClock(T0))
    app = create(held)
    async with alive(app):
        yield Asgi(app), held
    held.close()


def lines(tail: Tail) -> list[bytes]:
    return [line + b"\n" for _, _, _, line in tail.step().lines]


def test_a_tail_begins_where_the_segment_ends_and_follows_it_to_its_seal(writing: Writing, tails: Any) -> None:
    writing.record()
    writing.say(line("OLD", 1) + b'{"symbol":"TO')
    tail = tails()
    assert lines(tail) == []
    writing.say(b'RN"}\n' + line("BTC", 2) + b'{"symbol"')
    assert lines(tail) == [line("BTC", 2)], "the rest of a line whose beginning was not read is no line"
    writing.say(b':"ETH"}\n')
    assert lines(tail) == [b'{"symbol":"ETH"}\n']
    writing.say(line("BTC", 3))
    writing.file.rename(writing.writer.root / PATH)
    writing.record("sealed")
    assert lines(tail) == [line("BTC", 3)], "the end is read under its new name"
    assert tail._held == {}


def test_a_segment_that_is_opened_later_is_read_from_its_beginning(writing: Writing, tails: Any) -> None:
    tail = tails(symbols=("BTC",))
    assert lines(tail) == []
    writing.record()
    writing.say(line("BTC", 1) + line("ETH", 2) + b"garbage\n" + line("BTC", 3))
    assert lines(tail) == [line("BTC", 1), line("BTC", 3)]
    other = tails(kind="quote")
    assert other.step().lines == []
    assert other._held == {}


def test_what_comes_too_fast_is_passed_over_and_counted(writing: Writing, tails: Any) -> None:
    tail = tails()
    tail.step()
    writing.record()
    many = line("BTC", 1) * (3 * MOST_BYTES // len(line("BTC", 1)))
    writing.say(many)
    batches = [tail.step() for _ in range(2)]
    read = sum(len(one) + 1 for batch in batches for _, _, _, one in batch.lines)
    skipped = sum(batch.skipped for batch in batches)
    assert MOST_BYTES - 100 < read <= MOST_BYTES
    assert len(many) - read - skipped < 100, "all but the line that was cut"
    writing.say(line("ETH", 2))
    assert lines(tail) == [line("ETH", 2)]


async def test_events_are_told_as_server_sent_ones(
    here: Any, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, served = here
    monkeypatch.setattr(live, "EVERY_SECONDS", 0)
    writing.record()
    writing.say(b"")
    batches = live._batches(served, Wish(exchange="binance"))
    waiting = asyncio.ensure_future(anext(batches))
    while True:
        await asyncio.sleep(0.001)
        if waiting.done():
            break
        writing.say(line("BTC", 7))
        await served.clock.advance(1)
    said = live._sse(await waiting)
    wanted = b'{"exchange":"binance","market_type":"spot","kind":"trade","event":{"symbol": "BTC", "seq": 7}}'
    assert b"event: trade\ndata: " + wanted + b"\n\n" in said
    await batches.aclose()
    assert live._sse(live.Batch([], 0)).startswith(b":")
    assert b'event: skipped\ndata: {"skipped":9}\n' in live._sse(live.Batch([], 9))


async def test_the_tail_says_at_once_whether_anything_can_come(here: Any) -> None:
    _, served = here
    answer = await live.tail(served, Wish())
    assert await anext(answer.body_iterator) == b": nothing comes until a daemon collects into this lake\n\n"
    await answer.body_iterator.aclose()


async def test_a_tail_ends_when_the_server_is_told_to_stop(here: Any) -> None:
    _, served = here
    answer = await live.tail(served, Wish())
    await anext(answer.body_iterator)
    server_of(served).handle_exit(signal.SIGTERM, None)
    assert [piece async for piece in answer.body_iterator] == []


async def test_a_websocket_that_leaves_while_nothing_comes_is_no_listener_any_more(here: Any) -> None:
    _, served = here
    said: list[str] = []
    hears = iter(("websocket.connect", "websocket.receive", "websocket.disconnect"))

    async def receive() -> dict[str, Any]:
        return {"type": next(hears), "bytes": b"x"}

    async def send(message: Any) -> None:
        said.append(message["type"])

    scope = {"type": "websocket", "path": "/api/v1/live/tail", "raw_path": b"/api/v1/live/tail", "query_string": b"",
             "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8572),
             "scheme": "ws", "subprotocols": [], "root_path": "", "http_version": "1.1"}  # fmt: skip
    await asyncio.wait_for(create(served)(scope, receive, send), 30)
    assert said == ["websocket.accept"]
    held = [served.listening() for _ in range(MOST_LISTENERS)]
    assert len(held) == MOST_LISTENERS, "its place is free"


async def test_so_many_listeners_and_no_more(here: Any) -> None:
    api, served = here
    held = [served.listening() for _ in range(MOST_LISTENERS)]
    assert (await api.get("/api/v1/live/tail")).status == 429
    held.pop()()
    served.listening()


async def test_status_says_who_writes_and_what_the_daemon_says(here: Any, writing: Writing) -> None:
    api, _ = here
    said = (await api.get("/api/v1/status")).json()
    assert (said["writer"]["takes_jobs"], said["gaps"], said["simulated"]) == (False, {}, False)
    assert (await api.get("/api/v1/live/status")).json() == {"running": False, "status": None}

    async def status(_arguments: Any, _progress: Any) -> object:
        return {"ready": True}

    stop = asyncio.Event()
    service = ControlService({"status": status}, writing.writer.set_control, ManualClock(T0))
    task = asyncio.ensure_future(service.run(stop))
    while not (info := read_lock(writing.writer.root)) or not info.port:
        await asyncio.sleep(0.002)
    assert (await api.get("/api/v1/live/status")).json() == {"running": True, "status": {"ready": True}}
    stop.set()
    await task


async def test_venues_their_markets_and_symbols(api: Asgi) -> None:
    held = {one["id"] for one in (await api.get("/api/v1/ingest/exchanges")).json()["exchanges"]}
    assert {"binance", "okx", "ccxt:bitget"} <= held
    markets = (await api.get("/api/v1/ingest/exchanges/Binance/markets")).json()
    assert {one["market"] for one in markets["markets"]} >= {"spot", "linear", "inverse"}
    (spot,) = (one for one in markets["markets"] if one["market"] == "spot")
    assert "trade" in spot["kinds"]
    assert "kline" in spot["history"]
    symbols = (await api.get("/api/v1/ingest/exchanges/binance/symbols", market="linear")).json()
    assert [one["symbol"] for one in symbols["symbols"]] == ["BTC/USD", "BTCUSDT"]
    assert (await api.get("/api/v1/ingest/exchanges/nobody/markets")).status == 404
    assert (await api.get("/api/v1/ingest/exchanges/binance/symbols", market="moon")).status == 404


async def test_status_goes_on_where_nobody_may_know_who_writes(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api, _ = here

    def denied(root: Path) -> None:
        error = StorageFailed(f"{root / LOCK} belongs to another user", "run as the user of the lake")
        error.errno = errno.EACCES
        raise error

    monkeypatch.setattr(lock, "read_lock", denied)
    said = (await api.get("/api/v1/status")).json()
    assert (said["writer"], said["gaps"]) == (None, {})
    assert said["writer_unknown"] == ".lock belongs to another user (run as the user of the lake)"
