"""One suite for every venue's history: each offer is driven against the venue's twin, page border by page border.

It finds the members by itself. A venue that offers a kind brings a row of its route in SOURCES.md, its twin's route,
and its words for errors (`history.json`) where those come with status 200.
"""

import asyncio
import itertools
import json
import pathlib
from decimal import Decimal
from types import SimpleNamespace

import pytest
from yarl import URL

from collectors import exchanges
from collectors.adapters.paging import Pages
from collectors.http import Answer
from collectors.instruments import instruments
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import KINDS
from market.session import Endpoint, Fetch, Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from simulator import funding
from tests.support.past import BEGAN, END, contract, lived

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
OFFERS = [
    (name, market, kind)
    for name in exchanges.names()
    for market, kinds in getattr(exchanges.load(name), "HISTORY", {}).items()
    for kind, offer in kinds.items()
    if isinstance(offer, Offer)
]


def said(venue):
    """`history.json` of a venue, where it has anything to say there: kinds whose truth is its `own`, which the venue's
    own tests know; errors that come with status 200, one that is `passing` and one that is `refusing`; the form of a
    `symbol` that every market takes.
    """
    path = FIXTURES / venue / "history.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


SMALL = {"trade": 60}
"""Rows of a page of trades, so that there are many pages; of the others 7."""
NO_DATA = [
    (0, b""), (429, b"{}"), (403, b"<html>"), (500, b"x"), (503, b"<html>"), (200, b"<html>busy</html>"), (200, b""),
    (200, b"null"), (200, b"[[null]]"), (200, b"\xff"),
]  # fmt: skip


class Twin:
    """A twin that is asked without a socket; it notes each page that it told."""

    def __init__(self, made, venue, market):
        self.hub, self.app, self.clock = made
        self.venue, self.market = venue, market
        (self.book,) = [book for book in self.hub.market.books if book.market == market]
        self.loop = asyncio.new_event_loop()
        self.asked = 0

    def answer(self, fetch):
        self.asked += 1
        self.loop.run_until_complete(self.clock.sleep(1.0))  # within the venue's budget
        return self.loop.run_until_complete(self._answer(URL(fetch.url, encoded=True).relative()))

    async def _answer(self, url):
        request = SimpleNamespace(method="GET", rel_url=url, path=url.path, query=url.query, headers={}, host="host")
        request.match_info = await self.app.router.resolve(request)
        answer = await request.match_info.handler(request)
        return answer.status, answer.body


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    held, lives = {}, {}

    def get(venue, market):
        if venue not in lives:
            lives[venue] = lived(tmp_path_factory.mktemp(venue), venue, ",".join(exchanges.load(venue).HISTORY))
        if (venue, market) not in held:
            held[venue, market] = Twin(lives[venue], venue, market)
        return held[venue, market]

    yield get
    for twin in held.values():
        twin.loop.close()
    for hub, _, _ in lives.values():
        hub.log.close(END)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    for name in exchanges.names():
        history = getattr(exchanges.load(name), "history", None)
        for route in getattr(history, "PAGES", {}):
            monkeypatch.setitem(history.PAGES, route, SMALL["trade"] if "trade" in route else 7)
        if hasattr(history, "PAGE"):
            monkeypatch.setattr(history, "PAGE", SMALL["trade"])


def session(twin, kind, span, symbol=None):
    venue = exchanges.load(twin.venue)
    symbol = symbol or twin.book.symbol
    known = (contract(symbol, "0.01"),) if venue.HISTORY[twin.market][kind].sized else ()
    asked = Polled(kind, (symbol,), known=known, span=span)
    return venue.poller(twin.market, "n-1-1", asked, Endpoint(f"http://host/{twin.market}", {}))


def finish(twin, made, answer=None):
    """Drive to the end: the events in their order, what was rejected, and the rows of each answer."""
    events, rejected, now = [], [], twin.clock.now()
    tasks = list(made.start(now))
    for _ in range(3000):
        if made.done:
            return events, rejected
        for fetch in tasks:
            assert isinstance(fetch, Fetch)
            status, body = (answer or twin.answer)(fetch)
            for out in made.respond(fetch.tag, status, {}, body, max(now, twin.clock.now())):
                rejected.append(out) if isinstance(out, Rejected) else events.append(out)
        now = max(now, twin.clock.now(), made.next_deadline() or 0)
        tasks = list(made.tick(now))
    raise AssertionError("it does not end")


