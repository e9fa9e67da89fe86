"""History of one symbol, page by page: a session that only fetches, over [from, to) of venue time. Pure.

A page border is proven by a row that both of its pages have: it must come again, the same, or the page is asked for
again. A page is whole or nothing of it is taken: a row that breaks the venue's rules, an order that is none, an error
page and a body that ends early are asked for again, a few times, each time more patiently. Each page's answer says how
far everything is known (`covered`); what lies at or after `to` is not taken, so a candle that still forms never is.

Pages go on by id (`IdPages`: the first id of a time is asked for once, ids that follow each other by one prove the
rest) or by time (`TimePages`: windows that no page is too small for, both ends included).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, Failure, header, longer
from collectors.adapters.reading import BAD_FRAME, why
from market.kinds import Event
from market.session import Fetch, Output, Rejected, Stream, StreamState
from market.times import MS, SECOND

TRIES = 10
"""Times in a row that one page is asked for before it is given up; being told to wait is none."""
UNSTABLE = 3
"""As how many such times a page counts that came and cannot be taken as it is."""
WAITS = 500
"""Times in a row that the venue may ask for patience."""
SETTLED = 2 * SECOND
"""How long ago a row must be over (by our clock) to be believed final."""


class Unstable(Exception):
    """A page that cannot be taken as it is; the message says why."""


class Row(NamedTuple):
    """One row of a page. `key` is what pages go on by, an id or a time (us); `said` is all that the venue says."""

    key: int
    at: int
    said: bytes
    event: Event


class Jump(NamedTuple):
    """Ids [first, end) that the venue's own history lacks, twice asked; between the times `after` and `before`."""

    first: int
    end: int
    after: int
    before: int


class Made(NamedTuple):
    """Where an event comes from: its session, the number of its frame, and when that was received."""

    session: str
    frame_no: int
    ts_recv: int


class Route(msgspec.Struct, frozen=True):
    """One history route of a market. `url` is complete but for what a page adds; `rows` reads a body, which raises
    BAD_FRAME for what is no answer and Unstable for a row that breaks the rules.
    """

    name: str
    url: str
    weight: int
    limit: int
    rows: Callable[[bytes, Made], list[Row]]
    failure: Callable[[int, Mapping[str, str], bytes], Failure]
    start: str = "startTime"
    end: str = "endTime"
    unit: int = MS
    """us of one unit of the route's times."""
    ascends: bool = False
    """Whether a page without an end goes on from its start: so the first row of a time can be asked for."""
    end_included: bool = True
    """Whether a row at the end itself is among the rows."""
    width: int = 0
    """us from a row's key to the end of what it is of: a candle's width, 0 for what is of an instant."""
    lead: int = 0
    """us before the period from which on pages by time are asked for, where keys are not quite the rows' times."""
    window: int = 0
    """us of one page that has never more than `limit` rows; of pages by id unused."""


class Seek(msgspec.Struct, frozen=True):
    """How the first id of a time is found: `url` takes a time, `first` reads the id (None: there is nothing since)."""

    url: str
    weight: int
    first: Callable[[bytes], int | None]
    start: str = "startTime"
    id: str = "fromId"


