"""Two connections of every way of telling copies: each row once, and what is not a row lies in a gap."""

import random
from collections import deque

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.chain_checked import CheckedMerger
from collectors.holes import HANDOVER, HOLD
from collectors.led import LedMerger
from collectors.merger import merger
from collectors.pushed import pushed
from market.kinds import BookDelta, Kline, Liquidation, MarkPrice, Quote, Trade
from market.times import MINUTE, MS, SECOND

T = 1_785_701_700_000_000
EMPTY = msgspec.Raw(b"[]")
LENGTH = 40


class Venue:
    """What happens at the venue: the event `n` is of the time `at[n]` and says `n % words`."""

    def __init__(self, at, words=1_000):
        self.at, self.words = at, words
        self.told = {}
        """Session -> place of its newest message of a book without ids: its time, and a slot."""

    def place(self, n, session, late=0):
        time = self.at[n] + late
        return ("A", "s", time, None, time + 500, session, n + 1, 0, "ws")

    def quote(self, n, session, late=0):
        return Quote(*self.place(n, session, late), str(n % self.words), "1", "2000", "1", None)

    def mark(self, n, session):
        return MarkPrice(*self.place(n, session), str(n), None, None, None)

    def trade(self, n, session):
        return Trade(*self.place(n, session), "1", "1", "buy", None, "market", f"name {n}")

    def counted(self, n, session):
        return Trade(*self.place(n, session), "1", "1", "buy", 5_000_000 + n, "market")

    def order(self, n, session):
        return Liquidation(*self.place(n, session), "sell", "9", None, str(n))

    def candle(self, n, session):
        return Kline(
            *self.place(n, session), "1m", self.at[n] - MINUTE + MS, "1", "2", "1", "2", "5", "9", 3, "1", str(n)
        )

    def summed(self, n, session):
        before, self.told[session] = self.told.get(session), self.at[n] * 1024
        return BookDelta(*self.place(n, session), EMPTY, EMPTY, None, self.told[session], before, n)

    def whole(self, n, session):
        """The book as of the event `n`, by which a connection begins."""
        self.told[session] = self.at[n] * 1024 + 1023
        return BookDelta(*self.place(n, session), EMPTY, EMPTY, None, self.told[session], None, n, ("snapshot",))

    def update(self, n, session):
        return BookDelta(*self.place(n, session), EMPTY, EMPTY, 5_000_000 + n, 5_000_000 + n, None)

    def linked(self, n, session):
        """An update of a book whose ids leap, or are times."""
        before, self.told[session] = self.told.get(session, 5_000_000 + 10 * n - 10), 5_000_000 + 10 * n
        return BookDelta(*self.place(n, session), EMPTY, EMPTY, None, self.told[session], before)

    def taken(self, n, session):
        """Its whole, taken somewhat later than the event `n`."""
        self.told[session] = 5_000_000 + 10 * n + 3
        row = BookDelta(*self.place(n, session), EMPTY, EMPTY, None, self.told[session], None, None, ("snapshot",))
        row.ts_event += MS // 2
        return row

    def equal(self, n, session):
        """The whole with the id of the event `n`, and its time."""
        row = self.update(n, session)
        row.first_id, row.flags = None, ("snapshot",)
        return row

    def best(self, n, session):
        return Quote(*self.place(n, session), "1", "1", "2", "1", 5_000_000 + 3 * n)


WAYS = {
    "led": (lambda: LedMerger("x", "spot", "quote"), Venue.quote),
    "alike, marks": (lambda: merger("x", "linear", "mark_price", contiguous=False), Venue.mark),
    "alike, orders": (lambda: merger("x", "linear", "liquidation", contiguous=False), Venue.order),
    "alike, candles": (lambda: merger("x", "linear", "kline", contiguous=False), Venue.candle),
    "named": (lambda: merger("x", "spot", "trade", contiguous=False), Venue.trade),
    "named, pushed": (lambda: pushed("x", "spot", "trade", contiguous=False), Venue.trade),
    "numbered": (lambda: merger("x", "spot", "trade", contiguous=True), Venue.counted),
    "numbered, pushed": (lambda: pushed("x", "spot", "trade", contiguous=True), Venue.counted),
    "rising": (lambda: merger("x", "spot", "quote", contiguous=False), Venue.best),
    "chained": (lambda: merger("x", "spot", "book_delta", contiguous=True), Venue.update),
    "chained, with wholes": (lambda: merger("x", "spot", "book_delta", contiguous=True), Venue.linked),
    "chained, with wholes of ids": (lambda: merger("x", "spot", "book_delta", contiguous=True), Venue.update),
    "summed": (lambda: CheckedMerger("x", "spot", "book_delta"), Venue.summed),
}
WHOLES = {"summed": Venue.whole, "chained, with wholes": Venue.taken, "chained, with wholes of ids": Venue.equal}
"""What a connection begins with."""
BY_NUMBER = ("numbered", "numbered, pushed", "chained")
"""Where ids say what is missing before the first event of all."""
STEPS = ("venue", "venue", "venue", "venue", "a", "a", "b", "b", "cut a", "cut b", "hand over a", "hand over b")


