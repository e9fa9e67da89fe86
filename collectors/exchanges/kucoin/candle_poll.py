"""KuCoin's candles of futures, polled: `kline/query`. Pure.

The stream of them (`limitCandle`) is told once a second and never says that a candle is closed, so that the last second
of one may be missing; and of its volume one field is documented as wrong. The route tells them whole, in lots.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.minutes import Minutes, Told, in_order
from collectors.adapters.reading import BAD_FRAME, Millis, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import Asking, opened
from market.kinds import Contract
from market.session import Fetch, Output, Polled
from market.times import MINUTE, MS

ROUTE = "kline/query"
WEIGHT = 3
FIELDS = 6
"""start (ms), open, high, low, close, lots; newer answers have more behind them."""

_rows = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_fields = msgspec.json.Decoder(list[msgspec.Raw]).decode
_millis = msgspec.json.Decoder(Millis).decode


def _told(raw: msgspec.Raw) -> Told | str:
    """A candle, or why it is none."""
    try:
        fields = _fields(raw)
        if len(fields) < FIELDS:
            return "a candle of too few numbers"
        time = _millis(fields[0])
    except BAD_FRAME as error:
        return why(error)
    texts = [wire.amount(field) for field in fields[1:FIELDS]]
    good = [text for text in texts if text is not None]
    return Told(time * MS, *good) if len(good) == len(texts) else "not a decimal number"


class KlinePoll(Asking):
    """Closed candles of one minute from the last known one on."""

    route = ROUTE

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/{ROUTE}", market, WEIGHT)
        self._minutes = Minutes(polled, ROUTE)
        self._worth: dict[str, str] = {}
        for contract in polled.known:
            self.know(contract)

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument (`market.session.Informed`)."""
        if contract.multiplier is not None:
            self._worth[contract.symbol] = contract.multiplier

    def _fetch(self, name: str, now: int) -> Fetch:
        first, last = self._minutes.asked(name, now)
        span = f"from={first // MS}&to={(last + MINUTE) // MS - 1}"
        url = f"{self._base}?symbol={quote(name, safe='')}&granularity=1&{span}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        told: Sequence[Told | str] = in_order([_told(raw) for raw in _rows(opened(body)) or ()])
        at = (name, self.session_id, self.frame_no, ts_recv)
        return self._minutes.rows(told, at, self._worth, inverse=self._market == "inverse")
