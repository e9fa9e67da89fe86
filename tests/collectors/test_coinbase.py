"""Coinbase's sessions: what they ask for, how they are answered, and what becomes of what is missing."""

import itertools
import json
import pathlib

import msgspec
import pytest

from collectors import exchanges
from collectors.config import WritingConfig
from collectors.exchanges.coinbase.wire import micros
from collectors.holes import RETIRED
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.errors import MarketError
from market.kinds import BookDelta, Contract, Kline, Trade
from market.session import (
    Acknowledged,
    Booked,
    Connection,
    Fetch,
    Informed,
    Leave,
    Polled,
    Refused,
    Rejected,
    Resume,
    Send,
)
from market.times import HOUR, MINUTE, SECOND, to_datetime

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
VENUE = exchanges.load("coinbase")
NOW = 1_785_701_700_000_000
ANSWERED = {"channel": "subscriptions"}


def session(kinds, symbols=("BTC-USD",)):
    streams = VENUE.streams("spot", kinds, symbols)
    (plan,) = VENUE.connections("spot", streams, VENUE.ENDPOINTS["spot"])
    made = VENUE.session(plan, "n-1-1")
    return made, [json.loads(out.text) for out in made.start(NOW)]


def stamp(at):
    return to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def message(channel, number, events, at=NOW):
    said = {"channel": channel, "timestamp": stamp(at), "sequence_num": number, "events": events}
    return json.dumps(said, separators=(",", ":")).encode()


def ack(number, at=NOW, **held):
    return message("subscriptions", number, [{"subscriptions": held}], at)


def book(number, what="update", at=NOW, symbol="BTC-USD", qty="1"):
    levels = [
        {"side": side, "event_time": stamp(at), "price_level": price, "new_quantity": qty}
        for side, price in (("bid", "1"), ("offer", "2"))
    ]
    return message("l2_data", number, [{"type": what, "product_id": symbol, "updates": levels}], at)


def trades(number, *ids, what="update", at=NOW, symbol="BTC-USD"):
    told = [
        {"product_id": symbol, "trade_id": str(one), "price": "1", "size": "1", "time": stamp(at), "side": "BUY"}
        for one in reversed(ids)
    ]
    return message("market_trades", number, [{"type": what, "trades": told}], at)


def beat(number, at=NOW):
    return message("heartbeats", number, [{"current_time": "", "heartbeat_counter": number}], at)


def sent(outputs):
    return [json.loads(out.text) for out in outputs if isinstance(out, Send)]


def ticks(made, until):
    """Everything that is due up to a time."""
    out, now = [], NOW
    while (due := made.next_deadline()) is not None and due <= until:
        now = max(now, due)
        out += made.tick(now)
        if any(isinstance(one, Leave) for one in out):
            break
    return out


def test_the_heartbeats_come_first_and_each_request_is_of_one_channel():
    made, first = session(["trade", "book_delta", "quote", "kline"], ["BTC-USD", "ETH-USD"])
    later = sent(ticks(made, NOW + 2 * SECOND))
    assert first == [{"type": "subscribe", "channel": "heartbeats"}]
    assert sorted(one["channel"] for one in later) == ["candles", "level2", "market_trades", "ticker"]
    assert all(one["product_ids"] == ["BTC-USD", "ETH-USD"] for one in later)


def symbols_of(said):
    return [(type(one), [stream.symbol for stream in one.streams]) for one in said]


def test_what_an_answer_lists_is_taken_on_and_what_it_leaves_out_twice_is_refused():
    made, _ = session(["trade"], ["BTC-USD", "NOT-USD"])
    ticks(made, NOW + SECOND)
    assert made.receive(ack(0, heartbeats=["heartbeats"]), NOW) == ()
    held = ack(1, heartbeats=["heartbeats"], market_trades=["BTC-USD"])
    assert symbols_of(made.receive(held, NOW)) == [(Acknowledged, ["BTC-USD"])]
    (again,) = sent(ticks(made, NOW + 2 * SECOND))
    assert again["product_ids"] == ["NOT-USD"]
    said = made.receive(ack(2, heartbeats=["heartbeats"], market_trades=["BTC-USD"]), NOW + 2 * SECOND)
    assert symbols_of(said) == [(Refused, ["NOT-USD"])]


