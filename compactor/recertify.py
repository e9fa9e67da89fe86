"""Certificates of closed days whose gaps were closed, or given up, without a new row: they are told again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from compactor.certificate import retold, whole
from compactor.jobs import day_span
from lake import sources
from lake.rows import CertificateRow
from lake.writer import LakeWriter
from market.session import EVERY_SYMBOL, Gap
from market.times import date_of

MOST_DAYS = 400
"""Days of one gap that are looked at."""


def recertify(writer: LakeWriter, closed: Iterable[Gap], now: int) -> int:
    """How many certificates are told anew because of `closed` gaps. Of a gap whose ids came the day's next revision
    tells: until then its certificate goes on to say that they are missing. Raises StorageFailed, Fenced.
    """
    settled = [gap for gap in closed if not (gap.missing and gap.state == "repaired")]
    days = [(gap, date) for gap in settled for date in _dates(gap)]
    days = [day for day in days if next(_told(writer, *day, now), None) is not None]
    found: dict[str, CertificateRow] = {}
    due: dict[str, int] = {}
    with writer.alone():  # an audit or a reproduction may change the same certificates: they are read again
        for gap, date in days:
            for row in _told(writer, gap, date, now):
                found[row.path] = row
                if gap.kind in sources.TRADES:
                    due[sources.bars_due(gap.exchange, gap.market_type, date)] = 1
        if found:
            writer.publish(certificates=list(found.values()), cursors=due, now=now)
    return len(found)


def still_open(changed: Iterable[Gap], held: Iterable[Gap]) -> list[Gap]:
    """What a file `changed` of its gaps, without the rest of such as the `held` ones say that are closed by now."""
    closed = {gap.gap_id for gap in held if gap.state != "open"}
    return [gap for gap in changed if gap.state != "open" or closed.isdisjoint(whole(gap.gap_id))]


def told_anew(made: Sequence[CertificateRow], gaps: Sequence[Gap], now: int) -> list[CertificateRow]:
    """Certificates that were made while gaps came and went: as the `gaps` of their stream and day are by now."""
    by: dict[str, list[Gap]] = {}
    for gap in gaps:
        by.setdefault(gap.symbol, []).append(gap)
    found = []
    for row in made:
        mine = gaps if row.symbol is None else [*by.get(row.symbol, ()), *by.get(EVERY_SYMBOL, ())]
        found.append(retold(row, mine, now) or row)
    return found


def _dates(gap: Gap) -> Iterator[str]:
    first, last = date_of(gap.ts_from), date_of(max(gap.ts_from, (gap.ts_to or gap.ts_from + 1) - 1))
    for place in range(min((last - first).days + 1, MOST_DAYS)):
        yield (first + dt.timedelta(days=place)).isoformat()


def _told(writer: LakeWriter, gap: Gap, date: str, now: int) -> Iterator[CertificateRow]:
    """The certificates of one day that a gap makes say something else."""
    stream, manifest = (gap.exchange, gap.market_type, gap.kind), writer.manifest
    files = manifest.files(
        gap.kind, exchange=gap.exchange, market_type=gap.market_type, level="day", date_from=date, date_to=date
    )
    for file in files:
        if file.symbol is not None and gap.symbol not in (file.symbol, EVERY_SYMBOL):
            continue
        certificates = manifest.certificates(file.path)
        symbols = None if file.symbol is None else [file.symbol, EVERY_SYMBOL]
        gaps = manifest.gaps(*stream, symbols, overlapping=day_span(date))
        if certificates and (row := retold(certificates[-1], gaps, now)) is not None:
            yield row
