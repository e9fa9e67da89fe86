"""Coinbase's older feed, Exchange: what is asked of it, how it answers, and what becomes of what is missing."""

import json

import pytest

from collectors import exchanges
from collectors.redundancy import merger_maker
from market.errors import MarketError
from market.kinds import BookDelta, Trade
from market.session import Acknowledged, Connection, Endpoint, Leave, Refused, Send
from market.times import DAY, SECOND, to_datetime

VENUE = exchanges.load("coinbase")
NOW = 1_785_701_700_000_000
CHANNELS = {"trade": "exchange.matches", "quote": "exchange.ticker", "book_delta": "exchange.level2_batch"}


def connections(kinds, symbols=("BTC-USD",), channels=None):
    streams = VENUE.streams("spot", kinds, symbols, channels or {kind: CHANNELS[kind] for kind in kinds})
    return VENUE.connections("spot", streams, VENUE.ENDPOINTS["spot"])


def session(kinds, symbols=("BTC-USD",)):
    (plan,) = connections(kinds, symbols)
    made = VENUE.session(plan, "n-1-1")
    return made, [json.loads(out.text) for out in made.start(NOW)]


def stamp(at):
    return to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def flat(kind, at=NOW, product="BTC-USD", **more):
    said = {"type": kind, "product_id": product, "time": stamp(at), **more}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def match(number, at=NOW, kind="match"):
    return flat(kind, at, trade_id=number, side="buy", size="1", price="1", sequence=7 * number)


def beat(newest, at, product="BTC-USD"):
    return flat("heartbeat", at, product, sequence=90, last_trade_id=newest)


def whole(product="BTC-USD"):
    return flat("snapshot", NOW, product, bids=[["1", "1"]], asks=[["2", "1"]]).replace(
        json.dumps(stamp(NOW)).encode(), b"null"
    )


def ack(**held):
    channels = [{"name": name, "product_ids": ids} for name, ids in held.items()]
    return json.dumps({"type": "subscriptions", "channels": channels}).encode()


def sent(made, until, since=NOW):
    """What is sent from one time to another."""
    out, now = [], since
    while (due := made.next_deadline()) is not None and due <= until:
        now = max(now, due)
        out += made.tick(now)
        assert not [one for one in out if isinstance(one, Leave)]
    return [json.loads(one.text) for one in out if isinstance(one, Send)]


def test_each_feed_has_connections_and_an_address_of_its_own():
    made = connections(["trade", "book_delta", "kline"], channels={"trade": "exchange.matches"})
    assert [(one.name, one.url) for one in made] == [
        ("coinbase-spot-advanced-1", "wss://advanced-trade-ws.coinbase.com"),
        ("coinbase-spot-exchange-1", "wss://ws-feed.exchange.coinbase.com"),
    ]
    assert [stream.name for stream in made[1].streams] == ["exchange.matches:BTC-USD"]
    streams = VENUE.streams("spot", ["trade"], ["BTC-USD"], {"trade": "exchange.matches"})
    with pytest.raises(MarketError, match="'exchange'"):
        VENUE.connections("spot", streams, Endpoint("https://x", {"advanced": "wss://x"}))


@pytest.mark.parametrize("channel", ["matches", "exchange.full", "exchange.level2"])
def test_a_channel_that_is_none_of_both_feeds_is_refused_and_those_that_are_are_named(channel):
    kind = "trade" if channel == "matches" else "book_delta"
    with pytest.raises(MarketError, match=r"market_trades, exchange\.matches|level2, exchange\.level2_batch"):
        VENUE.streams("spot", [kind], ["BTC-USD"], {kind: channel})


def test_a_request_is_of_one_channel_and_the_heartbeats_of_its_products_come_with_it():
    made, first = session(list(CHANNELS), ["BTC-USD", "ETH-USD"])
    asked = [*first, *sent(made, NOW + 2 * SECOND)]
    assert sorted(one["channels"][0] for one in asked) == ["level2_batch", "matches", "ticker"]
    assert all(one["channels"][1:] == ["heartbeat"] for one in asked)
    assert all(one["type"] == "subscribe" for one in asked)
    assert all(one["product_ids"] == ["BTC-USD", "ETH-USD"] for one in asked)


def test_an_unknown_product_refuses_its_request_which_is_halved_until_it_stands_alone():
    made, _ = session(["trade"], ["BTC-USD", "NOT-USD"])
    error = b'{"type":"error","message":"Failed to subscribe","reason":"NOT-USD is not a valid product"}'
    made.receive(error, NOW)
    assert [one["product_ids"] for one in sent(made, NOW + SECOND)] == [["BTC-USD"], ["NOT-USD"]]
    listed = ack(matches=["BTC-USD"], heartbeat=["BTC-USD"])
    (taken,) = made.receive(listed, NOW + SECOND)
    assert isinstance(taken, Acknowledged)
    (refused,) = made.receive(error, NOW + SECOND)
    assert isinstance(refused, Refused)
    assert refused.reason == "Failed to subscribe NOT-USD is not a valid product"


@pytest.mark.parametrize("name", ["level2_50", "level2_batch"])
def test_the_book_is_taken_on_by_either_name_that_an_answer_gives_its_channel(name):
    made, _ = session(["book_delta"])
    (taken,) = made.receive(ack(**{name: ["BTC-USD"], "heartbeat": ["BTC-USD"]}), NOW)
    assert isinstance(taken, Acknowledged)
    assert [stream.name for stream in taken.streams] == ["exchange.level2_batch:BTC-USD"]


