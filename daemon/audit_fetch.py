"""`dl reconcile --fetch`: candles that the venue has and the lake lacks, asked for before closed days are judged.

What is asked for follows from a first look: the days of which the venue tells not all, each of its own symbols. It is
brought in as `dl backfill` does it, with the same proofs, and becomes rows; then the days are looked at again. Books
and published files are not asked for: a book is told only when it is, and files are what `--archive` fetches.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import msgspec

from collectors import exchanges, venues
from collectors.alone import alone as asking
from collectors.backfill import offers
from compactor.audit import Audited
from compactor.service import compact_once
from daemon.backfilling import Done, Wanted, endpoint_of, planned
from daemon.config import Config
from lake.audits import Audit
from lake.writer import LakeWriter
from market.errors import MarketError
from market.times import DAY, parse
from runtime.clock import Clock
from transformer.service import transform_once

CANDLES, BARS = "kline", "bar_1m"
Report = Callable[[int, int, str], None]
Jobs = Mapping[str, Callable[[Mapping[str, Any], Report], Awaitable[object]]]
"""Those of the daemon's control port, by name."""


class Tools(NamedTuple):
    """Who asks a venue, and who makes rows of what came."""

    bring: Callable[[Wanted, Report], Awaitable[Done]]
    publish: Callable[[Report], Awaitable[None]]


class Fetched(msgspec.Struct):
    """What was asked for: symbols and days of which something was missing, and why some of it did not come."""

    days: int = 0
    rows: int = 0
    requests: int = 0
    problems: list[str] = []


class Reconciled(Audited):
    """An audit before which the venue was asked; `fetched` is None where it was not."""

    fetched: Fetched | None = None


def lacking(found: Iterable[Audit]) -> list[Wanted]:
    """What to ask for so that these days can be judged: a request a market and day, oldest first."""
    symbols: dict[tuple[str, str, str], set[str]] = {}
    for one in found:
        if one.kind == BARS and one.untold and not one.failed:
            symbols.setdefault((one.date, one.exchange, one.market_type), set()).add(one.symbol)
    return [
        Wanted(exchange, market, (CANDLES,), tuple(sorted(names)), parse(date), parse(date) + DAY, date)
        for (date, exchange, market), names in sorted(symbols.items())
    ]


async def fetch(found: Iterable[Audit], tools: Tools, report: Report) -> Fetched:
    """Ask for what is lacking. What a venue does not give is a problem, told. Raises StorageFailed, Fenced."""
    made, problems = Fetched(), dict[str, None]()
    for wanted in lacking(found):
        made.days += len(wanted.symbols)
        where = f"{wanted.exchange} {wanted.market_type}"
        try:
            offers(venues.load(wanted.exchange), wanted.market_type)
            done = await tools.bring(wanted, report)
        except MarketError as error:
            problems[f"{where}: {error}"] = None
            continue
        problems |= {f"{where} {one.symbol} {wanted.span}: {one.why}": None for one in done.planned.refused}
        if done.fetched is not None:
            made.rows += done.fetched.rows
            made.requests += done.fetched.requests
            failed = done.fetched.failed
            problems |= {f"{where} {one.chunk.symbol} {wanted.span}: {one.reason}": None for one in failed}
    made.problems = list(problems)
    if made.rows:
        await tools.publish(report)
    return made


def by_jobs(jobs: Jobs) -> Tools:
    """Who does it where a daemon runs: its own jobs."""

    async def bring(wanted: Wanted, report: Report) -> Done:
        return msgspec.convert(await jobs["backfill"](msgspec.to_builtins(wanted), report), Done)

    async def publish(report: Report) -> None:
        for name in ("transform", "compact"):
            await jobs[name]({}, report)

    return Tools(bring, publish)


def alone(writer: LakeWriter, workers: Executor, clock: Clock, config: Config) -> Tools:
    """Who does it where no daemon writes the lake."""

    async def bring(wanted: Wanted, report: Report) -> Done:
        venue, done = venues.load(wanted.exchange), Done(planned=planned(writer, wanted, clock.now()))
        if done.planned.chunks:
            endpoint = endpoint_of(venue, wanted.market_type, config)
            done.fetched = await asking(
                venue, wanted.market_type, endpoint, writer, config.collectors, clock, done.planned.chunks, report,
                asyncio.Event(),
            )  # fmt: skip
        return done

    async def publish(report: Report) -> None:
        left = threading.Event()
        try:
            await asyncio.to_thread(
                transform_once, writer, workers, clock.now(), config.transformer, report, stopping=left.is_set
            )
            await asyncio.to_thread(
                compact_once, writer, workers, clock.now(), config.compactor, report, final=True, retention=False,
                parsers=exchanges.parsers, stopping=left.is_set,
            )  # fmt: skip
        finally:
            left.set()  # a thread cannot be cancelled: it is told

    return Tools(bring, publish)
