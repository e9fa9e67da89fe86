"""The simulator's command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from simulator.faults import Scheduled, parse_schedule
from simulator.instruments import names
from simulator.log import SYNC_SECONDS

DAY_SECONDS = 86_400.0
DEFAULT_MARKETS = "spot,linear"


class Options(msgspec.Struct, frozen=True):
    """Everything one run is told."""

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


def parse(arguments: Sequence[str], markets_of: Sequence[str], venues: Sequence[str]) -> Options:
    """Options of a command line; leaves with code 2 and a message where it is wrong."""
    parser = argparse.ArgumentParser("python -m simulator", description="A local exchange with a log of what it sent.")
    add = parser.add_argument
    add("--venue", choices=venues, default="binance", help="whose wire protocol to speak")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    add("--seed", type=int, default=1, help="the same seed gives the same ids, prices and quantities")
    add("--symbols", type=_symbols, default="10", help="names separated by commas; a number is so many known ones")
    add("--markets", type=_list, default=DEFAULT_MARKETS, help=f"markets, separated by commas: {', '.join(markets_of)}")
    add("--rate", type=_positive, default=200.0, help="trades and quotes a second, over all symbols and markets")
    add("--clock-offset-us", type=int, default=0, help="added to the machine's clock, us")
    add("--log", type=Path, default=Path("simulator.log.jsonl"), help="ground truth file; a new run replaces it")
    add(
        "--fault",
        type=_scheduled,
        action="append",
        default=[],
        help="for example 30s:cut or every 60s:drop_ids:count=2",
    )
    add("--max-life", type=_positive, default=DAY_SECONDS, help="seconds after which a connection is cut")
    add("--ping", type=_positive, help="seconds between pings; a pong is due within three; default: the venue's rule")
    add("--first-id", type=int, default=0, help="moves all first ids up, for a second run on the same lake")
    add("--dormant", type=int, default=0, help="symbols of each market that are listed later, by POST /sim/contracts")
    add("--log-sync", type=_not_negative, default=SYNC_SECONDS, help="seconds between syncs of the log; 0: at the end")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.markets) - set(markets_of))
    if unknown:
        parser.error(f"unknown market {', '.join(unknown)}; known: {', '.join(markets_of)}")
    return Options(
        venue=given.venue,
        host=given.host,
        port=given.port,
        seed=given.seed,
        symbols=given.symbols,
        markets=given.markets,
        rate=given.rate,
        clock_offset=given.clock_offset_us,
        log=given.log,
        faults=given.fault,
        max_life=given.max_life,
        ping=given.ping,
        first_id=given.first_id,
        dormant=given.dormant,
        log_sync=given.log_sync,
    )


def _list(text: str) -> list[str]:
    found = list(dict.fromkeys(part for part in text.split(",") if part))
    if not found:
        raise argparse.ArgumentTypeError("is empty")
    return found


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
