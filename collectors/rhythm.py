"""How long a stream may be quiet before it is suspected: its own rhythm, by the time of the day.

Pure. Of each quarter of an hour the longest spell without an event is remembered for a day. What is ordinary now is
what four in five of the windows that resemble it stayed below: those of the last hour, and of yesterday around the same
time. A stream is suspected after FACTOR times that, so that nothing has to be set for a symbol and a night is no alarm;
an odd window does not move it. Only spells that are believed are learnt: those that ended by themselves, and those of
which a probe showed that nothing was missed.
"""

from __future__ import annotations

from array import array

from market.session import StreamState
from market.times import HOUR, MINUTE, SECOND

WINDOW = 15 * MINUTE
DAY_WINDOWS = 96
KEPT = 104
"""Windows that are remembered: a day, and an hour on both sides."""
RECENT, AROUND = 5, 4
"""Windows up to now, and on each side of the same time yesterday, that say what is ordinary."""
FACTOR, TWICE = 3, 2
LEAST = 15 * SECOND
"""No stream is suspected sooner."""
MOST = HOUR
"""Every stream is, that declares no `max_silence`, after so long."""
START = MINUTE
"""The bound of a stream of which nothing is known yet."""
SLOW_FACTOR = 20
"""Until its first window is known a stream is suspected after so many of its mean gaps."""
YOUNG_EVENTS = 20
YOUNG_SPAN = 30 * SECOND
"""What a mean gap has to be taken from, at least."""
_UNKNOWN = 0xFFFF
_LONGEST = _UNKNOWN - 1


class Rhythm:
    """What is known of one (kind, symbol), whichever connection carries it; or of one connection."""

    __slots__ = ("_at", "_longest", "_newest", "_usual", "replace_after", "replaced")

    def __init__(self) -> None:
        self._longest = array("H", [_UNKNOWN]) * KEPT
        """Seconds, by number of the window modulo KEPT."""
        self._newest = 0
        self._usual: int | None = None
        self._at = -1
        """The window in which `_usual` was found."""
        self.replaced = 0
        """Of a connection: how often it was replaced for its streams, one time soon after the other."""
        self.replace_after = 0
        """When (us) that may be done again."""

    def learn(self, spell: int, now: int) -> None:
        """A spell (us) without an event that ended at `now`, or goes on, was no fault: it is of all windows it touched;
        0 says that there were events.
        """
        last = now // WINDOW
        self._turn(last)
        first = max((now - spell) // WINDOW, last - KEPT + 1)
        seconds = min(-(-spell // SECOND), _LONGEST)
        for window in range(first, last + 1):
            held = self._longest[window % KEPT]
            if held == _UNKNOWN or held < seconds:
                self._longest[window % KEPT] = seconds
        self._at = -1

    def bound(self, now: int, max_silence: int | None, young: int = START) -> int:
        """How long (us) it may be quiet: never less than LEAST, never more than MOST, nor than `max_silence` where it
        declares one and is not quiet for longer by habit (TWICE what is usual); `young` is taken where no window is
        known.
        """
        window = now // WINDOW
        if window != self._at:
            self._turn(window)
            self._at, self._usual = window, self._ordinary(window)
        usual = self._usual
        asked = young if usual is None else FACTOR * usual
        most = MOST if max_silence is None else max(max_silence, TWICE * (usual or 0))
        return max(LEAST, min(asked, most, MOST))

    @property
    def known(self) -> bool:
        """Whether anything was learnt of the windows that the last `bound` looked at."""
        return self._usual is not None

    def _ordinary(self, window: int) -> int | None:
        yesterday = window - DAY_WINDOWS
        alike = [*range(window - RECENT + 1, window + 1), *range(yesterday - AROUND + 1, yesterday + AROUND + 1)]
        known = sorted(held for one in alike if (held := self._longest[one % KEPT]) != _UNKNOWN)
        return known[-(-4 * len(known) // 5) - 1] * SECOND if known else None

    def _turn(self, window: int) -> None:
        """Forget the windows that lie a day and more before `window`."""
        if window <= self._newest:
            return
        for one in range(max(self._newest + 1, window - KEPT + 1), window + 1):
            self._longest[one % KEPT] = _UNKNOWN
        self._newest = window


def young(state: StreamState) -> int:
    """The bound (us) that a stream's first minutes suggest."""
    span = state.last_recv - state.first_recv
    if state.events < YOUNG_EVENTS or span < YOUNG_SPAN:
        return START
    return min(START, SLOW_FACTOR * span // (state.events - 1))


class Rhythms:
    """The rhythms of one market, kept over its connections."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Rhythm] = {}

    def of(self, kind: str, symbol: str) -> Rhythm:
        """That of a stream, made at first use."""
        found = self._held.get((kind, symbol))
        if found is None:
            found = self._held[kind, symbol] = Rhythm()
        return found
