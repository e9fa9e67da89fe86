"""What waits for the disk, read back: the events and frames that a pass holds as lines."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from collectors.intake import LaneKey, Lines
from lake.frames import FrameLine
from lake.segments import decode_line
from market.kinds import Event


def events_of(lane: LaneKey, held: Iterable[Lines]) -> list[Event]:
    """The events of one lane, in order."""
    return [decode_line(lane[2], line) for lines in held for line in lines.data.splitlines()]


def frames_of(held: Iterable[Lines]) -> list[FrameLine]:
    """The lines of a market's frames, in order."""
    return [msgspec.json.decode(line, type=FrameLine) for lines in held for line in lines.data.splitlines()]
