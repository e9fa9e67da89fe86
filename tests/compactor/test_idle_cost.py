"""What the daemon asks again and again costs what is new, however many years the lake holds.

SQLite counts the steps of its machine: no clock is asked, and the same question takes the same steps everywhere.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, event

from compactor import view
from compactor.audit import AuditService
from compactor.config import CompactorConfig
from compactor.reproduce import ReproduceService
from compactor.service import compact_once
from daemon.status import Status
from lake import beginnings, scrub
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, date_of, parse
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock
from transformer.config import TransformerConfig
from transformer.service import transform_once

TODAY = parse("2026-11-20")
NOW = TODAY + 2 * HOUR
MARKET = ("binance", "linear")
SYMBOLS = [f"S{n}USDT" for n in range(5)]
KINDS = ("trade", "quote", "bar_1s", "bar_1m")
STEPS = 20
CONFIG = CompactorConfig()


def path(kind: str, symbol: str, day: int) -> str:
    place = f"versions/exchange=binance/market_type=linear/data_type={kind}/symbol={symbol}"
    return f"{place}/year={date_of(day):%Y/month=%m/day=%d}/{kind}-000000000-235959999-g1-abcdef01.parquet"


def lake(root: Path, days: int) -> Path:
    """A lake of so many closed days, a session a day, in which there is nothing to do."""
    root.mkdir()
    LakeWriter.open(root, "box", NOW - days * DAY).close()
    dates = [TODAY - back * DAY for back in range(days, 0, -1)]
    every = [(kind, symbol, day) for kind in KINDS for symbol in SYMBOLS for day in dates]
    with closing(sqlite3.connect(root / "manifest.db")) as conn, conn:

        def put(table: str, rows: list[tuple[object, ...]]) -> None:
            conn.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)

        put("files", [
            (path(kind, symbol, day), *MARKET, kind, "day", symbol, date_of(day).isoformat(), None, 1, 9, 99, "ab", day,
             day + DAY - 1, 1, 9, 0, 1, "cd", day + DAY + HOUR, "live", None, None)
            for kind, symbol, day in every
        ])  # fmt: skip
        put("certified", [
            (path(kind, symbol, day), day + DAY + HOUR, "ab", *MARKET, kind, symbol, date_of(day).isoformat(), 1, 9,
             1, 9, *[0] * 8, 0.0, 86_400.0, 1, 2, 0, None, "p", "cd", 1, "candles")
            for kind, symbol, day in every
        ])  # fmt: skip
        put("coverage", [
            (*MARKET, kind, symbol, f"box-{day}-1", day, day + DAY)
            for kind, symbol, day in every if kind in ("trade", "quote")
        ])  # fmt: skip
        put("segments", [
            (f"{kind}/{day}-{n}", *MARKET, kind, _state(kind, day), day + n * HOUR, day + (n + 1) * HOUR, 9, 99, "ab",
             day, day, day, day, day + DAY, 1, 0, None)
            for kind in ("trade", "quote", "frames") for day in dates for n in range(24)
        ])  # fmt: skip
        put("files", [
            (f"hot/{kind}/{n}.parquet", *MARKET, kind, "part", None, date_of(TODAY).isoformat(), 1, 0, 9, 99, "ab",
             TODAY + HOUR + n * MINUTE, TODAY + HOUR + (n + 1) * MINUTE - 1, 1, 9, 0, 1, None, NOW, "live", None, None)
            for kind in KINDS for n in range(30)
        ])  # fmt: skip
        put("cursors", [("bars/binance/linear", TODAY + 2 * HOUR - 5 * SECOND)])
    return root


def _state(kind: str, day: int) -> str:
    if kind != "frames":
        return "transformed" if day > TODAY - 2 * DAY else "deleted"
    return "sealed" if day > TODAY - 5 * DAY else "deleted"


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many steps (of STEPS each) the connections took that were opened inside."""
    steps = [0]

    def step() -> int:
        steps[0] += 1
        return 0

    def watch(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(step, STEPS)

    event.listen(Engine, "connect", watch)
    try:
        yield steps
    finally:
        event.remove(Engine, "connect", watch)


def audit(writer: LakeWriter) -> object:
    return AuditService(writer, InlineExecutor(), ManualClock(NOW), CONFIG.audit)._due()


def reproduce(writer: LakeWriter) -> object:
    return ReproduceService(writer, InlineExecutor, None, ManualClock(NOW), CONFIG.reproduce)._due()  # type: ignore[arg-type]


def status(writer: LakeWriter) -> object:
    services = SimpleNamespace(states=dict, status=dict)
    return Status(ManualClock(NOW), writer.manifest, services, "run").report({})["streams"][0]["gaps_open"]


LATELY = Interval(NOW - DAY, NOW)
ASKED = {
    "the streams": lambda writer: writer.manifest.streams(),
    "what can be compacted": lambda writer: view.read(writer.manifest),
    "a compactor's pass": lambda writer: compact_once(writer, InlineExecutor(), NOW, CONFIG, retention=False),
    "a transformer's pass": lambda writer: transform_once(writer, InlineExecutor(), NOW, TransformerConfig()),
    "when the newest thing was written": lambda writer: view.newest(writer.manifest),
    "when trades begin": lambda writer: beginnings.begun(writer.manifest, *MARKET),
    "who was covered today": lambda writer: writer.manifest.coverage(*MARKET, "trade", overlapping=LATELY),
    "files to be read again": lambda writer: [one.path for one in scrub.overdue(writer.manifest, NOW - 7 * DAY, 9)],
    "how much is read again": lambda writer: scrub.summary(writer.manifest),
    "the lake in numbers": lambda writer: writer.manifest.stats(),
    "the status": status,
    "days to be judged": audit,
    "days to be made again": reproduce,
}


SAME = ("the streams", "days to be judged", "days to be made again")
"""What the years before have no part in."""


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("idle")
    return lake(folder / "young", 10), lake(folder / "old", 150)


@pytest.mark.parametrize("what", ASKED)
def test_a_lake_that_is_old_is_asked_as_cheaply_as_a_young_one(what, lakes):
    took, answers = [], []
    for root in lakes:
        with counted() as steps, LakeWriter.open(root, "box", NOW) as writer:
            ASKED[what](writer)
            before = steps[0]
            answers.append(ASKED[what](writer))
            took.append(steps[0] - before)
    young, old = took
    assert old <= 1.5 * young + 20, f"{old * STEPS} steps where a young lake takes {young * STEPS}"
    if what in SAME:
        assert answers[0] == answers[1]


def test_streams_are_all_that_have_lines_or_rows(lakes):
    with closing(Manifest.read_only(lakes[0])) as manifest:
        assert manifest.streams() == [(*MARKET, kind) for kind in sorted(KINDS)]
