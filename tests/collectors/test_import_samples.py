"""Every real file under samples/csv: imported with one command, or refused with the sentence that says how."""

import re

import pytest

from collectors.files.importing import rehearse, request_of, take_in
from collectors.files.reading import Options, Refused
from lake.reader import Lake
from lake.writer import LakeWriter
from market.times import parse
from runtime.workers import InlineExecutor
from tests.support.commands import SAMPLES, sample

NOW = parse("2026-11-20T12:00:00Z")
LEAN = "lean/crypto/coinbase"
FX = "lean/forex/oanda"
EQUITY = {"exchange": "yahoo", "market_type": "equity", "symbol": "X", "timezone": "America/New_York"}
WANTED = {
    "backtestingpy_BTCUSD.csv": (
        Options(exchange="bitstamp", market_type="spot", symbol="BTC/USD", timezone="UTC"), 156,
    ),
    "backtestingpy_EURUSD.csv": (Options(exchange="fxcm", market_type="fx", symbol="EURUSD", timezone="UTC"), 5000),
    "backtestingpy_GOOG.csv": (Options(**EQUITY), 2148),
    "backtrader_2006-day-001.txt": (Options(**EQUITY | {"timezone": "Europe/Berlin"}), 255),
    "backtrader_2006-min-005.txt": (Options(**EQUITY | {"timezone": "Europe/Berlin"}), 2142),
    "backtrader_ticksample.csv": (
        Options(**EQUITY, kind="trade", columns={"Datetime": "time", "Close": "price", "Volume": "qty"}), 135,
    ),
    "backtrader_yhoo-2014.txt": (Options(**EQUITY, raw_prices=True), 252),
    "basana_bitstamp_btcusd_min_2020_01_01.csv": (
        Options(exchange="bitstamp", market_type="spot", symbol="BTC/USD", timezone="UTC"), 1440,
    ),
    "basana_orcl-2000-yahoo.csv": (Options(**EQUITY, raw_prices=True), 252),
    "fxcm_gbpusd_m1_bid_201202.csv.gz": (Options(exchange="fxcm", market_type="fx", symbol="GBPUSD"), None),
    "truefx_usdjpy_ticks.csv": (Options(exchange="truefx", market_type="fx", symbol="USD/JPY"), 1000),
    f"{LEAN}/second/btcusd/20161007_trade.zip": (Options(exchange="coinbase", market_type="spot"), None),
    f"{LEAN}/minute/btcusd/20161007_trade.zip": (Options(exchange="coinbase", market_type="spot"), None),
    f"{FX}/tick/eurusd/20140501_quote.zip": (Options(exchange="oanda", market_type="fx", timezone="UTC"), None),
}  # fmt: skip
ASKED = {
    "backtestingpy_BTCUSD.csv": r"say --timezone",
    "backtestingpy_EURUSD.csv": r"say --timezone",
    "backtestingpy_GOOG.csv": r"say --timezone",
    "backtrader_2006-day-001.txt": r"say --timezone",
    "backtrader_2006-min-005.txt": r"say --timezone",
    "backtrader_ticksample.csv": r"say --timezone",
    "backtrader_yhoo-2014.txt": r"say --timezone",
    "basana_bitstamp_btcusd_min_2020_01_01.csv": r"say --timezone",
    "basana_orcl-2000-yahoo.csv": r"say --timezone",
    f"{FX}/tick/eurusd/20140501_quote.zip": r"column 1 \('292'\) does not say in which zone.*say --timezone",
    f"{FX}/second/eurusd/20140501_quote.zip": r"Lean's bars of bids and asks.*import its tick file",
    f"{FX}/minute/eurusd/20140501_quote.zip": r"Lean's bars of bids and asks.*import its tick file",
}


SIDE = {"columns": {"1": "time", "2": "open", "3": "high", "4": "low", "5": "close"}, "kind": "kline"}