class Run:
    """Two connections to a venue; `rows` are the numbers of its events in the order that they became rows."""

    def __init__(self, venue, way, *, late=None):
        make, self.say = WAYS[way]
        self.venue, self.held, self.late = venue, make(), late or {}
        self.rows, self.wholes, self.gaps, self.reach = [], [], {}, set()
        self.next = 0
        self.lives = {"a": 0, "b": 0}
        self.under_way = {"a": deque(), "b": deque()}
        self.mute, self.missed = "", 0
        """The connection whose stream is mute, and the first event that it does not have."""
        self.newest = {"a": -1, "b": -1}
        self.whole = WHOLES.get(way)
        self.begins("a")
        self.begins("b")

    def session(self, twin):
        return f"{twin}-{self.lives[twin]}-1"

    def begins(self, twin):
        self.under_way[twin].clear()
        if self.whole is not None and self.next:
            self.under_way[twin].append(self.whole(self.venue, self.next - 1, self.session(twin)))

    def happens(self):
        if self.next == len(self.venue.at):
            return
        for twin, queue in self.under_way.items():
            late = {"late": self.late[twin]} if twin in self.late else {}
            event = self.say(self.venue, self.next, self.session(twin), **late)
            if twin != self.mute:
                queue.append(event)
        self.next += 1

    def comes(self, twin):
        if not self.under_way[twin]:
            return
        event = self.under_way[twin].popleft()
        self.newest[twin] = event.frame_no - 1
        self.keep(self.held.merge_all([event]))
        self.take(self.held.tick(event.ts_recv))

    def ends(self, twin, cause):
        found = self.held.interrupt(self.session(twin), ["A"] if self.alone(twin) else [], cause, self.now)
        self.take(found)
        if isinstance(self.held, LedMerger):
            self.keep(self.held.owed())
        self.lives[twin] += 1
        self.newest[twin] = -1
        self.mute = self.mute.replace(twin, "")
        self.begins(twin)

    def falls_mute(self, twin):
        """Or goes on: where the other one's newest event shows that it has left out some."""
        other = "b" if twin == "a" else "a"
        if not self.mute and self.newest[twin] >= 0:
            self.mute, self.missed = twin, self.next
        elif self.mute == twin and self.newest[other] >= self.missed:
            self.mute = ""

    def may_end(self, twin):
        """Whether it has shown by then what the mute one leaves out, so that this one can be told from a quiet one."""
        return self.mute in ("", twin) or self.newest[twin] >= self.missed

    def alone(self, twin):
        """Whether the other connection has not sent anything, as the pipeline knows it."""
        other = "b" if twin == "a" else "a"
        return self.session(other) not in self.held._line("A").sessions

    @property
    def now(self):
        return self.venue.at[max(self.next - 1, 0)] + SECOND

    def safe(self, twin):
        """Whether a connection is shown to have all that the other one would send."""
        return self.held.joined(self.session(twin), "A") and not self.doubts()

    def doubts(self):
        """What only the connections named can tell to be whole."""
        return [*self.held._line("A").doubts, *getattr(self.held, "_joints", {}).get("A", ())]

    def keep(self, events):
        for event in events:
            n, book = event.frame_no - 1, event if isinstance(event, BookDelta) else None
            if book is not None and "snapshot" in book.flags:
                self.wholes += [n] * isinstance(self.held, CheckedMerger)  # ids say what a whole does not
            elif book is None or n not in self.rows or (n, book.prev_id) in self.reach:
                self.rows.append(n)  # an update that reaches further back than the stored one of its id is no copy
            self.reach.add((n, book.prev_id if book is not None else None))

    def take(self, gaps):
        self.gaps |= {gap.gap_id: gap for gap in gaps}

    def finish(self):
        if self.mute:
            self.ends(self.mute, "disconnect")
        while self.next < len(self.venue.at):
            self.happens()
        for twin in ("a", "b"):
            while self.under_way[twin]:
                self.comes(twin)
        for twin in ("a", "b"):
            if any(self.session(twin) in doubt.provers for doubt in self.doubts()):
                self.ends(twin, "disconnect")
        self.take(self.held.tick(self.now + 10 * HOLD))
        return [gap for gap in self.gaps.values() if gap.state == "open" and gap.cause != HANDOVER]

    def go(self, steps, *, safely):
        """Carry out steps; `safely`: a connection only ends where the other one is shown to have what it sends."""
        for step in steps:
            twin = step[-1]
            other = "b" if twin == "a" else "a"
            if step == "venue":
                self.happens()
            elif len(step) == 1:
                self.comes(twin)
            elif step.startswith("mute"):
                self.falls_mute(twin)
            elif not self.may_end(twin):
                continue
            elif step.startswith("cut") and (not safely or self.safe(other)):
                self.ends(twin, "disconnect")
            elif step.startswith("hand") and self.safe(other):
                self.ends(twin, HANDOVER)


