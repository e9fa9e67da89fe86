"""Truth audits of a lake: a closed day against the venue's candles, its certificate, the command and the night."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from compactor.audit import AuditService, look, record
from compactor.config import AuditConfig, CompactorConfig
from compactor.service import compact_once
from daemon.auditing import question_of
from lake import Lake
from lake.audits import Wanted
from lake.errors import WrongQuestion
from lake.verify import verify_lake
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime import metrics
from runtime.workers import InlineExecutor
from tests.support.candles import candles_of
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

LATER = T0 + 2 * DAY
NIGHT = LATER + 3 * HOUR
Row = dict[str, Any]


def rows() -> list[Row]:
    return [trade(T0 + n * 10 * SECOND, f"{100 + n % 7}.{n}", f"0.{n + 1:03d}", 1000 + n) for n in range(30)]


def compact(held: TestLake, now: int = LATER) -> None:
    done = compact_once(held.writer, InlineExecutor(), now, CompactorConfig(), final=True, retention=False)
    assert not done.failures


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed day of five minutes of trades, without candles."""
    made = TestLake(tmp_path_factory.mktemp("closed") / "lake")
    for kind in ("trade", "kline"):
        made.cover(T0 - HOUR, T0 + DAY + HOUR, kind=kind)
    made.part("trade", rows())
    compact(made)
    made.close()
    return made.root


@pytest.fixture
def held(closed: Path, tmp_path: Path) -> Iterator[TestLake]:
    shutil.copytree(closed, tmp_path / "lake")
    made = TestLake(tmp_path / "lake")
    yield made
    made.close()


def tell(held: TestLake, candles: list[Row], now: int = LATER) -> None:
    """What the venue says of the day, taken in and closed."""
    held.part("kline", sorted(candles, key=lambda row: (row["ts_event"], row["frame_no"])))
    compact(held, now)


def reconcile(held: TestLake, now: int = LATER) -> tuple[int, dict[str, str | None]]:
    """(certificates written, kind -> what the newest certificate says)."""
    written = record(held.writer, look(str(held.root), Wanted()), now)
    return written, {row.kind: row.verified for row in held.writer.manifest.certificates() if row.kind[:4] == "bar_"}


