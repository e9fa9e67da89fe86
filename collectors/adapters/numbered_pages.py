"""Pages by id of routes that take no id and a time at once: a cursor alone, or a time alone. Pure.

Ids that follow each other by one prove what lies inside, as with `paging.IdPages`; how the first id of the period is
found, and how a page is asked for, is the route's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from collectors.adapters.answers import Failure
from collectors.adapters.asking import Failed
from collectors.adapters.pages import FINAL, SETTLED
from collectors.adapters.paging import IdPages, Pages, Route, Row, Seek, Unstable, meets
from market.session import Output, Stream
from market.times import SECOND

NO_SEEK = Seek("", 0, lambda _: None)
ENDLESS = 2**62
LEAD = 10 * SECOND
"""How long before a period pages by time begin."""
STRIDES = 8
"""How many times as long each stride back is, while the first id of a period is sought."""
NS = 1000
"""ns of one us."""


class CursorPages(IdPages):
    """By a cursor: `after` an id means the rows before it, newest first; nothing is asked for by time.

    The newest page is asked for. Where it does not reach back to the period, the first id of that is sought, a page at
    a time, in strides that grow and then by halving. Each page asks for just the ids that follow its border, so that
    none comes twice but the border.
    """

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route) -> None:
        super().__init__(session_id, stream, span, route, NO_SEEK)
        self._newest: int | None = None
        """The venue's newest id when it was asked for it last."""
        self._before = 0
        """No row up to this id is of the period or later."""
        self._known = 0
        """A row with this id is of the period or later."""
        self._sought = max(1, route.limit - 1)
        """Rows that a search asks for: by one fewer it can be told from a page that is to be taken."""
        self._stride = 1
        """How far before that it is looked next, at most."""

    def _next(self) -> tuple[str, str, int]:
        route = self._route
        if self._newest is None:
            return "newest", f"{route.url}?limit={self._sought}", route.weight
        if self._from is None:
            middle = self._middle
            return f"probe {middle}", f"{route.url}?limit={self._sought}&after={middle + 1}", route.weight
        count = self._count
        return f"from {self._from} {count}", f"{route.url}?limit={count}&after={self._from + count}", route.weight

    @property
    def _middle(self) -> int:
        return max((self._before + self._known) // 2, self._known - self._stride)

    @property
    def _count(self) -> int:
        """Rows of the next page: never more than there are."""
        assert self._from is not None
        assert self._newest is not None
        return max(1, min(self._route.limit, self._newest + 1 - self._from))

    def _joined(self, tag: str) -> bool:
        route, _, asked = tag.partition(" ")
        first, _, count = asked.partition(" ")
        if route != "from" or not (asked.isascii() and first.isdigit() and count.isdigit()) or len(asked) > 40:
            return False
        self._from, self._border, self._inside = int(first), None, True
        self._newest = ENDLESS if int(count) >= self._route.limit else int(first) + int(count) - 1
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        rows = self._read(body, ts_recv)
        if self._newest is None:
            if not self._newly(rows, ts_recv):
                return []
        elif self._from is None:
            self._halve(rows)
            return []
        rows = [row for row in rows if row.key >= (self._from or 0)]
        border = self._border
        if not rows:
            raise Unstable("an empty page where the venue named a row")
        if border is not None and not meets(rows, border):
            raise Unstable(f"a page that does not begin with row {border.key} as the page before it told it")
        new = self._go_on(rows, ts_recv)
        if self.early(ts_recv):
            self._newest = None  # there may be newer ones by then
        return new

    def _newly(self, rows: Sequence[Row], ts_recv: int) -> bool:
        """Take in the newest page; whether it holds what the next page is to begin with."""
        if self._from is None:
            if not rows or rows[-1].at < self.start_at:
                self._ended(ts_recv)  # nothing since the period began
                return False
            self._narrow(rows)
        elif not rows or rows[-1].key < self._from:
            raise Unstable(f"a newest page without row {self._from}, which the venue has told before")
        self._newest = rows[-1].key
        if self._from is None and (self._before or self._known == 1):
            self._from, self._first = max(self._before, 1), self._known
        return self._from is not None and rows[0].key <= self._from

    def _halve(self, rows: Sequence[Row]) -> None:
        middle = self._middle
        if any(row.key > middle for row in rows):
            raise Unstable("rows from behind the id that was asked for")
        if rows and rows[-1].at >= self.start_at:
            found = self._narrow(rows)
            self._stride = self._stride * STRIDES if self._stride > 1 else self._sought
        else:
            found, self._before, self._stride = False, middle, ENDLESS
        # once nothing lies between, the search is over: the first page begins with the row before the period
        if found or self._known - self._before <= 1:
            self._from, self._first = max(self._before, 1), self._known

    def _narrow(self, rows: Sequence[Row]) -> bool:
        """Rows of which the last is of the period or later; whether its first one is among them."""
        self._known = next(row.key for row in rows if row.at >= self.start_at)
        before = [row.key for row in rows if row.key < self._known]
        self._before = before[-1] if before else self._before
        return bool(before)

    def _ends(self, rows: Sequence[Row]) -> bool:
        return self._newest is not None and rows[-1].key >= self._newest


class SincePages(IdPages):
    """By time alone: rows after a moment (ns), oldest first, whose ids follow each other by one.

    It begins a while before the period, since the row before that proves that no row of it is left out.
    """

    def __init__(self, session_id: str, stream: Stream, span: tuple[int, int], route: Route) -> None:
        super().__init__(session_id, stream, span, route, NO_SEEK)
        self._since = max(span[0] - LEAD, 0) * NS - 1

    def _next(self) -> tuple[str, str, int]:
        route, since = self._route, self._since
        return f"since {since}", f"{route.url}&since={since}&count={route.limit}", route.weight

    def _joined(self, tag: str) -> bool:
        word, _, since = tag.partition(" ")
        if word != "since" or not (since.isascii() and since.isdigit()) or len(since) > 19:
            return False
        self._since, self._border, self._inside = int(since), None, True
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        page, border = self._read(body, ts_recv), self._border
        if any(row.at * NS + NS <= self._since for row in page):
            raise Unstable("a row from before the time that was asked for")
        rows = page if border is None else [row for row in page if row.key >= border.key]
        if border is not None and not meets(rows, border):
            raise Unstable(f"a page without row {border.key} as the page before it told it")
        if border is None and not rows:
            self._ended(ts_recv)
            return []
        if len(page) >= self._route.limit and rows[-1] is rows[0]:
            raise Unstable("more rows of one moment than a page holds")
        proven = border is not None or self._inside or rows[0].at < self.start_at or rows[0].key == 1
        if not proven and self._early(ts_recv, rows[0].at):
            return []
        self._first = rows[0].key
        new = self._go_on(rows, ts_recv)
        if self._border is rows[-1]:
            self._since = rows[-1].at * NS - 1
        return new

    def _ends(self, rows: Sequence[Row]) -> bool:
        """Nothing came but the border: how long a page is at most is not relied upon."""
        return self._border is not None and len(rows) == 1


class WholePage(Pages):
    """One answer that holds everything that there is, or the newest `route.limit` rows of it, or those of `reach` (us).

    Of rows that begin later than the period nothing says that there were none before, where it reaches further back.
    """

    def __init__(
        self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, reach: int | None = None
    ) -> None:
        super().__init__(session_id, stream, span, route)
        self._reach = reach

    def _next(self) -> tuple[str, str, int]:
        return "whole", self._route.url, self._route.weight

    def _joined(self, tag: str) -> bool:
        return tag == "whole"

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        rows = self._read(body, ts_recv)
        if len(rows) >= self._route.limit and rows[0].at > self.start_at + self._route.width:
            raise Unstable(f"the venue tells its newest {self._route.limit} rows only, which do not reach back so far")
        beyond = self._reach is not None and self.start_at < ts_recv - self._reach
        if beyond and (not rows or rows[0].at > self.start_at):
            raise Unstable("the venue tells its newest rows only, which do not reach back so far")
        self.venue_time = self.end_at
        return rows


class BackPages(Pages):
    """By time, newest first, a page of what lies before a moment: back to the row before the period, and then all of
    it at once, whose ids have to follow each other by one. `address` takes the moment (us); rows of it may come too.

    What is told back to a time only is no whole period: unless the row with the id 1 is the oldest, it is refused. As
    long as the period's end is not final, all up to now is asked for: a row behind the period proves its end.
    """

    def __init__(
        self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, address: Callable[[int], str]
    ) -> None:
        super().__init__(session_id, stream, span, route)
        self._address = address
        self._held: list[Row] = []
        """Rows of the period and behind it, oldest first."""
        self._top = span[1]
        """From where on it goes back."""
        self._last = 0
        """The newest row that was given out."""

    def start(self, now: int) -> Sequence[Output]:
        self._begin(now)
        return super().start(now)

    def tick(self, now: int) -> Sequence[Output]:
        if not self._held:
            self._begin(now)
        return super().tick(now)

    def _begin(self, now: int) -> None:
        self._top = now if self.end_at < now < self.end_at + FINAL else self.end_at

    @property
    def _until(self) -> int:
        """The border is asked for again: others may share its time."""
        return self._held[0].at + self._route.unit if self._held else self._top

    def _next(self) -> tuple[str, str, int]:
        return f"before {self._until}", self._address(self._until), self._route.weight

    def _joined(self, tag: str) -> bool:
        """Only where it begins: a replay that begins in the middle has not the rest of the period."""
        word, _, top = tag.partition(" ")
        if word != "before" or not (top.isascii() and top.isdigit()) or len(top) > 19 or int(top) < self.end_at:
            return False
        self._top, self._held = int(top), []
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        page, held = self._read(body, ts_recv), self._held
        if any(row.at > self._until for row in page):
            raise Unstable("a row from behind the time that was asked for")
        if held:
            if not any(row.key == held[0].key and row.said == held[0].said for row in page):
                raise Unstable(f"a page without row {held[0].key} as the page before it told it")
            page = [row for row in page if row.key < held[0].key]
        rows = [*page, *held]
        if any(later.key != row.key + 1 for row, later in itertools.pairwise(rows)):
            raise Unstable("ids that do not follow each other")
        if rows and (rows[0].at < self.start_at or rows[0].key <= max(self._last, 1)):
            self._held = []
            new = [row for row in rows if row.key > self._last]
            self._last = rows[-1].key
            if rows[-1].at >= self.end_at or not self._early(ts_recv, self.end_at):
                self.venue_time = self.end_at
            else:
                self.venue_time = max(self.venue_time, rows[-1].at)  # more may share its time
            return new
        if not page:
            raise Failed(
                Failure("the venue does not tell its trades back to the beginning of this period", refused=True)
            )
        self._held = rows
        return []
