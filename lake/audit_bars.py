"""Our bars against the venue's own candles: a symbol and day, window by window, and why where they are not the same.

Pure. Of a candle everything is compared that the venue gives, sums exactly. A difference is explained only by what is
there to be looked at: what the candle was before, rows of `trade` that count the other way, gaps and coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext

import msgspec
import polars as pl
import pyarrow as pa

from lake import scaled
from lake.audit_fills import Fill, book_of, fills_of, moved, off_book
from lake.audit_words import (
    LATE_PRINT,
    MISSING_ID,
    NOT_COLLECTED,
    OFF_BOOK,
    ROUNDING,
    UNEXPLAINED,
    VENUE_REVISION,
    Difference,
)
from lake.merge import plain_frame
from market.times import DAY, Interval, covers, floor_to, intersect

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume_base", "volume_quote", "trade_count", "taker_buy_base", "taker_buy_quote")
"""What a candle says, as far as the venue gives it."""
_BASE, _QUOTE = ("volume_base", "taker_buy_base"), ("volume_quote", "taker_buy_quote")

MOST = 300
"""Windows of a day whose trades are looked at: where more differ, something else is wrong."""
Values = Mapping[str, str | None]
Load = Callable[[Interval], pa.Table]
"""Rows of the trades that bars are made of, of one symbol, whose event time lies in an interval (or some more)."""


class Differing(msgspec.Struct, frozen=True):
    """A window that is not the same: our values (None: no bar), the candle's, and what it was told as before."""

    at: int
    ours: Values | None
    theirs: Values
    before: tuple[Values, ...] = ()


class Compared(msgspec.Struct):
    """Windows by what came of them; `untold` are those that the venue says nothing of, by their start (us)."""

    width: int
    equal: int = 0
    empty: int = 0
    differing: list[Differing] = []
    untold: list[int] = []
    decimals: dict[str, int] = {}
    """Digits after the point that the venue gives of each value."""


class Known(msgspec.Struct, frozen=True):
    """What else is known of the symbol's trades: holes, when they were collected, and whether base is quote / price."""

    dark: Sequence[Interval]
    light: Sequence[Interval]
    inverse: bool


def compare(bars: pa.Table, candles: pa.Table, day: Interval, width: int, told: Sequence[Interval]) -> Compared:
    """`bars` of `width` us against rows of `kline` of that interval, both of one symbol; `told` is when candles were
    collected: there a window without one had no trade.

    A candle without volume is a window without a bar. Of several tellings the newest received holds.
    """
    ours, every = _values(bars, "window_start"), _values(candles, "open_time")
    every = every.filter(pl.col("at").is_between(day.start, day.end, closed="left"))
    order = plain_frame(candles.select(["open_time", "ts_recv", "revision"])).with_columns(pl.all().to_physical())
    order = order.filter(pl.col("open_time").is_between(day.start, day.end, closed="left"))
    every = every.with_columns(order["ts_recv"], order["revision"]).sort("at", "ts_recv", "revision")
    newest = every.unique("at", keep="last", maintain_order=True).drop("ts_recv", "revision")
    found = Compared(width, decimals={name: _decimals(every[name]) for name in VALUES})
    both = newest.with_columns(there=True).join(ours.with_columns(ours=True), on="at", how="full", coalesce=True)
    both = both.with_columns(
        same=pl.all_horizontal(_same(name) for name in VALUES), nothing=pl.any_horizontal(*map(_zero, _SIZES))
    )
    both = both.with_columns(pl.col("there", "ours").fill_null(value=False))
    found.equal = both.filter(pl.col("there") & pl.col("ours") & pl.col("same")).height
    empty = pl.col("there") & ~pl.col("ours") & pl.col("nothing")
    found.empty = both.filter(empty).height
    other = both.filter(pl.col("there") & ~empty & ~(pl.col("ours") & pl.col("same"))).sort("at")
    older = every.join(other.select("at"), on="at", how="semi").partition_by("at", as_dict=True)
    for row in other.iter_rows(named=True):
        theirs = {name: row[name] for name in VALUES}
        mine = {name: row[f"{name}_right"] for name in VALUES} if row["ours"] else None
        tellings = [{name: one[name] for name in VALUES} for one in older[(row["at"],)].iter_rows(named=True)]
        before = tuple(one for place, one in enumerate(tellings) if one != theirs and one not in tellings[:place])
        found.differing.append(Differing(row["at"], mine, theirs, before))
    said, held = set(newest["at"]), set(ours["at"])
    found.untold = [
        at
        for at in range(day.start, day.end, width)
        if at not in said and (at in held or not covers(told, Interval(at, at + width)))
    ]
    return found


