"""Two connections, one of them mute, and a kill before anybody could tell what was missed: it is a gap."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec
import pytest
from msgspec import Raw

from collectors import recovery
from collectors.config import WritingConfig
from collectors.doubts import DOUBTS
from collectors.exchanges import load
from collectors.holes import HANDOVER, HOLD, Memory
from collectors.intake import Intake, LaneKey, lines_of, lines_of_frames
from collectors.led import LedMerger
from collectors.redundancy import merger_maker, way_of
from collectors.unsettled import CRASH
from collectors.writing import GroupCommit
from lake.rows import SessionRow
from lake.segments import BadLine, read_lines
from lake.writer import LakeWriter
from market.kinds import BookDelta, Event, Kline, Liquidation, MarkPrice, Quote, Trade
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import MINUTE, MS, SECOND
from tests.properties.test_failover import LENGTH, Run, T, Venue, promptly, times

T0 = T
NONE = Raw(b"[]")
EVERY = 100 * MS
"""Between two events of the venue; of candles it is a minute."""
SEEDS = 8


def place(n: int, session: str, every: int = EVERY) -> tuple[str, str, int, None, int, str, int, int, str]:
    return ("A", "s", T0 + n * every, None, T0 + n * every + MS, session, n + 1, 0, "ws")


def counted(n: int, session: str) -> Event:
    return Trade(*place(n, session), "1", "1", "buy", 5_000_000 + n, "market")


def named(n: int, session: str) -> Event:
    return Trade(*place(n, session), "1", "1", "buy", None, "market", f"name {n}")


def quoted(n: int, session: str) -> Event:
    return Quote(*place(n, session), "1", str(n), "2", "1", 5_000_000 + 3 * n)


def unnumbered(n: int, session: str) -> Event:
    return Quote(*place(n, session), "1", str(n), "2", "1", None)


def marked(n: int, session: str) -> Event:
    return MarkPrice(*place(n, session), str(n), None, None, None)


def forced(n: int, session: str) -> Event:
    return Liquidation(*place(n, session), "sell", "9", None, str(n))


def candle(n: int, session: str) -> Event:
    where = place(n, session, MINUTE)
    return Kline(*where, "1m", where[2] - MINUTE + MS, "1", "2", "1", "2", "5", "9", 3, "1", str(n))


def linked(n: int, session: str) -> Event:
    return BookDelta(*place(n, session), NONE, NONE, None, 5_000_000 + 10 * n, 5_000_000 + 10 * n - 10)


def summed(n: int, session: str) -> Event:
    last = (T0 + n * EVERY) * 1024
    return BookDelta(*place(n, session), NONE, NONE, None, last, last - EVERY * 1024, n)


def whole(n: int, session: str) -> Event:
    return BookDelta(*place(n, session), NONE, NONE, None, (T0 + n * EVERY) * 1024, None, n, ("snapshot",))


WAYS: dict[str, tuple[LaneKey, Callable[[int, str], Event]]] = {
    "numbered": (("binance", "spot", "trade"), counted),
    "chained": (("binance", "linear", "book_delta"), linked),
    "rising": (("binance", "spot", "quote"), quoted),
    "named": (("bybit", "spot", "trade"), named),
    "alike": (("binance", "linear", "mark_price"), marked),
    "alike, orders": (("bybit", "linear", "liquidation"), forced),
    "alike, orders of all": (("okx", "linear", "liquidation"), forced),
    "alike, candles": (("binance", "spot", "kline"), candle),
    "alike, candles told by the next": (("kraken", "spot", "kline"), candle),
    "summed": (("kraken", "spot", "book_delta"), summed),
    "led": (("coinbase", "spot", "quote"), unnumbered),
}


UNCERTAIN = ["rising", "named", "alike", "alike, orders", "alike, candles", "summed"]
"""Where the stored rows do not tell it themselves."""


class Life:
    """A writer of one stream, which can die at any pass."""

    def __init__(self, root: Path, way: str, now: int = T0) -> None:
        self.lane, self.say = WAYS[way]
        exchange, market, kind = self.lane
        assert way_of(load(exchange), market, kind).name == way.partition(",")[0]
        self.writer = LakeWriter.open(root, "n", now)
        self.stops = recovery.settle(self.writer, self.writer.recover(now), now)
        made = merger_maker(load(exchange), market)(kind)
        assert isinstance(made, Memory)
        self.merger = made
        self.merger.resume(self.stops.get(self.lane, {}))
        self.intake = Intake(WritingConfig())
        self.commit = GroupCommit(self.writer, "n", WritingConfig())
        self.sessions: dict[str, SessionRow] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.commit.close()
        self.writer.close()

    def opens(self, session: str, now: int) -> None:
        exchange, market, _ = self.lane
        row = SessionRow(
            session=session, exchange=exchange, market_type=market, source="ws", url="ws://toy", opened_at=now
        )
        self.sessions[session] = row
        self.intake.record(sessions=[row])

    def closes(self, session: str, now: int) -> None:
        row = msgspec.structs.replace(self.sessions[session], closed_at=now, close_cause="disconnect")
        self.intake.record(sessions=[row])

    def comes(self, *events: Event) -> None:
        for event in events:
            rows = list(self.merger.merge_all([event]))
            if isinstance(self.merger, LedMerger):
                rows += self.merger.owed()
            self.offer(rows)
            self.write(event.ts_recv)

    def offer(self, rows: Sequence[Event]) -> None:
        if rows:
            self.intake.lane(self.lane).offer((lines_of(rows),), 100)

    def write(self, now: int, *, sync: bool = True) -> None:
        """A pass, as there are twenty a second."""
        self.intake.record(gaps=self.merger.tick(now))
        self.commit.commit(self.intake.collect(now, sync=sync))

    def gaps(self) -> list[Gap]:
        return sorted(self.writer.manifest.gaps(*self.lane), key=lambda gap: gap.ts_from)

    def stored(self) -> list[int]:
        rows = [row for row in self.writer.manifest.segments(*self.lane) if row.rows]
        lines = [line for row in rows for line in read_lines(row.kind, (self.writer.root / row.path).read_bytes())]
        return [line.frame_no - 1 for line in lines if not isinstance(line, BadLine)]


def told(gap: Gap, at: int) -> bool:
    return gap.ts_from <= at < (gap.ts_to or at + 1)


def mute(life: Life) -> int:
    """a-1-1 has the events 0 to 2 and falls mute; its successor came after event 4, and has 5 to 7. The time of 7."""
    life.opens("a-1-1", T0)
    for n in range(3):
        life.comes(life.say(n, "a-1-1"))
    life.opens("b-1-1", life.say(4, "b-1-1").ts_recv)
    first = whole if life.say is summed else life.say
    for n in range(5, 8):
        life.comes((first if n == 5 else life.say)(n, "b-1-1"))
    return life.say(7, "b-1-1").ts_recv


@pytest.mark.parametrize("seconds", [0, 3])
@pytest.mark.parametrize("way", list(WAYS))
def test_what_a_mute_connection_missed_is_in_a_gap_though_a_kill_came_before_that_was_known(
    tmp_path: Path, way: str, seconds: int
) -> None:
    with Life(tmp_path, way) as life:
        now = mute(life)
        for n in range(seconds):
            life.write(now + (n + 1) * SECOND)
    with Life(tmp_path, way, now + MINUTE + seconds * SECOND) as after:
        missing = set(range(8)) - set(after.stored())
        times_of = {n: after.say(n, "").ts_event or 0 for n in missing}
        assert {n for n, at in times_of.items() if not any(told(gap, at) for gap in after.gaps())} == set()


def goes_on(life: Life, now: int) -> None:
    """The old connection was only behind: it brings at a receive time what it had not brought."""
    for n in range(3, 9):
        event = life.say(n, "a-1-1")
        event.ts_recv = now
        life.comes(event)


@pytest.mark.parametrize("way", [way for way in UNCERTAIN if way != "alike, candles"])
def test_what_the_old_connection_shows_soon_leaves_no_row(tmp_path: Path, way: str) -> None:
    """A handover that goes well."""
    with Life(tmp_path, way) as life:
        now = mute(life)
        goes_on(life, now + SECOND)
        life.write(now + MINUTE)
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A"], HANDOVER, now + MINUTE, now))
        life.write(now + MINUTE)
        assert life.gaps() == []


@pytest.mark.parametrize("way", UNCERTAIN)
def test_what_it_shows_late_has_a_row_until_then(tmp_path: Path, way: str) -> None:
    with Life(tmp_path, way) as life:
        now = mute(life)
        life.write(now + HOLD)
        (gap,) = life.gaps()
        assert (gap.cause, gap.state, gap.session) == (life.merger.doubtful, "open", "a-1-1")
        assert (gap.ts_from, gap.ts_to) == tuple(life.say(n, "").ts_event for n in (2, 5))
        goes_on(life, now + MINUTE)
        (gap,) = life.gaps()
        assert (gap.state, gap.source) == ("repaired", "late")


@pytest.mark.parametrize("came, state", [(0, ("empty", None)), (1, ("repaired", "late"))])
@pytest.mark.parametrize("way", [way for way in UNCERTAIN if way != "summed" and "next" not in way])
def test_a_planned_handover_closes_the_row_where_the_new_connection_is_shown_to_have_had_the_stream(
    tmp_path: Path, way: str, came: int, state: tuple[str, str | None]
) -> None:
    """The old one, seconds behind, has shown all up to after the new one's beginning, and not its first event yet."""
    with Life(tmp_path, way) as life:
        now = mute(life)
        life.write(now + HOLD)
        (gap,) = life.gaps()
        for n in range(3, 3 + came):
            event = life.say(n, "a-1-1")
            event.ts_recv = now + HOLD
            life.comes(event)
        shown = gap.ts_to
        assert shown is not None
        life.intake.record(gaps=life.merger.passed_on("a-1-1", {"A": {"b-1-1"}}, shown, now, now + 3 * SECOND))
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A"], HANDOVER, now + 3 * SECOND, shown))
        life.write(now + 4 * SECOND)
        (gap,) = life.gaps()
        assert ((gap.state, gap.source), gap.closed_at) == (state, now + 3 * SECOND)


