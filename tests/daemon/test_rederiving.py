"""Frames make the rows of the lake again; what was altered, lost or added is named with the frame it came from."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import zstandard

from collectors.config import CollectorsConfig
from collectors.replay import replay
from daemon.rederiving import Outcome, Rederiver, Wanted
from lake import layout, parquet
from lake.frames import read_frames
from lake.lasting import lasting
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.reproduced import ABSENT, CHANGED, INVENTED
from lake.rows import FRAMES, FileRow
from lake.writer import LakeWriter
from market.session import Gap, GapState
from runtime.workers import InlineExecutor
from tests.support import proven, written
from tests.support.proven import LATER, NOW
from transformer.config import TransformerConfig
from transformer.service import transform_once


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return proven.lake(tmp_path / "lake")


def reproduce(root: Path, scratch: Path, **limits: object) -> Outcome:
    wanted = Wanted(*proven.MARKET, **limits)  # type: ignore[arg-type]
    with Rederiver(root, wanted, CollectorsConfig(), LATER, scratch) as work:
        while work.step():
            pass
    return work.outcome


def said(outcome: Outcome, severity: str = "error") -> list[str]:
    return [f"{one.path}: {one.problem}" for one in outcome.findings if one.severity == severity]


def day(outcome: Outcome, kind: str, date: str):
    return next(one for one in outcome.days if (one.kind, one.date) == (kind, date))


def frames_files(root: Path) -> list[Path]:
    manifest = Manifest.read_only(root)
    try:
        return [root / row.path for row in manifest.segments(kind=FRAMES) if row.rows]
    finally:
        manifest.close()


def alter(path: Path, change: Callable[[str], str]) -> None:
    """Rewrite a frames file line by line."""
    lines = [msgspec.json.encode(one).decode() for one in read_frames(path)]
    path.write_bytes(zstandard.compress("".join(change(text) + "\n" for text in lines).encode()))


def rewrite(root: Path, kind: str, change: Callable[[pa.Table], pa.Table], level: str = "part") -> None:
    """Other rows in place of a live file's, in a manifest that knows of nothing else."""
    with LakeWriter.open(root, "box", NOW) as writer:
        row: FileRow = writer.manifest.files(kind, level=level)[0]  # type: ignore[arg-type]
        place = Placement(
            kind=kind, exchange=row.exchange, market_type=row.market_type, level=row.level, date=row.date,
            hour=row.hour, symbol=row.symbol, revision=row.revision + 1, lake_id=writer.lake_id,
        )  # fmt: skip
        made = publish(root, place, [change(parquet.read(root / row.path))], run="test", now=NOW)
        told = writer.manifest.certificates(row.path)
        new = {"path": made.path, "sha256": made.sha256, "content_digest": made.content_digest, "rows": made.rows}
        certificates = [msgspec.structs.replace(one, **new) for one in told]
        writer.publish(add=[made], remove=[row.path], certificates=certificates, now=NOW)


