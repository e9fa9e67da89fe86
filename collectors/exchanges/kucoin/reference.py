"""KuCoin's instruments: `symbols` of spot, `contracts/active` of futures, as contract events. Pure.

Both futures markets are in one list, told apart by `isInverse`. What is called XBT is BTC in unified names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.reading import BAD_FRAME, LAST
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import failure, opened
from collectors.exchanges.kucoin.topics import ACTIVE, ACTIVE_WEIGHT, multiplier
from market import instruments
from market.kinds import Contract
from market.session import Polled
from market.times import DAY, MS, SECOND

ROUTES = {"spot": "symbols", "linear": "contracts/active", "inverse": "contracts/active"}
SYMBOLS = "/api/v2/symbols"
SYMBOLS_WEIGHT = 4
TRADING, HALTED = "Trading", "Halted"
"""Our words for `enableTrading` of spot, which has no status."""
PERPETUAL = "FFWCSX"
SAME = {"XBT": "BTC"}


class _Symbol(msgspec.Struct):
    symbol: str
    baseCurrency: str  # noqa: N815 -- the venue's spelling
    quoteCurrency: str  # noqa: N815
    enableTrading: bool  # noqa: N815
    priceIncrement: str | None = None  # noqa: N815
    baseIncrement: str | None = None  # noqa: N815
    tradingStartTime: int | None = None  # noqa: N815


class _Future(msgspec.Struct):
    symbol: str
    type: str
    baseCurrency: str  # noqa: N815
    quoteCurrency: str  # noqa: N815
    settleCurrency: str  # noqa: N815
    status: str
    multiplier: msgspec.Raw
    isInverse: bool  # noqa: N815
    tickSize: msgspec.Raw = wire.NOTHING  # noqa: N815
    lotSize: msgspec.Raw = wire.NOTHING  # noqa: N815
    firstOpenDate: int | None = None  # noqa: N815
    expireDate: int | None = None  # noqa: N815
    fundingRateGranularity: int | None = None  # noqa: N815


class _Name(msgspec.Struct):
    symbol: str
    isInverse: bool | None = None  # noqa: N815


_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_symbol = msgspec.json.Decoder(_Symbol).decode
_future = msgspec.json.Decoder(_Future).decode
_name = msgspec.json.Decoder(_Name).decode


class KucoinReference(ReferenceSession):
    """The instruments of one market."""

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._market_type = market_type
        self.route = ROUTES[market_type]
        self._url = rest.rstrip("/") + (SYMBOLS if market_type == "spot" else ACTIVE)
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        del cursor
        return self._url, SYMBOLS_WEIGHT if self._market_type == "spot" else ACTIVE_WEIGHT

    def _page(self, body: bytes) -> Page:
        return Page([raw for raw in _list(opened(body)) if self._ours(raw)], None)

    def _ours(self, raw: msgspec.Raw) -> bool:
        """Whether an instrument is of this market; one that cannot be read is said to be."""
        if self._market_type == "spot":
            return True
        try:
            inverse = _name(raw).isInverse
        except BAD_FRAME:
            return True
        return inverse is None or inverse == (self._market_type == "inverse")

    def _name(self, raw: msgspec.Raw) -> str:
        return _name(raw).symbol

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str:
        return self._spot(_symbol(raw), at) if self._market_type == "spot" else self._future(_future(raw), at)

    def _spot(self, found: _Symbol, at: At) -> Contract | str:
        if not found.symbol:
            return "no symbol"
        base, quote, listed = found.baseCurrency, found.quoteCurrency, _time(found.tradingStartTime)
        tick, lot = wire.amount(found.priceIncrement or ""), wire.amount(found.baseIncrement or "")
        return Contract(
            found.symbol, self.route, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=_uid("spot", found.symbol, listed), unified=instruments.unified(base, quote), base=base, quote=quote,
            settle=None, tick=tick, lot=lot, multiplier="1",
            contract_size=None, status=TRADING if found.enableTrading else HALTED, listed=listed, expiry=None,
            funding_interval_s=None, valid_from=listed, valid_to=None, known_from=at.ts_recv, known_to=None,
        )  # fmt: skip

    def _future(self, found: _Future, at: At) -> Contract | str:
        worth = multiplier(found.multiplier)
        if not found.symbol or not found.status or worth is None:
            return "no symbol, status or multiplier"
        listed, expiry = _time(found.firstOpenDate), _time(found.expireDate)
        names = (found.baseCurrency, found.quoteCurrency, found.settleCurrency)
        base, quote, settle = (SAME.get(name, name) for name in names)
        every = (found.fundingRateGranularity or 0) * MS
        return Contract(
            found.symbol, self.route, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=_uid(self._market_type, found.symbol, listed),
            unified=instruments.unified(base, quote, settle, None if found.type == PERPETUAL else expiry), base=base,
            quote=quote, settle=settle, tick=wire.amount(found.tickSize), lot=wire.amount(found.lotSize),
            multiplier=worth, contract_size=worth, status=found.status, listed=listed, expiry=expiry,
            funding_interval_s=every // SECOND if 0 < every <= DAY else None, valid_from=listed, valid_to=None,
            known_from=at.ts_recv, known_to=None,
        )  # fmt: skip


def _uid(market: str, symbol: str, listed: int | None) -> str:
    return f"kucoin:{market}:{symbol}" + (f":{listed}" if listed else "")


def _time(value: int | None) -> int | None:
    """A time of the list (us): None for what is no time."""
    return value * MS if value is not None and 0 < value * MS < LAST else None