@pytest.mark.parametrize("had, beyond", [("", 0), ("c-1-1", 0), ("b-1-1", HOLD + 1)])
def test_where_that_is_not_shown_the_row_stays_open(tmp_path: Path, had: str, beyond: int) -> None:
    """Nobody had it by the venue's word, or another one; or the old one came beyond the event without the stream."""
    with Life(tmp_path, "rising") as life:
        now = mute(life)
        life.write(now + HOLD)
        (gap,) = life.gaps()
        shown = (gap.ts_to or 0) + beyond
        life.intake.record(gaps=life.merger.passed_on("a-1-1", {"A": {had}}, shown, now, now + 3 * SECOND))
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A"], HANDOVER, now + 3 * SECOND, shown))
        life.write(now + 4 * SECOND)
        assert life.gaps() == [gap]


def test_what_only_the_next_one_tells_is_not_shown_to_be_none(tmp_path: Path) -> None:
    with Life(tmp_path, "alike, candles told by the next") as life:
        now = mute(life)
        life.write(now + HOLD)
        before = life.gaps()
        assert before
        assert life.merger.passed_on("a-1-1", {"A": {"b-1-1"}}, before[0].ts_to or 0, now, now + 3 * SECOND) == []


@pytest.mark.parametrize("way", UNCERTAIN)
def test_a_row_is_told_once_whatever_ends_the_doubt(tmp_path: Path, way: str) -> None:
    with Life(tmp_path, way) as life:
        now = mute(life)
        life.write(now + HOLD)
        (before,) = life.gaps()
        life.intake.record(gaps=life.merger.interrupt("a-1-1", [], "silence", now + MINUTE))
        life.write(now + MINUTE)
        assert life.gaps() == [before]
    for _ in range(2):  # recovering twice is recovering once
        with Life(tmp_path, way, now + 2 * MINUTE) as after:
            assert [gap.gap_id for gap in after.gaps() if gap.cause != CRASH] == [before.gap_id]
            assert len(after.gaps()) == 2


