"""Where each stream stopped: its last stored event, and the frames behind it that never became lines.

Exact or silent: a symbol whose last event cannot be found among the newest files gets no resume point, since an
older one would make a gap of ids that are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake import layout, parquet
from lake.beginnings import begun
from lake.errors import LakeError
from lake.frames import read_frames
from lake.manifest_reads import Snapshot
from lake.reading import check
from lake.rows import FRAMES, HISTORY, FileRow, SegmentRow, SessionRow
from lake.sources import TRADES
from market.kinds import KINDS, kind
from market.session import EVERY_SYMBOL, Resume
from market.times import DAY

StreamKey: TypeAlias = tuple[str, str, str]
RECENT = 2 * DAY
"""us of coverage before its end whose symbols are looked for: who was silent longer starts anew."""
SNAPSHOT = "snapshot"
"""Flag of a book's snapshot among its updates: it may be ahead of them, so it is not where the stream stopped."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
"""What decoding a line raises: bytes that are no UTF-8 are not msgspec's to name."""
ASIDE, BOOK = "book_snapshot", "book_delta"
"""Kind of which a connection's session also asks over REST, beside its streams, when the BOOK has to begin anew: what
was asked for is no stream that could have stopped.
"""
REST = "rest"
LIVE = "ws"
HANDOVER = "handover"
"""Cause of a session's end after which another one went on with its streams, so that it interrupted none."""
NEWEST = 3
"""Files of a stream, or frames files of a market, that are read for frames without a line."""


class FrameRange(msgspec.Struct, frozen=True):
    """Frames first..last (both included) of a session that are stored as frames but became no lines.

    They may hold acknowledgements and ignored channels only; `dl replay` of `path` tells. `ts_last` us.
    """

    session: str
    first: int
    last: int
    ts_last: int
    path: str


class _Last(msgspec.Struct, frozen=True, order=True):
    ts_event: int
    seq: int
    session: str
    ts_recv: int


class _Told(NamedTuple):
    """Sessions that only fetch: what `polls` brought is a stream, what those of the `past` brought is none."""

    polls: frozenset[str]
    past: frozenset[str]
    beside: bool = False
    """Whether what was asked for beside the streams is looked for, and no stream."""


def resume_points(
    root: Path, snapshot: Snapshot, unclosed: Sequence[SessionRow], live: Iterable[FileRow]
) -> dict[StreamKey, dict[str, Resume]]:
    """The last event of every recently covered symbol of every collected stream; `live` are all live files. What a
    session that was handed over had sent last ended with those that went on.
    """
    broken = {row.session for row in unclosed}
    markets = {(row.exchange, row.market_type) for row in unclosed if row.source == LIVE}
    sessions = snapshot.sessions()
    causes = {row.session: (row.close_cause or "").partition(": ")[0] for row in sessions}
    passed_on = {row.session for row in sessions if causes[row.session] == HANDOVER}
    broken |= {row.session for row in sessions if (row.exchange, row.market_type) in markets} & passed_on
    causes |= dict.fromkeys(passed_on, "")
    causes |= dict.fromkeys(broken, "crash")
    told = _told(sessions)
    files: dict[StreamKey, list[FileRow]] = {}
    for file in live:
        files.setdefault((file.exchange, file.market_type, file.kind), []).append(file)
    points: dict[StreamKey, dict[str, Resume]] = {}
    for stream in snapshot.streams():
        if KINDS[stream[2]].derived:
            continue
        last = _last_events(root, snapshot, stream, files.get(stream, []), told)
        if last:
            since = begun(snapshot, *stream[:2]) if stream[2] in TRADES else {}
            points[stream] = {
                symbol: _stop(event, causes.get(event.session) or "stopped", told, since.get(symbol, 0))
                for symbol, event in sorted(last.items())
            }
    return points


