"""After a crash: ends, coverage and gaps of what was being collected, once however often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from collectors import recovery, reread
from collectors.chain_checked import CheckedMerger
from collectors.config import WritingConfig
from collectors.exchanges import load
from collectors.giving import gap_id
from collectors.holes import RETIRED
from collectors.intake import Intake, lines_of
from collectors.links import Link
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.reread import memory_of
from collectors.writing import GroupCommit
from lake import durable, layout
from lake.frames import read_frames
from lake.rebuild import rebuild
from lake.rows import HISTORY, SegmentRow, SessionRow
from lake.segment_files import SegmentFile
from lake.segments import decode_line, encode_lines, extent
from lake.writer import LakeWriter
from market.kinds import KINDS, BookDelta, BookSnapshot, Event, Liquidation, Quote, Trade
from market.session import Coverage, Gap, Resume
from market.times import HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support import toy
from tests.support.crash import KILLED, needs_fork, quick_folder, run_until
from tests.support.toy import T0, ToySession, q, stream, t
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("binance", "spot")


class Crash:
    """A writer process that can die at any pass: whatever it had not written by then is gone."""

    def __init__(self, root: Path, now: int = T0) -> None:
        self.writer = LakeWriter.open(root, "n", now)
        self.stops = recovery.settle(self.writer, self.writer.recover(now), now)
        self.intake = Intake(WritingConfig())
        self.commit = GroupCommit(self.writer, "n", WritingConfig())
        self.pipeline = Pipeline(*MARKET, self.intake, merger_maker(toy, "spot"))
        self.pipeline.seed({lane[2]: symbols for lane, symbols in self.stops.items()})

    def open(self, name: str, now: int = T0) -> Link:
        session = ToySession(name, [stream("trade", "AAA"), stream("quote", "AAA")])
        return self.pipeline.open(session, name="toy-1", source="ws", url="ws://toy", now=now)[0]

    def write(self, now: int = T0, *, covered: bool = False) -> None:
        self.pipeline.advance(now, covered=covered)
        self.commit.commit(self.intake.collect(now, sync=True))

    def die(self) -> None:
        self.commit.close()
        self.writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.die()

    def gaps(self, kind: str) -> list[Gap]:
        return self.writer.manifest.gaps(*MARKET, kind)


def of_two(root: Path, kind: str) -> tuple[Crash, Link, Callable[[int, int], Event]]:
    """A process whose connection has had two events, and what makes another one."""
    event = t if kind == "trade" else q
    first = Crash(root)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [event(1, 0), event(2, 1000)], T0 + SECOND)
    return first, link, event


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Crash]:
    """A second life over what the first left behind."""
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), q(5, 0), t(2, 1000), q(6, 2000)], T0 + SECOND)
    first.write(T0 + SECOND)
    first.pipeline.receive(link, [t(3, 3000)], T0 + 3 * SECOND)
    first.die()
    second = Crash(tmp_path, T0 + 10 * SECOND)
    yield second
    second.die()


def test_every_kind_and_symbol_has_one_open_gap(crashed: Crash) -> None:
    for kind, last in (("trade", 1_000_000), ("quote", 2_000_000)):
        (gap,) = crashed.gaps(kind)
        assert (gap.cause, gap.state, gap.symbol) == ("crash", "open", "AAA")
        assert (gap.ts_from, gap.ts_to) == (T0 + last, None)
        assert gap.detected_at == T0 + 10 * SECOND
    assert crashed.gaps("trade")[0].id_from == 3


def test_the_interrupted_session_has_its_end_and_its_coverage(crashed: Crash) -> None:
    (row,) = crashed.writer.manifest.sessions()
    assert (row.close_cause, row.closed_at, row.frames) == ("crash", T0 + SECOND, 4)
    covered = {(c.kind, c.ts_from, c.ts_to) for c in crashed.writer.manifest.coverage()}
    assert covered == {("trade", T0, T0 + 2_000_000), ("quote", T0, T0 + 2_000_000)}


def test_coverage_goes_on_where_it_was_recorded_last(tmp_path: Path) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), q(1, 0), t(2, 1000)], T0 + SECOND)
    first.write(T0 + SECOND, covered=True)
    first.pipeline.receive(link, [t(3, 4000)], T0 + 4 * SECOND)
    first.write(T0 + 4 * SECOND)
    first.die()
    second = Crash(tmp_path, T0 + 9 * SECOND)
    trade = [(c.ts_from - T0, c.ts_to - T0) for c in second.writer.manifest.coverage(*MARKET, "trade")]
    quote = [(c.ts_from - T0, c.ts_to - T0) for c in second.writer.manifest.coverage(*MARKET, "quote")]
    assert trade == quote == [(0, SECOND), (SECOND, 4 * SECOND)]
    second.die()


def test_recovering_again_changes_nothing(tmp_path: Path, crashed: Crash) -> None:
    before = (crashed.writer.manifest.gaps(), crashed.writer.manifest.coverage(), crashed.writer.manifest.sessions())
    recovery.settle(crashed.writer, crashed.writer.recover(T0 + 20 * SECOND), T0 + 20 * SECOND)
    crashed.die()
    third = Crash(tmp_path, T0 + 30 * SECOND)
    after = (third.writer.manifest.gaps(), third.writer.manifest.coverage(), third.writer.manifest.sessions())
    assert before == after
    third.die()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_quiet_stream_that_was_handed_over_is_interrupted_by_what_ended_its_successor(
    tmp_path: Path, *, stopped: bool
) -> None:
    """The last row is of the session before: its planned end is no reason why the stream stopped."""
    first = Crash(tmp_path)
    old = first.open("n-1-1")
    first.pipeline.receive(old, [b"ack", t(1, 0), q(5, 0)], T0)
    heir = first.open("n-1-2")
    for link in (heir, old):
        first.pipeline.receive(link, [b"ack", t(2, 3000)], T0 + 3 * SECOND)
    first.pipeline.close(old, "handover", T0 + 4 * SECOND, code=1000, detail="to n-1-2, 1 of 2 streams joined by ids")
    first.write(T0 + 5 * SECOND)
    assert first.gaps("quote") == []
    if stopped:
        first.pipeline.close(heir, "stopped", T0 + 5 * SECOND, wanted=False)
        first.write(T0 + 5 * SECOND)
    first.die()
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        link = second.open("n-2-1", T0 + 11 * SECOND)
        second.pipeline.receive(link, [t(3, 12_000), q(50, 13_000)], T0 + 13 * SECOND)
        second.write(T0 + 16 * SECOND)
        (gap,) = second.gaps("quote")
        cause = "stopped" if stopped else "crash"
        assert (gap.cause, gap.state, gap.ts_from, gap.ts_to) == (cause, "open", T0, T0 + 13 * SECOND)


def test_the_first_event_afterwards_gives_the_gap_its_end_and_its_ids(crashed: Crash) -> None:
    link = crashed.open("n-2-1", T0 + 11 * SECOND)
    crashed.pipeline.receive(link, [t(9, 12_000), q(50, 13_000)], T0 + 13 * SECOND)
    crashed.write(T0 + 16 * SECOND)
    (trade,) = crashed.gaps("trade")
    assert (trade.id_from, trade.id_to, trade.proof, trade.state) == (3, 9, "ids", "open")
    (quote,) = crashed.gaps("quote")
    assert (quote.ts_from, quote.ts_to) == (T0 + 2_000_000, T0 + 13_000_000)


def test_a_stream_that_lost_nothing_has_an_empty_gap(crashed: Crash) -> None:
    link = crashed.open("n-2-1", T0 + 11 * SECOND)
    crashed.pipeline.receive(link, [t(3, 12_000)], T0 + 13 * SECOND)
    crashed.write(T0 + 16 * SECOND)
    (trade,) = crashed.gaps("trade")
    assert (trade.state, trade.id_from, trade.id_to) == ("empty", 3, 3)


def test_a_second_crash_before_anything_came_is_the_same_gap(tmp_path: Path, crashed: Crash) -> None:
    crashed.open("n-2-1", T0 + 11 * SECOND)
    crashed.write(T0 + 12 * SECOND)
    crashed.die()
    third = Crash(tmp_path, T0 + 20 * SECOND)
    assert len(third.gaps("trade")) == 1
    assert {row.close_cause for row in third.writer.manifest.sessions()} == {"crash"}
    third.die()


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_a_gap_whose_end_was_said_and_never_stored_ends_where_the_stored_stream_goes_on(
    tmp_path: Path, kind: str
) -> None:
    """An end is told before the lines that show it: a kill between the two, then another before a new end is told."""

    def of(at: int, seq: int, session: str) -> Event:
        if kind == "trade":
            return sold(at, seq, session)
        return Quote("A", "q", T0 + at, None, T0 + at, session, 1, 0, "ws", "1", "1", "2", "1", seq)

    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [of(1, 1, "a-1-1"), of(2, 2, "a-1-1")], 1)
        (gap,) = settled(writer, T0 + SECOND)
        said = {"ts_to": T0 + 2 * SECOND, "detected_at": T0 + 2 * SECOND} | ({"id_to": 9} if kind == "trade" else {})
        writer.record_gaps([msgspec.structs.replace(gap, **said)])
        (grows,) = settled(writer, T0 + 3 * SECOND)
        assert (grows.state, grows.ts_from, grows.ts_to, grows.id_to) == ("open", gap.ts_from, None, None)
        assert settled(writer, T0 + 3 * SECOND) == [grows], "recovering twice is recovering once"
        life(writer, MARKET, "c-1-1", [of(4 * SECOND, 12, "c-1-1"), of(4 * SECOND + 1, 13, "c-1-1")], 2)
        ended, _ = settled(writer, T0 + 5 * SECOND)
        ids = (3, 12) if kind == "trade" else (None, None)
        assert (ended.gap_id, ended.ts_to, ended.id_from, ended.id_to) == (
            gap.gap_id, T0 + 4 * SECOND + (kind == "trade"), *ids,
        )  # fmt: skip


def test_a_gap_of_forced_orders_that_the_venue_has_taken_on_again_stays_ended_after_a_clean_stop(
    tmp_path: Path,
) -> None:
    """No order came since, and none had to: nothing that showed its end can be lost where nothing was interrupted."""
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [forced(1, "a-1-1"), forced(2, "a-1-1")], 1)
        (gap,) = settled(writer, T0 + SECOND)
        assert (gap.cause, gap.ts_from, gap.ts_to) == ("crash", T0 + 2, None)
        said = msgspec.structs.replace(gap, ts_to=T0 + 2 * SECOND, detected_at=T0 + 2 * SECOND)
        writer.record_gaps([said])
        assert [one.ts_to for one in settled(writer, T0 + 3 * SECOND)] == [said.ts_to]
        place = {"exchange": MARKET[0], "market_type": MARKET[1], "source": "ws", "url": "u"}
        writer.record_sessions([SessionRow(session="b-1-1", **place, opened_at=T0 + 4 * SECOND)])
        (grows,) = settled(writer, T0 + 5 * SECOND)
        assert (grows.gap_id, grows.ts_to) == (gap.gap_id, None), "another crash, and nothing since"


def test_a_hole_that_was_not_said_in_time_is_said_at_the_next_start(tmp_path: Path) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(5, 100)], T0)
    first.write(T0 + SECOND)  # the merger still waits for 2, 3 and 4
    assert first.gaps("trade") == []
    first.die()
    second = Crash(tmp_path, T0 + 9 * SECOND)
    found = {(gap.cause, gap.id_from, gap.id_to) for gap in second.gaps("trade")}
    assert found == {("jump", 2, 5), ("crash", 6, None)}
    second.die()


def test_a_segment_that_is_no_longer_there_between_two_that_are_read_again_is_no_hole(tmp_path: Path) -> None:
    """A session that only asks has no coverage, so that every segment since it began is read; retention took some."""
    first = Crash(tmp_path)
    first.pipeline.open(ToySession("n-0-1", []), name="poll", source="rest", url="http://toy", now=T0)
    link = first.open("n-1-1")
    for minutes in (0, 10, 20):
        at = T0 + minutes * MINUTE
        first.pipeline.receive(link, [t(minutes + n, minutes * 60_000 + n) for n in range(10)], at + SECOND)
        first.write(at + SECOND, covered=True)
        first.write(at + 9 * MINUTE, covered=True)
    rows = [row for row in first.writer.manifest.segments(*MARKET, "trade") if row.rows]
    assert len(rows) == 3
    transform_once(first.writer, InlineExecutor(), T0 + HOUR, TransformerConfig())
    first.writer.publish(segments={rows[1].path: "deleted"}, now=T0 + HOUR)
    first.die()
    with Crash(tmp_path, T0 + HOUR) as second:
        assert [gap for gap in second.gaps("trade") if gap.cause == "jump"] == []


@pytest.mark.parametrize("taken", [False, True], ids=["still there", "taken by retention"])
def test_a_hole_behind_a_sealed_segment_is_said_at_the_next_start(tmp_path: Path, taken: bool) -> None:
    """The lines that are open begin behind it, and the merger still waits when the crash comes."""
    at = T0 + 9 * MINUTE
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 100)], T0 + SECOND)
    first.write(T0 + SECOND, covered=True)
    first.write(at, covered=True)
    if taken:
        transform_once(first.writer, InlineExecutor(), at, TransformerConfig())
        (row,) = [row for row in first.writer.manifest.segments(*MARKET, "trade") if row.rows]
        first.writer.publish(segments={row.path: "deleted"}, now=at)
        durable.unlink(tmp_path / row.path)
    first.pipeline.receive(link, [t(5, 540_000)], at)
    first.write(at + SECOND)
    assert first.gaps("trade") == []
    first.die()
    with Crash(tmp_path, T0 + 10 * MINUTE) as second:
        found = {(gap.cause, gap.id_from, gap.id_to, gap.ts_to) for gap in second.gaps("trade")}
        assert found == {("jump", 3, 5, at + 1), ("crash", 6, None, None)}


def test_a_hole_in_a_segment_that_was_just_sealed_is_said_at_the_next_start(tmp_path: Path) -> None:
    """All of its lines are accounted for; what lies between them was still waited for."""
    at = T0 + MINUTE - T0 % MINUTE  # segments end with their minute
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 100)], T0 + SECOND)
    first.write(T0 + SECOND, covered=True)
    first.pipeline.receive(link, [t(5, 39_000)], at - SECOND)
    first.write(at, covered=True)
    (row,) = [row for row in first.writer.manifest.segments(*MARKET, "trade") if row.rows]
    assert (row.state, row.rows) == ("sealed", 3)
    assert first.gaps("trade") == []
    first.die()
    with Crash(tmp_path, at + MINUTE) as second:
        assert {(gap.cause, gap.id_from, gap.id_to) for gap in second.gaps("trade")} == {
            ("jump", 3, 5),
            ("crash", 6, None),
        }


@pytest.mark.parametrize("ahead", [HOUR, 0, -HOUR], ids=["set back", "right", "set forward"])
def test_a_hole_that_was_just_sealed_is_said_though_the_clock_was_set_before(tmp_path: Path, ahead: int) -> None:
    """What was written last is told by the numbers of the files, and not by when it was received."""
    at = T0 + 5 * MINUTE - T0 % MINUTE
    first = Crash(tmp_path, T0 + ahead)
    link = first.open("n-1-1", T0 + ahead)
    for n in range(1, 5):
        first.pipeline.receive(link, [t(n, n)], T0 + ahead + n * MINUTE // 2)
        first.write(T0 + ahead + n * MINUTE // 2, covered=True)
    stopped = T0 + ahead + 2 * MINUTE
    first.pipeline.close(link, "stopped", stopped, wanted=False)
    first.commit.commit(first.intake.collect(stopped, sync=True, final=True))
    first.die()
    second = Crash(tmp_path, at - 50 * SECOND)
    link = second.open("n-2-1", at - 50 * SECOND)
    second.pipeline.receive(link, [t(5, 5)], at - 40 * SECOND)
    second.write(at - 40 * SECOND, covered=True)
    second.pipeline.receive(link, [t(9, 9)], at - SECOND)
    second.write(at, covered=True)
    assert [gap for gap in second.gaps("trade") if gap.cause == "jump"] == []
    second.die()
    with Crash(tmp_path, at + SECOND) as third:
        holes = [(gap.id_from, gap.id_to) for gap in third.gaps("trade") if gap.cause == "jump"]
        assert holes == [(6, 9)]


@pytest.mark.parametrize("ids, tells", [((3, 12), True), ((2, 12), False), ((3, 13), False), ((5, 9), True)])
def test_a_row_tells_of_a_hole_all_of_whose_ids_it_has(ids: tuple[int, int], tells: bool) -> None:
    told = Gap("g", *MARKET, "trade", "AAA", T0, T0 + 9, 3, 12, "jump", "ids", "open", "n-1-1", T0)
    hole = msgspec.structs.replace(told, gap_id="h", id_from=ids[0], id_to=ids[1])
    assert reread._tells(told, hole) is tells
    assert not reread._tells(msgspec.structs.replace(told, state="repaired"), hole)


@pytest.mark.parametrize("begun, away", [(-1, False), (0, False), (3, True), (9, False), (20, False)])
def test_a_stream_was_away_where_it_began_anew_inside_a_hole(begun: int, away: bool) -> None:
    hole = Gap("g", *MARKET, "trade", "AAA", T0, T0 + 9, 3, 12, "jump", "ids", "open", "n-1-1", T0)
    spans = [Coverage(*MARKET, "trade", "AAA", f"n-1-{n}", *span) for n, span in enumerate((
        (T0 - 9, T0), (T0 + begun, T0 + 30),
    ))]  # fmt: skip
    assert reread._was_away(spans, hole) is away


def test_what_nobody_wanted_meanwhile_is_no_hole(tmp_path: Path) -> None:
    at = T0 + 9 * MINUTE
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 100)], T0 + SECOND)
    first.write(T0 + SECOND, covered=True)
    first.pipeline.close(link, RETIRED, T0 + 2 * SECOND)
    first.write(at, covered=True)
    link = first.open("n-1-2", at)
    first.pipeline.receive(link, [t(50, 540_000), t(51, 541_000)], at + SECOND)
    first.write(at + SECOND, covered=True)
    first.die()
    with Crash(tmp_path, T0 + 10 * MINUTE) as second:
        assert {(gap.cause, gap.id_from) for gap in second.gaps("trade")} == {("crash", 52)}


def test_a_gap_that_was_none_is_closed_though_the_crash_came_before_it_was_said(tmp_path: Path, crashed: Crash) -> None:
    link = crashed.open("n-2-1", T0 + 11 * SECOND)
    crashed.pipeline.receive(link, [t(3, 12_000)], T0 + 13 * SECOND)
    crashed.pipeline.advance(T0 + 14 * SECOND)
    crashed.commit.commit(crashed.intake.collect(T0 + 14 * SECOND))  # written, and not yet synced
    assert crashed.gaps("trade")[0].state == "open"
    crashed.die()
    third = Crash(tmp_path, T0 + 20 * SECOND)
    states = {(gap.id_from, gap.state) for gap in third.gaps("trade")}
    assert states == {(3, "empty"), (4, "open")}
    third.die()


def test_the_event_that_a_gap_begins_behind_does_not_end_it(tmp_path: Path) -> None:
    """It may be another session's: of two that overlapped, each was cut."""
    first = Crash(tmp_path)
    links = [first.open(name) for name in ("n-1-1", "n-2-1")]
    first.pipeline.receive(links[0], [q(1, 0), q(2, 1000)], T0 + SECOND)
    first.pipeline.receive(links[1], [t(1, 0), q(1, 0)], T0 + SECOND)
    for link in links:
        first.pipeline.close(link, "silence", T0 + 3 * SECOND)
    first.write(T0 + 3 * SECOND)
    (before,) = first.gaps("quote")
    assert (before.session, before.ts_from, before.ts_to) == ("n-2-1", T0 + SECOND, None)
    first.die()
    second = Crash(tmp_path, T0 + 9 * SECOND)
    assert second.gaps("quote") == [before]
    second.die()


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_a_gap_behind_lines_that_a_power_cut_took_is_part_of_the_wider_one_and_grows_no_more(
    tmp_path: Path, kind: str
) -> None:
    """The rows of a manifest are durable at once, the lines before them only with the next sync."""
    first, link, event = of_two(tmp_path, kind)
    first.write(T0 + SECOND)
    (path,) = (path for path in tmp_path.rglob("*.open") if f"data_type={kind}" in str(path))
    durable_bytes = path.stat().st_size
    first.pipeline.receive(link, [event(3, 2000), event(4, 3000)], T0 + 3 * SECOND)
    first.pipeline.close(link, "disconnect", T0 + 3 * SECOND)
    first.write(T0 + 3 * SECOND)
    (before,) = first.gaps(kind)
    first.die()
    path.write_bytes(path.read_bytes()[:durable_bytes])
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        narrow, wide = sorted(second.gaps(kind), key=lambda gap: gap.ts_to is None)
        assert (narrow.gap_id, narrow.missing) == (before.gap_id, 0 if kind == "trade" else None)
        assert narrow.ts_to == narrow.ts_from + 1
        assert narrow.detail is not None
        assert wide.gap_id in narrow.detail
        assert (wide.state, wide.ts_from, wide.ts_to, wide.cause) == ("open", T0 + 1_000_000, None, "disconnect")
        link = second.open("n-2-1")
        second.pipeline.receive(link, [event(7, 12_000)], T0 + 12 * SECOND)
        second.write(T0 + 15 * SECOND)
        found = next(gap for gap in second.gaps(kind) if gap.gap_id == wide.gap_id)
        assert (found.state, found.ts_to is None) == ("open", False)
        if kind == "trade":
            assert (found.id_from, found.id_to) == (3, 7)
    with Crash(tmp_path, T0 + 20 * SECOND) as third:
        states = {gap.gap_id: gap.state for gap in third.gaps(kind)}
        assert (states[before.gap_id], states[wide.gap_id]) == ("empty", "open")


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_a_gap_that_had_ended_with_lines_that_are_gone_goes_on_where_the_next_one_is_part_of_it(
    tmp_path: Path, kind: str
) -> None:
    first, link, event = of_two(tmp_path, kind)
    first.pipeline.close(link, "disconnect", T0 + 2 * SECOND)
    first.write(T0 + 2 * SECOND)
    (path,) = (path for path in tmp_path.rglob("*.open") if f"data_type={kind}" in str(path))
    durable_bytes = path.stat().st_size
    link = first.open("n-1-2", T0 + 3 * SECOND)
    first.pipeline.receive(link, [event(7, 4_000), event(8, 5_000)], T0 + 5 * SECOND)
    first.pipeline.close(link, "disconnect", T0 + 6 * SECOND)
    first.write(T0 + 6 * SECOND)
    assert sorted(gap.ts_to is None for gap in first.gaps(kind)) == [False, True]
    first.die()
    path.write_bytes(path.read_bytes()[:durable_bytes])
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        (wide,) = (gap for gap in second.gaps(kind) if gap.ts_from == T0 + 1_000_000)
        assert (wide.state, wide.ts_to, wide.id_to) == ("open", None, None)
        link = second.open("n-2-1")
        second.pipeline.receive(link, [event(12, 12_000)], T0 + 12 * SECOND)
        second.write(T0 + 15 * SECOND)
        (found,) = (gap for gap in second.gaps(kind) if gap.gap_id == wide.gap_id)
        assert found.ts_to in (T0 + 12 * SECOND, T0 + 12 * SECOND + 1)
        assert (found.id_from, found.id_to) == ((3, 12) if kind == "trade" else (None, None))


