"""The pipeline of one market: what comes out of sessions goes where it belongs, and nothing goes missing unsaid."""

from __future__ import annotations

from functools import partial

import pytest

from collectors.clocks import VenueClock
from collectors.config import WritingConfig
from collectors.intake import Intake, Pass, may_shed
from collectors.led import LedMerger
from collectors.links import Link
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.kinds import KINDS
from market.session import Fetch, Leave, Renewal, Resume, Send
from market.times import SECOND
from tests.support import toy
from tests.support.clock import ManualClock
from tests.support.lines import events_of, frames_of
from tests.support.toy import T0, ToySession, q, stream, t

MARKET = ("binance", "spot")


class Bench:
    """A pipeline with its intake."""

    def __init__(self, clock: VenueClock | None = None, **writing: object) -> None:
        config = WritingConfig.model_validate(writing)
        self.intake = Intake(config)
        self.clock = clock or VenueClock(*MARKET)
        made = merger_maker(toy, "spot")
        self.pipeline = Pipeline(*MARKET, self.intake, made, frames=config.frames, clock=self.clock)

    def open(self, name: str = "n-1-1", *streams: tuple[str, str]) -> Link:
        session = ToySession(name, [stream(*one) for one in streams or (("trade", "AAA"), ("quote", "AAA"))])
        link, tasks = self.pipeline.open(session, name="toy-1", source="ws", url="ws://toy", now=T0)
        assert tasks == [Send("subscribe")]
        return link

    def passed(self, now: int = T0, **options: bool) -> Pass:
        self.pipeline.advance(now, covered=True)
        return self.intake.collect(now, **options)


def seqs(work: Pass) -> dict[str, list[int]]:
    return {
        lane[2]: [getattr(event, "seq", None) or event.update_id for event in events_of(lane, held)]
        for lane, held in work.events
    }


def test_events_go_to_their_kinds_and_frames_are_kept_as_they_came() -> None:
    bench = Bench()
    link = bench.open()
    frames = [b"ack", t(1, 0), q(5, 1), t(2, 2), b"x depth"]
    assert bench.pipeline.receive(link, frames, T0 + 7) == []
    work = bench.passed()
    assert seqs(work) == {"trade": [1, 2], "quote": [5]}
    opened, *received = frames_of(work.frames[0][1])
    assert (opened.dir, opened.url) == ("open", "ws://toy")
    assert [(line.dir, line.conn, line.n, line.ts_recv, line.data) for line in received] == [
        ("recv", "n-1-1", number, T0 + 7, frame) for number, frame in enumerate(frames, 1)
    ]
    assert [row.session for row in work.sessions] == ["n-1-1"]


def test_without_frames_only_events_are_kept() -> None:
    bench = Bench(frames=False)
    bench.pipeline.receive(bench.open(), [t(1, 0)], T0)
    work = bench.passed()
    assert work.frames == []
    assert seqs(work) == {"trade": [1]}


def test_what_two_sessions_deliver_is_stored_once() -> None:
    bench = Bench()
    one, two = bench.open("n-1-1"), bench.open("n-1-2")
    for link in (one, two):
        bench.pipeline.receive(link, [t(1, 0), t(2, 1), q(7, 1)], T0)
    assert seqs(bench.passed()) == {"trade": [1, 2], "quote": [7]}
    assert bench.pipeline.totals.duplicates == {"trade": 2, "quote": 1}


def test_missing_ids_are_a_gap_with_those_ids_once_they_are_not_late() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [t(1, 0), t(5, 1)], T0)
    assert bench.passed(T0 + SECOND).gaps == []
    (gap,) = bench.passed(T0 + 3 * SECOND).gaps
    assert (gap.kind, gap.symbol, gap.id_from, gap.id_to, gap.state) == ("trade", "AAA", 2, 5, "open")
    assert bench.pipeline.totals.gaps == 1


