"""Every parser of every venue, fuzzed through the registry: what the conformance suite has a fixture of is fuzzed here.

Each example is a short life of a session: documented frames or answers, most of them harmed (`tests.support.hostile`),
and time that passes between them. A parser never raises and never takes long; it counts every frame, and what it lets
through can be merged and stored. `LAKE_FAULTS=full` takes 5,000 examples of each, `LAKE_EXAMPLES=…` so many.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from collectors import exchanges
from collectors.redundancy import merger_maker
from lake.field_rules import EARLIEST, LATEST
from lake.rows import SegmentRow
from lake.segments import decode_line, encode_lines
from market.kinds import KIND_OF_EVENT, KINDS, Event
from market.numbers import is_decimal
from market.session import (
    Acknowledged,
    Booked,
    Connection,
    Fetch,
    Gap,
    Heeding,
    Leave,
    Output,
    Refused,
    Rejected,
    Send,
    ServerTime,
    Session,
    Stream,
)
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.conformance.test_exchanges import (
    FIXTURES,
    MEMBERS,
    POLLED,
    STREAMED,
    answers_of,
    frames_of,
    informed,
    poller,
)
from tests.support import hostile
from tests.support.faults import FIGURE, FULL
from tests.support.segments import read_segment

EXAMPLES = int(os.environ.get("LAKE_EXAMPLES") or (5_000 if FULL else 12))
pytestmark = pytest.mark.timeout(max(300, EXAMPLES))
SESSION = "n-1-1"
LABELS, LABEL_LENGTH, REASON_LENGTH = 201, 64, 300
"""What a session may count by, and say: metrics and memory hold all of it."""
FIRST, PER_MEGABYTE = 3.0, 2.0
"""Seconds of CPU that one frame may take, and one megabyte: room for a pause of the garbage collector."""
FARTHEST_ID = 2**62
"""Above any id there is room for the next one, and for their difference."""
SIGNED = ("rate", "predicted_rate")
SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)  # fmt: skip
WAITS = ("7", "-1", "1e9", "\u0663", "9" * 20, "Wed, 21 Oct 2026 07:28:00 GMT", "", "inf")
HEADERS: list[dict[str, str]] = [
    {}, {"Content-Type": "application/json"}, {"content-type": "text/html; charset=" + "x" * 5_000},
    *({"Retry-After": text} for text in WAITS),
]  # fmt: skip
STATUSES = [200, 200, 200, 200, 200, 200, 0, 201, 204, 302, 400, 403, 404, 418, 429, 451, 500, 503, -1, 999]


class Step(NamedTuple):
    """Something that happens to a session at `at` (us)."""

    what: str
    at: int
    body: bytes = b""
    tag: str = ""
    status: int = 200
    headers: Mapping[str, str] = {}


load = functools.cache(exchanges.load)


@functools.cache
def bodies(venue: str, market: str) -> list[bytes]:
    """Good frames of every stream of a market."""
    return [frame for v, m, kind in STREAMED if (v, m) == (venue, market) for _, frame in frames_of(v, m, kind)]


@functools.cache
def answers(venue: str, market: str, kind: str) -> tuple[tuple[str, ...], list[tuple[int, str, int, bytes]]]:
    """(symbols, answers) of a poll's fixture; of the instruments the list with all of them."""
    if kind != "contract":
        return answers_of(venue, market, kind)
    body = (FIXTURES / venue / market / "reference.body").read_bytes()
    (asked,) = poller(venue, market, kind, ()).start(0)
    return ("BTCUSDT", "GONE"), [(1_785_701_708_000_000, asked.tag, 200, body)]


@functools.cache
def met(venue: str, market: str, kind: str) -> tuple[Stream, ...]:
    """The streams that a kind's fixture is about."""
    connection = Connection(venue, market, "x", "wss://x", ())
    session = informed(exchanges.load(venue).session(connection, SESSION, learn=True), venue, market)
    for at, frame in frames_of(venue, market, kind):
        session.receive(frame, at)
    return tuple(state.stream for state in session.streams())


