"""Every verb of both clients: what `Lake` says, over a real socket; and what changes a lake, at a daemon's parts."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest
import uvicorn

from api import tokens
from api.app import create
from api.config import ServeConfig
from api.state import Served
from client import AnswerBroken, AsyncDatalakeClient, ClientError, Conflict, DatalakeClient, NotFound, asking
from features import Put, put
from lake import Lake
from market.times import MINUTE, SECOND
from runtime.clock import SystemClock
from tests.api.test_changing import Daemon
from tests.client.test_client import Scripted, http, plain
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

OF = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT"}
NOW = T0 + 86_400 * SECOND


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight bars of a minute, and a set of features in two versions."""
    held = TestLake(tmp_path_factory.mktemp("verbs") / "lake")
    rows = [trade(T0 + n * 20 * SECOND, "100.5", "1", n) for n in range(24)]
    held.cover(T0, T0 + 8 * MINUTE)
    held.day("trade", rows)
    held.day("bar_1m", bar_table(rows))
    times = pa.array([T0 + n * MINUTE for n in range(8)], pa.timestamp("us", "UTC"))
    for version in ("1.0.0", "1.1.0"):
        table = pa.table({"time": times, "x": range(8), "y": [version] * 8})
        put(held.writer, table, Put(**OF, feature_set="own", version=version, computed_on=("bar_1m",)), NOW)
    held.close()
    return held.root


