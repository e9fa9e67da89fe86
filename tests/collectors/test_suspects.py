"""Suspects: what is asked, when it is a verdict, and what is done; a market that is truly quiet is left in peace."""

from __future__ import annotations

import pytest

from collectors.liveness import Watch, status
from collectors.rhythm import MOST, Rhythms
from collectors.suspects import AGAIN, ANSWER_WITHIN, COMPARED, GRACE, WATCHED, Ask, Finding, Seen, Suspects, newer
from market.probing import Newest
from market.session import EVERY_SYMBOL, Fetch, Stream, StreamState
from market.times import HOUR, MINUTE, MS, SECOND

T = 1_785_700_800_000_000
SILENT_AFTER = 45 * SECOND


def stream(symbol: str = "A", kind: str = "trade", **more: object) -> Stream:
    return Stream(f"{symbol}@{kind}", kind, symbol, kind, contiguous=kind == "trade", **more)  # type: ignore[arg-type]


class World:
    """Streams that tick once a second until they are silenced, and a venue that knows better."""

    def __init__(self, *streams: Stream, rest: bool = True) -> None:
        self.now = T
        self.rest = rest
        self.states = [StreamState(one, desired_at=T, acknowledged_at=T, since=T) for one in streams]
        self.silent: set[str] = set()
        self.ids: dict[str, int] = {}
        self.stored: dict[str, Seen] = {}
        self.twins: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.suspects = Suspects(self, Rhythms(), SILENT_AFTER)
        self.watch = Watch(SILENT_AFTER)
        self.asked: list[Ask] = []
        self.found: list[Finding] = []
        self.alarms: list[tuple[int, str, str]] = []

    # --- Facts ---

    def seen(self, of: Stream) -> Seen:
        return self.stored.get(of.name, Seen())

    def probe(self, of: Stream) -> Fetch | None:
        return Fetch(of.name, "GET", "http://venue") if self.rest else None

    def twin(self, of: Stream) -> int | None:
        return self.twins.get(of.name)

    def trades(self, symbol: str) -> int | None:
        return self.counts.get(symbol)

    # --- time ---

    def event(self, state: StreamState) -> None:
        name = state.stream.name
        self.ids[name] = number = self.ids.get(name, 0) + 1
        state.events += 1
        state.first_recv = state.first_recv or self.now
        state.last_recv = self.now
        self.stored[name] = Seen(self.now, number)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            for state in self.states:
                if state.stream.name not in self.silent:
                    self.event(state)
            self.take(self.suspects.look(self.states, self.now))
            for change in self.watch.look(self.states, self.now):
                if change.alarm or change.over:
                    self.alarms.append((self.now, change.stream.name, change.status))

    def take(self, acts: list[Ask | Finding]) -> None:
        self.asked += [act for act in acts if isinstance(act, Ask)]
        self.found += [act for act in acts if isinstance(act, Finding)]

    def answer(self, name: str, ts: int, seq: int | None = None) -> None:
        of = next(state.stream for state in self.states if state.stream.name == name)
        self.take(self.suspects.answer(of, Newest(ts, seq, f"REST: trade {seq}"), self.now))

    def tell(self, name: str, state: str) -> None:
        """An answer that tells what is, and of no event."""
        of = next(state.stream for state in self.states if state.stream.name == name)
        self.take(self.suspects.answer(of, Newest(0, None, f"REST: {state}", state), self.now))

    def fail(self, name: str) -> None:
        of = next(state.stream for state in self.states if state.stream.name == name)
        self.take(self.suspects.answer(of, "status 503", self.now))

    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(one.stream.name, one.verdict, one.remedy) for one in self.found]


def silenced(*streams: Stream, silent: tuple[str, ...] = (), **more: bool) -> World:
    """A quarter of an hour of events a second, then twenty seconds of silence."""
    world = World(*streams, **more)
    world.run(930)
    world.silent |= set(silent)
    world.run(20)
    return world


