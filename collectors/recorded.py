"""What of a recording can be believed: its lines' times, names and numbers, before a replay takes them up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from collectors.links import Link, Reminded
from collectors.pipeline import POLL
from collectors.slices import URL, SliceReader
from collectors.unsettled import CRASH
from lake.frames import FrameLine, FramesReader, read_frames
from lake.manifest import Manifest
from market.errors import Malformed
from market.kinds import Contract, Event
from market.session import Connection, Endpoint, Exchange, Polled, Session
from market.times import DAY

_CONN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_NAME = re.compile(r"([a-z0-9]+)-([0-9]{15,16})-([0-9]+)")
_CAUSE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PLANNED = ("stopped", "done", "end_of_frames")
"""Causes of an end after which nothing was wanted any more."""
EARLIEST = 946_684_800_000_000
"""2000-01-01: an earlier `ts_recv` is no receive time in us (but seconds, ms, or nothing)."""
MOST_FRAMES = 2**53
REFERENCE = "reference"
"""Tag in older recordings of a session that asks for instruments."""
KIND, SYMBOLS, KNOWN, SPAN = "kind", "symbols", "known", "span"
"""Headers of the open line of a session that only fetches: what it asks for, a JSON list of whom it asks about, the
instruments that it was told of, as JSON, and of history the period, [from, to] in us.
"""
LAST = 2**63 - 1
DAMAGE_SHOWN = 10
"""Lines of one file that are named one by one where they are none; the others are counted."""


class Held(NamedTuple):
    """How many frames of a connection the lake had before, how many it has now, when the former were received, and its
    address.
    """

    frames: int
    here: int
    first: int
    last: int
    url: str


class Skipped(NamedTuple):
    """Numbers [start, stop) of frames that are in no file although later ones are, received from `since` to `until`."""

    start: int
    stop: int
    since: int
    until: int


def skipped(link: Link, line: FrameLine) -> Skipped:
    """The frames between what was taken of a connection and its next line."""
    return Skipped(link.session.frame_no + 1, line.n, max(link.heard, link.row.opened_at), line.ts_recv)


def held(manifest: Manifest, conn: str) -> Held:
    """What the lake has of a connection."""
    rows = [row for row in manifest.sessions(session=conn) if row.closed_at is not None]
    frames = max((row.frames for row in rows), default=0)
    # the end of an interrupted session is only known roughly
    ends = [LAST if row.close_cause == CRASH else row.closed_at or 0 for row in rows]
    first = min((row.opened_at for row in rows), default=0)
    return Held(frames, frames, first, max(ends, default=0), next((row.url for row in rows), ""))


def begins(path: Path) -> int:
    """The receive time (us) of a file's first line; files without one come last."""
    return next((line.ts_recv for line in read_frames(path)), LAST)


def ended(line: FrameLine) -> tuple[str, str, bool]:
    """Of a line that ends a connection: the cause in a word, what more is said, and whether more was wanted then."""
    cause, _, detail = (line.reason or "disconnect").partition(": ")
    if not _CAUSE.fullmatch(cause):  # causes are words of ours, whatever a foreign file says
        cause, detail = "disconnect", line.reason or ""
    return cause, detail, cause not in _PLANNED


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
        polled(line)
    except Malformed as error:
        return str(error)
    return None


def session(exchange: Exchange, market_type: str, line: FrameLine) -> tuple[Session, dict[str, str] | None]:
    """A session that takes what it meets, or one that only fetches, with what the line that opens it says of it."""
    asked = polled(line)
    if asked is not None:
        made = exchange.poller(market_type, line.conn, asked, Endpoint(rest=line.url or "", ws={}))
        return made, headers(asked)
    connection = Connection(exchange.NAME, market_type, line.conn, line.url or "", ())
    return exchange.session(connection, line.conn, learn=True), None


