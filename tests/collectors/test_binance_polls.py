"""Sessions of Binance that only fetch: paging without hole or duplicate, patience, and recorded answers."""

import gzip
import itertools
import os
import pathlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.answers import LONGEST_PAUSE
from collectors.exchanges import load
from collectors.exchanges.binance import funding
from collectors.merger import merger
from market.kinds import BookSnapshot, FundingRate, OpenInterest
from market.session import SERVER_TIME, Fetch, Polled, Refused, Rejected, ServerTime
from market.times import DAY, HOUR, MINUTE, MS, SECOND

SAMPLES_DIR = (
    pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
    / "binance"
)
BINANCE = load("binance")
NOON = 1_785_672_000_000_000
"""2026-08-02T12:00:00Z"""


def poller(kind, *symbols, market="linear", every=HOUR, **more):
    return BINANCE.poller(market, "n-1-1", Polled(kind, symbols, every, **more), BINANCE.ENDPOINTS[market])


def told(session, fetch, body, at, status=200, headers=None):
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return session.respond(fetch.tag, status, headers or {}, data, at)


def settled(symbol, *times, rate="0.0001"):
    return [{"symbol": symbol, "fundingRate": rate, "fundingTime": time // MS, "markPrice": "1"} for time in times]


def query(fetch):
    return dict(pair.split("=") for pair in fetch.url.partition("?")[2].split("&"))


def funding_poll(*symbols, info=(), at=NOON, **more):
    """A session that has had its answer on intervals, and its first requests."""
    made = poller("funding_rate", *symbols, **more)
    (asked,) = made.start(at)
    assert asked.tag == "fundingInfo"
    told(made, asked, list(info), at)
    return made, list(made.tick(at))


class Venue:
    """The route of settled rates: every rate of one symbol, a page of them at a time."""

    def __init__(self, times, page):
        self.times = times
        self.page = page

    def answer(self, fetch):
        start = int(query(fetch)["startTime"]) * MS
        return settled("A", *[time for time in self.times if time >= start][: self.page])


# --- funding ---


def test_without_a_known_rate_the_history_begins_with_the_day():
    _, (asked,) = funding_poll("A")
    assert asked.url.startswith("https://fapi.binance.com/fapi/v1/fundingRate?symbol=A&")
    assert int(query(asked)["startTime"]) * MS == NOON - NOON % DAY - SECOND
    assert query(asked)["limit"] == "1000"


def test_the_history_goes_on_from_the_last_rate_that_is_stored_and_overlaps_with_it():
    _, (asked,) = funding_poll("A", since={"A": NOON - 40 * DAY})
    assert int(query(asked)["startTime"]) * MS == NOON - 40 * DAY - SECOND


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=60, unique=True),
    st.integers(2, 7),
    st.lists(st.integers(-400, 400), min_size=60, max_size=60),
)
def test_pages_and_polls_give_every_rate_once_however_many_fit_on_a_page(hours, page, offsets):
    original, funding.PAGE = funding.PAGE, page
    try:
        times = sorted(NOON - 401 * HOUR + hour * HOUR for hour in hours)
        venue = Venue([time + offset * MS for time, offset in zip(times, offsets, strict=False)], page)
        stored = NOON - 402 * HOUR
        made, asked = funding_poll("A", since={"A": stored})
        held, rows, now = merger("binance", "linear", "funding_rate", contiguous=False), [], NOON
        for _ in range(200):
            for fetch in asked:
                out = told(made, fetch, venue.answer(fetch), now)
                rows += [row for row in out if held.merge(row)]
            now = max(now, made.next_deadline())
            if now > NOON + 2 * HOUR:
                break
            asked = [fetch for fetch in made.tick(now) if fetch.tag != "fundingInfo"]
        assert [row.ts_event for row in rows] == times
        assert made.ignored["fundingInfo"] == 1
    finally:
        funding.PAGE = original


