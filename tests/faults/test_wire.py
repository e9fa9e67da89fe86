"""F40, F42, F43: what a venue may put on the wire, through the live path to the rows of a lake.

Whole frames are hostile here one by one; `tests/properties/test_parser_fuzz.py` mixes them for every venue, and
`tests/system/test_bad_frames_live.py` sends some of them to a running daemon.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collectors import exchanges
from collectors.adapters.counting import GARBAGE_LIMIT
from collectors.links import MOST_NAMES, tally
from lake import Lake
from market.session import Acknowledged, Connection, Leave, Refused, Send, Stream
from market.times import MINUTE, MS, SECOND
from tests.support import hostile
from tests.support.feeding import MARKET, VENUE, Feed, finished, missing, stored, told
from tests.support.written import T0, combined, quote, trade


@pytest.fixture
def root(place: Path) -> Path:
    return place / "lake"


# --- F40: frames that are none ---

NO_FRAMES: dict[str, bytes] = {
    "garbage": b"garbage", "empty": b"", "invalid UTF-8": b'{"stream":"\xff\xfe"}', "binary": bytes(range(256)),
    "cut": trade(7).encode()[:-9], "wrong schema": combined("btcusdt@trade", {"price": 1}).encode(),
    "a list": b"[1,2,3]", "depth 2,000": b"[" * hostile.DEPTH + b"]" * hostile.DEPTH,
    "depth 2,000 inside": b'{"stream":"btcusdt@trade","data":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_001,
    "a number of 5,000 digits": b'{"id":' + b"9" * 5_000 + b"}", "lone surrogate": b'{"stream":"\\ud800","data":{}}',
    "another stream's payload": combined("btcusdt@trade", json.loads(quote(5))["data"]).encode(),
    "two in one": (trade(7) + trade(8)).encode(), "nothing but blanks": b" \n\t",
}  # fmt: skip


def test_f40_frames_that_are_none_are_set_aside_and_their_neighbours_are_stored(root: Path) -> None:
    feed = Feed(root, T0)
    for n, (what, frame) in enumerate(NO_FRAMES.items()):
        feed.receive([trade(2 * n), frame, trade(2 * n + 1)], T0 + n)
        assert sum(feed.pipeline.totals.rejected.values()) == n + 1, f"{what} struck"
    assert not any(isinstance(out, Leave) for out in feed.told)
    finished(feed)
    assert stored(root) == list(range(2 * len(NO_FRAMES)))
    gaps, quarantined, ignored = told(root)
    assert (quarantined, ignored, gaps) == (len(NO_FRAMES), 0, [])


def test_f40_a_key_that_is_there_twice_has_one_value_the_same_live_and_in_a_replay(root: Path) -> None:
    twice = trade(1).replace('"p": "100.10"', '"p": "100.10", "p": "7.5"')
    assert twice.count('"p"') == 2
    feed = Feed(root, T0)
    feed.receive([twice], T0)
    finished(feed)
    with Lake(root) as lake:
        assert lake.read("trade").column("price").to_pylist() == [7.5]


def test_f40_after_a_hundred_senseless_frames_in_a_row_the_connection_is_made_again(root: Path) -> None:
    streams = exchanges.load(VENUE).streams(MARKET, ["trade"], ["BTCUSDT"])
    feed = Feed(root, T0, streams)
    feed.receive([trade(1), *([b"garbage"] * (GARBAGE_LIMIT - 1))], T0)
    assert not any(isinstance(out, Leave) for out in feed.told), "one short of the limit"
    feed.receive([trade(2), *([b"garbage"] * GARBAGE_LIMIT)], T0 + SECOND)
    assert [out.cause for out in feed.told if isinstance(out, Leave)] == ["garbage"]
    feed.cut(T0 + SECOND, "garbage")
    feed.receive([trade(3)], T0 + 2 * SECOND)
    finished(feed)
    assert stored(root) == [1, 2, 3]
    assert told(root)[1] == 2 * GARBAGE_LIMIT - 1


def test_f40_reasons_and_labels_of_a_hostile_venue_are_counted_in_bounded_memory(root: Path) -> None:
    feed = Feed(root, T0)
    frames: list[str] = []
    for n in range(3 * MOST_NAMES):
        frames += [json.dumps({"error": {"code": n, "msg": "x" * n}, "id": None}), combined(f"x@y{n}", {})]
    feed.receive(frames, T0)
    assert len(feed.pipeline.totals.rejected) + len(feed.pipeline.totals.ignored) <= 2 * MOST_NAMES + 2
    counts: Counter[str] = Counter()
    for n in range(3 * MOST_NAMES):
        tally(counts, {f"error {n}": 1})
    assert (len(counts), counts["other"], sum(counts.values())) == (MOST_NAMES + 1, 2 * MOST_NAMES, 3 * MOST_NAMES)
    feed.abandon()


# --- F42: ids ---


def fed(root: Path, batches: Sequence[Sequence[int]], *, cut_before: Sequence[int] = ()) -> None:
    """Trades with these ids, a batch a second; a new connection before the batches in `cut_before`."""
    feed = Feed(root, T0)
    for n, ids in enumerate(batches):
        at = T0 + n * SECOND
        if n in cut_before:
            feed.cut(at)
        feed.receive([trade(number, at=at) for number in ids], at)
    feed.wait(feed.now + MINUTE)
    finished(feed)


def test_f42_ids_out_of_order_are_no_gap_and_are_stored_in_order(root: Path) -> None:
    fed(root, [[1, 2, 5, 4, 3, 6], [9, 7, 8]])
    assert stored(root) == list(range(1, 10))
    assert told(root)[0] == []


def test_f42_repeated_ids_are_stored_once(root: Path) -> None:
    fed(root, [[1, 1, 2, 2, 2], [1, 2, 3], [3, 2, 1, 4]], cut_before=[2])
    assert stored(root) == [1, 2, 3, 4]
    assert missing(root) == set()


def test_f42_missing_ids_are_exactly_those_of_the_gaps(root: Path) -> None:
    fed(root, [[1, 2, 5], [6, 10, 11], [30]])
    assert stored(root) == [1, 2, 5, 6, 10, 11, 30]
    assert missing(root) == {3, 4, 7, 8, 9, *range(12, 30)}


def test_f42_what_was_missing_and_comes_late_is_stored_and_its_gap_repaired(root: Path) -> None:
    feed = Feed(root, T0)
    feed.receive([trade(n, at=T0) for n in (1, 2, 5)], T0)
    feed.wait(T0 + 10 * SECOND, sync=True)
    assert missing(root) == {3, 4}
    feed.receive([trade(n, at=T0) for n in (4, 3)], T0 + 20 * SECOND)
    finished(feed)
    assert stored(root) == [1, 2, 3, 4, 5]
    assert missing(root) == set()
    assert {gap.state for gap in told(root)[0]} == {"repaired"}


def test_f42_the_last_thousand_again_after_a_subscription_are_dropped_and_what_was_lost_between_is_named(
    root: Path,
) -> None:
    fed(root, [range(1, 2_001), [*range(1_001, 2_001), *range(2_003, 2_010)]], cut_before=[1])
    assert stored(root) == [*range(1, 2_001), *range(2_003, 2_010)]
    assert missing(root) == {2_001, 2_002}


def test_f42_ids_that_start_again_from_one_are_a_new_numbering_and_a_gap_without_ids(root: Path) -> None:
    fed(root, [range(5_000, 5_010), range(1, 8), range(8, 12)])
    assert sorted(stored(root)) == [*range(1, 12), *range(5_000, 5_010)]
    (gap,) = told(root)[0]
    assert (gap.cause, gap.state, gap.id_from, gap.id_to) == ("id_reset", "open", None, None)
    assert gap.detail == "ids went from 5009 to 1"


@pytest.mark.parametrize("number", [2**62, 2**62 - 1])
def test_f42_the_largest_id_leaves_room_for_the_gap_behind_it(root: Path, number: int) -> None:
    fed(root, [[number], [number]], cut_before=[1])
    assert stored(root) == [number]


@pytest.mark.parametrize("number", [2**62 + 1, 2**63 - 1, 2**63, 2**64, -1, 1.5, "7", None, True])
def test_f42_an_id_that_is_none_is_set_aside(root: Path, number: Any) -> None:
    feed = Feed(root, T0)
    feed.receive([trade(1), trade(number), trade(2)], T0)
    feed.cut(T0 + SECOND)
    finished(feed)
    assert stored(root) == [1, 2]
    assert told(root)[1] == 1


# --- F43: subscriptions ---


class Asked:
    """A session that subscribes, the venue's answers in a test's hand."""

    def __init__(self, symbols: Sequence[str], kinds: Sequence[str] = ("trade",)) -> None:
        venue = exchanges.load(VENUE)
        self.streams: tuple[Stream, ...] = tuple(venue.streams(MARKET, kinds, symbols))
        connection = Connection(VENUE, MARKET, "x", "wss://x/stream", self.streams)
        self.session = venue.session(connection, "n-1-1")
        self.now = T0
        self.sent: list[Any] = []
        self.out: list[Any] = []
        self.take(self.session.start(self.now))

    def take(self, outputs: Sequence[Any]) -> None:
        self.sent += [json.loads(out.text) for out in outputs if isinstance(out, Send)]
        self.out += [out for out in outputs if not isinstance(out, Send)]

    def say(self, frame: object) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self.take(self.session.receive(text.encode(), self.now))

    def wait(self, until: int) -> None:
        while self.now < until:
            due = self.session.next_deadline()
            self.now = min(until, max(self.now + MS, due if due is not None else until))
            self.take(self.session.tick(self.now))

    def of(self, sort: type) -> list[Any]:
        return [out for out in self.out if isinstance(out, sort)]

    def acknowledged(self) -> set[str]:
        return {state.stream.symbol for state in self.session.streams() if state.acknowledged_at}


def test_f43_a_request_that_is_never_answered_is_made_again_and_then_the_connection_is() -> None:
    asked = Asked(["BTCUSDT"])
    asked.wait(T0 + 11 * SECOND)
    assert len(asked.sent) == 2
    assert asked.sent[0]["params"] == asked.sent[1]["params"]
    asked.wait(T0 + 25 * SECOND)
    assert "unacknowledged" in [out.cause for out in asked.of(Leave)]


def test_f43_data_prove_a_subscription_whose_answer_never_came() -> None:
    asked = Asked(["BTCUSDT"])
    for second in range(1, 30):
        asked.wait(T0 + second * SECOND)
        asked.say(trade(second, at=asked.now))
    assert asked.acknowledged() == {"BTCUSDT"}
    assert asked.of(Leave) == []


def test_f43_one_bad_symbol_is_refused_alone_and_the_others_go_on() -> None:
    symbols = [f"SYM{n}" for n in range(8)] + ["GONE"]
    asked = Asked(symbols)
    answered = 0
    while answered < len(asked.sent):
        request = asked.sent[answered]
        answered += 1
        if "gone@trade" in request["params"]:
            asked.say({"error": {"code": 2, "msg": "Invalid request: unknown stream"}, "id": request["id"]})
        else:
            asked.say({"result": None, "id": request["id"]})
        asked.wait(asked.now + SECOND)
    (refused,) = asked.of(Refused)
    assert [stream.symbol for stream in refused.streams] == ["GONE"]
    assert asked.acknowledged() == set(symbols) - {"GONE"}
    assert {stream.symbol for out in asked.of(Acknowledged) for stream in out.streams} == asked.acknowledged()
    assert asked.of(Leave) == [], "the connection is not given up for one symbol"


@pytest.mark.parametrize(
    "answer",
    [{"result": None, "id": 99}, {"result": None}, {"result": [], "id": "1"}, {"error": "?", "id": 1},
     {"error": {"code": 2, "msg": "x"}, "id": 99}, {"code": 2, "msg": "no"}],
)  # fmt: skip
def test_f43_an_answer_to_nothing_or_of_no_known_shape_breaks_nothing(answer: dict[str, Any]) -> None:
    asked = Asked(["BTCUSDT", "ETHUSDT"])
    asked.say(answer)
    for second in range(1, 15):
        asked.wait(T0 + second * SECOND)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            asked.say(trade(second, symbol, at=asked.now))
    events = [out for out in asked.out if hasattr(out, "seq")]
    assert len(events) == 28
    assert asked.of(Leave) == []


def test_f43_a_symbol_that_is_acknowledged_and_never_sends_is_told_from_those_that_do() -> None:
    asked = Asked(["BTCUSDT", "RENAMED"])
    asked.say({"result": None, "id": asked.sent[0]["id"]})
    for second in range(1, 60):
        asked.wait(T0 + second * SECOND)
        asked.say(trade(second, at=asked.now))
    events = {state.stream.symbol: state.events for state in asked.session.streams()}
    assert events == {"BTCUSDT": 59, "RENAMED": 0}
    assert asked.of(Leave) == []


def test_f43_a_recorded_request_for_nothing_that_is_collected_may_be_refused() -> None:
    """A replay raised ValueError here, and RecursionError where what was sent was nested deeply."""
    connection = Connection(VENUE, MARKET, "x", "wss://x", ())
    session = exchanges.load(VENUE).session(connection, "n-1-1", learn=True)
    session.start(T0)
    session.sent('{"method":"SUBSCRIBE","params":["btcusdt@unheard"],"id":1}', T0)  # type: ignore[attr-defined]
    session.sent("[" * 5_000, T0)  # type: ignore[attr-defined]
    assert list(session.receive(b'{"error":{"code":2,"msg":"no"},"id":1}', T0)) == []
    assert [type(out).__name__ for out in session.receive(trade(1).encode(), T0)] == ["Trade"]
