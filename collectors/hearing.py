"""Listening to one channel for a moment: what came, and what of it is not as the adapter says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from collectors.http import Answer
from collectors.transports import Closed, Transport
from market.described import Described
from market.kinds import Event
from market.session import Exchange, Fetch, Leave, Output, Refused, Rejected, Send, Session
from market.shapes import Difference, Shape, differences
from runtime.clock import Clock, within

KEPT = 3
"""Frames of a channel that are kept for a look."""
TURN_SECONDS = 0.25
NO_TYPE = "a message of no known type"


class Heard:
    """What came on a channel. `frames` are those that tell something of it: not answers, pongs and heartbeats, of
    which every field may be missing.
    """

    def __init__(self, exchange: Exchange, shapes: Mapping[str, Shape]) -> None:
        self._exchange = exchange
        self._shapes = shapes
        self._messages: Counter[str] = Counter()
        self._changed: dict[tuple[str, str, str], tuple[Difference, int]] = {}
        self.frames = self.events = self.rejected = 0
        self.seconds = 0.0
        self.refused = self.reason = self.ended = ""
        self.kept: list[bytes] = []

    def take(self, frame: bytes, said: Sequence[Output]) -> None:
        """A frame, and what the session said of it."""
        self.heed(said)
        if not isinstance(self._exchange, Described):
            self.frames += any(isinstance(out, Event) for out in said)
            return
        try:
            known = self._exchange.described(msgspec.json.decode(frame))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if known is None:
            return
        message, part = known
        shape = self._shapes.get(message)
        if shape is not None and not shape.required and shape.items is None:
            return
        self.frames += 1
        self._messages[message] += 1
        if len(self.kept) < KEPT:
            self.kept.append(frame)
        found = [Difference("added", "", NO_TYPE)] if shape is None else differences(shape, part)
        for one in found:
            key = (message, one.change, one.path)
            named = msgspec.structs.replace(one, path=f"{message}: {one.path}" if one.path else message)
            self._changed[key] = (named, self._changed.get(key, (one, 0))[1] + 1)

    def heed(self, said: Sequence[Output]) -> None:
        """What the session said, of a frame or of anything else."""
        for out in said:
            self.events += isinstance(out, Event)
            if isinstance(out, Refused):
                self.refused = out.reason
            elif isinstance(out, Rejected):
                self.rejected += 1
                self.reason = self.reason or out.reason
            elif isinstance(out, Leave):
                self.ended = f"{out.cause}: {out.detail}"

    def changed(self) -> list[Difference]:
        """What is not as described; of what is missing or another type only what was so in most messages:
        what a venue pushes when it is subscribed to may be older than a change.
        """
        return [
            one
            for (message, change, _), (one, count) in self._changed.items()
            if change == "added" or 2 * count > self._messages[message]
        ]


class Talk:
    """One session over an open transport, until enough was heard or the time is over."""

    def __init__(
        self, session: Session, transport: Transport, heard: Heard, clock: Clock,
        fetch: Callable[[Fetch], Awaitable[Answer | str]],
    ) -> None:  # fmt: skip
        self._session = session
        self._transport = transport
        self._heard = heard
        self._clock = clock
        self._fetch = fetch

    async def run(self, enough: int, seconds: float) -> None:
        """Until `enough` more frames have come, or for `seconds`."""
        clock, heard, session = self._clock, self._heard, self._session
        began, wanted = clock.monotonic(), heard.frames + enough
        said = session.start(clock.now())
        try:
            while not heard.ended and not heard.refused:
                await self._carry_out(said)
                left = began + seconds - clock.monotonic()
                if left <= 0 or heard.frames >= wanted:
                    break
                said = [*await self._receive(min(left, TURN_SECONDS)), *session.tick(clock.now())]
        except Closed as closed:
            heard.ended = f"the venue closed it: {closed}"
        finally:
            heard.seconds += clock.monotonic() - began

    async def _receive(self, seconds: float) -> Sequence[Output]:
        try:
            frames, times = await within(self._clock, seconds, self._transport.receive())
        except TimeoutError:
            return ()
        found: list[Output] = []
        for frame, at in zip(frames, times, strict=False):
            said = self._session.receive(frame, at)
            self._heard.take(frame, said)
            found += said
        return found

    async def _carry_out(self, said: Sequence[Output]) -> None:
        self._heard.heed([out for out in said if isinstance(out, Leave)])
        for out in said:
            if isinstance(out, Send):
                await self._transport.send(out.text)
            elif isinstance(out, Fetch):
                answer = await self._fetch(out)
                if not isinstance(answer, str):
                    now = self._clock.now()
                    told = self._session.respond(out.tag, answer.status, answer.headers, answer.body, now)
                    self._heard.heed(told)
