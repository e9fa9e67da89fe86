"""What a recording of somebody else tells beside what own capture, files and earlier recordings have: these go first.

An event without an id cannot be told from one that the lake has, nor one with an id from the row of a file without.
Inside what they cover it is left out and counted; in their gaps, and outside, it is taken. Which of them are is told by
what the lake says of coverage, gaps, and when who was taken in, so that frames that are read again become the same
rows; a file covers what nothing did before it came. Books beside those of files give way whole (`seams`).
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, cast

import msgspec

from collectors.apart import OWN
from collectors.files.archive.series import alone
from collectors.files.own import DIALECT
from collectors.holes import venue_time
from collectors.seams import KIND as BOOK
from collectors.seams import Seams
from collectors.slices import URL
from lake import overlaps, tables
from lake.books import MISSING
from lake.manifest import Manifest
from lake.overlaps import Spans, taken_at
from lake.rows import FILES, SessionRow
from market.kinds import BookDelta, Event
from market.session import Gap
from market.times import MINUTE, Interval, union

LAST = 2**62
_AS = "&as="
"""What stands in the address of an imported file before how it was read."""


class Heard(NamedTuple):
    """What somebody has of a kind, who heard it between two receive times (us, both included). Of what comes around
    the ends of a recording that tells which events are in it: venue times are not in the order in which they came.
    """

    spans: Spans
    first: int = 0
    last: int = LAST

    def holds(self, event: Event) -> bool:
        if not self.first <= event.ts_recv <= self.last:
            return False
        spans, at = overlaps.of_symbol(self.spans, event.symbol), venue_time(event)
        place = bisect.bisect_right(spans, at, key=lambda span: span[0]) - 1
        return place >= 0 and at < spans[place][1]


class Beside:
    """What is held when a recording that was taken in at a time (us) comes: `held` of events without an id (told by
    which times of other recordings are part of this run), `unnamed` of files whose rows have none. They are asked when
    the first such event comes.

    `taken` is when the recording at hand is taken in, `missing` what the lake lacked before. `again`: all frames are
    read again, own ones beside.
    """

    def __init__(
        self,
        held: Callable[[str, int, Collection[int]], list[Heard]],
        unnamed: Callable[[str, int], Spans],
        *,
        taken: int = 0,
        again: bool = False,
        missing: Sequence[Gap] = (),
    ) -> None:
        self.taken = taken
        self.left: Counter[str] = Counter()
        """Kind -> events that were left out."""
        self.seams = Seams(self._of_files)
        self._missing = missing
        self._again = again
        self._held = held
        self._unnamed = unnamed
        self._found: dict[tuple[str, int], list[Heard]] = {}
        self._near: dict[tuple[str, int], tuple[int, list[Heard]]] = {}
        """Of these who heard anything in a minute of receive time."""
        self._files: dict[tuple[str, int], Heard] = {}
        self._foreign: dict[str, int] = {}
        """Session of a recording -> when that was taken in."""
        self._opened: set[str] = set()

    def opened(self, session: str, url: str) -> None:
        """A session begins; those of a recording are told by their address."""
        self._opened.add(session)
        if url.startswith(URL):
            self._foreign[session] = taken_at(url)

    def apart(self, session: str) -> int:
        """Which sessions one goes together with: where all frames are read again, those that were taken in with it."""
        return self._foreign[session] + 1 if self._again and session in self._foreign else OWN

    def before(self, kind: str, events: Sequence[Event]) -> None:
        """What mergers are about to see: all of it, so that no time that somebody else has is a hole."""
        if kind == BOOK and self._foreign:
            self.seams.read(cast("BookDelta", event) for event in events if event.session in self._foreign)

    def after(self, kind: str, events: Sequence[Event]) -> Sequence[Event]:
        """Those that are rows, of what mergers let through, and others beside."""
        if not self._foreign:
            return events
        kept = [event for event in events if event.session not in self._foreign or not self._is_held(kind, event)]
        self.left[kind] += len(events) - len(kept)
        return [*self.seams.made(), *kept] if kind == BOOK else kept

    def _is_held(self, kind: str, event: Event) -> bool:
        ids = tables.identity_columns(kind)
        if isinstance(event, BookDelta):
            return self.seams.left_out(event)
        if not ids:
            return False
        if any(getattr(event, name) is not None for name in ids):
            return self._named(kind, event).holds(event)
        return any(one.holds(event) for one in self._others(kind, event))

    def _of_files(self, event: BookDelta) -> Sequence[tuple[int, int]]:
        return overlaps.of_symbol(self._named(BOOK, event).spans, event.symbol)

    def _named(self, kind: str, event: Event) -> Heard:
        """What files have of a kind without its ids."""
        taken = self._taken(event)
        found = self._files.get((kind, taken))
        if found is None:
            found = self._files[kind, taken] = Heard(self._unnamed(kind, taken))
        return found

    def _others(self, kind: str, event: Event) -> Sequence[Heard]:
        """Who may have an event without an id."""
        taken, minute = self._taken(event), event.ts_recv // MINUTE
        near = self._near.get((kind, taken))
        if near is None or near[0] != minute:
            if (kind, taken) not in self._found:
                ours = () if self._again else set(self._foreign.values())
                self._found[kind, taken] = self._held(kind, taken, ours)
            start, end = minute * MINUTE, (minute + 1) * MINUTE
            found = [one for one in self._found[kind, taken] if one.first < end and one.last >= start]
            near = self._near[kind, taken] = (minute, found)
        return near[1]

    def _taken(self, event: Event) -> int:
        return self._foreign[event.session] if self._again else self.taken

    def filled(self, manifest: Manifest, exchange: str, market_type: str, now: int) -> Iterator[list[Gap]]:
        """The gaps that are none any more, or less, now that a recording, or another node's frames, are taken in: they
        were there all the time.

        Write each list down before the next is asked for.
        """
        yield self._retold(manifest, exchange, market_type)
        kinds: dict[str, dict[str, list[Interval]]] = {}
        for row in manifest.coverage(exchange, market_type):
            if row.session in self._opened:
                kinds.setdefault(row.kind, {})[row.symbol] = []
        for kind, named in sorted(kinds.items()):
            said = "a recording has the book of that time" if kind == BOOK else "a recording was there all that time"
            # of a file without ids nothing tells that all of it is there; one of a book is a book at any time
            files = kind == BOOK
            yield overlaps.filled_gaps(manifest, exchange, market_type, kind, named, said, now, files=files)

    def _retold(self, manifest: Manifest, exchange: str, market_type: str) -> list[Gap]:
        """Gaps behind an event behind which the recording lacks something as well, so that they have one name: what was
        told before, and what it tells, as two.
        """
        if not self._missing:
            return []
        by = {row.session: overlaps.whose(row, nodes=True) for row in manifest.sessions(exchange, market_type)}
        told = {gap.gap_id: gap for gap in manifest.gaps(exchange, market_type, state=MISSING)}
        made = []
        for before in self._missing:
            gap = told.get(before.gap_id, before)
            who = by.get(gap.session or "")
            if gap.session in self._opened and who is not None and who != by.get(before.session or ""):
                made += [before, msgspec.structs.replace(gap, gap_id=f"{gap.gap_id}.r{self.taken}")]
        return made


def beside(manifest: Manifest, exchange: str, market_type: str, now: int = 0, *, again: bool = False) -> Beside:
    """What this lake's own capture of a market covers, and what was taken in before: now, or (`again`) as each of its
    recordings was; gaps that were closed since were gaps then.
    """

    def held(kind: str, taken: int, ours: Collection[int]) -> list[Heard]:
        rows = manifest.sessions(exchange, market_type)
        # a file of an archive covers whole days, also what a recording had told of before
        others = {row.session for row in rows if row.source == "archive" or _later(row, taken, ours)}
        by = overlaps.covered_by(manifest, exchange, market_type, kind, others, files=True, closed=again)
        found = [Heard(overlaps.together(by.pop(who, {}) for who in (overlaps.OWN, overlaps.FILE)))]
        for url, spans in by.items():
            mine = [row for row in rows if row.url == url]
            last = max(row.closed_at if row.closed_at is not None else LAST for row in mine)
            found.append(Heard(spans, min(row.opened_at for row in mine), last))
        return found

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
    missing = manifest.gaps(exchange, market_type, state=MISSING)
    return Beside(held, unnamed, taken=max([now, *(at + 1 for at in before)]), missing=missing)


def _later(row: SessionRow, taken: int, ours: Collection[int]) -> bool:
    """Whether a session is of a recording that came then or later, or of one that is going on."""
    return row.url.startswith(URL) and (taken_at(row.url) >= taken or taken_at(row.url) in ours)


def _unnamed(kind: str, row: SessionRow) -> bool:
    """Whether a session is a file whose rows of a kind, which may have ids, have none, or others than a stream."""
    if row.source == "archive":
        return alone(row.exchange, row.market_type, kind)
    ids = tables.identity_columns(kind)
    required = {column.name for column in tables.columns(kind) if column.required}
    how = row.url.partition(_AS)[2]
    if row.source != "import" or not ids or required & set(ids) or how.partition(" ")[0] in ("", DIALECT):
        return False
    return not {part.partition(":")[0] for part in how.replace(" ", ",").split(",")} & set(ids)
