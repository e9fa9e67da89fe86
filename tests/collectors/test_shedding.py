"""What is given up under pressure: one declared order, exact gaps, whole frames."""

from __future__ import annotations

import pytest

from collectors.config import WritingConfig
from collectors.intake import MOST_ROWS, Intake, RejectedFrame
from collectors.links import Link
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.shedding import LAST, ORDER, Shedding, rank, stopped_kinds
from market.kinds import KINDS
from market.session import Coverage, Gap
from tests.support import life, toy
from tests.support.lines import frames_of
from tests.support.toy import T0, ToySession, q, stream, t

MARKET = ("binance", "spot")


def test_every_kind_that_is_collected_has_its_place_in_the_order() -> None:
    placed = [kind for group in (*ORDER, LAST) for kind in group]
    assert sorted(placed) == sorted(name for name, kind in KINDS.items() if not kind.derived)
    assert stopped_kinds(0) == frozenset()
    assert stopped_kinds(2) == {"book_snapshot", "book_delta", "quote"}
    assert stopped_kinds(len(ORDER)).isdisjoint(LAST)
    ranks = [rank(group[0]) for group in ORDER]
    assert ranks == sorted(ranks)
    assert (ranks[0], ranks[-1]) == (0.5, 1.0)


def trades(*numbers: int) -> list:
    return [life.event("trade", "BTCUSDT", n, T0 + n * 1000, "n-1-1", n, T0 + n * 1000) for n in numbers]


def test_ids_given_up_are_one_gap_a_run() -> None:
    shedding = Shedding("binance", "linear", "trade")
    (begun,) = shedding.give_up(trades(5, 6), "disk_full", "no room")
    assert (begun.id_from, begun.id_to, begun.ts_to) == (5, None, None)
    assert shedding.give_up(trades(7), "disk_full", "no room") == []
    (second,) = shedding.give_up(trades(9), "read_only", "no room")
    assert second.gap_id != begun.gap_id
    ended = shedding.end()
    assert [(gap.gap_id, gap.id_from, gap.id_to, gap.cause, gap.proof) for gap in ended] == [
        (begun.gap_id, 5, 8, "disk_full", "ids"), (second.gap_id, 9, 10, "disk_full", "ids"),
    ]  # fmt: skip
    assert (ended[0].ts_from, ended[0].ts_to) == (T0 + 5_000, T0 + 7_001)
    assert not shedding
    assert shedding.end() == []


def test_too_many_runs_become_one_interval_that_holds_them_all() -> None:
    shedding = Shedding("binance", "linear", "trade")
    shedding.give_up(trades(*range(1, 1000, 2)), "disk_full", "no room")
    ended = shedding.end()
    assert len(ended) == 64
    assert ended[-1].id_to == 1000
    named = {n for gap in ended for n in range(gap.id_from or 0, gap.id_to or 0)}
    assert named >= set(range(1, 1000, 2))


class Bench:
    def __init__(self, **writing: object) -> None:
        config = WritingConfig.model_validate(writing)
        self.intake = Intake(config)
        self.pipeline = Pipeline(*MARKET, self.intake, merger_maker(toy, "spot"), frames=config.frames)
        session = ToySession("n-1-1", [stream("trade", "AAA"), stream("quote", "AAA")])
        self.link: Link
        self.link, _ = self.pipeline.open(session, name="toy", source="ws", url="ws://toy", now=T0)
        self.intake.collect(T0)

    def receive(self, *frames: bytes) -> None:
        self.pipeline.receive(self.link, frames, T0)

    def kept(self) -> tuple[list[bytes], set[str]]:
        """Frames and kinds that wait."""
        work = self.intake.collect(T0)
        frames = [line.data for _, pieces in work.frames for line in frames_of(pieces)]
        return frames, {lane[2] for lane, _ in work.events}


def test_a_kind_that_is_stopped_goes_with_its_frames_and_no_other_does() -> None:
    bench = Bench()
    bench.intake.press(frozenset({"quote"}))
    bench.receive(t(1, 0), q(1, 0), b"ack", q(2, 1), t(2, 1), b"?")
    assert bench.kept() == ([t(1, 0), b"ack", t(2, 1), b"?"], {"trade"})
    bench.intake.press(frozenset())
    assert bench.pipeline.relieve() == 1
    bench.receive(q(3, 2))
    assert bench.kept() == ([q(3, 2)], {"quote"})


def test_the_numbers_of_frames_that_are_kept_stay_their_own() -> None:
    bench = Bench()
    bench.intake.press(frozenset({"quote"}))
    bench.receive(t(1, 0), q(1, 0), t(2, 1))
    work = bench.intake.collect(T0)
    assert [line.n for _, pieces in work.frames for line in frames_of(pieces)] == [1, 3]


