"""`dl probe`: is what the adapters say of their venues still true."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.output import ERR, OUT, print_json, print_table, progress
from cli.places import ConfigOption, JsonOption, KindOption, MarketTypeOption, SymbolOption, UsageError, command
from market import times

if TYPE_CHECKING:
    from collectors.config import EndpointConfig
    from collectors.examining import Examined
    from market.described import Sunset
    from market.session import Endpoint, Exchange


class Target(msgspec.Struct, frozen=True):
    """One market to probe."""

    exchange: Exchange
    market_type: str
    endpoint: Endpoint
    symbol: str


class _Addresses(msgspec.Struct):
    """What a simulator says when it is ready, of one venue or of several."""

    rest: dict[str, str] = {}
    ws: dict[str, str] = {}
    venues: dict[str, _Addresses] = {}


@command
def probe(
    exchange: Annotated[str | None, typer.Argument(help="The exchange to probe.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Probe every exchange.")] = False,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    kind: KindOption = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="How long a channel may be silent.")] = 10.0,
    config: ConfigOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Addresses to ask in place of the venues': a file with what a simulator printed.", readable=False
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write the report to this file, as JSON.", readable=False)
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep what came, a file a route and channel, in this folder.", readable=False)
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Test the contract of an exchange: ask each route and listen to each channel that is offered, for one liquid
    symbol, and say what has changed since the adapter's date. Nothing is collected.

    Verdicts: `ok`; `changed`, where a field or message came that the adapter does not know (nothing is lost by that);
    `broken`, where a field is missing, has another type or unit, or is not understood; `refused` by the venue;
    `silent`; `unreachable`. With --config the markets of its sources are probed, at their addresses.

    Exit codes: 0 as described, or with more in it; 1 a contract is broken; 69 something did not answer.
    """
    from collectors.examining import exit_code
    from market.kinds import kind as declared

    if kind is not None:
        declared(kind)

    if (exchange is None) == (not every) and config is None:
        raise UsageError("name one exchange, or --all", "dl exchanges lists them")
    targets = _targets(exchange, market_type, symbol, config, against)
    if not targets:
        raise UsageError("nothing to probe: no such market", "dl exchanges lists them")
    found = _run(targets, seconds, config, kind, quiet=as_json)
    endings = _endings(targets)
    if report is not None:
        _write(report, msgspec.json.format(msgspec.json.encode(_document(found, endings)), indent=2) + b"\n")
    if keep is not None:
        for one in found:
            _keep(keep, one)
    if as_json:
        print_json(_document(found, endings))
    else:
        _show(found, endings)
    return exit_code(found)


def _targets(
    exchange: str | None, market_type: str | None, symbol: str | None, config: Path | None, against: Path | None
) -> list[Target]:
    from collectors import exchanges
    from collectors.config import EndpointConfig
    from collectors.patterns import is_pattern
    from market.described import Described

    moved = _moved(against) if against is not None else None
    found: dict[tuple[str, str], Target] = {}
    wanted: list[tuple[str, str, EndpointConfig, str | None]]
    if config is not None:
        from daemon.config import load_config

        sources = load_config(config).collectors.sources
        for one in sources:
            if one.exchange not in exchanges.names():
                ERR.print(f"{one.exchange} {one.market_type} is not probed: it has no adapter of its own", markup=False)
        own = [one for one in sources if one.exchange in exchanges.names()]
        plain = [(one, next((name for name in one.symbols if not is_pattern(name)), None)) for one in own]
        wanted = [(one.exchange, one.market_type, one.endpoint, name) for one, name in plain]
    else:
        names = exchanges.names() if exchange is None else [exchange]
        wanted = [(name, market, EndpointConfig(), None) for name in names for market in exchanges.load(name).OFFERS]
    for name, market, endpoint, first in wanted:
        adapter = exchanges.load(name)
        if exchange not in (None, name) or market_type not in (None, market) or (name, market) in found:
            continue
        if moved is not None and (name, market) not in moved:
            continue
        liquid = adapter.LIQUID.get(market) if isinstance(adapter, Described) else None
        if (chosen := symbol or first or liquid) is None:
            raise UsageError(f"{name} {market} names no liquid symbol", "name one with --symbol")
        found[name, market] = Target(
            adapter,
            market,
            (moved[name, market] if moved is not None else endpoint).over(adapter.ENDPOINTS[market]),
            chosen,
        )
    return list(found.values())


