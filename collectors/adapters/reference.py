"""Instruments as contract events: a venue's list, page by page, fetched again at an interval. Pure.

A session that only fetches: it asks at `start`, again after a pause where the answer was no data, and `every` so
often. A symbol that was known and that the list lacks is gone once a second list lacks it too: a row with status
DELISTED. Whether a row says anything new is the merger's to tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, Failure, header, longer
from collectors.adapters.asking import Failed
from collectors.adapters.reading import BAD_FRAME, FUTURE, PAST, why
from market.kinds import Contract
from market.session import Fetch, Output, Refused, Rejected, Stream, StreamState
from market.times import MINUTE

DELISTED = "DELISTED"
"""Status of a listing that the venue does not name any more; the venue's own words are all others."""
CONFIRM = MINUTE
"""From a list that lacks a known symbol to the one that has to lack it too."""
PAGES = 100
"""More pages than any venue has."""


class Page(msgspec.Struct, frozen=True):
    """One answer: instruments as they are, the venue's time (us, None where it does not say), the cursor of more."""

    items: list[msgspec.Raw]
    time: int | None
    more: str = ""


class At(msgspec.Struct, frozen=True):
    """What a row says of its answer: venue and receive time (us), and its place in it."""

    time: int
    ts_recv: int
    frame_no: int
    item: int


