"""The compactor over real files: days closed, certified, revised, verified, and a second run that changes nothing."""

import asyncio
import pickle
import sqlite3
from concurrent.futures import Executor

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from compactor import bars_job, deleting, merge_job, tidy, view
from compactor.config import CompactorConfig
from compactor.recertify import recertify
from compactor.service import CompactorService, compact_once, parked
from lake import backup, bars, checks, durable, layout, links, merge, parquet, sources, tables
from lake.errors import ManifestBusy, StorageFailed
from lake.publish import Placement, publish
from lake.rows import SegmentRow
from lake.verify import verify_lake
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from runtime.workers import InlineExecutor, WorkerDied
from tests.support.clock import ManualClock
from tests.support.lakes import STREAM, TestLake, date_of
from tests.support.market_rows import T0, quote, table, trade

END = T0 + DAY
LATER = END + HOUR
CONFIG = CompactorConfig()


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path)
    yield held
    held.close()


def compact(lake, now=LATER, **options):
    return compact_once(lake.writer, InlineExecutor(), now, CONFIG, **options)


def ticks(symbol, ids, start=T0, every=MINUTE, **more):
    """Trades of one symbol, one a minute, with these ids; the id decides time and price."""
    return [
        trade(start + n * every, f"{100 + n % 7}.{n % 10}", f"0.00{1 + n % 9}", n, symbol=symbol, frame_no=n, **more)
        for n in ids
    ]


def in_hours(lake, kind, rows):
    """Publishes rows as one part for each hour, sorted."""
    hours = {}
    for row in rows:
        hours.setdefault(row["ts_event"] // HOUR, []).append(row)
    for some in hours.values():
        lake.part(kind, sorted(some, key=lambda r: (r["symbol"], r["ts_event"], r.get("seq") or r.get("update_id"))))


def dump(lake):
    with sqlite3.connect(lake.root / "manifest.db") as db:
        return list(db.iterdump())


def tree(lake):
    return sorted(p.relative_to(lake.root).as_posix() for p in lake.root.rglob("*.parquet"))


def day_files(lake, kind="trade"):
    return {row.symbol: row for row in lake.writer.manifest.files(kind, level="day")}


def certificate(lake, symbol="BTCUSDT", kind="trade"):
    return lake.writer.manifest.certificates(day_files(lake, kind)[symbol].path)[-1]


def test_a_day_becomes_one_certified_file_a_symbol_and_leaves_nothing_hot(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(150)) + ticks("ETHUSDT", range(1000, 1070)))
    lake.cover(T0, END)
    summary = compact(lake)
    files = day_files(lake)
    assert {symbol: row.rows for symbol, row in files.items()} == {"BTCUSDT": 150, "ETHUSDT": 70}
    assert lake.writer.manifest.files(level="part") == []
    held = certificate(lake)
    assert (held.rows, held.first_id, held.last_id, held.missing, held.open_gaps) == (150, 0, 149, 0, 0)
    assert (held.covered_seconds, held.gap_seconds) == (86400.0, 0.0)
    assert held.sha256 == parquet.file_sha256(lake.root / files["BTCUSDT"].path)
    assert len(held.inputs) == 3
    assert held.content_digest == files["BTCUSDT"].content_digest
    assert summary.failures == []
    assert not [
        f for f in verify_lake(lake.root, lake.writer.manifest, lambda *_: None).findings if f.severity == "error"
    ]


def test_plain_readers_see_every_row_of_the_day_once(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(150)))
    compact(lake)
    linked = [p for p in tree(lake) if p.startswith("tables/") and "data_type=trade" in p]
    assert len(linked) == 1
    assert pl.scan_parquet(lake.root / linked[0]).select(pl.len()).collect().item() == 150
    assert pq.ParquetFile(lake.root / linked[0]).metadata.num_rows == 150


def test_a_second_run_changes_nothing(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(150)))
    in_hours(lake, "quote", [quote(T0 + n * MINUTE, "99.5", "100.5", n) for n in range(150)])
    lake.part("bar_1m", bars_of(ticks("BTCUSDT", range(5)), MINUTE))
    assert compact(lake).changed
    before, files = dump(lake), tree(lake)
    for _ in range(2):
        assert not compact(lake).changed
        assert (dump(lake), tree(lake)) == (before, files)


def bars_of(rows, width, quotes=None):
    symbols = {row["symbol"] for row in rows}
    asked = table("quote", quotes) if quotes else None
    covered = {symbol: [Interval(T0, END)] for symbol in symbols}
    return bars.bars_from_trades(table("trade", rows), asked, width, coverage=covered)


def test_final_bars_equal_bars_of_all_trades_and_quotes_and_replace_the_provisional_ones(lake, monkeypatch):
    monkeypatch.setattr("compactor.bars_job.SPAN_ROWS", 50)
    rows = ticks("BTCUSDT", range(400), every=7 * SECOND)
    quotes = [quote(T0 + n * 3 * SECOND, f"{99 + n % 3}.5", f"{103 + n % 3}.5", n) for n in range(900)]
    in_hours(lake, "trade", rows)
    in_hours(lake, "quote", quotes)
    lake.part("bar_1s", bars_of(rows[:5], SECOND))
    lake.part("bar_1m", bars_of(rows[:5], MINUTE))
    lake.cover(T0, END)
    compact(lake)
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        (row,) = lake.writer.manifest.files(kind)
        assert row.level == "day"
        expected = bars_of(rows, width, quotes)
        assert parquet.read(lake.root / row.path).drop("revision").equals(expected.drop("revision"))
        assert certificate(lake, kind=kind).rows == row.rows