spaces = st.lists(st.sampled_from([MS, 20 * MS, 300 * MS, 600 * MS]), min_size=LENGTH, max_size=LENGTH)
wide = st.lists(st.sampled_from([MS, 300 * MS, 3 * SECOND, MINUTE]), min_size=LENGTH, max_size=LENGTH)
steps = st.lists(st.sampled_from(STEPS), max_size=6 * LENGTH)


def times(apart):
    return [T + sum(apart[: n + 1]) for n in range(len(apart))]


@pytest.mark.parametrize("way", list(WAYS))
@given(spaces, steps)
def test_each_event_is_one_row_and_there_is_no_gap_while_a_connection_that_was_joined_lives(way, apart, steps):
    run = Run(Venue(times(apart)), way)
    run.go(steps, safely=True)
    gaps = run.finish()
    first = 0 if run.whole is None else min(run.rows, default=0)
    assert sorted(run.rows) == list(range(first, LENGTH))
    assert gaps == []


def lagging(rng):
    """Steps in which either connection falls behind by chance, and one of them ends now and then."""
    told = (*STEPS[:-4], "venue", "a", "b")
    return [step for _ in range(LENGTH) for step in (*rng.choices(told, k=6), rng.choice((*STEPS[-4:], "a", "b")))]


@pytest.mark.parametrize("way", [way for way in WAYS if way not in (*BY_NUMBER, *WHOLES)])
def test_connections_that_lag_behind_each_other_leave_no_gap(way):
    """Where ids are counted, what only one has that lags by seconds is said to be missing, and is lost with it."""
    for seed in range(150):
        rng = random.Random(seed)
        run = Run(Venue(times(rng.choices([MS, 20 * MS, 300 * MS, 600 * MS], k=LENGTH))), way)
        run.go(lagging(rng), safely=True)
        assert run.finish() == [], seed
        assert sorted(run.rows) == list(range(LENGTH)), seed


@pytest.mark.parametrize("way", list(WAYS))
@given(wide, steps)
def test_whatever_ends_no_row_is_doubled_and_what_is_no_row_lies_in_a_gap(way, apart, steps):
    judge(Run(Venue(times(apart)), way), steps if way in BY_NUMBER else ["venue", "a", "b", *steps])


def judge(run, steps, about=""):
    """No row is doubled, and what is no row lies in a gap."""
    run.go(steps, safely=False)
    gaps = run.finish()
    assert len(run.rows) == len(set(run.rows)), about
    for n in range(min(run.rows, default=0), max(run.rows, default=0)):
        if n not in run.rows and n not in run.wholes:
            at = run.venue.at[n]
            assert any(gap.ts_from <= at < gap.ts_to for gap in gaps if gap.ts_to is not None), (about, n)


@pytest.mark.parametrize("way", list(WAYS))
def test_in_long_lives_too_what_is_no_row_lies_in_a_gap(way):
    """Of what may end again and again: longer ones than are drawn above, as a rule."""
    for seed in range(200):
        rng = random.Random(seed)
        run = Run(Venue(times(rng.choices([MS, 300 * MS, 3 * SECOND, MINUTE], weights=[8, 2, 1, 1], k=LENGTH))), way)
        judge(run, [*([] if way in BY_NUMBER else ["venue", "a", "b"]), *rng.choices(STEPS, k=6 * LENGTH)], seed)


def test_a_connection_a_minute_behind_brings_nothing_again_once_the_one_that_led_is_gone():
    run = Run(Venue(times([MS] * 8 + [MINUTE] * 2 + [MS] * (LENGTH - 10))), "led")
    run.go(["venue", "a", *["venue"] * 7, "cut b", "venue", "venue", "b", "b", "cut b"], safely=False)
    assert run.rows == [0, 9, 8]
    run.finish()
    assert sorted(run.rows) == list(range(LENGTH))


