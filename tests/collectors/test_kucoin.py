"""KuCoin's sessions: the token, the greeting, what they ask for, and how books join their snapshots."""

import itertools
import json

import pytest

from collectors import exchanges
from collectors.exchanges.kucoin.joining import Joined
from market.admission import Admission, Admitting
from market.errors import MarketError
from market.kinds import BookDelta, BookSnapshot, FundingRate, Trade
from market.session import (
    Acknowledged,
    Booked,
    Connection,
    Fetch,
    Leave,
    Polled,
    Refused,
    Rejected,
    Send,
    Stream,
    StreamState,
)
from market.times import HOUR, MINUTE, MS, SECOND

VENUE = exchanges.load("kucoin")
NOW = 1_785_701_708_000_000
WELCOME = b'{"id":"hQvf8jkno","type":"welcome"}'
LISTED = b'{"code":"200000","data":[{"symbol":"XBTUSDTM","multiplier":0.001}]}'


def planned(kinds, symbols=("BTC-USDT",), market="spot", rest="https://rest", **more):
    streams = VENUE.streams(market, kinds, symbols)
    (plan,) = VENUE.connections(market, streams, VENUE.ENDPOINTS[market])
    return VENUE.session(type(plan)(**{**{f: getattr(plan, f) for f in plan.__struct_fields__}, "rest": rest, **more}),
                         "n-1-1")  # fmt: skip


def opened(*args, **kwargs):
    made = planned(*args, **kwargs)
    assert list(made.start(NOW)) == []
    return made, sent(made.receive(WELCOME, NOW))


def sent(outputs):
    return [json.loads(out.text) for out in outputs if isinstance(out, Send)]


def run(made, until, answer=None):
    """Everything that is due up to a time."""
    out, now = [], NOW
    while (due := made.next_deadline()) is not None and due <= until:
        now = max(now, due)
        for one in made.tick(now):
            out.append((now, one))
            if answer is not None and isinstance(one, Send):
                made.receive(answer(json.loads(one.text)), now)
            if isinstance(one, Leave):
                return out
    return out


def ack(number):
    return json.dumps({"id": str(number), "type": "ack"}).encode()


