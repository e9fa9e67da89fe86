"""Pressed: frames under pressure. One that holds nothing but events that are given up is not kept either."""

from __future__ import annotations

from collections.abc import Iterable

from collectors.intake import Intake, Lines, MarketKey, lines_of_frames
from market.kinds import KIND_OF_EVENT, Event
from market.session import Output, Session
from runtime.channel import Channel


class Sieve:
    """One wake-up's frames of a session: hands its outputs through, and keeps the frames that are worth it."""

    def __init__(self, intake: Intake, market: MarketKey, session: Session, channel: Channel[Lines] | None) -> None:
        self._intake = intake
        self._market = market
        self._session = session
        self._channel = channel
        self._lost = intake.loses(market)
        self._next = session.frame_no + 1
        self._kept: list[tuple[int, int, bytes]] = []
        """(number, receive time, frame)"""
        self._given_up: dict[type, bool] = {}

    def receive(self, frame: bytes, time: int) -> list[Output]:
        """What the session makes of a frame."""
        number, self._next = self._next, self._next + 1
        if self._channel is None:
            return list(self._session.receive(frame, time))
        self._kept.append((number, time, frame))
        outputs = list(self._session.receive(frame, time))
        if self._lost or (outputs and all(map(self._is_given_up, outputs))):
            self._kept.pop()
        return outputs

    def _is_given_up(self, out: Output) -> bool:
        if not isinstance(out, Event):
            return False
        found = self._given_up.get(type(out))
        if found is None:
            lane = (*self._market, KIND_OF_EVENT[type(out)])
            found = self._given_up[type(out)] = self._intake.gives_up(lane) is not None
        return found

    def keep(self) -> None:
        """The frames that are kept go to their channel, each run of numbers as one piece."""
        if self._channel is not None:
            for run in _runs(self._kept):
                session, times = self._session.session_id, [time for _, time, _ in run]
                lines = lines_of_frames(session, times, run[0][0], [frame for _, _, frame in run])
                self._channel.offer((lines,), len(lines.data))


def _runs(kept: Iterable[tuple[int, int, bytes]]) -> list[list[tuple[int, int, bytes]]]:
    runs: list[list[tuple[int, int, bytes]]] = []
    for item in kept:
        if runs and runs[-1][-1][0] + 1 == item[0]:
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs
