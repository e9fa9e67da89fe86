"""Days of one symbol as files of a nautilus_trader catalog: trades, quotes, books and bars, in order of arrival.

Prices and sizes are integers of 128 bits, 16 digits behind the point (`fixed`), as nautilus keeps them where it is
built for high precision; times are ns. `ts_init` is when a row arrived. Source: the public documentation and schemas
of nautilus_trader's catalog.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lake import durable, parquet, scaled
from lake.errors import WrongQuestion
from market import times
from market.times import DAY, MINUTE, SECOND

if TYPE_CHECKING:
    from lake.tardis_books import Change

DIGITS = 16
_RAW = pa.binary(16)
_NS = 1_000
FOLDERS = {"trade": "trade_tick", "quote": "quote_tick", "book_delta": "order_book_delta", "bar_1s": "bar",
           "bar_1m": "bar"}  # fmt: skip
"""Kinds that are exported, and the folder of each in a catalog."""
_STEPS = {"bar_1s": ("1-SECOND", SECOND), "bar_1m": ("1-MINUTE", MINUTE)}
_SIDES = {"buy": 1, "sell": 2}
_ADD, _UPDATE, _DELETE, _CLEAR = 1, 2, 3, 4
_LAST, _WHOLE = 128, 32
"""Flags: the last row of a message, a row of a whole book."""
_PIECE = 50_000
_TICK = (("ts_event", pa.uint64()), ("ts_init", pa.uint64()))
SCHEMAS: dict[str, pa.Schema] = {
    folder: pa.schema([pa.field(name, kind, nullable=False) for name, kind in (*fields, *_TICK)])
    for folder, fields in {
        "trade_tick": (
            ("price", _RAW), ("size", _RAW), ("aggressor_side", pa.uint8()), ("trade_id", pa.string()),
        ),
        "quote_tick": (("bid_price", _RAW), ("ask_price", _RAW), ("bid_size", _RAW), ("ask_size", _RAW)),
        "order_book_delta": (
            ("action", pa.uint8()), ("side", pa.uint8()), ("price", _RAW), ("size", _RAW), ("order_id", pa.uint64()),
            ("flags", pa.uint8()), ("sequence", pa.uint64()),
        ),
        "bar": (("open", _RAW), ("high", _RAW), ("low", _RAW), ("close", _RAW), ("volume", _RAW)),
    }.items()
}  # fmt: skip
_PRICES = ("price", "bid_price", "ask_price", "open", "high", "low", "close")


def instrument_id(exchange: str, market_type: str, symbol: str) -> str:
    """`BTCUSDT.BINANCE` of spot, `BTCUSDT-LINEAR.BYBIT` of other markets."""
    plain = re.sub(r"[\s.]", "_", symbol)
    return f"{plain}{'' if market_type == 'spot' else f'-{market_type.upper()}'}.{exchange.upper()}"


def identifier(what: str, instrument: str) -> str:
    """What a kind is filed under: the instrument, or of bars their type."""
    return f"{instrument}-{_STEPS[what][0]}-LAST-EXTERNAL" if what in _STEPS else instrument


def file_name(what: str, instrument: str, date: int) -> str:
    """Where in a catalog a day (us) of a kind is: a file is named by the times that it is of, both included."""
    folder = identifier(what, instrument).replace("/", "")
    first, last = f"{_stamp(date)}-000000000Z", f"{_stamp(date + DAY - SECOND)}-999999999Z"
    if what in _STEPS:  # they are told when they close
        first, last = f"{_stamp(date + _STEPS[what][1])}-000000000Z", f"{_stamp(date + DAY)}-000000000Z"
    return f"data/{FOLDERS[what]}/{folder}/{first}_{last}.parquet"


def _stamp(time: int) -> str:
    return f"{times.to_datetime(time):%Y-%m-%dT%H-%M-%S}"


def fixed(texts: pl.Series, name: str) -> pa.Array:
    """Plain decimals as integers of 128 bits, exactly. Raises WrongQuestion for one of more than 16 digits."""
    try:
        made = texts.cast(pl.String).to_arrow().cast(pa.string()).cast(pa.decimal128(38, DIGITS))
    except pa.ArrowInvalid as error:
        raise WrongQuestion(
            f"{name} cannot be told to nautilus: {error}", f"it keeps {DIGITS} digits behind the point, 22 before it"
        ) from error
    return pa.Array.from_buffers(_RAW, len(made), [None, made.buffers()[1]], offset=made.offset)


class Catalog:
    """One file that is written, piece by piece; its precisions are those of what went into it."""

    def __init__(self, file: durable.AppendFile, what: str, instrument: str) -> None:
        self.rows = 0
        self._schema = SCHEMAS[FOLDERS[what]]
        self._named = {"bar_type": identifier(what, instrument)} if what in _STEPS else {"instrument_id": instrument}
        self._precisions = {"price_precision": 0, "size_precision": 0}
        self._sink = parquet.Buffered(file)
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._last = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Rows with the columns of the schema: numbers as plain texts, times in us, `ts_init` the arrival."""
        if not rows.height:
            return
        arrived = pl.max_horizontal("ts_init", pl.lit(self._last)).cum_max()
        rows = rows.with_columns(arrived.alias("ts_init"))
        self._last = int(rows.get_column("ts_init")[-1])
        columns = []
        for field in self._schema:
            values = rows.get_column(field.name)
            if field.type == _RAW:
                which = "price_precision" if field.name in _PRICES else "size_precision"
                self._precisions[which] = max(self._precisions[which], scaled.exponent_of(values))
                columns.append(fixed(values, field.name))
            else:
                values = values * _NS if field.name.startswith("ts_") else values
                columns.append(values.to_arrow().cast(field.type))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self.rows += rows.height

    def close(self) -> None:
        told = self._named | {name: str(digits) for name, digits in self._precisions.items()}
        self._writer.add_key_value_metadata(told)
        self._writer.close()
        self._sink.flush()


