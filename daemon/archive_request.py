"""What `dl archive` is asked for, and where its files are then had from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from collectors.files.archive import memory
from collectors.files.archive.config import check_address
from collectors.files.archive.facts import Allowed
from collectors.files.archive.fetching import Host
from collectors.files.archive.getting import Folder, Remote, Source
from collectors.files.archive.memory import Remembered
from collectors.files.archive.series import ArchiveFile, Series, load, names, series_of
from daemon.config import Config
from lake import layout
from lake.errors import WrongQuestion
from lake.lasting import lasting
from lake.lost import since
from lake.manifest import Manifest
from market.numbers import is_decimal
from market.session import Gap
from market.times import DAY, Interval, parse
from runtime.clock import Clock

MOST_SYMBOLS = 1000
EVER = 1 << 62


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files: of these symbols, of the dates `first` to `last`, both included. See `dl archive --help`.

    `recheck`: those that the lake has taken in already, of what is named; "" and () are all.
    """

    market_type: str = ""
    kind: str = ""
    symbols: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    exchange: str = ""
    interval: str | None = None
    source: str | None = None
    contract_size: str | None = None
    holes: bool = False
    any_unit: bool = False
    recheck: bool = False

    def check(self) -> None:
        """Raises WrongQuestion for what cannot be meant."""
        if not self.recheck:
            self.series()
            return
        if self.contract_size is not None or self.interval is not None:
            raise WrongQuestion("--recheck with --contract-size or --interval", "they are remembered: leave them out")
        if self.source is not None and not self.exchange:
            raise WrongQuestion("--recheck with --source is of one archive", "say --exchange")
        if self.exchange:
            load(self.exchange)

    def series(self) -> list[Series]:
        """Raises WrongQuestion for what cannot be meant."""
        if not 0 < len(self.symbols) <= MOST_SYMBOLS:
            raise WrongQuestion(f"{len(self.symbols)} symbols", f"1 to {MOST_SYMBOLS:,} at a time")
        made = [series_of(self.exchange, self.market_type, self.kind, one, self.interval) for one in self.symbols]
        dataset, size = made[0].dataset, self.contract_size
        if size is not None and self.market_type not in (*dataset.sized, *dataset.sizeable):
            what = f"--contract-size {size}: the files of {self.exchange} {self.market_type} {self.kind} need none"
            raise WrongQuestion(what, "leave it out")
        if size is not None and (not is_decimal(size) or float(size) <= 0):
            raise WrongQuestion(f"--contract-size {size}", "the worth of one contract, e.g. 100 of BTCUSD_PERP")
        return made

    def allowed(self, contract_size: str | None = None) -> Allowed:
        return Allowed(self.holes, self.any_unit, contract_size)


def wanted_of(arguments: Mapping[str, Any]) -> Wanted:
    """Raises WrongQuestion."""
    try:
        wanted = msgspec.convert(dict(arguments), Wanted)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"what is wanted of the archive: {error}", "see dl archive --help") from error
    if not wanted.recheck and not wanted.exchange:
        wanted = msgspec.structs.replace(wanted, exchange="binance")
    wanted.check()
    return wanted


def sizes(root: Path, wanted: Wanted) -> dict[str, str]:
    """What a contract of each symbol is worth, where that is needed: as was said, else as the lake's list of
    instruments has it. Raises WrongQuestion where nobody says it.
    """
    made = wanted.series()
    dataset, market = made[0].dataset, wanted.market_type
    if market not in (*dataset.sized, *dataset.sizeable):
        return {}
    if wanted.contract_size is not None:
        return dict.fromkeys(wanted.symbols, wanted.contract_size)
    known = _listed(root, wanted.exchange, market)
    unknown = [symbol for symbol in wanted.symbols if symbol not in known]
    if unknown and market in dataset.sized:
        what = f"a quantity of {wanted.kind} is in contracts there, and neither files nor lake say what one of"
        fix = "say --contract-size, e.g. 100 of Binance's BTCUSD_PERP, 0.01 of OKX's BTC-USDT-SWAP"
        raise WrongQuestion(f"{what} {unknown[0]} is worth", fix)
    return known


def _listed(root: Path, exchange: str, market_type: str) -> dict[str, str]:
    """Symbol -> what its contract is worth, as the newest rows of `contract` say."""
    if not (root / layout.MANIFEST).is_file():
        return {}
    with closing(Manifest.read_only(root)) as manifest, manifest.snapshot() as snapshot:
        held = lasting(root, snapshot, exchange, market_type).contracts
    return {one.symbol: one.multiplier for one in held if one.multiplier is not None}


def remembered(root: Path, wanted: Wanted) -> list[tuple[ArchiveFile, Remembered]]:
    """Files that the lake has taken in, of what is asked to be looked at again. Raises Malformed, CorruptFile."""
    first = parse(wanted.first) if wanted.first else 0
    span = Interval(first, parse(wanted.last) + DAY if wanted.last else EVER)
    found = []
    for exchange in (wanted.exchange,) if wanted.exchange else names():
        for known in memory.every(root, exchange):
            if known.file is None:
                continue
            of = known.file.series
            if of.archive.dataset(of.market_type, of.kind, of.symbol) is None:
                continue  # it was asked for under the name of another market, which was let pass once
            named = (wanted.market_type, of.market_type), (wanted.kind, of.kind)
            meant = all(not asked or asked == has for asked, has in named) and known.file.span.overlaps(span)
            if meant and (not wanted.symbols or of.symbol in wanted.symbols):
                found.append((known.file, known))
    return found


def lost(manifest: Manifest, file: ArchiveFile, known: Remembered) -> Gap | None:
    """The newest gap of what the disk has lost of its rows since a file was taken in; None where all of it is there."""
    of = file.series
    taken = max((row.opened_at for row in manifest.sessions(session=known.session)), default=0)
    return since(manifest, (of.exchange, of.market_type, of.kind), [(of.symbol, file.span)], taken)


@asynccontextmanager
async def source_of(
    root: Path, clock: Clock, exchange: str, place: str | None, config: Config, stopping: Callable[[], bool]
) -> AsyncIterator[Source]:
    """The configured archive of a venue, or the `place` that --source names. Raises WrongQuestion."""
    settings, archive = config.archives, load(exchange)
    usual = settings.place(exchange)
    if place is not None and "://" not in place:
        yield Folder(Path(place), archive)
        return
    base, listing = place or usual.base, usual.listing
    own = base.rstrip("/") == archive.base.rstrip("/")
    if place is not None and place.rstrip("/") != usual.base.rstrip("/"):
        listing = None  # a mirror lists its own, if any
    try:
        check_address(base)
    except ValueError as error:
        raise WrongQuestion(f"--source: {error}", "name a folder, or an https:// address") from error
    allowed = settings.allowed(exchange)
    if urlsplit(base).netloc not in allowed:
        raise WrongQuestion(f"--source {base}: its host is not allowed", "name it in archives.hosts of config.yml")
    async with Host(clock, allowed, settings.caps.packed, stopping) as host:
        yield Remote(host, archive, None if own else base, listing, root)
