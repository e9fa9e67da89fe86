"""Kraken's sessions: what they ask for, how symbols are answered, and books whose sum does not hold."""

import json
import zlib

import msgspec
import pytest

from collectors import exchanges
from collectors.chain_checked import CheckedMerger
from collectors.exchanges.kraken import texts
from collectors.exchanges.kraken.instruments import alternative, symbol_of
from collectors.pushed import PushedIds, PushedNames
from collectors.redundancy import merger_maker
from market.errors import MarketError
from market.kinds import BookDelta, Contract, Kline, Liquidation, Trade
from market.session import Acknowledged, Booked, Heeding, Leave, Refused, Rejected, Send
from market.times import DAY, MINUTE, MS, SECOND

VENUE = exchanges.load("kraken")
NOW = 1_785_701_708_000_000
ISO = "2026-08-02T20:15:08.000000Z"


def session(kinds, symbols=("BTC/USD",), market="spot", channels=None):
    streams = VENUE.streams(market, kinds, symbols, channels)
    (plan,) = VENUE.connections(market, streams, VENUE.ENDPOINTS[market])
    made = VENUE.session(plan, "n-1-1")
    return made, [json.loads(out.text) for out in made.start(NOW) if isinstance(out, Send)]


def sent(outputs):
    return [json.loads(out.text) for out in outputs if isinstance(out, Send)]


def run(made, until, start=NOW):
    """Everything that is due up to a time; with its times."""
    out, now = [], start
    while (due := made.next_deadline()) is not None and due <= until:
        now = max(now, due)
        out += [(now, one) for one in made.tick(now)]
        if any(isinstance(one, Leave) for _, one in out):
            break
    return out


def ack(number, symbol, method="subscribe", channel="trade"):
    result = {"channel": channel, "symbol": symbol}
    said = {"method": method, "req_id": number, "result": result, "success": True, "time_in": ISO, "time_out": ISO}
    return json.dumps(said).encode()


def refusal(number, symbol, text="Currency pair not supported"):
    said = {"error": text, "method": "subscribe", "req_id": number, "success": False, "symbol": symbol, "time_in": ISO}
    return json.dumps(said).encode()


def total(bids, asks):
    """The documented sum of a book whose numbers are whole: asks from the lowest, bids from the highest."""
    digits = [f"{price}{qty}" for price, qty in (*sorted(asks)[:10], *sorted(bids, reverse=True)[:10])]
    return zlib.crc32("".join(digits).encode())


def book(what, bids, asks, checksum, at=0, symbol="BTC/USD"):
    sides = [[{"price": price, "qty": qty} for price, qty in side] for side in (bids, asks)]
    time = f"2026-08-02T20:15:08.{at:06d}Z"
    data = {"symbol": symbol, "bids": sides[0], "asks": sides[1], "checksum": checksum, "timestamp": time}
    return json.dumps({"channel": "book", "type": what, "data": [data]}, separators=(",", ":")).encode()


def test_a_request_is_of_one_channel_and_says_what_it_wants():
    made, first = session(["book_delta", "quote", "trade", "kline", "contract"], ["BTC/USD", "ETH/USD"])
    asked = first + sent(out for _, out in run(made, NOW + 2 * SECOND))
    params = {one["params"]["channel"]: one["params"] for one in asked}
    assert params["book"] == {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 1000, "snapshot": True}
    assert params["ticker"]["event_trigger"] == "bbo"
    assert params["trade"]["snapshot"] is True
    assert params["ohlc"]["interval"] == 1
    assert params["instrument"] == {"channel": "instrument", "snapshot": True}
    assert asked[-1]["params"]["channel"] == "instrument", "a replay knows by then whose instruments are wanted"
    assert len({one["req_id"] for one in asked}) == len(asked) == 5


def test_each_symbol_of_a_request_is_answered_by_itself():
    made, (first,) = session(["trade"], ["BTC/USD", "XXX/USD", "ETH/USD"])
    (taken,) = made.receive(ack(first["req_id"], "BTC/USD"), NOW)
    assert isinstance(taken, Acknowledged)
    assert [stream.symbol for stream in taken.streams] == ["BTC/USD"]
    (refused,) = made.receive(refusal(first["req_id"], "XXX/USD"), NOW)
    assert isinstance(refused, Refused)
    assert [stream.symbol for stream in refused.streams] == ["XXX/USD"]
    (held,) = made.receive(refusal(first["req_id"], "ETH/USD", "Already subscribed"), NOW)
    assert isinstance(held, Acknowledged)
    assert isinstance(made.receive(refusal(first["req_id"], "ETH/USD"), NOW)[0], Rejected)
    assert made.states["trade.BTC/USD"].since == NOW


