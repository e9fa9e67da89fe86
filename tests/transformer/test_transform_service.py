"""transformer.run and .service on a real lake: parts, bars, late rows, quarantine and poison."""

import asyncio
import hashlib
import itertools
import json
import pickle
import weakref

import msgspec
import polars as pl
import pyarrow.parquet as pq
import pytest

from lake import durable, layout, parquet
from lake.errors import StorageFailed
from lake.rows import SegmentRow
from lake.writer import LakeWriter
from market.session import Coverage
from market.times import HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor, WorkerDied, Workers
from tests.support.clock import ManualClock
from tests.support.crash import quick_folder
from tests.support.held import Held, keeps_its_turn
from tests.support.market_rows import T0
from transformer import run, service
from transformer.config import TransformerConfig
from transformer.leftovers import remove
from transformer.service import TransformService, transform_once

CONFIG = TransformerConfig()
NOW = T0 + HOUR


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "n", NOW) as held:
        yield held


def trade(at, seq, price="10.5", qty="2", **more):
    return {
        "symbol": "BTCUSDT", "stream": "s", "ts_event": T0 + at, "ts_publish": None, "ts_recv": T0 + at + 1000,
        "session": "n-1-1", "frame_no": seq, "item": 0, "source": "ws", "price": price, "qty": qty, "side": "buy",
        "seq": seq, "condition": "market",
    } | more  # fmt: skip


def quote(at, update_id, bid="10.4", ask="10.6"):
    common = {name: value for name, value in trade(at, update_id).items() if name not in
              ("price", "qty", "side", "seq", "condition")}  # fmt: skip
    return common | {"bid": bid, "bid_qty": "1", "ask": ask, "ask_qty": "1", "update_id": update_id}


class Segments:
    """Writes sealed segments of one lake, numbered."""

    def __init__(self, writer):
        self.writer = writer
        self.number = 0

    def __call__(self, lines, start, end, kind="trade", market_type="spot", state="sealed"):
        self.number += 1
        path = layout.raw_path("binance", market_type, kind, T0 + start, "n", self.number)
        data = b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in lines)
        row = SegmentRow(
            path=path, exchange="binance", market_type=market_type, kind=kind, state=state, period_start=T0 + start,
            period_end=T0 + end if state == "sealed" else None, rows=len(lines), bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest() if lines else "",
        )  # fmt: skip
        if lines:
            durable.make_dirs((self.writer.root / path).parent)
            durable.write_file(self.writer.root / path, data)
        self.writer.record(segments=[row]) if state == "sealed" else self.writer.open_segment(row)
        return row


@pytest.fixture
def sealed(writer):
    return Segments(writer)


def covered(writer, start=-HOUR, end=HOUR, kind="trade", symbol="BTCUSDT"):
    writer.record_coverage([Coverage("binance", "spot", kind, symbol, "n-1-1", T0 + start, T0 + end)])


def once(writer, config=CONFIG, executor=None):
    return transform_once(writer, executor or InlineExecutor(), NOW, config)


def rows(writer, kind):
    """All live rows of a kind."""
    tables = [parquet.read(writer.root / row.path) for row in writer.manifest.files(kind)]
    frames = [pl.from_arrow(table) for table in tables]
    return pl.concat(frames).to_dicts() if frames else []


def starts(writer, kind="bar_1m"):
    return sorted((bar["window_start"].timestamp() * SECOND - T0) / MINUTE for bar in rows(writer, kind))


def test_sealed_segments_become_sorted_parts_by_event_hour_with_lineage(writer, sealed):
    first = sealed([trade(HOUR, 3), trade(5, 2), trade(5, 1), trade(1, 1, symbol="AAA")], 0, MINUTE)
    second = sealed([trade(7, 4)], MINUTE, 2 * MINUTE)
    summary = once(writer)
    assert (summary.segments, summary.lines, summary.rows, summary.files) == (2, 5, 5, 4)
    files = writer.manifest.files("trade", parents=True)
    assert [(f.level, f.hour, f.rows, f.symbol) for f in files] == [("part", 0, 4, None), ("part", 1, 1, None)]
    assert files[0].parents == (first.path, second.path)
    assert files[0].path.startswith(layout.hot_dir("binance", "spot", "trade", "2024-07-19", 0) + "/")
    held = pq.read_table(writer.root / files[0].path)
    assert list(zip(held["symbol"].to_pylist(), held["seq"].to_pylist(), strict=True)) == [
        ("AAA", 1), ("BTCUSDT", 1), ("BTCUSDT", 2), ("BTCUSDT", 4)]  # fmt: skip
    assert {row.state for row in writer.manifest.segments()} == {"transformed"}


