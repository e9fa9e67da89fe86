"""The oracle: what it finds, what it lets pass, and that a compact reading of a log equals the whole one."""

import json

import pytest

from market.session import Gap
from market.times import SECOND
from simulator import oracle, signs, truth, witness
from simulator.oracle import Stored

START = 1_795_000_000_000_000
KEY = ("trade", "spot", "BTCUSDT")
LATE = START + 1000 * SECOND


def trade(number, dropped=None, sent=(1,), at=None, price="10.5"):
    time = START + (number if at is None else at) * SECOND
    return ["trade", "spot", "BTCUSDT", number, price, "2", True, "MARKET", time, time, list(sent), dropped or {}]


def fault(name, at, phase="begin", seconds=0, detail=None, **fields):
    fields |= {"market": "spot"} | ({"seconds": seconds} if seconds else {})
    return ["fault", 1, name, fields, phase, detail or {}, START + at * SECOND]


def log(tmp_path, *lines):
    path = tmp_path / "truth.jsonl"
    head = [["start", truth.FORMAT, {}, START], ["open", 1, "spot", "/ws", START]]
    whole = [*head, *lines, ["stop", LATE]]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in whole))
    return path


def gap(first=None, end=None, at=(0, 0), cause="jump", key=KEY, state="open"):
    start, stop = START + at[0] * SECOND, None if at[1] is None else START + at[1] * SECOND
    return Gap(
        "g", "binance", key[1], key[0], key[2], start, stop, first, end, cause, "ids", state, None, LATE
    )  # fmt: skip


def stored(*ids, price="10.5"):
    return {KEY: Stored(list(ids), [signs.digest(price, "2")] * len(ids))}


def judged(path, held, gaps=(), **options):
    verdict = oracle.judge(witness.read(path), held, gaps, LATE, **options)
    return verdict, [(finding.rule, finding.count) for finding in verdict.findings]


def test_what_was_sent_and_stored_is_good(tmp_path):
    verdict, found = judged(log(tmp_path, *map(trade, range(1, 6))), stored(1, 2, 3, 4, 5))
    assert found == []
    assert (verdict.happened, verdict.stored, verdict.missing) == (5, 5, 0)


@pytest.mark.parametrize(
    "held, rule",
    [
        (stored(1, 2, 3, 4, 5, 6), ("unknown", 1)),
        (stored(1, 2, 3, 3, 4, 5), ("twice", 1)),
        (stored(1, 2, 4, 5), ("unexplained_loss", 1)),
        (stored(1, 2, 3, 4, 5, price="10.6"), ("changed", 5)),
        ({}, ("never_stored", 5)),
    ],
)
def test_each_way_of_storing_wrongly_is_named(tmp_path, held, rule):
    _, found = judged(log(tmp_path, *map(trade, range(1, 6))), held)
    assert found == [rule]


def test_a_dropped_id_needs_a_gap_with_just_that_id(tmp_path):
    path = log(
        tmp_path, trade(1), fault("drop_ids", 2), trade(2), trade(3, {"1": "drop_ids"}, ()), trade(4), trade(5)
    )  # fmt: skip
    assert judged(path, stored(1, 2, 4, 5))[1] == [("unexplained_loss", 1)]
    verdict, found = judged(path, stored(1, 2, 4, 5), [gap(3, 4)])
    assert (found, verdict.lost) == ([], {"drop_ids": 1})
    assert judged(path, stored(1, 2, 4, 5), [gap(3, 5)])[1] == [("wrong_ids", 1)]
    assert judged(path, stored(1, 2, 4, 5), [gap(3, 4), gap(900, 902)])[1] == [("wrong_ids", 2)]
    assert judged(path, stored(1, 2, 4, 5), [gap(3, 4, state="repaired")])[1] == [("unexplained_loss", 1)]


def test_a_number_that_is_told_twice_is_stored_with_the_first_or_the_second(tmp_path):
    """Quotes without ids have numbers made of what they say: two hours later they may say it again."""
    path = log(tmp_path, trade(1), trade(7), trade(3), trade(7, at=8), trade(9))
    assert judged(path, stored(1, 7, 3, 9))[1] == []
    assert judged(path, stored(1, 3, 9))[1] == [("unexplained_loss", 2)]