def test_what_was_refused_is_asked_for_twice_after_a_minute_and_every_hour_until_the_venue_lists_it():
    made, _ = session(["trade"], ["BTC-USD", "NEW-USD"])
    asking, now, asked, said = made.subscriber, NOW, [], []
    asking.listed((), now)  # of the heartbeats
    while (due := asking.deadline()) is not None:
        now = max(now, due)
        for request in sent(asking.tick(now)):
            asked.append((round((now - NOW) / MINUTE), request["product_ids"]))
            names = ["BTC-USD", *(["NEW-USD"] if now > NOW + 2 * HOUR else [])]
            said += symbols_of(asking.listed([f"market_trades:{name}" for name in names], now))
    new = ["NEW-USD"]
    assert asked == [
        (0, ["BTC-USD", *new]), (0, new), (1, new), (1, new), (61, new), (61, new), (121, new),
    ]  # fmt: skip
    assert said == [(Acknowledged, ["BTC-USD"]), (Refused, new), (Acknowledged, new)]


def test_an_answer_that_lists_nothing_of_a_request_may_be_a_late_one():
    made, _ = session(["trade"], ["NOT-USD"])
    ticks(made, NOW + SECOND)
    made.receive(ack(0, heartbeats=["heartbeats"]), NOW)
    assert made.receive(ack(1, heartbeats=["heartbeats"]), NOW + SECOND) == ()
    (again,) = sent(ticks(made, NOW + 2 * SECOND))
    assert again["product_ids"] == ["NOT-USD"]
    (refused,) = made.receive(ack(2, heartbeats=["heartbeats"]), NOW + 2 * SECOND)
    assert isinstance(refused, Refused)


def test_at_most_25_streams_share_a_connection():
    streams = VENUE.streams("spot", ["book_delta"], [f"S{n}-USD" for n in range(60)])
    made = VENUE.connections("spot", streams, VENUE.ENDPOINTS["spot"])
    assert [len(one.streams) for one in made] == [20, 20, 20]


def test_heartbeats_keep_the_socket_and_ten_seconds_without_them_end_it():
    made, _ = session(["trade"])
    ticks(made, NOW + SECOND)
    made.receive(ack(0, heartbeats=["heartbeats"]), NOW)
    made.receive(ack(1, heartbeats=["heartbeats"], market_trades=["BTC-USD"]), NOW)
    for number in range(2, 40):
        at = NOW + number * SECOND
        made.receive(beat(number, at), at)
        assert not [one for one in made.tick(at) if isinstance(one, Leave)]
    left = [one for one in ticks(made, NOW + 60 * SECOND) if isinstance(one, Leave)]
    assert left[0].cause == "silence"


def test_a_missing_message_leaves_the_connection_and_no_row_chains_over_it():
    made, _ = session(["book_delta", "trade"])
    assert isinstance(made, Booked)
    made.receive(book(0, "snapshot"), NOW)
    assert made.books_out_of_sync() == []
    (row,) = made.receive(book(1, at=NOW + 10), NOW)
    assert (row.prev_id, row.last_id, row.flags) == (NOW - 1, NOW + 10, ())
    row, leave = made.receive(book(3, at=NOW + 20), NOW)
    assert (row.prev_id, row.last_id, row.flags) == (NOW + 19, NOW + 20, ("gap_before",))
    assert (leave.cause, leave.detail) == ("messages_missing", "sequence_num went from 1 to 3")
    assert made.books_out_of_sync() == ["BTC-USD"]


def test_a_message_that_is_missing_is_told_by_whatever_comes_next():
    made, _ = session(["trade"])
    made.receive(beat(0), NOW)
    assert [one.cause for one in made.receive(beat(2), NOW)] == ["messages_missing"]
    made, _ = session(["trade"])
    made.receive(beat(0), NOW)
    assert [one.cause for one in made.receive(message("status", 2, []), NOW)] == ["messages_missing"]


