"""After a crash: where a connection had just come in ahead of another, and whether anything is missing was not known.

A merger says so once it has waited (`HOLD`), and what has been said is a row. What is younger shows in the last lines:
the first row of a session behind one of another session, or the whole of a book that is told by sums. Whether what lay
between was proven to be whole in the meantime was known in memory alone, so that it is a gap: too much rather than too
little. Rows of a session that is recorded to have had the stream before are behind no doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from collectors import exchanges
from collectors.chain import SNAPSHOT
from collectors.giving import gap_id
from collectors.holes import IN_FLIGHT, venue_time
from collectors.intake import LaneKey, MarketKey
from collectors.redundancy import way_of
from lake.manifest_reads import Snapshot
from lake.recovery import Recovery
from lake.resume import stopped_before
from lake.rows import SegmentRow, SessionRow
from lake.writer import LakeWriter
from market.kinds import KINDS, BookDelta, Event
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import Interval

CRASH = "crash"
WHY = "a connection had come in ahead of another, and nothing had shown yet that nothing is missing"
CERTAIN = ("numbered", "chained", "led", "asked")
"""Ways of which the stored rows tell it themselves, or that have no rows while it is not known."""
UNHEARD = "another connection was taken on after this one was heard last, and nothing had shown yet that it was mute"
SUMMED = "summed"
FORCED = "liquidation"
WS = "ws"
SEVERAL = 2


def way(lane: LaneKey) -> str:
    """By what copies of a stream are told; empty where that is not known."""
    exchange, market_type, kind = lane
    return way_of(exchanges.load(exchange), market_type, kind).name if exchange in exchanges.names() else ""


def uncertain(lane: LaneKey) -> bool:
    """Whether rows of a stream may be stored while it is not known whether something before them is missing."""
    return KINDS[lane[2]].cadence != "reference" and way(lane) not in CERTAIN


class Entry(NamedTuple):
    """A session's first row, as far as lines show: between `start`, the newest row before it, and its own time (us)
    something may be missing. `start` is 0 where no line shows a row before it, `others` are those with rows before it.
    """

    symbol: str
    session: str
    start: int
    time: int
    others: frozenset[str] = frozenset()


class Entries:
    """Those in the lines of one stream that were received `since` (us). Give it all of them, in their order."""

    def __init__(self, lane: LaneKey, since: int) -> None:
        self.found: list[Entry] = []
        self._since = since
        self._summed = way(lane) == SUMMED
        self._last: dict[str, tuple[int, str]] = {}
        """Symbol -> time of the newest row, and session of the last one."""
        self._met: dict[str, frozenset[str]] = {}
        """Symbol -> sessions with rows of it."""

    def note(self, event: Event) -> None:
        """The next line."""
        if event.source != WS:
            return
        time, met = venue_time(event), self._met.get(event.symbol, frozenset())
        newest, session = self._last.get(event.symbol, (0, ""))
        enters = session != event.session and event.session not in met
        if self._summed:
            enters = isinstance(event, BookDelta) and SNAPSHOT in event.flags
        if enters and newest < time and event.ts_recv > self._since:
            self.found.append(Entry(event.symbol, event.session, newest, time, met - {event.session}))
        if event.session not in met:
            self._met[event.symbol] = met | {event.session}
        self._last[event.symbol] = (max(time, newest), event.session)


def doubted(
    writer: LakeWriter, lane: LaneKey, first: SegmentRow, entries: Entries, sessions: Collection[str],
    told: Mapping[str, Gap], now: int,
) -> Iterator[Gap]:  # fmt: skip
    """One gap a symbol, over all that is in doubt in lines that begin with the segment `first`. `sessions`
    are those that a crash interrupted, `told` the gaps that are known by now and not recorded yet, by their ids.
    """
    if not entries.found:
        return
    with writer.manifest.snapshot() as snapshot:
        recorded = _Recorded(snapshot.coverage(*lane[:2]), lane[2], sessions)
        spans: dict[str, Entry] = {}
        for one in _begun(writer, snapshot, first, entries.found, recorded):
            entry = one if way(lane) == SUMMED else recorded.up_to(one)
            in_doubt = entry.start < entry.time and recorded.beside(entry)
            if in_doubt and not _is_told(snapshot, lane, entry, told):
                held = spans.get(entry.symbol, entry)
                spans[entry.symbol] = entry._replace(start=min(held.start, entry.start))
    for entry in spans.values():
        yield _gap(lane, entry, WHY, now)


class _Recorded:
    """What is recorded of the `sessions` of a market that a crash interrupted: which had what of a kind, since when."""

    def __init__(self, covered: Iterable[Coverage], kind: str, sessions: Collection[str]) -> None:
        self._since: dict[str, dict[str, int]] = {}
        self._reach = dict.fromkeys(sessions, 0)
        """Session -> the newest venue time (us) that is recorded to have come on it."""
        for row in (row for row in covered if row.session in self._reach):
            self._reach[row.session] = max(row.ts_to, self._reach[row.session])
            if row.kind == kind:
                held = self._since.setdefault(row.symbol, {})
                held[row.session] = min(row.ts_from, held.get(row.session, row.ts_from))

    def since(self, symbol: str) -> dict[str, int]:
        """Session -> since when it has had a symbol, perhaps in a stream of all."""
        return {**self._since.get(EVERY_SYMBOL, {}), **self._since.get(symbol, {})}

    def up_to(self, entry: Entry) -> Entry:
        """The entry, of which nothing is in doubt since its session is recorded to have had the stream."""
        return entry._replace(time=min(entry.time, self.since(entry.symbol).get(entry.session, entry.time)))

    def beside(self, entry: Entry) -> set[str]:
        """Sessions that may know what lies before an entry, and were there to the end: what others left was told when
        they ended. One that is recorded to have gone beyond the row before it, without anything of the symbol, has it
        not.
        """
        had = self.since(entry.symbol)
        return {
            one
            for one, reach in self._reach.items()
            if one != entry.session and (one in had or one in entry.others or reach < entry.start + IN_FLIGHT)
        }


def _begun(
    writer: LakeWriter,
    snapshot: Snapshot,
    first: SegmentRow,
    entries: Iterable[Entry],
    recorded: _Recorded,
) -> Iterator[Entry]:
    """Those behind a row of another session. Where that is in no line that was read, the other one has been recorded to
    have had the stream: files are looked through for symbols of two sessions only.
    """
    before = None
    for entry in entries:
        if entry.start:
            yield entry
        elif recorded.since(entry.symbol).keys() - {entry.session}:
            before = stopped_before(writer.root, snapshot, first) if before is None else before
            stop = before.get(entry.symbol)
            if stop is not None and stop.session != entry.session and stop.ts_event < entry.time:
                yield entry._replace(start=stop.ts_event)


def _is_told(snapshot: Snapshot, lane: LaneKey, entry: Entry, told: Mapping[str, Gap]) -> bool:
    """Whether a row says what became of that time."""
    recorded = snapshot.gaps(*lane, entry.symbol, overlapping=Interval(entry.start, entry.time))
    gaps = [told.get(row.gap_id, row) for row in recorded]
    return any(gap.ts_from <= entry.start and (gap.ts_to is None or gap.ts_to >= entry.time) for gap in gaps)


def orders_unheard(
    writer: LakeWriter, found: Recovery, covered: Sequence[Coverage], told: Mapping[str, Gap], now: int
) -> Iterator[Gap]:
    """Forced orders are rare, so that a connection which has none shows nothing by it, and a first one is no doubt.
    Where the others were taken on only after one was heard last, nobody had what came between. `covered` is what a
    crash left to be recorded.
    """
    for market, rows in sorted(live(found).items()):
        lane, names = (*market, FORCED), {row.session for row in rows}
        if len(rows) < SEVERAL or lane not in found.last:
            continue
        with writer.manifest.snapshot() as snapshot:
            recorded = [row for row in (*snapshot.coverage(*market), *covered) if row.session in names]
            for entry in _late(rows, recorded, found.heard):
                if _is_told(snapshot, lane, entry._replace(start=entry.time - 1), told):
                    continue  # from where the row before it is
                stop = found.last.get(lane, {}).get(entry.symbol)
                if stop is None or stop.ts_event > entry.start:  # else all of it is in the crash's gap
                    yield _gap(lane, entry, UNHEARD, now)


def _late(rows: Sequence[SessionRow], covered: Iterable[Coverage], received: Mapping[str, int]) -> Iterator[Entry]:
    """From when each of some connections was heard last to when the first of the others had a symbol's orders."""
    heard, since = dict(received), dict[str, dict[str, int]]()
    for row in covered:
        heard[row.session] = max(row.ts_to, heard.get(row.session, 0))
        if row.kind == FORCED:
            held = since.setdefault(row.symbol, {})
            held[row.session] = min(row.ts_from, held.get(row.session, row.ts_from))
    opened = {row.session: row.opened_at for row in rows}
    for session, begun in opened.items():
        start = heard.get(session, begun) - IN_FLIGHT
        for symbol, taken in since.items():
            at, heir = min(((at, one) for one, at in taken.items() if one != session), default=(0, session))
            if opened[heir] > begun and start < at:
                yield Entry(symbol, session, start, at)


def live(found: Recovery) -> dict[MarketKey, list[SessionRow]]:
    """Market -> the connections that a crash interrupted."""
    rows: dict[MarketKey, list[SessionRow]] = {}
    for row in found.unclosed:
        if row.source == WS:
            rows.setdefault((row.exchange, row.market_type), []).append(row)
    return rows


def _gap(lane: LaneKey, entry: Entry, why: str, now: int) -> Gap:
    name = gap_id(*lane, entry.symbol, None, entry.start)
    return Gap(
        name, *lane, entry.symbol, entry.start, entry.time, None, None, CRASH, "interval", "open", entry.session, now,
        detail=why,
    )  # fmt: skip
