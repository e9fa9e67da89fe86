"""Pages by a cursor, by a time, and back from a time: every row of the period once, whatever the pages are like."""

from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.numbered_pages import BackPages, CursorPages, SincePages, WholePage
from collectors.adapters.pages import SETTLED
from market.session import Rejected
from market.times import MINUTE, MS
from tests.collectors.test_paging import NOW, START, STREAM, finish, made_rows, route, trades


class Numbered:
    """Rows of (id, at) behind the three sorts of routes; `told` are those of its pages."""

    def __init__(self, rows, limit):
        self.rows = rows
        self.limit = limit
        self.told = []

    def answer(self, fetch):
        asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(fetch.url).query).items()}
        if "since" in asked:
            page = [row for row in self.rows if row[1] * 1000 > asked["since"]][: self.limit]
        elif "before" in asked:
            page = [row for row in self.rows if row[1] < asked["before"]][-self.limit :][::-1]
        else:
            older = [row for row in self.rows if row[0] < asked.get("after", 2**62)]
            page = older[-asked["limit"] :][::-1]
        self.told += page if asked.get("limit") != 1 else []
        return msgspec.json.encode([[key, at, "1.5"] for key, at in page])


def made(sort, span, limit):
    if sort == "cursor":
        bare = msgspec.structs.replace(route(limit, newest_first=True), url="http://v/rows")
        return CursorPages("n-1-1", STREAM, span, bare)
    if sort == "since":
        return SincePages("n-1-1", STREAM, span, route(limit))
    address = "http://v/rows?before={}".format
    return BackPages("n-1-1", STREAM, span, route(limit, newest_first=True), address)


@settings(max_examples=60, deadline=None)
@given(
    sort=st.sampled_from(["cursor", "since", "back"]), rows=trades(), limit=st.integers(2, 7), low=st.integers(0, 20),
    long=st.integers(1, 40),
)  # fmt: skip
def test_every_row_of_the_period_comes_once(sort, rows, limit, low, long):
    span = (START + low * MINUTE // 2, START + (low + long) * MINUTE // 2)
    most = limit if sort == "cursor" else max(limit, *(sum(one[1] == row[1] for one in rows) + 2 for row in rows))
    venue, session = Numbered(rows, most), made(sort, span, most)
    ids, _ = finish(session, venue.answer)
    wanted = [key for key, at in rows if span[0] <= at < span[1]]
    if sort == "back" and session.failed:
        assert rows[0][1] >= span[0], "the row before the period is not there"
        assert ids == []
        return
    assert (ids, session.failed, session.jumps, session.venue_time) == (wanted, "", [], span[1])
    if sort == "cursor":
        assert len(venue.told) - len(set(venue.told)) <= session.requests


@pytest.mark.parametrize("sort", ["cursor", "since"])
def test_ids_that_the_venue_lacks_are_told_after_a_second_look(sort):
    rows = [(100 + n, START + n * MINUTE) for n in range(30) if n not in (12, 13)]
    session = made(sort, (START + 5 * MINUTE, START + 25 * MINUTE), 6)
    ids, rejected = finish(session, Numbered(rows, 6).answer)
    assert ids == [number for number in range(105, 125) if number not in (112, 113)]
    assert [(jump.first, jump.end) for jump in session.jumps] == [(112, 114)]
    assert len(rejected) == 1


@pytest.mark.parametrize("sort", ["cursor", "since", "back"])
def test_a_border_that_changes_is_no_border(sort):
    rows = [(100 + n, START + n * MINUTE) for n in range(30)]
    session, venue = made(sort, (START + 5 * MINUTE, START + 25 * MINUTE), 6), Numbered(rows, 6)
    changed, count = set(), 0

    def answer(fetch):
        nonlocal count
        body = venue.answer(fetch)
        if sort == "cursor" and not fetch.tag.startswith("from"):
            return body
        count += 1
        if count != 2:
            return body
        changed.add(fetch.tag)
        return body.replace(b"1.5", b"1.6")

    ids, rejected = finish(session, answer)
    assert ids == list(range(105, 125))
    assert len(changed) == len(rejected) == 1


def test_more_rows_of_one_moment_than_a_page_holds_are_given_up():
    rows = [(100 + n, START + MINUTE) for n in range(9)]
    for sort in ("since", "back"):
        session = made(sort, (START, START + 2 * MINUTE), 3)
        ids, _ = finish(session, Numbered(rows, 3).answer)
        assert session.failed
        assert len(ids) <= 3
        assert session.venue_time <= START + MINUTE


def test_a_replay_that_begins_in_the_middle_goes_on_with_the_page_it_finds():
    rows = [(100 + n, START + n * MINUTE) for n in range(30)]
    venue = Numbered(rows, 6)
    for sort, tag, url in (("cursor", "from 110 6", "?limit=6&after=116"), ("since", f"since {rows[9][1] * 1000}", "")):
        session = made(sort, (START + 5 * MINUTE, START + 25 * MINUTE), 6)
        session.start(NOW)
        asked = type("F", (), {"url": f"http://v/rows{url}" if url else f"http://v/rows?since={rows[9][1] * 1000}"})
        said = session.respond(tag, 200, {}, venue.answer(asked), NOW)
        assert [one.seq for one in said] == list(range(110, 116))
        assert made_rows(b"[]", None) == []
        assert MS < session.venue_time < session.end_at


@pytest.mark.parametrize("age,over", [(SETTLED - MS, False), (SETTLED, True)])
def test_what_comes_all_at_once_is_believed_two_seconds_after_the_period(age, over):
    end = START + MINUTE
    session = WholePage("n-1-1", STREAM, (START, end), route(9))
    (asked,) = session.start(end)
    (said,) = session.respond(asked.tag, 200, {}, msgspec.json.encode([[100, START, "1.5"]]), end + age)
    assert (session.done, isinstance(said, Rejected)) == (over, not over)