@pytest.mark.parametrize(
    "apart,steps,cause",
    [
        ([MS] * (LENGTH - 1) + [MINUTE], [], "stalled"),
        ([MS] * LENGTH, ["cut b"], "disconnect"),
        ([MS] * LENGTH, ["venue", "a", "cut b"], "disconnect"),
        ([MS] * LENGTH, ["venue", "a", "venue", "b", "cut b"], "disconnect"),
        ([MS] * LENGTH, ["venue", "a", "cut b", "venue", "b", "venue", "venue", "a", "cut a"], "disconnect"),
    ],
)
def test_what_only_the_heir_of_a_handover_had_is_a_gap_where_it_never_led(apart, steps, cause):
    """It falls far behind, or is lost, and who came in anew goes on: that one never had the event 2."""
    run = Run(Venue(times(apart)), "led")
    run.go(["venue", "a", "b", "venue", "venue", "a", "hand over a"], safely=False)
    assert run.rows == [0, 1]
    run.go(steps, safely=False)
    gaps = run.finish()
    assert sorted(run.rows) == [0, 1, *range(3, LENGTH)]
    assert [(gap.cause, gap.session) for gap in gaps if gap.ts_from <= run.venue.at[2] < gap.ts_to] == [
        (cause, "b-0-1")
    ]


def promptly(rng):
    """Steps in which both connections come along, unless one is mute, and one now and then ends or falls mute."""
    told = ("venue", "a", "b", "a", "b")
    faults = (*STEPS[-4:], "mute a", "mute b", "venue", "a", "b")
    return [step for _ in range(LENGTH) for step in (*told, rng.choice(faults), *rng.choices(STEPS, k=2))]


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("led", "summed")])
def test_a_connection_that_was_mute_and_goes_on_proves_nothing_of_the_meantime(way):
    """Where one leads, what it does not say for two seconds is not looked for at the other one (decision 0025); the
    session of a book that is summed notices by the sum.
    """
    for seed in range(150):
        rng = random.Random(seed)
        venue = Venue(times(rng.choices([MS, 300 * MS, 3 * SECOND, MINUTE], k=LENGTH)))
        run = Run(venue, way)
        run.go(["venue", "a", "b", *promptly(rng)], safely=False)
        gaps = run.finish()
        assert len(run.rows) == len(set(run.rows)), seed
        for n in set(range(min(run.rows), max(run.rows))) - {*run.rows, *run.wholes}:
            assert any(gap.ts_from <= venue.at[n] < gap.ts_to for gap in gaps if gap.ts_to is not None), (seed, n)


class Planned(Run):
    """Connections are left when that was planned, however far they are behind; their other streams show how far they
    have come. `settled` are the doubts that ended so, `rest` those that did not.
    """

    def __init__(self, venue, way, rng):
        self.since, self.settled, self.rest, self.rng = {}, 0, 0, rng
        super().__init__(venue, way)

    def begins(self, twin):
        super().begins(twin)
        ends = [self.venue.at[min(max(n, 0), LENGTH - 1)] for n in (self.next - 1, self.next)]
        self.since[self.session(twin)] = self.rng.randint(*ends)

    def leaves(self, twin):
        heir, before = self.session("b" if twin == "a" else "a"), self.doubts()
        come = self.venue.at[max(self.newest[twin], 0)]
        under_way = self.under_way[twin]
        shown = self.rng.randint(come, under_way[0].ts_event + HOLD - 1 if under_way else max(come, self.now))
        had = {"A": {heir} if self.since[heir] <= shown - HOLD else set()}
        self.take(self.held.passed_on(self.session(twin), had, shown, self.now, self.now))
        left = self.doubts()
        self.rest += len(left)
        for doubt in (doubt for doubt in before if doubt not in left):
            self.settled += 1
            missing = [n for n in range(LENGTH) if doubt.ts_from < self.venue.at[n] < doubt.ts_to]
            assert set(missing) <= set(self.rows)
        self.ends(twin, HANDOVER)


@pytest.mark.parametrize("way", ["alike, marks", "alike, orders", "alike, candles", "named", "rising"])
def test_what_a_planned_end_settles_lacks_nothing(way):
    settled = rest = 0
    for seed in range(60):
        rng = random.Random(seed)
        run = Planned(Venue(times(rng.choices([MS, 300 * MS, 20 * SECOND], weights=[1, 2, 4], k=LENGTH))), way, rng)
        for _ in range(12):
            slow = rng.choice("ab")
            fast = "b" if slow == "a" else "a"
            run.go(rng.choices(["venue", slow, fast], weights=[3, 2, 1], k=8), safely=False)
            run.ends(fast, "disconnect")
            run.go(rng.choices(["venue", slow, fast], weights=[4, 3, 3], k=8), safely=False)
            run.leaves(slow)
        settled, rest = settled + run.settled, rest + run.rest
    assert settled > 5
    assert rest > 5


@given(st.lists(st.sampled_from([100 * MS, 300 * MS, 700 * MS]), min_size=LENGTH, max_size=LENGTH), steps,
       st.integers(-40, 40), st.integers(2, 5))  # fmt: skip
def test_of_two_connections_with_times_of_their_own_each_thing_said_is_one_row(apart, steps, late, words):
    run = Run(Venue(times(apart), words), "led", late={"b": late * MS})
    run.go(steps, safely=True)
    assert run.finish() == []
    assert sorted(run.rows) == list(range(LENGTH))