def test_numbers_that_do_not_count_the_connections_messages_are_looked_at_no_more():
    made, _ = session(["trade", "book_delta"])
    made.receive(trades(0, 1), NOW)
    row, rejected = made.receive(book(0, "snapshot"), NOW)
    assert isinstance(row, BookDelta)
    assert isinstance(rejected, Rejected)
    assert [type(one) for one in made.receive(book(7, at=NOW + 5), NOW)] == [BookDelta]


def test_a_book_that_was_not_understood_is_subscribed_to_anew_and_no_other():
    made, _ = session(["book_delta"], ["BTC-USD", "ETH-USD"])
    ticks(made, NOW + SECOND)
    made.receive(ack(0, heartbeats=["heartbeats"]), NOW)
    made.receive(ack(1, level2=["BTC-USD", "ETH-USD"]), NOW)
    made.receive(book(2, "snapshot"), NOW)
    made.receive(book(3, "snapshot", symbol="ETH-USD"), NOW)
    assert [type(one) for one in made.receive(book(4, at=NOW + 5, qty="NaN"), NOW)] == [Rejected]
    assert made.receive(book(5, at=NOW + 9), NOW)[0].flags == ("gap_before",)
    assert made.books_out_of_sync() == ["BTC-USD"]
    asked = sent(ticks(made, NOW + 3 * SECOND))
    assert [(one["type"], one["product_ids"]) for one in asked] == [
        ("unsubscribe", ["BTC-USD"]), ("subscribe", ["BTC-USD"]),
    ]  # fmt: skip
    assert made.receive(ack(6, level2=["ETH-USD"]), NOW) == made.receive(ack(7, level2=["ETH-USD", "BTC-USD"]), NOW)
    (row,) = made.receive(book(8, "snapshot", at=NOW + 9), NOW)
    assert (row.flags, row.last_id, made.books_out_of_sync()) == (("snapshot",), NOW + 10, [])


def test_books_of_two_connections_chain_by_the_engines_times_and_say_the_same():
    held = merger_maker(VENUE, "spot")("book_delta")
    rows = []
    for name in ("a-1-1", "a-2-2"):
        (plan,) = VENUE.connections("spot", VENUE.streams("spot", ["book_delta"], ["BTC-USD"]), VENUE.ENDPOINTS["spot"])
        made = VENUE.session(plan, name)
        made.start(NOW)
        frames = [book(0, "snapshot"), *(book(n, at=NOW + 10 * n) for n in range(1, 5))]
        rows.append([made.receive(frame, NOW)[0] for frame in frames])
    new = [[held.merge(row) for row in one] for one in rows]
    assert new == [[True] * 5, [False] * 5]
    assert held.tick(NOW + MINUTE) == []


def test_a_whole_stands_right_before_its_time_and_ids_rise_behind_it():
    """What comes with its time may be what it holds or news: both connections tell it under that time."""
    made, _ = session(["book_delta"])
    times = ("snapshot", NOW), ("update", NOW), ("update", NOW), ("snapshot", NOW + 9), ("update", NOW + 5)
    rows = [made.receive(book(n, what, at=at), NOW)[0] for n, (what, at) in enumerate(times)]
    assert [row.ts_event for row in rows] == [at for _, at in times]
    assert [row.last_id for row in rows] == [NOW - 1, NOW, NOW + 1, NOW + 8, NOW + 10]
    assert [row.prev_id for row in rows] == [None, NOW - 1, NOW, None, NOW + 8]
    assert made.books_out_of_sync() == []


