"""`dl backfill`, for who writes the lake: what is wanted, planned by what is held, cut into the chunks of a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from collectors import venues
from collectors.backfill import Summary, close_gaps, held, offers
from collectors.history_plan import Held, Plan, Wish, plan
from daemon.config import Config
from lake.errors import WrongQuestion
from lake.job_book import Request
from lake.job_plan import BACKFILL
from lake.jobs import ChunkRow
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.session import Endpoint, Exchange
from market.times import text

WORK = "backfill"
"""The `work` of its jobs."""
NAMED = 5
"""Symbols that are named in a sentence."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for. Times us; `span` says the period in the words of who asked, where it moves with the time;
    `deleted`: also what was deleted from the lake.
    """

    exchange: str
    market_type: str
    kinds: tuple[str, ...]
    symbols: tuple[str, ...]
    start: int
    end: int
    span: str = ""
    deleted: bool = False

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

    @property
    def said(self) -> str:
        """For a person."""
        names, few = self.named, self.named[:NAMED]
        symbols = ", ".join(few) + (f" and {len(names) - len(few):,} more" if len(names) > len(few) else "")
        period = self.span or f"{text(self.start)} to {text(self.end)}"
        more = ", also what was deleted" if self.deleted else ""
        return f"{self.exchange} {self.market_type}: {', '.join(self.kinds)} of {symbols}, {period}{more}"

    def known(self, root: Path, manifest: Manifest) -> Held:
        """What the lake has of it. Reads the manifest: call it in a thread where a loop runs."""
        found = held(root, manifest, venues.load(self.exchange).NAME, self.market_type, self.named)
        return msgspec.structs.replace(found, again=self.deleted)


def wanted_of(arguments: Mapping[str, Any]) -> Wanted:
    """Raises WrongQuestion."""
    try:
        wanted = msgspec.convert(dict(arguments), Wanted)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"what is to be brought in: {error}", "see dl backfill --help") from error
    if not wanted.start < wanted.end or not wanted.kinds or not wanted.symbols:
        raise WrongQuestion("what is to be brought in has no kind, no symbol or no time", "see dl backfill --help")
    return wanted


class Done(msgspec.Struct, kw_only=True):
    """What was planned, and what came of it, by which job; None where there was nothing to ask for."""

    planned: Plan
    fetched: Summary | None = None
    job: str | None = None

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
    known = wanted.known(writer.root, writer.manifest)
    return plan(wanted.wishes(), offers(venue, wanted.market_type), known, now)


def closed(writer: LakeWriter, wanted: Wanted, now: int) -> int:
    """Close the gaps that are filled now; how many. As `planned`."""
    return close_gaps(writer, venues.load(wanted.exchange), wanted.market_type, now)


def chunks_of(wanted: Wanted, made: Plan) -> list[ChunkRow]:
    """A plan as the chunks of a job."""
    return [
        ChunkRow(
            job="", chunk=number, exchange=wanted.exchange, market_type=wanted.market_type, kind=one.kind,
            symbol=one.symbol, ts_from=one.start, ts_to=one.end,
        )
        for number, one in enumerate(made.chunks)
    ]  # fmt: skip


def request_of(wanted: Wanted, asked_by: str) -> Request:
    """The job that is asked for."""
    named = msgspec.structs.replace(wanted, symbols=tuple(wanted.named), kinds=tuple(dict.fromkeys(wanted.kinds)))
    return Request(
        work=WORK, what=named.said, arguments=msgspec.to_builtins(named), priority=BACKFILL, asked_by=asked_by
    )