@pytest.mark.parametrize("way", [way for way in UNCERTAIN if way != "summed"])
def test_a_session_that_is_recorded_to_have_had_the_stream_is_behind_no_doubt(tmp_path: Path, way: str) -> None:
    """Of twins it may be the other one all the time that is first."""
    with Life(tmp_path, way) as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
        for n in range(3):
            life.comes(life.say(n, "a-1-1"), life.say(n, "b-1-1"))
        since = life.say(0, "").ts_event or 0
        life.intake.record(coverage=[Coverage(*life.lane, "A", "b-1-1", since, since + 1)])
        life.comes(life.say(3, "b-1-1"))
        assert life.gaps() == []
    with Life(tmp_path, way, T0 + 10 * MINUTE) as after:
        assert [(gap.cause, gap.ts_to) for gap in after.gaps()] == [(CRASH, None)]


def test_the_row_before_may_lie_in_a_segment_that_was_sealed(tmp_path: Path) -> None:
    """Who was there by then has been recorded to cover its streams."""
    with Life(tmp_path, "rising") as life:
        life.opens("a-1-1", T0)
        life.comes(life.say(0, "a-1-1"))
        since = life.say(0, "").ts_event or 0
        life.intake.record(coverage=[Coverage(*life.lane, "A", "a-1-1", since, since + 1)])
        for minutes in range(1, 4):
            life.write(T0 + minutes * MINUTE)
        life.opens("b-1-1", T0 + 3 * MINUTE)
        event = life.say(3 * MINUTE // EVERY, "b-1-1")
        life.comes(event)
        assert [row.state for row in life.writer.manifest.segments(*life.lane) if row.rows] == ["sealed"]
    with Life(tmp_path, "rising", T0 + 10 * MINUTE) as after:
        crash = [(gap.ts_from, gap.ts_to) for gap in after.gaps() if gap.cause == CRASH]
        assert crash == [(since, event.ts_event), (event.ts_event, None)]


@pytest.mark.parametrize("cause", [HANDOVER, "disconnect"])
@pytest.mark.parametrize("other", ["D", "A", None])
@pytest.mark.parametrize("way", ["rising", "alike, orders"])
def test_what_a_connection_that_has_ended_left_was_told_then(
    tmp_path: Path, way: str, other: str | None, cause: str
) -> None:
    """Its successor's first row of a quiet symbol comes just before the kill; a third connection has other symbols. If
    that one had this symbol too, or may have, since what it has is not recorded yet, it may have fallen mute.
    """
    with Life(tmp_path, way) as life:
        for session in ("a-1-1", "d-1-1"):
            life.opens(session, T0)
        life.comes(life.say(0, "a-1-1"))
        for n in range(1, 60):
            busy = life.say(n, "a-1-1")
            busy.symbol = "B"
            life.comes(busy)
        if other is not None:
            lane = life.lane if other == "A" else (*life.lane[:2], "book_snapshot")
            life.intake.record(coverage=[Coverage(*lane, other, "d-1-1", T0, T0 + 50 * EVERY)])
        now = life.say(60, "").ts_recv
        life.opens("b-1-1", now)
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A", "B"], cause, now, now))
        life.closes("a-1-1", now)
        life.write(now)
        life.comes(life.say(70, "b-1-1"))
        before = [(gap.ts_from, gap.ts_to) for gap in life.gaps() if (gap.symbol, gap.state) == ("A", "open")]
        assert before == ([] if cause == HANDOVER else [(T0 + 59 * EVERY - HOLD, T0 + 70 * EVERY)])
    with Life(tmp_path, way, now + MINUTE) as after:
        told_of = [(gap.ts_from, gap.ts_to) for gap in after.gaps() if (gap.symbol, gap.state) == ("A", "open")]
        doubted = [] if other == "D" else [(T0, T0 + 70 * EVERY)]
        assert told_of == [*doubted, *before, (T0 + 70 * EVERY, None)]


def test_what_lies_behind_the_beginning_of_a_connection_is_in_no_doubt(tmp_path: Path) -> None:
    """It is recorded to have had the stream since a while before its first row, which is not the other one's copy."""
    with Life(tmp_path, "rising") as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
        life.comes(life.say(0, "a-1-1"))
        life.intake.record(coverage=[Coverage(*life.lane, "A", "b-1-1", T0 + 5 * EVERY, T0 + 6 * EVERY)])
        life.comes(life.say(9, "b-1-1"))
    with Life(tmp_path, "rising", T0 + MINUTE) as after:
        assert [(gap.ts_from, gap.ts_to) for gap in after.gaps()] == [(T0, T0 + 5 * EVERY), (T0 + 9 * EVERY, None)]


def test_a_gap_that_is_known_to_have_ended_tells_nothing_of_what_follows(tmp_path: Path) -> None:
    """Its row still grows: the end waits for the data that prove it to be durable."""
    with Life(tmp_path, "rising") as life:
        life.opens("a-1-1", T0)
        life.comes(life.say(0, "a-1-1"))
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A"], "disconnect", T0 + SECOND))
        life.write(T0 + SECOND)
        for n, session in ((20, "b-1-1"), (30, "c-1-1")):
            life.opens(session, T0 + n * EVERY)
            life.offer(life.merger.merge_all([life.say(n, session)]))
            life.write(T0 + n * EVERY, sync=False)
        (gap,) = life.gaps()
        assert gap.ts_to is None
    with Life(tmp_path, "rising", T0 + MINUTE) as after:
        at = [after.say(n, "").ts_event for n in (0, 20, 30)]
        assert [(gap.ts_from, gap.ts_to) for gap in after.gaps()] == [*itertools.pairwise(at), (at[2], None)]


def test_who_leaves_out_what_another_one_had_is_told_with_the_next_pass(tmp_path: Path) -> None:
    """The lines show nothing of it: both have had the stream for long."""
    with Life(tmp_path, "rising") as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
        life.comes(*(life.say(n, session) for n in range(3) for session in ("a-1-1", "b-1-1")))
        life.comes(life.say(3, "a-1-1"))
        life.comes(life.say(6, "b-1-1"))
        (gap,) = life.gaps()
        assert (gap.session, gap.state, gap.ts_from, gap.ts_to) == (
            "a-1-1", "open", life.say(3, "").ts_event, life.say(6, "").ts_event,
        )  # fmt: skip
        life.comes(life.say(6, "a-1-1"))
        (gap,) = life.gaps()
        assert (gap.state, gap.source) == ("repaired", "late")


def test_doubts_that_are_too_many_are_one_row(tmp_path: Path) -> None:
    with Life(tmp_path, "rising") as life:
        life.opens("a-1-1", T0)
        life.comes(life.say(0, "a-1-1"))
        for n in range(1, DOUBTS + 3):
            life.comes(life.say(n, f"b-{n}-1"))
        life.write(T0 + MINUTE)
        last = life.gaps()[-1]
        assert (last.ts_from, last.ts_to) == (life.say(DOUBTS - 1, "").ts_event, life.say(DOUBTS + 2, "").ts_event)
        assert len(life.gaps()) == DOUBTS


def test_a_row_grows_with_a_doubt_that_takes_in_its_own(tmp_path: Path) -> None:
    with Life(tmp_path, "rising") as life:
        life.opens("a-1-1", T0)
        life.comes(life.say(0, "a-1-1"))
        for n in range(1, DOUBTS + 1):
            life.comes(life.say(n, f"b-{n}-1"))
        life.write(T0 + MINUTE)
        told_first = life.gaps()
        late = life.say(DOUBTS + 1, "c-1-1")
        late.ts_recv = T0 + MINUTE
        life.comes(late)
        life.write(T0 + 2 * MINUTE)
        last = life.gaps()[-1]
        assert (last.gap_id, last.ts_from, last.ts_to) == (
            told_first[-1].gap_id, told_first[-1].ts_from, late.ts_event,
        )  # fmt: skip
        assert life.gaps()[:-1] == told_first[:-1]


def test_who_left_out_what_was_newest_when_another_came_in_proves_nothing_of_it(tmp_path: Path) -> None:
    """It was mute by then: that it has the newcomer's first event says only that it goes on."""
    with Life(tmp_path, "rising") as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
            life.comes(*(life.say(n, session) for n in range(3)))
        life.comes(life.say(3, "b-1-1"), life.say(9, "c-1-1"), life.say(9, "a-1-1"))
        life.intake.record(gaps=life.merger.interrupt("b-1-1", [], "disconnect", T0 + SECOND))
        life.write(T0 + SECOND)
        assert [(gap.ts_from, gap.ts_to, gap.state) for gap in life.gaps()] == [
            (T0 + 3 * EVERY, T0 + 9 * EVERY, "open")
        ]


def test_who_goes_beyond_the_newcomers_first_event_without_it_was_mute(tmp_path: Path) -> None:
    with Life(tmp_path, "rising") as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
        life.comes(life.say(2, "a-1-1"), life.say(5, "b-1-1"), life.say(6, "b-1-1"), life.say(6, "a-1-1"))
        assert [(gap.cause, gap.ts_from, gap.ts_to) for gap in life.gaps()] == [
            ("silent_stream", T0 + 2 * EVERY, T0 + 5 * EVERY)
        ]


def test_what_was_polled_comes_in_ahead_of_nobody(tmp_path: Path) -> None:
    with Life(tmp_path, "alike") as life:
        for session in ("a-1-1", "b-1-1"):
            life.opens(session, T0)
        life.comes(life.say(0, "a-1-1"))
        polled = life.say(9, "p-1-1")
        polled.source = "rest"
        life.offer([polled])
        life.comes(life.say(10, "a-1-1"))
    with Life(tmp_path, "alike", T0 + MINUTE) as after:
        assert [(gap.cause, gap.ts_from, gap.ts_to) for gap in after.gaps()] == [(CRASH, T0 + 10 * EVERY, None)]


def test_forced_orders_that_nobody_had_after_the_last_that_is_stored_are_in_the_crash_s_gap(tmp_path: Path) -> None:
    with Life(tmp_path, "alike, orders") as life:
        for session, since, until in (("a-1-1", 0, 30), ("b-1-1", 40, 50)):
            life.opens(session, T0 + since * SECOND)
            span = (T0 + since * SECOND, T0 + until * SECOND)
            life.intake.record(coverage=[Coverage(*life.lane, "A", session, *span)])
        life.comes(life.say(0, "a-1-1"))
    with Life(tmp_path, "alike, orders", T0 + MINUTE) as after:
        assert [(gap.cause, gap.ts_from, gap.ts_to) for gap in after.gaps()] == [(CRASH, T0, None)]


@pytest.mark.parametrize("covered, heard", [(False, False), (True, False), (True, True)])
def test_forced_orders_between_two_that_were_taken_on_are_missing_where_the_first_was_not_heard_any_more(
    tmp_path: Path, *, covered: bool, heard: bool
) -> None:
    """Silence is ordinary, so that the second one's first order is no doubt: nobody had the orders 3 and 4."""
    with Life(tmp_path, "alike, orders") as life:
        for n, session in ((0, "a-1-1"), (5, "b-1-1")):
            at = life.say(n, session).ts_recv
            life.opens(session, at)
            life.intake.record(gaps=life.merger.acknowledged(session, ["A"], at))
            life.comes(*(life.say(n + k, session) for k in range(3)))
            if covered:
                life.intake.record(coverage=[Coverage(*life.lane, "A", session, at - MS, at + 2 * EVERY)])
        another = marked(400, "b-1-1")
        life.intake.lane((*life.lane[:2], "mark_price")).offer((lines_of([another]),), 100)
        if heard:
            pong = lines_of_frames("a-1-1", [at + 2 * SECOND], 9, [b"pong"])
            life.intake.frames(life.lane[:2]).offer((pong,), len(pong.data))
        life.write(another.ts_recv)
        assert life.gaps() == []
    with Life(tmp_path, "alike, orders", at + MINUTE) as after:
        *missed, crash = after.gaps()
        assert (crash.ts_from, crash.ts_to) == (T0 + 7 * EVERY, None)
        assert all(any(told(gap, T0 + n * EVERY) for gap in missed) for n in (3, 4)) is not heard
        assert [(gap.session, gap.cause) for gap in missed] == ([] if heard else [("a-1-1", CRASH)])


def of_all(root: Path, now: int = T0) -> Life:
    """One of a stream of all symbols."""
    return Life(root, "alike, orders of all", now)


@pytest.mark.parametrize("cut", [False, True], ids=["until the kill", "cut before"])
def test_a_stream_of_all_symbols_is_interrupted_by_a_kill_and_goes_on_once_it_is_taken_on_again(
    tmp_path: Path, *, cut: bool
) -> None:
    """No row of it names it, and orders of symbols that never had one may be missing."""
    end = T0 + 60 * SECOND
    with of_all(tmp_path) as life:
        life.opens("a-1-1", T0)
        life.intake.record(gaps=life.merger.acknowledged("a-1-1", [EVERY_SYMBOL], T0))
        life.comes(life.say(3, "a-1-1"))
        life.intake.record(coverage=[Coverage(*life.lane, EVERY_SYMBOL, "a-1-1", T0, end)])
        life.write(end)
        if cut:
            life.intake.record(gaps=life.merger.interrupt("a-1-1", [EVERY_SYMBOL], "disconnect", end, end))
            life.closes("a-1-1", end)
            life.write(end)
    grows = ("disconnect" if cut else CRASH, end - HOLD, None)
    for _ in range(2):  # recovering twice is recovering once
        with of_all(tmp_path, end + MINUTE) as life:
            life.write(end + MINUTE)
            assert [(g.cause, g.ts_from, g.ts_to) for g in life.gaps() if g.symbol == EVERY_SYMBOL] == [grows]
    with of_all(tmp_path, end + MINUTE) as life:
        life.opens("b-1-1", end + MINUTE)
        life.intake.record(gaps=life.merger.acknowledged("b-1-1", [EVERY_SYMBOL], end + MINUTE))
        life.write(end + 2 * MINUTE)
        (gap,) = (gap for gap in life.gaps() if gap.symbol == EVERY_SYMBOL)
        assert (gap.cause, gap.ts_from, gap.ts_to) == (*grows[:2], end + MINUTE)
    with of_all(tmp_path, end + 3 * MINUTE) as life:  # what another one had says nothing of this one's
        assert [one for one in life.gaps() if one.symbol == EVERY_SYMBOL] == [gap]


def test_the_gap_of_a_stream_that_never_sent_anything_goes_on_after_a_kill_and_ends(tmp_path: Path) -> None:
    with Life(tmp_path, "alike, orders") as life:
        life.opens("a-1-1", T0)
        life.intake.record(gaps=life.merger.acknowledged("a-1-1", ["A"], T0))
        life.intake.record(gaps=life.merger.interrupt("a-1-1", ["A"], "disconnect", T0 + MINUTE, T0 + MINUTE))
        life.closes("a-1-1", T0 + MINUTE)
        life.write(T0 + MINUTE)
        (before,) = life.gaps()
    with Life(tmp_path, "alike, orders", T0 + 2 * MINUTE) as life:
        life.opens("b-1-1", T0 + 2 * MINUTE)
        life.intake.record(gaps=life.merger.acknowledged("b-1-1", ["A"], T0 + 2 * MINUTE))
        life.write(T0 + 3 * MINUTE)
        (gap,) = life.gaps()
        assert (before.ts_to, gap.gap_id, gap.ts_to) == (None, before.gap_id, T0 + 2 * MINUTE)


class Killed(Run):
    """The two connections of `test_failover`, whose rows and gaps go to the disk, and which are killed at last."""

    def __init__(self, life: Life, venue: Venue, way: str, rng: random.Random) -> None:
        self.life, self.rng, self.clock = life, rng, T
        super().__init__(venue, way)
        self.held = life.merger

    def begins(self, twin: str) -> None:
        self.life.opens(self.session(twin), self.clock)
        super().begins(twin)

    def ends(self, twin: str, cause: str) -> None:
        session = self.session(twin)
        super().ends(twin, cause)
        self.life.closes(session, self.clock)

    def comes(self, twin: str) -> None:
        super().comes(twin)
        if self.rng.random() < 0.5:
            self.life.write(self.clock, sync=self.rng.random() < 0.2)

    def keep(self, events: Sequence[Event]) -> None:
        super().keep(events)
        self.clock = max([self.clock, *(event.ts_recv for event in events)])
        self.life.offer(events)

    def take(self, gaps: Sequence[Gap]) -> None:
        super().take(gaps)
        self.life.intake.record(gaps=gaps)


SAME = {"alike": "alike, marks"}
"""Names of the ways where they differ there."""


@pytest.mark.parametrize("way", UNCERTAIN)
def test_whenever_in_a_doubt_the_kill_comes_what_is_no_row_lies_in_a_gap(tmp_path: Path, way: str) -> None:
    for seed in range(SEEDS):
        rng = random.Random(seed)
        venue = Venue(times(rng.choices([MS, 300 * MS, 3 * SECOND, MINUTE], weights=[4, 4, 1, 1], k=LENGTH)))
        root = tmp_path / str(seed)
        root.mkdir()
        with Life(root, way) as life:
            run = Killed(life, venue, SAME.get(way, way), rng)
            for step in ["venue", "a", "b", *promptly(rng)]:
                run.go([step], safely=False)
                if run.doubts() and rng.random() < 0.3:
                    break
        with Life(root, way, venue.at[-1] + MINUTE) as after:
            stored, gaps = after.stored(), [gap for gap in after.gaps() if gap.state == "open"]
            missing = set(range(min(stored), max(stored))) - {*stored}
            untold = {n for n in missing if not any(told(gap, venue.at[n]) for gap in gaps)}
            assert untold == set(), seed


@pytest.mark.parametrize("way", ["numbered", "chained"])
@pytest.mark.parametrize("seconds", [0, 3, 10 * 60])
def test_ids_below_the_first_that_came_are_in_one_gap_though_a_kill_came(
    tmp_path: Path, way: str, seconds: int
) -> None:
    """The second connection is further than the first one, which brings the events 0 and 1 of its 0 to 4 and no more.
    After ten minutes their segment is sealed, and not read again.
    """
    with Life(tmp_path, way) as life:
        life.opens("a-1-1", T0)
        life.opens("b-1-1", T0)
        first = life.say(5, "b-1-1")
        life.comes(first)
        for n in range(2):
            event = life.say(n, "a-1-1")
            event.ts_recv = first.ts_recv + n
            life.comes(event)
        if seconds:
            after = life.say(5 + seconds * SECOND // EVERY, "b-1-1")
            if isinstance(after, Trade):
                after.seq = 5_000_006
            elif isinstance(after, BookDelta):
                after.prev_id, after.last_id = 5_000_050, 5_000_060
            life.comes(after)
            (gap,) = life.gaps()
            assert (gap.session, gap.state) == ("a-1-1", "open")
    for _ in range(2):
        with Life(tmp_path, way, T0 + 20 * MINUTE) as after_it:
            gap, crash = after_it.gaps()
            ids = (5_000_002, 5_000_005) if way == "numbered" else (5_000_011, 5_000_041)
            assert (gap.id_from, gap.id_to, gap.state, crash.cause) == (*ids, "open", CRASH)
            assert all(told(gap, T0 + n * EVERY) for n in (2, 3, 4))


def begun_late(rng: random.Random) -> list[str]:
    """A connection is cut before it brought anything, so that the other one may be behind its first event."""
    cut = ["venue"] * rng.randint(1, 4) + [f"cut {rng.choice('ab')}"]
    return cut + rng.choices(["venue", "venue", "a", "b"], k=rng.randint(2, 14))


@pytest.mark.parametrize("way", ["numbered", "chained"])
def test_whenever_at_the_beginning_the_kill_comes_ids_that_are_missing_are_told_once(tmp_path: Path, way: str) -> None:
    for seed in (2, 14, 33, 55, *range(100, 100 + SEEDS)):
        rng = random.Random(seed)
        venue = Venue(times(rng.choices([MS, 300 * MS, 3 * SECOND, MINUTE], weights=[4, 4, 1, 1], k=LENGTH)))
        root = tmp_path / str(seed)
        root.mkdir()
        with Life(root, way) as life:
            Killed(life, venue, way, rng).go(begun_late(rng), safely=False)
        with Life(root, way, venue.at[-1] + MINUTE) as after:
            stored, gaps = after.stored(), [gap for gap in after.gaps() if gap.missing and gap.state == "open"]
            found = [n for gap in gaps for n in range((gap.id_from or 0) - 5_000_000, (gap.id_to or 0) - 5_000_000)]
            assert len(found) == len(set(found)), seed
            assert set(range(min(stored, default=0), max(stored, default=0))) - {*stored} <= set(found), seed