def test_a_gap_whose_end_is_not_found_is_no_part_of_one_that_begins_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 1000)], T0 + SECOND)
    first.pipeline.close(link, "disconnect", T0 + 3 * SECOND)
    first.write(T0 + 3 * SECOND)
    (before,) = first.gaps("trade")
    link = first.open("n-1-2", T0 + 4 * SECOND)
    first.pipeline.receive(link, [t(7, 4_000), t(8, 5_000)], T0 + 5 * SECOND)
    first.commit.commit(first.intake.collect(T0 + 5 * SECOND, sync=True))  # the lines, and not yet the gap's end
    first.die()
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        found = {gap.gap_id: gap for gap in second.gaps("trade")}
        assert (found[before.gap_id].id_from, found[before.gap_id].id_to) == (3, 7)
    again = msgspec.structs.replace(before, gap_id="lost-end")
    monkeypatch.setattr(recovery, "_newest", lambda *_: [])  # the line that ended it is in none of the newest segments
    with LakeWriter.open(tmp_path, "n", T0 + 11 * SECOND) as writer:
        writer.record_gaps([again])
        recovery.settle(writer, writer.recover(T0 + 12 * SECOND), T0 + 12 * SECOND)
        (held,) = (gap for gap in writer.manifest.gaps(*MARKET, "trade") if gap.gap_id == "lost-end")
    assert (held.ts_to, held.id_from, held.id_to) == (None, 3, None), "what it tells, no other gap does"


