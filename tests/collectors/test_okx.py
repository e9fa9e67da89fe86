"""OKX's sessions: what they ask for, how they are answered, and what becomes of a book whose updates break off."""

import itertools
import json

import msgspec
import pytest

from collectors import exchanges
from collectors.exchanges.okx.klines import end_of
from collectors.exchanges.okx.markets import CHANNELS
from collectors.redundancy import merger_maker
from market.errors import MarketError
from market.kinds import AggTrade, BookDelta, Contract, Trade
from market.session import (
    EVERY_SYMBOL,
    Acknowledged,
    Booked,
    Heeding,
    Informed,
    Leave,
    Polled,
    Refused,
    Rejected,
    Send,
)
from market.times import DAY, HOUR, MINUTE, MS, SECOND

VENUE = exchanges.load("okx")
NOW = 1_785_701_708_000_000
SWAP = "BTC-USDT-SWAP"


def sessions(kinds, symbols=("BTC-USDT",), market="spot", channels=None):
    streams = VENUE.streams(market, kinds, symbols, channels)
    return [VENUE.session(plan, "n-1-1") for plan in VENUE.connections(market, streams, VENUE.ENDPOINTS[market])]


def session(kinds, symbols=("BTC-USDT",), market="spot", channels=None):
    (made,) = sessions(kinds, symbols, market, channels)
    return made, sent(made.start(NOW))


def ack(request, *, event=None, args=None):
    """The answers to a request, one an argument."""
    names = request["args"] if args is None else args
    head = {"id": request["id"], "event": event or request["op"]}
    return [json.dumps(head | {"arg": arg, "connId": "c"}, separators=(",", ":")).encode() for arg in names]


def error(code="60018", message="Subscribe failed, wrong URL or channel:x,instId:y doesn't exist.", **more):
    return json.dumps({"event": "error", "code": code, "msg": message, "connId": "c", **more}).encode()


def sent(outputs):
    return [json.loads(out.text) for out in outputs if isinstance(out, Send) and out.text != "ping"]


