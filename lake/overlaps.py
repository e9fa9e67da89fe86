"""Where a file that is taken in tells of what the lake holds already: what is in both, and where the two differ.

Rows with ids are one event by their ids: merges keep the one that was received first, and here it is counted how the
others differ. A row without an id cannot be told from another; where what the lake holds covers its time, it is left
out (`Held`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa

from lake import tables
from lake.errors import CorruptFile
from lake.lost import ROTTEN
from lake.manifest import Manifest
from lake.merge import plain_frame
from lake.reader import Lake
from lake.rows import FILES, FileRow, SessionRow
from market import kinds, times
from market.session import EVERY_SYMBOL, Gap, GapState
from market.times import Interval

MOST_ROWS = 150_000
"""Rows of one side that are looked at at once, where they are spread evenly."""
_MISSING: tuple[GapState, ...] = ("open", "unrepairable")
RECORDINGS = "https://api.tardis.dev/v1/data-feeds/"
"""How the addresses of sessions begin that somebody else recorded."""
BOOK = "book_delta"
_TAKEN = "#taken="
OWN, FILE = "own", "file"
Spans = Mapping[str, Sequence[tuple[int, int]]]
"""Symbol -> [from, to) us."""


class Overlap(msgspec.Struct, kw_only=True):
    """Of one symbol and day: rows in `both`, those of them that are `different`, rows that only one of the two has.

    `only_here`: the lake has them and the file, in its time, has not; `only_there` the other way round.
    `example` is the first of the different ones in words.
    """

    symbol: str
    date: str
    both: int = 0
    different: int = 0
    only_here: int = 0
    only_there: int = 0
    example: str = ""


def covered(
    manifest: Manifest,
    exchange: str,
    market_type: str,
    kind: str,
    sessions: Iterable[str],
    *,
    files: bool,
    nodes: bool = False,
) -> Spans:
    """When each symbol of a kind was covered by other sessions than these, gaps left out. `files`: by files as well.
    `nodes`: a gap of one node is none of another. EVERY_SYMBOL stands for symbols that are not named.
    """
    return together(covered_by(manifest, exchange, market_type, kind, sessions, files=files, nodes=nodes).values())


def covered_by(
    manifest: Manifest,
    exchange: str,
    market_type: str,
    kind: str,
    sessions: Iterable[str],
    *,
    files: bool,
    closed: bool = False,
    nodes: bool = False,
) -> dict[str, Spans]:
    """The same of own capture, of files, and of each recording of somebody else (`whose`): a gap of one is none of
    what another has. `closed`: also gaps that were closed since. The coverage of a stream ends, and an interruption
    begins, with an event that is stored: its time is covered.
    """
    known = {row.session: row for row in manifest.sessions(exchange, market_type)}
    by = {name: whose(row, nodes=nodes) for name, row in known.items()}
    ours = {*sessions, *(name for name, who in by.items() if who == FILE and not files)}
    others = {OWN, *(who for name, who in by.items() if name not in ours)}
    held: dict[str, dict[str, list[Interval]]] = {who: {EVERY_SYMBOL: []} for who in sorted(others)}
    for row in manifest.coverage(exchange, market_type, kind):
        if row.session not in ours:
            streamed = row.session in known and known[row.session].source == "ws"
            span = Interval(row.ts_from, row.ts_to + streamed)
            held[by.get(row.session, OWN)].setdefault(row.symbol, []).append(span)
    holes: dict[str, dict[str, list[Interval]]] = {who: {EVERY_SYMBOL: []} for who in held}
    for gap in manifest.gaps(exchange, market_type, kind, state=None if closed else _MISSING):
        lacking = hole(gap)
        of = holes if gap.session is None else holes.keys() & {by.get(gap.session, OWN)}
        for who in of if not lacking.empty else ():
            if who != FILE or gap.cause == ROTTEN:  # a file has no gaps, but the disk may lose what it had
                holes[who].setdefault(gap.symbol, []).append(lacking)
    return {who: _less(spans, holes[who]) for who, spans in held.items()}


def _less(held: Mapping[str, list[Interval]], holes: Mapping[str, list[Interval]]) -> Spans:
    """What is held of each symbol, without the holes in it and those in all symbols."""
    named = set(held) | (set(holes) if held[EVERY_SYMBOL] else set())
    found = {}
    for symbol in sorted(named):
        mine, lacking = ({*of.get(symbol, ()), *of[EVERY_SYMBOL]} for of in (held, holes))
        found[symbol] = [(one.start, one.end) for one in times.subtract(times.union(mine), lacking)]
    return {symbol: spans for symbol, spans in found.items() if spans or symbol != EVERY_SYMBOL}


def together(held: Iterable[Spans]) -> Spans:
    """What any of these covers."""
    every = list(held)
    named = sorted({symbol for one in every for symbol in one})
    found = {
        symbol: times.union(Interval(*span) for one in every for span in of_symbol(one, symbol)) for symbol in named
    }
    return {symbol: [(one.start, one.end) for one in spans] for symbol, spans in found.items()}


def hole(gap: Gap) -> Interval:
    """The time of a gap in which nothing is stored: an interruption begins with an event that is. Of a book's updates
    whose ids show that some are missing the last before them and the first behind them are.
    """
    ids = gap.kind == BOOK and gap.proof == "ids"
    end = 2**62 if gap.ts_to is None else gap.ts_to - ids
    return Interval(gap.ts_from + (ids or gap.proof == "interval"), max(end, gap.ts_from))


def filled_gaps(
    manifest: Manifest, exchange: str, market_type: str, kind: str, taken: Mapping[str, Sequence[Interval]], said: str,
    now: int, *, files: bool = True,
) -> list[Gap]:  # fmt: skip
    """The gaps of these symbols that what is taken in, and what recordings, other nodes (and `files`) cover, fill:
    closed, or of those that are filled in part a row for each part, closed or as it was.

    Ids that follow each other by one, and those of books on other nodes, tell themselves when the day is closed.
    """
    held = covered(manifest, exchange, market_type, kind, [], files=files, nodes=kind != BOOK)
    found = []
    for gap in manifest.gaps(exchange, market_type, kind, state=_MISSING):
        lacking = hole(gap)
        named = gap.symbol in taken or EVERY_SYMBOL in taken
        if not named or gap.ts_to is None or lacking.empty or (kind != BOOK and gap.missing):
            continue
        spans = [*taken.get(gap.symbol, ()), *(Interval(*span) for span in of_symbol(held, gap.symbol))]
        closing = {"state": "repaired", "closed_at": now, "source": "import", "detail": said}
        left = times.subtract([lacking], spans)
        if not left:
            found.append(msgspec.structs.replace(gap, **closing))
        elif left != [lacking]:
            found += _parts(gap, left, closing)
    return found


def _parts(gap: Gap, left: Sequence[Interval], closing: Mapping[str, object]) -> list[Gap]:
    """A row for each part of a gap's time: those that are `left` are missing still, the first of them by its name.
    Which ids they are nobody says: each has the bounds of all.
    """
    whole = hole(gap)
    assert gap.ts_to is not None
    parts = sorted([*left, *times.subtract([whole], left)])
    made = []
    for part in parts:
        missing = part in left
        name = gap.gap_id if part == left[0] else f"{gap.gap_id}.t{part.start}"
        start, end = part.start - (whole.start - gap.ts_from), part.end + (gap.ts_to - whole.end)
        row = msgspec.structs.replace(gap, gap_id=name, ts_from=start, ts_to=end)
        made.append(row if missing else msgspec.structs.replace(row, **closing))
    return made


def address(url: str, taken: int) -> str:
    """The address of a recording's sessions, which says when (us) it was taken in: who came first goes first."""
    return f"{url}{_TAKEN}{taken}"