def test_a_session_that_ends_leaves_its_row_its_coverage_and_open_gaps() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [b"ack", t(1, 0), q(1, 500), b"x y"], T0)
    bench.pipeline.close(link, "disconnect", T0 + SECOND, code=1006, detail="1006 gone")
    work = bench.passed(T0 + SECOND)
    row = work.sessions[-1]
    assert (row.closed_at, row.close_cause) == (T0 + SECOND, "disconnect: 1006 gone")
    assert (row.frames, row.events, row.ignored) == (4, 2, 1)
    assert [(c.kind, c.ts_from, c.ts_to) for c in work.coverage] == [
        ("trade", T0, T0 + 500_000), ("quote", T0 + 500_000, T0 + 500_001),
    ]  # fmt: skip
    assert {(gap.kind, gap.cause, gap.ts_to) for gap in work.gaps} == {
        ("trade", "disconnect", None), ("quote", "disconnect", None),
    }  # fmt: skip
    closing = frames_of(work.frames[0][1])[-1]
    assert (closing.dir, closing.code, closing.n) == ("close", 1006, 4)


def test_an_end_that_was_asked_for_is_no_gap() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [t(1, 0), q(1, 0)], T0)
    bench.pipeline.close(link, "stopped", T0 + SECOND, wanted=False)
    bench.pipeline.close(link, "stopped", T0 + SECOND, wanted=False)
    work = bench.passed(T0 + SECOND)
    assert work.gaps == []
    assert len(work.sessions) == 2


def test_a_handover_leaves_no_gap() -> None:
    bench = Bench()
    old = bench.open("n-1-1")
    bench.pipeline.receive(old, [t(1, 0), q(1, 0)], T0)
    new = bench.open("n-1-2")
    bench.pipeline.receive(new, [t(1, 0), t(2, 1), q(2, 1)], T0)
    bench.pipeline.close(old, "handover", T0 + SECOND)
    bench.pipeline.receive(new, [t(3, 2), q(3, 2)], T0)
    assert bench.passed(T0 + 5 * SECOND).gaps == []


def test_a_handover_from_a_connection_on_which_a_stream_had_fallen_silent_says_what_is_missing() -> None:
    bench = Bench()
    old = bench.open("n-1-1")
    bench.pipeline.receive(old, [b"ack", t(1, 0), q(1, 1)], T0)
    heir = bench.open("n-1-2")
    bench.pipeline.receive(heir, [b"ack", q(9, 20_000)], T0 + 20 * SECOND)
    for link in (old, heir):
        bench.pipeline.receive(link, [t(2, 30_000)], T0 + 30 * SECOND)
    bench.pipeline.close(old, "handover", T0 + 31 * SECOND, code=1000)
    (gap,) = bench.passed(T0 + 40 * SECOND).gaps
    assert (gap.kind, gap.ts_from, gap.ts_to, gap.state) == ("quote", T0 + 1_000, T0 + 20 * SECOND, "open")


@pytest.mark.parametrize(
    "since, acknowledged, closed", [(20, 20, True), (29, 20, False), (0, 20, False), (20, 30, False), (20, 0, False)]
)
def test_a_gap_told_of_a_connection_that_is_seconds_behind_is_closed_once_it_has_come_to_where_its_successor_began(
    since: int, acknowledged: int, closed: bool
) -> None:
    """By the venue's time that both have shown, and by the venue's word while the old one was heard; it never came to
    the first quote of the new one before it was left.
    """
    bench = Bench()
    old = bench.open("n-1-1")
    bench.pipeline.receive(old, [b"ack", t(1, 0), q(1, 1)], T0)
    heir = bench.open("n-1-2")
    for state in heir.session.streams():
        state.since, state.acknowledged_at = since and T0 + since * SECOND, acknowledged and T0 + acknowledged * SECOND
    bench.pipeline.receive(heir, [q(9, 27_000)], T0 + 27 * SECOND)
    (gap,) = bench.passed(T0 + 30 * SECOND).gaps
    assert (gap.kind, gap.cause, gap.ts_from, gap.ts_to) == ("quote", "stalled", T0 + 1_000, T0 + 27 * SECOND)
    bench.pipeline.receive(old, [t(2, 26_000)], T0 + 31 * SECOND)
    bench.pipeline.close(old, "handover", T0 + 31 * SECOND, code=1000)
    work = bench.passed(T0 + 40 * SECOND)
    assert [(one.gap_id, one.state) for one in work.gaps] == [(gap.gap_id, "empty")] * closed