class Pages(ABC):
    """`market.session.Session` of one symbol's history. `done` once it is whole or given up, `failed` says why."""

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = self.start_at = span[0]
        self.end_at = span[1]
        self.ignored: Counter[str] = Counter()
        self.failed = ""
        self.refused = False
        """Whether it failed by the venue's word on the request itself: asking again changes nothing."""
        self.jumps: list[Jump] = []
        self.requests = 0
        self._stream = stream
        self._route = route
        self._asked: Fetch | None = None
        self._at: int | None = None
        self._tries = self._waited = 0
        self._pause = FIRST_PAUSE
        self._state = StreamState(stream, since=span[0], first_event=span[0])

    # --- the contract of a session ---

    def start(self, now: int) -> Sequence[Output]:
        del now
        return [self._ask(self._next())]

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        """A fetching session has no socket: a frame is somebody else's."""
        del frame, ts_recv
        self.frame_no += 1
        return (Rejected("a frame on a session that only fetches", self.frame_no),)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        asked = self._asked
        if self.done or ((asked is None or tag != asked.tag) and not self._joined(tag)):
            return (Rejected("an answer to nothing that was asked", self.frame_no, self._route.name),)
        self._asked = None
        if status == 0:
            return self._wrong(Failure(header(headers, "error") or "no answer"), ts_recv)
        if status != 200:
            return self._wrong(self._route.failure(status, headers, body), ts_recv)
        try:
            rows = self._take(body, ts_recv)
        except BAD_FRAME as error:
            kind = header(headers, "content-type") or "no content type"
            return self._wrong(Failure(f"status 200 without data ({kind}): {why(error)}"), ts_recv)
        except Unstable as error:
            return self._wrong(Failure(str(error)), ts_recv, UNSTABLE)
        self._tries = self._waited = 0
        self._pause = FIRST_PAUSE
        events = [row.event for row in rows if self.start_at <= row.at < self.end_at]
        if self.venue_time > self.start_at:
            self._state.events += 1  # what is known to be empty is covered too
        if not events:
            self.ignored[f"{self._route.name} without rows"] += 1
        if not self.done:
            self._at = ts_recv
        return events

    def tick(self, now: int) -> Sequence[Output]:
        if self._at is None or now < self._at or self.done:
            return ()
        self._at = None
        return [self._ask(self._next())]

    def next_deadline(self) -> int | None:
        return None if self.done else self._at

    def streams(self) -> Iterable[StreamState]:
        """None whose silence or end would be a hole (see `covered`)."""
        return ()

    def covered(self) -> Iterable[StreamState]:
        """The stream of which everything is known on [from, `venue_time`)."""
        return (self._state,)

    @property
    def done(self) -> bool:
        return bool(self.failed) or self.venue_time >= self.end_at

    # --- members say ---

    @abstractmethod
    def _next(self) -> tuple[str, str, int]:
        """What to ask for next: tag, address, weight."""

    @abstractmethod
    def _joined(self, tag: str) -> bool:
        """Go on with the page of that tag, where a replay begins in the middle; False for what is no page's."""

    @abstractmethod
    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        """The new rows of an answer; moves on. Raises BAD_FRAME, and Unstable without having moved."""

    # --- inside ---

    def _ask(self, wanted: tuple[str, str, int]) -> Fetch:
        tag, url, weight = wanted
        self.requests += 1
        self._asked = Fetch(tag, "GET", url, weight)
        return self._asked

    def _wrong(self, failure: Failure, now: int, counts: int = 1) -> Sequence[Output]:
        """Not data: ask again later, or never."""
        if failure.limited:
            self._waited += 1
        else:
            self._tries += counts
        if failure.refused or self._tries >= TRIES or self._waited >= WAITS:
            self.failed, self.refused = failure.reason[:300], failure.refused
        else:
            self._at = now + max(failure.pause or 0, self._pause)
            self._pause = longer(self._pause)
        return (Rejected(f"{self._route.name}: {failure.reason}"[:300], self.frame_no, self._route.name),)

    def _read(self, body: bytes, ts_recv: int) -> list[Row]:
        """The rows of a page, in the order of their keys. Raises Unstable."""
        rows = self._route.rows(body, Made(self.session_id, self.frame_no, ts_recv))
        if any(later.key <= row.key for row, later in itertools.pairwise(rows)):
            raise Unstable("rows that do not ascend")
        if len(rows) > self._route.limit:
            raise Unstable(f"{len(rows)} rows in a page of {self._route.limit}")
        return rows


def meets(rows: Sequence[Row], border: Row) -> bool:
    """Whether a page begins with the last row of the page before."""
    return bool(rows) and rows[0].key == border.key and rows[0].said == border.said


