"""The ledger law over a whole lake: it holds for a good one, and each kind of damage is named for what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from collectors.config import CollectorsConfig
from collectors.replay import replay
from lake import law_rows, parquet
from lake.errors import CommitConflict
from lake.law_ids import IdCount, StreamIds
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.rows import CertificateRow, FileRow, SegmentRow
from lake.verify import Verification, verify_lake
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import MINUTE, SECOND
from tests.support import book_rows, market_rows, proven, written
from tests.support.lakes import TestLake
from tests.support.proven import LATER, NOW
from tests.support.written import MS, T0, combined, line


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return proven.lake(tmp_path / "lake")


def verify(root: Path) -> Verification:
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            return verify_lake(root, snapshot, lambda *_: None)
    finally:
        manifest.close()


def said(found: Verification) -> list[str]:
    return [f"{one.path}: {one.problem}" for one in found.findings if one.severity == "error"]


def law(found: Verification, kind: str = "trade"):
    return next(one for one in found.streams if one.kind == kind)


def without(root: Path, row: FileRow, keep: Callable[[pa.Table], pa.ChunkedArray]) -> FileRow:
    """The same file without some rows, published and committed as if it had always been so, certificate and all."""
    table = parquet.read(root / row.path)
    with LakeWriter.open(root, "box", NOW) as writer:
        place = Placement(
            kind=row.kind, exchange=row.exchange, market_type=row.market_type, level=row.level, date=row.date,
            hour=row.hour, symbol=row.symbol, revision=row.revision + 1, lake_id=writer.lake_id,
        )  # fmt: skip
        made = publish(root, place, [table.filter(keep(table))], run="test", now=NOW)
        certificates = []
        for old in writer.manifest.certificates(row.path):
            changed = {"path": made.path, "sha256": made.sha256, "rows": made.rows, "revision": made.revision}
            changed["content_digest"] = made.content_digest
            certificates.append(msgspec.structs.replace(old, **changed))
        writer.publish(add=[made], remove=[row.path], certificates=certificates, now=NOW)
    return made


def files(root: Path, kind: str, level: str) -> list[FileRow]:
    manifest = Manifest.read_only(root)
    try:
        return manifest.files(kind, level=level)  # type: ignore[arg-type]
    finally:
        manifest.close()


def execute(root: Path, statement: str, *values: object) -> int:
    with sqlite3.connect(root / "manifest.db") as held:
        changed = held.execute(statement, values).rowcount
    held.close()
    return changed


def drop_raw(root: Path, kind: str = "trade") -> None:
    """Let go of raw as retention does."""
    with LakeWriter.open(root, "box", NOW) as writer:
        rows = [row for row in writer.manifest.segments(kind=kind) if row.rows]
        for row in rows:
            for name in (row.path, row.path + ".meta.json"):
                (root / name).unlink(missing_ok=True)
        writer.publish(segments={row.path: "deleted" for row in rows}, now=NOW)


def test_of_a_whole_lake_every_line_and_every_id_is_accounted_for(lake: Path) -> None:
    found = verify(lake)
    assert said(found) == []
    trades = law(found)
    assert (trades.lines, trades.rows, trades.waiting, trades.lost) == (37, 37, 0, 0)
    ids = trades.ids
    assert ids is not None
    assert (ids.numbered, ids.stored, ids.missing, ids.uncollected, ids.unexplained) == (50, 37, 3, 10, 0)
    assert ids.numbered == ids.stored + ids.void + ids.missing + ids.uncollected
    assert (law(found, "quote").rows, law(found, "quote").ids) == (40, None)
    assert all(one.holds for one in found.streams)
    market = found.markets[0]
    assert (market.sessions, market.untold, market.rejected) == (2, 0, 1)
    assert market.events == market.lines == 77


def test_it_holds_before_anything_is_transformed_and_without_raw(tmp_path: Path, lake: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:
        hot = writer.manifest.files("trade", level="part")
        parents = {path for row in hot for path in writer.manifest.file(row.path).parents}
        writer.publish(remove=[row.path for row in hot], segments=dict.fromkeys(parents, "sealed"), now=NOW)
    found = verify(lake)
    assert said(found) == []
    assert law(found).waiting == 10
    assert law(found).ids.stored == 37
    raw_gone = proven.lake(tmp_path / "second")
    drop_raw(raw_gone)
    found = verify(raw_gone)
    assert said(found) == []
    assert (law(found).lines, law(found).rows) == (37, 37)


def test_of_a_day_of_which_some_raw_is_gone_the_rest_is_proven(tmp_path: Path) -> None:
    lake = proven.midnight_lake(tmp_path / "lake")
    with LakeWriter.open(lake, "box", LATER) as writer:
        rows = [row for row in writer.manifest.segments(kind="trade") if row.rows and "date=2025-11-20" in row.path]
        (lake / rows[0].path).unlink()
        writer.publish(segments={rows[0].path: "deleted"}, now=LATER)
    assert len(rows) > 1
    assert said(verify(lake)) == []
    day = next(row for row in files(lake, "trade", "day") if row.date == "2025-11-20")
    table = parquet.read(lake / day.path)
    last = table.column("seq")[table.num_rows - 1].as_py()
    without(lake, day, lambda table: pc.not_equal(table.column("seq"), last))
    assert any(f"BTCUSDT: 1 (id {last}) of it are in no table" in text for text in said(verify(lake)))


@pytest.mark.parametrize("level", ["day", "part"])
def test_a_row_that_is_gone_is_named_by_its_segment_symbol_and_id(lake: Path, level: str) -> None:
    gone = 1005 if level == "day" else 1045
    without(lake, files(lake, "trade", level)[0], lambda table: pc.not_equal(table.column("seq"), gone))
    found = verify(lake)
    lines = [text for text in said(found) if "are in no table" in text]
    assert len(lines) == 1
    assert lines[0].startswith("raw/exchange=binance/market_type=linear/data_type=trade/")
    assert f"BTCUSDT: 1 (id {gone}) of it are in no table" in lines[0]
    assert any(f"1 ids are neither stored nor in a gap row: {gone} (" in text for text in said(found))
    assert (law(found).lost, law(found).holds, law(found, "quote").holds) == (1, False, True)


def test_a_row_that_is_gone_with_its_raw_is_named_by_the_id_law_and_missed_in_the_count(lake: Path) -> None:
    without(lake, files(lake, "trade", "part")[0], lambda table: pc.not_equal(table.column("seq"), 1045))
    drop_raw(lake)
    texts = said(verify(lake))
    assert any("neither stored nor in a gap row: 1045 (" in text for text in texts)
    assert any("37 lines were sealed" in text and "1 lines are in no table" in text for text in texts)


def test_a_row_without_ids_that_is_gone_is_named_by_its_frame(lake: Path) -> None:
    without(lake, files(lake, "quote", "part")[0], lambda table: pc.not_equal(table.column("frame_no"), 6))
    texts = said(verify(lake))
    assert any("BTCUSDT: 1 (id 62) of it are in no table" in text for text in texts)


def test_of_rows_without_an_id_none_is_a_copy_of_another(tmp_path: Path) -> None:
    """Three quotes, of which the venue numbers none, and two rows: one is lost."""
    held = TestLake(tmp_path)
    told = [market_rows.quote(market_rows.T0 + n, "99", "100", None, frame_no=n) for n in range(3)]
    part = held.part("quote", told[:2])
    held.close()
    names = ("symbol", "ts_event", "ts_recv", "session", "frame_no", "item", "source", "update_id")
    (tmp_path / "lines.jsonl").write_bytes(
        b"".join(msgspec.json.encode({n: row[n] for n in names}) + b"\n" for row in told)
    )
    segment = SegmentRow(
        path="lines.jsonl", exchange="binance", market_type="linear", kind="quote", state="transformed", rows=3,
        period_start=market_rows.T0, event_min=market_rows.T0, event_max=market_rows.T0 + 2,
    )  # fmt: skip
    stored = law_rows.Tally()
    for frame in law_rows.rows(tmp_path / part.path, "quote"):
        stored.add(frame)
    judged = law_rows.RowLaw(tmp_path, "quote", [segment], [part], {}, set())
    judged.judge(stored)
    assert [one.problem for one in judged.findings] == ["BTCUSDT: 1 (n-1-1 frame 2 item 0) of it are in no table"]


def test_an_update_of_a_book_that_is_gone_is_no_copy_of_the_whole_that_has_its_id(tmp_path: Path) -> None:
    held = TestLake(tmp_path)
    at = market_rows.T0
    told = [book_rows.whole(at, 7, [("1", "2")], [], source="ws", frame_no=1), book_rows.delta(at, 7, [("1", "2")])]
    part = held.part("book_delta", book_rows.table(told[:1]))
    held.close()
    lines = [
        {"symbol": "BTCUSDT", "ts_event": at, "ts_recv": at, "session": "n-1-1", "frame_no": row["frame_no"],
         "item": 0, "source": "ws", "last_id": 7, "flags": [row["flags"]] if row["flags"] else []}
        for row in (*told, told[0] | {"frame_no": 9})
    ]  # fmt: skip
    (tmp_path / "lines.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    segment = SegmentRow(
        path="lines.jsonl", exchange="binance", market_type="linear", kind="book_delta", state="transformed", rows=3,
        period_start=at, event_min=at, event_max=at,
    )  # fmt: skip
    stored = law_rows.Tally()
    for frame in law_rows.rows(tmp_path / part.path, "book_delta"):
        stored.add(frame)
    judged = law_rows.RowLaw(tmp_path, "book_delta", [segment], [part], {}, set())
    judged.judge(stored)
    assert [one.problem for one in judged.findings] == ["BTCUSDT: 1 (id 7) of it are in no table"]


def test_a_gap_row_that_is_gone_is_named_by_the_ledger_and_by_the_ids_it_had(lake: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:  # what is told last may not have reached the manifest
        later = msgspec.structs.replace(writer.manifest.gaps()[0], gap_id="later", symbol="X", detected_at=NOW + 1)
        writer.record_gaps([later])
    assert execute(lake, "DELETE FROM gaps WHERE kind = 'trade' AND gap_id <> 'later' AND id_from = 1010") == 1
    texts = said(verify(lake))
    assert any("BTCUSDT: the ledger tells of a gap (" in text and "ids 1010..1012" in text for text in texts)
    assert any("3 ids are neither stored nor in a gap row: 1010..1012 (" in text for text in texts)


def test_a_gap_row_without_ids_that_is_gone_is_named_by_the_ledger_alone(lake: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:
        gap = msgspec.structs.replace(
            writer.manifest.gaps(kind="trade")[0],
            gap_id="silence",
            kind="quote",
            id_from=None,
            id_to=None,
            detected_at=NOW,
        )
        writer.record_gaps([gap])
        writer.record_gaps([msgspec.structs.replace(gap, gap_id="later", detected_at=NOW + 1)])
    assert said(verify(lake)) == []
    execute(lake, "DELETE FROM gaps WHERE gap_id = 'silence'")
    texts = said(verify(lake))
    assert len(texts) == 1
    assert texts[0].startswith("binance/linear/quote: BTCUSDT: the ledger tells of a gap")


ALTERED = {
    "UPDATE certified SET missing = 0 WHERE kind = 'trade'": "its certificate is not as the ledger tells",
    "UPDATE certified SET reproduced = 1 WHERE kind = 'quote'": "its certificate is not as the ledger tells",
    "UPDATE gaps SET state = 'void'": "BTCUSDT: the manifest has a gap (void, jump, ",
    "UPDATE gaps SET ts_to = ts_to + 1000000": "ids 1010..1012), the ledger tells of another",
    "UPDATE coverage SET ts_to = ts_to - 1000000 WHERE kind = 'quote'": "28.000 s of its day are covered, its",
    "DELETE FROM coverage WHERE kind = 'trade'": "0.000 s of its day are covered, its certificate says 29.000",
    "UPDATE files SET ts_max = ts_max - 9 WHERE level = 'part' AND kind = 'trade'": "readers may not find its rows",
    "UPDATE files SET symbol = 'ETHUSDT' WHERE level = 'day' AND kind = 'quote'": "symbol BTCUSDT, not ETHUSDT as the",
}


@pytest.mark.parametrize("change", ALTERED)
def test_what_the_manifest_says_otherwise_than_the_ledger_or_a_footer_is_named(lake: Path, change: str) -> None:
    assert execute(lake, change)
    assert any(ALTERED[change] in text for text in said(verify(lake)))


def test_of_what_was_told_several_times_each_is_true_and_a_ledger_that_lost_lines_accuses_nobody(lake: Path) -> None:
    with LakeWriter.open(lake, "box", NOW) as writer:
        (gap,) = writer.manifest.gaps(kind="trade")
        writer.record_gaps([msgspec.structs.replace(gap, state="unrepairable", closed_at=NOW)])
        writer.record_gaps([gap])  # an older report, which opens nothing again
        day = writer.manifest.files("trade", level="day")[0]
        row = writer.manifest.certificates(day.path)[-1]
        anew = msgspec.structs.replace(row, open_gaps=0, reproduced=True, issued_at=NOW)
        writer.publish(certificates=[anew], now=NOW)
        lost = msgspec.structs.replace(anew, rows=1)
        with pytest.raises(CommitConflict):  # taken back
            writer.publish(certificates=[lost], gaps=[msgspec.structs.replace(gap, ts_to=1)], remove=["none"], now=NOW)
    assert said(verify(lake)) == []
    execute(lake, "UPDATE certified SET rows = 1 WHERE kind = 'trade'")
    execute(lake, "UPDATE gaps SET ts_to = 1")
    assert len([text for text in said(verify(lake)) if "the ledger tells" in text]) == 2
    ledger = next((lake / "ledger").iterdir())
    ledger.write_bytes(ledger.read_bytes() + b"rubbish\n")
    assert not [text for text in said(verify(lake)) if "the ledger tells" in text]


def test_a_day_that_is_live_twice_is_named_with_the_rows_it_doubles(lake: Path) -> None:
    day = files(lake, "trade", "day")[0]
    table = parquet.read(lake / day.path)
    execute(lake, "DROP INDEX files_one_live_day")  # the manifest itself refuses it
    with LakeWriter.open(lake, "box", NOW) as writer:
        place = Placement(
            kind="trade", exchange="binance", market_type="linear", level="day", date=day.date, symbol="BTCUSDT",
            revision=1, lake_id=writer.lake_id,
        )  # fmt: skip
        made = publish(lake, place, [table.slice(0, 2)], run="test", now=NOW)
        old = writer.manifest.certificates(day.path)[-1]
        told = {"path": made.path, "sha256": made.sha256, "content_digest": made.content_digest, "revision": 1}
        row: CertificateRow = msgspec.structs.replace(old, rows=2, first_id=1000, last_id=1001, missing=0, **told)
        writer.publish(add=[made], certificates=[row], now=NOW)
    texts = said(verify(lake))
    assert any("BTCUSDT: 2 (ids 1000, 1001) of it are stored twice" in text for text in texts)


def test_a_row_that_nobody_received_is_named(lake: Path) -> None:
    part = files(lake, "trade", "part")[0]
    table = parquet.read(lake / part.path)
    with LakeWriter.open(lake, "box", NOW) as writer:
        place = Placement(
            kind="trade", exchange="binance", market_type="linear", level="part", date=part.date, hour=part.hour,
            lake_id=writer.lake_id,
        )  # fmt: skip
        columns = {name: table.column(name) for name in table.column_names}
        columns["frame_no"] = pc.add(table.column("frame_no"), 1000)
        forged = pa.table(columns, schema=table.schema)
        made = publish(lake, place, [forged.slice(3, 1)], run="test", now=NOW)
        writer.publish(add=[made], now=NOW)
    texts = said(verify(lake))
    assert len(texts) == 1
    assert texts[0].startswith(made.path)
    assert "1 (id 1043) of it are rows that no line in raw/ tells" in texts[0]


STREAM = ("binance", "linear", "trade")


def judge(ids: list[int], gaps: list[Gap], covered: list[tuple[int, int]]) -> tuple[IdCount, list[str]]:
    """The law over one symbol whose id n came at time n."""
    law = StreamIds()
    law.add(pl.DataFrame({"symbol": ["X"] * len(ids), "ts_event": ids, "seq": ids}), "seq")
    coverage = [Coverage(*STREAM, "X", "s", start, end) for start, end in covered]
    count, findings = law.judge(STREAM, gaps, coverage)
    return count, [one.problem for one in findings]


def gap(start: int, end: int, state: str = "open", cause: str = "jump") -> Gap:
    return Gap(f"{start}", *STREAM, "X", start, end, start, end, cause, "ids", state, None, 0)  # type: ignore[arg-type]


def test_ids_that_passed_while_nobody_asked_are_no_loss_and_while_covered_they_are() -> None:
    ids = [*range(10, 20), *range(30, 40)]
    count, findings = judge(ids, [], [(10, 20), (30, 40)])
    assert (count.uncollected, count.unexplained, findings) == (10, 0, [])
    count, findings = judge(ids, [], [(10, 40)])
    assert (count.uncollected, count.unexplained) == (0, 10)
    assert findings[0].startswith("X: 10 ids are neither stored nor in a gap row: 20..29 (")


def test_gap_rows_count_by_their_state_and_only_where_nothing_is_stored() -> None:
    ids = [*range(10, 20), *range(30, 40), *range(45, 50)]
    gaps = [gap(18, 25), gap(25, 28, "void"), gap(28, 30, "unrepairable"), gap(40, 45, "repaired")]
    count, findings = judge(ids, gaps, [(10, 50)])
    assert (count.numbered, count.stored, count.missing, count.void, count.unexplained) == (40, 25, 7, 3, 5)
    assert len(findings) == 1
    assert "40..44" in findings[0], "a repair whose ids are not there is none"


def test_between_two_numberings_of_a_venue_there_are_no_ids() -> None:
    anew = msgspec.structs.replace(gap(0, 0, cause="id_reset"), id_from=None, id_to=None)
    count, findings = judge([*range(1, 50), *range(9_000_000, 9_000_050)], [anew], [(0, 10_000_000)])
    assert (count.numbered, count.stored, findings) == (99, 99, [])


def test_late_copies_of_rows_that_are_there_are_counted_wherever_they_end(lake: Path) -> None:
    """Rows of a closed day that come once more change no daily file, and are accounted for all the same."""
    with LakeWriter.open(lake, "box", NOW) as writer:
        row = next(r for r in writer.manifest.segments(kind="trade", state="transformed") if r.rows)
        again = row.path.replace("-000001", "-000077")
        (lake / again).write_bytes((lake / row.path).read_bytes())
        writer.record(segments=[msgspec.structs.replace(row, path=again, state="sealed", recorded_at=NOW)])
        proven.transform_once(writer, proven.InlineExecutor(), NOW, proven.TransformerConfig())
        proven.compact(writer, NOW + 2 * proven.HOUR)
        assert writer.manifest.files("trade", level="part", date_to="2025-11-20") == []
    found = verify(lake)
    assert said(found) == []
    assert (law(found).lines, law(found).rows, law(found).duplicates) == (37 + row.rows, 37, row.rows)


def test_a_candle_that_a_venue_tells_again_after_a_restart_is_a_copy_of_its_row(tmp_path: Path) -> None:
    """Lines leave out what has its default: the revision of a candle that never changed."""
    candle = {
        "t": T0 // MS, "T": T0 // MS + 59_999, "s": "BTCUSDT", "i": "1m", "o": "100", "h": "102", "l": "99", "c": "101",
        "v": "5", "n": 3, "x": True, "q": "500", "V": "2", "Q": "200",
    }  # fmt: skip
    told = combined("btcusdt@kline_1m", {"e": "kline", "E": T0 // MS + 60_000, "s": "BTCUSDT", "k": candle})
    root = tmp_path / "lake"
    with LakeWriter.open(root, "box", NOW) as writer:
        for conn, late in (("box-1-1", MINUTE), ("box-2-1", 20 * MINUTE)):
            at = T0 + late
            lines = [
                line(0, at=at, dir="open", url="wss://fstream.binance.com/stream", conn=conn),
                line(1, told, at=at + SECOND, conn=conn),
                line(1, at=at + 2 * SECOND, dir="close", reason="stopped", conn=conn),
            ]
            source = written.write(tmp_path / f"{conn}.jsonl", lines)
            replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), NOW)
            proven.transform_once(writer, proven.InlineExecutor(), NOW, proven.TransformerConfig())
        proven.compact(writer)
    found = verify(root)
    assert said(found) == []
    assert (law(found, "kline").lines, law(found, "kline").rows, law(found, "kline").duplicates) == (2, 1, 1)


def test_events_that_sessions_tell_of_and_no_segment_has_are_missed(lake: Path) -> None:
    execute(lake, "UPDATE sessions SET events = events + 4 WHERE session = 'box-2-1'")
    texts = said(verify(lake))
    assert texts == ["binance/linear: sessions tell of 81 new events, segments of 77 lines"]