def streaming(venue: str, market: str, kind: str, learn: bool) -> Session:
    streams = () if learn else met(venue, market, kind)
    connection = Connection(venue, market, "x", "wss://x/stream", streams, rest="" if learn else "https://rest.test")
    return informed(load(venue).session(connection, SESSION, learn=learn), venue, market)


def polling(venue: str, market: str, kind: str, every: int) -> Session:
    return poller(venue, market, kind, answers(venue, market, kind)[0], every, session=SESSION)


def life_of_streams(random: Random, venue: str, market: str, kind: str) -> list[Step]:
    """A few frames, among them answers to what the session may ask over REST."""
    frames = frames_of(venue, market, kind)
    asked = next((k for v, m, k in POLLED if (v, m, k) == (venue, market, "book_snapshot")), None)
    steps = []
    now = frames[0][0]
    for _ in range(random.randrange(1, 6)):
        at, frame = random.choice(frames)
        now = max(now + random.choice([0, 1, SECOND]), at)
        way = random.randrange(10)
        if way < 7:
            steps.append(Step("frame", now, hostile.damaged(frame, now, random, bodies(venue, market))))
        elif way == 7 and asked is not None:
            steps.append(_answer(random, venue, market, asked, now))
        elif way == 8:
            text = b'{"method":"SUBSCRIBE","params":["btcusdt@trade","x@depth","","@","!x"],"id":1}'
            steps.append(Step("sent", now, hostile.damaged(text, now, random, [frame])))
        else:
            now += random.choice([SECOND, MINUTE, DAY])
            steps.append(Step("tick", now))
    return steps


def life_of_polls(random: Random, venue: str, market: str, kind: str) -> list[Step]:
    """A few answers, asked for or not."""
    now = answers(venue, market, kind)[1][0][0]
    steps = []
    for _ in range(random.randrange(1, 5)):
        now += random.choice([1, SECOND, HOUR])
        way = random.randrange(8)
        steps.append(
            Step("tick", now)
            if way == 0
            else Step("frame", now, random.choice(hostile.GARBAGE))
            if way == 1
            else _answer(random, venue, market, kind, now)
        )
    return steps


def _answer(random: Random, venue: str, market: str, kind: str, now: int) -> Step:
    found = answers(venue, market, kind)[1]
    _, tag, status, body = random.choice(found)
    tag = random.choice([tag, tag, "asked", "asked", "", "depth 99999999 x", "\x00", tag + " x"])
    status = status if random.randrange(2) else random.choice(STATUSES)
    damaged = hostile.damaged(body, now, random, [other for _, _, _, other in found])
    return Step("answer", now, damaged, tag, status, random.choice(HEADERS))


def live(session: Session, steps: Sequence[Step]) -> list[Sequence[Output]]:
    """What comes of each step. Each takes the time of its bytes, and counts once."""
    found = [session.start(steps[0].at)]
    asked = [out.tag for out in found[0] if isinstance(out, Fetch)]
    frames = 0
    for step in steps:
        before = sum(session.ignored.values())
        began = time.thread_time()
        if step.what == "frame":
            out = session.receive(step.body, step.at)
        elif step.what == "answer":
            tag = asked.pop() if step.tag == "asked" and asked else step.tag
            out = session.respond(tag, step.status, step.headers, step.body, step.at)
        elif step.what == "sent":
            out = ()
            if isinstance(session, Heeding):
                session.sent(step.body.decode(errors="replace"), step.at)
        else:
            out = session.tick(step.at)
        took = time.thread_time() - began
        assert took < FIRST + PER_MEGABYTE * len(step.body) / 1e6, f"{took:.2f} s"
        frames += step.what in ("frame", "answer")
        assert session.frame_no == frames
        counted = sum(session.ignored.values()) - before
        assert counted <= 1
        if step.what == "frame":
            assert (len(out) > 0) != (counted == 1), "a frame is an outcome, or it is counted"
        asked += [made.tag for made in out if isinstance(made, Fetch)]
        found.append(out)
        deadline = session.next_deadline()
        assert deadline is None or isinstance(deadline, int)
    return found