def test_a_connection_left_for_its_silent_streams_has_lost_those_that_another_one_serves_by_now() -> None:
    bench = Bench()
    old = bench.open("n-1-1")
    bench.pipeline.receive(old, [b"ack", t(1, 0), q(1, 1)], T0)
    heir = bench.open("n-1-2")
    bench.pipeline.receive(heir, [b"ack", q(9, 20_000)], T0 + 20 * SECOND)
    bench.pipeline.close(old, "silent_stream", T0 + 26 * SECOND, detail="trade:AAA sent nothing for 26 s")
    gaps = {gap.kind: gap for gap in bench.passed(T0 + 30 * SECOND).gaps}
    assert gaps["trade"].ts_to is None
    quote = gaps["quote"]
    assert (quote.ts_from, quote.ts_to, quote.state) == (T0 + 1_000, T0 + 20_000_000, "open")


@pytest.mark.parametrize(
    "cause, code, lost",
    [
        ("silence", None, True),
        ("disconnect", 1011, True),
        ("handover", 1006, True),
        ("handover", 1000, False),
        ("handover", None, False),
        ("disconnect", 1000, False),
    ],
)
def test_a_stream_taken_on_after_its_connection_was_heard_last_has_lost_what_came_between(
    cause: str, code: int | None, lost: bool
) -> None:
    """Forced orders while a connection is frozen: its successor was there in time, as far as it knows."""
    bench, streams = Bench(), (("trade", "AAA"), ("liquidation", "AAA"))
    old = bench.open("n-1-1", *streams)
    bench.pipeline.receive(old, [b"ack", t(1, 1_000)], T0 + SECOND)
    heir = bench.open("n-1-2", *streams)
    bench.pipeline.receive(heir, [b"ack", t(2, 12_000)], T0 + 12 * SECOND)
    bench.pipeline.close(old, cause, T0 + 16 * SECOND, code=code)
    gaps = [gap for gap in bench.passed(T0 + 30 * SECOND).gaps if gap.kind == "liquidation"]
    assert [(gap.ts_from, gap.ts_to, gap.state) for gap in gaps] == [(T0 + SECOND, T0 + 12 * SECOND, "open")] * lost


@pytest.mark.parametrize("ahead", [-3, 0, 3])
def test_all_that_came_since_a_stream_was_taken_on_is_missing_by_the_venue_s_clock(ahead: int) -> None:
    """`ahead`: seconds that our clock is known to be ahead of it."""
    bench = Bench()
    bench.clock.measured(T0 - ahead * SECOND, T0 + SECOND, 2 * SECOND)
    link = bench.open()
    bench.pipeline.receive(link, [b"ack"], T0 + 10 * SECOND)
    bench.pipeline.close(link, "no_first_message", T0 + 25 * SECOND)
    begun = T0 + (10 - max(0, ahead + 1)) * SECOND
    assert {gap.ts_from for gap in bench.passed(T0 + 25 * SECOND).gaps} == {begun}, "no later than it may have been"


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("step", [-90, 90])
def test_a_candle_lost_after_our_clock_was_stepped_lies_in_the_gap(step: int, measured: bool) -> None:
    """Its connection has told none yet, and what our clock said when it was taken on is not what the venue's did."""
    ours = ManualClock(T0)
    clock = VenueClock(*MARKET, ours)
    if measured:
        clock.measured(T0, T0, 0)
    bench = Bench(clock=clock)
    bench.pipeline.seed({"kline": {"AAA": Resume(T0 - SECOND, None, "n-0-1", "")}})
    ours.step(step * SECOND)
    link = bench.open("n-1-1", ("kline", "AAA"))
    bench.pipeline.receive(link, [b"ack"], ours.now() + 2 * SECOND)
    bench.pipeline.close(link, "disconnect", ours.now() + 25 * SECOND, code=1006)
    (gap,) = bench.passed(ours.now() + 30 * SECOND).gaps
    assert T0 - SECOND <= gap.ts_from <= T0 + 2 * SECOND, "no later than the venue's clock may have said"


