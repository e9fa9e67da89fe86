"""Binance sessions: subscribing, answers, leaving, skew, instruments, and the recorded frames of $LAKE_SAMPLES."""

import gzip
import itertools
import os
import pathlib

import msgspec
import pytest

from collectors.adapters.skew import SAMPLES, Skew
from collectors.exchanges import UnknownExchange, load, names
from collectors.exchanges.binance import linear, spot
from collectors.merger import merger
from market.errors import Malformed
from market.kinds import KIND_OF_EVENT, AggTrade, Contract, Event, Quote, Trade
from market.session import Acknowledged, Connection, Endpoint, Fetch, Leave, Polled, Refused, Rejected, Send
from market.times import DAY, HOUR, MINUTE, SECOND

SAMPLES_DIR = (
    pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
    / "binance"
)
T = 1_785_701_700_000_000
BINANCE = load("binance")


def connect(market="spot", kinds=("trade", "quote"), symbols=("BTCUSDT", "ETHUSDT"), number=0):
    streams = BINANCE.streams(market, list(kinds), list(symbols))
    return BINANCE.connections(market, streams, BINANCE.ENDPOINTS[market])[number]


def live(market="spot", **asked):
    made = BINANCE.session(connect(market, **asked), "n-1-1")
    return made, list(made.start(T))


def spot_trade(seq=1, at=T, symbol="BTCUSDT"):
    ms = at // 1000
    data = {"e": "trade", "E": ms, "s": symbol, "t": seq, "p": "1.5", "q": "2", "T": ms, "m": True, "M": True}
    return msgspec.json.encode({"stream": f"{symbol.lower()}@trade", "data": data})


def spot_quote(number=1, symbol="BTCUSDT"):
    data = {"u": number, "s": symbol, "b": "1", "B": "2", "a": "3", "A": "4"}
    return msgspec.json.encode({"stream": f"{symbol.lower()}@bookTicker", "data": data})


def command(send):
    assert isinstance(send, Send)
    return msgspec.json.decode(send.text)


# Planning


def test_the_directory_is_the_registry():
    assert "binance" in names()
    with pytest.raises(UnknownExchange, match=r"known exchanges: .*binance"):
        load("nowhere")


def test_each_linear_channel_is_asked_on_the_path_that_serves_it():
    streams = BINANCE.streams("linear", ["trade", "agg_trade", "quote"], ["BTCUSDT"])
    made = {c.url: [s.channel for s in c.streams] for c in BINANCE.connections("linear", streams, linear.ENDPOINT)}
    assert made == {
        "wss://fstream.binance.com/public/stream": ["bookTicker", "trade"],
        "wss://fstream.binance.com/market/stream": ["aggTrade"],
    }


def test_spot_asks_for_microseconds_on_one_path():
    connection = connect()
    assert connection.url == "wss://stream.binance.com:9443/stream?timeUnit=MICROSECOND"
    assert connection.name == "binance-spot-stream-1"


def test_an_endpoint_without_the_needed_base_is_refused_by_name():
    streams = BINANCE.streams("linear", ["agg_trade"], ["BTCUSDT"])
    with pytest.raises(Malformed, match="'market'"):
        BINANCE.connections("linear", streams, Endpoint(rest="https://x", ws={"public": "wss://x"}))


def test_symbols_are_upper_case_and_asked_once():
    assert [s.name for s in BINANCE.streams("spot", ["trade"], ["btcusdt", "BTCUSDT"])] == ["btcusdt@trade"]
    assert BINANCE.streams("spot", ["trade"], ["btcusdt"])[0].symbol == "BTCUSDT"


# Subscribing


def test_start_asks_for_every_stream_at_once_where_they_fit():
    _, out = live()
    assert [command(send) for send in out] == [
        {
            "method": "SUBSCRIBE",
            "params": ["btcusdt@bookTicker", "btcusdt@trade", "ethusdt@bookTicker", "ethusdt@trade"],
            "id": 1,
        }
    ]