def test_late_rows_of_a_closed_day_make_one_revision_of_their_symbol_only(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(10)) + ticks("ETHUSDT", range(10)))
    compact(lake)
    first = day_files(lake)
    lake.part("trade", ticks("BTCUSDT", [10, 11], ts_recv=LATER))
    assert not compact(lake).days
    later = LATER + HOUR
    assert compact(lake, later).days == 1
    now = day_files(lake)
    assert now["ETHUSDT"] == first["ETHUSDT"]
    assert (now["BTCUSDT"].revision, now["BTCUSDT"].rows) == (1, 12)
    assert certificate(lake).late == 2
    assert [p for p in tree(lake) if p.startswith("tables/") and "data_type=trade/symbol=BTCUSDT" in p] == [
        links.link_of(now["BTCUSDT"].path)
    ]
    bar = day_files(lake, "bar_1m")["BTCUSDT"]
    assert (bar.revision, bar.rows) == (1, 12)
    assert now["BTCUSDT"].path in lake.writer.manifest.file(bar.path).parents


def test_rows_that_are_there_already_change_no_file_but_leave_hot(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(10)))
    compact(lake)
    before = day_files(lake)
    lake.part("trade", ticks("BTCUSDT", [3, 4], ts_recv=LATER))
    compact(lake, LATER + HOUR)
    assert day_files(lake) == before
    assert lake.writer.manifest.files(level="part") == []
    assert not [p for p in tree(lake) if "-g1-" in p]


def test_duplicates_of_hours_and_days_are_counted_in_the_certificate(lake):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    lake.part("trade", ticks("BTCUSDT", range(8, 20), session="n-2-1"))
    compact(lake, T0 + 2 * HOUR)
    assert [row.level for row in lake.writer.manifest.files("trade")] == ["hour"]
    lake.part("trade", ticks("BTCUSDT", range(19, 25), session="n-3-1"))
    compact(lake)
    held = certificate(lake)
    assert (held.rows, held.duplicates, held.missing) == (25, 3, 0)
    lake.part("trade", ticks("BTCUSDT", range(24, 26), session="n-4-1"))
    compact(lake, LATER + 2 * HOUR)
    assert (certificate(lake).rows, certificate(lake).duplicates) == (26, 4)


def test_an_open_gap_whose_ids_are_all_stored_was_repaired_by_late_events(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)))
    lake.gap(T0 + 5 * MINUTE, T0 + 8 * MINUTE, id_from=5, id_to=8)
    compact(lake)
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.state, gap.source, gap.closed_at) == ("repaired", "late", LATER)
    assert (certificate(lake).missing, certificate(lake).open_gaps) == (0, 0)
    assert not pl.Series(parquet.read(lake.root / day_files(lake, "bar_1m")["BTCUSDT"].path)["gap"]).any()


def test_a_gap_that_is_partly_stored_keeps_its_rest_open_and_the_law_holds(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", [0, 1, 2, 5, 9, 10]))
    lake.gap(T0 + 2 * MINUTE, T0 + 9 * MINUTE, id_from=3, id_to=9)
    compact(lake)
    gaps = lake.writer.manifest.gaps(state="open")
    assert sorted((gap.id_from, gap.id_to) for gap in gaps) == [(3, 5), (6, 9)]
    assert sorted((gap.ts_from, gap.ts_to) for gap in gaps) == [
        (T0 + 2 * MINUTE, T0 + 5 * MINUTE),
        (T0 + 5 * MINUTE, T0 + 9 * MINUTE),
    ]
    held = certificate(lake)
    assert held.last_id - held.first_id + 1 == held.rows + held.void + held.missing
    assert held.gap_seconds == (3 + 4) * 60


def test_a_gap_over_midnight_is_repaired_when_both_days_are_closed_in_one_pass(lake):
    start = END - 10 * MINUTE
    in_hours(lake, "trade", ticks("BTCUSDT", range(20), start))
    lake.gap(start + 4 * MINUTE, start + 15 * MINUTE, id_from=5, id_to=15)
    assert compact(lake, LATER + DAY).days == 2
    assert [gap.state for gap in lake.writer.manifest.gaps()] == ["repaired"]
    assert verify_lake(lake.root, lake.writer.manifest, lambda *_: None).ok


def test_a_hole_that_nobody_noticed_gets_its_row(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", [0, 1, 2, 6, 7]))
    lake.cover(T0, END)
    compact(lake)
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.cause, gap.state, gap.id_from, gap.id_to) == ("unnoticed", "open", 3, 6)
    assert (gap.ts_from, gap.ts_to) == (T0 + 2 * MINUTE, T0 + 6 * MINUTE)
    assert (certificate(lake).missing, certificate(lake).open_gaps, certificate(lake).rows) == (3, 1, 5)


def test_void_ids_are_neither_stored_nor_missing(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", [0, 1, 2, 6, 7]))
    lake.gap(T0 + 2 * MINUTE, T0 + 6 * MINUTE, id_from=3, id_to=6, state="void")
    compact(lake)
    assert (certificate(lake).void, certificate(lake).missing, len(lake.writer.manifest.gaps())) == (3, 0, 1)


def test_a_gap_of_every_symbol_is_in_every_certificate(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(5)) + ticks("ETHUSDT", range(5)))
    lake.gap(T0, T0 + MINUTE, symbol="*")
    compact(lake)
    assert [certificate(lake, s).gap_seconds for s in ("BTCUSDT", "ETHUSDT")] == [60.0, 60.0]


def closed_gap(lake, state="empty", now=LATER + HOUR, **changed):
    """The lake's one gap, closed without a row, as the record has it."""
    (gap,) = lake.writer.manifest.gaps()
    gap = msgspec.structs.replace(gap, state=state, closed_at=now, source="rest", **changed)
    lake.writer.record(gaps=[gap], now=now)
    return gap


def flagged(lake, symbol):
    """Windows of the final bars that lie over a gap, and what their certificate says of it."""
    bar = day_files(lake, "bar_1m")[symbol]
    return pl.Series(parquet.read(lake.root / bar.path)["gap"]).sum(), certificate(lake, symbol, "bar_1m").open_gaps


def test_bars_over_a_gap_that_is_closed_without_a_row_are_made_again_and_no_others(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)) + ticks("ETHUSDT", range(20)))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        lake.cover(T0, END, symbol)
    lake.gap(T0 + 5 * MINUTE + 1, T0 + 6 * MINUTE - 1)
    compact(lake)
    assert (flagged(lake, "BTCUSDT"), flagged(lake, "ETHUSDT")) == ((1, 1), (0, 0))
    other = day_files(lake, "bar_1m")["ETHUSDT"]
    assert recertify(lake.writer, [closed_gap(lake)], LATER + HOUR) == 1
    compact(lake, LATER + HOUR)
    assert flagged(lake, "BTCUSDT") == (0, 0)
    assert [day_files(lake, "bar_1m")[name].revision for name in ("BTCUSDT", "ETHUSDT")] == [1, 0]
    assert day_files(lake, "bar_1m")["ETHUSDT"] == other
    before = dump(lake)
    compact(lake, LATER + HOUR)
    assert dump(lake) == before


