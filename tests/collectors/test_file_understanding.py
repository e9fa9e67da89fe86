"""What a file's head is understood as; and the sentence, with the option, where it is not."""

import random

import pytest

from collectors.files.dialects import names
from collectors.files.importing import rehearse, request_of
from collectors.files.preview import preview
from collectors.files.reading import Options, Refused, Unclear
from lake.errors import LakeError
from market.errors import MarketError
from tests.support.commands import ROOT

KLINES = "time,open,high,low,close,volume\n"


def options(**changed):
    return Options(**({"exchange": "binance", "market_type": "spot", "symbol": "X"} | changed))


def read(tmp_path, text, name="a.csv", **changed):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return request_of(path, options(**changed)).reading


def candles(*times, header=KLINES, sep=","):
    return header + "".join(f"{time}{sep}1{sep}2{sep}1{sep}2{sep}5\n" for time in times)


MINUTES = ("2024-01-31 00:00:00", "2024-01-31 00:01:00", "2024-01-31 00:02:00")


def test_candles_by_the_names_of_their_columns(tmp_path):
    found = read(tmp_path, candles(*MINUTES), timezone="UTC")
    assert (found.kind, found.dialect, found.interval, found.label, found.skip) == ("kline", "columns", "1m", "open", 1)
    assert found.fields == {"open": 1, "high": 2, "low": 3, "close": 4, "volume_base": 5}
    assert (found.times["open_time"].form, found.times["open_time"].zone) == ("ymd", "UTC")


@pytest.mark.parametrize(
    "name, text, changed, told",
    [
        ("tardis-trades", ("exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
         "b,BTCUSDT,1570752011620000,1570752011620001,1,buy,1.5,2\n"), {"kind": "trade", "symbol": None}, "us"),
        ("tardis-quotes", ("exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
         "b,BTCUSDT,1570752011620000,1570752011620001,1,2,1,1\n"), {"symbol": None}, "us"),
        ("kraken-ohlcvt", "1570752000,1,2,1,2,5,3\n1570752060,1,2,1,2,5,3\n", {"exchange": "kraken"}, "s"),
        ("kraken-trades", "1570752000.1234,1,2\n", {"exchange": "kraken"}, "s"),
        ("binance-trades", "7,1.5,2,3,1570752011620,true\n", {"exchange": "binance", "market_type": "linear"}, "ms"),
        ("binance-trades-spot", "7,1.5,2,3,1770752011620001,True,True\n", {"exchange": "binance"}, "us"),
        ("binance-trades-named", "id,price,qty,quote_qty,time,is_buyer_maker\n7,1.5,2,3,1570752011620,true\n",
         {"exchange": "binance", "market_type": "linear"}, "ms"),
        ("binance-aggtrades", "7,1.5,2,3,4,1570752011620,true\n", {"exchange": "binance"}, "ms"),
        ("binance-aggtrades-spot", "7,1.5,2,3,4,1770752011620001,True,True\n", {"exchange": "binance"}, "us"),
        ("binance-aggtrades-named", ("agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,"
         "is_buyer_maker\n7,1.5,2,3,4,1570752011620,true\n"), {"exchange": "binance"}, "ms"),
        ("binance-klines", "".join(f"{at},1,2,1,2,5,{at + 59999},6,3,2,3,0\n" for at in (1570752000000, 1570752060000)),
         {"exchange": "binance"}, "ms"),
        ("binance-klines-named", "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
         "taker_buy_quote_volume,ignore\n"
         + "".join(f"{at},1,2,1,2,5,{at + 59999},6,3,2,3,0\n" for at in (1570752000000, 1570752060000)),
         {"exchange": "binance"}, "ms"),
        ("truefx", "EUR/USD,20130101 22:00:00.295,1.1,1.2\n", {"symbol": None, "market_type": "fx"}, "compact"),
        ("histdata", "20120201 000000;1.306600;1.306600;1.306560;1.306560;0\n", {"market_type": "fx"}, "compact"),
        ("histdata-ticks", "20120201 000003660,1.306600,1.306770,0\n", {"market_type": "fx"}, "compact"),
        ("metatrader", "2012.02.01,00:00,1.1,1.2,1.1,1.2,5\n2012.02.01,00:01,1.1,1.2,1.1,1.2,5\n",
         {"timezone": "EET"}, "ymd"),
        ("metatrader5", ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
         "2012.02.01\t00:00:00\t1.1\t1.2\t1.1\t1.2\t5\t0\t3\n2012.02.01\t00:05:00\t1.1\t1.2\t1.1\t1.2\t5\t0\t3\n"),
         {"timezone": "EET"}, "ymd"),
        ("yahoo", "Date,Open,High,Low,Close,Adj Close,Volume\n2014-01-02,1,2,1,2,2,5\n2014-01-03,1,2,1,2,2,5\n",
         {"timezone": "UTC", "raw_prices": True}, "ymd"),
        ("yahoo-old", "Date,Open,High,Low,Close,Volume,Adj Close\n2014-01-03,1,2,1,2,5,2\n2014-01-02,1,2,1,2,5,2\n",
         {"timezone": "UTC", "raw_prices": True}, "ymd"),
        ("bitstamp", ("Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price\n"
         "1325317920,4.39,4.39,4.39,4.39,0.45,2.0,4.39\n1325317980,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"), {}, "s"),
        ("cryptodatadownload", ("https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,"
         "Volume USD\n1570752060,2019-10-11 00:01:00,BTC/USD,1,2,1,2,5,6\n1570752000,2019-10-11 00:00:00,BTC/USD,1,2,"
         "1,2,5,6\n"), {"symbol": None}, "s"),
        ("backtrader", ("Date,Time,Open,High,Low,Close,Volume,OpenInterest\n2006-01-02,09:05:00,1,2,1,2,0,0\n"
         "2006-01-02,09:10:00,1,2,1,2,0,0\n"), {"timezone": "Europe/Berlin"}, "ymd"),
        ("freqtrade", ('[[1570752011620,"13519807",null,"sell",0.1,23.0,2.3],[1570752011621,"13519808",null,"buy",0.1,'
         "1.0,0.1]]"), {"kind": "agg_trade"}, "ms"),
    ],
)  # fmt: skip
def test_dialects_are_told_by_their_looks(tmp_path, name, text, changed, told):
    found = read(tmp_path, text, **changed)
    time = found.times.get("open_time") or found.times["ts_event"]
    assert (found.dialect, time.form) == (name, told)


