"""F63: what the virtual soak lives, and how it finds again what a venue tells without a name."""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import msgspec
import polars as pl
import pytest

from collectors import exchanges
from collectors.exchanges.kraken.ladder import Ladder
from lake.rows import FileRow
from market.session import Gap
from market.times import DAY, HOUR
from simulator import oracle, venues
from simulator.events import Delta, Event, Fill, Top
from simulator.instruments import listing
from simulator.market import Market
from simulator.venues.kraken.books import SpotFeed
from simulator.witness import Told, Witness
from tests.support.virtual import campaign
from tests.support.virtual import judge as judges
from tests.support.virtual.judge import Judge
from tests.support.virtual.market import Memory
from tests.support.virtual.schedule import KINDS, MIDNIGHT, Lane, draw
from tests.support.virtual.unseen import Unseen
from tests.support.virtual.world import VENUES, Settings

KEY = ("quote", "spot", "BTC-USDT")
SECOND = 1_000_000


def test_f63_seeds_that_follow_each_other_live_every_kind_of_every_market() -> None:
    lived = {
        (venue, market, kind)
        for seed in range(24)
        for venue, markets in Settings(seed=seed).kinds.items()
        for market, kinds in markets.items()
        for kind in kinds
    }
    known = {
        (venue, market, kind)
        for venue in VENUES
        for market, signs in venues.load(venue).SIGNS.items()
        for kind in signs
        if kind in exchanges.load(venue).OFFERS[market] and kind != "book_snapshot"
    }
    assert len({venue for venue, _, _ in known}) == 6
    assert lived == known
    lanes = [Settings(seed=lane.seed, venues=lane.venues).kinds for lane in campaign.lanes(4, 30, 200)]
    assert {(venue, market) for kinds in lanes for venue, held in kinds.items() for market in held} == {
        (venue, market) for venue, market, _ in known
    }, "a campaign lives every market"


