"""What the drift radar finds, told: a line of the log, a metric, a note in the ledger; and what earlier runs told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from collectors.config import SourceConfig
from collectors.drift import Drift, Radar
from collectors.intake import Intake
from lake.ledger import notes
from market.described import Described, Sunset
from market.kinds import Contract
from market.session import Exchange
from market.times import DAY, date_of
from runtime import drifting, metrics

REMEMBERED = 90 * DAY
"""How long (us) a change that was told is not told again by a process that begins anew."""


class _Note(msgspec.Struct):
    drift: Drift | None = None


def radar(adapter: Exchange, market_type: str, contracts: Mapping[str, Contract]) -> Radar | None:
    """What watches a market with these contracts; None where its adapter does not say how messages look."""
    return Radar(adapter, adapter.NAME, market_type, contracts) if isinstance(adapter, Described) else None


def tell(radar: Radar | None, intake: Intake, now: int) -> None:
    """Say what has changed and was not said before, and count what shows it."""
    if radar is None:
        return
    for drift in radar.look(now):
        facts = msgspec.structs.asdict(drift)
        drifting.drift(**{name: facts[name] for name in SAID}, as_of=radar.as_of)
        intake.record(notes=[{"drift": facts}])
    for change, count in radar.unreported():
        metrics.DRIFT.labels(*radar.market, change).inc(count)


SAID = ("exchange", "market_type", "message", "change", "path", "detail")


def endings(adapter: Exchange, source: SourceConfig, symbols: Sequence[str]) -> list[Sunset]:
    """What of a source the venue has taken away or will: by its channels and routes, addresses and symbols."""
    if not isinstance(adapter, Described):
        return []
    market = source.market_type
    streams = adapter.streams(market, source.kinds, symbols or ["X"], source.channels)
    polls = adapter.POLLS[market]
    channels = {stream.channel for stream in streams} | {polls[kind].route for kind in source.kinds if kind in polls}
    endpoint = source.endpoint.over(adapter.ENDPOINTS[market])
    addresses = [endpoint.rest, *endpoint.ws.values()]
    return [one for one in adapter.ENDS if one.meets(market, channels, addresses, symbols)]


def say_endings(adapter: Exchange, source: SourceConfig, symbols: Sequence[str], now: int) -> None:
    """Warn of what of a source is gone, or will be within a month."""
    today = date_of(now)
    for one in endings(adapter, source, symbols):
        if one.urgent(today):
            drifting.ending(exchange=source.exchange, market_type=source.market_type, text=one.said(today))


def told(root: Path, since: int) -> Iterator[Drift]:
    """The changes that a lake's ledger tells since then (us), oldest first. Reads files."""
    for entry in notes(root, since):
        try:
            found = msgspec.json.decode(entry.data, type=_Note).drift
        except msgspec.MsgspecError:
            continue
        if found is not None:
            yield found


def remember(radars: Iterable[Radar | None], root: Path, now: int) -> None:
    """Tell radars what earlier runs have told. Reads files."""
    known = [one for one in radars if one is not None]
    held = list(told(root, now - REMEMBERED)) if known else []
    for one in known:
        one.know(drift for drift in held if (drift.exchange, drift.market_type) == one.market)
