"""Faults of connections, of numbering, of values and of REST bodies: each does what it says and is in the log."""

import asyncio
import contextlib
import email.utils
import json
import zlib

import aiohttp
import pytest

from simulator import spoiling
from simulator.faults import FORMS

TRADES = "/spot/stream?streams=btcusdt@trade/ethusdt@trade"
TEXT = aiohttp.WSMsgType.TEXT


async def messages(ws, count):
    return [json.loads((await ws.receive()).data)["data"] for _ in range(count)]


async def drained(ws):
    while (await ws.receive()).type == TEXT:
        pass


@pytest.mark.parametrize("form", [None, "status"])
async def test_upgrades_of_one_market_are_refused_for_a_while(simulate, form):
    async with simulate() as sim:
        async with sim.under(fault="refuse", market="spot", status=503, form=form):
            with pytest.raises(aiohttp.ClientError):
                await sim.connect(TRADES)
            async with sim.connect("/linear/ws/btcusdt@trade") as ws:
                await ws.receive_json()
            assert (await sim.get("/spot/api/v3/ping"))[0] == 200
        async with sim.connect(TRADES) as ws:
            await messages(ws, 3)
        phases = [f.phase for f in sim.truth().faults]
        assert list(dict.fromkeys(phases)) == ["begin", "applied", "end"]


