"""History page by page: nothing left out, nothing twice, borders proven, and what is no data never becomes a row."""

import itertools
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.answers import FIRST_PAUSE, Failure
from collectors.adapters.asking import Failed
from collectors.adapters.pages import SETTLED
from collectors.adapters.paging import TRIES, UNSTABLE, IdPages, Made, Probe, Route, Row, Seek, TimePages, Unstable
from collectors.exchanges.binance import answers
from market.kinds import Trade
from market.session import Fetch, Rejected, Stream
from market.times import DAY, HOUR, MINUTE, MS, SECOND

START = 1_795_000_000_000_000 - 1_795_000_000_000_000 % DAY
NOW = START + 2 * DAY
STREAM = Stream("rows X", "rows", "X", "trade", contiguous=False)


def made_rows(body, made):
    found = []
    for item, raw in enumerate(msgspec.json.decode(body, type=list[msgspec.Raw])):
        key, at, price = msgspec.json.decode(raw, type=tuple[int, int, str])
        if price == "NaN":
            raise Unstable("not a decimal number")
        event = Trade("X", "rows", at, None, made.ts_recv, made.session, made.frame_no, item, "rest", price, "1", "buy",
                      key, "market")  # fmt: skip
        found.append(Row(key, at, bytes(raw), event))
    return found


class Venue:
    """Rows of (key, at); answers both sorts of paging. `newest` counts a page back from its end, as COIN-M does, and
    `reverse` tells it newest first; `excluded` are bounds that are not among the rows.
    """

    def __init__(self, rows, limit, *, newest=False, reverse=False, excluded=False):
        self.rows = rows
        self.limit = limit
        self.newest = newest or reverse
        self.reverse = reverse
        self.excluded = excluded
        self.by = 1 if rows and rows[0][0] < MINUTE else 0  # ids are small, and times are keys
        self.told = []
        self.asked = 0

    def answer(self, fetch):
        self.asked += 1
        asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(fetch.url).query).items()}
        if "fromId" in asked:
            page = [row for row in self.rows if row[0] >= asked["fromId"]][: asked["limit"]]
        elif "endTime" in asked:
            low, high = asked["startTime"] * MS, asked["endTime"] * MS
            page = [row for row in self.rows if low <= row[0] <= high]
            page = [row for row in page if low < row[0] < high] if self.excluded else page
            page = page[-asked["limit"] :] if self.newest else page[: asked["limit"]]
            page = page[::-1] if self.reverse else page
        else:
            page = [row for row in self.rows if row[self.by] >= asked["startTime"] * MS][: asked["limit"]]
        if asked["limit"] > 1:
            self.told += page
        return msgspec.json.encode([[key, at, "1.5"] for key, at in page])


def route(limit, **more):
    return Route("rows", "http://v/rows?x=1", 1, limit, made_rows, answers.failure, **more)


def first(body):
    found = made_rows(body, Made("n-1-1", 1, NOW))
    return found[0].key if found else None


def by_id(span, limit=3):
    return IdPages("n-1-1", STREAM, span, route(limit), Seek("http://v/seek?x=1", 1, first))


def finish(session, answer, now=NOW):
    """Drive to the end; the ids of its events in their order, and what was rejected."""
    ids, rejected = [], []
    tasks = list(session.start(now))
    for _ in range(10_000):
        if session.done:
            return ids, rejected
        for fetch in tasks:
            assert isinstance(fetch, Fetch)
            got = answer(fetch)
            status, body = got if isinstance(got, tuple) else (200, got)
            for out in session.respond(fetch.tag, status, {}, body, now):
                rejected.append(out) if isinstance(out, Rejected) else ids.append(out.seq)
        now = max(now, session.next_deadline() or now)
        tasks = list(session.tick(now))
    raise AssertionError("it does not end")