@pytest.mark.parametrize("killed", [False, True], ids=["told in time", "killed before it was told"])
def test_what_is_told_again_behind_a_wider_gap_may_have_a_hole_where_the_narrow_one_was(
    tmp_path: Path, *, killed: bool
) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 1000)], T0 + SECOND)
    first.write(T0 + SECOND)
    (path,) = (path for path in tmp_path.rglob("*.open") if "data_type=trade" in str(path))
    durable_bytes = path.stat().st_size
    first.pipeline.receive(link, [t(3, 2000), t(4, 3000)], T0 + 3 * SECOND)
    first.pipeline.close(link, "disconnect", T0 + 3 * SECOND)
    first.write(T0 + 3 * SECOND)
    first.die()
    path.write_bytes(path.read_bytes()[:durable_bytes])
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        link = second.open("n-2-1")
        second.pipeline.receive(link, [t(3, 2000), t(4, 3000), t(7, 12_000)], T0 + 12 * SECOND)
        second.write(T0 + (12 if killed else 15) * SECOND)
    with Crash(tmp_path, T0 + 20 * SECOND) as third:
        (hole,) = (gap for gap in third.gaps("trade") if gap.state == "open" and gap.ts_to is not None)
        assert (hole.id_from, hole.id_to) == (5, 7)
    with Crash(tmp_path, T0 + 30 * SECOND) as fourth:
        assert hole in fourth.gaps("trade")


