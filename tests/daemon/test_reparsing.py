"""A lake that a wrong parser made is repaired from its frames; what frames say nothing of stays; again is nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loguru
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from collectors import exchanges
from collectors.adapters.dated import Dated
from collectors.config import CollectorsConfig
from collectors.exchanges.binance import linear
from collectors.replay import replay
from compactor.service import CompactorService, compact_once
from daemon.config import Config
from daemon.rederiving import Rederiver
from daemon.rederiving import Wanted as Frames
from daemon.reparsing import Done, Tools, Wanted, control_job, publisher, reparse, reparse_job
from lake import Lake, layout, parquet
from lake.errors import WrongQuestion
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.rows import FRAMES, CertificateRow, FileRow
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.kinds import Trade
from market.session import Rejected
from market.times import DAY, MINUTE
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.support import golden, proven, written
from tests.support.clock import ManualClock
from tests.support.crash import quick_folder
from tests.support.proven import LATER
from transformer.config import TransformerConfig
from transformer.service import transform_once

Digests = dict[tuple[str, str], str]
STEP = 40 * proven.SECOND
"""Trades 1000 to 1023 are of the first day, 1024 to 1031 of the second."""
DATES = ("2025-11-20", "2025-11-21")
RIGHT = linear.CHANNELS["trade"].maker
CONFIG = Config.model_validate({"compactor": {"reproduce": {"max_mb": 64_000}}})
"""Its slices are done in this process, which has all the other tests' memory."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    loguru.logger.remove()


def wrongly(change: Callable[[Trade], Any]) -> Any:
    """A parser of trades that makes of each what `change` does."""

    def maker(session: Any, state: Any) -> Any:
        parse = RIGHT(session, state)  # type: ignore[operator]

        def read(frame: bytes, ts_recv: int, number: int) -> Any:
            out = parse(frame, ts_recv, number)
            return change(out) if isinstance(out, Trade) else out

        return read

    return maker


def sides_and_a_loss(trade: Trade) -> Any:
    """Some sides are the maker's, and one trade is refused."""
    if trade.seq == 1007:
        return (Rejected("wrong", trade.frame_no, trade.stream),)
    if trade.seq is not None and trade.seq % 5 == 3:
        trade.side = "buy" if trade.side == "sell" else "sell"
    return trade


def build(place: Path, maker: Any) -> Path:
    """A lake of two closed days with a connection over midnight, as a parser of trades makes it."""
    good = linear.CHANNELS["trade"]
    linear.CHANNELS["trade"] = msgspec.structs.replace(good, maker=maker)
    try:
        source = written.write(place.with_suffix(".jsonl"), proven.over_midnight(STEP))
        with LakeWriter.open(place, "box", LATER) as writer:
            replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), LATER)
            transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
            proven.compact(writer, LATER)
    finally:
        linear.CHANNELS["trade"] = good
    return place


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder where syncs take no time."""
    with quick_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def template(memory: Path) -> Path:
    return build(memory / "wrong", wrongly(sides_and_a_loss))


@pytest.fixture(scope="module")
def right(memory: Path) -> Digests:
    """What the right parser makes."""
    return digests(build(memory / "right", RIGHT))


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def lake(place: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, place / "lake", copy_function=shutil.copy2))


def tools(config: Config = CONFIG, stopping: Callable[[], bool] = lambda: False) -> Tools:
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    reproduce = config.compactor.reproduce.model_copy(update={"folder": folder})
    compactor = config.compactor.model_copy(update={"reproduce": reproduce})
    return Tools(config.model_copy(update={"compactor": compactor}), InlineExecutor, Slot(), lambda *_: None, stopping)


def run(root: Path, first: str = DATES[0], last: str = DATES[1], now: int = LATER, **limits: Any) -> Done:
    """`dl reparse`."""
    with LakeWriter.open(root, "box", now) as writer:
        asked = {"first": first, "last": last, **limits}
        done = reparse_job(writer, InlineExecutor(), now, asked, tools())
        if done.published:
            done.compacted = compact_once(writer, InlineExecutor(), now, CONFIG.compactor, retention=False)
        return done


def look(root: Path, first: str = DATES[0], last: str = DATES[1], now: int = LATER, **limits: Any) -> Done:
    """`dl reparse --dry-run`."""
    manifest = Manifest.read_only(root)
    try:
        return Done(dry_run=True, days=reparse(root, manifest, Wanted(first, last, **limits), now, tools(), None))
    finally:
        manifest.close()


def counts(done: Done) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(date, kind) -> changed, added, removed, kept; of those that have any."""
    found = {
        (one.date, one.kind): (one.changed, one.added, one.removed, one.kept)
        for day in done.days
        for one in day.streams
    }
    return {key: some for key, some in found.items() if any(some)}