@st.composite
def trades(draw):
    """Ids that follow each other by one, at times that stand still at times."""
    steps = draw(st.lists(st.sampled_from([0, 0, MS, SECOND, MINUTE]), min_size=1, max_size=40))
    begin, at, rows = draw(st.integers(1, 1000)), START, []
    for number, step in enumerate(steps):
        at += step
        rows.append((begin + number, at))
    return rows


@settings(max_examples=150, deadline=None)
@given(rows=trades(), limit=st.integers(2, 7), low=st.integers(0, 20), long=st.integers(1, 40))
def test_pages_by_id_bring_every_row_of_the_period_once(rows, limit, low, long):
    span = (START + low * MINUTE // 2, START + (low + long) * MINUTE // 2)
    venue, session = Venue(rows, limit), by_id(span, limit)
    ids, rejected = finish(session, venue.answer)
    wanted = [key for key, at in rows if span[0] <= at < span[1]]
    assert (ids, rejected, session.failed, session.jumps) == (wanted, [], "", [])
    assert session.venue_time == span[1]
    inside = [row for row in venue.told if span[0] <= row[1] < span[1]]
    assert len(inside) <= len(wanted) + session.requests  # a border each, and no more


@settings(max_examples=150, deadline=None)
@given(
    minutes=st.sets(st.integers(0, 60), max_size=50), limit=st.integers(2, 9),
    newest=st.sampled_from([True, False, None]), low=st.integers(0, 40), long=st.integers(1, 30),
)  # fmt: skip
def test_candles_are_asked_for_in_windows_that_a_page_holds(minutes, limit, newest, low, long):
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in sorted(minutes)]
    span = (START + low * MINUTE, START + (low + long) * MINUTE)
    told = route(limit, width=MINUTE, window=(limit - 1) * MINUTE, ascends=newest is None)
    venue, session = Venue(rows, limit, newest=bool(newest)), TimePages("n-1-1", STREAM, span, told)
    ids, rejected = finish(session, venue.answer)
    wanted = [key for key, at in rows if span[0] <= at < span[1]]
    assert (ids, rejected, session.failed, session.venue_time) == (wanted, [], "", span[1])
    assert len(venue.told) <= len(wanted) + session.requests + 1


@settings(max_examples=150, deadline=None)
@given(
    moments=st.sets(st.integers(0, 3000), max_size=60), limit=st.integers(2, 9), window=st.integers(1, 900),
    low=st.integers(0, 2000), long=st.integers(1, 2000), reverse=st.booleans(), excluded=st.booleans(),
)  # fmt: skip
def test_moments_come_once_however_many_a_window_has(moments, limit, window, low, long, reverse, excluded):
    rows = [(START + n * SECOND, START + n * SECOND) for n in sorted(moments)]
    span = (START + low * SECOND, START + (low + long) * SECOND)
    told = route(
        limit, window=window * SECOND, newest_first=reverse, start_included=not excluded, end_included=not excluded
    )
    session = TimePages("n-1-1", STREAM, span, told)
    ids, rejected = finish(session, Venue(rows, limit, reverse=reverse, excluded=excluded).answer)
    assert ids == [key for key, at in rows if span[0] <= at < span[1]]
    assert not rejected
    assert session.venue_time == span[1]


def minute(number, **more):
    """Trades of one minute each, from START on."""
    return [(100 + n, START + n * MINUTE) for n in range(number)]


NO_DATA = [
    (0, b""), (429, b'{"code":-1003,"msg":"x"}'), (418, b"{}"), (403, b"<html>"), (451, b""),
    (500, b"oops"), (503, b""),
    (200, b"<html>busy</html>"), (200, b""), (200, b"[[100,17950000"), (200, b'{"code":-1121,"msg":"x"}'),
    (200, b"null"),
    (200, b"[[null,null,null]]"), (200, b'[[100,1,"NaN"]]'), (200, b"\xff\xfe"),
]  # fmt: skip