def test_trades_prove_their_losses_by_their_ids():
    made, _ = session(["trade"])
    held = merger_maker(VENUE, "spot")("trade")
    for number, kind in ((10, "last_match"), (11, "match"), (14, "match")):
        (row,) = made.receive(match(number, NOW + number, kind), NOW + number)
        assert isinstance(row, Trade)
        assert held.merge(row)
    (gap,) = held.tick(NOW + 60 * SECOND)
    assert (gap.id_from, gap.id_to) == (12, 14)


def test_a_trade_that_heartbeats_name_and_that_does_not_come_is_asked_for_by_subscribing_anew():
    made, _ = session(["trade"])
    made.receive(ack(matches=["BTC-USD"], heartbeat=["BTC-USD"]), NOW)
    made.receive(match(10), NOW)
    for second in range(1, 10):
        at = NOW + second * SECOND
        made.receive(beat(10, at), at)
    assert sent(made, NOW + 9 * SECOND, NOW + 9 * SECOND) == []
    for second in range(10, 12):
        made.receive(beat(11, NOW + second * SECOND), NOW + second * SECOND)
    assert sent(made, NOW + 12 * SECOND, NOW + 11 * SECOND) == [], "it may be on its way"
    for second in range(12, 20):
        made.receive(beat(12, NOW + second * SECOND), NOW + second * SECOND)
    assert [(one["type"], one["channels"]) for one in sent(made, NOW + 20 * SECOND, NOW + 19 * SECOND)] == [
        ("unsubscribe", ["matches"]), ("subscribe", ["matches", "heartbeat"]),
    ]  # fmt: skip
    (row,) = made.receive(match(12, NOW + 20 * SECOND, "last_match"), NOW + 20 * SECOND)
    assert row.seq == 12
    made.receive(beat(12, NOW + 21 * SECOND), NOW + 21 * SECOND)
    assert not [one for one in sent(made, NOW + 25 * SECOND, NOW + 21 * SECOND) if one["type"] == "unsubscribe"]


def test_a_whole_book_is_of_the_time_that_comes_next_and_updates_chain_from_it():
    made, _ = session(["book_delta"])
    assert made.receive(whole(), NOW) == ()
    assert made.books_out_of_sync() == ["BTC-USD"]
    change = flat("l2update", NOW + 50, changes=[["buy", "1", "2"]])
    first, second = made.receive(change, NOW + 60)
    assert isinstance(first, BookDelta)
    assert (first.last_id, first.flags, first.frame_no, first.ts_recv) == (NOW + 49, ("snapshot",), 1, NOW)
    assert (second.prev_id, second.last_id) == (NOW + 49, NOW + 50)
    assert made.books_out_of_sync() == []


@pytest.mark.parametrize("silent,behind", [(SECOND, SECOND), (DAY, DAY), (DAY + 1, 0), (9 * DAY, 0)])
def test_a_change_without_a_time_is_as_of_the_newest_that_was_told_and_a_day_later_as_of_its_receipt(silent, behind):
    made, _ = session(["book_delta"], ["BTC-USD", "ETH-USD"])
    made.receive(beat(1, NOW, "ETH-USD"), NOW)
    made.receive(whole(), NOW)
    change = flat("l2update", NOW, changes=[]).replace(stamp(NOW).encode(), b"0001-01-01T00:00:00.000000Z")
    begun, row = made.receive(change, NOW + silent)
    assert (begun.ts_event, row.ts_event) == (NOW + silent - behind - 1, None)
    assert (row.prev_id, row.last_id) == (begun.last_id, NOW + silent - behind)


def test_a_batch_that_was_not_understood_begins_the_books_anew():
    made, _ = session(["book_delta"], ["BTC-USD", "ETH-USD"])
    made.receive(ack(level2_batch=["BTC-USD", "ETH-USD"]), NOW)
    for product in ("BTC-USD", "ETH-USD"):
        made.receive(whole(product), NOW)
        made.receive(beat(1, NOW, product), NOW)
    assert made.books_out_of_sync() == []
    made.receive(b'{"type":"l2update","changes":5}', NOW)
    (row,) = made.receive(flat("l2update", NOW + 5, changes=[]), NOW)
    assert row.flags == ("gap_before",)
    asked = sent(made, NOW + 5 * SECOND)
    assert [(one["type"], one["product_ids"]) for one in asked if "level2_batch" in one["channels"]][-2:] == [
        ("unsubscribe", ["BTC-USD"]), ("subscribe", ["BTC-USD"]),
    ]  # fmt: skip


def test_heartbeats_keep_the_socket_and_ten_seconds_without_them_end_it():
    made, _ = session(["trade"])
    made.receive(ack(matches=["BTC-USD"]), NOW)
    for second in range(1, 30):
        made.receive(beat(0, NOW + second * SECOND), NOW + second * SECOND)
        assert not [one for one in made.tick(NOW + second * SECOND) if isinstance(one, Leave)]
    assert [one.cause for one in made.tick(NOW + 41 * SECOND) if isinstance(one, Leave)] == ["silence"]


def test_a_replay_learns_its_streams_from_what_was_sent():
    made = VENUE.session(Connection("coinbase", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    asked = {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat",
             {"name": "ticker", "product_ids": ["ETH-USD"]}, {"name": "level2_50"}]}  # fmt: skip
    made.sent(json.dumps(asked), NOW)
    made.sent("no JSON", NOW)
    assert sorted(state.stream.name for state in made.streams()) == [
        "exchange.level2_batch:BTC-USD", "exchange.matches:BTC-USD", "exchange.ticker:ETH-USD",
    ]  # fmt: skip
    (row,) = made.receive(match(1, kind="last_match"), NOW)
    assert row.condition == "history"
