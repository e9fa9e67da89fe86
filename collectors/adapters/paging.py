"""The ways in which a history is paged. Pure.

A page border is proven by a row that both of its pages have: it must come again, the same, or the page is asked for
again. Pages go on by id (`IdPages`: the first id of a time is asked for once, ids that follow each other by one prove
the rest) or by time (`TimePages`: windows, both ends included; where a page has no room for a window that comes newest
first, the older part is asked for up to the oldest row, until nothing is older). What all have in common is in `pages`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from collectors.adapters.pages import (
    SETTLED,
    TRIES,
    UNSTABLE,
    Jump,
    Made,
    Pages,
    Probe,
    Route,
    Row,
    Seek,
    Unstable,
)
from market.session import Stream

__all__ = [
    "TRIES", "UNSTABLE", "IdPages", "Jump", "Made", "Pages", "Probe", "Route", "Row", "Seek", "TimePages", "Unstable",
    "meets",
]  # fmt: skip


def meets(rows: Sequence[Row], border: Row) -> bool:
    """Whether a page begins with the last row of the page before."""
    return bool(rows) and rows[0].key == border.key and rows[0].said == border.said


class IdPages(Pages):
    """By id: once the first id of `from` is known, each page begins with the last row of the one before it.

    A row behind the period proves its end, however young that is; where there is none, the end waits until it is final.
    """

    numbered = True

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
                self._ended(ts_recv)  # nothing since: so nothing on the period, which is over
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
        last = rows[-1]
        if self._early(ts_recv, max([one.before for one in jumps], default=0)):
            return []
        if jumps and self._doubted != jumps[0]:
            self._doubted = jumps[0]
            raise Unstable(f"ids {jumps[0].first} to {jumps[0].end - 1} are not in the page")
        if last.at < self.end_at and self._ends(rows):
            self._ended(ts_recv)
        self.venue_time = max(self.venue_time, min(last.at, self.end_at))  # more may share its time
        self.jumps += jumps
        new = rows[1:] if self._border is not None else rows
        self._border, self._from = last, last.key
        return new

    def _ends(self, rows: Sequence[Row]) -> bool:
        """Whether nothing is behind a page."""
        return len(rows) < self._route.limit

    def _ended(self, ts_recv: int) -> None:
        """The venue has nothing newer; whole once that is final."""
        if not self._early(ts_recv, self.end_at):
            self.venue_time = self.end_at


class TimePages(Pages):
    """By time: windows that a page holds all of; each begins with the last row of the one before it, if it had any.

    Where rows come newest first a window may hold more than a page: its beginning is proven by the row before it, or by
    a page that has nothing older. `probe` says where rows begin, on routes that cannot be asked for their first.
    """

    def __init__(
        self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, probe: Probe | None = None
    ) -> None:
        super().__init__(session_id, stream, span, route)
        self._cursor = max(0, self._floor(span[0]) - max(route.width, route.unit, route.lead))
        """Key from which on the next window asks."""
        self._border: Row | None = None
        self._probe = probe
        self._sought = not route.ascends and probe is None
        """Whether it is known where rows begin."""
        self._held: list[Row] = []
        """Rows of a window, newest first, whose beginning is not told yet."""

    @property
    def _until(self) -> int:
        """The last key of the window."""
        return min(self._cursor + self._route.window, self._floor(self.end_at - 1))

    @property
    def _last(self) -> int:
        """The last key of what is asked for: of a window's older part the row that is known."""
        return self._held[0].key if self._held else self._until

    def _floor(self, time: int) -> int:
        step = self._route.width or self._route.unit
        return time - time % step

    def _next(self) -> tuple[str, str, int]:
        route, probe = self._route, self._probe
        if not self._sought and probe is not None:
            return "probe", probe.url, probe.weight
        first, last = self._cursor // route.unit, self._last // route.unit
        if not self._sought:
            return "seek", f"{route.url}&{route.start}={first}&{route.most}=1", route.weight
        low, high = first - (0 if route.start_included else 1), last + (0 if route.end_included else 1)
        most = f"&{route.most}={route.limit}" if route.most else ""
        return f"{first} {last}", f"{route.url}&{route.start}={max(low, 0)}&{route.end}={high}{most}", route.weight

    def _joined(self, tag: str) -> bool:
        first, _, last = tag.partition(" ")
        if not (tag.isascii() and first.isdigit() and last.isdigit()) or len(tag) > 40:
            return False
        self._cursor, self._border, self._sought = int(first) * self._route.unit, None, True
        self._held = []
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if not self._sought:
            return self._begin(body, ts_recv)
        route, until, border = self._route, self._until, self._border
        rows = self._inside(self._read(body, ts_recv))
        if any(row.at + SETTLED > ts_recv for row in rows if row.at < self.end_at):
            raise Unstable("a row that is not over yet")
        if route.newest_first and not self._begun(rows):
            return []
        rows, self._held = [*rows, *self._held[1:]], []
        if border is not None and not meets(rows, border):
            raise Unstable("a page that does not begin with the last row of the page before it")
        new = rows[1:] if border is not None else rows
        step = route.width or route.unit
        full = len(rows) >= route.limit or (bool(new) and route.more is not None and route.more(body))
        if not route.newest_first and full and rows[-1].key < until:
            known, self._cursor, self._border = rows[-1].at + route.unit, rows[-1].key, rows[-1]
        else:
            known = until + step
            held = bool(new)
            self._border = rows[-1] if held else None
            self._cursor = rows[-1].key if held else until + step
        self.venue_time = max(self.venue_time, min(known, self.end_at))
        return new

    def _inside(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of what was asked for; one at a bound that should not be among them is passed over."""
        route, first, last = self._route, self._cursor, self._last
        low, high = (
            first - (0 if route.start_included else route.unit),
            last + (0 if route.end_included else route.unit),
        )
        if rows and not low <= rows[0].key <= rows[-1].key <= high:
            raise Unstable("a row outside the window that was asked for")
        return [row for row in rows if first <= row.key <= last]

    def _begun(self, rows: Sequence[Row]) -> bool:
        """Whether rows that came newest first are the window's first ones; else they are held, and it goes on back."""
        held, ended = self._held, not rows
        if held:
            if not rows or rows[-1].key != held[0].key or rows[-1].said != held[0].said:
                self._held = []
                raise Unstable("a page that does not end with the first row of the page behind it")
            ended = len(rows) == 1
        if ended or rows[0].key <= self._cursor or (self._border is not None and meets(rows, self._border)):
            return True
        self._held = [*rows, *held[1:]]
        return False

    def _begin(self, body: bytes, ts_recv: int) -> list[Row]:
        """Before the first row there is nothing: years before a listing cost one request."""
        if self._probe is not None:
            said = self._probe.first(body)
        else:
            rows = self._read(body, ts_recv)
            if rows and rows[0].key < self._cursor:
                raise Unstable("a row from before the time that was asked for")
            said = rows[0].key if rows else None
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        self._sought = True
        first = self.end_at if said is None else said
        self.venue_time = max(self.start_at, min(first, self.end_at))
        self._cursor = max(self._cursor, self._floor(first))
        return []
