"""A bought book beside what the lake has of it: only messages of times that the lake leaves open become rows. Pure.

Its messages have ids of their own (see `changes`), so each part begins with a whole book of the file: the next one that
it tells, or what its messages before the part come to. A part stands between two rows `clear`, since nothing of another
numbering joins it. A file is read block by block; `State` is what one leaves to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
import polars as pl

from collectors.files.reading import Refused
from lake import level_texts, scaled
from lake.typed import BAD, LINE
from market.times import Interval

OPENS, CLOSES = 1, 2
"""The `item` of rows `clear` before and behind a part."""
_SIDES = ("bids", "asks")
_NEVER = -(2**62)
_WRONG, _CLOCK = "#wrong", "#clock"
_EMPTY = pl.DataFrame(
    schema={
        "symbol": pl.String, "ts_event": pl.Int64, "frame_no": pl.Int64, LINE: pl.String, "bids": level_texts.TEXTS,
        "asks": level_texts.TEXTS, "first_id": pl.Int64, "last_id": pl.Int64, "flags": pl.String, BAD: pl.String,
        "item": pl.Int64, "ts_estimated": pl.Boolean,
    }
)  # fmt: skip
_NOTHING = pl.DataFrame(schema={"price": pl.String, "qty": pl.String, "key": pl.String})


class Followed(NamedTuple):
    """A book as far as it is known, best levels first: bids not below `low` and asks not above `high` (None: all), as
    far as the whole book showed that it began from. Levels beyond that are unknown but for those that were named.
    """

    sides: tuple[pl.DataFrame, pl.DataFrame]
    low: str | None
    high: str | None


class Taken(msgspec.Struct):
    """Messages of one part that became rows, from when to when (us). `folded`: the whole book that it begins with is
    what the messages before it came to. Of the `levels` that it and the lake's own book just before tell of, `same` are
    the same (0 of 0: one of them is not known).
    """

    ts_from: int
    ts_to: int
    rows: int
    folded: bool
    levels: int = 0
    same: int = 0


class Unjoined(msgspec.Struct):
    """Messages of a part that no whole book of the file comes before."""

    ts_from: int
    ts_to: int
    rows: int


class State(msgspec.Struct):
    """How far a file is read. `added`: rows that are no message of it."""

    symbol: str = ""
    clock: int = _NEVER
    """The latest time of the messages so far: which part the next one is of."""
    line: int = 0
    part: int = -1
    going: bool = False
    """Whether messages of the part are taken."""
    waits: bool = False
    """Whether the part has had messages, and no whole book yet."""
    newest: int = _NEVER
    book: Followed | None = None
    taken: list[Taken] = []
    unjoined: list[Unjoined] = []
    covered: int = 0
    added: int = 0


def joined(state: State, parts: Sequence[Interval], base: int, batch: pl.DataFrame) -> pl.DataFrame:
    """What of a batch of messages becomes rows; `state` goes on. Raises Refused for another symbol."""
    symbol = str(batch["symbol"][0])
    if state.symbol not in ("", symbol):
        raise Refused(f"books of several symbols are in one file: {state.symbol}, {symbol}", "fetch a file for each")
    state.symbol = symbol
    wrong = [level_texts.wrong(side) for side in _SIDES]
    batch = batch.with_columns(
        pl.lit(0, dtype=pl.Int64).alias("item"), pl.lit(value=False).alias("ts_estimated"),
        pl.coalesce(BAD, *wrong).is_not_null().alias(_WRONG),
        batch["ts_event"].fill_null(state.clock).cum_max().clip(state.clock).alias(_CLOCK),
    )  # fmt: skip
    clock = batch[_CLOCK]
    places = _places(clock, parts)
    made: list[pl.DataFrame] = []
    start = 0
    for length, place in places.rle().struct.unnest().iter_rows():
        rows = batch.slice(start, length)
        made += _run(state, parts, base, place, rows, int(clock[start]))
        state.clock = int(clock[start + length - 1])
        state.line = int(batch["last_id"][start + length - 1]) - base
        start += length
    return pl.concat([batch.head(0), *made]).drop(_WRONG, _CLOCK)


def ended(state: State, parts: Sequence[Interval]) -> pl.DataFrame:
    """What closes the part with which the file ends."""
    return pl.concat([_EMPTY, *_close(state, parts, _EMPTY, behind=False)])


def closing(symbol: str, at: int, line: int) -> pl.DataFrame:
    """What closes a file that was taken whole: nothing behind it goes on with its numbering."""
    return pl.concat([_EMPTY, _clear(State(symbol=symbol, line=line), _EMPTY, at, CLOSES)])


def _places(clock: pl.Series, parts: Sequence[Interval]) -> pl.Series:
    """Which part each time is in, -1 for none."""
    starts, ends = (pl.Series([getattr(one, of) for one in parts], dtype=pl.Int64) for of in ("start", "end"))
    place = starts.search_sorted(clock, side="right").cast(pl.Int64) - 1
    inside = (place >= 0) & (clock < ends.gather(place.clip(0)))
    return pl.select(pl.when(inside).then(place).otherwise(-1)).to_series()


def _run(
    state: State, parts: Sequence[Interval], base: int, place: int, rows: pl.DataFrame, at: int
) -> list[pl.DataFrame]:
    """Messages that follow each other and are of one part, or of none."""
    made = _close(state, parts, rows, behind=True) if place != state.part else []
    every = rows
    if place < 0:
        state.covered += rows.height
    else:
        state.part = place
        if not state.going:
            opening, rows = _opened(state, parts[place], base, rows, at)
            made += opening
        if rows.height:
            made.append(_taken(state, parts[place], rows))
    if any(part.start > at for part in parts):
        state.book = folded(state.book, every)
    return made


def _opened(
    state: State, part: Interval, base: int, rows: pl.DataFrame, at: int
) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """The rows that a part begins with, and the messages that follow them."""
    wholes = ((rows["flags"] == "snapshot") & ~rows[_WRONG]).arg_true()
    known = None if state.book is None else shown(state.book)
    if known is not None and (not wholes.len() or wholes[0]):
        first = _whole(state, rows, part.start, base, known)
        state.going, state.newest = True, part.start
        state.taken.append(Taken(part.start, part.start + 1, 0, folded=True))
        return [_clear(state, first, part.start, OPENS), first], rows
    skipped = int(wholes[0]) if wholes.len() else rows.height
    if skipped:
        until = max(at, int(rows["ts_event"][skipped - 1] or at)) + 1
        if not state.waits:
            state.unjoined.append(Unjoined(at, until, 0))
        state.unjoined[-1].ts_to, state.unjoined[-1].rows = until, state.unjoined[-1].rows + skipped
    state.waits = skipped > 0
    rows = rows.slice(skipped)
    if not rows.height:
        return [], rows
    start = max(int(rows["ts_event"][0]), part.start)
    state.going, state.newest = True, start
    state.taken.append(Taken(start, start + 1, 0, folded=False))
    return [_clear(state, rows, start, OPENS)], rows


def _taken(state: State, part: Interval, rows: pl.DataFrame) -> pl.DataFrame:
    """Messages as rows of their part: one whose time went back behind its beginning has that of the one before it."""
    early = pl.col("ts_event") < state.taken[-1].ts_from
    rows = rows.with_columns(
        pl.when(early).then(_CLOCK).otherwise("ts_event").alias("ts_event"),
        early.fill_null(value=False).alias("ts_estimated"),
    )
    newest = rows["ts_event"].max()
    state.newest = max(state.newest, newest if isinstance(newest, int) else state.newest)
    state.taken[-1].rows += rows.height
    state.taken[-1].ts_to = min(part.end, state.newest + 1)
    return rows


def _close(state: State, parts: Sequence[Interval], like: pl.DataFrame, *, behind: bool) -> list[pl.DataFrame]:
    """The row that a part ends with, where one is under way; `behind`: the file goes on behind it."""
    made = []
    if state.going:
        made = [_clear(state, like, state.newest + 1, CLOSES)]
        if behind:
            state.taken[-1].ts_to = parts[state.part].end
    state.part, state.going, state.waits = -1, False, False
    return made


def _clear(state: State, like: pl.DataFrame, at: int, item: int) -> pl.DataFrame:
    """A row that says that nothing of the book is known from then on, until the next whole one."""
    state.added += 1
    line = int(like["frame_no"][0]) if item == OPENS else state.line
    return _row(state, like, at, {"frame_no": line, "flags": "clear", "item": item}, [None, None])


def _whole(
    state: State, like: pl.DataFrame, at: int, base: int, known: tuple[pl.DataFrame, pl.DataFrame]
) -> pl.DataFrame:
    """The book that the messages so far came to, as one."""
    state.added += 1
    told = {"frame_no": state.line, "flags": "snapshot", "item": 0, "last_id": base + state.line}
    return _row(state, like, at, told, known)


def shown(book: Followed) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The levels of a whole book that tells who reads it no more than is known; None where nothing is.

    A reader takes the longer side of a whole book for cut at its last level, and the shorter one for all there.
    """
    bids, asks = book.sides
    cut = book.low is not None, book.high is not None
    if (cut[0] and not bids.height) or (cut[1] and not asks.height):
        return None
    all_told = {(True, False): bids.height > asks.height, (False, True): asks.height > bids.height}.get(cut, False)
    most = (max if all_told else min)(bids.height, asks.height)
    return (bids.head(most), asks.head(most)) if most else None