def test_what_is_not_answered_is_asked_for_once_more_and_then_the_connection_is_left():
    made, (first,) = session(["trade"], ["BTC/USD", "ETH/USD"])
    made.receive(ack(first["req_id"], "BTC/USD"), NOW)
    again = None
    for second in range(1, 40):
        made.receive(b'{"channel":"heartbeat"}', NOW + second * SECOND)
        out = [one for _, one in run(made, NOW + second * SECOND)]
        again = again or next((one for one in sent(out) if one["method"] == "subscribe"), None)
        if any(isinstance(one, Leave) for one in out):
            assert again is not None
            assert again["params"]["symbol"] == ["ETH/USD"]
            return
    raise AssertionError("never left")


def test_heartbeats_keep_a_connection_and_without_any_it_is_left():
    made, _ = session(["trade"])
    made.receive(ack(1, "BTC/USD"), NOW)
    for second in range(1, 60):
        assert made.receive(b'{"channel":"heartbeat"}', NOW + second * SECOND) == ()
        assert not [one for _, one in run(made, NOW + second * SECOND) if isinstance(one, Leave)]
    left = [(at, one) for at, one in run(made, NOW + 90 * SECOND, NOW + 60 * SECOND) if isinstance(one, Leave)]
    assert [(one.cause, at <= NOW + 75 * SECOND) for at, one in left] == [("silence", True)]


def test_our_pings_are_json_every_half_minute():
    made, _ = session(["trade"])
    made.receive(ack(1, "BTC/USD"), NOW)
    pings = []
    for second in range(1, 65):
        made.receive(b'{"channel":"heartbeat"}', NOW + second * SECOND)
        pings += [one for _, out in run(made, NOW + second * SECOND) for one in sent([out]) if one["method"] == "ping"]
    assert len(pings) == 2


DEEP = [(100 - n, 5) for n in range(12)], [(101 + n, 3) for n in range(12)]
"""A book of which a checksum does not tell the two last levels a side."""


@pytest.mark.parametrize(
    "wrong, lost",
    [
        (lambda said: said.replace(b'"price":89,"qty":6', b'"price":"NaN","qty":6'), ["BTC/USD"]),
        (lambda said: said.replace(b"2026-08-02", b"1926-08-02"), ["BTC/USD"]),
        (lambda said: said.replace(b'"price":89', b'"prize":89'), ["BTC/USD", "ETH/USD"]),
        (lambda said: said.replace(b'"update"', b'"updates"'), ["BTC/USD", "ETH/USD"]),
        (lambda said: said[:-9], ["BTC/USD", "ETH/USD"]),
    ],
    ids=["a price that is none", "an impossible time", "another shape", "another type", "cut"],
)
def test_what_cannot_be_read_of_a_book_is_lost_though_every_later_checksum_holds(wrong, lost):
    made, (first,) = session(["book_delta"], ["BTC/USD", "ETH/USD"], channels={"book_delta": "book.25"})
    for symbol in ("BTC/USD", "ETH/USD"):
        made.receive(ack(first["req_id"], symbol, channel="book"), NOW)
        made.receive(book("snapshot", *DEEP, total(*DEEP), 1, symbol), NOW + 5)
    *rows, rejected = made.receive(wrong(book("update", [(89, 6)], [], total(*DEEP), 2)), NOW + 6)
    assert isinstance(rejected, Rejected)
    assert [(row.symbol, row.flags, row.last_id, row.frame_no) for row in rows] == [
        (symbol, ("clear",), None, rejected.frame_no) for symbol in lost
    ]
    assert made.books_out_of_sync() == lost
    assert made.receive(book("update", [(88, 6)], [], total(*DEEP), 3), NOW + 7) == ()
    (again,) = made.receive(book("snapshot", *DEEP, total(*DEEP), 4), NOW + 9)
    assert (again.flags, made.books_out_of_sync()) == (("snapshot",), lost[1:])