@pytest.mark.parametrize("seed", range(4, 8))
def test_f63_faults_go_round_the_venues_and_only_where_they_can_show(seed: int) -> None:
    kinds = Settings(seed=seed).kinds
    lanes = [Lane(venue, market, tuple(held)) for venue, markets in kinds.items() for market, held in markets.items()]
    acts = draw(seed, 30, 100, lanes)
    struck = [act.told["venue"] for act in acts if "venue" in act.told]
    assert {struck.count(venue) // 6 for venue in VENUES} <= {1, 2, 3}, "each of them, about as often"
    for act in acts:
        if "kind" in act.told:
            assert act.told["kind"] in kinds[act.told["venue"]][act.told["market"]], "it is collected there"
    assert {act.kind for act in acts} <= KINDS.keys()
    assert acts == draw(seed, 30, 100, lanes)


def test_f63_some_faults_strike_while_another_lasts_and_some_around_midnight() -> None:
    lanes = [Lane(venue, "spot", ("trade", "book_delta")) for venue in VENUES]
    night = DAY / SECOND - 30
    acts = [act for seed in range(4) for act in draw(seed, 30, 200, lanes, midnight=night)]
    for kind in MIDNIGHT:
        times = [(act.at - night) % (DAY / SECOND) for act in acts if act.kind == kind and act.at < 29 * night]
        assert times
        assert all(at <= 150 or at >= DAY / SECOND - 150 for at in times)
    pairs = [(one, two) for one, two in itertools.pairwise(acts) if two.at - one.at <= 90]
    assert 80 < len(pairs) < 240, "a fifth of eight hundred"
    same = [one.told["venue"] == two.told["venue"] for one, two in pairs if "venue" in one.told and "venue" in two.told]
    assert sum(same) > len(same) * 0.8, "at the same market"
    assert {"at work", "recovery killed", "books refused", "maintenance"} <= {act.kind for act in acts}


def judged(tmp_path: Path, rows: list[tuple[int, str, str]]) -> tuple[oracle.Stored, oracle.Verdict]:
    """Best levels of Coinbase, which have no number: the first and the third say the same. `rows` are (s, bid, ask)."""
    twin = venues.load("coinbase")
    truth = Memory(twin.SIGNS, {"spot": ["quote"]})
    market = Market(listing(["spot"], ["BTCUSDT"], 1, 0, twin.CUSTOM), 1, 1.0, 0)
    for number, (bid, ask) in enumerate((("10", "11"), ("10", "12"), ("10", "11"), ("9", "11")), 1):
        truth.event(Top(market.books[0], 7 * number, bid, "1", ask, "2", 100 * number * SECOND), 0, "1")
    part = pl.DataFrame(
        [{"ts_event": s * SECOND, "bid": float(b), "bid_qty": 1.0, "ask": float(a), "ask_qty": 2.0} for s, b, a in rows]
    )
    judge = Judge("coinbase", truth, tmp_path, {"spot": ["quote"]})
    stored = judge._unnamed(KEY, part, twin.SIGNS["spot"]["quote"])
    return stored, oracle.judge(truth.seen, {KEY: stored}, [], 1000 * SECOND)


def test_f63_what_has_no_number_is_the_nearest_event_that_said_so(tmp_path: Path) -> None:
    stored, verdict = judged(tmp_path, [(101, "10", "11"), (202, "10", "12"), (303, "10", "11"), (404, "9", "11")])
    assert (list(stored.ids), verdict.findings) == ([1, 2, 3, 4], [])


def test_f63_a_row_that_nobody_sent_and_an_event_without_a_row_are_found(tmp_path: Path) -> None:
    _, verdict = judged(tmp_path, [(101, "10", "11"), (202, "10", "12"), (303, "10", "13"), (404, "9", "11")])
    assert sorted(found.rule for found in verdict.findings) == ["unexplained_loss", "unknown"]
    told_again, verdict = judged(tmp_path, [(101, "10", "11"), (202, "10", "12"), (404, "9", "11"), (406, "9", "11")])
    assert list(told_again.ids) == [1, 2, 4]
    assert [(found.rule, found.count) for found in verdict.findings] == [("unexplained_loss", 1)]


def test_f63_a_stream_that_is_away_for_days_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = venues.load("coinbase")
    truth = Memory(twin.SIGNS, {"spot": ["trade"]})
    (book,) = Market(listing(["spot"], ["BTCUSDT"], 1, 0, twin.CUSTOM), 1, 1.0, 0).books
    for day in range(4):  # two trades a day; of those of the middle days nothing is stored
        for number in (2 * day + 1, 2 * day + 2):
            truth.event(Fill(book, number, "1", "1", True, "MARKET", day * DAY + number, 1, 1), 0, "1")
    values = list(truth.seen.told["trade", "spot", "BTC-USDT"].values)
    truth.line("fault", 1, "acks", {"market": "spot", "seconds": 3 * DAY / SECOND}, "begin", {}, 3)
    rows = [[1, 2], [], [], [7, 8]]
    monkeypatch.setattr(judges, "Lake", lambda _: nullcontext())
    monkeypatch.setattr(judges.contextlib, "closing", lambda lake: lake)
    judge = Judge("coinbase", truth, tmp_path, {"spot": ["trade"]})
    gap = Gap("g", "coinbase", "spot", "trade", "BTC-USDT", 2, 3 * DAY + 7, 3, 7, "disconnect", "ids", "open", "s", 3)
    for day, ids in enumerate(rows):
        read = {"BTC-USDT": oracle.Stored(ids, [values[one - 1] for one in ids])} if ids else {}
        monkeypatch.setattr(judge, "_read", lambda *_, read=read: read)
        stored, places = judge._stored((day + 1) * DAY)
        verdict = oracle.judge(truth.seen, stored, [judges.as_of(gap, (day + 1) * DAY)], (day + 1) * DAY, 900.0)
        assert verdict.findings == [], day
        truth.forget(places, day * DAY)
        judge._before, judge._since = judge._since, (day + 1) * DAY
    assert (verdict.missing, verdict.covered) == (4, 4), "what is between its two rows"


def test_f63_a_part_behind_its_closed_day_waits_for_an_hour_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(level: str, created: int, kind: str = "kline") -> FileRow:
        return FileRow(
            path=f"{kind}-{level}-{created}", exchange="okx", market_type="spot", kind=kind, level=level,  # type: ignore[arg-type]
            symbol=None, date="2026-02-20", hour=None, revision=0, rows=1, bytes=1, sha256="0", ts_min=0, ts_max=0,
            created_at=created,
        )  # fmt: skip

    def found(*rows: FileRow, now: int) -> list[str]:
        held = mock.Mock(**{"files.return_value": list(rows), "certificates.return_value": ["one"]})
        monkeypatch.setattr(judges, "Manifest", mock.Mock(**{"read_only.return_value": held}))
        return judges.closed_days(tmp_path, 60 * DAY, now)

    day, part = row("day", 10 * HOUR), row("part", 10 * HOUR)
    assert found(day, part, now=11 * HOUR - 1) == []
    assert len(found(day, part, now=11 * HOUR)) == 2, "its revision was due: it is no daily file, and the day is in two"
    assert found(row("part", 10 * HOUR - 1), day, now=10 * HOUR), "it was there when the day was closed"
    assert found(day, row("part", 10 * HOUR, "trade"), now=10 * HOUR), "nothing of its own is closed"


def test_f63_a_handover_that_meets_a_silence_in_which_nothing_was_told_is_no_finding() -> None:
    def found(rule: str, detail: str, symbol: str = "BTC-USDT", kind: str = "quote") -> oracle.Finding:
        return oracle.Finding(rule, kind, "spot", symbol, 1, detail)

    silence = found("unexplained_gap", "silence [10, 20) ids None None")
    at_handover = found("planned_gap", "silence [10, 20)")
    assert judges.excused([at_handover, silence]) == ([], 1)
    others = [
        at_handover, found("planned_gap", "silence [10, 30)"), found("planned_gap", "silence [10, 20)", "ETH-USDT"),
        found("unexplained_gap", "disconnect [10, 20) ids None None"), found("planned_gap", "disconnect [10, 20)"),
        found("unexplained_gap", "silence [10, 20) ids None None", kind="trade"),
    ]  # fmt: skip
    assert judges.excused(others) == (others, 0), "something is missing in it, or it is none of a quiet stream"


def test_f63_a_connection_that_is_left_for_a_quiet_stream_takes_the_others_along() -> None:
    def gap(kind: str, session: str, cause: str = "silent_stream") -> Gap:
        return Gap(kind, "okx", "spot", kind, "BTC-USDT", 10, 20, None, None, cause, "interval", "open", session, 15)

    def found(rule: str = "unexplained_gap", cause: str = "silent_stream", start: int = 10) -> oracle.Finding:
        return oracle.Finding(rule, "trade", "spot", "BTC-USDT", 1, f"{cause} [{start}, 20) ids None None")

    left = [gap("quote", "n-1-1"), gap("trade", "n-1-1")]
    assert judges.excused([found()], left) == ([], 1)
    for others in (
        [gap("trade", "n-1-1")], [gap("quote", "n-1-2"), gap("trade", "n-1-1")],
        [gap("quote", "n-1-1", "disconnect"), gap("trade", "n-1-1", "disconnect")],
    ):  # fmt: skip
        cause = others[-1].cause
        assert judges.excused([found(cause=cause)], others) == ([found(cause=cause)], 0), "no quiet stream's connection"
    losses = [found("unexplained_loss"), found("lost_without_fault"), found("wrong_ids"), found(start=11)]
    assert judges.excused(losses, left) == (losses, 0), "what is missing is, whoever left"


START = 1_785_700_800_000_000
BOOK = ("book_delta", "spot", "BTC/USDT")


def books_of(depth: int, seed: int, count: int) -> Iterator[tuple[SpotFeed, tuple[Event, ...]]]:
    """A spot book of Kraken's twin, and what it tells from one change to the next."""
    (instrument,) = listing(["spot"], ["BTCUSDT"], 1, 0, venues.load("kraken").CUSTOM)
    (book,) = Market([instrument], seed, 1.0, START).books
    feed, chance = SpotFeed(book, f"book.{depth}.BTC/USDT", depth), random.Random(seed)
    for n in range(count):
        if n:
            book.quote(chance.getrandbits(72), START + n * SECOND)
        yield feed, feed.flush(START + n * SECOND)


def first_wrong(depth: int, seed: int, lost: int) -> tuple[dict[int, int], int]:
    """What the judge says of the update `lost`, and when (us; 0: never) the product's own book of the rest is wrong."""
    memory = Memory(venues.load("kraken").SIGNS, {"spot": ["book_delta"]})
    ladder, wrong, number = Ladder(depth), 0, 0
    for n, (feed, events) in enumerate(books_of(depth, seed, 60)):
        if not n:
            memory.unseen = Unseen({feed.stream: feed})
            memory.line("subscribe", 1, [feed.stream], START)
            ladder.load(feed.bids.items(), feed.asks.items())
        for event in events:
            assert isinstance(event, Delta)
            number += 1
            memory.event(event, event.ts, "" if number == lost else "1", '"1":"drop_ids"' if number == lost else "")
            if number != lost:
                sides = (msgspec.json.decode(text, type=list[tuple[str, str]]) for text in (event.bids, event.asks))
                ladder.apply(*sides)
                wrong = wrong or (not ladder.proven(event.previous_id) and event.ts)
    return memory.seen.told[BOOK].unseen, wrong


@pytest.mark.parametrize("depth", [10, 1000])
def test_f63_a_dropped_update_is_unseen_as_long_as_every_checksum_of_the_book_that_is_left_holds(depth: int) -> None:
    found = [first_wrong(depth, seed, lost) for seed in range(6) for lost in (3, 11, 20, 31)]
    assert [list(unseen.values()) for unseen, _ in found] == [[wrong] for _, wrong in found]
    never = [wrong for _, wrong in found if not wrong]
    assert len(never) not in (0, len(found)), "some show, and some do not"


def test_f63_a_whole_ends_what_a_connection_can_know_of_an_update_that_it_missed() -> None:
    seen = []
    for again in (False, True):
        memory = Memory(venues.load("kraken").SIGNS, {"spot": ["book_delta"]})
        for n, (feed, events) in enumerate(books_of(1000, 3, 60)):
            if not n:
                memory.unseen = Unseen({feed.stream: feed})
            if not n or (again and n == 6):
                memory.line("subscribe", 1, [feed.stream], START)
            for event in events:
                memory.event(event, event.ts, "" if n == 5 else "1", '"1":"drop_ids"' if n == 5 else "")
        seen += memory.seen.told[BOOK].unseen.values()
    assert (bool(seen[0]), seen[1]) == (True, 0)


@pytest.mark.parametrize(
    "shown, gap, rules, counted",
    [
        (0, None, [], (0, 1, 1)),
        (7, (7, 9), [], (1, 0, 0)),
        (7, None, ["unexplained_loss"], (0, 0, 0)),
        (7, (2, 3), ["unexplained_loss", "unexplained_gap"], (0, 0, 0)),
        (None, None, ["unexplained_loss"], (0, 0, 0)),
    ],
    ids=["nobody could see it", "told when it showed", "not told when it showed", "another gap", "another fault"],
)
def test_f63_only_what_no_checksum_could_show_is_undetectable(
    shown: int | None, gap: tuple[int, int] | None, rules: list[str], counted: tuple[int, int, int]
) -> None:
    ids = [START + n * 60 * SECOND for n in range(12)]
    told = Told(array("q", ids), array("q", ids), array("q", [0] * 12), lost={4: "drop_ids"})
    if shown is not None:
        told.unseen[ids[4]] = shown and ids[shown]
    gaps = [
        Gap("g", "kraken", BOOK[1], BOOK[0], BOOK[2], ids[at], ids[end], None, None, "checksum", "", "open", "", 0)
        for at, end in ([gap] if gap else [])
    ]  # fmt: skip
    seen = Witness({BOOK: told}, {}, [], [], set())
    held = {BOOK: oracle.Stored([one for one in ids if one != ids[4]], [0] * 11)}
    verdict = oracle.judge(seen, held, gaps, ids[-1] + 60 * SECOND)
    assert [finding.rule for finding in verdict.findings] == rules
    assert (verdict.covered, verdict.undetectable, verdict.unseen) == counted
