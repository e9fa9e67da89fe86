"""Table rows of trades and quotes written by hand: prices are the venue's text, times int us."""

import datetime as dt

import polars as pl
import pyarrow as pa

from lake import scaled, tables

T0 = 1_721_347_200_000_000
"""2024-07-19T00:00:00Z."""


def table(kind, rows):
    """Rows as the table a file holds."""
    decimals = tables.decimal_columns(kind)
    data = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if name in decimals:
            data[name], data[f"{name}_text"] = (
                column.to_arrow(compat_level=pl.CompatLevel.oldest())
                for column in scaled.split(pl.Series(values, dtype=pl.String))
            )
        else:
            data[name] = pa.array(values, type=pa.int64() if all(v is None for v in values) else None)
    return tables.conform(pa.table(data), kind) if rows else tables.empty(kind)


def _common(at, frame_no):
    return {
        "exchange": "binance",
        "market_type": "linear",
        "symbol": "BTCUSDT",
        "date": dt.date(1970, 1, 1) + dt.timedelta(microseconds=at),
        "ts_event": at,
        "ts_estimated": False,
        "ts_recv": at,
        "session": "n-1-1",
        "frame_no": frame_no,
        "item": 0,
        "source": "ws",
    }


def trade(at, price, qty, seq=None, **more):
    own = {"seq": seq, "price": price, "qty": qty, "qty_unit": "base", "multiplier": "1", "side": "buy"}
    return _common(at, seq or 1) | own | {"condition": "market"} | more


def quote(at, bid, ask, update_id=1, **more):
    own = {"bid": bid, "bid_qty": "1", "ask": ask, "ask_qty": "2", "update_id": update_id}
    return _common(at, update_id) | own | more


def contract(
    at: int, symbol: str, uid: str, unified: str, valid_from: int | None, valid_to: int | None = None, item=0
) -> dict:
    """What a venue lists from a time on, under the name that ccxt has for it."""
    row = trade(at, "1", "1")
    own = {"uid": uid, "unified": unified, "base": "BTC", "quote": "USDT", "status": "TRADING", "source": "rest"}
    kept = {
        k: v for k, v in row.items() if k in ("exchange", "market_type", "date", "ts_event", "ts_estimated", "ts_recv")
    }
    times = {"valid_from": valid_from, "valid_to": valid_to, "known_from": at}
    stamps = {k: None if v is None else dt.datetime.fromtimestamp(v / 1e6, dt.UTC) for k, v in times.items()}
    return kept | own | stamps | {"symbol": symbol, "session": "n-1-1", "frame_no": 1, "item": item}