@pytest.mark.parametrize("bad", NO_DATA, ids=[f"{status} {body[:12]!r}" for status, body in NO_DATA])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_no_data_is_asked_for_again_and_never_stored(bad, at):
    venue, session, count = Venue(minute(9), 3), by_id((START, START + 8 * MINUTE)), itertools.count()
    ids, rejected = finish(session, lambda fetch: bad if next(count) == at else venue.answer(fetch))
    assert ids == list(range(100, 108))
    assert len(rejected) == 1
    assert not session.failed


def test_a_symbol_that_the_venue_does_not_know_is_given_up_at_once():
    session = by_id((START, START + HOUR))
    ids, _ = finish(session, lambda _: (400, b'{"code":-1121,"msg":"Invalid symbol."}'))
    assert ids == []
    assert session.refused
    assert "-1121" in session.failed
    assert session.requests == 1


def test_a_venue_that_never_answers_well_is_given_up_after_growing_pauses():
    session = by_id((START, START + HOUR))
    finish(session, lambda _: (500, b""))
    assert session.failed == "status 500"
    assert not session.refused
    assert session.requests == TRIES


def test_being_told_to_wait_uses_up_no_try():
    session, told = by_id((START, START + 8 * MINUTE)), []
    venue = Venue(minute(9), 3)

    def answer(fetch):
        told.append(fetch)
        return (429, b"") if len(told) <= 3 * TRIES else venue.answer(fetch)

    ids, _ = finish(session, answer)
    assert ids == list(range(100, 108))


def test_a_page_that_does_not_begin_with_the_last_row_of_the_one_before_is_not_taken():
    venue, session, told = Venue(minute(9), 3), by_id((START, START + 8 * MINUTE)), []

    def answer(fetch):
        told.append(fetch.tag)
        body = venue.answer(fetch)
        if told.count(fetch.tag) == 1 and fetch.tag == "from 102":
            return msgspec.json.encode([[key, at, "9.9"] for key, at in minute(9)[2:5]])  # the same id, another price
        if told.count(fetch.tag) == 1 and fetch.tag == "from 104":
            return msgspec.json.encode([[key, at, "1.5"] for key, at in minute(9)[5:8]])  # the border is missing
        return body

    ids, rejected = finish(session, answer)
    assert ids == list(range(100, 108))
    assert [one.reason for one in rejected] == [
        f"rows: a page that does not begin with row {border} as the page before it told it" for border in (102, 104)
    ]


def test_ids_that_a_page_left_out_once_come_with_the_next():
    whole, session, told = Venue(minute(9), 5), by_id((START, START + 8 * MINUTE), 5), []

    def answer(fetch):
        told.append(fetch.tag)
        body = whole.answer(fetch)
        return body if len(told) != 2 else msgspec.json.encode([[k, at, "1.5"] for k, at in minute(9) if k != 102][:5])

    assert finish(session, answer)[0] == list(range(100, 108))
    assert session.jumps == []


def test_ids_that_the_venue_lacks_for_good_are_named():
    rows = [row for row in minute(9) if row[0] not in (103, 104)]
    session = by_id((START, START + 8 * MINUTE))
    assert finish(session, Venue(rows, 3).answer)[0] == [100, 101, 102, 105, 106, 107]
    (jump,) = session.jumps
    assert jump == (103, 105, START + 2 * MINUTE, START + 5 * MINUTE)
    assert [(one.start, one.end) for one in session.ids] == [(100, 103), (105, 108)]


ROWS = [(number, START + number * SECOND) for number in range(1, 13)]
PERIOD = (START + 3 * SECOND, START + 9 * SECOND)


def late(lacking, until):
    """A venue whose history lacks some rows for its first answers."""
    behind, now, told = Venue([row for row in ROWS if row[0] not in lacking], 100), Venue(ROWS, 100), []

    def answer(fetch):
        told.append(fetch.tag)
        return (behind if len(told) <= until else now).answer(fetch)

    return answer, told