@pytest.mark.parametrize("step", [-90, 90])
def test_an_interruption_ends_no_earlier_than_the_venue_s_clock_said_whatever_ours_was_stepped_by(step: int) -> None:
    ours = ManualClock(T0)
    bench, streams = Bench(clock=VenueClock(*MARKET, ours)), (("trade", "AAA"), ("liquidation", "AAA"))
    old = bench.open("n-1-1", *streams)
    bench.pipeline.receive(old, [b"ack", t(1, 0)], T0)
    bench.pipeline.close(old, "disconnect", T0 + SECOND)
    ours.step(step * SECOND)
    heir = bench.open("n-1-2", *streams)
    bench.pipeline.receive(heir, [b"ack"], ours.now() + 10 * SECOND)
    bench.pipeline.receive(heir, [t(2, 20_000)], ours.now() + 20 * SECOND)
    *_, gap = [gap for gap in bench.passed(ours.now() + 20 * SECOND).gaps if gap.kind == "liquidation"]
    assert gap.ts_to == T0 + 10 * SECOND + max(0, step) * SECOND


def test_what_was_handed_over_had_nothing_missing_until_then_by_the_venue_s_clock() -> None:
    bench, streams = Bench(), [("liquidation", "AAA")]
    bench.clock.measured(T0 - 10 * SECOND, T0, 0)
    old, heir = bench.open("n-1-1", *streams), bench.open("n-1-2", *streams)
    bench.pipeline.receive(old, [b"ack"], T0)
    bench.pipeline.receive(heir, [b"ack"], T0 + 60 * SECOND)
    bench.pipeline.close(old, "handover", T0 + 120 * SECOND, code=1000)
    bench.pipeline.close(heir, "disconnect", T0 + 121 * SECOND, code=1006)
    (gap,) = bench.passed(T0 + 130 * SECOND).gaps
    assert gap.ts_from == T0 + 108 * SECOND, "and what was under way"


def test_what_nobody_had_ends_by_the_venue_s_clock() -> None:
    bench, streams = Bench(), (("trade", "AAA"), ("liquidation", "AAA"))
    bench.clock.measured(T0 + 3 * SECOND, T0, 0)
    old = bench.open("n-1-1", *streams)
    bench.pipeline.receive(old, [b"ack", t(1, 4_000)], T0 + SECOND)
    heir = bench.open("n-1-2", *streams)
    bench.pipeline.receive(heir, [b"ack", t(2, 15_000)], T0 + 12 * SECOND)
    bench.pipeline.close(old, "silence", T0 + 16 * SECOND)
    (gap,) = [gap for gap in bench.passed(T0 + 30 * SECOND).gaps if gap.kind == "liquidation"]
    assert gap.ts_to == T0 + 15 * SECOND


@pytest.mark.parametrize("ahead", [-3, 0, 3])
def test_the_interruption_of_what_is_silent_by_nature_ends_by_the_venue_s_clock(ahead: int) -> None:
    """`ahead`: seconds that our clock is known to be ahead of it. Ended by ours, forced orders that the venue dates
    later, and which came before the stream was taken on, would lie in no gap.
    """
    bench, streams = Bench(), (("trade", "AAA"), ("liquidation", "AAA"))
    bench.clock.measured(T0 - ahead * SECOND, T0 + SECOND, 2 * SECOND)
    old = bench.open("n-1-1", *streams)
    bench.pipeline.receive(old, [b"ack", t(1, 0)], T0)
    bench.pipeline.close(old, "disconnect", T0 + SECOND)
    heir = bench.open("n-1-2", *streams)
    bench.pipeline.receive(heir, [b"ack"], T0 + 10 * SECOND)
    bench.pipeline.receive(heir, [t(2, 20_000)], T0 + 20 * SECOND)
    *_, gap = [gap for gap in bench.passed(T0 + 20 * SECOND).gaps if gap.kind == "liquidation"]
    assert gap.ts_to == T0 + (10 + max(0, 1 - ahead)) * SECOND, "no earlier than it may have been"