def taken_at(url: str) -> int:
    """When a recording was taken in, by its sessions' address; 0 where that does not say."""
    said = url.partition(_TAKEN)[2]
    return int(said) if said.isdecimal() else 0


def whose(row: SessionRow, *, nodes: bool = False) -> str:
    """Who a session is of: FILE, a recording by its address, whatever connections it has, or OWN, or (`nodes`) one of
    our nodes.
    """
    if row.source in FILES:
        return FILE
    if row.url.startswith(RECORDINGS):
        return row.url
    return f"node {row.session.rsplit('-', 2)[0]}" if nodes else OWN


def of_symbol(held: Spans, symbol: str) -> Sequence[tuple[int, int]]:
    """What is covered of one symbol."""
    return held.get(symbol, held.get(EVERY_SYMBOL, ()))


def without(kind: str, table: pa.Table, held: Spans) -> tuple[pa.Table, int]:
    """(the rows without those that have no id and lie in what the lake covers, how many those are)."""
    ids = tables.identity_columns(kind)
    if not held or not ids:
        return table, 0
    frame = plain_frame(table.select(["symbol", "ts_event", *ids]))
    at = pl.col("ts_event").to_physical()
    inside = pl.lit(value=False)
    for symbol in sorted(set(frame["symbol"].cast(pl.String).unique())):
        spans = of_symbol(held, symbol)
        if not spans:
            continue
        starts = pl.Series([start for start, _ in spans], dtype=pl.Int64)
        ends = pl.Series([end for _, end in spans], dtype=pl.Int64)
        stamps = frame.select(at).to_series()
        place = starts.search_sorted(stamps, side="right").cast(pl.Int64) - 1
        until = ends.gather(place.clip(0))
        within = pl.Series((place >= 0) & (stamps < until))
        inside |= (pl.col("symbol").cast(pl.String) == symbol) & pl.lit(within)
    nameless = pl.all_horizontal([pl.col(name).is_null() for name in ids])
    out = frame.select((inside & nameless).alias("out")).to_series()
    left = int(out.sum())
    return (table.filter((~out).to_arrow()), left) if left else (table, 0)


