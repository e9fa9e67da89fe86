"""`dl estimate`: what a known configuration comes to, what a lake measured itself, and what will not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from daemon import measured, typical
from daemon.config import Config
from daemon.estimating import BOOKKEEPING, Estimate, Line, estimate, totals
from daemon.measured import Lake, Own
from lake.rows import SegmentRow
from lake.space import Room
from market.errors import Malformed
from market.times import DAY, HOUR, MINUTE
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

GB = 10**9
ROOMY = Room(free=4000 * GB, total=5000 * GB)


def config(*sources: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate({"collectors": {"sources": list(sources)}, **sections})


def source(**fields: Any) -> dict[str, Any]:
    return {"exchange": "binance", "market_type": "spot", "symbols": ["BTCUSDT"], "kinds": ["trade", "quote"]} | fields


def line(found: Estimate, kind: str, symbol: str = "BTCUSDT") -> Line:
    (one,) = (each for each in found.lines if (each.kind, each.symbol) == (kind, symbol))
    return one


def test_a_known_configuration_comes_to_what_its_recordings_and_sizes_say() -> None:
    found = estimate(config(source()), Lake(), ROOMY)
    trades = line(found, "trade")
    assert (trades.events, trades.low, trades.high) == (656_000, 656_000 / 3, 656_000 * 3)
    assert trades.basis == "recorded: BTCUSDT, 7 min of 2023-04"
    size = typical.SIZES["trade"]
    assert (trades.raw, trades.tables) == (656_000 * size.raw, 656_000 * size.table)
    assert trades.frames == pytest.approx(trades.raw * 0.10)
    assert line(found, "bar_1m").events == pytest.approx(1440)
    assert 86_000 < line(found, "bar_1s").events < 86_400
    assert found.events == sum(line(found, kind).events for kind in ("trade", "quote", "contract"))
    assert (found.connections, found.streams, found.warnings) == (1, 2, [])
    tables = sum(one.tables for one in found.lines)
    assert found.disk.grows_a_day == pytest.approx(tables + BOOKKEEPING[0] + BOOKKEEPING[1])
    raw = sum(one.raw for one in found.lines)
    assert raw * 3 < found.disk.kept_raw < raw * 3.1, "two days, the day itself, and its closing"
    assert found.disk.kept_frames == pytest.approx(sum(one.frames for one in found.lines) * 31)


def test_what_comes_at_a_rhythm_is_counted_by_it() -> None:
    kinds = ["kline", "mark_price", "open_interest", "funding_rate", "book_snapshot", "book_delta", "liquidation"]
    perpetual = source(
        market_type="linear", kinds=kinds, channels={"kline": "kline_5m", "book_delta": "depth@500ms"},
        polls={"open_interest_seconds": 30},
    )  # fmt: skip
    found = estimate(config(perpetual), Lake(), ROOMY)
    told = {one.kind: one.events for one in found.lines if one.kind in kinds}
    assert told == {
        "kline": 288, "mark_price": 86_400, "open_interest": 2880, "funding_rate": 3, "book_snapshot": 864_000,
        "book_delta": 172_800, "liquidation": 3000,
    }  # fmt: skip
    assert line(found, "book_snapshot").raw == 864_000 * typical.whole_book(20).raw, "not of book_levels"
    assert not [one for one in found.lines if one.kind.startswith("bar_")], "nothing to count bars by"


def test_every_stream_of_every_venue_has_a_figure() -> None:
    from collectors import exchanges, venues

    for name in (*exchanges.names(), "ccxt-kraken"):
        for market, offered in venues.load(name).OFFERS.items():
            polls = {"depth_seconds": 60}
            asked = source(exchange=name, market_type=market, symbols=["SYM"], kinds=list(offered), polls=polls)
            found = {one.kind: one for one in estimate(config(asked), Lake(), ROOMY).lines}
            assert set(offered) <= set(found), (name, market)
            for kind in offered:
                assert found[kind].events > 0 < found[kind].raw, (name, market, kind)
                assert found[kind].low <= found[kind].events <= found[kind].high
                assert found[kind].basis


def test_a_lakes_own_rates_and_sizes_come_first_and_are_said() -> None:
    own = Own(rows=40_000, symbols=4, span=30 * HOUR, raw=200, hot=20, table=5, by_symbol={"BTCUSDT": 31_000.0})
    lake = Lake({("binance", "spot", "trade"): own}, {("binance", "spot"): 0.5})
    found = estimate(config(source(symbols=["BTCUSDT", "XYZUSDT"])), lake, ROOMY)
    busiest, other = line(found, "trade"), line(found, "trade", "XYZUSDT")
    assert (busiest.events, busiest.basis) == (31_000, "this lake: the fullest closed day of the symbol")
    assert (other.events, other.basis) == (10_000, "this lake: mean of 4 symbols over 30.0 h")
    assert (other.raw, other.hot, other.tables, other.frames) == (2_000_000, 200_000, 50_000, 1_000_000)
    assert line(found, "quote").basis.startswith("recorded"), "what it has not measured is typical"


def test_what_a_pattern_means_is_known_from_the_lake_or_a_guess_that_is_said() -> None:
    pattern = source(symbols=["*USDT", "!XRPUSDT"])
    statuses = {"AUSDT": "TRADING", "BUSDT": "TRADING", "CUSDT": "BREAK", "XRPUSDT": "TRADING", "ABTC": "TRADING"}
    found = estimate(config(pattern), Lake(statuses={("binance", "spot"): statuses}), ROOMY)
    assert {one.symbol for one in found.lines} == {"AUSDT", "BUSDT"}
    assert found.notes == ["binance spot *USDT, !XRPUSDT: 2 symbols, as the lake knows the venue's instruments"]
    found = estimate(config(pattern), Lake(), ROOMY)
    assert len({one.symbol for one in found.lines}) == typical.PATTERN["spot"]
    assert "counted as 400 symbols, a guess" in found.notes[0]


def test_frames_are_kept_of_each_connection_or_not_at_all() -> None:
    once, twice = (estimate(config(source(redundancy=count)), Lake(), ROOMY) for count in (1, 2))
    assert line(twice, "trade").frames == 2 * line(once, "trade").frames
    assert line(twice, "trade").raw == line(once, "trade").raw
    assert twice.connections == 2
    none = config(source())
    writing = none.collectors.writing.model_copy(update={"frames": False})
    none = none.model_copy(update={"collectors": none.collectors.model_copy(update={"writing": writing})})
    assert estimate(none, Lake(), ROOMY).disk.kept_frames == 0


def test_a_disk_that_is_too_small_is_said_with_the_day_and_the_fix() -> None:
    found = estimate(config(source()), Lake(), Room(free=6 * GB, total=10 * GB))
    assert found.disk.lasts_days is not None
    assert 3 <= found.disk.lasts_days < 30
    (warning,) = found.warnings
    assert warning.startswith(f"the disk is low after {found.disk.lasts_days} days: 6.0 GB are free")
    assert "shorten compactor.frames_days" in warning
    short = estimate(config(source()), Lake(), Room(free=7 * GB // 2, total=10 * GB))
    assert short.disk.lasts_days == 1
    assert short.warnings[0].startswith("the disk is low after 1 day: ")
    full = estimate(config(source()), Lake(), Room(free=0, total=10 * GB))
    assert full.disk.lasts_days == 0
    roomy = estimate(config(source(kinds=["trade"])), Lake(), ROOMY)
    assert roomy.disk.lasts_days is None
    assert roomy.warnings == []


def test_too_many_connections_and_requests_and_what_a_venue_has_not_are_warnings() -> None:
    many = [f"S{number}USDT" for number in range(300)]
    sources = [source(symbols=many), source(market_type="linear", symbols=many, kinds=["open_interest"],
                                            polls={"open_interest_seconds": 10})]  # fmt: skip
    told = config(*sources)
    connections = told.collectors.connections.model_copy(update={"max_connections": 1})
    told = told.model_copy(update={"collectors": told.collectors.model_copy(update={"connections": connections})})
    found = estimate(told, Lake(), ROOMY)
    assert any("more than collectors.connections.max_connections = 1" in one for one in found.warnings)
    assert any("requests a minute of polls are more than the 1,200" in one for one in found.warnings)
    lacking = config(source(exchange="ccxt:upbit", symbols=["BTC/KRW"], kinds=["quote"]))
    (warning,) = estimate(lacking, Lake(), ROOMY).warnings
    assert "that venue has no watchBidsAsks" in warning
    with pytest.raises(Malformed):
        estimate(config(source(kinds=["trade"], channels={"trade": "nonsense"})), Lake(), ROOMY)


def test_totals_add_up() -> None:
    found = estimate(config(source(symbols=["BTCUSDT", "ETHUSDT", "XYZUSDT"])), Lake(), ROOMY)
    by_kind = totals(found.lines, "exchange", "market_type", "kind")
    trades = by_kind["binance", "spot", "trade"]
    assert trades.events == sum(line(found, "trade", one).events for one in ("BTCUSDT", "ETHUSDT", "XYZUSDT"))
    assert trades.basis == "several"
    assert line(found, "trade").events == 656_000, "what is summed stays as it was"


@pytest.mark.parametrize(
    "symbol, tier",
    [("BTCUSDT", "busiest"), ("XBT/USD", "busiest"), ("PF_XBTUSD", "busiest"), ("BTC-USDT-SWAP", "busiest"),
     ("solusdt", "busy"), ("BCHUSDT", "busy"), ("PEPEUSDT", "other"), ("", "other")],
)  # fmt: skip
def test_a_symbol_is_as_busy_as_its_base(symbol: str, tier: str) -> None:
    assert typical.tier(symbol) == tier


@pytest.mark.parametrize(
    "channel, a_day",
    [("kline_1m", 1440), ("kline.1", 1440), ("candle5m", 288), ("ohlc.60", 24), ("/market/candles_1min", 1440),
     ("watchOHLCV:1h", 24), ("candle6Hutc", 4), ("charts", 1440), ("kline_1d", 1)],
)  # fmt: skip
def test_a_channel_says_how_many_candles_a_day_it_closes(channel: str, a_day: float) -> None:
    assert typical.candles("venue", channel) == a_day


def test_the_lake_is_asked_for_what_it_has_measured(tmp_path: Path) -> None:
    held = TestLake(tmp_path)
    lane = {"exchange": "binance", "market_type": "linear"}
    now = T0 + 20 * MINUTE
    for kind, rows, size in (("trade", 100, 30_000), ("frames", 90, 6_000)):
        held.writer.record(segments=[
            SegmentRow(
                path=f"raw/{kind}", **lane, kind=kind, state="sealed", period_start=T0, period_end=now, rows=rows,
                bytes=size, sha256="0" * 64,
            )
        ])  # fmt: skip
    held.writer.record(
        segments=[
            SegmentRow(
                path="raw/young", **lane, kind="quote", state="sealed", period_start=T0, period_end=T0 + MINUTE, rows=9
            )
        ]
    )
    held.cover(T0, now)
    held.cover(T0, now, "ETHUSDT")
    day = held.day("trade", [trade(T0, "1.0", "2", 1), trade(T0 + 1, "1.5", "2", 2)])
    held.close()
    found = measured.measured(tmp_path, {("binance", "linear")}, now)
    assert found.lanes.keys() == {("binance", "linear", "trade")}, "a minute has measured nothing"
    own = found.lanes["binance", "linear", "trade"]
    assert own.rows == pytest.approx(100 * DAY / (20 * MINUTE))
    assert (own.symbols, own.raw, own.hot, own.table) == (2, 300, None, day.bytes / 2)
    assert own.by_symbol == {"BTCUSDT": 2}
    assert found.frames == {("binance", "linear"): 0.2}
    assert measured.measured(tmp_path, set(), now + 8 * DAY).lanes == {}, "too long ago"
    assert measured.measured(tmp_path / "none", set(), now) == Lake()


def test_the_command_says_it_to_people_and_to_programs(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(json.dumps({"lake": "data", "collectors": {"sources": [source(kinds=["kline"])]}}))
    shown = CliRunner().invoke(app, ["estimate", "--config", str(path), "--by-symbol"])
    assert shown.exit_code in (0, 1), shown.output
    assert "BTCUSDT" in shown.output
    assert "room for" in shown.output
    told = CliRunner().invoke(app, ["estimate", "--config", str(path), "--json"])
    document = json.loads(told.stdout)
    assert document["lines"][0]["kind"] == "kline"
    assert document["lines"][0]["events"] == 1440
    assert not (tmp_path / "data").exists(), "nothing is written"
