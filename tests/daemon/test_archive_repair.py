"""A gap that REST cannot close is closed from the venue's archive: what was collected stays, what was missed comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors import exchanges, repair
from collectors.repair import Scope
from compactor.bitrot import set_right
from compactor.service import compact_once
from daemon.archiving import Done, archive_job, look
from daemon.config import Config
from daemon.repairing import Tools, mend
from lake import Lake
from lake.scrub import Target
from lake.verify import verify_lake
from market.session import Coverage, Gap
from market.times import DAY, HOUR, SECOND, parse
from runtime.workers import InlineExecutor
from simulator.venues.bybit.wire import trade_id
from tests.support.archive_twins import DAYS, NOW, Published, published
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake
from tests.support.market_rows import trade

START = parse(DAYS[1])
FROM, TO = START + 16 * HOUR, START + 16 * HOUR + 10 * SECOND


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Published]:
    with published(tmp_path, "bybit") as made:
        yield made


async def test_a_gap_of_trades_without_ids_in_order_is_closed_from_the_archive(tmp_path: Path, twin: Published) -> None:
    book, lake = twin.book("linear"), TestLake(tmp_path / "lake")
    day = [one for one in book.trades if START <= one.ts < START + DAY]
    lost = [one for one in day if FROM <= one.ts < TO]
    stream = {"exchange": "bybit", "market_type": "linear", "kind": "trade", "symbol": book.symbol}
    rows = [
        trade(one.ts, one.price, one.qty, trade_id=trade_id(one), side="sell" if one.maker else "buy",
              exchange="bybit", symbol=book.symbol, frame_no=number)
        for number, one in enumerate(day, 1) if one not in lost
    ]  # fmt: skip
    lake.part("trade", rows, exchange="bybit")
    lake.writer.record_coverage([Coverage(**stream, session="n-1-1", ts_from=START, ts_to=START + DAY)])
    lake.writer.record_gaps(
        [Gap("g", **stream, ts_from=FROM, ts_to=TO, id_from=None, id_to=None, cause="cut", proof="interval",
             state="open", session=None, detected_at=FROM)]
    )  # fmt: skip
    config = Config.model_validate({"archives": twin.config, "collectors": {"node": "node"}})
    clock = ManualClock(NOW)

    async def archive(wanted: Any, report: Any) -> None:
        await asyncio.to_thread(archive_job, lake.writer, InlineExecutor(), clock, wanted, config, report)

    async def never(*_: Any) -> Any:
        raise AssertionError("no REST route gives trades of then")

    done = await mend(lake.writer, config, clock, Scope(), Tools(never, archive), lambda *_: None)
    assert (done.problems, done.left) == ([], [])
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.state, gap.source) == ("repaired", "archive")
    summary = compact_once(lake.writer, InlineExecutor(), NOW, config.compactor, retention=False)
    assert not summary.failures
    held = Lake(lake.root).read("trade", exchange="bybit").to_pylist()
    assert sorted(row["trade_id"] for row in held) == sorted(map(trade_id, day))
    assert {row["trade_id"] for row in held if row["source"] == "archive"} == set(map(trade_id, lost))
    lake.close()


async def test_days_of_an_archive_that_the_disk_lost_are_fetched_again_and_not_called_known(
    tmp_path: Path, twin: Published
) -> None:
    """By `dl archive` as by the repair of the gap: its file is remembered, and its rows are not here any more."""
    book, lake = twin.book("linear"), TestLake(tmp_path / "lake")
    config = Config.model_validate({"archives": twin.config, "collectors": {"node": "node"}})
    clock, executor = ManualClock(NOW), InlineExecutor()

    def archive(wanted: Any, report: Any = lambda *_: None) -> Done:
        return archive_job(lake.writer, executor, clock, wanted, config, report)

    async def apart(wanted: Any, report: Any) -> object:
        return (await asyncio.to_thread(archive, wanted, report)).told()

    async def never(*_: Any) -> Any:
        raise AssertionError("no REST route gives trades of then")

    async def lose() -> None:
        await clock.advance(1)
        (row,) = lake.writer.manifest.files("trade", date_from=DAYS[1], date_to=DAYS[1])
        for name in (row.path, row.path.replace("versions/", "tables/", 1)):
            (lake.root / name).unlink()
        assert set_right(lake.writer, Target(row.path, row.bytes, row.sha256, NOW), "missing", clock.now()) == "lost"
        await clock.advance(1)

    wanted = {"exchange": "bybit", "market_type": "linear", "kind": "trade", "symbols": [book.symbol]}
    wanted |= {"first": DAYS[0], "last": DAYS[2]}
    await asyncio.to_thread(archive, wanted)
    compact_once(lake.writer, executor, NOW, config.compactor, retention=False)
    before = held(lake)
    await lose()
    assert held(lake) != before
    shown = await asyncio.to_thread(look, lake.root, clock, wanted, config)
    assert [one.state for one in shown.files] == ["known", "wanted", "known"]
    done = await mend(lake.writer, config, clock, Scope(), Tools(never, apart), lambda *_: None)
    assert (done.problems, done.left, held(lake)) == ([], [], before)
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.cause, gap.state, gap.source) == ("bitrot", "repaired", "archive")
    await lose()
    again = await asyncio.to_thread(archive, wanted)
    assert [(one.state, one.added > 0) for one in again.files] == [
        ("known", False),
        ("replaced", True),
        ("known", False),
    ]
    assert held(lake) == before
    again = await asyncio.to_thread(archive, wanted)
    assert [one.state for one in again.files] == ["known"] * 3
    with lake.writer.manifest.snapshot() as snapshot:
        assert verify_lake(lake.root, snapshot, lambda *_: None).ok
    lake.close()


def held(lake: TestLake) -> list[tuple[object, ...]]:
    rows = Lake(lake.root).read("trade", exchange="bybit").to_pylist()
    return [(row["ts_event"], row["trade_id"], row["price"], row["qty"], row["side"], row["source"]) for row in rows]


def test_only_what_is_the_stream_s_own_is_taken_for_its_gaps() -> None:
    """Files whose ids are not the stream's, and those that count contracts of a worth that they do not say, are not."""
    told = {
        (name, market): set(repair.sources(exchanges.load(name), market).archive)
        for name in ("binance", "bybit", "okx", "kucoin")
        for market in ("spot", "linear", "inverse")
    }
    assert told["binance", "spot"] == {"trade", "agg_trade", "kline"}
    assert told["binance", "inverse"] == {"kline"}
    assert (told["bybit", "spot"], told["bybit", "linear"], told["bybit", "inverse"]) == (set(), {"trade"}, {"trade"})
    assert (told["okx", "spot"], told["okx", "linear"]) == ({"trade"}, set())
    assert "trade" not in told["kucoin", "spot"] | told["kucoin", "linear"]
