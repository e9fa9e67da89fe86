"""What a venue answers that is asked for the newest trade, as its documentation has it, and what is read in it."""

from __future__ import annotations

import pytest

from collectors import exchanges
from market.probing import Newest, Probing, Renewing
from market.session import EVERY_SYMBOL, Connection, Send, Stream
from market.times import MS, SECOND

AT = 1_767_225_600_123
"""ms"""
OKX = b'{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.1","px":"29963.2","source":"0",'
BYBIT = b'{"execId":"%b","price":"16618.49","size":"0.00012","side":"Buy","time":"%b","isBlockTrade":%b'
KRAKEN = b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],'
CASES = {
    ("binance", "spot", "trade"): (
        "BTCUSDT", "/api/v3/aggTrades?symbol=BTCUSDT&limit=1",
        b'[{"a":26129,"p":"0.01","q":"4.7","f":27779,"l":27781,"T":1767225600123,"m":true,"M":true}]', 27781, AT * MS,
    ),
    ("binance", "spot", "agg_trade"): (
        "BTCUSDT", "/api/v3/aggTrades?symbol=BTCUSDT&limit=1",
        b'[{"a":26129,"p":"0.01","q":"4.7","f":27779,"l":27781,"T":1767225600123,"m":true,"M":true}]', 26129, AT * MS,
    ),
    ("binance", "linear", "trade"): (
        "BTCUSDT", "/fapi/v1/trades?symbol=BTCUSDT&limit=1",
        b'[{"id":28457,"price":"4.0","qty":"12","quoteQty":"48.0","time":1767225600123,"isBuyerMaker":true}]',
        28457, AT * MS,
    ),
    ("binance", "inverse", "quote"): (
        "BTCUSD_PERP", "/dapi/v1/trades?symbol=BTCUSD_PERP&limit=1",
        b'[{"id":28457,"price":"4.0","qty":"12","baseQty":"3","time":1767225600123,"isBuyerMaker":true}]',
        28457, AT * MS,
    ),
    ("bybit", "linear", "trade"): (
        "BTCUSDT", "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=10",
        b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":['
        + BYBIT % (b"c4f3", b"1767225600123", b"true}]},") + b'"retExtInfo":{},"time":1767225600200}', None, AT * MS,
    ),
    ("bybit", "spot", "quote"): (
        "BTCUSDT", "/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit=10",
        b'{"retCode":0,"result":{"list":[' + BYBIT % (b"2", b"1767225600999", b'true,"isRPITrade":false},')
        + BYBIT % (b"1", b"1767225600123", b'false,"isRPITrade":false}]}}'), None, AT * MS,
    ),
    ("okx", "spot", "trade"): (
        "BTC-USDT", "/api/v5/market/trades?instId=BTC-USDT&limit=1",
        OKX + b'"tradeId":"242720720","ts":"1767225600123"}]}', 242720720, AT * MS,
    ),
    ("kucoin", "spot", "trade"): (
        "BTC-USDT", "/api/v1/market/histories?symbol=BTC-USDT",
        (b'{"code":"200000","data":[{"sequence":"10976028003549185","price":"67122","size":"0.000025","side":"buy",'
        b'"time":1767225600023000000},{"sequence":"10976028003549188","price":"67122","size":"0.01792257","side":"buy",'
        b'"time":1767225600123000000}]}'), None, AT * MS,
    ),
    ("kucoin", "linear", "book_delta"): (
        "XBTUSDTM", "/api/v1/trade/history?symbol=XBTUSDTM",
        (b'{"code":"200000","data":[{"sequence":1697915257909,"contractId":1,"tradeId":"1697915257909","side":"buy",'
        b'"size":1,"price":"67122","ts":1767225600123000000}]}'), None, AT * MS,
    ),
    ("coinbase", "spot", "trade"): (
        "BTC-USD", "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=1",
        (b'{"trades":[{"trade_id":"995098663","product_id":"BTC-USD","price":"68923.67","size":"0.00064",'
        b'"time":"2026-01-01T00:00:00.123Z","side":"SELL","bid":"","ask":"","exchange":"coinbase"}],'
        b'"best_bid":"68923.66","best_ask":"68923.67"}'), 995098663, AT * MS,
    ),
    ("kraken", "spot", "trade"): (
        "BTC/USD", "/0/public/Trades?pair=XBTUSD",
        KRAKEN + b'["30243.30000","0.00376960",1767225600.123,"b","m","",61044953]],"last":"1688671969993150842"}}',
        61044953, AT * MS,
    ),
    ("kraken", "inverse", "trade"): (
        "PI_XBTUSD", "/derivatives/api/v3/history?symbol=PI_XBTUSD",
        (b'{"result":"success","history":[{"time":"2026-01-01T00:00:00.123Z","trade_id":100,"price":30000.5,"size":10,'
        b'"side":"buy","type":"fill","uid":"u-1"},{"time":"2026-01-01T00:00:00Z","trade_id":99,"price":1,"size":1,'
        b'"side":"buy","type":"fill","uid":"u-0"}],"serverTime":"2026-01-01T00:00:01Z"}'), None, AT * MS,
    ),
}  # fmt: skip
REFUSALS = {
    "bybit": b'{"retCode":10001,"retMsg":"Not supported symbols","result":{},"time":1767225600200}',
    "okx": b'{"code":"51001","msg":"Instrument ID does not exist","data":[]}',
    "kucoin": b'{"code":"200003","msg":"Invalid symbol."}',
    "kraken": b'{"error":["EQuery:Unknown asset pair"]}',
}