class Meanwhile(InlineExecutor):
    """Runs jobs; before `work` is handed back, `happens` happens, once."""

    def __init__(self, work, happens):
        super().__init__()
        self.work, self.happens = work, happens

    def submit(self, fn, /, *args, **kwargs):
        done = super().submit(fn, *args, **kwargs)
        if fn is self.work and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return done


def test_a_gap_that_is_closed_while_its_day_is_made_is_none_of_its_certificate(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)))
    lake.gap(T0 + 5 * MINUTE, T0 + 6 * MINUTE)
    happens = Meanwhile(merge_job.close_day, lambda: closed_gap(lake, now=LATER))
    compact_once(lake.writer, happens, LATER, CONFIG)
    assert (certificate(lake).open_gaps, certificate(lake).gap_seconds) == (0, 0.0)


def test_a_gap_that_is_found_while_its_day_is_made_is_in_its_certificate(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)) + ticks("ETHUSDT", range(20)))
    happens = Meanwhile(merge_job.close_day, lambda: lake.gap(T0 + 5 * MINUTE, T0 + 6 * MINUTE))
    compact_once(lake.writer, happens, LATER, CONFIG)
    assert (certificate(lake).open_gaps, certificate(lake).gap_seconds) == (1, 60.0)
    assert certificate(lake, "ETHUSDT").open_gaps == 0


def test_what_a_close_says_of_a_gap_that_was_closed_meanwhile_does_not_count(lake):
    """Of its ids some are stored: the close parts the rest of it, none of which is opened again."""
    in_hours(lake, "trade", ticks("BTCUSDT", [0, 1, 2, 3, 5, 7, 8]))
    lake.gap(T0 + 2 * MINUTE, T0 + 7 * MINUTE, id_from=3, id_to=7)
    happens = Meanwhile(merge_job.close_day, lambda: closed_gap(lake, "void", now=LATER))
    compact_once(lake.writer, happens, LATER, CONFIG)
    assert [(gap.state, gap.id_from, gap.id_to) for gap in lake.writer.manifest.gaps()] == [("void", 3, 7)]


def test_bars_that_were_made_while_their_gap_was_closed_are_made_again(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)))
    lake.gap(T0 + 5 * MINUTE + 1, T0 + 6 * MINUTE - 1)
    happens = Meanwhile(bars_job.final_bars, lambda: closed_gap(lake, now=LATER))
    compact_once(lake.writer, happens, LATER, CONFIG)
    assert flagged(lake, "BTCUSDT") == (0, 0)


def test_quotes_are_counted_crossed_and_estimated(lake):
    rows = [quote(T0 + n * MINUTE, "101" if n == 3 else "99", "100", n) for n in range(6)]
    rows += [quote(T0 + 7 * MINUTE, "99", "100", 9, ts_estimated=True, ts_recv=T0 + 7 * MINUTE + 40)]
    lake.part("quote", rows)
    compact(lake)
    held = certificate(lake, kind="quote")
    assert (held.crossed, held.estimated, held.skew, held.latency_p50, held.first_id) == (1, 1, 40, 0, None)


def test_a_daily_file_that_is_another_one_by_now_goes_into_no_revision(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(10)))
    compact(lake)
    file = day_files(lake)["BTCUSDT"]
    held = pq.ParquetFile(lake.root / file.path, memory_map=False).read()
    pq.write_table(held.slice(1), lake.root / file.path)  # whole, and its pages are right
    lake.part("trade", ticks("BTCUSDT", [20]))
    (failure,) = compact(lake, LATER + 2 * HOUR).failures
    assert "SHA-256" in failure
    assert day_files(lake)["BTCUSDT"] == file


@pytest.mark.parametrize("work", ["merge_hour", "hour_bars", "final_bars"])
def test_trades_that_are_others_by_now_go_into_no_hour_and_into_no_bars(lake, work):
    rows = ticks("BTCUSDT", range(30))
    parts = [lake.part("trade", some).path for some in (rows[:20], rows[20:])]
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        lake.part(kind, bars_of(rows[:20], width))
    lake.writer.publish(cursors={"bars/binance/linear": T0 + HOUR}, now=T0)
    before = lake.writer.manifest.files("bar_1m")

    def happens():
        """A file is whole, its pages are right, and it is another one."""
        held = {path.relative_to(lake.root).as_posix() for path in lake.root.glob("[hv]*/**/trade-*.parquet")}
        path = lake.root / (parts[0] if work == "merge_hour" else held.difference(parts).pop())
        pq.write_table(pq.ParquetFile(path, memory_map=False).read().slice(1), path)

    if work == "merge_hour":
        happens()
    maker = merge_job.close_day if work == "final_bars" else merge_job.merge_hour
    executor = InlineExecutor() if work == "merge_hour" else Meanwhile(maker, happens)
    now = LATER if work == "final_bars" else T0 + 2 * HOUR
    (failure,) = compact_once(lake.writer, executor, now, CONFIG).failures
    assert "SHA-256" in failure
    assert lake.writer.manifest.files("bar_1m") == before