def book(before, last, *, at=NOW, symbol="BTC-USDT", action="update", levels=True):
    side = [["1", "1", "0", "1"]] if levels else []
    data = {"asks": side, "bids": [], "ts": str(at // MS), "prevSeqId": before, "seqId": last}
    head = {"arg": {"channel": "books", "instId": symbol}, "action": action, "data": [data]}
    return json.dumps(head, separators=(",", ":")).encode()


def whole(last, **more):
    return book(-1, last, action="snapshot", **more)


def forced(*, at=NOW, symbol=SWAP):
    order = {"bkLoss": "0", "bkPx": "9.5", "ccy": "", "posSide": "net", "side": "sell", "sz": "13", "ts": str(at // MS)}
    data = {"details": [order], "instFamily": "BTC-USDT", "instId": symbol, "instType": "SWAP", "uly": "BTC-USDT"}
    head = {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [data]}
    return json.dumps(head, separators=(",", ":")).encode()


def fill(number, *, at=NOW, symbol="BTC-USDT", channel="trades-all"):
    row = {"instId": symbol, "tradeId": str(number), "px": "1.5", "sz": "2", "side": "buy", "ts": str(at // MS)}
    return json.dumps({"arg": {"channel": channel, "instId": symbol}, "data": [row]}, separators=(",", ":")).encode()


def run(made, until, answer=None, start=NOW):
    """Everything that is due up to a time."""
    out, now = [], start
    while (due := made.next_deadline()) is not None and due <= until:
        now = max(now, due)
        for one in made.tick(now):
            out.append((now, one))
            if answer is not None and isinstance(one, Send):
                made.receive(answer(one.text), now)
            if isinstance(one, Leave):
                return out
    return out


def contract(symbol=SWAP, worth="0.01"):
    return Contract(
        symbol, "public/instruments", NOW, None, NOW, "n-0-1", 1, 0, "rest", uid=symbol, unified=None, base=None,
        quote=None, settle=None, tick=None, lot=None, multiplier=worth, contract_size=worth, status="live", listed=None,
        expiry=None, funding_interval_s=None, valid_from=None, valid_to=None, known_from=NOW, known_to=None,
    )  # fmt: skip


# Requests and answers


def test_connections_are_made_by_path_and_carry_few_books():
    symbols = [f"S{n}-USDT" for n in range(60)]
    streams = VENUE.streams("spot", ["trade", "quote", "book_delta", "kline"], symbols)
    made = VENUE.connections("spot", streams, VENUE.ENDPOINTS["spot"])
    carried = {}
    for one in made:
        carried.setdefault(one.name.rpartition("-")[0], []).append((one.url.rpartition("/")[2], len(one.streams)))
    assert carried == {
        "okx-spot-public": [("public", 60)], "okx-spot-books": [("public", 20)] * 3,
        "okx-spot-business": [("business", 60)] * 2,
    }  # fmt: skip


def test_a_request_is_acknowledged_when_each_of_its_arguments_was():
    made, (first,) = session(["quote"], ["A-USDT", "B-USDT", "C-USDT"])
    assert first["args"] == [{"channel": "bbo-tbt", "instId": f"{base}-USDT"} for base in "ABC"]
    *some, last = ack(first)
    assert [made.receive(one, NOW) for one in some] == [(), ()]
    (taken,) = made.receive(last, NOW)
    assert isinstance(taken, Acknowledged)
    assert len(taken.streams) == 3
    assert made.receive(last, NOW) == ()


def test_a_refused_request_is_halved_until_the_argument_at_fault_stands_alone():
    made, (first,) = session(["quote"], ["A-USDT", "NOPE-USDT", "B-USDT"])
    refused, taken, asked = [], [], [first]
    while asked:
        request = asked.pop()
        bad = any(arg["instId"] == "NOPE-USDT" for arg in request["args"])
        for one in [error(id=request["id"])] if bad else ack(request):
            for out in made.receive(one, NOW):
                refused += [s.symbol for s in out.streams] if isinstance(out, Refused) else []
                taken += [s.symbol for s in out.streams] if isinstance(out, Acknowledged) else []
        asked += sent(out for _, out in run(made, NOW + SECOND))
    assert (refused, sorted(taken)) == (["NOPE-USDT"], ["A-USDT", "B-USDT"])


def test_answers_that_come_after_the_error_of_their_request_change_nothing():
    made, (first,) = session(["quote"], ["A-USDT", "B-USDT"])
    one, other = ack(first)
    assert made.receive(one, NOW) == ()
    assert made.receive(error(id=first["id"]), NOW) == ()
    assert made.receive(other, NOW) == ()
    assert [len(again["args"]) for again in sent(out for _, out in run(made, NOW + SECOND))] == [1, 1]


def test_asked_too_often_refuses_nothing_and_is_asked_again():
    made, (first,) = session(["quote"])
    assert made.receive(error("60014", "Requests too frequent", id=first["id"]), NOW) == ()
    assert made.ignored["error 60014"] == 1
    again = sent(out for _, out in run(made, NOW + 11 * SECOND))
    assert [one["args"] for one in again] == [first["args"]]


def test_an_error_that_no_request_explains_is_rejected():
    made, (first,) = session(["quote"])
    for one in ack(first):
        made.receive(one, NOW)
    assert [type(out) for out in made.receive(error(id="77"), NOW)] == [Rejected]


def test_the_client_pings_with_a_text_and_a_pong_keeps_the_socket():
    made, (first,) = session(["trade"])
    for one in ack(first):
        made.receive(one, NOW)
    found = run(made, NOW + 5 * MINUTE, lambda _: b"pong")
    pings = [at for at, out in found if isinstance(out, Send) and out.text == "ping"]
    assert len(pings) == 15
    assert all(b - a == 20 * SECOND for a, b in itertools.pairwise(pings))
    assert not any(isinstance(out, Leave) for _, out in found)


def test_without_a_pong_the_socket_is_dead():
    made, (first,) = session(["trade"])
    for one in ack(first):
        made.receive(one, NOW)
    leave = next((at, out) for at, out in run(made, NOW + 2 * MINUTE) if isinstance(out, Leave))
    assert (leave[1].cause, leave[0] - NOW <= 70 * SECOND) == ("silence", True)


def test_the_notice_of_an_upgrade_is_left_before_it_happens():
    made, _ = session(["trade"])
    notice = json.dumps({"event": "notice", "code": "64008", "msg": "soon", "connId": "c"}).encode()
    (leave,) = made.receive(notice, NOW)
    assert (type(leave), leave.cause) == (Leave, "server_shutdown")


# Books


def test_the_documented_chain_is_followed_and_the_book_begun_anew_behind_a_reset():
    made, (first,) = session(["book_delta"])
    assert isinstance(made, Booked)
    for one in ack(first):
        made.receive(one, NOW)
    (row,) = made.receive(whole(10), NOW)
    assert (row.flags, row.prev_id, row.last_id) == (("snapshot",), None, 10)
    (row,) = made.receive(book(10, 15), NOW)
    assert (row.flags, row.prev_id, row.last_id) == ((), 10, 15)
    assert made.receive(book(15, 15, levels=False), NOW) == ()
    assert made.books_out_of_sync() == []
    clear, row = made.receive(book(15, 3), NOW)
    assert (clear.flags, clear.last_id, row.flags, row.prev_id, row.last_id) == (("clear",), None, (), 15, 3)
    assert made.books_out_of_sync() == ["BTC-USDT"]
    (row,) = made.receive(book(3, 5), NOW)
    assert row.flags == ()
    asked = sent(out for _, out in run(made, NOW + 3 * SECOND // 4))
    assert [(one["op"], one["args"]) for one in asked] == [("unsubscribe", first["args"]), ("subscribe", first["args"])]
    for request in asked:
        assert [made.receive(one, NOW) for one in ack(request)] == [()]
    (row,) = made.receive(whole(7), NOW)
    assert (row.flags, made.books_out_of_sync()) == (("snapshot",), [])


def test_a_missing_change_subscribes_to_its_argument_anew_and_to_no_other():
    made, (first,) = session(["book_delta"], ["A-USDT", "B-USDT"])
    for one in ack(first):
        made.receive(one, NOW)
    for symbol in ("A-USDT", "B-USDT"):
        made.receive(whole(100, symbol=symbol), NOW)
    (row,) = made.receive(book(104, 110, symbol="A-USDT"), NOW)
    assert row.flags == ("gap_before",)
    asked = sent(out for _, out in run(made, NOW + 3 * SECOND // 4))
    assert [one["args"] for one in asked] == [[{"channel": "books", "instId": "A-USDT"}]] * 2
    (row,) = made.receive(whole(110, symbol="A-USDT"), NOW)
    assert (row.flags, made.books_out_of_sync()) == (("snapshot",), [])
    assert made.receive(whole(110, symbol="A-USDT"), NOW) == ()


def test_an_unchanged_book_under_another_id_proves_that_a_change_is_missing():
    made, _ = session(["book_delta"])
    made.receive(whole(100), NOW)
    assert made.receive(book(105, 105, levels=False), NOW) == ()
    assert made.books_out_of_sync() == ["BTC-USDT"]
    (row,) = made.receive(whole(105), NOW)
    assert (row.flags, made.books_out_of_sync()) == (("snapshot",), [])


def test_a_whole_of_a_new_numbering_clears_the_book_and_one_a_little_behind_is_asked_for_again():
    made, _ = session(["book_delta"])
    made.receive(whole(100), NOW)
    assert made.receive(whole(99), NOW) == ()
    assert made.books_out_of_sync() == ["BTC-USDT"]
    clear, row = made.receive(whole(5), NOW)
    assert (clear.flags, row.flags, row.last_id) == (("clear",), ("snapshot",), 5)


def test_books_are_not_begun_anew_more_often_than_commands_allow():
    made, (first,) = session(["book_delta"], [f"S{n}-USDT" for n in range(20)])
    for one in ack(first):
        made.receive(one, NOW)
    for n in range(20):
        made.receive(whole(100, symbol=f"S{n}-USDT"), NOW)
        made.receive(book(104, 110, symbol=f"S{n}-USDT"), NOW)
    alive = b'{"arg":{"channel":"tickers","instId":"X"},"data":[]}'
    out, now = [], NOW
    while (due := made.next_deadline()) is not None and due < NOW + HOUR:
        now = max(now, due)
        out += sent(made.tick(now))
        made.receive(alive, now)
    assert len(out) <= 480
    assert sum(len(one["args"]) for one in out) <= 2 * 180


def test_a_book_whose_updates_were_given_up_begins_anew_when_they_are_stored_again():
    made, (first,) = session(["book_delta"])
    for one in ack(first):
        made.receive(one, NOW)
    made.receive(whole(100), NOW)
    made.books_given_up(["BTC-USDT"])
    assert sent(out for _, out in run(made, NOW + 5 * SECOND)) == []
    made.books_stored_again(["BTC-USDT"])
    assert [one["op"] for one in sent(out for _, out in run(made, NOW + 3 * SECOND // 4))] == [
        "unsubscribe",
        "subscribe",
    ]
    (row,) = made.receive(whole(100), NOW)
    assert isinstance(row, BookDelta)


# Trades


@pytest.mark.parametrize("kind, channel", [("trade", "trades-all"), ("agg_trade", "trades")])
def test_the_last_one_before_the_subscription_is_history_unless_the_symbol_is_known(kind, channel):
    held = merger_maker(VENUE, "spot")(kind)
    conditions = []
    for number in (1, 2):
        (made,) = sessions([kind])
        made.session_id = f"n-{number}-1"
        (request,) = sent(made.start(NOW))
        for one in ack(request):
            made.receive(one, NOW)
        ids = ((10, NOW - 20 * SECOND), (11, NOW)) if number == 1 else ((13, NOW - 20 * SECOND), (14, NOW + SECOND))
        for one, at in ids:
            (row,) = made.receive(fill(one, at=at, channel=channel), NOW + SECOND)
            assert isinstance(row, Trade if kind == "trade" else AggTrade)
            assert held.merge(row)
            conditions.append(row.condition)
        (state,) = made.streams()
        assert state.first_event == NOW, "nothing is covered before it was asked for"
    assert conditions == ["history", "market", "market", "market"]
    (gap,) = held.tick(NOW + HOUR)
    assert (gap.id_from, gap.id_to) == ((12, 13) if kind == "trade" else (None, None)), "aggregates leave ids out"


def test_what_an_argument_begins_with_is_history_though_others_of_its_request_are_not_acknowledged_yet():
    (made,) = sessions(["trade"], ["A-USDT", "B-USDT"])
    (request,) = sent(made.start(NOW))
    first, second = ack(request)
    assert made.receive(first, NOW) == ()
    (row,) = made.receive(fill(1, at=NOW - 20 * SECOND, symbol="A-USDT"), NOW)
    assert row.condition == "history"
    (taken,) = made.receive(second, NOW)
    assert len(taken.streams) == 2


@pytest.mark.parametrize("kind,channel", [("trade", "trades-all"), ("agg_trade", "trades")])
def test_what_comes_before_the_answer_is_history_as_of_when_it_was_asked_for(kind, channel):
    (made,) = sessions([kind])
    made.start(NOW)
    (row,) = made.receive(fill(1, at=NOW - 20 * SECOND, channel=channel), NOW)
    assert row.condition == "history"


def test_forced_orders_that_come_again_with_a_new_connection_are_told_once():
    held = merger_maker(VENUE, "linear")("liquidation")
    for number, new in ((1, [True]), (2, [False])):
        (made,) = sessions(["liquidation"], [SWAP], "linear")
        made.session_id = f"n-{number}-1"
        made.know(contract())
        (request,) = sent(made.start(NOW))
        for one in ack(request):
            made.receive(one, NOW)
        assert [held.merge(row) for row in made.receive(forced(at=NOW - HOUR), NOW)] == new
        (state,) = made.streams()
        assert state.first_event == NOW, "nothing is covered before it was asked for"
        if number == 1:
            (begun,) = held.interrupt("n-1-1", [EVERY_SYMBOL], "disconnect", NOW + SECOND, NOW)
    held.acknowledged("n-2-1", [EVERY_SYMBOL], NOW + MINUTE)
    (gap,) = held.tick(NOW + HOUR)
    assert (gap.gap_id, gap.ts_to, gap.state) == (begun.gap_id, NOW + MINUTE, "open")


def test_contracts_are_not_told_before_it_is_known_what_they_are_worth():
    (made,) = sessions(["trade"], [SWAP], "linear")
    assert isinstance(made, Informed)
    assert list(made.start(NOW)) == []
    assert made.next_deadline() == NOW + 2 * SECOND
    made.know(contract())
    assert len(sent(made.tick(NOW + SECOND))) == 1
    (row,) = made.receive(fill(1, symbol=SWAP), NOW)
    assert (row.qty, row.qty_unit, row.multiplier) == ("2", "contract", "0.01")


def test_where_nobody_says_what_they_are_worth_they_are_asked_for_and_set_aside():
    (made,) = sessions(["trade"], [SWAP], "linear")
    made.start(NOW)
    assert len(sent(out for _, out in run(made, NOW + 2 * SECOND))) == 1
    for number in range(1, 300):
        outputs = made.receive(fill(number, symbol=SWAP), NOW + 2 * SECOND)
        assert [type(out) for out in outputs] == [Rejected], "and it is no garbage: the connection goes on"


def test_a_recorded_request_names_the_streams_of_a_replay():
    streams = VENUE.streams("linear", ["liquidation", "quote"], [SWAP, "BTC-USDT-261225"])
    (plan,) = VENUE.connections("linear", streams, VENUE.ENDPOINTS["linear"])
    assert {s.name for s in streams if s.kind == "liquidation"} == {
        "liquidation-orders:SWAP",
        "liquidation-orders:FUTURES",
    }
    (request,) = VENUE.session(plan, "n-1-1").start(NOW)
    learning = VENUE.session(msgspec.structs.replace(plan, streams=()), "n-1-1", learn=True)
    assert isinstance(learning, Heeding)
    learning.sent(request.text, NOW)
    assert {state.stream for state in learning.streams()} == set(streams)
    assert [learning.receive(one, NOW) for one in ack(json.loads(request.text))[:-1]] == [()] * 3
    assert [bool(state.acknowledged_at) for state in learning.streams()].count(False) == 1
    (taken,) = learning.receive(ack(json.loads(request.text))[-1], NOW)
    assert set(taken.streams) == set(streams)


# Configuration


@pytest.mark.parametrize(
    "market,kind,words",
    [("spot", "liquidation", "spot has no forced orders"), ("spot", "mark_price", "no mark price"),
     ("spot", "open_interest", "no open interest")],
)  # fmt: skip
def test_a_cell_that_the_venue_does_not_offer_is_refused_in_words(market, kind, words):
    with pytest.raises(MarketError, match=words):
        VENUE.streams(market, [kind], ["BTC-USDT"])


def test_a_channel_of_another_kind_and_a_candle_of_another_time_zone_are_refused():
    with pytest.raises(MarketError, match="one of bbo-tbt"):
        VENUE.streams("spot", ["quote"], ["X"], {"quote": "books"})
    with pytest.raises(MarketError, match="candle1Dutc"):
        VENUE.streams("spot", ["kline"], ["X"], {"kline": "candle1D"})


def test_candles_end_where_the_next_one_begins():
    january = 1_767_225_600_000_000
    assert end_of(january, "1M") == january + 31 * DAY
    assert end_of(end_of(january, "1M"), "1M") == january + 59 * DAY
    assert [end_of(0, one) for one in ("1s", "15m", "4h", "1d", "1w")] == [SECOND, 15 * MINUTE, 4 * HOUR, DAY, 7 * DAY]


# What each channel of candles is called, by the venue and by us, and how long its candles are.
CANDLES = {
    "1s": ("1s", SECOND), "1m": ("1m", MINUTE), "3m": ("3m", 3 * MINUTE), "5m": ("5m", 5 * MINUTE),
    "15m": ("15m", 15 * MINUTE), "30m": ("30m", 30 * MINUTE), "1H": ("1h", HOUR), "2H": ("2h", 2 * HOUR),
    "4H": ("4h", 4 * HOUR), "6Hutc": ("6h", 6 * HOUR), "12Hutc": ("12h", 12 * HOUR), "1Dutc": ("1d", DAY),
    "1Wutc": ("1w", 7 * DAY), "1Mutc": ("1M", 31 * DAY),
}  # fmt: skip


@pytest.mark.parametrize("spelt", CANDLES)
def test_every_interval_of_candles_is_named_and_as_long_as_it_says(spelt):
    offered = [one for one in CHANNELS["spot"] if one.startswith("candle")]
    assert sorted(offered) == sorted(f"candle{one}" for one in CANDLES), "without utc they open at UTC+8"
    interval, width = CANDLES[spelt]
    opened = 1_785_542_400_000_000  # 2026-08-01
    made, (request,) = session(["kline"], channels={"kline": f"candle{spelt}"})
    assert request["args"] == [{"channel": f"candle{spelt}", "instId": "BTC-USDT"}]
    row = [str(opened // MS), "1", "3", "0.5", "2", "10", "20", "20", "1"]
    frame = json.dumps({"arg": request["args"][0], "data": [row]}, separators=(",", ":")).encode()
    (candle,) = made.receive(frame, opened + width + SECOND)
    assert (candle.interval, candle.open_time, candle.ts_event) == (interval, opened, opened + width - MS)


# Polls


def poll(kind, market="linear", symbols=(SWAP,), **more):
    return VENUE.poller(market, "n-1-1", Polled(kind, symbols, HOUR, **more), VENUE.ENDPOINTS[market])


def body(data, code="0"):
    return json.dumps({"code": code, "msg": "", "data": data}).encode()


def rate(at):
    return {"instId": SWAP, "realizedRate": "0.0001", "fundingRate": "0.0002", "fundingTime": str(at // MS)}


def test_settled_funding_is_gone_back_to_what_is_stored_page_by_page():
    hour = NOW - NOW % HOUR
    since = hour - 1000 * HOUR
    held = [hour - n * HOUR for n in range(1500)]
    made = poll("funding_rate", since={SWAP: since})
    asked, got = list(made.start(NOW)), []
    for _ in range(20):
        if not asked:
            break
        (fetch,) = asked
        query = dict(part.split("=") for part in fetch.url.partition("?")[2].split("&"))
        older, newer = int(query.get("after", 2**62)), int(query.get("before", 0))
        page = [at for at in held if newer < at // MS < older][: int(query["limit"])]
        got += [out.ts_event for out in made.respond(fetch.tag, 200, {}, body([rate(at) for at in page]), NOW)]
        asked = list(made.tick(NOW))
    assert {at for at in held if at >= since} <= set(got)
    assert len(got) == 1200
    (fetch,) = made.tick(NOW + HOUR)
    assert f"before={hour // MS - 1}" in fetch.url


@pytest.mark.parametrize("status,code", [(429, "50011"), (200, "50011"), (200, "50013")])
def test_too_many_requests_make_everything_wait(status, code):
    made = poll("funding_rate", symbols=(SWAP, "ETH-USDT-SWAP"))
    (fetch, *_) = made.start(NOW)
    made.respond(fetch.tag, status, {}, body([], code), NOW)
    assert made.next_deadline() >= NOW + 2 * SECOND
    assert list(made.tick(NOW + 2 * SECOND - 1)) == []


def test_a_polled_book_is_as_deep_as_the_route_gives():
    """Without a number it would be one level."""
    for wanted, given in ((1000, 400), (50, 50)):
        (fetch, *_) = poll("book_snapshot", levels=wanted).start(NOW)
        assert fetch.url.endswith(f"&sz={given}")


def test_marks_of_perpetuals_come_with_what_their_funding_is_estimated_to_be():
    symbols = [SWAP, "BTC-USDT-261225"]
    streams = VENUE.streams("linear", ["mark_price"], symbols)
    assert [one.name for one in streams] == [*(f"mark-price:{one}" for one in symbols), f"funding-rate:{SWAP}"]
    (plan,) = VENUE.connections("linear", streams, VENUE.ENDPOINTS["linear"])
    assert len(plan.streams) == 3, "one connection has both: the mark tells what the other said"


LISTED = {
    "instId": SWAP, "instType": "SWAP", "state": "live", "settleCcy": "USDT", "instFamily": "BTC-USDT",
    "ctType": "linear", "ctVal": "0.01", "ctMult": "1", "tickSz": "0.1", "lotSz": "0.01",
}  # fmt: skip
DATED = {**LISTED, "instId": "BTC-USDT-261225", "instType": "FUTURES", "expTime": "1798185600000"}


def listed(made, first, second, at):
    """Both lists; the rows."""
    out = [*made.respond("public/instruments", 200, {}, body(first), at)]
    (fetch,) = made.tick(at)
    assert fetch.url.endswith("instType=FUTURES")
    return [*out, *made.respond(fetch.tag, 200, {}, body(second), at)]


def test_perpetual_and_dated_contracts_are_two_lists_and_what_two_of_them_lack_is_gone():
    made = poll("contract", symbols=())
    (first,) = made.start(NOW)
    assert first.url.endswith("instType=SWAP")
    other = {**LISTED, "instId": "BTC-USD-SWAP", "ctType": "inverse"}
    out = listed(made, [LISTED, other], [DATED], NOW)
    assert [(one.symbol, one.unified, one.multiplier) for one in out] == [
        (SWAP, "BTC/USDT:USDT", "0.01"), ("BTC-USDT-261225", "BTC/USDT:USDT-261225", "0.01"),
    ]  # fmt: skip
    for at in (NOW + HOUR, NOW + HOUR + MINUTE):
        assert made.next_deadline() == at
        made.tick(at)
        out = listed(made, [LISTED], [], at)
    assert [(one.symbol, one.status) for one in out] == [(SWAP, "live"), ("BTC-USDT-261225", "DELISTED")]


@pytest.mark.parametrize(
    "said,good",
    [({}, True), ({"ctValCcy": "BTC"}, True), ({"ctValCcy": "USDT"}, False), ({"ctType": ""}, False)],
)
def test_a_contract_of_no_type_or_worth_another_currency_is_refused(said, good):
    """Its quantities would be taken for others: rather no row than a wrong one."""
    made = poll("contract", symbols=())
    made.start(NOW)
    (out,) = made.respond("public/instruments", 200, {}, body([{**LISTED, **said}]), NOW)
    assert isinstance(out, Contract if good else Rejected)


def test_an_inverse_contract_is_worth_its_quote():
    made = poll("contract", market="inverse", symbols=())
    made.start(NOW)
    inverse = {**LISTED, "instId": "BTC-USD-SWAP", "ctType": "inverse", "instFamily": "BTC-USD", "ctVal": "100"}
    told = [{**inverse, "ctValCcy": one} for one in ("USD", "BTC")]
    out = made.respond("public/instruments", 200, {}, body(told), NOW)
    assert [getattr(one, "multiplier", None) for one in out] == ["100", None]


@pytest.mark.parametrize(
    "value,times,worth",
    [("0.01", "1", "0.01"), ("100", "1", "100"), ("0.001", "10", "0.01"), ("0.00000000000000000000000001", "3",
     "0.00000000000000000000000003"), ("", "1", None), ("0", "1", None), ("1e3", "1", None), ("-1", "1", None)],
)  # fmt: skip
def test_a_contract_is_worth_its_value_times_its_multiplier_exactly(value, times, worth):
    made = poll("contract", symbols=())
    made.start(NOW)
    (out,) = made.respond("public/instruments", 200, {}, body([{**LISTED, "ctVal": value, "ctMult": times}]), NOW)
    assert (out.multiplier if isinstance(out, Contract) else None) == worth