def _moved(against: Path) -> dict[tuple[str, str], EndpointConfig]:
    """(exchange, market) -> where it is to be asked. Raises UsageError."""
    from collectors import exchanges
    from collectors.config import EndpointConfig

    try:
        said = msgspec.json.decode(against.read_bytes(), type=_Addresses)
        venues = said.venues or dict.fromkeys(exchanges.names(), said)
        return {
            (venue, market): EndpointConfig(rest=one.rest[market], ws=ws)
            for venue, one in venues.items()
            for market, ws in one.ws.items()
        }
    except (msgspec.MsgspecError, KeyError, ValueError, OSError) as error:
        hint = "python -m simulator prints such a line when it is ready"
        raise UsageError(f"{against} holds no addresses: {error}", hint) from error


def _run(
    targets: Sequence[Target], seconds: float, config: Path | None, only: str | None, *, quiet: bool
) -> list[Examined]:
    from cli.jobs import settings
    from collectors import transports
    from collectors.budget import Budget
    from collectors.examining import Tools, examine
    from runtime.clock import SystemClock

    clock = SystemClock()
    chosen = settings(config).collectors.connections
    total = sum(len(one.exchange.POLLS[one.market_type]) + len(one.exchange.OFFERS[one.market_type]) for one in targets)

    async def all_of_them() -> list[Examined]:
        done: list[Examined] = []

        def told(one: Examined) -> None:
            done.append(one)
            said(len(done), total, f"{one.exchange} {one.market_type} {one.name}")

        connect = transports.load_or_reference(chosen.transport, chosen.compression)
        tools = Tools(clock, connect, Budget(clock), seconds, told)
        found = []
        for one in targets:
            found += await examine(one.exchange, one.market_type, one.endpoint, one.symbol, tools, only)
        return found

    with progress("probe", quiet=quiet) as said:
        return asyncio.run(all_of_them())


def _endings(targets: Sequence[Target]) -> dict[str, Sequence[Sunset]]:
    from market.described import Described

    adapters = {one.exchange.NAME: one.exchange for one in targets}
    return {name: tuple(held.ENDS) if isinstance(held, Described) else () for name, held in adapters.items()}


def _document(found: Sequence[Examined], endings: dict[str, Sequence[Sunset]]) -> dict[str, object]:
    rows = [{k: v for k, v in msgspec.to_builtins(one).items() if k != "-"} for one in found]
    return {"probed": rows, "endings": endings}


def _show(found: Sequence[Examined], endings: dict[str, Sequence[Sunset]]) -> None:
    from runtime.clock import SystemClock

    today = times.date_of(SystemClock().now())
    rows = [
        [one.exchange, one.market_type, f"{one.what} {one.name}", one.kind, one.answer, one.as_of or None,
         "; ".join(f"{each.change} {each.path}{f' ({each.detail})' if each.detail else ''}" for each in one.changed)
         or None, one.verdict]
        for one in found
    ]  # fmt: skip
    columns = ["exchange", "market", "asked", "kind", "answer", "as of", "changed since", "verdict"]
    print_table("", columns, rows, "nothing was probed")
    for name, held in endings.items():
        for ending in held:
            mark = "! " if ending.urgent(today) else "  "
            OUT.print(f"{mark}{name}: {ending.said(today)} [{ending.source}]", markup=False)
    if bad := [one for one in found if one.verdict not in ("ok", "changed")]:
        ERR.print(f"{len(bad)} of {len(found)} not as described, or without an answer", markup=False)


def _keep(folder: Path, one: Examined) -> None:
    """What came, a line each, under the names that the fixtures of the adapters have."""
    if one.kept:
        ending = "frames" if one.what == "channel" else "body"
        name = f"{one.kind}.{ending}" if one.what == "channel" else f"{one.name.replace('/', '-')}.{ending}"
        _write(folder / one.exchange / one.market_type / name, b"".join(line + b"\n" for line in one.kept))


def _write(path: Path, data: bytes) -> None:
    from lake import durable

    durable.make_dirs(path.parent)
    durable.write_file(path, data)