def trades(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Rows of tardis.dev's `trades`; a trade without an id is named by its time and place."""
    for rows in frames:
        own = pl.concat_str(pl.col("timestamp").cast(pl.String), pl.lit("-"), pl.int_range(pl.len()).cast(pl.String))
        yield rows.select(
            "price",
            pl.col("amount").alias("size"),
            pl.col("side").replace_strict(_SIDES, default=0, return_dtype=pl.UInt8).alias("aggressor_side"),
            pl.col("id").fill_null(own).alias("trade_id"),
            pl.col("timestamp").alias("ts_event"),
            pl.col("local_timestamp").alias("ts_init"),
        )


def quotes(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Rows of tardis.dev's `quotes` that have both sides whole."""
    for rows in frames:
        yield rows.select(
            "bid_price",
            "ask_price",
            pl.col("bid_amount").alias("bid_size"),
            pl.col("ask_amount").alias("ask_size"),
            pl.col("timestamp").alias("ts_event"),
            pl.col("local_timestamp").alias("ts_init"),
        ).drop_nulls()


def deltas(changes: Iterable[Change]) -> Iterator[pl.DataFrame]:
    """A book's changes: a whole book is an end of all levels and its own."""
    names = ("action", "side", "price", "size", "flags", "ts_event", "ts_init")
    held: list[tuple[int, int, str, str, int, int, int]] = []
    for change in changes:
        at = change.timestamp, change.local
        flags, before = _WHOLE if change.snapshot else 0, len(held)
        if change.snapshot:
            held.append((_CLEAR, 0, "0", "0", flags, *at))
        for side, levels in ((1, change.bids), (2, change.asks)):
            for price, qty in levels:
                action = _ADD if change.snapshot else _UPDATE if float(qty) else _DELETE
                held.append((action, side, price, qty, flags, *at))
        if len(held) > before:
            held[-1] = (*held[-1][:4], flags | _LAST, *at)
        if len(held) >= _PIECE:
            yield _deltas(held, names)
            held = []
    yield _deltas(held, names)


def _deltas(held: list[tuple[int, int, str, str, int, int, int]], names: tuple[str, ...]) -> pl.DataFrame:
    kinds = {"price": pl.String(), "size": pl.String()}
    made = pl.DataFrame(held, schema={name: kinds.get(name, pl.Int64()) for name in names}, orient="row")
    return made.with_columns(pl.lit(0).alias("order_id"), pl.lit(0).alias("sequence"))


def bars(what: str, rows: pl.DataFrame, text: dict[str, pl.Series]) -> pl.DataFrame:
    """Our bars, each told when it closes; windows that hold no trade, or a gap, are none."""
    end = pl.col("window_start").cast(pl.Int64) + _STEPS[what][1]
    made = rows.select(end.alias("ts_event"), end.alias("ts_init")).with_columns(
        text[name].alias(name.removesuffix("_base")) for name in ("open", "high", "low", "close", "volume_base")
    )
    return made.drop_nulls()
