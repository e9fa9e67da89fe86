"""Pages of what lies before an id: all ids between the last row before a period and its last row, once."""

from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.dense_paging import Before, DensePages
from collectors.adapters.pages import SETTLED
from market.times import DAY, MINUTE, MS
from tests.collectors.test_paging import NOW, START, STREAM, finish, minute, route, trades


class Venue:
    """Rows of (id, at): what lies before an id or before a time, newest first."""

    def __init__(self, rows, limit):
        self.rows = rows
        self.limit = limit
        self.told = []

    def answer(self, fetch):
        asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(fetch.url).query).items()}
        if "time" in asked:
            page = [row for row in self.rows if row[1] < asked["time"] * MS][-1:]
        else:
            page = [row for row in self.rows if row[0] < asked["after"]][-self.limit :][::-1]
            self.told += page
        return msgspec.json.encode([[key, at, "1.5"] for key, at in page])


def last(body):
    rows = msgspec.json.decode(body, type=list[tuple[int, int, str]])
    return (rows[0][0], rows[0][1]) if rows else None


def dense(span, limit):
    told = route(limit, end="after", newest_first=True)
    return DensePages("n-1-1", STREAM, span, told, Before("http://v/rows?x=1", 1, last, "time"))


@settings(max_examples=100, deadline=None)
@given(
    rows=trades(), limit=st.integers(3, 9), low=st.integers(-10, 20), long=st.integers(1, 40),
    swapped=st.sets(st.integers(0, 38), max_size=4),
)  # fmt: skip
def test_every_row_of_the_period_comes_once_even_where_times_do_not_ascend(rows, limit, low, long, swapped):
    for place in sorted(one for one in swapped if one + 1 < len(rows)):  # two ids change their times
        (first, earlier), (second, later) = rows[place : place + 2]
        if later - earlier <= MS:
            rows[place : place + 2] = [(first, later), (second, earlier)]
    span = (START + low * MINUTE // 2, START + (low + long) * MINUTE // 2)
    venue, session = Venue(rows, limit), dense(span, limit)
    ids, rejected = finish(session, venue.answer)
    assert ids == [key for key, at in rows if span[0] <= at < span[1]]
    assert (rejected, session.failed, session.jumps, session.venue_time) == ([], "", [], span[1])
    assert session.requests < 60


@pytest.mark.parametrize("place", range(11, 19))
def test_a_kill_between_two_pages_passes_over_no_trade_whose_time_is_before_that_of_one_with_a_smaller_id(place):
    rows = minute(30)
    (first, earlier), (second, later) = rows[place : place + 2]
    rows[place : place + 2] = [(first, later), (second, earlier)]
    for pages in range(2, 9):  # before the kill
        begin, end, venue, came = START + 5 * MINUTE, START + 25 * MINUTE, Venue(rows, 6), set()
        for most in (pages, 99):
            session = dense((begin, end), 6)
            tasks = session.start(NOW)
            for _ in range(most):
                if not session.done:
                    (asked,) = tasks
                    came |= {row.seq for row in session.respond(asked.tag, 200, {}, venue.answer(asked), NOW)}
                    tasks = session.tick(NOW)
            begin = session.venue_time
        assert came == set(range(105, 125))
        assert begin == end


def test_years_before_the_first_row_are_halved_and_not_walked():
    venue, session = Venue(minute(9), 3), dense((START - 900 * DAY, START + 5 * MINUTE), 3)
    assert finish(session, venue.answer)[0] == list(range(100, 105))
    assert session.requests < 50
    session = dense((START - 900 * DAY, START - DAY), 3)
    assert finish(session, venue.answer)[0] == []
    assert (session.requests, session.venue_time) == (1, START - DAY)


def test_ids_that_the_venue_lacks_for_good_are_named_and_more_than_a_page_of_them_is_no_history():
    rows = [row for row in minute(20) if row[0] not in (107, 108)]
    session = dense((START + MINUTE, START + 15 * MINUTE), 6)
    assert finish(session, Venue(rows, 6).answer)[0] == [*range(101, 107), *range(109, 115)]
    assert session.jumps == [(107, 109, START + 6 * MINUTE, START + 9 * MINUTE)]
    rows = [row for row in minute(40) if row[0] not in range(107, 130)]
    session = dense((START + MINUTE, START + 35 * MINUTE), 6)
    ids, _ = finish(session, Venue(rows, 6).answer)
    assert ids == list(range(101, 107))
    assert "are not in the page" in session.failed


@pytest.mark.parametrize("wrong", ["border", "named", "later", "time"])
def test_a_page_that_is_none_is_asked_for_again(wrong):
    venue, session, told = Venue(minute(20), 6), dense((START + 4 * MINUTE, START + 16 * MINUTE), 6), []

    def answer(fetch):
        told.append(fetch.tag)
        body = venue.answer(fetch)
        rows = msgspec.json.decode(body)
        if wrong == "time" and len(told) == 2:
            return msgspec.json.encode([[119, START + 19 * MINUTE, "1.5"]])
        if wrong == "named" and len(told) == 3:
            return msgspec.json.encode(rows[:2])
        if wrong == "border" and len(told) == 4:
            return msgspec.json.encode([*rows[:-1], [*rows[-1][:2], "9.9"]])
        if wrong == "later" and len(told) == 4:
            return msgspec.json.encode([[row[0] + 6, row[1], row[2]] for row in rows])
        return body

    ids, rejected = finish(session, answer)
    assert ids == list(range(104, 116))
    assert len(rejected) == 1
    assert not session.failed


def test_a_replay_that_begins_in_the_middle_goes_on_by_the_tags():
    span, told, venue = (START + MINUTE, START + 15 * MINUTE), [], Venue(minute(20), 6)
    whole = finish(dense(span, 6), lambda fetch: told.append((fetch.tag, venue.answer(fetch))) or told[-1][1])[0]
    session = dense(span, 6)
    session.start(NOW)
    found = []
    for tag, body in told[4:]:
        session.tick(NOW)
        found += [out.seq for out in session.respond(tag, 200, {}, body, NOW)]
    assert found == whole[-len(found) :]
    assert session.venue_time == span[1]
    for tag in ("from x to 7", "from 1 to", "before 7", "from ٣ to 7"):
        (said,) = dense(span, 6).respond(tag, 200, {}, b"[]", NOW)
        assert said.reason == "an answer to nothing that was asked"


def test_the_end_of_the_period_has_to_be_over():
    session = dense((START, START + DAY), 6)
    (asked,) = session.start(START + DAY)
    session.respond(asked.tag, 200, {}, Venue(minute(3), 6).answer(asked), START + DAY)
    assert not session.done


@pytest.mark.parametrize("last", [107, 106])
def test_a_trade_behind_the_last_one_of_the_period_may_be_of_the_period(last):
    """Times need not ascend as ids do: some ids behind it are looked at too, on the next page if need be."""
    rows = [*minute(12)[:9], (109, START + 7 * MINUTE), *minute(20)[10:]]
    venue, session = Venue(rows, 6), dense((START + 2 * MINUTE, START + 8 * MINUTE), 6)

    def answer(fetch):
        if fetch.tag == f"before {(START + 8 * MINUTE) // MS}":
            return msgspec.json.encode([[last, START + (last - 100) * MINUTE, "1.5"]])
        return venue.answer(fetch)

    assert finish(session, answer)[0] == [*range(102, 108), 109]


def test_ids_that_are_lacking_before_the_period_or_from_its_end_on_are_none_of_it():
    rows = [row for row in minute(20) if row[0] not in (102, 110)]
    session = dense((START + 4 * MINUTE, START + 9 * MINUTE), 9)
    assert finish(session, Venue(rows, 9).answer)[0] == list(range(104, 109))
    assert session.jumps == []


def test_the_newest_of_a_period_are_not_believed_before_it_is_over_for_two_seconds():
    end = START + 5 * MINUTE
    for age, wrong in ((SETTLED - MS, True), (SETTLED, False)):
        session = dense((START, end), 6)
        (asked,) = session.start(end)
        said = session.respond(asked.tag, 200, {}, Venue(minute(9), 6).answer(asked), end + age)
        assert bool(said) == wrong