def test_frames_without_lines_are_named_in_the_gap(tmp_path: Path) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0)], T0)
    first.write(T0)
    first.pipeline.receive(link, [t(2, 10), t(3, 20)], T0 + 1)
    work = first.intake.collect(T0 + 1, sync=True)
    work.events.clear()  # the process dies between the frames and their lines
    first.commit.commit(work)
    first.die()
    second = Crash(tmp_path, T0 + 9 * SECOND)
    (gap,) = second.gaps("trade")
    assert gap.id_from == 2
    assert gap.detail is not None
    assert gap.detail.startswith("frames 2 to 3 of n-1-1 have no lines, see frames/")
    (row,) = second.writer.manifest.sessions()
    assert row.frames == 1, "a replay takes up the others"
    second.die()


def test_a_clean_stop_is_no_crash(tmp_path: Path) -> None:
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), q(1, 0)], T0)
    first.pipeline.close(link, "stopped", T0 + SECOND, wanted=False)
    first.commit.commit(first.intake.collect(T0 + SECOND, sync=True, final=True))
    first.die()
    second = Crash(tmp_path, T0 + 9 * SECOND)
    assert second.writer.manifest.gaps() == []
    assert {stop.cause for symbols in second.stops.values() for stop in symbols.values()} == {"stopped"}
    second.die()


def collected(root: Path) -> None:
    """A short life: two seals, a hole in the ids, an orderly end. What it knows to be durable it says in a file."""
    with Crash(root) as run, (root / "durable").open("ab", buffering=0) as said:
        link = run.open("n-1-1")
        for n in range(4):
            at = n * 30_000
            ids = [n * 3 + k for k in (1, 2, 3) if n * 3 + k not in (5, 6)]
            run.pipeline.receive(link, [t(number, at) for number in ids], T0 + at * 1000)
            run.write(T0 + at * 1000 + 3 * SECOND, covered=True)
            said.write(b"".join(b"%d\n" % number for number in ids))
        run.pipeline.close(link, "stopped", T0 + 95 * SECOND, wanted=False)
        run.commit.commit(run.intake.collect(T0 + 95 * SECOND, sync=True, final=True))


def events(run: Crash) -> list[Trade]:
    return [
        decode_line("trade", line)
        for row in run.writer.manifest.segments(*MARKET, "trade")
        if row.rows
        for line in (run.writer.root / row.path).read_bytes().splitlines()
    ]


def trades(run: Crash) -> list[int]:
    return [event.seq for event in events(run)]


def origins(run: Crash) -> set[tuple[str, int]]:
    return {(event.session, event.frame_no) for event in events(run)}


STRIDE = 7
"""A kill at every so many durable steps: one at each of them (1) takes half a minute."""


@needs_fork
def test_killed_at_any_step_every_durable_trade_is_there_once_and_every_other_is_in_a_gap() -> None:
    with quick_folder() as folder:
        survived = False
        for number in range(3, 1000, STRIDE):
            root = folder / str(number)
            root.mkdir()
            survived = run_until(lambda root=root: collected(root), durable.Fault("*", number, "KILL")) != KILLED
            everything_is_accounted_for(root)
            if survived:
                break
        assert survived


def everything_is_accounted_for(root: Path) -> None:
    """The law, after a second life that begins with trade 20: stored and missing make the whole, nothing twice."""
    said = (root / "durable").read_bytes() if (root / "durable").exists() else b""
    with Crash(root, T0 + 200 * SECOND) as run:
        link = run.open("n-2-1", T0 + 200 * SECOND)
        run.pipeline.receive(link, [t(20, 200_000)], T0 + 200 * SECOND)
        run.write(T0 + 205 * SECOND)
        run.pipeline.close(link, "stopped", T0 + 205 * SECOND, wanted=False)
        run.commit.commit(run.intake.collect(T0 + 205 * SECOND, sync=True, final=True))
        stored = trades(run)
        assert sorted(set(stored)) == sorted(stored)
        assert {int(number) for number in said.split()} <= set(stored)
        frames = [
            (line.conn, line.n)
            for row in run.writer.manifest.segments(*MARKET, "frames")
            if row.rows
            for line in read_frames(run.writer.root / row.path)
            if line.dir == "recv"
        ]
        assert len(set(frames)) == len(frames)
        assert origins(run) <= set(frames), "a line without its frame"
        named = {
            number
            for gap in run.gaps("trade")
            if gap.state == "open" and gap.id_from is not None and gap.id_to is not None
            for number in range(gap.id_from, gap.id_to)
        }
        assert set(range(min(stored), 21)) - set(stored) == {number for number in named if number >= min(stored)}
        assert all(gap.ts_to is not None for gap in run.gaps("trade"))
        assert {row.state for row in run.writer.manifest.segments()} == {"sealed"}