def test_a_book_whose_sum_does_not_hold_is_cleared_and_begun_anew_alone():
    made, (first,) = session(["book_delta"], ["BTC/USD", "ETH/USD"], channels={"book_delta": "book.10"})
    bids, asks = [(100, 5), (99, 7)], [(101, 3), (102, 4)]
    for symbol in ("BTC/USD", "ETH/USD"):
        made.receive(ack(first["req_id"], symbol, channel="book"), NOW)
        (whole,) = made.receive(book("snapshot", bids, asks, total(bids, asks), 1, symbol), NOW + 5)
        assert whole.flags == ("snapshot",)
    assert isinstance(made, Booked)
    assert made.books_out_of_sync() == []
    (row,) = made.receive(book("update", [(100, 6)], [], total([(100, 6), (99, 7)], asks), 2), NOW + 6)
    assert (row.prev_id, row.flags) == (whole.last_id, ())
    (lost,) = made.receive(book("update", [(98, 1)], [], 12345, 3), NOW + 7)
    assert (lost.flags, lost.last_id, lost.checksum) == (("clear",), None, 12345)
    assert made.books_out_of_sync() == ["BTC/USD"]
    assert made.receive(book("update", [(98, 1)], [], 12345, 4), NOW + 8) == ()
    (other,) = made.receive(book("update", [(100, 6)], [], total([(100, 6), (99, 7)], asks), 5, "ETH/USD"), NOW + 9)
    assert other.flags == ()
    renewed = sent(out for _, out in run(made, NOW + SECOND))
    assert [(one["method"], one["params"]["symbol"]) for one in renewed] == [
        ("unsubscribe", ["BTC/USD"]), ("subscribe", ["BTC/USD"]),
    ]  # fmt: skip
    assert all(one["params"]["depth"] == 10 for one in renewed)
    assert made.receive(ack(renewed[0]["req_id"], "BTC/USD", "unsubscribe", "book"), NOW + SECOND) == ()
    assert made.receive(ack(renewed[1]["req_id"], "BTC/USD", channel="book"), NOW + SECOND) == ()
    (again,) = made.receive(book("snapshot", bids, asks, total(bids, asks), 900), NOW + SECOND)
    assert again.last_id > row.last_id
    assert made.books_out_of_sync() == []


def test_a_level_pushed_out_of_the_depth_is_taken_away_by_a_row_behind_the_change():
    made, _ = session(["book_delta"], channels={"book_delta": "book.10"})
    asks = [(200 + n, 1) for n in range(10)]
    made.receive(book("snapshot", [(100, 1)], asks, total([(100, 1)], asks), 1), NOW + 5)
    better = [(199, 1), *asks][:10]
    change, cut = made.receive(book("update", [], [(199, 1)], total([(100, 1)], better), 2), NOW + 6)
    assert (change.item, cut.item, cut.flags, bytes(cut.asks)) == (0, 1, ("truncated",), b'[["209","0"]]')
    assert (cut.prev_id, cut.last_id) == (change.last_id, change.last_id + 1)


def test_the_sum_is_of_the_ten_best_levels_a_side_whatever_the_depth():
    made, _ = session(["book_delta"])
    assert {state.stream.channel for state in made.streams()} == {"book.1000"}
    bids, asks = [(100 - n, 1) for n in range(12)], [(200 + n, 1) for n in range(12)]
    (whole,) = made.receive(book("snapshot", bids, asks, total(bids[:10], asks[:10]), 1), NOW + 5)
    assert whole.flags == ("snapshot",)
    (below,) = made.receive(book("update", [(90, 7)], [(210, 0)], total(bids[:10], asks[:10]), 2), NOW + 6)
    assert (below.flags, bytes(below.asks)) == ((), b'[["210","0"]]')
    shown = ([(90, 7), *bids[1:10]], [*asks[1:10], asks[11]])  # what was below the ten best comes up
    (above,) = made.receive(book("update", [(100, 0)], [(200, 0)], total(*shown), 3), NOW + 7)
    assert above.flags == ()