@pytest.mark.parametrize("lacking, until", [(range(6, 13), 2), (range(5, 7), 2), (range(3, 13), 1)])
def test_what_a_history_that_lags_lacks_is_not_believed_for_a_minute(lacking, until):
    answer, told = late(lacking, until)
    session = by_id(PERIOD, 100)
    assert finish(session, answer, PERIOD[1] + SECOND) == ([3, 4, 5, 6, 7, 8], [])
    assert session.jumps == []
    assert len(told) == 3, "what was lacking was asked for once more"


def test_a_row_behind_the_period_proves_that_all_of_it_is_there():
    session = by_id(PERIOD, 100)
    venue = Venue(ROWS[:9], 100)
    assert finish(session, venue.answer, PERIOD[1]) == ([3, 4, 5, 6, 7, 8], [])
    assert venue.asked == 2


def test_what_is_still_not_there_after_a_minute_is_not_there():
    session = by_id(PERIOD, 100)
    answer, told = late(range(9, 13), 9)
    assert finish(session, answer, PERIOD[1] + SECOND) == ([3, 4, 5, 6, 7, 8], [])
    assert told == ["seek", "from 2", "from 8"]
    session = by_id(PERIOD, 100)
    answer, _ = late(range(5, 7), 9)
    ids, rejected = finish(session, answer, PERIOD[1] + SECOND)
    assert ids == [3, 4, 7, 8]
    assert [(jump.first, jump.end) for jump in session.jumps] == [(5, 7)]
    assert len(rejected) == 1, "it was asked for twice after the minute"


def test_the_row_before_the_period_proves_its_beginning():
    rows, session = minute(9), by_id((START + 4 * MINUTE, START + 6 * MINUTE), 4)
    told = []

    def answer(fetch):
        told.append(fetch.tag)
        return msgspec.json.encode([[105, START, "1"]]) if fetch.tag == "seek" else Venue(rows, 4).answer(fetch)

    assert finish(session, answer)[0] == [104, 105]  # the venue named 105, but 104 is of the period too
    assert told[:3] == ["seek", "from 104", "from 102"]


def test_a_candle_that_still_forms_is_never_taken():
    span = (START, START + 3 * MINUTE)
    session = TimePages("n-1-1", STREAM, span, route(9, width=MINUTE, window=8 * MINUTE))
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(3)]
    (asked,) = session.start(START)
    said = session.respond(asked.tag, 200, {}, Venue(rows, 9).answer(asked), START + 2 * MINUTE + 30 * SECOND)
    assert [type(out) for out in said] == [Rejected]
    assert session.venue_time == START
    (again,) = session.tick(session.next_deadline())
    said = session.respond(again.tag, 200, {}, Venue(rows, 9).answer(again), NOW)
    assert [out.seq for out in said] == [key for key, _ in rows]
    assert session.done


def test_years_before_the_first_row_cost_one_request():
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(3)]
    told = route(9, width=MINUTE, window=8 * MINUTE, ascends=True)
    session = TimePages("n-1-1", STREAM, (START - 900 * DAY, START + 3 * MINUTE), told)
    assert finish(session, Venue(rows, 9).answer)[0] == [key for key, _ in rows]
    assert session.requests == 2
    session = TimePages("n-1-1", STREAM, (START - 900 * DAY, START - DAY), told)
    assert finish(session, Venue(rows, 9).answer)[0] == []
    assert (session.requests, session.venue_time) == (1, START - DAY)


def test_rows_that_do_not_ascend_or_lie_outside_the_window_are_no_page():
    told = route(9, width=MINUTE, window=8 * MINUTE)
    for keys in ([1, 0], [0, 0], [5, 99]):
        session = TimePages("n-1-1", STREAM, (START, START + 3 * MINUTE), told)
        (asked,) = session.start(NOW)
        body = msgspec.json.encode([[START + n * MINUTE, START + n * MINUTE, "1"] for n in keys])
        (said,) = session.respond(asked.tag, 200, {}, body, NOW)
        assert isinstance(said, Rejected)
        assert session.next_deadline() == NOW + FIRST_PAUSE
    assert TRIES // UNSTABLE < TRIES


