"""One suite for every exchange adapter. It finds the members by itself; a new venue brings fixtures and no test code.

Fixtures of a venue, in tests/fixtures/exchanges/<venue>/: SOURCES.md, and for each market a folder with
`<kind>.frames` of every kind streamed and `connection.frames` (a line a frame: `<receive time us> <frame>`, `#`
comments) beside `.events` (a line a frame, its outcomes with tabs between: an event as its JSON line, `ignored <label>`
or `rejected [<reason>]`),
`poll-<kind>.answers` of every kind polled and of the server's time (`# symbols <symbols>`, then a line an answer:
`<receive time us>`, tag, status and body with tabs between) beside its `.events`, where `refused <symbol>` and
`server_time <us>` are outcomes too, and `reference.body` (an answer to the first request for instruments) beside
`reference.events`. `contracts.known`, where there is one, are lines of contracts that a session is told of before its
frames or answers. `nothing.json` is an answer of any route (`<market>/nothing-<kind>.json` of one), `$symbol` and `$ms`
to be filled in; `greeting.frame` what the venue sends before anything may be asked of it, where it does;
`subscribing.words` (of one market in its folder) its words for a subscription `refused` and `taken`, with `$id`,
`$channel` and `$symbol` to be filled in.
"""

import datetime as dt
import itertools
import json
import os
import pathlib
import re

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import exchanges
from collectors.links import Reminded
from collectors.merger import merger
from collectors.redundancy import merger_maker
from collectors.rhythm import LEAST
from market.errors import MarketError
from market.instruments import MARKET_TYPES
from market.kinds import KIND_OF_EVENT, KINDS, Contract, Event, Quote
from market.session import (
    EVERY_SYMBOL,
    SERVER_TIME,
    Acknowledged,
    Connection,
    Fetch,
    Informed,
    Leave,
    Polled,
    Refused,
    Rejected,
    Renewal,
    Send,
    ServerTime,
)
from market.times import HOUR, SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
MEMBERS = [(name, market) for name in exchanges.names() for market in exchanges.load(name).OFFERS]
STREAMED = [
    (name, market, kind)
    for name, market in MEMBERS
    for kind in exchanges.load(name).OFFERS[market]
    if exchanges.load(name).streams(market, [kind], ["X"])
] + [(name, market, "connection") for name, market in MEMBERS]
POLLED = [(name, market, kind) for name, market in MEMBERS for kind in exchanges.load(name).POLLS[market]]
ANSWERED = [member for member in POLLED if member[2] != "contract"]
NOW = 1_785_701_708_000_000
RENEWED = 40


def frames_of(venue, market, kind):
    path = FIXTURES / venue / market / f"{kind}.frames"
    lines = [line for line in path.read_bytes().splitlines() if line and not line.startswith(b"#")]
    return [(int(time), frame) for time, frame in (line.split(b" ", 1) for line in lines)]


def outcomes_of(venue, market, kind):
    return (FIXTURES / venue / market / f"{kind}.events").read_text("utf-8").splitlines()


def learning(venue, market):
    return told(venue, market, "fixture-1-1", learn=True)


def told(venue, market, session_id, *, learn):
    """A session that carries nothing yet, and knows the contracts of its fixtures."""
    connection = Connection(venue, market, "fixture", "wss://fixture", ())
    return informed(exchanges.load(venue).session(connection, session_id, learn=learn), venue, market)


def informed(session, venue, market):
    """The session, told of the contracts of its fixtures."""
    path = FIXTURES / venue / market / "contracts.known"
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        session.know(msgspec.json.decode(line, type=Contract))
    return session


def greeting(venue, session):
    """What comes of the venue's first frame, where it sends one before anything may be asked of it."""
    path = FIXTURES / venue / "greeting.frame"
    return session.receive(path.read_bytes().strip(), NOW) if path.exists() else ()


