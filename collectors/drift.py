"""The drift radar: whether the messages of a market still look as its adapter says. Pure: frames and time come in.

Unknown fields are not looked for in every frame. Of each session the first frames of every kind are set aside, then one
of each kind a minute, every frame that the session refused, and those that came with a word it had not counted before;
of each route the first answers, then one a minute. They are decoded without types a few at a time, in the pass and not
in the path of a frame, and compared with their shapes (`market.shapes`), their prices and quantities with those before
(`collectors.scales`). Nothing that is found changes how a frame is read.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from collectors.scales import Scales
from market.described import Described
from market.kinds import Contract, Event
from market.session import Session
from market.shapes import Difference, differences
from market.times import MINUTE

FIRST, EVERY = 3, MINUTE
"""Frames of each kind that are looked at when a session begins, and how often (us) one is afterwards."""
CONFIRMED = 3
"""Messages that have to show a change before it is told; of a key that is missing or another type, in a row."""
A_LOOK, WAITING = 4, 64
"""Messages compared in one look, and those that wait for it at most."""
EVENTS, ODD = 16, 16
"""Events of a batch whose numbers are held against those before, and frames of a batch with something unheard of."""
MOST_FRAME, MOST_ANSWER = 64 * 1024, 256 * 1024
"""Bytes of a frame, and of an answer, above which it is left alone: decoding it would hold up the loop."""
MOST_KNOWN = 500
"""Changes of one market that are told apart."""
ANSWER = "GET "
NO_TYPE = Difference("added", "", "a message of no known type")
Key = tuple[str, str, str]
"""(message, change, path)"""
Batch = Callable[[str], Sequence[Event]]
"""Kind -> the events of the batch of frames in hand."""


class Drift(msgspec.Struct, frozen=True):
    """One change of how a venue's messages look. `change`: `message` where its type is not known, else as of
    `market.shapes`. `at` (us) and `session` say where it was seen first.
    """

    exchange: str
    market_type: str
    message: str
    change: str
    path: str
    detail: str
    session: str
    at: int

    @property
    def key(self) -> Key:
        return (self.message, self.change, self.path)


class Sampler:
    """Which frames of one session are to be looked at: none while nothing is `wanted` and there are no new `words`."""

    def __init__(self, radar: Radar, session: Session) -> None:
        self._radar = radar
        self._session = session
        self._next = 0
        self.wanted: dict[str, int] = {}
        """Kind -> how many of its frames are wanted at once."""
        self.words = len(session.ignored)
        """How many words for what is no event the session had when it was last looked at."""

    def tick(self, now: int, kinds: Callable[[], Iterable[str]]) -> None:
        """Time has passed: each of its kinds is looked at again when its turn has come."""
        if now >= self._next:
            count = 1 if self._next else FIRST
            self.wanted = dict.fromkeys(kinds(), count)
            self._next = now + EVERY

    def take(self, frames: Sequence[bytes], batch: Batch) -> None:
        """Set aside what is wanted of frames that the session has just been given."""
        first = self._session.frame_no - len(frames) + 1
        for kind in tuple(self.wanted):
            events = batch(kind)
            place = events[0].frame_no - first if events else -1
            if 0 <= place < len(frames):
                self.wanted[kind] -= 1
                if not self.wanted[kind]:
                    del self.wanted[kind]
                self._radar.offer(frames[place], self._session.session_id, partial(self.again, kind))
                self._radar.weigh(kind, events[:EVENTS], self._session.session_id)
        if len(self._session.ignored) != self.words:
            self.words = len(self._session.ignored)
            for frame in frames[-ODD:]:
                self._radar.offer(frame, self._session.session_id)

    def again(self, kind: str) -> None:
        """What was found in a frame of that kind wants to be seen in others."""
        self.wanted[kind] = max(self.wanted.get(kind, 0), CONFIRMED - 1)


class _Sample(msgspec.Struct, frozen=True):
    data: bytes
    session: str
    message: str
    again: Callable[[], None] | None


class Radar:
    """One market. `look` says what has changed, each change once; what an earlier run has told is `known`."""

    def __init__(
        self, adapter: Described, exchange: str, market_type: str, contracts: Mapping[str, Contract] | None = None
    ) -> None:
        self._adapter = adapter
        self.as_of = adapter.AS_OF
        self.market = (exchange, market_type)
        self._shapes = adapter.SHAPES.get(market_type, {})
        self._waiting: deque[_Sample] = deque()
        self._scales = Scales()
        self._said: dict[Key, Drift | None] = {}
        self._rows: dict[Key, int] = {}
        """In how many messages of its sort in a row a change was seen."""
        self._weighed: list[tuple[str, Difference, str]] = []
        self._answers: dict[str, tuple[int, int]] = {}
        """Route -> how many of its answers were looked at, and when (us) the next one is."""
        self._contracts = contracts if contracts is not None else {}
        self.seen: Counter[str] = Counter()
        """Message -> how many were compared."""
        self.counted: Counter[Key] = Counter()
        """How many messages showed each change."""
        self._unreported: Counter[str] = Counter()

    def know(self, told: Iterable[Drift]) -> None:
        """Changes that were told before: they are counted, and not told again."""
        for one in told:
            if len(self._said) < MOST_KNOWN:
                self._said.setdefault(one.key, one)

    def offer(self, data: bytes, session: str, again: Callable[[], None] | None = None, message: str = "") -> None:
        """A frame to compare, or an answer, whose `message` is known. What is too large or too much is left alone."""
        if len(data) <= (MOST_ANSWER if message else MOST_FRAME) and len(self._waiting) < WAITING:
            self._waiting.append(_Sample(bytes(data), session, message, again))

    def answer(self, tag: str, status: int, body: bytes, session: str, now: int) -> None:
        """An answer came to what is asked under `tag`."""
        route = tag.partition(" ")[0]
        count, due = self._answers.get(route, (0, 0))
        if status == 200 and (count < FIRST or now >= due):
            self._answers[route] = (count + 1, now + EVERY)
            self.offer(body, session, message=ANSWER + route)

    def weigh(self, kind: str, events: Sequence[Event], session: str) -> None:
        """Hold the numbers of events against those before."""
        self._weighed += [(kind, one, session) for one in self._scales.look(events, self._contracts)]

    def look(self, now: int) -> list[Drift]:
        """Compare a few of the messages that wait; what has changed that was not told before."""
        found: list[Drift] = []
        for _ in range(min(A_LOOK, len(self._waiting))):
            found += self._compare(self._waiting.popleft(), now)
        if self._weighed:
            weighed, self._weighed = self._weighed, []
            for kind, difference, session in weighed:
                found += self._tell(kind, difference, session, now, CONFIRMED)
        return found

    def unreported(self) -> list[tuple[str, int]]:
        """Change -> how many messages showed it since the last time."""
        if not self._unreported:
            return []
        found, self._unreported = self._unreported, Counter()
        return list(found.items())

    def status(self) -> dict[str, object]:
        """How many messages were compared, and each change with the messages that showed it."""
        changes = [
            {
                "message": key[0], "change": key[1], "path": key[2], "messages": self.counted[key],
                "detail": drift.detail if drift is not None else "", "at": drift.at if drift is not None else None,
            }
            for key, drift in self._said.items()
        ]  # fmt: skip
        return {"as_of": self.as_of, "compared": sum(self.seen.values()), "changes": changes}

    def _compare(self, sample: _Sample, now: int) -> list[Drift]:
        try:
            value = msgspec.json.decode(sample.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []  # no JSON: the session has said what it thinks of that
        if sample.message:
            message, part = sample.message, value
        else:
            known = self._adapter.described(value)
            if known is None:
                return []
            message, part = known
        shape = self._shapes.get(message)
        if shape is None:
            return self._tell(message[:100], NO_TYPE, sample.session, now)
        self.seen[message] += 1
        others = differences(shape, part)
        held = {(message, one.change, one.path) for one in others}
        for key in [key for key in self._rows if key[0] == message and key not in held]:
            del self._rows[key]
        told: list[Drift] = []
        for one in others:
            key = (message, one.change, one.path)
            if len(self._rows) < MOST_KNOWN or key in self._rows:
                self._rows[key] = self._rows.get(key, 0) + 1
            told += self._tell(message, one, sample.session, now, self._rows.get(key, 0))
        if sample.again is not None and any(key not in self._said for key in held):
            sample.again()
        return told

    def _tell(self, message: str, one: Difference, session: str, now: int, in_a_row: int = CONFIRMED) -> list[Drift]:
        """Count a change; it is told when enough messages have shown it, and never again."""
        change = "message" if one == NO_TYPE else one.change
        key = (message, change, one.path)
        if key not in self.counted and len(self.counted) >= MOST_KNOWN:
            return []
        self.counted[key] += 1
        self._unreported[change] += 1
        enough = self.counted[key] >= CONFIRMED if change == "added" else in_a_row >= CONFIRMED
        if key in self._said or not enough or len(self._said) >= MOST_KNOWN:
            return []
        drift = Drift(*self.market, message, change, one.path, one.detail, session, now)
        self._said[key] = drift
        return [drift]
