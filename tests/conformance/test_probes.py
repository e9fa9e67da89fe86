"""What a venue answers that is asked for the newest trade, as its documentation has it, and what is read in it.

`tests/fixtures/exchanges/<name>/probes.json` has a case a row: market, kind, symbol; the path that is asked, the
answer, and the id (null where ids say nothing) and time (us) that are to be found in it, or the `state` of a route
that tells of no event; what the venue answers of a symbol that it does not know; and whether it is told nothing before
it has said something (`speaks_after`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from collectors import exchanges
from market.probing import Newest, Probing, Renewing
from market.session import EVERY_SYMBOL, Connection, Send, Stream
from market.times import MS, SECOND

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "exchanges"
AT = 1_767_225_600_123
"""ms: the time of every newest trade in the answers, 2026-01-01T00:00:00.123Z"""


class Case(msgspec.Struct, forbid_unknown_fields=True):
    market: str
    kind: str
    symbol: str
    path: str
    answer: str
    seq: int | None
    ts: int
    state: str = ""


class Refusal(msgspec.Struct, forbid_unknown_fields=True):
    answer: str
    says: str


class Probes(msgspec.Struct, forbid_unknown_fields=True):
    cases: list[Case]
    refusal: Refusal | None = None
    speaks_after: str = ""


Asked = tuple[Probing, Connection, Stream]
HELD = {name: msgspec.json.decode((FIXTURES / name / "probes.json").read_bytes(), type=Probes)
        for name in exchanges.names()}  # fmt: skip
CASES = [(name, case) for name, held in HELD.items() for case in held.cases]


def asked(venue: str, market: str, kind: str, symbol: str, rest: str = "https://rest") -> Asked:
    exchange = exchanges.load(venue)
    assert isinstance(exchange, Probing)
    plan = Connection(venue, market, "c", "wss://ws", (), rest=rest)
    return exchange, plan, Stream(f"{kind}:{symbol}", kind, symbol, kind, contiguous=False)


def of(venue: str, case: Case) -> Asked:
    return asked(venue, case.market, case.kind, case.symbol)


@pytest.mark.parametrize("venue", exchanges.names())
def test_every_venue_has_a_case(venue: str) -> None:
    assert HELD[venue].cases


@pytest.mark.parametrize("venue, case", CASES, ids=[f"{name} {case.market} {case.kind}" for name, case in CASES])
def test_the_newest_trade_is_asked_for_and_read(venue: str, case: Case) -> None:
    exchange, plan, stream = of(venue, case)
    fetch = exchange.probe(plan, stream)
    assert fetch is not None
    assert fetch.url == f"https://rest{case.path}"
    assert fetch.weight >= 1
    found = exchange.probed(plan, stream, 200, case.answer.encode())
    assert isinstance(found, Newest)
    assert (found.seq, found.ts, found.state) == (case.seq, case.ts, case.state)
    assert found.said.startswith("REST: ")
    assert case.state or found.said.endswith("of 2026-01-01T00:00:00.123Z")


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_is_no_answer_says_nothing_and_nothing_is_raised(venue: str) -> None:
    case = HELD[venue].cases[0]
    exchange, plan, stream = of(venue, case)
    body = case.answer.encode()
    assert exchange.probed(plan, stream, 503, body) == "status 503"
    assert exchange.probed(plan, stream, 0, b"") == "no answer"
    pieces = [body[:at] for at in range(len(body))]
    for wrong in (*pieces, b"<html>", b"[[]]", b'{"code":"0","data":[{}]}', b"\xff", b"null", b"[" * 5000):
        assert isinstance(exchange.probed(plan, stream, 200, wrong), str), wrong
    late = body.replace(b"1767225600", b"9967225600").replace(b"2026-01-01", b"2226-01-01")
    assert isinstance(exchange.probed(plan, stream, 200, late), str), "a time that cannot be"


@pytest.mark.parametrize("venue", [name for name, held in HELD.items() if held.refusal])
def test_a_venue_that_knows_no_such_symbol_says_so(venue: str) -> None:
    refusal = HELD[venue].refusal
    assert refusal is not None
    exchange, plan, stream = of(venue, HELD[venue].cases[0])
    said = exchange.probed(plan, stream, 200, refusal.answer.encode())
    assert isinstance(said, str)
    assert refusal.says in said


@pytest.mark.parametrize("venue", exchanges.names())
def test_where_nothing_tells_nothing_is_asked(venue: str) -> None:
    case = HELD[venue].cases[0]
    for kind, whom, rest in (
        ("liquidation", case.symbol, "https://r"), ("mark_price", case.symbol, "https://r"),
        ("trade", EVERY_SYMBOL, "https://r"), ("trade", case.symbol, ""),
    ):  # fmt: skip
        exchange, plan, stream = asked(venue, case.market, kind, whom, rest)
        assert exchange.probe(plan, stream) is None


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_has_missed_something_can_be_asked_for_anew(venue: str) -> None:
    exchange = exchanges.load(venue)
    case = HELD[venue].cases[0]
    streams = exchange.streams(case.market, ["trade", "quote"], [case.symbol])
    plan = exchange.connections(case.market, streams, exchange.ENDPOINTS[case.market])[0]
    session = exchange.session(plan, "n-1-1")
    session.start(AT * MS)
    assert isinstance(session, Renewing)
    session.renew(plan.streams[:1])
    texts = [out.text for n in range(1, 60) for out in session.tick(AT * MS + n * SECOND // 2) if isinstance(out, Send)]
    if not HELD[venue].speaks_after:
        symbol = case.symbol.lower()
        anew = [text.lower() for text in texts if "unsubscribe" in text.lower()]
        assert len(anew) == 1
        assert symbol in anew[0]
        after = texts[[text.lower() for text in texts].index(anew[0]) + 1 :]
        assert any(symbol in text.lower() and "unsubscribe" not in text.lower() for text in after)


@pytest.mark.parametrize("venue", [name for name, held in HELD.items() if not held.speaks_after])
def test_what_speaks_again_before_its_turn_is_not_asked_for_anew(venue: str) -> None:
    """To end its subscription then is to miss what comes until it is taken on again, and no gap would say so."""
    exchange = exchanges.load(venue)
    case = HELD[venue].cases[0]
    streams = exchange.streams(case.market, ["trade", "quote"], [case.symbol, case.symbol.replace("BTC", "ETH")])
    plan = exchange.connections(case.market, streams, exchange.ENDPOINTS[case.market])[0]
    session = exchange.session(plan, "n-1-1")
    session.start(AT * MS)
    assert isinstance(session, Renewing)
    speaks, silent = plan.streams[0], next(one for one in plan.streams if one.symbol != plan.streams[0].symbol)
    times = [AT * MS + n * SECOND // 2 for n in range(1, 120)]
    for now in times[:60]:
        session.tick(now)  # what it began with is asked
    session.renew([speaks])
    session.renew([silent])
    (state,) = [state for state in session.streams() if state.stream == speaks]
    state.events += 1
    texts = [out.text.lower() for now in times[60:] for out in session.tick(now) if isinstance(out, Send)]
    assert not any(speaks.symbol.lower() in text for text in texts)
    about = [("unsubscribe" in text) for text in texts if silent.symbol.lower() in text]
    assert about == [True, False]


def test_a_symbol_is_no_part_of_an_address() -> None:
    exchange, plan, stream = asked("okx", "spot", "trade", "A&instId=B/../C")
    fetch = exchange.probe(plan, stream)
    assert fetch is not None
    assert fetch.url.endswith("instId=A%26instId%3DB%2F..%2FC&limit=1")