def certificates(root: Path) -> dict[tuple[str, str], CertificateRow]:
    """(kind, date) -> the newest of the live file."""
    manifest = Manifest.read_only(root)
    try:
        live = {row.path for row in manifest.files(level="day")}
        return {(row.kind, row.date): row for row in manifest.certificates() if row.path in live}
    finally:
        manifest.close()


def digests(root: Path) -> dict[tuple[str, str], str]:
    return {key: row.content_digest for key, row in certificates(root).items()}


def state(root: Path) -> tuple[int, list[str]]:
    manifest = Manifest.read_only(root)
    try:
        return manifest.version, sorted(row.path for row in manifest.files())
    finally:
        manifest.close()


def errors(root: Path) -> list[str]:
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            found = verify_lake(root, snapshot, lambda *_: None)
    finally:
        manifest.close()
    return [f"{one.path}: {one.problem}" for one in found.findings if one.severity == "error"]


def test_what_a_wrong_parser_made_is_made_right_bars_included(lake: Path, right: Digests, tmp_path: Path) -> None:
    assert digests(lake) != right
    done = run(lake)
    assert done.ok
    assert counts(done) == {(DATES[0], "trade"): (5, 1, 0, 0), (DATES[1], "trade"): (1, 0, 0, 0)}
    assert [day.published for day in done.days] == [["trade"], ["trade"]]
    assert digests(lake) == right
    assert done.compacted is not None
    assert (done.compacted.bars, done.compacted.failures) == (2, [])
    assert errors(lake) == []
    with Rederiver(lake, Frames(*proven.MARKET), CollectorsConfig(), LATER, tmp_path) as work:
        while work.step():
            pass
    assert [one.problem for one in work.outcome.findings if one.severity == "error"] == []


def test_a_revision_says_what_it_was_made_of_and_by_which_parsers(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"linear": {"trade": {"trade": ("2025-11-21",)}}}
    monkeypatch.setattr(exchanges.load("binance"), "PARSERS", told)
    before = certificates(lake)
    run(lake)
    after = certificates(lake)
    first, second = (after["trade", date] for date in DATES)
    assert (first.revision, first.missing, first.rows) == (1, 0, 24)
    assert first.parser_version.endswith("; reparsed; trade before 2025-11-21")
    assert second.parser_version.endswith("; reparsed; trade from 2025-11-21")
    assert before["trade", DATES[0]].path in first.inputs
    frames = {path for path in first.inputs if path.startswith("frames/")}
    manifest = Manifest.read_only(lake)
    try:
        held = {row.path: row.sha256 for row in manifest.segments(kind=FRAMES)}
        assert frames
        assert {path: first.inputs[path] for path in frames}.items() <= held.items()
        assert [(gap.state, gap.source) for gap in manifest.gaps(kind="trade")] == [("repaired", "frames")]
        checks = {row.check: row.count for row in manifest.checks(first.path)}
        assert checks == {"reparsed": 5, "reparsed_added": 1}
    finally:
        manifest.close()
    assert after["quote", DATES[0]] == before["quote", DATES[0]], "what does not change has no new revision"


@pytest.mark.slow
def test_again_is_nothing_and_a_look_changes_nothing(lake: Path) -> None:
    old = state(lake)
    seen = look(lake)
    assert state(lake) == old
    assert counts(seen) == counts(run(lake))
    new = state(lake)
    again = run(lake)
    assert (again.ok, again.published, counts(again)) == (True, False, {})
    assert state(lake)[1] == new[1]
    assert look(lake).days[0].changes == 0


@pytest.mark.slow
def test_rows_that_changed_are_shown_column_by_column(lake: Path) -> None:
    done = look(lake, DATES[0], DATES[0], examples=2)
    (trades,) = [one for one in done.days[0].streams if one.kind == "trade"]
    assert [row.what for row in trades.examples] == ["changed", "changed", "added"]
    changed, _, added = trades.examples
    assert changed.columns == {"side": ("sell", "buy")}
    assert (changed.symbol, changed.session, changed.frame_no, changed.item) == ("BTCUSDT", "box-1-1", 7, 0)
    assert added.columns["seq"] == (None, "1007")
    assert added.columns["price"] == (None, "100.1")
    assert trades.recovered == {"jump": 1}
    assert look(lake, examples=0).days[0].streams[0].examples == []


