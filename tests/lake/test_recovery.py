"""Recovery at the start: whatever a writer left half done is brought to order, once however often, and counted."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from lake import durable, layout, tables
from lake.frames import FrameLine, FramesFile, encode_frame_lines, encode_received
from lake.lock import LakeLock
from lake.publish import Placement, publish
from lake.resume import REST
from lake.rows import HISTORY, SegmentRow, SessionRow
from lake.segment_files import SegmentFile
from lake.segments import encode_lines, extent
from lake.tables import Parent
from lake.writer import LakeWriter
from market.kinds import BookDelta, Quote, Trade
from market.session import Coverage
from market.times import DAY, MINUTE, SECOND
from tests.support import book_rows
from tests.support.lakes import TestLake, date_of
from tests.support.market_rows import T0, quote, table, trade

STREAM = {"exchange": "binance", "market_type": "linear"}
SESSION = "node-1-1"


def event(seq: int, symbol: str = "BTCUSDT", session: str = SESSION) -> Trade:
    return Trade(
        symbol=symbol, stream="trade", ts_event=T0 + seq, ts_publish=None, ts_recv=T0 + seq + 1, session=session,
        frame_no=seq, item=0, source="ws", price="10", qty="1", side="buy", seq=seq, condition="market",
    )  # fmt: skip


def book(update: int, symbol: str = "BTCUSDT") -> Quote:
    return Quote(
        symbol=symbol, stream="bookTicker", ts_event=None, ts_publish=None, ts_recv=T0 + 1000 + update,
        session=SESSION, frame_no=update, item=0, source="ws", bid="1", bid_qty="1", ask="2", ask_qty="1",
        update_id=update, skew_us=400,
    )  # fmt: skip


def opened(writer: LakeWriter, kind: str, number: int = 1, start: int = T0) -> SegmentRow:
    path = (
        layout.frames_path(*STREAM.values(), start, "node", number)
        if kind == "frames"
        else layout.raw_path(*STREAM.values(), kind, start, "node", number)
    )
    row = SegmentRow(path=path, **STREAM, kind=kind, state="open", period_start=start + 7)
    writer.open_segment(row)
    return row


def written(
    writer: LakeWriter, kind: str, events: list, number: int = 1, tail: bytes = b"", start: int = T0
) -> SegmentRow:
    """An open segment as a crash leaves it."""
    row = opened(writer, kind, number, start)
    with SegmentFile(writer.root, row) as file:
        file.append(encode_lines(events) + tail, len(events), extent(events))
        file.sync()
    return row


def dump(writer: LakeWriter) -> list:
    with writer.manifest.snapshot() as s:
        return [s.segments(), s.files(state=None), s.quarantine(), s.gaps(), s.sessions(), s.coverage()]


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", T0) as held:
        yield held


def test_a_clean_lake_needs_nothing(writer):
    found = writer.recover(T0 + MINUTE)
    assert not found.crashed
    assert (found.temps, found.segments, found.links, found.last) == (0, (), 0, {})


def test_an_open_segment_is_sealed_as_unclean_and_its_torn_tail_set_aside(writer):
    row = written(writer, "trade", [event(n) for n in (1, 2, 3)], tail=b'{"symbol":"BT')
    found = writer.recover(T0 + MINUTE)
    (sealed,) = found.segments
    assert (sealed.path, sealed.state, sealed.rows, sealed.clean) == (row.path, "sealed", 3, False)
    assert sealed.period_start <= T0 + 7
    assert writer.manifest.segments() == [sealed]
    assert [(q.origin, q.bytes) for q in found.quarantined] == [(row.path, 13)]
    assert writer.manifest.quarantine() == list(found.quarantined)
    assert found.crashed
    assert writer.manifest.watermark("binance", "linear", "trade") == T0 + 5


def test_recovering_twice_is_recovering_once(writer):
    written(writer, "trade", [event(1)], tail=b"torn")
    opened(writer, "quote")
    writer.recover(T0 + MINUTE)
    before = dump(writer)
    again = writer.recover(T0 + 2 * MINUTE)
    assert dump(writer) == before
    assert again.segments == ()


def test_an_open_row_without_a_file_answers_for_no_time(writer):
    row = opened(writer, "quote")
    (sealed,) = writer.recover(T0 + MINUTE).segments
    assert (sealed.path, sealed.state, sealed.rows, sealed.period_end) == (row.path, "sealed", 0, T0 + 7)
    assert writer.manifest.watermark("binance", "linear", "quote") == T0 + 7


def test_a_segment_that_was_sealed_but_not_recorded_is_taken_as_it_is(writer):
    row = opened(writer, "trade")
    file = SegmentFile(writer.root, row)
    file.append(encode_lines([event(1)]), 1, extent([event(1)]))
    sealed = file.seal(T0 + MINUTE)
    (found,) = writer.recover(T0 + 2 * MINUTE).segments
    assert found == msgspec.structs.replace(sealed, recorded_at=found.recorded_at)
    assert found.clean


def test_a_segment_that_nobody_recorded_is_adopted(writer):
    row = written(writer, "trade", [event(1)])
    with LakeWriter.open(writer.root.parent / "other", "node", T0) as other:
        for path in (writer.root / "raw").rglob("*.open"):
            target = other.root / path.relative_to(writer.root)
            target.parent.mkdir(parents=True)
            path.rename(target)
        (found,) = other.recover(T0 + MINUTE).segments
        assert (found.path, found.rows) == (row.path, 1)
        assert other.manifest.segments() == [found]


def test_a_sealed_file_that_is_not_what_its_seal_says_is_set_apart(writer):
    row = opened(writer, "trade")
    file = SegmentFile(writer.root, row)
    file.append(encode_lines([event(1)]), 1, extent([event(1)]))
    file.seal(T0 + MINUTE)
    path = writer.root / row.path
    path.write_bytes(path.read_bytes().replace(b'"10"', b'"99"'))
    (found,) = writer.recover(T0 + 2 * MINUTE).segments
    assert found.state == "quarantined"
    held = writer.manifest.segment(row.path)
    assert held.state == "quarantined"
    assert "not what its seal says" in held.error


def test_files_with_names_of_no_segment_are_reported_and_left_alone(writer):
    foreign = writer.root / "raw" / "notes.txt"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    temp = writer.root / "raw" / ".x.jsonl.meta.json.w1-1.tmp"
    temp.write_text("half")
    found = writer.recover(T0)
    assert found.strangers == ("raw/notes.txt",)
    assert found.temps == 1
    assert foreign.exists()
    assert not temp.exists()


def test_a_file_that_was_never_committed_goes_where_it_can_be_made_again(writer):
    root = writer.root
    row = written(writer, "trade", [event(1)])
    writer.recover(T0)
    place = {"kind": "trade", **STREAM, "level": "part", "hour": 0, "date": date_of(T0)}
    again = publish(
        root, Placement(**place, parents=(Parent(row.path, "a" * 64),)), [table("trade", [trade(T0, "1", "1", seq=1)])],
        run="r", now=T0,
    )  # fmt: skip
    orphaned = Placement(**place, parents=(Parent("raw/gone", "b" * 64),))
    last = publish(root, orphaned, [table("trade", [trade(T0, "1", "1", seq=2)])], run="r", now=T0)
    live = publish(root, Placement(**place), [table("trade", [trade(T0, "1", "1", seq=3)])], run="r", now=T0)
    writer.publish(add=[live], now=T0)
    found = writer.recover(T0)
    assert found.orphans == (again.path,)
    assert found.strangers == (last.path,), "its parents are gone: it may be all that is left of them"
    assert [(root / row.path).exists() for row in (again, last, live)] == [False, True, True]


def test_parquet_that_is_none_of_ours_is_reported_and_left_alone(writer):
    place = {"kind": "trade", **STREAM, "level": "part", "hour": 0, "date": date_of(T0)}
    ours = publish(
        writer.root, Placement(**place), [table("trade", [trade(T0, "1", "1", seq=1)])], run="r", now=T0
    )  # fmt: skip
    folder = (writer.root / ours.path).parent
    strange = {"mine.parquet": b"PAR1", Path(ours.path).name.replace("-g0-", "-g1-"): b"no Parquet at all"}
    for name, data in strange.items():
        (folder / name).write_bytes(data)
    found = writer.recover(T0)
    assert {Path(path).name for path in found.strangers} == {*strange, Path(ours.path).name}
    assert all((folder / name).read_bytes() == data for name, data in strange.items())


def test_a_file_that_was_never_committed_stays_where_a_bit_of_it_is_another_one(writer):
    """What it says of its parents may be what changed, and only its name tells."""
    source = written(writer, "trade", [event(1)])
    writer.recover(T0)
    place = {"kind": "trade", **STREAM, "level": "part", "hour": 0, "date": date_of(T0)}
    made = publish(
        writer.root, Placement(**place, parents=(Parent("raw/gone", "a" * 64),)),
        [table("trade", [trade(T0, "1", "1", seq=1)])], run="r", now=T0,
    )  # fmt: skip
    (writer.root / "raw/fone").write_bytes(b"")
    harmed = writer.root / made.path
    harmed.write_bytes(harmed.read_bytes().replace(b"raw/gone", b"raw/fone"))
    found = writer.recover(T0)
    assert (found.orphans, found.strangers) == ((), (made.path, "raw/fone"))
    assert harmed.exists()
    assert (writer.root / source.path).exists()


def test_live_files_that_are_gone_are_named(tmp_path):
    lake = TestLake(tmp_path)
    row = lake.part("trade", [trade(T0, "1", "1", seq=1)])
    (tmp_path / row.path).unlink()
    assert lake.writer.recover(T0).missing == (row.path,)
    lake.close()


def session(name: str, **changed) -> SessionRow:
    return SessionRow(session=name, **STREAM, source="ws", url="wss://x", opened_at=T0, **changed)


def cover(writer: LakeWriter, kind: str, *symbols: str) -> None:
    writer.record_coverage(
        [Coverage(**STREAM, kind=kind, symbol=s, session=SESSION, ts_from=T0, ts_to=T0 + MINUTE) for s in symbols]
    )


def test_mergers_are_told_where_every_symbol_stopped(tmp_path):
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session(SESSION), session("n-1-1", closed_at=T0 + 9, close_cause="forced: by a test")])
    cover(writer, "trade", "BTCUSDT", "ETHUSDT", "XRPUSDT", "NEWUSDT")
    cover(writer, "quote", "BTCUSDT")
    lake.day("trade", [trade(T0 - MINUTE, "1", "1", seq=7, symbol="XRPUSDT")], symbol="XRPUSDT")
    lake.part("trade", [trade(T0, "1", "1", seq=n, symbol="ETHUSDT") for n in (3, 4)])
    lake.part("trade", [trade(T0 - SECOND, "1", "1", seq=2, symbol="ETHUSDT")])
    written(writer, "trade", [event(11), event(12)])
    written(writer, "quote", [book(5), book(6)])
    found = writer.recover(T0 + MINUTE)
    trades = found.last["binance", "linear", "trade"]
    assert {symbol: (r.seq, r.ts_event, r.session, r.cause) for symbol, r in trades.items()} == {
        "BTCUSDT": (12, T0 + 12, SESSION, "crash"),
        "ETHUSDT": (4, T0, "n-1-1", "forced"),
        "XRPUSDT": (7, T0 - MINUTE, "n-1-1", "forced"),
    }
    quotes = found.last["binance", "linear", "quote"]
    assert {symbol: (r.seq, r.ts_event) for symbol, r in quotes.items()} == {"BTCUSDT": (6, T0 + 1006 - 400)}
    lake.close()


def test_a_stream_whose_gap_has_waited_for_a_week_is_told_where_it_stopped(tmp_path):
    """Else nothing would ever end the gap. Who was silent as long and misses nothing starts anew."""
    lake = TestLake(tmp_path)
    long_ago = T0 - 7 * DAY
    cover(lake.writer, "trade", "BTCUSDT")
    lake.cover(long_ago - MINUTE, long_ago, "ETHUSDT")
    lake.cover(long_ago - MINUTE, long_ago, "XRPUSDT")
    lake.gap(long_ago, None, "ETHUSDT")
    rows = [trade(long_ago - SECOND, "1", "1", seq=3, symbol=symbol) for symbol in ("ETHUSDT", "XRPUSDT")]
    lake.part("trade", rows)
    lake.part("trade", [trade(T0 - 3 * DAY, "1", "1", seq=1)])
    lake.part("trade", [trade(T0, "1", "1", seq=2)])
    found = lake.writer.recover(T0 + MINUTE).last["binance", "linear", "trade"]
    assert {symbol: stop.seq for symbol, stop in found.items()} == {"BTCUSDT": 2, "ETHUSDT": 3}
    lake.close()


def test_a_books_snapshot_is_not_where_its_updates_stopped(tmp_path):
    """It may be ahead of them: what was lost in between would not be missed."""
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session(SESSION)])
    cover(writer, "book_delta", "BTCUSDT", "ETHUSDT")

    def row(last: int, symbol: str, flags: tuple[str, ...] = ()) -> BookDelta:
        first, source = (None, "rest") if flags else (last, "ws")
        none = msgspec.Raw(b"[]")
        return BookDelta(
            symbol,
            "d",
            T0 + last,
            None,
            T0 + last,
            SESSION,
            last,
            0,
            source,
            none,
            none,
            first,
            last,
            None,
            None,
            flags,
        )

    written(writer, "book_delta", [row(5, "BTCUSDT"), row(6, "BTCUSDT"), row(9, "BTCUSDT", ("snapshot",))])
    found = writer.recover(T0 + MINUTE).last["binance", "linear", "book_delta"]
    assert {symbol: stop.seq for symbol, stop in found.items()} == {"BTCUSDT": 6}
    lake.close()


def test_frames_beyond_the_last_line_are_named(writer):
    writer.record_sessions([session(SESSION), session("node-1-2")])
    frames = opened(writer, "frames")
    other = FrameLine(ts_recv=T0 + 50, conn="node-1-2", dir="recv", n=1, frame="{}")
    with FramesFile(writer.root, frames) as file:
        file.append(encode_received(SESSION, [T0 + 1] * 9, 1, [b"{}"] * 9) + encode_frame_lines([other]))
        file.sync()
    written(writer, "trade", [event(1), event(4)])
    written(writer, "quote", [book(6)])
    found = writer.recover(T0 + MINUTE)
    assert [(r.session, r.first, r.last, r.path) for r in found.unwritten] == [
        (SESSION, 7, 9, frames.path),
        ("node-1-2", 1, 1, frames.path),
    ]
    assert {row.session for row in found.unclosed} == {SESSION, "node-1-2"}
    assert writer.recover(T0 + MINUTE).unwritten == found.unwritten, "until the collectors have closed the sessions"
    writer.record_sessions([session(name, closed_at=T0 + 99, close_cause="crash") for name in (SESSION, "node-1-2")])
    assert writer.recover(T0 + MINUTE).unwritten == ()


def test_frames_and_lines_that_were_written_last_are_read_though_the_clock_was_set_back(writer):
    writer.record_sessions([session(SESSION)])
    for number in range(1, 6):
        start = T0 + number * SECOND - (2 * MINUTE if number == 5 else 0)
        row = opened(writer, "frames", number, start)
        with FramesFile(writer.root, row) as file:
            file.append(encode_received(SESSION, [start] * 2, 2 * number - 1, [b"{}"] * 2))
            file.sync()
        line = msgspec.structs.replace(event(number), ts_recv=start, frame_no=2 * number - 1)
        written(writer, "trade", [line], number, start=start)
    found = writer.recover(T0 + MINUTE)
    assert [(one.first, one.last, one.path) for one in found.unwritten] == [(10, 10, row.path)]


RUN = """
import sys
from pathlib import Path
from lake.writer import LakeWriter
with LakeWriter.open(Path(sys.argv[1]), "node", int(sys.argv[2])) as writer:
    writer.recover(int(sys.argv[2]))