@pytest.mark.parametrize("first", ["its whole", "the change"])
def test_what_a_joining_connection_was_told_twice_is_one_row(first):
    """It subscribed while a change was on its way, which the whole that it was sent holds."""
    held = merger_maker(VENUE, "spot")("book_delta")
    rows = []
    for name, frames in (
        ("a-1-1", [book(0, "snapshot", at=NOW - 50), book(1, qty="7"), book(2, at=NOW + 50)]),
        ("a-2-2", [book(0, "snapshot", qty="7"), book(1, qty="7"), book(2, at=NOW + 50)]),
    ):
        (plan,) = VENUE.connections("spot", VENUE.streams("spot", ["book_delta"], ["BTC-USD"]), VENUE.ENDPOINTS["spot"])
        made = VENUE.session(plan, name)
        made.start(NOW)
        rows.append([row for frame in frames for row in made.receive(frame, NOW)])
    older, joining = rows
    order = [older[0], joining[0], older[1]] if first == "its whole" else [older[0], older[1], joining[0]]
    new = [row for row in [*order, *joining[1:], older[2]] if held.merge(row)]
    assert [row.last_id for row in new if not row.flags] == [NOW, NOW + 50]
    assert len({row.last_id for row in new}) == len(new), "none takes the place of another in the table"
    assert [gap for gap in held.tick(NOW + MINUTE) if gap.state == "open"] == []


# Trades, candles


def test_tickers_of_a_product_in_one_message_have_ids_of_their_own():
    made, _ = session(["quote"], ["BTC-USD", "ETH-USD"])
    tickers = [
        {"product_id": symbol, "best_bid": bid, "best_bid_quantity": "1", "best_ask": "9", "best_ask_quantity": "1"}
        for symbol, bid in (("BTC-USD", "1"), ("ETH-USD", "1"), ("BTC-USD", "2"))
    ]
    rows = made.receive(message("ticker", 0, [{"type": "update", "tickers": tickers}]), NOW)
    assert [(row.symbol, row.bid, row.ts_event - NOW, row.update_id - NOW) for row in rows] == [
        ("BTC-USD", "1", 0, 0), ("ETH-USD", "1", 0, 0), ("BTC-USD", "2", 0, 1),
    ]  # fmt: skip


def test_trades_of_before_are_history_only_where_nothing_was_collected():
    for begun, condition in ((False, "history"), (True, "market")):
        made, _ = session(["trade"])
        made.recall(lambda kind, symbol, begun=begun: begun and (kind, symbol) == ("trade", "BTC-USD"))
        rows = made.receive(trades(0, 5, 6, 7, what="snapshot"), NOW)
        assert [(row.seq, row.side, row.condition) for row in rows] == [(n, "sell", condition) for n in (5, 6, 7)]
        assert [row.condition for row in made.receive(trades(1, 8), NOW)] == ["market"]


def test_what_a_merger_has_met_or_was_stored_before_a_restart_has_begun():
    held = merger_maker(VENUE, "spot")("trade")
    made, _ = session(["trade"])
    (row,) = made.receive(trades(0, 5), NOW)
    assert not held.begun("BTC-USD")
    held.merge(row)
    assert held.begun("BTC-USD")
    assert not held.begun("ETH-USD")
    held.resume({"ETH-USD": Resume(NOW, 7, "n-0-1", "crash")})
    assert held.begun("ETH-USD")


def test_trades_of_weeks_ago_are_no_rows_and_no_fault():
    made, _ = session(["trade"])
    assert made.receive(trades(0, 5, what="snapshot", at=NOW), NOW + 8 * 24 * 60 * MINUTE)
    old = trades(1, 5, what="snapshot", at=NOW).replace(
        b'"timestamp":"' + stamp(NOW).encode(), b'"timestamp":"' + stamp(NOW + 8 * 24 * 60 * MINUTE).encode()
    )
    assert made.receive(old, NOW + 8 * 24 * 60 * MINUTE) == ()


OPENED = NOW // (5 * MINUTE) * 5 * MINUTE
ENDS = OPENED + 5 * MINUTE


