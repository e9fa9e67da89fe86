"""The client: the same rows as `Lake` and REST over a real socket, typed errors, questions asked again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pytest
import uvicorn

from api import tokens
from api.app import create
from api.config import ServeConfig
from api.state import Served
from client import (
    AnswerBroken,
    AsyncDatalakeClient,
    ClientError,
    Conflict,
    DatalakeClient,
    Denied,
    NotFound,
    ServerBusy,
    Unreachable,
    WrongQuestion,
    asking,
)
from client.wire import PIECE
from market import times
from runtime.clock import SystemClock
from tests.api.conftest import lake
from tests.support.market_rows import T0

__all__ = ["lake"]
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("trade", {"symbol": "BTCUSDT"}),
    ("trade", {"symbol": ["BTC/USD"], "start": T0 + 7, "end": "2024-07-19T00:00:30Z", "columns": ["seq", "price"]}),
    ("bar_1m", {"exchange": "binance", "market_type": "linear", "fill": "previous", "start": times.to_datetime(T0),
                "end": times.date_of(T0 + 2 * times.DAY), "symbol": "BTCUSDT", "min_state": "final"}),
]  # fmt: skip


@pytest.fixture
async def address(lake: Path) -> AsyncIterator[str]:
    """A server on a real socket."""
    held = Served(lake, ServeConfig(), SystemClock())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create(held), log_config=None, access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        server.config.setup_event_loop = lambda: None  # type: ignore[method-assign]
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


def plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


async def test_no_symbol_at_all_is_not_every_symbol(address: str, lake: Path) -> None:
    held = Served(lake, ServeConfig(), SystemClock()).lake
    async with AsyncDatalakeClient(address) as client:
        for none in ([], ()):
            table = await client.read("trade", symbol=none)
            assert (table.num_rows, table.schema.names) == (0, held.read("trade", symbol=none).schema.names)
            assert (await client.coverage(symbol=none), held.coverage(symbol=none)) == ([], [])
            assert (await client.gaps(symbol=none, state="all"), await client.datasets(symbol=none)) == ([], [])


async def test_one_question_gives_the_same_rows_from_lake_rest_and_both_clients(address: str, lake: Path) -> None:
    def synced() -> list[pa.Table]:
        with DatalakeClient(address) as one:
            return [one.read(kind, **question) for kind, question in QUESTIONS] + [one.bars("2m", symbol="BTCUSDT")]

    held = Served(lake, ServeConfig(), SystemClock())
    wanted = [held.lake.read(kind, **question) for kind, question in QUESTIONS]
    wanted.append(held.lake.bars("2m", symbol="BTCUSDT"))
    async with AsyncDatalakeClient(address) as other:
        awaited = [await other.read(kind, **question) for kind, question in QUESTIONS]
        awaited.append(await other.bars("2m", symbol="BTCUSDT"))
    for one, two, three in zip(wanted, await asyncio.to_thread(synced), awaited, strict=True):
        assert one.num_rows > 0, one.schema.names
        assert one.to_pylist() == two.to_pylist() == three.to_pylist()
        assert one.schema == two.schema == three.schema
        assert one.schema.metadata == two.schema.metadata, "and how complete they are"
    held.close()


async def test_what_is_held_and_known_is_the_same(address: str, lake: Path) -> None:
    def synced() -> list[Any]:
        with DatalakeClient(address) as one:
            return [
                one.gaps(), one.coverage(kind="trade", symbol="BTCUSDT"), one.versions("trade", symbol="BTCUSDT"),
                one.lineage("trade", date=T0, symbol="BTCUSDT"), one.status()["writer"],
                [entry["id"] for entry in one.datasets(kind="trade", symbol="btcusdt")], one.jobs(), one.features(),
                pa.Table.from_batches(list(one.batches("trade", symbol="BTC/USD"))).num_rows,
            ]  # fmt: skip

    held = Served(lake, ServeConfig(), SystemClock())
    wanted = [
        held.lake.gaps(), plain(held.lake.coverage(kind="trade", symbol="BTCUSDT")),
        plain(held.lake.versions("trade", symbol="BTCUSDT")),
        plain(held.lake.lineage("trade", date=T0, symbol="BTCUSDT")), None,
        ["binance:linear:trade:BTCUSDT"], [], [], 60,
    ]  # fmt: skip
    held.close()
    assert await asyncio.to_thread(synced) == wanted
    async with AsyncDatalakeClient(address) as other:
        awaited = await asyncio.gather(
            other.gaps(), other.coverage(kind="trade", symbol="BTCUSDT"), other.versions("trade", symbol="BTCUSDT"),
            other.lineage("trade", date=T0, symbol="BTCUSDT"),
        )  # fmt: skip
    assert awaited == wanted[:4]


async def test_errors_have_the_types_of_what_went_wrong(address: str, lake: Path) -> None:
    token = tokens.make(lake, "client", "read", 0)
    async with AsyncDatalakeClient(address, token) as reader, AsyncDatalakeClient(address, "guess") as guesser:
        for kind, wanted, ask in (
            (WrongQuestion, "UnknownKind", reader.read("trades")),
            (WrongQuestion, "WrongQuestion", reader.read("trade", columns=["prize"])),
            (NotFound, "BookUnknown", reader.book("BTCUSDT", at="2024-07-19T01:00:00Z")),
            (NotFound, "NotHeld", reader.certificate("trade", date="2024-07-18", symbol="BTCUSDT")),
            (Denied, "ReadOnly", reader.download("binance", "BTCUSDT")),
            (Denied, "NoToken", guesser.status()),
        ):
            with pytest.raises(kind) as said:
                await ask
            assert said.value.word == wanted
            assert said.value.status >= 400
    tokens.revoke(lake, "client")
    admin = tokens.make(lake, "client", "admin", 0)
    with DatalakeClient(address, admin) as client, pytest.raises(Conflict, match="no daemon writes this lake"):
        await asyncio.to_thread(client.download, "binance", ["BTCUSDT"])
    tokens.revoke(lake, "client")


class Scripted:
    """A server that answers as a test says, one connection after the other, and counts the questions."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answers[min(len(self.asked), len(self.answers)) - 1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def http(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