def test_a_second_pass_changes_nothing(writer, sealed):
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    covered(writer)
    once(writer)
    version, files = writer.manifest.version, writer.manifest.files()
    summary = once(writer)
    assert (summary.segments, summary.files, summary.bars) == (0, 0, 0)
    assert (writer.manifest.version, writer.manifest.files()) == (version, files)


def test_a_pass_that_died_before_its_commit_is_repeated_with_the_same_files(writer, sealed, monkeypatch):
    sealed([trade(5, 1), trade(6, 2)], 0, 10 * MINUTE)
    covered(writer)
    monkeypatch.setattr(writer, "publish", lambda **_: (_ for _ in ()).throw(StorageFailed("no space")))
    with pytest.raises(StorageFailed):
        once(writer)
    monkeypatch.undo()
    before = sorted(writer.root.glob("hot/**/*.parquet"))
    assert len(before) == 1
    once(writer)
    assert before[0] in writer.root.glob("hot/**/*.parquet")
    assert [writer.root / f.path for f in writer.manifest.files("trade")] == before
    assert not list(writer.root.glob("hot/**/*.tmp"))


def test_bad_lines_are_set_aside_counted_and_never_lost(writer, sealed):
    row = sealed(
        [trade(1, 1), trade(2, 2, price="NaN"), b"garbage \xff", trade(3, 3, qty="-1"), trade(4, 4)], 0, MINUTE
    )
    summary = once(writer)
    assert (summary.lines, summary.rows, summary.quarantined) == (5, 2, 3)
    found = writer.manifest.quarantine()
    assert [(q.origin, q.count) for q in found] == [(row.path, 3)]
    assert "line 2: price: no plain decimal: NaN" in found[0].reason
    lines = [json.loads(line) for line in (writer.root / found[0].path).read_text().splitlines()]
    assert [(line["number"], "reason" in line) for line in lines] == [(2, True), (3, True), (4, True)]
    data = (writer.root / row.path).read_bytes()
    assert data[lines[0]["offset"] :].startswith(lines[0]["line"].encode())
    assert "line_b64" in lines[1]


def test_a_segment_of_bad_lines_only_leaves_no_part(writer, sealed):
    sealed([b"x", b"y"], 0, MINUTE)
    summary = once(writer)
    assert (summary.files, summary.quarantined) == (0, 2)
    assert {row.state for row in writer.manifest.segments()} == {"transformed"}


def test_repeated_ids_are_stored_once_and_counted(writer, sealed):
    sealed([trade(1, 1), trade(2, 2), trade(1, 1, ts_recv=T0 + 9 * SECOND)], 0, MINUTE)
    summary = once(writer)
    assert (summary.lines, summary.rows, summary.duplicates) == (3, 2, 1)
    part = writer.manifest.files("trade")[0]
    assert [(c.check, c.count) for c in writer.manifest.checks(part.path) if c.check == "duplicate"] == [
        ("duplicate", 1)
    ]
    assert min(row["ts_recv"] for row in rows(writer, "trade")).microsecond == 1001


def test_an_empty_segment_moves_the_watermark_and_makes_no_file(writer, sealed):
    sealed([trade(5, 1)], 0, MINUTE)
    covered(writer)
    once(writer)
    assert starts(writer) == []
    sealed([], MINUTE, 2 * MINUTE)
    assert once(writer).bars == 1
    assert starts(writer) == [0]


def test_bars_come_once_their_windows_are_ready_and_each_window_once(writer, sealed):
    covered(writer)
    sealed([trade(n * 20 * SECOND, n) for n in range(9)], 0, 3 * MINUTE)
    sealed([], 3 * MINUTE, 4 * MINUTE, state="open")
    assert once(writer).bars == 2
    assert starts(writer) == [0, 1]
    assert len(rows(writer, "bar_1s")) == 6
    assert once(writer).bars == 0
    sealed([trade(190 * SECOND, 9)], 3 * MINUTE, 5 * MINUTE)
    assert once(writer).bars == 0
    second = Segments(writer)
    second.number = 1
    second([], 3 * MINUTE, 4 * MINUTE)
    once(writer)
    assert starts(writer) == [0, 1, 2, 3]
    bar = next(b for b in rows(writer, "bar_1m") if b["window_start"].minute == 0)
    assert (bar["trade_count"], bar["volume_base"], bar["partial"], bar["gap"]) == (3, 6.0, False, False)