@pytest.mark.parametrize("width, rows", [("minute", 1363), ("second", None)])
def test_of_bars_of_bids_and_asks_one_side_is_taken_as_the_refusal_says(width, rows):
    options = Options(exchange="oanda", market_type="fx", timezone="UTC", symbol="EURUSD", **SIDE)
    made = rehearse(request_of(sample(f"csv/{FX}/{width}/eurusd/20140501_quote.zip"), options), NOW, lambda *_: None)
    assert made.quarantined == 0
    assert rows is None or made.rows == rows
    assert parse("2014-05-01") <= made.ts_from < made.ts_to <= parse("2014-05-02")


def test_trades_that_look_like_the_archive_of_one_exchange_ask_whether_they_are():
    path = sample("kraken/freqtrade_trades_BCHEUR.csv")
    with pytest.raises(Refused, match=r"if it is Kraken's trade archive, say --dialect kraken-trades; else .*2=price"):
        request_of(path, Options(exchange="x", market_type="spot", symbol="BCH/EUR"))
    made = rehearse(request_of(path, Options(exchange="kraken", market_type="spot", symbol="BCH/EUR")), NOW, quiet)
    assert (made.rows, made.quarantined) == (148, 0)


def quiet(*_):
    pass


def names():
    root = SAMPLES / "csv"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_every_sample_is_imported_or_refused_with_how():
    sample("csv")
    unknown = [name for name in names() if name not in WANTED and name not in ASKED]
    assert not unknown, "each needs its line here"


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_real_file_is_read_with_one_command(name):
    options, rows = WANTED[name]
    request = request_of(sample(f"csv/{name}"), options)
    made = rehearse(request, NOW, lambda *_: None)
    assert made.quarantined == 0, made.reasons
    assert [one.days for one in made.missing if one.sure] == []
    assert made.rows + made.duplicates == rows or rows is None
    assert made.rows > 100


@pytest.mark.parametrize("name", sorted(ASKED))
def test_a_real_file_asks_for_what_it_does_not_say(name):
    base = {"fx": "fx", "lean": "fx"}.get(name.split("/")[0], "equity")
    with pytest.raises(Refused, match=re.compile(ASKED[name], re.DOTALL)):
        request_of(sample(f"csv/{name}"), Options(exchange="x", market_type=base, symbol="X"))


def test_real_freqtrade_trades_are_aggregated_ones_of_binance():
    path = sample("binance/freqtrade_XRP_ETH-trades.json.gz")
    market = {"exchange": "binance", "market_type": "spot", "symbol": "XRPETH"}
    with pytest.raises(Refused, match="--kind agg_trade"):
        request_of(path, Options(**market, kind="trade"))
    for name in ("XRP_ETH", "XRP_OLD"):
        request = request_of(sample(f"binance/freqtrade_{name}-trades.json.gz"), Options(**market))
        made = rehearse(request, NOW, lambda *_: None)
        assert (made.kind, made.symbols, made.rows, made.duplicates, made.quarantined) == (
            "agg_trade", ["XRPETH"], 12477, 0, 0,
        )  # fmt: skip
    elsewhere = request_of(path, Options(**market | {"exchange": "x"}))
    assert elsewhere.reading.kind == "trade"


@pytest.mark.parametrize("width", ["1m", "5m"])
def test_candles_of_freqtrade_are_read_from_feather(width):
    path = sample(f"binance/freqtrade_XRP_ETH-{width}.feather")
    request = request_of(path, Options(exchange="binance", market_type="spot", symbol="XRPETH"))
    made = rehearse(request, NOW, quiet)
    assert (request.reading.interval, made.quarantined, made.missing) == (width, 0, [])
    assert made.rows > 100


def test_a_real_file_is_in_the_lake_with_its_digits(tmp_path):
    path = sample("csv/truefx_usdjpy_ticks.csv")
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as writer:
        request = request_of(path, WANTED["truefx_usdjpy_ticks.csv"][0])
        made = take_in(writer, InlineExecutor(), "node", NOW, request, lambda *_: None)
        found = Lake(writer.root).read("quote").to_pylist()
    assert len(found) == made.rows
    first = path.read_text().splitlines()[1].split(",")
    assert (found[0]["bid"], found[0]["ask"]) == (float(first[1]), float(first[2]))
