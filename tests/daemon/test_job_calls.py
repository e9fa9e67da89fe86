"""Archives, repair and reconciling as jobs: one call each, whose parts are told by what it gave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.jobs import noted
from daemon.job_calls import CALLS, CallWork, asked_of, control_job, symbol_of
from daemon.jobs import JobsService, Report, carried
from lake.errors import LakeError, WrongQuestion
from lake.job_book import JobBook
from lake.jobs import JobRow
from lake.writer import LakeWriter
from market.errors import MarketError
from market.times import DAY, parse
from tests.lake.test_jobs import NOW
from tests.lake.test_manifest import file as file_row
from tests.lake.test_manifest import gap
from tests.support.clock import ManualClock, settle

ARCHIVE = {"exchange": "binance", "market_type": "spot", "kind": "trade", "symbols": ["BTCUSDT", "BTC"],
           "first": "2026-01-01", "last": "2026-01-03"}  # fmt: skip


def file(name: str, state: str = "taken", rows: int = 10, rule: str = "", what: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "rows": rows, "rule": rule, "what": what}


def archived(*files: dict[str, Any], missing: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    return {"ok": True, "files": list(files), "missing": dict(missing or {}), "rest": []}


class Offered:
    """What the control port runs without jobs: it gives what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Any]] = []

    async def __call__(self, arguments: Mapping[str, Any], report: Report) -> object:
        self.asked.append(arguments)
        report(0, 1, "at it")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path, "box", NOW) as opened:
        yield opened


@pytest.fixture
def writer(empty: LakeWriter) -> LakeWriter:
    """Of a lake in which a gap is open and a day is closed."""
    day = file_row("versions/x.parquet", kind="bar_1m", level="day", symbol="BTCUSDT", date="2026-01-02", hour=None)
    empty.publish(add=[day], now=NOW)
    empty.record_gaps([gap(exchange="okx", symbol="BTC-USDT")])
    return empty


async def once(writer: LakeWriter, work: str, arguments: Mapping[str, Any], job: Offered) -> JobRow:
    """Asked for once, or again."""
    book, clock = JobBook(writer), ManualClock(NOW)
    call = CallWork(work, writer, book, clock, job)
    asked = await call.plan(arguments, "a test")
    row = book.ask(asked.request, asked.chunks, NOW)
    with contextlib.suppress(LakeError):
        await carried(
            writer, book, clock, row, lambda: call.run(row, lambda *_: None, asyncio.Event()), lambda: "queued"
        )
    return book.one(row.job)


async def test_an_archives_parts_are_its_symbols_and_resumed_only_what_failed_is_asked_for(writer: LakeWriter) -> None:
    job = Offered(
        archived(file("BTC-trades-2026-01-01.zip", rows=7), file("BTCUSDT-trades-2026-01-01.zip", rows=5),
                 file("BTCUSDT-trades-2026-01-02.zip", "refused", 0, "address", "not to be had: 503")),
        archived(file("BTCUSDT-trades-2026-01-02.zip", rows=6)),
    )  # fmt: skip
    row = await once(writer, "archive", ARCHIVE, job)
    assert row.what == "archive of binance spot: trade of BTCUSDT, BTC, 2026-01-01 to 2026-01-03"
    assert row.state == "failed"
    assert row.error == (
        "1 of 2 parts failed: trade BTCUSDT: 1 files are refused: BTCUSDT-trades-2026-01-02.zip: address: not to be"
        " had: 503"
    )
    chunks = writer.manifest.job_chunks(row.job)
    assert [(one.symbol, one.state, one.ts_from, one.ts_to) for one in chunks] == [
        ("BTCUSDT", "failed", parse("2026-01-01"), parse("2026-01-04")),
        ("BTC", "done", parse("2026-01-01"), parse("2026-01-04")),
    ]
    assert [(one.rows, one.requests, one.permanent) for one in writer.manifest.job_attempts(row.job)] == [
        (5, 2, False), (7, 1, None),
    ]  # fmt: skip
    JobBook(writer).move(row.job, "resume", NOW)
    again = await once(writer, "archive", ARCHIVE, job)
    assert (again.job, again.state, again.error) == (row.job, "done", None)
    assert [list(one["symbols"]) for one in job.asked] == [["BTCUSDT", "BTC"], ["BTCUSDT"]]


