"""One suite for every exchange adapter. It finds the members by itself; a new venue brings fixtures and no test code.

Fixtures of a venue, in tests/fixtures/exchanges/<venue>/: SOURCES.md, and for each market a folder with
`<kind>.frames` of every kind offered and `connection.frames` (a line a frame: `<receive time us> <frame>`, `#`
comments) beside `.events` (a line an outcome: the event as its JSON line, `ignored <label>` or `rejected [<reason>]`),
and `reference.body` (an answer to the reference job's first request) beside `reference.events`.
"""

import datetime as dt
import itertools
import os
import pathlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import exchanges
from collectors.merger import merger
from market.errors import MarketError
from market.instruments import MARKET_TYPES
from market.kinds import KIND_OF_EVENT, KINDS, Event
from market.session import Connection, Fetch, Leave, Rejected, Send
from market.times import SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
MEMBERS = [(name, market) for name in exchanges.names() for market in exchanges.load(name).OFFERS]
STREAMED = [
    (name, market, kind) for name, market in MEMBERS for kind in (*exchanges.load(name).OFFERS[market], "connection")
]
NOW = 1_785_701_708_000_000


def frames_of(venue, market, kind):
    path = FIXTURES / venue / market / f"{kind}.frames"
    lines = [line for line in path.read_bytes().splitlines() if line and not line.startswith(b"#")]
    return [(int(time), frame) for time, frame in (line.split(b" ", 1) for line in lines)]


def outcomes_of(venue, market, kind):
    return (FIXTURES / venue / market / f"{kind}.events").read_text("utf-8").splitlines()


def learning(venue, market):
    connection = Connection(venue, market, "fixture", "wss://fixture", ())
    return exchanges.load(venue).session(connection, "fixture-1-1", learn=True)


def outcome(session, ignored, outputs):
    """The line of an .events file that a frame's outputs are."""
    assert len(outputs) <= 1, "a fixture's frame has one outcome"
    if not outputs:
        new = session.ignored - ignored
        assert sum(new.values()) == 1, "a frame without an outcome is counted by channel"
        return f"ignored {next(iter(new))}"
    if isinstance(outputs[0], Rejected):
        return f"rejected {outputs[0].reason}"
    return msgspec.json.encode(outputs[0]).decode()


def same(got, wanted):
    return got.startswith("rejected ") if wanted == "rejected" else got == wanted


@pytest.mark.parametrize("venue", exchanges.names())
def test_every_channel_offered_has_its_proof_in_sources(venue):
    text = (FIXTURES / venue / "SOURCES.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert all(line.count("|") == 6 and line.rstrip("| ").count("|") == 5 for line in rows), "an empty proof"
    for market, kinds in exchanges.load(venue).OFFERS.items():
        for channel in kinds.values():
            name = channel if channel.startswith("!") else f"@{channel}"  # of the market, or of a symbol
            assert any(market in row and name in row for row in rows), f"{market} {channel} without proof"


@pytest.mark.parametrize("venue,market,kind", STREAMED)
def test_documented_frames_become_the_events_that_are_written_beside_them(venue, market, kind):
    session = learning(venue, market)
    frames, wanted = frames_of(venue, market, kind), outcomes_of(venue, market, kind)
    assert len(frames) == len(wanted)
    session.start(frames[0][0])
    for number, ((time, frame), line) in enumerate(zip(frames, wanted, strict=True), 1):
        ignored = session.ignored.copy()
        got = outcome(session, ignored, session.receive(frame, time))
        assert same(got, line), f"{venue} {market} {kind} frame {number}: {frame!r}"
        assert session.frame_no == number


@pytest.mark.parametrize("venue,market,kind", STREAMED)
def test_the_event_has_the_kind_that_the_channel_offers(venue, market, kind):
    session = learning(venue, market)
    for time, frame in frames_of(venue, market, kind):
        for event in session.receive(frame, time):
            if isinstance(event, Event):
                assert KIND_OF_EVENT[type(event)] in exchanges.load(venue).OFFERS[market]
    if kind != "connection":
        kinds = {state.stream.kind for state in session.streams()}
        assert kind in kinds


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_every_kind_that_is_collected_anywhere_has_its_evidence_or_says_that_the_venue_lacks_it(venue, market):
    adapter = exchanges.load(venue)
    evidence = adapter.EVIDENCE[market]
    assert set(evidence) == {name for name, kind in KINDS.items() if not kind.derived}
    for kind, found in evidence.items():
        offered = kind in adapter.OFFERS[market] or kind in adapter.POLLS[market]
        assert offered == (found.basis != "absent"), f"{kind}: offered {offered}, evidence {found.basis}"
        assert found.source if offered else found.note
        if found.basis == "live":
            dt.date.fromisoformat(found.source)


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_the_recordings_that_the_evidence_names_exist(venue, market):
    folder = SAMPLES / venue
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}; LAKE_SAMPLES names the folder")
    held = {path.name.split(".")[0] for path in folder.iterdir()}
    for found in exchanges.load(venue).EVIDENCE[market].values():
        if found.basis == "recorded":
            assert set(found.source.split(", ")) <= held


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_a_kind_that_a_market_lacks_is_refused_with_the_reason(venue, market):
    adapter = exchanges.load(venue)
    for kind, found in adapter.EVIDENCE[market].items():
        if found.basis == "absent":
            with pytest.raises(MarketError, match=found.note):
                adapter.streams(market, [kind], ["X"])


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_the_reference_answer_becomes_contracts(venue, market):
    adapter = exchanges.load(venue)
    body = (FIXTURES / venue / market / "reference.body").read_bytes()
    session = adapter.reference(market, "fixture-1-1", (), adapter.ENDPOINTS[market])
    asked = [out for out in session.start(NOW) if isinstance(out, Fetch)]
    assert asked
    outputs = session.respond(asked[0].tag, 200, {"Content-Type": "application/json"}, body, NOW + 500_000)
    wanted = outcomes_of(venue, market, "reference")
    got = [f"rejected {o.reason}" if isinstance(o, Rejected) else msgspec.json.encode(o).decode() for o in outputs]
    assert len(got) == len(wanted)
    assert all(same(g, w) for g, w in zip(got, wanted, strict=True)), got


