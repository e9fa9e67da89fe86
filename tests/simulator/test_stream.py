"""Binance's WebSocket side over real sockets, as its documentation tells it."""

import asyncio
import gzip
import itertools
import json
import os
from pathlib import Path

import aiohttp
import pytest

SAMPLES = Path(os.environ.get("LAKE_SAMPLES", "../shared/samples"))


async def frames(ws, count, wanted=lambda _: True):
    """The next `count` data frames that are wanted."""
    found = []
    while len(found) < count:
        message = await ws.receive_json()
        if wanted(message):
            found.append(message)
    return found


async def ask(ws, **request):
    """Send a command; the answer, whatever data comes before it."""
    await ws.send_json(request)
    return (await frames(ws, 1, lambda m: "result" in m or "error" in m or "code" in m))[0]


async def test_a_combined_stream_names_the_streams_of_its_address(simulate):
    async with simulate() as sim, sim.connect("/spot/stream?streams=btcusdt@trade/ethusdt@bookTicker") as ws:
        got = await frames(ws, 40)
        assert {m["stream"] for m in got} == {"btcusdt@trade", "ethusdt@bookTicker"}
        assert {m["data"]["s"] for m in got if m["stream"] == "btcusdt@trade"} == {"BTCUSDT"}


async def test_a_raw_stream_sends_bare_payloads_with_contiguous_trade_ids(simulate):
    async with simulate() as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        got = await frames(ws, 30)
        ids = [m["t"] for m in got]
        assert ids == list(range(ids[0], ids[0] + 30))
        times = [m["T"] for m in got]
        assert times == sorted(times)
        assert all(m["E"] >= m["T"] for m in got)


async def test_aggregates_cover_exactly_the_trades_between(simulate):
    async with simulate() as sim, sim.connect("/spot/stream?streams=btcusdt@aggTrade") as ws:
        got = [m["data"] for m in await frames(ws, 30)]
        assert [m["a"] for m in got] == list(range(got[0]["a"], got[0]["a"] + 30))
        assert all(later["f"] == earlier["l"] + 1 for earlier, later in itertools.pairwise(got))


async def test_commands_subscribe_list_and_unsubscribe(simulate):
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        assert await ask(ws, method="SUBSCRIBE", params=["btcusdt@trade", "ethusdt@trade"], id=1) == {
            "result": None,
            "id": 1,
        }
        assert {m["s"] for m in await frames(ws, 40)} == {"BTCUSDT", "ETHUSDT"}
        await ask(ws, method="UNSUBSCRIBE", params=["btcusdt@trade"], id="two")
        assert await ask(ws, method="LIST_SUBSCRIPTIONS", id=3) == {"result": ["ethusdt@trade"], "id": 3}
        assert {m["s"] for m in await frames(ws, 20)} == {"ETHUSDT"}


async def test_properties_switch_the_envelope(simulate):
    async with simulate() as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        assert (await ask(ws, method="GET_PROPERTY", params=["combined"], id=1))["result"] is False
        assert (await ask(ws, method="SET_PROPERTY", params=["combined", True], id=2))["result"] is None
        assert "stream" in (await frames(ws, 1))[0]
        assert (await ask(ws, method="SET_PROPERTY", params=["combined", 1], id=3))["error"]["code"] == 1


@pytest.mark.parametrize(
    "text, code, wrapped",
    [
        ('{"method":"SUBSCRIBE","params":["btcusdt@nothing"],"id":1}', 2, True),
        ('{"method":"SUBSCRIBE","params":["btcusdt"],"id":1}', 2, True),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2, True),
        ('{"method":"DANCE","id":1}', 2, True),
        ('{"method":"GET_PROPERTY","params":["colour"],"id":1}', 0, True),
        ('{"method":', 3, True),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1.5}', 2, False),
    ],
)
async def test_bad_commands_are_answered_with_the_documented_code(simulate, text, code, wrapped):
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        await ws.send_str(text)
        answer = await ws.receive_json()
        assert (answer["error"] if wrapped else answer)["code"] == code


@pytest.mark.parametrize(
    "path, stream, spoken",
    [
        ("/linear/public/stream", "btcusdt@aggTrade", False),
        ("/linear/market/stream", "btcusdt@aggTrade", True),
        ("/linear/market/stream", "btcusdt@trade", False),
        ("/linear/market/stream", "btcusdt@bookTicker", False),
        ("/linear/public/stream", "btcusdt@trade", True),
        ("/linear/public/stream", "btcusdt@bookTicker", True),
        ("/linear/stream", "btcusdt@trade", True),
        ("/linear/stream", "btcusdt@aggTrade", False),
        ("/spot/stream", "nosuchusdt@trade", False),
        ("/spot/stream", "BTCUSDT@trade", False),
    ],
)
async def test_a_wrong_path_or_symbol_is_acknowledged_and_silent(simulate, path, stream, spoken):
    async with simulate() as sim, sim.connect(path) as ws, sim.connect("/spot/stream?streams=btcusdt@trade") as other:
        assert await ask(ws, method="SUBSCRIBE", params=[stream], id=1) == {"result": None, "id": 1}
        if spoken:
            assert (await frames(ws, 1))[0]["stream"] == stream
        else:
            await frames(other, 40)
            with pytest.raises(TimeoutError):
                await ws.receive(timeout=0.01)


