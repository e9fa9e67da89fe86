"""Errands: which jobs of sessions that only fetch the sources need, and their running while those change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from collectors import patterns, polling, venues
from collectors.config import SourceConfig
from collectors.intake import MarketKey
from collectors.listings import CONTRACT, market_of
from collectors.patterns import Resolved
from collectors.polling import Stop
from lake.lasting import Lasting
from market.session import SERVER_TIME, Polled

ONE_A_MARKET = (CONTRACT, SERVER_TIME)
"""What is the same for all sources of a market, and asked for once."""
Key = tuple[object, ...]


class Errand(msgspec.Struct, frozen=True):
    """One job: what is polled for a source, or for all of its market."""

    source: SourceConfig
    polled: Polled

    @property
    def place(self) -> Key:
        """The venue's address that is asked."""
        return (*market_of(self.source), self.source.endpoint.model_dump_json())

    @property
    def key(self) -> Key:
        """What makes two the same, so that one goes on where the other would begin."""
        polled = self.polled
        return (*self.place, polled.kind, polled.symbols, polled.every, polled.levels)

    @property
    def name(self) -> str:
        return f"{self.source.exchange} {self.source.market_type} {self.polled.kind}"


Errands = Mapping[Key, Errand]


def plan(
    sources: Sequence[SourceConfig], resolved: Sequence[Resolved], known: Mapping[MarketKey, Lasting] | None = None
) -> Errands:
    """The jobs of all sources. Instruments are asked for once a market, all of them where a pattern may mean any.

    `known` is what the lake remembers of each market.
    """
    jobs: list[Errand] = []
    shared: dict[Key, Errand] = {}
    for source, found in zip(sources, resolved, strict=True):
        remembered = (known or {}).get(market_of(source), Lasting())
        named = [entry for entry in source.symbols if not patterns.is_pattern(entry)]
        for polled in polling.polls(venues.load(source.exchange), source, found.symbols, named, remembered):
            if polled.kind in ONE_A_MARKET:
                job = Errand(source, msgspec.structs.replace(polled, symbols=_asked(polled, source)))
                place = (*job.place, polled.kind)
                shared[place] = _joined(shared[place], job) if place in shared else job
            elif polled.symbols:
                jobs.append(Errand(source, polled))
    return {job.key: job for job in (*shared.values(), *jobs)}


def _asked(polled: Polled, source: SourceConfig) -> tuple[str, ...]:
    """The symbols to ask for; none stands for all. What is named is asked for even while the venue says it is over."""
    every = polled.kind == SERVER_TIME or patterns.has_patterns(source.symbols)
    return () if every else tuple(source.symbols)


def _joined(one: Errand, two: Errand) -> Errand:
    """One job for both."""
    held, more = one.polled, two.polled
    every = not (held.symbols and more.symbols)
    symbols = () if every else tuple(dict.fromkeys((*held.symbols, *more.symbols)))
    return Errand(one.source, msgspec.structs.replace(held, symbols=symbols, every=min(held.every, more.every)))


def differing(before: Errands, after: Errands) -> list[str]:
    """Names of the jobs that begin, begin anew, or end."""
    return sorted({(after.get(key) or before[key]).name for key in before.keys() ^ after.keys()})


class Runner:
    """The jobs that run. `work` does one until the event that it is given is set."""

    def __init__(self, work: Callable[[Errand, Stop], Awaitable[None]]) -> None:
        self.running: Errands = {}
        self._work = work
        self._stops: dict[Key, Stop] = {}

    def become(self, wanted: Errands, tasks: asyncio.TaskGroup) -> None:
        """End what is no more wanted, begin what is new, leave the rest alone."""
        for key in self._stops.keys() - wanted.keys():
            stop = self._stops.pop(key)
            stop.retired = True
            stop.set()
        for key, job in wanted.items():
            if key not in self._stops:
                stop = self._stops[key] = Stop()
                tasks.create_task(self._run(job, stop), name=job.name)
        self.running = wanted

    def end(self) -> None:
        """Tell all of them to stop."""
        for stop in self._stops.values():
            stop.set()

    async def _run(self, job: Errand, stop: Stop) -> None:
        await self._work(job, stop)
