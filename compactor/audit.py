"""What truth audits found, written into certificates and checks; and the daemon's daily audit of the newest days.

A day that the venue confirms is `verified`: its certificates say how much is the same and which differences are
explained. Nothing of the files changes, so there is no new revision. Doing it twice writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from compactor import view
from compactor.config import AuditConfig
from compactor.jobs import day_span
from lake.audits import CHECKS, Audit, Wanted, audits, book_audits, each
from lake.errors import StorageFailed
from lake.manifest import Manifest
from lake.manifest_reads import chunks
from lake.rows import CertificateRow, CheckRow
from lake.writer import LakeWriter
from market.times import DAY, HOUR, date_of
from runtime import auditing
from runtime.clock import Clock, pause
from runtime.threads import to_the_end

LOOK_SECONDS = 60.0
Report = Callable[[int, int, str], None]
Then = Callable[[Sequence[Audit]], Awaitable[None]]


class Audited(msgspec.Struct):
    """What an audit came to. `written`: certificates that say something else than before."""

    audits: list[Audit] = []
    written: int = 0

    @property
    def ok(self) -> bool:
        """Whether every day that was looked at is verified."""
        return all(one.verified is not None for one in self.audits)

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def look(root: str, wanted: Wanted, books: bool = False) -> list[Audit]:
    """What there is to say of bars, or of order books, without writing. Runs in any process. Raises Malformed,
    CorruptManifest.
    """
    manifest = Manifest.read_only(Path(root))
    try:
        with manifest.snapshot() as now:
            return (book_audits if books else audits)(Path(root), now, wanted, silent)
    finally:
        manifest.close()


def record(writer: LakeWriter, found: Iterable[Audit], now: int) -> int:
    """Write the verdicts down; returns how many certificates changed. Raises StorageFailed, Fenced."""
    changed: list[CertificateRow] = []
    checks: list[CheckRow] = []
    with writer.alone():  # a gap's end or a reproduction may change the same certificate
        for audit in found:
            if audit.failed or writer.manifest.file(audit.path) is None:
                continue
            valid = writer.manifest.certificates(audit.path)
            if not valid:
                continue
            if valid[-1].verified != audit.verified:
                issued = max(now, valid[-1].issued_at + 1)
                changed.append(msgspec.structs.replace(valid[-1], verified=audit.verified, issued_at=issued))
            checks += _checks(audit, writer.manifest.checks(audit.path))
        if changed or checks:
            writer.publish(certificates=changed, checks=checks, now=now)
    return len(changed)


def _checks(audit: Audit, held: Sequence[CheckRow]) -> list[CheckRow]:
    """A row for each sort of difference that is not written down like this yet; 0 where one is gone."""
    before = {row.check: row for row in held if row.check.startswith(CHECKS)}
    first = {one.what: one.place for one in reversed(audit.examples)}
    now = {
        f"{CHECKS}{name}": CheckRow(
            path=audit.path, check=f"{CHECKS}{name}", symbol=audit.symbol, count=count, detail=first.get(name, "")[:500]
        )
        for name, count in audit.counts.items()
    }
    gone = [msgspec.structs.replace(row, count=0) for name, row in before.items() if name not in now and row.count]
    return [row for name, row in now.items() if before.get(name) != row] + gone


def never() -> bool:
    return False


async def nothing_more(_found: Sequence[Audit]) -> None:
    """Nobody is asked."""


async def nothing_yet() -> None:
    """Nobody is asked before the night."""


def silent(_done: int, _total: int, _what: str) -> None:
    """No progress wanted."""


class AuditService:
    """The daemon's nightly audit (runtime.service.Service), and `dl reconcile` where a daemon writes the lake."""

    name = "audit"
    phase = 2

    def __init__(
        self,
        writer: LakeWriter,
        executor: Executor,
        clock: Clock,
        config: AuditConfig,
        *,
        waits: Callable[[], bool] = never,
    ) -> None:
        self.then: Then = nothing_more
        """What is done with what a night found."""
        self.meanwhile: Callable[[], Awaitable[None]] = nothing_yet
        """What is done by day, at every look, for the nights to come."""
        self._writer = writer
        self._executor = executor
        self._clock = clock
        self._config = config
        self._waits = waits
        self._night = ""
        self._last: dict[str, object] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Nights until told to stop; the first where the hour has come already today."""
        while not await pause(self._clock, stop, LOOK_SECONDS):
            if not self._config.days or self._waits():
                continue
            await self.meanwhile()
            now = self._clock.now()
            night = date_of(now).isoformat()
            if night != self._night and now % DAY >= self._config.from_hour * HOUR:
                self._night = night
                await self.night(stop)

    async def night(self, stop: asyncio.Event) -> None:
        """The newest days that are not verified yet, one after the other. Raises StorageFailed, Fenced."""
        found: list[Audit] = []
        for exchange, market, day in await asyncio.to_thread(self._due):
            if stop.is_set():
                return
            found += await self.judge(exchange, market, day, silent, stop)
        await self.then(found)

    async def judge(
        self, exchange: str, market: str, day: str, progress: Report, stop: asyncio.Event
    ) -> Sequence[Audit]:
        """A market's day, of which the log tells what was found. Raises StorageFailed, Fenced."""
        try:
            done = await self.once(Wanted(exchange, market, None, day), progress, stop.is_set)
        except (StorageFailed, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 -- this work is outside the lake: nothing it meets ends a daemon
            auditing.audit_failed(exchange=exchange, market_type=market, date=day, error=error)
            return ()
        self._tell(exchange, market, day, done)
        return done.audits

    async def once(
        self, wanted: Wanted, progress: Report, stopping: Callable[[], bool] = never, *, books: bool = False
    ) -> Audited:
        """What is meant, a symbol and day at a time, each written down when it was looked at; `books`: these too."""
        with self._writer.manifest.snapshot() as now:
            todo = [(one, False) for one in each(now, wanted)]
            todo += [(one, True) for one in each(now, wanted, "book_delta")] if books else []
        done = Audited()
        for place, (one, of_book) in enumerate(todo):
            if stopping():
                break
            progress(place, len(todo), f"{one.exchange} {one.market} {one.symbol} {one.day}")
            found = await asyncio.to_thread(self._look, one, of_book)
            done.audits += found
            done.written += await to_the_end(record, self._writer, found, self._clock.now())
        return done

    def status(self) -> dict[str, object]:
        """What the last night came to, for /status."""
        return {"last": self._last}

    def _look(self, wanted: Wanted, of_book: bool) -> list[Audit]:
        return self._executor.submit(look, str(self._writer.root), wanted, of_book).result()

    def _due(self) -> list[tuple[str, str, str]]:
        """(exchange, market, date) of the newest dates, where some bars are not verified."""
        with self._writer.manifest.snapshot() as now:
            files = view.newest_days(now, "bar_1m", self._config.days)
            some = chunks(row.path for row in files)
            told = {row.path: row.verified for paths in some for row in now.certificates(paths)}
        return sorted({(row.exchange, row.market_type, row.date) for row in files if not told.get(row.path)})

    def _tell(self, exchange: str, market: str, day: str, done: Audited) -> None:
        place = {"exchange": exchange, "market_type": market, "date": day}
        good = [one for one in done.audits if one.verified]
        bad = [one for one in done.audits if one.unexplained]
        failed = [one for one in done.audits if one.failed]
        rest = [one for one in done.audits if not (one.verified or one.unexplained or one.failed)]
        self._last = {
            **place,
            "verified": len(good),
            "unexplained": len(bad),
            "not_told": len(rest),
            "failed": len(failed),
        }
        if good:
            compared = sum(one.total for one in good)
            auditing.day_verified(**place, start=day_span(day).start, files=len(good), compared=compared)
        if bad:
            shown = next((one.place for one in bad[0].examples if not one.explained), "")
            auditing.day_differs(**place, files=len(bad), reason=f"{bad[0].symbol} {shown}"[:500])
        if rest:
            auditing.day_not_told(**place, files=len(rest), hint=rest[0].hint)
        if failed:
            auditing.audit_failed(**place, error=failed[0].failed)