class Server:
    """A lake on a socket, for clients of both kinds."""

    def __init__(self, root: Path, *, sql: bool = False) -> None:
        self.served = Served(root, ServeConfig(sql=sql), SystemClock())
        self.address = ""

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(create(self.served), port=0, log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._server.config.setup_event_loop = lambda: None  # type: ignore[method-assign]
        self._task = asyncio.ensure_future(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task


@pytest.fixture(scope="module")
def known(lake: Path) -> Iterator[Lake]:
    with Lake(lake) as held:
        yield held


@pytest.fixture(scope="module")
def server(lake: Path) -> Iterator[str]:
    """Of all that only reads: it runs in a thread of its own."""
    there, begun, over = Server(lake), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with there:
            begun.set()
            await over.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert begun.wait(60)
    yield there.address
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


async def both(address: str, token: str | None, verb: str, *args: Any, **more: Any) -> list[Any]:
    """What each client says to the same."""

    def synced() -> Any:
        with DatalakeClient(address, token) as one:
            said = getattr(one, verb)(*args, **more)
            return list(said) if inspect.isgenerator(said) else said

    async with AsyncDatalakeClient(address, token) as other:
        asked = getattr(other, verb)(*args, **more)
        awaited = [one async for one in asked] if inspect.isasyncgen(asked) else await asked
    return [await asyncio.to_thread(synced), awaited]


def id_of(lake: Lake) -> str:
    return lake.features.get("own", "1.0.0").feature_id


BARS = {"symbol": "BTCUSDT", "start": T0, "end": T0 + 8 * MINUTE}
TABLES: list[tuple[str, tuple[Any, ...], dict[str, Any], Callable[[Lake], pa.Table]]] = [
    ("bars", ("4m",), {"offset": "-1m", **BARS}, lambda lake: lake.bars("4m", offset="-1m", **BARS)),
    ("bars", (dt.timedelta(minutes=3),), {"offset": MINUTE, "fill": "empty"},
     lambda lake: lake.bars("3m", offset="1m", fill="empty")),
    ("join", ("own",), BARS, lambda lake: lake.features.join("own", **BARS)),
    ("join", (["own@1.0.0"], "bar_2m"), {**BARS, "at": "close", "max_age": "1m", "columns": ["window_start", "close"]},
     lambda lake: lake.features.join(["own@1.0.0"], "bar_2m", **BARS, at="close", max_age=MINUTE,
                                     columns=["window_start", "close"])),
    ("join", ("own", "trade"), {**BARS, "max_age": dt.timedelta(seconds=30)},
     lambda lake: lake.features.join("own", "trade", **BARS, max_age=30 * SECOND)),
]  # fmt: skip


@pytest.mark.parametrize("verb, args, more, wanted", TABLES, ids=lambda value: str(value)[:12])
async def test_rows_are_those_of_the_lake(
    server: str, known: Lake, verb: str, args: Any, more: Any, wanted: Callable[[Lake], pa.Table]
) -> None:
    table = wanted(known)
    assert table.num_rows > 1
    for said in await both(server, None, verb, *args, **more):
        assert said.to_pylist() == table.to_pylist()
        assert said.schema == table.schema


async def test_batches_are_the_rows_of_the_lake_and_others_can_be_asked_meanwhile(server: str, known: Lake) -> None:
    wanted = known.read("trade", symbol="BTCUSDT").to_pylist()
    for batches in await both(server, None, "batches", "trade", symbol="BTCUSDT"):
        assert [row for batch in batches for row in batch.to_pylist()] == wanted
    async with AsyncDatalakeClient(server) as other:
        async for _ in other.batches("trade"):
            assert (await other.status())["writer"] is None
            break


MAPPINGS: list[tuple[str, Callable[[Lake], tuple[Any, ...]], dict[str, Any], Callable[[Lake], Any]]] = [
    ("files", lambda _: (), {"kind": "trade"}, lambda lake: lake.files(kind="trade")),
    ("completeness", lambda _: ("trade",), {"symbol": "BTCUSDT"}, lambda lake: lake.completeness("trade")),
    ("features", lambda _: (), {"feature_set": "own", "version": "latest"}, lambda _: 1),
    ("feature_sets", lambda _: (), {"symbol": "btcusdt"}, lambda _: [
        {"name": "own", "exchange": "binance", "symbol": "BTCUSDT", "market": "linear",
         "versions": ["1.0.0", "1.1.0"], "latest": "1.1.0"}]),
    ("feature_lineage", lambda lake: (id_of(lake),), {},
     lambda lake: lake.features.lineage(lake.features.get("own", "1.0.0"))),
    ("preview", lambda _: ("binance:linear:trade:BTCUSDT",), {"limit": 3}, lambda _: 24),
    ("live_status", lambda _: (), {}, lambda _: {"running": False, "status": None}),
    ("symbols", lambda _: ("binance", "linear"), {}, lambda _: ["BTCUSDT"]),
    ("markets", lambda _: ("binance",), {}, lambda _: ["spot", "linear", "inverse"]),
]  # fmt: skip
SHORT: dict[str, Callable[[Any], Any]] = {
    "features": len, "preview": lambda said: said["total_rows"], "symbols": lambda said: [one["symbol"] for one in
    said["symbols"]], "markets": lambda said: [one["market"] for one in said],
}  # fmt: skip


@pytest.mark.parametrize("verb, args, more, wanted", MAPPINGS, ids=lambda value: str(value)[:12])
async def test_what_is_held_is_told_alike(
    server: str, known: Lake, verb: str, args: Any, more: Any, wanted: Callable[[Lake], Any]
) -> None:
    for said in await both(server, None, verb, *args(known), **more):
        assert SHORT.get(verb, lambda one: one)(said) == plain(wanted(known))


async def test_exchanges_are_those_with_an_adapter_and_those_of_ccxt(server: str) -> None:
    for said in await both(server, None, "exchanges"):
        assert {"binance", "ccxt:bitget"} <= {one["id"] for one in said}


def test_both_clients_have_the_same_verbs() -> None:
    sync, aio = ({name for name in vars(one) if name[0] != "_"} for one in (DatalakeClient, AsyncDatalakeClient))
    assert sync == aio
    for name in sync:
        one, other = (inspect.signature(getattr(kind, name)) for kind in (DatalakeClient, AsyncDatalakeClient))
        assert list(one.parameters.values()) == list(other.parameters.values()), name


# --- what changes a lake ---


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[tuple[str, str, Daemon]]:
    """Address, token, and the parts of a daemon that take changes."""
    daemon = Daemon(tmp_path / "lake")
    await daemon.start()
    token = tokens.make(daemon.writer.root, "admin", "admin", 0)
    async with Server(daemon.writer.root) as server:
        yield server.address, token, daemon
    await daemon.end()
    daemon.writer.close()


CSV = "time,alpha\n2026-11-20T00:00:00Z,1.5\n2026-11-20T00:01:00Z,nan\n"
SET = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "feature_set": "mine"}


async def test_a_set_is_put_in_rolled_back_and_deleted(changing: Any, tmp_path: Path) -> None:
    address, token, _ = changing
    file = tmp_path / 'my "set".csv'
    file.write_text(CSV)
    with pytest.raises(ClientError, match="alpha has 1 values that are none"):
        await both(address, token, "put_feature", file, **SET)
    one, again = await both(address, token, "put_feature", file, **SET, missing="null", delay=dt.timedelta(minutes=1))
    assert (one["changed"], again["changed"]) == (False, True), "the second is asked first"
    file.write_text(CSV.replace("nan", "7"))
    (newer, _) = await both(address, token, "put_feature", file, **SET, version="1.0.1", delay="1m", sort=True)
    (held,) = (await both(address, token, "feature_sets"))[0]
    assert (held["versions"], held["latest"]) == (["1.0.0", "1.0.1"], "1.0.1")
    await both(address, token, "rollback_feature", one["id"])
    assert (await both(address, token, "feature_sets"))[0][0]["latest"] == "1.0.0"
    table = (await both(address, token, "feature", newer["id"]))[0].to_pylist()
    assert [row["alpha"] for row in table] == [1.5, 7.0]
    assert table[0]["known_at"] - table[0]["ts_event"] == dt.timedelta(minutes=1)
    async with AsyncDatalakeClient(address, token) as other:
        await other.delete_feature(newer["id"])
        with pytest.raises(NotFound):
            await other.feature_lineage(newer["id"])


async def test_a_file_is_rehearsed(changing: Any, tmp_path: Path) -> None:
    address, token, _ = changing
    file = tmp_path / "trades.csv"
    file.write_text("a,b,c,d,e\n1570752000,1.5,2,buy,1\n1570752001,1.5,2,sell,2\n")
    names = {"a": "time", "b": "price", "c": "qty", "d": "side", "e": "id"}
    fields = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "kind": "trade"}
    for said in await both(address, token, "import_file", file, **fields, columns=names, dry_run=True):
        assert (said["dry_run"], said["result"]["rows"]) == (True, 2)
    with pytest.raises(ClientError, match="cannot be read"):
        await both(address, token, "import_file", tmp_path / "none.csv", **fields)