@pytest.mark.parametrize("transformed", [False, True])
def test_a_book_asked_for_beside_the_streams_leaves_no_gap_of_its_own(tmp_path: Path, transformed: bool) -> None:
    """A snapshot comes where a book has to begin anew: the next one may be days away, and nothing is missing. A still
    market has the same one then, which is no second row, though the venue says when it answered.
    """
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), q(5, 0)], T0 + SECOND)
    asked = BookSnapshot(
        "AAA", "depth", T0, None, T0 + SECOND, "n-1-1", 2, 0, "rest", Raw(b'[["1","2"]]'), Raw(b"[]"), 7, 1000
    )
    first.intake.lane((*MARKET, "book_snapshot")).offer((lines_of([asked]),), 100)
    first.write(T0 + SECOND)
    first.writer.record(coverage=[Coverage(*MARKET, "book_delta", "AAA", "n-1-1", T0, T0 + SECOND)], now=T0)
    if transformed:  # the row is in a table already when the process dies
        first.commit._segments_of((*MARKET, "book_snapshot")).finish(T0 + 2 * SECOND)
        transform_once(first.writer, InlineExecutor(), T0 + SECOND, TransformerConfig())
        assert first.writer.manifest.files("book_snapshot")
    first.die()
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        assert {gap.kind for gap in second.writer.manifest.gaps()} == {"trade", "quote"}
        assert "book_snapshot" not in {row.kind for row in second.writer.manifest.coverage()}
        (stop,) = second.stops[*MARKET, "book_snapshot"].values()
        assert (stop.cause, stop.seq) == ("", 7)
        later = msgspec.structs.replace(asked, session="n-2-1", ts_event=T0 + 9 * SECOND, ts_recv=T0 + 10 * SECOND)
        merger = second.pipeline.route("book_snapshot").merger
        assert merger.merge_all([later, msgspec.structs.replace(later, last_id=8)])[0].last_id == 8
        assert merger.duplicates == 1
        assert merger.tick(T0 + MINUTE) == []


def test_books_that_are_polled_are_a_stream_and_leave_a_gap(tmp_path: Path) -> None:
    first = Crash(tmp_path)
    session = ToySession("n-1-1", [stream("book_snapshot", "AAA")])
    first.pipeline.open(session, name="book_snapshot", source="rest", url="http://toy", now=T0)
    asked = BookSnapshot(
        "AAA", "depth", T0, None, T0 + SECOND, "n-1-1", 2, 0, "rest", Raw(b'[["1","2"]]'), Raw(b"[]"), 7, 1000
    )
    first.intake.lane((*MARKET, "book_snapshot")).offer((lines_of([asked]),), 100)
    first.write(T0 + SECOND)
    first.die()
    with Crash(tmp_path, T0 + 10 * SECOND) as second:
        assert [(gap.kind, gap.cause) for gap in second.writer.manifest.gaps()] == [("book_snapshot", "crash")]


# --- the lines of a stream as they are on the disk, without the pipeline that wrote them ---


def life(
    writer: LakeWriter, market: tuple[str, str], session: str, events: list[Event], number: int, source: str = "ws"
) -> SegmentRow:
    """A session that a crash interrupts, and its lines, one damaged: of the ends of gaps nothing was recorded."""
    kind = next(
        name for name in ("trade", "quote", "book_delta", "liquidation") if type(events[0]) is KINDS[name].struct
    )
    at = events[0].ts_recv
    place = {"exchange": market[0], "market_type": market[1]}
    writer.record_sessions([SessionRow(session=session, **place, source=source, url="u", opened_at=at)])
    path = layout.raw_path(*market, kind, at, "n", number)
    row = SegmentRow(path=path, **place, kind=kind, state="open", period_start=at)
    writer.open_segment(row)
    with SegmentFile(writer.root, row) as file:
        data = encode_lines(events[:1]) + b'{"symbol":3}\n' + encode_lines(events[1:])
        file.append(data, len(events) + 1, extent(events))
        file.sync()
    return row


def settled(writer: LakeWriter, now: int) -> list[Gap]:
    recovery.settle(writer, writer.recover(now), now)
    return sorted(writer.manifest.gaps(), key=lambda gap: gap.ts_from)


def update(
    at: int, last: int | None, session: str, before: int | None = None, flags: tuple[str, ...] = (), source: str = "ws"
) -> BookDelta:
    none = Raw(b"[]")
    return BookDelta("A", "d", T0 + at, None, T0 + at, session, 1, 0, source, none, none, None, last, before, 7, flags)


def forced(at: int, session: str) -> Liquidation:
    place = ("A", "l", T0 + at, None, T0 + at, session, at, 0, "ws")
    return Liquidation(*place, side="buy", price="1", avg_price=None, qty="1")


def sold(at: int, seq: int, session: str) -> Trade:
    place = ("A", "trade", T0 + at, None, T0 + at, session, 1, 0, "ws")
    return Trade(*place, price="1", qty="1", side="buy", seq=seq, condition="market")


def test_a_books_gap_ends_with_the_first_update_behind_it_though_the_crash_came_before_it_was_said(
    tmp_path: Path,
) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [update(0, 10, "a-1-1", 5), update(9, 20, "a-1-1", 10)], 1)
        (gap,) = settled(writer, T0 + SECOND)
        assert (gap.id_from, gap.ts_to) == (21, None)
        rows = [
            update(2 * SECOND, 90, "b-1-1", flags=("snapshot",), source="rest"),  # no stream brought it
            update(2 * SECOND + 5, 34, "b-1-1", 30),
            update(2 * SECOND + 9, 38, "b-1-1", 34),
        ]
        life(writer, MARKET, "b-1-1", rows, 2)
        ended, new = settled(writer, T0 + 3 * SECOND)
        assert (ended.gap_id, ended.state, ended.proof) == (gap.gap_id, "open", "ids")
        assert (ended.id_from, ended.id_to, ended.ts_to) == (21, 31, T0 + 2 * SECOND + 6)
        assert (new.id_from, new.ts_to) == (39, None)


