"""Truth audits: closed days of a lake held against what the venue itself says of them.

Reads only. An audit of a daily file names what was compared, how much of it is the same, and every sort of difference
with its count. Its day is verified where something is the same, nothing is left out and nothing stays unexplained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import bars, book_files, books, parquet, reading, sources, tables
from lake.audit_bars import VALUES, Known, compare, explained
from lake.audit_books import SAID_COLUMNS, runs, told
from lake.audit_books import compare as compare_books
from lake.audit_words import OPEN, UNEXPLAINED, Difference
from lake.bars import EVERY_SYMBOL
from lake.books import KIND
from lake.errors import CorruptFile
from lake.manifest_reads import Snapshot
from lake.rows import FileRow
from market.times import DAY, HOUR, MINUTE, Interval, covers, date_of, day_start, floor_to, parse, to_datetime, union

SHOWN = 5
"""Differences of one sort that are kept as examples of a file."""
CHECKS = "audit_"
"""Begins the name of the check row that counts one sort of difference."""
_BARS = ("symbol", "window_start", *VALUES, *(f"{n}_text" for n in VALUES[4:] if n != "trade_count"))
_CANDLES = (
    "symbol", "source", "interval", "open_time", "ts_recv", "revision", *VALUES,
    *(f"{n}_text" for n in VALUES[4:] if n != "trade_count"),
)  # fmt: skip
_TRADES = (
    "symbol", "market_type", "ts_event", "ts_recv", "seq", "session", "frame_no", "item", "condition", "side",
    "qty_unit", "price", "price_text", "qty", "qty_text", "multiplier", "multiplier_text",
)  # fmt: skip
_HELD = 10 * MINUTE
"""Trades are read so much of the day at a time."""
Report = Callable[[int, int, str], None]


class Audit(msgspec.Struct, kw_only=True):
    """One daily file against the venue: `equal` of `total` compared (`against` says what) are the same.

    `counts`: sort of difference -> how many; `untold`: windows of which the venue says nothing here; `failed`: why it
    could not be looked at. `hint` is what to do about it.
    """

    exchange: str
    market_type: str
    kind: str
    symbol: str
    date: str
    path: str
    against: str
    total: int = 0
    equal: int = 0
    untold: int = 0
    counts: dict[str, int] = {}
    examples: list[Difference] = []
    failed: str = ""
    hint: str = ""
    verified: str | None = None
    """What the certificate says of it; None where the day is not verified."""

    @property
    def unexplained(self) -> int:
        return sum(self.counts.get(name, 0) for name in OPEN)

    def judged(self) -> Audit:
        """With the sentence of the certificate, where the day is verified."""
        if self.equal and not (self.untold or self.unexplained or self.failed):
            parts = [f"{self.against}: {self.equal} of {self.total} the same"]
            parts += [f"{name} {count}" for name, count in sorted(self.counts.items()) if count]
            self.verified = "; ".join(parts)
        return self


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which days are held against the venue; None is any. `day` is YYYY-MM-DD."""

    exchange: str | None = None
    market: str | None = None
    symbol: str | None = None
    day: str | None = None


def each(snapshot: Snapshot, wanted: Wanted, kind: str = "bar_1m") -> list[Wanted]:
    """The symbols and closed days that are meant, one by one. Raises Malformed for a bad date."""
    return [Wanted(row.exchange, row.market_type, row.symbol, row.date) for row in _days(snapshot, wanted, kind)]


def _days(snapshot: Snapshot, wanted: Wanted, kind: str) -> list[FileRow]:
    date = None if wanted.day is None else date_of(parse(wanted.day)).isoformat()
    rows = snapshot.files(
        kind, exchange=wanted.exchange, market_type=wanted.market, symbol=wanted.symbol, level="day", date_from=date,
        date_to=date, parents=True,
    )  # fmt: skip
    return sorted(rows, key=lambda row: (row.exchange, row.market_type, row.date, row.symbol or ""))


def audits(root: Path, snapshot: Snapshot, wanted: Wanted, report: Report) -> list[Audit]:
    """Every closed day that is meant, by (exchange, market, date, symbol). Raises Malformed for a bad date."""
    minutes = _days(snapshot, wanted, "bar_1m")
    made: list[Audit] = []
    for place, row in enumerate(minutes):
        report(place, len(minutes), f"{row.exchange} {row.market_type} {row.symbol} {row.date}")
        made += _bars(root, snapshot, row)
    report(len(minutes), len(minutes), "compared")
    return made


def begun(row: FileRow, against: str) -> Audit:
    """The audit of a daily file, in which nothing is compared yet."""
    return Audit(
        exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol or "", date=row.date,
        path=row.path, against=against,
    )  # fmt: skip


