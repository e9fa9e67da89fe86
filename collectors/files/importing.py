"""One file into the lake: hashed, cut into blocks, made into rows by workers, and visible all at once.

The process that writes the lake reads bytes and waits; rows are made in its workers, a block at a time, so that memory
stays the same for a file of any size. What stops in between leaves nothing, and is done anew by asking again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import zoneinfo
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

import msgspec

from collectors import exchanges
from collectors.files import changes, filling
from collectors.files.blocks import Block, NoFile, blocks, sample_of
from collectors.files.filling import File, Filled
from collectors.files.joining import State
from collectors.files.reading import INTERVALS, Options, Reading, Refused, check_kind
from collectors.files.rows import batches
from collectors.files.understand import understand
from lake import adopting, layout, overlaps, tables
from lake.adopting import Adopted, FileSource, Published
from lake.book_parts import Parts
from lake.checks import DIFFERS
from lake.errors import LakeError
from lake.lost import AGAIN, closed
from lake.manifest import Manifest
from lake.overlaps import Overlap
from lake.refused import cure
from lake.rows import CheckRow
from lake.writer import LakeWriter
from market import calendars, times
from market.errors import MarketError
from market.instruments import check_market_type

Report = Callable[[int, int, str], None]
_PIECE = 1024 * 1024
KEPT: Literal["import"] = "import"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file (an absolute path) and how it is read. `again` takes in what was taken in before, read otherwise."""

    path: str
    exchange: str
    market_type: str
    reading: Reading
    member: str | None = None
    again: bool = False


class Missing(msgspec.Struct):
    """Trading days without a row between the first and the last of a symbol; they are not covered.

    `sure`: the holidays of that market are known.
    """

    symbol: str
    days: list[str]
    sure: bool = True


class Imported(msgspec.Struct, kw_only=True):
    """What became of a file. `ts_from` and `ts_to` (us) bound its rows; `reasons` are of the first set aside."""

    path: str
    sha256: str
    kind: str
    dialect: str
    session: str | None
    already: bool
    rows: int
    duplicates: int
    quarantined: int
    covered: int
    """Rows without an id, left out since the lake covers their time."""
    other: int
    """Rows that tell nothing of the kind: of tardis.dev's tickers and options those without a mark, of books those
    that no whole book comes before, where others of the file are taken beside what the lake has.
    """
    files: int
    symbols: list[str]
    ts_from: int | None
    ts_to: int | None
    reasons: list[str]
    why: dict[str, int]
    """Reason -> rows that were set aside for it, most first."""
    missing: list[Missing] = []
    added: int = 0
    """Rows at the borders of a book's parts, which are no rows of the file; `rows` counts them."""
    filled: Filled | None = None
    """Of a book of which the lake has a part: what was taken, and what was not."""
    overlaps: list[Overlap] = []
    """Where its rows and those that were in the lake are the same events."""


def request_of(path: Path, options: Options, *, again: bool = False) -> Request:
    """What a file is understood as. Raises Refused, Unclear, UnknownKind, Malformed."""
    check_market_type(options.market_type)
    layout.hot_dir(options.exchange, options.market_type, "trade", "2024-01-01", 0)  # a name that no path can hold
    if options.kind is not None:
        check_kind(options.kind, own=True)
    where = path.absolute()
    sample = sample_of(where, options)
    reading = understand(sample, options, numbered=_numbered(options))
    return Request(
        path=str(where), exchange=options.exchange, market_type=options.market_type, reading=reading,
        member=options.member, again=again,
    )  # fmt: skip


def _numbered(options: Options) -> bool:
    """Whether ids of trades follow by one at this exchange; who is not known here is taken not to number so."""
    kind = options.kind or "trade"
    if options.exchange not in exchanges.names() or "trade" not in kind:
        return False
    try:
        streams = exchanges.load(options.exchange).streams(options.market_type, [kind], [options.symbol or "X"])
    except (MarketError, KeyError):
        return False
    return any(stream.contiguous for stream in streams if stream.kind == kind)