def killed(opening: FrameLine, others: Iterable[str]) -> list[str]:
    """Those of `others`, connections of which no frame has told the end, that had ended when this line opened one: it
    is of another process. One numbers its connections as it makes them (`<node>-<us>-<number>`), and only a new one
    begins anew.
    """
    name = _NAME.fullmatch(opening.conn)
    if opening.dir != "open" or name is None or (opening.url or "").startswith(URL):
        return []
    node, start, number = name[1], int(name[2]), int(name[3])
    found = [(other, theirs) for other in others if (theirs := _NAME.fullmatch(other)) is not None]
    before = [(other, int(theirs[3])) for other, theirs in found if theirs[1] == node and int(theirs[2]) < start]
    return [other for other, _ in before] if any(theirs >= number for _, theirs in before) else []


def remind(link: Link | None, said: Iterable[Event]) -> None:
    """Tell a session that goes on from frames that are not read what these said last."""
    if link is not None and isinstance(link.session, Reminded):
        for event in said:
            link.session.remind(event)


def frameless(path: Path, today: int) -> str | None:
    """Why there is nothing in a frames file that can be taken, None where there is something."""
    reader = read_frames(path)
    number, refused, wrong = 0, 0, list[tuple[int, str]]()
    for number, (_, line) in enumerate(reader.pairs(), start=1):
        why = None if line is None else problem(line, today)
        if line is not None and why is None:
            return None
        if why is not None:
            refused += 1
            wrong += [(number, why)] if refused <= DAMAGE_SHOWN else []
    return damage(path.name, reader, number, refused, wrong)[0][0]


def damage(
    name: str, reader: FramesReader | SliceReader, lines: int, refused: int, wrong: list[tuple[int, str]]
) -> tuple[list[str], int]:
    """What of a file was no frame, in words, and how many lines were none: nothing is passed over in silence.

    `refused` lines could be read and not believed, `wrong` are the first of them.
    """
    torn = sum(one.torn for one in reader.damage)
    bad = reader.bad + refused
    told = sorted([*wrong, *((one.number, one.reason) for one in reader.damage)])
    if bad == lines:
        first = f" (line {told[0][0]}: {told[0][1]})" if told else ""
        if lines:
            what = f"none of its {lines:,} lines is one"
        elif told:
            what = "there is no line in it"
        else:
            what = "it is empty" if reader.finished else "its compressed data ends before the first line does"
        return [f"{name} is no frames file: {what}{first}"], max(bad + torn, 1)
    said = [f"{name}:{number}: {reason}" for number, reason in told[:DAMAGE_SHOWN]]
    if bad + torn > DAMAGE_SHOWN:
        said.append(f"{name}: and {bad + torn - DAMAGE_SHOWN:,} more lines that are none")
    if not reader.finished and not torn:
        said.append(f"{name}: its compressed data ends before their end; what was there is taken")
        return said, bad + 1
    return said, bad + torn


def headers(asked: Polled) -> dict[str, str]:
    """What the open line of a session says of it, so that its answers can be read again."""
    said = {KIND: asked.kind, SYMBOLS: msgspec.json.encode(asked.symbols).decode()}
    if asked.known:
        said[KNOWN] = msgspec.json.encode(asked.known).decode()
    if asked.span is not None:
        said[SPAN] = msgspec.json.encode(asked.span).decode()
    return said


def polled(line: FrameLine) -> Polled | None:
    """What the session that a line opens was asked for; None where it is no session that only fetches.

    Raises Malformed.
    """
    if line.dir != "open" or line.tag not in (POLL, REFERENCE):
        return None
    said = line.headers or {}
    try:
        return Polled(
            "contract" if line.tag == REFERENCE else said[KIND],
            msgspec.json.decode(said.get(SYMBOLS, "[]"), type=tuple[str, ...]),
            known=msgspec.json.decode(said.get(KNOWN, "[]"), type=tuple[Contract, ...]),
            span=msgspec.json.decode(said.get(SPAN, "null"), type=tuple[int, int] | None),
        )
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("what a session that only fetches asks for", str(said)[:200]) from error