STREAMS = {
    "trades": ("binance", "spot", "trade", lambda at, first, last, before: sold(at, last, "b-1-1")),
    "updates of a spot book": (
        "binance", "spot", "book_delta",
        lambda at, first, last, before: msgspec.structs.replace(update(at, last, "b-1-1"), first_id=first),
    ),
    "updates of a futures' book": (
        "binance", "linear", "book_delta", lambda at, first, last, before: update(at, last, "b-1-1", first - 1)
    ),
    "updates behind a whole": (
        "okx", "spot", "book_delta",
        lambda at, first, last, before: (
            update(at, last, "b-1-1", first - 1) if before else update(at, last, "b-1-1", flags=("snapshot",))
        ),
    ),
    "messages with checksums": (
        "kraken", "spot", "book_delta",
        lambda at, first, last, before: update(at, at, "b-1-1", before, () if before else ("snapshot",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
@given(steps=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, SECOND)), min_size=1, max_size=6))
def test_what_is_read_behind_a_gap_ends_it_as_the_stream_would_have(
    name: str, steps: list[tuple[int, int, int]]
) -> None:
    *lane, make = STREAMS[name]
    events, at, last, before = [], SECOND, 30, 0
    for skipped, covered, later in steps:
        first = last + skipped + 1
        last = first if name == "trades" else first + covered - 1
        events.append(make(at, first, last, before))
        at, before = at + later, at
    stop = {"A": Resume(T0, 30, "a-1-1", "crash")}
    stream = merger_maker(load(lane[0]), lane[1])(lane[2])
    stream.resume(stop)
    (gap,) = stream.tick(T0)
    read = [msgspec.structs.replace(event) for event in events if stream.merge(event)]
    (wanted,) = (one for one in stream.tick(T0 + HOUR) if one.gap_id == gap.gap_id)
    memory = memory_of(tuple(lane))
    memory.resume(stop)
    assert memory.tick(T0) == [gap]
    found: dict[str, tuple[int | None, int]] = {}
    for event in read:
        recovery._note_resumption(found, gap, event)
    ended = recovery._ended(gap, *found[gap.gap_id], T0 + HOUR)
    assert (ended.ts_to, ended.id_from, ended.id_to, ended.state, ended.proof) == (
        wanted.ts_to, wanted.id_from, wanted.id_to, wanted.state, wanted.proof
    )  # fmt: skip


def test_a_books_gap_is_none_where_the_first_update_behind_it_reaches_back_over_it(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [update(0, 10, "a-1-1", 5), update(9, 20, "a-1-1", 10)], 1)
        (gap,) = settled(writer, T0 + SECOND)
        life(writer, MARKET, "b-1-1", [update(2 * SECOND, 34, "b-1-1", 14)], 2)
        (ended,) = (one for one in settled(writer, T0 + 3 * SECOND) if one.gap_id == gap.gap_id)
        assert (ended.state, ended.id_from, ended.id_to) == ("empty", 21, 21)


def test_updates_that_a_book_lacked_when_the_crash_came_are_a_gap(tmp_path: Path) -> None:
    """A merger waits a moment, for another connection may bring them, before it says so."""
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        rows = [update(0, 10, "a-1-1", 5), update(9, 20, "a-1-1", 15), update(11, 30, "a-1-1", 20)]
        life(writer, MARKET, "a-1-1", rows, 1)
        hole, crash = settled(writer, T0 + SECOND)
        assert (hole.cause, hole.id_from, hole.id_to, hole.ts_from, hole.ts_to) == ("jump", 11, 16, T0, T0 + 10)
        assert (hole.state, hole.detected_at) == ("open", T0 + SECOND)
        assert (crash.cause, crash.id_from) == ("crash", 31)
        assert settled(writer, T0 + 2 * SECOND) == [hole, crash]


@pytest.mark.parametrize("started", [2 * SECOND, -HOUR], ids=["in time", "with its clock set back"])
def test_updates_that_are_missing_behind_an_interruption_that_was_none_are_a_gap_of_that_name(
    tmp_path: Path, started: int
) -> None:
    """Another connection repeats the last update, so that nothing was missing; then it leaves some out."""
    last, stream, told = update(0, 10, "a-1-1", 5), memory_of((*MARKET, "book_delta")), list[Gap]()
    assert stream.merge(last)
    told += stream.interrupt("a-1-1", ["A"], "disconnect", T0 + 1)
    assert not stream.merge(update(0, 10, "b-1-1", 5))
    told += stream.tick(T0 + 2)
    behind = [update(SECOND, 20, "b-1-1", 15), update(SECOND + 9, 30, "b-1-1", 20)]
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        for gap in told:
            writer.record_gaps([gap])
        assert [gap.state for gap in writer.manifest.gaps()] == ["empty"]
        life(writer, MARKET, "b-1-1", [last, *behind], 1)
        hole, crash = settled(writer, T0 + started)
        assert (hole.gap_id, hole.state, hole.cause) == (told[0].gap_id, "open", "jump")
        assert (hole.id_from, hole.id_to, hole.ts_from, hole.ts_to) == (11, 16, T0, T0 + SECOND + 1)
        assert (crash.cause, crash.id_from) == ("crash", 31)
        assert settled(writer, T0 + started + SECOND) == [hole, crash]
    made = rebuild(tmp_path, "n", T0 + 2 * SECOND)
    assert made.ok, made
    with LakeWriter.open(tmp_path, "n", T0 + 3 * SECOND) as writer:
        assert sorted(writer.manifest.gaps(), key=lambda gap: gap.ts_from) == [hole, crash]


def test_updates_that_came_and_were_given_up_are_not_told_to_be_missing_twice(tmp_path: Path) -> None:
    place = {"exchange": "binance", "market_type": "spot", "kind": "book_delta", "symbol": "A", "state": "open"}
    shed = Gap("shed", **place, ts_from=T0 + 3, ts_to=T0 + 7, id_from=None, id_to=None, cause="shed", proof="counted",
               session="a-1-1", detected_at=T0)  # fmt: skip
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        writer.record_gaps([shed])
        rows = [update(0, 10, "a-1-1", 5), update(9, 20, "a-1-1", 15), update(11, 30, "a-1-1", 25)]
        life(writer, MARKET, "a-1-1", rows, 1)
        assert [(gap.cause, gap.id_from) for gap in settled(writer, T0 + SECOND)] == [
            ("shed", None),
            ("jump", 21),
            ("crash", 31),
        ]


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "messages with checksums"])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans(), st.booleans()), min_size=2, max_size=12
    )
)
def test_what_is_read_again_lacks_what_the_stream_lacked(name: str, steps: list[tuple[int, int, bool, bool]]) -> None:
    """Two connections that tell much twice: of the rows that were stored another memory finds the same holes."""
    *lane, make = STREAMS[name]
    stream, again = merger_maker(load(lane[0]), lane[1])(lane[2]), memory_of(tuple(lane))
    last, before = 30, 0
    for at, (skipped, covered, both, other) in enumerate(steps, SECOND):
        first = last + skipped + 1
        last = first if name == "trades" else first + covered - 1
        event = make(at, first, last, before)
        event.session = "c-1-1" if other else "b-1-1"
        copies = [event, msgspec.structs.replace(event, session="d-1-1")] if both else [event]
        for row in [one for one in copies if stream.merge(one)]:
            again.merge(row)
        before = at
    assert again.tick(T0 + HOUR) == stream.tick(T0 + HOUR)


def test_a_book_that_is_proven_by_checksums_has_gaps_of_time_alone(tmp_path: Path) -> None:
    """Its rows have places made of the venue's time: as ids they would tell of a million that are missing."""
    market = ("kraken", "spot")
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, market, "a-1-1", [update(0, 10, "a-1-1"), update(9, 20, "a-1-1", 10)], 1)
        (gap,) = settled(writer, T0 + SECOND)
        assert (gap.ts_from, gap.ts_to, gap.id_from) == (T0 + 9, None, None)
        writer.record_gaps([msgspec.structs.replace(gap, id_from=21)])  # as it was written once
        whole = update(2 * SECOND, 2_000_000, "b-1-1", flags=("snapshot",))
        life(writer, market, "b-1-1", [whole, update(2 * SECOND + 5, 2_000_005, "b-1-1", 2_000_000)], 2)
        ended, new = settled(writer, T0 + 3 * SECOND)
        assert (ended.gap_id, ended.ts_to, ended.missing) == (gap.gap_id, T0 + 2 * SECOND, None)
        assert (ended.id_from, new.id_from, new.ts_to) == (None, None, None)


def test_a_book_of_which_the_last_thing_known_is_that_it_is_wrong_is_missing_from_there_on(tmp_path: Path) -> None:
    """Up to the row that says so it is the checksum's gap, behind it the crash's."""
    market = ("kraken", "spot")
    rows = [update(0, 10, "a-1-1"), update(9, 20, "a-1-1", 10), update(40, None, "a-1-1", flags=("clear",))]
    broken = CheckedMerger(*market, "book_delta")
    assert broken.merge_all(rows) == rows
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, market, "a-1-1", rows, 1)
        writer.record_gaps(broken.tick(T0 + 41))
        wrong, crash = settled(writer, T0 + SECOND)
        assert (wrong.cause, wrong.ts_from, wrong.ts_to) == ("checksum", T0 + 9, T0 + 40)
        assert (crash.cause, crash.ts_from, crash.ts_to) == ("crash", T0 + 40, None)


WRONG = [update(0, 10, "a-1-1"), update(9, 20, "a-1-1", 10), update(40, None, "a-1-1", flags=("clear",))]
WHOLE = [update(60, 60, "a-1-1", flags=("snapshot",)), update(70, 70, "a-1-1", 60)]


@pytest.mark.parametrize(
    "rows, end", [(WRONG, 40), (WRONG + WHOLE, 60)], ids=["wrong to the end", "known again before the crash"]
)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_checksum_that_did_not_hold_is_a_gap_though_the_crash_came_before_it_was_said(
    tmp_path: Path, rows: list[Event], end: int, recorded: bool
) -> None:
    market = ("kraken", "spot")
    merger = CheckedMerger(*market, "book_delta")
    merger.merge_all(rows)
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, market, "a-1-1", rows, 1)
        (told,) = merger.tick(T0 + 99)
        if recorded:
            writer.record_gaps([told])
        for now in (T0 + SECOND, T0 + 2 * SECOND):
            wrong, crash = settled(writer, now)
            assert (wrong.gap_id, wrong.cause, wrong.state) == (told.gap_id, "checksum", "open")
            assert (wrong.ts_from, wrong.ts_to, crash.cause) == (T0 + 9, T0 + end, "crash")
            assert crash.ts_from == rows[-1].ts_event, "the crash's begins where the lines end"