async def test_what_is_wrong_with_a_file_itself_is_for_good_and_a_date_may_be_published_later(
    writer: LakeWriter,
) -> None:
    job = Offered(archived(file("BTCUSDT-trades-2026-01-01.zip", "refused", 0, "checksum", "other bytes"),
                           missing={"BTC": ["2026-01-02", "2026-01-03"]}))  # fmt: skip
    row = await once(writer, "archive", ARCHIVE, job)
    told = {one.chunk: (one.error, one.permanent) for one in writer.manifest.job_attempts(row.job)}
    assert told == {
        0: ("1 files are refused: BTCUSDT-trades-2026-01-01.zip: checksum: other bytes", True),
        1: ("2 dates are not published: 2026-01-02, …", False),
    }


async def test_files_that_are_looked_at_again_are_one_part(writer: LakeWriter) -> None:
    asked = {"recheck": True, "exchange": "binance", "symbols": ["BTCUSDT"]}
    job = Offered(archived(file("BTCUSDT-trades-2026-01-01.zip", "known", 0), file("x-1.zip", "replaced", 4)))
    row = await once(writer, "archive", asked, job)
    assert (row.what, row.state) == ("files that were taken in of binance BTCUSDT, looked at again", "done")
    assert job.asked == [asked]
    assert [(one.rows, one.requests) for one in writer.manifest.job_attempts(row.job)] == [(4, 2)]
    assert (await once(writer, "archive", {"recheck": True}, Offered(archived()))).state == "done"


async def test_repair_by_hand_is_done_once_no_gap_is_open(writer: LakeWriter) -> None:
    left = {"left": [{"how": "asking for it failed"}], "rows": 3, "requests": 4, "closed": []}
    row = await once(writer, "repair", {"exchange": "okx", "symbol": "BTC-USDT", "start": 5}, Offered(left))
    assert (row.what, row.priority, row.state) == ("open gaps of okx BTC-USDT", 2, "failed")
    (part,) = writer.manifest.job_chunks(row.job)
    assert (part.exchange, part.market_type, part.kind, part.symbol, part.ts_from) == ("okx", "*", "*", "BTC-USDT", 5)
    assert "1 gaps are open still: asking for it failed" in (row.error or "")
    whole = {"left": [], "rows": 3, "requests": 4, "closed": []}
    assert (await once(writer, "repair", {}, Offered(whole))).state == "done"


async def test_reconciling_is_done_where_every_day_is_verified(writer: LakeWriter) -> None:
    audits = [{"total": 9, "verified": "candles"}, {"total": 5, "verified": None}]
    day = {"exchange": "binance", "day": "2026-01-02"}
    row = await once(writer, "reconcile", day, Offered({"ok": False, "audits": audits, "written": 1}))
    assert row.what == "closed days of binance 2026-01-02 against what the venue says of them"
    assert "1 of 2 daily files are not verified" in (row.error or "")
    (part,) = writer.manifest.job_chunks(row.job)
    assert (part.ts_from, part.ts_to) == (parse("2026-01-02"), parse("2026-01-02") + DAY)
    (attempt,) = writer.manifest.job_attempts(row.job)
    assert (attempt.rows, attempt.requests) == (14, 2)


@pytest.mark.parametrize("arguments", [{}, {"books": True, "archive": True}, {"exchange": "okx"}])
async def test_reconciling_of_no_closed_day_is_refused_and_no_job(empty: LakeWriter, arguments: dict[str, Any]) -> None:
    job = Offered()
    with pytest.raises(WrongQuestion, match="no closed day with bars is meant"):
        await CallWork("reconcile", empty, JobBook(empty), ManualClock(NOW), job).plan(arguments, "a test")
    with pytest.raises(WrongQuestion, match="no closed day with bars is meant"), noted(empty, "reconcile", arguments):
        pass
    assert (empty.manifest.jobs(), job.asked) == ([], [])


async def test_repair_where_no_gap_is_open_is_no_job(empty: LakeWriter) -> None:
    clock, book, job = ManualClock(NOW), JobBook(empty), Offered()
    jobs = JobsService(empty, book, clock, {"repair": CallWork("repair", empty, book, clock, job)}, lambda: False)
    told: Any = await control_job(jobs, "repair")({}, lambda *_: None)
    assert (told["closed"], told["left"], told["requests"]) == ([], [], 0)
    with noted(empty, "repair", {}) as tell:
        tell(told)
    assert (empty.manifest.jobs(), job.asked) == ([], [])