@pytest.mark.parametrize("cause, at, found", [("id_reset", 50, []), ("id_reset", 40, 1), ("silence", 50, 1)])
def test_numbers_that_begin_anew_explain_the_gap_between_both(tmp_path, cause, at, found):
    path = log(tmp_path, trade(1), trade(2), fault("restart_ids", 50), trade(200))
    empty = gap(at=(at, at + 2), cause=cause)
    assert judged(path, stored(1, 2, 200), [empty])[1] == ([("unexplained_gap", 1)] if found else [])


def test_a_loss_that_nothing_caused_is_not_excused_by_its_gap(tmp_path):
    path = log(tmp_path, *map(trade, range(1, 6)))
    assert judged(path, stored(1, 2, 4, 5), [gap(3, 4)])[1] == [("lost_without_fault", 1)]


def test_a_gap_in_time_needs_something_missing_or_a_fault_beside_it(tmp_path):
    quiet = log(tmp_path, trade(1), trade(2), trade(200))
    empty = gap(at=(50, 60), cause="silence")
    verdict, found = judged(quiet, stored(1, 2, 200), [empty])
    assert (found, verdict.empty_gaps, verdict.empty_gap_seconds) == ([("unexplained_gap", 1)], 1, 10.0)
    noisy = log(tmp_path, trade(1), trade(2), fault("silence", 45, seconds=8), trade(200))
    assert judged(noisy, stored(1, 2, 200), [empty])[1] == []
    last = gap(at=(210, None), cause="silence")  # it grows, and nothing was due after the last event
    rare = log(tmp_path, trade(1), trade(200), fault("silence", 212, seconds=8))
    assert judged(rare, stored(1, 200), [last])[1] == []
    assert judged(log(tmp_path, trade(1), trade(200)), stored(1, 200), [last])[1] == [("unexplained_gap", 1)]
    noisy = log(tmp_path, trade(1), trade(2), fault("silence", 45, seconds=8), trade(200))
    late = gap(at=(150, None), cause="silence")
    assert judged(noisy, stored(1, 2, 200), [late])[1] == [("unexplained_gap", 1)]


def test_an_announced_end_may_leave_no_gap(tmp_path):
    path = log(
        tmp_path, trade(1), fault("shutdown", 2, seconds=20), trade(10, sent=()), trade(30), trade(900)
    )  # fmt: skip
    verdict, found = judged(path, stored(1, 10, 30, 900), [])
    assert (verdict.handovers, found) == (1, [])
    found = judged(path, stored(1, 30, 900), [gap(at=(9, 11), cause="disconnect")])[1]
    assert ("planned_gap", 1) in found


def test_the_last_moments_before_the_stop_were_on_their_way(tmp_path):
    path = log(tmp_path, trade(1), trade(995), trade(998))
    assert judged(path, stored(1, 995))[1] == []
    path = log(tmp_path, trade(1), trade(950), trade(998))
    assert judged(path, stored(1))[1] == [("unexplained_loss", 1)]


def test_a_zero_price_is_a_price_and_any_other_wrong_one_is_not(tmp_path):
    applied = {"market": "spot", "symbol": "BTCUSDT", "kind": "trade", "id": 2, "form": "zero"}
    lines = [trade(1), fault("bad_price", 1, "applied", detail=applied), trade(2, {"1": "bad_price"}, ()), trade(3)]
    path = log(tmp_path, fault("bad_price", 0), *lines)
    held = {KEY: Stored([1, 2, 3], [signs.digest(price, "2") for price in ("10.5", "0", "10.5")])}
    assert judged(path, held)[1] == []
    applied["form"] = "nan"
    assert judged(log(tmp_path, fault("bad_price", 0), *lines), held)[1] == [("changed", 1)]


def test_requests_while_the_venue_wants_none_are_named(tmp_path):
    refused = fault("http_status", 5, "applied", detail={"target": "/spot/api/v3/depth"}, status=429, retry_after=10)
    asked = ["http", "spot", "GET", "/spot/api/v3/time", 200]
    path = log(tmp_path, trade(1), refused, [*asked, START + 9 * SECOND], [*asked, START + 16 * SECOND])
    assert judged(path, stored(1))[1] == [("asked_while_refused", 1)]


