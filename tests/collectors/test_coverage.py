"""Coverage: what was desired and producing, in venue time, and what ids bridge."""

import msgspec

from collectors.coverage import CoverageTracker
from collectors.exchanges import load
from market.session import Connection, Gap
from market.times import SECOND

T = 1_785_701_700_000_000


def session(learn=True, number=1, market="linear"):
    adapter = load("binance")
    streams = adapter.streams(market, ["trade", "quote"], ["BTCUSDT"])
    connection = Connection("binance", market, "x", "wss://x", () if learn else tuple(streams))
    return adapter.session(connection, f"n-{number}-1", learn=learn)


def trade(seq, at):
    return b'{"stream":"btcusdt@trade","data":' + msgspec.json.encode(
        {"e": "trade", "E": at // 1000, "T": at // 1000, "s": "BTCUSDT", "t": seq, "p": "1", "q": "1", "X": "MARKET",
         "m": True}) + b"}"  # fmt: skip


def quote(number, at):
    return (
        b'{"stream":"btcusdt@bookTicker","data":'
        + msgspec.json.encode(
            {"u": number, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1", "T": at // 1000, "E": at // 1000}
        )
        + b"}"
    )


def tracker():
    return CoverageTracker("binance", "linear")


def test_nothing_is_covered_before_anything_came():
    assert tracker().update(session()) == []


def test_coverage_runs_from_the_first_event_to_the_newest_time_the_venue_has_shown():
    held, made = session(), tracker()
    held.receive(trade(1, T), T - SECOND)
    held.receive(quote(1, T + 5 * SECOND), T + 4 * SECOND)
    rows = {row.kind: (row.ts_from, row.ts_to, row.session) for row in made.update(held)}
    quoted = (T + 5 * SECOND, T + 5 * SECOND + 1, "n-1-1")
    assert rows == {"trade": (T, T + 5 * SECOND, "n-1-1"), "quote": quoted}, "the quote's interval is its one event"
    held.receive(quote(2, T + 6 * SECOND), T + 5 * SECOND)
    rows = {row.kind: (row.ts_from, row.ts_to) for row in made.update(held)}
    assert rows == {"trade": (T, T + 6 * SECOND), "quote": (T + 5 * SECOND, T + 6 * SECOND)}


def test_only_rows_that_grew_are_given_again():
    held, made = session(), tracker()
    held.receive(trade(1, T), T)
    held.receive(trade(2, T + SECOND), T + SECOND)
    assert len(made.update(held)) == 1
    assert made.update(held) == []
    held.receive(trade(3, T + 2 * SECOND), T + 2 * SECOND)
    assert [(row.ts_from, row.ts_to) for row in made.close(held)] == [(T, T + 2 * SECOND)]


def test_a_stream_that_proves_itself_later_is_covered_since_its_acknowledgement_was_seen():
    held, made = session(learn=False), tracker()
    held.start(T)
    held.receive(b'{"result":null,"id":1}', T)
    held.receive(quote(1, T + SECOND), T + SECOND)
    assert [row.kind for row in made.update(held)] == ["quote"]
    held.receive(trade(1, T + 50 * SECOND), T + 50 * SECOND)
    rows = {row.kind: (row.ts_from, row.ts_to) for row in made.update(held)}
    assert rows["trade"] == (T + SECOND, T + 50 * SECOND)


def test_an_unacknowledged_stream_is_covered_since_its_first_event_only():
    held, made = session(learn=False), tracker()
    held.start(T)
    held.receive(quote(1, T + SECOND), T + SECOND)
    made.update(held)
    held.receive(trade(1, T + 50 * SECOND), T + 50 * SECOND)
    held.receive(quote(2, T + 51 * SECOND), T + 51 * SECOND)
    rows = {row.kind: (row.ts_from, row.ts_to) for row in made.update(held)}
    assert rows["trade"] == (T + 50 * SECOND, T + 51 * SECOND)


def test_untimed_quotes_are_covered_by_the_receive_clock():
    held = session(market="spot")
    frame = b'{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    held.receive(frame % 1, T)
    held.receive(frame % 2, T + SECOND)
    (row,) = CoverageTracker("binance", "spot").update(held)
    assert (row.ts_from, row.ts_to) == (T, T + SECOND)


def gap(state, proof, ts_to=T + SECOND):
    return Gap("g", "binance", "linear", "trade", "BTCUSDT", T, ts_to, 5, 5, "cut", proof, state, "n-1-1", T)


def test_contiguous_ids_bridge_two_sessions():
    (row,) = tracker().bridge([gap("empty", "ids")])
    assert (row.ts_from, row.ts_to, row.kind, row.session) == (T, T + SECOND, "trade", "n-1-1")


def test_what_is_missing_or_unproven_bridges_nothing():
    assert tracker().bridge([gap("open", "ids"), gap("empty", "interval"), gap("open", "ids", None)]) == []
