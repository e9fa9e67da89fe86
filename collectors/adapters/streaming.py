"""What sessions of venues with topics and client pings have in common: life, silence. Pure.

A member says how a frame is read (`_frame`), how it subscribes (`_write`) and how it pings (`_ping`). Of a connection
whose venue answers pings, a frame of any kind proves the socket; that streams speak is for their own alarms to say,
and for the first of them here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from collectors.adapters.counting import NOTHING, Counting
from collectors.adapters.lifetime import lifetime
from collectors.adapters.reading import BAD_FRAME
from collectors.adapters.silence import silent_at
from collectors.adapters.subscribing import Subscriber
from market.session import Connection, Leave, Limits, Output, Send, Stream, StreamState
from market.times import DAY, SECOND

NAME_LIMIT = 128
STATES_LIMIT = 20_000


class StreamingSession(Counting, ABC):
    """`market.session.Session` of one connection; with `learn` it sends nothing and takes the streams that it meets.

    `ping_every` (us) is how often the venue wants a ping of ours.
    """

    def __init__(
        self, connection: Connection, session_id: str, limits: Limits, ping_every: int | None, *, learn: bool
    ) -> None:
        super().__init__(learn=learn)
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.market_type = connection.market_type
        self.states = {stream.name: StreamState(stream) for stream in connection.streams}
        self.subscriber = Subscriber(() if learn else connection.streams, self.states, limits, self._write)
        self._limits = limits
        self._life = lifetime(connection, limits, session_id)
        self._ping_every = ping_every
        self._ping_at = 0
        self._placed = True
        """Whether all acknowledged streams have their `since`."""
        self._started = 0
        self._checked_frame = self._checked_at = 0
        self._spoken = False
        """Whether any stream was known to have sent something when that was last asked."""
        self._forsaken = False
        """Whether it has said that nothing comes any more, though it is answered."""

    # --- what a member says ---

    @abstractmethod
    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """What a frame says; one that says nothing is counted (`ignore`)."""

    @abstractmethod
    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        """The request to subscribe to streams, or to end that (`collectors.adapters.subscribing`)."""

    @abstractmethod
    def _ping(self, now: int) -> str:
        """The ping of ours, where the venue wants one."""

    @abstractmethod
    def _asked(self, text: str, now: int) -> None:
        """What a frame of ours in a recording asked for (`desire`). Raises BAD_FRAME."""

    def _subscribes_at(self) -> int:
        """From when on (us) it subscribes to anything."""
        return 0

    def _more(self, now: int) -> Sequence[Output]:
        """What else is due, and may be asked for with `subscriber`."""
        del now
        return NOTHING

    def _more_at(self) -> int | None:
        """When `_more` has something to do."""
        return None

    # --- market.session.Session ---

    def start(self, now: int) -> Sequence[Output]:
        self._started = self._checked_at = now
        self._ping_at = now + (self._ping_every or 0)
        for state in self.states.values():
            state.desired_at = now
        return NOTHING if self.learn or now < self._subscribes_at() else self.subscriber.tick(now)

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        return self._frame(frame, ts_recv, self.frame_no)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        """Nothing is asked over HTTP here."""
        del tag, status, headers, body, ts_recv
        self._checked_frame += self._checked_frame == self.frame_no  # no sign of life of the socket
        self.frame_no += 1
        return self.reject("an answer to nothing that was asked", None, self.frame_no)

    def sent(self, text: str, now: int) -> None:
        """A frame that a recorded session sent: the streams it asked for (`market.session.Heeding`)."""
        if self.learn:
            with suppress(*BAD_FRAME):
                self._asked(text, now)

    def tick(self, now: int) -> Sequence[Output]:
        if self.learn:
            return NOTHING
        out = [*self._more(now)]
        if now >= self._subscribes_at():
            out += self.subscriber.tick(now)
        if self._ping_every is not None and now >= self._ping_at:
            self._ping_at = now + self._ping_every
            out.append(Send(self._ping(now)))
        if now >= self._end_of_life():
            out.append(Leave("planned", "its life is over"))
        elif self._checked_frame != self.frame_no:
            self._checked_frame, self._checked_at = self.frame_no, now
        if (leave := self._silent(now)) is not None:
            out.append(leave)
        return out

    def next_deadline(self) -> int | None:
        if self.learn:
            return None
        times = [self._end_of_life(), self._checked_at + self._limits.silent_socket]
        if self._checked_frame != self.frame_no:
            times.append(self._checked_at + self._limits.silent_socket // 4)
        if self._ping_every is not None:
            times.append(self._ping_at)
        if (asked := self.subscriber.deadline()) is not None:
            times.append(max(asked, self._subscribes_at()))
        if (more := self._more_at()) is not None:
            times.append(more)
        times += [due for due in (self._first_by(), self._data_by()) if due is not None]
        return min(times)

    def streams(self) -> Iterable[StreamState]:
        return self.states.values()

    def renew(self, streams: Sequence[Stream]) -> None:
        """Ask for these anew with the next `tick` (`market.probing.Renewing`)."""
        for stream in streams:
            self.subscriber.renew([stream], silent=True)

    # --- for parsers ---

    def as_of(self, ts_recv: int) -> int:
        """The time (us) of what says none: the newest that the venue has told, or where it has told none for more than
        a day, that of its receipt: so far behind is no clock.
        """
        return self.venue_time if ts_recv - self.venue_time <= DAY else ts_recv

    def heard(self, state: StreamState, ts_recv: int, time: int) -> None:
        """A frame of a stream was understood; `time` is its venue time (us)."""
        self.venue_time = max(self.venue_time, time)
        state.events += 1
        state.last_recv = ts_recv
        if ts_recv == state.first_recv:
            state.at_once += 1
        elif not state.first_recv:
            state.first_recv, state.first_event = ts_recv, time
            self._place()

    def met(self, stream: Stream, ts_recv: int) -> StreamState | None:
        """The state of a stream first met in a recording; None where there are too many."""
        if len(self.states) >= STATES_LIMIT:
            return None
        return self.states.setdefault(stream.name, StreamState(stream, desired_at=ts_recv, acknowledged_at=ts_recv))

    def answered(self, outputs: Sequence[Output] | None) -> Sequence[Output]:
        """What an answer of the venue led to; one that led to nothing is counted."""
        if not outputs:
            return self.ignore("answer")
        self._placed = False
        self._place()
        return outputs

    def refused(self, outputs: Sequence[Output] | None, number: int) -> Sequence[Output]:
        """What the venue's refusal led to, None where no request explains it."""
        if outputs is None and not self.learn:
            return self.reject("the venue reports an error that no request explains", None, number)
        return self.answered(outputs)

    def desire(self, asked: int, states: Iterable[StreamState | None], now: int) -> list[StreamState]:
        """Request `asked` of a recording wanted these: its answer is then understood. None are left out."""
        found = [state for state in states if state is not None]
        for state in found:
            state.desired_at = state.desired_at or now
        self.subscriber.sent(asked, tuple(state.stream for state in found), now)
        return found

    # --- inside ---

    def _place(self) -> None:
        """Streams that were acknowledged are there from the venue's time that is known then."""
        if not self._placed and self.venue_time:
            self._placed = True
            for state in (state for state in self.states.values() if state.acknowledged_at and not state.since):
                state.since = self.venue_time

    def _end_of_life(self) -> int:
        return self._started + self._life

    def _first_by(self) -> int | None:
        """By when something must have come; None where it has, or where all streams may be silent for long."""
        if self._spoken:
            return None
        states = self.states.values()
        self._spoken = any(state.events for state in states)
        if self._spoken or all(state.stream.max_silence is None for state in states):
            return None
        return self._started + self._limits.first_message

    def _silent(self, now: int) -> Leave | None:
        first = self._first_by()
        if first is not None and now >= first:
            quiet = (now - self._started) // SECOND
            return Leave("no_first_message", f"no stream sent anything in {quiet} s: restricted address?")
        if now >= self._checked_at + self._limits.silent_socket:
            return Leave("silence", f"no frame for {(now - self._checked_at) // SECOND} s")
        if (due := self._data_by()) is not None and now >= due:
            self._forsaken = True
            quiet = now - max(state.last_recv for state in self.states.values())
            return Leave("silence", f"nothing of any stream for {quiet // SECOND} s, though it answers")
        return None

    def _data_by(self) -> int | None:
        """By when the next event must come; None where nothing says so, or where it was said already."""
        return None if self._forsaken else silent_at(self.states.values())
