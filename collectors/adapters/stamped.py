"""Ids of messages that the venue does not number: their times (us), one more where one is told again. Pure."""

from __future__ import annotations


class Stamped:
    """By stream. Two messages of one time are two: with one id the second would be taken for a copy of the first."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, int]] = {}
        """Stream -> (time, id) of its newest message."""

    def number(self, stream: str, time: int) -> int:
        """The id of the stream's next message, which is of `time` (us)."""
        newest, given = self._newest.get(stream, (0, 0))
        made = max(time, given + 1) if time >= newest else time
        self._newest[stream] = (time, made)
        return made
