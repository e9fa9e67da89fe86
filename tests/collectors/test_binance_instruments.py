"""exchangeInfo fetched again and again: what changes, what vanishes, and what only seems to."""

import msgspec
import pytest

from collectors.exchanges import load
from collectors.exchanges.binance.rest import CONFIRM, DELISTED
from collectors.merger import merger
from market.kinds import Contract
from market.session import Fetch, Polled, Refused, Rejected
from market.times import HOUR, SECOND

BINANCE = load("binance")
T = 1_785_701_700_000_000


def instrument(symbol, market="linear", status="TRADING", **more):
    row = {
        "symbol": symbol, "status": status, "baseAsset": symbol[:3], "quoteAsset": "USDT", "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": more.pop("tick", "0.10")},
            {"filterType": "LOT_SIZE", "stepSize": "0.001"},
        ],
    }  # fmt: skip
    if market != "spot":
        row |= {"contractType": "PERPETUAL", "deliveryDate": 4133404800000, "onboardDate": 1569398400000,
                "marginAsset": "USDT"}  # fmt: skip
    return row | more


def body(*rows, at=T):
    return msgspec.json.encode({"serverTime": at // 1000, "symbols": rows})


def instruments(*symbols, market="linear", every=HOUR, known=(), session="n-1-1"):
    polled = Polled("contract", symbols, every, known=tuple(known))
    made = BINANCE.poller(market, session, polled, BINANCE.ENDPOINTS[market])
    (asked,) = made.start(T)
    return made, asked


def contracts(outputs):
    return [(out.symbol, out.status) for out in outputs if isinstance(out, Contract)]


def test_the_list_is_fetched_again_at_its_interval():
    made, asked = instruments("AAAUSDT")
    made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT")), T + SECOND)
    assert made.next_deadline() == T + SECOND + HOUR
    assert made.tick(T + HOUR) == []
    assert [fetch.url for fetch in made.tick(T + SECOND + HOUR)] == [asked.url]


def test_a_symbol_that_two_lists_of_futures_lack_is_delisted_once():
    made, asked = instruments("AAAUSDT", "BBBUSDT")
    both, one = body(instrument("AAAUSDT"), instrument("BBBUSDT")), body(instrument("AAAUSDT"))
    assert len(contracts(made.respond(asked.tag, 200, {}, both, T))) == 2
    (again,) = made.tick(T + HOUR)
    assert contracts(made.respond(again.tag, 200, {}, one, T + HOUR)) == [("AAAUSDT", "TRADING")]
    assert made.next_deadline() == T + HOUR + CONFIRM
    (again,) = made.tick(T + HOUR + CONFIRM)
    out = made.respond(again.tag, 200, {}, one, now := T + HOUR + CONFIRM)
    assert contracts(out) == [("AAAUSDT", "TRADING"), ("BBBUSDT", DELISTED)]
    gone = out[-1]
    assert (gone.known_from, gone.ts_recv, gone.uid, gone.base) == (now, now, out[0].uid.replace("AAA", "BBB"), "BBB")
    assert gone.item != out[0].item
    assert contracts(made.respond(again.tag, 200, {}, one, now + HOUR)) == [("AAAUSDT", "TRADING")]


def test_a_symbol_that_one_list_lacks_and_the_next_has_is_not_gone():
    made, asked = instruments("AAAUSDT", "BBBUSDT")
    both, one = body(instrument("AAAUSDT"), instrument("BBBUSDT")), body(instrument("AAAUSDT"))
    for number, said in enumerate((both, one, both, one, both)):
        out = made.respond(asked.tag, 200, {}, said, T + number * HOUR)
        assert DELISTED not in {status for _, status in contracts(out)}


def test_a_list_in_which_an_instrument_cannot_be_read_proves_nothing_of_it():
    made, asked = instruments("AAAUSDT", "BBBUSDT")
    made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT"), instrument("BBBUSDT")), T)
    for broken in ({"symbol": "BBBUSDT", "status": 7}, ["no instrument at all"]):
        for n in range(3):
            out = made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT"), broken), T + n * HOUR)
            assert contracts(out) == [("AAAUSDT", "TRADING")]
            assert any(isinstance(each, Rejected) for each in out)


def test_a_symbol_that_was_known_before_the_start_is_missed_too():
    before, asked = instruments("AAAUSDT", "BBBUSDT")
    known = before.respond(asked.tag, 200, {}, body(instrument("AAAUSDT"), instrument("BBBUSDT")), T)
    made, asked = instruments("AAAUSDT", "BBBUSDT", known=known, session="n-2-1")
    one = body(instrument("AAAUSDT"))
    made.respond(asked.tag, 200, {}, one, T + HOUR)
    out = made.respond(asked.tag, 200, {}, one, T + 2 * HOUR)
    assert contracts(out)[1:] == [("BBBUSDT", DELISTED)]
    assert out[1].session == "n-2-1"


def test_spot_is_asked_by_name_for_what_the_list_lacks():
    made, asked = instruments("AAAUSDT", "BBBUSDT", "CCCUSDT", market="spot")
    rows = [instrument(symbol, "spot") for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT")]
    made.respond(asked.tag, 200, {}, body(*rows), T)
    out = made.respond(asked.tag, 200, {}, body(rows[0]), T + HOUR)
    hidden, gone = [each for each in out if isinstance(each, Fetch)]
    (still,) = made.respond(hidden.tag, 200, {}, body(instrument("BBBUSDT", "spot", "BREAK")), T + HOUR)
    assert contracts([still]) == [("BBBUSDT", "BREAK")]
    (delisted,) = made.respond(gone.tag, 400, {}, b'{"code":-1121,"msg":"Invalid symbol."}', T + HOUR)
    assert contracts([delisted]) == [("CCCUSDT", DELISTED)]
    made.respond(asked.tag, 200, {}, body(rows[0]), T + 2 * HOUR)
    assert made.respond(gone.tag, 400, {}, b'{"code":-1121,"msg":"Invalid symbol."}', T + 2 * HOUR) == ()
    assert sum(made.ignored.values()) == 1


def test_a_delisted_symbol_that_is_listed_again_is_a_row():
    made, asked = instruments("AAAUSDT", "BBBUSDT")
    one, both = body(instrument("AAAUSDT")), body(instrument("AAAUSDT"), instrument("BBBUSDT", onboardDate=T // 1000))
    for number, said in enumerate((both, one, one)):
        made.respond(asked.tag, 200, {}, said, T + number * HOUR)
    assert ("BBBUSDT", "TRADING") in contracts(made.respond(asked.tag, 200, {}, both, T + 9 * HOUR))


def test_a_symbol_that_the_venue_never_had_is_refused_once():
    made, asked = instruments("AAAUSDT", "NOSUCH")
    said = [made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT")), T + n * HOUR) for n in range(3)]
    refused = [out for outputs in said for out in outputs if isinstance(out, Refused)]
    assert [stream.symbol for out in refused for stream in out.streams] == ["NOSUCH"]


def test_without_symbols_what_vanishes_of_the_whole_list_is_said():
    made, asked = instruments()
    made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT"), instrument("BBBUSDT")), T)
    for n in (1, 2):
        out = made.respond(asked.tag, 200, {}, body(instrument("AAAUSDT")), T + n * HOUR)
    assert contracts(out) == [("AAAUSDT", "TRADING"), ("BBBUSDT", DELISTED)]


@pytest.mark.parametrize("market", ["spot", "linear"])
def test_a_replay_says_what_the_session_said(market):
    row = {"AAAUSDT": instrument("AAAUSDT", market), "BBBUSDT": instrument("BBBUSDT", market)}
    live, asked = instruments("AAAUSDT", "BBBUSDT", market=market)
    heard, frames, todo, now = [], [], [asked], T
    lists = iter([body(*row.values()), body(row["AAAUSDT"]), b"<html>", body(row["AAAUSDT"]), body(*row.values())] * 3)
    for _ in range(9):
        for fetch in todo:
            by_name = "symbol=" in fetch.url
            said = b'{"code":-1121,"msg":"x"}' if by_name else next(lists)
            frames.append((fetch.tag, 400 if by_name else 200, said, now))
            heard += live.respond(*frames[-1][:2], {}, said, now)
            todo = [*(out for out in heard[-3:] if isinstance(out, Fetch) and "symbol=" in out.url and not by_name)]
        now = max(live.next_deadline() or now, now)
        todo = [*todo, *live.tick(now)]
    again, _ = instruments("AAAUSDT", "BBBUSDT", market=market, every=0)
    replayed = [out for tag, status, said, at in frames for out in again.respond(tag, status, {}, said, at)]
    assert replayed == heard
    assert DELISTED in {status for _, status in contracts(heard)}


def test_only_what_changes_is_new_and_is_known_from_when_it_was_told():
    held = merger("binance", "linear", "contract", contiguous=False)
    made, asked = instruments("AAAUSDT")
    said = [
        instrument("AAAUSDT"), instrument("AAAUSDT"), instrument("AAAUSDT", tick="0.1000"),
        instrument("AAAUSDT", tick="0.01"), instrument("AAAUSDT", tick="0.01", status="SETTLING"),
        instrument("AAAUSDT", tick="0.01", status="SETTLING"),
    ]  # fmt: skip
    new = []
    for number, row in enumerate(said):
        out = made.respond(asked.tag, 200, {}, body(row), T + number * HOUR)
        new += [(event.known_from, event.tick, event.status) for event in out if held.merge(event)]
    assert new == [
        (T, "0.10", "TRADING"), (T + 3 * HOUR, "0.01", "TRADING"), (T + 4 * HOUR, "0.01", "SETTLING"),
    ]  # fmt: skip
    assert held.duplicates == 3
