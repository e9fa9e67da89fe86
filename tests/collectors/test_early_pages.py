"""Pages that are asked for before they are final: what lags is never believed, what came is not asked for twice."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.numbered_pages import BackPages, CursorPages, SincePages
from collectors.adapters.pages import FINAL
from market.session import Rejected
from market.times import MINUTE, SECOND, Interval
from tests.collectors.test_dense_paging import Venue as Dense
from tests.collectors.test_dense_paging import dense
from tests.collectors.test_numbered_pages import Numbered
from tests.collectors.test_paging import START, STREAM, Venue, by_id, route

SORTS = ["ids", "cursor", "since", "back", "dense"]
PAGE = 40


def made(sort, span):
    """A session, and a venue that tells rows in its way."""
    if sort == "ids":
        return by_id(span, PAGE), Venue
    if sort == "dense":
        return dense(span, PAGE), Dense
    bare = msgspec.structs.replace(route(PAGE, newest_first=sort != "since"), url="http://v/rows")
    if sort == "cursor":
        return CursorPages("n-1-1", STREAM, span, bare), Numbered
    if sort == "since":
        return SincePages("n-1-1", STREAM, span, msgspec.structs.replace(bare, url="http://v/rows?x=1")), Numbered
    return BackPages("n-1-1", STREAM, span, bare, "http://v/rows?before={}".format), Numbered


class Lagging:
    """A history in which each row is there only some time after it happened; `late` of them (ids) later than others."""

    def __init__(self, rows, lag, late):
        self.rows = rows
        self.shown = {row[0]: row[1] + (late.get(row[0], lag)) for row in rows}

    def at(self, now):
        return [row for row in self.rows if self.shown[row[0]] <= now]


def drive(session, venue, history, now, *, patient=True):
    """The ids that came, how many requests that took, and whether it ended by itself."""
    ids, requests = [], 0
    tasks = session.start(now)
    for _ in range(300):
        for fetch in tasks:
            requests += 1
            now += SECOND // 10
            body = venue(history.at(now), PAGE).answer(fetch)
            for out in session.respond(fetch.tag, 200, {}, body, now):
                if not isinstance(out, Rejected):
                    ids.append(out.seq)
            told = {row[0] for row in history.rows if session.start_at <= row[1] < session.venue_time}
            assert told <= set(ids), "covered is only what came"
        if session.done or (not patient and session.early(now)):
            return ids, requests, session.done
        now = max(now, session.next_deadline() or 0)
        tasks = session.tick(now)
    raise AssertionError("it does not end")


@st.composite
def markets(draw):
    """Ids that follow each other by one, the first of them long before, and a hole somewhere among their times."""
    steps = draw(st.lists(st.integers(1, 20_000), min_size=1, max_size=60))
    begin, at = draw(st.integers(1, 500)), START
    rows = [(begin, START - 20 * MINUTE)]
    for number, step in enumerate(steps):
        at += step * SECOND // 1000
        rows.append((begin + 1 + number, at))
    low = START + draw(st.integers(0, 60)) * SECOND
    return rows, (low, low + draw(st.integers(1, 90)) * SECOND)


lags = st.integers(0, 50).map(lambda seconds: seconds * SECOND)


@pytest.mark.parametrize("sort", SORTS)
@settings(max_examples=40, deadline=None)
@given(
    market=markets(), lag=lags, late=st.dictionaries(st.integers(1, 40), lags, max_size=4), after=st.integers(10, 59)
)
def test_a_history_that_lags_less_than_a_minute_is_never_believed_too_soon(sort, market, lag, late, after):
    rows, span = market
    begin = rows[0][0]
    history = Lagging(rows, lag, {begin + number: more for number, more in late.items()})
    session, venue = made(sort, span)
    ids, _, _ = drive(session, venue, history, span[1] + after * SECOND)
    wanted = [key for key, at in rows if span[0] <= at < span[1]]
    assert (ids, session.failed, session.jumps) == (wanted, "", []), "each came, and came once"
    assert session.ids == ([Interval(wanted[0], wanted[-1] + 1)] if wanted and sort != "back" else [])


@pytest.mark.parametrize("sort", SORTS)
def test_rows_behind_the_period_prove_it_at_once_and_in_few_requests(sort):
    rows = [(100 + number, START + number * SECOND // 4) for number in range(200)]
    span = (START + 20 * SECOND, START + 24 * SECOND)
    session, venue = made(sort, span)
    ids, requests, ended = drive(session, venue, Lagging(rows, 0, {}), span[1] + 15 * SECOND, patient=False)
    assert (ids, ended) == (list(range(180, 196)), True)
    assert requests <= {"dense": 4, "cursor": 5, "back": 4}.get(sort, 2)


@pytest.mark.parametrize("sort", SORTS)
def test_without_a_row_behind_the_period_what_came_is_kept_and_the_rest_waits(sort):
    rows = [(100 + number, START + number * SECOND) for number in range(20)]
    span = (START + 10 * SECOND, START + 30 * SECOND)
    history, (session, venue) = Lagging(rows, 0, {}), made(sort, span)
    ids, requests, ended = drive(session, venue, history, span[1] + 15 * SECOND, patient=False)
    assert (ids, ended, session.failed) == (list(range(110, 120)), False, "")
    assert session.ids == ([] if sort == "back" else [Interval(110, 120)]), (
        "going back, ids are not those of the stream"
    )
    assert session.venue_time == (span[0] if sort == "dense" else rows[-1][1])
    assert session.next_deadline() == span[1] + FINAL
    whole = made(sort, span)[0]
    assert drive(whole, venue, history, span[1] + FINAL)[1] <= requests + 1
    assert whole.done


@pytest.mark.parametrize("sort", SORTS)
def test_what_was_asked_early_is_told_again_by_its_frames_whenever_they_are_read(sort):
    rows = [(100 + number, START + number * SECOND) for number in range(60)]
    span = (START + 10 * SECOND, START + 30 * SECOND)
    session, venue = made(sort, span)
    history, frames = Lagging(rows, 7 * SECOND, {}), []

    class Kept(venue):
        def answer(self, fetch):
            frames.append((fetch.tag, super().answer(fetch)))
            return frames[-1][1]

    ids, _, _ = drive(session, Kept, history, span[1] + 5 * SECOND)
    assert ids == list(range(110, 130))
    read, now, again = [], span[1] + 5 * SECOND, made(sort, span)[0]
    again.start(now - 3)  # no clock is read the same twice
    for tag, body in frames:
        now = max(now + SECOND // 10, again.next_deadline() or 0)
        again.tick(now)
        read += [out.seq for out in again.respond(tag, 200, {}, body, now) if not isinstance(out, Rejected)]
    assert read == ids


def test_the_first_id_of_a_day_ago_is_found_in_strides_and_of_years_ago_by_no_more_than_halving():
    rows = range(1, 2**30)

    class Endless:
        def __init__(self):
            self.asked = 0

        def answer(self, fetch):
            self.asked += 1
            query = dict(one.split("=") for one in fetch.url.partition("?")[2].split("&"))
            last = min(int(query.get("after", 2**62)) - 1, rows[-1])
            page = [
                [key, START + (key - rows[-1]) * SECOND, "1.5"]
                for key in range(last, max(0, last - int(query["limit"])), -1)
            ]
            return msgspec.json.encode(page)

    for back, most in ((30, 1), (70, 3), (1_000, 13), (86_400, 20), (2**29, 40)):
        low = START - back * SECOND
        session, _ = made("cursor", (low, low + 5 * SECOND))
        venue, now = Endless(), START + FINAL
        tasks = session.start(now)
        while not session.done:
            (fetch,) = tasks
            session.respond(fetch.tag, 200, {}, venue.answer(fetch), now)
            tasks = session.tick(now)
        assert not session.failed
        assert session.ids == [Interval(rows[-1] - back, rows[-1] - back + 5)]
        assert venue.asked <= most, back
