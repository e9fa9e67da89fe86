"""What of a recording can be believed: its lines' times, names and numbers, before a replay takes them up."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from collectors.pipeline import REFERENCE, SYMBOLS
from lake.frames import FrameLine, read_frames
from market.errors import Malformed
from market.times import DAY

_CONN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
EARLIEST = 946_684_800_000_000
"""2000-01-01: an earlier `ts_recv` is no receive time in us (but seconds, ms, or nothing)."""
MOST_FRAMES = 2**53
LAST = 2**63 - 1


def begins(path: Path) -> int:
    """The receive time (us) of a file's first line; files without one come last."""
    return next((line.ts_recv for line in read_frames(path)), LAST)


def problem(line: FrameLine, today: int) -> str | None:
    """Why a line that can be read cannot be believed; None where it can."""
    if not EARLIEST <= line.ts_recv <= today + DAY:
        return f"ts_recv {line.ts_recv} is no time in microseconds between 2000 and today"
    if not _CONN.fullmatch(line.conn):
        return f"conn {line.conn[:40]!r} is no name of a session (A-Z a-z 0-9 _ -, at most 100)"
    if not (1 if line.dir in ("recv", "http") else 0) <= line.n <= MOST_FRAMES:
        return f"n {line.n} is no number of a frame"
    try:
        if line.frame is None:
            line.data  # noqa: B018 - decodes it
        if line.dir == "open" and line.tag == REFERENCE:
            symbols(line)
    except Malformed as error:
        return str(error)
    return None


def symbols(line: FrameLine) -> list[str]:
    """What a reference session is about. Raises Malformed."""
    said = (line.headers or {}).get(SYMBOLS, "[]")
    try:
        return msgspec.json.decode(said, type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("symbols of a reference session", said) from error
