"""Order books as tardis.dev sells them: messages of `incremental_book_L2` and rows of `book_snapshot_N`. Pure.

Such files have no ids. A message's ids are its lines, counted on from the time at which the file begins: what follows
in the file follows in the ids, a message that is missing leaves a hole in them, and files of later days go on above.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from collectors.files import texts
from collectors.files.reading import Options, Reading, Refused, Sample, Stamp, plain
from lake import level_texts
from lake.typed import BAD, LINE

CHANGES, SNAPSHOTS = "tardis-book", "tardis-book-snapshot"
DIALECTS = {CHANGES: "book_delta", SNAPSHOTS: "book_snapshot"}
NUMBER = "n"
LINES_A_US = 1_000
"""Ids that a file has for each microsecond until another may begin."""
_STREAM = ("exchange", "symbol", "timestamp", "localtimestamp")
_CHANGES = (*_STREAM, "issnapshot", "side", "price", "amount")
_LEVEL = re.compile(r"(asks|bids)(\d+)(price|amount)")
_SYMBOL, _TIME, _LOCAL, _WHOLE, _SIDE, _PRICE, _AMOUNT = range(1, 8)
_UNTIL = 5
"""Columns that tell one message from another come before this."""
_STAMP = Stamp(columns=(_TIME,), form="us")


def dialect_of(sample: Sample) -> str | None:
    """Which of the two a header is of; None for neither."""
    names = tuple(plain(name) for name in sample.header or ())
    if names == _CHANGES:
        return CHANGES
    rest = names[len(_STREAM) :]
    if names[: len(_STREAM)] != _STREAM or not rest or len(rest) % 4:
        return None
    wanted = [
        f"{side}{n}{of}" for n in range(len(rest) // 4) for side in ("asks", "bids") for of in ("price", "amount")
    ]
    return SNAPSHOTS if sorted(rest) == sorted(wanted) else None


def reading(sample: Sample, dialect: str, options: Options) -> Reading:
    """How such a file is read. Raises Refused."""
    kind = DIALECTS[dialect]
    if options.kind not in (None, kind):
        raise Refused(f"{sample.name} ({dialect}) holds no {options.kind}", f"it holds {kind}")
    if options.symbol is not None:
        raise Refused(f"{sample.name} names the symbol of each row", "leave out --symbol")
    if sample.format != "csv" or sample.comma:
        raise Refused(f"{sample.name}: books are read of the CSV files as they are sold", "fetch them as CSV")
    first = texts.times([pl.Series([sample.rows[0][place] for place in (_LOCAL,)])], _STAMP)[0]
    if first is None or len(sample.column(_LOCAL)[0]) not in (15, 16):
        raise Refused(f"{sample.name}: {sample.rows[0][_LOCAL]!r} is no local_timestamp in us", "fetch the file again")
    assert sample.header is not None
    levels = {"bids": _PRICE, "asks": _PRICE} if dialect == CHANGES else {"bids": len(_STREAM), "asks": len(_STREAM)}
    return Reading(
        dialect=dialect, kind=kind, format="csv", names=sample.header, fields={"symbol": _SYMBOL, **levels},
        times={"ts_event": _STAMP}, delimiter=sample.delimiter, skip=sample.skip, encoding=sample.encoding,
        base=first * LINES_A_US,
    )  # fmt: skip


def message_of(line: bytes) -> tuple[bytes, ...]:
    """What lines of one message have in common: a whole book is one message, whatever its times."""
    cells = line.split(b",", _UNTIL)[:_UNTIL]
    return (cells[_SYMBOL], b"true") if cells[-1] == b"true" else tuple(cells)


def batch(reading: Reading, cut: pl.DataFrame) -> pl.DataFrame:
    """Rows of texts c0, c1, … and their numbers as a batch. Raises Refused."""
    if cut["c1"].n_unique() > 1:
        raise Refused(
            f"books of several symbols are in one file: {', '.join(cut['c1'].unique().sort().head(3))}",
            "fetch a file for each symbol",
        )
    return _messages(reading, cut) if reading.dialect == CHANGES else _snapshots(reading, cut)


def _messages(reading: Reading, cut: pl.DataFrame) -> pl.DataFrame:
    side, whole = cut[f"c{_SIDE}"], cut[f"c{_WHOLE}"]
    price, qty = (texts.numbers(cut[f"c{place}"]) for place in (_PRICE, _AMOUNT))
    held = cut.select(
        NUMBER, texts.unguarded(cut["c1"]).alias("symbol"), texts.times([cut["c2"]], _STAMP).alias("ts_event"),
        (whole == "true").alias("whole"), pl.struct("c2", "c3").alias("at"),
        side.alias("side"), pl.struct(price.alias("price"), qty.alias("qty")).alias("level"),
        (~side.is_in(["bid", "ask"]) | ~whole.is_in(["true", "false"])).fill_null(value=True).alias("odd"),
        pl.concat_str([f"c{place}" for place in range(len(_CHANGES))], separator=",", ignore_nulls=True).alias(LINE),
    )  # fmt: skip
    another = (pl.col("whole") != pl.col("whole").shift()) | (~pl.col("whole") & (pl.col("at") != pl.col("at").shift()))
    rows = held.group_by(another.fill_null(value=False).cum_sum().alias("message"), maintain_order=True).agg(
        pl.col("symbol").first(), pl.col("ts_event").last(), pl.col("whole").first(),
        pl.col("level").filter(pl.col("side") == "bid").alias("bids"),
        pl.col("level").filter(pl.col("side") == "ask").alias("asks"),
        pl.col(NUMBER).min().alias("frame_no"), pl.col(NUMBER).max().alias("last"),
        pl.col("odd").any(), pl.col("ts_event").has_nulls().alias("timeless"), pl.col(LINE).filter("odd").first(),
    )  # fmt: skip
    ids = pl.lit(reading.base)
    return rows.select(
        "symbol", "ts_event", "frame_no", LINE, pl.col("bids", "asks").cast(level_texts.TEXTS),
        pl.when("whole").then(None).otherwise(ids + pl.col("frame_no")).alias("first_id"),
        (ids + pl.col("last")).alias("last_id"),
        pl.when("whole").then(pl.lit("snapshot")).otherwise(pl.lit("")).alias("flags"),
        pl.when("odd").then(pl.lit("a line that is no change of a book"))
        .when("timeless").then(pl.lit("ts_event: no time of the form us")).alias(BAD),
    )  # fmt: skip


def _snapshots(reading: Reading, cut: pl.DataFrame) -> pl.DataFrame:
    depth = (len(reading.names) - len(_STREAM)) // 4
    sides = {side: _levels(cut, _places(reading.names, side, depth)) for side in ("bids", "asks")}
    made = cut.select(
        texts.unguarded(cut["c1"]).alias("symbol"), texts.times([cut["c2"]], _STAMP).alias("ts_event"),
        pl.col(NUMBER).alias("frame_no"), pl.lit(depth, dtype=pl.Int64).alias("depth"),
        pl.concat_str("c0", "c1", "c2", "c3", separator=",", ignore_nulls=True).alias(LINE),
    )  # fmt: skip
    made = made.with_columns(**sides)
    short = cut[f"c{len(reading.names) - 1}"].is_null()
    return made.with_columns(
        pl.when(short).then(pl.lit("it has fewer columns than the others"))
        .when(pl.col("ts_event").is_null()).then(pl.lit("ts_event: no time of the form us")).alias(BAD)
    )  # fmt: skip


def _places(names: Sequence[str], side: str, depth: int) -> list[tuple[int, int]]:
    """Columns of the price and the amount of each level, best first."""
    header = [plain(name) for name in names]
    return [(header.index(f"{side}{n}price"), header.index(f"{side}{n}amount")) for n in range(depth)]


def _levels(cut: pl.DataFrame, places: Sequence[tuple[int, int]]) -> pl.Series:
    """The levels of a side; empty cells are none."""
    made = []
    for price, qty in places:
        both = pl.DataFrame({"price": texts.numbers(cut[f"c{price}"]), "qty": texts.numbers(cut[f"c{qty}"])})
        there = both["price"].is_not_null() | both["qty"].is_not_null()
        made.append(both.select(pl.when(there).then(pl.struct("price", "qty"))).to_series().alias(f"l{price}"))
    return pl.DataFrame(made).select(pl.concat_list(pl.all()).list.drop_nulls().cast(level_texts.TEXTS)).to_series()