def test_what_is_missing_of_a_stream_that_is_wanted_no_more_is_so_until_then_by_the_venue_s_clock() -> None:
    bench = Bench()
    bench.clock.measured(T0 + 3 * SECOND, T0, 0)
    link = bench.open()
    bench.pipeline.receive(link, [b"ack", q(1, 3_000), t(1, 3_000)], T0)
    bench.pipeline.stalled(link, stream("quote", "AAA"), T0 + 60 * SECOND)
    bench.pipeline.close(link, "retired", T0 + 90 * SECOND)
    *_, gap = [gap for gap in bench.passed(T0 + 99 * SECOND).gaps if gap.kind == "quote"]
    assert gap.ts_to == T0 + 93 * SECOND


def test_a_stream_taken_on_in_time_has_lost_nothing() -> None:
    bench, streams = Bench(), (("trade", "AAA"), ("liquidation", "AAA"))
    old, heir = bench.open("n-1-1", *streams), bench.open("n-1-2", *streams)
    for link in (old, heir):
        bench.pipeline.receive(link, [b"ack", t(1, 1_000)], T0 + SECOND)
    bench.pipeline.receive(old, [t(2, 5_000)], T0 + 5 * SECOND)
    bench.pipeline.close(old, "silence", T0 + 20 * SECOND)
    assert [gap for gap in bench.passed(T0 + 30 * SECOND).gaps if gap.kind == "liquidation"] == []


def test_what_was_kept_of_a_second_connection_goes_on_at_once_where_the_first_one_s_stream_is_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, streams = Bench(), (("quote", "AAA"),)
    bench.pipeline = Pipeline(*MARKET, bench.intake, partial(LedMerger, *MARKET), frames=True, clock=bench.clock)
    leader, heir = bench.open("n-1-1", *streams), bench.open("n-1-2", *streams)
    for link, numbers in ((leader, (1, 2)), (heir, (1, 2, 3))):
        bench.pipeline.receive(link, [b"ack", *(q(n, n * 1_000) for n in numbers)], T0 + 3 * SECOND)
    assert seqs(bench.passed(T0 + 3 * SECOND)) == {"quote": [1, 2]}
    monkeypatch.setattr(leader.session, "tick", lambda _now: [Renewal((stream("quote", "AAA"),))])
    bench.pipeline.tick(leader, T0 + 30 * SECOND)
    assert seqs(bench.passed(T0 + 30 * SECOND)) == {"quote": [3]}, "nothing comes, and nobody leaves"
    assert (leader.row.events, heir.row.events) == (2, 1)


def test_a_stalled_stream_is_a_gap_until_it_sends_again() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [q(1, 0), t(1, 0)], T0)
    bench.pipeline.stalled(link, stream("quote", "AAA"), T0 + 90 * SECOND)
    (gap,) = bench.passed().gaps
    assert (gap.kind, gap.cause, gap.ts_from, gap.ts_to) == ("quote", "stalled", T0, None)
    bench.pipeline.receive(link, [q(9, 95_000)], T0 + 95 * SECOND)
    (ended,) = bench.passed().gaps
    assert (ended.gap_id, ended.ts_to) == (gap.gap_id, T0 + 95 * SECOND)


def test_a_seeded_stream_that_goes_on_is_no_loss_and_one_that_jumped_has_its_ids() -> None:
    for first, state, ids in ((101, "empty", (101, 101)), (104, "open", (101, 104))):
        bench = Bench()
        bench.pipeline.seed({"trade": {"AAA": Resume(T0, 100, "n-0-1", "crash", "frames 7 to 9")}})
        (opened,) = bench.passed().gaps
        assert (opened.cause, opened.id_from, opened.ts_to, opened.detail) == ("crash", 101, None, "frames 7 to 9")
        bench.pipeline.receive(bench.open(), [t(first, 1000)], T0)
        (gap,) = bench.passed(T0 + 5 * SECOND).gaps
        assert (gap.gap_id, gap.state, gap.id_from, gap.id_to) == (opened.gap_id, state, *ids)


