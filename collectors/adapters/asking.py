"""A session that only fetches: one route, asked again and again for each of its symbols. Pure.

A request's tag is the route's name, the symbol, and what else a replay has to know; so every answer can be read again
without the questions. What is no data is rejected and asked for again (`schedule`); one symbol's refusal leaves the
others alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from collectors.adapters.answers import Failure, header
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.schedule import Schedule
from market.session import Fetch, Output, Polled, Refused, Rejected, Stream, StreamState


class NoData(Exception):
    """An answer with status 200 that says nothing; the message says why."""


class Failed(Exception):
    """An answer with status 200 whose body is the venue's word that it has no data."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class PollSession(ABC):
    """`market.session.Session` that asks one route for each of its symbols; members say how it is asked and read."""

    route = ""

    def __init__(self, session_id: str, polled: Polled, base: str, weight: int) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self._symbols = dict.fromkeys(polled.symbols)
        self._every = polled.every
        self._base = base.rstrip("/")
        self._weight = weight
        self._schedule = Schedule(self._names(), polled.every)

    def start(self, now: int) -> Sequence[Output]:
        self._schedule.begin(now)
        return self.tick(now)

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        """A fetching session has no socket: a frame is somebody else's."""
        del frame, ts_recv
        self.frame_no += 1
        return (Rejected("a frame on a session that only fetches", self.frame_no),)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        name = self._name(tag)
        if name is None:
            return (Rejected("an answer to nothing that was asked", self.frame_no, self.route),)
        said = self._said(name, tag, status, headers, body, ts_recv)
        if not isinstance(said, Failure):
            out, more = said
            self._schedule.answered(name, ts_recv, again=more)
            return out or self._nothing()
        if said.refused:
            return self._refused(name, said.reason, ts_recv)
        self._schedule.failed(name, said, ts_recv)
        return (Rejected(f"{self.route}: {said.reason}"[:300], self.frame_no, tag),)

    def _said(
        self, name: str, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int
    ) -> tuple[list[Output], bool] | Failure:
        """What came of an answer, or why nothing did."""
        if status != 200:
            return self._failure(status, headers, body, ts_recv)
        try:
            return self._read(name, tag, body, ts_recv)
        except BAD_FRAME as error:
            kind = header(headers, "content-type") or "no content type"
            return Failure(f"status 200 without data ({kind}): {why(error)}"[:300])
        except NoData as error:
            return Failure(str(error))
        except Failed as error:
            return error.failure

    def tick(self, now: int) -> Sequence[Output]:
        return [self._fetch(name, now) for name in self._schedule.due(now)]

    def next_deadline(self) -> int | None:
        return self._schedule.deadline()

    def streams(self) -> Iterable[StreamState]:
        """Those whose silence is a hole: none, but where a member says so."""
        return ()

    def _names(self) -> Iterable[str]:
        """What has a place in the schedule."""
        return self._symbols

    def _name(self, tag: str) -> str | None:
        """Whose answer it is; None for what is never asked here."""
        route, _, symbol = tag.partition(" ")
        return symbol if route == self.route and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        """The request for one of the names."""
        del now
        return Fetch(f"{self.route} {name}", "GET", self._url(name), self._weight)

    def _url(self, name: str) -> str:
        """The address of what one of the names is asked for, where time does not change it."""
        return f"{self._base}?symbol={quote(name, safe='')}"

    @abstractmethod
    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        """The rows of an answer, and whether there are more at once. Raises BAD_FRAME, NoData and Failed."""

    @abstractmethod
    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        """What an answer with another status than 200 says; status 0 is no answer at all."""

    def _refused(self, name: str, reason: str, now: int) -> Sequence[Output]:
        if not self._schedule.refused(name, now):
            self.ignored[f"{self.route} refused again"] += 1
            return ()
        return (Refused((self._stream(name),), reason),)

    def _nothing(self) -> Sequence[Output]:
        self.ignored[f"{self.route} without rows"] += 1
        return ()

    def _stream(self, symbol: str) -> Stream:
        return Stream(f"{self.route} {symbol}", self.route, symbol, "", contiguous=False)