def take_in(
    writer: LakeWriter,
    executor: Executor,
    node: str,
    now: int,
    request: Request,
    report: Report,
    stopping: Callable[[], bool] = lambda: False,
) -> Imported:
    """The file as rows of the lake. Blocks; nothing of it is left where it raises Refused, StorageFailed, Fenced."""
    path = Path(request.path)
    sha256, seen = _hashed(path, report)
    _check_new(writer, request, sha256)
    source = adopting.begin(
        writer, node, exchange=request.exchange, market_type=request.market_type, kind=request.reading.kind,
        source=KEPT, url=path.as_posix(), sha256=sha256, how=request.reading.how, now=now,
    )  # fmt: skip
    if isinstance(source, Adopted):
        return _imported(request, sha256, source)
    made = Published()
    source = msgspec.structs.replace(
        source, held=_left_out(request, held(writer.manifest, request, source.session)), zone=_zone(request.reading)
    )
    try:
        parts, state = filling.planned(writer.root, executor, writer.manifest, _file(request), source.session), State()
        for block, done in blocks(path, request.reading, request.member):
            _check_going(path, stopping)
            if parts is None:
                job = executor.submit(work, str(writer.root), source, request.reading, request.path, block, now)
                adopting.join(made, job.result())
                state.line = filling.lines(block)
            else:
                state = _fill(writer, executor, source, request, block, parts, state, made, now)
            report(done, seen.st_size, f"{made.rows:,} rows")
        if parts is not None:
            state = _fill(writer, executor, source, request, None, parts, state, made, now)
        elif request.reading.dialect == changes.CHANGES:
            job = executor.submit(filling.close, str(writer.root), source, made.spans, state.line, now)
            adopting.join(made, job.result())
        _check_same(path, seen)
        if parts is not None:
            return _filled(writer, executor, request, sha256, source, parts, state, made, now)
        found = executor.submit(overlaps.compare, writer.root, made.files, source.session).result()
        missing = _missing(source, made)
        # what others cover they go on covering: whoever weighs against this file is to see what it brought
        holes = {one: [times.Interval(*span) for span in overlaps.of_symbol(source.held, one)] for one in made.spans}
        for one in missing:
            holes[one.symbol] += [_local_day(source.zone, day) for day in one.days]
        market = (source.exchange, source.market_type)
        same = {row.session for row in adopting.earlier(writer, *market, sha256)}
        gaps = closed(writer.manifest, market, source.kind, made.spans, same, now)
        checks = _differing(made, found)
        done_with = adopting.finish(writer, source, made, now=now, holes=holes, checks=checks, gaps=gaps)
        return msgspec.structs.replace(_imported(request, sha256, done_with), overlaps=found, missing=missing)
    except BaseException as error:
        with contextlib.suppress(LakeError):
            adopting.abandon(writer, source, made, _why(error), now=now)
        raise


def _fill(
    writer: LakeWriter, executor: Executor, source: FileSource, request: Request, block: Block | None, parts: Parts,
    state: State, made: Published, now: int,
) -> State:  # fmt: skip
    job = executor.submit(filling.work, str(writer.root), source, _file(request), block, now, parts.open, state)
    more, state = job.result()
    adopting.join(made, more)
    return state


def _filled(
    writer: LakeWriter, executor: Executor, request: Request, sha256: str, source: FileSource, parts: Parts,
    state: State, made: Published, now: int,
) -> Imported:  # fmt: skip
    coverage, holes = filling.covered(state)
    gaps = filling.closed(writer.manifest, _file(request), state, now)
    done = adopting.finish(writer, source, made, now=now, coverage=coverage, holes=holes, gaps=gaps)
    told = filling.filled(state, parts)
    told.parts = executor.submit(filling.compared, str(writer.root), _file(request), state.symbol, told.parts).result()
    return msgspec.structs.replace(_imported(request, sha256, done), filled=told)


def _file(request: Request) -> File:
    return File(request.path, request.member, request.reading, request.exchange, request.market_type)


def parts_of(root: Path, executor: Executor, manifest: Manifest, request: Request) -> Parts | None:
    """What of a bought book the lake leaves open, for `rehearse`; None where all of it is. Raises Refused."""
    return filling.planned(root, executor, manifest, _file(request))


def rehearse(
    request: Request,
    now: int,
    report: Report,
    there: overlaps.Spans | None = None,
    parts: Parts | None = None,
) -> Imported:
    """What `take_in` would say of the file where the lake covers this much (`held`, `parts_of`). Raises Refused."""
    path = Path(request.path)
    sha256, seen = _hashed(path, report)
    source = FileSource(
        exchange=request.exchange, market_type=request.market_type, kind=request.reading.kind, source=KEPT,
        url=path.as_posix(), sha256=sha256, session="none-0-0", recv=now, lake_id="",
        held=_left_out(request, there or {}),
        zone=_zone(request.reading),
    )  # fmt: skip
    made, other, state = Published(), list[int](), State()
    for block, done in blocks(path, request.reading, request.member):
        if parts is None:
            rows = batches(path, request.reading, block, other=other)
            adopting.join(made, adopting.rehearse(source, rows, lambda _: None))
            state.line = filling.lines(block)
        else:
            adopting.join(made, filling.rehearse(source, _file(request), block, parts.open, state))
        report(done, seen.st_size, f"{made.rows:,} rows")
    if parts is not None:
        adopting.join(made, filling.rehearse(source, _file(request), None, parts.open, state))
        told = _imported(request, sha256, adopting.told(source, made))
        return msgspec.structs.replace(told, filled=filling.filled(state, parts))
    if request.reading.dialect == changes.CHANGES:
        adopting.join(made, filling.rehearse_close(source, made.spans, state.line))
    made.other = sum(other)
    told = _imported(request, sha256, adopting.told(source, made))
    return msgspec.structs.replace(told, missing=_missing(source, made))