def test_frames_make_every_row_again_in_closed_days_and_in_hot_ones(lake: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    outcome = reproduce(lake, scratch)
    assert outcome.findings == []
    assert (outcome.frames, outcome.events, outcome.duplicates, outcome.rejected) == (79, 77, 1, 1)
    closed, hot = day(outcome, "trade", "2025-11-20"), day(outcome, "trade", "2025-11-21")
    assert (closed.rows, closed.derived, list(closed.files.values())) == (27, 27, [True])
    assert (hot.rows, hot.derived, hot.files) == (10, 10, {})
    assert (day(outcome, "quote", "2025-11-20").rows, day(outcome, "quote", "2025-11-21").rows) == (30, 10)
    assert list(scratch.iterdir()) == [], "nothing is left behind"


def test_it_can_be_limited(lake: Path, tmp_path: Path) -> None:
    outcome = reproduce(lake, tmp_path, dates=("2025-11-21",), kinds=("trade",))
    assert [(one.kind, one.date, one.rows) for one in outcome.days] == [("trade", "2025-11-21", 10)]
    assert outcome.findings == []


@pytest.mark.parametrize("date", ["2025-11-20", "2025-11-21"])
def test_an_altered_frame_is_named_by_what_was_made_of_it(lake: Path, tmp_path: Path, date: str) -> None:
    number, seq = (2, "1000") if date == "2025-11-20" else (3, "1041")
    change = '\\"t\\": ' + seq + ', \\"p\\": \\"100.10\\"'
    for path in frames_files(lake):
        if f"date={date}" in str(path):
            alter(path, lambda text: text.replace(change, change.replace("100.10", "100.11")))
    outcome = reproduce(lake, tmp_path)
    (text,) = said(outcome)
    session = "box-1-1" if date == "2025-11-20" else "box-2-1"
    number = 1 if date == "2025-11-20" else 3
    assert text.startswith(f"binance/linear/trade: {date}: {CHANGED}: BTCUSDT {date}T")
    assert f"(id {seq}, {session} frame {number} item 0)" in text
    if date == "2025-11-20":
        assert list(day(outcome, "trade", date).files.values()) == [False]


def test_a_frames_file_that_is_lost_is_named_with_the_rows_that_nothing_proves(lake: Path, tmp_path: Path) -> None:
    gone = next(path for path in frames_files(lake) if "date=2025-11-21" in str(path))
    gone.unlink()
    texts = said(reproduce(lake, tmp_path))
    assert f"{gone.relative_to(lake).as_posix()}: is missing" in texts
    assert any(f"trade: 2025-11-21: {INVENTED}: BTCUSDT" in text and "box-2-1 frame 1 item 0" in text for text in texts)


def test_frames_that_are_missing_in_the_middle_of_a_session_are_named(lake: Path, tmp_path: Path) -> None:
    path = next(path for path in frames_files(lake) if "date=2025-11-21" in str(path))
    lines = [line for line in read_frames(path) if not 5 <= line.n <= 6 or line.dir != "recv"]
    path.write_bytes(zstandard.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in lines)))
    texts = said(reproduce(lake, tmp_path))
    assert "binance/linear: frames 5 to 6 of box-2-1 are in no file" in texts
    assert any(INVENTED in text and "(id 1042, box-2-1 frame 5 item 0)" in text for text in texts)


def test_a_row_that_frames_make_and_the_lake_lacks_is_named(lake: Path, tmp_path: Path) -> None:
    rewrite(lake, "trade", lambda table: table.filter(pc.not_equal(table.column("seq"), 1045)))
    (text,) = said(reproduce(lake, tmp_path))
    assert f"2025-11-21: {ABSENT}: BTCUSDT" in text
    assert "(id 1045, box-2-1 frame 11 item 0)" in text


def test_a_row_that_a_gap_says_is_lost_is_counted_and_no_difference(lake: Path, tmp_path: Path) -> None:
    rewrite(lake, "trade", lambda table: table.filter(pc.not_equal(table.column("seq"), 1045)))
    with LakeWriter.open(lake, "box", NOW) as writer:
        gap = writer.manifest.gaps(kind="trade")[0]
        lost = {"gap_id": "crash", "id_from": 1045, "id_to": 1046, "cause": "crash"}
        writer.record_gaps([msgspec.structs.replace(gap, **lost)])
    outcome = reproduce(lake, tmp_path)
    assert said(outcome) == []
    found = day(outcome, "trade", "2025-11-21")
    assert (found.rows, found.derived, found.lost, found.different) == (9, 10, {"crash": 1}, 0)


def test_a_row_that_no_frame_makes_is_named_in_a_certified_day_too(lake: Path, tmp_path: Path) -> None:
    def forge(table: pa.Table) -> pa.Table:
        columns = {name: table.column(name) for name in table.column_names}
        columns["price"] = pc.if_else(pc.equal(table.column("seq"), 1005), 1.0, table.column("price"))
        return pa.table(columns, schema=table.schema)

    rewrite(lake, "trade", forge, "day")
    outcome = reproduce(lake, tmp_path)
    (text,) = said(outcome)
    assert f"2025-11-20: {CHANGED}: BTCUSDT" in text
    assert "id 1005, " in text
    assert list(day(outcome, "trade", "2025-11-20").files.values()) == [False]


def candles(lake: Path, count: int = 5) -> None:
    """A lake of minute candles of one symbol, not compacted."""
    lines, minute = [written.opened()], proven.MINUTE
    for n in range(count):
        end = written.T0 + (n + 1) * minute
        told = {"t": (end - minute) // 1000, "T": end // 1000 - 1, "s": "BTCUSDT", "i": "1m", "o": "1", "c": "1",
                "h": "1", "l": "1", "v": "5", "n": 3, "x": True, "q": "5", "V": "1", "Q": "1"}  # fmt: skip
        payload = {"e": "kline", "E": end // 1000, "s": "BTCUSDT", "k": told}
        lines.append(written.line(n + 1, written.combined("btcusdt@kline_1m", payload), at=end))
    source = written.write(lake.parent / "candles.jsonl", lines)
    with LakeWriter.open(lake, "box", NOW) as writer:
        replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())