def _beside(snapshot: Snapshot, row: FileRow, kind: str) -> Sequence[FileRow]:
    """The daily files of another kind, of the same symbol and day."""
    return snapshot.files(
        kind, exchange=row.exchange, market_type=row.market_type, symbol=row.symbol, level="day",
        date_from=row.date, date_to=row.date,
    )  # fmt: skip


def _bars(root: Path, snapshot: Snapshot, row: FileRow) -> list[Audit]:
    """The bars of a symbol and day against its candles."""
    audit = begun(row, "candles")
    narrow = _beside(snapshot, row, "bar_1s")
    try:
        _against_candles(root, snapshot, row, audit)
        made = [audit.judged(), *(_folded(root, seconds, row, audit) for seconds in narrow)]
    except CorruptFile as error:
        audit.failed, audit.hint, audit.verified = error.message, error.hint or "", None
        return [audit]
    return made


def _against_candles(root: Path, snapshot: Snapshot, row: FileRow, audit: Audit) -> None:
    start = day_start(to_datetime(parse(row.date)).date())
    day = Interval(start, start + DAY)
    stream = (row.exchange, row.market_type)
    files = snapshot.files("kline", exchange=stream[0], market_type=stream[1], date_from=row.date, date_to=row.date)
    reading.check(root, [row])
    candles = pa.concat_tables(
        [tables.empty("kline").select(list(_CANDLES)), *_own(_of(root, files, _CANDLES, audit.symbol))]
    ).unify_dictionaries()
    interval = _interval(candles)
    audit.hint = (
        f"dl backfill --exchange {row.exchange} --market {row.market_type} --symbol {audit.symbol} --kind kline"
        f" --from {row.date} --to {date_of(day.end).isoformat()}"
    )
    if interval is None:
        audit.untold = DAY // MINUTE
        return
    name, width = interval
    audit.against = f"candles {name}"
    candles = candles.filter(pc.equal(candles.column("interval").cast(pa.string()), name))
    ours = parquet.read(root / row.path)
    if width > MINUTE:
        ours = bars.fold(ours, width)
    told = union(
        Interval(one.ts_from, one.ts_to) for one in snapshot.coverage(*stream, "kline", audit.symbol, overlapping=day)
    )
    found = compare(ours.select(list(_BARS)), candles, day, width, told)
    made = explained(found, _known(snapshot, row, day), Trades(root, snapshot, row))
    audit.equal, audit.untold = found.equal + found.empty, len(found.untold)
    audit.total = audit.equal + len(made)
    _count(audit, made)
    if not audit.untold:
        audit.hint = "dl verify --frames says whether the rows are what their frames make" if audit.unexplained else ""


def _count(audit: Audit, made: Sequence[Difference]) -> None:
    counts = Counter(one.what for one in made)
    audit.counts = dict(sorted(counts.items()))
    seen: Counter[str] = Counter()
    for one in made:
        seen[one.what] += 1
        if seen[one.what] <= SHOWN:
            audit.examples.append(one)


def _folded(root: Path, seconds: FileRow, minutes: FileRow, audit: Audit) -> Audit:
    """The same of the seconds, which are the same trades where they fold to the minutes."""
    reading.check(root, [seconds])
    names = [name for name in _BARS if name != "symbol"]
    folded = bars.fold(parquet.read(root / seconds.path), MINUTE).select(names)
    made = msgspec.structs.replace(audit, kind=seconds.kind, path=seconds.path)
    if not folded.equals(parquet.read(root / minutes.path).select(names)):
        at = parse(minutes.date)
        made.counts = {**audit.counts, UNEXPLAINED: audit.counts.get(UNEXPLAINED, 0) + 1}
        made.examples = [*audit.examples, Difference(UNEXPLAINED, at, "its seconds do not fold to its minutes")]
        made.verified, made.hint = None, "dl verify"
    return made


def _known(snapshot: Snapshot, row: FileRow, day: Interval) -> Known:
    """What is known of the trades that the bars are made of."""
    kind = _kind_of(row)
    near = Interval(day.start - HOUR, day.end + HOUR)
    gaps = [
        gap
        for gap in snapshot.gaps(row.exchange, row.market_type, kind, state=("open", "unrepairable"), overlapping=near)
        if gap.symbol in (row.symbol, EVERY_SYMBOL)
    ]
    dark = [Interval(gap.ts_from, near.end if gap.ts_to is None else max(gap.ts_to, gap.ts_from + 1)) for gap in gaps]
    light = snapshot.coverage(row.exchange, row.market_type, kind, row.symbol, overlapping=near)
    return Known(union(dark), union(Interval(one.ts_from, one.ts_to) for one in light), row.market_type == "inverse")


