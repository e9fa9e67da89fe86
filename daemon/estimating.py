"""What a configuration will cost before it is started: events and bytes a day by stream, memory, CPU, and the disk.

Pure but for what it is given: rates are the lake's own where it has measured any, else typical ones (`daemon.typical`).
Every figure says where it is from; `low` and `high` are what it may be as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from collectors import patterns, planning, polling, venues
from collectors.budget import SHARE
from collectors.config import SourceConfig
from collectors.planning import Want
from daemon import typical
from daemon.config import Config
from daemon.measured import Lake, Own
from daemon.typical import Rate, Size
from lake.space import Room
from market.errors import MarketError
from market.session import Connection
from market.times import DAY, HOUR, SECOND

GB = 1e9
HOT_DAYS = 1.5
"""How long parts and hours of a day are there, with what replaced them."""
BARS = ("bar_1s", "bar_1m")
WINDOWS = {"bar_1s": 86_400.0, "bar_1m": 1440.0}
BOOKKEEPING = (5.6e6 + 2e6, 0.055e6 + 0.02e6)
"""Bytes a day of ledger and manifest, and those a symbol, measured (docs/scale-figures.json)."""
CPU_US = (13.0, 60.0)
"""us an event of collecting, transforming and merging it, at full rate and at a live one (docs/performance.md)."""
CPU_CCXT_US = 80.0
"""What ccxt takes more, measured."""
MEMORY_MB = (250.0, 0.2, 0.95)
"""All processes, and low and high a symbol, measured with 4 and 500 symbols (docs/scale-figures.json)."""
MEMORY_CCXT_MB = 90.0
SOON_DAYS = 30
HORIZON_DAYS = 3650
EVENTS_A_SECOND = 20_000.0
"""Events a second in the mean beyond which one process may be too little, peaks being ten times that."""


class Line(msgspec.Struct):
    """One kind of one symbol; bytes a day. `low` and `high` are events."""

    exchange: str
    market_type: str
    kind: str
    symbol: str
    events: float
    low: float
    high: float
    basis: str
    raw: float = 0.0
    frames: float = 0.0
    hot: float = 0.0
    tables: float = 0.0


class Disk(msgspec.Struct):
    """Bytes: what is kept for a while at its most, what grows a day, and in how many days there is too little room."""

    kept_raw: float
    kept_frames: float
    kept_hot: float
    grows_a_day: float
    after_30_days: float
    after_365_days: float
    free: int
    reserve: int
    """Free bytes below which compaction waits (`disk.low_mb`, `disk.low_percent`)."""
    lasts_days: int | None
    """None: for ten years at least."""


class Estimate(msgspec.Struct):
    """All of it; events, `low` and `high` are those of a day that are received."""

    lines: list[Line]
    events: float
    low: float
    high: float
    connections: int
    max_connections: int
    streams: int
    memory_mb: tuple[float, float]
    cpu_cores: tuple[float, float]
    disk: Disk
    warnings: list[str]
    notes: list[str]


class _Source(NamedTuple):
    config: SourceConfig
    symbols: Sequence[str]


def estimate(config: Config, own: Lake, room: Room) -> Estimate:
    """The cost of a configuration on a disk with that room. Raises MarketError for what no venue offers."""
    warnings: list[str] = []
    notes: list[str] = []
    sources = [_Source(source, _symbols(source, own, notes)) for source in config.collectors.sources]
    lines = [line for source in sources for line in _lines(source, config, own)]
    connections = _connections(sources)
    symbols = len({(line.exchange, line.market_type, line.symbol) for line in lines})
    disk = _disk(lines, config, symbols, room)
    events = sum(line.events for line in lines if line.raw)
    low, high = (sum(getattr(line, side) for line in lines if line.raw) for side in ("low", "high"))
    found = Estimate(
        lines, events, low, high, len(connections), config.collectors.connections.max_connections,
        sum(len(one.streams) for one in connections), _memory(lines, symbols), _cpu(lines), disk, warnings, notes,
    )  # fmt: skip
    _warn(found, sources)
    return found


# --- streams ---


def _symbols(source: SourceConfig, own: Lake, notes: list[str]) -> Sequence[str]:
    """The symbols of a source; what a pattern means is known from the lake, or a guess that is said."""
    market = (source.exchange, source.market_type)
    known = own.statuses.get(market, {})
    exchange = venues.load(source.exchange)
    found = patterns.resolve(source.symbols, known, exchange.TRADING, exchange.ENDED)
    wanted = [entry for entry in source.symbols if patterns.is_pattern(entry)]
    if not wanted:
        return found.symbols
    whose = f"{source.exchange} {source.market_type} {', '.join(wanted)}"
    if known:
        notes.append(f"{whose}: {len(found.symbols)} symbols, as the lake knows the venue's instruments")
        return found.symbols
    guess = typical.PATTERN.get(source.market_type, 100)
    notes.append(f"{whose}: counted as {guess} symbols, a guess: no lake says which instruments there are")
    busy = [f"{base}…" for base in ("BTC", "ETH", "SOL", "XRP", "BNB", "DOGE")]
    return (*found.symbols, *busy, *(f"{number}…" for number in range(guess - len(busy))))


def _lines(source: _Source, config: Config, own: Lake) -> Iterator[Line]:
    """Of every kind and symbol of a source, and of what is made of them."""
    told = source.config
    exchange = venues.load(told.exchange)
    kinds = list(dict.fromkeys((*told.kinds, *polling.kinds(exchange, told))))
    for kind in (one for one in kinds if one in exchange.OFFERS[told.market_type]):
        channel = told.channels.get(kind, exchange.OFFERS[told.market_type][kind])
        lane = own.lanes.get((told.exchange, told.market_type, kind))
        for symbol in source.symbols:
            rate = _measured(lane, symbol) or _typical(told, kind, channel, symbol)
            line = Line(
                told.exchange, told.market_type, kind, symbol, rate.events, rate.events / rate.spread,
                rate.events * rate.spread, rate.basis,
            )  # fmt: skip
            _weigh(
                line,
                _size(told, kind, channel, lane),
                own,
                frames=told.redundancy if config.collectors.writing.frames else 0,
            )
            yield line
            if kind == _counted(told.kinds):
                yield from _bars(line, own)
            if kind == "book_delta" and config.compactor.book_sample_ms is not None:
                yield _samples(line, config.compactor.book_sample_ms, config.compactor.book_sample_depth)


def _counted(kinds: Sequence[str]) -> str | None:
    """The kind that bars are made of."""
    return next((kind for kind in ("trade", "agg_trade") if kind in kinds), None)


def _measured(own: Own | None, symbol: str) -> Rate | None:
    if own is None:
        return None
    hours = own.span / HOUR
    if symbol in own.by_symbol:
        return Rate(own.by_symbol[symbol], 1.5, "this lake: the fullest closed day of the symbol")
    if not own.symbols:
        return None
    return Rate(own.mean, 1.5 if hours >= 24 else 3.0, f"this lake: mean of {own.symbols} symbols over {hours:.1f} h")


def _typical(source: SourceConfig, kind: str, channel: str, symbol: str) -> Rate:
    exchange, market = source.exchange, source.market_type
    polled = (kind in venues.load(exchange).POLLS[market] and source.polls.seconds(kind)) or 0
    if kind == "kline":
        return Rate(typical.candles(exchange, channel), 1.1, "one a closed candle")
    if kind == "contract":
        return Rate(typical.CHANGES, 5.0, "a guess")
    if kind == "funding_rate":
        return Rate(24.0 if exchange == "kraken" else typical.SETTLEMENTS, 3.0, "settlements a day")
    every = typical.cadence(channel)
    if kind == "mark_price":
        return Rate(every or typical.MARKS, 1.1 if every else 3.0, "the channel's rhythm" if every else "a guess")
    if kind == "open_interest":
        asked = not venues.load(exchange).streams(market, [kind], [symbol], source.channels)
        return (
            Rate(typical.DAY / polled, 1.1, "polls")
            if asked and polled
            else Rate(typical.STREAMED_INTEREST, 5.0, "a guess")
        )
    if kind == "book_snapshot":
        if exchange.startswith("ccxt-"):
            return Rate(typical.DAY, 2.0, "once a second")
        pushed = venues.load(exchange).streams(market, [kind], [symbol], source.channels)
        streamed = (every or typical.DAY) if pushed and kind in source.kinds else 0.0
        return Rate(streamed + (typical.DAY / polled if polled else 0.0), 1.2, "the channel's rhythm and polls")
    found = typical.rate(exchange, market, kind, symbol)
    if every is not None and every < found.events:
        return Rate(every, 2.0, f"at most the channel's rhythm ({channel})")
    return found


def _size(source: SourceConfig, kind: str, channel: str, own: Own | None) -> Size:
    """Bytes a row: the lake's own where it has any."""
    levels = typical.levels(channel) if kind in source.kinds else None
    found = typical.whole_book(levels or source.book_levels) if kind == "book_snapshot" else typical.SIZES[kind]
    if own is None:
        return found
    return Size(own.raw, found.hot if own.hot is None else own.hot, found.table if own.table is None else own.table)


