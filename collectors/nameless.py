"""What a recording of somebody else tells without an id, beside what own capture and files have: these go first.

Such an event cannot be told from one that the lake has. Inside what own capture or a file covers it is left out and
counted; in gaps of own capture, and outside, it is taken. Which of them are is told by what the lake says of coverage
and gaps alone, so that frames that are read again become the same rows; a file covers what nothing did before it came.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Sequence

from collectors.holes import venue_time
from collectors.slices import URL
from lake import overlaps, tables
from lake.manifest import Manifest
from lake.overlaps import Spans
from market.kinds import Event


class Beside:
    """`held` tells what own capture and files cover of a kind; it is asked when the first such event comes.

    `first`: where own frames are read beside, mergers are not to see what is left out, which may have come sooner.
    """

    def __init__(self, held: Callable[[str], Spans], *, first: bool = False) -> None:
        self.first = first
        self.left: Counter[str] = Counter()
        """Kind -> events that were left out."""
        self._held = held
        self._spans: dict[str, Spans] = {}
        self._foreign: set[str] = set()

    def opened(self, session: str, url: str) -> None:
        """A session begins; those of a recording are told by their address."""
        if url.startswith(URL):
            self._foreign.add(session)

    def keep(self, kind: str, events: Sequence[Event]) -> Sequence[Event]:
        """Those that are rows."""
        if not self._foreign:
            return events
        kept = [event for event in events if event.session not in self._foreign or not self._is_held(kind, event)]
        self.left[kind] += len(events) - len(kept)
        return kept

    def _is_held(self, kind: str, event: Event) -> bool:
        ids = tables.identity_columns(kind)
        if not ids or any(getattr(event, name) is not None for name in ids):
            return False
        if kind not in self._spans:
            self._spans[kind] = self._held(kind)
        spans, at = overlaps.of_symbol(self._spans[kind], event.symbol), venue_time(event)
        place = bisect.bisect_right(spans, at, key=lambda span: span[0]) - 1
        return place >= 0 and at < spans[place][1]


def beside(manifest: Manifest, exchange: str, market_type: str, *, again: bool = False) -> Beside:
    """What this lake's own capture of a market covers, and what imported files do. `again`: all frames are read again,
    the recording's and our own; gaps that were closed since were gaps when the recording was taken in.
    """

    def held(kind: str) -> Spans:
        rows = manifest.sessions(exchange, market_type)
        # a file of an archive covers whole days, also what a recording had told of before
        others = [row.session for row in rows if row.url.startswith(URL) or row.source == "archive"]
        return overlaps.covered(manifest, exchange, market_type, kind, others, files=True, closed=again)

    return Beside(held, first=again)