@pytest.mark.slow
def test_a_parser_that_was_wrong_from_a_date_on_made_only_those_days_wrong(place: Path, right: Digests) -> None:
    root = build(place / "lake", Dated(RIGHT, (DATES[1], wrongly(sides_and_a_loss))))
    done = run(root)
    assert counts(done) == {(DATES[1], "trade"): (1, 0, 0, 0)}
    assert digests(root) == right


@pytest.mark.slow
def test_frames_of_a_day_are_read_by_the_parser_of_that_day(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a venue really said otherwise before a date is not made new by it."""
    parsers = Dated(wrongly(sides_and_a_loss), (DATES[1], RIGHT))
    root = build(place / "lake", parsers)
    channel = linear.CHANNELS["trade"]
    monkeypatch.setitem(linear.CHANNELS, "trade", msgspec.structs.replace(channel, maker=parsers))
    assert counts(look(root)) == {}
    monkeypatch.setitem(linear.CHANNELS, "trade", channel)
    assert counts(look(root, DATES[0], DATES[0])) == {(DATES[0], "trade"): (5, 1, 0, 0)}


def test_it_can_be_limited(lake: Path) -> None:
    assert counts(look(lake, DATES[1], DATES[1], kind="quote")) == {}
    assert counts(look(lake, DATES[1], DATES[1], symbol="ETHUSDT")) == {}
    assert counts(look(lake, DATES[1], DATES[1], kind="trade", symbol="BTCUSDT")) == {(DATES[1], "trade"): (1, 0, 0, 0)}
    for limits in ({"exchange": "okx"}, {"market_type": "spot"}, {"kind": "bar_1s"}):
        with pytest.raises(WrongQuestion):
            look(lake, **limits)
    for first, last in (("2025-11-21", "2025-11-20"), ("2020-01-01", "2025-11-21"), ("2024-01-01", "2024-01-02")):
        with pytest.raises(WrongQuestion):
            look(lake, first, last)


# --- what frames say nothing of ---


def rewrite(root: Path, kind: str, date: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Other rows in place of a daily file's, in a manifest that knows of nothing else."""
    with LakeWriter.open(root, "box", LATER) as writer:
        (row,) = writer.manifest.files(kind, level="day", date_from=date, date_to=date)
        place = Placement(
            kind=kind, exchange=row.exchange, market_type=row.market_type, level="day", date=date, symbol=row.symbol,
            revision=row.revision + 1, lake_id=writer.lake_id,
        )  # fmt: skip
        made: FileRow = publish(root, place, [change(parquet.read(root / row.path))], run="test", now=LATER)
        told = writer.manifest.certificates(row.path)
        new = {"path": made.path, "sha256": made.sha256, "content_digest": made.content_digest, "rows": made.rows}
        writer.publish(
            add=[made], remove=[row.path], now=LATER,
            certificates=[msgspec.structs.replace(one, **new) for one in told],
        )  # fmt: skip


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), values.cast(table.schema.field(name).type))


def test_rows_of_other_sources_stay_although_no_frame_tells_of_them(lake: Path) -> None:
    def other(table: pa.Table) -> pa.Table:
        mine = pc.equal(table.column("seq"), 1003)  # one of those whose side is wrong
        session = pc.if_else(mine, "archive-1-1", table.column("session").cast(pa.string()))
        source = pc.if_else(mine, "archive", table.column("source").cast(pa.string()))
        return with_column(with_column(table, "session", session), "source", source)

    rewrite(lake, "trade", DATES[0], other)
    done = run(lake, DATES[0], DATES[0])
    assert counts(done)[DATES[0], "trade"] == (4, 1, 0, 1)
    with Lake(lake) as held:
        rows = {row["seq"]: row for row in held.read("trade").to_pylist()}
    assert (rows[1003]["source"], rows[1003]["side"], rows[1013]["side"]) == ("archive", "sell", "buy")
    assert 1007 in rows