def _weigh(line: Line, size: Size, own: Lake, *, frames: int) -> None:
    """Bytes a day of a line; frames of so many connections are kept."""
    line.raw, line.hot, line.tables = (line.events * one for one in (size.raw, size.hot, size.table))
    part = own.frames.get((line.exchange, line.market_type)) or typical.frames_part(line.exchange)
    line.frames = line.raw * part * frames


def _bars(line: Line, own: Lake) -> Iterator[Line]:
    """Windows in which something was traded, if trades came evenly: fewer, since they come in bursts."""
    for kind in BARS:
        windows = WINDOWS[kind]
        most = windows * -math.expm1(-line.events / windows)
        lane = own.lanes.get((line.exchange, line.market_type, kind))
        size = typical.SIZES[kind] if lane is None else Size(0, lane.hot or 0, lane.table or typical.SIZES[kind].table)
        yield Line(
            line.exchange, line.market_type, kind, line.symbol, most, most / 3, most, "windows with a trade",
            hot=most * size.hot, tables=most * size.table,
        )  # fmt: skip


def _samples(line: Line, every_ms: int, depth: int) -> Line:
    """The book at an interval."""
    rows = typical.DAY * 1000 / every_ms
    tables = rows * typical.whole_book(depth).table
    return Line(
        line.exchange, line.market_type, "book_sample", line.symbol, rows, rows, rows, "compactor.book_sample_ms",
        tables=tables,
    )  # fmt: skip


