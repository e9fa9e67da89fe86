"""Coinbase's products as contract events (`collectors.adapters.reference`). Pure.

A product has a status and flags: the row's status is the first flag that holds it back, else the venue's own word. US
futures (`linear`) have no word; where no flag holds them back they are online. They are counted in contracts of
`contract_size` base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.polls import failure
from collectors.exchanges.coinbase.products import Future
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal
from market.session import Polled

ROUTE = "products"
PATH = "/api/v3/brokerage/market/products"
PAGE = 1000
ONLINE = "online"
TYPES = {"spot": "SPOT", "linear": "FUTURE"}
FLAGS = ("is_disabled", "trading_disabled", "view_only", "cancel_only", "post_only", "limit_only", "auction_mode")
"""From what stops everything to what stops least."""


class _List(msgspec.Struct):
    products: list[msgspec.Raw]


class _Product(msgspec.Struct):
    product_id: str
    base_currency_id: str
    quote_currency_id: str
    status: str
    product_type: str
    future_product_details: Future | None = None
    base_increment: str | None = None
    price_increment: str | None = None
    quote_increment: str | None = None
    new_at: str | None = None
    is_disabled: bool = False
    trading_disabled: bool = False
    view_only: bool = False
    cancel_only: bool = False
    post_only: bool = False
    limit_only: bool = False
    auction_mode: bool = False


class _Name(msgspec.Struct):
    product_id: str


_list = msgspec.json.Decoder(_List).decode
_product = msgspec.json.Decoder(_Product).decode
_name = msgspec.json.Decoder(_Name).decode


class CoinbaseReference(ReferenceSession):
    """The products of one market, page by page."""

    route = ROUTE

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._market_type = market_type
        self._url = f"{rest.rstrip('/')}{PATH}?product_type={TYPES[market_type]}&limit={PAGE}"
        self._offset = 0
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        # a recorded answer's tag may be anybody's: what is no offset of ours begins anew
        self._offset = int(cursor) if cursor.isdecimal() and len(cursor) < 10 else 0
        return (f"{self._url}&offset={self._offset}" if self._offset else self._url), 1

    def _page(self, body: bytes) -> Page:
        held = _list(body).products
        return Page(held, None, str(self._offset + PAGE) if len(held) >= PAGE else "")

    def _name(self, raw: msgspec.Raw) -> str:
        return _name(raw).product_id

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str:
        found = _product(raw)
        if found.product_type != TYPES[self._market_type]:
            return "a product of another market"
        future, quote = found.future_product_details, found.quote_currency_id
        base = found.base_currency_id if future is None else future.contract_root_unit
        if not (found.product_id and base and quote) or (future is None) != (self._market_type == "spot"):
            return "no product, currencies or details"
        listed, expiry = _time(found.new_at), None if future is None else _time(future.contract_expiry)
        settle, size = (None, None) if future is None else (quote, _step(future.contract_size))
        if future is not None and size is None:
            return "no size of a contract"
        status = found.status or ONLINE
        held = next((flag for flag in FLAGS if getattr(found, flag)), None)
        return Contract(
            found.product_id, ROUTE, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=f"coinbase:{self._market_type}:{found.product_id}",
            unified=instruments.unified(base, quote, settle, expiry), base=base, quote=quote, settle=settle,
            tick=_step(found.price_increment) or _step(found.quote_increment), lot=_step(found.base_increment),
            multiplier=size or instruments.MARKET_SIZING["spot"].multiplier, contract_size=size,
            status=held if held is not None and status == ONLINE else status, listed=listed, expiry=expiry,
            funding_interval_s=None if future is None else future.interval(), valid_from=listed, valid_to=None,
            known_from=at.ts_recv, known_to=None,
        )  # fmt: skip


def _time(text: str | None) -> int | None:
    return wire.micros(text) if text else None


def _step(text: str | None) -> str | None:
    return text if text is not None and is_decimal(text) and not text.startswith("-") else None