"""


def run(root: Path, fault: str | None = None) -> int:
    env = {name: value for name, value in os.environ.items() if name != "LAKE_FAULT"}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2])} | ({"LAKE_FAULT": fault} if fault else {})
    return subprocess.run([sys.executable, "-c", RUN, str(root), str(T0 + MINUTE)], env=env, check=False).returncode


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("step", [2, 7, 12])
def test_a_recovery_that_is_killed_is_finished_by_the_next_one(tmp_path, step):
    root = tmp_path / "lake"
    with LakeWriter.open(root, "node", T0) as writer:
        written(writer, "trade", [event(1), event(2)], tail=b"torn")
        written(writer, "quote", [book(1)])
        opened(writer, "quote", number=2)
    code = run(root, f"*:{step}:KILL")
    assert code == -9, "the fault must fire"
    assert run(root) == 0
    with LakeWriter.open(root, "node", T0) as writer:
        rows = {row.kind: row for row in writer.manifest.segments() if row.rows}
        assert {kind: (row.state, row.rows) for kind, row in rows.items()} == {
            "trade": ("sealed", 2),
            "quote": ("sealed", 1),
        }
        assert [q.bytes for q in writer.manifest.quarantine()] == [4]
        assert writer.manifest.segments(state="open") == []
        before = [msgspec.structs.asdict(row) for row in writer.manifest.segments()]
        writer.recover(T0 + MINUTE)
        assert [msgspec.structs.asdict(row) for row in writer.manifest.segments()] == before


def test_the_lock_is_free_after_all_that(writer):
    writer.close()
    LakeLock.acquire(writer.root).release()
    assert durable.sweep_temps(writer.root) == 0


def test_a_segment_that_waits_since_long_is_not_the_last_word(tmp_path):
    lake = TestLake(tmp_path)
    cover(lake.writer, "trade", "BTCUSDT")
    written(lake.writer, "trade", [event(1)])
    lake.part("trade", [trade(T0 + SECOND, "1", "1", seq=5)])
    found = lake.writer.recover(T0 + MINUTE)
    assert found.last["binance", "linear", "trade"]["BTCUSDT"].seq == 5
    lake.close()


def test_where_trades_stopped_tells_since_when_they_are_covered(tmp_path):
    lake = TestLake(tmp_path)
    for kind in ("trade", "quote"):
        cover(lake.writer, kind, "BTCUSDT")
    written(lake.writer, "trade", [event(1), event(2)])
    written(lake.writer, "quote", [book(6)])
    found = lake.writer.recover(T0 + MINUTE).last
    since = {kind: found["binance", "linear", kind]["BTCUSDT"].since for kind in ("trade", "quote")}
    assert since == {"trade": T0, "quote": 0}
    lake.close()


def test_where_a_stream_stopped_tells_how_far_ahead_the_venues_clock_was(tmp_path):
    """In lines that are no table yet, and in a table."""
    lake = TestLake(tmp_path)
    cover(lake.writer, "quote", "BTCUSDT", "ETHUSDT")
    last = book(7)
    last.skew_us = -10 * SECOND
    written(lake.writer, "quote", [book(6), last])
    lake.part("quote", [quote(T0 + SECOND, "1", "2", 9, symbol="ETHUSDT", ts_recv=T0 - 3 * SECOND)])
    found = lake.writer.recover(T0 + MINUTE).last["binance", "linear", "quote"]
    assert {symbol: stop.ahead for symbol, stop in found.items()} == {"BTCUSDT": 10 * SECOND, "ETHUSDT": 4 * SECOND}
    assert found["BTCUSDT"].ts_event == last.ts_recv + 10 * SECOND
    lake.close()


def test_who_stopped_is_told_by_what_can_be_read_and_a_stream_of_damaged_files_starts_anew(tmp_path):
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session(SESSION)])
    cover(writer, "trade", "BTCUSDT", "ETHUSDT", "XRPUSDT")
    harmed = lake.part("trade", [trade(T0 - SECOND, "1", "1", seq=2, symbol="ETHUSDT")])
    with (writer.root / harmed.path).open("ab") as file:
        file.write(b"longer")
    gone = lake.part("trade", [trade(T0 - MINUTE, "1", "1", seq=1, symbol="XRPUSDT")])
    (writer.root / gone.path).unlink()
    row = written(writer, "trade", [event(11), event(12), event(9)], tail=b'{"symbol":3}\n')
    missing = written(writer, "trade", [event(13)], number=2)
    writer.recover(T0 + MINUTE)
    (writer.root / missing.path).unlink()
    assert (writer.root / row.path).is_file()
    found = writer.recover(T0 + MINUTE).last["binance", "linear", "trade"]
    assert {symbol: stop.seq for symbol, stop in found.items()} == {"BTCUSDT": 12}
    lake.close()


def test_a_flipped_bit_in_the_name_of_a_column_ends_no_start(tmp_path):
    """The size is right, pages and what the footer says too: no look at them tells it."""
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session(SESSION)])
    cover(writer, "trade", "BTCUSDT", "ETHUSDT")
    harmed = writer.root / lake.part("trade", [trade(T0 - SECOND, "1", "1", seq=2, symbol="ETHUSDT")]).path
    written(writer, "trade", [event(11)])
    good = harmed.read_bytes()
    at = good.find(b"ts_recv", good.find(b"ts_event"))
    while at >= 0:
        harmed.write_bytes(good[:at] + b"us" + good[at + 2 :])
        found = writer.recover(T0 + MINUTE).last["binance", "linear", "trade"]
        assert {symbol: stop.seq for symbol, stop in found.items()} == {"BTCUSDT": 11}
        at = good.find(b"ts_recv", at + 1)
    lake.close()


def test_what_history_brought_is_not_where_a_stream_stopped(tmp_path):
    """Neither in lines nor in a table: it may be newer than the last that streamed, which is what is missing."""
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session(SESSION), msgspec.structs.replace(session("h-1-1"), source=HISTORY)])
    cover(writer, "trade", "BTCUSDT", "ETHUSDT")
    lake.part("trade", [trade(T0, "1", "1", seq=3, symbol="ETHUSDT"),
                        trade(T0 + SECOND, "1", "1", seq=9, symbol="ETHUSDT", session="h-1-1")])  # fmt: skip
    written(writer, "trade", [event(1), event(2)])
    written(writer, "trade", [event(8, session="h-1-1")], number=2)
    found = writer.recover(T0 + MINUTE).last["binance", "linear", "trade"]
    assert {symbol: stop.seq for symbol, stop in found.items()} == {"BTCUSDT": 2, "ETHUSDT": 3}
    lake.close()


def test_of_books_in_tables_their_updates_tell_where_they_stopped_and_polls_where_those_did(tmp_path):
    """Not a snapshot that an update follows, nor a book that was asked for beside the streams."""
    lake = TestLake(tmp_path)
    writer = lake.writer
    writer.record_sessions([session("n-1-1"), msgspec.structs.replace(session("r-1-1"), source=REST)])
    cover(writer, "book_delta", "ETHUSDT")
    cover(writer, "book_snapshot", "ETHUSDT")
    level = [("1", "2")]
    both = [(n, symbol) for n in (5, 6) for symbol in ("BTCUSDT", "ETHUSDT")]
    rows = [book_rows.delta(T0 + n, n, level, level, symbol=symbol) for n, symbol in both]
    lake.part("book_delta", book_rows.table([*rows, book_rows.whole(T0 + 9, 9, level, level, symbol="ETHUSDT")]))
    updates = [book_rows.whole(T0 + n, n, level, level, symbol="ETHUSDT") for n in (3, 4)]
    held = tables.conform(
        book_rows.table(updates)
        .drop_columns(["first_id", "prev_id", "flags", "session", "checksum"])
        .append_column("session", pa.array(["r-1-1", "n-1-1"]))
        .append_column("depth", pa.array([1, 1])),
        "book_snapshot",
    )
    lake.part("book_snapshot", held)
    found = writer.recover(T0 + MINUTE)
    assert {(key[2], symbol): stop.seq for key, stops in found.last.items() for symbol, stop in stops.items()} == {
        ("book_delta", "ETHUSDT"): 6,
        ("book_snapshot", "ETHUSDT"): 3,
    }
    ((stream, stops),) = found.beside.items()
    assert {(stream[2], symbol): (stop.seq, stop.asked) for symbol, stop in stops.items()} == {
        ("book_snapshot", "ETHUSDT"): (4, True)
    }
    lake.close()


def test_a_line_that_cannot_be_read_hides_nothing_behind_it(writer):
    """Damaged in the middle of a segment: neither the last event nor the frames that became lines are lost sight of."""
    writer.record_sessions([session(SESSION)])
    frames = opened(writer, "frames")
    with FramesFile(writer.root, frames) as file:  # in the order of two threads
        lines = [FrameLine(ts_recv=T0 + n, conn=SESSION, dir="recv", n=n, frame="{}") for n in (1, 3, 2, 6, 5, 4)]
        file.append(encode_frame_lines(lines))
        file.sync()
    row = opened(writer, "trade")
    with SegmentFile(writer.root, row) as file:
        file.append(encode_lines([event(1)]) + b"{\xff\n" + encode_lines([event(3)]), 3, extent([event(1), event(3)]))
        file.sync()
    found = writer.recover(T0 + MINUTE)
    assert found.last["binance", "linear", "trade"]["BTCUSDT"].seq == 3
    assert [(one.first, one.last, one.ts_last) for one in found.unwritten] == [(4, 6, T0 + 6)]
