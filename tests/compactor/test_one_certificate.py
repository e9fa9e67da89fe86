"""Two who change one certificate at once: the later of them builds on what the earlier one wrote."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from compactor import bars_job, merge_job
from compactor.audit import record
from compactor.config import CompactorConfig
from compactor.recertify import recertify
from compactor.service import compact_once
from lake import parquet
from lake.audits import Audit
from lake.rows import CertificateRow
from lake.writer import LakeWriter
from market.session import Gap
from market.times import DAY, HOUR, MINUTE
from runtime.workers import InlineExecutor
from tests.compactor.test_reproduce import NIGHT, service
from tests.support import proven
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

LATER = T0 + DAY + HOUR
HOLE = (T0 + 5 * MINUTE + 1, T0 + 6 * MINUTE - 1)


class Rival:
    """Another thread of the daemon, which writes as soon as it may once `read` was asked for the `turn`-th time."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, read: str, work: Callable[[], object], turn: int = 1
    ) -> None:
        self._writer, self._work, self._left = writer, work, turn
        self.done = False
        real = getattr(writer.manifest, read)

        def asked(*arguments: Any, **options: Any) -> object:
            found = real(*arguments, **options)
            self._left -= 1
            if not self._left:
                thread = threading.Thread(target=self._try)
                thread.start()
                thread.join()
            return found

        monkeypatch.setattr(writer.manifest, read, asked)

    def _try(self) -> None:
        if self._writer._guard.acquire(blocking=False):
            try:
                self.finish()
            finally:
                self._writer._guard.release()

    def finish(self) -> None:
        """What had to wait is done now."""
        assert self._left <= 0, "it was never its turn"
        if not self.done:
            self.done = True
            self._work()


def newest(writer: LakeWriter, kind: str, date: str | None = None) -> CertificateRow:
    found = [row for row in writer.manifest.certificates(kind=kind) if date in (None, row.date)]
    return max(found, key=lambda row: row.issued_at)


def changed(writer: LakeWriter, row: CertificateRow, **said: Any) -> None:
    """Somebody who reads a certificate and changes something in it."""
    now = writer.manifest.certificates(row.path)[-1]
    writer.publish(certificates=[msgspec.structs.replace(now, **said, issued_at=now.issued_at + 1)], now=NIGHT)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(proven.midnight_lake(tmp_path / "lake"), "box", proven.LATER) as opened:
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[TestLake]:
    held = TestLake(tmp_path)
    rows = [trade(T0 + n * MINUTE, f"10{n % 7}", "0.5", n, frame_no=n) for n in range(20)]
    held.part("trade", rows)
    held.cover(T0, T0 + DAY)
    held.gap(*HOLE)
    yield held
    held.close()


def compact(lake: TestLake, now: int = LATER, executor: InlineExecutor | None = None) -> None:
    done = compact_once(lake.writer, executor or InlineExecutor(), now, CompactorConfig())
    assert not done.failures


def end_gap(lake: TestLake) -> None:
    """The venue says that there was nothing in it."""
    (gap,) = lake.writer.manifest.gaps()
    gap: Gap = msgspec.structs.replace(gap, state="empty", closed_at=LATER, source="rest")
    lake.writer.record(gaps=[gap], now=LATER)
    recertify(lake.writer, [gap], LATER)


def test_an_audit_keeps_what_is_said_of_a_certificate_meanwhile(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = newest(writer, "trade")
    audit = Audit(
        exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol or "", date=row.date,
        path=row.path, against="candles", verified="all the same",
    )  # fmt: skip
    rival = Rival(monkeypatch, writer, "certificates", lambda: changed(writer, row, reproduced=True))
    assert record(writer, [audit], NIGHT) == 1
    rival.finish()
    held = writer.manifest.certificates(row.path)[-1]
    assert (held.verified, held.reproduced) == ("all the same", True)


def test_a_reproduction_keeps_what_is_said_of_a_certificate_meanwhile(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = newest(writer, "trade", "2025-11-21")
    rival = Rival(monkeypatch, writer, "certificates", lambda: changed(writer, row, verified="all the same"))
    clock = ManualClock(NIGHT)
    asyncio.run(clock.run(service(writer, clock).night(asyncio.Event())))
    rival.finish()
    held = writer.manifest.certificates(row.path)[-1]
    assert (held.verified, held.reproduced) == ("all the same", True)


def test_the_end_of_a_gap_keeps_what_is_said_of_a_certificate_meanwhile(
    lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(lake)
    row = newest(lake.writer, "trade")
    assert row.open_gaps == 1
    rival = Rival(monkeypatch, lake.writer, "certificates", lambda: changed(lake.writer, row, reproduced=True), 2)
    end_gap(lake)
    rival.finish()
    held = lake.writer.manifest.certificates(row.path)[-1]
    assert (held.open_gaps, held.reproduced) == (0, True)


class After(InlineExecutor):
    """Runs jobs; when `work` is done, `happens` happens, once."""

    def __init__(self, work: object, happens: Callable[[], None]) -> None:
        super().__init__()
        self._work, self._happens = work, [happens]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = super().submit(fn, *args, **kwargs)
        if fn is self._work and self._happens:
            self._happens.pop()()
        return done


@pytest.mark.parametrize("work", [merge_job.close_day, bars_job.final_bars])
def test_a_gap_that_ends_while_a_day_is_committed_is_in_neither_its_certificates_nor_its_bars(
    lake: TestLake, monkeypatch: pytest.MonkeyPatch, work: Callable[..., object]
) -> None:
    made: list[Rival] = []

    def happens() -> None:
        made.append(Rival(monkeypatch, lake.writer, "gaps", lambda: end_gap(lake)))

    compact(lake, executor=After(work, happens))
    made[0].finish()
    compact(lake, LATER + HOUR)
    files = {kind: lake.writer.manifest.files(kind, level="day")[0] for kind in ("trade", "bar_1m")}
    assert [lake.writer.manifest.certificates(file.path)[-1].open_gaps for file in files.values()] == [0, 0]
    assert not pl.Series(parquet.read(lake.root / files["bar_1m"].path)["gap"]).any()