def asked_beside(root: Path, snapshot: Snapshot, live: Iterable[FileRow]) -> dict[StreamKey, dict[str, Resume]]:
    """The last book that was lately asked for beside the streams, by symbol: asked for again, the same is a copy,
    though the venue may give it another time. Nothing was interrupted there: these have no cause.
    """
    told = _told(snapshot.sessions())._replace(beside=True)
    files = [file for file in live if file.kind == ASIDE]
    points: dict[StreamKey, dict[str, Resume]] = {}
    for stream in snapshot.streams():
        if stream[2] == ASIDE:
            mine = [file for file in files if (file.exchange, file.market_type) == stream[:2]]
            if last := _last_events(root, snapshot, stream, mine, told):
                points[stream] = {symbol: _stop(event, "", told) for symbol, event in sorted(last.items())}
    return points


def stopped_before(root: Path, snapshot: Snapshot, first: SegmentRow) -> dict[str, Resume]:
    """The same of one stream as it was before the segment `first` of it: what was received by then."""
    stream = (first.exchange, first.market_type, first.kind)
    files = snapshot.files(first.kind, exchange=first.exchange, market_type=first.market_type)
    told = _told(snapshot.sessions())
    last = _last_events(root, snapshot, stream, files, told, first)
    return {symbol: _stop(event, "stopped", told) for symbol, event in sorted(last.items())}


def _told(sessions: Iterable[SessionRow]) -> _Told:
    held = list(sessions)
    return _Told(
        frozenset(row.session for row in held if row.source == REST),
        frozenset(row.session for row in held if row.source == HISTORY),
    )


def _stop(event: _Last, cause: str, told: _Told, since: int = 0) -> Resume:
    return Resume(
        ts_event=event.ts_event,
        seq=event.seq if event.seq >= 0 else None,
        session=event.session,
        cause=cause,
        ahead=max(0, event.ts_event - event.ts_recv),
        asked=told.beside or event.session in told.polls,
        since=since,
    )


def _last_events(
    root: Path,
    snapshot: Snapshot,
    stream: StreamKey,
    files: Sequence[FileRow],
    told: _Told,
    first: SegmentRow | None = None,
) -> dict[str, _Last]:
    """The newest files first: lines not yet transformed, then parts, hours and days back in time; of those before the
    segment `first`, if one is given.
    """
    exchange, market_type, name = stream
    found: dict[str, _Last] = {}
    segments = snapshot.segments(*stream, state="sealed" if first is None else None)
    if first is not None:
        number = layout.number_of(first.path)
        segments = [row for row in segments if layout.number_of(row.path) < number]
    by = _received_by(first, segments) if first is not None else None
    for segment in (row for row in segments if row.rows and row.state == "sealed"):
        for symbol, event in _of_lines(root / segment.path, name, told):
            _keep(found, symbol, event)
    covered = BOOK if told.beside else name
    coverage = [row for row in snapshot.coverage(exchange, market_type, covered) if row.session not in told.past]
    newest = max((row.ts_to for row in coverage), default=0)
    if told.beside:
        files = [file for file in files if file.ts_max > newest - RECENT]
    wanted = {row.symbol for row in coverage if row.ts_to > newest - RECENT} | found.keys()
    # a session that lasted for an instant covers nothing, and yet its gap waits for its end, be it for weeks
    growing = [gap for gap in snapshot.gaps(exchange, market_type, name, state="open") if gap.ts_to is None]
    silent = {gap.symbol: gap.ts_from for gap in growing if gap.symbol not in wanted}
    wanted |= {gap.symbol for gap in growing if gap.symbol != EVERY_SYMBOL}
    # several files of one time (late rows) may hold a symbol: files are taken in groups that overlap in time
    for group in _by_time(files):
        # a segment that failed for a while is older than parts made since: its lines are not the last word
        end = max(file.ts_max for file in group)
        wanted = {symbol for symbol in wanted if symbol not in found or found[symbol].ts_event <= end}
        if not wanted:
            break
        start = min(file.ts_min for file in group)
        sought = frozenset(symbol for symbol in wanted if silent.get(symbol, start) >= start - DAY)
        seen: set[str] = set()
        for file in group if sought else ():
            for symbol, event in _of_table(root, file, sought, told, by):
                _keep(found, symbol, event)
                seen.add(symbol)
        wanted -= seen
    return found


