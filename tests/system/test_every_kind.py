"""Every kind that Binance streams, from frames to certified daily files, read back: COIN-M and spot made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import Lake
from market.times import SECOND
from tests.support.commands import dl, dl_json

START = 1_767_225_590_000_000
"""2025-12-31T23:59:50Z: ten seconds before a day, and a candle, ends."""
INFO = {
    "serverTime": START // 1000,
    "symbols": [
        {"symbol": name, "pair": name[:6], "contractType": "PERPETUAL", "contractStatus": "TRADING",
         "contractSize": size, "marginAsset": name[:3], "baseAsset": name[:3], "quoteAsset": "USD",
         "deliveryDate": 4133404800000, "onboardDate": 1597042800000, "filters": []}
        for name, size in (("BTCUSD_PERP", 100), ("ETHUSD_PERP", 20))
    ],
}  # fmt: skip
TRADES = [
    ("BTCUSD_PERP", "87654.3", "3", False),
    ("BTCUSD_PERP", "87654.4", "7", True),
    ("BTCUSD_PERP", "87600", "1", True),
    ("ETHUSD_PERP", "2950.05", "11", False),
    ("ETHUSD_PERP", "2950.1", "2", False),
]
"""(symbol, price, contracts, whether the buyer was the maker)"""


def combined(name: str, data: dict[str, Any]) -> str:
    return json.dumps({"stream": name, "data": data}, separators=(",", ":"))


def inverse_frames() -> Iterable[tuple[int, str]]:
    """(ms after START, frame): one of everything on COIN-M, and a book with a hole in it."""
    ids = {"BTCUSD_PERP": 100, "ETHUSD_PERP": 500}
    ms = START // 1000
    for number, (symbol, price, qty, maker) in enumerate(TRADES):
        at, low = 1000 * number, symbol.lower()
        ids[symbol] += 1
        body = {"E": ms + at, "T": ms + at, "s": symbol, "p": price, "q": qty, "m": maker}
        yield at, combined(f"{low}@trade", {"e": "trade", "t": ids[symbol], "X": "MARKET", **body})
        yield at, combined(f"{low}@aggTrade", {"e": "aggTrade", "a": ids[symbol], "f": 1, "l": 1, **body})
    for number, (before, last) in enumerate(((10, 20), (20, 35), (40, 50), (50, 55))):
        at, clocks = 100 * number, {"E": ms + 100 * number, "T": ms + 100 * number, "s": "BTCUSD_PERP"}
        levels = {"b": [["87654.3", "10"], ["87654.2", "0"]], "a": [["87654.4", "5"]]}
        data = {"e": "depthUpdate", **clocks, "U": before + 1, "u": last, "pu": before, **levels}
        yield at, combined("btcusd_perp@depth@100ms", data)
        yield at, combined("btcusd_perp@depth20@100ms", data)
        quote = {"e": "bookTicker", **clocks, "u": last, "b": "87654.3", "B": "10", "a": "87654.4", "A": "5"}
        yield at, combined("btcusd_perp@bookTicker", quote)
    for number in range(4):
        data = {"e": "markPriceUpdate", "E": ms + 1000 * number, "s": "BTCUSD_PERP", "p": "87650.12345678",
                "i": "87649.5", "P": "1", "r": "-0.00010000", "T": ms + 10_000}  # fmt: skip
        yield 1000 * number, combined("btcusd_perp@markPrice@1s", data)
    order = {"s": "BTCUSD_PERP", "S": "SELL", "q": "4", "p": "87000", "ap": "87010.5", "X": "FILLED", "T": ms + 2000}
    yield 2100, combined("btcusd_perp@forceOrder", {"e": "forceOrder", "E": ms + 2001, "o": order})
    for closed in (False, True):
        candle = {"t": ms - 50_000, "T": ms + 9_999, "s": "BTCUSD_PERP", "i": "1m", "o": "87654.3", "c": "87600",
                  "h": "87654.4", "l": "87600", "v": "11", "n": 3, "x": closed, "q": "0.01254933", "V": "3",
                  "Q": "0.00342254"}  # fmt: skip
        yield (
            10_020,
            combined("btcusd_perp@kline_1m", {"e": "kline", "E": ms + 10_010, "s": "BTCUSD_PERP", "k": candle}),
        )
    notice = {"e": "contractInfo", "E": ms + 3000, "s": "ETHUSD_PERP", "ct": "PERPETUAL", "dt": ms + 86_400_000,
              "ot": 1597042800000, "cs": "PRE_SETTLE"}  # fmt: skip
    yield 3010, combined("!contractInfo", notice)


def polls() -> list[dict[str, Any]]:
    """What is asked for beside the streams: open interest twice, settled rates with an overlap."""
    lines: list[dict[str, Any]] = []
    ms, settled = START // 1000, 1_767_225_600_000 - 16 * 3_600_000
    rates = [{"symbol": "BTCUSD_PERP", "fundingTime": settled + n * 28_800_000 + n, "fundingRate": f"0.000{n}"}
             for n in range(2)]  # fmt: skip
    asked = {
        "open_interest": [
            (f"openInterest {name}", {"symbol": name, "openInterest": oi, "time": ms + at}, at)
            for at in (100, 6_100) for name, oi in (("BTCUSD_PERP", f"15004{at}"), ("ETHUSD_PERP", "77"))
        ],
        "funding_rate": [("fundingInfo", [], 0), ("fundingRate BTCUSD_PERP", rates, 200),
                         ("fundingRate BTCUSD_PERP", rates[1:], 5_000), ("fundingRate ETHUSD_PERP", [], 5_500)],
    }  # fmt: skip
    for number, (kind, answers) in enumerate(asked.items(), 7):
        conn = {"conn": f"made-1-{number}"}
        headers = {"kind": kind, "symbols": '["BTCUSD_PERP","ETHUSD_PERP"]'}
        lines.append({**conn, "ts_recv": START, "dir": "open", "n": 0, "url": "https://dapi.binance.com",
                      "tag": "poll", "headers": headers})  # fmt: skip
        lines += [
            {**conn, "ts_recv": START + at * 1000 + 30_000, "dir": "http", "n": n, "method": "GET", "status": 200,
             "url": "https://dapi.binance.com", "tag": tag, "frame": json.dumps(body)}
            for n, (tag, body, at) in enumerate(answers, 1)
        ]  # fmt: skip
    return lines


def spot_frames() -> Iterable[tuple[int, str]]:
    """Partial depth has no time: its place in time is the receive time less the skew of the timed frames."""
    for number in range(5):
        at = 100 * number
        levels = {"b": [["87654.30", "1.5"]], "a": []}
        data = {
            "e": "depthUpdate",
            "E": START // 1000 + at,
            "s": "BTCUSDT",
            "U": 10 * number + 1,
            "u": 10 * number + 10,
        }
        yield at, combined("btcusdt@depth@100ms", {**data, **levels})
        book = {
            "lastUpdateId": 10 * number + 10,
            "bids": [["87654.30", "1.5"]],
            "asks": [["87654.123456789012345678", "2"]],
        }
        yield at, combined("btcusdt@depth20@100ms", book)


def written(
    path: Path, frames: Iterable[tuple[int, str]], info: dict[str, Any] | None, lost: Iterable[int] = (), twin: int = 0
) -> Path:
    """A frames file of one connection, with the reference data fetched beside it.

    With `twin`, a second connection gets the same so many us later; the first has `lost` these of its frames.
    """
    lines: list[dict[str, Any]] = []
    if info is not None:
        reference = {"conn": "made-1-1", "ts_recv": START - SECOND}
        lines.append({**reference, "dir": "open", "n": 0, "url": "https://dapi.binance.com", "tag": "reference",
                      "headers": {"symbols": "[]"}})  # fmt: skip
        lines.append({**reference, "dir": "http", "n": 1, "method": "GET", "status": 200, "tag": "exchangeInfo",
                      "url": "https://dapi.binance.com/dapi/v1/exchangeInfo", "frame": json.dumps(info)})  # fmt: skip
        lines.append({**reference, "dir": "close", "n": 1, "reason": "done"})
    lines.append({"conn": "made-1-2", "ts_recv": START, "dir": "open", "n": 0, "url": "wss://made/stream"})
    ordered = sorted(frames, key=lambda pair: pair[0])
    lines += [
        {"conn": "made-1-2", "ts_recv": START + at * 1000 + 5000, "dir": "recv", "n": n, "frame": frame}
        for n, (at, frame) in enumerate(ordered, 1)
    ]
    if twin:
        received = [line for line in lines if line["dir"] == "recv"]
        opened = {"conn": "made-1-3", "ts_recv": START, "dir": "open", "n": 0, "url": "wss://made/stream"}
        copies = [{**line, "conn": "made-1-3", "ts_recv": line["ts_recv"] + twin} for line in received]
        mine = [line for line in lines if line not in received or line["n"] not in lost]
        lines = sorted([*mine, opened, *copies], key=lambda line: line["ts_recv"])
    if info is not None:
        lines = sorted([*lines, *polls()], key=lambda line: line["ts_recv"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def inverse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inverse")
    frames = written(folder / "made.frames.jsonl", inverse_frames(), INFO)
    done = dl_json("replay", frames, "--exchange", "binance", "--market-type", "inverse", "--lake", folder / "lake")
    assert done["replayed"]["ignored"] == {"fundingInfo": 1, "fundingRate without rows": 1, "kline_1m forming": 1}
    assert done["replayed"]["rejected"] == {}
    return folder / "lake"


COUNTS = {"trade": 5, "agg_trade": 5, "quote": 4, "book_delta": 4, "book_snapshot": 4, "mark_price": 4,
          "liquidation": 1, "kline": 1, "contract": 3, "open_interest": 4, "funding_rate": 2}  # fmt: skip


@pytest.mark.parametrize("kind", COUNTS)
def test_every_kind_ends_in_certified_daily_files_and_is_read_back(inverse: Path, kind: str) -> None:
    held = [row for row in dl_json("ls", "--lake", inverse) if row["file"]["kind"] == kind]
    assert held
    assert {row["file"]["level"] for row in held} == {"day"}
    assert all(row["certificate"] for row in held)
    assert Lake(inverse).read(kind).num_rows == COUNTS[kind]


def test_the_lake_verifies_and_its_only_gap_is_the_break_of_the_books_chain(inverse: Path) -> None:
    verdict = dl_json("verify", "--lake", inverse)
    assert verdict["ok"]
    assert verdict["findings"] == []
    (gap,) = dl_json("gaps", "--lake", inverse, expect=1)
    assert (gap["kind"], gap["symbol"], gap["id_from"], gap["id_to"]) == ("book_delta", "BTCUSD_PERP", 36, 41)
    assert (gap["cause"], gap["proof"], gap["state"]) == ("jump", "ids", "open")


def test_contracts_are_worth_what_the_reference_data_says(inverse: Path) -> None:
    for kind in ("trade", "agg_trade", "liquidation"):
        rows = pl.from_arrow(Lake(inverse).read(kind, columns=["symbol", "qty_unit", "multiplier"]))
        sizes = set(rows.with_columns(pl.col("symbol", "qty_unit").cast(pl.String)).unique().rows())
        assert sizes <= {("BTCUSD_PERP", "contract", 100.0), ("ETHUSD_PERP", "contract", 20.0)}
    (notice,) = [row for row in Lake(inverse).read("contract").to_pylist() if row["source"] == "ws"]
    assert (notice["unified"], notice["status"], notice["contract_size"]) == ("ETH/USD:ETH", "PRE_SETTLE", 20.0)
    assert notice["expiry"] is not None


@pytest.mark.parametrize("symbol,size", [("BTCUSD_PERP", 100), ("ETHUSD_PERP", 20)])
def test_inverse_bars_sum_each_trades_base_rounded_half_even_to_twelve_decimals(
    inverse: Path, symbol: str, size: int
) -> None:
    (bar,) = Lake(inverse).read("bar_1m", symbol=symbol).to_pylist()
    mine = [(Decimal(price), Decimal(qty) * size, maker) for name, price, qty, maker in TRADES if name == symbol]
    bases = [(quote / price).quantize(Decimal("1e-12"), ROUND_HALF_EVEN) for price, quote, _ in mine]
    base, quote = sum(bases), sum(q for _, q, _ in mine)
    bought = [place for place, (_, _, maker) in enumerate(mine) if not maker]
    exact = bar["volume_base_text"] or repr(bar["volume_base"])
    assert Decimal(exact) == base
    assert bar["volume_quote"] == float(quote)
    assert Decimal(bar["taker_buy_base_text"] or repr(bar["taker_buy_base"])) == sum(bases[p] for p in bought)
    assert bar["taker_buy_quote"] == float(sum(mine[p][1] for p in bought))
    assert bar["vwap"] == float(quote) / float(base)
    assert bar["trade_count"] == len(mine)


def test_the_candle_of_the_days_last_minute_lies_in_that_day_with_base_and_quote_volumes(inverse: Path) -> None:
    (candle,) = Lake(inverse).read("kline").to_pylist()
    assert str(candle["date"]) == "2025-12-31"
    assert (candle["volume_base"], candle["volume_quote"]) == (0.01254933, 1100.0)
    assert (candle["taker_buy_base"], candle["taker_buy_quote"]) == (0.00342254, 300.0)


def test_marks_and_forced_orders_say_what_the_frame_said(inverse: Path) -> None:
    marks = Lake(inverse).read("mark_price").to_pylist()
    assert {row["predicted_rate"] for row in marks} == {-0.0001}
    assert {row["next_funding"].isoformat() for row in marks} == {"2026-01-01T00:00:00+00:00"}
    (order,) = Lake(inverse).read("liquidation").to_pylist()
    assert (order["side"], order["price"], order["avg_price"], order["qty"]) == ("sell", 87000.0, 87010.5, 4.0)


def test_what_was_polled_is_read_back(inverse: Path) -> None:
    held = Lake(inverse).read("open_interest").to_pylist()
    assert {(row["symbol"], row["oi_unit"], row["sides"]) for row in held} == {
        ("BTCUSD_PERP", "contract", 1), ("ETHUSD_PERP", "contract", 1),
    }  # fmt: skip
    first, second = Lake(inverse).read("funding_rate").to_pylist()
    assert (second["ts_event"] - first["ts_event"]).total_seconds() == second["interval_s"] == 28_800
    assert (second["known_at"] - second["ts_event"]).total_seconds() == 0.001
    assert (first["rate"], second["rate_kind"]) == (0.0, "ratio")


def test_spot_books_without_time_are_placed_by_the_receive_time_and_keep_inexact_texts(tmp_path: Path) -> None:
    frames = written(tmp_path / "made.frames.jsonl", spot_frames(), None)
    dl("replay", frames, "--exchange", "binance", "--market-type", "spot", "--lake", tmp_path / "lake")
    books = Lake(tmp_path / "lake").read("book_snapshot").to_pylist()
    assert [row["last_id"] for row in books] == [10, 20, 30, 40, 50]
    assert all(row["ts_estimated"] and row["depth"] == 20 for row in books)
    assert books[0]["bids_text"] is None
    assert books[0]["asks_text"] == [{"price": "87654.123456789012345678", "qty": None}]
    deltas = Lake(tmp_path / "lake").read("book_delta").to_pylist()
    assert [(row["first_id"], row["last_id"], row["prev_id"]) for row in deltas[:2]] == [(1, 10, None), (11, 20, None)]
    assert dl_json("gaps", "--lake", tmp_path / "lake") == []
    assert dl_json("verify", "--lake", tmp_path / "lake")["ok"]


def digests(lake: Path) -> dict[tuple[str, str | None, str], str]:
    return {
        (row["file"]["kind"], row["file"]["symbol"], row["file"]["date"]): row["file"]["content_digest"]
        for row in dl_json("ls", "--lake", lake)
    }


def test_replaying_the_frames_gives_the_same_content_digests(inverse: Path, tmp_path: Path) -> None:
    stored = sorted((inverse / "frames").rglob("*.zst"))
    dl("replay", *stored, "--exchange", "binance", "--market-type", "inverse", "--lake", tmp_path / "again")
    assert digests(tmp_path / "again") == digests(inverse)
    dl("replay", *stored, "--exchange", "binance", "--market-type", "inverse", "--lake", inverse)
    assert digests(tmp_path / "again") == digests(inverse)


def test_two_connections_of_which_one_loses_frames_make_the_same_days_as_one_that_loses_none(
    inverse: Path, tmp_path: Path
) -> None:
    frames = list(inverse_frames())
    notice = next(n for n, (_, frame) in enumerate(sorted(frames, key=lambda f: f[0]), 1) if "contractInfo" in frame)
    lost = set(range(2, len(frames), 3)) - {notice}  # since a contract is known from when it was received
    twins = written(tmp_path / "twins.frames.jsonl", frames, INFO, lost=lost, twin=3000)
    said = dl_json("replay", twins, "--exchange", "binance", "--market-type", "inverse", "--lake", tmp_path / "lake")
    assert sum(said["replayed"]["duplicates"].values()) > 10
    assert digests(tmp_path / "lake") == digests(inverse)
    gaps = {(gap["kind"], gap["cause"]) for gap in dl_json("gaps", "--lake", tmp_path / "lake", expect=1)}
    before = {("liquidation", "frames_missing"), ("contract", "frames_missing")}
    """What the one had lost by when the other was taken on: the silence of these streams proves nothing."""
    assert gaps - before == {("book_delta", "jump")}