def _connections(sources: Sequence[_Source]) -> list[Connection]:
    """What the sources need. Raises Malformed."""
    wants = []
    for source, symbols in sources:
        exchange = venues.load(source.exchange)
        endpoint = source.endpoint.over(exchange.ENDPOINTS[source.market_type])
        wants.append(
            Want(exchange, source.market_type, source.kinds, symbols, endpoint, source.channels, source.redundancy)
        )
    return planning.plan(wants)


# --- totals ---


def _memory(lines: Sequence[Line], symbols: int) -> tuple[float, float]:
    fixed, low, high = MEMORY_MB
    more = MEMORY_CCXT_MB if any(line.exchange.startswith("ccxt-") for line in lines) else 0.0
    return fixed + low * symbols + more, fixed + high * symbols + more


def _cpu(lines: Sequence[Line]) -> tuple[float, float]:
    """Cores in the mean of a day."""
    low = high = 0.0
    for line in (one for one in lines if one.raw):
        more = CPU_CCXT_US if line.exchange.startswith("ccxt-") else 0.0
        low += line.low * (CPU_US[0] + more)
        high += line.high * (CPU_US[1] + more)
    return low / (typical.DAY * 1e6), high / (typical.DAY * 1e6)


def _disk(lines: Sequence[Line], config: Config, symbols: int, room: Room) -> Disk:
    raw, frames = sum(one.raw for one in lines), sum(one.frames for one in lines)
    hot, tables = sum(one.hot for one in lines), sum(one.tables for one in lines)
    keep = config.compactor.keep()
    raw_days = max(keep.raw, keep.rehash) / DAY + 1 + config.compactor.close_delay_seconds * SECOND / DAY
    frames_days = keep.frames / DAY + 1
    grows = tables + BOOKKEEPING[0] + BOOKKEEPING[1] * symbols

    def used(days: float) -> float:
        return (
            raw * min(days, raw_days) + frames * min(days, frames_days) + hot * min(days, HOT_DAYS)
            + max(0.0, days - 1) * tables + days * (grows - tables)
        )  # fmt: skip

    limits = config.disk.limits()
    reserve = max(limits.low, round(limits.low_share * room.total)) + limits.ballast
    free = max(0, room.free - reserve)
    lasts = next((day for day in range(1, HORIZON_DAYS) if used(day) > free), None)
    return Disk(
        raw * raw_days, frames * frames_days, hot * HOT_DAYS, grows, used(30), used(365), room.free, reserve,
        None if lasts is None else lasts - 1,
    )  # fmt: skip