def test_precisions_are_those_by_which_the_sum_holds_and_may_change():
    made, _ = session(["book_delta"], channels={"book_delta": "book.10"})
    asks, sum_of_8 = [("0.5", "0.25")], zlib.crc32(b"5025000000")
    data = b'{"symbol":"BTC/USD","bids":[],"asks":[%s],"checksum":%d,"timestamp":"%s"}'
    raw = b'{"channel":"book","type":"%s","data":[' + data + b"]}"
    level = b'{"price":0.5,"qty":0.25}'
    (row,) = made.receive(raw % (b"snapshot", level, sum_of_8, ISO.encode()), NOW)
    assert json.loads(bytes(row.asks)) == [list(one) for one in asks]
    finer = b'{"price":0.25,"qty":1}'
    (row,) = made.receive(raw % (b"update", finer, zlib.crc32(b"25100000000" + b"5025000000"), ISO.encode()), NOW)
    assert row.flags == ()


def test_rows_of_instruments_are_those_that_the_connection_carries():
    made, _ = session(["trade", "contract"], ["BTC/USD"])
    pair = {"base": "BTC", "quote": "USD", "status": "online", "qty_precision": 8, "price_precision": 1}
    steps = {"qty_increment": 1e-08, "price_increment": 0.1}
    pairs = [{"symbol": "BTC/USD", **pair, **steps}, {"symbol": "ADA/USD", **pair, **steps, "base": "ADA"}]
    told = json.dumps({"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": pairs}}).encode()
    (row,) = made.receive(told, NOW)
    (later,) = made.receive(told, NOW + SECOND)
    (after,) = made.receive(told, NOW + 9 * DAY)
    assert [one.ts_event - NOW for one in (row, later, after)] == [0, 0, 9 * DAY], "of the newest that the venue shows"
    assert isinstance(row, Contract)
    assert (row.symbol, row.tick, row.lot) == ("BTC/USD", "0.1", "0.00000001")
    assert made.precisions == {"BTC/USD": (1, 8)}


def test_a_candle_is_told_when_the_next_one_of_its_pair_begins():
    made, _ = session(["kline"], ["BTC/USD", "ETH/USD"])

    def candle(symbol, minute, close, at):
        data = {
            "symbol": symbol, "interval": 1, "interval_begin": f"2026-08-02T20:{minute}:00.000000000Z", "open": 1,
            "high": 3, "low": 1, "close": close, "volume": 2.5, "trades": 2,
        }  # fmt: skip
        frame = json.dumps({"channel": "ohlc", "type": "update", "data": [data]}).encode()
        return made.receive(frame, NOW + at * SECOND)

    assert candle("BTC/USD", 15, 2, 1) == candle("BTC/USD", 15, 3, 2) == candle("ETH/USD", 16, 1, 53) == ()
    (row,) = candle("BTC/USD", 16, 1, 54)
    assert isinstance(row, Kline)
    assert (row.close, row.frame_no, row.ts_event - row.open_time) == ("3", 4, MINUTE - MS)


def test_tickers_of_one_microsecond_are_two_rows_and_their_ids_rise():
    made, _ = session(["quote"])

    def quoted(bid, micros, seconds=8):
        data = {"symbol": "BTC/USD", "bid": bid, "bid_qty": 1, "ask": 9, "ask_qty": 1,
                "timestamp": f"2026-08-02T20:15:{seconds:02d}.{micros:06d}Z"}  # fmt: skip
        frame = {"channel": "ticker", "type": "update", "data": [data]}
        (row,) = made.receive(json.dumps(frame, separators=(",", ":")).encode(), NOW + SECOND)
        return row.bid, row.ts_event - NOW, row.update_id - NOW

    assert [quoted(1, 5), quoted(2, 5), quoted(3, 5), quoted(4, 6), quoted(5, 9), quoted(6, 0, 7)] == [
        ("1", 5, 5), ("2", 5, 6), ("3", 5, 7), ("4", 6, 8), ("5", 9, 9), ("6", -SECOND, -SECOND),
    ]  # fmt: skip