def test_a_full_page_is_followed_by_the_next_one_at_once(monkeypatch):
    monkeypatch.setattr(funding, "PAGE", 2)
    made, (first,) = funding_poll("A", since={"A": NOON - DAY})
    told(made, first, settled("A", NOON - 16 * HOUR, NOON - 8 * HOUR), NOON + SECOND)
    assert made.next_deadline() == NOON + SECOND
    (second,) = made.tick(NOON + SECOND)
    assert int(query(second)["startTime"]) * MS == NOON - 8 * HOUR - SECOND
    told(made, second, settled("A", NOON - 8 * HOUR, NOON), NOON + 2 * SECOND)
    (third,) = made.tick(NOON + 2 * SECOND)
    told(made, third, settled("A", NOON), NOON + 3 * SECOND)
    assert made.next_deadline() >= NOON + HOUR // 2


def test_a_page_that_never_moves_on_is_not_asked_for_without_end(monkeypatch):
    monkeypatch.setattr(funding, "PAGE", 2)
    made, (asked,) = funding_poll("A", since={"A": NOON})
    told(made, asked, settled("A", NOON, NOON), NOON + SECOND)
    assert made.next_deadline() >= NOON + HOUR // 2


@pytest.mark.parametrize(
    "info,times,wanted",
    [
        ([{"symbol": "A", "fundingIntervalHours": 4}], [NOON - 8 * HOUR, NOON], [14_400, 14_400]),
        ([], [NOON - 5 * HOUR, NOON - 4 * HOUR, NOON], [3600, 3600, 14_400]),
        ([], [NOON], [28_800]),
        ([], [NOON - 24 * HOUR, NOON], [28_800, 28_800]),
        (None, [NOON], [None]),
        (None, [NOON - 24 * HOUR, NOON], [None, None]),
    ],
)
def test_a_rates_interval_is_the_venues_word_else_its_neighbours_else_eight_hours(info, times, wanted):
    made = poller("funding_rate", "A")
    (asked,) = made.start(NOON)
    told(made, asked, info if info is not None else b"<html>", NOON)
    out = made.respond("fundingRate A", 200, {}, msgspec.json.encode(settled("A", *times)), NOON)
    assert [row.interval_s for row in out] == wanted
    assert {row.rate_kind for row in out} == {"ratio"}


def test_rates_are_asked_for_though_the_intervals_are_not_told():
    made = poller("funding_rate", "A")
    (asked,) = made.start(NOON)
    assert made.tick(NOON) == []
    (said,) = told(made, asked, b"x", NOON, status=500)
    assert isinstance(said, Rejected)
    assert [fetch.tag for fetch in made.tick(NOON)] == ["fundingRate A"]
    assert [fetch.tag for fetch in made.tick(made.next_deadline())] == ["fundingInfo"]


# --- open interest, books, the clock ---