def _warn(found: Estimate, sources: Sequence[_Source]) -> None:
    """What will not do, with the fix."""
    disk, warnings = found.disk, found.warnings
    if found.connections > found.max_connections:
        warnings.append(
            f"{found.connections} connections are needed, more than collectors.connections.max_connections ="
            f" {found.max_connections}: the daemon would refuse to start; raise it, or collect less"
        )
    if disk.lasts_days is not None and disk.lasts_days < SOON_DAYS:
        warnings.append(
            f"the disk is low after {disk.lasts_days} day{'' if disk.lasts_days == 1 else 's'}:"
            f" {disk.free / GB:,.1f} GB are free,"
            f" {disk.reserve / GB:,.1f} GB of them in reserve, and 30 days take {disk.after_30_days / GB:,.1f} GB;"
            " shorten compactor.frames_days, leave out books, or take a larger disk"
        )
    if found.events / typical.DAY > EVENTS_A_SECOND:
        warnings.append(
            f"{found.events / typical.DAY:,.0f} events a second in the mean, with peaks of ten times that, are more"
            " than one process may take: split the sources over two boxes"
        )
    warnings += _overasked(sources)
    for source, _ in sources:
        try:
            venues.check(source)
        except MarketError as error:
            warnings.append(f"{str(error).removeprefix('malformed ')}: the daemon would refuse to start")


def _overasked(sources: Sequence[_Source]) -> Iterator[str]:
    """Polls that take longer than their interval, even if each costs the least that a request can."""
    asked: dict[str, float] = {}
    allowed: dict[str, float] = {}
    for source, symbols in sources:
        exchange = venues.load(source.exchange)
        limits = exchange.LIMITS[source.market_type]
        for kind in polling.kinds(exchange, source):
            each = len(symbols) if exchange.POLLS[source.market_type][kind].each else 1
            every = source.polls.seconds(kind)
            asked[limits.weight_pool] = asked.get(limits.weight_pool, 0.0) + (each * 60 / every if every else 0.0)
        allowed[limits.weight_pool] = limits.weight_per_minute * SHARE
    for pool, requests in asked.items():
        if allowed[pool] and requests > allowed[pool]:
            yield (
                f"{requests:,.0f} requests a minute of polls are more than the {allowed[pool]:,.0f} that are used of"
                f" what {pool} allows: they come late; give longer intervals in polls, or fewer symbols"
            )


def totals(lines: Sequence[Line], *names: str) -> Mapping[tuple[str, ...], Line]:
    """Lines summed by these of their fields; a basis that all share is kept."""
    found: dict[tuple[str, ...], Line] = {}
    for line in lines:
        key = tuple(getattr(line, name) for name in names)
        held = found.get(key)
        if held is None:
            found[key] = msgspec.structs.replace(line)
            continue
        for name in ("events", "low", "high", "raw", "frames", "hot", "tables"):
            setattr(held, name, getattr(held, name) + getattr(line, name))
        held.basis = held.basis if held.basis == line.basis else "several"
    return found
