"""One symbol's history, page by page: what every way of paging has in common (the ways are in `paging`). Pure.

A session that only fetches, over [from, to) of venue time. A page is whole or nothing of it is taken: a row that breaks
the venue's rules, an order that is none, an error page, a venue's error inside status 200 and a body that ends early
are asked for again, a few times, each time more patiently. Each page's answer says how far everything is known
(`covered`); what lies at or after `to` is not taken, so a candle that still forms never is.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, Failure, header, longer
from collectors.adapters.asking import Failed
from collectors.adapters.reading import BAD_FRAME, why
from market.kinds import Event
from market.session import Fetch, Output, Rejected, Stream, StreamState
from market.times import MINUTE, MS, SECOND, Interval

TRIES = 10
"""Times in a row that one page is asked for before it is given up; being told to wait is none."""
UNSTABLE = 3
"""As how many such times a page counts that came and cannot be taken as it is."""
WAITS = 500
"""Times in a row that the venue may ask for patience."""
SETTLED = 2 * SECOND
"""How long ago a row must be over (by our clock) to be believed final."""
FINAL = MINUTE
"""How long after a time pages are believed that nothing more of it comes, where no row behind it says so: a venue's
history may lag behind its streams.
"""


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
    """One history route of a market. `url` is complete but for what a page adds; `rows` reads a body, in the order of
    the venue. It raises BAD_FRAME for what is no answer, Failed for the venue's error inside of one, Unstable for a row
    that breaks the rules.
    """

    name: str
    url: str
    weight: int
    limit: int
    rows: Callable[[bytes, Made], list[Row]]
    failure: Callable[[int, Mapping[str, str], bytes], Failure]
    start: str = "startTime"
    end: str = "endTime"
    most: str = "limit"
    """The parameter that says how many rows are wanted; "" where the route has none."""
    unit: int = MS
    """us of one unit of the route's times."""
    ascends: bool = False
    """Whether a page without an end goes on from its start: so the first row of a time can be asked for."""
    newest_first: bool = False
    """Whether rows come newest first, so that what a page has no room for is its beginning."""
    start_included: bool = True
    """Whether a row at the start itself is among the rows; where no page says it, one unit more is asked for."""
    end_included: bool = True
    """The same of the end."""
    width: int = 0
    """us from a row's key to the end of what it is of: a candle's width, 0 for what is of an instant."""
    lead: int = 0
    """us before the period from which on pages by time are asked for, where keys are not quite the rows' times."""
    window: int = 0
    """us of one page that has never more than `limit` rows; of pages by id unused."""
    more: Callable[[bytes], bool] | None = None
    """Whether the venue says of a page, oldest first, that it has more of the window; None where it says no such thing.
    """


class Probe(msgspec.Struct, frozen=True):
    """A request whose answer says before which time (us) there is nothing; `first` reads it, None for nothing at all.

    `first` raises as a Route's `rows`.
    """

    url: str
    weight: int
    first: Callable[[bytes], int | None]


class Seek(msgspec.Struct, frozen=True):
    """How the first id of a time is found: `url` takes a time, `first` reads the id (None: there is nothing since)."""

    url: str
    weight: int
    first: Callable[[bytes], int | None]
    start: str = "startTime"
    id: str = "fromId"


class Pages(ABC):
    """`market.session.Session` of one symbol's history. `done` once it is whole or given up, `failed` says why."""

    numbered = False
    """Whether the keys of rows are ids that follow each other by one."""

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
        self.ids: list[Interval] = []
        """Ids that came, where they follow each other."""
        self.requests = 0
        self._stream = stream
        self._route = route
        self._asked: Fetch | None = None
        self._at: int | None = None
        self._tries = self._waited = 0
        self._pause = FIRST_PAUSE
        self._later = 0
        """When what was told too soon to be believed is asked for again."""
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
        except Failed as error:
            return self._wrong(error.failure, ts_recv)
        self._tries = self._waited = 0
        self._pause = FIRST_PAUSE
        inside = [row for row in rows if self.start_at <= row.at < self.end_at]
        events = [row.event for row in inside]
        if self.numbered:
            self._number(inside)
        if self.venue_time > self.start_at:
            self._state.events += 1  # what is known to be empty is covered too
        if not events:
            self.ignored[f"{self._route.name} without rows"] += 1
        if not self.done:
            self._at = max(ts_recv, self._later)
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

    def early(self, now: int) -> bool:
        """Whether what the venue has told so far was told too soon to be believed: it is asked again once it is not."""
        return not self.done and now < self._later

    # --- members say ---

    @abstractmethod
    def _next(self) -> tuple[str, str, int]:
        """What to ask for next: tag, address, weight."""

    @abstractmethod
    def _joined(self, tag: str) -> bool:
        """Go on with the page of that tag, where a replay begins in the middle; False for what is no page's."""

    @abstractmethod
    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        """The new rows of an answer; moves on. Raises BAD_FRAME, Failed and Unstable without having moved."""

    # --- inside ---

    def _early(self, ts_recv: int, over: int) -> bool:
        """Whether it is too soon to believe that nothing more comes of a time that is `over` (0: nothing says so). Then
        it is asked for again, later.
        """
        self._later = over + FINAL
        return ts_recv < self._later

    def _number(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self.ids and self.ids[-1].end == row.key:
                self.ids[-1] = Interval(self.ids[-1].start, row.key + 1)
            else:
                self.ids.append(Interval(row.key, row.key + 1))

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
        """The rows of a page, in the order of their keys. Raises BAD_FRAME, Failed, Unstable."""
        rows = self._route.rows(body, Made(self.session_id, self.frame_no, ts_recv))
        if self._route.newest_first:
            rows.reverse()
        if any(later.key <= row.key for row, later in itertools.pairwise(rows)):
            raise Unstable("rows that do not ascend")
        if len(rows) > self._route.limit:
            raise Unstable(f"{len(rows)} rows in a page of {self._route.limit}")
        return rows