def candle(number, at, volume, start=OPENED, what="update", symbol="BTC-USD"):
    told = {"start": str(start // SECOND), "high": "2", "low": "1", "open": "1", "close": "2", "volume": volume,
            "product_id": symbol}  # fmt: skip
    return message("candles", number, [{"type": what, "candles": [told]}], at)


def test_a_candle_is_a_row_half_a_minute_after_its_end_and_its_change_a_revision():
    made, _ = session(["kline"])
    made.receive(candle(0, ENDS - SECOND, "1"), ENDS)
    made.receive(candle(1, ENDS + 10 * SECOND, "2"), ENDS + 10 * SECOND)
    assert made.receive(beat(2, ENDS + 29 * SECOND), ENDS + 29 * SECOND) == ()
    (row,) = made.receive(beat(3, ENDS + 30 * SECOND), ENDS + 30 * SECOND)
    assert isinstance(row, Kline)
    assert (row.volume_base, row.frame_no, row.ts_recv, row.interval) == ("2", 2, ENDS + 10 * SECOND, "5m")
    (changed,) = made.receive(candle(4, ENDS + 40 * SECOND, "3"), ENDS + 40 * SECOND)
    held = merger_maker(VENUE, "spot")("kline")
    assert held.merge(row)
    assert held.merge(changed)
    assert (row.revision, changed.revision) == (0, 1)


def test_a_candle_that_was_told_last_before_its_end_is_no_row_until_the_channel_begins_anew_with_it():
    made, _ = session(["kline"], ["BTC-USD", "ETH-USD"])
    ticks(made, NOW + SECOND)
    made.receive(candle(0, ENDS - SECOND, "1"), ENDS - SECOND)
    made.receive(candle(1, ENDS, "1", symbol="ETH-USD"), ENDS)
    following, due = ENDS + 40 * SECOND, ENDS + 30 * SECOND
    (row,) = made.receive(beat(2, due), due)
    assert row.symbol == "ETH-USD"
    assert made.receive(candle(3, following, "1", start=ENDS), following) == (), "nor is it by the next one"
    asked = [one for at in (due, due + SECOND, due + 2 * SECOND) for one in sent(made.tick(at))]
    assert [(one["type"], one["channel"], one["product_ids"]) for one in asked[-2:]] == [
        ("unsubscribe", "candles", ["BTC-USD"]), ("subscribe", "candles", ["BTC-USD"]),
    ]  # fmt: skip
    (row,) = made.receive(candle(4, following, "3", what="snapshot"), following)
    assert (row.open_time, row.volume_base, row.frame_no, row.revision) == (OPENED, "3", 5, 0)
    assert made._more_at() is None


def test_the_candles_behind_one_that_is_not_told_wait_for_it_and_it_is_asked_for_ever_more_patiently():
    made, _ = session(["kline"])
    made.receive(candle(0, ENDS - SECOND, "1"), ENDS - SECOND)
    made.receive(candle(1, ENDS + 5 * MINUTE, "2", start=ENDS), ENDS + 5 * MINUTE)
    now, asked = ENDS + 6 * MINUTE, []
    assert made.receive(beat(2, now), now) == ()
    while now < ENDS + 2 * HOUR:
        asked += [now for stream in made.forming.anew(now) if stream.symbol == "BTC-USD"]
        now = made._more_at()
    minutes = [(b - a) // MINUTE for a, b in itertools.pairwise(asked)]
    assert minutes == [1, 2, 4, 8, 16, 30, 30]
    rows = made.receive(candle(3, now, "9", what="snapshot"), now)
    assert [(row.open_time, row.volume_base) for row in rows] == [(OPENED, "9"), (ENDS, "2")]


@pytest.mark.parametrize(
    "told,left,lost",
    [
        ((), 3 * HOUR + MINUTE, None),
        ((), 3 * HOUR + 20 * SECOND, (-5 * MINUTE, 20 * SECOND)),
        ((3 * HOUR + MINUTE,), 3 * HOUR + 2 * MINUTE, None),
        ((3 * HOUR - MINUTE,), 3 * HOUR + 2 * MINUTE, (-5 * MINUTE, 2 * MINUTE)),
    ],
)
def test_of_a_quiet_product_that_is_wanted_no_more_only_what_may_have_waited_is_missing(told, left, lost):
    """Not what lies between its last candle and that: hours without a trade are no loss."""
    made, _ = session(["kline"])
    intake = Intake(WritingConfig())
    pipeline = Pipeline("coinbase", "spot", intake, merger_maker(VENUE, "spot"))
    link, _ = pipeline.open(made, name="a", source="ws", url="wss://toy.test", now=NOW)
    pipeline.receive(link, [candle(0, ENDS + SECOND, "1")], ENDS + SECOND)
    pipeline.receive(link, [beat(1, ENDS + MINUTE)], ENDS + MINUTE)
    for number, at in enumerate(told, 2):
        start = ENDS + at - at % (5 * MINUTE)
        pipeline.receive(link, [candle(number, ENDS + at, "1", start=start)], ENDS + at)
    pipeline.receive(link, [beat(2 + len(told), ENDS + left)], ENDS + left)
    pipeline.close(link, RETIRED, ENDS + left)
    pipeline.advance(ENDS + left)
    found = intake.collect(ENDS + left).gaps
    shown = [(gap.cause, gap.ts_from - ENDS - 3 * HOUR, gap.ts_to - ENDS - 3 * HOUR) for gap in found]
    assert shown == ([("retired", *lost)] if lost else [])


@pytest.mark.parametrize("hours,lost", [(1, False), (9, True)])
def test_a_candle_that_ended_half_a_minute_before_an_outage_is_told_after_it_or_in_its_gap(hours, lost):
    """It waits to be a row, and a new subscription begins with the last hundred candles only."""
    made, _ = session(["kline"])
    held, ends = merger_maker(VENUE, "spot")("kline"), ENDS + 5 * MINUTE
    rows = [made.receive(candle(0, ENDS + SECOND, "1"), ENDS + SECOND)]
    rows += [made.receive(candle(1, ends - SECOND, "2", start=ENDS), ends - SECOND)]
    assert [held.merge(row) for told in rows for row in told] == [True]
    assert made.receive(candle(2, ends + 20 * SECOND, "3", start=ENDS), ends + 20 * SECOND) == ()
    (gap,) = held.interrupt("n-1-1", ["BTC-USD"], "disconnect", ends + 21 * SECOND, made.venue_time)
    again, back = session(["kline"])[0], ends + hours * HOUR
    again.session_id = "n-2-1"
    times = [back - n * 5 * MINUTE for n in range(100, 0, -1) if back - n * 5 * MINUTE >= OPENED]
    for n, opened in enumerate(times):
        for row in again.receive(candle(n, back + MINUTE, "9", start=opened, what="snapshot"), back + MINUTE):
            row.session = "n-2-1"
            held.merge(row)
    told = {one.gap_id: one for one in [gap, *held.tick(back + HOUR)]}
    inside = [one for one in told.values() if one.state == "open" and one.ts_from < ends - 1000 < one.ts_to]
    assert bool(inside) is lost


# REST, configuration


def test_products_are_asked_for_page_by_page():
    made = VENUE.poller("spot", "n-1-1", Polled("contract", (), 60 * SECOND), VENUE.ENDPOINTS["spot"])
    (first,) = made.start(NOW)
    product = {"product_id": "A-USD", "base_currency_id": "A", "quote_currency_id": "USD", "status": "online"}
    page = json.dumps({"products": [product] * 1000}).encode()
    assert len(made.respond(first.tag, 200, {}, page, NOW)) == 1000
    (second,) = [one for one in made.tick(NOW) if isinstance(one, Fetch)]
    assert second.url == f"{first.url}&offset=1000"
    made.respond(second.tag, 200, {}, json.dumps({"products": [product]}).encode(), NOW)
    assert made.next_deadline() >= NOW + 60 * SECOND


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 5_000])
def test_an_answer_to_a_page_that_nobody_asked_for_begins_anew(cursor):
    made = VENUE.poller("spot", "n-1-1", Polled("contract", (), 60 * SECOND), VENUE.ENDPOINTS["spot"])
    (first,) = made.start(NOW)
    made.respond(f"{first.tag} {cursor}", 503, {}, b"", NOW)
    asked = [one for one in made.tick(NOW + 600 * SECOND) if isinstance(one, Fetch)]
    assert {one.url for one in asked} == {first.url}