Asked = tuple[Probing, Connection, Stream]


def asked(venue: str, market: str, kind: str, symbol: str, rest: str = "https://rest") -> Asked:
    exchange = exchanges.load(venue)
    assert isinstance(exchange, Probing)
    plan = Connection(venue, market, "c", "wss://ws", (), rest=rest)
    return exchange, plan, Stream(f"{kind}:{symbol}", kind, symbol, kind, contiguous=False)


@pytest.mark.parametrize("case, expected", CASES.items(), ids=lambda one: " ".join(map(str, one[:3])))
def test_the_newest_trade_is_asked_for_and_read(
    case: tuple[str, str, str], expected: tuple[str, str, bytes, int | None, int]
) -> None:
    symbol, path, body, seq, ts = expected
    exchange, plan, stream = asked(*case, symbol)
    fetch = exchange.probe(plan, stream)
    assert fetch is not None
    assert fetch.url == f"https://rest{path}"
    assert fetch.weight >= 1
    found = exchange.probed(plan, stream, 200, body)
    assert isinstance(found, Newest)
    assert (found.seq, found.ts) == (seq, ts)
    assert found.said.endswith("of 2026-01-01T00:00:00.123Z")


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_is_no_answer_says_nothing_and_nothing_is_raised(venue: str) -> None:
    case = next(case for case in CASES if case[0] == venue)
    symbol, _, body, *_ = CASES[case]
    exchange, plan, stream = asked(*case, symbol)
    assert exchange.probed(plan, stream, 503, body) == "status 503"
    assert exchange.probed(plan, stream, 0, b"") == "no answer"
    pieces = [body[:at] for at in range(len(body))]
    for wrong in (*pieces, b"<html>", b"[[]]", b'{"code":"0","data":[{}]}', b"\xff", b"null", b"[" * 5000):
        assert isinstance(exchange.probed(plan, stream, 200, wrong), str), wrong
    late = body.replace(b"1767225600", b"9967225600").replace(b"2026-01-01", b"2226-01-01")
    assert isinstance(exchange.probed(plan, stream, 200, late), str), "a time that cannot be"


@pytest.mark.parametrize("venue", REFUSALS)
def test_a_venue_that_knows_no_such_symbol_says_so(venue: str) -> None:
    case = next(case for case in CASES if case[0] == venue)
    exchange, plan, stream = asked(*case, CASES[case][0])
    said = exchange.probed(plan, stream, 200, REFUSALS[venue])
    assert isinstance(said, str)
    assert any(word in said for word in ("10001", "51001", "200003", "Unknown asset pair"))


@pytest.mark.parametrize("venue", exchanges.names())
def test_where_nothing_tells_nothing_is_asked(venue: str) -> None:
    case = next(case for case in CASES if case[0] == venue)
    symbol = CASES[case][0]
    for kind, whom, rest in (
        ("liquidation", symbol, "https://r"), ("mark_price", symbol, "https://r"), ("trade", EVERY_SYMBOL, "https://r"),
        ("trade", symbol, ""),
    ):  # fmt: skip
        exchange, plan, stream = asked(venue, case[1], kind, whom, rest)
        assert exchange.probe(plan, stream) is None


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_has_missed_something_can_be_asked_for_anew(venue: str) -> None:
    exchange = exchanges.load(venue)
    market, symbol = next((case[1], told[0]) for case, told in CASES.items() if case[0] == venue)
    streams = exchange.streams(market, ["trade", "quote"], [symbol])
    plan = exchange.connections(market, streams, exchange.ENDPOINTS[market])[0]
    session = exchange.session(plan, "n-1-1")
    session.start(AT * MS)
    assert isinstance(session, Renewing)
    session.renew(plan.streams[:1])
    texts = [out.text for n in range(1, 60) for out in session.tick(AT * MS + n * SECOND // 2) if isinstance(out, Send)]
    if venue != "kucoin":  # which is told nothing before its welcome
        anew = [text.lower() for text in texts if "unsubscribe" in text.lower()]
        assert len(anew) == 1
        assert symbol.lower() in anew[0]
        after = texts[[text.lower() for text in texts].index(anew[0]) + 1 :]
        assert any(symbol.lower() in text.lower() and "unsubscribe" not in text.lower() for text in after)


def test_a_symbol_is_no_part_of_an_address() -> None:
    exchange, plan, stream = asked("okx", "spot", "trade", "A&instId=B/../C")
    fetch = exchange.probe(plan, stream)
    assert fetch is not None
    assert fetch.url.endswith("instId=A%26instId%3DB%2F..%2FC&limit=1")
