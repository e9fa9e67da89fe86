"""Datasets, quality and the routes of another lake's clients: shapes by name, filters whatever the case."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from api.app import create
from api.config import ServeConfig
from api.errors import Refused
from api.routes import older, reading
from api.rows import Asked
from api.state import Served
from market import times
from market.times import MINUTE
from tests.support.asgi import Asgi
from tests.support.candles import candle, klines
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade


def plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


ID = "binance:linear:trade:BTCUSDT"


async def test_datasets_are_found_by_filters_and_words_whatever_the_case(api: Asgi) -> None:
    whole = (await api.get("/api/v1/datasets", limit=100)).json()
    ids = [one["id"] for one in whole["datasets"]]
    assert whole["total"] == len(ids)
    assert {ID, "binance:linear:trade:BTC%2FUSD", "binance:linear:bar_1m:BTCUSDT"} <= set(ids)
    for query in ({"symbol": "btcusdt", "kind": "TRADE"}, {"q": "BtcUsdt trade"}, {"symbol": "BTC-USDT", "q": "trade"}):
        assert [one["id"] for one in (await api.get("/api/v1/datasets", **query)).json()["datasets"]] == [ID], query
    assert (await api.get("/api/v1/datasets", exchange="BINANCE", market="Linear")).json()["total"] == len(ids)
    assert (await api.get("/api/v1/datasets", data_type="nothing")).json() == {"datasets": [], "total": 0}


async def test_a_symbol_that_is_there_is_not_taken_for_one_that_looks_like_it(tmp_path: Path) -> None:
    """ETHW for BTC, and ETH for WBTC: what is exported, or deleted, is the one that was named."""
    held = TestLake(tmp_path / "lake")
    for price, symbol in (("1", "ETHW-BTC"), ("2", "ETH-WBTC")):
        held.day("trade", [trade(T0, price, "1", 1, symbol=symbol)], symbol=symbol)
    held.day("trade", [trade(T0, "3", "1", 1, symbol="ETHWBTC", market_type="spot")], symbol="ETHWBTC",
             market_type="spot")  # fmt: skip
    held.close()
    served = Served(held.root, ServeConfig(), ManualClock(T0))
    here = Asgi(create(served))

    async def found(symbol: str) -> list[str]:
        told = (await here.get("/api/v1/datasets", symbol=symbol)).json()["datasets"]
        return [one["symbol"] for one in told]

    assert await found("ETH-WBTC") == await found("eth-wbtc") == ["ETH-WBTC", "ETHWBTC"]
    assert await found("ETHW/BTC") == ["ETH-WBTC", "ETHW-BTC", "ETHWBTC"]
    exported = await here.get("/api/v1/export/binance/ETHW-BTC", kind="trade", market_type="linear", format="jsonl")
    assert [json.loads(line)["price"] for line in exported.body.splitlines()] == [1.0]
    vague = await here.get("/api/v1/export/binance/ETHWBTC", kind="trade", market_type="linear")
    assert (vague.status, "spell it as its venue does" in vague.json()["detail"]) == (400, True)
    served.close()


async def test_pages_are_parts_of_the_whole(api: Asgi) -> None:
    whole = (await api.get("/api/v1/datasets", limit=100)).json()["datasets"]
    parts = []
    for offset in range(len(whole)):
        said = (await api.get("/api/v1/datasets", limit=1, offset=offset)).json()
        assert said["total"] == len(whole)
        parts += said["datasets"]
    assert parts == whole
    largest = (await api.get("/api/v1/datasets", sort="size")).json()["datasets"]
    assert [one["file_size_bytes"] for one in largest] == sorted((d["file_size_bytes"] for d in whole), reverse=True)


async def test_a_dataset_says_what_its_rows_are(api: Asgi, served: Served) -> None:
    said = (await api.get(f"/api/v1/datasets/{ID}")).json()
    assert (said["rows"], said["days"], said["timeframe"], said["open_gaps"]) == (240, 1, None, 1)
    assert (said["time_from"], said["time_to"]) == ("2024-07-19T00:00:00Z", "2024-07-19T00:03:59Z")
    assert (served.root / said["file_path"]).is_dir()
    preview = (await api.get("/api/v1/datasets/binance:linear:trade:BTC%2FUSD/preview", limit=3, offset=1)).json()
    assert [row["seq"] for row in preview["rows"]] == [2, 3, 4]
    assert preview["columns"] == served.lake.read("trade").column_names
    assert (preview["total_rows"], preview["metadata"]["symbol"]) == (60, "BTC/USD")


async def test_an_id_is_taken_as_it_is_listed_and_as_a_server_decodes_it(api: Asgi) -> None:
    for symbol in ("BTC%2FUSD", "BTC/USD"):
        name = f"/api/v1/datasets/binance:linear:trade:{symbol}"
        assert (await api.get(name)).json()["symbol"] == "BTC/USD"
        assert len((await api.get(f"{name}/export", format="jsonl")).body.splitlines()) == 60
    assert len((await api.get("/api/v1/export/binance/BTC/USD", kind="trade")).body.splitlines()) == 61
    assert (await api.get("/api/v1/datasets/binance:linear:trade:BTC/EUR/preview")).json()["error"] == "NotFound"


async def test_who_is_lost_is_shown_the_way(api: Asgi) -> None:
    start = await api.get("/")
    assert (start.status, start.headers["location"]) == (307, "/docs")
    lost = await api.get("/api/v1/nothing")
    assert (lost.status, lost.json()["detail"]) == (404, "there is no such address here: /docs says what can be asked")
    tags = [one["name"] for one in (await api.get("/openapi.json")).json()["tags"]]
    assert (tags[:2], tags[-1]) == (["datasets", "rows"], "by other lakes' names")


@pytest.mark.parametrize(
    "markets, meant", [(["linear", "spot"], "spot"), (["linear"], "linear"), ([], None), (["inverse", "linear"], "400")]
)
def test_candles_are_of_one_market(markets: list[str], meant: str | None) -> None:
    held = [SimpleNamespace(market_type=one, symbol="BTCUSDT") for one in markets]
    served: Any = SimpleNamespace(lake=SimpleNamespace(datasets=lambda **_: held))
    asked = Asked(kind="bar_1m", exchange="binance", symbol=("BTCUSDT",))
    if meant == "400":
        with pytest.raises(Refused, match="2 markets have such a symbol: inverse, linear"):
            older._market(served, asked)
    else:
        assert older._market(served, asked) == meant
    assert older._market(served, msgspec.structs.replace(asked, market_type="inverse")) == "inverse"
    held.append(SimpleNamespace(market_type="option", symbol=None))
    if meant != "400":
        assert older._market(served, asked) == (meant or "option"), "files of all symbols: who is collected counts"


@pytest.mark.parametrize(
    "name", ["x", "a:b:c", "binance:linear:trade:ETHUSDT", "binance:linear:nothing:X", "a:b:c:d:e"]
)
async def test_what_is_no_dataset_is_not_found(api: Asgi, name: str) -> None:
    for tail in ("", "/preview", "/export"):
        said = await api.get(f"/api/v1/datasets/{name}{tail}")
        assert said.status in (400, 404), tail
        assert "dataset" in said.json()["detail"]


async def test_a_dataset_and_a_symbol_are_exported_whole_as_files(api: Asgi, served: Served) -> None:
    said = await api.get(f"/api/v1/datasets/{ID}/export")
    rows = list(csv.DictReader(io.StringIO(said.body.decode())))
    assert len(rows) == 270, "hot rows too"
    assert said.headers["content-disposition"] == 'attachment; filename="binance-linear-trade-BTCUSDT.csv"'
    span = {"start": "2024-07-19T00:00:01Z", "end": "2024-07-19T00:00:03Z", "kind": "trade"}
    for path in (f"datasets/{ID}/export", "export/binance/BTCUSDT"):
        part = await api.get(f"/api/v1/{path}", **{name: span[name] for name in list(span)[: 2 + path.startswith("e")]})
        times_of = [row["ts_event"][17:19] for row in csv.DictReader(io.StringIO(part.body.decode()))]
        assert times_of == ["01", "02"], "the end itself is not included"
    merged = await api.get("/api/v1/export/Binance/btcusdt", kind="trade")
    assert merged.body == said.body
    assert served.lake.read("bar_1m", symbol="BTCUSDT").num_rows == 4
    bars = await api.get("/api/v1/export/binance/BTCUSDT")
    assert len(bars.body.splitlines()) == 5
    assert (await api.get("/api/v1/export/binance/NONE")).status == 404


async def test_a_dataset_as_a_file_is_whole_in_json_too(api: Asgi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DEFAULT_ROWS", 10)
    for path in (f"datasets/{ID}/export", "export/binance/BTCUSDT"):
        said = (
            await api.get(f"/api/v1/{path}", format="json", **({"kind": "trade"} if "datasets" not in path else {}))
        ).json()
        assert (said["count"], len(said["rows"]), said["limit"]) == (270, 270, None), path
    assert (await api.get("/api/v1/read/trade", symbol="BTCUSDT")).json()["count"] == 10


async def test_a_dataset_holds_the_rows_of_its_own_venue_market_and_symbol_only(tmp_path: Path) -> None:
    held = TestLake(tmp_path / "lake")
    markets = [("binance", "linear"), ("binance", "spot"), ("bybit", "spot")]
    for number, (exchange, market) in enumerate(markets, 1):
        of = {"exchange": exchange, "market_type": market}
        for symbol in ("BTC-USDT", "ETHUSDT"):
            rows = [trade(T0, str(number), "1", n + 1, symbol=symbol, **of) for n in range(number)]
            held.day("trade", rows, symbol=symbol, **of)
        values = dict.fromkeys(("open", "high", "low", "close", "volume_base"), str(number))
        told = [candle(T0, symbol=symbol, **of, **values) for symbol in ("BTC-USDT", "ETHUSDT")]
        held.day("kline", klines(told), symbol=None, **of)
    held.close()
    served = Served(held.root, ServeConfig(), ManualClock(T0))
    here = Asgi(create(served))
    entries = (await here.get("/api/v1/datasets", limit=100)).json()["datasets"]
    assert [one["symbol"] for one in entries] == [None, "BTC-USDT", "ETHUSDT"] * 3
    for one in entries:
        whose = {
            (one["exchange"], one["market"], of)
            for of in ([one["symbol"]] if one["symbol"] else ["BTC-USDT", "ETHUSDT"])
        }
        shown = (await here.get(f"/api/v1/datasets/{one['id']}/preview")).json()["rows"]
        told = await here.get(f"/api/v1/datasets/{one['id']}/export", format="jsonl")
        for rows in (shown, [json.loads(line) for line in told.body.splitlines()]):
            assert len(rows) == one["rows"], one["id"]
            assert {(row["exchange"], row["market_type"], row["symbol"]) for row in rows} == whose
    served.close()


async def test_candles_are_of_the_symbol_and_venue_that_were_named(tmp_path: Path) -> None:
    held = TestLake(tmp_path / "lake")
    markets = [
        ("binance", "linear", "ETHUSDT"), ("binance", "linear", "BTCUSDT"), ("binance", "spot", "BTCUSDT"),
        ("bybit", "inverse", "BTCUSDT"), ("bybit", "spot", "ETHUSDT"),
    ]  # fmt: skip
    for price, (exchange, market, symbol) in enumerate(markets, 1):
        of = {"exchange": exchange, "market_type": market, "symbol": symbol}
        rows = [trade(T0 + n * MINUTE, str(price), "1", n + 1, **of) for n in range(4)]
        held.day("bar_1m", bar_table(rows), **of)
    spot = {"exchange": "bybit", "market_type": "spot", "symbol": "BTCUSDT"}
    held.day("trade", [trade(T0, "9", "1", 1, **spot)], **spot)
    held.close()
    served = Served(held.root, ServeConfig(max_rows=3), ManualClock(T0))
    here = Asgi(create(served))
    for query, price in (
        ({"exchange": "Binance", "symbol": "BTCUSDT"}, 3), ({"exchange": "binance", "symbol": "ETHUSDT"}, 1),
        ({"exchange": "binance", "symbol": "BTCUSDT", "market": "Linear"}, 2),
        ({"exchange": "bybit", "symbol": "BTCUSDT"}, 4), ({"exchange": "bybit", "symbol": "ETHUSDT"}, 5),
        ({"exchange": "okx", "symbol": "BTCUSDT"}, None), ({"exchange": "bybit", "symbol": "X"}, None),
    ):  # fmt: skip
        found = (await here.get("/read", **query)).json()
        assert [(one["ts"], one["close"]) for one in found] == [
            ((T0 + n * MINUTE) // 1000, float(price)) for n in range(3) if price
        ], query
    served.close()


async def test_candles_of_a_venue_are_those_of_a_minute_each_once(tmp_path: Path) -> None:
    """Of one time a venue tells several: changed ones, those that came another way, and wider ones."""

    def told(at: int, close: str, **more: Any) -> dict[str, Any]:
        return candle(at, open="1", high="9", low="1", close=close, volume_base="2", **more)

    held = TestLake(tmp_path / "lake")
    rows = [
        told(T0, "3", revision=1, source="rest"), told(T0, "2"), told(T0, "5", interval="5m"),
        told(T0 + MINUTE, "4", source="rest"), told(T0 + MINUTE, "4"), told(T0 + 5 * MINUTE, "6", interval="5m"),
    ]  # fmt: skip
    held.day("kline", klines(rows), symbol=None)
    other = {"symbol": "ETHUSDT", "market_type": "spot"}
    wide = [told(T0, "5", interval="5m", **other), told(T0, "5", interval="1h", **other)]
    held.day("kline", klines(wide), symbol=None, market_type="spot")
    held.cover(T0, T0 + MINUTE, kind="kline")
    held.close()
    served = Served(held.root, ServeConfig(max_rows=2), ManualClock(T0))
    here = Asgi(create(served))
    asked = {"exchange": "binance", "symbol": "BTCUSDT", "data_type": "raw"}
    found = (await here.get("/read", **asked)).json()
    assert [(one["ts"], one["close"]) for one in found] == [(T0 // 1000, 3.0), ((T0 + MINUTE) // 1000, 4.0)]
    assert set(found[0]) == {"ts", "open", "high", "low", "close", "volume"}
    assert (await here.get("/read", start=times.text(T0 + MINUTE), **asked)).json() == found[1:]
    assert (await here.get("/read", end=times.text(T0), **asked)).json() == []
    refused = await here.get("/read", **asked | {"symbol": "ETHUSDT", "market": "spot"})
    assert (refused.status, "candles are of 1h, 5m here" in refused.json()["detail"]) == (400, True)
    served.close()


async def test_gaps_coverage_and_revisions_are_those_of_the_lake(api: Asgi, served: Served) -> None:
    lake = served.lake
    for path, name, held in (
        ("gaps", "gaps", lake.gaps()),
        ("coverage", "coverage", lake.coverage(kind="trade", symbol="BTCUSDT")),
        ("versions/trade", "versions", lake.versions("trade", symbol="BTCUSDT")),
    ):
        query = {"kind": "trade"} if path == "coverage" else {}
        query |= {} if path == "gaps" else {"symbol": "BTCUSDT"}
        said = (await api.get(f"/api/v1/{path}", **query)).json()
        assert said == {name: plain(held), "total": len(held)}, path
        assert held
    lineage = await api.get("/api/v1/lineage/trade", date="2024-07-19", symbol="BTCUSDT")
    assert lineage.json() == plain(lake.lineage("trade", date="2024-07-19", symbol="BTCUSDT"))
    assert (await api.get("/api/v1/certificates/trade", date="2024-07-19", symbol="BTCUSDT")).status == 404
    assert (await api.get("/api/v1/lineage/trade", date="2024-07-18", symbol="BTCUSDT")).json()["error"] == "NotHeld"


async def test_the_routes_of_another_lake_answer_in_its_shapes(api: Asgi) -> None:
    assert (await api.get("/health")).json() == {"status": "ok"}
    (one,) = (await api.get("/list", symbol="btcusdt", data_type="BAR_1M", exchange="BINANCE")).json()
    assert {"id", "symbol", "exchange", "market", "path", "type"} == set(one)
    candles = (
        await api.get("/read", exchange="binance", symbol="BTCUSDT", start="2024-07-19", end="2024-07-20")
    ).json()
    assert len(candles) == 4
    assert candles[0] == {
        "ts": 1721347200000,
        "open": 100.5,
        "high": 106.5,
        "low": 100.5,
        "close": 103.5,
        "volume": 30.0,
    }
    wide = (await api.get("/read", exchange="binance", symbol="BTCUSDT", data_type="bar_2m")).json()
    assert [row["ts"] for row in wide] == [1721347200000, 1721347320000]
    assert (await api.get("/read", exchange="binance", symbol="BTCUSDT", data_type="trade")).status == 400
    assert (await api.get("/read", exchange="binance")).status == 422