def test_an_answer_that_nobody_asked_for_changes_nothing():
    session = by_id((START, START + HOUR))
    session.start(NOW)
    for tag in ("", "from", "from x", "from 7 8", "7", "seek 7", "from ٣"):
        (said,) = session.respond(tag, 200, {}, b"[]", NOW)
        assert said.reason == "an answer to nothing that was asked"
    (said,) = session.receive(b"{}", NOW)
    assert said.reason == "a frame on a session that only fetches"
    assert not session.done


def fed(session, told):
    """What a session makes of recorded answers."""
    session.start(NOW)
    found = []
    for tag, body in told:
        session.tick(NOW)
        found += [out.seq for out in session.respond(tag, 200, {}, body, NOW)]
    return found


def recorded(session, venue):
    told = []

    def answer(fetch):
        told.append((fetch.tag, venue.answer(fetch)))
        return told[-1][1]

    return finish(session, answer)[0], told


def test_a_replay_that_begins_in_the_middle_goes_on_by_the_tags():
    span = (START, START + 8 * MINUTE)
    whole, told = recorded(by_id(span), Venue(minute(9), 3))
    assert fed(by_id(span), told) == whole == list(range(100, 108))
    assert fed(by_id(span), told[2:]) == whole[2:]  # with the row at the border
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(30)]
    candles, span = route(9, width=MINUTE, window=8 * MINUTE, ascends=True), (START, START + 29 * MINUTE)
    whole, told = recorded(TimePages("n-1-1", STREAM, span, candles), Venue(rows, 9))
    assert fed(TimePages("n-1-1", STREAM, span, candles), told) == whole
    assert fed(TimePages("n-1-1", STREAM, span, candles), told[2:]) == whole[8:]


def test_a_page_that_lacks_the_row_that_was_just_named_is_no_page():
    session = by_id((START, START + 8 * MINUTE))
    far = [[900 + n, START + 7 * MINUTE, "1"] for n in range(3)]
    told = {"seek": [[100, START, "1"]]}
    ids, rejected = finish(session, lambda fetch: msgspec.json.encode(told.get(fetch.tag, far)))
    assert ids == []
    assert session.jumps == []
    assert session.failed == "a page without row 100, which the venue has just named"
    assert len(rejected) == -(-TRIES // UNSTABLE)


def test_a_page_from_before_what_was_asked_for_is_no_page():
    venue, session, told = Venue(minute(9), 3), by_id((START, START + 8 * MINUTE)), []

    def answer(fetch):
        told.append(fetch.tag)
        body = venue.answer(fetch)
        return body if len(told) != 3 else msgspec.json.encode([[key, at, "1.5"] for key, at in minute(9)[:3]])

    ids, rejected = finish(session, answer)
    assert ids == list(range(100, 108))
    assert [one.reason for one in rejected] == ["rows: rows from before the id that was asked for"]


def test_rows_that_come_newest_first_are_gone_back_over_with_the_oldest_row_again():
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(12)]
    told = route(4, width=MINUTE, window=11 * MINUTE, newest_first=True)
    span, tags = (START + MINUTE, START + 12 * MINUTE), []
    venue, session = Venue(rows, 4, reverse=True), TimePages("n-1-1", STREAM, span, told)

    def answer(fetch):
        tags.append(fetch.tag)
        body = msgspec.json.decode(venue.answer(fetch))
        if len(tags) == 2:  # the row that both have, told otherwise
            body[0][2] = "9.9"
        return msgspec.json.encode(body)

    ids, rejected = finish(session, answer)
    assert ids == [key for key, _ in rows[1:]]
    (one,) = rejected
    assert one.reason == "rows: a page that does not end with the first row of the page behind it"
    first = START // MS
    ends = [int(tag.partition(" ")[2]) for tag in tags]
    assert {tag.partition(" ")[0] for tag in tags} == {str(first)}
    assert ends == [first + minutes * 60_000 for minutes in (11, 8, 11, 8, 5, 2)]


