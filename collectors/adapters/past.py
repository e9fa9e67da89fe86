"""What the histories of venues have in common: whom they are asked for, and what every row has to be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from collectors.adapters.pages import Made, Row, Unstable
from collectors.adapters.reading import EARLIEST, LAST, all_good
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import FundingRate, Kline
from market.numbers import is_decimal
from market.session import Polled, Stream
from market.times import MINUTE, MS

INTERVAL = "1m"
"""The candles that are asked for: all wider ones fold from them."""
MOMENTS = Absent("the venue gives candles of it, and no kind has a place for those")
NO_FUTURES = Absent("there is none on spot")
Make = Callable[[msgspec.Raw, Made, int], Row]
"""One row of an answer, where it was received, its place there. Raises BAD_FRAME, Unstable."""
Prices = tuple[str, str, str, str]
"""Open, high, low, close."""


def asked(
    name: str, offered: Mapping[str, Offer | Absent], market_type: str, polled: Polled
) -> tuple[str, tuple[int, int]]:
    """Symbol and period [from, to) (us) that a history is asked for. Raises Malformed for what is not given, and for
    more than one.
    """
    if polled.span is None or len(polled.symbols) != 1:
        raise Malformed("history (it is of one symbol and a period)", polled.symbols)
    offer = offered.get(polled.kind, Absent("no route gives it"))
    if isinstance(offer, Absent):
        raise Malformed(f"history of {name} {market_type} ({offer.why})", polled.kind)
    return polled.symbols[0], polled.span


def worth(polled: Polled, symbol: str) -> str:
    """What one contract of the symbol is worth, as its listing says. Raises Malformed where it was not told."""
    sizes = [one.multiplier for one in polled.known if one.symbol == symbol and one.multiplier is not None]
    if not sizes:
        raise Malformed("history of contracts (what one is worth has to be known)", symbol)
    return sizes[-1]


def stream_of(route: str, symbol: str, kind: str) -> Stream:
    """What a history's events say that they come from."""
    return Stream(f"{route} {symbol}", route, symbol, kind, contiguous=False)


def rows_of(items: Iterable[msgspec.Raw], make: Make, made: Made) -> list[Row]:
    """All rows of an answer. Raises as `make`."""
    return [make(raw, made, item) for item, raw in enumerate(items)]


def check(at: int, *texts: str) -> None:
    """Raises Unstable for what is no row of any venue: `texts` are numbers that are not below zero."""
    if not all_good(*texts):
        raise Unstable("not a decimal number")
    if not EARLIEST < at < LAST:
        raise Unstable("impossible time")


def minute(
    symbol: str, route: str, opened: int, prices: Prices, volumes: tuple[str | None, str | None], raw: bytes,
    made: Made, item: int,
) -> Row:  # fmt: skip
    """A candle of one minute; `volumes` are in base and in quote. Raises Unstable."""
    check(opened, *prices, *(one for one in volumes if one is not None))
    if opened % MINUTE:
        raise Unstable("a candle that is not of one minute")
    closed = opened + MINUTE - MS
    event = Kline(
        symbol, f"{route} {INTERVAL}", closed, None, made.ts_recv, made.session, made.frame_no, item, "rest", INTERVAL,
        opened, *prices, *volumes, None, None, None,
    )  # fmt: skip
    return Row(opened, closed, raw, event)


def settled(symbol: str, route: str, at: int, rate: str | None, raw: bytes, made: Made, item: int) -> Row:
    """A settled rate. Raises Unstable."""
    check(at)
    if rate is None or not is_decimal(rate):
        raise Unstable("no rate")
    event = FundingRate(
        symbol, route, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", rate, "ratio", None, at
    )
    return Row(at, at, raw, event)
