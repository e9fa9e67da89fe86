"""Publication of one Parquet file, up to the commit: afterwards it has its durable, unique name and nobody sees it yet.

Order, always: temporary file in the target folder -> close -> re-open, decode every page, check, SHA-256 -> fsync ->
rename to the name that its content gives it -> fsync the folder. The manifest transaction that makes it live comes
after (`LakeWriter.publish`); a crash anywhere before that leaves an orphan, never half a file under a final name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from lake import durable, layout, parquet, tables
from lake.digest import ContentDigest
from lake.errors import StorageFailed, VerifyFailed
from lake.rows import FileRow, Level
from market import kinds


class Placement(msgspec.Struct, kw_only=True, frozen=True):
    """Which file is to be published: its place in the tree and in the lineage.

    `symbol` None holds all symbols, `hour` None a whole day; `date` is YYYY-MM-DD of ts_event. `revision` is the
    generation. Level `day` goes under versions/ and gets a content digest, the others under hot/.
    """

    kind: str
    exchange: str
    market_type: str
    level: Level
    date: str
    symbol: str | None = None
    hour: int | None = None
    revision: int = 0
    lake_id: str = ""
    parents: tuple[tables.Parent, ...] = ()
    late: int = 0


def publish(
    root: Path,
    placement: Placement,
    batches: Iterable[pa.Table],
    *,
    run: str,
    now: int,
    seen: Callable[[pa.Table], None] | None = None,
) -> FileRow:
    """Writes `batches` (tables of the kind's schema, in order) as one verified file; the row is for the commit.

    `run` names temporary files ([A-Za-z0-9_-]+), `now` (us) only fills `created_at`; `seen` is given the rows as they
    are read back. Equal batches and placement give equal bytes and so the same name: publishing again is done already.
    Raises VerifyFailed (nothing was published: no rows, unsorted, a repeated identity, a null where there must be
    none), StorageFailed.
    """
    folder = root / folder_of(placement)
    durable.make_dirs(folder)
    # several jobs may write into one folder at the same time: their parents tell their temporary files apart
    inputs = tables.root_hash(placement.parents)[:16]
    temp = durable.temp_path(folder / f"{placement.kind}-g{placement.revision}-{inputs}", run)
    durable.unlink(temp)
    try:
        footer = _write(temp, placement, batches, seen)
        sha256 = parquet.file_sha256(temp)
        durable.fsync_file(temp)
        size = temp.stat().st_size
        name = layout.parquet_name(placement.kind, footer.ts_min, footer.ts_max, placement.revision, sha256)
        target = folder / name
        durable.rename(temp, target)
    except BaseException:
        with contextlib.suppress(StorageFailed):
            durable.unlink(temp)
        raise
    return FileRow(
        path=target.relative_to(root).as_posix(),
        exchange=placement.exchange,
        market_type=placement.market_type,
        kind=placement.kind,
        level=placement.level,
        symbol=placement.symbol,
        date=placement.date,
        hour=placement.hour,
        revision=placement.revision,
        rows=footer.rows,
        bytes=size,
        sha256=sha256,
        ts_min=footer.ts_min,
        ts_max=footer.ts_max,
        seq_min=footer.seq_min,
        seq_max=footer.seq_max,
        late=placement.late,
        schema_version=tables.SCHEMA_VERSION,
        content_digest=footer.content_digest,
        parents=tuple(parent.path for parent in placement.parents),
        created_at=now,
    )


def folder_of(placement: Placement) -> str:
    """The folder of the file, relative to the lake's root. Raises VerifyFailed for a part or hour without its hour."""
    where = (placement.exchange, placement.market_type, placement.kind)
    if placement.level == "day":
        return layout.version_dir(*where, placement.symbol, placement.date, placement.hour)
    if placement.hour is None:
        raise VerifyFailed(f"a {placement.level} file of {placement.kind} needs its hour")
    return layout.hot_dir(*where, placement.date, placement.hour)


def _write(
    temp: Path, placement: Placement, batches: Iterable[pa.Table], seen: Callable[[pa.Table], None] | None
) -> tables.Footer:
    """Writes and closes the temporary file, then reads it back from the disk; what its footer says, proven."""
    digest = None
    if placement.level == "day":
        digest = ContentDigest(placement.exchange, placement.market_type, placement.kind)
        batches = _digested(batches, digest)

    def describe(stats: parquet.Stats) -> tables.Footer:
        if stats.ts_min is None or stats.ts_max is None:
            raise VerifyFailed(f"a {placement.level} file of {placement.kind} would have no rows")
        return tables.Footer(
            kind=placement.kind,
            schema_version=tables.SCHEMA_VERSION,
            lake_id=placement.lake_id,
            exchange=placement.exchange,
            market_type=placement.market_type,
            symbol=placement.symbol,
            date=placement.date,
            hour=placement.hour,
            level=placement.level,
            revision=placement.revision,
            rows=stats.rows,
            ts_min=stats.ts_min,
            ts_max=stats.ts_max,
            seq_min=stats.seq_min,
            seq_max=stats.seq_max,
            late=placement.late,
            clock=_clock(placement.kind, stats),
            decimals=dict(sorted(stats.decimals.items())),
            inexact=dict(sorted(stats.inexact.items())),
            parents=tuple(sorted(placement.parents)),
            root=tables.root_hash(placement.parents),
            content_digest=None if digest is None else digest.hexdigest(),
        )

    with durable.AppendFile(temp) as sink:
        written = parquet.write(sink, placement.kind, batches, describe, lasting=placement.level == "day")
    if placement.symbol is not None and written.symbols != {placement.symbol}:
        raise VerifyFailed(f"the file of {placement.symbol} would hold {', '.join(sorted(written.symbols)[:5])}")
    footer = parquet.verify(temp, seen)
    if footer.rows != written.rows:
        raise VerifyFailed(f"{temp.name} holds {footer.rows} rows, {written.rows} were written")
    return footer


def _clock(kind: str, stats: parquet.Stats) -> str:
    """Whose time orders the rows. The times of bars are windows of the venue's time, whatever their quotes have."""
    if stats.estimated == 0 or kind in kinds.BARS:
        return "venue"
    return "receive" if stats.estimated == stats.rows else "mixed"


def _digested(batches: Iterable[pa.Table], digest: ContentDigest) -> Iterator[pa.Table]:
    for batch in batches:
        digest.update(batch)
        yield batch


def discard(root: Path, rows: Iterable[FileRow]) -> None:
    """Removes files that were published and will not be committed."""
    for row in rows:
        with contextlib.suppress(StorageFailed):
            durable.unlink(root / row.path)