def check_session(session: Session, steps: Sequence[Step]) -> None:
    """Nothing that a peer says makes it grow."""
    assert len(session.ignored) <= LABELS
    assert all(len(label) <= LABEL_LENGTH for label in session.ignored)
    assert len(list(session.streams())) <= len(steps) + 64
    assert 0 <= session.venue_time <= steps[-1].at + 5 * MINUTE
    if isinstance(session, Booked):
        assert len(session.books_out_of_sync()) <= len(steps) + 64


def check_output(out: Output, frame_no: int, step: Step, *, streamed: bool) -> None:
    """What is said is of a known sort and bounded; what is let through is strict."""
    if isinstance(out, Rejected):
        assert out.frame_no == frame_no
        assert len(out.reason) <= REASON_LENGTH
        assert out.stream is None or len(out.stream) <= 128
        out.reason.encode()
    elif isinstance(out, Fetch):
        assert out.url.isascii()
        assert out.url.startswith("https://")
        assert len(out.url) < 2_000
        assert out.weight > 0
    elif isinstance(out, Send):
        assert out.text == "ping" or msgspec.json.decode(out.text)
    elif isinstance(out, ServerTime):
        assert EARLIEST < out.venue_time < LATEST
    elif isinstance(out, Event):
        check_event(out, frame_no, step, streamed=streamed)
    else:
        assert isinstance(out, Acknowledged | Refused | Leave)
        assert len(str(getattr(out, "reason", ""))) <= REASON_LENGTH


LATER = ("kline", "book_delta")
"""Told behind their frame, which they name: a candle once it is closed, a whole book without a time once it has one."""


def check_event(event: Event, frame_no: int, step: Step, *, streamed: bool) -> None:
    """What a line of a segment may rely on."""
    kind = KINDS[KIND_OF_EVENT[type(event)]]
    line = encode_lines([event])
    assert line.count(b"\n") == 1
    assert encode_lines([decode_line(kind.name, line)]) == line
    assert event.session == SESSION
    if kind.name in LATER:
        assert event.frame_no <= frame_no
        assert event.ts_recv <= step.at
    else:
        assert (event.frame_no, event.ts_recv) == (frame_no, step.at)
    assert len(event.symbol) > 0
    for column in kind.columns:
        value: Any = getattr(event, column.name, None)
        if value is None:
            continue
        if column.type in ("decimal", "float"):
            assert is_decimal(value), (column.name, value)
            assert column.name in SIGNED or not value.startswith("-"), (column.name, value)
        elif column.type == "int":
            assert -FARTHEST_ID <= value <= FARTHEST_ID, (column.name, value)
        elif column.type == "time":
            assert 0 <= value < LATEST, (column.name, value)
    for at in (event.ts_event, event.ts_publish):
        if at is not None:
            assert at <= step.at + 5 * MINUTE
            assert at >= (step.at - 7 * DAY if streamed else EARLIEST)


def check_merged(session: Session, venue: str, market: str, found: Sequence[Event], now: int) -> None:
    """Mergers take what parsers let through; what they miss is a row that can be stored."""
    make = merger_maker(load(venue), market)
    mergers = {kind: make(kind) for kind in sorted({KIND_OF_EVENT[type(event)] for event in found})}
    for event in found:
        mergers[KIND_OF_EVENT[type(event)]].merge(event)
    symbols = {event.symbol for event in found}
    for held in mergers.values():
        for gap in [*held.tick(now + MINUTE), *held.interrupt(SESSION, symbols, "cut", now), *held.tick(now + HOUR)]:
            check_gap(gap)


def check_gap(gap: Gap) -> None:
    assert gap.ts_to is None or gap.ts_from <= gap.ts_to
    for number in (gap.ts_from, gap.ts_to, gap.id_from, gap.id_to, gap.detected_at, gap.closed_at):
        assert number is None or -(2**63) <= number < 2**63
    assert gap.missing is None or gap.missing >= 0


