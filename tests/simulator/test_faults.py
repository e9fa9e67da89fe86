"""Faults on command: each does what it says to whom it says, and is in the log."""

import asyncio
import json

import aiohttp
import pytest

from simulator.connection import TEXT
from simulator.faults import parse_schedule
from simulator.garbage import GARBAGE

TRADES = "/spot/stream?streams=btcusdt@trade/ethusdt@trade"


async def ids(ws, count, symbol="BTCUSDT"):
    """The next `count` trade ids of a symbol."""
    found = []
    while len(found) < count:
        data = (await ws.receive_json())["data"]
        if data["s"] == symbol:
            found.append(data["t"])
    return found


async def until_over(sim, *sockets):
    """Of each socket the trade ids of BTCUSDT until every fault is over and what came before that has arrived."""
    while sim.hub.faults:  # to read the log again and again would take longer than it grows
        await asyncio.sleep(0.01)
    last = max(sim.truth().of("trade", "spot", "BTCUSDT"))
    found = []
    for ws in sockets:
        got = await ids(ws, 10)
        while min(got[-5:]) <= last:
            got += await ids(ws, 5)
        found.append(got)
    return found


async def test_a_cut_resets_the_connections_in_scope(simulate):
    async with simulate() as sim, sim.connect(TRADES) as one, sim.connect(TRADES) as two:
        await ids(one, 1)
        await sim.fault(fault="cut", connection=1)
        while (await one.receive()).type == aiohttp.WSMsgType.TEXT:
            pass
        assert one.close_code in (1006, None)
        await ids(two, 5)
        while 1 in sim.hub.connections:
            await ids(two, 1)
        truth = sim.truth()
        assert truth.links[1].cause == "cut"
        assert truth.links[2].closed == 0
        assert [(f.name, f.phase) for f in truth.faults] == [("cut", "begin"), ("cut", "applied")]


