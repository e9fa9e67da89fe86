"""Planning of connections: which connection carries which streams, and how little has to move when that changes.

Pure. A plan from nothing is the adapter's, numbered; a change of it keeps every stream on the connection that has it,
puts new ones where there is room, and opens and ends connections only where that does not do. The same configuration
twice changes nothing.

A connection is named `<venue>-<market>-<path>-<number>`, with `-a` and `-b` for twins that carry the same streams.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.lifetime import allowed
from collectors.subscriptions import groups
from market.session import Connection, Endpoint, Exchange, Stream

TWINS = ("-a", "-b")
Size = Callable[[Connection], int]
"""How many streams a connection of its kind may carry."""


class Want(msgspec.Struct, frozen=True):
    """One source as it is wanted now, its symbols resolved. `asking` are further fields of its connections."""

    exchange: Exchange
    market_type: str
    kinds: Sequence[str]
    symbols: Sequence[str]
    endpoint: Endpoint
    channels: Mapping[str, str] = {}
    redundancy: int = 1
    asking: Mapping[str, object] = {}


class Changes(msgspec.Struct, frozen=True):
    """What leads from one plan to another: connections by name. `replan` maps the present name to what it becomes."""

    keep: tuple[Connection, ...] = ()
    replan: Mapping[str, Connection] = {}
    add: tuple[Connection, ...] = ()
    retire: tuple[str, ...] = ()
    added: tuple[Stream, ...] = ()
    """Streams that no connection had."""
    removed: tuple[Stream, ...] = ()
    """Streams that no connection has any more."""
    moved: frozenset[str] = frozenset()
    """Names of streams that change to another connection: they begin there before they end here."""

    @property
    def nothing(self) -> bool:
        """Whether the plan is what it was."""
        return not (self.replan or self.add or self.retire)

    @property
    def result(self) -> tuple[Connection, ...]:
        """The plan that comes of it."""
        return (*self.keep, *self.replan.values(), *self.add)


class _Pool(msgspec.Struct, frozen=True):
    """What connections have in common that may carry each other's streams: all but name, streams and age."""

    like: Connection
    redundancy: int


class _Line(msgspec.Struct):
    """One connection, or the twins that carry the same: its number and its streams."""

    number: int
    streams: list[Stream]
    symbols: set[str]
    touched: bool

    @classmethod
    def of(cls, number: int, streams: Iterable[Stream], *, touched: bool) -> _Line:
        held = list(streams)
        return cls(number, held, {stream.symbol for stream in held}, touched)

    def take(self, streams: Iterable[Stream], symbol: str) -> None:
        """Carry more streams of a symbol."""
        self.streams.extend(streams)
        self.symbols.add(symbol)
        self.touched = True


_Plan = dict[tuple[str, int], tuple[_Pool, tuple[Stream, ...]]]
"""(stem, number) -> what a connection is, and what it carries."""


def limit_of(exchange: Exchange, market_type: str) -> int:
    """Streams that one connection of a market may carry."""
    return exchange.LIMITS[market_type].streams_per_connection


def plan(wants: Iterable[Want]) -> list[Connection]:
    """The connections of all sources, from nothing. A stream that two sources ask for is the first one's.

    Raises Malformed for what the adapter does not offer.
    """
    taken: set[tuple[str, str, str]] = set()
    numbers: dict[str, int] = {}
    found: list[Connection] = []
    for want in wants:
        exchange, market_type = want.exchange, want.market_type
        streams = []
        for stream in exchange.streams(market_type, want.kinds, want.symbols, want.channels):
            key = (exchange.NAME, market_type, stream.name)
            if key not in taken:
                taken.add(key)
                streams.append(stream)
        for planned in exchange.connections(market_type, streams, want.endpoint) if streams else ():
            stem, _ = _parted(planned.name)
            numbers[stem] = number = numbers.get(stem, 0) + 1
            like = msgspec.structs.replace(planned, streams=(), name=stem, **want.asking)
            found += _connections(_Pool(like, want.redundancy), number, planned.streams, exchange)
    return found


def changes(
    old: Sequence[Connection], new: Sequence[Connection], exchange_of: Callable[[Connection], Exchange]
) -> Changes:
    """What has to happen so that the connections of `old` carry what those of `new` would.

    Streams stay on the connection that has them; new ones go where their symbol is, else where there is room, as few
    connections as possible being touched; only then a connection is opened, under a number that was not in use.
    """
    before, planned = _lines(old), _lines(new)
    wanted = _wanted(planned)
    owners = _owners(before, wanted)
    made: dict[_Pool, list[_Line]] = {pool: [] for pool in wanted}
    placed: dict[tuple[str, Stream], str] = {}
    for (stem, number), (_, carried) in before.items():
        pool = owners.get((stem, number))
        if pool is None:
            continue
        kept = [s for s in carried if s in wanted[pool] and (stem, s) not in placed]
        placed.update(((stem, s), stem) for s in kept)
        if kept:
            made[pool].append(_Line.of(number, kept, touched=len(kept) != len(carried)))
    used: dict[str, set[int]] = {}
    for stem, number in before:
        used.setdefault(stem, set()).add(number)
    for pool, streams in wanted.items():
        stem, size = pool.like.name, limit_of(exchange_of(pool.like), pool.like.market_type)
        taken = used.setdefault(stem, set())
        if not made[pool]:  # nothing to keep: as the adapter has it
            for (_, number), (_, carried) in ((n, e) for n, e in planned.items() if e[0] == pool):
                made[pool].append(_Line.of(_free(number, taken), carried, touched=True))
            continue
        _place(made[pool], [s for s in streams if (stem, s) not in placed], size, taken)
    after = [
        connection
        for pool, lines in made.items()
        for line in lines
        for connection in _connections(pool, line.number, tuple(line.streams), exchange_of(pool.like))
    ]
    return _difference(old, after)