def _row(
    state: State, like: pl.DataFrame, at: int, told: dict[str, object], sides: Sequence[pl.DataFrame | None]
) -> pl.DataFrame:
    one = pl.DataFrame({"symbol": [state.symbol], "ts_event": [at], "ts_estimated": [False], _WRONG: [False]})
    one = one.with_columns(pl.lit(value).alias(name) for name, value in told.items())
    for name, side in zip(_SIDES, sides, strict=True):
        levels = [] if side is None else side.select("price", "qty").to_dicts()
        one = one.with_columns(pl.Series([levels], dtype=level_texts.TEXTS).alias(name))
    return pl.concat([like.head(0), one.select(set(like.columns) & set(one.columns))], how="diagonal_relaxed")


def folded(book: Followed | None, rows: pl.DataFrame) -> Followed | None:
    """The book after some messages; None where a message that is no change left it unknown."""
    bad = rows[_WRONG].arg_true()
    if bad.len():
        book, rows = None, rows.slice(int(bad[-1]) + 1)
    wholes = (rows["flags"] == "snapshot").arg_true()
    if wholes.len():
        rows = rows.slice(int(wholes[-1]))
        book = _begun(rows)
    if book is None:
        return None
    edges = pl.col("value") >= float(book.low or "-inf"), pl.col("value") <= float(book.high or "inf")
    made = []
    for name, side, within in zip(_SIDES, book.sides, edges, strict=True):
        levels = rows.select(pl.col(name).explode()).drop_nulls().unnest(name)
        new = levels.select("price", "qty", scaled.plain(levels["price"]).alias("key"))
        every = pl.concat([side, new]).unique("key", keep="last", maintain_order=True)
        every = every.filter(scaled.plain(every["qty"]) != "0").with_columns(value=pl.col("key").cast(pl.Float64))
        every = every.filter(within).sort("value", descending=name == "bids", maintain_order=True)
        made.append(every.drop("value"))
    return book._replace(sides=(made[0], made[1]))


def _begun(rows: pl.DataFrame) -> Followed:
    """What the whole book that stands first says of how far it is known: its longer side, or both, was cut there."""
    sides = [rows.head(1)[name].to_list()[0] or [] for name in _SIDES]
    most = max(map(len, sides))
    ends = [
        str(pick((level["price"] for level in side), key=Decimal)) if side and len(side) == most else None
        for pick, side in zip((min, max), sides, strict=True)
    ]
    return Followed((_NOTHING, _NOTHING), ends[0], ends[1])