async def test_a_mute_connection_is_open_and_gets_nothing_for_ever(simulate):
    async with simulate() as sim, contextlib.AsyncExitStack() as stack:
        async with sim.under(fault="mute"):
            mute = await stack.enter_async_context(sim.connect("/spot/ws", autoping=False))
        await mute.send_str('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
        async with sim.connect(TRADES) as ws:
            sim.hub.ping(sim.hub.connections[1], 1000, 3000)
            await messages(ws, 20)
        with pytest.raises(TimeoutError):
            await mute.receive(timeout=0.05)
        truth = sim.truth()
        assert "btcusdt@trade" in truth.links[1].streams
        assert not any(1 in e.sent for e in truth.events)


async def test_a_frozen_connection_neither_reads_nor_speaks_then_ends(simulate):
    async with simulate() as sim, sim.connect("/spot/ws/btcusdt@trade") as ws:
        await ws.receive_json()
        await sim.fault(fault="freeze", seconds=0.3)
        await ws.ping(b"are you there")
        sent = len(sim.truth().sent("trade", "spot", "BTCUSDT"))
        await drained(ws)
        truth = sim.truth()
        assert len(truth.sent("trade", "spot", "BTCUSDT")) == sent
        assert truth.links[1].cause == "freeze"


async def test_a_reset_connection_ends_by_rst(simulate):
    async with simulate() as sim:
        reader, writer = await asyncio.open_connection(*sim.host.split(":"))
        writer.write(
            b"GET /spot/ws HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        await sim.fault(fault="reset", market="spot")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert sim.truth().links[1].cause == "reset"


async def test_flapping_cuts_old_and_new_connections_until_it_is_over(simulate):
    async with simulate() as sim, sim.connect(TRADES) as old:
        async with sim.under(fault="flap", market="spot", after=0.05):
            await drained(old)
            async with sim.connect(TRADES) as new:
                await drained(new)
        async with sim.connect(TRADES) as ws:
            await messages(ws, 100)
            truth = sim.truth()
        assert [truth.links[n].cause for n in (1, 2, 3)] == ["flap", "flap", ""]


async def test_ids_begin_again_at_one(simulate):
    async with (
        simulate() as sim,
        sim.connect("/spot/stream?streams=btcusdt@trade/ethusdt@trade/btcusdt@aggTrade") as ws,
    ):
        first = await messages(ws, 30)
        await sim.fault(fault="restart_ids", market="spot", symbol="BTCUSDT")
        later = await messages(ws, 100)

        def told(name, key):
            return [m[key] for m in first + later if m["e"] == name and m["s"] == "BTCUSDT"]

        kinds = (("trade", "t"), ("aggTrade", "a"))
        while not all(told(*kind)[-1] < 1000 for kind in kinds):  # what was on its way
            later += await messages(ws, 100)
        for kind in kinds:
            ids = told(*kind)
            restart = ids.index(1)
            assert ids[restart:] == list(range(1, len(ids) - restart + 1))
        others = [m["t"] for m in first + later if m["s"] == "ETHUSDT"]
        assert others == list(range(others[0], others[0] + len(others)))


async def test_a_subscription_can_begin_with_what_was_sent_before(simulate):
    async with simulate() as sim, sim.connect(TRADES) as one:
        seen = [m["t"] for m in await messages(one, 60) if m["s"] == "BTCUSDT"]
        await sim.fault(fault="replay", market="spot", count=10, seconds=60)
        async with sim.connect("/spot/ws") as two:
            await two.send_str('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
            assert (await two.receive_json())["result"] is None
            ids = [(await two.receive_json())["t"] for _ in range(60)]
        applied = next(f.detail for f in sim.truth().faults if f.phase == "applied")
        assert applied["connection"] == 2
        again = list(range(applied["first"], applied["last"] + 1))
        assert len(again) == 10
        assert any(ids[n : n + 10] == again for n in range(50))
        assert seen[0] <= again[0]


async def test_subscriptions_can_be_left_unanswered_half_taken_on_or_refused(simulate):
    ask = '{"method":"SUBSCRIBE","params":["btcusdt@trade","ethusdt@trade"],"id":%d}'
    async with simulate() as sim:
        for number, form in enumerate(FORMS["acks"]):
            await sim.fault(fault="acks", form=form)
            async with sim.connect("/spot/ws") as ws:
                await ws.send_str(ask % number)
                first = await ws.receive_json() if form != "error" else (await ws.receive_json())["error"]
                if form == "error":
                    assert first["code"] == 2
                    continue
                assert ("result" in first) == (form == "partial")
                symbols = {(await ws.receive_json())["s"] for _ in range(100)}
                assert symbols == ({"BTCUSDT"} if form == "partial" else {"BTCUSDT", "ETHUSDT"})


@pytest.mark.parametrize("fault, count", [("bad_price", len(FORMS["bad_price"])), ("bad_time", len(FORMS["bad_time"]))])
async def test_an_event_leaves_in_every_wrong_form_and_counts_as_lost(simulate, fault, count):
    async with simulate() as sim, sim.connect("/linear/ws/btcusdt@trade") as ws:
        await ws.receive_json()
        await sim.fault(fault=fault, market="linear", kind="trade", symbol="BTCUSDT", count=count)
        texts = []
        while sim.hub.faults:
            texts.append((await ws.receive()).data)
        truth = sim.truth()
        lost = {i: e for i, e in truth.of("trade", "linear", "BTCUSDT").items() if e.dropped}
        assert len(lost) == count
        assert all(e.sent == () and e.dropped == {1: fault} for e in lost.values())
        forms = {f.detail["id"]: f.detail["form"] for f in truth.faults if f.phase == "applied"}
        assert sorted(forms.values()) == sorted(FORMS[fault])
        while len([t for t in texts if any(f'"t":{number},' in t for number in lost)]) < count:
            texts.append((await ws.receive()).data)
        for number, form in forms.items():
            text = next(t for t in texts if f'"t":{number},' in t)
            if fault == "bad_price":
                assert f'"p":{spoiling.PRICES[form]},' in text
            else:
                assert f'"T":{spoiling.TIMES[form](lost[number].ts_event // 1000)},' in text


async def test_spot_quotes_have_no_time_that_could_be_wrong(simulate):
    async with simulate("--markets", "spot") as sim, sim.connect("/spot/ws/btcusdt@bookTicker") as ws:
        await sim.fault(fault="bad_time", kind="quote")
        got = [(await ws.receive_json())["u"] for _ in range(20)]
        assert got == sorted(got)
        assert [f.phase for f in sim.truth().faults] == ["begin"]


async def test_a_dormant_symbol_is_listed_on_command_and_a_halted_one_stops(simulate):
    async with simulate("--dormant", "1", "--symbols", "1", "--markets", "linear") as sim:
        info = "/linear/fapi/v1/exchangeInfo"
        assert [row["symbol"] for row in (await sim.get(info))[2]["symbols"]] == ["BTCUSDT"]
        path = "/linear/public/stream?streams=sim0016usdt@trade/btcusdt@trade/sim0016usdt@depth@100ms"
        async with sim.connect(path) as ws:
            assert {m["s"] for m in await messages(ws, 200)} == {"BTCUSDT"}
            assert (await sim.get("/linear/fapi/v1/depth?symbol=SIM0016USDT"))[0] == 400
            for symbol, status in (("SIM0016USDT", "TRADING"), ("BTCUSDT", "SETTLING")):
                body = {"market": "linear", "symbol": symbol, "status": status}
                async with sim.http.post(f"http://{sim.host}/sim/contracts", json=body) as answer:
                    assert answer.status == 200
            while {m["s"] for m in await messages(ws, 50)} != {"SIM0016USDT"}:
                pass  # what was on its way
            assert len({m["e"] for m in await messages(ws, 300)}) == 2
        rows = {row["symbol"]: row["status"] for row in (await sim.get(info))[2]["symbols"]}
        assert rows == {"BTCUSDT": "SETTLING", "SIM0016USDT": "TRADING"}
        assert [(s.symbol, s.status) for s in sim.truth().statuses] == [
            ("SIM0016USDT", "TRADING"),
            ("BTCUSDT", "SETTLING"),
        ]


async def test_refusals_of_rest_have_their_bodies_and_waits(simulate):
    async with simulate() as sim:
        await sim.fault(fault="http_status", status=403, form="html")
        status, headers, body = await sim.get("/spot/api/v3/time")
        assert (status, headers["Content-Type"].partition(";")[0], body[:6]) == (403, "text/html", "<html>")
        await sim.fault(fault="http_status", status=451, form="empty")
        assert (await sim.get("/spot/api/v3/time"))[::2] == (451, "")
        await sim.fault(fault="http_status", status=418, retry_after=60, retry_date=True)
        _, headers, _ = await sim.get("/spot/api/v3/time")
        wait = email.utils.parsedate_to_datetime(headers["Retry-After"]).timestamp() - sim.hub.clock.now() / 1e6
        assert 55 < wait <= 60
        await sim.fault(fault="empty_body")
        async with sim.http.get(f"http://{sim.host}/spot/api/v3/time") as answer:
            assert (answer.status, await answer.read()) == (200, b"")


async def test_bodies_can_be_cut_endless_slow_or_bombs(simulate):
    async with simulate() as sim:
        url = f"http://{sim.host}/spot/api/v3/exchangeInfo"
        await sim.fault(fault="gzip_cut")
        async with sim.http.get(url, auto_decompress=False) as answer:
            packed = await answer.read()
            assert answer.headers["Content-Encoding"] == "gzip"
        inflate = zlib.decompressobj(wbits=31)
        inflate.decompress(packed)
        assert not inflate.eof
        await sim.fault(fault="gzip_bomb", size=50_000_000)
        async with sim.http.get(url, auto_decompress=False) as answer:
            packed = await answer.read()
        assert len(packed) < 100_000
        assert len(zlib.decompressobj(wbits=31).decompress(packed)) >= 50_000_000
        await sim.fault(fault="endless_body", seconds=1000)
        async with sim.http.get(url) as answer:
            await answer.content.readexactly(200_000)
        await sim.fault(fault="endless_body", seconds=0.1)
        async with sim.http.get(url) as answer:
            assert await answer.read()
        await sim.fault(fault="slow_body", seconds=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            async with sim.http.get(url) as answer:
                await answer.read()


@pytest.mark.parametrize(
    "fields", [{"fault": "cut", "form": "none"}, {"fault": "acks", "form": "maybe"}, {"fault": "flap", "after": -1}]
)
async def test_a_form_that_a_fault_does_not_have_is_refused(simulate, fields):
    async with simulate() as sim:
        status, body = await sim.fault(**fields)
        assert status == 400
        assert body["error"]