def test_a_probe_says_where_a_history_begins_and_a_venues_error_inside_of_an_answer_is_none():
    told = route(4, width=MINUTE, window=3 * MINUTE, newest_first=True)
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(3)]
    venue, bodies = Venue(rows, 4, reverse=True), [b"busy", b"refused"]

    def read(body):
        if body in bodies:
            raise Failed(Failure("the venue's word", refused=body == b"refused"))
        return first(body)

    span = (START - 900 * DAY, START + 3 * MINUTE)
    session = TimePages("n-1-1", STREAM, span, told, Probe("http://v/probe?x=1", 1, read))
    answers = iter([b"busy", msgspec.json.encode([[START, START, "1"]])])
    ids, rejected = finish(session, lambda fetch: next(answers) if fetch.tag == "probe" else venue.answer(fetch))
    assert (ids, len(rejected), session.requests) == ([key for key, _ in rows], 1, 3)
    session = TimePages("n-1-1", STREAM, span, told, Probe("http://v/probe?x=1", 1, read))
    finish(session, lambda _: b"refused")
    assert (session.refused, session.failed, session.requests) == (True, "the venue's word", 1)


def test_a_page_without_the_last_row_of_the_one_before_is_none_even_where_it_is_empty():
    rows = [(START + n * MINUTE, START + (n + 1) * MINUTE - MS) for n in range(6)]
    told = route(4, width=MINUTE, window=3 * MINUTE)
    venue, session, asked = Venue(rows, 4), TimePages("n-1-1", STREAM, (START, START + 6 * MINUTE), told), []

    def answer(fetch):
        asked.append(fetch.tag)
        return b"[]" if len(asked) == 2 else venue.answer(fetch)

    ids, rejected = finish(session, answer)
    assert ids == [key for key, _ in rows]
    assert [one.reason for one in rejected] == [
        "rows: a page that does not begin with the last row of the page before it"
    ]


def test_the_first_row_of_all_may_have_the_id_0():
    rows = [(n, START + n * MINUTE) for n in range(9)]
    session = by_id((START, START + 8 * MINUTE))
    assert finish(session, Venue(rows, 3).answer)[0] == list(range(8))
    assert session.requests == 5


@pytest.mark.parametrize("age,taken", [(SETTLED - MS, False), (SETTLED, True)])
def test_a_candle_is_believed_two_seconds_after_its_end(age, taken):
    session = TimePages("n-1-1", STREAM, (START, START + MINUTE), route(9, width=MINUTE, window=8 * MINUTE))
    (asked,) = session.start(START)
    rows = Venue([(START, START + MINUTE - MS)], 9).answer(asked)
    (said,) = session.respond(asked.tag, 200, {}, rows, START + MINUTE - MS + age)
    assert isinstance(said, Trade) == taken == session.done


def test_ids_that_are_lacking_from_the_end_of_a_period_on_are_none_of_it():
    rows = [row for row in minute(9) if row[0] != 107]
    session = by_id((START + 4 * MINUTE, START + 6 * MINUTE), 9)
    assert finish(session, Venue(rows, 9).answer) == ([104, 105], [])
    assert session.jumps == []


def test_of_a_period_that_ends_with_a_candle_the_one_behind_it_is_not_asked_for():
    told = route(9, width=MINUTE, window=8 * MINUTE)
    session = TimePages("n-1-1", STREAM, (START, START + 3 * MINUTE), told)
    (asked,) = session.start(NOW)
    assert asked.tag.split()[1] == str((START + 2 * MINUTE) // MS)