async def test_a_cut_can_be_a_close_with_a_code(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        await ids(ws, 1)
        await sim.fault(fault="cut", code=1012)
        while (await ws.receive()).type == aiohttp.WSMsgType.TEXT:
            pass
        assert ws.close_code == 1012


async def test_spot_announces_its_shutdown_and_linear_just_goes(simulate):
    async with simulate() as sim, sim.connect(TRADES) as spot, sim.connect("/linear/ws/btcusdt@trade") as linear:
        await linear.receive()
        await sim.fault(fault="shutdown", seconds=0.1)

        async def heard(ws):
            return [json.loads(m.data) async for m in ws]

        said, other = await asyncio.gather(heard(spot), heard(linear))  # who is not read is cut off as too slow
        assert [m["data"]["e"] for m in said if m["stream"] == "!serverShutdown"] == ["serverShutdown"]
        assert {m["e"] for m in other} <= {"trade"}
        assert (spot.close_code, linear.close_code) == (1001, 1001)


async def test_dropped_ids_reach_nobody_and_are_written_down(simulate):
    async with simulate() as sim, sim.connect(TRADES) as one, sim.connect(TRADES) as two:
        first = await ids(one, 3)
        await sim.fault(fault="drop_ids", market="spot", symbol="BTCUSDT", kind="trade", count=3)
        got, also = await until_over(sim, one, two)
        got = first + got
        missing = set(range(got[0], got[-1])) - set(got)
        assert len(missing) == 3
        assert not missing & set(also)
        truth = sim.truth()
        dropped = {i: e for i, e in truth.of("trade", "spot", "BTCUSDT").items() if e.dropped}
        assert dropped.keys() == missing
        assert all(e.dropped == {1: "drop_ids", 2: "drop_ids"} and e.sent == () for e in dropped.values())
        assert {f.detail["id"] for f in truth.faults if f.phase == "applied"} == missing
        assert truth.faults[-1].phase == "end"


async def test_ids_dropped_on_one_connection_reach_the_other(simulate):
    async with simulate() as sim, sim.connect(TRADES) as one, sim.connect(TRADES) as two:
        first = await ids(one, 3)
        await ids(two, 3)
        await sim.fault(fault="drop_ids", connection=1, symbol="BTCUSDT", kind="trade", count=2)
        got, also = await until_over(sim, one, two)
        got = first + got
        missing = set(range(got[0], got[-1])) - set(got)
        assert len(missing) == 2
        assert missing <= set(also)


async def test_duplicated_ids_come_twice(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        await ids(ws, 1)
        await sim.fault(fault="duplicate_ids", symbol="BTCUSDT", kind="trade", count=2)
        (got,) = await until_over(sim, ws)
        assert len(got) - len(set(got)) == 2
        twice = {i for i in got if got.count(i) == 2}
        sent = sim.truth().sent("trade", "spot", "BTCUSDT")
        assert {i for i, e in sent.items() if e.sent == (1, 1)} == twice


async def test_reordered_ids_change_places_and_none_is_lost(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        await ids(ws, 1)
        await sim.fault(fault="reorder_ids", symbol="BTCUSDT", kind="trade", count=2)
        (got,) = await until_over(sim, ws)
        assert got != sorted(got)
        assert sorted(got) == list(range(min(got), min(got) + len(got)))
        assert all(abs(i - n) <= 2 for n, i in enumerate(got, min(got)))


async def test_a_silent_stream_is_silent_and_comes_back(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        before = (await ids(ws, 5))[-1]

        def gone():
            return [e for e in sim.truth().of("trade", "spot", "BTCUSDT").values() if e.dropped]

        async with sim.under(fault="silence", symbol="BTCUSDT", kind="trade"):
            while len(gone()) < 6:
                await ids(ws, 1, "ETHUSDT")
        silenced = {e.id for e in gone()}
        after = await ids(ws, 5)
        while after[-1] < max(silenced):  # what was on its way
            after += await ids(ws, 1)
        assert min(silenced) > before
        assert silenced.isdisjoint(after)
        assert {tuple(e.dropped.items()) for e in gone()} == {((1, "silence"),)}
        assert [f.phase for f in sim.truth().faults] == ["begin", "end"]


async def test_a_fault_that_lasts_for_so_long_ends_by_itself(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        await sim.fault(fault="silence", seconds=0.05)
        while sim.hub.faults:
            await asyncio.sleep(0.01)
        assert [f.phase for f in sim.truth().faults] == ["begin", "end"]
        await ids(ws, 3)


async def test_a_fault_can_be_listed_and_ended_early(simulate):
    async with simulate() as sim, sim.connect(TRADES) as ws:
        _, fault = await sim.fault(fault="silence", seconds=1000)
        assert (await sim.get("/sim/faults"))[2] == [{"id": fault["id"], "fault": "silence", "seconds": 1000.0}]
        async with sim.http.delete(f"http://{sim.host}/sim/faults/{fault['id']}") as answer:
            assert answer.status == 200
        async with sim.http.delete(f"http://{sim.host}/sim/faults/{fault['id']}") as answer:
            assert answer.status == 404
        await ids(ws, 3)


async def test_garbage_of_every_sort_is_sent(simulate):
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        await sim.state()
        await sim.fault(fault="garbage", count=len(GARBAGE))
        plain = [payload for opcode, payload in GARBAGE if opcode == TEXT and payload.isascii()]
        assert [(await ws.receive()).data.encode() for _ in plain] == plain
        assert (await ws.receive()).type == aiohttp.WSMsgType.ERROR, "the next one is no UTF-8"
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        await sim.state()
        await sim.fault(fault="garbage", text='{"mine":1}')
        assert await ws.receive_str() == '{"mine":1}'


async def test_half_a_frame_ends_its_connection_and_is_not_called_sent(simulate):
    async with simulate() as sim:
        reader, writer = await asyncio.open_connection(*sim.host.split(":"))
        writer.write(
            b"GET /spot/ws/btcusdt@trade HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        await sim.fault(fault="half_frame")
        data = b""
        try:
            while more := await reader.read(4096):
                data += more
        except ConnectionResetError:
            assert data
        writer.close()
        frames = []
        while data[:1] == b"\x81" and len(data) > 4:
            size = int.from_bytes(data[2:4], "big") if data[1] == 126 else data[1]
            start = 4 if data[1] == 126 else 2
            frames.append(data[start : start + size])
            if len(frames[-1]) < size:
                break
            data = data[start + size :]
        with pytest.raises(json.JSONDecodeError):
            json.loads(frames[-1])
        sent = sim.truth().sent("trade", "spot", "BTCUSDT")
        assert sent.keys() == {json.loads(frame)["t"] for frame in frames[:-1]}


async def test_a_huge_frame_arrives_whole(simulate):
    async with simulate() as sim, sim.connect("/spot/ws", max_msg_size=0) as ws:
        await sim.state()
        await sim.fault(fault="huge_frame", size=3_000_000)
        assert len(await ws.receive_str()) > 3_000_000


async def test_a_reader_that_lags_too_far_behind_is_cut_off(simulate):
    async with simulate() as sim, sim.connect("/spot/ws", max_msg_size=0):
        await sim.state()
        for _ in range(2):
            await sim.fault(fault="huge_frame", size=60_000_000)
        while 1 in sim.hub.connections:
            await sim.state()
        link = sim.truth().links[1]
        assert link.cause == "slow reader"
        assert link.unsent > 0


async def test_a_held_event_leaves_by_itself(simulate, monkeypatch):
    monkeypatch.setattr("simulator.hub.HELD", 0.05)
    quiet = ("--rate", "20", "--symbols", "1", "--markets", "spot")
    async with simulate(*quiet) as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        await ws.receive_json()
        await sim.fault(fault="reorder_ids", kind="trade")
        first = (await ws.receive_json())["t"]
        assert abs((await ws.receive_json())["t"] - first) == 1


async def test_a_market_that_is_not_open_does_not_exist(simulate):
    async with simulate("--markets", "spot") as sim:
        assert (await sim.get("/linear/fapi/v1/ping"))[0] == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await sim.connect("/linear/ws")


async def test_rest_answers_can_be_a_web_page_an_error_or_cut_short(simulate):
    async with simulate() as sim:
        await sim.fault(fault="html_200", path="/time")
        assert (await sim.get("/spot/api/v3/ping"))[2] == {}
        status, headers, body = await sim.get("/spot/api/v3/time")
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/html")
        assert body.startswith("<html>")
        await sim.fault(fault="http_status", status=429, retry_after=7)
        status, headers, body = await sim.get("/linear/fapi/v1/time")
        assert (status, headers["Retry-After"], body["code"]) == (429, "7", -1003)
        await sim.fault(fault="short_body")
        with pytest.raises(aiohttp.ClientPayloadError):
            await sim.get("/spot/api/v3/exchangeInfo")
        assert (await sim.get("/spot/api/v3/time"))[0] == 200
        assert [r.status for r in sim.truth().requests] == [200, 200, 429, 200, 200]


async def test_upgrades_can_be_refused(simulate):
    async with simulate() as sim:
        await sim.fault(fault="http_status", path="ws", status=503)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await sim.connect("/spot/ws")
        assert (await sim.get("/spot/api/v3/ping"))[0] == 200
        async with sim.connect("/spot/ws/btcusdt@trade") as ws:
            await ws.receive_json()


@pytest.mark.parametrize(
    "fields",
    [
        {"fault": "explode"},
        {"fault": "cut", "colour": "red"},
        {"fault": "silence", "market": "moon"},
        {"fault": "silence", "kind": "bookTicker"},
        {"fault": "drop_ids", "count": 0},
        {"fault": "http_status", "status": 42},
        {},
    ],
)
async def test_a_wrong_fault_is_refused_with_a_reason(simulate, fields):
    async with simulate() as sim:
        status, body = await sim.fault(**fields)
        assert status == 400
        assert body["error"]


async def test_a_schedule_brings_faults_by_itself(simulate):
    scheduled = parse_schedule("every 0.05s:drop_ids:symbol=BTCUSDT,kind=trade,count=2")
    assert (scheduled.after, scheduled.repeat, scheduled.fault().count) == (0.05, True, 2)
    from simulator.server import schedule

    async with simulate() as sim, sim.connect(TRADES) as ws:
        schedule(sim.hub, [scheduled])
        while sim.hub.strikes._ever < 2:
            await ids(ws, 5)
        assert [f.phase for f in sim.truth().faults].count("begin") >= 2


@pytest.mark.parametrize(
    "text", ["cut", "30s", "30s:explode", "30s:cut:what", "30s:cut:count=x", "every 0s:cut", "30s:cut:count=1,count=2"]
)
def test_a_wrong_schedule_is_refused(text):
    with pytest.raises(ValueError, match="fault"):
        parse_schedule(text)
