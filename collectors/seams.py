"""Books of a recording where a file that was imported before tells of the same book: its updates give way. Pure.

No id leads from the file's numbering to the venue's. So the updates of such a time are left out whole, though they are
followed, and at its end stands what they came to: a row `clear` and a whole book, both derived. Where the recording's
own book is not known then, the row `clear` stands alone, and the book begins with its next whole one.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from collectors.chain import CLEAR, SNAPSHOT
from collectors.holes import venue_time
from market.book import Book, Level, levels
from market.chain import RESTART, Chain, Link
from market.errors import Malformed
from market.kinds import BookDelta
from market.times import DAY, text

KIND = "book_delta"
Spans = Sequence[tuple[int, int]]
"""[from, to) us, oldest first."""
SHOWN = 20
"""Times that are told one by one."""
_ITEM = 1_000_000
"""The `item` of a made row is so much above that of the update that it stands before."""


class _Followed(msgspec.Struct):
    """One book on one connection. `clock` is the newest time so far; `kept`: rows of it were taken since a `clear`."""

    clock: int
    kept: bool = False
    chain: Chain[BookDelta] = msgspec.field(default_factory=Chain[BookDelta])
    book: Book = msgspec.field(default_factory=Book)


class _Left(msgspec.Struct):
    """Updates that gave way to a file, and what stands at the end of its time: None where nothing came behind it."""

    count: int = 0
    goes_on: bool | None = None


class Seams:
    """`spans` tells when files have the book of an event; it is asked for each."""

    def __init__(self, spans: Callable[[BookDelta], Spans]) -> None:
        self._spans = spans
        self._followed: dict[tuple[str, str], _Followed] = {}
        self._out: set[tuple[str, int, int]] = set()
        self._made: list[BookDelta] = []
        self._left: dict[tuple[str, int, int], _Left] = {}

    def read(self, events: Iterable[BookDelta]) -> None:
        """The next updates, as they came."""
        self._out.clear()
        for event in events:
            spans = self._spans(event)
            if spans:
                self._read(event, spans)

    def left_out(self, event: BookDelta) -> bool:
        """Whether one of the last updates gives way."""
        return (event.session, event.frame_no, event.item) in self._out

    def made(self) -> list[BookDelta]:
        """The rows that stand at the borders which were passed since the last call."""
        made, self._made = self._made, []
        return made

    def told(self) -> list[str]:
        """What was left out, in words."""
        words = []
        for (symbol, start, end), left in sorted(self._left.items()):
            behind = {
                None: "",
                True: "; behind it the book begins with what all updates of the recording had come to",
                False: "; behind it the book is unknown until the recording tells a whole one",
            }[left.goes_on]
            words.append(
                f"{symbol} {text(start)} to {text(end)}: {left.count:,} updates of its book were left out, for a file"
                f" that was taken in before has it{behind}"
            )
        more = len(words) - SHOWN
        return words if more <= 0 else [*words[:SHOWN], f"and the same {more:,} times more"]

    def _read(self, event: BookDelta, spans: Spans) -> None:
        at = venue_time(event)
        held = self._followed.get((event.session, event.symbol))
        if held is None:
            # what a file told just before the first update may be taken for the numbering that this one is of
            held = self._followed[event.session, event.symbol] = _Followed(at - RESTART)
        now = max(held.clock, at)
        self._cross(held, event, spans, now)
        held.clock = now
        if now < spans[-1][1]:
            _follow(held, event, at)
        inside = _place(spans, now)
        if inside is not None:
            self._out.add((event.session, event.frame_no, event.item))
            self._count(event.symbol, inside).count += 1
            return
        held.kept = True
        if at < now and _place(spans, at) is not None:  # its time went back behind the border
            skew = event.ts_recv - now
            event.ts_event, event.skew_us = None, skew if -DAY <= skew <= DAY else None  # so far off is no clock

    def _cross(self, held: _Followed, event: BookDelta, spans: Spans, now: int) -> None:
        """The rows at borders between the newest time so far and now."""
        passed = [span for span in spans if held.clock < span[1] and span[0] <= now]
        made: list[BookDelta] = []
        for start, _ in passed:
            if held.kept and held.clock < start:
                made.append(_border(event, start, len(made)))
                held.kept = False
        if passed and passed[-1][1] <= now:
            end = passed[-1][1]
            made.append(_border(event, end, len(made)))
            whole = _whole(held.book) if _goes_on(held.chain, event) else None
            if whole is not None:
                made.append(_border(event, end, len(made), held.chain.last, whole))
            if (event.symbol, *passed[-1]) in self._left:
                self._count(event.symbol, passed[-1]).goes_on = whole is not None
        self._made += made

    def _count(self, symbol: str, span: tuple[int, int]) -> _Left:
        return self._left.setdefault((symbol, *span), _Left())


def _place(spans: Spans, at: int) -> tuple[int, int] | None:
    """The span that a time is in."""
    place = bisect.bisect_right(spans, at, key=lambda span: span[0]) - 1
    return spans[place] if place >= 0 and at < spans[place][1] else None


def _goes_on(chain: Chain[BookDelta], event: BookDelta) -> bool:
    """Whether the book that is followed is known up to an update: none is missing before it."""
    if not chain.in_sync or event.last_id is None or CLEAR in event.flags:
        return False
    if SNAPSHOT in event.flags:
        return event.last_id == chain.last
    return chain.joined_by(Link(event.last_id, event.first_id, event.prev_id, 0, event))


def _follow(held: _Followed, event: BookDelta, at: int) -> None:
    """The book goes on as whoever reads the stored rows would take it."""
    if event.last_id is None or CLEAR in event.flags:
        held.chain.unknown(at, "a row says nothing of its place")
        return
    link = Link(event.last_id, event.first_id, event.prev_id, at, event)
    rows: Sequence[BookDelta]
    try:
        if SNAPSHOT in event.flags:
            joined = held.chain.snapshot(link)
            if joined is None:
                return
            _load(held.book, event)
            rows = joined
        else:
            rows = held.chain.update(link)
        for row in rows:
            held.book.apply(levels(row.bids), levels(row.asks))
    except Malformed as error:
        held.chain.unknown(at, str(error))


def _load(book: Book, event: BookDelta) -> None:
    """A whole book; a side with fewer levels than the other was all there, as `lake.books` takes it."""
    sides = levels(event.bids), levels(event.asks)
    book.load(*sides, depth=max(len(side) for side in sides))


def _whole(book: Book) -> tuple[list[Level], list[Level]] | None:
    """The known levels, best first, told so that who reads them knows no more than we; None where nothing is."""
    low, high = (None if one is None else Decimal(one) for one in (book.valid_low, book.valid_high))
    bids = sorted(book.bids.items(), key=lambda level: Decimal(level[0]), reverse=True)
    asks = sorted(book.asks.items(), key=lambda level: Decimal(level[0]))
    bids = [level for level in bids if low is None or Decimal(level[0]) >= low]
    asks = [level for level in asks if high is None or Decimal(level[0]) <= high]
    if (low is not None and not bids) or (high is not None and not asks):
        return None
    # the longer side of a whole book is cut at its last level, the shorter one is all there
    cut = (low is not None, high is not None)
    whole = {(True, False): len(bids) > len(asks), (False, True): len(asks) > len(bids)}.get(cut, False)
    most = max(len(bids), len(asks)) if whole else min(len(bids), len(asks))
    return (bids[:most], asks[:most]) if most else None


def _border(
    event: BookDelta, at: int, place: int, last: int | None = None, whole: tuple[list[Level], list[Level]] | None = None
) -> BookDelta:
    """A row `clear`, or a whole book, that stands before an update."""
    bids, asks = (msgspec.Raw(msgspec.json.encode(side)) for side in whole or ([], []))
    return msgspec.structs.replace(
        event, ts_event=at, ts_publish=None, skew_us=None, source="derived", item=event.item + (place + 1) * _ITEM,
        bids=bids, asks=asks, first_id=None, last_id=last, prev_id=None, checksum=None,
        flags=(CLEAR,) if whole is None else (SNAPSHOT,),
    )  # fmt: skip