def outcome(session, ignored, outputs):
    """The line of an .events file that a frame's outputs are."""
    if not outputs:
        new = session.ignored - ignored
        assert sum(new.values()) == 1, "a frame without an outcome is counted by channel"
        return f"ignored {next(iter(new))}"
    return "\t".join(
        f"rejected {out.reason}" if isinstance(out, Rejected) else msgspec.json.encode(out).decode() for out in outputs
    )


@pytest.mark.parametrize("venue, market, kind", [one for one in STREAMED if one[2] == "mark_price"])
def test_a_session_whose_first_frames_are_not_read_makes_the_same_marks_of_the_others(venue, market, kind):
    """Some messages tell what changed only: the rest is in the last row before."""
    frames, session = frames_of(venue, market, kind), learning(venue, market)
    greeting(venue, session)
    made, said = [[*session.receive(frame, time)] for time, frame in frames], {}
    for first, outputs in enumerate(made, 1):
        rows = {(type(one), one.symbol): one for one in outputs if isinstance(one, Event)}
        said |= rows
        part = learning(venue, market)
        greeting(venue, part)
        part.frame_no += first
        for event in said.values() if isinstance(part, Reminded) else ():
            part.remind(event)
        again = [[*part.receive(frame, time)] for time, frame in frames[first:]] if rows else []
        assert again in ([], made[first:])


def answers_of(venue, market, kind):
    """(symbols, answers as (receive time, tag, status, body)) of a poll's fixture."""
    head, *lines = (FIXTURES / venue / market / f"poll-{kind}.answers").read_bytes().splitlines()
    symbols = tuple(head.decode().removeprefix("# symbols").split())
    fields = [line.split(b"\t") for line in lines if not line.startswith(b"#")]
    return symbols, [(int(time), tag.decode(), int(status), body) for time, tag, status, body in fields]


def poller(venue, market, kind, symbols=("X",), every=HOUR, session="fixture-1-1", **more):
    adapter = exchanges.load(venue)
    made = adapter.poller(market, session, Polled(kind, symbols, every, **more), adapter.ENDPOINTS[market])
    return informed(made, venue, market) if isinstance(made, Informed) else made


def poll_outcomes(session, answers):
    """The lines of a poll's .events file; `None` requests stay out, since a replay asks nothing."""
    found = []
    for time, tag, status, body in answers:
        ignored = session.ignored.copy()
        outputs = session.respond(tag, status, {"content-type": "application/json"}, body, time)
        found += [f"ignored {label}" for label in session.ignored - ignored]
        for out in outputs:
            if isinstance(out, Rejected):
                found.append(f"rejected {out.reason}")
            elif isinstance(out, Refused):
                found.append(f"refused {' '.join(stream.symbol for stream in out.streams)}")
            elif isinstance(out, ServerTime):
                found.append(f"server_time {out.venue_time}")
            elif isinstance(out, Event):
                found.append(msgspec.json.encode(out).decode())
    return found


def same(got, wanted):
    return got.startswith("rejected ") if wanted == "rejected" else got == wanted


