"""Synthetic market data for the benches, in columns: what a venue would have said, and the lines that we keep of it.

Random walks on a tick grid, quantities of few digits, times of the venue in ms and ours in us; the same seed makes the
same market. Synthetic data repeat more than real ones, so sizes are kinder than on a real day. Lines are spelt in bulk
(a recorder's own encoder would take most of a bench's time); `tests/scripts` holds them against that encoder.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 -- the packages are one folder up
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402

from lake import scaled, tables  # noqa: E402
from lake.layout import raw_path  # noqa: E402
from lake.publish import Placement, publish  # noqa: E402
from lake.rows import FileRow, SegmentRow  # noqa: E402
from lake.segment_files import SegmentFile  # noqa: E402
from lake.segments import Extent  # noqa: E402
from lake.writer import LakeWriter  # noqa: E402
from market.session import Coverage  # noqa: E402
from market.times import DAY, HOUR, MINUTE, SECOND, date_of  # noqa: E402

START = 1_780_272_000_000_000
"""2026-06-01T00:00:00Z, us."""
STREAM = ("binance", "linear")
SESSION = "bench-1780272000000000-1"
LATENCY = 23_456


def symbols(count: int) -> list[str]:
    return [f"C{number:03d}USDT" for number in range(count)]


def walk(rng: np.random.Generator, count: int, names: Sequence[str], span: int) -> dict[str, Any]:
    """`count` events of some symbols over `span` us: symbol number, times, the price in ticks of 0.01."""
    which = rng.integers(0, len(names), count)
    at = np.sort(rng.integers(0, span // 1000, count)) * 1000
    base = 10_000 + 7_919 * np.arange(len(names))
    ticks = np.empty(count, np.int64)
    for number in range(len(names)):
        mine = which == number
        steps = rng.choice([-1, 0, 0, 0, 1], int(mine.sum()))
        ticks[mine] = base[number] + np.abs(np.cumsum(steps)) + 100
    order = np.argsort(which, kind="stable")
    number = np.empty(count, np.int64)
    counts = np.bincount(which, minlength=len(names))
    number[order] = np.concatenate([np.arange(held) for held in counts])
    return {"which": which, "at": START + at, "ticks": ticks, "number": number}


def trades(rng: np.random.Generator, count: int, names: Sequence[str], span: int) -> pl.DataFrame:
    """Trades in the order they are received: every field of a line but those that are the same in all."""
    made = walk(rng, count, names, span)
    return pl.DataFrame(
        {
            "symbol": pl.Series(list(names)).gather(made["which"]),
            "ts_event": made["at"],
            "ts_recv": made["at"] + LATENCY + rng.integers(0, 900, count),
            "frame_no": np.arange(1, count + 1),
            "price": _plain(made["ticks"], 2),
            "qty": _plain(rng.integers(1, 4000, count) * 10 ** rng.integers(0, 3, count), 5),
            "side": pl.Series(["buy", "sell"]).gather(rng.integers(0, 2, count)),
            "seq": 1_000_000 + made["number"],
        }
    ).with_columns(pl.col("ts_recv").cum_max())


def quotes(rng: np.random.Generator, count: int, names: Sequence[str], span: int) -> pl.DataFrame:
    """Best bids and asks, likewise."""
    made = walk(rng, count, names, span)
    return pl.DataFrame(
        {
            "symbol": pl.Series(list(names)).gather(made["which"]),
            "ts_event": made["at"],
            "ts_recv": made["at"] + LATENCY + rng.integers(0, 900, count),
            "frame_no": np.arange(1, count + 1),
            "bid": _plain(made["ticks"], 2),
            "bid_qty": _plain(rng.integers(1, 9000, count), 3),
            "ask": _plain(made["ticks"] + rng.integers(1, 4, count), 2),
            "ask_qty": _plain(rng.integers(1, 9000, count), 3),
            "update_id": 5_000_000 + made["number"],
        }
    ).with_columns(pl.col("ts_recv").cum_max())


def _plain(integers: np.ndarray, decimals: int) -> pl.Series:
    """Integers as decimal texts with that many digits behind the point."""
    digits = pl.Series(integers).cast(pl.String).str.pad_start(decimals + 1, "0")
    frame = pl.DataFrame({"d": digits})
    return frame.select(pl.col("d").str.head(-decimals) + "." + pl.col("d").str.tail(decimals)).to_series()


_CHANNEL = {"trade": "trade", "quote": "bookTicker"}
_TEXTS = {"trade": ("price", "qty", "side"), "quote": ("bid", "bid_qty", "ask", "ask_qty")}
_LAST = {"trade": ("seq", ',"condition":"market"'), "quote": ("update_id", "")}


def lines(kind: str, rows: pl.DataFrame) -> pl.Series:
    """The rows as the lines of a segment, each ended by a line feed."""
    symbol, (number, rest) = pl.col("symbol"), _LAST[kind]
    pieces: list[str | pl.Expr] = [
        '{"symbol":"', symbol, '","stream":"', symbol.str.to_lowercase(), f'@{_CHANNEL[kind]}","ts_event":',
        pl.col("ts_event"), ',"ts_publish":', pl.col("ts_event"), ',"ts_recv":', pl.col("ts_recv"),
        f',"session":"{SESSION}","frame_no":', pl.col("frame_no"), ',"item":0,"source":"ws"',
    ]  # fmt: skip
    for name in _TEXTS[kind]:
        pieces += [f',"{name}":"', pl.col(name), '"']
    pieces += [f',"{number}":', pl.col(number), rest + "}\n"]
    return rows.select(pl.concat_str([pl.lit(one) if isinstance(one, str) else one for one in pieces])).to_series()


def segments(root: Path, kind: str, rows: pl.DataFrame, seconds: int = 60) -> Iterator[SegmentRow]:
    """The rows as sealed segments of so many seconds, by the lake's own writer of segments."""
    width = seconds * SECOND
    cut = rows.with_columns(part=pl.col("ts_recv") // width)
    for number, ((part,), held) in enumerate(cut.group_by("part", maintain_order=True)):
        start = int(part) * width  # type: ignore[call-overload] # an integer column's group
        row = SegmentRow(
            path=raw_path(*STREAM, kind, start, "bench", number), exchange=STREAM[0], market_type=STREAM[1], kind=kind,
            state="open", period_start=start,
        )  # fmt: skip
        extent = Extent(held["ts_recv"][0], held["ts_recv"][-1], held["ts_event"].min(), held["ts_event"].max())
        with SegmentFile(root, row) as file:
            file.append(lines(kind, held).str.join().item().encode(), held.height, extent)
            yield file.seal(start + width)


def sealed_lake(root: Path, count: int, names: Sequence[str], span: int) -> None:
    """A lake with `count` trades and as many quotes in sealed segments, covered, its streams past their last minute."""
    rng = np.random.default_rng(7)
    end = START + span + 10 * MINUTE
    with LakeWriter.open(root, "bench", START, simulated=True) as writer:
        for kind, rows in (("trade", trades(rng, count, names, span)), ("quote", quotes(rng, count, names, span))):
            held = list(segments(root, kind, rows))
            last = held[-1].period_end or end
            silence = SegmentRow(
                path=raw_path(*STREAM, kind, last, "bench", len(held)), exchange=STREAM[0], market_type=STREAM[1],
                kind=kind, state="sealed", period_start=last, period_end=end,
            )  # fmt: skip
            writer.record(segments=[*held, silence])
            writer.record_coverage(
                [Coverage(*STREAM, kind, symbol, SESSION, START, START + span + MINUTE) for symbol in names]
            )


# -- typed rows, for the benches of what comes after the lines --------------------------------------------------------


def table(kind: str, rows: pl.DataFrame) -> pa.Table:
    """Rows of `trades` or `quotes` as a table of their kind."""
    made: dict[str, Any] = {}
    for name in tables.decimal_columns(kind):
        if name in rows.columns:
            made[name], made[tables.text_name(name)] = (
                column.to_arrow(compat_level=pl.CompatLevel.oldest()) for column in scaled.split(rows[name])
            )
    plain = rows.select(name for name in rows.columns if name not in made).with_columns(
        ts_publish="ts_event", date=pl.from_epoch("ts_event", time_unit="us").dt.date()
    )
    held = plain.to_arrow(compat_level=pl.CompatLevel.oldest())
    for name, values in made.items():
        held = held.append_column(name, values)
    constants = {"exchange": STREAM[0], "market_type": STREAM[1], "ts_estimated": False, "session": SESSION, "item": 0,
                 "source": "ws"}  # fmt: skip
    if kind == "trade":
        constants |= {"qty_unit": "base", "multiplier": 1.0, "condition": "market"}
    return tables.conform(held, kind, constants)


def deltas(
    rng: np.random.Generator,
    count: int,
    levels: int,
    symbol: str,
    at: int,
    span: int,
    first: int,
    *,
    whole: bool = False,
) -> pa.Table:
    """`count` updates of one book with `levels` levels each, ids from `first` on; `whole`: the first is a snapshot."""
    half = levels // 2
    times = at + np.sort(rng.integers(0, max(1, span // 1000), count)) * 1000
    ids = first + 10 * np.arange(count)
    data: dict[str, Any] = {"ts_event": times, "ts_publish": times, "ts_recv": times + LATENCY,
                            "frame_no": ids, "first_id": ids - 8, "last_id": ids, "prev_id": ids - 10}  # fmt: skip
    held = {name: pa.array(values) for name, values in data.items()}
    flags = ["snapshot" if whole and number == 0 else "" for number in range(count)]
    if whole:
        for name in ("first_id", "prev_id"):
            held[name] = pa.concat_arrays([pa.nulls(1, pa.int64()), held[name].slice(1)])
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * half)
    steps = np.cumsum(rng.integers(1, 4, (count, half)), axis=1)
    for name, sign in (("bids", -1), ("asks", 1)):
        prices = (5_000_000 + sign * steps).ravel() / 100
        qtys = rng.integers(0, 500, count * half) / 1000
        pairs = pa.StructArray.from_arrays([pa.array(prices), pa.array(qtys)], ["price", "qty"])
        held[name] = pa.ListArray.from_arrays(offsets, pairs)
    date = dt.date(1970, 1, 1) + dt.timedelta(microseconds=at)
    constants = {"exchange": STREAM[0], "market_type": STREAM[1], "symbol": symbol, "ts_estimated": False, "item": 0,
                 "session": SESSION, "source": "ws", "date": date}  # fmt: skip
    return tables.conform(pa.table(held | {"flags": pa.array(flags)}), "book_delta", constants)


def part(root: Path, kind: str, made: pa.Table) -> FileRow:
    """A table of one hour, published as a hot part."""
    at = made.column("ts_event")[0].value
    placement = Placement(
        kind=kind, exchange=STREAM[0], market_type=STREAM[1], level="part", date=date_of(at).isoformat(),
        hour=at % DAY // HOUR, lake_id="bench",
    )  # fmt: skip
    return publish(root, placement, [made], run="bench", now=at)