def compare(root: Path, files: Sequence[FileRow], session: str) -> list[Overlap]:
    """How the rows of files that are not published yet agree with those of the lake. Raises CorruptFile."""
    found: list[Overlap] = []
    days: dict[str, list[FileRow]] = {}
    for file in files:
        days.setdefault(file.date, []).append(file)
    if not days:
        return found
    with Lake(root) as lake:
        held = lake.manifest.files(
            files[0].kind, exchange=files[0].exchange, market_type=files[0].market_type, date_from=min(days),
            date_to=max(days),
        )  # fmt: skip
        for date in sorted({row.date for row in held} & days.keys()):
            found += _of_day(root, lake, days[date], date, session)
    return found


def _of_day(root: Path, lake: Lake, files: Sequence[FileRow], date: str, session: str) -> list[Overlap]:
    kind = files[0].kind
    keys, values = _columns(kind)
    start, end = min(file.ts_min for file in files), max(file.ts_max for file in files) + 1
    market = {"exchange": files[0].exchange, "market_type": files[0].market_type}
    wanted = ["symbol", "session", *keys, *values]
    try:
        rows = sum(file.rows for file in files)
        width = max(1, -(-(end - start) // max(1, rows // MOST_ROWS)))
        pieces = []
        for at in range(start, end, width):
            until = min(at + width, end)
            some = [file for file in files if file.ts_min < until and file.ts_max >= at] or files[:1]
            mine = _stored(lake, kind, market, at, until, session).select(wanted)
            there = (
                pl.scan_parquet([root / file.path for file in some], glob=False)
                .select(wanted)
                .filter(_within(at, until))
            )
            pieces.append(_of_slice(kind, mine, there, keys, values))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorruptFile(f"{files[0].path} cannot be read again: {error}", "run it again") from error
    return _summed(pl.concat(pieces), date)


def _stored(lake: Lake, kind: str, market: Mapping[str, str], start: int, end: int, session: str) -> pl.LazyFrame:
    """What the lake has of a time, but for what this session brought."""
    found = lake.scan(
        kind, exchange=market["exchange"], market_type=market["market_type"], start=start, end=end, across_listings=True
    )
    return found.filter(pl.col("session").cast(pl.String) != session)


def _within(start: int, end: int) -> pl.Expr:
    low, high = (pl.lit(at, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")) for at in (start, end))
    return (pl.col("ts_event") >= low) & (pl.col("ts_event") < high)


def _columns(kind: str) -> tuple[list[str], list[str]]:
    """What tells that two rows are one event, and what they say of it."""
    keys = [name for name in kinds.kind(kind).key if name != "source"]
    said = [c.name for c in kinds.kind(kind).columns if c.type in ("decimal", "dict") and c.name not in keys]
    said = [name for name in said if name not in ("condition", "qty_unit", "multiplier", "flags")]
    return keys, [*said, *([] if "ts_event" in keys else ["ts_event"])]


def _of_slice(
    kind: str, mine: pl.LazyFrame, there: pl.LazyFrame, keys: Sequence[str], values: Sequence[str]
) -> pl.DataFrame:
    """A row a symbol with the counts of an `Overlap`."""
    named = pl.any_horizontal([pl.col(name).is_not_null() for name in tables.identity_columns(kind) or keys])
    sides = []
    for frame in (mine, there):
        plain = frame.filter(named).with_columns(pl.col(pl.Categorical).cast(pl.String)).collect()
        sides.append(plain.unique(["symbol", *keys], keep="first", maintain_order=True).drop("session"))
    if "interval" in keys:  # candles of another width are no others
        sides[0] = sides[0].filter(pl.col("interval").is_in(sides[1]["interval"].unique().implode()))
    both = sides[0].join(sides[1], on=["symbol", *keys], how="full", nulls_equal=True, suffix="#", coalesce=False)
    here, other = pl.col("symbol").is_not_null(), pl.col("symbol#").is_not_null()
    # what one of the two does not say is no difference
    unlike = [(pl.col(name) != pl.col(f"{name}#")).fill_null(value=False).alias(f"#{name}") for name in values]
    both = both.with_columns(unlike).with_columns(
        (pl.any_horizontal([f"#{name}" for name in values]) & here & other).alias("unlike"),
        pl.coalesce("symbol", "symbol#").alias("of"),
    )
    counts = both.group_by("of").agg(
        (here & other).sum().alias("both"), pl.col("unlike").sum().alias("different"),
        (here & ~other).sum().alias("only_here"), (~here & other).sum().alias("only_there"),
    )  # fmt: skip
    first = both.filter("unlike").unique("of", keep="first", maintain_order=True)
    return counts.join(first.with_columns(_in_words(keys, values)).select("of", "example"), on="of", how="left")


def _in_words(keys: Sequence[str], values: Sequence[str]) -> pl.Expr:
    """`seq 7: price 10.0 here, 11.0 in the file`."""
    told = []
    for name in values:
        pair = pl.col(name).cast(pl.String), pl.col(f"{name}#").cast(pl.String)
        told.append(pl.when(f"#{name}").then(pl.format(f"{name} {{}} here, {{}} in the file", *pair)))
    ids = []
    for name in keys:
        one = pl.format(f"{name} {{}}", pl.col(name).cast(pl.String))
        ids.append(pl.when(pl.col(name).is_not_null()).then(one))
    event = pl.concat_str(ids, separator=" ", ignore_nulls=True)
    return pl.format("{}: {}", event, pl.concat_str(told, separator="; ", ignore_nulls=True)).alias("example")


def _summed(pieces: pl.DataFrame, date: str) -> list[Overlap]:
    counts = ["both", "different", "only_here", "only_there"]
    whole = pieces.group_by("of").agg(*(pl.col(name).sum() for name in counts), pl.col("example").drop_nulls().first())
    return [
        Overlap(symbol=row.pop("of"), date=date, **row | {"example": row["example"] or ""})
        for row in whole.sort("of").to_dicts()
        if row["both"] + row["only_here"]
    ]