def _received_by(first: SegmentRow, earlier: Iterable[SegmentRow]) -> int:
    """Until when (us) what lay before the segment `first` was received: later than it, where the clock was set back."""
    return max((first.recv_min or 0) - 1, max((row.recv_max or 0 for row in earlier), default=0))


def _keep(found: dict[str, _Last], symbol: str, event: _Last) -> None:
    held = found.get(symbol)
    if held is None or held < event:
        found[symbol] = event


def _by_time(files: Iterable[FileRow]) -> Iterator[list[FileRow]]:
    """Files from the newest back, those that overlap together."""
    group: list[FileRow] = []
    start = 0
    for file in sorted(files, key=lambda row: (row.ts_max, row.ts_min), reverse=True):
        if group and file.ts_max < start:
            yield group
            group = []
        start = file.ts_min if not group else min(start, file.ts_min)
        group.append(file)
    if group:
        yield group


def _of_lines(path: Path, name: str, told: _Told) -> Iterator[tuple[str, _Last]]:
    """The last event of each symbol of a segment; lines that are no events are the transformer's to report."""
    decoder = _line_decoder(name)
    newest: dict[str, _Last] = {}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.splitlines():
        try:
            held = decoder.decode(line)
        except UNREADABLE:
            continue
        if isinstance(held, _BookLine) and SNAPSHOT in held.flags:
            continue
        if name == ASIDE and (held.source == REST and held.session not in told.polls) != told.beside:
            continue
        if held.session in told.past:
            continue
        time = held.ts_event if held.ts_event is not None else held.ts_recv - (held.skew_us or 0)
        _keep(newest, held.symbol, _Last(time, -1 if held.seq is None else held.seq, held.session, held.ts_recv))
    yield from newest.items()


class _Line(msgspec.Struct, gc=False):
    symbol: str
    ts_event: int | None
    ts_recv: int
    session: str
    frame_no: int
    seq: int | None = None
    skew_us: int | None = None
    source: str = ""


class _QuoteLine(_Line, gc=False):
    seq: int | None = msgspec.field(default=None, name="update_id")


class _BookLine(_Line, gc=False):
    seq: int | None = msgspec.field(default=None, name="last_id")
    flags: tuple[str, ...] = ()


_LINES: dict[str | None, type[_Line]] = {"update_id": _QuoteLine, "last_id": _BookLine}
_DECODERS: dict[type[_Line], msgspec.json.Decoder[_Line]] = {
    line: msgspec.json.Decoder(line) for line in (_Line, _QuoteLine, _BookLine)
}


def _line_decoder(name: str) -> msgspec.json.Decoder[_Line]:
    return _DECODERS[_LINES.get(kind(name).seq, _Line)]


def _of_table(
    root: Path, file: FileRow, symbols: frozenset[str], told: _Told, by: int | None
) -> Iterator[tuple[str, _Last]]:
    """The last row of each of `symbols` in a file, which is sorted by symbol and order; of those received `by` (us).

    A file that is damaged, missing or another than it should be is `dl verify`'s to report; its symbols start anew.
    """
    seq = kind(file.kind).seq
    more = {"book_delta": ["flags"], ASIDE: ["source"]}.get(file.kind, [])
    columns = ["symbol", "ts_event", "ts_recv", "session", *([seq] if seq else []), *more]
    try:
        check(root, [file])
        for table in parquet.iterate(root / file.path, columns, symbols=symbols):
            rows = _of_streams(table, file.kind, told)
            if by is not None:
                rows = rows.filter(pc.less_equal(rows.column("ts_recv").cast(pa.int64()), by))
            yield from _ends(rows, seq, symbols)
    except LakeError:
        return


