"""What is done for many at once says what it says one by one: frames of a session, events of a merger, number texts."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from collectors import exchanges
from collectors.adapters.reading import FOUR_NUMBERS, NUMBER, TWO_NUMBERS
from collectors.merger import merger
from market.kinds import AggTrade, BookDelta, Event, Quote
from market.session import Batching, Output, Rejected, Session

NOW = 1_700_000_000_000_000
KINDS = ["agg_trade", "quote", "book_delta"]
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
TEXTS = st.one_of(
    st.sampled_from(["0", "1", "0.10", "25.35190000", "00", "01", "1.", ".5", "-1", "+1", "1e5", "", "1 2", "1.2.3"]),
    st.text("0123456789. -e\n٣", max_size=4),
    st.from_regex(r"[0-9]{1,32}(\.[0-9]{1,32})?", fullmatch=True),
)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_numbers_together_are_numbers_each(one: str, two: str, three: str, four: str) -> None:
    good = [NUMBER(text) is not None for text in (one, two, three, four)]
    assert (TWO_NUMBERS(f"{one} {two}") is not None) == all(good[:2])
    assert (FOUR_NUMBERS(f"{one} {two} {three} {four}") is not None) == all(good)


def session() -> Session:
    """A session of every kind and symbol, accepted."""
    exchange = exchanges.load("binance")
    streams = exchange.streams("spot", KINDS, SYMBOLS)
    (connection,) = exchange.connections("spot", streams, exchange.ENDPOINTS["spot"])
    made = exchange.session(connection, "a-1-1")
    made.start(NOW)
    made.receive(b'{"result":null,"id":1}', NOW)
    return made


def frame(name: str, data: dict[str, object]) -> bytes:
    return json.dumps({"stream": name, "data": data}, separators=(",", ":")).encode()


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One that is understood, one of another symbol, one with a bad text, or one that is nothing at all."""
    name = draw(st.sampled_from(SYMBOLS)).lower()
    symbol = draw(st.sampled_from([name.upper(), name.upper(), name.upper(), "OTHER"]))
    number = draw(st.integers(0, 40))
    text = draw(st.sampled_from(["1.5", "1.5", "1.5", "0.1", "x"]))
    time = NOW // 1000 + draw(st.integers(-5, 5))
    which = draw(st.sampled_from(["trade", "quote", "depth", "odd"]))
    if which == "trade":
        told = {
            "E": time,
            "s": symbol,
            "a": number,
            "p": text,
            "q": "1",
            "f": number,
            "l": number,
            "T": time,
            "m": True,
        }
        return frame(f"{name}@aggTrade", told)
    if which == "quote":
        return frame(f"{name}@bookTicker", {"u": number, "s": symbol, "b": text, "B": "1", "a": "2", "A": text})
    if which == "depth":
        told = {"E": time, "s": symbol, "U": number, "u": number + 1, "b": [[text, "1"]], "a": []}
        return frame(f"{name}@depth@100ms", told)
    return draw(st.sampled_from([b"", b"{}", b"[]", b'{"result":null,"id":9}', b'{"stream":"x@y","data":{}}', b"\xff"]))


@given(st.lists(frames(), max_size=30), st.sets(st.sampled_from([AggTrade, Quote, BookDelta])))
def test_a_session_says_the_same_of_frames_that_it_takes_together(
    given_frames: list[bytes], met: set[type[Event]]
) -> None:
    one, many = session(), session()
    times = [NOW + place for place in range(len(given_frames))]
    each = [out for f, at in zip(given_frames, times, strict=True) for out in one.receive(f, at)]
    together: list[Output] = []
    puts: dict[type, Callable[[Event], None]] = dict.fromkeys(met, together.append)
    assert isinstance(many, Batching)
    place = 0
    while place < len(given_frames):
        taken, said = many.receive_all(given_frames[place:], times[place:], puts)
        assert taken >= 1
        place += taken
        together += said
    assert together == each
    assert many.frame_no == one.frame_no
    assert list(many.streams()) == list(one.streams())
    assert many.venue_time == one.venue_time
    assert any(isinstance(out, Rejected) for out in each) or not any(b"OTHER" in f for f in given_frames)


@given(st.data())
def test_a_merger_lets_the_same_events_through_one_by_one_and_together(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))

    def event(number: int, symbol: str, session_id: str, later: int) -> Event:
        at = NOW + 1000 * later
        common = (symbol, "s", at, None, at + 5, session_id, 1, 0, "ws")
        if kind == "agg_trade":
            return AggTrade(*common, "1", "1", "buy", number, "market")
        if kind == "quote":
            timed = data.draw(st.booleans())
            made = Quote(*common, "1", "1", "2", "1", number, 7)
            return made if timed else msgspec.structs.replace(made, ts_event=None)
        return BookDelta(*common, msgspec.Raw(b"[]"), msgspec.Raw(b"[]"), number, number + 1, None)

    events = data.draw(
        st.lists(
            st.builds(
                event, st.integers(0, 30), st.sampled_from(SYMBOLS), st.sampled_from(["a", "b"]), st.integers(0, 3)
            ),
            max_size=40,
        )
    )
    one = merger("binance", "spot", kind, contiguous=kind != "quote")
    many = merger("binance", "spot", kind, contiguous=kind != "quote")
    each = [each for each in events if one.merge(each)]
    cut = data.draw(st.integers(0, len(events)))
    together = [*many.merge_all(events[:cut]), *many.merge_all(events[cut:])]
    assert [id(found) for found in together] == [id(found) for found in each]
    assert many.duplicates == one.duplicates
    assert many.out_of_order == one.out_of_order
    later = NOW + 10_000_000
    assert many.tick(later) == one.tick(later)