def test_streams_that_were_wanted_and_never_came_are_named(tmp_path):
    path = log(tmp_path, trade(1))
    wanted = [KEY, ("trade", "spot", "ETHUSDT")]
    verdict, _ = judged(path, stored(1), wanted=wanted)
    assert [(f.rule, f.symbol) for f in verdict.findings] == [("never_stored", "ETHUSDT")]


@pytest.mark.parametrize("ends, found", [(150, []), (100, [("unknown", 1)]), (None, [("unknown", 1)])])
def test_a_candle_in_which_its_symbol_ended_may_be_told_as_it_was_left(tmp_path, ends, found):
    key = ("kline", "spot", "BTCUSDT")
    opened = [START + n * 60 * SECOND for n in range(3)]
    lines = []
    for at, closed in zip(opened, (True, True, False), strict=True):
        values = ["1", "2", "1", "2", "5", "9", 3, "1", "2"]
        time = at + 59 * SECOND
        lines.append(["kline", "spot", "BTCUSDT", at, "btcusdt@kline_1m", "1m", *values, closed, time, time, [1], {}])
    if ends is not None:
        lines.append(["status", "spot", "BTCUSDT", "HALT", 0, START + ends * SECOND])
    told = witness.read(log(tmp_path, *lines)).told[key]
    held = Stored([*told.ids, opened[2]], [*told.values, 1])
    assert judged(log(tmp_path, *lines), {key: held})[1] == found


async def test_the_compact_reading_of_a_log_is_the_whole_one(simulate):
    streams = ("btcusdt@trade", "btcusdt@aggTrade", "ethusdt@bookTicker", "ethusdt@depth@100ms", "btcusdt@depth5")
    async with simulate("--markets", "spot") as sim, sim.connect("/spot/stream?streams=" + "/".join(streams)) as ws:
        await sim.fault(fault="drop_ids", count=20)
        for _ in range(300):
            await ws.receive()
        while (await sim.get("/sim/faults"))[2]:  # the 300 may have been under way before it
            await ws.receive()
        sim.hub.log.flush()
        whole, compact = truth.load(sim.log), witness.read(sim.log)
        assert compact.events == len(whole.events)
        for (kind, market, symbol), told in compact.told.items():
            events = [e for e in whole.events if (e.kind, e.market, e.symbol) == (kind, market, symbol)]
            assert list(told.ids) == [e.id for e in events]
            assert list(told.times) == [e.ts_event for e in events]
            lost = {n: "+".join(sorted(set(e.dropped.values()))) for n, e in enumerate(events) if not e.sent}
            assert told.lost == {n: why or witness.NOBODY for n, why in lost.items()}
        assert any(why == "drop_ids" for told in compact.told.values() for why in told.lost.values())


@pytest.mark.parametrize("at, found", [(170, []), (190, [("lost_without_fault", 1)])])
def test_a_candle_that_only_the_next_one_tells_is_lost_with_what_happens_before_it(tmp_path, at, found):
    """A connection that is cut in between was to tell it; one that is cut behind the next was not."""
    key = ("kline", "spot", "BTCUSDT")
    lines = []
    for minute in range(4):
        opened, time = START + 60 * minute * SECOND, START + 60 * (minute + 1) * SECOND
        values = ["10", "11", "9", "10.5", "5", "50", 3, "2", "20"]
        lines.append(["kline", "spot", "BTCUSDT", opened, "btcusdt@kline_1m", "1m", *values, True, time, time, [1], {}])
    path = log(tmp_path, *lines, fault("cut", at))
    opens = [START + 60 * minute * SECOND for minute in (0, 2, 3)]
    held = {key: Stored(opens, [signs.digest("10.5", "11")] * 3)}
    assert judged(path, held, [gap(at=(59, 150), cause="disconnect", key=key)], grace=0.0)[1] == found


@pytest.mark.parametrize("at, found", [(150, []), (210, [("unexplained_gap", 1)])])
def test_a_gap_with_nothing_in_it_is_explained_by_what_happened_before_the_next_event(tmp_path, at, found):
    path = log(tmp_path, *(trade(n) for n in (1, 100, 200)), fault("cut", at))
    assert judged(path, stored(1, 100, 200), [gap(at=(100, 101), cause="crash")], grace=0.0)[1] == found
