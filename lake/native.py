"""Files for other programs in their own formats: events of hftbacktest, catalogs of nautilus_trader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from lake import durable, exporting, hft_events, nautilus, scaled, sources, tardis, tardis_books
from lake.arrivals import Stream
from lake.errors import WrongQuestion
from lake.exporting import Exported, Task
from lake.layout import encode_name
from lake.reader import Lake
from market.times import DAY, Interval, date_of

Format = Literal["hftbacktest", "nautilus"]
FORMATS = get_args(Format)
EVENTS = "events"
"""The one thing that is exported for hftbacktest: trades and book of a day, in one array."""
_BOOK = "book_delta"


def plan(
    lake: Lake,
    form: Format,
    whats: Sequence[str],
    exchange: str | None,
    market_type: str | None,
    symbols: Sequence[str],
    span: Interval | None,
    instrument: str | None = None,
) -> list[Task]:
    """The files of an export: every day and symbol of which something is stored, and of nautilus every kind.

    `instrument` names the one instrument of a catalog; else its name follows from ours. Raises WrongQuestion.
    """
    wanted = list(whats) or ([EVENTS] if form == "hftbacktest" else ["trade", "quote", _BOOK])
    known = (EVENTS,) if form == "hftbacktest" else tuple(nautilus.FOLDERS)
    unknown = [one for one in wanted if one not in known]
    if unknown:
        raise WrongQuestion(f"{unknown[0]} is not exported for {form}", f"use {', '.join(known)}")
    made: dict[str, Task] = {}
    for what in wanted:
        for stream, start in _stored(lake, what, exchange, market_type, symbols, span):
            day = Interval(start, start + DAY) if span is None else Interval(start, start + DAY).clip(span)
            if day.empty:
                continue
            named = instrument or nautilus.instrument_id(*stream[1:])
            name = _hft_name(stream, start) if form == "hftbacktest" else nautilus.file_name(what, named, start)
            if name in made and made[name].stream[1:] != stream[1:]:
                one, other = (" ".join(each[1:]) for each in (made[name].stream, stream))
                raise WrongQuestion(f"{one} and {other} would both be {name}", "export one at a time")
            made[name] = Task(stream, what, day, name, named)
    return list(made.values())


def _stored(
    lake: Lake, what: str, exchange: str | None, market_type: str | None, symbols: Sequence[str], span: Interval | None
) -> Iterator[tuple[Stream, int]]:
    if what == EVENTS:
        return exporting.first_stored(lake, (_BOOK, *sources.TRADES), exchange, market_type, symbols, span)
    kinds = sources.TRADES if what == "trade" else (what,)
    return exporting.first_stored(lake, kinds, exchange, market_type, symbols, span)


def _hft_name(stream: Stream, start: int) -> str:
    return f"{stream.exchange}_{stream.market_type}_{date_of(start).isoformat()}_{encode_name(stream.symbol)}.npz"


def export(lake: Lake, task: Task, form: Format, folder: Path) -> Exported:
    """Make one file below `folder`; one of that name gives way when it is whole.

    Raises WrongQuestion (a number that the format cannot hold), StorageFailed, CorruptFile.
    """
    return exporting.written(lake, task, _WRITERS[form], folder)


def _trades(lake: Lake, task: Task, made: Exported) -> Iterator[pl.DataFrame]:
    """Rows of tardis.dev's `trades`: of trades, or of aggregated ones on a day without."""
    of = tardis.data_type("trades")
    assert of is not None
    market = task.stream
    for stream, _ in exporting.first_stored(
        lake, sources.TRADES, market.exchange, market.market_type, [market.symbol], task.day
    ):
        yield from exporting.tardis_rows(lake, of, stream, "", task.day, made)


def _events(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    counts = tardis_books.Counts()
    changes = tardis_books.changes(lake, task.stream._replace(kind=_BOOK), task.day, counts)
    order = hft_events.Ordered()
    both = hft_events.merged(
        hft_events.trades(_trades(lake, task, made)), hft_events.book(tardis_books.told_once(changes))
    )
    made.rows = hft_events.write(file, order.of(both))
    made.left_out += max(0, counts.rows - counts.given)
    made.disordered += order.behind


def _catalog(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    held = nautilus.Catalog(file, task.what, task.venue)
    counts = tardis_books.Counts()
    for rows in _CATALOGS[nautilus.FOLDERS[task.what]](lake, task, made, counts):
        held.add(rows)
    held.close()
    made.rows = held.rows
    made.left_out += max(0, counts.rows - counts.given)


def _ticks(lake: Lake, task: Task, made: Exported, _counts: tardis_books.Counts) -> Iterator[pl.DataFrame]:
    return nautilus.trades(_trades(lake, task, made))


def _quotes(lake: Lake, task: Task, made: Exported, _counts: tardis_books.Counts) -> Iterator[pl.DataFrame]:
    of = tardis.data_type("quotes")
    assert of is not None
    for rows in exporting.tardis_rows(lake, of, task.stream, "", task.day, made):
        (kept,) = nautilus.quotes([rows])
        made.left_out += rows.height - kept.height
        yield kept


def _deltas(lake: Lake, task: Task, _made: Exported, counts: tardis_books.Counts) -> Iterator[pl.DataFrame]:
    changes = tardis_books.changes(lake, task.stream, task.day, counts)
    return nautilus.deltas(tardis_books.told_once(changes))


def _bars(lake: Lake, task: Task, made: Exported, _counts: tardis_books.Counts) -> Iterator[pl.DataFrame]:
    _, exchange, market_type, symbol = task.stream
    table = lake.read(
        task.what, exchange=exchange, market_type=market_type, symbol=symbol, start=task.day.start, end=task.day.end,
        across_listings=True,
    )  # fmt: skip
    rows = pl.DataFrame(table)
    named_so = ("open", "high", "low", "close", "volume_base")
    spelt = {name: rows.get_column(f"{name}_text") if f"{name}_text" in rows.columns else None for name in named_so}
    text = {name: scaled.texts_of(rows.get_column(name), texts) for name, texts in spelt.items()}
    kept = nautilus.bars(task.what, rows, text)
    made.left_out += rows.height - kept.height
    yield kept


_CATALOGS: dict[str, Callable[[Lake, Task, Exported, tardis_books.Counts], Iterator[pl.DataFrame]]] = {
    "trade_tick": _ticks, "quote_tick": _quotes, "order_book_delta": _deltas, "bar": _bars,
}  # fmt: skip
_WRITERS: dict[str, exporting.Writer] = {"hftbacktest": _events, "nautilus": _catalog}
