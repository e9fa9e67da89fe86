"""KuCoin's history: the documented rows as events of every market.

What pages them is proven by tests/conformance/test_history.py.
"""

import io
import itertools
import zipfile
from functools import partial

import msgspec
import pytest

from collectors.exchanges import load
from collectors.files.archive import series
from collectors.files.archive.facts import Allowed
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from market.kinds import Contract
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MS, SECOND
from tests.support.pages import told_back

KUCOIN = load("kucoin")
AT = 1_785_672_000_000
LATER = AT * MS + 10 * DAY
NAME = "XBTUSDTM"
SPOT = [str(AT // 1000), "10411.5", "10401.9", "10411.6", "10396.3", "29.11357276", "302889.301529914"]


def session(market, kind, worth="0.001", width=HOUR):
    known = Contract(
        NAME, "", None, None, 0, "n-1-1", 0, 0, "rest", NAME, None, None, None, None, None, None, worth, None, "Open",
        None, None, None, None, None, 0, None,
    )  # fmt: skip
    asked = Polled(kind, (NAME,), known=(known,), span=(AT * MS, AT * MS + width))
    return KUCOIN.poller(market, "n-1-1", asked, KUCOIN.ENDPOINTS[market])


def body(data, code="200000"):
    return msgspec.json.encode({"code": code, "data": data})


def begun(made):
    (probe,) = made.start(0)
    assert "1week" in probe.url or "granularity=10080" in probe.url
    first = [[1_600_000_000_000, 1, 1, 1, 1, 1]] if "granularity" in probe.url else [["1600000000", *SPOT[1:]]]
    made.respond(probe.tag, 200, {}, body(first), LATER)
    (asked,) = made.tick(LATER)
    return asked


told = partial(told_back, LATER)


def test_candles_of_spot_are_open_close_high_low():
    made = session("spot", "kline")
    asked = begun(made)
    assert f"&startAt={AT // 1000 - 60}&endAt=" in asked.url
    before = [str(AT // 1000 - 60), *SPOT[1:]]
    (one,) = made.respond(asked.tag, 200, {}, body([SPOT, before]), LATER)
    assert (one.open, one.high, one.low, one.close) == ("10411.5", "10411.6", "10396.3", "10401.9")
    assert (one.open_time, one.volume_base, one.volume_quote) == (AT * MS, "29.11357276", "302889.301529914")


def test_candles_of_futures_count_lots():
    for market, worth, volumes in (("linear", "0.001", ("5501.167", None)), ("inverse", "1", (None, "5501167"))):
        made = session(market, "kline", worth)
        rows = [[AT, 60791.1, 61035, 58940, 60300, 5501167, 1.5]]
        (one,) = made.respond(begun(made).tag, 200, {}, body(rows), LATER)
        assert (one.open, one.high, one.low, one.close) == ("60791.1", "61035", "58940", "60300")
        assert (one.volume_base, one.volume_quote) == volumes
    made = session("linear", "kline", "0.001")
    (said,) = made.respond(begun(made).tag, 200, {}, body([[AT, 1, 1, 1, 1, msgspec.Raw(b"0." + b"1" * 28)]]), LATER)
    assert isinstance(said, Rejected)
    assert "more than 30 digits" in said.reason


@pytest.mark.parametrize("market, unit, most", [("spot", 1, 1500), ("linear", 1000, 500)])
def test_no_window_holds_more_candles_than_a_page(market, unit, most):
    """What a page has no room for would be left out without a word. Nothing lies between two windows."""
    made, spans = session(market, "kline", width=5 * DAY), []
    asked = begun(made)
    while len(spans) < 3:
        start, end = (int(one.partition("=")[2]) for one in asked.url.rsplit("&", 2)[1:])
        spans.append((start // unit, end // unit))
        made.respond(asked.tag, 200, {}, body([]), LATER)
        (asked,) = made.tick(LATER) if len(spans) < 3 else (asked,)
    assert all(most - 10 < (end - start) // 60 + 1 <= most for start, end in spans)
    assert all(start - end <= 60 for (_, end), (start, _) in itertools.pairwise(spans))


def test_settled_rates_may_be_in_scientific_notation_and_an_answer_without_rows_null():
    made = session("linear", "funding_rate")
    row = {"symbol": NAME, "fundingRate": msgspec.Raw(b"2.1E-4"), "timepoint": AT}
    (one,) = told(made, begun(made), body([row]), body([row]))
    assert (one.rate, one.ts_event) == ("0.00021", AT * MS)
    made = session("linear", "funding_rate")
    assert made.respond(begun(made).tag, 200, {}, body(None), LATER) == []
    assert made.done


@pytest.mark.parametrize("bad", [[SPOT[:6]], [["x", *SPOT[1:]]], [[SPOT[0], "NaN", *SPOT[2:]]], [None], {}])
def test_a_candle_that_breaks_the_rules_refuses_its_page(bad):
    made = session("spot", "kline")
    (said,) = made.respond(begun(made).tag, 200, {}, body(bad), LATER)
    assert isinstance(said, Rejected)


def test_a_page_cut_short_at_its_beginning_is_completed():
    """The venue has answered with its newest hundred where 1500 were asked for."""
    made = session("spot", "kline")
    candles = [[str(AT // 1000 + minute * 60), *SPOT[1:]] for minute in range(-1, 60)][::-1]
    asked, found, urls = begun(made), [], []
    while not made.done:
        urls.append(asked.url)
        end = int(asked.url.partition("endAt=")[2])
        page = [one for one in candles if int(one[0]) < end][:25]
        found += made.respond(asked.tag, 200, {}, body(page), LATER)
        (asked,) = made.tick(LATER) or (None,)
    assert [one.open_time for one in found] == [AT * MS + minute * 60 * SECOND for minute in range(60)]
    assert len(urls) == 3


def archived(market, symbol, interval, text):
    """The rows of an archive's file of candles; a contract is worth 0.001."""
    file = ArchiveFile("2026-08-02", series.series_of("kucoin", market, "kline", symbol, interval))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("candles.csv", text)
    packed.seek(0)
    caps = Caps(packed=1 << 16, unpacked=1 << 16, ratio=200, small=1 << 16)
    reading = Reading(file, Allowed(contract_size=None if market == "spot" else "0.001"))
    names = ("open", "high", "low", "close", "volume_base", "volume_quote")
    rows = [row for piece in reading.batches(blocks(packed, file, caps)) for row in piece.to_dicts()]
    assert {row["ts_event"] - row["open_time"] for row in rows} == {file.series.width - MS}
    return [tuple(None if row.get(name) is None else float(row[name]) for name in names) for row in rows]


@pytest.mark.parametrize(
    "market, symbol, row, told",
    [("spot", "BTC-USDT", {"open": 1, "close": 4, "high": 5, "low": 0.5, "volume": 7.5, "turnover": 21.25},
      (1, 5, 0.5, 4, 7.5, 21.25)),
     ("linear", "XBTUSDTM", {"open": 1, "high": 5, "low": 0.5, "close": 4, "volume": 30}, (1, 5, 0.5, 4, 0.03, None)),
     ("inverse", "XBTUSDM", {"open": 1, "high": 5, "low": 0.5, "close": 4, "volume": 30}, (1, 5, 0.5, 4, None, 0.03))],
)  # fmt: skip
def test_candles_of_the_archive_are_in_the_order_and_the_units_of_their_market(market, symbol, row, told):
    """Of spot open, close, high, low, base and quote; of futures open, high, low, close and lots."""
    text = f"time,{','.join(row)}\n{AT},{','.join(map(str, row.values()))}\n"
    assert archived(market, symbol, "1m", text) == [told]


@pytest.mark.parametrize("volume", ["", ",volume"])
def test_a_candle_of_a_day_names_a_volume_or_not_and_has_none(volume):
    text = f"time,open,high,low,close{volume}\n{AT - AT % (DAY // MS)},1,5,0.5,4"
    assert archived("linear", "XBTUSDTM", "1d", f"{text}\n") == [(1, 5, 0.5, 4, None, None)]
    with pytest.raises(Refused, match="columns"):
        archived("linear", "XBTUSDTM", "1d", f"{text[:-2]}\n")
    assert archived(
        "linear", "XBTUSDTM", "1d", f"time,open,high,low,close,volume\n{text.rpartition(chr(10))[2]},30\n"
    ) == [(1, 5, 0.5, 4, 0.03, None)]