def level2(first, last, symbol="BTC-USDT", at=NOW):
    data = {"changes": {"asks": [["2", "1", str(last)]], "bids": [["1", "1", str(last)]]}, "sequenceStart": first,
            "sequenceEnd": last, "symbol": symbol, "time": at // MS}  # fmt: skip
    return json.dumps({"topic": f"/market/level2:{symbol}", "type": "message", "data": data}).encode()


def whole(last, at=NOW):
    book = {"time": at // MS, "sequence": str(last), "bids": [["1", "1"]], "asks": [["2", "1"]]}
    return json.dumps({"code": "200000", "data": book}).encode()


# The token


def bullet(endpoint="wss://ws-api-spot.kucoin.com/", token="2neA+iuY_v-UA==", every=18000):
    servers = [{"endpoint": endpoint, "encrypt": True, "protocol": "websocket", "pingInterval": every}]
    return json.dumps({"code": "200000", "data": {"token": token, "instanceServers": servers}}).encode()


def plan(market="spot", url=None, rest="https://api.kucoin.com"):
    (found,) = VENUE.connections(market, VENUE.streams(market, ["trade"], ["A"]), VENUE.ENDPOINTS[market])
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return type(found)(**{**fields, "url": url or found.url, "rest": rest})


def test_a_token_is_asked_for_before_a_connection_and_its_answer_says_where_to_connect():
    assert isinstance(VENUE, Admitting)
    asked = VENUE.admission(plan())
    assert (asked.method, asked.url, asked.weight) == ("POST", "https://api.kucoin.com/api/v1/bullet-public", 10)
    said = VENUE.admitted(plan(), 200, {}, bullet("wss://other.kucoin.com/endpoint", every=12000))
    assert isinstance(said, Admission)
    assert said.url.startswith("wss://other.kucoin.com/endpoint?token=2neA%2BiuY_v-UA==&connectId=")
    assert said.ping_every == 12 * SECOND
    assert VENUE.admission(plan(rest="")) is None


def test_an_address_of_the_operators_own_is_kept():
    said = VENUE.admitted(plan(url="ws://127.0.0.1:1/spot"), 200, {}, bullet())
    assert said.url.startswith("ws://127.0.0.1:1/spot?token=")


@pytest.mark.parametrize(
    "status,body",
    [(200, bullet("ws://ws-api-spot.kucoin.com/")), (200, bullet("https://x")), (200, bullet(token="a b&c")),
     (200, b'{"code":"200000","data":{"token":"x","instanceServers":[]}}'), (200, b"<html>"), (200, b"{}"),
     (200, b'{"code":"400100","msg":"no"}'), (429, b'{"code":"429000","msg":"too many requests"}'), (503, b"")],
)  # fmt: skip
def test_an_answer_without_a_usable_address_says_why(status, body):
    assert isinstance(VENUE.admitted(plan(), status, {}, body), str)


# Sessions


def test_nothing_is_sent_before_the_welcome_and_a_request_names_one_channel():
    made, (first,) = opened(["trade", "quote"], ["A-B", "C-D"])
    assert first["type"] == "subscribe"
    assert made.ignored == {}, "a frame is an outcome, or it is counted"
    assert made.receive(WELCOME, NOW) == ()
    assert made.ignored == {"welcome": 1}
    (second,) = sent(out for _, out in run(made, NOW + SECOND))
    assert {first["topic"], second["topic"]} == {"/market/match:A-B,C-D", "/spotMarket/level1:A-B,C-D"}
    (taken,) = made.receive(ack(second["id"]), NOW)
    assert isinstance(taken, Acknowledged)
    assert {stream.symbol for stream in taken.streams} == {"A-B", "C-D"}


def test_without_a_welcome_the_connection_is_left():
    made = planned(["trade"])
    made.start(NOW)
    ((at, leave),) = run(made, NOW + MINUTE)
    assert (leave.cause, at - NOW) == ("unacknowledged", 10 * SECOND)


def test_a_refused_request_is_halved_until_the_symbol_at_fault_stands_alone():
    made, (first,) = opened(["trade"], ["A", "NOT", "B"])
    refused, taken, asked = [], [], [first]
    while asked:
        request = asked.pop()
        bad = "NOT" in request["topic"]
        said = {"id": request["id"], "type": "error", "code": 404, "data": "topic does not exist"}
        for out in made.receive(json.dumps(said).encode() if bad else ack(request["id"]), NOW):
            refused += [s.symbol for s in out.streams] if isinstance(out, Refused) else []
            taken += [s.symbol for s in out.streams] if isinstance(out, Acknowledged) else []
        asked += sent(out for _, out in run(made, NOW + SECOND))
    assert (refused, sorted(taken)) == (["NOT"], ["A", "B"])


def test_an_error_that_no_request_explains_is_rejected():
    made, _ = opened(["trade"])
    said = b'{"id":"77","type":"error","code":404,"data":"x"}'
    assert [type(out) for out in made.receive(said, NOW)] == [Rejected]


def test_the_client_pings_before_the_interval_of_the_token_is_over():
    made, (first,) = opened(["trade"], ping_every=12 * SECOND)
    made.receive(ack(first["id"]), NOW)
    found = run(made, NOW + 5 * MINUTE, lambda ping: json.dumps({"id": ping["id"], "type": "pong"}).encode())
    pings = [at for at, out in found if isinstance(out, Send)]
    assert all(b - a == 10 * SECOND for a, b in itertools.pairwise(pings))
    assert not any(isinstance(out, Leave) for _, out in found)
    dead, (first,) = opened(["trade"])
    dead.receive(ack(first["id"]), NOW)
    assert next(out.cause for _, out in run(dead, NOW + 5 * MINUTE) if isinstance(out, Leave)) == "silence"


# What a lot is worth


def test_trades_of_futures_are_asked_for_once_their_lots_are_known():
    made, (first,) = opened(["trade", "quote"], ["XBTUSDTM"], "linear")
    assert first["topic"] == "/contractMarket/tickerV2:XBTUSDTM"
    ((_, fetch),) = [(at, out) for at, out in run(made, NOW + SECOND) if isinstance(out, Fetch)]
    assert (fetch.url, fetch.weight) == ("https://rest/api/v1/contracts/active", 3)
    made.respond(fetch.tag, 503, {}, b"", NOW + SECOND)
    found = run(made, NOW + 7 * SECOND)
    assert [type(out) for _, out in found] == [Fetch]
    made.respond(fetch.tag, 200, {}, LISTED, NOW + 7 * SECOND)
    (asked,) = sent(made.tick(NOW + 7 * SECOND))
    assert asked["topic"] == "/contractMarket/execution:XBTUSDTM"
    data = {"symbol": "XBTUSDTM", "side": "sell", "size": 3, "price": "9", "tradeId": "7", "ts": NOW * 1000}
    frame = {"topic": "/contractMarket/execution:XBTUSDTM", "type": "message", "data": data}
    (row,) = made.receive(json.dumps(frame).encode(), NOW)
    assert isinstance(row, Trade)
    assert (row.qty, row.qty_unit, row.multiplier, row.seq, row.trade_id) == ("3", "contract", "0.001", None, "7")


def test_trades_of_a_contract_that_no_list_names_are_refused_once():
    made, _ = opened(["trade", "quote"], ["NOTLISTEDM"], "linear")
    ((at, fetch),) = [(at, out) for at, out in run(made, NOW + SECOND) if isinstance(out, Fetch)]
    (refused,) = made.respond(fetch.tag, 200, {}, LISTED, at)
    assert isinstance(refused, Refused)
    assert [stream.symbol for stream in refused.streams] == ["NOTLISTEDM"]
    ((at, again),) = [(at, out) for at, out in run(made, NOW + 9 * SECOND) if isinstance(out, Fetch)]
    assert made.respond(again.tag, 200, {}, LISTED, at) == ()


# Books


def synced(last=100):
    made, (first,) = opened(["book_delta"])
    made.receive(ack(first["id"]), NOW)
    made.receive(level2(99, 101), NOW)
    ((_, fetch),) = run(made, NOW)
    out = made.respond(fetch.tag, 200, {}, whole(last), NOW)
    return made, fetch, out


def test_a_book_is_known_once_a_snapshot_joins_its_updates():
    made, fetch, out = synced()
    assert isinstance(made, Booked)
    assert fetch.url == "https://rest/api/v1/market/orderbook/level2_100?symbol=BTC-USDT"
    assert [type(row) for row in out] == [BookSnapshot, BookDelta]
    assert (out[0].depth, out[1].flags, out[1].last_id, out[1].first_id) == (100, ("snapshot",), 100, None)
    assert made.books_out_of_sync() == made.books_asked() == []
    (row,) = made.receive(level2(102, 102), NOW)
    assert (row.flags, row.first_id, row.last_id) == ((), 102, 102)
    assert [out for _, out in run(made, NOW + 10 * SECOND) if isinstance(out, Fetch)] == []


def test_a_snapshot_that_is_too_old_is_stored_and_asked_for_again():
    made, fetch, out = synced(97)
    assert [type(row) for row in out] == [BookSnapshot]
    assert made.books_out_of_sync() == ["BTC-USDT"]
    ((at, again),) = [(at, out) for at, out in run(made, NOW + 3 * SECOND) if isinstance(out, Fetch)]
    assert (again.tag, at - NOW) == (fetch.tag, 2 * SECOND)
    assert [type(o) for o in made.respond(again.tag, 429, {}, b"{}", at)] == [Rejected]


def test_a_missing_update_is_said_and_the_book_asked_for_again():
    made, fetch, _ = synced()
    (row,) = made.receive(level2(104, 105), NOW)
    assert row.flags == ("gap_before",)
    assert made.books_out_of_sync() == ["BTC-USDT"]
    ((at, again),) = [(at, out) for at, out in run(made, NOW + 3 * SECOND) if isinstance(out, Fetch)]
    rows = made.respond(again.tag, 200, {}, whole(103, at), at)
    assert (rows[-1].flags, made.books_out_of_sync()) == (("snapshot",), [])
    assert fetch.tag == again.tag


def test_a_book_goes_on_from_what_is_stored_and_waits_for_another_sessions_snapshot():
    made, (first,) = opened(["book_delta"])
    made.receive(ack(first["id"]), NOW)
    made.books_awaited(["BTC-USDT"], NOW)
    made.receive(level2(99, 101), NOW)
    assert [out for _, out in run(made, NOW + 4 * SECOND) if isinstance(out, Fetch)] == []
    made.book_known("BTC-USDT", 98)
    made.tick(NOW + SECOND)
    assert made.books_out_of_sync() == []
    made.books_given_up(["BTC-USDT"])
    assert made.books_out_of_sync() == ["BTC-USDT"]
    assert [out for _, out in run(made, NOW + 9 * SECOND) if isinstance(out, Fetch)] == []
    made.books_stored_again(["BTC-USDT"])
    assert [type(out) for _, out in run(made, NOW + 9 * SECOND) if isinstance(out, Fetch)] == [Fetch]


def test_a_replay_knows_the_book_of_an_answer_that_came_before_its_first_update():
    made, (first,) = opened(["book_delta"])
    made.receive(ack(first["id"]), NOW)
    learning = VENUE.session(Connection("kucoin", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    learning.frame_no = made.frame_no
    ((at, fetch),) = [(at, out) for at, out in run(made, NOW + 3 * SECOND) if isinstance(out, Fetch)]
    rows, again = (list(session.respond(fetch.tag, 200, {}, whole(100, at), at)) for session in (made, learning))
    assert [type(row) for row in rows] == [BookSnapshot, BookDelta]
    assert again == rows
    assert learning.receive(level2(101, 102), at) == made.receive(level2(101, 102), at)
    for tag in ("", "level2 100 ", "level2 100 /market/match:BTC-USDT", "level2 100 BTC-USDT"):
        assert [type(out) for out in learning.respond(tag, 200, {}, whole(100, at), at)] == [Rejected]


def test_a_quiet_book_is_asked_for_and_what_comes_then_has_to_follow():
    book = Joined(StreamState(Stream("x", "x", "X", "book_delta", contiguous=True)))
    assert book.snapshot(50, NOW)
    assert book.update(51, 52, NOW) == ()
    assert book.update(40, 52, NOW) == ()
    assert book.update(54, 55, NOW) == ("gap_before",)
    assert not book.in_sync
    assert book.update(5, 6, NOW) == ("gap_before",), "numbered anew"


# Polls and refusals


def test_liquidations_are_refused_with_words_that_say_so():
    for market in ("linear", "inverse"):
        with pytest.raises(MarketError, match="no forced orders in public"):
            VENUE.streams(market, ["liquidation"], ["XBTUSDTM"])


def test_settled_rates_are_asked_for_in_pieces_until_now():
    since = {"XBTUSDTM": NOW - 250 * HOUR}
    polled = Polled("funding_rate", ("XBTUSDTM",), HOUR, since=since)
    poll = VENUE.poller("linear", "n-1-1", polled, VENUE.ENDPOINTS["linear"])
    asked, now = list(poll.start(NOW)), NOW
    spans = []
    while asked and len(spans) < 9:
        (fetch,) = asked
        query = dict(part.split("=") for part in fetch.url.partition("?")[2].split("&"))
        spans.append((int(query["to"]) - int(query["from"])) * MS)
        row = {"symbol": "XBTUSDTM", "fundingRate": 1e-4, "timepoint": int(query["to"]) - 1000}
        out = poll.respond(fetch.tag, 200, {}, json.dumps({"code": "200000", "data": [row]}).encode(), now)
        assert isinstance(out[0], FundingRate)
        asked = list(poll.tick(now))
    assert len(spans) == 3
    assert max(spans) <= 100 * HOUR


def test_a_pool_that_is_used_up_is_left_alone_until_it_is_full():
    poll = VENUE.poller("spot", "n-1-1", Polled("book_snapshot", ("A", "B"), MINUTE), VENUE.ENDPOINTS["spot"])
    (fetch,) = poll.start(NOW)
    body = b'{"code":"429000","msg":"too many requests"}'
    poll.respond(fetch.tag, 429, {"gw-ratelimit-reset": "25000"}, body, NOW)
    assert poll.next_deadline() == NOW + 25 * SECOND


def test_a_candle_that_is_told_again_behind_the_next_one_is_open_close_high_low_too():
    made, _ = opened(["kline"])
    (name,) = made.states

    def candle(minute, *numbers):
        start = (NOW - NOW % MINUTE) // SECOND + 60 * minute
        data = {"symbol": "BTC-USDT", "candles": [str(start), *numbers], "time": (NOW + minute * MINUTE) * 1000}
        return made.receive(
            json.dumps({"topic": name, "type": "message", "data": data}).encode(), NOW + minute * MINUTE
        )

    assert candle(0, "1", "4", "5", "0.5", "7", "8") == ()
    assert len(candle(1, "4", "4", "4", "4", "0", "0")) == 1
    (row,) = candle(0, "1.1", "4.1", "5.1", "0.6", "7.1", "8.1")
    assert (row.open_time, row.open, row.high, row.low, row.close) == (NOW - NOW % MINUTE, "1.1", "5.1", "0.6", "4.1")
    assert (row.volume_base, row.volume_quote) == ("7.1", "8.1")
