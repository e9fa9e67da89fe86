"""What a symbol means: the unified (ccxt) spelling, and whether a ticker was listed twice; both from contract rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from lake import parquet
from lake.errors import WrongQuestion
from lake.reading import Wanted, check
from lake.rows import FileRow
from market.times import Interval

_COLUMNS = ("exchange", "market_type", "symbol", "uid", "unified", "valid_from", "valid_to", "known_from")
_TIMES = ("valid_from", "valid_to", "known_from")


class Listing(msgspec.Struct, frozen=True):
    """One listing of one ticker: `uid` tells it from an earlier or later one of the same name. Times us."""

    exchange: str
    market_type: str
    symbol: str
    uid: str
    unified: str
    valid: Interval


def listings(root: Path, files: Sequence[FileRow]) -> list[Listing]:
    """All listings that the contract rows of `files` name, as last known."""
    check(root, files)
    newest: dict[tuple[str, str, str, str], tuple[int, Listing]] = {}
    for file in files:
        table = parquet.read(root / file.path, _COLUMNS)
        for name in _TIMES:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table.column(name).cast(pa.int64()))
        for row in table.to_pylist():
            start, end = row["valid_from"], row["valid_to"]
            listing = Listing(
                exchange=row["exchange"],
                market_type=row["market_type"],
                symbol=row["symbol"],
                uid=row["uid"],
                unified=row["unified"] or "",
                valid=Interval(-(2**62) if start is None else start, 2**62 if end is None else end),
            )
            if not listing.unified:
                continue  # a notice of a change that does not say what the instrument is
            key = (listing.exchange, listing.market_type, listing.symbol, listing.uid)
            held = newest.get(key)
            if held is None or held[0] <= row["known_from"]:
                newest[key] = (row["known_from"], listing)
    return [listing for _, listing in newest.values()]


def resolve(wanted: Wanted, known: Iterable[Listing]) -> list[Wanted]:
    """The venues' spellings of a unified name, in the markets that are asked for; else the name itself."""
    found = {
        Wanted(listing.exchange, listing.market_type, listing.symbol)
        for listing in known
        if listing.unified == wanted.symbol
        and wanted.exchange in (None, listing.exchange)
        and wanted.market_type in (None, listing.market_type)
    }
    return sorted(found, key=lambda w: (w.exchange or "", w.market_type or "", w.symbol or "")) or [wanted]


def refuse_two_listings(known: Iterable[Listing], wanted: Sequence[Wanted], span: Interval) -> None:
    """Raises WrongQuestion where the read would join two listings of one ticker."""
    uids: dict[tuple[str, str, str], dict[str, Interval]] = {}
    for listing in known:
        mine = any(
            w.exchange in (None, listing.exchange)
            and w.market_type in (None, listing.market_type)
            and w.symbol in (None, listing.symbol)
            for w in wanted
        )
        if mine and listing.valid.overlaps(span):
            key = (listing.exchange, listing.market_type, listing.symbol)
            uids.setdefault(key, {})[listing.uid] = listing.valid
    for (exchange, market_type, symbol), held in sorted(uids.items()):
        if len(held) > 1:
            raise WrongQuestion(
                f"{exchange} {market_type} {symbol} was listed {len(held)} times in this range: {', '.join(held)}",
                "read one listing's range, or pass across_listings=True",
            )