def _kind_of(row: FileRow) -> str:
    """Of which trades the bars are made: the aggregated ones only where no others are."""
    traded = any(f"data_type={sources.TRADE}/" in parent for parent in row.parents)
    aggregated = any(f"data_type={sources.AGG_TRADE}/" in parent for parent in row.parents)
    return sources.AGG_TRADE if aggregated and not traded else sources.TRADE


class Trades:
    """The trades of a symbol around a time; some minutes of them are kept, for what differs lies together."""

    def __init__(self, root: Path, snapshot: Snapshot, row: FileRow) -> None:
        self._root = root
        self._symbol = row.symbol or ""
        self._kind = _kind_of(row)
        start = parse(row.date)
        first, last = (date_of(at).isoformat() for at in (start - 1, start + DAY))
        self._files = snapshot.files(
            self._kind, exchange=row.exchange, market_type=row.market_type, symbol=row.symbol, level="day",
            date_from=first, date_to=last,
        )  # fmt: skip
        more = ("first_id", "last_id") if self._kind == sources.AGG_TRADE else ()
        self._columns = (*_TRADES, *more)
        self._span = Interval(0, 0)
        self._held = tables.empty(self._kind).select(list(self._columns))
        self._none = self._held

    def __call__(self, span: Interval) -> pa.Table:
        if not covers([self._span], span):
            self._span = Interval(floor_to(span.start, _HELD), -floor_to(-span.end, _HELD))
            near = [row for row in self._files if row.ts_max >= self._span.start and row.ts_min < self._span.end]
            pieces = _of(self._root, near, self._columns, self._symbol, self._span)
            self._held = pa.concat_tables([self._none, *pieces]).unify_dictionaries()
        return _between(self._held, span)


def _of(
    root: Path, files: Sequence[FileRow], columns: Sequence[str], symbol: str, span: Interval | None = None
) -> Iterator[pa.Table]:
    """The rows of one symbol in some files."""
    between = None if span is None else (span.start, span.end - 1)
    reading.check(root, files)
    for row in files:
        for piece in parquet.iterate(root / row.path, columns, symbols=frozenset([symbol]), between=between):
            mine = piece.filter(pc.equal(piece.column("symbol").cast(pa.string()), symbol))
            yield mine if span is None else _between(mine, span)


def _own(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Without what files of others say of the venue."""
    for piece in pieces:
        yield piece.filter(pc.not_equal(piece.column("source").cast(pa.string()), "import"))


def _between(table: pa.Table, span: Interval) -> pa.Table:
    at = table.column("ts_event").cast(pa.int64())
    return table.filter(pc.and_(pc.greater_equal(at, span.start), pc.less(at, span.end)))


def _interval(candles: pa.Table) -> tuple[str, int] | None:
    """The narrowest interval of minutes or hours that there is, and its width (us)."""
    names = pl.Series(pl.from_arrow(candles.column("interval").cast(pa.string()))).unique().to_list()
    units = {"m": MINUTE, "h": HOUR}
    widths = [(int(name[:-1]) * units[name[-1]], name) for name in names if name[-1] in units]
    fitting = sorted((width, name) for width, name in widths if DAY % width == 0)
    return (fitting[0][1], fitting[0][0]) if fitting else None


def book_audits(root: Path, snapshot: Snapshot, wanted: Wanted, report: Report) -> list[Audit]:
    """Every closed day of order books that is meant: rebuilt, against what the venue said of them by the way."""
    rows = _days(snapshot, wanted, KIND)
    made: list[Audit] = []
    for place, row in enumerate(rows):
        report(place, len(rows), f"the book of {row.exchange} {row.market_type} {row.symbol} {row.date}")
        made.append(_book(root, snapshot, row))
    return made


def _book(root: Path, snapshot: Snapshot, row: FileRow) -> Audit:
    audit = begun(row, "books")
    said = _beside(snapshot, row, "book_snapshot")
    try:
        reading.check(root, [row])
        pieces = book_files.daily(root, row)
        others = told(_own(_of(root, said, SAID_COLUMNS, audit.symbol)))
        found = [
            one for run in runs(pieces(books.ID_COLUMNS, -(2**62), 2**62)) for one in compare_books(pieces, run, others)
        ]
    except CorruptFile as error:
        audit.failed, audit.hint = error.message, error.hint or ""
        return audit
    differing = [one for one in found if one is not None]
    audit.total, audit.equal = len(found), len(found) - len(differing)
    _count(audit, differing)
    if not found:
        audit.hint = "polls.depth_seconds of a source asks for books to compare with"
    elif differing:
        audit.hint = f"dl book {row.symbol} --at TIME shows it; dl verify --frames says whether its rows are its frames"
    return audit.judged()