def test_what_is_told_on_subscribing_lies_before_the_coverage_and_what_is_old_is_no_row():
    made, (first,) = session(["trade", "book_delta"], channels={"book_delta": "book.10"})
    made.receive(ack(first["req_id"], "BTC/USD", channel="book"), NOW)
    trade = {"symbol": "BTC/USD", "side": "buy", "price": 1, "qty": 1}
    past = [trade | {"trade_id": n, "timestamp": f"2026-08-02T20:1{n}:00.000000Z"} for n in (1, 2)]
    old = [trade | {"trade_id": 0, "timestamp": "2026-01-02T20:15:00.000000Z"}]
    frame = {"channel": "trade", "type": "snapshot", "data": [*old, *past]}
    rows = made.receive(json.dumps(frame).replace(": ", ":").encode(), NOW + 5)
    assert [(row.seq, row.condition) for row in rows] == [(1, "history"), (2, "history")]
    state = made.states["trade.BTC/USD"]
    assert state.first_event == NOW, "when the venue answered, and not when the trades were"
    whole = book("snapshot", [(100, 1)], [(101, 1)], total([(100, 1)], [(101, 1)])).replace(b"2026-08", b"2026-01")
    (row,) = made.receive(whole, NOW + 7)
    assert (row.ts_event, row.skew_us, row.flags) == (None, 7, ("snapshot",))
    (row,) = made.receive(whole, NOW + DAY)
    assert (row.ts_event, row.skew_us) == (None, DAY)
    (row,) = made.receive(whole, NOW + 2 * DAY + 1)
    assert (row.ts_event, row.skew_us) == (None, None), "what was shown more than a day ago is no clock's time"
    (row,) = made.receive(whole, NOW + 2 * DAY + 3)
    assert (row.ts_event, row.skew_us) == (None, 2)


def test_of_futures_one_feed_serves_trades_and_forced_orders():
    made, asked = session(["trade", "liquidation", "book_delta"], ["PF_XBTUSD", "PF_ETHUSD"], "linear")
    asked += sent(out for _, out in run(made, NOW + SECOND))
    assert [(one["feed"], one.get("product_ids")) for one in asked] == [
        ("heartbeat", None), ("book", ["PF_ETHUSD", "PF_XBTUSD"]), ("trade", ["PF_ETHUSD", "PF_XBTUSD"]),
    ]  # fmt: skip
    assert made.receive(b'{"event":"subscribed","feed":"heartbeat"}', NOW) == ()
    taken = made.receive(b'{"event":"subscribed","feed":"trade","product_ids":["PF_XBTUSD","PF_ETHUSD"]}', NOW)
    assert sorted(stream.name for one in taken for stream in one.streams) == [
        "trade.PF_ETHUSD", "trade.PF_XBTUSD", "trade.liquidation.PF_ETHUSD", "trade.liquidation.PF_XBTUSD",
    ]  # fmt: skip
    frame = {
        "feed": "trade", "product_id": "PF_XBTUSD", "uid": "u", "side": "sell", "type": "liquidation", "seq": 1,
        "time": NOW // MS, "qty": 1, "price": 2,
    }  # fmt: skip
    trade, forced = made.receive(json.dumps(frame).encode().replace(b": ", b":"), NOW)
    assert isinstance(trade, Trade)
    assert isinstance(forced, Liquidation)
    assert (trade.condition, trade.trade_id, trade.seq, forced.side) == ("liquidation", "u", None, "sell")


def test_an_error_of_futures_is_the_oldest_requests_which_is_halved():
    made, _ = session(["book_delta"], ["PF_XBTUSD", "PF_NOTUSD"], "linear")
    made.receive(b'{"event":"subscribed","feed":"heartbeat"}', NOW)
    run(made, NOW + 200 * MS)
    assert made.receive(b'{"event":"error","message":"Invalid product id"}', NOW + 200 * MS) == ()
    halves = [one for _, out in run(made, NOW + SECOND) for one in sent([out])]
    assert [one["product_ids"] for one in halves] == [["PF_NOTUSD"], ["PF_XBTUSD"]]
    (refused,) = made.receive(b'{"event":"error","message":"Invalid product id"}', NOW + SECOND)
    assert isinstance(refused, Refused)
    assert [stream.symbol for stream in refused.streams] == ["PF_NOTUSD"]