BUSY = http("429 Too Many Requests", b'{"detail": "busy", "error": "Busy"}', "Retry-After: 7")
OK = http("200 OK", b'{"version": 3}')
CUT = http("200 OK", b'{"version"', length=500)
PAGE = http("502 Bad Gateway", b"<html>no</html>")


def a_page(*ids: str, total: int, **more: int) -> bytes:
    rows = [{"id": one, **more} for one in ids]
    return http("200 OK", msgspec.json.encode({"datasets": rows, "total": total}))


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "pages",
    [
        [a_page("a", "b", total=4), a_page("b", "c", total=4, rows=9), a_page("c", "d", total=4)],
        [
            a_page("a", "c", total=4),
            a_page("b", "c", total=4),
            a_page("a", "b", total=4),
            a_page("b", "c", "d", total=4),
        ],
        [a_page("a", "b", total=5), a_page("c", "d", total=4), a_page("a", "b", "c", "d", total=4)],
    ],
    ids=["as it was", "one came", "one went"],
)
async def test_no_row_of_a_list_comes_twice_or_is_missing_where_rows_come_and_go(kind: str, pages: list[bytes]) -> None:
    script = Scripted(*pages)
    async with script as there:
        if kind == "sync":
            with DatalakeClient(there, sleep=lambda _: None) as client:
                found = await asyncio.to_thread(client.datasets)
        else:
            async with AsyncDatalakeClient(there) as other:
                found = await other.datasets()
    assert [one["id"] for one in found] == ["a", "b", "c", "d"]
    assert len(script.asked) == len(pages)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("first", [BUSY, CUT, PAGE, b""], ids=["busy", "cut", "a proxy's page", "closed"])
async def test_a_question_is_asked_again_where_that_helps(kind: str, first: bytes) -> None:
    waited: list[float] = []
    script = Scripted(first, first, OK)
    async with script as there:
        assert (await status(kind, there, waited))["version"] == 3
    assert len(script.asked) == 3
    assert len(waited) in (1, 2), "aiohttp itself asks once more where a connection was closed"
    assert waited[0] == 7 if first is BUSY else 0.25 <= waited[0] < 0.5


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_and_not_for_ever(kind: str) -> None:
    waited: list[float] = []
    for answer, error in ((BUSY, ServerBusy), (CUT, AnswerBroken)):
        script = Scripted(answer)
        async with script as there:
            with pytest.raises(error):
                await status(kind, there, waited)
        assert len(script.asked) == asking.ATTEMPTS
    script = Scripted(http("404 Not Found", b'{"detail": "no", "error": "NotFound"}'))
    async with script as there:
        with pytest.raises(NotFound, match="no"):
            await status(kind, there, waited)
    assert len(script.asked) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_changes_something_is_asked_once_unless_it_was_refused(kind: str) -> None:
    for answer, times_asked in ((CUT, 1), (b"", 1), (BUSY, asking.ATTEMPTS)):
        script = Scripted(answer)
        async with script as there:
            with pytest.raises(ClientError):
                await status(kind, there, [], change=True)
        assert len(script.asked) == times_asked


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_lists_of_more_than_a_page_are_whole(kind: str) -> None:
    """Jobs come in the order in which they were asked for: those of the last page are the newest."""
    many = asking.SHORT + 200

    def a_part(name: str, rows: list[Any]) -> list[bytes]:
        parts = (rows[: asking.SHORT], rows[asking.SHORT - 1 :])
        return [http("200 OK", msgspec.json.encode({name: part, "total": many})) for part in parts]

    features = [{"id": f"{n:016x}", "version": "1.0.0"} for n in range(many)]
    jobs = [{"job": {"job": f"backfill-{n}", "state": "done"}, "progress": {"done": 1}} for n in range(many)]
    script = Scripted(*a_part("features", features), *a_part("jobs", jobs))
    async with script as there:
        if kind == "sync":
            with DatalakeClient(there) as client:
                found = [await asyncio.to_thread(one) for one in (client.features, client.jobs)]
        else:
            async with AsyncDatalakeClient(there) as other:
                found = [await other.features(), await other.jobs()]
    assert found == [features, jobs]
    assert [said.split()[1].decode() for said in script.asked] == [
        f"/api/v1/{name}?limit=1000&offset={offset}" for name in ("features", "jobs") for offset in (0, 999)
    ]


