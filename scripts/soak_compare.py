"""Reads one venue's streams out of a lake and compares them with what its twin in the simulator sent."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import polars as pl  # noqa: E402 -- the packages are one folder up

from collectors import exchanges  # noqa: E402
from lake import Lake  # noqa: E402
from lake.manifest import Manifest  # noqa: E402
from simulator import oracle, venues, witness  # noqa: E402
from simulator.signs import Sign, digest  # noqa: E402

TIMED = "ts_event"
DERIVED = "snapshot|carried|clear|truncated"
"""Flags of rows that no message of changes says."""


def compare(
    root: Path, truth: Path, exchange: str, until: int, grace: float, wanted: Iterable[witness.Key] = ()
) -> tuple[witness.Witness, oracle.Verdict]:
    """What was sent, and the judgement. `until` (us) is when collecting was to stop; of what is `wanted` something has
    to have been stored. Raises LakeError, ValueError.
    """
    seen = witness.read(truth, venues.load(exchange).SIGNS)
    stored, twice = read_lake(root, exchange)
    manifest = Manifest.read_only(root)
    gaps = [gap for gap in manifest.gaps() if gap.exchange == exchange]
    mine = {row.session for row in manifest.sessions() if row.exchange == exchange}
    aside = sum(
        row.count for row in manifest.quarantine() if row.origin in mine or f"exchange={exchange}/" in row.origin
    )
    manifest.close()
    verdict = oracle.judge(seen, stored, gaps, until, grace, wanted)
    verdict.findings += twice
    if aside < verdict.in_quarantine:
        text = f"{verdict.in_quarantine} rejected events have no gap, and {aside} items are in quarantine"
        verdict.findings.append(oracle.Finding("unexplained_loss", "", "", "", verdict.in_quarantine - aside, text))
    return seen, verdict


def read_lake(root: Path, exchange: str) -> tuple[dict[witness.Key, oracle.Stored], list[oracle.Finding]]:
    """Streams as stored, and lines that stand twice in the segments: readers would not show those."""
    stored: dict[witness.Key, oracle.Stored] = {}
    twice = []
    lake, manifest = Lake(root), Manifest.read_only(root)
    aside: dict[str, int] = {}
    for row in manifest.quarantine():
        aside[row.origin] = aside.get(row.origin, 0) + row.count
    held = {stream[1:3] for stream in manifest.streams() if stream[0] == exchange}
    offers = exchanges.load(exchange).OFFERS
    for market, signs in venues.load(exchange).SIGNS.items():
        for kind, sign in signs.items():
            if kind not in offers[market] or (market, kind) not in held:
                continue
            frame = read_rows(lake, exchange, market, kind, sign)
            segments = manifest.segments(exchange=exchange, market_type=market, kind=kind)
            lines = sum(one.rows - aside.get(one.path, 0) for one in segments if one.state != "quarantined")
            if lines != frame.height:
                text = f"{lines} lines in segments, {frame.height} rows read"
                twice.append(oracle.Finding("twice", kind, market, "", lines - frame.height, text))
            stored |= {(kind, market, symbol): kept for symbol, kept in streams(frame, kind, sign).items()}
    manifest.close()
    return stored, twice


def read_rows(
    lake: Lake, exchange: str, market: str, kind: str, sign: Sign, start: int | None = None, end: int | None = None
) -> pl.DataFrame:
    """What of a kind's rows is compared."""
    values = witness.VALUES.get(kind, ()) if sign.values is None else sign.values
    named = [sign.column, *sign.content, *values, sign.where]
    columns = ["symbol", "source", *named, *(["flags"] if kind == "book_delta" else [])]
    chosen = [column for column in dict.fromkeys(columns) if column]
    table = lake.read(kind, exchange=exchange, market_type=market, columns=chosen, start=start, end=end)
    return pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col("symbol").cast(pl.String))


def streams(frame: pl.DataFrame, kind: str, sign: Sign) -> dict[str, oracle.Stored]:
    """What streams told of a kind, by symbol."""
    stored: dict[str, oracle.Stored] = {}
    rows = frame.filter(pl.col("source") == "ws")
    wholes = rows.clear()
    if kind == "book_delta":
        flags = pl.col("flags").cast(pl.String)
        wholes = rows.filter(flags.str.contains("snapshot"))
        rows = rows.filter(~flags.str.contains(DERIVED))
    if sign.where:
        rows = rows.filter(pl.col(sign.where).is_not_null())
    for (symbol,), part in rows.group_by("symbol", maintain_order=True):
        kept = stored[str(symbol)] = _stream(part, kind, sign)
        if wholes.height and sign.column == TIMED:
            kept.wholes = wholes.filter(symbol=symbol)[sign.column].cast(pl.Int64).to_list()
    return stored


def _stream(part: pl.DataFrame, kind: str, sign: Sign) -> oracle.Stored:
    values = witness.VALUES.get(kind) if sign.values is None else sign.values
    if sign.content:
        timed = [pl.col(name).cast(pl.Int64) if name == "ts_event" else pl.col(name) for name in sign.content]
        first: dict[int, int] = {}
        for n, row in enumerate(part.select(timed).rows()):
            first.setdefault(digest(*row), n)  # what is told twice alike is not known to be the same
        part = part[list(first.values())]
        ids = list(first)
    elif sign.read is not None:
        ids = [sign.read(text) for text in part[sign.column]]
    else:
        ids = part[sign.column].cast(pl.Int64).to_list()
    if sign.rising:
        ids.sort()
        for n in range(1, len(ids)):
            ids[n] = max(ids[n], ids[n - 1] + 1)
    if values is None:
        digests = [0] * part.height  # books
    else:
        digests = [digest(*row) for row in part.select(values).rows()] if values else [digest()] * part.height
    return oracle.Stored(ids, digests)
