"""The proof of a handover: a successor has what its predecessor still sends, shown by what overlaps.

Where ids (or, without any, what is told) of both meet in the merged stream, nothing lies between them. A stream on
which nothing came meanwhile has nothing to show; one that only the old connection still sends is dead on the new one.

What is waited for follows from what a stream declares. Ids that follow each other (`contiguous`) show the overlap, and
streams with a `max_silence` repeat soon; both are worth waiting for. Of others (candles, which are events at their
closings only) the next event is minutes away: that the successor was there before the old one ends is enough. Streams
that are `sparse` have nothing to show for hours.
"""

from __future__ import annotations

import msgspec

from collectors.links import LAG, Link
from collectors.pipeline import Pipeline
from market.session import Stream, StreamState


class Overlap(msgspec.Struct, frozen=True):
    """Of the `total` streams that both carry: those that overlap, those that were only to be taken on, those that came
    on the new one without an overlap, those that are silent there only, and those that are quiet on both. `idle` of
    the quiet never sent anything.
    """

    total: int
    joined: int
    taken: int
    apart: int
    silent: tuple[Stream, ...]
    idle: int

    @property
    def quiet(self) -> int:
        return self.total - self.joined - self.taken - self.apart - len(self.silent)

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.joined + self.taken + self.idle == self.total

    def said(self, heir: str) -> str:
        """What the old session's row says of it."""
        more = [
            ("taken on", self.taken),
            ("quiet", self.quiet),
            ("without overlap", self.apart),
            ("silent there", len(self.silent)),
        ]
        tail = "".join(f", {count} {what}" for what, count in more if count)
        return f"to {heir}, {self.joined} of {self.total} streams joined by ids{tail}"


def overlap(pipeline: Pipeline, old: Link, heir: Link) -> Overlap:
    """How far the successor is."""
    theirs = {state.stream.name: state for state in heir.session.streams()}
    total = joined = taken = apart = idle = 0
    silent: list[Stream] = []
    for state in old.session.streams():
        new = theirs.get(state.stream.name)
        if new is None:
            continue  # not wanted any more
        total += 1
        if pipeline.joined(heir, state.stream):
            joined += 1
        elif _taken_on(state, new, old.session.venue_time):
            taken += 1
        elif new.events:
            apart += 1
        elif not state.events:
            idle += bool(new.acknowledged_at)
        elif new.acknowledged_at and state.last_recv > new.acknowledged_at + LAG:
            silent.append(state.stream)
    return Overlap(total, joined, taken, apart, tuple(silent), idle)


def _taken_on(state: StreamState, new: StreamState, shown: int) -> bool:
    """Whether nothing more is to be waited for of a stream that speaks rarely.

    `shown` is the venue's time that the old connection has shown: events up to there came on it, and the successor has
    those from its own `since` on.
    """
    stream = state.stream
    if not new.acknowledged_at or not (stream.sparse or (stream.max_silence is None and not stream.contiguous)):
        return False
    if not new.events and state.last_recv > new.acknowledged_at + LAG:
        return False  # silent there
    if stream.sparse:
        return True
    return shown >= new.since if new.events else 0 < new.since <= shown - LAG
