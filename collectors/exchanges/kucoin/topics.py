"""KuCoin's topics and what a connection asks of them: channels, requests a channel, and what a lot is worth. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, longer
from collectors.adapters.asking import Failed
from collectors.adapters.dated import Dated
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.subscribing import Subscriber
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import failure, opened
from market.session import Connection, Fetch, Output, Stream, StreamState

if TYPE_CHECKING:
    from collectors.exchanges.kucoin.protocol import KucoinSession, Parse

    Maker = Callable[[KucoinSession, StreamState], Parse]

CANDLES = "/market/candles"
ACTIVE = "/api/v1/contracts/active"
ACTIVE_WEIGHT = 3


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: its kind, whether its ids follow each other, its `max_silence` (us) and its parser.

    Candles are a channel an interval: `/market/candles_1min` is the topic `/market/candles:<symbol>_1min`.
    """

    name: str
    kind: str
    contiguous: bool
    max_silence: int | None
    maker: Maker | Dated[Maker]

    def stream(self, symbol: str) -> Stream:
        """The stream of one symbol."""
        prefix, _, interval = self.name.partition(f"{CANDLES}_")
        name = f"{CANDLES}:{symbol}_{interval}" if interval else f"{prefix}:{symbol}"
        return Stream(name, self.name, symbol, self.kind, self.contiguous, self.max_silence)


def parted(topic: str) -> tuple[str, str]:
    """(channel, symbol) of a topic."""
    prefix, _, rest = topic.partition(":")
    if prefix != CANDLES:
        return prefix, rest
    symbol, _, interval = rest.rpartition("_")
    return f"{CANDLES}_{interval}", symbol


class ByTopic(Subscriber):
    """Requests of one channel each, since a topic names one."""

    def _together(self, stream: Stream) -> str:
        return stream.name.partition(":")[0]

    def accepted(self, number: int | None, now: int) -> list[Output] | None:
        """An answer always names its request."""
        return None if number is None else super().accepted(number, now)


class _Lot(msgspec.Struct):
    symbol: str
    multiplier: msgspec.Raw


_lots = msgspec.json.Decoder(list[_Lot]).decode


def multiplier(raw: msgspec.Raw) -> str | None:
    """What a lot is worth: base units, of inverse contracts (whose multiplier is written below zero) quote units."""
    text = wire.plain(msgspec.Raw(bytes(raw).lstrip(b"-")))
    return text if text is not None and text.strip("0.") else None


class Worth:
    """What lots are worth, where the reference data has not said it in time: from the list of instruments."""

    TAG: ClassVar[str] = "contracts/active lots"

    def __init__(self, connection: Connection, known: dict[str, str]) -> None:
        self._url = f"{connection.rest.rstrip('/')}{ACTIVE}" if connection.rest else None
        self._known = known
        self._asked = False
        self._at = 0
        self._pause = FIRST_PAUSE

    def missing(self, symbol: str) -> bool:
        """Whether it is worth waiting until the symbol's lot is known; without an address there is nobody to ask."""
        return self._url is not None and symbol not in self._known

    def tick(self, symbols: Sequence[str], now: int) -> list[Output]:
        """The request, where one is due."""
        wanted = self._url is not None and any(self.missing(symbol) for symbol in symbols)
        if not wanted or self._asked or now < self._at or self._url is None:
            return []
        self._asked = True
        return [Fetch(self.TAG, "GET", self._url, ACTIVE_WEIGHT)]

    def deadline(self) -> int | None:
        """When `tick` has something."""
        return None if self._url is None or self._asked else self._at

    def respond(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> str | None:
        """Why an answer says nothing; None where it was understood."""
        self._asked = False
        self._at, self._pause = now + self._pause, longer(self._pause)
        if status != 200:
            return failure(status, headers, body).reason
        try:
            found = _lots(opened(body))
        except Failed as error:
            return str(error)
        except BAD_FRAME as error:
            return f"status 200 without instruments: {why(error)}"
        for lot in found:
            worth = multiplier(lot.multiplier)
            if worth is not None:
                self._known[lot.symbol] = worth
        return None