_SIZES = ("volume_base", "volume_quote", "trade_count")


def _values(table: pa.Table, time: str) -> pl.DataFrame:
    """Every value as plain decimal text, with the window's start `at` (us)."""
    names = [time, *VALUES, *(f"{name}_text" for name in (*_BASE, *_QUOTE))]
    frame = plain_frame(table.select(names))
    made = {"at": frame[time].to_physical().cast(pl.Int64)}
    made |= {name: scaled.float_texts(frame[name]) for name in PRICES}
    made |= {name: scaled.texts_of(frame[name], frame[f"{name}_text"]) for name in (*_BASE, *_QUOTE)}
    made["trade_count"] = frame["trade_count"].cast(pl.String)
    return pl.DataFrame(made).select("at", *VALUES)


def _same(name: str) -> pl.Expr:
    """Whether ours is what the venue says; what it does not say is no difference."""
    return pl.col(name).is_null() | (pl.col(name) == pl.col(f"{name}_right")).fill_null(value=False)


def _zero(name: str) -> pl.Expr:
    return (pl.col(name) == "0").fill_null(value=False)


def _decimals(texts: pl.Series) -> int:
    shown = texts.drop_nulls()
    return scaled.exponent_of(shown) if shown.len() else 0


# --- why ---


def explained(found: Compared, known: Known, load: Load) -> list[Difference]:
    """Why each differing window differs. Trades are read only of windows that nothing simpler explains."""
    with localcontext() as context:
        context.prec = 100
        made = {one.at: _simple(found, one, known) for one in found.differing}
        slices: dict[int, list[Fill]] = {}
        own: dict[int, list[Fill]] = {}
        for one in [one for one in found.differing if made[one.at] is None][:MOST]:
            made[one.at] = _by_trades(found, one, known, load, slices, own)
        _only_conserved(slices, own, found, made)
        return [made[one.at] or Difference(UNEXPLAINED, one.at, _told(one.ours, one.theirs)) for one in found.differing]


def _simple(found: Compared, one: Differing, known: Known) -> Difference | None:
    """What the candle's other tellings, the gaps and the coverage explain."""
    window, told = Interval(one.at, one.at + found.width), _told(one.ours, one.theirs)
    if one.ours is not None and any(_agree(one.ours, before, known, found) for before in one.before):
        return Difference(VENUE_REVISION, one.at, told)
    if one.ours is not None and _agree(one.ours, one.theirs, known, found):
        return Difference(ROUNDING, one.at, told)
    if one.ours is None or _inside(one.ours, one.theirs):
        if intersect([window], known.dark):
            return Difference(MISSING_ID, one.at, told)
        if not covers(known.light, window):
            return Difference(NOT_COLLECTED, one.at, told)
    return None


def _by_trades(
    found: Compared,
    one: Differing,
    known: Known,
    load: Load,
    slices: dict[int, list[Fill]],
    own: dict[int, list[Fill]],
) -> Difference | None:
    """What trades that count the other way, or in the window beside it, explain."""
    window = Interval(one.at, one.at + found.width)
    since = min((span.start for span in known.light), default=window.end)
    fills = fills_of(load(Interval(window.start - found.width, window.end + found.width)), since)
    inside = [fill for fill in fills if window.start <= fill.at < window.end]

    def agrees(chosen: Sequence[Fill]) -> bool:
        return bool(chosen) and _agree(book_of(chosen), one.theirs, known, found)

    name = off_book(inside, agrees)
    if name is not None:
        return Difference(OFF_BOOK, one.at, f"{name}: {_told(one.ours, one.theirs)}")
    own[one.at] = [fill for fill in inside if fill.counted]
    part = moved([fill for fill in fills if fill.counted], own[one.at], one.theirs, agrees)
    if part is not None:
        slices[one.at] = part
    return None