def test_a_row_that_no_frame_makes_is_removed_and_one_of_frames_that_are_gone_is_not(lake: Path) -> None:
    def forged(number: int) -> Callable[[pa.Table], pa.Table]:
        def more(table: pa.Table) -> pa.Table:
            row = table.slice(table.num_rows - 1)
            row = with_column(row, "seq", pa.chunked_array([[9_000]], pa.int64()))
            row = with_column(row, "frame_no", pa.chunked_array([[number]], pa.int64()))
            return pa.concat_tables([table, row])

        return more

    rewrite(lake, "trade", DATES[1], forged(10**6))  # of a frame that the session never had
    assert counts(run(lake, DATES[1], DATES[1])) == {(DATES[1], "trade"): (1, 0, 0, 1)}
    rewrite(lake, "trade", DATES[1], lambda table: forged(60)(table.slice(0, 8)))
    assert counts(run(lake, DATES[1], DATES[1])) == {(DATES[1], "trade"): (0, 0, 1, 0)}


def gone(root: Path, before: int) -> None:
    """Let go of the frames files that were begun before a time."""
    with LakeWriter.open(root, "box", LATER) as writer:
        paths = [r.path for r in writer.manifest.segments(kind=FRAMES) if r.rows and r.period_start < before]
        for path in paths:
            (root / path).unlink()
            (root / layout.meta_path(path)).unlink()
        writer.publish(segments=dict.fromkeys(paths, "deleted"), now=LATER)


def test_a_day_whose_frames_are_gone_is_refused_and_says_so(lake: Path) -> None:
    gone(lake, 2**62)
    old = state(lake)
    done = run(lake)
    said = "there are no frames of it: they were let go of (compactor.frames_days)"
    assert [day.refused for day in done.days] == [said, said]
    assert not done.ok
    assert state(lake)[1] == old[1]


@pytest.mark.slow
def test_of_a_day_whose_frames_are_partly_gone_the_rest_is_made_right(lake: Path) -> None:
    gone(lake, proven.MIDNIGHT - 13 * MINUTE)
    done = run(lake, DATES[0], DATES[0])
    changed, added, removed, kept = counts(done)[DATES[0], "trade"]
    assert 0 < changed < 5
    assert (added, removed) == (0, 0)
    assert kept > 0
    assert any("are gone" in text for text in done.days[0].warnings)
    assert errors(lake) == []


def test_a_frames_file_that_cannot_be_read_keeps_a_day_as_it_is(lake: Path) -> None:
    with LakeWriter.open(lake, "box", LATER) as writer:
        files = [row for row in writer.manifest.segments(kind=FRAMES) if row.rows and "date=2025-11-20" in row.path]
    (lake / files[-1].path).unlink()
    old = certificates(lake)
    done = run(lake, DATES[0], DATES[0])
    assert "not all of its frames can be read (" in done.days[0].refused
    assert "is missing" in done.days[0].refused
    assert certificates(lake) == old


def test_a_day_that_is_not_closed_is_left_alone(place: Path) -> None:
    root = proven.lake(place / "lake")
    done = run(root, "2025-11-20", "2025-11-21", proven.NOW)
    assert [day.refused for day in done.days] == ["", "the day is not over"]
    done = run(root, "2025-11-21", "2025-11-21")
    assert {one.refused.partition(":")[0] for one in done.days[0].streams} == {"not all of its rows are in daily files"}
    assert not done.ok


