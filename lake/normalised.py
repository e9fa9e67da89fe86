"""Stored rows as the normalised messages of tardis-machine, of many symbols and types together, as they came."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from lake import tardis, tardis_books
from lake.arrivals import Stream
from lake.books import MISSING
from lake.errors import WrongQuestion
from lake.exporting import tardis_rows
from lake.reader import Lake
from market.session import EVERY_SYMBOL
from market.times import MINUTE, MS, SECOND, Interval, floor_to

Message: TypeAlias = tuple[int, bytes]
"""(arrival in us, JSON)."""
PLAIN = {
    "trade": "trades", "liquidation": "liquidations", "book_ticker": "book_ticker",
    "derivative_ticker": "derivative_ticker",
}  # fmt: skip
"""Type of a message -> the data type of CSV that it is a row of."""
OFFERED = (*PLAIN, "book_change", "quote", "quote_10s", "book_snapshot_5_100ms")
_SNAPSHOT = re.compile(r"(?:quote|book_snapshot_([1-9]\d{0,3}))(?:_(\d{1,6})(ms|s|m))?")
_UNITS = {"ms": MS, "s": SECOND, "m": MINUTE}
ROWS = 100_000
"""Rows that are held for all parts of a request together, about."""
_LEAST_ROWS = 500


class Asked(NamedTuple):
    """A data type as it was asked for: of books, with how many levels and how often (us; 0: at each change)."""

    name: str
    kind: str
    depth: int = 0
    every: int = 0


def asked(name: str) -> Asked:
    """Raises WrongQuestion for a type that is not served."""
    if name in PLAIN:
        found = tardis.data_type(PLAIN[name])
        assert found is not None
        return Asked(name, found.kind)
    if name == "book_change":
        return Asked(name, "book_delta")
    match = _SNAPSHOT.fullmatch(name)
    depth = int(match[1] or 1) if match else 0
    if match is None or depth > tardis.MOST_LEVELS or (match[1] and not match[2]):
        hint = "read bars with dl read bar_1m" if name.startswith("trade_bar") else f"use {', '.join(OFFERED)}"
        raise WrongQuestion(f"data type {name[:60]!r} is not served", hint)
    return Asked(name, "book_delta", depth, int(match[2] or 0) * _UNITS[match[3] or "ms"])


class Part(NamedTuple):
    """One data type of one symbol, and what its exchange is called."""

    asked: Asked
    stream: Stream
    venue: str


def messages(lake: Lake, parts: Sequence[Part], span: Interval, *, disconnects: bool = False) -> Iterator[Message]:
    """All messages that arrived in the span, merged. Memory is shared between the parts."""
    rows = max(_LEAST_ROWS, ROWS // max(1, len(parts)))
    made = [_part(lake, part, span, rows) for part in parts]
    if disconnects:
        made.append(iter(_holes(lake, parts, span)))
    return heapq.merge(*made, key=lambda message: message[0])


def _part(lake: Lake, part: Part, span: Interval, rows: int) -> Iterator[Message]:
    if part.asked.kind == "book_delta":
        yield from _book(lake, part, span, min(rows, tardis_books.PIECE_ROWS))
        return
    of = tardis.data_type(PLAIN[part.asked.name])
    assert of is not None
    around = Interval(span.start - MINUTE, span.end + MINUTE)  # events near the edges arrived inside, or did not
    for frame in tardis_rows(lake, of, part.stream, part.venue, around, slice_rows=rows):
        yield from (one for one in tardis.messages(of, frame) if span.start <= one[0] < span.end)


def _book(lake: Lake, part: Part, span: Interval, rows: int) -> Iterator[Message]:
    own = tardis.names(part.venue, part.stream.symbol)
    changes = tardis_books.changes(lake, part.stream, span, rows=rows)
    if part.asked.name == "book_change":
        for change in changes:
            whole = "true" if change.snapshot else "false"
            sides = f'"bids":{tardis.levels(change.bids)},"asks":{tardis.levels(change.asks)}'
            yield change.local, _stamped(f'"type":"book_change",{own},"isSnapshot":{whole},{sides}', change)
        return
    top = tardis_books.Top(part.asked.depth)
    every, pending, bucket = part.asked.every, False, 0
    for change in changes:
        now = floor_to(change.timestamp, every) if every else 0
        if pending and now > bucket:
            yield change.local, _stamped(_shown(part, own, top), change._replace(timestamp=now))
            pending = False
        bucket = max(bucket, now)
        changed = top.take(change)
        if changed and not every:
            yield change.local, _stamped(_shown(part, own, top), change)
        pending = pending or changed


def _shown(part: Part, own: str, top: tardis_books.Top) -> str:
    name, depth, every = part.asked.name, part.asked.depth, part.asked.every // MS
    bids, asks = (tardis.levels(side) for side in top.shown)
    of = f'"name":"{name}","depth":{depth},"interval":{every}'
    return f'"type":"book_snapshot",{own},{of},"bids":{bids},"asks":{asks}'


def _stamped(text: str, change: tardis_books.Change) -> bytes:
    stamps = f'"timestamp":"{tardis.iso(change.timestamp)}","localTimestamp":"{tardis.iso(change.local)}"'
    return f"{{{text},{stamps}}}".encode()


def _holes(lake: Lake, parts: Sequence[Part], span: Interval) -> list[Message]:
    """A disconnect where each gap that was never filled begins."""
    found: dict[tuple[int, str], set[str]] = {}
    for part in parts:
        stream = part.stream
        for gap in lake.manifest.gaps(
            stream.exchange, stream.market_type, stream.kind, [stream.symbol, EVERY_SYMBOL], state=MISSING,
            overlapping=span,
        ):  # fmt: skip
            found.setdefault((max(gap.ts_from, span.start), part.venue), set()).add(stream.symbol)
    return [(at, tardis.disconnect(venue, sorted(symbols), at)) for (at, venue), symbols in sorted(found.items())]