@pytest.mark.parametrize(
    "kind,words",
    [("liquidation", "no public feed of liquidations"), ("mark_price", "spot has no mark price"),
     ("agg_trade", "collect trade")],
)  # fmt: skip
def test_a_kind_that_the_venue_lacks_is_refused_in_words(kind, words):
    with pytest.raises(MarketError, match=words):
        VENUE.streams("spot", [kind], ["BTC-USD"])


@pytest.mark.parametrize(
    "text,us",
    [("2026-08-09T21:05:48.228568804Z", 1_786_309_548_228_568), ("2026-08-09T21:05:48Z", 1_786_309_548_000_000),
     ("2026-08-09T21:05:48.5Z", 1_786_309_548_500_000), ("1970-01-01T00:00:00Z", 0), ("2026-02-30T00:00:00Z", None),
     ("2026-08-09 21:05:48Z", None), ("", None), ("2026-08-09T21:05:48.Z", None)],
)  # fmt: skip
def test_times_are_read_to_the_microsecond(text, us):
    assert micros(text) == us


def test_trades_are_told_apart_by_product():
    made, _ = session(["trade"], ["BTC-USD", "ETH-USD"])
    rows = [*made.receive(trades(0, 1), NOW), *made.receive(trades(1, 1, symbol="ETH-USD"), NOW)]
    assert [(row.symbol, row.stream) for row in rows if isinstance(row, Trade)] == [
        ("BTC-USD", "market_trades:BTC-USD"), ("ETH-USD", "market_trades:ETH-USD"),
    ]  # fmt: skip
    assert made.receive(trades(2, 1, symbol="XYZ-USD"), NOW) == (), "a product that nobody asked for"