async def test_a_connection_that_the_server_ended_meanwhile_is_made_again() -> None:
    """What changes something is asked once: on a connection that is gone nobody would hear it."""
    asked: list[bytes] = []
    kept = OK.replace(b"Connection: close\r\n", b"")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            for _ in range(2 if not asked else 1):
                asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b" ")[0])
                writer.write(kept)
                await writer.drain()
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        with DatalakeClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            assert await asyncio.to_thread(client.status) == await asyncio.to_thread(client.status) == {"version": 3}
            await gone.wait()
            assert await asyncio.to_thread(client.start, "backfill", {}) == {"version": 3}
    assert asked == [b"GET", b"GET", b"POST"], "the first two on one connection"


async def status(kind: str, there: str, waited: list[float], *, change: bool = False) -> Any:
    if kind == "sync":

        def ask() -> Any:
            with DatalakeClient(there, "t0ken", sleep=waited.append) as client:
                return client.start("backfill", {}) if change else client.status()

        return await asyncio.to_thread(ask)

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with AsyncDatalakeClient(there, "t0ken", sleep=sleep) as other:
        return await other.start("backfill", {}) if change else await other.status()


async def test_nobody_there_is_said_with_the_address() -> None:
    with DatalakeClient("http://127.0.0.1:9", sleep=lambda _: None) as client, pytest.raises(Unreachable, match=":9"):
        await asyncio.to_thread(client.status)


async def test_progress_counts_the_bytes(address: str) -> None:
    seen: list[int] = []
    async with AsyncDatalakeClient(address, progress=seen.append) as client:
        await client.read("trade")
    assert seen
    assert seen == sorted(seen)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_redirect_is_not_followed_to_somebody_else(kind: str) -> None:
    other = Scripted(OK)
    async with other as elsewhere:
        script = Scripted(http("307 Temporary Redirect", b"", f"Location: {elsewhere}/api/v1/status"))
        async with script as there:
            with pytest.raises(AnswerBroken, match="status 307"):
                await status(kind, there, [])
    assert (len(script.asked), other.asked) == (asking.ATTEMPTS, [])


async def test_what_is_left_of_an_answer_is_not_the_next_ones() -> None:
    """It stalls in the middle, or who watches its progress gives up: the rest may still come on that connection."""
    asked: list[bytes] = []
    kept = OK.replace(b"Connection: close\r\n", b"")
    half = http("200 OK", b" " * PIECE, length=2 * PIECE).replace(b"Connection: close\r\n", b"")
    answers = [half, half, kept, kept]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b" ")[0])
                writer.write(answers[len(asked) - 1])
                await writer.drain()
        writer.close()

    stops = {1: TimeoutError("no byte for a minute"), 2: KeyboardInterrupt()}

    def stopped(_: int) -> None:
        if stop := stops.get(len(asked)):
            raise stop

    def ask(address: str) -> tuple[Any, Any]:
        with DatalakeClient(address, sleep=lambda _: None, progress=stopped) as client:
            with pytest.raises(KeyboardInterrupt):
                client.status()
            return client.start("backfill", {}), client.status()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        found = await asyncio.to_thread(ask, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert found == ({"version": 3}, {"version": 3})
    methods = [one.rpartition(b"}")[2] for one in asked]
    assert methods == [b"GET", b"GET", b"POST", b"GET"], "the first again, and what changes something once"


@pytest.mark.parametrize(
    "said, own, waited",
    [(None, 0.3, 0.3), ("7", 0.3, 7), ("1", 4.0, 4.0), ("86400", 0.3, 30), ("soon", 0.3, 0.3), ("-5", 0.3, 0.3)],
)
def test_a_server_is_given_the_time_that_it_asks_for_within_reason(said: str | None, own: float, waited: float) -> None:
    assert asking.wait_of(said, own) == waited


@pytest.mark.parametrize(
    "address, base",
    [
        ("http://lake.example", "http://lake.example:80"), ("https://lake.example/", "https://lake.example:443"),
        ("https://lake.example:8572", "https://lake.example:8572"), ("http://[::1]:8572", "http://[::1]:8572"),
    ],
)  # fmt: skip
def test_an_address_without_a_port_has_that_of_its_scheme(address: str, base: str) -> None:
    assert asking.server(address).base == base


async def test_the_token_is_in_no_address() -> None:
    script = Scripted(OK)
    async with script as there:
        await status("sync", there, [])
    first, _, rest = script.asked[0].partition(b"\r\n")
    assert b"t0ken" not in first
    assert b"Authorization: Bearer t0ken" in rest


@pytest.mark.parametrize(
    "address",
    ["ftp://x", "127.0.0.1:8572", "http://", "http://x/path", "http://u:p@x", "http://x:99999", "", "http://x?q"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ClientError, match="no address"):
        DatalakeClient(address)