async def test_a_repair_that_waits_goes_on_where_its_gaps_are_closed_meanwhile(writer: LakeWriter) -> None:
    with pytest.raises(KeyboardInterrupt), noted(writer, "repair", {}):
        raise KeyboardInterrupt
    writer.record_gaps([gap(exchange="okx", symbol="BTC-USDT", state="repaired", closed_at=NOW)])
    with noted(writer, "repair", {}) as told:
        told({"left": [], "rows": 0, "requests": 0, "closed": []})
    assert [one.state for one in writer.manifest.jobs()] == ["done"]


async def test_a_call_that_raises_is_a_job_that_failed_and_can_be_resumed(writer: LakeWriter) -> None:
    row = await once(writer, "reconcile", {}, Offered(LakeError("the disk has no room")))
    assert (row.state, row.error) == ("failed", "the disk has no room")
    assert [one.permanent for one in writer.manifest.job_attempts(row.job)] == [False]
    assert JobBook(writer).move(row.job, "resume", NOW).state == "queued"


@pytest.mark.parametrize(
    "work, arguments",
    [("archive", {"symbols": 5}), ("archive", {**ARCHIVE, "first": "2026-02-01"}), ("repair", {"day": 1}),
     ("reconcile", {"day": 5}), ("archive", {**ARCHIVE, "exchange": "nowhere"})],
)  # fmt: skip
def test_what_cannot_be_meant_is_no_job(work: str, arguments: Mapping[str, Any]) -> None:
    with pytest.raises((WrongQuestion, MarketError)):
        asked_of(work, arguments, "a test", NOW)


def test_a_file_is_of_the_symbol_that_its_name_begins_with() -> None:
    symbols = ["BTC", "BTCUSDT", "BTCUSDT_PERP"]
    assert symbol_of("BTCUSDT-trades-2026-01-01.zip", symbols) == "BTCUSDT"
    assert symbol_of("BTCUSDT_PERP-trades-2026-01-01.zip", symbols) == "BTCUSDT_PERP"
    assert symbol_of("ETHUSDT-trades-2026-01-01.zip", symbols) is None


async def test_whoever_asks_the_control_port_is_told_what_it_gave_however_soon_it_ended(writer: LakeWriter) -> None:
    clock, book = ManualClock(NOW), JobBook(writer)
    answer = {"left": [], "rows": 0, "requests": 0, "closed": []}
    job = Offered(*[answer] * 3)
    jobs = JobsService(writer, book, clock, {"repair": CallWork("repair", writer, book, clock, job)}, lambda: False)
    stop = asyncio.Event()
    running = asyncio.ensure_future(jobs.run(stop))
    for _ in range(3):
        assert await control_job(jobs, "repair")({}, lambda *_: None) == answer
        await settle()
    stop.set()
    await running
    assert [one.state for one in writer.manifest.jobs()] == ["done"] * 3


def test_done_without_a_daemon_it_is_a_job_too(writer: LakeWriter) -> None:
    with noted(writer, "archive", ARCHIVE) as told:
        told(archived(file("BTCUSDT-trades-2026-01-01.zip")))
    with pytest.raises(KeyboardInterrupt), noted(writer, "repair", {}):
        raise KeyboardInterrupt
    with pytest.raises(LakeError, match="no room"), noted(writer, "reconcile", {}):
        raise LakeError("no room")
    with noted(writer, "import", {}) as told:
        told({})
    found = [(one.work, one.state) for one in writer.manifest.jobs()]
    assert sorted(found) == [("archive", "done"), ("reconcile", "failed"), ("repair", "paused")]
    with noted(writer, "repair", {}) as told:
        told({"left": [], "rows": 0, "requests": 0, "closed": []})
    assert [one.state for one in writer.manifest.jobs(work="repair")] == ["done"], "the same job, resumed"


def test_every_call_has_a_place_in_the_order_of_jobs() -> None:
    assert {name: call.priority for name, call in CALLS.items()} == {"archive": 3, "repair": 2, "reconcile": 2}
