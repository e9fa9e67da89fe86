"""Settled rates and open interest of venues that tell them newest first, and say nowhere what their bounds include."""

from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from collectors.exchanges import load
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS

AT = 1_785_672_000_000_000
LATER = AT + 30 * DAY
BOUNDS = {"bybit": ("startTime", "endTime"), "kucoin": ("from", "to"), "okx": ("before", "after")}
PAGE = {("bybit", "funding_rate"): 200, ("bybit", "open_interest"): 200, ("kucoin", "funding_rate"): 100,
        ("okx", "funding_rate"): 400, ("okx", "open_interest"): 100}  # fmt: skip


def row(venue, kind, time):
    ms = str(time // MS)
    if venue == "bybit":
        rate = {"symbol": "X", "fundingRate": "0.0001", "fundingRateTimestamp": ms}
        return rate if kind == "funding_rate" else {"openInterest": "5", "timestamp": ms}
    if venue == "kucoin":
        return {"symbol": "X", "fundingRate": 0.0001, "timepoint": int(ms)}
    rate = {"instId": "X-SWAP", "fundingRate": "0.5", "realizedRate": "0.0001", "fundingTime": ms}
    return rate if kind == "funding_rate" else [ms, "5", "5", "5"]


def body(venue, rows):
    if venue == "bybit":
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows}, "time": AT // MS}
    return {"code": "200000", "data": rows} if venue == "kucoin" else {"code": "0", "msg": "", "data": rows}


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("most,steps", [(3, 8), (1000, 8), (1000, 450)])
@pytest.mark.parametrize(
    "venue,kind",
    PAGE,
)
def test_each_moment_of_the_period_comes_once_whatever_bounds_mean_and_pages_hold(venue, kind, most, steps, included):
    """`most`: rows that a page has, its newest ones, however many were asked for."""
    adapter, step = load(venue), HOUR if kind == "funding_rate" else 5 * MINUTE
    every = [AT + n * step for n in range(-4, steps + 5)]
    asked = Polled(kind, ("X-SWAP" if venue == "okx" else "X",), span=(AT, AT + steps * step))
    made = adapter.poller("linear", "n-1-1", asked, adapter.ENDPOINTS["linear"])
    low, high = ("begin", "end") if (venue, kind) == ("okx", "open_interest") else BOUNDS[venue]
    tasks, found = list(made.start(LATER)), []
    for _ in range(20):
        for fetch in tasks:
            told = {name: values[0] for name, values in parse_qs(urlsplit(fetch.url).query).items()}
            if fetch.tag == "probe":
                candle = [AT // MS - 10**10, *["1"] * 6]
                page = [[str(candle[0]), *candle[1:]] if venue == "bybit" else candle]
            else:
                first, last = int(told[low]) * MS, int(told[high]) * MS
                inside = [time for time in every if first <= time <= last and (included or first < time < last)]
                page = [row(venue, kind, time) for time in inside[-min(most, PAGE[venue, kind]) :][::-1]]
            found += made.respond(fetch.tag, 200, {}, msgspec.json.encode(body(venue, page)), LATER)
        tasks = list(made.tick(LATER))
    assert not any(isinstance(one, Rejected) for one in found)
    assert [one.ts_event for one in found] == [time for time in every if AT <= time < AT + steps * step]
    assert (made.done, made.failed) == (True, "")
    assert made.requests <= 9