def truth(twin, kind, span):
    """(time, what is said) of every row of a period, as the twin's market knows it."""
    book, (low, high) = twin.book, span
    inside = range(low, high)
    if kind == "kline":
        held = [one for one in book.candles.read("1m") if one.open_time >= low and one.open_time + MINUTE <= high]
        return [
            (one.open_time, *(Decimal(book.price(ticks)) for ticks in (one.open, one.high, one.low, one.close)))
            for one in held
        ]
    if kind == "trade":
        return [(one.ts, Decimal(one.price), Decimal(one.qty)) for one in book.trades if one.ts in inside]
    if kind == "agg_trade":
        return [(one.ts, Decimal(one.price), Decimal(one.qty)) for one in book.aggregates if one.ts in inside]
    if kind == "funding_rate":
        times = sorted(funding.settlements(high - 1, low - 1))
        return [(at, Decimal(funding.text(funding.settled(book.seed, at)))) for at in times]
    times = range(-(-low // (5 * MINUTE)) * 5 * MINUTE, high, 5 * MINUTE)
    return [(at, Decimal(book.qty(funding.open_interest(book.seed, at)))) for at in times]


def told(kind, one):
    if kind == "kline":
        return (one.open_time, *(Decimal(text) for text in (one.open, one.high, one.low, one.close)))
    if kind in ("trade", "agg_trade"):
        return (one.ts_event, Decimal(one.price), Decimal(one.qty))
    return (one.ts_event, Decimal(one.rate if kind == "funding_rate" else one.oi))


def spans(twin, kind):
    """Periods whose ends lie on rows, between rows, and where nothing is."""
    if kind in ("kline", "trade", "agg_trade"):
        yield BEGAN + 5 * MINUTE, END - 7 * MINUTE if kind == "kline" else BEGAN + 25 * MINUTE
        yield BEGAN - 3 * HOUR, BEGAN + 12 * MINUTE
        yield BEGAN - 3 * HOUR, BEGAN - HOUR
        if kind != "kline":
            rows = twin.book.trades if kind == "trade" else twin.book.aggregates
            yield rows[200].ts, rows[280].ts
            yield rows[200].ts + MS, next(one.ts for one in list(rows)[200:] if one.ts > rows[200].ts) + MS
    elif kind == "funding_rate":
        day = END - END % DAY
        yield day - 2 * DAY, day
        yield day - 2 * DAY + SECOND, day - DAY + SECOND
    else:
        begin = END - END % (5 * MINUTE) - DAY
        yield begin, begin + 3 * HOUR
        yield begin + SECOND, begin + HOUR + SECOND


TOLD = [one for one in OFFERS if one[2] not in said(one[0]).get("own", ())]


@pytest.mark.parametrize("venue, market, kind", TOLD, ids=["-".join(one) for one in TOLD])
def test_every_row_of_a_period_comes_once(twins, venue, market, kind):
    twin = twins(venue, market)
    for span in spans(twin, kind):
        made, before = session(twin, kind, span), twin.asked
        assert isinstance(made, Pages)
        events, rejected = finish(twin, made)
        if made.refused and span[0] < BEGAN:  # a venue that cannot be asked so far back: nothing rather than a part
            assert events == []
            continue
        assert (made.failed, made.jumps, [one.reason for one in rejected]) == ("", [], []), span
        assert [told(kind, one) for one in events] == truth(twin, kind, span), span
        assert made.venue_time == span[1]
        assert made.requests == twin.asked - before
        assert {(one.source, one.session, one.symbol) for one in events} <= {("rest", "n-1-1", twin.book.symbol)}


ASKED = list({(venue, kind): (venue, market, kind) for venue, market, kind in reversed(OFFERS)}.values())
"""Each kind on one market of its venue."""


@pytest.mark.parametrize("venue, market, kind", ASKED, ids=["-".join(one) for one in ASKED])
def test_what_is_no_data_is_asked_for_again_and_a_refusal_is_not(twins, venue, market, kind):
    twin = twins(venue, market)
    span = next(spans(twin, kind))
    span = (span[0], min(span[1], span[0] + 30 * MINUTE)) if kind in ("kline", "trade", "agg_trade") else span
    passing, refusing = said(venue).get("passing", "{}").encode(), said(venue).get("refusing")
    whole = []
    expected, _ = finish(twin, session(twin, kind, span), lambda fetch: whole.append(twin.answer(fetch)) or whole[-1])
    cut = (200, whole[-1][1][:-3])
    bad = [*NO_DATA, (200, passing), cut]
    made, count = session(twin, kind, span), itertools.count()
    answers = iter(whole)

    def answer(_):
        number = next(count)
        return bad[number // 2 % len(bad)] if number % 2 == 0 and number < 2 * len(bad) else next(answers)

    events, rejected = finish(twin, made, answer)
    assert [told(kind, one) for one in events] == [told(kind, one) for one in expected]
    assert len(rejected) == min(len(bad), len(whole))
    if refusing is not None:
        made = session(twin, kind, span)
        events, _ = finish(twin, made, lambda _: (200, refusing.encode()))
        assert (events, made.refused, made.requests) == ([], True, 1)
        assert made.failed


@pytest.mark.parametrize("venue, market, kind", OFFERS, ids=["-".join(one) for one in OFFERS])
def test_an_offer_has_its_route_in_sources(venue, market, kind):
    adapter = exchanges.load(venue)
    symbol = said(venue).get("symbol", "X")
    known = (contract(symbol, "1"),)
    made = adapter.poller(
        market, "n-1-1", Polled(kind, (symbol,), known=known, span=(0, HOUR)), adapter.ENDPOINTS[market]
    )
    text = (FIXTURES / venue / "SOURCES.md").read_text("utf-8")
    name = made._route.name
    channels = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in channel and market in channel for channel in channels), f"{name} without a source"


@pytest.mark.parametrize("venue", sorted({one[0] for one in OFFERS}))
def test_what_is_not_given_says_why(venue):
    adapter = exchanges.load(venue)
    docs = (pathlib.Path(__file__).parents[2] / "docs" / "exchanges" / f"{venue}.md").read_text("utf-8")
    table = next(part for part in docs.split("\n\n") if part.lower().startswith(f"| {venue} |"))
    for market, kinds in adapter.HISTORY.items():
        assert market in adapter.ENDPOINTS
        for kind, offer in kinds.items():
            assert kind in KINDS
            assert f"`{kind}`" in table or isinstance(offer, Absent)
            if isinstance(offer, Absent):
                assert offer.why
                with pytest.raises(Malformed, match=kind):
                    adapter.poller(market, "n-1-1", Polled(kind, ("X",), span=(0, HOUR)), adapter.ENDPOINTS[market])
            elif offer.sized:
                with pytest.raises(Malformed, match="what one is worth"):
                    adapter.poller(market, "n-1-1", Polled(kind, ("X",), span=(0, HOUR)), adapter.ENDPOINTS[market])
        with pytest.raises(Malformed, match="one symbol"):
            adapter.poller(market, "n-1-1", Polled("kline", ("A", "B"), span=(0, SECOND)), adapter.ENDPOINTS[market])


class _Asking:
    """A twin as what carries out requests."""

    def __init__(self, twin):
        self.twin = twin

    async def fetch(self, _, url):
        await self.twin.clock.sleep(1.0)
        status, body = await self.twin._answer(URL(url, encoded=True).relative())
        return Answer(status, {}, body)


@pytest.mark.parametrize("venue, market", sorted({one[:2] for one in OFFERS}))
def test_a_venue_lists_its_instruments_and_what_a_contract_is_worth(twins, venue, market):
    twin, adapter = twins(venue, market), exchanges.load(venue)
    endpoint = Endpoint(f"http://host/{market}", {})
    for symbols in ((), (twin.book.symbol,)):
        asked = instruments(adapter, market, endpoint, _Asking(twin), twin.clock.now(), symbols)
        found, wrong = twin.loop.run_until_complete(asked)
        assert wrong == ""
        one = next(one for one in found if one.symbol == twin.book.symbol)
        sized = any(isinstance(offer, Offer) and offer.sized for offer in adapter.HISTORY[market].values())
        assert not sized or one.multiplier is not None
    asked = instruments(adapter, market, endpoint, _Asking(twin), twin.clock.now(), ("NOPE-X",))
    found, wrong = twin.loop.run_until_complete(asked)
    assert (found, bool(wrong)) == ([], True)


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_nobody_tells_of_later_is_collected_and_is_asked_of_nobody(venue):
    exchange = exchanges.load(venue)
    assert exchange.FLEETING.keys() == exchange.ENDPOINTS.keys()
    for market, kinds in exchange.FLEETING.items():
        offered = {kind for kind, one in exchange.EVIDENCE[market].items() if one.basis != "absent"}
        assert kinds.keys() <= offered
        assert "trade" not in kinds, "its archives, or its REST routes, have them"
        asked = {kind for kind, one in exchange.HISTORY[market].items() if isinstance(one, Offer) and one.same}
        assert not asked & kinds.keys()
        assert all(why.startswith("the venue") for why in kinds.values())
