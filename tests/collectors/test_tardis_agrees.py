"""What another program makes of real messages of our venues: the same as we do, or it is said here why not.

The messages are those of its own tests (`tests/support/tardis.py`); skipped where they are missing. For each of them
there is a verdict: `same` where all that we make of it is what the other program makes of it, else the reason why not,
which has to be one of DIFFERENCES.
"""

import json
import os
import pathlib
import re
from collections import Counter

import msgspec
import pytest

from collectors import exchanges
from market import times
from market.book import levels
from market.kinds import AggTrade, BookDelta, Contract, Liquidation, MarkPrice, OpenInterest, Quote, Trade
from market.session import Connection, Informed, Rejected
from tests.support import tardis

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
FOLDER = SAMPLES / "multi"
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
TESTS = {
    "okex messages": ("okx", "spot"), "okex-futures messages": ("okx", "inverse"),
    "okex-swap messages": ("okx", "inverse"), "bybit messages": ("bybit", "linear"),
    "bybit spot messages": ("bybit", "spot"), "kucoin messages": ("kucoin", "spot"),
    "kucoin-futures messages": ("kucoin", "linear"), "coinbase messages": ("coinbase", "spot"),
    "kraken messages": ("kraken", "spot"), "kraken v2 messages": ("kraken", "spot"),
    "cryptofacilities messages": ("kraken", "inverse"),
}  # fmt: skip
KIND = {
    Trade: "trade", AggTrade: "trade", BookDelta: "book_change", Quote: "book_ticker", Liquidation: "liquidation",
    MarkPrice: "derivative_ticker", OpenInterest: "derivative_ticker",
}  # fmt: skip

SAME = {
    "okex messages": 3, "okex-futures messages": 8, "okex-swap messages": 4, "bybit messages": 18,
    "bybit spot messages": 8, "kucoin messages": 8, "kucoin-futures messages": 7, "coinbase messages": 5,
    "kraken messages": 0, "kraken v2 messages": 2, "cryptofacilities messages": 12,
}  # fmt: skip
"""How many messages of each test we make the same of."""
OLD = "a protocol that the venue speaks no more, or payloads of years before; counted"
ELSEWHERE = "a channel that is not collected (its data comes by another); counted"
DIFFERENCES = {
    r"^counted: a frame of no documented shape": OLD,  # OKX V3
    r"^counted: (orderBook|instrument_info|trade$|depth$|bookTicker$)": OLD,  # Bybit before V5
    r"^counted: Expected `object`, got `array`": OLD,  # Kraken's WebSocket v1
    r"^counted: liquidations?$": OLD,  # Bybit before allLiquidation; OKX's made by the recorder
    r"^counted: Object missing required field `(timestamp|uid)`": OLD,  # Kraken Futures of 2019
    r"^counted: Object missing required field `(ts|fundingRate|seqId)` - at": OLD,  # OKX of 2021 and 2022
    r"^counted: exchange.ticker without sizes": OLD,  # Coinbase Exchange before 2022: a quote wants its sizes
    r"^counted: (books-l2-tbt|tickers)$": ELSEWHERE,
    r"^counted: /contract/instrument funding.rate": "the estimate is told with the marks behind it",
    r"^counted: exchange.level2_batch waiting": "a whole without a time is a row when the next message tells one",
    r"^counted: Expected `int \| null`, got `str` - at `\$.code`": "an answer of REST, put in the stream",
    r"^counted: levels that are no texts of numbers, or a sequence": "it ends before it starts: asked for anew",
    r"^counted: levels that are no side, price and size": "a size `0.-10000`: they drop the level",
    r"^counted: a whole book whose checksum does not hold": "an example: its checksum is not that of its levels",
    r"^counted: Object missing required field `checksum`": "an example without the checksum that proves it",
    r"^counted: impossible time": "a ticker of 1970",
    r"^more: book_change": "they hold changes back until the recorder's snapshot; we store what came and join it later",
    r"^more: trade": "trades told on subscribing are history; they leave them out",
    r"^more: liquidation": "their rules of an earlier date have no such channel",
    r"^made: .*'markPrice': '1.3336'.*'bidAmount': 0": "an empty book: they tell a quote of zeros",
}
"""What our verdict is like -> why."""