def test_every_dialect_is_documented():
    page = (ROOT / "docs" / "import.md").read_text()
    assert not [name for name in names() if f"| `{name}` |" not in page]


@pytest.mark.parametrize(
    "option, text, changed",
    [
        ("--timezone", candles(*MINUTES), {}),
        ("--dates", candles("01/02/2024", "02/02/2024", "03/02/2024"), {"timezone": "UTC"}),
        ("--interval", candles(*MINUTES[:1]), {"timezone": "UTC"}),
        ("--interval", candles("2024-01-31 00:00:00", "2024-01-31 00:00:04", "2024-01-31 00:00:11"),
         {"timezone": "UTC"}),
        ("--symbol", candles("1570752000", "1570752060"), {"symbol": None}),
        ("--raw-prices", "Date,Open,High,Low,Close,Adj Close,Volume\n2014-01-02,1,2,1,2,2,5\n2014-01-03,1,2,1,2,2,5\n",
         {"timezone": "UTC"}),
        ("--scale", "time,bid,ask\n1570752000,138676,138686\n", {"market_type": "fx"}),
        ("--kind", "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nb,X,1570752011620000,1,1,buy,1,2\n",
         {"symbol": None}),
        ("--decimal", "time;bid;ask\n1570752000;1,234;1,235\n", {}),
        ("--encoding", "time,bid,ask,caf\xe9\n1570752000,1,2,3\n".encode("latin1"), {}),
        ("--kind", "time,colour\n1570752000,3\n", {}),
    ],
)  # fmt: skip
def test_what_the_file_does_not_say_is_asked_for_by_its_option(tmp_path, option, text, changed):
    with pytest.raises(Unclear) as told:
        read(tmp_path, text, **changed)
    assert told.value.option == option
    assert told.value.exit_code == 2
    assert f"(say {option}" in str(told.value)


