"""The dialects in which programs and vendors write trades, quotes and candles, and the names that columns go by.

Pure data. A dialect is told by its header or, where it has none, by the form of its first row. Whatever has a header
of names that are known here needs no dialect (`columns`); --map says the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from collectors.files.reading import Sample, plain

TIME, DATE, CLOCK, ID, ADJUSTED = "time", "date", "clock", "id", "adjusted"
"""Fields of files that are no columns of a kind: its time in one column or in two, its id, the adjusted price."""
MAKERS = "binance-"
"""Dialects whose side says whether the buyer was the maker: true is a sale."""
COLUMNS, MAPPED = "columns", "map"
"""What a file is called that is read by the names of its columns, or as --map says."""
_EPOCH = r"\d{9,10}(\.\d+)?"
_NUMBER = r"-?\d+(\.\d+)?([eE][-+]?\d+)?"
NEW_YORK_WINTER = "Etc/GMT+5"


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """`header` are plain names in their order, `shape` patterns of the cells of a row without one; `fields` is kind ->
    field -> plain name or number of a column. `zone` is that of its texts without an offset, where the dialect has one.
    """

    name: str
    what: str
    header: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()
    fields: Mapping[str, Mapping[str, str]]
    zone: str | None = None
    interval: str | None = None
    label: Literal["open", "close"] = "open"
    aggregated: str = ""
    """The exchange whose trades it holds aggregated."""
    only: str = ""
    """The exchange of which alone such columns say by themselves what they are."""
    markets: tuple[str, ...] = ()
    """The markets of which alone they do; all where it names none."""
    never: Mapping[str, tuple[str, str]] = {}
    """Kinds that it seems to hold: why they cannot be taken from it, and where they are had instead."""

    def of(self, market_type: str) -> bool:
        """Whether it is one of that market."""
        return not self.markets or market_type in self.markets

    def fits(self, sample: Sample) -> bool:
        if self.header:
            return sample.header is not None and tuple(plain(name) for name in sample.header) == self.header
        rows = sample.rows[:3]
        return bool(self.shape) and sample.header is None and bool(rows) and all(map(self._shaped, rows))

    def _shaped(self, row: tuple[str, ...]) -> bool:
        if len(row) != len(self.shape):
            return False
        return all(re.fullmatch(one, cell.strip()) for one, cell in zip(self.shape, row, strict=True))


def _numbered(*names: str) -> dict[str, str]:
    """Fields of columns without names; "" is one that is left out."""
    return {name: str(place) for place, name in enumerate(names, 1) if name}


_OHLC = ("open", "high", "low", "close")
_OHLCV = {**dict(zip(_OHLC, _OHLC, strict=True)), "volume_base": "volume"}
_TARDIS = ("exchange", "symbol", "timestamp", "localtimestamp")
_TARDIS_TRADE = {"symbol": "symbol", TIME: "timestamp", ID: "id", "side": "side", "price": "price", "qty": "amount"}
_TARDIS_QUOTE = {
    "symbol": "symbol", TIME: "timestamp", "bid": "bidprice", "bid_qty": "bidamount", "ask": "askprice",
    "ask_qty": "askamount",
}  # fmt: skip
_NO_INTEREST = (
    "its open_interest says neither in which unit it is, nor whether both sides count, nor when it was told",
    "the venue's own values: dl backfill or dl archive --kind open_interest; marks of this file: --kind mark_price",
)
_NO_RATES = (
    "its funding_rate is that of the next settlement, which is no settled rate",
    "--kind mark_price has it as predicted_rate; settled ones: dl backfill or dl archive --kind funding_rate",
)
_YAHOO = {TIME: "date", **_OHLCV, ADJUSTED: "adjclose"}
_FREQTRADE = _numbered(TIME, ID, "", "side", "price", "qty", "")
_CCXT = {TIME: "timestamp", ID: "id", "side": "side", "price": "price", "qty": "amount"}
"""Without the symbol, which is ccxt's and not the exchange's."""

_COUNTED = r"\d{13}|\d{16}"
_TRUTH = r"[Tt]rue|[Ff]alse"
_BINANCE_TRADE = _numbered(ID, "price", "qty", "", TIME, "side")
_BINANCE_AGGREGATE = _numbered(ID, "price", "qty", "first_id", "last_id", TIME, "side")
_BINANCE_KLINE = _numbered(
    TIME, *_OHLC, "volume_base", "", "volume_quote", "trade_count", "taker_buy_base", "taker_buy_quote"
)  # fmt: skip
_BASE = ("spot", "linear")
"""Markets of Binance whose quantities are those of their names; COIN-M counts contracts."""

DIALECTS = (
    Dialect(
        name="binance-trades", what="data.binance.vision `trades`: the side is told by who was the maker",
        shape=(r"\d+", _NUMBER, _NUMBER, _NUMBER, _COUNTED, _TRUTH), fields={"trade": _BINANCE_TRADE},
        only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-trades-spot", what="the same of spot: whether it was the best match is left out",
        shape=(r"\d+", _NUMBER, _NUMBER, _NUMBER, _COUNTED, _TRUTH, _TRUTH), fields={"trade": _BINANCE_TRADE},
        only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-trades-named", what="the same with names, as of USD-M since 2022",
        header=("id", "price", "qty", "quoteqty", "time", "isbuyermaker"), only="binance", markets=_BASE,
        fields={"trade": {ID: "id", TIME: "time", "price": "price", "qty": "qty", "side": "isbuyermaker"}},
    ),
    Dialect(
        name="binance-aggtrades", what="data.binance.vision `aggTrades`",
        shape=(r"\d+", _NUMBER, _NUMBER, r"\d+", r"\d+", _COUNTED, _TRUTH), fields={"agg_trade": _BINANCE_AGGREGATE},
        only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-aggtrades-spot", what="the same of spot",
        shape=(r"\d+", _NUMBER, _NUMBER, r"\d+", r"\d+", _COUNTED, _TRUTH, _TRUTH),
        fields={"agg_trade": _BINANCE_AGGREGATE}, only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-aggtrades-named", what="the same with names, as of USD-M since 2022",
        header=("aggtradeid", "price", "quantity", "firsttradeid", "lasttradeid", "transacttime", "isbuyermaker"),
        fields={"agg_trade": {
            ID: "aggtradeid", TIME: "transacttime", "price": "price", "qty": "quantity", "first_id": "firsttradeid",
            "last_id": "lasttradeid", "side": "isbuyermaker",
        }}, only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-klines", what="data.binance.vision `klines`",
        shape=(_COUNTED, *(_NUMBER,) * 5, _COUNTED, _NUMBER, r"\d+", *(_NUMBER,) * 3),
        fields={"kline": _BINANCE_KLINE}, only="binance", markets=_BASE,
    ),
    Dialect(
        name="binance-klines-named", what="the same with names, as of USD-M since 2022",
        header=("opentime", *_OHLC, "volume", "closetime", "quotevolume", "count", "takerbuyvolume",
                "takerbuyquotevolume", "ignore"),
        fields={"kline": {
            TIME: "opentime", **_OHLCV, "volume_quote": "quotevolume", "trade_count": "count",
            "taker_buy_base": "takerbuyvolume", "taker_buy_quote": "takerbuyquotevolume",
        }}, only="binance", markets=_BASE,
    ),
    Dialect(
        name="tardis-trades", what="tardis.dev CSV `trades` or `liquidations` (--kind says which)",
        header=(*_TARDIS, "id", "side", "price", "amount"),
        fields={"trade": _TARDIS_TRADE, "liquidation": {k: v for k, v in _TARDIS_TRADE.items() if k != ID}},
    ),
    Dialect(
        name="tardis-quotes", what="tardis.dev CSV `quotes` and `book_ticker`",
        header=(*_TARDIS, "askamount", "askprice", "bidprice", "bidamount"), fields={"quote": _TARDIS_QUOTE},
    ),
    Dialect(
        name="tardis-ticker", what="tardis.dev CSV `derivative_ticker`, of which marks are taken",
        header=(*_TARDIS, "fundingtimestamp", "fundingrate", "predictedfundingrate", "openinterest", "lastprice",
                "indexprice", "markprice"),
        fields={"mark_price": {
            "symbol": "symbol", TIME: "timestamp", "mark": "markprice", "index": "indexprice",
            "predicted_rate": "fundingrate", "next_funding": "fundingtimestamp",
        }},
        never={"open_interest": _NO_INTEREST, "funding_rate": _NO_RATES},
    ),
    Dialect(
        name="tardis-options", what="tardis.dev CSV `options_chain`: quotes or marks (--kind says which)",
        header=(*_TARDIS, "type", "strikeprice", "expiration", "openinterest", "lastprice", "bidprice", "bidamount",
                "bidiv", "askprice", "askamount", "askiv", "markprice", "markiv", "underlyingindex", "underlyingprice",
                "delta", "gamma", "vega", "theta", "rho"),
        fields={"quote": _TARDIS_QUOTE, "mark_price": {
            "symbol": "symbol", TIME: "timestamp", "mark": "markprice", "index": "underlyingprice",
        }},
        never={"open_interest": _NO_INTEREST},
    ),
    Dialect(
        name="freqtrade", what="freqtrade's `…-trades.json`; its trades of Binance are aggregated ones",
        shape=(r"\d{12,13}", r"[^,]*", r".*", r"buy|sell", _NUMBER, _NUMBER, _NUMBER),
        fields={"trade": _FREQTRADE, "agg_trade": _FREQTRADE}, aggregated="binance",
    ),
    Dialect(
        name="freqtrade-columns", what="freqtrade's `…-trades` as Feather or Parquet",
        header=("timestamp", "id", "type", "side", "price", "amount", "cost"),
        fields={"trade": _CCXT, "agg_trade": _CCXT}, aggregated="binance",
    ),
    Dialect(
        name="freqtrade-old", what="freqtrade's `…-trades.json` before 2020: trades as ccxt tells them",
        header=("info", "timestamp", "datetime", "symbol", "id", "order", "type", "takerormaker", "side", "price",
                "amount", "cost", "fee"),
        fields={"trade": _CCXT, "agg_trade": _CCXT}, aggregated="binance",
    ),
    Dialect(
        name="kraken-ohlcvt", what="Kraken's OHLCVT archive: seconds, open, high, low, close, volume, trades",
        shape=(_EPOCH, *(_NUMBER,) * 5, r"\d+"),
        fields={"kline": _numbered(TIME, *_OHLC, "volume_base", "trade_count")}, only="kraken",
    ),
    Dialect(
        name="kraken-trades", what="Kraken's trade archive: seconds, price, volume",
        shape=(_EPOCH, _NUMBER, _NUMBER), fields={"trade": _numbered(TIME, "price", "qty")}, only="kraken",
    ),
    Dialect(
        name="truefx", what="TrueFX ticks without a header: pair, time (GMT), bid, ask",
        shape=(r"[A-Z]{3}/[A-Z]{3}", r"\d{8} \d{2}:\d{2}:\d{2}\.\d{3}", _NUMBER, _NUMBER),
        fields={"quote": _numbered("symbol", TIME, "bid", "ask")}, zone="UTC",
    ),
    Dialect(
        name="histdata", what="HistData's ASCII minutes: New York time without daylight saving",
        shape=(r"\d{8} \d{6}", *(_NUMBER,) * 5), fields={"kline": _numbered(TIME, *_OHLC, "")},
        zone=NEW_YORK_WINTER, interval="1m",
    ),
    Dialect(
        name="histdata-ticks", what="HistData's ASCII ticks: New York time without daylight saving",
        shape=(r"\d{8} \d{9}", _NUMBER, _NUMBER, _NUMBER), fields={"quote": _numbered(TIME, "bid", "ask", "")},
        zone=NEW_YORK_WINTER,
    ),
    Dialect(
        name="metatrader", what="MetaTrader 4 history without a header: broker's time (--timezone)",
        shape=(r"\d{4}\.\d{2}\.\d{2}", r"\d{2}:\d{2}", *(_NUMBER,) * 5),
        fields={"kline": _numbered(DATE, CLOCK, *_OHLC, "")},
    ),
    Dialect(
        name="metatrader5", what="MetaTrader 5 bars: broker's time (--timezone); VOL, not TICKVOL, is the volume",
        header=("date", "time", *_OHLC, "tickvol", "vol", "spread"),
        fields={"kline": {DATE: "date", CLOCK: "time", **_OHLCV, "volume_base": "vol"}},
    ),
    Dialect(
        name="yahoo", what="Yahoo's daily history, adjusted price before the volume",
        header=("date", *_OHLC, "adjclose", "volume"), fields={"kline": _YAHOO},
    ),
    Dialect(
        name="yahoo-old", what="Yahoo's daily history of old, newest first, adjusted price last",
        header=("date", *_OHLC, "volume", "adjclose"), fields={"kline": _YAHOO},
    ),
    Dialect(
        name="backtrader", what="backtrader's files: date and time in one column or two, open interest last",
        header=("date", "time", *_OHLC, "volume", "openinterest"),
        fields={"kline": {DATE: "date", CLOCK: "time", **_OHLCV}}, label="close",
    ),
    Dialect(
        name="cryptodatadownload", what="CryptoDataDownload (Bitstamp and others), behind a line with its address",
        header=("unix", "date", "symbol", *_OHLC, "volumebtc", "volumeusd"),
        fields={"kline": {TIME: "unix", "symbol": "symbol", **_OHLCV, "volume_base": "volumebtc",
                          "volume_quote": "volumeusd"}},
    ),
    Dialect(
        name="bitstamp", what="Bitstamp's minutes as of Kaggle; minutes without a trade are NaN and set aside",
        header=("timestamp", *_OHLC, "volumebtc", "volumecurrency", "weightedprice"),
        fields={"kline": {TIME: "timestamp", **_OHLCV, "volume_base": "volumebtc", "volume_quote": "volumecurrency"}},
        interval="1m",
    ),
)  # fmt: skip
"""Lean's files are told by their names (`lean`), whatever is in them."""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    TIME: ("time", "timestamp", "datetime", "date", "opentime", "dateandtime", "unix", "unixtime", "unixtimestamp",
           "gmttime", "localtime", "ts", "t", ""),
    "open": ("open", "o", "openprice"), "high": ("high", "h", "highprice"), "low": ("low", "l", "lowprice"),
    "close": ("close", "c", "closeprice"), "volume_base": ("volume", "vol", "v"),
    "volume_quote": ("quotevolume", "quoteassetvolume", "volumequote"),
    "trade_count": ("trades", "count", "tradecount", "numberoftrades"),
    "bid": ("bid", "bidprice"), "ask": ("ask", "askprice", "offer"),
    "bid_qty": ("bidqty", "bidsize", "bidvolume", "bidamount"),
    "ask_qty": ("askqty", "asksize", "askvolume", "askamount"),
    "price": ("price",), "qty": ("qty", "quantity", "size", "amount"), "side": ("side",),
    ID: ("id", "tradeid"), "symbol": ("symbol", "ticker", "pair", "instrument"),
    ADJUSTED: ("adjclose", "adjustedclose", "adjcloseprice", "closeadj", "closeadjusted"),
}  # fmt: skip
NEEDED: dict[str, tuple[str, ...]] = {
    "kline": _OHLC, "quote": ("bid", "ask"), "trade": ("price", "qty"), "agg_trade": ("price", "qty"),
    "liquidation": ("side", "price", "qty"), "mark_price": ("mark",),
}  # fmt: skip
"""Fields without which there is no row of a kind, its time apart."""


def named(header: tuple[str, ...]) -> dict[str, int]:
    """Field -> column, by the names of columns; a time of day beside a date makes both of them the time."""
    names = [plain(name) for name in header]
    found: dict[str, int] = {}
    for field, known in _SYNONYMS.items():
        places = [names.index(name) for name in known if name in names]
        if places:
            found[field] = places[0]
    if "date" in names and "time" in names and found.get(TIME) == names.index("time"):
        del found[TIME]
        found |= {DATE: names.index("date"), CLOCK: names.index("time")}
    return found


def dialect(name: str) -> Dialect | None:
    return next((one for one in DIALECTS if one.name == name), None)


def names() -> tuple[str, ...]:
    """What --dialect takes."""
    return (*(one.name for one in DIALECTS), "tardis-book", "tardis-book-snapshot", "lean", "lake", COLUMNS)