def test_a_defect_keeps_its_frame_under_pressure_too() -> None:
    bench = Bench()
    bench.intake.press(frozenset({"quote"}))
    with pytest.raises(ZeroDivisionError):
        bench.receive(t(1, 0), b"boom")
    assert bench.kept()[0] == [t(1, 0), b"boom"]


def test_in_an_outage_reading_never_waits_and_a_market_goes_as_a_whole_once_its_memory_is_full() -> None:
    bench = Bench(queue_mb=1)
    bench.receive(*[t(n, n) for n in range(1, 6_000)])
    assert bench.pipeline.full
    bench.intake.begin_outage("disk_full")
    assert not bench.pipeline.full
    held = bench.intake.waiting_bytes
    for n in range(6_000, 6_100):
        bench.receive(t(n, n), q(n, n))
    assert bench.intake.waiting_bytes == held
    assert bench.pipeline.totals.shed == {"trade": 100, "quote": 100}
    work = bench.intake.urgent(T0)
    assert {(gap.kind, gap.cause, gap.ts_to) for gap in work.gaps} == {
        ("trade", "disk_full", None), ("quote", "disk_full", None),
    }  # fmt: skip
    bench.intake.end_outage()
    bench.intake.collect(T0)
    assert bench.pipeline.relieve() == 2
    gaps = {gap.kind: gap for gap in bench.intake.collect(T0).gaps}
    assert (gaps["trade"].id_from, gaps["trade"].id_to) == (6_000, 6_100)


async def test_who_waits_for_room_goes_on_when_an_outage_begins() -> None:
    bench = Bench(queue_mb=1)
    bench.receive(*[t(n, n) for n in range(1, 6_000)])
    bench.intake.begin_outage("disk_full")
    await bench.pipeline.room()


def test_all_queues_together_have_a_bound_and_books_go_before_quotes() -> None:
    intake = Intake(WritingConfig(queue_mb=16, queue_total_mb=8))
    blocking = [intake.frames(MARKET), intake.lane((*MARKET, "trade")), intake.lane((*MARKET, "agg_trade"))]
    assert sum(channel.max_bytes for channel in blocking) <= 4 * 1024 * 1024
    quotes, books = intake.lane((*MARKET, "quote")), intake.lane((*MARKET, "book_delta"))
    quotes.offer([], 1_500_000)
    books.offer([], 500_000)
    assert intake.gives_up((*MARKET, "book_delta")) is None
    books.offer([], 200_000)
    assert intake.gives_up((*MARKET, "book_delta")) is not None
    assert intake.gives_up((*MARKET, "quote")) is None
    quotes.offer([], 700_000)
    assert intake.gives_up((*MARKET, "quote")) is not None
    assert intake.gives_up((*MARKET, "trade")) is None


def test_rows_that_wait_for_an_outage_to_end_are_bounded_and_claim_no_more() -> None:
    intake = Intake(WritingConfig())
    intake.begin_outage("read_only")
    rejected = RejectedFrame(*MARKET, "n-1-1", 1, T0, "no", b"x" * 10_000)
    for n in range(MOST_ROWS + 5_000):
        gap = Gap(f"g{n}", *MARKET, "trade", f"S{n % 3}", T0 + n, T0 + n + 1, n, n + 1, "jump", "ids", "open", None, T0)
        intake.record(gaps=[gap])
        if n % 20 == 0:
            intake.record(coverage=[Coverage(*MARKET, "trade", "S", "n-1-1", n, n + 1)], rejected=[rejected])
    work = intake.collect(T0)
    assert len(work.gaps) + len(work.coverage) + len(work.rejected) <= MOST_ROWS + 1
    assert sum(len(each.frame) for each in work.rejected) < 10 * 1024 * 1024
    named = {(gap.symbol, n) for gap in work.gaps for n in range(gap.id_from or 0, gap.id_to or 0)}
    assert {(f"S{n % 3}", n) for n in range(MOST_ROWS + 5_000)} <= named


def test_a_growing_gap_stays_growing_where_rows_are_condensed() -> None:
    intake = Intake(WritingConfig())
    made = [
        Gap("a", *MARKET, "quote", "S", T0, T0 + 1, None, None, "shed", "counted", "open", None, T0),
        Gap("b", *MARKET, "quote", "S", T0 + 5, None, None, None, "shed", "counted", "open", None, T0),
        Gap("c", *MARKET, "quote", "T", T0 + 5, T0 + 6, None, None, "shed", "counted", "empty", None, T0),
    ]
    intake.begin_outage("read_only")
    intake.record(gaps=made * (MOST_ROWS // 2))
    kept = {gap.gap_id for gap in intake.collect(T0).gaps}
    assert kept == {"a", "b", "c"}, "each but once: that loses nothing"