@pytest.mark.parametrize("closed", [False, True])
def test_a_gap_that_still_grows_one_within_a_microsecond_and_one_of_all_are_gaps_of_bars(lake, closed):
    rows = ticks("BTCUSDT", range(30))
    parts = [rows[:20], rows[20:]]
    for some in parts:
        lake.part("trade", some)
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        lake.part(kind, bars_of(rows[:20], width))
    lake.writer.publish(cursors={"bars/binance/linear": T0 + HOUR}, now=T0)
    lake.cover(T0, END)
    lake.gap(T0 + 5 * MINUTE, T0 + 5 * MINUTE)
    lake.gap(T0 + 27 * MINUTE + 1, None)
    lake.gap(T0 + 11 * MINUTE, T0 + 12 * MINUTE, symbol="*")
    lake.part("quote", [quote(T0 + 3 * MINUTE + n, str(90 + n), "100", n) for n in range(5)])
    assert compact(lake, LATER if closed else T0 + 2 * HOUR).failures == []
    (file,) = lake.writer.manifest.files("bar_1m")
    assert file.level == ("day" if closed else "hour")
    assert pl.Series(parquet.read(lake.root / file.path)["gap"]).arg_true().to_list() == [5, 11, 27, 28, 29]
    assert parquet.read(lake.root / file.path)["bid"].to_pylist()[3] == 94.0, "the last one"


def test_bars_of_a_day_whose_trades_count_no_more_are_gone(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(9)))
    compact(lake)
    old = day_files(lake)["BTCUSDT"]
    assert list(day_files(lake, "bar_1m")) == ["BTCUSDT"]
    lake.day("trade", ticks("BTCUSDT", range(9), condition="void"), remove=[old.path], symbol="BTCUSDT", revision=1)
    lake.writer.publish(cursors={sources.bars_due(**STREAM, date=date_of(T0)): 1}, now=LATER)
    assert compact(lake, LATER + HOUR).bars == 1
    assert [lake.writer.manifest.files(kind) for kind in ("bar_1s", "bar_1m")] == [[], []]


def test_a_flipped_bit_stops_its_day_only_and_is_parked_after_three_failures(lake):
    broken = lake.part("trade", ticks("BTCUSDT", range(10)))
    lake.part("quote", [quote(T0 + n, "99", "100", n) for n in range(10)])
    path = lake.root / broken.path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    for attempt in (1, 2, 3):
        summary = compact(lake)
        assert len(summary.failures) == 1
        assert summary.days == (1 if attempt == 1 else 0)
    assert compact(lake).failures == []
    assert [row.path for row in lake.writer.manifest.files("trade")] == [broken.path]
    (check,) = [row for row in lake.writer.manifest.checks() if row.check == "compaction_failed"]
    assert (check.path, check.count) == (broken.path, 3)
    assert "SHA-256" in check.detail


def test_what_was_parked_is_named_and_tried_again_by_whoever_asks_for_it(lake, monkeypatch):
    in_hours(lake, "trade", ticks("BTCUSDT", range(5)))
    lake.cover(T0, END)

    def dies(*_):
        raise WorkerDied("close_day")

    with monkeypatch.context() as broken:
        broken.setattr("compactor.passes.close_day", dies)
        for _ in range(3):
            assert compact(lake).failures
        last = compact(lake)
        assert (
            last.parked == parked(lake.writer.manifest, LATER, CONFIG) == ["binance linear trade 2024-07-19 (1 files)"]
        )
        assert last.failures == [], "it is not tried by itself any more"
        assert compact(lake, again=True).failures
    assert day_files(lake) == {}
    assert compact(lake, again=True).days == 1
    assert parked(lake.writer.manifest, LATER, CONFIG) == compact(lake).parked == []
    assert day_files(lake)["BTCUSDT"].rows == 5


def test_a_hot_file_that_changed_on_disk_is_made_again_from_its_segments(lake):
    rows = ticks("BTCUSDT", range(10))
    raw = layout.raw_path("binance", "linear", "trade", T0, "node", 1)
    durable.make_dirs((lake.root / raw).parent)
    durable.write_file(lake.root / raw, b"{}\n")
    sealed = SegmentRow(path=raw, **STREAM, kind="trade", state="transformed", period_start=T0, period_end=T0 + MINUTE)
    lake.writer.record(segments=[msgspec.structs.replace(sealed, rows=10, bytes=3, sha256="00")])
    broken = lake.part("trade", rows, parents=(tables.Parent(raw, "00"),))
    good = (lake.root / broken.path).read_bytes()
    (lake.root / broken.path).write_bytes(good[:100] + b"!" + good[101:])
    healed = [path for _ in range(3) for path in compact(lake).healed]
    assert healed == [broken.path]
    assert lake.writer.manifest.segment(raw).state == "sealed"
    assert lake.writer.manifest.files("trade") == []
    (aside,) = lake.writer.manifest.quarantine()
    assert aside.origin == broken.path
    assert (lake.root / aside.path).stat().st_size == len(good)
    lake.part("trade", rows, parents=(tables.Parent(raw, "00"),))
    lake.writer.publish(segments={raw: "transformed"}, now=LATER)
    assert compact(lake).days == 1
    assert certificate(lake).rows == 10


