"""A silent stream is asked for anew, and speaks while its subscription ends and begins: what is lost then is a gap."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec
import pytest

from collectors.config import WritingConfig
from collectors.exchanges import load
from collectors.holes import FLOWS, OPENING, Memory
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.probing import Renewing
from market.session import Gap, Send
from market.times import MINUTE, MS, SECOND
from tests.collectors.test_doubts import EVERY, T0, WAYS, whole

SILENT_SINCE = 9
LENGTHS = list(itertools.product((0, 1, 2), (0, 1, 3), (0, 1, 2)))
"""Events that are under way when the subscription ends, that are lost, and that come before the venue's answer."""


class Stream:
    """What a merger is told of one stream, and the gaps it tells."""

    def __init__(self, way: str) -> None:
        (exchange, market, kind), self.say = WAYS[way]
        made = merger_maker(load(exchange), market)(kind)
        assert isinstance(made, Memory)
        self.way, self.merger = way, made
        self.every = MINUTE if "candles" in way else EVERY
        self.gaps: dict[str, Gap] = {}
        self.rows: set[int] = set()

    def at(self, n: int) -> int:
        return T0 + n * self.every

    def told(self, gaps: Iterable[Gap]) -> None:
        self.gaps.update((gap.gap_id, gap) for gap in gaps)

    def comes(self, numbers: Iterable[int], session: str = "a", *, anew: int = -1) -> None:
        """Events; `anew` is the first of a new subscription: of books that are summed a whole one."""
        for n in numbers:
            event = whole(n, session) if n == anew and self.way == "summed" else self.say(n, session)
            self.rows.update(n for _ in self.merger.merge_all([event]))
            self.told(self.merger.tick(self.at(n) + 2 * MS))

    def falls_silent(self, n: int, session: str = "a") -> None:
        self.told(self.merger.silenced(session, "A", 0, self.at(n) + MS, "REST: a newer one"))
        self.told(self.merger.suspended(session, "A", self.at(n) + MS))

    def is_asked_for(self, n: int, session: str = "a") -> None:
        self.told(self.merger.restored(session, "A", self.at(n) + MS))

    def open(self) -> list[Gap]:
        return [gap for gap in self.gaps.values() if gap.state == "open"]

    def untold(self, numbers: Iterable[int]) -> list[int]:
        """Those that are in no gap."""
        spans = [(gap.ts_from, gap.ts_to or 2**62) for gap in self.open()]
        return [n for n in numbers if not any(start <= self.at(n) < end for start, end in spans)]