def work(root: str, source: FileSource, reading: Reading, path: str, block: Block, now: int) -> Published:
    """One block in a worker process."""
    other: list[int] = []
    rows = batches(Path(path), reading, block, other=other)
    made = adopting.publish_rows(Path(root), source, rows, run=source.session, now=now)
    made.other = sum(other)
    return made


def _zone(reading: Reading) -> str:
    """Whose calendar says which days there should be; of candles wider than a day none does."""
    if reading.interval in INTERVALS and INTERVALS[reading.interval] > INTERVALS["1d"]:
        return ""
    return next(iter(reading.times.values())).zone or "UTC" if reading.times else "UTC"


def _missing(source: FileSource, made: Published) -> list[Missing]:
    epoch = dt.date(1970, 1, 1)
    found = []
    for symbol, days in sorted(made.days.items()):
        held = [epoch + dt.timedelta(days=day) for day in days]
        lost = calendars.missing(source.market_type, source.exchange, source.zone, held)
        sure = source.market_type != "equity" or all(
            calendars.holidays_known(source.exchange, source.zone, day.year) for day in lost
        )
        if lost:
            found.append(Missing(symbol, [day.isoformat() for day in lost], sure))
    return found


def _local_day(zone: str, day: str) -> times.Interval:
    start = dt.datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    end = (start + dt.timedelta(days=1)).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    return times.Interval(times.from_datetime(start), times.from_datetime(end))


def held(manifest: Manifest, request: Request, session: str = "") -> overlaps.Spans:
    """What the lake covers already, where rows may have no id. Asked to take a file again, it takes it again."""
    kind = request.reading.kind
    if not tables.identity_columns(kind):
        return {}
    # of a book whose ids are its lines nothing joins what another file brought
    files = not request.again or request.reading.dialect == changes.CHANGES
    return overlaps.covered(manifest, request.exchange, request.market_type, kind, [session], files=files)


def _left_out(request: Request, spans: overlaps.Spans) -> overlaps.Spans:
    """Where rows without an id are left out one by one; of books whose ids are their lines parts are taken."""
    return {} if request.reading.dialect == changes.CHANGES else spans


def _differing(made: Published, found: list[Overlap]) -> list[CheckRow]:
    """What the checks say of rows that the lake has otherwise: beside the first file of their day."""
    paths = {file.date: file.path for file in reversed(made.files)}
    return [
        CheckRow(path=paths[one.date], check=DIFFERS, symbol=one.symbol, count=one.different, detail=one.example)
        for one in found
        if one.different
    ]


def _hashed(path: Path, report: Report) -> tuple[str, os.stat_result]:
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            digest = hashlib.sha256()
            held = memoryview(bytearray(_PIECE))
            while size := file.readinto(held):
                digest.update(held[:size])
                report(file.tell(), seen.st_size, "hashing")
    except OSError as error:
        raise NoFile(f"{path} cannot be read: {error.strerror or error}", cure(error, "check its name")) from error
    return digest.hexdigest(), seen


def _check_going(path: Path, stopping: Callable[[], bool]) -> None:
    if stopping():
        raise Refused(f"{path.name} was not taken in: the daemon stops", "run it again")


def _check_same(path: Path, seen: os.stat_result) -> None:
    found = path.stat()
    if (seen.st_size, seen.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
        raise Refused(f"{path.name} changed while it was read", "run it again when it is whole")


def _why(error: BaseException) -> str:
    return error.message if isinstance(error, LakeError) else f"{type(error).__name__} {error}"


def _check_new(writer: LakeWriter, request: Request, sha256: str) -> None:
    """Raises Refused where these bytes are in the lake as the same kind, read in another way."""
    mark = adopting.identity(sha256, request.reading.kind, request.reading.how)
    of_kind = f"#{adopting.identity(sha256, request.reading.kind, '')}"
    for row in adopting.earlier(writer, request.exchange, request.market_type, sha256):
        same_kind = of_kind in row.url and not row.url.partition(AGAIN)[0].endswith(mark)
        if same_kind and row.close_cause == adopting.DONE and not request.again:
            raise Refused(
                f"{Path(request.path).name} was imported at {times.text(row.opened_at)} as {request.reading.kind}, read"
                f" otherwise: {row.url.partition('&as=')[2]}; now: {request.reading.how}",
                "say --again to have the rows of both",
            )


def _imported(request: Request, sha256: str, made: Adopted) -> Imported:
    return Imported(
        path=request.path, sha256=sha256, kind=request.reading.kind, dialect=request.reading.dialect,
        session=made.session or None, already=made.already, rows=made.rows, duplicates=made.duplicates,
        quarantined=made.quarantined,
        covered=made.covered, other=made.other, added=made.added, files=made.files, symbols=made.symbols,
        ts_from=made.ts_from, ts_to=made.ts_to, reasons=made.reasons, why=made.why,
    )  # fmt: skip