def told(event):
    """What our event says, in the other program's words."""
    said = {"type": KIND[type(event)], "symbol": event.symbol}
    match event:
        case Trade() | AggTrade():
            name = event.trade_id if event.trade_id is not None else str(event.seq)
            said |= {"id": name, "price": event.price, "amount": event.qty, "side": event.side}
        case Liquidation():
            said |= {"price": event.price, "amount": event.qty, "side": event.side}
        case Quote():
            said |= {"bidPrice": event.bid, "bidAmount": event.bid_qty, "askPrice": event.ask}
            said |= {"askAmount": event.ask_qty}
        case BookDelta():
            said |= {"isSnapshot": "snapshot" in event.flags, "bids": side(event.bids), "asks": side(event.asks)}
        case MarkPrice():
            said |= {"markPrice": event.mark} | ({"indexPrice": event.index} if event.index is not None else {})
        case OpenInterest():
            said |= {"openInterest": event.oi}
    return said


def side(raw):
    return [{"price": price, "amount": qty} for price, qty in levels(raw)]


def equal(ours, theirs):
    if isinstance(ours, dict):
        return all(equal(value, theirs.get(name)) for name, value in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(equal(*pair) for pair in zip(ours, theirs, strict=True))
    if isinstance(ours, str) and isinstance(theirs, int | float) and not isinstance(theirs, bool):
        return float(ours) == theirs
    return ours == theirs


def moment(text, wanted, last):
    """When (us) a message was received: a little after the newest time that it is mapped to, or that it says."""
    found = [times.parse(one["timestamp"]) for one in wanted if one.get("timestamp")]
    found += [times.parse(one) for one in re.findall(r'"(20[12]\d-\d\d-\d\dT[\d:.]+Z)"', text) if not found]
    found += [int(one) * 1000 for one in re.findall(r'[:"](1[4-9]\d{11})[",}]', text) if not found]
    return max(found) + 5000 if found else last


def verdicts(name):
    """(number of a message, its text, what is to be said of it)."""
    if not (FOLDER / "tardis_mappers.test.ts.gz").is_file():
        pytest.skip(f"no recordings in {FOLDER}; LAKE_SAMPLES names the folder")
    (messages,) = tardis.messages(FOLDER, [name]).values()
    (expected,) = tardis.expected(FOLDER, [name]).values()
    assert len(messages) == len(expected)
    venue, market = TESTS[name]
    session = exchanges.load(venue).session(Connection(venue, market, "x", "wss://x", ()), "n-1-1", learn=True)
    contract = (FIXTURES / "kucoin" / "linear" / "contracts.known").read_bytes().splitlines()[0]
    last = times.parse("2023-04-05")
    for number, message in enumerate(messages, 1):
        text, wanted = json.dumps(message, separators=(",", ":")), expected[number]
        if isinstance(session, Informed):
            for symbol in {*re.findall(r'"(?:instId|symbol)":"([^"]+)"', text), *(one["symbol"] for one in wanted)}:
                known = msgspec.json.decode(contract, type=Contract)
                session.know(msgspec.structs.replace(known, symbol=symbol, multiplier="1"))
        last = moment(text, wanted, last)
        ignored = session.ignored.copy()
        out = session.receive(text.encode(), last)
        counted = list(session.ignored - ignored)
        yield number, text, verdict(out, counted, wanted)


def verdict(out, counted, wanted):
    """`same`, or what we say instead."""
    rejected = [one.reason for one in out if isinstance(one, Rejected)]
    if rejected or not out:
        assert len(counted) + len(rejected) >= 1, "a message that nothing is said of, and that nobody counts"
        return "same" if not wanted and not rejected else f"counted: {rejected[0] if rejected else counted[0]}"
    ours = [told(event) for event in out]
    if all(any(equal(one, other) for other in wanted) for one in ours):
        return "same"
    return f"made: {ours} for {wanted}" if wanted else f"more: {ours[0]['type']}"


@pytest.mark.parametrize("name", TESTS)
def test_what_we_make_of_a_message_is_what_the_other_program_makes_of_it_or_it_is_said_why_not(name):
    found, unexplained = Counter(), []
    for number, text, said in verdicts(name):
        why = (
            "same" if said == "same" else next((why for form, why in DIFFERENCES.items() if re.search(form, said)), "")
        )
        found[why] += 1
        if not why:
            unexplained.append((number, text[:200], said))
    assert unexplained == []
    assert found["same"] == SAME[name], found


def test_every_difference_that_is_explained_is_one():
    said = [said for name in TESTS for _, _, said in verdicts(name) if said != "same"]
    assert [form for form in DIFFERENCES if not any(re.search(form, one) for one in said)] == []