@pytest.mark.parametrize("venue,market", MEMBERS)
@pytest.mark.parametrize(
    "status,body",
    [(200, b"<html>maintenance</html>"), (200, b""), (200, b"{}"), (200, b"[]"), (429, b""), (418, b"{}"), (500, b"x"),
     (403, b"<html>"), (451, b"{}"), (404, b"\xff\xfe")],
)  # fmt: skip
def test_an_answer_that_is_no_data_is_rejected_and_asked_for_again(venue, market, status, body):
    adapter = exchanges.load(venue)
    session = adapter.reference(market, "fixture-1-1", ("X",), adapter.ENDPOINTS[market])
    (asked,) = session.start(NOW)
    outputs = session.respond(asked.tag, status, {"Retry-After": "7"}, body, NOW)
    assert [type(out) for out in outputs] == [Rejected]
    due = session.next_deadline()
    assert due is not None
    assert due > NOW
    if status == 429:
        assert due >= NOW + 7 * SECOND
    assert session.tick(due - 1) == []
    assert [out.url for out in session.tick(due)] == [asked.url]


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_what_is_offered_is_declared(venue, market):
    adapter = exchanges.load(venue)
    assert venue == adapter.NAME
    assert market in MARKET_TYPES
    assert set(adapter.OFFERS[market]) <= {name for name, kind in KINDS.items() if not kind.derived}
    assert adapter.ENDPOINTS[market].rest.startswith("https://")
    assert all(url.startswith("wss://") for url in adapter.ENDPOINTS[market].ws.values())
    assert adapter.LIMITS[market].max_frame <= 16 * 1024 * 1024
    with pytest.raises(MarketError):
        adapter.streams(market, ["bar_1m"], ["X"])
    with pytest.raises(MarketError):
        adapter.streams("no market", ["trade"], ["X"])


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_connections_carry_every_stream_once_within_the_limits_under_names_that_stay(venue, market):
    adapter = exchanges.load(venue)
    symbols = [f"SYM{n}" for n in range(450)]
    streams = adapter.streams(market, list(adapter.OFFERS[market]), symbols)
    made = adapter.connections(market, streams, adapter.ENDPOINTS[market])
    carried = [stream for connection in made for stream in connection.streams]
    assert sorted(s.name for s in carried) == sorted({s.name for s in streams})
    assert max(len(c.streams) for c in made) <= adapter.LIMITS[market].streams_per_connection
    assert len({c.name for c in made}) == len(made)
    assert made == adapter.connections(market, streams[::-1], adapter.ENDPOINTS[market])


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_subscribing_is_paced_and_names_every_stream(venue, market):
    adapter = exchanges.load(venue)
    limits = adapter.LIMITS[market]
    streams = adapter.streams(market, list(adapter.OFFERS[market]), [f"SYM{n}" for n in range(200)])
    for connection in adapter.connections(market, streams, adapter.ENDPOINTS[market]):
        session = adapter.session(connection, "fixture-1-1")
        now, sent = NOW, [(NOW, out) for out in session.start(NOW)]
        while (due := session.next_deadline()) is not None and due < NOW + 5 * SECOND:
            now = max(due, now)
            sent += [(now, out) for out in session.tick(now)]
        assert all(isinstance(out, Send) for _, out in sent)
        text = "".join(out.text for _, out in sent)
        assert all(f'"{stream.name}"' in text for stream in connection.streams)
        times = [time for time, _ in sent]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert all(gap >= SECOND / limits.requests_per_second - 1 for gap in gaps)


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_an_unanswered_silent_connection_is_left(venue, market):
    adapter = exchanges.load(venue)
    streams = adapter.streams(market, list(adapter.OFFERS[market]), ["BTCUSDT"])
    for connection in adapter.connections(market, streams, adapter.ENDPOINTS[market]):
        session = adapter.session(connection, "fixture-1-1")
        session.start(NOW)
        outputs = []
        while not any(isinstance(out, Leave) for out in outputs):
            due = session.next_deadline()
            assert due is not None
            assert due <= NOW + 24 * 3600 * SECOND
            outputs = list(session.tick(due))