def test_parts_are_merged_to_the_same_rows_whether_they_fit_in_memory_or_not(lake, monkeypatch):
    lake.part("trade", ticks("BTCUSDT", range(30)) + ticks("ETHUSDT", range(5)))
    lake.part("trade", ticks("BTCUSDT", range(20, 40)) + ticks("ETHUSDT", range(9)))

    def merged():
        flow = merge_job.Flow(lake.root, "trade")
        for file in lake.writer.manifest.files("trade"):
            flow.source([file])
        table = pa.concat_tables(flow.pieces()).unify_dictionaries().combine_chunks()
        return table.to_pylist(), flow.counts, flow.sums.texts(), flow.dropped

    together = merged()
    assert together[1] == merge.Merged(64, 49, 15)
    monkeypatch.setattr(merge, "WINDOW_ROWS", 10)
    assert merged() == together


def test_a_merge_that_loses_a_digit_is_never_committed(lake, monkeypatch):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    real = merge.small

    def wrong(*given):
        for piece in real(*given):
            place = piece.schema.get_field_index("price")
            yield piece.set_column(place, "price", pa.compute.add(piece.column("price"), 0.1))

    monkeypatch.setattr(merge, "small", wrong)
    before = tree(lake)
    (failure,) = compact(lake).failures
    assert "sums" in failure
    assert tree(lake) == before


def test_a_merge_that_loses_a_row_is_never_committed(lake, monkeypatch):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    real = merge.small

    def wrong(*given):
        for piece in real(*given):
            yield piece.slice(1)

    monkeypatch.setattr(merge, "small", wrong)
    assert len(compact(lake).failures) == 1
    assert day_files(lake) == {}


class Interfering(Executor):
    """Before a job's result comes back, something else takes its input away."""

    def __init__(self, lake, path):
        self.lake, self.path = lake, path

    def submit(self, fn, /, *args, **kwargs):
        job = InlineExecutor().submit(fn, *args, **kwargs)
        if self.path:
            self.lake.writer.publish(remove=[self.path], now=LATER)
            self.path = None
        return job


def test_a_conflicting_commit_leaves_nothing_behind(lake):
    part = lake.part("trade", ticks("BTCUSDT", range(10)))
    before = tree(lake)
    summary = compact_once(lake.writer, Interfering(lake, part.path), LATER, CONFIG)
    assert (summary.conflicts, summary.days) == (1, 0)
    assert tree(lake) == before


def test_failing_storage_is_raised_and_not_counted_against_the_inputs(lake, monkeypatch):
    lake.part("trade", ticks("BTCUSDT", range(10)))

    def full(*_):
        raise StorageFailed("no space")

    monkeypatch.setattr(durable, "fsync_file", full)
    with pytest.raises(StorageFailed):
        compact(lake)
    monkeypatch.undo()
    assert compact(lake).days == 1


def test_a_publication_that_was_never_committed_is_done_again_with_the_same_bytes(lake, monkeypatch):
    lake.part("trade", ticks("BTCUSDT", range(10)))

    def crash(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lake.writer, "publish", crash)
    with pytest.raises(KeyboardInterrupt):
        compact(lake)
    monkeypatch.undo()
    orphan = [p for p in tree(lake) if p.startswith("versions/")]
    compact(lake)
    assert [day_files(lake)["BTCUSDT"].path] == orphan


def test_replaced_files_leave_the_disk_after_their_grace_time(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(70)))
    compact(lake)
    assert len([p for p in tree(lake) if p.startswith("hot/")]) == 2
    assert compact(lake, LATER + 15 * MINUTE - 1).deleted == 0
    assert compact(lake, LATER + 15 * MINUTE).deleted == 2
    assert [p for p in tree(lake) if p.startswith("hot/")] == []
    assert compact(lake, LATER + 15 * MINUTE).deleted == 0


def raw_of(lake, part):
    """A transformed segment that the rows of this part came from."""
    path = layout.raw_path("binance", "linear", "trade", T0, "node", 1)
    durable.make_dirs((lake.root / path).parent)
    durable.write_file(lake.root / path, b"{}\n")
    durable.write_file(lake.root / layout.meta_path(path), b"{}\n")
    held = {"rows": 10, "bytes": 3, "sha256": "00", "event_min": T0, "event_max": part.ts_max}
    row = SegmentRow(
        path=path, **STREAM, kind="trade", state="transformed", period_start=T0, period_end=T0 + MINUTE, **held
    )
    lake.writer.record(segments=[row])
    return path


def test_raw_goes_only_after_its_day_was_read_again_and_found_whole(lake):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    compact(lake)
    assert compact(lake, LATER + 23 * HOUR).deleted == 1
    assert (lake.root / path).exists()
    assert compact(lake, LATER + 2 * DAY).deleted == 1
    assert not (lake.root / path).exists()
    assert not (lake.root / layout.meta_path(path)).exists()
    assert lake.writer.manifest.segment(path).state == "deleted"
    before = dump(lake)
    compact(lake, LATER + 2 * DAY)
    assert dump(lake) == before


def test_a_day_that_the_second_look_finds_broken_keeps_its_raw_and_is_made_again_from_it(lake):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    compact(lake)
    name = day_files(lake)["BTCUSDT"].path
    day = lake.root / name
    day.write_bytes(day.read_bytes()[:-1] + b"x")
    compact(lake, LATER + 2 * DAY)
    assert [check.check for check in lake.writer.manifest.checks(name)] == ["bitrot"]
    assert lake.writer.manifest.segment(path).state == "sealed", "the transformer makes its rows again"
    assert (lake.root / path).exists()
    assert not day.exists()
    assert day_files(lake) == {}