def test_rejected_frames_are_recorded_with_their_bytes() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [b"<html>", t(1, 0), b"\xff"], T0)
    work = bench.passed()
    assert [(r.frame_no, r.frame, r.reason) for r in work.rejected] == [
        (1, b"<html>", "not understood"), (3, b"\xff", "not understood"),
    ]  # fmt: skip
    assert seqs(work) == {"trade": [1]}


def test_what_a_session_wants_done_comes_back_to_its_driver() -> None:
    bench = Bench()
    assert bench.pipeline.receive(bench.open(), [t(1, 0), b"leave silence"], T0) == [Leave("silence", "so it was said")]


def test_answers_are_frames_with_their_headers() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.respond(link, Fetch("info", "GET", "http://x/info"), 429, {"retry-after": "3"}, b"\xff", T0)
    line = frames_of(bench.passed().frames[0][1])[-1]
    assert (line.dir, line.status, line.tag, line.headers, line.n) == ("http", 429, "info", {"retry-after": "3"}, 1)
    assert line.data == b"\xff"


def test_a_defect_of_ours_keeps_the_frames_and_what_came_before_it() -> None:
    bench = Bench()
    link = bench.open()
    with pytest.raises(ZeroDivisionError):
        bench.pipeline.receive(link, [t(1, 0), b"boom", t(2, 0)], T0)
    work = bench.passed()
    assert seqs(work) == {"trade": [1]}
    assert [line.data for line in frames_of(work.frames[0][1])[1:]] == [t(1, 0), b"boom", t(2, 0)]


def test_trades_are_never_shed_and_make_reading_wait() -> None:
    assert not may_shed("trade")
    assert not may_shed("agg_trade")
    assert may_shed("quote")
    bench = Bench(queue_mb=1, frames=False)
    link = bench.open()
    large = [t(n, n, "A" * 60) for n in range(1, 20_001)]
    bench.pipeline.receive(link, large, T0)
    assert bench.pipeline.full
    bench.pipeline.receive(link, [t(20_001, 20_001, "A" * 60)], T0)
    work = bench.passed()
    assert not bench.pipeline.full
    assert sum(lines.rows for lines in work.events[0][1]) == 20_001
    assert bench.pipeline.totals.shed == {}


def test_quotes_are_shed_when_memory_is_short_and_the_episode_is_one_gap() -> None:
    bench = Bench(queue_mb=1, frames=False)
    link = bench.open()
    bench.pipeline.receive(link, [q(n, n) for n in range(1, 45_000)], T0)
    bench.pipeline.receive(link, [q(50_000, 50_000), t(1, 50_000)], T0)
    bench.pipeline.receive(link, [q(50_001, 50_500)], T0)
    work = bench.passed()
    assert seqs(work)["trade"] == [1]
    assert sum(lines.rows for _, held in work.events for lines in held) == 45_000
    (begun,) = work.gaps
    assert (begun.kind, begun.cause, begun.ts_from, begun.ts_to) == ("quote", "shed", T0 + 50_000_000, None)
    assert bench.pipeline.totals.shed == {"quote": 2}
    bench.pipeline.receive(link, [q(50_002, 51_000)], T0)
    (ended,) = bench.passed().gaps
    assert (ended.gap_id, ended.ts_to) == (begun.gap_id, T0 + 50_500_001)


def test_coverage_grows_and_the_longest_row_is_recorded() -> None:
    bench = Bench()
    link = bench.open()
    bench.pipeline.receive(link, [b"ack", t(1, 0)], T0)
    bench.pipeline.tick(link, T0)
    bench.pipeline.receive(link, [t(2, 800)], T0)
    bench.pipeline.tick(link, T0)
    (row,) = bench.passed().coverage
    assert (row.ts_from, row.ts_to) == (T0, T0 + 800_000)
    assert bench.passed().coverage == []


def test_every_collected_kind_can_have_a_merger() -> None:
    make = merger_maker(toy, "spot")
    assert all(make(kind) for kind in KINDS)