def test_units_are_the_markets():
    for market, unit in (("linear", "base"), ("inverse", "contract")):
        made = poller("open_interest", "A", market=market)
        (asked,) = made.start(NOON)
        (row,) = told(made, asked, {"symbol": "A", "openInterest": "7", "time": NOON // MS}, NOON)
        assert isinstance(row, OpenInterest)
        assert (row.oi, row.oi_unit, row.sides, row.ts_event) == ("7", unit, 1, NOON)
        assert asked.url.startswith(BINANCE.ENDPOINTS[market].rest)


def test_of_two_answers_with_one_time_the_last_counts_and_an_equal_one_is_a_copy():
    held = merger("binance", "linear", "open_interest", contiguous=False)
    made = poller("open_interest", "A")
    rows = [
        made.respond("openInterest A", 200, {}, b'{"symbol":"A","openInterest":"%d","time":%d}' % (n, NOON // MS), NOON)
        for n in (1, 1, 2)
    ]
    assert [held.merge(row) for (row,) in rows] == [True, False, True]


def test_the_levels_of_a_polled_book_are_those_the_route_gives():
    made = poller("book_snapshot", "A", market="linear", levels=5000)
    (asked,) = made.start(NOON)
    assert (query(asked)["limit"], asked.weight, asked.tag) == ("1000", 20, "depth 1000 A")
    made = poller("book_snapshot", "A", market="spot", levels=5000)
    (asked,) = made.start(NOON)
    assert (query(asked)["limit"], asked.weight) == ("5000", 250)


def test_hostile_symbols_are_escaped():
    made = poller("open_interest", "../../X?A=B&C")
    (asked,) = made.start(NOON)
    assert asked.url.endswith("openInterest?symbol=..%2F..%2FX%3FA%3DB%26C")


def test_a_market_without_derivatives_is_not_asked_for_them():
    assert set(BINANCE.POLLS["spot"]) == {"contract", "book_snapshot", SERVER_TIME}
    assert BINANCE.streams("linear", ["open_interest", "funding_rate"], ["A"]) == []
    for kind in ("open_interest", "funding_rate", "trade"):
        with pytest.raises(Exception, match="can be polled for"):
            poller(kind, "A", market="spot")


# --- patience ---


def interest(session, fetch, at):
    name = fetch.tag.split()[1]
    return told(session, fetch, {"symbol": name, "openInterest": "1", "time": at // MS}, at)


def test_requests_are_spread_over_the_interval_and_keep_their_places():
    symbols = [f"S{n}" for n in range(60)]
    made, times, now = poller("open_interest", *symbols, every=MINUTE), {}, NOON
    asked = list(made.start(now))
    while now < NOON + 5 * MINUTE:
        assert len(asked) == 1
        times.setdefault(asked[0].tag, []).append(now)
        interest(made, asked[0], now)
        now = made.next_deadline()
        asked = list(made.tick(now))
    for place, symbol in enumerate(symbols):
        mine = times[f"openInterest {symbol}"]
        assert mine == [NOON + place * SECOND + n * MINUTE for n in range(5)]


def test_settled_rates_of_many_symbols_keep_within_the_limit_of_their_own_route():
    """500 in five minutes, which no header tells: over it the address is banned, and all of its requests with it."""
    symbols = [f"S{n}" for n in range(600)]
    made, asked = funding_poll(*symbols, every=MINUTE)
    times, now = [NOON], NOON
    while now < NOON + 30 * MINUTE:
        for fetch in asked:
            times.append(now)
            told(made, fetch, [], now)
        now = made.next_deadline()
        asked = list(made.tick(now))
    most = max(sum(start <= at < start + 5 * MINUTE for at in times) for start in range(NOON, now, MINUTE))
    assert 200 <= most <= 300


def test_the_first_answers_of_a_long_interval_come_soon():
    made, (first,) = funding_poll(*[f"S{n}" for n in range(100)])
    told(made, first, [], NOON)
    now = NOON
    for _ in range(99):
        now = made.next_deadline()
        for fetch in made.tick(now):
            told(made, fetch, [], now)
    assert now <= NOON + 3 * MINUTE
    again = made.next_deadline()
    assert NOON + HOUR // 2 <= again <= NOON + HOUR


def test_a_venue_that_fails_is_asked_more_and_more_rarely_not_once_for_every_symbol():
    made = poller("open_interest", *[f"S{n}" for n in range(200)], every=MINUTE)
    asked, now, requests = list(made.start(NOON)), NOON, []
    while now < NOON + HOUR:
        for fetch in asked:
            requests.append(now)
            told(made, fetch, b"<html>maintenance</html>", now)
        now = made.next_deadline()
        asked = list(made.tick(now))
        assert len(asked) == 1
    pauses = [b - a for a, b in itertools.pairwise(requests)]
    assert len(requests) < 30
    assert max(pauses) <= LONGEST_PAUSE + 4 * MINUTE
    (fetch,) = asked
    interest(made, fetch, now)
    assert made.next_deadline() <= now, "the others are late"
    assert len(made.tick(now)) == 4, "and are no burst"
    assert made.next_deadline() is None


def test_a_ban_silences_every_symbol_for_as_long_as_it_lasts():
    made = poller("open_interest", "A", "B", "C", every=MINUTE)
    (asked,) = made.start(NOON)
    told(made, asked, b"{}", NOON, status=418, headers={"Retry-After": "600"})
    assert made.next_deadline() == NOON + 600 * SECOND
    assert made.tick(NOON + 599 * SECOND) == []


def test_a_refused_symbol_is_said_once_and_leaves_the_others_alone():
    made = poller("open_interest", "A", "GONE", every=MINUTE)
    refused, now = [], NOON
    asked = list(made.start(NOON))
    answers = []
    while now < NOON + 3 * HOUR:
        for fetch in asked:
            answers.append((fetch.tag.split()[1], now))
            if "GONE" in fetch.tag:
                refused += told(made, fetch, b'{"code":-1121,"msg":"Invalid symbol."}', now, status=400)
            else:
                interest(made, fetch, now)
        now = made.next_deadline()
        asked = list(made.tick(now))
    assert [type(out) for out in refused] == [Refused]
    assert refused[0].streams[0].symbol == "GONE"
    assert sum(name == "A" for name, _ in answers) == 180
    assert 3 <= sum(name == "GONE" for name, _ in answers) <= 4
    assert made.ignored["openInterest refused again"] >= 2


def test_a_symbol_that_fails_alone_does_not_hold_up_the_others():
    made = poller("open_interest", "A", "BAD", "C", every=MINUTE)
    asked, now, good = list(made.start(NOON)), NOON, []
    while now < NOON + 10 * MINUTE:
        for fetch in asked:
            if "BAD" in fetch.tag:
                told(made, fetch, b"", now, status=500)
            else:
                interest(made, fetch, now)
                good.append(now)
        now = made.next_deadline()
        asked = list(made.tick(now))
    assert len(good) == 21, "every interval, and one before its place"


def test_open_interest_says_when_a_symbol_is_late():
    made = poller("open_interest", "A", every=MINUTE)
    (asked,) = made.start(NOON)
    interest(made, asked, NOON)
    (state,) = made.streams()
    assert (state.stream.kind, state.stream.max_silence, state.first_event) == ("open_interest", 3 * MINUTE, NOON)


# --- replay ---


def test_answers_read_again_without_the_questions_give_the_same_rows():
    live = poller("funding_rate", "A", "B", since={"A": NOON - 3 * DAY})
    asked, now, heard, frames = list(live.start(NOON)), NOON, [], []
    venue = Venue([NOON - 3 * DAY + n * 8 * HOUR + n % 5 * MS for n in range(40)], 1000)
    while now < NOON + 9 * HOUR:
        for fetch in asked:
            body = b"[]" if fetch.tag == "fundingInfo" else msgspec.json.encode(
                [row for row in venue.answer(fetch) if row["fundingTime"] * MS <= now] if "A" in fetch.tag else []
            )  # fmt: skip
            status = 503 if len(frames) % 7 == 3 else 200
            frames.append((fetch.tag, status, body, now))
            heard += live.respond(fetch.tag, status, {}, body, now)
        now = live.next_deadline()
        asked = list(live.tick(now))
    replayed = poller("funding_rate", "A", "B", every=0)
    assert replayed.start(NOON) == []
    again = [out for tag, status, body, at in frames for out in replayed.respond(tag, status, {}, body, at)]
    assert again == heard
    assert replayed.next_deadline() is None
    assert any(isinstance(out, FundingRate) for out in heard)
    assert any(isinstance(out, Rejected) for out in heard)


# --- recorded answers ---


def recorded():
    path = SAMPLES_DIR / "gct_rest_public_routes.json.gz"
    if not path.exists():
        pytest.skip(f"recorded answers are not here: {path} (set LAKE_SAMPLES)")
    return msgspec.json.decode(gzip.decompress(path.read_bytes()))["routes"]


ROUTES = [
    ("open_interest", "openInterest"),
    ("funding_rate", "fundingRate"),
    ("book_snapshot", "depth"),
    (SERVER_TIME, "time"),
]
PREFIX = {"spot": "/api/v3", "linear": "/fapi/v1", "inverse": "/dapi/v1"}


@pytest.mark.parametrize("market", PREFIX)
@pytest.mark.parametrize("kind,route", ROUTES)
def test_recorded_answers_are_rows_and_nothing_in_them_is_unknown(market, kind, route):
    answers = recorded().get(f"{PREFIX[market]}/{route}", {}).get("GET", [])
    for each in answers:
        asked = dict(pair.split("=") for pair in each["queryString"].split("&") if pair)
        symbol, body = asked.get("symbol", ""), each["data"]
        made = poller(kind, symbol, market=market, every=0)
        now = max(find(body), default=NOON // MS) * MS + SECOND
        tag = {"depth": f"depth {asked.get('limit')} {symbol}", "time": "time"}.get(route, f"{route} {symbol}")
        out = made.respond(tag, 200, {}, msgspec.json.encode(body), now)
        if route == "fundingRate":
            rows = body or []
            assert len(out) == len(rows)
            assert all(isinstance(row, FundingRate) and row.ts_event % HOUR == 0 for row in out)
            assert sum(made.ignored.values()) == (not rows)
            assert {row.interval_s for row in out} <= {28_800, None}
        else:
            (row,) = out
            assert isinstance(row, OpenInterest | BookSnapshot | ServerTime)


@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_recorded_intervals_are_read(market):
    (answer,) = recorded()[f"{PREFIX[market]}/fundingInfo"]["GET"]
    made = poller("funding_rate", "LPTUSDT", market=market, every=0)
    assert made.respond("fundingInfo", 200, {}, msgspec.json.encode(answer["data"]), NOON) == ()
    assert made.ignored == {"fundingInfo": 1}
    (row,) = made.respond("fundingRate LPTUSDT", 200, {}, msgspec.json.encode(settled("LPTUSDT", NOON)), NOON)
    assert row.interval_s == (14_400 if market == "linear" else 28_800)


def find(body):
    """Every time in an answer."""
    names = ("E", "T", "time", "serverTime", "fundingTime")
    if isinstance(body, list):
        return [value for item in body for value in find(item)]
    return [body[name] for name in names if name in body] if isinstance(body, dict) else []


def test_every_request_is_a_fetch_with_the_weight_of_its_route():
    for market, weight in (("spot", 50), ("linear", 20), ("inverse", 20)):
        for kind in BINANCE.POLLS[market]:
            made = poller(kind, "A", market=market)
            for fetch in made.start(NOON):
                assert isinstance(fetch, Fetch)
                assert fetch.weight == {"book_snapshot": weight, "contract": 20 if market == "spot" else 1}.get(kind, 1)


@pytest.mark.parametrize("status", [403, 408, 418, 429, 451])
def test_a_wall_before_the_venue_is_no_word_on_the_symbol_though_it_has_a_code(status):
    """Taken for one it would leave the symbol alone for an hour, and give up its history for ever."""
    made = poller("open_interest", "BTCUSDT")
    (fetch,) = made.start(NOON)
    (out,) = told(made, fetch, {"code": 0, "msg": "Service unavailable from a restricted location"}, NOON, status)
    assert isinstance(out, Rejected)
    assert made.next_deadline() < NOON + HOUR // 2


@pytest.mark.parametrize("code,passing", [(-1003, True), (-1007, True), (-1008, True), (-1016, True), (-1121, False)])
def test_what_the_venue_says_of_itself_is_no_word_on_the_symbol(code, passing):
    made = poller("open_interest", "BTCUSDT")
    (fetch,) = made.start(NOON)
    (out,) = told(made, fetch, {"code": code, "msg": "said"}, NOON, 400)
    assert isinstance(out, Rejected if passing else Refused)


@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_the_weight_that_a_futures_route_says_wrong_is_not_believed(market):
    """One answer of `bookTicker` would otherwise stop, or free, what all of the address may ask."""
    limits = BINANCE.LIMITS[market]
    streams = BINANCE.streams(market, ["quote"], ["BTCUSD_PERP"])
    (plan,) = BINANCE.connections(market, streams, BINANCE.ENDPOINTS[market])
    fetch = BINANCE.probe(msgspec.structs.replace(plan, rest="https://rest"), streams[0])
    assert fetch is not None
    assert fetch.url.partition("?")[0].endswith(limits.weight_unsaid)
    assert not BINANCE.LIMITS["spot"].weight_unsaid
