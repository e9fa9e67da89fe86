"""Properties of a session and its merger: any bytes are accounted for, and the same frames give the same events."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.exchanges import load
from collectors.merger import merger
from market.kinds import KIND_OF_EVENT, Event
from market.numbers import is_decimal
from market.session import Connection, Leave, Rejected

T = 1_785_701_700_000_000
CHANNELS = ("trade", "aggTrade", "bookTicker", "depth@100ms", "kline_1m", "forceOrder")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安USDT", "../../etc", "CON", "x" * 200)

numbers = st.one_of(
    st.from_regex(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?", fullmatch=True),
    st.sampled_from(["NaN", "1e5", "", "-1", "1_000", "\u0663", "0", "9" * 40]),
    st.floats(),
    st.none(),
)
times = st.one_of(
    st.integers(-5_000, 5_000).map(lambda d: T // 1000 + d), st.integers(), st.floats(), st.text(max_size=3)
)
idents = st.one_of(st.integers(0, 10**6), st.integers(), st.none(), st.text(max_size=3))


values = st.one_of(numbers, times, idents, st.booleans())


@st.composite
def payloads(draw):
    """A documented payload of either market, with up to two of its values changed or gone."""
    symbol = draw(st.sampled_from(SYMBOLS))
    channel = draw(st.sampled_from(CHANNELS))
    time = T // 1000 + draw(st.integers(-5_000, 5_000))
    price, seq = draw(st.from_regex(r"[1-9][0-9]{0,6}\.[0-9]{2}", fullmatch=True)), draw(st.integers(0, 10**9))
    data = {
        "trade": {"e": "trade", "E": time, "T": time, "s": symbol, "t": seq, "p": price, "q": "1", "m": True},
        "aggTrade": {"e": "aggTrade", "E": time, "T": time, "s": symbol, "a": seq, "f": seq, "l": seq + 1, "p": price,
                     "q": "1", "m": False},
        "bookTicker": {"u": seq, "s": symbol, "b": price, "B": "1", "a": price, "A": "1", "E": time, "T": time},
    }.get(channel, {"e": channel, "E": time, "s": symbol})  # fmt: skip
    for key in draw(st.sets(st.sampled_from(sorted(data)), max_size=2)):
        if draw(st.booleans()):
            data[key] = draw(values)
        else:
            del data[key]
    if draw(st.integers(0, 3)) == 0:
        return msgspec.json.encode(data)
    return msgspec.json.encode({"stream": f"{symbol.lower()}@{channel}", "data": data})


frames = st.one_of(payloads(), payloads(), st.binary(max_size=80))


def session(market, learn, number=1):
    adapter = load("binance")
    streams = adapter.streams(market, ["trade", "quote"], ["BTCUSDT", "ETHUSDT"])
    connection = Connection("binance", market, "x", "wss://x", () if learn else tuple(streams))
    return adapter.session(connection, f"n-{number}-1", learn=learn)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["spot", "linear"]), st.booleans(), st.lists(frames, max_size=12))
def test_any_frame_is_an_event_an_action_counted_or_rejected(market, learn, received):
    made = session(market, learn)
    made.start(T)
    for number, frame in enumerate(received, 1):
        before = sum(made.ignored.values())
        outputs = made.receive(frame, T + number)
        assert bool(outputs) != (sum(made.ignored.values()) == before + 1)
        for out in outputs:
            assert isinstance(out, Event | Rejected | Leave)
            if isinstance(out, Event):
                check_event(out, number)
    assert made.frame_no == len(received)
    assert len(list(made.streams())) <= max(4, len(received))


def check_event(event, number):
    """What a line of a segment may rely on."""
    line = msgspec.json.decode(msgspec.json.encode(event))
    assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
    assert (event.frame_no, event.ts_recv, event.session) == (number, T + number, "n-1-1")
    assert event.stream.partition("@")[0] == event.symbol.lower()
    for key in ("price", "qty", "bid", "bid_qty", "ask", "ask_qty"):
        if key in line:
            assert is_decimal(line[key])
            assert not line[key].startswith("-")
    if event.ts_event is not None:
        assert abs(event.ts_event - T) < 8 * 86_400 * 1_000_000


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["spot", "linear"]), st.lists(frames, max_size=12))
def test_the_same_frames_give_the_same_events_whatever_was_asked_for(market, received):
    """Replay equals live: a learning session finds the events of the session that had subscribed."""
    live, replay = session(market, learn=False), session(market, learn=True)
    live.start(T)
    replay.start(T)
    wanted = {state.stream.name for state in live.streams()}

    def events(made, at, frame):
        return [out for out in made.receive(frame, at) if isinstance(out, Event) and out.stream in wanted]

    for number, frame in enumerate(received):
        assert events(live, T + number, frame) == events(replay, T + number, frame)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30, unique=True), st.integers(0, 29))
def test_frames_repeated_after_a_reconnect_yield_nothing_new(ids, cut):
    ids.sort()
    mergers = {}

    def new(number, seqs):
        made, found = session("linear", learn=True, number=number), []
        for seq in seqs:
            data = {"E": T // 1000, "T": T // 1000, "s": "BTCUSDT", "t": seq, "p": "1", "q": "1", "m": True}
            frame = msgspec.json.encode({"stream": "btcusdt@trade", "data": data})
            for event in made.receive(frame, T):
                kind = KIND_OF_EVENT[type(event)]
                held = mergers.setdefault(kind, merger("binance", "linear", kind, contiguous=True))
                found += [event.seq] if held.merge(event) else []
        return found

    assert new(1, ids) == ids
    mergers["trade"].interrupt("n-1-1", ["BTCUSDT"], "cut", T)
    assert new(2, ids[cut:]) == []
