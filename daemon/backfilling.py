"""`dl backfill`, for who writes the lake: what is wanted, planned by what is held, and asked for beside the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from collectors import venues
from collectors.backfill import Report, Summary, close_gaps, held, offers
from collectors.history_plan import Plan, Wish, plan
from collectors.service import CollectorsService
from daemon.config import Config
from lake.errors import LakeError, WrongQuestion
from lake.writer import LakeWriter
from market.session import Endpoint, Exchange
from runtime.clock import Clock


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for. Times us."""

    exchange: str
    market_type: str
    kinds: tuple[str, ...]
    symbols: tuple[str, ...]
    start: int
    end: int

    def wishes(self) -> list[Wish]:
        """Raises WrongQuestion for a kind that no history has."""
        known = offers(venues.load(self.exchange), self.market_type)
        for kind in self.kinds:
            if kind not in known:
                raise WrongQuestion(f"no history of {kind!r} is asked for", f"one of {', '.join(known)}")
        return [Wish(kind, one, self.start, self.end) for kind in dict.fromkeys(self.kinds) for one in self.named]

    @property
    def named(self) -> list[str]:
        """The symbols as the venue spells them, each once; of some venues case counts."""
        cased = getattr(venues.load(self.exchange), "CASED", False)
        return list(dict.fromkeys(symbol if cased else symbol.upper() for symbol in self.symbols))


class Done(msgspec.Struct, kw_only=True):
    """What was planned, and what came of it; None where there was nothing to ask for."""

    planned: Plan
    fetched: Summary | None = None

    @property
    def ok(self) -> bool:
        """Whether all that was wanted is held now."""
        return not self.planned.refused and not (self.fetched is not None and self.fetched.failed)


def endpoint_of(venue: Exchange, market_type: str, config: Config) -> Endpoint:
    """The venue's address, or the one that the configuration gives its first source of that market."""
    own = venue.ENDPOINTS[market_type]
    mine = (s for s in config.collectors.sources if (s.exchange, s.market_type) == (venue.NAME, market_type))
    return next((source.endpoint.over(own) for source in mine), own)


def planned(writer: LakeWriter, wanted: Wanted, now: int) -> Plan:
    """What of it is to be asked for. Reads the manifest: call it in a thread where a loop runs."""
    venue = venues.load(wanted.exchange)
    known = held(writer.root, writer.manifest, venue.NAME, wanted.market_type, wanted.named)
    return plan(wanted.wishes(), offers(venue, wanted.market_type), known, now)


def closed(writer: LakeWriter, wanted: Wanted, now: int) -> int:
    """Close the gaps that are filled now; how many. As `planned`."""
    return close_gaps(writer, venues.load(wanted.exchange), wanted.market_type, now)


def control_job(
    config: Config, writer: LakeWriter, clock: Clock, collectors: CollectorsService | None
) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs."""

    async def backfill(arguments: Mapping[str, Any], progress: Report) -> object:
        if collectors is None:
            raise LakeError("this daemon does not collect", "stop it, or start it without --only")
        try:
            wanted = msgspec.convert(dict(arguments), Wanted)
        except msgspec.ValidationError as error:
            raise WrongQuestion(f"what is to be brought in: {error}", "see dl backfill --help") from error
        made = await asyncio.to_thread(planned, writer, wanted, clock.now())
        done = Done(planned=made)
        if made.chunks:
            venue = venues.load(wanted.exchange)
            endpoint = endpoint_of(venue, wanted.market_type, config)
            done.fetched = await collectors.backfill(venue, wanted.market_type, endpoint, made.chunks, progress)
            done.fetched.repaired = await asyncio.to_thread(closed, writer, wanted, clock.now())
        return msgspec.to_builtins(done)

    return backfill