def test_a_parser_that_understands_nothing_takes_nothing_away(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = wrongly(lambda trade: (Rejected("nothing", trade.frame_no, trade.stream),))
    monkeypatch.setitem(linear.CHANNELS, "trade", msgspec.structs.replace(linear.CHANNELS["trade"], maker=nothing))
    old = certificates(lake)
    done = run(lake)
    assert [one.spared for day in done.days for one in day.streams if one.kind == "trade"] == [["BTCUSDT"]] * 2
    assert not done.ok
    assert certificates(lake) == old


def late_times(trade: Trade) -> Trade:
    """A time that is ten minutes too late carries some rows over midnight."""
    if trade.seq is not None and trade.ts_event is not None and 1020 <= trade.seq < 1024:
        trade.ts_event += 10 * MINUTE
    return trade


@pytest.mark.slow
def test_a_row_that_belongs_to_another_day_goes_there_only_when_that_is_read_again_too(
    place: Path, right: Digests
) -> None:
    root = build(place / "lake", wrongly(late_times))
    assert certificates(root)["trade", DATES[0]].rows == 20
    done = look(root, DATES[1], DATES[1])
    assert counts(done) == {(DATES[1], "trade"): (0, 0, 0, 4)}, "they would be lost"
    done = run(root)
    assert counts(done) == {(DATES[0], "trade"): (0, 4, 0, 0), (DATES[1], "trade"): (0, 0, 4, 0)}
    assert digests(root) == right
    assert errors(root) == []


# --- its end ---


def test_a_day_that_changed_meanwhile_is_left_as_it_is_and_that_is_said(lake: Path) -> None:
    with LakeWriter.open(lake, "box", LATER) as writer:
        real = publisher(writer, InlineExecutor(), LATER, CONFIG)

        def meanwhile(*given: Any) -> None:
            (row,) = writer.manifest.files("trade", level="day", date_to=DATES[0])
            writer.publish(remove=[row.path], now=LATER)
            real(*given)

        (day,) = reparse(lake, writer.manifest, Wanted(DATES[0], DATES[0], kind="trade"), LATER, tools(), meanwhile)
    assert day.published == []
    assert day.failed[0].startswith("trade: ")
    assert day.failed[0].endswith("; run it again")
    assert not day.ok


@pytest.mark.slow
def test_a_revision_of_a_revision_keeps_what_was_said_of_it(lake: Path) -> None:
    run(lake, DATES[0], DATES[0])
    rewrite_checks = {"reparsed": 5, "reparsed_added": 1}
    feed = [
        written.line(0, dir="open", url="wss://fstream.binance.com/stream", conn="late-1-1", at=proven.BEGIN),
        written.line(1, written.trade(999, at=proven.BEGIN + MINUTE), at=proven.BEGIN + MINUTE, conn="late-1-1"),
        written.line(1, dir="close", reason="stopped", conn="late-1-1", at=proven.BEGIN + 2 * MINUTE),
    ]
    source = written.write(lake.with_suffix(".jsonl"), feed)
    with LakeWriter.open(lake, "box", LATER + DAY) as writer:
        replay([source], *proven.MARKET, writer, CollectorsConfig(node="box"), LATER + DAY)
        transform_once(writer, InlineExecutor(), LATER + DAY, TransformerConfig())
        proven.compact(writer, LATER + DAY)
        (row,) = writer.manifest.files("trade", level="day", date_to=DATES[0])
        checks = {one.check: one.count for one in writer.manifest.checks(row.path)}
    assert row.revision == 2
    assert rewrite_checks.items() <= checks.items()
    assert errors(lake) == []


def test_it_needs_room_and_memory_and_hears_a_stop(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.reproducing.resident", lambda: 64_001 << 20)
    assert "are allowed (raise compactor.reproduce.max_mb" in look(lake).days[0].refused
    monkeypatch.setattr("daemon.reparsing.SPARE", 2**62)
    assert "name another one in compactor.reproduce.folder" in look(lake).days[0].refused
    manifest = Manifest.read_only(lake)
    try:
        stopped = reparse(lake, manifest, Wanted(*DATES), LATER, tools(stopping=lambda: True), None)
    finally:
        manifest.close()
    assert stopped == []


def test_the_daemon_does_it_for_who_asks_and_makes_the_bars_again(
    lake: Path, right: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.reparsing.Workers", InlineExecutor)
    clock = ManualClock(LATER)
    with LakeWriter.open(lake, "box", LATER) as writer:
        compactor = CompactorService(writer, InlineExecutor(), clock, CONFIG.compactor)
        job = control_job(CONFIG, writer, InlineExecutor(), clock, Slot(), compactor)
        told: Any = asyncio.run(job({"first": DATES[0], "last": DATES[1]}, lambda *_: None))
    assert (told["ok"], told["compacted"]["bars"]) == (True, 2)
    assert [day["warnings"] for day in told["days"]] == [[], []]
    assert digests(lake) == right


@pytest.mark.parametrize("asked", [{}, {"first": 1, "last": "2025-11-20"}, {"first": "x", "last": "y", "more": 1}])
def test_what_is_no_question_is_refused(lake: Path, asked: dict[str, Any]) -> None:
    with LakeWriter.open(lake, "box", LATER) as writer, pytest.raises(WrongQuestion, match="re-parsed"):
        reparse_job(writer, InlineExecutor(), LATER, asked, tools())


BETTER_READ = {"v1": {("2025-12-31", "book_snapshot"): (0, 1, 0, 0)}}
"""What earlier versions did not understand: a book's whole that was asked for before its first update."""


@pytest.mark.parametrize("name", golden.NAMES)
def test_nothing_else_would_change_in_a_lake_of_an_earlier_version(place: Path, name: str) -> None:
    root = golden.unpack(name, place / "lake")
    done = look(root, "2025-12-31", "2025-12-31", now=golden.NOW)
    assert done.ok
    assert counts(done) == BETTER_READ[name]
    assert {one.kind for day in done.days for one in day.streams} > {"trade", "book_delta", "contract", "kline"}