class ReferenceSession(ABC):
    """`market.session.Session` that asks for the instruments `symbols` (all, where empty), again `every` us.

    `known` are those that were met in earlier sessions: what is gone of them is said. `every` 0 asks until it has an
    answer, as a replay does.
    """

    route = ""

    def __init__(
        self, session_id: str, symbols: Sequence[str], *, every: int = 0, known: Iterable[Contract] = ()
    ) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self._wanted = dict.fromkeys(symbols)
        self._every = every
        self._known: dict[str, Contract] = {}
        """Symbol -> what was last said of it, of those wanted."""
        self._doubted: set[str] = set()
        """Known symbols that the last list lacked."""
        self._refused: set[str] = set()
        self._named: set[str] = set()
        """Symbols on the pages so far."""
        self._pages = 0
        self._at: dict[str, int] = {}
        """Tag -> when to ask."""
        self._pause = FIRST_PAUSE
        for contract in known:
            self.know(contract)

    # --- what a member says ---

    @abstractmethod
    def _ask(self, cursor: str) -> tuple[str, int]:
        """The address of a page, and its weight; "" is the first page."""

    @abstractmethod
    def _page(self, body: bytes) -> Page:
        """What an answer with status 200 holds. Raises BAD_FRAME and Failed."""

    @abstractmethod
    def _name(self, raw: msgspec.Raw) -> str:
        """Whom an instrument is about. Raises BAD_FRAME."""

    @abstractmethod
    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str | None:
        """The row of an instrument, None for one of another market, or why it is none. Raises BAD_FRAME."""

    @abstractmethod
    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        """What an answer with another status than 200 says."""

    # --- market.session.Session ---

    def know(self, contract: Contract) -> None:
        """What is known of an instrument (`market.session.Informed`)."""
        if not self._wanted or contract.symbol in self._wanted:
            self._known[contract.symbol] = contract

    def start(self, now: int) -> Sequence[Output]:
        del now
        return [self._fetch(self.route)]

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        """A fetching session has no socket: a frame is somebody else's."""
        del frame, ts_recv
        self.frame_no += 1
        return (Rejected("a frame on a session that only fetches", self.frame_no),)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        if tag.partition(" ")[0] != self.route:
            return (Rejected("an answer to nothing that was asked", self.frame_no, self.route),)
        self._at.pop(tag, None)
        if status != 200:
            failed = self._failure(status, headers, body, ts_recv)
            return self._retry(tag, failed.reason, ts_recv, failed.pause)
        try:
            page = self._page(body)
        except BAD_FRAME as error:
            kind = header(headers, "content-type") or "no content type"
            return self._retry(tag, f"status 200 without instruments ({kind}): {why(error)}", ts_recv)
        except Failed as error:
            return self._retry(tag, str(error), ts_recv, error.failure.pause)
        if not page.items and tag == self.route:  # a page behind it may be empty
            return self._retry(tag, "status 200 with an empty list of instruments", ts_recv)
        self._pause = FIRST_PAUSE
        if tag == self.route:
            self._named, self._pages = set(), 0
        self._pages += 1
        out = self._rows(page, ts_recv)
        if page.more and self._pages < PAGES:
            self._at[f"{self.route} {page.more}"] = ts_recv
            return out or self._nothing()
        if self._every:
            self._at[self.route] = ts_recv + self._every
        out += self._look_for_the_rest(len(page.items), ts_recv)
        return out or self._nothing()

    def tick(self, now: int) -> Sequence[Output]:
        due = [tag for tag, at in self._at.items() if now >= at]
        for tag in due:
            del self._at[tag]
        return [self._fetch(tag) for tag in due]

    def next_deadline(self) -> int | None:
        return min(self._at.values(), default=None)

    def streams(self) -> Iterable[StreamState]:
        return ()

    # --- inside ---

    def _fetch(self, tag: str) -> Fetch:
        url, weight = self._ask(tag.partition(" ")[2])
        return Fetch(tag, "GET", url, weight)

    def _nothing(self) -> Sequence[Output]:
        self.ignored[f"{self.route} without rows"] += 1
        return ()

    def _retry(self, tag: str, reason: str, now: int, pause: int | None = None) -> Sequence[Output]:
        """Not data: ask again later, more and more patiently, or when the venue said."""
        self._at[tag] = now + max(pause or 0, self._pause)
        self._pause = longer(self._pause)
        return (Rejected(reason[:300], self.frame_no, self.route),)

    def _rows(self, page: Page, ts_recv: int) -> list[Output]:
        """The wanted instruments of a page; the names of all on it are kept."""
        time = page.time if page.time is not None and -FUTURE <= ts_recv - page.time <= PAST else ts_recv
        self.venue_time = max(self.venue_time, time)
        out: list[Output] = []
        for item, raw in enumerate(page.items):
            try:
                name = self._name(raw)
                self._named.add(name)
                if self._wanted and name not in self._wanted:
                    continue
                made = self._contract(raw, At(time, ts_recv, self.frame_no, item))
                if made is None:
                    continue
            except BAD_FRAME as error:
                made = why(error)
                self._named |= self._whom(raw)
            if isinstance(made, str):
                out.append(Rejected(f"instrument: {made}"[:300], self.frame_no, self.route))
                continue
            self._known[made.symbol] = made
            self._refused.discard(made.symbol)
            out.append(made)
        return out

    def _whom(self, raw: msgspec.Raw) -> set[str]:
        """Whom an instrument that cannot be read is about: nothing is gone of which the list may have spoken."""
        try:
            return {self._name(raw)}
        except BAD_FRAME:
            return {*self._wanted, *self._known}

    def _look_for_the_rest(self, item: int, now: int) -> list[Output]:
        """What is wanted or known and on no page: to be missed a second time."""
        missing = [symbol for symbol in {**self._wanted, **self._known} if symbol not in self._named]
        there = {symbol for symbol in missing if symbol in self._known and self._known[symbol].status != DELISTED}
        gone = [symbol for symbol in missing if symbol not in there or symbol in self._doubted]
        self._doubted = there - self._doubted
        if self._doubted and self._every:
            self._at[self.route] = min(self._at[self.route], now + CONFIRM)
        return self._gone(gone, item, now)

    def _gone(self, symbols: Iterable[str], item: int, now: int) -> list[Output]:
        """A row for each that was known until now; a word on each that never was, once."""
        out: list[Output] = []
        for symbol in symbols:
            held = self._known.get(symbol)
            if held is None:
                out += self._refuse(symbol)
            elif held.status != DELISTED:
                self._known[symbol] = gone = msgspec.structs.replace(
                    held, stream=self.route, ts_event=self.venue_time or now, ts_publish=None, ts_recv=now,
                    session=self.session_id, frame_no=self.frame_no, item=item + len(out), source="rest",
                    status=DELISTED, known_from=now,
                )  # fmt: skip
                out.append(gone)
        return out

    def _refuse(self, symbol: str) -> list[Output]:
        if symbol in self._refused:
            return []
        self._refused.add(symbol)
        stream = Stream(self.route, self.route, symbol, "contract", contiguous=False)
        return [Refused((stream,), "not in the venue's list of instruments")]
