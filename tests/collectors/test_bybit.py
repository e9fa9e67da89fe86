"""Bybit's sessions: what they ask for, how they are answered, and what becomes of a book whose updates break off."""

import itertools
import json

import pytest

from collectors import exchanges
from collectors.exchanges.bybit.markets import CHANNELS
from collectors.redundancy import merger_maker
from market.errors import MarketError
from market.kinds import BookDelta, Contract
from market.session import Acknowledged, Booked, Fetch, Informed, Leave, Polled, Refused, Rejected, Send
from market.times import DAY, HOUR, MINUTE, MS, SECOND

VENUE = exchanges.load("bybit")
NOW = 1_785_701_708_000_000


def session(kinds, symbols=("BTCUSDT",), market="linear", channels=None):
    streams = VENUE.streams(market, kinds, symbols, channels)
    (plan,) = VENUE.connections(market, streams, VENUE.ENDPOINTS[market])
    made = VENUE.session(plan, "n-1-1")
    return made, [json.loads(out.text) for out in made.start(NOW)]


def ack(number, *, success=True, message="", op="subscribe"):
    return json.dumps({"success": success, "ret_msg": message, "conn_id": "c", "req_id": number, "op": op}).encode()


def sent(outputs):
    return [json.loads(out.text) for out in outputs if isinstance(out, Send)]


