"""What a recording of somebody else tells beside what own capture, files and earlier recordings have: these go first.

An event without an id cannot be told from one that the lake has, nor one with an id from the row of a file without.
Inside what they cover it is left out and counted; in their gaps, and outside, it is taken. Which of them are is told by
what the lake says of coverage, gaps, and when who was taken in, so that frames that are read again become the same
rows; a file covers what nothing did before it came. Books beside those of files give way whole (`seams`).
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import cast

from collectors.files.own import DIALECT
from collectors.holes import venue_time
from collectors.seams import KIND as BOOK
from collectors.seams import Seams
from collectors.slices import URL
from lake import overlaps, tables
from lake.manifest import Manifest
from lake.overlaps import Spans, taken_at
from lake.rows import FILES, SessionRow
from market.kinds import BookDelta, Event
from market.session import Gap
from market.times import Interval, union

_AS = "&as="
"""What stands in the address of an imported file before how it was read."""


class Beside:
    """What is held when a recording that was taken in at a time (us) comes: `held` of events without an id (told by
    which times of other recordings are part of this run), `unnamed` of files whose rows have none. They are asked when
    the first such event comes.

    `taken` is when the recording at hand is taken in. `again`: all frames are read again, own ones beside; mergers are
    not to see what is left out, which may have come sooner.
    """

    def __init__(
        self,
        held: Callable[[str, int, Collection[int]], Spans],
        unnamed: Callable[[str, int], Spans],
        *,
        taken: int = 0,
        again: bool = False,
    ) -> None:
        self.taken = taken
        self.left: Counter[str] = Counter()
        """Kind -> events that were left out."""
        self.seams = Seams(self._of_files)
        self._again = again
        self._held = held
        self._unnamed = unnamed
        self._found: dict[tuple[str, int, bool], Spans] = {}
        self._foreign: dict[str, int] = {}
        """Session of a recording -> when that was taken in."""

    def opened(self, session: str, url: str) -> None:
        """A session begins; those of a recording are told by their address."""
        if url.startswith(URL):
            self._foreign[session] = taken_at(url)

    def before(self, kind: str, events: Sequence[Event]) -> Sequence[Event]:
        """Those that mergers are to see."""
        if not self._foreign:
            return events
        if kind == BOOK:  # of a book they see all, so that no time of a file is a hole in it
            self.seams.read(cast("BookDelta", event) for event in events if event.session in self._foreign)
            return events
        return self._kept(kind, events) if self._again else events

    def after(self, kind: str, events: Sequence[Event]) -> Sequence[Event]:
        """Those that are rows, of what mergers let through."""
        if not self._foreign:
            return events
        if kind == BOOK:
            return [*self.seams.made(), *self._kept(kind, events)]
        return events if self._again else self._kept(kind, events)

    def _kept(self, kind: str, events: Sequence[Event]) -> Sequence[Event]:
        kept = [event for event in events if event.session not in self._foreign or not self._is_held(kind, event)]
        self.left[kind] += len(events) - len(kept)
        return kept

    def _is_held(self, kind: str, event: Event) -> bool:
        ids = tables.identity_columns(kind)
        if isinstance(event, BookDelta):
            return self.seams.left_out(event)
        if not ids:
            return False
        named = any(getattr(event, name) is not None for name in ids)
        spans, at = self._spans(kind, event, named=named), venue_time(event)
        place = bisect.bisect_right(spans, at, key=lambda span: span[0]) - 1
        return place >= 0 and at < spans[place][1]

    def _of_files(self, event: BookDelta) -> Sequence[tuple[int, int]]:
        return self._spans(BOOK, event, named=True)

    def _spans(self, kind: str, event: Event, *, named: bool) -> Sequence[tuple[int, int]]:
        """What is held of an event's symbol."""
        taken = self._foreign[event.session] if self._again else self.taken
        found = self._found.get((kind, taken, named))
        if found is None:
            ours = () if self._again else set(self._foreign.values())
            found = self._unnamed(kind, taken) if named else self._held(kind, taken, ours)
            self._found[kind, taken, named] = found
        return overlaps.of_symbol(found, event.symbol)

    def filled(self, manifest: Manifest, exchange: str, market_type: str, now: int) -> list[Gap]:
        """The gaps of books that are none any more, now that the recording is taken in: nothing is unknown there."""
        rows = manifest.coverage(exchange, market_type, BOOK) if self._foreign else ()
        books: dict[str, list[Interval]] = {row.symbol: [] for row in rows if row.session in self._foreign}
        said = "a recording has the book of that time"
        return overlaps.filled_gaps(manifest, exchange, market_type, BOOK, books, said, now) if books else []


def beside(manifest: Manifest, exchange: str, market_type: str, now: int = 0, *, again: bool = False) -> Beside:
    """What this lake's own capture of a market covers, and what was taken in before: now, or (`again`) as each of its
    recordings was; gaps that were closed since were gaps then.
    """

    def held(kind: str, taken: int, ours: Collection[int]) -> Spans:
        rows = manifest.sessions(exchange, market_type)
        # a file of an archive covers whole days, also what a recording had told of before
        others = [row.session for row in rows if row.source == "archive" or _later(row, taken, ours)]
        return overlaps.covered(manifest, exchange, market_type, kind, others, files=True, closed=again)

    def unnamed(kind: str, taken: int) -> Spans:
        rows = manifest.sessions(exchange, market_type)
        files = {row.session for row in rows if row.opened_at < taken and _unnamed(kind, row)}
        found: dict[str, list[Interval]] = {}
        for one in manifest.coverage(exchange, market_type, kind) if files else ():
            if one.session in files:
                found.setdefault(one.symbol, []).append(Interval(one.ts_from, one.ts_to))
        return {symbol: [(one.start, one.end) for one in union(spans)] for symbol, spans in found.items()}

    if again:
        return Beside(held, unnamed, again=True)
    rows = manifest.sessions(exchange, market_type)
    before = [row.opened_at if row.source in FILES else taken_at(row.url) for row in rows]
    return Beside(held, unnamed, taken=max([now, *(at + 1 for at in before)]))


def _later(row: SessionRow, taken: int, ours: Collection[int]) -> bool:
    """Whether a session is of a recording that came then or later, or of one that is going on."""
    return row.url.startswith(URL) and (taken_at(row.url) >= taken or taken_at(row.url) in ours)


def _unnamed(kind: str, row: SessionRow) -> bool:
    """Whether a session is a file whose rows of a kind, which may have ids, have none."""
    ids = tables.identity_columns(kind)
    required = {column.name for column in tables.columns(kind) if column.required}
    how = row.url.partition(_AS)[2]
    if row.source != "import" or not ids or required & set(ids) or how.partition(" ")[0] in ("", DIALECT):
        return False
    return not {part.partition(":")[0] for part in how.replace(" ", ",").split(",")} & set(ids)