async def test_microseconds_are_given_on_request_on_spot(simulate):
    async with simulate() as sim, sim.connect("/spot/stream?streams=btcusdt@trade&timeUnit=MICROSECOND") as ws:
        assert (await frames(ws, 1))[0]["data"]["T"] > 10**15


async def test_who_talks_too_much_is_cut_off(simulate):
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        for number in range(7):
            await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        while (await ws.receive()).type == aiohttp.WSMsgType.TEXT:
            pass
        assert ws.close_code == 1008
        assert sim.truth().links[1].cause == "too many messages"


async def test_more_streams_than_allowed_are_refused(simulate):
    async with simulate() as sim, sim.connect("/spot/ws") as ws:
        answer = await ask(ws, method="SUBSCRIBE", params=[f"s{n}usdt@trade" for n in range(1025)], id=1)
        assert answer["error"] == {"code": 4, "msg": "Too many subscriptions"}


async def test_pings_come_and_who_does_not_answer_is_cut_off(simulate):
    async with simulate("--ping", "0.05") as sim, sim.connect("/spot/ws", autoping=False) as ws:
        assert (await ws.receive()).type == aiohttp.WSMsgType.PING
        while (await ws.receive()).type == aiohttp.WSMsgType.PING:
            pass
        assert ws.close_code == 1008
    async with simulate("--ping", "0.25") as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        held = next(iter(sim.hub.connections.values()))
        before = held.last_pong
        while held.last_pong == before:
            await frames(ws, 1)
        assert not ws.closed


async def test_a_connection_is_cut_at_the_end_of_its_life(simulate):
    async with simulate("--max-life", "0.1") as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        while (await ws.receive()).type == aiohttp.WSMsgType.TEXT:
            pass
        assert ws.close_code == 1001


async def test_ids_go_on_while_nobody_listens_and_all_see_the_same_market(simulate):
    async with simulate() as sim:
        async with sim.connect("/spot/ws/btcusdt@trade") as ws:
            first = (await frames(ws, 1))[0]["t"]
        produced = (await sim.state())["produced"]
        while (await sim.state())["produced"] < produced + 200:
            await asyncio.sleep(0.01)
        async with sim.connect("/spot/ws/btcusdt@trade") as one, sim.connect("/spot/ws/btcusdt@trade") as two:
            mine = {m["t"]: m for m in await frames(one, 30)}
            theirs = {m["t"]: m for m in await frames(two, 30)}
            while max(mine) < min(theirs):  # the first was heard long before the second
                mine |= {m["t"]: m for m in await frames(one, 30)}
        assert min(mine) > first + 10
        shared = mine.keys() & theirs.keys()
        assert shared
        assert all(mine[i] == theirs[i] for i in shared)


async def test_the_log_says_what_a_connection_got(simulate):
    async with simulate() as sim:
        async with sim.connect("/linear/public/stream?streams=btcusdt@trade/btcusdt@bookTicker") as ws:
            got = [m["data"] for m in await frames(ws, 80)]
        truth = sim.truth()
        trades, quotes = truth.sent("trade", "linear", "BTCUSDT"), truth.sent("quote", "linear", "BTCUSDT")
        for m in got:
            if m["e"] == "trade":
                event = trades[m["t"]]
                said = (m["p"], m["q"], m["m"], m["X"], m["T"] * 1000, m["E"] * 1000)
                assert said == (
                    event.price, event.qty, event.buyer_is_maker, event.condition, event.ts_event, event.ts_publish,
                )  # fmt: skip
            else:
                event = quotes[m["u"]]
                assert (m["b"], m["B"], m["a"], m["A"]) == (event.bid, event.bid_qty, event.ask, event.ask_qty)
            assert event.sent == (1,)
        assert truth.links[1].streams.keys() == {"btcusdt@trade", "btcusdt@bookTicker"}


RECORDED = {
    "spot": ("binance/hft_spot_btcusdt_20230405.dat.gz", {"a", "b"}, set()),  # order ids were removed 2024-06
    "linear": ("binance/hft_um_btcusdt_20240719.gz", set(), {"st", "ps"}),  # added 2026
}


@pytest.mark.parametrize("market", RECORDED)
async def test_payloads_have_the_fields_and_types_of_real_frames(simulate, market):
    name, gone, new = RECORDED[market]
    if not (SAMPLES / name).exists():
        pytest.skip(f"no recorded frames at {SAMPLES / name}; set LAKE_SAMPLES")
    streams = {"btcusdt@trade", "btcusdt@bookTicker"}
    real = {}
    with gzip.open(SAMPLES / name, "rt") as file:
        for line in file:
            message = json.loads(line.split(" ", 1)[1])
            if message["stream"] in streams:
                real.setdefault(message["stream"], message["data"])
            if len(real) == len(streams):
                break
    path = "/spot/stream" if market == "spot" else "/linear/public/stream"
    async with simulate() as sim, sim.connect(f"{path}?streams={'/'.join(streams)}") as ws:
        ours = {m["stream"]: m["data"] for m in await frames(ws, 60)}
    for stream in streams:
        dropped = gone if stream.endswith("@trade") else set()
        assert real[stream].keys() - dropped == ours[stream].keys() - new
        for key in real[stream].keys() - dropped:
            assert type(real[stream][key]) is type(ours[stream][key]), (stream, key)
