"""`dl reconcile --archive`: own trades against the file that the venue publishes of the day, by id both ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors.files.archive.series import ArchiveFile, series_of
from compactor.audit import Audited, AuditService
from compactor.config import AuditConfig, CompactorConfig
from compactor.service import compact_once
from daemon.auditing import control_job, question_of, reconcile_job
from daemon.config import Config
from lake.errors import WrongQuestion
from lake.verify import verify_lake
from market.times import DAY, HOUR
from runtime.workers import InlineExecutor
from tests.support.archive_host import MS, csv, summed, trades, zipped
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

DATE, FIRST, COUNT = "2024-07-19", 100, 200
LATER = T0 + 2 * DAY
FILE = ArchiveFile(DATE, series_of("binance", "linear", "trade", "BTCUSDT", None))
LINES = [line.rpartition(",")[0] for line in trades(DATE, FIRST, COUNT, unit=MS)]
"""What the venue publishes: id, price, qty, quote_qty, time, is_buyer_maker."""


def streamed() -> list[dict[str, Any]]:
    """The same trades as they came."""
    made = []
    for line in LINES:
        seq, price, qty, _, at, maker = line.split(",")
        made.append(trade(int(at) * 1000, price, qty, int(seq), side="sell" if maker == "True" else "buy"))
    return made


@pytest.fixture
def held(tmp_path: Path) -> Iterator[TestLake]:
    made = TestLake(tmp_path / "lake")
    made.cover(T0 - HOUR, T0 + DAY + HOUR)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The archive's own folders, with one day."""
    place = tmp_path / "archive" / FILE.path
    place.parent.mkdir(parents=True)
    place.write_bytes(zipped({FILE.member: csv(LINES)}))
    place.with_name(f"{FILE.name}.CHECKSUM").write_bytes(summed(FILE.name, place.read_bytes()))
    return tmp_path / "archive"


def close(held: TestLake, rows: list[dict[str, Any]]) -> None:
    held.part("trade", sorted(rows, key=lambda row: (row["ts_event"], row["seq"])))
    done = compact_once(held.writer, InlineExecutor(), LATER, CompactorConfig(), final=True, retention=False)
    assert not done.failures


def ask(held: TestLake, folder: Path, **more: Any) -> Audited:
    asked = question_of({"archive": True, "source": str(folder), **more})
    clock = ManualClock(LATER)
    return reconcile_job(held.writer, InlineExecutor(), clock, asked, Config(), lambda *_: None)


def told(held: TestLake) -> str | None:
    return held.writer.manifest.certificates(kind="trade")[-1].verified


def test_a_day_that_the_published_file_confirms_is_verified_and_nothing_of_the_file_stays(
    held: TestLake, folder: Path
) -> None:
    close(held, streamed())
    before = sorted(path for path in folder.rglob("*"))
    done = ask(held, folder)
    (audit,) = [one for one in done.audits if one.kind == "trade"]
    assert (audit.total, audit.equal, audit.counts, done.written) == (COUNT, COUNT, {}, 1)
    assert told(held) == f"{audit.against}: 200 of 200 the same"
    assert audit.against.startswith("archive ")
    assert ask(held, folder).written == 0
    assert sorted(path for path in folder.rglob("*")) == before
    assert not list((held.root).rglob("*.zip"))


def test_each_difference_of_the_two_is_told_by_its_name(held: TestLake, folder: Path) -> None:
    rows = streamed()
    rows[40]["price"] = "1.5"
    rows.append(trade(rows[90]["ts_event"], "65000.5", "1", 9_999))
    rows.append(trade(rows[90]["ts_event"], "65000.5", "1", 10_000, condition="adl"))
    lost = [FIRST + n for n in (10, 20, 21)]
    held.gap(T0 + HOUR, T0 + 2 * HOUR, id_from=lost[0], id_to=lost[0] + 1)
    close(held, [row for row in rows if row["seq"] not in lost])
    done = ask(held, folder)
    (audit,) = [one for one in done.audits if one.kind == "trade"]
    assert audit.counts == {"changed": 1, "extra_id": 1, "missing_id": 3, "off_book": 1}
    assert (audit.equal, audit.verified, told(held)) == (COUNT - 4, None, None)
    assert (
        audit.hint == "dl archive --market-type linear --symbol BTCUSDT --kind trade --from 2024-07-19 --to 2024-07-19"
    )
    checks = {row.check: row.count for row in held.writer.manifest.checks(audit.path) if row.check[:5] == "audit"}
    assert checks == {"audit_changed": 1, "audit_extra_id": 1, "audit_missing_id": 3, "audit_off_book": 1}
    with held.writer.manifest.snapshot() as now:
        found = verify_lake(held.root, now, lambda *_: None)
    said = [one.problem for one in found.findings if "not what the venue says" in one.problem]
    assert len(said) == 2
    assert "id 9999 is not in the venue's list" in said[1]


def test_a_file_that_is_not_there_or_is_broken_is_told(held: TestLake, folder: Path) -> None:
    close(held, streamed())
    place = folder / FILE.path
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    (audit,) = [one for one in ask(held, folder).audits if one.kind == "trade"]
    assert "checksum" in audit.failed
    place.with_name(f"{FILE.name}.CHECKSUM").unlink()
    (audit,) = [one for one in ask(held, folder).audits if one.kind == "trade"]
    assert "there is no CHECKSUM beside it" in audit.failed
    assert told(held) is None


def test_the_command_and_the_daemon_do_the_same(
    held: TestLake, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    close(held, streamed())
    service = AuditService(held.writer, InlineExecutor(), ManualClock(LATER), AuditConfig.model_validate({}))
    job = control_job(Config(), held.writer, ManualClock(LATER), service, InlineExecutor(), {})
    done = asyncio.run(job({"archive": True, "source": str(folder)}, lambda *_: None))
    assert isinstance(done, dict)
    assert [(one["kind"], bool(one["verified"])) for one in done["audits"]] == [
        ("bar_1m", False), ("bar_1s", False), ("trade", True),
    ]  # fmt: skip
    held.close()
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(
        app, ["reconcile", "--lake", str(held.root), "--archive", "--source", str(folder), "--dry-run", "--json"]
    )
    assert shown.exit_code == 1
    assert [one["equal"] for one in json.loads(shown.stdout)["audits"] if one["kind"] == "trade"] == [COUNT]


@pytest.mark.parametrize("wanted", [{"source": "x"}, {"archive": True, "exchange": "okx"}, {"archive": "often"}])
def test_what_cannot_be_meant_is_said(wanted: dict[str, Any]) -> None:
    with pytest.raises(WrongQuestion):
        question_of(wanted)