async def test_a_job_is_watched_to_its_end(changing: Any) -> None:
    address, token, daemon = changing
    daemon.fake.go.set()
    async with AsyncDatalakeClient(address, token) as client:
        job = (await client.download("binance", "BTCUSDT", start_date="2026-11-01"))["task_id"]
    for said in await both(address, token, "watch", job):
        assert [name for name, _ in said][-1] == "done"


async def test_a_deletion_is_shown_before_it_is_confirmed(lake: Path) -> None:
    token = tokens.make(lake, "deletes", "admin", 0)
    async with Server(lake) as server:
        for said in await both(server.address, token, "delete", "binance:linear:trade:BTCUSDT"):
            assert (said["error"], said["deleted_files"], len(said["confirm"])) == ("ConfirmFirst", 1, 64)
        with pytest.raises(Conflict, match="no daemon"):
            await both(server.address, token, "delete", "binance:linear:trade:BTCUSDT", confirm=said["confirm"])
    tokens.revoke(lake, "deletes")


TAIL = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: nothing new\n\n"
    b'event: trade\r\ndata: {"exchange":"binance","event":{"seq":7}}\r\n\r\n'
    b'event: skipped\ndata: {"skipped":\ndata: 9}\n\nevent: cut\ndata: {"x'
)


async def test_the_tail_is_told_event_by_event() -> None:
    script = Scripted(TAIL)
    async with script as there:
        for said in await both(there, "t0ken", "tail", exchange="binance", symbol=["A", "B"]):
            assert said == [{"exchange": "binance", "event": {"seq": 7}}, {"skipped": 9}]
    assert b"GET /api/v1/live/tail?exchange=binance&symbol=A&symbol=B " in script.asked[0]
    refused = Scripted(http("429 Too Many Requests", b'{"detail": "many listen", "error": "Busy"}'))
    async with refused as there:
        with pytest.raises(ClientError, match="many listen"):
            await both(there, None, "tail")


async def test_batches_that_break_off_say_so() -> None:
    for body in (b"no arrow at all", b"\xff\xff\xff\xff\x10\x00\x00\x00"):
        script = Scripted(http("200 OK", body))
        async with script as there:
            async with AsyncDatalakeClient(there) as other:
                with pytest.raises(AnswerBroken):
                    async for _ in other.batches("trade"):
                        pass
            with DatalakeClient(there) as one, pytest.raises(AnswerBroken):
                await asyncio.to_thread(lambda one=one: list(one.batches("trade")))


def test_what_breaks_a_line_is_no_event_of_its_own() -> None:
    lines = [b"event: a\n", b'data: {"x"\n', b"data: :1}\n", b"\n", b"\n", b"id: 7\n", b"data: 2\n", b"\n"]
    assert list(asking.events(lines)) == [("a", {"x": 1}), ("", 2)]
    with pytest.raises(AnswerBroken):
        list(asking.events([b"data: {\n", b"\n"]))