def test_quotes_that_are_collected_are_waited_for_and_give_bid_and_ask(writer, sealed):
    covered(writer)
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    sealed([quote(7, 1), quote(9, 2, bid="10.45")], 0, MINUTE, kind="quote")
    assert once(writer).bars == 0
    sealed([], MINUTE, 10 * MINUTE, kind="quote")
    assert once(writer).bars == 1
    bar = rows(writer, "bar_1m")[0]
    assert (bar["bid"], bar["ask"], bar["spread"]) == (10.45, 10.6, 0.15)
    parents = writer.manifest.files("bar_1m", parents=True)[0].parents
    assert [layout.parse_parquet(path).kind for path in parents] == ["quote", "trade"]


def test_bars_are_the_same_however_many_trades_are_read_and_made_at_once(tmp_path, monkeypatch):
    """BBB has no quotes, DDD no trades; EEE is quoted later than it is traded."""
    made = {}
    for at_once, read in ((1, 3), (10, 7), (50, 100), (64 * 1024, 100)):
        monkeypatch.setattr(run, "_ROWS_AT_ONCE", at_once)
        monkeypatch.setattr(run, "_PIECE_ROWS", read)
        with LakeWriter.open(tmp_path / f"{at_once}", "n", NOW) as writer:
            sealed = Segments(writer)
            lines = [
                trade(n * SECOND // 2 + place, n, price=f"{place + 1}.5", symbol=symbol)
                for n in range(40) for place, symbol in enumerate(("AAA", "BBB", "CCC", "EEE"))
            ]  # fmt: skip
            late = {"AAA": 0, "CCC": 0, "DDD": 0, "EEE": 9 * SECOND}
            quoted = [
                quote(n * SECOND // 3 + wait, n, bid=f"{place + 1}.4", ask=f"{place + 1}.6") | {"symbol": symbol}
                for n in range(40) for place, (symbol, wait) in enumerate(late.items())
            ]  # fmt: skip
            for half in (slice(80), slice(80, None)):
                sealed(lines[half], 0, 2 * MINUTE)
                sealed(quoted[half], 0, 2 * MINUTE, kind="quote")
            once(writer)
            made[at_once] = {kind: rows(writer, kind) for kind in ("bar_1s", "bar_1m")}
    assert made[1] == made[10] == made[50] == made[64 * 1024]
    bids: dict[str, list[float | None]] = {}
    for bar in made[1]["bar_1s"]:
        bids.setdefault(bar["symbol"], []).append(bar["bid"])
    assert bids["AAA"] == [1.4] * 14 + [None] * 6
    assert bids["BBB"] == [None] * 20
    assert bids["CCC"] == [2.4] * 14 + [None] * 6
    assert bids["EEE"] == [None] * 9 + [4.4] * 11


def test_the_rows_of_a_part_are_gone_while_it_is_read_back(writer, sealed, monkeypatch):
    held = []
    put, verify = run.ordered, parquet.verify

    def ordered(kind, made):
        table, doubled = put(kind, made)
        held.append(weakref.ref(table))
        return table, doubled

    def verified(*given):
        assert [one() for one in held] == [None]
        return verify(*given)

    sealed([trade(n, n) for n in range(5)], 0, MINUTE)
    with monkeypatch.context() as watched:
        watched.setattr(run, "ordered", ordered)
        watched.setattr(parquet, "verify", verified)
        assert once(writer).failed == 0
    assert len(held) == 1


def test_late_rows_are_counted_and_left_to_the_hour_merge(writer, sealed):
    covered(writer)
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    assert once(writer).bars == 1
    sealed([trade(6, 2), trade(11 * MINUTE, 3)], 10 * MINUTE, 20 * MINUTE)
    summary = once(writer)
    assert (summary.late, summary.bars) == (1, 1)
    assert sorted(f.late for f in writer.manifest.files("trade")) == [0, 1]
    assert starts(writer) == [0, 11]
    assert next(b for b in rows(writer, "bar_1m") if b["window_start"].minute == 0)["trade_count"] == 1


def test_coverage_and_gaps_mark_bars(writer, sealed):
    covered(writer, start=30 * SECOND)
    sealed([trade(n * MINUTE + SECOND, n) for n in range(3)], 0, 10 * MINUTE)
    sealed([b"x"], 0, MINUTE, market_type="linear")
    (writer.root / writer.manifest.segments(market_type="linear")[0].path).unlink()
    once(writer)
    assert [bar["partial"] for bar in rows(writer, "bar_1m")] == [True, False, False]


def test_bars_of_a_part_are_published_by_hour(writer, sealed):
    covered(writer, end=3 * HOUR)
    sealed([trade(5, 1), trade(HOUR + 5, 2)], 0, HOUR + 10 * MINUTE)
    once(writer)
    assert [(f.kind, f.hour) for f in writer.manifest.files() if f.kind != "trade"] == [
        ("bar_1m", 0), ("bar_1m", 1), ("bar_1s", 0), ("bar_1s", 1)]  # fmt: skip
    assert writer.manifest.cursor("bars/binance/spot") == T0 + HOUR + 9 * MINUTE


def test_a_segment_that_cannot_be_read_is_parked_after_three_failures_with_a_gap_and_holds_nobody_up(writer, sealed):
    lost = sealed([trade(1, 1)], 0, MINUTE)
    sealed([trade(MINUTE, 2)], MINUTE, 10 * MINUTE)
    covered(writer)
    (writer.root / lost.path).unlink()
    summary = once(writer)
    assert (summary.segments, summary.failed, summary.parked, summary.bars) == (1, 1, 0, 0)
    once(writer)
    assert once(writer).parked == 1
    row = writer.manifest.segment(lost.path)
    assert (row.state, row.failures) == ("quarantined", 3)
    assert "cannot be read" in row.error
    gap = writer.manifest.gaps()[0]
    assert (gap.symbol, gap.cause, gap.proof, gap.state, gap.ts_from, gap.ts_to) == (
        "BTCUSDT", "unreadable_segment", "interval", "open", T0, T0 + MINUTE)  # fmt: skip
    assert once(writer) == service.Summary()
    assert starts(writer) == [1]


def test_a_segment_that_kills_its_job_is_isolated_and_then_parked(writer, sealed, monkeypatch):
    poison = sealed([trade(1, 1, symbol="POISON")], 0, MINUTE)
    sealed([trade(MINUTE, 2)], MINUTE, 10 * MINUTE)
    real = run.read_segments

    def read(root, rows):
        if poison.path in {row.path for row in rows}:
            raise MemoryError("too much")
        return real(root, rows)

    monkeypatch.setattr(run, "read_segments", read)
    assert (once(writer).segments, once(writer).segments) == (0, 1)
    assert once(writer).parked == 1
    states = {row.path: row.state for row in writer.manifest.segments()}
    assert sorted(states.values()) == ["quarantined", "transformed"]
    assert states[poison.path] == "quarantined"
    assert [gap.symbol for gap in writer.manifest.gaps()] == ["POISON"]


def test_workers_that_are_killed_for_a_while_cost_no_segment(writer, sealed, monkeypatch):
    sealed([trade(1, 1)], 0, MINUTE)

    def die(*_):
        raise WorkerDied("run_transform")

    with monkeypatch.context() as short_of_memory:
        short_of_memory.setattr(service, "run_transform", die)
        assert [once(writer).failed for _ in range(10)] == [1] * 10
    assert once(writer).segments == 1
    assert writer.manifest.gaps() == []


def test_a_segment_that_is_not_what_its_seal_says_keeps_its_good_lines_and_opens_a_gap(writer, sealed):
    row = sealed([trade(1, 1), trade(2, 2), trade(3, 3)], 0, MINUTE)
    path = writer.root / row.path
    path.write_bytes(path.read_bytes()[:-30])
    summary = once(writer)
    assert (summary.lines, summary.rows, summary.quarantined) == (3, 2, 1)
    (gap,) = writer.manifest.gaps()
    assert (gap.cause, gap.proof, gap.symbol) == ("altered_segment", "checksum", "BTCUSDT")
    assert gap.detail.startswith(f"{row.path}: sealed 3 lines")
    assert [c.check for c in writer.manifest.checks(row.path)] == ["seal"]


@pytest.mark.parametrize("failing", [{"trade": 2}, {"bar_1m": 1}])
def test_a_job_that_fails_between_two_files_leaves_none_behind(writer, sealed, monkeypatch, failing):
    """Tried again it may be made of more segments: then the files have other names, and nobody would ask for these."""
    covered(writer)
    sealed([trade(1, 1), trade(HOUR, 2)], 0, 10 * MINUTE)
    real, left = run.publish, dict(failing)

    def publish(root, placement, *rest, **more):
        if placement.kind in left:
            left[placement.kind] -= 1
            if not left[placement.kind]:
                raise ValueError("no more")
        return real(root, placement, *rest, **more)

    monkeypatch.setattr(run, "publish", publish)
    assert once(writer).failed == 1
    known = {row.path for kind in ("trade", "bar_1s", "bar_1m") for row in writer.manifest.files(kind)}
    assert {path.relative_to(writer.root).as_posix() for path in writer.root.rglob("hot/**/*.parquet")} == known
    assert once(writer).failed == 0


def test_lines_that_an_altered_segment_has_no_more_leave_a_gap_of_all_that_was_collected(writer, sealed):
    """Whose they were, nothing that is left tells."""
    covered(writer, symbol="ETHUSDT", start=30 * SECOND)
    covered(writer, symbol="EARLIER", end=0)
    covered(writer, symbol="OTHER", kind="quote")
    row = sealed([trade(1, 1), trade(40 * SECOND, 1, symbol="ETHUSDT")], 0, MINUTE)
    path = writer.root / row.path
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert once(writer).rows == 1
    gaps = writer.manifest.gaps()
    assert [(gap.symbol, gap.cause, gap.ts_from, gap.ts_to) for gap in gaps] == [
        (symbol, "altered_segment", T0, T0 + MINUTE) for symbol in ("BTCUSDT", "ETHUSDT")]  # fmt: skip


def test_bars_that_fail_again_and_again_are_left_to_the_compactor(writer, sealed, monkeypatch):
    covered(writer)
    sealed([trade(5, 1)], 0, 10 * MINUTE)

    def fail(*_):
        raise ValueError("poison")

    monkeypatch.setattr(service, "run_bars", fail)
    results = [once(writer) for _ in range(4)]
    assert [(s.failed, s.parked) for s in results] == [(1, 0), (1, 0), (0, 1), (0, 0)]
    assert writer.manifest.cursor("bars/binance/spot") == T0 + 9 * MINUTE


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_no_bars_are_made_of_a_part_that_is_not_what_was_published(writer, sealed, kind):
    """No checksum of Parquet is of the footer: only the hash tells a bit of it that is another one."""
    covered(writer)
    sealed([trade(5, 1)], 0, MINUTE)
    sealed([quote(6, 1)], 0, MINUTE, kind="quote")
    sealed([], MINUTE, 2 * MINUTE, state="open")
    assert once(writer).bars == 0
    harmed = writer.root / next(row.path for row in writer.manifest.files(kind))
    data = harmed.read_bytes()
    harmed.write_bytes(data.replace(b"parquet-cpp-arrow version", b"parquet-cpp-arrow versiom"))
    second = Segments(writer)
    second.number = 2
    second([], MINUTE, 10 * MINUTE)
    sealed([], 0, 10 * MINUTE, kind="quote")
    assert (once(writer).failed, rows(writer, "bar_1m")) == (1, [])
    harmed.write_bytes(data)
    assert once(writer).bars == 1


def test_a_commit_that_lost_a_race_is_planned_again(writer, sealed):
    row = sealed([trade(5, 1)], 0, 10 * MINUTE)
    covered(writer)

    class Racing(InlineExecutor):
        def submit(self, fn, *args):
            job = super().submit(fn, *args)
            writer.publish(segments={row.path: "quarantined"}, now=NOW)
            return job

    assert once(writer, executor=Racing()).conflicts == 1
    assert writer.manifest.files() == []
    assert on_disk(writer) == []


def on_disk(writer):
    return sorted(path.relative_to(writer.root).as_posix() for path in (writer.root / "hot").rglob("*.parquet"))


def test_bars_whose_inputs_were_merged_meanwhile_leave_no_file_behind(writer, sealed):
    """As at midnight, when a day is closed beside them; a second hour's job is under way already."""
    covered(writer)
    sealed([trade(5, 1), trade(HOUR + 5, 2)], 0, HOUR + 20 * MINUTE)

    class Merging(InlineExecutor):
        def submit(self, fn, *args):
            done = super().submit(fn, *args)
            if fn is service.run_bars:
                writer.publish(remove=[row.path for row in writer.manifest.files("trade")], now=NOW)
            return done

    assert once(writer, executor=Merging()).conflicts == 1
    assert writer.manifest.files() == []
    assert {path.split("data_type=")[1].split("/")[0] for path in on_disk(writer)} == {"trade"}, "those are retired"


def test_what_was_published_before_is_not_given_up(writer, sealed):
    covered(writer)
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    once(writer)
    before = on_disk(writer)
    remove(writer, writer.manifest.files())
    assert on_disk(writer) == before


def test_jobs_and_results_travel_to_a_spawned_worker(writer, sealed):
    covered(writer)
    sealed([trade(5, 1), b"bad"], 0, 10 * MINUTE)
    sealed([quote(6, 1)], 0, 10 * MINUTE, kind="quote")
    workers = Workers(1)
    try:
        summary = once(writer, executor=workers)
    finally:
        workers.shutdown()
    assert (summary.rows, summary.quarantined, summary.bars) == (2, 1, 1)
    assert pickle.loads(pickle.dumps(summary)) == summary


def test_progress_is_told_and_a_stop_begins_nothing_new(writer, sealed):
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    said = []
    config = TransformerConfig(interval_seconds=1)
    transform_once(writer, InlineExecutor(), NOW, config, lambda *args: said.append(args), stopping=lambda: True)
    assert said == []
    assert {row.state for row in writer.manifest.segments()} == {"sealed"}
    transform_once(writer, InlineExecutor(), NOW, config, lambda *args: said.append(args))
    assert said == [(1, 1, "binance spot trade, 1 segments")]


async def test_the_service_makes_passes_until_it_is_stopped(writer, sealed):
    clock = ManualClock(NOW)
    made = TransformService(writer, InlineExecutor(), clock, TransformerConfig(interval_seconds=5))
    stop = asyncio.Event()
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    assert made.status()["waiting_segments"] == 1

    async def until_done():
        while made.status()["waiting_segments"]:
            await clock.sleep(1)
        stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(made.run(stop))
        await clock.run(until_done())
        await clock.advance(10)
    assert made.status()["last_pass"]["rows"] == 1
    assert (await made.once()).segments == 0


async def test_a_pass_whose_asker_left_ends_with_its_job_and_the_next_waits_for_that(writer, sealed, monkeypatch):
    """A job of the daemon that is paused meanwhile: two passes would make the same bars."""
    made = TransformService(writer, InlineExecutor(), ManualClock(NOW), TransformerConfig(interval_seconds=5))
    held, left = Held(), []

    def once(*given, stopping, **named):
        held()
        left.append(stopping())
        return transform_once(*given, stopping=stopping, **named)

    monkeypatch.setattr("transformer.service.transform_once", once)
    sealed([trade(5, 1)], 0, 10 * MINUTE)
    await keeps_its_turn(held, made.once(), made.once())
    assert (left, made.status()["last_pass"]["rows"]) == ([True, False], 1)


def test_a_disk_that_fails_at_any_step_costs_nothing_and_blames_no_segment():
    def fill(root):
        with LakeWriter.open(root, "n", NOW) as writer:
            covered(writer)
            held = Segments(writer)
            held([trade(n * 20 * SECOND, n) for n in range(9)] + [b"bad"], 0, 10 * MINUTE)
            held([quote(5, 1)], 0, 10 * MINUTE, kind="quote")

    def content(writer):
        return {kind: sorted(map(str, rows(writer, kind))) for kind in ("trade", "quote", "bar_1s", "bar_1m")}

    steps = []
    with quick_folder() as folder:
        fill(folder / "whole")
        with LakeWriter.open(folder / "whole", "n", NOW) as writer:
            with durable.observe(steps.append):
                once(writer)
            wanted = content(writer)
        assert len(wanted["bar_1m"]) == 3
        names = [step.name for step in steps]
        # a Parquet file is hundreds of writes: of each row of equal steps the first, and not all of those
        firsts = [1] + [n for n, (one, two) in enumerate(itertools.pairwise(names), start=2) if one != two]
        for number in firsts[::7]:
            root = folder / str(number)
            fill(root)
            with LakeWriter.open(root, "n", NOW) as writer:
                fault = durable.Fault("*", number, "SHORT")
                durable.inject(fault)
                try:
                    with pytest.raises(StorageFailed):
                        once(writer)
                finally:
                    durable.inject(None)
                once(writer)
                assert content(writer) == wanted, number
                assert [row.failures for row in writer.manifest.segments()] == [0, 0]
                assert [row.count for row in writer.manifest.quarantine()] == [1]
    assert len(firsts) > 30


def agg(at, seq, first, last, **more):
    return trade(at, seq, first_id=first, last_id=last, **more)


def test_a_symbol_without_trades_gets_bars_of_its_aggregated_trades_and_no_other_does(writer, sealed):
    sealed([trade(5, 1), trade(MINUTE, 2), trade(6, 4, symbol="LTCUSDT")], 0, 10 * MINUTE)
    rows = [agg(5, 1, 1, 9), agg(6, 2, 20, 24, symbol="ETHUSDT"), agg(7, 3, 25, 25, symbol="ETHUSDT"),
            agg(MINUTE, 1, 7, 8, symbol="ADAUSDT"), agg(5, 1, 1, 9, symbol="LTCUSDT"),
            agg(5, 1, 1, 9, symbol="QUIET")]  # fmt: skip
    sealed(rows, 0, 10 * MINUTE, kind="agg_trade")
    for kind, symbol in (("trade", "BTCUSDT"), ("agg_trade", "BTCUSDT"), ("agg_trade", "ETHUSDT"), ("trade", "QUIET")):
        writer.record_coverage([Coverage("binance", "spot", kind, symbol, "n-1-1", T0 - HOUR, T0 + HOUR)])
    assert once(writer).bars == 5
    made = [(bar["symbol"], bar["trade_count"], bar["first_seq"], bar["last_seq"], bar["partial"])
            for bar in rows_in_order(writer, "bar_1m")]  # fmt: skip
    assert made == [
        ("ADAUSDT", 2, 7, 8, True),
        ("BTCUSDT", 1, 1, 1, False),
        ("BTCUSDT", 1, 2, 2, False),
        ("ETHUSDT", 6, 20, 25, False),
        ("LTCUSDT", 1, 4, 4, True),
    ]
    assert [row["trade_count"] for row in rows_in_order(writer, "bar_1s")] == [2, 1, 1, 6, 1]


def rows_in_order(writer, kind):
    return sorted(rows(writer, kind), key=lambda bar: (bar["symbol"], bar["window_start"]))


def test_a_market_of_aggregated_trades_alone_has_bars_as_far_as_its_watermark(writer, sealed):
    sealed([agg(5, 1, 1, 2), agg(9 * MINUTE + 50 * SECOND, 2, 3, 3)], 0, 10 * MINUTE, kind="agg_trade")
    covered(writer, kind="agg_trade")
    assert once(writer).bars == 1
    assert writer.manifest.cursor("bars/binance/spot") == T0 + 9 * MINUTE
    sealed([], 10 * MINUTE, 12 * MINUTE, kind="agg_trade")
    assert once(writer).bars == 1
    assert starts(writer) == [0, 9]


def test_a_second_pass_makes_no_bars_that_the_clocks_difference_held_back(writer, sealed):
    """The difference is known from segments that the first pass has read, and the second one has none to read."""
    lines = [trade(at * SECOND, seq, ts_recv=T0 + at * SECOND + 70 * SECOND) for seq, at in enumerate((10, 70, 130))]
    row = sealed(lines, 0, 4 * MINUTE)
    writer.record(segments=[msgspec.structs.replace(row, recv_max=T0 + 200 * SECOND, event_max=T0 + 130 * SECOND)])
    covered(writer)
    transform_once(writer, InlineExecutor(), NOW, CONFIG)
    bars = [file.path for file in writer.manifest.files("bar_1m")]
    assert writer.manifest.cursor("bars/binance/spot") == T0 + 2 * MINUTE
    again = transform_once(writer, InlineExecutor(), NOW, CONFIG)
    assert (again.bars, [file.path for file in writer.manifest.files("bar_1m")]) == (0, bars)
    assert writer.manifest.cursor("bars/binance/spot") == T0 + 2 * MINUTE
