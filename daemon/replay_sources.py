"""From what a client asks for to the messages of a lake, as they are sent: frames of a venue, or normalised ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from collectors import replaying
from daemon.replay_requests import BadRequest, Normalised, span
from lake import frame_order, normalised, tardis
from lake.arrivals import Stream
from lake.errors import WrongQuestion
from lake.exporting import stored
from lake.frames import FrameLine
from lake.normalised import Message, Part
from lake.reader import Lake
from lake.sources import TRADE, TRADES
from market.replayed import Filter, Replayed
from market.times import Interval

MOST_PARTS = 200
"""Symbols times data types of one request: each reads its own files."""
_SHAPES = ("X", "X-SWAP")
"""Symbols by which a venue's names at tardis.dev may differ."""
Source: TypeAlias = Iterator[Message]


class Market(NamedTuple):
    """A market whose frames are stored, and who tells them apart."""

    exchange: str
    market_type: str
    adapter: Replayed


def frames(lake: Lake, venue: str, wanted: list[Filter], period: Interval) -> Iterator[tuple[int, bytes | None]]:
    """(receive time, frame) of what the filters want, all data where there are none; None for a connection that ended.

    A frame that two connections brought comes once. Raises BadRequest where the lake has no frames of the exchange.
    """
    markets = _markets(lake, venue)
    return _merged([_frames(lake, market, venue, wanted, period) for market in markets])


def telling(lake: Lake, venue: str) -> Replayed:
    """Who tells the frames of an exchange apart. Raises BadRequest where the lake has none of it."""
    return _markets(lake, venue)[0].adapter


def together(sources: list[Iterator[tuple[int, bytes | None]]]) -> Iterator[tuple[int, int, bytes]]:
    """(receive time, which of the sources, frame), merged."""
    return heapq.merge(*[_placed(place, source) for place, source in enumerate(sources)], key=lambda held: held[0])


def _placed(place: int, source: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, int, bytes]]:
    yield from ((at, place, frame) for at, frame in source if frame is not None)


def _merged(made: list[Iterator[tuple[int, bytes | None]]]) -> Iterator[tuple[int, bytes | None]]:
    return heapq.merge(*made, key=lambda message: message[0])


def _markets(lake: Lake, venue: str) -> list[Market]:
    found = []
    names = set()
    for exchange, market_type in sorted({(e, m) for e, m, _ in lake.manifest.streams()}):
        adapter = replaying.adapter(exchange)
        named = {replaying.named(exchange, market_type, shape) for shape in _SHAPES}
        if venue in named and adapter is None:
            raise BadRequest(f"frames of {venue} are not told apart: ask for normalised messages")
        names |= named
        if venue in named and adapter is not None:
            found.append(Market(exchange, market_type, adapter))
    if not found:
        raise BadRequest(
            f"the lake has nothing of an exchange {venue[:60]!r}; it has {', '.join(sorted(names)) or 'none'}"
        )
    return found


def _frames(
    lake: Lake, market: Market, venue: str, wanted: list[Filter], period: Interval
) -> Iterator[tuple[int, bytes | None]]:
    segments = lake.manifest.segments(market.exchange, market.market_type, "frames")
    twins = frame_order.Twins()
    answered: Callable[[str, bytes], tuple[str, str, bytes] | None] | None = getattr(market.adapter, "answered", None)
    for line in frame_order.lines(lake.root, frame_order.files(segments, period), period):
        if line.dir == "close":
            yield line.ts_recv, None
            continue
        found = _told(line, market.adapter, answered)
        if found is None:
            continue
        channel, symbol, frame = found
        mine = not symbol or market.adapter.named(market.market_type, symbol) == venue
        if mine and (not wanted or any(one.takes(channel, symbol) for one in wanted)) and not twins.again(line):
            yield line.ts_recv, frame


def _told(
    line: FrameLine, adapter: Replayed, answered: Callable[[str, bytes], tuple[str, str, bytes] | None] | None
) -> tuple[str, str, bytes] | None:
    if line.dir == "recv":
        frame = line.data
        address = adapter.addressed(frame)
        return None if address is None else (*address, frame)
    if line.dir == "http" and answered is not None and line.status == 200 and line.url:
        return answered(line.url, line.data)
    return None


def messages(lake: Lake, options: Iterable[Normalised]) -> Source:
    """All that the options ask for, merged. Raises BadRequest."""
    made = []
    for one in options:
        period = span(one.start, one.end)
        parts = list(_parts(lake, one, period))
        if len(parts) > MOST_PARTS:
            raise BadRequest(f"{len(parts):,} streams; one request may ask for {MOST_PARTS:,}: name symbols")
        made.append(normalised.messages(lake, parts, period, disconnects=bool(one.with_disconnects)))
    return heapq.merge(*made, key=lambda message: message[0])


def _parts(lake: Lake, one: Normalised, period: Interval) -> Iterator[Part]:
    try:
        asked = [normalised.asked(name) for name in dict.fromkeys(one.types)]
    except WrongQuestion as error:
        raise BadRequest(str(error)) from error
    named = {symbol.upper() for symbol in one.symbols or ()}
    known = set()
    for exchange, market_type in sorted({(e, m) for e, m, _ in lake.manifest.streams()}):
        names = {replaying.named(exchange, market_type, shape) for shape in _SHAPES}
        known |= names
        if one.exchange not in names:
            continue
        for of in asked:
            for stream in _streams(lake, of.kind, exchange, market_type, period):
                venue = replaying.named(exchange, market_type, stream.symbol)
                if venue == one.exchange and (not named or stream.symbol.upper() in named):
                    yield Part(of, stream, venue)
    if one.exchange not in known:
        said = ", ".join(sorted(known)) or "none"
        raise BadRequest(f"the lake has nothing of an exchange {one.exchange[:60]!r}; it has {said}")


def _streams(lake: Lake, name: str, exchange: str, market_type: str, period: Interval) -> Iterable[Stream]:
    """Of each symbol that has any; aggregated trades of those whose trades are not collected."""
    found: dict[str, Stream] = {}
    for one in TRADES if name == TRADE else (name,):
        for stream, _ in stored(lake, one, exchange, market_type, (), period):
            found.setdefault(stream.symbol, stream)
    return found.values()


def frame_line(at: int, frame: bytes | None) -> bytes:
    """A line of /replay; an empty one for a connection that ended."""
    if frame is None:
        return b"\n"
    # a line feed outside of texts is white space, and inside of them there is none
    message = frame.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"localTimestamp":"' + _long(at).encode() + b'","message":' + message + b"}\n"


def _long(at: int) -> str:
    """With seven digits of a second, as there."""
    spelt = tardis.iso(at).removesuffix("Z")
    return f"{spelt.ljust(27, '0')}Z"