def book(u, what="delta", at=NOW, symbol="BTCUSDT", price="1"):
    body = {"s": symbol, "b": [[price, "1"]], "a": [["2", "1"]], "u": u, "seq": u}
    head = {"topic": f"orderbook.200.{symbol}", "type": what, "ts": at // MS, "data": body, "cts": at // MS}
    return json.dumps(head, separators=(",", ":")).encode()


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


def test_requests_hold_ten_topics_and_their_answers_are_told_by_number():
    made, (first,) = session(["trade"], [f"S{n}" for n in range(25)])
    assert (first["op"], first["args"][0], len(first["args"])) == ("subscribe", "publicTrade.S0", 10)
    later = sent(out for _, out in run(made, NOW + SECOND))
    assert [len(one["args"]) for one in later] == [10, 5]
    assert len({one["req_id"] for one in (first, *later)}) == 3
    (taken,) = made.receive(ack(later[1]["req_id"]), NOW)
    assert isinstance(taken, Acknowledged)
    assert [stream.name for stream in taken.streams] == later[1]["args"]
    (oldest,) = made.receive(ack(""), NOW)
    assert [stream.name for stream in oldest.streams] == first["args"]


def test_a_refused_request_is_halved_until_the_topic_at_fault_stands_alone():
    made, (first,) = session(["trade"], ["A", "NOTASYMBOL", "B"])
    refused, taken, asked = [], [], [first]
    while asked:
        request = asked.pop()
        bad = any("NOTASYMBOL" in name for name in request["args"])
        message = "error:handler not found,topic:publicTrade.NOTASYMBOL" if bad else ""
        for out in made.receive(ack(request["req_id"], success=not bad, message=message), NOW):
            refused += [s.symbol for s in out.streams] if isinstance(out, Refused) else []
            taken += [s.symbol for s in out.streams] if isinstance(out, Acknowledged) else []
        asked += sent(out for _, out in run(made, NOW + SECOND))
    assert (refused, sorted(taken)) == (["NOTASYMBOL"], ["A", "B"])


def test_a_topic_that_is_subscribed_already_is_taken_on():
    made, (first,) = session(["trade"])
    answer = ack(first["req_id"], success=False, message="error:already subscribed,topic:publicTrade.BTCUSDT")
    assert [type(out) for out in made.receive(answer, NOW)] == [Acknowledged]


def test_an_error_that_no_request_explains_is_rejected():
    made, (first,) = session(["trade"])
    made.receive(ack(first["req_id"]), NOW)
    assert [type(out) for out in made.receive(ack("77", success=False, message="x"), NOW)] == [Rejected]


def test_the_client_pings_every_twenty_seconds_and_a_pong_keeps_the_socket():
    made, (first,) = session(["liquidation"])
    made.receive(ack(first["req_id"]), NOW)
    found = run(made, NOW + 5 * MINUTE, lambda ping: ack(ping["req_id"], message="pong", op="ping"))
    pings = [at for at, out in found if isinstance(out, Send)]
    assert all(b - a == 20 * SECOND for a, b in itertools.pairwise(pings))
    assert len(pings) == 15
    assert not any(isinstance(out, Leave) for _, out in found)


def test_without_a_pong_the_socket_is_dead_after_two_pings():
    made, (first,) = session(["liquidation"])
    made.receive(ack(first["req_id"]), NOW)
    leave = next((at, out) for at, out in run(made, NOW + 2 * MINUTE) if isinstance(out, Leave))
    assert leave[1].cause == "silence"
    assert leave[0] - NOW <= 60 * SECOND


def test_streams_that_begin_with_a_whole_and_send_nothing_are_given_up_in_spite_of_pongs():
    made, (first,) = session(["book_delta", "quote", "mark_price"])
    made.receive(ack(first["req_id"]), NOW)
    found = run(made, NOW + MINUTE, lambda ping: ack(ping["req_id"], message="pong", op="ping"))
    assert next(out.cause for _, out in found if isinstance(out, Leave)) == "no_first_message"


# Books


def test_a_book_is_known_from_its_first_frame_on():
    made, (first,) = session(["book_delta"])
    assert isinstance(made, Booked)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    (row,) = made.receive(book(100, "snapshot"), NOW)
    assert (row.flags, row.first_id, row.last_id, row.source) == (("snapshot",), None, 100, "ws")
    made.receive(ack(first["req_id"]), NOW)
    (row,) = made.receive(book(101), NOW)
    assert (row.flags, row.first_id, row.last_id) == ((), 101, 101)
    assert made.books_out_of_sync() == made.books_asked() == []
    assert sent(out for _, out in run(made, NOW + 10 * SECOND)) == []


def test_a_missing_update_subscribes_to_the_topic_anew_and_to_no_other():
    made, (first,) = session(["book_delta"], ["BTCUSDT", "ETHUSDT"])
    made.receive(ack(first["req_id"]), NOW)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made.receive(book(100, "snapshot", symbol=symbol), NOW)
    (row,) = made.receive(book(102), NOW)
    assert row.flags == ("gap_before",)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    asked = sent(out for _, out in run(made, NOW + SECOND // 2))
    assert [(one["op"], one["args"]) for one in asked] == [
        ("unsubscribe", ["orderbook.200.BTCUSDT"]), ("subscribe", ["orderbook.200.BTCUSDT"]),
    ]  # fmt: skip
    for one in asked:
        assert made.receive(ack(one["req_id"], op=one["op"]), NOW) == ()
    (row,) = made.receive(book(110, "snapshot"), NOW)
    assert (row.flags, made.books_out_of_sync()) == (("snapshot",), [])


def test_a_whole_under_the_id_of_the_update_behind_a_hole_begins_the_book():
    made, _ = session(["book_delta"])
    held = merger_maker(VENUE, "linear")("book_delta")
    frames = [book(100, "snapshot"), book(102), book(102, "snapshot"), book(102, "snapshot"), book(103)]
    rows = [row for frame in frames for row in made.receive(frame, NOW) if held.merge(row)]
    told = [(row.last_id, row.flags) for row in rows]
    assert told == [(100, ("snapshot",)), (102, ("gap_before",)), (102, ("snapshot",)), (103, ())]
    assert (made.books_out_of_sync(), held.known("BTCUSDT")) == ([], 103)


def test_a_whole_that_does_not_come_is_asked_for_again_and_ever_more_patiently():
    made, (first,) = session(["book_delta"])
    made.receive(ack(first["req_id"]), NOW)
    made.receive(book(100, "snapshot"), NOW)
    made.receive(book(102), NOW)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    answers = run(made, NOW + 12 * SECOND, lambda one: ack(one["req_id"], op=one["op"]))
    times = [at for at, out in answers if isinstance(out, Send) and '"unsubscribe"' in out.text]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == 4
    assert all(b >= 2 * a - SECOND for a, b in itertools.pairwise(gaps))


def test_a_restart_of_the_service_clears_the_book_before_its_whole():
    made, _ = session(["book_delta"])
    made.receive(book(100, "snapshot"), NOW)
    clear, whole = made.receive(book(1, "snapshot", NOW + SECOND), NOW + SECOND)
    assert (clear.flags, clear.last_id, clear.item) == (("clear",), None, 0)
    assert (whole.flags, whole.last_id, whole.item) == (("snapshot",), 1, 1)
    (row,) = made.receive(book(2, at=NOW + 2 * SECOND), NOW + 2 * SECOND)
    assert row.flags == ()


def test_a_book_whose_updates_were_given_up_begins_anew_when_they_are_stored_again():
    made, (first,) = session(["book_delta"])
    made.receive(ack(first["req_id"]), NOW)
    made.receive(book(100, "snapshot"), NOW)
    made.books_given_up(["BTCUSDT"])
    assert made.books_out_of_sync() == ["BTCUSDT"]
    assert sent(out for _, out in run(made, NOW + 5 * SECOND)) == []
    made.books_stored_again(["BTCUSDT"])
    assert [one["op"] for one in sent(out for _, out in run(made, NOW + SECOND // 2))] == ["unsubscribe", "subscribe"]
    (row,) = made.receive(book(100, "snapshot"), NOW)
    assert isinstance(row, BookDelta)
    assert made.books_out_of_sync() == []


def test_twins_tell_a_restart_once_and_a_late_one_of_them_opens_no_hole():
    made = [session(["book_delta"])[0] for _ in range(2)]
    for number, one in enumerate(made):
        one.session_id = f"n-{number}-1"
    frames = [(book(100, "snapshot"), NOW), (book(101), NOW), (book(1, "snapshot", NOW + SECOND), NOW + SECOND),
              (book(2, at=NOW + 2 * SECOND), NOW + 2 * SECOND)]  # fmt: skip
    held = merger_maker(VENUE, "linear")("book_delta")
    new = [held.merge(row) for frame, at in frames for row in made[0].receive(frame, at)]
    assert new == [True] * 5
    assert not any(held.merge(row) for frame, at in frames for row in made[1].receive(frame, at))
    assert {gap.cause for gap in held.tick(NOW + HOUR)} == {"id_reset"}


def test_a_restart_right_behind_another_one_is_one_too_and_the_same_whole_told_again_is_none():
    made = [session(["book_delta"])[0] for _ in range(2)]
    for number, one in enumerate(made):
        one.session_id = f"n-{number}-1"
    frames = [(book(100, "snapshot"), NOW)]
    frames += [
        (book(1, "snapshot", NOW + n * SECOND, price=price), NOW + n * SECOND) for n, price in ((1, "0.8"), (2, "0.7"))
    ]
    frames += [
        (book(2, at=NOW + 3 * SECOND), NOW + 3 * SECOND),
        (book(1, "snapshot", NOW + 4 * SECOND), NOW + 4 * SECOND),
    ]
    frames += [
        (book(1, "snapshot", NOW + 5 * SECOND), NOW + 5 * SECOND),
        (book(2, at=NOW + 6 * SECOND), NOW + 6 * SECOND),
    ]
    held = merger_maker(VENUE, "linear")("book_delta")
    new = [row for frame, at in frames for row in made[0].receive(frame, at) if held.merge(row)]
    told = [(row.flags, row.last_id, row.ts_event - NOW) for row in new if row.last_id is not None]
    seconds = [(id_, at // SECOND) for _, id_, at in told]
    assert seconds == [(100, 0), (1, 1), (1, 2), (2, 3), (1, 4), (2, 6)]
    assert sum(row.flags == ("clear",) for row in new) == 3
    assert not any(held.merge(row) for frame, at in frames for row in made[1].receive(frame, at))
    resets = {gap.gap_id: gap for gap in held.tick(NOW + HOUR)}.values()
    assert [(gap.cause, gap.ts_from - NOW) for gap in resets] == [("id_reset", n * SECOND) for n in (0, 1, 3)]


# Configuration


@pytest.mark.parametrize(
    "market,kind,words",
    [("spot", "liquidation", "spot has no forced orders"), ("linear", "agg_trade", "collect trade"),
     ("spot", "open_interest", "no open interest")],
)  # fmt: skip
def test_a_cell_that_the_venue_does_not_offer_is_refused_in_words(market, kind, words):
    with pytest.raises(MarketError, match=words):
        VENUE.streams(market, [kind], ["BTCUSDT"])


def test_a_channel_of_another_kind_is_refused():
    with pytest.raises(MarketError, match=r"orderbook\.200, orderbook\.50, orderbook\.1000"):
        VENUE.streams("spot", ["book_delta"], ["X"], {"book_delta": "orderbook.1"})


# Polls


def poll(kind, market="linear", symbols=("BTCUSDT",), **more):
    return VENUE.poller(market, "n-1-1", Polled(kind, symbols, HOUR, **more), VENUE.ENDPOINTS[market])


def body(result, code=0):
    return json.dumps({"retCode": code, "retMsg": "", "result": result, "time": NOW // MS}).encode()


def test_settled_funding_of_months_is_asked_for_in_pieces_that_one_answer_holds():
    since = NOW - 1000 * HOUR
    made = poll("funding_rate", since={"BTCUSDT": since})
    asked, windows = list(made.start(NOW)), []
    while asked and len(windows) < 20:
        (fetch,) = asked
        query = dict(part.split("=") for part in fetch.url.partition("?")[2].split("&"))
        windows.append((int(query["startTime"]) * MS, int(query["endTime"]) * MS))
        made.respond(fetch.tag, 200, {}, body({"list": []}), NOW)
        asked = list(made.tick(NOW))
    assert windows[0][0] == since
    assert windows[-1][1] == NOW
    assert all(end - start <= 200 * HOUR for start, end in windows)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(windows))


def test_the_interval_of_a_rate_is_what_the_listing_says():
    made = poll("funding_rate")
    assert isinstance(made, Informed)
    contracts = poll("contract").respond("instruments-info", 200, {}, body({"list": [LISTED]}), NOW)
    made.know(next(out for out in contracts if isinstance(out, Contract)))
    (fetch,) = made.start(NOW)
    row = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": "1785686400000"}
    (rate,) = made.respond(fetch.tag, 200, {}, body({"list": [row]}), NOW)
    assert rate.interval_s == 4 * 3600


LISTED = {
    "symbol": "BTCUSDT", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT",
    "lotSizeFilter": {}, "priceFilter": {}, "contractType": "LinearPerpetual", "fundingInterval": 240,
}  # fmt: skip


def test_too_many_visits_wait_until_the_venue_says_and_forbidden_for_ten_minutes():
    made = poll("open_interest")
    (fetch,) = made.start(NOW)
    reset = {"X-Bapi-Limit-Reset-Timestamp": str((NOW + 20 * SECOND) // MS)}
    made.respond(fetch.tag, 200, reset, body({}, 10006), NOW)
    assert made.next_deadline() == NOW + 20 * SECOND
    made.respond(fetch.tag, 403, {}, b"<html>", NOW)
    assert made.next_deadline() == NOW + 10 * MINUTE


def test_pages_of_instruments_follow_and_what_two_lists_lack_is_gone():
    made = poll("contract", symbols=())
    (first,) = made.start(NOW)
    made.respond(first.tag, 200, {}, body({"list": [LISTED], "nextPageCursor": "a=b"}), NOW)
    (second,) = made.tick(NOW)
    assert isinstance(second, Fetch)
    assert second.url.endswith("&cursor=a%3Db")
    out = made.respond(second.tag, 200, {}, body({"list": [{**LISTED, "symbol": "ETHUSDT"}]}), NOW)
    assert [one.symbol for one in out] == ["ETHUSDT"]
    for at in (NOW + HOUR, NOW + HOUR + MINUTE):
        assert made.next_deadline() == at
        (again,) = made.tick(at)
        out = made.respond(again.tag, 200, {}, body({"list": [LISTED]}), at)
    assert [(one.symbol, one.status) for one in out] == [("BTCUSDT", "Trading"), ("ETHUSDT", "DELISTED")]


# What each channel of candles is called, by the venue and by us, and how long its candles are.
CANDLES = {
    "1": ("1m", MINUTE), "3": ("3m", 3 * MINUTE), "5": ("5m", 5 * MINUTE), "15": ("15m", 15 * MINUTE),
    "30": ("30m", 30 * MINUTE), "60": ("1h", HOUR), "120": ("2h", 2 * HOUR), "240": ("4h", 4 * HOUR),
    "360": ("6h", 6 * HOUR), "720": ("12h", 12 * HOUR), "D": ("1d", DAY), "W": ("1w", 7 * DAY), "M": ("1M", 31 * DAY),
}  # fmt: skip


@pytest.mark.parametrize("spelt", CANDLES)
def test_every_interval_of_candles_is_named_and_as_long_as_it_says(spelt):
    offered = [one for one in CHANNELS["spot"] if one.startswith("kline.")]
    assert sorted(offered) == sorted(f"kline.{one}" for one in CANDLES)
    interval, width = CANDLES[spelt]
    opened = 1_785_542_400_000_000  # 2026-08-01
    end = opened + width
    made, (request,) = session(["kline"], market="spot", channels={"kline": f"kline.{spelt}"})
    assert request["args"] == [f"kline.{spelt}.BTCUSDT"]
    row = {
        "start": opened // MS, "end": end // MS - 1, "interval": spelt, "open": "1", "close": "2", "high": "3",
        "low": "0.5", "volume": "10", "turnover": "20", "confirm": True, "timestamp": end // MS,
    }  # fmt: skip
    frame = json.dumps({"topic": request["args"][0], "data": [row], "ts": end // MS, "type": "snapshot"}).encode()
    (candle,) = made.receive(frame, end + SECOND)
    assert (candle.interval, candle.open_time, candle.ts_event) == (interval, opened, end - MS)


def ticker(what, **said):
    data = {"symbol": "BTCUSDT", **said}
    return json.dumps({"topic": "tickers.BTCUSDT", "type": what, "data": data, "cs": 1, "ts": NOW // MS}).encode()


def test_a_whole_ticker_forgets_what_the_one_before_it_said_and_a_change_keeps_it():
    made, _ = session(["mark_price"])
    due = NOW + HOUR
    first = ticker("snapshot", markPrice="10", indexPrice="11", fundingRate="0.1", nextFundingTime=str(due // MS))
    frames = [
        first,
        ticker("delta", markPrice="12"),
        ticker("snapshot", markPrice="13"),
        ticker("delta", indexPrice="14"),
    ]
    rows = [row for frame in frames for row in made.receive(frame, NOW)]
    assert [(row.mark, row.index, row.predicted_rate, row.next_funding) for row in rows] == [
        ("10", "11", "0.1", due), ("12", "11", "0.1", due), ("13", None, None, None), ("13", "14", None, None),
    ]  # fmt: skip


def test_a_field_that_a_change_empties_is_known_no_more():
    made, _ = session(["mark_price"])
    made.receive(ticker("snapshot", markPrice="10", indexPrice="11", fundingRate="0.1", nextFundingTime="0"), NOW)
    (row,) = made.receive(ticker("delta", fundingRate="", indexPrice=""), NOW)
    assert (row.mark, row.index, row.predicted_rate, row.next_funding) == ("10", None, None, None)