def test_raw_stays_while_no_copy_of_the_manifest_knows_what_was_made_of_it(lake, monkeypatch):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    backup.make(lake.root, T0)  # from before the day was closed
    compact(lake)

    def busy(*_):
        raise ManifestBusy("manifest.db is locked")

    with monkeypatch.context() as failing:
        failing.setattr(backup, "make", busy)
        compact(lake, LATER + 2 * DAY)
        assert lake.writer.manifest.segment(path).state == "transformed"
    compact(lake, LATER + 2 * DAY)
    assert lake.writer.manifest.segment(path).state == "deleted"
    made = backup.backups(lake.root)
    assert len(made) == 2
    assert backup.knows(lake.root / made[0].path, {row.path: row.sha256 for row in day_files(lake).values()})
    assert not backup.knows(lake.root / made[1].path, {row.path: row.sha256 for row in day_files(lake).values()})


def test_days_of_raw_are_looked_up_together_and_the_copy_of_the_manifest_is_checked_once(lake, monkeypatch):
    days = [T0, END, END + DAY, END + 2 * DAY]
    for start in days[:3]:
        lake.day("trade", ticks("BTCUSDT", range(10), start=start))
    lake.part("trade", ticks("ETHUSDT", range(10), start=days[2]))  # that day has something hot, the last one nothing
    raw = [
        SegmentRow(
            path=f"raw/{start}", **STREAM, kind="trade", state="transformed", period_start=start, event_min=start,
            event_max=start + HOUR, rows=10,
        )
        for start in days
    ]  # fmt: skip
    asked, checked = [], []
    monkeypatch.setattr(lake.writer.manifest, "run", spied(lake.writer.manifest.run, asked))
    states = view.day_states(lake.writer.manifest, raw)
    assert len(asked) == 2, "what was read again, and the days of the stream"
    dates = [date_of(start) for start in days]
    assert [states[("binance", "linear", "trade"), date].closed_at for date in dates] == [T0, T0, None, None]

    backup.make(lake.root, T0)
    monkeypatch.setattr(backup, "problem", spied(backup.problem, checked))
    known = tidy._backed_up(lake.writer, states, raw[:2], LATER)
    assert [known[("binance", "linear", "trade"), date].backed_up for date in dates] == [True, True, False, False]
    assert len(checked) == 1


def spied(work, calls):
    def spy(*given, **named):
        calls.append(given)
        return work(*given, **named)

    return spy


def test_a_damaged_copy_of_the_manifest_lets_no_raw_go(lake):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    compact(lake)
    copy = lake.root / backup.make(lake.root, LATER).path
    copy.write_bytes(copy.read_bytes()[:5000] + bytes(4096) + copy.read_bytes()[9096:])
    compact(lake, LATER + 2 * DAY)
    assert lake.writer.manifest.segment(path).state == "deleted"
    assert len(backup.backups(lake.root)) == 2, "another one had to be made for it"


@pytest.mark.parametrize("reason", ["said to be wrong", "before what is written down"])
def test_nothing_goes_while_the_clock_cannot_be_right(lake, reason):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    compact(lake)
    now = LATER + 2 * DAY
    if reason == "said to be wrong":
        assert compact(lake, now, clock_sane=lambda: False).deleted == 0
    else:
        lake.writer.record(
            segments=[
                SegmentRow(
                    path="raw/later", **STREAM, kind="quote", state="sealed", period_start=now, period_end=now + DAY
                )
            ]
        )
        assert compact(lake, now).deleted == 0
    assert (lake.root / path).exists()

    assert compact(lake, now + 2 * DAY).deleted == 2


@pytest.mark.parametrize("there", [True, False])
def test_what_was_marked_before_a_crash_goes_with_the_next_pass(lake, there):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    lake.writer.publish(segments={path: "deleting"}, now=T0)
    if not there:
        (lake.root / path).unlink()
    compact(lake)
    assert lake.writer.manifest.segment(path).state == "deleted"
    assert not (lake.root / path).exists()
    assert not (lake.root / layout.meta_path(path)).exists()


def test_a_day_that_the_disk_does_not_read_is_tried_three_times_and_keeps_its_raw(lake, monkeypatch):
    path = raw_of(lake, lake.part("trade", ticks("BTCUSDT", range(10))))
    compact(lake)
    name = day_files(lake)["BTCUSDT"].path
    tries = []

    def broken(_root, files):
        tries.append(files)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr("compactor.tidy.rehash", broken)
        for n in range(5):
            compact(lake, LATER + 2 * DAY + n)
    assert len(tries) == 3
    assert [(check.check, check.count) for check in lake.writer.manifest.checks(name)] == [("unreadable", 3)]
    assert (lake.root / path).exists()


def test_stopping_leaves_the_rest_for_the_next_pass(lake):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    assert not compact(lake, stopping=lambda: True).changed
    assert compact(lake).days == 1


def test_progress_names_what_is_done(lake):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    said = []
    compact(lake, on_progress=lambda *step: said.append(step))
    assert said[0] == (0, 1, f"{' '.join([*STREAM.values()])} trade 2024-07-19 (1 files)")
    assert all(done <= total for done, total, _ in said)


class Pickling(Executor):
    """What a spawned worker gets and gives went through pickle."""

    def submit(self, fn, /, *args, **kwargs):
        given = pickle.loads(pickle.dumps((fn, args, kwargs)))
        job = InlineExecutor().submit(given[0], *given[1], **given[2])
        return InlineExecutor().submit(pickle.loads, pickle.dumps(job.result()))


def test_jobs_and_results_can_travel_to_other_processes(lake):
    in_hours(lake, "trade", ticks("BTCUSDT", range(70)))
    lake.gap(T0, T0 + MINUTE)
    summary = compact_once(lake.writer, Pickling(), LATER, CONFIG)
    assert (summary.days, summary.bars, summary.failures) == (1, 1, [])


