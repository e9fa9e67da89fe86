"""Payloads of Binance's slower channels: books, klines, mark prices, forced orders and contract changes.

Strict like `wire`: a wrong type refuses the frame, unknown keys are skipped. Levels of a book stay the venue's own
bytes; `good_levels` says whether they are what a line may carry.
"""

from __future__ import annotations

import msgspec

from collectors.adapters import reading
from collectors.exchanges.binance.wire import Id, Time

good_levels = reading.good_levels


class SpotDepth(msgspec.Struct, gc=False):
    """Spot `<s>@depth[@100ms]`: `U`..`u` are the update ids inside, the next event's `U` is `u` + 1."""

    E: Time
    s: str
    U: Id
    u: Id
    b: msgspec.Raw
    a: msgspec.Raw


class FuturesDepth(msgspec.Struct, gc=False):
    """Futures `<s>@depth…`, diff and partial alike: `pu` is the `u` of the event before; ids are not contiguous."""

    E: Time
    T: Time
    s: str
    U: Id
    u: Id
    pu: Id
    b: msgspec.Raw
    a: msgspec.Raw


class SpotBook(msgspec.Struct, gc=False):
    """Spot `<s>@depth<N>[@100ms]`: neither symbol nor time."""

    lastUpdateId: Id  # noqa: N815 -- the venue's spelling
    bids: msgspec.Raw
    asks: msgspec.Raw


class Candle(msgspec.Struct, gc=False):
    """`k` of a kline. `T` is the next candle's open time less one unit; `x` is true once, on the closing message."""

    t: Time
    T: Time
    s: str
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741 -- the venue's spelling
    v: str
    n: Id
    x: bool
    q: str
    V: str
    Q: str


class Kline(msgspec.Struct, gc=False):
    """`<s>@kline_<interval>` of any market."""

    E: Time
    s: str
    k: Candle


class MarkPrice(msgspec.Struct, gc=False):
    """`<s>@markPrice[@1s]`: `r` is the predicted funding rate and `T` the next funding's time; "" and 0 where none."""

    E: Time
    s: str
    p: str
    i: str | None = None
    r: str | None = None
    T: Time | None = None


class Order(msgspec.Struct, gc=False):
    """`o` of a forced order: `S` its side, `q` its quantity, `p` its limit, `ap` the average price of its fills."""

    s: str
    S: str
    q: str
    p: str
    T: Time
    ap: str | None = None


class ForceOrder(msgspec.Struct, gc=False):
    """`<s>@forceOrder`."""

    E: Time
    o: Order


class ContractInfo(msgspec.Struct, gc=False):
    """`!contractInfo`: status `cs`, delivery or delisting time `dt`, listing time `ot` (ms)."""

    E: Time
    s: str
    cs: str
    ct: str | None = None
    dt: Time | None = None
    ot: Time | None = None


class SpotDepthFrame(msgspec.Struct, gc=False):
    data: SpotDepth


class FuturesDepthFrame(msgspec.Struct, gc=False):
    data: FuturesDepth


class SpotBookFrame(msgspec.Struct, gc=False):
    data: SpotBook


class KlineFrame(msgspec.Struct, gc=False):
    data: Kline


class MarkPriceFrame(msgspec.Struct, gc=False):
    data: MarkPrice


class MarkPricesFrame(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


class ForceOrderFrame(msgspec.Struct, gc=False):
    data: ForceOrder


class ContractInfoFrame(msgspec.Struct, gc=False):
    data: ContractInfo


spot_depth = msgspec.json.Decoder(SpotDepthFrame).decode
futures_depth = msgspec.json.Decoder(FuturesDepthFrame).decode
spot_book = msgspec.json.Decoder(SpotBookFrame).decode
kline = msgspec.json.Decoder(KlineFrame).decode
mark_price = msgspec.json.Decoder(MarkPriceFrame).decode
mark_prices = msgspec.json.Decoder(MarkPricesFrame).decode
one_mark = msgspec.json.Decoder(MarkPrice).decode
force_order = msgspec.json.Decoder(ForceOrderFrame).decode
contract_info = msgspec.json.Decoder(ContractInfoFrame).decode