def test_requests_are_batched_and_paced():
    made, out = live(symbols=[f"S{n:03}" for n in range(150)])
    sent = [(T, command(out[0]))]
    for now in range(T, T + 3 * SECOND, 50_000):
        sent += [(now, command(send)) for send in made.tick(now)]
    assert [len(c["params"]) for _, c in sent] == [100, 100, 100]
    assert all(b - a >= SECOND // 3 for (a, _), (b, _) in itertools.pairwise(sent))
    assert [c["id"] for _, c in sent] == [1, 2, 3]


def test_an_answer_acknowledges_the_streams_of_its_request():
    made, _ = live()
    (out,) = made.receive(b'{"result":null,"id":1}', T + SECOND)
    assert isinstance(out, Acknowledged)
    assert len(out.streams) == 4
    assert {state.acknowledged_at for state in made.streams()} == {T + SECOND}
    assert made.receive(b'{"result":null,"id":1}', T + SECOND) == ()
    assert made.ignored["answer"] == 1


@pytest.mark.parametrize(
    "frame",
    [b'{"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":%d}',
     b'{"code":2,"msg":"Invalid request","id":%d}', b'{"code":2,"msg":"Invalid request: %d"}'],
)  # fmt: skip
def test_a_refused_request_is_halved_until_the_stream_at_fault_stands_alone(frame):
    made, out = live()
    waiting, refused, accepted, now = [command(out[0])], [], [], T
    while waiting:
        asked = waiting.pop(0)
        bad = "ethusdt@trade" in asked["params"]
        answer = frame % asked["id"] if bad else b'{"result":null,"id":%d}' % asked["id"]
        for got in made.receive(answer, now):
            (refused if isinstance(got, Refused) else accepted).extend(s.name for s in got.streams)
        for _ in range(30):
            now += 100_000
            waiting += [command(send) for send in made.tick(now) if isinstance(send, Send)]
            if waiting:
                break
    assert refused == ["ethusdt@trade"]
    assert sorted(accepted) == ["btcusdt@bookTicker", "btcusdt@trade", "ethusdt@bookTicker"]


def test_too_many_subscriptions_refuses_the_whole_request():
    made, _ = live()
    (out,) = made.receive(b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":1}', T)
    assert isinstance(out, Refused)
    assert len(out.streams) == 4
    assert "4: Too many" in out.reason


def test_an_error_about_nothing_we_asked_is_rejected():
    made, _ = live()
    made.receive(b'{"result":null,"id":1}', T)
    assert isinstance(made.receive(b'{"error":{"code":3,"msg":"Invalid JSON"},"id":null}', T)[0], Rejected)


def test_an_unanswered_request_is_repeated_once_without_the_streams_that_produce_then_given_up():
    made, _ = live()
    made.receive(spot_trade(), T)
    now, out = T, []
    while not out:
        now = made.next_deadline()
        out = list(made.tick(now))
        made.receive(spot_trade(2, now), now)
    assert now == T + 10 * SECOND
    acknowledged, again = out
    assert [s.name for s in acknowledged.streams] == ["btcusdt@trade"]
    assert command(again)["params"] == ["btcusdt@bookTicker", "ethusdt@bookTicker", "ethusdt@trade"]
    assert [o.cause for o in made.tick(now + 10 * SECOND)] == ["unacknowledged"]


# Leaving


def test_an_acknowledged_connection_that_never_sends_is_left_after_the_first_message_time():
    made, _ = live("linear")
    made.receive(b'{"result":null,"id":1}', T)
    out, now = [], T
    while not out:
        now = made.next_deadline()
        out = list(made.tick(now))
    assert [o.cause for o in out] == ["no_first_message"]
    assert "wrong path" in out[0].detail
    assert now - T <= 76 * SECOND


def test_trades_alone_are_given_longer_and_are_not_judged_by_silence():
    made, _ = live(kinds=["trade"])
    made.receive(b'{"result":null,"id":1}', T)
    assert made.tick(T + 2 * MINUTE) == []
    assert [o.cause for o in made.tick(T + 8 * MINUTE)] == ["no_first_message"]
    made, _ = live(kinds=["trade"])
    made.receive(b'{"result":null,"id":1}', T)
    made.receive(spot_trade(), T)
    assert made.tick(T + 2 * HOUR) == []


def test_a_socket_that_falls_silent_is_left():
    made, _ = live()
    made.receive(b'{"result":null,"id":1}', T)
    for n in range(100):
        made.receive(spot_quote(n), T + n * SECOND)
    now, out = T + 99 * SECOND, []
    while not out:
        now = max(now, made.next_deadline())
        out = list(made.tick(now))
    assert [o.cause for o in out] == ["silence"]
    assert 20 * SECOND <= now - (T + 99 * SECOND) <= 26 * SECOND, "twenty of its own gaps, of a second each"
    made, _ = live()
    made.receive(b'{"result":null,"id":1}', T)
    for n in range(100):
        made.receive(spot_quote(n), T + n * SECOND // 100)
    made.tick(T + SECOND)
    assert made.tick(T + 15 * SECOND) == []
    assert [o.cause for o in made.tick(T + 17 * SECOND)] == ["silence"]


def test_a_young_socket_is_not_left_for_a_silence_that_is_usual_for_its_streams():
    made, _ = live()
    made.receive(b'{"result":null,"id":1}', T)
    for n in range(2):
        made.receive(spot_quote(n), T)
    made.tick(T)
    for state in made.streams():
        state.ordinary = T + 200 * SECOND
    left = [[o.cause for o in made.tick(T + n * SECOND) if isinstance(o, Leave)] for n in (17, 199, 200)]
    assert left == [[], [], ["silence"]]


def test_answers_over_http_do_not_hide_that_the_socket_is_silent():
    made, _ = live()
    made.receive(b'{"result":null,"id":1}', T)
    for n in range(100):
        made.receive(spot_quote(n), T + n * SECOND)
    causes = {}
    for second in range(100, 200):
        causes |= {o.cause: second for o in made.tick(T + second * SECOND)}
        made.respond("depth BTCUSDT", 200, {}, b"{}", T + second * SECOND)
    assert "silence" in causes


def test_an_announced_shutdown_is_a_reason_to_leave():
    for frame in (b'{"e":"serverShutdown","E":1}', b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}'):
        made, _ = live()
        (out,) = made.receive(frame, T)
        assert isinstance(out, Leave)
        assert out.cause == "server_shutdown"


def test_a_connection_is_renewed_before_the_venue_cuts_it_staggered_by_name():
    ends = set()
    for n in range(8):
        made = BINANCE.session(connect(), f"n-{n}-1")
        made.start(T)
        made.receive(b'{"result":null,"id":1}', T)
        for minute in range(24 * 60):
            made.receive(spot_quote(minute), T + minute * MINUTE)
            out = made.tick(T + minute * MINUTE)
            if out:
                assert [o.cause for o in out] == ["planned"]
                ends.add(minute)
                break
    assert all(22 * 60 + 49 <= minute <= 23 * 60 for minute in ends)
    assert len(ends) > 1


def test_a_hundred_rejected_frames_in_a_row_are_a_reason_to_leave():
    made, _ = live()
    for _ in range(99):
        assert len(made.receive(b"garbage", T)) == 1
    assert made.receive(spot_trade(), T)
    outputs = [made.receive(b"garbage", T) for _ in range(100)]
    assert [len(o) for o in outputs] == [1] * 99 + [2]
    assert outputs[-1][1].cause == "garbage"


def test_an_answer_that_nobody_asked_for_is_rejected():
    made, _ = live()
    (out,) = made.respond("tag", 200, {}, b"{}", T)
    assert isinstance(out, Rejected)
    assert made.frame_no == 1


# Events


def test_states_know_when_streams_were_first_and_last_heard():
    made, _ = live()
    made.receive(spot_trade(1, T + SECOND), T + 2 * SECOND)
    made.receive(spot_trade(2, T + 3 * SECOND), T + 4 * SECOND)
    (state,) = [s for s in made.streams() if s.events]
    assert (state.stream.name, state.events, state.first_event) == ("btcusdt@trade", 2, T + SECOND)
    assert (state.first_recv, state.last_recv) == (T + 2 * SECOND, T + 4 * SECOND)
    assert made.venue_time == T + 3 * SECOND


def test_a_stream_that_was_not_asked_for_is_counted_by_channel():
    made, _ = live()
    assert made.receive(spot_trade(symbol="XRPUSDT"), T) == ()
    assert made.ignored == {"trade": 1}


def test_an_escaped_stream_name_is_the_stream():
    symbol = "币安人生USDT"
    made, _ = live(symbols=[symbol])
    plain = spot_trade(1, symbol=symbol)
    name = "".join(f"\\u{ord(c):04x}" if ord(c) > 127 else c for c in f"{symbol.lower()}@trade")
    escaped = spot_trade(2, symbol=symbol).replace(f"{symbol.lower()}@trade".encode(), name.encode())
    events = [e for frame in (plain, escaped, escaped, plain) for e in made.receive(frame, T)]
    assert [e.seq for e in events] == [1, 2, 2, 1]
    assert {e.stream for e in events} == {f"{symbol.lower()}@trade"}


def test_a_frame_with_its_keys_the_other_way_round_is_read():
    made, _ = live()
    data = msgspec.json.decode(spot_trade())["data"]
    (event,) = made.receive(msgspec.json.encode({"data": data, "stream": "btcusdt@trade"}), T)
    assert event.seq == 1


def test_frame_numbers_go_on_from_where_a_replayer_sets_them():
    made, _ = live()
    made.receive(spot_trade(), T)
    made.frame_no = 41
    (event,) = made.receive(spot_trade(2), T)
    assert event.frame_no == 42


@pytest.mark.parametrize(
    "price", ["NaN", "inf", "1_000", "1e5", "-1", "+1", ".5", "5.", "01", "", " 1", "\u0661", "9" * 31]
)
def test_a_price_that_is_no_plain_decimal_is_rejected(price):
    made, _ = live()
    frame = spot_trade().replace(b'"1.5"', msgspec.json.encode(price))
    (out,) = made.receive(frame, T)
    assert isinstance(out, Rejected)
    assert out.stream == "btcusdt@trade"


@pytest.mark.parametrize("off", [-7 * 24 * HOUR - SECOND, 5 * MINUTE + SECOND])
def test_times_out_of_bounds_are_rejected(off):
    made, _ = live()
    (out,) = made.receive(spot_trade(at=T + off), T)
    assert isinstance(out, Rejected)
    assert made.venue_time == 0


@pytest.mark.parametrize("clock", ["T", "E"])
@pytest.mark.parametrize(
    "market,kind", [("spot", "trade"), ("linear", "trade"), ("linear", "agg_trade"), ("linear", "quote")]
)
def test_either_clock_out_of_bounds_is_rejected(market, kind, clock):
    made = BINANCE.session(Connection("binance", market, "x", "wss://x", ()), "n-1-1", learn=True)
    channel = BINANCE.OFFERS[market][kind]
    data = {
        "s": "BTCUSDT",
        "t": 1,
        "p": "1",
        "q": "1",
        "m": True,
        "a": 1,
        "f": 1,
        "l": 1,
        "E": T // 1000,
        "T": T // 1000,
    }
    if kind == "quote":
        data |= {"u": 1, "b": "1", "B": "1", "a": "2", "A": "1"}
    outputs = []
    for ms in (T // 1000, 0, T // 1000 + 10 * MINUTE // 1000):
        body = {"stream": f"btcusdt@{channel}", "data": data | {clock: ms}}
        outputs += made.receive(msgspec.json.encode(body), T)
    assert [isinstance(out, Event) for out in outputs] == [True, False, False]
    assert {out.reason for out in outputs[1:]} == {"impossible time"}


def test_a_frame_that_names_two_streams_leads_no_other_frame_astray():
    made, _ = live()
    confused = spot_trade(1, symbol="ETHUSDT")[:-1].replace(b"ethusdt@trade", b"btcusdt@trade")
    (event,) = made.receive(confused + b',"stream":"ethusdt@trade"}', T)
    assert event.symbol == "ETHUSDT"
    (event,) = made.receive(spot_trade(2), T)
    assert (event.symbol, event.seq) == ("BTCUSDT", 2)


def test_labels_and_learned_streams_are_bounded():
    made = BINANCE.session(Connection("binance", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    for n in range(500):
        made.receive(b'{"stream":"x@c%d","data":{}}' % n, T)
    assert len(made.ignored) <= 201
    assert sum(made.ignored.values()) == 500


# Skew


def test_the_skew_is_the_median_of_the_previous_full_minute():
    skew, start = Skew(), T - T % MINUTE
    for n, delay in enumerate([5, 1, 9]):
        skew.add(start + n * SECOND, delay)
    assert skew.at(start + 59 * SECOND) == 0
    assert skew.at(start + MINUTE) == 5
    assert skew.at(start + 2 * MINUTE) == 0, "no timed frame in the minute before"


def test_a_minute_that_was_not_seen_from_its_start_does_not_count():
    skew, start = Skew(), T - T % MINUTE
    skew.add(start + 1, 7)
    assert skew.at(start + MINUTE) == 0
    skew.add(start + MINUTE + 1, -1_500_000)
    assert skew.at(start + 2 * MINUTE) == -1_500_000


def test_a_clock_that_jumps_makes_no_skew():
    skew, start = Skew(), T - T % MINUTE
    skew.add(start, 7)
    assert skew.at(start + 10 * MINUTE) == 0
    skew.add(start + 10 * MINUTE + 1, 7)
    assert skew.at(start + 5 * MINUTE) == 0


def test_more_than_a_day_is_no_skew():
    skew, start = Skew(), T - T % MINUTE
    skew.add(start, DAY)
    assert skew.at(start + MINUTE) == DAY
    skew.add(start + MINUTE, DAY + 1)
    assert skew.at(start + 2 * MINUTE) == 0, "a line that says so would be set aside"


def test_skew_samples_are_bounded():
    skew, start = Skew(), T - T % MINUTE
    for n in range(SAMPLES + 10):
        skew.add(start + n, n)
    assert skew.at(start + MINUTE) == (SAMPLES - 1) // 2


def test_replaying_a_sessions_frames_gives_the_same_skew():
    frames = [(T + n * 100_000, spot_trade(n, T + n * 100_000 - n % 9 * 1000)) for n in range(2000)]
    frames += [(time + 1, spot_quote(n)) for n, (time, _) in enumerate(frames)]
    frames.sort()

    def skews():
        made = BINANCE.session(connect(symbols=["BTCUSDT"]), "n-1-1", learn=True)
        return [e.skew_us for time, frame in frames for e in made.receive(frame, time) if isinstance(e, Quote)]

    assert skews() == skews()
    assert None in skews()
    assert 4000 in skews()


# Instruments


def info(*symbols, **more):
    rows = [
        {"symbol": s, "status": "TRADING", "baseAsset": s[:-4], "quoteAsset": s[-4:], "filters": [], **more}
        for s in symbols
    ]
    return msgspec.json.encode({"serverTime": T // 1000, "symbols": rows})


def reference(*symbols, market="spot"):
    made = BINANCE.poller(market, "n-1-1", Polled("contract", symbols), BINANCE.ENDPOINTS[market])
    (asked,) = made.start(T)
    assert isinstance(asked, Fetch)
    return made, asked


def test_exchange_info_is_asked_once_and_gives_the_wanted_symbols():
    made, asked = reference("BTCUSDT")
    assert (asked.method, asked.url, asked.weight) == ("GET", "https://api.binance.com/api/v3/exchangeInfo", 20)
    out = made.respond(asked.tag, 200, {}, info("ETHUSDT", "BTCUSDT"), T)
    assert [(c.symbol, c.unified, c.tick) for c in out] == [("BTCUSDT", "BTC/USDT", None)]
    assert made.done
    assert made.next_deadline() is None


def test_symbols_missing_from_the_list_are_asked_by_name_and_refused_if_unknown():
    made, asked = reference("BTCUSDT", "HIDNUSDT", "NOSUCH")
    out = made.respond(asked.tag, 200, {}, info("BTCUSDT"), T)
    assert isinstance(out[0], Contract)
    hidden, unknown = out[1:]
    assert hidden.url.endswith("?symbol=HIDNUSDT")
    (found,) = made.respond(hidden.tag, 200, {}, info("HIDNUSDT"), T)
    assert found.symbol == "HIDNUSDT"
    (refused,) = made.respond(unknown.tag, 400, {}, b'{"code":-1121,"msg":"Invalid symbol."}', T)
    assert isinstance(refused, Refused)
    assert refused.streams[0].symbol == "NOSUCH"
    assert made.done


def test_hostile_symbols_are_escaped_in_the_address():
    made, asked = reference("../../X?A=B&C", "币安")
    out = made.respond(asked.tag, 200, {}, info("BTCUSDT"), T)
    assert [f.url.partition("?")[2] for f in out] == ["symbol=..%2F..%2FX%3FA%3DB%26C", "symbol=%E5%B8%81%E5%AE%89"]


def test_a_truncated_answer_is_no_data_and_patience_grows():
    made, asked = reference("BTCUSDT")
    due = T
    pauses = []
    for _ in range(9):
        (out,) = made.respond(asked.tag, 200, {"content-type": "application/json"}, info("BTCUSDT")[:-20], due)
        assert isinstance(out, Rejected)
        pauses.append(made.next_deadline() - due)
        due = made.next_deadline()
        (asked,) = made.tick(due)
    assert pauses[:3] == [5 * SECOND, 10 * SECOND, 20 * SECOND]
    assert max(pauses) == 300 * SECOND


@pytest.mark.parametrize(
    "after,least", [("120", 120), ("Wed, 21 Oct 2026 07:28:00 GMT", 5), (None, 5), ("9" * 9, 259_200)]
)
def test_a_ban_is_waited_out(after, least):
    made, asked = reference("BTCUSDT")
    made.respond(asked.tag, 418, {} if after is None else {"RETRY-AFTER": after}, b"", T)
    assert made.next_deadline() == T + least * SECOND


def test_patience_is_new_after_an_answer():
    made, asked = reference("BTCUSDT", "HIDNUSDT")
    for _ in range(3):
        made.respond(asked.tag, 500, {}, b"", T)
        (asked,) = made.tick(made.next_deadline())
    _, hidden = made.respond(asked.tag, 200, {}, info("BTCUSDT"), T)
    made.respond(hidden.tag, 500, {}, b"", T)
    assert made.next_deadline() == T + 5 * SECOND


def test_an_answer_to_what_is_never_asked_is_rejected():
    made, _ = reference("BTCUSDT")
    assert isinstance(made.respond("ETHUSDT", 200, {}, info("ETHUSDT"), T)[0], Rejected)
    assert isinstance(made.receive(b"{}", T)[0], Rejected)
    assert made.frame_no == 2


def test_all_instruments_where_no_symbol_is_named():
    made, asked = reference(market="linear")
    body = info("BTCUSDT", "ETHUSDT", marginAsset="USDT", contractType="PERPETUAL", onboardDate=1_569_398_400_000)
    out = made.respond(asked.tag, 200, {}, body, T)
    assert [c.unified for c in out] == ["BTC/USDT:USDT", "ETH/USDT:USDT"]
    assert {c.multiplier for c in out} == {"1"}
    assert [c.item for c in out] == [0, 1]


# Recordings


def recorded(name):
    """(receive time us, frame) of the two text recordings of samples/README.md."""
    path = SAMPLES_DIR / name
    if not path.exists():
        pytest.skip(f"recorded frames are not here: {path} (set LAKE_SAMPLES)")
    for line in gzip.decompress(path.read_bytes()).splitlines():
        if name.startswith("hft"):
            text, frame = line.split(b" ", 1)
            time = int(text)
            yield time // 1000 if time > 10**17 else time, frame
        elif line.strip() and not line.startswith(b"wss:"):
            text, frame = line.split(b": ", 1)
            yield int(float(text) * 1_000_000), frame


@pytest.mark.parametrize(
    "market,files,wanted,ignored",
    [
        ("linear", ["hft_um_btcusdt_20240718.gz", "hft_um_btcusdt_20240719.gz"],
         {"trade": 10_701, "quote": 52_260, "book_delta": 9_022}, {"depth snapshot": 1}),
        ("spot", ["hft_spot_btcusdt_20230405.dat.gz"], {"trade": 3_144, "quote": 8_015, "book_delta": 3_929}, {}),
        ("linear", ["cf_um_20210417.ws.txt.gz"], {"agg_trade": 185, "quote": 1_959, "book_delta": 1_016},
         {"kline_1m forming": 99}),
        ("spot", ["cf_spot_20211012.ws.txt.gz"], {"agg_trade": 2, "quote": 84, "book_delta": 177},
         {"kline_1m forming": 2}),
    ],
)  # fmt: skip
def test_every_recorded_frame_is_an_event_or_counted_and_ids_are_contiguous(market, files, wanted, ignored):
    made = BINANCE.session(Connection("binance", market, "x", "wss://x", ()), "n-1-1", learn=True)
    mergers = {kind: merger("binance", market, kind, contiguous=kind != "quote") for kind in wanted}
    counts, gaps = dict.fromkeys(wanted, 0), []
    for time, frame in (pair for name in files for pair in recorded(name)):
        for event in made.receive(frame, time):
            assert isinstance(event, Event), (event, frame[:300])
            kind = KIND_OF_EVENT[type(event)]
            counts[kind] += mergers[kind].merge(event)
        if made.frame_no % 500 == 0:
            gaps += [gap for held in mergers.values() for gap in held.tick(time)]
    assert counts == wanted
    assert made.ignored == ignored
    gaps += [gap for held in mergers.values() for gap in held.tick(time + MINUTE)]
    assert gaps == []
    assert {held.duplicates for held in mergers.values()} == {0}
    assert made.frame_no == sum(wanted.values()) + sum(ignored.values())


def test_recorded_instruments_become_contracts():
    path = SAMPLES_DIR / "gct_rest_public_routes.json.gz"
    if not path.exists():
        pytest.skip(f"recorded answers are not here: {path} (set LAKE_SAMPLES)")
    routes = msgspec.json.decode(gzip.decompress(path.read_bytes()))
    routes = routes.get("routes", routes)
    for market, route in (("spot", "/api/v3/exchangeInfo"), ("linear", "/fapi/v1/exchangeInfo")):
        body = routes[route]["GET"][0]["data"]
        made, asked = reference(market=market)
        out = made.respond(asked.tag, 200, {}, msgspec.json.encode(body), body["serverTime"] * 1000)
        assert out
        assert all(isinstance(c, Contract) and c.tick and c.lot for c in out)


def test_types_of_events():
    made, _ = live(kinds=["trade", "agg_trade", "quote"])
    assert isinstance(made.receive(spot_trade(), T)[0], Trade)
    assert isinstance(made.receive(spot_quote(), T)[0], Quote)
    frame = spot_trade().replace(b"@trade", b"@aggTrade").replace(b'"t":1', b'"a":1,"f":1,"l":3')
    (event,) = made.receive(frame, T)
    assert isinstance(event, AggTrade)
    assert (event.first_id, event.last_id) == (1, 3)
    assert spot.PATHS["trade"] == "stream"


# Kinds and their channels


@pytest.mark.parametrize("market", ["spot", "linear", "inverse"])
def test_every_stream_kind_is_offered_with_its_first_channel(market):
    futures = {"liquidation": "forceOrder", "mark_price": "markPrice@1s", "contract": "!contractInfo",
               "open_interest": "openInterest", "funding_rate": "fundingRate"}  # fmt: skip
    assert dict(BINANCE.OFFERS[market]) == {
        "trade": "trade", "agg_trade": "aggTrade", "quote": "bookTicker", "book_delta": "depth@100ms",
        "book_snapshot": "depth20@100ms", "kline": "kline_1m",
        **({"contract": "exchangeInfo"} if market == "spot" else futures),
    }  # fmt: skip


def test_a_kinds_channel_can_be_chosen_among_its_own():
    (stream,) = BINANCE.streams("spot", ["book_delta"], ["BTCUSDT"], {"book_delta": "depth"})
    assert (stream.name, stream.kind) == ("btcusdt@depth", "book_delta")
    (stream,) = BINANCE.streams("inverse", ["kline"], ["BTCUSD_PERP"], {"kline": "kline_5m"})
    assert stream.name == "btcusd_perp@kline_5m"
    for channel in ("depth20", "depth@250ms", "kline_1s"):
        with pytest.raises(Malformed, match=r"one of depth@100ms, depth"):
            BINANCE.streams("spot", ["book_delta"], ["BTCUSDT"], {"book_delta": channel})


def test_contract_changes_are_one_stream_for_all_symbols_and_may_be_silent():
    streams = BINANCE.streams("linear", ["contract", "liquidation", "kline"], ["BTCUSDT", "ETHUSDT"])
    assert [s.name for s in streams if s.kind == "contract"] == ["!contractInfo"]
    assert {s.kind for s in streams if s.sparse} == {"contract", "liquidation"}
    made = BINANCE.session(connect("linear", kinds=["liquidation", "contract"]), "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    made.tick(T + SECOND)
    made.receive(b'{"result":["btcusdt@forceOrder","ethusdt@forceOrder","!contractInfo"],"id":2}', T)
    assert made.tick(T + HOUR) == [], "no forced order for an hour is no reason to leave"


def listed(taken):
    """A session whose venue acknowledges all and answers with each of `taken` in turn what it took on; all outputs."""
    made = BINANCE.session(connect("linear", kinds=["liquidation"]), "n-1-1")
    out, asked, now, answers = [*made.start(T)], [], T, iter(taken)
    while out:
        sent = [command(one) for one in out if isinstance(one, Send)]
        asked += [one for one in out if not isinstance(one, Send)]
        asked += [(now, one["method"], one.get("params")) for one in sent]
        out = []
        for one in sent:
            result = next(answers) if one["method"] == "LIST_SUBSCRIPTIONS" else None
            out += made.receive(msgspec.json.encode({"result": result, "id": one["id"]}), now)
        for _ in range(10):
            now += 100_000
            out += made.tick(now)
    return made, asked


def test_what_was_acknowledged_and_not_taken_on_is_asked_for_again():
    names = ["btcusdt@forceOrder", "ethusdt@forceOrder"]
    made, asked = listed([names[:1], names])
    sent = [(method, params) for _, method, params in (one for one in asked if isinstance(one, tuple))]
    listing = ("LIST_SUBSCRIPTIONS", None)
    assert sent == [("SUBSCRIBE", names), listing, ("SUBSCRIBE", names[1:]), listing]
    assert all(state.acknowledged_at for state in made.streams())
    times = [one[0] for one in asked if isinstance(one, tuple)]
    assert all(b - a >= SECOND // 10 for a, b in itertools.pairwise(times))


def test_the_list_of_what_was_taken_on_is_an_answer_also_once_its_first_stream_has_sent_something():
    made = BINANCE.session(connect("linear", kinds=["liquidation"]), "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    order = {"s": "BTCUSDT", "S": "SELL", "q": "1", "p": "9", "ap": "9", "T": T // 1000}
    forced = {"stream": "btcusdt@forceOrder", "data": {"e": "forceOrder", "E": T // 1000, "o": order}}
    assert len(made.receive(msgspec.json.encode(forced), T)) == 1
    assert [command(one)["method"] for one in made.tick(T + SECOND)] == ["LIST_SUBSCRIPTIONS"]
    assert list(made.receive(b'{"result":["btcusdt@forceOrder","ethusdt@forceOrder"],"id":2}', T + SECOND)) == []


def test_what_is_never_taken_on_is_refused_in_the_end():
    names = ["btcusdt@forceOrder", "ethusdt@forceOrder"]
    made, asked = listed([names[:1]] * 9)
    (refused,) = (one for one in asked if isinstance(one, Refused))
    assert ([s.name for s in refused.streams], refused.reason) == (
        names[1:], "acknowledged 3 times and never taken on",
    )  # fmt: skip
    assert [one[1] for one in asked if isinstance(one, tuple)].count("SUBSCRIBE") == 3
    assert {s.stream.name for s in made.streams() if not s.acknowledged_at} == {names[1]}


@pytest.mark.parametrize("said", [None, {}, "x", [], [1], ["other@trade"]])
def test_a_list_of_streams_that_says_nothing_of_ours_changes_nothing(said):
    made, asked = listed([said])
    assert not [one for one in asked if isinstance(one, Rejected | Refused | Leave)]
    assert len([one for one in asked if isinstance(one, tuple)]) == 2
    assert all(state.acknowledged_at for state in made.streams())


def test_a_venue_that_does_not_list_what_it_took_on_is_not_left():
    made = BINANCE.session(connect("linear", kinds=["liquidation"]), "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    assert [command(one)["method"] for one in made.tick(T + SECOND)] == ["LIST_SUBSCRIPTIONS"]
    assert made.tick(T + 30 * SECOND) == []
    made = BINANCE.session(connect("linear", kinds=["liquidation"]), "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    made.tick(T + SECOND)
    assert list(made.receive(b'{"error":{"code":2,"msg":"unknown variant"},"id":2}', T + SECOND)) == []
    assert made.tick(T + 30 * SECOND) == []


def test_coin_m_is_asked_on_the_routed_paths_and_falls_back_to_the_unrouted_one():
    streams = BINANCE.streams("inverse", ["quote", "mark_price"], ["BTCUSD_PERP"])
    made = {c.url: c.fallbacks for c in BINANCE.connections("inverse", streams, BINANCE.ENDPOINTS["inverse"])}
    unrouted = ("wss://dstream.binance.com/stream",)
    assert made == {
        "wss://dstream.binance.com/public/stream": unrouted,
        "wss://dstream.binance.com/market/stream": unrouted,
    }
    (linear_one,) = BINANCE.connections(
        "linear", BINANCE.streams("linear", ["quote"], ["BTCUSDT"]), BINANCE.ENDPOINTS["linear"]
    )
    assert linear_one.fallbacks == ()


@pytest.mark.parametrize(
    "url,frame,name",
    [("wss://x/ws/btcusdt@depth", '{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}',
      "btcusdt@depth"),
     ("wss://x/ws/btcusdt@depth5@100ms", '{"lastUpdateId":%d,"bids":[],"asks":[]}', "btcusdt@depth5@100ms"),
     ("wss://x/ws/a@trade/btcusdt@depth@100ms", '{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}',
      "btcusdt@depth@100ms")],
)  # fmt: skip
def test_a_raw_connections_address_says_which_book_it_carries(url, frame, name):
    made = BINANCE.session(Connection("binance", "spot", "x", url, ()), "n-1-1", learn=True)
    (event,) = made.receive((frame % (T // 1000)).encode(), T)
    assert event.stream == name


def test_a_bare_book_that_no_address_explains_is_counted():
    frame = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'
    for url in ("wss://x/stream", "wss://x/ws/btcusdt@depth/btcusdt@depth@100ms"):
        made = BINANCE.session(Connection("binance", "spot", "x", url, ()), "n-1-1", learn=True)
        assert made.receive(frame, T) == ()
        assert made.ignored == {"depthUpdate": 1}


def test_candles_and_forced_orders_of_raw_connections_say_themselves_what_they_are():
    made = BINANCE.session(Connection("binance", "linear", "x", "wss://x/ws", ()), "n-1-1", learn=True)
    ms = T // 1000
    candle = {"t": ms - 60_000, "T": ms - 1, "s": "BTCUSDT", "i": "1m", "o": "1", "c": "1", "h": "1", "l": "1",
              "v": "1", "n": 1, "x": True, "q": "1", "V": "1", "Q": "1"}  # fmt: skip
    (event,) = made.receive(msgspec.json.encode({"e": "kline", "E": ms, "s": "BTCUSDT", "k": candle}), T)
    assert (event.stream, event.close) == ("btcusdt@kline_1m", "1")
    order = {"s": "BTCUSDT", "S": "BUY", "o": "LIMIT", "q": "1", "p": "1", "ap": "1", "T": ms}
    (event,) = made.receive(msgspec.json.encode({"e": "forceOrder", "E": ms, "o": order}), T)
    assert (event.stream, event.side) == ("btcusdt@forceOrder", "buy")


def test_a_candle_whose_contracts_are_worth_more_than_a_number_may_say_is_rejected():
    made = BINANCE.session(Connection("binance", "inverse", "x", "wss://x/ws", ()), "n-1-1", learn=True)
    ms = T // 1000
    candle = {"t": ms - 60_000, "T": ms - 1, "s": "BTCUSD_PERP", "i": "1m", "o": "1", "c": "1", "h": "1", "l": "1",
              "v": "9" * 30, "n": 1, "x": True, "q": "1", "V": "1", "Q": "1"}  # fmt: skip
    (said,) = made.receive(msgspec.json.encode({"e": "kline", "E": ms, "s": "BTCUSD_PERP", "k": candle}), T)
    assert isinstance(said, Rejected)
    assert said.reason.startswith("a volume with more than 30 digits")


def test_a_contracts_size_comes_from_the_reference_data_and_holds_from_then_on():
    made = BINANCE.session(Connection("binance", "inverse", "x", "wss://x", ()), "n-1-1", learn=True)
    body = {"E": T // 1000, "T": T // 1000, "s": "XYZUSD_PERP", "a": 1, "f": 1, "l": 1, "p": "1", "q": "1", "m": True}
    frame = msgspec.json.encode({"stream": "xyzusd_perp@aggTrade", "data": body})
    (before,) = made.receive(frame, T)
    asked, fetch = reference(market="inverse")
    row = {"symbol": "XYZUSD_PERP", "contractStatus": "TRADING", "contractSize": 5, "baseAsset": "XYZ",
           "quoteAsset": "USD", "marginAsset": "XYZ", "contractType": "PERPETUAL", "filters": []}  # fmt: skip
    (contract,) = asked.respond(fetch.tag, 200, {}, msgspec.json.encode({"symbols": [row]}), T)
    assert (contract.multiplier, contract.contract_size, contract.unified) == ("5", "5", "XYZ/USD:XYZ")
    made.know(contract)
    (after,) = made.receive(frame, T)
    assert (before.multiplier, after.multiplier) == ("10", "5")


@pytest.mark.parametrize("size", [None, "", "-1", "1e2", True])
def test_an_instrument_that_counts_contracts_without_saying_what_one_is_worth_is_rejected(size):
    made, asked = reference(market="inverse")
    row = {"symbol": "X", "contractStatus": "TRADING", "baseAsset": "X", "quoteAsset": "USD", "filters": []}
    row |= {} if size is None else {"contractSize": size}
    out = made.respond(asked.tag, 200, {}, msgspec.json.encode({"symbols": [row]}), T)
    assert [type(o) for o in out] == [Rejected]