def _wanted(planned: _Plan) -> dict[_Pool, dict[Stream, None]]:
    """The streams of each pool, in order and each once."""
    found: dict[_Pool, dict[Stream, None]] = {}
    for pool, streams in planned.values():
        found.setdefault(pool, {}).update(dict.fromkeys(streams))
    return found


def _lines(connections: Iterable[Connection]) -> _Plan:
    """The plan of these connections; twins are one."""
    found: _Plan = {}
    for connection in connections:
        place = _parted(connection.name)
        twin = connection.name.endswith(TWINS)
        like = msgspec.structs.replace(connection, name=place[0], streams=(), age=0)
        found.setdefault(place, (_Pool(like, len(TWINS) if twin else 1), connection.streams))
    return found


def _owners(before: _Plan, wanted: Mapping[_Pool, Mapping[Stream, None]]) -> dict[tuple[str, int], _Pool]:
    """Each connection belongs to the pool that wants most of its streams, its own where two want as many.

    So a source whose address or redundancy changes takes its connections along.
    """
    found = {}
    for place, (own, streams) in before.items():
        counts = {
            pool: (sum(stream in asked for stream in streams), pool == own)
            for pool, asked in wanted.items()
            if pool.like.name == place[0]
        }
        best = max(counts, key=lambda pool: counts[pool], default=None)
        if best is not None and counts[best][0]:
            found[place] = best
    return found


def _place(lines: list[_Line], missing: Iterable[Stream], size: int, used: set[int]) -> None:
    """Add the missing streams to `lines`, those of a symbol together."""
    symbols: dict[str, list[Stream]] = {}
    for stream in sorted(missing, key=lambda s: (s.symbol, s.name)):
        symbols.setdefault(stream.symbol, []).append(stream)
    over: list[Stream] = []
    for symbol, held in symbols.items():
        fitting = [line for line in lines if len(line.streams) + len(held) <= size]
        if not fitting:
            over += held
            continue
        line = max(fitting, key=lambda e: (symbol in e.symbols, e.touched, -len(e.streams), -e.number))
        line.take(held, symbol)
    lines += [_Line.of(_free(1, used), group, touched=True) for group in groups(over, size)]


def _free(number: int, used: set[int]) -> int:
    """The first number from `number` on that is not in use, which it then is."""
    found = next(n for n in itertools.count(number) if n not in used)
    used.add(found)
    return found


def _connections(pool: _Pool, number: int, streams: tuple[Stream, ...], exchange: Exchange) -> list[Connection]:
    """The connection of that number, or its twins: the second one's first life is half as long."""
    name = f"{pool.like.name}-{number}"
    if pool.redundancy == 1:
        return [msgspec.structs.replace(pool.like, name=name, streams=streams)]
    half = (allowed(pool.like.life, exchange.LIMITS[pool.like.market_type]) or 0) // 2
    return [
        msgspec.structs.replace(pool.like, name=name + letter, streams=streams, age=age)
        for letter, age in zip(TWINS, (0, half), strict=True)
    ]


def _difference(old: Sequence[Connection], after: Sequence[Connection]) -> Changes:
    """`after` as changes of `old`: known by its name, or by its number where a connection gains or loses its twin."""
    present = {connection.name: connection for connection in old}
    becomes: dict[str, Connection] = {}
    for connection in after:
        if connection.name in present:
            becomes[connection.name] = connection
    add = []
    for connection in (each for each in after if each.name not in present):
        plain = connection.name.removesuffix(TWINS[0])
        name = next((n for n in (plain, f"{plain}{TWINS[0]}") if n in present and n not in becomes), None)
        if name is None or connection.name.endswith(TWINS[1]):
            add.append(connection)
        else:
            becomes[name] = connection
    homes = {(c.exchange, c.market_type, s.name): _parted(c.name) for c in old for s in c.streams}
    moved = frozenset(
        s.name
        for c in after
        for s in c.streams
        if homes.get((c.exchange, c.market_type, s.name), _parted(c.name)) != _parted(c.name)
    )
    had, has = _streams(old), _streams(after)
    return Changes(
        keep=tuple(c for c in old if becomes.get(c.name) == c),
        replan={n: c for n, c in becomes.items() if present[n] != c},
        add=tuple(add),
        retire=tuple(n for n in present if n not in becomes),
        added=tuple(s for key, s in has.items() if key not in had),
        removed=tuple(s for key, s in had.items() if key not in has),
        moved=moved,
    )


def _streams(connections: Iterable[Connection]) -> dict[tuple[str, str, str], Stream]:
    return {(c.exchange, c.market_type, s.name): s for c in connections for s in c.streams}


def _parted(name: str) -> tuple[str, int]:
    """(stem, number) of a connection's name."""
    plain = name[:-2] if name.endswith(TWINS) else name
    stem, _, number = plain.rpartition("-")
    return (stem, int(number)) if stem and number.isdigit() else (plain, 1)