@pytest.mark.parametrize("hour", [0, 5])
def test_an_hours_bars_are_rewritten_with_its_late_trades(lake, hour):
    start = T0 + hour * HOUR
    rows = ticks("BTCUSDT", range(30), start)
    lake.part("trade", rows[:20])
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        lake.part(kind, bars_of(rows[:20], width), revision=0)
    lake.part("trade", rows[20:])
    lake.cover(T0, END)
    lake.writer.publish(cursors={"bars/binance/linear": start + HOUR}, now=T0)
    compact(lake, start + 2 * HOUR)
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        (row,) = lake.writer.manifest.files(kind)
        assert (row.level, row.revision) == ("hour", 1)
        made = parquet.read(lake.root / row.path)
        assert made.drop("revision").equals(bars_of(rows, width).drop("revision"))
    before = dump(lake)
    compact(lake, start + 2 * HOUR)
    assert dump(lake) == before


def test_bars_that_were_made_of_an_hour_when_it_was_over_stay_until_more_of_it_comes(lake):
    rows, over = ticks("BTCUSDT", range(30)), T0 + 2 * HOUR
    trades = lake.part("trade", rows[:20])
    lake.cover(T0, END)
    where = {**STREAM, "level": "part", "date": date_of(T0), "hour": trades.hour}
    parents = (tables.Parent(trades.path, trades.sha256),)
    made = []
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        place = Placement(kind=kind, parents=parents, **where)
        made.append(publish(lake.root, place, [bars_of(rows[:20], width)], run="t", now=over))
    lake.writer.publish(add=made, cursors={"bars/binance/linear": T0 + HOUR}, now=over)
    assert not compact(lake, over).changed
    lake.part("trade", rows[20:])
    assert compact(lake, over).changed
    (row,) = lake.writer.manifest.files("bar_1m")
    assert (row.level, row.rows) == ("hour", 30)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_a_minute_that_holds_more_than_is_read_at_once_is_read_to_its_end(lake, monkeypatch, rows):
    monkeypatch.setattr(bars_job, "SPAN_ROWS", rows)
    made = ticks("BTCUSDT", range(150), every=4 * SECOND)
    in_hours(lake, "trade", made)
    lake.part("quote", [quote(T0 + n * SECOND, "99", "100", n) for n in range(90)])
    lake.cover(T0, END)
    assert compact(lake).failures == []
    file = day_files(lake, "bar_1m")["BTCUSDT"]
    held, wanted = parquet.read(lake.root / file.path), bars_of(made, MINUTE)
    names = ["window_start", "open", "high", "low", "close", "volume_base", "trade_count"]
    assert held.select(names).equals(wanted.select(names))
    assert held.column("bid").null_count == held.num_rows - 2


@pytest.mark.parametrize("wrong", ["bars_from_trades", "fold"])
def test_bars_that_count_what_there_is_not_are_not_published(lake, monkeypatch, wrong):
    in_hours(lake, "trade", ticks("BTCUSDT", range(20)))
    real = getattr(bars, wrong)

    def doubled(*arguments, **options):
        made = real(*arguments, **options)
        count = pc.multiply(made.column("trade_count"), 2)
        return made.set_column(made.schema.get_field_index("trade_count"), "trade_count", count)

    monkeypatch.setattr(bars, wrong, doubled)
    (failure,) = compact(lake).failures
    assert "of 20 trades" in failure
    assert lake.writer.manifest.files("bar_1m") == []
    assert [path for path in tree(lake) if "bar_1" in path] == []


def test_a_day_without_a_counted_trade_has_no_bars_and_is_not_planned_again(lake):
    lake.part("trade", ticks("BTCUSDT", range(3), condition="void"))
    assert compact(lake).bars == 1
    assert lake.writer.manifest.files("bar_1m") == []
    assert not compact(lake).changed


async def test_the_service_compacts_by_itself_and_on_demand(lake):
    lake.part("trade", ticks("BTCUSDT", range(10)))
    clock = ManualClock(LATER)
    service = CompactorService(lake.writer, InlineExecutor(), clock, CONFIG)
    stop = asyncio.Event()

    async def until_closed():
        while not day_files(lake, "bar_1m"):
            await clock.sleep(1)
        stop.set()

    await clock.run(asyncio.wait_for(asyncio.gather(service.run(stop), until_closed()), None))
    again = await service.compact()
    assert (again.days, again.bars, again.failures) == (0, 0, [])
    assert (service.name, service.phase) == ("compactor", 2)
    assert msgspec.json.encode(service.status())


def test_exact_sums_tell_apart_what_floats_would_not():
    one = checks.totals([table("trade", [trade(T0, "0.1", "1", 1), trade(T0, "0.2", "1", 2)])], "trade")
    assert one.texts()["price"] == "0.3"


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.85, 0.99])
def test_storage_that_fails_anywhere_leaves_a_lake_whose_next_pass_ends_the_same(tmp_path, share):
    def build(root):
        held = TestLake(root)
        in_hours(held, "trade", ticks("BTCUSDT", range(55, 65)) + ticks("ETHUSDT", range(5)))
        held.part("quote", [quote(T0 + n * MINUTE, "99", "100", n) for n in range(5)])
        return held

    def contents(held):
        return [(r.kind, r.symbol, r.rows, r.content_digest) for r in held.writer.manifest.files()]

    whole, torn = build(tmp_path / "whole"), build(tmp_path / "torn")
    steps = []
    with durable.observe(steps.append):
        compact(whole)
    durable.inject(durable.Fault("*", 1 + int(share * (len(steps) - 1)), "EIO"))
    try:
        with pytest.raises(StorageFailed):
            compact(torn)
    finally:
        durable.inject(None)
    assert compact(torn).failures == []
    assert contents(torn) == contents(whole)
    assert [
        f for f in verify_lake(torn.root, torn.writer.manifest, lambda *_: None).findings if f.severity == "error"
    ] == []
    whole.close()
    torn.close()


