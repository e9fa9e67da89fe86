"""A connection that answers pings and sends nothing else is left in time, and a quiet market is not."""

from __future__ import annotations

import json

import pytest

from collectors import exchanges
from collectors.adapters.silence import LEAST, YOUNG, silent_at
from market.session import Leave, Output, Session, Stream, StreamState
from market.times import MINUTE, MS, SECOND

T0 = 1_767_225_600_000_000


def state(events: int, first: int, last: int, max_silence: int | None = MINUTE) -> StreamState:
    stream = Stream(f"quote:{events}", "quote", "A", "quote", contiguous=False, max_silence=max_silence)
    return StreamState(stream, first_recv=first, last_recv=last, events=events)


def test_what_is_busy_is_missed_soon_and_what_is_rare_late() -> None:
    assert silent_at([state(10_000, T0, T0 + 24 * SECOND)]) == T0 + 24 * SECOND + LEAST
    assert silent_at([state(121, T0, T0 + 240 * SECOND)]) == T0 + 240 * SECOND + 40 * SECOND
    busy, rare = state(5_000, T0, T0 + 20 * SECOND), state(2, T0, T0 + 9 * SECOND)
    assert silent_at([rare, busy]) == T0 + 20 * SECOND + LEAST


def test_a_burst_at_the_beginning_is_no_rhythm() -> None:
    assert silent_at([state(3, T0, T0 + 1)]) == T0 + 1 + YOUNG


def test_trades_of_the_past_that_come_at_once_are_no_rhythm() -> None:
    """Kraken's futures tell a hundred on subscribing: a quiet contract was left every 15 s, and told them again."""
    told = state(102, T0, T0 + 2 * SECOND)
    assert silent_at([told]) == T0 + 2 * SECOND + LEAST
    told.at_once = 99
    assert silent_at([told]) == T0 + 2 * SECOND + YOUNG


def test_a_session_counts_what_came_at_the_moment_of_the_first() -> None:
    exchange = exchanges.load("kraken")
    streams = exchange.streams("linear", ["trade"], ["PF_XBTUSD"])
    session = exchange.session(exchange.connections("linear", streams, exchange.ENDPOINTS["linear"])[0], "n-1-1")
    session.start(T0)
    session.receive(b'{"event":"subscribed","feed":"trade","product_ids":["PF_XBTUSD"]}', T0)
    past = [
        {"feed": "trade", "product_id": "PF_XBTUSD", "uid": f"u{n}", "side": "buy", "type": "fill", "seq": n,
         "time": T0 // MS - n, "qty": 1, "price": 100}
        for n in range(100)
    ]  # fmt: skip
    session.receive(json.dumps({"feed": "trade_snapshot", "product_id": "PF_XBTUSD", "trades": past}).encode(), T0)
    session.receive(json.dumps(past[0] | {"uid": "v", "seq": 101}).encode(), T0 + SECOND)
    (trades,) = (one for one in session.streams() if one.stream.kind == "trade")
    assert (trades.events, trades.at_once) == (101, 99)


def test_nothing_is_expected_of_what_may_be_silent_or_has_not_begun() -> None:
    assert silent_at([]) is None
    assert silent_at([state(0, 0, 0)]) is None
    assert silent_at([state(500, T0, T0 + SECOND, max_silence=None)]) is None


def told(session: Session, seconds: int) -> list[tuple[int, Output]]:
    """What a session says that is told nothing but the time, by its own deadlines."""
    out: list[tuple[int, Output]] = []
    now = T0
    while (due := session.next_deadline()) is not None and max(now, due) < T0 + seconds * SECOND:
        now = max(now + MS, due)
        out += [(now, said) for said in session.tick(now)]
    return out


@pytest.mark.parametrize("venue", [name for name in exchanges.names() if name != "binance"])
def test_pongs_are_no_data(venue: str) -> None:
    exchange = exchanges.load(venue)
    symbol = exchange.LIQUID["spot"]  # type: ignore[attr-defined] # market.described
    streams = exchange.streams("spot", ["quote"], [symbol])
    session = exchange.session(exchange.connections("spot", streams, exchange.ENDPOINTS["spot"])[0], "n-1-1")
    session.start(T0)
    (quotes,) = (one for one in session.streams() if one.stream.kind == "quote")
    quotes.acknowledged_at = quotes.first_recv = T0
    quotes.events, quotes.last_recv = 1_000, T0 + 9 * SECOND
    left = [(at, out) for at, out in told(session, 26) if isinstance(out, Leave)]
    assert "silence" in {out.cause for _, out in left}
    data = [at for at, out in left if "nothing of any" in out.detail]
    if not any("no frame" in out.detail for _, out in left):  # venues whose heartbeats come every second
        assert len(data) == 1, "said once"
        assert data[0] - T0 - 24 * SECOND < SECOND