def _only_conserved(
    slices: dict[int, list[Fill]],
    own: Mapping[int, list[Fill]],
    found: Compared,
    made: dict[int, Difference | None],
) -> None:
    """Late prints are those whose trades are each in one candle: one that leaves a window has to be in another."""
    theirs = {one.at: one for one in found.differing}
    while lost := [at for at, part in slices.items() if not _kept(at, part, slices, own, found)]:
        for at in lost:
            del slices[at]
    for at, part in slices.items():
        keys = {fill.key for fill in own[at]}
        came = sum(fill.fills for fill in part if fill.key not in keys)
        held = {fill.key for fill in part}
        went = sum(fill.fills for fill in own[at] if fill.key not in held)
        detail = f"{went} trades are in the candle beside it, {came} of that are in this one"
        made[at] = Difference(LATE_PRINT, at, f"{detail}: {_told(theirs[at].ours, theirs[at].theirs)}")


def _kept(
    at: int,
    part: Sequence[Fill],
    slices: Mapping[int, Sequence[Fill]],
    own: Mapping[int, Sequence[Fill]],
    found: Compared,
) -> bool:
    """Whether what goes comes elsewhere, and what comes goes there; other days are not looked at."""
    start = floor_to(at, DAY)
    held = {fill.key for fill in part}
    mine = {fill.key for fill in own[at]}
    near = {fill.key for other in (at - found.width, at + found.width) for fill in slices.get(other, ())}
    gone = [fill for fill in own[at] if fill.key not in held and fill.key not in near]
    if gone and not _to_other_day(at, start, found.width, gone, [fill for fill in own[at] if fill.key in held]):
        return False
    for fill in part:
        home = floor_to(fill.at, found.width)
        if fill.key in mine or not start <= home < start + DAY:
            continue
        if home not in slices or any(fill.key == kept.key for kept in slices[home]):
            return False
    return True


def _to_other_day(at: int, start: int, width: int, gone: Sequence[Fill], stayed: Sequence[Fill]) -> bool:
    """Whether these can be in a candle of the day before or after: the first of a day, or its last by time or id."""
    if at == start:
        return max(fill.at for fill in gone) <= min((fill.at for fill in stayed), default=at + width)
    if at + width != start + DAY:
        return False
    orders = (lambda fill: fill.at, lambda fill: fill.seq)
    return any(min(map(order, gone)) >= max(map(order, stayed), default=0) for order in orders)


def _agree(ours: Values, theirs: Values, known: Known, found: Compared) -> bool:
    """Whether they are the same, but for what the venue may round: sums of products, by one of its digits a trade."""
    rounded = _BASE if known.inverse else _QUOTE
    for name in VALUES:
        said, mine = theirs[name], ours[name]
        if said is None or said == mine:
            continue
        if mine is None or name not in rounded:
            return False
        most = Decimal(max(1, int(ours["trade_count"] or 1))).scaleb(-found.decimals[name])
        if abs(Decimal(said) - Decimal(mine)) > most:
            return False
    return True


def _inside(ours: Values, theirs: Values) -> bool:
    """Whether ours may be a part of what the candle holds."""
    for name in (*_SIZES, *_BASE, *_QUOTE, "high"):
        if theirs[name] is not None and Decimal(ours[name] or 0) > Decimal(theirs[name] or 0):
            return False
    return Decimal(ours["low"] or 0) >= Decimal(theirs["low"] or 0)


def _told(ours: Values | None, theirs: Values) -> str:
    """The values that differ, ours first."""
    if ours is None:
        count = theirs["trade_count"] or "some"
        return f"no bar; the candle has {count} trades, volume_base {theirs['volume_base'] or '-'}"
    other = [name for name in VALUES if theirs[name] is not None and theirs[name] != ours[name]]
    return ", ".join(f"{name} {ours[name]}, the candle says {theirs[name]}" for name in other)