def test_a_missing_level_of_a_future_begins_its_book_anew():
    made, _ = session(["book_delta"], ["PF_XBTUSD"], "linear")
    whole = {"feed": "book_snapshot", "product_id": "PF_XBTUSD", "timestamp": NOW // MS, "seq": 10}
    made.receive(json.dumps(whole | {"bids": [], "asks": [{"price": 2, "qty": 1}]}).replace(": ", ":").encode(), NOW)
    change = {"feed": "book", "product_id": "PF_XBTUSD", "side": "buy", "price": 1, "qty": 1, "timestamp": NOW // MS}
    rows = [made.receive(json.dumps(change | {"seq": n}).replace(": ", ":").encode(), NOW)[0] for n in (11, 13)]
    assert all(isinstance(row, BookDelta) for row in rows)
    assert [row.flags for row in rows] == [(), ("gap_before",)]
    made.receive(b'{"event":"subscribed","feed":"heartbeat"}', NOW)
    made.receive(b'{"event":"subscribed","feed":"book","product_ids":["PF_XBTUSD"]}', NOW)
    again = [one for _, out in run(made, NOW + SECOND) for one in sent([out]) if one["feed"] == "book"]
    assert [one["event"] for one in again][-2:] == ["unsubscribe", "subscribe"]


def test_mergers_are_chosen_by_what_the_venue_says():
    assert isinstance(merger_maker(VENUE, "spot")("book_delta"), CheckedMerger)
    assert isinstance(merger_maker(VENUE, "spot")("trade"), PushedIds)
    assert isinstance(merger_maker(VENUE, "inverse")("trade"), PushedNames)
    assert not isinstance(merger_maker(VENUE, "inverse")("book_delta"), CheckedMerger)
    assert not isinstance(merger_maker(exchanges.load("bybit"), "spot")("book_delta"), CheckedMerger)


def test_recorded_requests_tell_a_replay_what_was_desired():
    streams = VENUE.streams("spot", ["book_delta", "trade"], ["BTC/USD"], {"book_delta": "book.25"})
    (plan,) = VENUE.connections("spot", streams, VENUE.ENDPOINTS["spot"])
    learner, live = VENUE.session(plan, "n-1-2", learn=True), VENUE.session(plan, "n-1-1")
    assert isinstance(learner, Heeding)
    for out in (*live.start(NOW), *(one for _, one in run(live, NOW + SECOND))):
        learner.sent(out.text, NOW)
    assert {state.stream.name for state in learner.streams()} == {"book.25.BTC/USD", "trade.BTC/USD"}
    learner.sent("nothing", NOW)


@pytest.mark.parametrize(
    "wsname,symbol,alias",
    [("XBT/USD", "BTC/USD", "XBTUSD"), ("XDG/USD", "DOGE/USD", "XDGUSD"), ("ETH/XBT", "ETH/BTC", "ETHXBT")],
)
def test_names_of_rest_and_of_the_stream(wsname, symbol, alias):
    assert (symbol_of(wsname), alternative(symbol)) == (symbol, alias)


@pytest.mark.parametrize(
    "text,time",
    [("1970-01-01T00:00:01Z", SECOND), ("1970-01-01T00:00:00.123456789Z", 123456), ("1970-01-02T00:00:00.5Z", None),
     ("2026-02-30T00:00:00Z", None), ("2026-01-01 00:00:00Z", None), ("1970-01-01T24:00:00Z", None), (None, None)],
)  # fmt: skip
def test_times(text, time):
    assert texts.time(text) == (86_400 * SECOND + SECOND // 2 if text == "1970-01-02T00:00:00.5Z" else time)


def test_kinds_and_channels_that_are_not_there_are_refused_with_a_reason():
    with pytest.raises(MarketError, match="tells every fill by itself"):
        VENUE.streams("linear", ["agg_trade"], ["PF_XBTUSD"])
    with pytest.raises(MarketError, match="one of none"):
        VENUE.streams("inverse", ["kline"], ["PI_XBTUSD"], {"kline": "ohlc.1"})
    with pytest.raises(MarketError, match=r"book\.1000, book\.10, "):
        VENUE.streams("spot", ["book_delta"], ["BTC/USD"], {"book_delta": "book.11"})


@pytest.mark.parametrize(
    "raw, said",
    [
        ("0.00012", "0.00012"), ("65000", "65000"), ("0", "0"), ("1.50", "1.50"), ("1e-08", "0.00000001"),
        ("2E3", "2000"),
        ("0." + "1" * 18, "0." + "1" * 18), ("0." + "1" * 19, None), ("9" * 30, "9" * 30), ("9" * 31, None),
        ("-1.5", None), ("007", None), ("1.", None), (".5", None), ("NaN", None), ("null", None), ('"1"', None),
        ("", None),
    ],
)  # fmt: skip
def test_a_number_is_its_own_text_or_what_its_exponent_says_or_none(raw, said):
    assert texts.number(msgspec.Raw(raw.encode())) == said
