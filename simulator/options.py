"""The simulator's command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from simulator.faults import Scheduled, parse_schedule
from simulator.instruments import names
from simulator.log import SYNC_SECONDS

DAY_SECONDS = 86_400.0
DEFAULT_MARKETS = ("spot", "linear")
DEFAULT_SYMBOLS = "10"
ALL = "all"


class Options(msgspec.Struct, frozen=True):
    """Everything that one venue of a run is told."""

    venue: str
    host: str
    port: int
    seed: int
    symbols: list[str]
    markets: list[str]
    rate: float
    clock_offset: int
    log: Path
    faults: list[Scheduled]
    max_life: float
    ping: float | None
    first_id: int
    dormant: int = 0
    log_sync: float = SYNC_SECONDS


def parse(arguments: Sequence[str], markets_of: Mapping[str, Sequence[str]]) -> list[Options]:
    """Options of a command line, a venue each; leaves with code 2 and a message where it is wrong.

    `markets_of` says which venues there are, and their markets.
    """
    parser = _parser(markets_of)
    given = parser.parse_args(arguments)
    venues = list(markets_of) if ALL in given.venue else given.venue
    try:
        markets = _markets(given.markets, venues, markets_of)
        symbols = {venue: _of(given.symbols, venue) or _symbols(DEFAULT_SYMBOLS) for venue in venues}
        _known(given.symbols, venues)
        for scheduled in given.fault:
            _check("--fault", scheduled.venue, venues)
    except ValueError as error:
        parser.error(str(error))
    share = given.rate / sum(map(len, markets.values()))
    return [
        Options(
            venue=venue,
            host=given.host,
            port=given.port + place if given.port else 0,
            seed=given.seed,
            symbols=symbols[venue],
            markets=markets[venue],
            rate=share * len(markets[venue]),
            clock_offset=given.clock_offset_us,
            log=given.log if len(venues) == 1 else given.log.with_stem(f"{given.log.stem}-{venue}"),
            faults=[one for one in given.fault if one.venue in ("", venue)],
            max_life=given.max_life,
            ping=given.ping,
            first_id=given.first_id,
            dormant=given.dormant,
            log_sync=given.log_sync,
        )
        for place, venue in enumerate(venues)
    ]


class _Once(argparse.Action):
    """An option that takes one value: given twice it is not known which is meant."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, name: str | None = None
    ) -> None:
        given = vars(namespace).setdefault("given", set())
        if self.dest in given:
            parser.error(f"argument {name}: is given twice, and takes one value")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _parser(markets_of: Mapping[str, Sequence[str]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m simulator", description="Local exchanges with a log of what they sent: one market, seen by each."
    )
    parser.register("action", None, _Once)
    every = ", ".join(dict.fromkeys(market for markets in markets_of.values() for market in markets))
    add = parser.add_argument
    add("--venue", type=_list, default=ALL, help=f"whose protocols to speak: all, or some of {', '.join(markets_of)}")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port of the first venue, the others follow; 0 takes free ones")
    add("--seed", type=int, default=1, help="the same seed gives the same ids, prices and quantities")
    add(
        "--symbols",
        type=_symbols_of,
        action="append",
        default=[],
        help="names separated by commas; a number is so many known ones; okx=BTC-USDT,10 are of one venue (default 10)",
    )
    add(
        "--markets",
        type=_markets_of,
        action="append",
        default=[],
        help=f"markets, separated by commas, of {every}; bybit=linear is of one venue (default spot,linear)",
    )
    add("--rate", type=_positive, default=200.0, help="trades and quotes a second, over all venues and symbols")
    add("--clock-offset-us", type=int, default=0, help="added to the machine's clock, us")
    add(
        "--log",
        type=Path,
        default=Path("simulator.log.jsonl"),
        help="ground truth file; a new run replaces it; of several venues each has one: simulator.log-okx.jsonl",
    )
    add(
        "--fault",
        type=_scheduled,
        action="append",
        default=[],
        help="for example 30s:cut or every 60s:drop_ids:venue=okx,count=2",
    )
    add("--max-life", type=_positive, default=DAY_SECONDS, help="seconds after which a connection is cut")
    add("--ping", type=_positive, help="seconds between pings; a pong is due within three; default: the venue's rule")
    add("--first-id", type=int, default=0, help="moves all first ids up, for a second run on the same lake")
    add("--dormant", type=int, default=0, help="symbols of each market that are listed later, by POST /sim/contracts")
    add("--log-sync", type=_not_negative, default=SYNC_SECONDS, help="seconds between syncs of the log; 0: at the end")
    return parser


def _check(option: str, venue: str, venues: Sequence[str]) -> None:
    if venue and venue not in venues:
        raise ValueError(f"{option}: {venue!r} is none of the venues that run: {', '.join(venues)}")


def _known(given: Sequence[Of], venues: Sequence[str]) -> None:
    for one in given:
        _check("--symbols", one.venue, venues)


def _of(given: Sequence[Of], venue: str) -> list[str]:
    """What is said for a venue; what is said for none in particular, where nothing is."""
    own = [name for one in given if one.venue == venue for name in one.names]
    return list(dict.fromkeys(own or [name for one in given if not one.venue for name in one.names]))


def _markets(
    given: Sequence[Of], venues: Sequence[str], markets_of: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The markets of each venue. Raises ValueError for a venue or a market that there is not."""
    found = {}
    for venue in venues:
        _check("--venue", venue, list(markets_of))
        said = any(one.venue == venue for one in given)
        asked = _of(given, venue) or list(DEFAULT_MARKETS)
        found[venue] = [market for market in asked if market in markets_of[venue]]
        if not found[venue] or (said and len(found[venue]) < len(asked)):
            known = ", ".join(markets_of[venue])
            raise ValueError(f"--markets: {venue} does not have {', '.join(asked)}; it has {known}")
    for one in given:
        _check("--markets", one.venue, venues)
        unknown = set(one.names) - {market for venue in venues for market in markets_of[venue]}
        if unknown:
            raise ValueError(f"unknown market {', '.join(sorted(unknown))}")
    return found


def _list(text: str) -> list[str]:
    found = list(dict.fromkeys(part for part in text.split(",") if part))
    if not found:
        raise argparse.ArgumentTypeError("is empty")
    return found


class Of(msgspec.Struct, frozen=True):
    """Names that an option gives to one venue, or to all where it names none."""

    venue: str
    names: list[str]


def _parted(text: str) -> tuple[str, str]:
    venue, equals, names = text.partition("=")
    return (venue, names) if equals else ("", text)


def _markets_of(text: str) -> Of:
    venue, names = _parted(text)
    return Of(venue, _list(names))


def _symbols_of(text: str) -> Of:
    venue, names = _parted(text)
    return Of(venue, _symbols(names))


def _symbols(text: str) -> list[str]:
    found: list[str] = []
    for part in _list(text):
        if part.isdigit() and not 1 <= int(part) <= 10_000:
            raise argparse.ArgumentTypeError("must be between 1 and 10000")
        found += names(int(part)) if part.isdigit() else [part]
    return list(dict.fromkeys(found))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above zero")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must not be below zero")
    return value


def _scheduled(text: str) -> Scheduled:
    try:
        return parse_schedule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
