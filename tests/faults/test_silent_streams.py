"""F35 on the venues' twins: a stream that falls silent while its connection lives, all of them, and a quiet market."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtime import metrics
from simulator import hub as hubs
from simulator.instruments import names
from tests.support.virtual.street import Street

VENUES = ("binance", "bybit", "okx")
NUMBERED = ("binance", "okx")
"""Venues whose trades follow by one."""
Make = Callable[..., Street]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes streets, and ends them."""
    held, streets = hubs.TICK, list[Street]()

    def made(venue: str, symbols: int, rate: float) -> Street:
        streets.append(Street(venue, names(symbols), rate))
        return streets[-1]

    yield made
    for street in streets:
        street.end()
    hubs.TICK = held  # type: ignore[misc]


@pytest.mark.parametrize("venue, symbols", [("binance", 50), ("bybit", 15), ("okx", 15)])
def test_f35_one_symbol_of_fifty_is_proven_silent_and_only_it_is_asked_for_anew(
    venue: str, symbols: int, make: Make
) -> None:
    street = make(venue, symbols, 6.0 * symbols)
    street.run(60)
    silent, others = street.names[7], street.states()
    street.forget(silent)
    before = street.clock.now()
    street.run(45)
    (gap,) = street.gaps.values()
    assert (gap.kind, gap.symbol, gap.cause, gap.state) == ("trade", silent, "silent_stream", "open")
    assert (gap.detail or "").startswith("REST: trade "), "the proof is in the row"
    assert gap.ts_to is not None
    assert before - 5_000_000 <= gap.ts_from < gap.ts_to <= before + 30_000_000
    assert ((gap.missing or 0) > 0) is (venue in NUMBERED)
    assert street.connections == 1, "the connection stays"
    assert all(state is others[symbol] for symbol, state in street.states().items())
    assert street.status()["not_producing"] == {}
    assert street.status()["probes"] == {"missed": 1}, "nobody else was even asked about"


@pytest.mark.parametrize("venue", VENUES)
def test_f35_all_streams_silent_while_pings_are_answered_make_a_new_connection(venue: str, make: Make) -> None:
    street = make(venue, 10, 60.0)
    street.run(60)
    street.fault("silence", kind="trade", connection=1, seconds=3600)
    street.run(60)
    assert street.connections == 2
    gaps = list(street.gaps.values())
    assert {gap.symbol for gap in gaps} == set(street.names)
    assert {gap.cause for gap in gaps} == {"silent_stream"}
    assert all(gap.ts_to is not None and gap.ts_to - gap.ts_from < 35_000_000 for gap in gaps)
    assert street.status()["states"] == {"producing": 10}
    street.run(120)
    assert (street.connections, len(street.gaps)) == (2, len(gaps))


@pytest.mark.parametrize("venue", NUMBERED)
def test_a_truly_quiet_market_is_no_gap_and_no_storm(venue: str, make: Make) -> None:
    street = make(venue, 10, 60.0)
    street.run(60)
    street.rest()
    asked = street.network.asked
    street.run(3600)
    assert street.connections == 1
    assert street.gaps == {}
    assert street.status()["not_producing"] == {}
    assert set(street.status()["probes"]) == {"quiet"}
    assert street.network.asked - asked <= 10 * 8, "each time after twice as long"
    street.wake()
    street.run(30)
    assert street.gaps == {}
    assert street.status()["states"] == {"producing": 10}


def test_where_the_venue_does_not_answer_it_is_an_alarm_and_no_gap_and_over_when_it_is_known_better(make: Make) -> None:
    street = make("binance", 10, 60.0)
    street.run(60)
    street.rest(street.names[:1])
    street.venue.down = True
    street.run(60)
    assert street.status()["not_producing"] == {"btcusdt@trade": "stalled"}
    assert [link.reported(street.clock.now()) for link in street.pipeline.links] == [{"btcusdt@trade": "stalled"}]
    street.venue.down = False
    street.run(200)
    assert street.status()["not_producing"] == {}
    assert (street.connections, street.gaps) == (1, {})


def said(event: str, level: str) -> float:
    """How often it was said."""
    return float(metrics.EVENTS.labels(event, level)._value.get())


@pytest.mark.parametrize("venue", VENUES)
def test_acknowledged_and_silent_is_an_alarm_within_a_minute_and_over_when_it_speaks(venue: str, make: Make) -> None:
    street = make(venue, 10, 60.0)
    reported = metrics.SILENT.labels(venue, "spot", "trade")._value
    alarms, ends, before = said("silent_stream", "WARNING"), said("stream_speaks", "INFO"), reported.get()
    street.fault("silence", kind="trade", symbol=street.names[0], connection=1, seconds=30)
    most = before
    for _ in range(60):
        street.run(1)
        most = max(most, reported.get())
    assert said("silent_stream", "WARNING") == alarms + 1
    if venue != "okx":  # which tells the newest trade when it is asked anew: the alarm is over at once
        assert most == before + 1
    gap = min(street.gaps.values(), key=lambda one: one.ts_from)
    assert (gap.symbol, gap.cause) == (street.names[0], "silent_stream")
    assert street.seconds(gap.ts_from) < 5, "all since it was taken on is missing"
    street.run(30)
    assert said("stream_speaks", "INFO") == ends + 1
    assert (reported.get(), street.status()["not_producing"], street.connections) == (before, {}, 1)