@pytest.mark.parametrize("venue,market,kind", STREAMED)
def test_frames_again_after_a_reconnect_yield_nothing_new(venue, market, kind):
    mergers = {}

    def new_events(session_id):
        connection = Connection(venue, market, "fixture", "wss://fixture", ())
        session = exchanges.load(venue).session(connection, session_id, learn=True)
        found = []
        for time, frame in frames_of(venue, market, kind):
            for event in session.receive(frame, time):
                if isinstance(event, Event):
                    name = KIND_OF_EVENT[type(event)]
                    contiguous = name in ("trade", "agg_trade")
                    made = mergers.setdefault(name, merger(venue, market, name, contiguous=contiguous))
                    found += [event] if made.merge(event) else []
        return found

    first = new_events("fixture-1-1")
    assert first or kind == "connection"
    assert new_events("fixture-2-1") == []


@pytest.mark.parametrize("venue,market", MEMBERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_frames_never_raise_and_never_go_uncounted(venue, market, data):
    frames = [f for v, m, kind in STREAMED if (v, m) == (venue, market) for f in frames_of(venue, market, kind)]
    connection = Connection(venue, market, "fixture", "wss://fixture", ())
    learn = data.draw(st.booleans())
    session = exchanges.load(venue).session(connection, "fixture-1-1", learn=learn)
    session.start(frames[0][0])
    for number in range(1, data.draw(st.integers(1, 8)) + 1):
        time, frame = data.draw(st.sampled_from(frames))
        damaged = data.draw(damage(frame))
        before = sum(session.ignored.values())
        outputs = session.receive(damaged, time)
        counted = sum(session.ignored.values()) - before
        assert (len(outputs) > 0) != (counted == 1), damaged
        assert session.frame_no == number
        for out in outputs:
            if isinstance(out, Event):
                msgspec.json.encode(out)


def damage(frame):
    """The frame cut, with bytes changed, with a value replaced, twice, or something else altogether."""
    values = [b"null", b"-1", b"1e400", b'"1e5"', b"[]", b"{}", b'"\\ud800"', b'"\xff"', b"true", b"9" * 40, b'""',
              b"[" * 2000, '"\u0663"'.encode()]  # fmt: skip
    colons = [i for i, byte in enumerate(frame) if byte == ord(":")]

    def replaced(at, value):
        end = min((i for i in (frame.find(c, at) for c in (b",", b"}")) if i >= 0), default=len(frame))
        return frame[: at + 1] + value + frame[end:]

    return st.one_of(
        st.just(frame),
        st.integers(0, len(frame)).map(lambda n: frame[:n]),
        st.tuples(st.integers(0, len(frame) - 1), st.binary(min_size=1, max_size=3)).map(
            lambda p: frame[: p[0]] + p[1] + frame[p[0] + 1 :]
        ),
        st.tuples(st.sampled_from(colons), st.sampled_from(values)).map(lambda p: replaced(*p))
        if colons
        else st.just(b""),
        st.just(frame + frame),
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