def _of_streams(table: pa.Table, name: str, told: _Told) -> pa.Table:
    """The rows that streams and polls brought, without the snapshots of books that they began from; or only these."""
    if told.past:
        session = table.column("session").cast(pa.string())
        table = table.filter(pc.invert(pc.is_in(session, pa.array(sorted(told.past), pa.string()))))
    if name == "book_delta":
        return table.filter(pc.invert(pc.match_substring(table.column("flags").cast(pa.string()), SNAPSHOT)))
    if name == ASIDE:
        asked = pc.equal(table.column("source").cast(pa.string()), REST)
        polled = pc.is_in(table.column("session").cast(pa.string()), pa.array(sorted(told.polls), pa.string()))
        beside = pc.and_(asked, pc.invert(polled))
        return table.filter(beside if told.beside else pc.invert(beside))
    return table


def _ends(table: pa.Table, seq: str | None, symbols: frozenset[str]) -> Iterator[tuple[str, _Last]]:
    names = table.column("symbol").cast(pa.string()).combine_chunks()
    runs = pc.run_end_encode(names)
    for symbol, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        if symbol in symbols:
            row = table.slice(end - 1, 1)
            session = row.column("session").cast(pa.string())[0].as_py()
            number = row.column(seq)[0].as_py() if seq else None
            time, received = (row.column(name).cast(pa.int64())[0].as_py() for name in ("ts_event", "ts_recv"))
            yield symbol, _Last(time, -1 if number is None else number, session or "", received or time)


def unwritten_frames(
    root: Path, snapshot: Snapshot, unclosed: Sequence[SessionRow]
) -> tuple[list[FrameRange], dict[str, int]]:
    """What the newest frames files hold of unclosed sessions beyond their last line; and when (us) the newest frame of
    each session in them was received.
    """
    ranges: list[FrameRange] = []
    heard: dict[str, int] = {}
    for market in sorted({(row.exchange, row.market_type) for row in unclosed}):
        mine = frozenset(row.session for row in unclosed if (row.exchange, row.market_type) == market)
        spans: dict[str, FrameRange] = {}
        for file in _newest(root, snapshot.segments(*market, kind=FRAMES)):
            for line in read_frames(root / file.path):
                if line.conn in mine and line.dir == "recv":
                    heard[line.conn] = max(line.ts_recv, heard.get(line.conn, 0))
                if line.conn in mine and line.dir in ("recv", "http"):
                    held = spans.get(line.conn)
                    first = line.n if held is None else min(held.first, line.n)
                    if held is None or line.n >= held.last:
                        spans[line.conn] = FrameRange(line.conn, first, line.n, line.ts_recv, file.path)
        written = _written(root, snapshot, market, mine)
        for session, span in sorted(spans.items()):
            first = max(span.first, written.get(session, 0) + 1)
            if first <= span.last:
                ranges.append(msgspec.structs.replace(span, first=first))
    return ranges, heard


def _newest(root: Path, rows: Iterable[SegmentRow]) -> list[SegmentRow]:
    """The last few files that have bytes, in the order in which they were written, whatever the clock said."""
    held = [row for row in rows if row.rows and (root / row.path).is_file()]
    return sorted(held, key=lambda row: layout.number_of(row.path))[-NEWEST:]


def _written(root: Path, snapshot: Snapshot, market: tuple[str, str], sessions: frozenset[str]) -> dict[str, int]:
    """The greatest frame number of each session among the newest lines of every kind."""
    written: dict[str, int] = {}
    decoder = msgspec.json.Decoder(_Line)
    by_kind: dict[str, list[SegmentRow]] = {}
    for segment in snapshot.segments(*market):
        if segment.kind != FRAMES:
            by_kind.setdefault(segment.kind, []).append(segment)
    for segment in (row for rows in by_kind.values() for row in _newest(root, rows)):
        for line in (root / segment.path).read_bytes().splitlines():
            try:
                held = decoder.decode(line)
            except UNREADABLE:
                continue
            if held.session in sessions and held.frame_no > written.get(held.session, 0):
                written[held.session] = held.frame_no
    return written
