"""Reads a log of any length into little memory: of each stream the ids, times and values, and what took which away.

`simulator.truth` keeps whole events, about half a kilobyte each; here an event is 25 bytes, for runs of millions.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from simulator.signs import PLAIN, Sign, Signs, content, digest
from simulator.truth import FIELDS, FORMAT, FaultLine, Link, Request, TornLog

Key: TypeAlias = tuple[str, str, str]
"""(kind, market, symbol)"""
SENT, NOBODY = "", "nobody was connected"
_BOOKS = re.compile(rb'\["(book_delta|book_snapshot)","(\w+)","([^"]+)",(\d+),"([^"]*)",')
_END = re.compile(rb",(\d+),(\d+),(\[[\d,]*\]),(\{[^{}]*\})\]\n$")


class Told(msgspec.Struct):
    """One stream, in the order of the log. `lost` is SENT, NOBODY or the fault that took the event from everybody."""

    ids: array[int]
    times: array[int]
    values: array[int]
    """A digest of the numbers; 0 for books."""
    lost: dict[int, str] = {}
    """Place -> why nobody was sent it as it is; those not in it were sent."""
    zeros: set[int] = set()
    """Places of events that left with a price of zero, which is a price."""
    repeated: set[int] = set()
    """Places of events that say again what the one before them said."""
    unseen: dict[int, int] = {}
    """Numbers of updates of books that only a checksum of a part of the book could tell were missed -> the time of the
    first message by which it did, 0 where none has (us).
    """
    shows: bool = True
    """Whether the loss of one event shows in those around it (`simulator.signs`)."""


class Witness(msgspec.Struct):
    """A whole log, compact. `unsent_at`: connection -> when it ended with bytes that had not left."""

    told: dict[Key, Told]
    links: dict[int, Link]
    faults: list[FaultLine]
    requests: list[Request]
    snapshots: set[tuple[str, str, int]]
    """(market, symbol, last id) of books given by REST."""
    started: int = 0
    stopped: int = 0
    events: int = 0
    ended: dict[tuple[str, str], int] = {}
    """(market, symbol) -> when it was taken from the market, us."""


def _pair(first: str, second: str) -> Callable[[list[Any], tuple[str, ...]], int]:
    def values(row: list[Any], names: tuple[str, ...]) -> int:
        return digest(row[4 + names.index(first)], row[4 + names.index(second)])

    return values


VALUES: dict[str, tuple[str, str]] = {
    "trade": ("price", "qty"),
    "agg_trade": ("price", "qty"),
    "quote": ("bid", "ask"),
    "mark_price": ("mark", "index"),
    "liquidation": ("price", "qty"),
    "kline": ("close", "high"),
}
"""The two numbers of a kind that are compared."""
_DIGEST = {kind: _pair(*names) for kind, names in VALUES.items()}


def read(path: Path, signs: Signs = PLAIN) -> Witness:
    """The whole log, its events numbered as the venue's rows are. Raises TornLog, ValueError."""
    found = Witness({}, {}, [], [], set())
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                if (book := _BOOKS.match(line)) is not None:
                    _book(found, book, line, signs)
                else:
                    _take(found, msgspec.json.decode(line, type=list[Any]), signs)
            except (msgspec.DecodeError, IndexError, KeyError) as error:
                raise TornLog(path, number, repr(error)) from error
    return found


def _book(found: Witness, head: re.Match[bytes], line: bytes, signs: Signs) -> None:
    end = _END.search(line)
    assert end is not None
    key = (head[1].decode(), head[2].decode(), head[3].decode())
    sign = signs.get(key[1], {}).get(key[0])
    if sign is None or not head[5].decode().startswith(sign.stream):
        return
    number, time = int(head[4]), int(end[1])
    if sign.told is not None:  # of a book the id and the times are all that a number is made of
        number = sign.told([*key, number, "", time, int(end[2]), [], {}])
    _add(found, key, sign, number, time, 0, end[3] != b"[]", end[4])


def _add(found: Witness, key: Key, sign: Sign, number: int, time: int, value: int, sent: bool, dropped: bytes) -> None:
    told = found.told.get(key)
    if told is None:
        told = found.told[key] = Told(array("q"), array("q"), array("q"), shows=sign.shows)
    if sign.rising and told.ids and number <= told.ids[-1]:
        number = told.ids[-1] + 1
    if sign.repeats and told.values and told.values[-1] == value:
        told.repeated.add(len(told.ids))
    if not sent:
        faults = sorted(set(msgspec.json.decode(dropped, type=dict[str, str]).values()))
        told.lost[len(told.ids)] = "+".join(faults) or NOBODY
    told.ids.append(number)
    told.times.append(time)
    told.values.append(value)
    found.events += 1


def _take(found: Witness, row: list[Any], signs: Signs) -> None:
    match row[0]:
        case str(kind) if kind in FIELDS:
            for name, sign in signs.get(row[1], {}).items():
                if (sign.of or name) == kind and (sign.only is None or sign.only(row)):
                    _event(found, row, name, sign)
        case "start":
            if row[1] != FORMAT:
                raise ValueError(f"log format {row[1]}, this reader knows {FORMAT}")
            found.started = row[3]
        case "open":
            found.links[row[1]] = Link(row[1], row[2], row[3], row[4])
        case "subscribe":
            found.links[row[1]].streams.update(dict.fromkeys(row[2], row[3]))
        case "close":
            link = found.links[row[1]]
            link.cause, link.unsent, link.closed = row[2], row[3], row[4]
        case "fault":
            _fault(found, FaultLine(*row[1:]))
        case "status":
            found.ended.pop((row[1], row[2]), None)
            if row[3] != "TRADING":
                found.ended[row[1], row[2]] = row[5]
        case "depth":
            found.snapshots.add((row[1], row[2], row[3]))
        case "http":
            found.requests.append(Request(*row[1:]))
        case "stop":
            found.stopped = row[1]


def _event(found: Witness, row: list[Any], name: str, sign: Sign) -> None:
    kind, market, symbol, number = row[:4]
    time, _, sent, dropped = row[-4:]
    names = FIELDS[kind]
    if "host" in names and row[4 + names.index("host")] != market:
        return  # the other market's stream tells it too
    if kind == "kline" and not row[4 + names.index("closed")]:
        return
    if sign.stream and not row[4 + names.index("stream")].startswith(sign.stream):
        return
    if sign.content:
        number = content(row, sign.content)
    elif sign.told is not None:
        number = sign.told(row)
    if sign.values is None:
        value = _DIGEST[kind](row, names)
    else:
        value = digest(*(row[4 + names.index(one)] for one in sign.values))
    _add(found, (name, market, symbol), sign, number, time, value, bool(sent), msgspec.json.encode(dropped))


def _fault(found: Witness, fault: FaultLine) -> None:
    found.faults.append(fault)
    if fault.phase == "applied" and fault.detail.get("form") == "zero" and "id" in fault.detail:
        told = found.told.get((fault.detail["kind"], fault.detail["market"], fault.detail["symbol"]))
        if told is not None:
            told.zeros.add(len(told.ids))