def parted(begin: int, lengths: Sequence[int]) -> list[range]:
    ends = list(itertools.accumulate(lengths, initial=begin))
    return [range(start, end) for start, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("under_way, lost, early", LENGTHS)
def test_what_is_lost_while_a_stream_is_asked_for_anew_is_in_a_gap(
    way: str, under_way: int, lost: int, early: int
) -> None:
    stream = Stream(way)
    stream.comes(range(SILENT_SINCE + 1))
    stream.falls_silent(SILENT_SINCE)
    coming, missing, first, rest = parted(SILENT_SINCE + 1, (under_way, lost, early, 6))
    stream.comes(coming)
    stream.comes(first, anew=first.start)
    stream.is_asked_for(rest.start - 1)
    stream.comes(rest, anew=first.start)
    stream.told(stream.merger.tick(stream.at(rest.stop) + MINUTE))
    assert stream.untold(missing) == []
    assert all(gap.ts_to is not None and gap.ts_to <= stream.at(rest.start) + SECOND for gap in stream.open())
    assert {*coming, *first, *rest} <= stream.rows, "what comes is stored, whatever it proves"


@pytest.mark.parametrize("way", [way for way in WAYS if way != "summed"])
def test_a_stream_that_stays_silent_has_the_gap_that_it_had(way: str) -> None:
    told = []
    for anew in (False, True):
        stream = Stream(way)
        stream.comes(range(SILENT_SINCE + 1))
        stream.told(stream.merger.silenced("a", "A", 0, stream.at(SILENT_SINCE) + MS, "REST: a newer one"))
        if anew:
            stream.told(stream.merger.suspended("a", "A", stream.at(SILENT_SINCE) + MS))
            stream.is_asked_for(SILENT_SINCE)
        stream.comes(range(SILENT_SINCE + 1, SILENT_SINCE + 9))
        stream.told(stream.merger.tick(stream.at(SILENT_SINCE + 9) + MINUTE))
        told.append(stream.gaps)
    assert told[0] == told[1]


@pytest.mark.parametrize("way", [way for way in WAYS if "orders" not in way])
@pytest.mark.parametrize("under_way, early", [(0, 0), (2, 0), (0, 2), (2, 2)])
def test_where_another_connection_serves_it_nothing_is_missing(way: str, under_way: int, early: int) -> None:
    stream = Stream(way)
    for n in range(SILENT_SINCE + 1):
        stream.comes([n], "a")
        stream.comes([n], "b")
    stream.falls_silent(SILENT_SINCE)
    coming, missing, first, rest = parted(SILENT_SINCE + 1, (under_way, 3, early, 9))
    for n in range(coming.start, rest.start):
        stream.comes([n], "b")
        if n in (*coming, *first):
            stream.comes([n], "a")
    stream.is_asked_for(rest.start - 1)
    for n in rest:
        stream.comes([n], "b")
        stream.comes([n], "a")
    stream.told(stream.merger.tick(stream.at(rest.stop) + MINUTE))
    assert set(missing) <= stream.rows
    assert stream.open() == []


@pytest.mark.parametrize("way", [way for way in WAYS if way != "summed"])
@pytest.mark.parametrize("under_way", [1, 2])
def test_where_the_other_connection_ends_meanwhile_what_nobody_had_is_in_a_gap(way: str, under_way: int) -> None:
    stream = Stream(way)
    for n in range(SILENT_SINCE + 1):
        stream.comes([n], "a")
        stream.comes([n], "b")
    stream.falls_silent(SILENT_SINCE)
    coming, missing, rest = parted(SILENT_SINCE + 1, (under_way, 3, 9))
    for n in coming:
        stream.comes([n], "b")
        stream.comes([n], "a")
    end = stream.at(coming[-1])
    stream.told(stream.merger.interrupt("b", ["A"], "disconnect", end + MS, end))
    stream.is_asked_for(rest.start - 1)
    stream.comes(rest)
    stream.told(stream.merger.tick(stream.at(rest.stop) + MINUTE))
    assert stream.untold(missing) == []


@pytest.mark.parametrize("way", ["rising", "named", "alike", "led"])
def test_a_connection_that_ends_meanwhile_leaves_the_gap_open(way: str) -> None:
    stream = Stream(way)
    stream.comes(range(SILENT_SINCE + 1))
    stream.falls_silent(SILENT_SINCE)
    coming, missing, rest = parted(SILENT_SINCE + 1, (2, 3, 9))
    stream.comes(coming)
    end = stream.at(rest.start)
    stream.told(stream.merger.interrupt("a", ["A"], "disconnect", end - MS, end - EVERY))
    stream.comes(rest, "b")
    stream.told(stream.merger.tick(stream.at(rest.stop) + MINUTE))
    assert stream.untold(missing) == []
    assert set(rest) <= stream.rows


@pytest.mark.parametrize("way", [way for way in WAYS if WAYS[way][0][2] in OPENING])
@pytest.mark.parametrize("meanwhile", [[], [SILENT_SINCE + 1]], ids=["silent", "one came meanwhile"])
def test_what_another_connection_says_to_who_subscribes_is_no_proof_that_the_stream_flows(
    way: str, meanwhile: list[int]
) -> None:
    stream = Stream(way)
    stream.comes(range(SILENT_SINCE + 1))
    stream.falls_silent(SILENT_SINCE)
    stream.comes(meanwhile)
    stream.is_asked_for(SILENT_SINCE + 1)
    opening, again = SILENT_SINCE + 5, SILENT_SINCE + 5 + 3 * FLOWS // EVERY
    stream.comes([opening], "b")
    for n in range(again, again + 9):
        stream.comes([n], "a")
        stream.comes([n], "b")
    stream.told(stream.merger.tick(stream.at(again + 9) + MINUTE))
    lost = [n for n in range(SILENT_SINCE + 1, again) if n not in (opening, *meanwhile)]
    assert stream.untold(lost) == []


FUTURE = "PF_XBTUSD"


def fill(n: int, kind: str = "fill") -> bytes:
    """A trade of Kraken's futures, `n` seconds after T0."""
    told = {
        "feed": "trade", "product_id": FUTURE, "uid": f"u{n}", "side": "sell", "type": kind, "seq": n,
        "time": (T0 + n * SECOND) // MS, "qty": 1, "price": 2,
    }  # fmt: skip
    return msgspec.json.encode(told)


def test_what_comes_of_the_same_subscription_is_asked_for_anew_with_it_and_in_doubt_since_it_spoke() -> None:
    exchange, intake = load("kraken"), Intake(WritingConfig())
    pipeline = Pipeline("kraken", "linear", intake, merger_maker(exchange, "linear"), frames=False)
    streams = exchange.streams("linear", ["trade", "liquidation"], [FUTURE])
    (plan,) = exchange.connections("linear", streams, exchange.ENDPOINTS["linear"])
    session = exchange.session(plan, "a")
    link, _ = pipeline.open(session, name="c", source="ws", url="wss://v", now=T0)

    def passes(seconds: range) -> list[str]:
        tasks = [task for n in seconds for task in pipeline.tick(link, T0 + n * SECOND)]
        pipeline.advance(T0 + seconds.stop * SECOND)
        return [task.text for task in tasks if isinstance(task, Send) and '"trade"' in task.text]

    taken = b'{"event":"subscribed","feed":"trade","product_ids":["%s"]}' % FUTURE.encode()
    ended = taken.replace(b"subscribed", b"unsubscribed")
    passes(range(3))
    beats = b'{"event":"subscribed","feed":"heartbeat"}'
    for n, frame in enumerate((beats, taken, fill(5, "liquidation"), fill(9)), 6):
        pipeline.receive(link, [frame], T0 + n * SECOND)
    (trades,) = (one for one in plan.streams if one.kind == "trade")
    pipeline.stalled(link, trades, T0 + 30 * SECOND, "REST: a newer one")
    assert isinstance(session, Renewing)
    session.renew([trades])
    assert [text.split('"')[3] for text in passes(range(30, 33))] == ["unsubscribe", "subscribe"]
    for frame in (fill(31), ended, fill(33), taken):
        pipeline.receive(link, [frame], T0 + 33 * SECOND)
    passes(range(33, 45))
    pipeline.receive(link, [fill(45)], T0 + 45 * SECOND)
    passes(range(45, 60))
    gaps = {gap.gap_id: gap for gap in intake.collect(T0 + 60 * SECOND).gaps}.values()
    spans = {gap.kind: ((gap.ts_from - T0) // SECOND, ((gap.ts_to or 0) - T0) // SECOND) for gap in gaps}
    assert spans == {"trade": (9, 45), "liquidation": (9, 33)}
