"""OKX's instruments: its lists of each type as contract events (`collectors.adapters.reference`). Pure.

Linear and inverse contracts share two lists, perpetuals and dated ones; of a perpetual, an `expTime` is the
announcement of its end. A quantity of either is a number of contracts, each worth `ctVal` x `ctMult`: of the base on
linear, of USD on inverse contracts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import failure, opened
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal, product
from market.session import Output, Polled

ROUTE = "public/instruments"
PATH = "/api/v5/public/instruments"
WEIGHT = 2
TYPES: Mapping[str, tuple[str, ...]] = {"spot": (wire.SPOT,), "linear": wire.TYPES, "inverse": wire.TYPES}
USD_MARGINED = "_UM"
"""How the family of contracts that are margined in USD spells its quote."""


class _Instrument(msgspec.Struct):
    instId: str  # noqa: N815 -- the venue's spelling
    instType: str  # noqa: N815
    state: str
    baseCcy: str = ""  # noqa: N815
    quoteCcy: str = ""  # noqa: N815
    settleCcy: str = ""  # noqa: N815
    instFamily: str = ""  # noqa: N815
    uly: str = ""
    ctType: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815
    ctValCcy: str = ""  # noqa: N815
    ctMult: str = ""  # noqa: N815
    listTime: str = ""  # noqa: N815
    expTime: str = ""  # noqa: N815
    tickSz: str = ""  # noqa: N815
    lotSz: str = ""  # noqa: N815


class _Name(msgspec.Struct):
    instId: str  # noqa: N815


_instrument = msgspec.json.Decoder(_Instrument).decode
_name = msgspec.json.Decoder(_Name).decode


class OkxReference(ReferenceSession):
    """The instruments of one market."""

    route = ROUTE

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._market_type = market_type
        self._types = TYPES[market_type]
        self._url = f"{rest.rstrip('/')}{PATH}"
        self._cursor = ""
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        asked = cursor if cursor in self._types else self._types[0]
        return f"{self._url}?instType={asked}", WEIGHT

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self._cursor = tag.partition(" ")[2]
        return super().respond(tag, status, headers, body, ts_recv)

    def _page(self, body: bytes) -> Page:
        first = self._cursor not in self._types[1:]
        return Page(opened(body), None, self._types[1] if first and len(self._types) > 1 else "")

    def _name(self, raw: msgspec.Raw) -> str:
        return _name(raw).instId

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str | None:
        found = _instrument(raw)
        if found.ctType and found.ctType != self._market_type:
            return None
        spot, market = self._market_type == "spot", self._market_type
        if not found.instId or not found.state:
            return "no id or state"
        if not (spot or found.ctType):
            return "no type of a contract"
        base, quote = (found.baseCcy, found.quoteCcy) if spot else _pair(found.instFamily or found.uly)
        size = "1" if spot else _size(found.ctVal, found.ctMult)
        if not base or not quote or size is None:
            return "no currencies, or no size of a contract"
        if found.ctValCcy not in ("", quote if market == "inverse" else base):
            return "a contract that is worth neither base (linear) nor quote (inverse)"
        listed, expiry = (wire.time_of(text) or None for text in (found.listTime, found.expTime))
        settle = None if spot else found.settleCcy or None
        dated = expiry if found.instType == wire.FUTURES else None
        return Contract(
            found.instId, ROUTE, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=f"okx:{market}:{found.instId}" + (f":{listed}" if listed else ""),
            unified=instruments.unified(base, quote, settle, dated), base=base, quote=quote, settle=settle,
            tick=_step(found.tickSz), lot=_step(found.lotSz), multiplier=size, contract_size=None if spot else size,
            status=found.state, listed=listed, expiry=expiry, funding_interval_s=None, valid_from=listed,
            valid_to=None, known_from=at.ts_recv, known_to=None,
        )  # fmt: skip


def _pair(family: str) -> tuple[str, str]:
    """Base and quote of a family: the list has them nowhere else."""
    base, _, quote = family.partition("-")
    return base, quote.removesuffix(USD_MARGINED)


def _size(value: str, times: str) -> str | None:
    """What one contract is worth, exactly."""
    if _step(value) is None or _step(times) is None:
        return None
    found = product(value, times)
    return found if found != "0" else None


def _step(text: str) -> str | None:
    return text if is_decimal(text) and not text.startswith("-") else None