@pytest.mark.parametrize("rows, end", [(WRONG[:2], None), (WRONG, 40), (WRONG + WHOLE, 60)])
def test_a_checksum_that_did_not_hold_and_was_told_is_wrong_until_the_next_whole(
    tmp_path: Path, rows: list[Event], end: int | None
) -> None:
    """The row that says so may be gone, what came behind it may be there."""
    market = ("kraken", "spot")
    merger = CheckedMerger(*market, "book_delta")
    merger.merge_all(WRONG)
    (told,) = merger.tick(T0 + 99)
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        writer.record_gaps([told])
        life(writer, market, "a-1-1", rows, 1)
        found = {gap.gap_id: gap for gap in settled(writer, T0 + SECOND)}
        assert found[told.gap_id].ts_to == (end and T0 + end)


def test_of_a_book_that_nothing_is_known_of_nothing_is_wrong_and_history_is_no_stream(tmp_path: Path) -> None:
    market, clear = ("kraken", "spot"), update(0, None, "a-1-1", flags=("clear",))
    late = update(3, 3, "a-1-1", 2)
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        bought = [msgspec.structs.replace(row, session="h-1-1") for row in WRONG if row.flags]
        life(writer, market, "h-1-1", bought, 1, source=HISTORY)
        life(writer, market, "a-1-1", [clear, *WHOLE, late, clear], 2)
        (crash,) = settled(writer, T0 + SECOND)
        assert (crash.cause, crash.ts_from, crash.ts_to) == ("crash", T0 + 70, None), "it begins where that one would"


def test_a_book_that_a_whole_proves_to_be_the_same_lacks_nothing(tmp_path: Path) -> None:
    market = ("kraken", "spot")
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, market, "a-1-1", [*WRONG, update(9, 21, "a-1-1", flags=("snapshot",))], 1)
        assert [(gap.cause, gap.state) for gap in settled(writer, T0 + SECOND) if gap.cause == "checksum"] == [
            ("checksum", "empty")
        ]


def test_a_gap_behind_which_the_venue_numbered_anew_ends_in_time_and_has_no_ids(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [sold(0, 900, "a-1-1"), sold(9, 901, "a-1-1")], 1)
        (gap,) = settled(writer, T0 + SECOND)
        assert (gap.id_from, gap.ts_to) == (902, None)
        life(writer, MARKET, "b-1-1", [sold(2 * SECOND, 5, "b-1-1"), sold(2 * SECOND + 1, 6, "b-1-1")], 2)
        told = {one.cause: one for one in settled(writer, T0 + 3 * SECOND)}
        ended = next(one for one in writer.manifest.gaps() if one.gap_id == gap.gap_id)
        assert (ended.ts_to, ended.state) == (T0 + 2 * SECOND, "open")
        assert (ended.id_from, ended.id_to, ended.detail) == (None, None, None), "no other gap tells what it tells"
        assert (told["crash"].ts_from, told["crash"].id_from) == (T0 + 2 * SECOND + 1, 7)


@pytest.mark.parametrize("kind", ["trade", "book_delta"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_a_new_numbering_left_out_is_told_though_only_its_first_ids_came(
    tmp_path: Path, kind: str, count: int
) -> None:
    def made(at: int, last: int) -> Event:
        return sold(at, last, "a-1-1") if kind == "trade" else update(at, last, "a-1-1", last - 1)

    later = range(count)
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        rows = [made(0, 900), made(9, 901), *(made(4 * SECOND + n, 5 + n) for n in later)]
        life(writer, MARKET, "a-1-1", rows, 1)
        reset, crash = settled(writer, T0 + 5 * SECOND)
        assert (reset.cause, reset.state, reset.missing) == ("id_reset", "open", None)
        assert (reset.ts_from, reset.ts_to) == (T0 + 9, T0 + 4 * SECOND + 1)
        assert (crash.cause, crash.id_from) == ("crash", 5 + count)
        assert settled(writer, T0 + 6 * SECOND) == [reset, crash]
        writer.record_gaps([msgspec.structs.replace(reset, gap_id="behind-an-interruption", ts_from=T0 + SECOND)])
        life(writer, MARKET, "b-1-1", [made(5 * SECOND, 5 + count)], 2)
        assert [gap.cause for gap in settled(writer, T0 + 7 * SECOND)].count("id_reset") == 2
    with LakeWriter.open(tmp_path / "other", "n", T0) as other:  # that row alone says it, too
        life(other, MARKET, "a-1-1", rows, 1)
        other.record_gaps([msgspec.structs.replace(reset, gap_id="behind-an-interruption", ts_from=T0 + SECOND)])
        assert [gap.cause for gap in settled(other, T0 + 5 * SECOND)].count("id_reset") == 1


def test_a_numbering_that_began_anew_while_nobody_wanted_the_stream_left_nothing_out(tmp_path: Path) -> None:
    lane = (*MARKET, "trade", "A")
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [sold(0, 900, "a-1-1")], 1)
        writer.record_sessions([msgspec.structs.replace(writer.manifest.sessions()[0], closed_at=T0 + 1)])
        writer.record_coverage(
            [Coverage(*lane, "a-1-1", T0, T0 + 1), Coverage(*lane, "b-1-1", T0 + HOUR, T0 + HOUR + 1)]
        )
        writer.recover(T0 + HOUR)
        life(writer, MARKET, "b-1-1", [sold(HOUR + n, 5 + n, "b-1-1") for n in range(3)], 2)
        assert [gap.cause for gap in settled(writer, T0 + HOUR + SECOND)] == ["crash"]


def test_a_gap_ends_with_what_can_be_read_behind_it_and_not_with_what_came_late(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [sold(0, 1, "a-1-1"), sold(9, 2, "a-1-1")], 1)
        (gap,) = settled(writer, T0 + SECOND)
        late, behind = sold(2 * SECOND, 2, "b-1-1"), sold(2 * SECOND + 5, 9, "b-1-1")
        life(writer, MARKET, "b-1-1", [behind, late, sold(2 * SECOND + 6, 10, "b-1-1")], 2)
        gone = life(writer, MARKET, "c-1-1", [sold(2 * SECOND + 7, 11, "c-1-1")], 3)
        found = writer.recover(T0 + 3 * SECOND)
        (tmp_path / gone.path).unlink()  # by hand
        recovery.settle(writer, found, T0 + 3 * SECOND)
        (ended,) = (one for one in writer.manifest.gaps() if one.gap_id == gap.gap_id)
        assert (ended.id_from, ended.id_to, ended.ts_to) == (3, 9, T0 + 2 * SECOND + 6)


def test_a_quotes_gap_ends_with_the_first_behind_it_though_the_crash_came_before_it_was_said(tmp_path: Path) -> None:
    def quoted(at: int, session: str) -> Quote:
        place = ("A", "quote", T0 + at, None, T0 + at, session, 1, 0, "ws")
        return Quote(*place, bid="1", bid_qty="1", ask="2", ask_qty="1", update_id=at)

    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [quoted(0, "a-1-1"), quoted(9, "a-1-1")], 1)
        (gap,) = settled(writer, T0 + SECOND)
        life(writer, MARKET, "b-1-1", [quoted(2 * SECOND, "b-1-1"), quoted(2 * SECOND + 1, "b-1-1")], 2)
        ended, new = settled(writer, T0 + 3 * SECOND)
        assert (ended.gap_id, ended.ts_to, ended.proof) == (gap.gap_id, T0 + 2 * SECOND, "interval")
        assert (new.ts_from, new.ts_to) == (T0 + 2 * SECOND + 1, None)


