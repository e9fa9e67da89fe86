"""The files of a lake with what is known of each; imports nothing but the manifest, so that `dl ls` is quick."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lake.manifest_reads import Snapshot
from lake.rows import CertificateRow, CheckRow, FileRow


class Held(msgspec.Struct, frozen=True):
    """One live file, the last certificate of it, and what checks found in it."""

    file: FileRow
    certificate: CertificateRow | None
    checks: tuple[CheckRow, ...]


def files(
    snapshot: Snapshot,
    kind: str | None = None,
    exchange: str | None = None,
    market_type: str | None = None,
    symbol: str | Sequence[str] | None = None,
    dates: tuple[str | None, str | None] = (None, None),
) -> list[Held]:
    """The live files by (kind, exchange, market_type, date, hour, symbol); those of all symbols are of each symbol.

    `dates` are the first and last day (YYYY-MM-DD), both included.
    """
    rows = snapshot.files(
        kind, exchange=exchange, market_type=market_type, symbol=symbol, date_from=dates[0], date_to=dates[1]
    )
    certified = {row.path: row for row in snapshot.certificates(exchange=exchange, market_type=market_type, kind=kind)}
    found: dict[str, list[CheckRow]] = {}
    for check in snapshot.checks():
        found.setdefault(check.path, []).append(check)
    return [Held(row, certified.get(row.path), tuple(found.get(row.path, ()))) for row in rows]
