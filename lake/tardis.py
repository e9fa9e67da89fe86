"""The forms of tardis.dev: columns and units of its CSV datasets, and the messages of its normalised replays. Pure.

Each data type is made of rows of one of our kinds, in order of arrival (`lake.arrivals`), with LOCAL. Numbers are the
venue's, exactly, as plain decimals. Source: the public documentation of the CSV files and of tardis-machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from lake import scaled
from lake.layout import encode_name
from market import times
from market.kinds import COUNTED_CONDITIONS

LOCAL = "#local"
"""The column of when a row arrived, us."""
_STREAM = ("exchange", "symbol", "timestamp", "local_timestamp")
TRADES = (*_STREAM, "id", "side", "price", "amount")
QUOTES = (*_STREAM, "ask_amount", "ask_price", "bid_price", "bid_amount")
TICKER = (
    *_STREAM, "funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest", "last_price",
    "index_price", "mark_price",
)  # fmt: skip
CHANGES = (*_STREAM, "is_snapshot", "side", "price", "amount")
TAKEN = (*COUNTED_CONDITIONS, "history")
"""Conditions of the trades that are given out: the form has no place to say that one was none of the market."""
MOST_LEVELS = 1000
_SNAPSHOT = re.compile(r"book_snapshot_([1-9][0-9]{0,3})")
_FORMULA = r"^[=+\-@\t\r]"
_ODD = r'["\\\x00-\x1f\x7f]'


class DataType(NamedTuple):
    """One data type: the kind that it is made of, and its CSV columns."""

    name: str
    kind: str
    header: tuple[str, ...]
    depth: int = 0
    """Levels a side of `book_snapshot_N`."""
    lost: str = ""
    """What its columns have no place for."""


DATA_TYPES = {
    made.name: made
    for made in (
        DataType("trades", "trade", TRADES, lost="conditions, units and multipliers"),
        DataType("quotes", "quote", QUOTES, lost="update ids"),
        DataType("book_ticker", "quote", QUOTES, lost="update ids"),
        DataType("incremental_book_L2", "book_delta", CHANGES, lost="ids, checksums and flags"),
        DataType("derivative_ticker", "mark_price", TICKER),
        DataType("liquidations", "liquidation", TRADES, lost="ids and average prices"),
    )
}


def data_type(name: str) -> DataType | None:
    """The data type of that name, `book_snapshot_1` to `book_snapshot_1000` among them; None for none known."""
    found = _SNAPSHOT.fullmatch(name)
    if found is None or int(found[1]) > MOST_LEVELS:
        return DATA_TYPES.get(name)
    levels = (
        f"{side}[{n}].{of}" for n in range(int(found[1])) for side in ("asks", "bids") for of in ("price", "amount")
    )
    return DataType(name, "book_delta", (*_STREAM, *levels), int(found[1]), "updates and their ids")


def file_name(exchange: str, name: str, date: str, symbol: str) -> str:
    """As tardis.dev's own clients name what they fetched: `<exchange>_<type>_<YYYY-MM-DD>_<SYMBOL>.csv.gz`."""
    plain = encode_name(re.sub("[/:]", "-", symbol).upper())
    return f"{exchange}_{name}_{date}_{plain}.csv.gz"


def header_line(made: DataType) -> bytes:
    return (",".join(made.header) + "\n").encode()


# --- rows of our kinds as columns of texts ---


