"""A lake's history on the routes of tardis-machine, over real sockets on loopback and under a clock of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import urllib.parse

import aiohttp
import pytest
from typer.testing import CliRunner

from cli.app import app
from daemon import replay_server, replay_serving
from daemon.errors import NotServed
from daemon.replay_server import Limits
from lake import Lake, exporting
from market.times import MS, SECOND
from tests.support.clock import ManualClock
from tests.support.crash import quick_folder
from tests.support.feeding import Feed, finished
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

FROM, TO = "2024-07-19", "2024-07-20"
TRADE = {"e": "trade", "s": "BTCUSDT", "p": "1.5", "q": "2", "X": "MARKET", "m": False, "st": 1}
QUOTE = {"e": "bookTicker", "s": "ETHUSDT", "ps": "ETHUSDT", "b": "1.4", "B": "3", "a": "1.6", "A": "4", "st": 1}


def frame(stream, said, n, number):
    ms = (T0 + n * SECOND) // MS
    return json.dumps({"stream": stream, "data": said | {"E": ms, "T": ms, number: n + 1}}, separators=(",", ":"))


def trade_of(n):
    return frame("btcusdt@trade", TRADE, n, "t")


def quote_of(n):
    return frame("ethusdt@bookTicker", QUOTE, n, "u")


@pytest.fixture(scope="module")
def root():
    """Ten trades and ten quotes, a second apart, and an answer that is no data."""
    with quick_folder() as folder:
        feed = Feed(folder / "lake", T0)
        feed.receive(['{"result":null,"id":1}'], T0 + 1)
        for n in range(10):
            feed.receive([trade_of(n), quote_of(n)], T0 + n * SECOND + 5 * MS)
        finished(feed)
        yield folder / "lake"


@contextlib.asynccontextmanager
async def served(root, clock=None, token=None, **limits):
    """The address of a server."""
    found: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    with Lake(root) as lake:
        task = asyncio.ensure_future(
            replay_serving.serve(
                lake, clock or ManualClock(), Limits(**limits), "127.0.0.1", 0, token, found.set_result, stop
            )
        )
        try:
            async with aiohttp.ClientSession() as client:
                yield client, (await found)[0]
        finally:
            stop.set()
            await task


def asked(route, options, **more):
    query = {"options": json.dumps(options)} if options is not None else {}
    return f"{route}?{urllib.parse.urlencode(query | more)}"


RAW = {"exchange": "binance-futures", "from": FROM, "to": TO}
NORMAL = {**RAW, "symbols": ["BTCUSDT"], "dataTypes": ["trade"]}


async def body(client, address, route, options, status=200, **more):
    async with client.get(address + asked(route, options, **more)) as answer:
        assert answer.status == status, await answer.text()
        return [json.loads(line) if line else None for line in (await answer.text()).split("\n")[:-1]]


async def test_frames_come_as_they_were_received_by_channel_and_symbol(root):
    async with served(root) as (client, address):
        lines = await body(
            client, address, "/replay", {**RAW, "filters": [{"channel": "trade", "symbols": ["btcusdt"]}]}
        )
        assert [line["message"] for line in lines] == [json.loads(trade_of(n)) for n in range(10)]
        assert lines[1]["localTimestamp"] == "2024-07-19T00:00:01.0050000Z"
        every = await body(client, address, "/replay", RAW)
        assert len(every) == 20, "what is no data is left out"
        later = await body(client, address, "/replay", {**RAW, "from": "2024-07-19T00:00:08Z", "withDisconnects": True})
        assert (len(later), later[-1]) == (5, None)
        assert await body(client, address, "/replay", {**RAW, "from": "2024-07-19 12:00"}) == [], "the end of the data"
        assert (
            await body(client, address, "/replay", {**RAW, "filters": [{"channel": "trade", "symbols": ["x"]}]}) == []
        )


async def test_messages_of_all_types_are_merged_by_arrival(root):
    async with served(root) as (client, address):
        both = [{**NORMAL, "symbols": None}, {**RAW, "symbols": ["ethusdt"], "dataTypes": ["book_ticker"]}]
        lines = await body(client, address, "/replay-normalized", both)
        assert [line["type"] for line in lines[:4]] == ["trade", "book_ticker"] * 2
        assert lines[0] == {
            "type": "trade", "symbol": "BTCUSDT", "exchange": "binance-futures", "id": "1", "price": 1.5, "amount": 2,
            "side": "buy", "timestamp": "2024-07-19T00:00:00.000Z", "localTimestamp": "2024-07-19T00:00:00.005Z",
        }  # fmt: skip
        assert len(lines) == 20
        cut = {**NORMAL, "from": "2024-07-19T00:00:03.005Z", "to": "2024-07-19T00:00:05.005Z"}
        assert [line["id"] for line in await body(client, address, "/replay-normalized", cut)] == ["4", "5"]


@pytest.mark.parametrize(
    "route, options, said",
    [
        ("/replay", None, "the query has no options"),
        ("/replay", {**RAW, "from": "sdf"}, "sdf"),
        ("/replay", {**RAW, "to": "2024-07-18"}, "is not before"),
        ("/replay", {**RAW, "to": "2034-07-18"}, "one request may ask for 400"),
        ("/replay", {**RAW, "exchange": "deribit"}, "nothing of an exchange 'deribit'; it has"),
        ("/replay", {**RAW, "filters": [{"channel": "trade"}] * 201}, "at most 200 filters"),
        ("/replay", {**RAW, "filters": [{"channel": "x" * 200}]}, "channel or symbol"),
        ("/replay-normalized", [], "0 options"),
        ("/replay-normalized", {**NORMAL, "dataTypes": ["trade_bar_1s"]}, "read bars with dl read"),
        ("/replay-normalized", {**NORMAL, "dataTypes": ["book_snapshot_9999_1s"]}, "is not served"),
        ("/replay-normalized", {**NORMAL, "symbols": ["A"] * 501}, "at most 500 symbols"),
        ("/replay-normalized", {**NORMAL, "exchange": 7}, "Expected `str`"),
        ("/ws-replay-normalized", {**NORMAL, "dataTypes": []}, "1 to 20 dataTypes"),
    ],
)
async def test_what_is_not_possible_is_one_sentence(root, route, options, said):
    async with served(root) as (client, address):
        (answer,) = await body(client, address, route, options, status=400)
        assert said in answer["error"]
        assert "Traceback" not in answer["error"]


async def test_speed_is_kept_by_the_clock_and_without_one_nothing_waits(root):
    clock = ManualClock()
    async with served(root, clock) as (client, address):
        socket = await client.ws_connect(address + asked("/ws-replay-normalized", NORMAL, speed="2"))
        assert json.loads((await socket.receive()).data)["id"] == "1"
        for n in range(2, 11):
            await _until(lambda: clock.sleeping)
            await clock.advance(0.49)
            assert clock.sleeping, "not due yet"
            await clock.advance(0.01)
            assert json.loads((await socket.receive()).data)["id"] == str(n)
        end = await socket.receive()
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 1000, "WS replay finished")
        await socket.close()
        for speed in ("-1", "nan", "x", "1e9"):
            (answer,) = await body(client, address, "/replay-normalized", NORMAL, status=400, speed=speed)
            assert "speed is a number" in answer["error"]


async def _until(reached):
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.001)


async def health_of(client, address):
    async with client.get(address + "/health-check") as answer:
        return await answer.json()


async def _all(socket):
    return [message.data async for message in socket]


async def test_sockets_of_a_venue_are_subscribed_to_in_its_own_way_and_may_share_an_order(root, monkeypatch):
    clock, members = ManualClock(), []

    class Subscriber(replay_server._Subscriber):
        def __init__(self, *given):
            super().__init__(*given)
            members.append(self)

    monkeypatch.setattr(replay_server, "_Subscriber", Subscriber)
    query = {"exchange": "binance-futures", "from": FROM, "to": TO, "session": "one"}
    async with served(root, clock) as (client, address):
        url = address + asked("/ws-replay", None, **query)
        first, second = await client.ws_connect(url), await client.ws_connect(url)
        await first.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
        await first.send_str("no JSON at all")
        await second.send_json({"method": "SUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 1})
        await _until(lambda: clock.sleeping and len(members) == 2 and all(one.wanted for one in members))
        await clock.advance(replay_server.GATHER_SECONDS)
        assert await _all(first) == [trade_of(n) for n in range(10)]
        assert await _all(second) == [quote_of(n) for n in range(10)]
        assert (first.close_code, second.close_code) == (1000, 1000)


async def test_who_subscribes_to_nothing_is_told_so(root):
    clock = ManualClock()
    query = {"exchange": "binance-futures", "from": FROM, "to": TO}
    async with served(root, clock) as (client, address):
        socket = await client.ws_connect(address + asked("/ws-replay", None, **query))
        await _until(lambda: clock.sleeping)
        await clock.advance(replay_server.GATHER_SECONDS)
        end = await socket.receive()
        assert (end.data, "no subscription came within 2 s" in end.extra) == (1011, True)
        await socket.close()
        (answer,) = await body(client, address, "/ws-replay", None, status=400, **(query | {"exchange": "x"}))
        assert "nothing of an exchange" in answer["error"]


async def test_a_slow_reader_holds_up_the_reading_and_a_gone_one_ends_it(root, monkeypatch):
    read = []

    def endless(lake, options):
        for n in range(10**9):
            read.append(n)
            yield T0 + n, b'{"n":"' + b"x" * 100_000 + b'"}'

    monkeypatch.setattr(replay_server.replay_sources, "messages", endless)
    async with served(root, connections=1) as (client, address):
        socket = await client.ws_connect(address + asked("/ws-replay-normalized", NORMAL))
        before = -1
        async with asyncio.timeout(60):
            while before != len(read) or not read:
                before = len(read)
                await asyncio.sleep(0.02)
        assert len(read) < 500, "it does not read on: socket buffers, and a batch"
        (answer,) = await body(client, address, "/replay", RAW, status=503)
        assert "1 replays are under way" in answer["error"]
        await socket.close()
        assert (await health_of(client, address))["possible"] == 1
        async with asyncio.timeout(60):
            while (await health_of(client, address))["replays"]:
                await asyncio.sleep(0.005)


async def test_an_answer_that_waits_for_its_time_ends_when_its_reader_goes(root):
    clock = ManualClock()
    async with served(root, clock, connections=1) as (client, address):
        answer = await client.get(address + asked("/replay-normalized", NORMAL, speed="1"))
        assert json.loads(await answer.content.readline())["id"] == "1"
        await _until(lambda: clock.sleeping)
        answer.close()
        await _until(lambda: not clock.sleeping)
        assert len(await body(client, address, "/replay-normalized", NORMAL)) == 10


async def test_web_pages_and_other_machines_are_refused(root, tmp_path):
    async with served(root) as (client, address):
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with client.get(address + asked("/replay", RAW), headers=headers) as answer:
                assert answer.status == 403
                assert "Server" not in answer.headers
        async with client.get(address + "/nothing") as answer:
            assert (answer.status, await answer.json()) == (404, {"error": "Not Found"})
    held = tmp_path / "token"
    held.write_text("t" * 40 + "\n")
    held.chmod(0o600)
    token = replay_serving.token_of("0.0.0.0", held)
    async with served(root, token=token) as (client, address):
        for given in ("", "Bearer wrong"):
            async with client.get(address + asked("/replay", RAW), headers={"Authorization": given}) as answer:
                assert answer.status == 401
        known = {"Authorization": f"Bearer {token}"}
        async with client.get(address + asked("/replay", RAW), headers=known) as answer:
            assert answer.status == 200
        async with client.get(address + asked("/replay", RAW), headers=known | {"Origin": "http://x"}) as answer:
            assert answer.status == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_an_address_that_others_reach_wants_a_token(host, tmp_path):
    with pytest.raises(NotServed, match="name a file with a token"):
        replay_serving.token_of(host, None)
    held = tmp_path / "token"
    held.write_text("short")
    held.chmod(0o600)
    with pytest.raises(NotServed, match="holds no token"):
        replay_serving.token_of(host, held)
    held.write_text("t" * 40)
    held.chmod(0o644)
    with pytest.raises(NotServed, match="chmod 600"):
        replay_serving.token_of(host, held)


def test_loopback_wants_none():
    assert [replay_serving.token_of(host, None) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [
        None
    ] * 4


def test_ctrl_c_is_how_it_ends(root):
    told = []

    def ready(addresses):
        told.extend(addresses)
        signal.raise_signal(signal.SIGINT)

    with Lake(root) as lake:
        replay_serving.run(lake, ManualClock(), Limits(), "127.0.0.1", 0, None, ready)
    assert told[0].startswith("http://127.0.0.1:")


def test_the_command_wants_files_or_a_lake_to_serve(root):
    def ask(*arguments):
        done = CliRunner().invoke(app, ["replay", *map(str, arguments), "--lake", str(root)], env={"COLUMNS": "200"})
        return done.exit_code, done.stderr

    assert ask()[0] == 2
    assert "files, --exchange and --market-type are needed" in ask()[1]
    assert "--serve takes no files" in ask("--serve", "--exchange", "binance")[1]
    code, said = ask("--serve", "--host", "0.0.0.0")
    assert (code, "name a file with a token" in said) == (2, True)
    assert "there is no file" in ask("--serve", "--token-file", root / "none")[1]


async def test_aggregated_trades_stand_in_for_trades_that_are_not_collected(tmp_path):
    lake = TestLake(tmp_path)
    lake.part("agg_trade", [trade(T0, "1", "1", 1), trade(T0 + 1, "1", "1", 2, symbol="ETHUSDT")])
    lake.part("trade", [trade(T0, "1", "1", 7)])
    lake.close()
    async with served(tmp_path) as (client, address):
        lines = await body(client, address, "/replay-normalized", {**NORMAL, "symbols": []})
        assert [(line["symbol"], line["id"]) for line in lines] == [("BTCUSDT", "7"), ("ETHUSDT", "2")]
    with Lake(tmp_path) as held:
        tasks = exporting.plan(held, "tardis-csv", ["trades"], None, None, [], None, lambda *_: "b")
        assert [(task.stream.kind, task.stream.symbol) for task in tasks] == [
            ("trade", "BTCUSDT"),
            ("agg_trade", "ETHUSDT"),
        ]
