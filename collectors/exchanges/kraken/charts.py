"""Candles of Kraken Futures, polled: no stream tells them. Pure.

The answer has no envelope, no time and no word on which candle is closed; `volume` is in base units on linear, in
contracts of one USD on inverse.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from collectors.adapters.minutes import Minutes, Told, in_order
from collectors.adapters.reading import BAD_FRAME, NUMBER, Millis, why
from collectors.exchanges.kraken import texts
from collectors.exchanges.kraken.futures_polls import Asking
from market.session import Fetch, Output, Poll, Polled
from market.times import MINUTE, MS, SECOND

ROUTE = "charts"
POLL = Poll(ROUTE)
BASE = "/api/charts/v1/trade"


class _Candle(msgspec.Struct):
    """Numbers as texts; `volume` as a number in older answers."""

    time: Millis
    open: str
    high: str
    low: str
    close: str
    volume: msgspec.Raw


class _Answer(msgspec.Struct):
    candles: list[msgspec.Raw]


_answer = msgspec.json.Decoder(_Answer).decode
_candle = msgspec.json.Decoder(_Candle).decode


def _told(raw: msgspec.Raw) -> Told | str:
    """A candle, or why it is none."""
    try:
        found = _candle(raw)
    except BAD_FRAME as error:
        return why(error)
    volume = texts.number(msgspec.Raw(bytes(found.volume).strip(b'"')))
    prices = (found.open, found.high, found.low, found.close)
    if volume is None or not all(NUMBER(price) for price in prices):
        return "not a decimal number"
    return Told(found.time * MS, *prices, volume)


class KlinePoll(Asking):
    """Closed candles of one minute from the last known one on."""

    route = ROUTE

    def __init__(self, session_id: str, polled: Polled, rest: str, market_type: str) -> None:
        super().__init__(session_id, polled, f"{rest.rstrip('/')}{BASE}", market_type)
        self._minutes = Minutes(polled, ROUTE)
        self._worth = dict.fromkeys(polled.symbols, "1")

    def _fetch(self, name: str, now: int) -> Fetch:
        first, last = self._minutes.asked(name, now)
        span = f"from={first // SECOND}&to={(last + MINUTE) // SECOND - 1}"
        return Fetch(f"{self.route} {name}", "GET", f"{self._base}/{quote(name, safe='')}/1m?{span}", self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        told = in_order([_told(raw) for raw in _answer(body).candles])
        at = (name, self.session_id, self.frame_no, ts_recv)
        return self._minutes.rows(told, at, self._worth, inverse=self._market_type == "inverse")