@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_a_silence_that_was_over_has_its_end_though_the_crash_came_before_it_was_said(
    tmp_path: Path, kind: str
) -> None:
    """What follows is of the very session that had been silent."""
    first, link, event = of_two(tmp_path, kind)
    first.pipeline.stalled(link, stream(kind, "AAA"), T0 + 90 * SECOND)
    first.write(T0 + 90 * SECOND)
    (gap,) = first.gaps(kind)
    assert (gap.ts_from, gap.ts_to, gap.session) == (T0 + SECOND, None, "n-1-1")
    first.pipeline.receive(link, [event(7, 91_000), event(8, 92_000)], T0 + 92 * SECOND)
    first.commit.commit(first.intake.collect(T0 + 92 * SECOND, sync=True))  # the lines, and not yet the gap's end
    first.die()
    with Crash(tmp_path, T0 + 100 * SECOND) as second:
        found = {gap.gap_id: gap for gap in second.gaps(kind)}
        ended, ids = found.pop(gap.gap_id), (3, 7) if kind == "trade" else (None, None)
        assert (ended.state, ended.id_from, ended.id_to) == ("open", *ids)
        (crash,) = found.values()
        assert ended.ts_to == (T0 + 91 * SECOND + 1 if kind == "trade" else crash.ts_from)
        assert (crash.cause, crash.ts_from, crash.ts_to) == ("crash", T0 + 92 * SECOND, None)


def received(event: Trade, at: int) -> Trade:
    """The same, received at another time of our clock."""
    return msgspec.structs.replace(event, ts_recv=T0 + at)


def test_what_ends_a_gap_is_found_in_what_was_written_last_though_the_clock_was_set_back(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        for n in range(4):
            life(writer, MARKET, f"a-{n}-1", [sold(n * MINUTE, n, f"a-{n}-1")], n + 1)
        gap = settled(writer, T0 + HOUR)[-1]
        assert (gap.id_from, gap.ts_to) == (4, None)
        rows = [received(sold(5 * MINUTE + n, 9 + n, "b-1-1"), n - HOUR) for n in range(2)]
        life(writer, MARKET, "b-1-1", rows, 5)
        (ended,) = (one for one in settled(writer, T0 - HOUR + MINUTE) if one.gap_id == gap.gap_id)
        assert (ended.id_from, ended.id_to, ended.ts_to) == (4, 9, T0 + 5 * MINUTE + 1)


@pytest.mark.parametrize("taken", [False, True], ids=["lines", "tables"])
def test_where_a_stream_was_before_the_clock_was_set_back_is_where_it_was(tmp_path: Path, *, taken: bool) -> None:
    """Nothing is missing between the last row before the clock was set back and the first one behind that."""
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    for n, minutes in enumerate((-120, 0, 1, 2), start=1):
        at = T0 + minutes * MINUTE
        first.pipeline.receive(link, [t(n, minutes * 60_000)], at)
        first.write(at + SECOND, covered=True)
    before = T0 + 3 * MINUTE
    work = first.intake.collect(before - HOUR, sync=True)
    work.stepped_from = before
    first.commit.commit(work)
    if taken:
        transform_once(first.writer, InlineExecutor(), before, TransformerConfig())
        assert not [row for row in first.writer.manifest.segments(*MARKET, "trade", "sealed") if row.rows]
    first.pipeline.receive(link, [t(5, 181_000), t(8, 182_000)], before - HOUR + SECOND)
    first.commit.commit(first.intake.collect(before - HOUR + SECOND, sync=True))
    first.die()
    with Crash(tmp_path, before - HOUR + MINUTE) as second:
        holes = [(gap.id_from, gap.id_to) for gap in second.gaps("trade") if gap.cause == "jump"]
        assert holes == [(6, 8)]


def test_a_hole_in_front_of_a_segment_that_is_in_tables_already_is_said_at_the_next_start(tmp_path: Path) -> None:
    at = T0 + MINUTE - T0 % MINUTE
    first = Crash(tmp_path)
    link = first.open("n-1-1")
    first.pipeline.receive(link, [t(1, 0), t(2, 100)], at - 20 * SECOND)
    first.write(at, covered=True)
    first.pipeline.receive(link, [t(5, 30_000)], at + SECOND)
    first.commit.commit(first.intake.collect(at + SECOND, sync=True, final=True))
    first.intake.record(coverage=[Coverage(*MARKET, "trade", "AAA", "n-1-1", T0, T0 + 30_000_001)])
    first.commit.commit(first.intake.collect(at + SECOND, sync=True))
    assert first.gaps("trade") == []
    transform_once(first.writer, InlineExecutor(), at + SECOND, TransformerConfig())
    first.die()
    with Crash(tmp_path, at + MINUTE) as second:
        holes = [(gap.id_from, gap.id_to) for gap in second.gaps("trade") if gap.cause == "jump"]
        assert holes == [(3, 5)]


def test_an_interrupted_page_of_history_has_no_coverage_of_its_own_and_is_no_stream(tmp_path: Path) -> None:
    """What a page covers is recorded with it; what of it was not is asked for again."""
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "h-1-1", [sold(0, 1, "h-1-1"), sold(9, 5, "h-1-1")], 1, HISTORY)
        assert settled(writer, T0 + SECOND) == []
        (row,) = writer.manifest.sessions()
        assert (row.close_cause, row.closed_at, writer.manifest.coverage()) == ("crash", T0 + 9, [])


def test_a_silent_stream_that_is_covered_beyond_the_last_line_is_covered_no_further(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        life(writer, MARKET, "a-1-1", [sold(0, 1, "a-1-1"), sold(9, 2, "a-1-1")], 1)
        silent = Coverage(*MARKET, "trade", "B", "a-1-1", T0, T0 + 30)
        writer.record_coverage([silent])
        settled(writer, T0 + SECOND)
        assert writer.manifest.coverage() == [Coverage(*MARKET, "trade", "A", "a-1-1", T0, T0 + 9), silent]


def test_a_growing_gap_of_what_is_looked_up_waits_for_the_next_look(tmp_path: Path) -> None:
    place = {"exchange": "binance", "market_type": "spot", "kind": "contract", "symbol": "A", "proof": "interval"}
    gap = Gap(
        "g", **place, ts_from=T0, ts_to=None, id_from=None, id_to=None, cause="disconnect", state="open",
        session=None, detected_at=T0,
    )  # fmt: skip
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        writer.record_gaps([gap])
        assert settled(writer, T0 + SECOND) == [gap]


def test_of_several_interruptions_of_notices_that_never_ended_the_first_goes_on(tmp_path: Path) -> None:
    lane = (*MARKET, "contract", "*")
    first, second = (
        Gap(gap_id(*lane, None, at), *lane, at, None, None, None, "stopped", "interval", "open", "n-0-1", at)
        for at in (T0, T0 + HOUR)
    )
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        writer.record_gaps([first, second])
        stops = recovery.settle(writer, writer.recover(T0 + 2 * HOUR), T0 + 2 * HOUR)
        assert stops[lane[:3]] == {"*": Resume(T0, None, "n-0-1", "stopped")}
        held, part = writer.manifest.gaps()
        assert held == first
        assert (part.gap_id, part.ts_to) == (second.gap_id, second.ts_from + 1)
        assert first.gap_id in (part.detail or "")


def test_an_interruption_of_notices_that_has_ended_is_over(tmp_path: Path) -> None:
    lane = (*MARKET, "contract", "*")
    name = gap_id(*lane, None, T0)
    gap = Gap(name, *lane, T0, T0 + HOUR, None, None, "stopped", "interval", "open", "n-0-1", T0)
    with LakeWriter.open(tmp_path, "n", T0) as writer:
        writer.record_gaps([gap])
        assert recovery.settle(writer, writer.recover(T0 + 2 * HOUR), T0 + 2 * HOUR) == {}
        assert writer.manifest.gaps() == [gap]