def ask(*arguments: object, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == expect, done.output
    return done


def events(name: str) -> float:
    samples = (sample for metric in metrics.EVENTS.collect() for sample in metric.samples)
    return sum(s.value for s in samples if s.labels.get("event") == name and s.name.endswith("_total"))


def verified(held: TestLake) -> int:
    with Lake(held.root) as lake:
        return lake.read("bar_1m", min_state="verified").num_rows


def test_a_day_that_the_venue_confirms_is_verified_once(held: TestLake) -> None:
    assert reconcile(held) == (0, {"bar_1s": None, "bar_1m": None})
    tell(held, [row | {"source": "import"} for row in candles_of(rows())])
    assert reconcile(held) == (0, {"bar_1s": None, "bar_1m": None}), "whoever made that file is not the venue"
    tell(held, candles_of(rows()))
    said = "candles 1m: 5 of 5 the same"
    revision = {row.path: row.revision for row in held.writer.manifest.files("bar_1m")}
    assert reconcile(held) == (2, {"bar_1s": said, "bar_1m": said})
    assert verified(held) == 5
    assert reconcile(held) == (0, {"bar_1s": said, "bar_1m": said}), "a second time writes nothing"
    assert {row.path: row.revision for row in held.writer.manifest.files("bar_1m")} == revision
    assert held.writer.manifest.checks(next(iter(revision))) == []
    with held.writer.manifest.snapshot() as now:
        assert verify_lake(held.root, now, lambda *_: None).ok


def test_explained_differences_are_counted_in_the_certificate_and_unexplained_ones_keep_the_day_final(
    held: TestLake,
) -> None:
    first = candles_of(rows())
    newer = first[1] | {"low": "0.5", "ts_recv": T0 + DAY, "source": "rest", "frame_no": 2}
    tell(held, [*first, newer])
    said = "candles 1m: 4 of 5 the same; venue_revision 1"
    assert reconcile(held) == (2, {"bar_1s": said, "bar_1m": said})
    (path,) = [row.path for row in held.writer.manifest.files("bar_1m")]
    (check,) = held.writer.manifest.checks(path)
    assert (check.check, check.count) == ("audit_venue_revision", 1)
    assert check.detail.startswith("2024-07-19T00:01:00Z: low 10")
    worse = first[3] | {"close": "7", "ts_recv": T0 + DAY, "source": "rest", "frame_no": 3, "trade_count": 99}
    other = worse | {"ts_recv": T0 + DAY + 1, "source": "archive"}
    wrong = [one | {"open_time": T0 + 9 * MINUTE, "ts_event": T0 + 10 * MINUTE - 1000} for one in (worse, other)]
    tell(held, wrong, LATER + HOUR)
    assert reconcile(held, LATER + HOUR) == (2, {"bar_1s": None, "bar_1m": None}), "no longer verified"
    assert verified(held) == 0
    checks = {row.check: row.count for row in held.writer.manifest.checks(path)}
    assert checks == {"audit_venue_revision": 1, "audit_unexplained": 1}
    with held.writer.manifest.snapshot() as now:
        found = verify_lake(held.root, now, lambda *_: None)
    problems = [one.problem for one in found.findings if one.path == path]
    (problem,) = problems
    assert problem.startswith("1 values are not what the venue says: 2024-07-19T00:09:00Z: no bar; the candle has 99")
    assert found.ok, "the bytes are what they were: who is right is not known"


def test_the_command_tells_a_person_and_a_program(held: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(held, candles_of(rows())[1:])
    held.close()
    monkeypatch.chdir(held.root.parent)
    told = ask("reconcile", "--lake", held.root, "--dry-run", expect=1).output
    assert "dl backfill --exchange binance --market linear --symbol BTCUSDT --kind kline" in told
    assert "0 of 2 daily files are verified; nothing was written" in " ".join(told.split())
    made = json.loads(ask("reconcile", "--lake", held.root, "--day", "2024-07-19", "--json", expect=1).stdout)
    assert [(one["kind"], one["untold"], one["equal"], one["verified"]) for one in made["audits"]] == [
        ("bar_1m", 1, 4, None), ("bar_1s", 1, 4, None),
    ]  # fmt: skip
    assert (made["ok"], made["written"]) == (False, 0)
    assert "no closed day with bars is meant" in ask("reconcile", "--lake", held.root, "--symbol", "X", expect=2).output
    assert "error: " in ask("reconcile", "--lake", held.root, "--day", "yesterday", expect=2).output
    again = TestLake(held.root)
    tell(again, candles_of(rows())[:1])
    again.close()
    told = ask("reconcile", "--lake", held.root, "--market", "linear").output
    assert "2 of 2 daily files are verified; 2 certificates written" in " ".join(told.split())
    assert "verified" in ask("ls", "--lake", held.root, "--kind", "bar_1m").output


def test_a_night_tells_what_it_found(held: TestLake) -> None:
    clock = ManualClock(NIGHT)
    service = AuditService(held.writer, InlineExecutor(), clock, AuditConfig.model_validate({}))

    def night() -> dict[str, float]:
        names = ("day_verified", "day_differs", "day_not_told")
        before = {name: events(name) for name in names}
        asyncio.run(clock.run(service.night(asyncio.Event())))
        return {name: events(name) - before[name] for name in names if events(name) > before[name]}

    assert night() == {"day_not_told": 1}
    off = candles_of(rows())
    off[2]["volume_base"] = "77"
    tell(held, off)
    assert night() == {"day_differs": 1}
    right = candles_of(rows())[2] | {"ts_recv": T0 + DAY, "source": "rest", "frame_no": 2}
    tell(held, [right], LATER + HOUR)
    assert night() == {"day_verified": 1}
    assert service.status()["last"] == {
        "exchange": "binance", "market_type": "linear", "date": "2024-07-19",
        "verified": 2, "unexplained": 0, "not_told": 0, "failed": 0,
    }  # fmt: skip
    assert night() == {}, "nothing is left to confirm"


def test_no_difference_is_explained_by_trades_that_are_not_what_was_published(held: TestLake) -> None:
    """No checksum is of the footer."""
    first = candles_of(rows())
    first[1]["low"] = "0.5"
    tell(held, first)
    (row,) = held.writer.manifest.files("trade")
    path = held.root / row.path
    path.write_bytes(path.read_bytes().replace(b"parquet-cpp-arrow version", b"parquet-cpp-arrow versiom"))
    (found,) = look(str(held.root), Wanted())
    assert path.name in found.failed


def test_a_damaged_file_is_told_and_a_question_that_is_none_is_refused(held: TestLake) -> None:
    tell(held, candles_of(rows()))
    (row,) = held.writer.manifest.files("bar_1m")
    path = held.root / row.path
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    (found,) = look(str(held.root), Wanted())
    assert (found.verified, "is not what was written" in found.failed or found.failed != "") == (None, True)
    assert record(held.writer, [found], LATER) == 0
    with pytest.raises(WrongQuestion, match="reconciled"):
        question_of({"days": 3})