def agg_ticks(symbol, ids):
    """Aggregated trades of two trades each."""
    return [row | {"first_id": 2 * row["seq"], "last_id": 2 * row["seq"] + 1} for row in ticks(symbol, ids)]


def bars_made(lake, symbol, kind="bar_1m"):
    files = [row for row in lake.writer.manifest.files(kind) if row.symbol in (symbol, None)]
    return [
        (bar["trade_count"], bar["partial"], bar["gap"])
        for row in files
        for bar in parquet.read(lake.root / row.path).to_pylist()
        if bar["symbol"] == symbol
    ]


def collected_both_ways(lake):
    """AAA by its aggregated trades only, BBB by both, CCC by both but without a trade; a hole of each kind for all."""
    in_hours(lake, "trade", ticks("BBB", range(5)))
    in_hours(lake, "agg_trade", [row for symbol in ("AAA", "BBB", "CCC") for row in agg_ticks(symbol, range(4))])
    for symbol in ("AAA", "BBB", "CCC"):
        lake.cover(T0, END, symbol, kind="agg_trade")
        lake.gap(T0 + 2 * MINUTE, T0 + 3 * MINUTE, symbol, kind="agg_trade", gap_id=symbol)
    lake.cover(T0, T0 + 4 * MINUTE, "BBB")
    lake.cover(T0, T0 + 4 * MINUTE, "CCC")
    lake.gap(T0 + MINUTE, T0 + MINUTE + 1, "*", kind="agg_trade", gap_id="aggregated")
    lake.gap(T0 + 3 * MINUTE, T0 + 3 * MINUTE + 1, "*", gap_id="trades")


ONE_BY_ONE = [(1, False, False)] * 3 + [(1, False, True), (1, True, False)]
TWO_BY_TWO = [(2, False, False), (2, False, True), (2, False, True), (2, False, False)]


def test_final_bars_come_from_aggregated_trades_only_where_trades_are_not_collected(lake):
    collected_both_ways(lake)
    assert compact(lake).failures == []
    assert {row.symbol for row in lake.writer.manifest.files("bar_1m")} == {"AAA", "BBB"}
    assert bars_made(lake, "AAA") == TWO_BY_TWO
    assert bars_made(lake, "BBB") == ONE_BY_ONE
    held = certificate(lake, "AAA", "bar_1m")
    assert (held.open_gaps, held.covered_seconds) == (2, 86400.0)
    assert certificate(lake, "BBB", "bar_1m").covered_seconds == 240.0
    before = dump(lake)
    assert not compact(lake).changed
    assert dump(lake) == before


def test_an_hours_bars_are_made_again_from_both_kinds_of_trades(lake):
    collected_both_ways(lake)
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        lake.part(kind, bars_of(ticks("BBB", range(2)), width))
    lake.writer.publish(cursors={"bars/binance/linear": T0 + HOUR}, now=T0)
    assert compact(lake, T0 + 2 * HOUR).failures == []
    assert {row.level for row in lake.writer.manifest.files("bar_1m")} == {"hour"}
    assert bars_made(lake, "AAA") == TWO_BY_TWO
    assert bars_made(lake, "BBB") == ONE_BY_ONE
    assert bars_made(lake, "CCC") == []


def test_trades_that_come_later_take_the_place_of_aggregated_ones(lake):
    in_hours(lake, "agg_trade", agg_ticks("AAA", range(4)))
    lake.cover(T0, END, "AAA", kind="agg_trade")
    compact(lake)
    assert bars_made(lake, "AAA") == [(2, False, False)] * 4
    in_hours(lake, "trade", ticks("AAA", range(3)))
    lake.cover(T0, END, "AAA")
    compact(lake, LATER + 2 * HOUR)
    assert bars_made(lake, "AAA") == [(1, False, False)] * 3


def test_deleted_bars_that_are_made_again_close_their_gap(lake):
    lake.cover(T0, END)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        lake.cover(T0, END, symbol)
        in_hours(lake, "trade", ticks(symbol, range(50)))
    compact(lake)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        of = {**STREAM, "kind": "bar_1m", "symbol": symbol}
        with lake.writer.manifest.snapshot() as now:
            going = deleting.plan(now, *of.values())
        assert deleting.delete(lake.writer, deleting.Deletion(**of, digest=going.digest), LATER).gaps == 1
    assert day_files(lake, "bar_1m") == {}
    in_hours(lake, "trade", [trade(T0 + 2 * HOUR, "7", "1", 1000)])
    compact(lake, LATER + 2 * HOUR)
    there = set(day_files(lake, "bar_1m"))
    assert "BTCUSDT" in there
    gaps = {gap.symbol: (gap.state, gap.source) for gap in lake.writer.manifest.gaps(kind="bar_1m")}
    assert gaps == {
        symbol: ("repaired", "derived") if symbol in there else ("unrepairable", None)
        for symbol in ("BTCUSDT", "ETHUSDT")
    }


def test_the_ids_of_a_deleted_day_are_told_by_its_gap(lake):
    for day in range(3):
        in_hours(lake, "trade", ticks("BTCUSDT", range(10 * day, 10 * day + 10), T0 + day * DAY))
    lake.cover(T0, T0 + 3 * DAY)
    compact(lake, T0 + 4 * DAY)
    held = {**STREAM, "kind": "trade", "symbol": "BTCUSDT"}
    with lake.writer.manifest.snapshot() as now:
        going = deleting.plan(now, *held.values())
    assert deleting.delete(lake.writer, deleting.Deletion(**held, digest=going.digest), LATER + 3 * DAY).gaps == 3
    told = sorted((gap.id_from, gap.id_to, gap.cause) for gap in lake.writer.manifest.gaps(kind="trade"))
    assert told == [(10 * day, 10 * day + 10, "deleted") for day in range(3)]