def test_what_a_contract_of_futures_is_worth_is_waited_for_before_its_trades_are_asked_for():
    streams = VENUE.streams("linear", ["trade", "quote"], ["BIP-20DEC30-CDE"])
    (plan,) = VENUE.connections("linear", streams, VENUE.ENDPOINTS["linear"])
    made = VENUE.session(plan, "n-1-1")
    assert made.start(NOW) == ()
    assert sent(made.tick(NOW + SECOND)) == []
    assert sent(made.tick(NOW + 2 * SECOND)) == [{"type": "subscribe", "channel": "heartbeats"}], "it waits no longer"
    told = VENUE.session(plan, "n-2-1")
    assert isinstance(told, Informed)
    contract = (FIXTURES / "coinbase" / "linear" / "contracts.known").read_bytes().splitlines()[0]
    told.know(msgspec.json.decode(contract, type=Contract))
    assert [json.loads(out.text) for out in told.start(NOW)] == [{"type": "subscribe", "channel": "heartbeats"}]
    (row,) = told.receive(trades(0, 7, symbol="BIP-20DEC30-CDE"), NOW)
    assert (row.qty_unit, row.multiplier, row.trade_id, row.seq) == ("contract", "0.01", "7", None)
    assert [one.reason for one in made.receive(trades(0, 7, symbol="BIP-20DEC30-CDE"), NOW)] == [
        "what one contract is worth is not known yet"
    ]


def test_a_candle_whose_contracts_are_worth_more_digits_than_a_number_may_have_is_rejected():
    made = VENUE.session(Connection("coinbase", "linear", "x", "wss://x", ()), "n-1-1", learn=True)
    made.sizes["A"] = "0.01"
    opened = NOW // (5 * MINUTE) * 5 * MINUTE
    told = {"start": str(opened // SECOND), "high": "2", "low": "1", "open": "1", "close": "2", "product_id": "A"}
    candles = [told | {"volume": "0." + "1" * 29}, told | {"volume": "150"}]
    (said,) = made.receive(message("candles", 0, [{"type": "update", "candles": candles}]), NOW)
    assert isinstance(said, Rejected)
    assert "more than 30 digits" in said.reason
    ended = opened + 6 * MINUTE
    _, row = made.receive(message("candles", 1, [{"type": "update", "candles": candles}], ended), ended)
    assert (row.item, row.volume_base) == (1, "1.5")
