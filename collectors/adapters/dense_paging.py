"""History by ids that follow each other by one, where a route gives what lies before an id, newest first. Pure.

The last row before the period and its last row are asked for by time, so the ids between them are all that there is;
where nothing lies before the period, its first row is found by halving. Pages go forward: what lies before an id a
page's rows further on is the page that begins with the last row of the page before. A few ids on either side of the
period are looked at too, since times need not ascend as ids do: where there are fewer behind it, its end is believed
once it is final.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import msgspec

from collectors.adapters.pages import SETTLED, Jump, Pages, Route, Row, Unstable
from collectors.adapters.paging import meets
from market.session import Stream

_TAG = re.compile(r"from ([0-9]{1,18}) to ([0-9]{1,18})", re.ASCII).fullmatch


class Before(msgspec.Struct, frozen=True):
    """How the last row before a time is found: `end` is the parameter of the time, which is not included; `last` reads
    (id, time in us), None where there is none. It raises as a Route's `rows`.
    """

    url: str
    weight: int
    last: Callable[[bytes], tuple[int, int] | None]
    end: str = "after"


class DensePages(Pages):
    """By ids that a route gives what lies before of; the id is the `route`'s parameter `end`."""

    numbered = True

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, before: Before) -> None:
        super().__init__(session_id, stream, span, route)
        self._before = before
        self._margin = route.limit // 2
        self._at_time = span[1]
        """Before which time the last row is asked for, while ids are not known."""
        self._nothing: int | None = None
        """The newest time (units) before which there is nothing, where nothing lies before the period."""
        self._some = (0, 0)
        """The earliest row that is known by then."""
        self._final: int | None = None
        """The id of the period's last row; None before it is known."""
        self._from: int | None = None
        """The id that the next page begins with; None before it is known."""
        self._named: int | None = None
        """An id that the first page must have; None where a replay begins in the middle."""
        self._border: Row | None = None
        self._doubted: Jump | None = None

    def _next(self) -> tuple[str, str, int]:
        route, before = self._route, self._before
        if self._from is None:
            time = self._at_time // route.unit
            return f"before {time}", f"{before.url}&{before.end}={time}", before.weight
        url = f"{route.url}&{route.end}={self._from + route.limit}&{route.most}={route.limit}"
        return f"from {self._from} to {self._final}", url, route.weight

    def _joined(self, tag: str) -> bool:
        found = _TAG(tag)
        if found is None:
            return False
        self._from, self._final = int(found[1]), int(found[2])
        self._border = self._named = None
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if self._from is None:
            self._sought(self._before.last(body), ts_recv)
            return []
        first, limit = self._from, self._route.limit
        page = self._read(body, ts_recv)
        rows = [row for row in page if row.key >= first]  # of the newest ids a page reaches further back
        if not rows:
            raise Unstable("an empty page where the venue named a row")
        if rows[-1].key >= first + limit:
            raise Unstable("a row after the ids that were asked for")
        if self._border is not None and not meets(rows, self._border):
            raise Unstable(f"a page that does not begin with row {first} as the page before it told it")
        if self._border is None and self._named is not None and rows[0].key > self._named:
            raise Unstable(f"a page without row {self._named}, which the venue has just named")
        if any(row.at + SETTLED > ts_recv for row in rows if row.at < self.end_at):
            raise Unstable("a row that is not over yet")
        # what was called the period's last row may have been the last one of a history that lags
        self._final = max(self._final or 0, *(row.key for row in rows if row.at < self.end_at), 0)
        if self._border is None and self._nothing is not None and rows[0].key == first > 0:
            self._from = max(first - limit + 1, 0)  # the first row of all is not among them: look further back
            return []
        return self._go_on(rows, ts_recv)

    def _sought(self, found: tuple[int, int] | None, ts_recv: int) -> None:
        """One more is known of where the period's rows begin and end."""
        if found is not None and found[1] >= self._at_time:
            raise Unstable("a row from after the time that was asked for")
        if self._final is None:
            if ts_recv < self.end_at + SETTLED:
                raise Unstable("the period is not over yet")
            if found is None or found[1] < self.start_at:
                if not self._early(ts_recv, self.end_at):
                    self.venue_time = self.end_at  # nothing on the period
            else:
                self._final, self._some, self._at_time = found[0], found, self.start_at
            return
        if found is not None and self._nothing is None:
            self._begin(found[0])
            return
        unit = self._route.unit
        self._nothing = self._at_time // unit if found is None else self._nothing
        self._some = found or self._some
        low, high = self._nothing or 0, self._some[1] // unit
        if low >= high:
            self._begin(self._some[0])
        else:
            self._at_time = (low + high + 1) // 2 * unit

    def _begin(self, number: int) -> None:
        self._named, self._from = number, max(number - self._margin, 0)

    def _go_on(self, rows: Sequence[Row], ts_recv: int) -> list[Row]:
        """The new rows of a page; all ids between its first and its last are there, or lacking twice."""
        assert self._from is not None
        final, wanted = self._final or 0, self._from + self._route.limit - 1
        last, border = rows[-1], self._border
        jumps = [
            Jump(row.key + 1, later.key, row.at, later.at)
            for row, later in itertools.pairwise(rows)
            if later.key != row.key + 1 and later.at >= self.start_at and row.at < self.end_at
        ]
        if self._early(ts_recv, max([one.before for one in jumps], default=0)):
            return []
        if jumps and self._doubted != jumps[0]:
            self._doubted = jumps[0]
            raise Unstable(f"ids {jumps[0].first} to {jumps[0].end - 1} are not in the page")
        if last.key < min(final, wanted) and (border is not None or self._named is None) and len(rows) == 1:
            raise Unstable(f"ids {last.key + 1} to {min(final, wanted)} are not in the page")
        if last.key >= final + self._margin:
            self.venue_time = self.end_at
        elif last.key >= final and last.key < wanted:
            if not self._early(ts_recv, self.end_at):
                self.venue_time = self.end_at
        else:
            # what follows may be of before its time, and ids behind the period's last one have not been looked at
            known = max([row.at for row in rows if row.key <= last.key - self._margin], default=0)
            self.venue_time = max(self.venue_time, min(known, self.end_at - 1))
        self.jumps += jumps
        self._border, self._from = last, last.key
        return list(rows[1:] if border is not None else rows)