class IdPages(Pages):
    """By id: once the first id of `from` is known, each page begins with the last row of the one before it."""

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, seek: Seek) -> None:
        super().__init__(session_id, stream, span, route)
        self._seek = seek
        self._from: int | None = None
        """The id that the next page begins with; None before it is known."""
        self._first = 0
        """The first id of the period, as the venue names it."""
        self._border: Row | None = None
        self._inside = False
        """Whether a replay began in the middle: the first page has no border then."""
        self._doubted: Jump | None = None

    def _next(self) -> tuple[str, str, int]:
        if self._from is None:
            seek = self._seek
            return "seek", f"{seek.url}&{seek.start}={self.start_at // self._route.unit}&limit=1", seek.weight
        route = self._route
        return f"from {self._from}", f"{route.url}&{self._seek.id}={self._from}&limit={route.limit}", route.weight

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if self._from is None:
            first = self._seek.first(body)
            if first is None:
                self._whole(ts_recv)  # nothing since: so nothing on the period, which is over
            else:
                self._first, self._from = first, max(first - 1, 0)
            return []
        rows = self._read(body, ts_recv)
        if rows and rows[0].key < self._from:
            raise Unstable("rows from before the id that was asked for")
        border = self._border
        if border is None and not self._inside:
            return self._begin(rows, ts_recv)
        if not rows:
            raise Unstable("an empty page where the venue named a row")
        if border is not None and not meets(rows, border):
            raise Unstable(f"a page that does not begin with row {border.key} as the page before it told it")
        return self._go_on(rows, ts_recv)

    def _joined(self, tag: str) -> bool:
        route, _, first = tag.partition(" ")
        if route != "from" or not (first.isascii() and first.isdigit()) or len(first) > 19:
            return False
        self._from, self._border, self._inside = int(first), None, True
        return True

    def _begin(self, rows: list[Row], ts_recv: int) -> list[Row]:
        """The first page begins with the row before the period, which proves that no row of it is left out."""
        assert self._from is not None
        if not rows:
            raise Unstable("an empty page where the venue named a row")
        if rows[0].at >= self.start_at and rows[0].key == self._from > 0:
            self._from = max(self._from - self._route.limit // 2, 0)  # it is of the period itself: look further back
            return []
        return self._go_on(rows, ts_recv)

    def _go_on(self, rows: list[Row], ts_recv: int) -> list[Row]:
        jumps = [
            Jump(row.key + 1, later.key, row.at, later.at)
            for row, later in itertools.pairwise(rows)
            if later.key != row.key + 1 and later.at >= self.start_at and row.at < self.end_at
        ]
        if self._border is None and not self._inside and rows[0].key > self._first:
            raise Unstable(f"a page without row {self._first}, which the venue has just named")
        if jumps and self._doubted != jumps[0]:
            self._doubted = jumps[0]
            raise Unstable(f"ids {jumps[0].first} to {jumps[0].end - 1} are not in the page")
        last = rows[-1]
        if last.at < self.end_at and len(rows) < self._route.limit:
            self._whole(ts_recv)
        else:
            self.venue_time = max(self.venue_time, min(last.at, self.end_at))  # more may share its time
        self.jumps += jumps
        new = rows[1:] if self._border is not None else rows
        self._border, self._from = last, last.key
        return new

    def _whole(self, ts_recv: int) -> None:
        """The venue has nothing newer; whole where the period is over."""
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        self.venue_time = self.end_at


class TimePages(Pages):
    """By time: windows that a page holds all of; each begins with the last row of the one before it, if it had any."""

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route) -> None:
        super().__init__(session_id, stream, span, route)
        self._cursor = max(0, self._floor(span[0]) - max(route.width, route.unit, route.lead))
        """Key from which on the next window asks."""
        self._border: Row | None = None
        self._sought = not route.ascends
        """Whether it is known where rows begin."""

    @property
    def _until(self) -> int:
        """The last key of the window."""
        route = self._route
        return min(self._cursor + route.window, self._floor(self.end_at - 1))

    def _floor(self, time: int) -> int:
        step = self._route.width or self._route.unit
        return time - time % step

    def _next(self) -> tuple[str, str, int]:
        route = self._route
        if not self._sought:
            return "seek", f"{route.url}&{route.start}={self._cursor // route.unit}&limit=1", route.weight
        first, last = self._cursor // route.unit, self._until // route.unit + (0 if route.end_included else 1)
        bounds = f"&{route.start}={first}&{route.end}={last}&limit={route.limit}"
        return f"{first} {last}", route.url + bounds, route.weight

    def _joined(self, tag: str) -> bool:
        first, _, last = tag.partition(" ")
        if not (tag.isascii() and first.isdigit() and last.isdigit()) or len(tag) > 40:
            return False
        self._cursor, self._border, self._sought = int(first) * self._route.unit, None, True
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        route, until, border = self._route, self._until, self._border
        rows = self._read(body, ts_recv)
        if not self._sought:
            return self._begin(rows, ts_recv)
        if rows and not self._cursor <= rows[0].key <= rows[-1].key <= until:
            raise Unstable("a row outside the window that was asked for")
        if border is not None and not meets(rows, border):
            raise Unstable("a page that does not begin with the last row of the page before it")
        if any(row.at + SETTLED > ts_recv for row in rows if row.at < self.end_at):
            raise Unstable("a row that is not over yet")
        new = rows[1:] if border is not None else rows
        step = route.width or route.unit
        if len(rows) >= route.limit and rows[-1].key < until:
            known, self._cursor, self._border = rows[-1].at + route.unit, rows[-1].key, rows[-1]
        else:
            known = until + step
            held = bool(new)
            self._border = rows[-1] if held else None
            self._cursor = rows[-1].key if held else until + step
        self.venue_time = max(self.venue_time, min(known, self.end_at))
        return new

    def _begin(self, rows: list[Row], ts_recv: int) -> list[Row]:
        """Before the first row there is nothing: years before a listing cost one request."""
        if rows and rows[0].key < self._cursor:
            raise Unstable("a row from before the time that was asked for")
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        self._sought = True
        first = rows[0].key if rows else self.end_at
        self.venue_time = max(self.start_at, min(first, self.end_at))
        self._cursor = max(self._cursor, self._floor(first))
        return []