@pytest.mark.parametrize("state", ["repaired", "open"])
def test_a_candle_that_a_crash_took_and_rest_brought_back_is_no_difference(tmp_path: Path, state: str) -> None:
    """It has another source than the one that frames make, and so another identity, and need not say as much."""
    root = tmp_path / "lake"
    candles(root)

    def asked_for(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        later = {"ts_recv": rows[2]["ts_recv"] + dt.timedelta(hours=5)}
        rows[2] |= {"source": "rest", "session": "box-9-1", "trade_count": None, **later}
        return pa.Table.from_pylist(rows, schema=table.schema)

    rewrite(root, "kline", asked_for)
    (text,) = said(reproduce(root, tmp_path))
    assert f"kline: 2025-11-20: {ABSENT}: BTCUSDT" in text
    at = written.T0 + 3 * proven.MINUTE
    with LakeWriter.open(root, "box", NOW) as writer:
        gap = Gap(
            "crash", *proven.MARKET, "kline", "BTCUSDT", at - proven.MINUTE, at, None, None, "crash", "interval",
            state, "box-1-1", NOW, NOW if state == "repaired" else None, "rest" if state == "repaired" else None,
        )  # fmt: skip
        writer.record_gaps([gap])
    outcome = reproduce(root, tmp_path)
    assert said(outcome) == []
    found = day(outcome, "kline", "2025-11-20")
    assert (found.rows, found.derived, found.lost, found.different) == (5, 5, {"crash": 1}, 0)


def depth(n: int, first: int, last: int, conn: str) -> str:
    """Frame n of a connection, an update of a book that follows the one before it."""
    at = written.T0 + last * proven.SECOND
    payload = {"e": "depthUpdate", "E": at // 1000, "T": at // 1000, "s": "BTCUSDT", "U": first, "u": last,
               "pu": first - 1, "b": [["1", str(last)]], "a": []}  # fmt: skip
    return written.line(n, written.combined("btcusdt@depth@100ms", payload), at=at, conn=conn)


def whole(n: int, last: int, conn: str) -> str:
    """Frame n of a connection, the whole of its book."""
    at = written.T0 + last * proven.SECOND + n
    body = {"lastUpdateId": last, "E": at // 1000, "T": at // 1000, "bids": [["1", "2"]], "asks": [["2", "1"]]}
    asked = {"dir": "http", "tag": "depth 1000 btcusdt@depth@100ms", "method": "GET", "status": 200, "headers": {}}
    return written.line(n, json.dumps(body), at=at, conn=conn, url="https://x/fapi/v1/depth", **asked)


@pytest.mark.parametrize(
    "newest, last, first, end, state, found",
    [
        (16, 16, 13, (16, 0), "open", []),
        (16, 15, 13, (16, 0), "open", [ABSENT]),
        (16, 15, 13, (15, 1), "open", []),
        (16, 15, 13, (15, 0), "open", [ABSENT]),
        (15, 15, 15, (15, 0), "empty", []),
    ],
)
def test_the_update_whose_number_a_whole_book_has_is_lost_with_the_gap_that_ends_there(
    tmp_path: Path, newest: int, last: int, first: int, end: tuple[int, int], state: GapState, found: list[str]
) -> None:
    """A crash took lines whose frames are there; the book went on with a whole one, and nothing had moved meanwhile.
    Where one update was lost, and the whole has its number, the gap is one of nothing. Where the whole's number is one
    below the update of its time (Coinbase), the gap has that time.
    """
    root, url = tmp_path / "lake", "wss://fstream.binance.com/stream"
    lines = [
        written.line(0, dir="open", url=url, conn="box-1-1"), depth(1, 11, 12, "box-1-1"), whole(2, 12, "box-1-1"),
        depth(3, 13, 14, "box-1-1"), depth(4, 15, newest, "box-1-1"),
        written.line(0, dir="open", url=url, conn="box-2-1", at=written.T0 + 16 * proven.SECOND + 1),
        whole(1, last, "box-2-1"), depth(2, newest + 1, 18, "box-2-1"),
    ]  # fmt: skip
    source = written.write(tmp_path / "book.jsonl", lines)
    with LakeWriter.open(root, "box", NOW) as writer:
        replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        at = written.T0 + 14 * proven.SECOND
        gap = Gap("crash", *proven.MARKET, "book_delta", "BTCUSDT", at, at + 2 * proven.SECOND + end[1], first, end[0],
                  "crash", "ids", state, "box-1-1", NOW, None if state == "open" else NOW)  # fmt: skip
        writer.record_gaps([gap])
    kept = pa.array([12, 18] if first == 13 else [12, 14, 18])
    rewrite(root, "book_delta", lambda table: table.filter(
        pc.or_(pc.is_in(table.column("last_id"), kept), pc.equal(table.column("source").cast(pa.string()), "rest"))
    ))  # fmt: skip
    outcome = reproduce(root, tmp_path, kinds=("book_delta",))
    assert [next(what for what in (ABSENT, INVENTED, CHANGED) if what in text) for text in said(outcome)] == found
    assert day(outcome, "book_delta", "2025-11-20").lost == {"crash": 1 if first == 15 else 2 - len(found)}


def test_rows_of_segments_that_wait_are_no_difference(lake: Path, tmp_path: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:
        hot = writer.manifest.files("trade", level="part")
        parents = {path for row in hot for path in writer.manifest.file(row.path).parents}
        writer.publish(remove=[row.path for row in hot], segments=dict.fromkeys(parents, "sealed"), now=NOW)
    outcome = reproduce(lake, tmp_path)
    assert said(outcome) == []


def test_a_day_alone_is_made_again_from_sessions_that_began_before_it(tmp_path: Path) -> None:
    """The later day's frames know neither the instruments that were stored nor how their sessions began."""
    root = proven.midnight_lake(tmp_path / "lake")
    whole = reproduce(root, tmp_path)
    assert whole.findings == []
    assert {(one.kind, one.date): one.rows for one in whole.days if one.kind == "contract"} == {
        ("contract", "2025-11-20"): 1
    }
    alone = reproduce(root, tmp_path, dates=("2025-11-21",))
    assert alone.findings == []
    assert alone.files < whole.files
    assert {one.kind: (one.rows, one.derived) for one in alone.days} == {"trade": (30, 30), "quote": (30, 30)}
    assert [list(one.files.values()) for one in alone.days] == [[True], [True]]


def marks() -> list[str]:
    """A connection to Bybit over midnight: when funding is next is said once, a quarter of an hour before."""
    address = "wss://stream.bybit.com/v5/public/linear"
    lines = [written.line(0, at=proven.BEGIN, dir="open", url=address)]
    every = {
        "indexPrice": "2",
        "fundingRate": "-0.0001",
        "nextFundingTime": str((proven.MIDNIGHT + proven.HOUR) // 1000),
    }
    for n, at in enumerate(range(proven.BEGIN, proven.END, 20 * proven.SECOND), 1):
        data = {"symbol": "BTCUSDT", "markPrice": f"28560.{n}"} | (every if n == 1 else {})
        frame = {"topic": "tickers.BTCUSDT", "type": "delta" if n > 1 else "snapshot", "data": data, "ts": at // 1000}
        lines.append(written.line(n, json.dumps(frame, separators=(",", ":")), at=at))
    return [*lines, written.line(n, at=proven.END, dir="close", reason="stopped")]


def test_what_a_ticker_said_before_the_first_frame_that_is_read_is_recalled(tmp_path: Path) -> None:
    market, root = ("bybit", "linear"), tmp_path / "lake"
    source = written.write(tmp_path / "all.jsonl", marks())
    with LakeWriter.open(root, "box", LATER) as writer:
        replay([source], *market, writer, CollectorsConfig(node="box"), LATER)
        transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
        proven.compact(writer, LATER)
    for dates in (("2025-11-21",), None):
        with Rederiver(root, Wanted(*market, dates=dates), CollectorsConfig(), LATER, tmp_path) as work:
            begun = work._source.begin
            while work.step():
                pass
        assert begun > proven.BEGIN or dates is None, "the whole ticker is not among what is read"
        assert said(work.outcome) == []
        assert {one.date: (one.rows, one.derived) for one in work.outcome.days}["2025-11-21"] == (15, 15)


def test_what_was_stored_before_a_time_is_known_as_it_was_then(tmp_path: Path) -> None:
    root = proven.midnight_lake(tmp_path / "lake")
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            before = lasting(root, snapshot, *proven.MARKET, ("quote",), before=proven.BEGIN)
            after = lasting(root, snapshot, *proven.MARKET, ("quote",), before=proven.MIDNIGHT)
    finally:
        manifest.close()
    assert (before.contracts, before.times) == ((), {"quote": {}})
    assert [one.symbol for one in after.contracts] == ["BTCUSDT"]
    assert after.times["quote"]["BTCUSDT"] == proven.MIDNIGHT - 10 * proven.SECOND


def test_rows_whose_frames_are_gone_are_not_provable_and_that_is_said(tmp_path: Path) -> None:
    root = proven.midnight_lake(tmp_path / "lake")
    with LakeWriter.open(root, "box", LATER) as writer:
        files = [row for row in writer.manifest.segments(kind=FRAMES) if row.rows]
        gone = [row.path for row in files if row.period_start < proven.MIDNIGHT - 13 * proven.MINUTE]
        for path in gone:
            (root / path).unlink()
            (root / layout.meta_path(path)).unlink()
        writer.publish(segments=dict.fromkeys(gone, "deleted"), now=LATER)
    outcome = reproduce(root, tmp_path)
    assert said(outcome) == []
    assert "are gone" in said(outcome, "warning")[0]
    found = day(outcome, "trade", "2025-11-20")
    assert 0 < found.unreachable < found.rows == 96
    assert list(found.files.values()) == [None]
    assert list(day(outcome, "trade", "2025-11-21").files.values()) == [True]
    instruments = day(outcome, "contract", "2025-11-20")
    assert (instruments.unreachable, list(instruments.files.values())) == (1, [None])


def test_a_lake_without_frames_proves_nothing_and_says_so_by_its_counts(lake: Path, tmp_path: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:
        rows = [row for row in writer.manifest.segments(kind=FRAMES) if row.rows]
        writer.publish(segments={row.path: "deleted" for row in rows}, now=NOW)
    shutil.rmtree(lake / "frames")
    outcome = reproduce(lake, tmp_path)
    assert said(outcome) == []
    assert outcome.files == 0
    assert json.loads(msgspec.json.encode(outcome))["days"] == []


def test_frames_that_were_received_while_the_clock_was_ahead_are_read_in_their_turn(tmp_path: Path) -> None:
    """A file in the middle, written while the clock was minutes ahead."""
    root, ahead = proven.midnight_lake(tmp_path / "lake"), 4 * proven.MINUTE
    path = frames_files(root)[2]
    alter(path, lambda text: re.sub(r'"ts_recv":(\d+)', lambda found: f'"ts_recv":{int(found[1]) + ahead}', text))
    with LakeWriter.open(root, "box", LATER) as writer:
        (row,) = (row for row in writer.manifest.segments(kind=FRAMES) if root / row.path == path)
        times = ("period_start", "period_end", "recv_min", "recv_max")
        writer.record(segments=[msgspec.structs.replace(row, **{name: getattr(row, name) + ahead for name in times})])
        assert writer.manifest.segments(kind=FRAMES)[2].path != row.path, "it begins behind the next ones"
    assert said(reproduce(root, tmp_path)) == []


@pytest.mark.parametrize("cause, seconds, lost", [("crash", 59, 1), ("crash", 62, 0), ("disconnect", 59, 0)])
def test_a_whole_book_that_was_asked_for_just_before_a_crash_is_lost_with_it(
    tmp_path: Path, cause: str, seconds: int, lost: int
) -> None:
    """Its frame was kept and its line was not: what a session asks for beside its streams has no gap of its own."""
    root, url = tmp_path / "lake", "wss://fstream.binance.com/stream"
    lines = [
        written.line(0, dir="open", url=url, conn="box-1-1"), depth(1, 11, 12, "box-1-1"), whole(2, 12, "box-1-1"),
        depth(3, 13, 14, "box-1-1"), depth(4, 15, 16, "box-1-1"),
        written.line(0, dir="open", url=url, conn="box-2-1", at=written.T0 + 16 * proven.SECOND + 1),
        whole(1, 16, "box-2-1"), depth(2, 17, 18, "box-2-1"),
    ]  # fmt: skip
    source = written.write(tmp_path / "book.jsonl", lines)
    with LakeWriter.open(root, "box", NOW) as writer:
        replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        (row,) = writer.manifest.sessions(session="box-2-1")
        end = written.T0 + (16 + seconds) * proven.SECOND
        writer.record_sessions([msgspec.structs.replace(row, close_cause=cause, closed_at=end)])
    rewrite(root, "book_snapshot", lambda table: table.filter(pc.equal(table.column("last_id"), 12)))
    outcome = reproduce(root, tmp_path, kinds=("book_snapshot",))
    assert len(said(outcome)) == 1 - lost
    found = day(outcome, "book_snapshot", "2025-11-20")
    assert (found.lost, found.different) == ({"crash": 1} if lost else {}, 1 - lost)