def test_one_symbol_of_fifty_is_asked_about_within_twenty_seconds_and_only_it_is_asked_for_anew() -> None:
    symbols = [stream(f"S{n}") for n in range(50)]
    world = silenced(*symbols, silent=("S7@trade",))
    assert [ask.stream.name for ask in world.asked] == ["S7@trade"]
    assert world.found == [], "nothing is said before it is proven"
    world.answer("S7@trade", world.now - SECOND, 2000)
    world.run(GRACE // SECOND)
    assert world.verdicts() == [("S7@trade", "missed", "stream")]
    assert world.found[0].proof == "REST: trade 2000"
    assert [alarm[1:] for alarm in world.alarms if alarm[2] != "producing"] == [("S7@trade", "stalled")]
    assert world.suspects.judged(symbols[7])
    world.silent.clear()
    world.run(60)
    assert world.alarms[-1][1:] == ("S7@trade", "producing"), "it is over when it produces"
    assert len(world.found) == len(world.asked) == 1


def test_a_truly_quiet_market_is_asked_about_ever_more_rarely_and_nothing_else_happens() -> None:
    names = [f"S{n}@trade" for n in range(10)]
    world = World(*(stream(f"S{n}") for n in range(10)))
    world.run(120)
    world.silent |= set(names)
    for _ in range(6 * 3600):
        world.run(1)
        for ask in world.asked[len(world.found) :]:
            seen = world.stored[ask.stream.name]
            world.answer(ask.stream.name, seen.ts, seen.seq)
    assert {one.verdict for one in world.found} == {"quiet"}
    assert not [alarm for alarm in world.alarms if alarm[2] != "producing"]
    assert len(world.asked) <= 10 * 16, "each time twice as long, then once an hour"
    assert all(status(state, world.now) == "producing" for state in world.states)


def test_what_comes_while_it_is_asked_about_was_never_a_fault() -> None:
    world = silenced(stream("A"), stream("B"), silent=("A@trade",))
    world.answer("A@trade", world.now, 2000)  # newer, and on its way
    world.silent.clear()
    world.run(60)
    assert world.found == []
    assert not [one for one in world.alarms if one[2] != "producing"]


def test_all_streams_of_a_connection_are_its_fault_and_it_is_left_once() -> None:
    symbols = [stream(f"S{n}") for n in range(50)]
    world = silenced(*symbols, silent=tuple(one.name for one in symbols))
    assert len(world.asked) == 4, "a few speak for all"
    world.answer("S0@trade", world.now, 2000)
    world.run(GRACE // SECOND)
    assert [remedy for name, verdict, remedy in world.verdicts() if verdict == "missed"] == ["leave"]


def test_where_asking_anew_does_not_help_the_connection_is_replaced_and_then_ever_more_rarely() -> None:
    world = silenced(stream("A"), stream("B"), stream("C"), silent=("A@trade",))
    number = 1000
    for _ in range(6 * 3600):
        if len(world.asked) > number - 1000:
            number += 1
            world.answer("A@trade", world.now, number)
        world.run(1)
    remedies = [one.remedy for one in world.found if one.remedy]
    assert remedies[:2] == ["stream", "replace"]
    assert 3 <= len(remedies) <= 7, "what does not help is no storm"


def test_a_connection_that_was_left_for_one_stream_is_not_left_again_at_once_for_another() -> None:
    symbols = [stream(f"S{n}") for n in range(6)]
    rhythms, left = Rhythms(), []
    for life in range(5):
        world = World(*symbols)
        world.now += life * MINUTE // 2
        world.suspects = Suspects(world, rhythms, SILENT_AFTER, "c-1")
        world.silent |= {one.name for one in symbols}
        for state in world.states:
            state.acknowledged_at = state.since = world.now
        while not any(one.remedy == "leave" for one in world.found) and world.now < T + (life + 1) * MINUTE:
            world.run(1)
            for ask in world.asked:
                world.answer(ask.stream.name, world.now, 9)
        left.append(any(one.remedy == "leave" for one in world.found))
    assert left[0]
    assert left.count(True) <= 2, "the second minute at the earliest, then five"


def test_an_answer_that_says_nothing_is_an_alarm_and_asked_for_again() -> None:
    world = silenced(stream("A"), stream("B"), silent=("A@trade",))
    world.fail("A@trade")
    assert world.verdicts() == [("A@trade", "unknown", "")]
    world.run(1)
    assert world.alarms[-1][1:] == ("A@trade", "stalled")
    assert world.suspects.judged(world.states[0].stream), "silence that means nothing by itself is no gap"
    world.run(61)
    assert len(world.asked) == 2
    seen = world.stored["A@trade"]
    world.answer("A@trade", seen.ts, seen.seq)
    world.run(1)
    assert world.alarms[-1][1:] == ("A@trade", "producing"), "nothing newer exists: it was no fault"


def test_a_stream_that_declares_a_silence_stalls_as_ever_where_nothing_answers() -> None:
    world = silenced(stream("A", max_silence=MINUTE), stream("B"), silent=("A@trade",))
    world.run(ANSWER_WITHIN // SECOND + 1)
    assert world.verdicts() == [("A@trade", "unknown", "")], "no answer in time"
    world.run(60)
    assert world.alarms[-1][1:] == ("A@trade", "stalled")
    assert not world.suspects.judged(world.states[0].stream), "the gap is the connection's to tell"


@pytest.mark.parametrize("traded", [True, False])
def test_acknowledged_and_silent_is_an_alarm_within_a_minute_where_something_was_traded(traded: bool) -> None:
    world = World(stream("A"), stream("B"))
    world.silent.add("A@trade")
    for _ in range(100):
        world.run(1)
        for _ in world.asked[:1]:
            world.answer("A@trade", T + 10 * SECOND if traded else T - HOUR, 2000)
    told = [alarm for alarm in world.alarms if alarm[1] == "A@trade"]
    assert [one[2] for one in told] == (["silent"] if traded else [])
    assert all(at <= T + MINUTE for at, _, _ in told)
    assert [one.verdict for one in world.found][:1] == ["missed" if traded else "quiet"]


def test_acknowledged_and_silent_is_an_alarm_within_a_minute_whatever_is_asked() -> None:
    world = World(*(stream(f"S{n}") for n in range(30)))
    world.silent |= {state.stream.name for state in world.states}
    world.run(60)
    assert len({name for _, name, told in world.alarms if told == "silent"}) == 30
    world.silent.clear()
    world.run(2)
    assert [told for _, _, told in world.alarms[-30:]] == ["producing"] * 30


def test_another_connection_that_goes_on_is_proof_and_one_that_is_quiet_too_is_none() -> None:
    world = World(stream("A"), stream("B"), rest=False)
    world.twins = {"A@trade": T, "B@trade": T}
    world.run(120)
    world.silent |= {"A@trade", "B@trade"}
    for _ in range(40):
        world.twins["A@trade"] = world.now
        world.run(1)
    assert [one[:2] for one in world.verdicts()][:2] == [("B@trade", "quiet"), ("A@trade", "missed")]


@pytest.mark.parametrize("moves", [0, 1])
def test_trades_of_the_symbol_tell_of_its_quotes(moves: int) -> None:
    world = World(stream("A", "quote", max_silence=MINUTE), stream("A"), rest=False)
    world.counts["A"] = 0
    world.run(120)
    world.silent.add("A@quote")
    for _ in range(80):
        world.counts["A"] += moves
        world.run(1)
    assert world.verdicts()[0][:2] == ("A@quote", "missed" if moves else "quiet")


def test_what_is_told_as_it_stands_is_asked_for_twice_and_a_difference_is_the_proof() -> None:
    world = silenced(stream("A", "quote", max_silence=MINUTE), stream("B"), silent=("A@quote",))
    world.tell("A@quote", "1 / 2")
    assert world.found == []
    world.run(COMPARED // SECOND)
    assert len(world.asked) == 2
    world.tell("A@quote", "1 / 3")
    world.run(GRACE // SECOND)
    assert world.verdicts() == [("A@quote", "missed", "stream")]
    assert world.found[0].proof == "REST: 1 / 3, before REST: 1 / 2"


def test_what_stands_as_before_is_quiet_and_remembered_for_the_next_time() -> None:
    world = silenced(stream("A", "quote", max_silence=MINUTE), stream("B"), silent=("A@quote",))
    world.tell("A@quote", "1 / 2")
    world.run(COMPARED // SECOND)
    world.tell("A@quote", "1 / 2")
    assert world.verdicts() == [("A@quote", "quiet", "")]
    assert not [one for one in world.alarms if one[2] != "producing"]
    while len(world.asked) < 3:
        world.run(1)
    world.tell("A@quote", "1 / 3")
    world.run(GRACE // SECOND)
    assert world.verdicts()[1][:2] == ("A@quote", "missed"), "nothing came since it was told the first time"


def test_what_came_between_two_answers_makes_the_first_one_old() -> None:
    world = silenced(stream("A", "quote", max_silence=MINUTE), stream("B"), silent=("A@quote",))
    world.tell("A@quote", "1 / 2")
    world.silent.clear()
    world.run(3)
    world.silent.add("A@quote")
    while len(world.asked) < 2:
        world.run(1)
    world.tell("A@quote", "1 / 3")
    world.run(COMPARED // SECOND)
    world.tell("A@quote", "1 / 3")
    assert [one[1] for one in world.verdicts()] == ["quiet"]


def test_one_newer_trade_is_no_proof_that_a_quote_was_missed_and_several_are() -> None:
    world = silenced(stream("A", "quote", max_silence=MINUTE), stream("B"), silent=("A@quote",))
    for asked in (1, 2, 3):
        while len(world.asked) < asked:
            world.run(1)
        world.answer("A@quote", world.now, asked)
    world.run(GRACE // SECOND)
    assert [one[1] for one in world.verdicts()] == ["unknown", "unknown", "missed"]


def test_where_trades_are_collected_those_that_follow_tell_of_quotes() -> None:
    world = silenced(stream("A", "quote", max_silence=MINUTE), stream("A"), silent=("A@quote",))
    world.counts["A"] = 0
    world.answer("A@quote", world.now, 9)
    for _ in range(WATCHED // SECOND):
        world.counts["A"] += 1
        world.run(1)
    assert world.verdicts() == [("A@quote", "missed", "stream")]


def test_a_young_connection_is_judged_by_what_is_usual_for_its_streams() -> None:
    rhythms = Rhythms()
    rhythms.of("quote", "A").learn(100 * SECOND, T)
    world = World(stream("A", "quote", max_silence=MINUTE), rest=False)
    world.suspects = Suspects(world, rhythms, SILENT_AFTER)
    world.run(3)
    world.silent.add("A@quote")
    world.run(199)
    assert [one[2] for one in world.alarms] == [], "three events in a row are no rhythm"
    world.run(10)
    assert [one[2] for one in world.alarms] == ["stalled"], "twice what is usual is too long"


def test_whom_nobody_can_be_asked_about_is_left_to_what_he_declares() -> None:
    world = silenced(
        stream("A"), stream("B", "mark_price", max_silence=MINUTE), silent=("A@trade", "B@mark_price"), rest=False
    )
    world.run(90)
    assert world.found == world.asked == []
    assert world.alarms[-1][1:] == ("B@mark_price", "stalled")


def test_whole_markets_and_what_is_rare_by_nature_are_never_suspected() -> None:
    world = World(stream("A", "liquidation", sparse=True), stream(EVERY_SYMBOL, "mark_price"))
    world.silent |= {state.stream.name for state in world.states}
    world.run(300)
    assert world.asked == world.found == []


def test_a_clock_that_is_stepped_teaches_nothing() -> None:
    world = silenced(stream("A"), stream("B"), silent=("A@trade",))
    world.suspects.reset()
    world.now += HOUR
    assert world.states[0].excused == 0
    world.answer("A@trade", world.now, 900)
    assert world.found == [], "the answer is to a question that nobody asks any more"


def test_newer_is_told_by_ids_where_both_have_them_and_by_time_elsewhere() -> None:
    seen = Seen(T, 10)
    assert not newer(Newest(T + HOUR, 10, ""), seen, kind="trade", since=0)
    assert newer(Newest(T, 11, ""), seen, kind="trade", since=0)
    assert not newer(Newest(T + MS, None, ""), seen, kind="trade", since=0)
    assert newer(Newest(T + 2 * MS, None, ""), Seen(T), kind="trade", since=0)
    assert not newer(Newest(T + SECOND, 99, ""), seen, kind="quote", since=0), "ids of trades are none of quotes"
    assert newer(Newest(T + 6 * SECOND, 99, ""), seen, kind="quote", since=0)
    assert newer(Newest(T + 6 * SECOND, 1, ""), seen, kind="trade", since=T)
    assert not newer(Newest(T + SECOND, 99, ""), seen, kind="trade", since=T), "our clock and theirs differ"


def test_it_is_asked_again_in_time_after_it_was_asked_for_anew() -> None:
    world = silenced(stream("A"), stream("B"), stream("C"), silent=("A@trade",))
    traded = world.now
    world.answer("A@trade", traded, 2000)
    world.run((GRACE + AGAIN) // SECOND + 1)
    assert len(world.asked) == 2
    world.answer("A@trade", traded, 2000)  # the same one: it says nothing of what came after
    assert world.verdicts()[-1][:2] == ("A@trade", "quiet")
    assert status(world.states[0], world.now) == "stalled", "what it missed it has missed"
    world.run(MOST // SECOND)
    assert len(world.asked) >= 3