@pytest.mark.parametrize("venue", exchanges.names())
def test_every_channel_offered_has_its_proof_in_sources(venue):
    text = (FIXTURES / venue / "SOURCES.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert all(line.count("|") == 6 and line.rstrip("| ").count("|") == 5 for line in rows), "an empty proof"
    adapter = exchanges.load(venue)
    for market, kinds in adapter.OFFERS.items():
        routes = [poll.route for poll in adapter.POLLS[market].values()]
        for kind, channel in kinds.items():
            streamed = bool(adapter.streams(market, [kind], ["X"])) and not channel.startswith("!")
            told = (f"@{channel}`", f"`{channel}`") if streamed else (channel,)  # of a symbol, or of the market
            proven = any(market in row and any(name in row for name in told) for row in rows)
            assert proven, f"{market} {channel} without proof"
        for route in routes:
            assert any(market in row and f"`{route}`" in row for row in rows), f"{market} {route} without proof"


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


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_what_is_usual_for_a_stream_is_known_before_its_silence_is_a_fault(venue, market):
    """Its rhythm is looked at from LEAST on, about once a second: what its channel allows lasts longer."""
    adapter = exchanges.load(venue)
    for stream in adapter.streams(market, list(adapter.OFFERS[market]), ["X"]):
        assert stream.max_silence is None or stream.max_silence > 2 * LEAST


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
    body = (FIXTURES / venue / market / "reference.body").read_bytes()
    session = poller(venue, market, "contract", ())
    asked = [out for out in session.start(NOW) if isinstance(out, Fetch)]
    assert asked
    outputs = session.respond(asked[0].tag, 200, {"Content-Type": "application/json"}, body, NOW + 500_000)
    wanted = outcomes_of(venue, market, "reference")
    got = [f"rejected {o.reason}" if isinstance(o, Rejected) else msgspec.json.encode(o).decode() for o in outputs]
    assert len(got) == len(wanted)
    assert all(same(g, w) for g, w in zip(got, wanted, strict=True)), got


@pytest.mark.parametrize("venue,market,kind", ANSWERED)
def test_documented_answers_become_what_is_written_beside_them_whether_or_not_they_were_asked_for(venue, market, kind):
    symbols, answers = answers_of(venue, market, kind)
    wanted = outcomes_of(venue, market, f"poll-{kind}")
    for every in (0, HOUR):
        session = poller(venue, market, kind, symbols, every)
        session.start(answers[0][0])
        got = poll_outcomes(session, answers)
        assert len(got) == len(wanted), got
        assert [(g, w) for g, w in zip(got, wanted, strict=True) if not same(g, w)] == []
        assert session.frame_no == len(answers)


@pytest.mark.parametrize("venue,market,kind", ANSWERED)
def test_answers_of_a_later_session_yield_nothing_new_but_what_has_no_id(venue, market, kind):
    if kind == SERVER_TIME:
        return
    symbols, answers = answers_of(venue, market, kind)
    held = merger(venue, market, kind, contiguous=False)
    new = []
    for name in ("fixture-1-1", "fixture-2-1"):
        session = poller(venue, market, kind, symbols, 0, session=name)
        events = [out for time, tag, status, body in answers for out in session.respond(tag, status, {}, body, time)]
        new.append([event for event in events if isinstance(event, Event) and held.merge(event)])
    assert new[0]
    assert [event for event in new[1] if getattr(event, "last_id", 0) is not None] == []


@pytest.mark.parametrize("venue,market,kind", POLLED)
def test_many_symbols_are_asked_for_at_a_distance_and_every_one_of_them_again_and_again(venue, market, kind):
    symbols = tuple(f"SYM{n}" for n in range(50))  # of what has a limit of its own no more are asked for in a minute
    session = poller(venue, market, kind, symbols, every := 60 * SECOND)
    wanted = set(symbols) if exchanges.load(venue).POLLS[market][kind].each else {""}
    times, now = {name: [] for name in wanted}, NOW
    asked = list(session.start(NOW))
    while now < NOW + 4 * every:
        assert len(asked) <= 3, "a burst"
        for fetch in asked:
            name = fetch.tag.rpartition(" ")[2]
            times[name if name in wanted else ""] = [*times.get(name if name in wanted else "", []), now]
            session.respond(fetch.tag, 503, {}, b"", now) if kind == "contract" else answer(
                session, (venue, market, kind), fetch, now
            )
        if (due := session.next_deadline()) is None:
            break
        now = max(now, due)
        asked = list(session.tick(now))
    assert all(len(times[name]) >= 3 for name in wanted)


def answer(session, member, fetch, now):
    """Something that every route may say: that there is nothing, or the time."""
    venue, market, kind = member
    symbol = fetch.tag.rpartition(" ")[2]
    own, common = FIXTURES / venue / market / f"nothing-{kind}.json", FIXTURES / venue / "nothing.json"
    text = (own if own.exists() else common).read_text("utf-8")
    body = text.replace("$symbol", symbol).replace("$ms", str(now // 1000)).encode()
    listed = venue == "binance" and "funding" in fetch.tag
    session.respond(fetch.tag, 200, {}, b"[]" if listed else body, now)


@pytest.mark.parametrize("venue,market,kind", POLLED)
@pytest.mark.parametrize(
    "status,body",
    [(200, b"<html>maintenance</html>"), (200, b""), (200, b"{}"), (200, b'[{"symbol":"X"'), (429, b""), (418, b"{}"),
     (500, b"x"), (403, b"<html>"), (451, b"{}"), (404, b"\xff\xfe"), (0, b"")],
)  # fmt: skip
def test_an_answer_that_is_no_data_is_rejected_and_asked_for_again(venue, market, kind, status, body):
    session = poller(venue, market, kind)
    (asked,) = session.start(NOW)
    outputs = session.respond(asked.tag, status, {"Retry-After": "7"}, body, NOW)
    assert [type(out) for out in outputs] == [Rejected]
    due = session.next_deadline()
    assert due is not None
    first = due
    assert due >= NOW if "Info" in asked.tag else due > NOW, "what else a poll asks for does not wait"
    again = []
    for _ in range(9):
        if asked.tag in again:
            break
        assert session.tick(due - 1) == [] or due == NOW
        again += [out.tag for out in session.tick(due)]
        due = session.next_deadline() or due
    assert asked.tag in again
    if status == 429:
        assert first >= NOW + 7 * SECOND or "Info" in asked.tag


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
    assert max((len(c.streams) for c in made), default=0) <= adapter.LIMITS[market].streams_per_connection
    assert len({c.name for c in made}) == len(made)
    assert made == adapter.connections(market, streams[::-1], adapter.ENDPOINTS[market])


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_subscribing_is_paced_and_names_every_stream(venue, market):
    adapter = exchanges.load(venue)
    limits = adapter.LIMITS[market]
    streams = adapter.streams(market, list(adapter.OFFERS[market]), [f"SYM{n}" for n in range(200)])
    for connection in adapter.connections(market, streams, adapter.ENDPOINTS[market]):
        session = adapter.session(connection, "fixture-1-1")
        now, sent = NOW, [(NOW, out) for out in (*session.start(NOW), *greeting(venue, session))]
        while (due := session.next_deadline()) is not None and due < NOW + 5 * SECOND:
            now = max(due, now)
            sent += [(now, out) for out in session.tick(now)]
        assert all(isinstance(out, Send) for _, out in sent)
        text = "".join(out.text for _, out in sent)
        assert all(named(stream, text) for stream in connection.streams)
        times = [time for time, _ in sent]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert all(gap >= SECOND / limits.requests_per_second - 1 for gap in gaps)


def named(stream, text):
    """Whether requests name a stream: by its name, or by its channel and whom it is about (among others, perhaps)."""
    channel, _, about = stream.name.rpartition(":")
    if channel and any(about in told.split(",") for told in re.findall(f'"{channel}:([^"]*)"', text)):
        return True
    whom = stream.symbol == EVERY_SYMBOL or f'"{stream.symbol}"' in text
    words = (stream.channel, stream.channel.partition(".")[0])
    return f'"{stream.name}"' in text or (any(f'"{word}"' in text for word in words) and whom)


def said_to(venue, market, request, stream, word):
    """The venue's word for a request of one stream."""
    own, common = (FIXTURES / venue / part / "subscribing.words" for part in (market, "."))
    path = own if own.exists() else common
    (text,) = (line.partition(" ")[2] for line in path.read_text("utf-8").splitlines() if line.startswith(f"{word} "))
    number = next((str(value) for name, value in json.loads(request).items() if name in ("id", "req_id")), "")
    for place, value in (("$id", number), ("$channel", stream.channel), ("$symbol", stream.symbol)):
        text = text.replace(place, value)
    return text.encode()


@pytest.mark.parametrize("venue,market", MEMBERS)
def test_a_stream_that_is_refused_is_said_once_and_asked_for_again_every_hour_until_it_is_taken_on(venue, market):
    adapter = exchanges.load(venue)
    (stream,) = adapter.streams(market, ["trade"], ["X"])
    (connection,) = adapter.connections(market, [stream], adapter.ENDPOINTS[market])
    session = adapter.session(msgspec.structs.replace(connection, rest=""), "fixture-1-1")
    asked, out = [], []
    outputs = [*session.start(NOW), *greeting(venue, session)]
    for now in range(NOW, NOW + 8 * HOUR, 20 * SECOND):
        outputs += session.tick(now)
        requests = [one.text for one in outputs if isinstance(one, Send) and named(stream, one.text)]
        outputs = []
        for request in requests:
            asked.append((now - NOW) // HOUR)
            word = "refused" if now < NOW + 5 * HOUR else "taken"
            outputs += session.receive(said_to(venue, market, request, stream, word), now)
        out += [one for one in outputs if isinstance(one, Refused | Acknowledged)]
    assert [type(one) for one in out] == [Refused, Acknowledged]
    assert all(one.streams == (stream,) for one in out)
    assert set(asked) == set(range(6)), "and no more from then on"
    assert asked.count(0) <= 4, "at once and after a minute"
    assert all(asked.count(hour) == 1 for hour in range(1, 6))


@pytest.mark.parametrize("venue,market", MEMBERS)
@pytest.mark.parametrize("word", ["taken", "refused", ""])
def test_between_the_end_of_a_subscription_and_the_answer_to_the_next_it_is_said_to_be_in_doubt(venue, market, word):
    """What is lost then is told by a gap only if the session says so: from before it ends until the venue's word."""
    adapter = exchanges.load(venue)
    (stream,) = adapter.streams(market, ["trade"], ["X"])
    (connection,) = adapter.connections(market, [stream], adapter.ENDPOINTS[market])
    session = adapter.session(msgspec.structs.replace(connection, rest=""), "fixture-1-1")
    outputs, said = [*session.start(NOW), *greeting(venue, session)], []
    for step in range(120):  # of half a second: it is asked for, and from RENEWED on for anew
        now = NOW + step * SECOND // 2
        if step == RENEWED:
            session.renew([stream])
        outputs += session.tick(now)
        while outputs:
            out = outputs.pop(0)
            if isinstance(out, Renewal):
                assert out.streams == (stream,)
                said.append(("begun" if out.done else "ending", step))
            elif isinstance(out, Send) and named(stream, out.text):
                ends = "unsubscribe" in out.text.lower()
                said.append(("end" if ends else "begin", step))
                told = "taken" if ends or step < RENEWED else word
                answer = said_to(venue, market, out.text, stream, told) if told else None
                outputs += session.receive(answer, now) if answer is not None else ()
    (ending, end, begin, *rest) = [one for one in said if one[1] >= RENEWED]
    assert (ending[0], end[0], begin[0]) == ("ending", "end", "begin"), "it is said before anything can be lost"
    (over,) = [step for what, step in rest if what == "begun"]
    assert over - begin[1] in ({"taken": (0,), "": (20,), "refused": (0, 20)}[word])


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
        session, found = told(venue, market, session_id, learn=True), []
        for time, frame in frames_of(venue, market, kind):
            for event in session.receive(frame, time):
                if isinstance(event, Event):
                    name = KIND_OF_EVENT[type(event)]
                    made = mergers.setdefault(name, merger_maker(exchanges.load(venue), market)(name))
                    found += [event] if made.merge(event) else []
        return found

    first = new_events("fixture-1-1")
    assert first or kind == "connection"
    again = new_events("fixture-2-1")
    assert [e for e in again if not (isinstance(e, Quote) and e.update_id is None)] == [], "but what nothing identifies"


@pytest.mark.parametrize("venue,market", MEMBERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_frames_never_raise_and_never_go_uncounted(venue, market, data):
    frames = [f for v, m, kind in STREAMED if (v, m) == (venue, market) for f in frames_of(venue, market, kind)]
    session = told(venue, market, "fixture-1-1", learn=data.draw(st.booleans()))
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