def store(root: Path, market: str, found: Sequence[Event]) -> None:
    """The transformer takes every line."""
    for kind in sorted({KIND_OF_EVENT[type(event)] for event in found}):
        events = [event for event in found if KIND_OF_EVENT[type(event)] == kind]
        data = encode_lines(events)
        path = root / f"{kind}.jsonl"
        path.write_bytes(data)
        row = SegmentRow(
            path=path.name, exchange="x", market_type=market, kind=kind, state="sealed", period_start=0, period_end=1,
            rows=len(events), bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
        )  # fmt: skip
        read = read_segment(root, row)
        assert read.altered is None
        assert [(line.reason, line.line) for line in read.bad] == []
        assert read.table.num_rows == read.lines == len(events)


def told(found: Sequence[Sequence[Output]]) -> list[object]:
    return [[(type(out).__name__, msgspec.json.encode(out)) for out in outputs] for outputs in found]


def tried(
    venue: str, market: str, steps: Sequence[Step], make: Callable[[], Session], *, streamed: bool
) -> tuple[list[Event], int]:
    """One example, lived twice: the events that came of it, and how much of it was rejected."""
    note(f"{steps}")
    session = make()
    found = live(session, steps)
    check_session(session, steps)
    events: list[Event] = []
    frame_no = struck = 0
    for number, (step, outputs) in enumerate(zip([steps[0], *steps], found, strict=True)):
        frame_no += number > 0 and step.what in ("frame", "answer")
        for out in outputs:
            check_output(out, frame_no, step, streamed=streamed)
            struck += isinstance(out, Rejected)
        events += [out for out in outputs if isinstance(out, Event)]
    assert told(live(make(), steps)) == told(found)
    check_merged(session, venue, market, events, steps[-1].at)
    return events, struck


@pytest.mark.parametrize("venue,market,kind", STREAMED)
def test_f40_f45_f46_whatever_a_stream_sends_can_be_stored_or_is_rejected_or_counted(
    tmp_path: Path, venue: str, market: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    stored: list[Event] = []
    struck: list[int] = []

    @SETTINGS
    @given(st.randoms(use_true_random=False), st.booleans())
    def fuzz(random: Random, learn: bool) -> None:
        steps = life_of_streams(random, venue, market, kind)
        events, rejected = tried(venue, market, steps, lambda: streaming(venue, market, kind, learn), streamed=True)
        stored.extend(events)
        struck.append(rejected)

    fuzz()
    assert sum(struck), "nothing was harmed"
    store(tmp_path, market, stored)
    record_property(FIGURE + "hostile lives of parsers", (len(struck), f"examples, {EXAMPLES:,} of each parser"))


@pytest.mark.parametrize("venue,market,kind", POLLED)
def test_f51_f52_whatever_an_answer_says_can_be_stored_or_is_rejected(
    tmp_path: Path, venue: str, market: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    stored: list[Event] = []
    struck: list[int] = []

    @SETTINGS
    @given(st.randoms(use_true_random=False), st.sampled_from([0, HOUR]))
    def fuzz(random: Random, every: int) -> None:
        steps = life_of_polls(random, venue, market, kind)
        events, rejected = tried(venue, market, steps, lambda: polling(venue, market, kind, every), streamed=False)
        stored.extend(events)
        struck.append(rejected)

    fuzz()
    assert sum(struck), "nothing was harmed"
    store(tmp_path, market, stored)
    record_property(FIGURE + "hostile lives of parsers", (len(struck), f"examples, {EXAMPLES:,} of each parser"))


def test_every_venue_and_market_is_fuzzed() -> None:
    assert {(venue, market) for venue, market, _ in STREAMED} == set(MEMBERS)
    for name in exchanges.names():
        adapter = exchanges.load(name)
        for market, kinds in adapter.OFFERS.items():
            fuzzed = {kind for v, m, kind in (*STREAMED, *POLLED) if (v, m) == (name, market)}
            assert set(kinds) <= fuzzed


def test_what_is_multiplied_again_and_again_stays_within_what_a_transport_lets_through() -> None:
    class Most(Random):
        def choice(self, seq: Any) -> Any:
            return seq[-1]

    root: list[Any] = [hostile.parsed(b'[[["1.5","2"]]]')]
    for slot in reversed(list(hostile.slots(root))):
        hostile._many(slot, root, Most())
    assert 1_000 < len(hostile.written(root)) < 10 * hostile.LARGEST