@pytest.mark.parametrize(
    "text, changed, sentence",
    [
        ("time,bid\n1570752000,1,2\n", {}, "its header names 2 columns, line 2 has 3 .*put the missing name"),
        ("1570752000,1,2\n1570752001,1,2,3\n", {}, "line 2 has 4 columns, line 1 has 3"),
        ("", {}, "is empty"),
        ("time,bid,ask\n", {}, "a header and no rows"),
        ("1570752000,1,2\n", {}, "no header, and its first row is in no known dialect: 1570752000,1,2"),
        ("1,2,3,4\n5,6,7,8\n", {}, "no header, and its first row is in no known dialect.*--map 1=time"),
        (candles("yesterday"), {}, "'yesterday', which is no time that is known"),
        (candles("1570752000", "1570752000000"), {}, "times of several units"),
        (candles("13/12/2024", "12/13/2024"), {"timezone": "UTC"}, "days before and behind the month"),
        (candles("13/12/2024", "14/12/2024"), {"timezone": "UTC", "dates": "mdy"}, "month above twelve"),
        (candles(*MINUTES), {"timezone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        (candles(*MINUTES), {"timezone": "UTC", "interval": "7x"}, "no interval '7x'"),
        (candles(*MINUTES), {"dialect": "nobody"}, "no dialect 'nobody'.*histdata"),
        (candles(*MINUTES), {"dialect": "histdata"}, "not in the dialect histdata"),
        (candles(*MINUTES), {"columns": {"Colour": "close"}}, "no column has that name.*1 time"),
        (candles(*MINUTES), {"columns": {"time": "time", "open": "price"}, "kind": "trade"}, "known to be qty"),
        (candles(*MINUTES), {"kind": "bar_1m"}, "made here, of trades.*--kind kline"),
        (candles(*MINUTES), {"kind": "book_delta"}, "imported from files of dl export and books of tardis.dev only"),
        (candles(*MINUTES), {"timezone": "UTC", "scale": 300}, "no power of ten"),
        ("PK\x03\x04rest", {}, "cannot be unpacked"),
        ("ARROW1__", {}, "Feather"),
        ("[1,2", {}, "JSON"),
        ('[[1570752011620,"13",null,"sell",0.1,23.0,2.3]]', {"kind": "trade"}, "aggregated.*--kind agg_trade"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_how_to_go_on(tmp_path, text, changed, sentence):
    with pytest.raises(Refused, match=sentence):
        read(tmp_path, text, **changed)


def test_a_day_above_twelve_settles_the_order(tmp_path):
    found = read(tmp_path, candles("11/02/2024", "12/02/2024", "13/02/2024"), timezone="UTC")
    assert found.times["open_time"].form == "dmy"


def test_a_decimal_comma_a_bom_and_other_delimiters(tmp_path):
    text = (
        "\ufeffGmt time;Open;High;Low;Close\n13.02.2024 00:00:00;1,5;2,25;1,5;2\n14.02.2024 00:00:00;1,5;2,25;1,5;2\n"
    )
    found = read(tmp_path, text)
    assert (found.delimiter, found.comma, found.encoding, found.interval) == (";", True, "utf-8-sig", "1d")
    assert found.times["open_time"].zone == "UTC", "its name says so"


def test_columns_are_mapped_by_name_or_number(tmp_path):
    found = read(tmp_path, "a,b,c\n1570752000,5,6\n", kind="trade", columns={"1": "time", "b": "price", "C": "qty"})
    assert (found.dialect, found.fields) == ("map", {"price": 1, "qty": 2})
    assert found.left_out == ()


def test_ids_are_seq_only_where_they_follow_by_one(tmp_path):
    text = "time,price,qty,id\n1570752000,5,6,77\n"
    assert "seq" in read(tmp_path, text).fields
    assert "trade_id" in read(tmp_path, text, exchange="bybit").fields
    assert "trade_id" in read(tmp_path, text, exchange="mybroker").fields
    with pytest.raises(Refused, match="'x7' is no number"):
        read(tmp_path, text.replace("77", "x7"))


PIECES = (b"", b"\n", b",", b";", b'"', b"\x00", b"\xff", b"NaN", b"-", b"9" * 40, b"\r", b"[", b"}")


@pytest.mark.parametrize("seed", range(2))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path, seed):
    dice = random.Random(seed)
    heads = [
        candles(*MINUTES),
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nb,X,1570752011620000,1,1,buy,1,2\n",
        '[{"time": 1570752011620, "bid": 1.5, "ask": "2"}]',
        '{"time": 1570752011620, "price": 1.5, "qty": 2}\n{"time": 1570752011621, "price": 1.5, "qty": 2}\n',
        "20120201 000000;1.306600;1.306600;1.306560;1.306560;0\n" * 3,
    ]
    read_at_all = 0
    for _ in range(40):
        data = bytearray(dice.choice(heads).encode())
        for _ in range(dice.choice((0, 1, 1, 2, 5))):
            place = dice.randrange(len(data))
            piece = dice.choice(
                (b"", b"\n", b",", b";", b'"', b"\x00", b"\xff", b"NaN", b"-", b"9" * 40, b"\r", b"[", b"}")
            )
            data[place : place + dice.choice((0, 1, 3))] = piece
        path = tmp_path / "a.csv"
        path.write_bytes(data)
        try:
            request = request_of(path, options(timezone="UTC", interval="1m", kind=None))
            rehearse(request, 1_700_000_000_000_000, lambda *_: None)
            preview(request, lambda *_: None)
            read_at_all += 1
        except (LakeError, MarketError):
            continue
    assert read_at_all > 3


def test_months_named_by_their_last_day_end_there(tmp_path):
    found = read(tmp_path, candles("2012-01-31", "2012-02-29", "2012-03-31"), timezone="UTC")
    assert (found.interval, found.label) == ("1M", "close")
