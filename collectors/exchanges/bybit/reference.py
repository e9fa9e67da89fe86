"""Bybit's instruments: `instruments-info` of each market as contract events (`collectors.adapters.reference`). Pure.

The list names what trades only; of a perpetual, a delivery time is the announcement of its end. Quantities are base
units, on inverse markets contracts of one USD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.reading import LAST
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.bybit.asking import failure, opened
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal
from market.session import Polled
from market.times import MS

ROUTE = "instruments-info"
PATH = "/v5/market/instruments-info"
PAGE = 1000
LONGEST_INTERVAL = 24 * 60
"""Minutes between two settlements."""


class _List(msgspec.Struct):
    rows: list[msgspec.Raw] = msgspec.field(name="list")
    nextPageCursor: str | None = None  # noqa: N815 -- the venue's spelling


class _Lot(msgspec.Struct):
    qtyStep: str | None = None  # noqa: N815
    basePrecision: str | None = None  # noqa: N815


class _Price(msgspec.Struct):
    tickSize: str | None = None  # noqa: N815


class _Instrument(msgspec.Struct):
    symbol: str
    status: str
    baseCoin: str  # noqa: N815
    quoteCoin: str  # noqa: N815
    lotSizeFilter: _Lot  # noqa: N815
    priceFilter: _Price  # noqa: N815
    contractType: str | None = None  # noqa: N815
    settleCoin: str | None = None  # noqa: N815
    launchTime: str = "0"  # noqa: N815
    deliveryTime: str = "0"  # noqa: N815
    fundingInterval: int | None = None  # noqa: N815


class _Name(msgspec.Struct):
    symbol: str


_list = msgspec.json.Decoder(_List)
_instrument = msgspec.json.Decoder(_Instrument).decode
_name = msgspec.json.Decoder(_Name).decode


class BybitReference(ReferenceSession):
    """The instruments of one market."""

    route = ROUTE

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._market_type = market_type
        self._url = f"{rest.rstrip('/')}{PATH}?category={market_type}&limit={PAGE}"
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        return (f"{self._url}&cursor={quote(cursor, safe='')}" if cursor else self._url), 1

    def _page(self, body: bytes) -> Page:
        found = opened(body, {}, 0)
        held = _list.decode(found.result)
        more = held.nextPageCursor or ""
        return Page(held.rows, None if found.time is None else found.time * MS, more if len(more) <= 512 else "")

    def _name(self, raw: msgspec.Raw) -> str:
        return _name(raw).symbol

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del body, now
        return failure(status, headers)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str:
        found = _instrument(raw)
        if not found.symbol or not found.status:
            return "no symbol or status"
        listed, expiry = _time(found.launchTime), _time(found.deliveryTime)
        spot = self._market_type == "spot"
        settle = None if spot else found.settleCoin
        perpetual = found.contractType is not None and found.contractType.endswith("Perpetual")
        sizing = instruments.MARKET_SIZING[self._market_type]
        uid = f"bybit:{self._market_type}:{found.symbol}" + (f":{listed}" if listed else "")
        step = found.lotSizeFilter.basePrecision if spot else found.lotSizeFilter.qtyStep
        minutes = found.fundingInterval or 0
        return Contract(
            found.symbol, ROUTE, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest", uid=uid,
            unified=instruments.unified(found.baseCoin, found.quoteCoin, settle, None if perpetual else expiry),
            base=found.baseCoin, quote=found.quoteCoin, settle=settle, tick=_step(found.priceFilter.tickSize),
            lot=_step(step), multiplier=sizing.multiplier,
            contract_size="1" if sizing.qty_unit == "contract" else None, status=found.status, listed=listed,
            expiry=expiry, funding_interval_s=60 * minutes if 0 < minutes <= LONGEST_INTERVAL else None,
            valid_from=listed, valid_to=None, known_from=at.ts_recv, known_to=None,
        )  # fmt: skip


def _time(text: str) -> int | None:
    """A time of the list (us): None for "0", "" and what is no time."""
    good = text.isascii() and text.isdigit() and len(text) <= 13 and int(text) > 0
    return int(text) * MS if good and int(text) * MS < LAST else None


def _step(text: str | None) -> str | None:
    return text if text is not None and is_decimal(text) and not text.startswith("-") else None