def columns(made: DataType, exchange: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a kind, books apart, as the columns of the data type: texts and times in us, null for nothing.

    What the form cannot tell from an ordinary trade is left out (see TAKEN).
    """
    if made.kind == "trade":
        rows = rows.filter(pl.col("condition").cast(pl.String).is_in(TAKEN))
    return _COLUMNS[made.kind](_stream(exchange, rows), rows).select(made.header)


def _stream(exchange: str, rows: pl.DataFrame) -> dict[str, pl.Series]:
    """A time that the venue did not give is that of the arrival, as there."""
    event = rows.get_column("ts_event").cast(pl.Int64)
    stamps = pl.DataFrame({"e": event, "l": rows.get_column(LOCAL), "x": rows.get_column("ts_estimated")})
    return {
        "exchange": pl.Series([exchange], dtype=pl.String).new_from_index(0, rows.height),
        "symbol": rows.get_column("symbol").cast(pl.String),
        "timestamp": stamps.select(pl.when("x").then("l").otherwise("e")).to_series(),
        "local_timestamp": rows.get_column(LOCAL),
    }


def text(rows: pl.DataFrame, name: str) -> pl.Series:
    """A decimal column as exact plain texts."""
    return scaled.texts_of(rows.get_column(name), rows.get_column(f"{name}_text"))


def _trade(stream: dict[str, pl.Series], rows: pl.DataFrame) -> pl.DataFrame:
    number = rows.get_column("seq").cast(pl.String)
    ids = number.zip_with(number.is_not_null(), rows.get_column("trade_id")) if "trade_id" in rows.columns else number
    side = rows.get_column("side").cast(pl.String).fill_null("unknown")
    return pl.DataFrame({**stream, "id": ids, "side": side, "price": text(rows, "price"), "amount": text(rows, "qty")})


def _quote(stream: dict[str, pl.Series], rows: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({
        **stream, "ask_amount": text(rows, "ask_qty"), "ask_price": text(rows, "ask"),
        "bid_price": text(rows, "bid"), "bid_amount": text(rows, "bid_qty"),
    })  # fmt: skip


def _ticker(stream: dict[str, pl.Series], rows: pl.DataFrame) -> pl.DataFrame:
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, rows.height)
    return pl.DataFrame({
        **stream, "funding_timestamp": rows.get_column("next_funding").cast(pl.Int64),
        "funding_rate": text(rows, "predicted_rate"), "predicted_funding_rate": nothing, "open_interest": nothing,
        "last_price": nothing, "index_price": text(rows, "index"), "mark_price": text(rows, "mark"),
    })  # fmt: skip


_COLUMNS: dict[str, Callable[[dict[str, pl.Series], pl.DataFrame], pl.DataFrame]] = {
    "trade": _trade, "liquidation": _trade, "quote": _quote, "mark_price": _ticker,
}  # fmt: skip


def open_interest(exchange: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `open_interest` as rows of `derivative_ticker` that say nothing else."""
    stream = _stream(exchange, rows)
    return pl.DataFrame(
        {name: stream.get(name, pl.Series([None] * rows.height, dtype=pl.String)) for name in TICKER}
        | {"open_interest": text(rows, "oi"), "funding_timestamp": pl.Series([None] * rows.height, dtype=pl.Int64)}
    )


def joined(
    marks: pl.DataFrame, interest: pl.DataFrame, upto: int, last: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(Marks with the open interest that arrived up to then among them, and the newest of it beside each; the rest)."""
    mine = interest.filter(pl.col("local_timestamp") <= upto)
    both = pl.concat([marks, mine]).sort("local_timestamp", maintain_order=True)
    newest = pl.col("open_interest").forward_fill().fill_null(pl.lit(last, dtype=pl.String))
    return both.with_columns(newest), interest.filter(pl.col("local_timestamp") > upto)


# --- CSV ---


def csv_lines(frame: pl.DataFrame) -> bytes:
    """The rows, without a header. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    texts = [name for name in ("exchange", "symbol", "id") if name in frame.columns]
    safe = [
        pl.when(pl.col(name).str.contains(_FORMULA)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in texts
    ]
    return frame.with_columns(safe).write_csv(include_header=False).encode()


# --- messages ---


def messages(made: DataType, frame: pl.DataFrame) -> list[tuple[int, bytes]]:
    """(arrival, message) of each row of `columns`: JSON as tardis-machine sends it, what is not known left out."""
    kind = {"trades": "trade", "liquidations": "liquidation"}.get(made.name, made.name)
    kind = "book_ticker" if kind == "quotes" else kind
    fields: list[pl.Series] = []
    for column in ("symbol", "exchange", *_FIELDS[made.kind]):
        values = frame.get_column(column)
        if column == "funding_timestamp":
            values = quoted(_iso(values))
        elif column in ("exchange", "symbol", "id", "side"):
            values = quoted(values)
        key = _KEYS.get(column, column)
        fields.append(pl.select((pl.lit(f'"{key}":') + values).fill_null("")).to_series())
    fields += [
        pl.select(pl.lit(f'"{key}":') + quoted(_iso(frame.get_column(column)))).to_series()
        for key, column in (("timestamp", "timestamp"), ("localTimestamp", "local_timestamp"))
    ]
    texts = pl.DataFrame([series.alias(str(n)) for n, series in enumerate(fields)])
    held = pl.concat_list([pl.when(pl.col(name) != "").then(pl.col(name)) for name in texts.columns])
    made_of = texts.select(pl.lit(f'{{"type":"{kind}",') + held.list.drop_nulls().list.join(",") + "}").to_series()
    local = frame.get_column("local_timestamp").to_list()
    return [(at, one.encode()) for at, one in zip(local, made_of, strict=True)]


_FIELDS = {
    "trade": ("id", "price", "amount", "side"), "liquidation": ("id", "price", "amount", "side"),
    "quote": ("ask_amount", "ask_price", "bid_price", "bid_amount"),
    "mark_price": ("open_interest", "funding_rate", "funding_timestamp", "index_price", "mark_price"),
}  # fmt: skip
"""In the order in which they are told there."""
_KEYS = {
    "ask_amount": "askAmount", "ask_price": "askPrice", "bid_price": "bidPrice", "bid_amount": "bidAmount",
    "funding_timestamp": "fundingTimestamp", "funding_rate": "fundingRate", "open_interest": "openInterest",
    "index_price": "indexPrice", "mark_price": "markPrice",
}  # fmt: skip


def quoted(values: pl.Series) -> pl.Series:
    """Texts as JSON strings."""
    plain = pl.select('"' + values + '"').to_series()
    odd = values.str.contains(_ODD).fill_null(value=False)
    if not odd.any():
        return plain
    spelt = {f'"{one}"': msgspec.json.encode(one).decode() for one in values.filter(odd).unique()}
    return plain.replace(spelt)


def _iso(values: pl.Series) -> pl.Series:
    spelt = values.cast(pl.Datetime("us")).dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    return spelt.str.replace("000Z$", "Z")


def iso(time: int) -> str:
    """A time (us) as JavaScript writes it: milliseconds, microseconds where there are any."""
    spelt = f"{times.to_datetime(time):%Y-%m-%dT%H:%M:%S.%f}"
    return f"{spelt.removesuffix('000')}Z" if spelt.endswith("000") else f"{spelt}Z"


def levels(side: Iterable[tuple[str, str]]) -> str:
    """Levels of a book in JSON."""
    return "[" + ",".join(f'{{"price":{price},"amount":{qty}}}' for price, qty in side) + "]"


def names(exchange: str, symbol: str) -> str:
    """Symbol and exchange as fields in JSON."""
    return ",".join(f'"{key}":{msgspec.json.encode(one).decode()}' for key, one in
                    (("symbol", symbol), ("exchange", exchange)))  # fmt: skip


def disconnect(exchange: str, symbols: Sequence[str], at: int) -> bytes:
    """That a connection by which these symbols were collected ended."""
    named = msgspec.json.encode(list(symbols)).decode()
    name = msgspec.json.encode(exchange).decode()
    return f'{{"type":"disconnect","exchange":{name},"localTimestamp":"{iso(at)}","symbols":{named}}}'.encode()
