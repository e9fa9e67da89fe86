"""What stands in for sockets and HTTP where a venue is reached by ccxt: connections, and answers to requests.

One instance of ccxt asks for one market's lists and rates; each connection has an instance of its own, which is given
the instruments and knows nothing of an earlier one. Both are paced by ccxt's own limiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from collectors.ccxt import library, tables, texts
from collectors.ccxt.transport import CcxtTransport
from collectors.http import Answer, HttpFailed
from collectors.transports import Compression, ConnectFailed
from runtime.clock import Clock, within

MARKETS_SECONDS = 60.0
"""For a venue's whole list of instruments."""
ANSWER_SECONDS = 30.0
LIMITED, REFUSED, FAILED = 429, 400, 500
_PAST = (tables.TRADES_PAST, tables.CANDLES_PAST, tables.INTEREST_PAST)


class Carrier:
    """One market of one venue. Use it as an async context manager in one event loop."""

    def __init__(self, ccxt_id: str, market_type: str, clock: Clock) -> None:
        self._id = ccxt_id
        self._market_type = market_type
        self._clock = clock
        self._askers: dict[tuple[str, str], Any] = {}
        """Addresses -> the instance that asks there."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(library.load, self._id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        askers, self._askers = self._askers, {}
        await asyncio.gather(*(asker.close() for asker in askers.values()), return_exceptions=True)

    async def connect(
        self,
        url: str,
        *,
        max_frame: int,
        timeout: float,  # noqa: ASYNC109 -- the handshake's own limit, part of the contract
        now: Callable[[], int],
        compression: Compression = "off",
    ) -> CcxtTransport:
        """See `collectors.transports.Connect`; frames and compression are ccxt's own. Raises ConnectFailed."""
        del max_frame, compression
        asker = self._asker(url)
        try:
            await within(self._clock, max(timeout, MARKETS_SECONDS), asker.load_markets())
            venue = self._make(url)
            venue.set_markets_from_exchange(asker)
        except TimeoutError as error:
            raise ConnectFailed(f"{self._id} gave no list of instruments in {MARKETS_SECONDS:g} s") from error
        except Exception as error:  # ccxt's parsers raise anything for what they do not expect
            raise ConnectFailed(f"{type(error).__name__}: {error}"[:300], **self._said(asker, error)) from error
        venue.ear = transport = CcxtTransport(venue, self._market_type, self._clock, now)
        return transport

    async def fetch(self, method: str, url: str) -> Answer:
        """Call ccxt's method that the address names. Raises HttpFailed where the venue could not be asked."""
        del method
        asker, errors = self._asker(url), library.errors()
        called = urlsplit(url).path.rpartition("/")[2]
        asked = dict(parse_qsl(urlsplit(url).query))
        try:
            rows = await within(self._clock, self._patience(called), self._call(asker, called, asked))
        except TimeoutError as error:
            raise HttpFailed(f"{url}: no answer within {self._patience(called):g} s") from error
        except (errors.RateLimitExceeded, errors.DDoSProtection) as error:
            return self._failed(LIMITED, error, asker)
        except (errors.BadSymbol, errors.BadRequest, errors.NotSupported, errors.ArgumentsRequired) as error:
            return self._failed(REFUSED, error, asker)
        except errors.NetworkError as error:
            raise HttpFailed(f"{url}: {type(error).__name__}: {error}"[:300]) from error
        except Exception as error:  # noqa: BLE001 -- ccxt's parsers raise anything for what they do not expect
            return self._failed(FAILED, error, asker)
        return Answer(200, {"content-type": "application/json"}, texts.encode({"rows": rows}))

    async def _call(self, asker: Any, called: str, asked: Mapping[str, str]) -> Sequence[Any]:
        """The rows of one method."""
        if called == tables.MARKETS_ROUTE:
            markets = await asker.load_markets(True)
            return [texts.told_market(market) for market in markets.values()]
        await asker.load_markets()
        symbol = asked.get("symbol", "")
        if called == tables.INTEREST:
            return [texts.told(called, await asker.fetch_open_interest(symbol))]
        if called == tables.FUNDING:
            since = int(asked.get("since", "0")) or None
            found = await asker.fetch_funding_rate_history(symbol, since, _most(asked))
            return [texts.told(called, rate) for rate in found]
        if called in _PAST:
            return await _past(asker, called, asked)
        raise library.errors().NotSupported(f"{called} is not asked for here")

    @staticmethod
    def _patience(called: str) -> float:
        return MARKETS_SECONDS if called == tables.MARKETS_ROUTE else ANSWER_SECONDS + MARKETS_SECONDS

    def _failed(self, status: int, error: Exception, asker: Any) -> Answer:
        body = texts.encode({"error": type(error).__name__, "message": str(error)[:300]})
        return Answer(status, {"content-type": "application/json", **_retry_after(asker)}, body)

    def _said(self, asker: Any, error: Exception) -> dict[str, Any]:
        """What a refused connection is told with: a status that asks for patience."""
        errors = library.errors()
        limited = isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)
        return {"status": LIMITED if limited else None, "headers": _retry_after(asker)}

    def _asker(self, url: str) -> Any:
        """The instance that asks at these addresses."""
        place = _place(url)
        if place not in self._askers:
            self._askers[place] = self._make(url)
        return self._askers[place]

    def _make(self, url: str) -> Any:
        return library.make(self._id, self._market_type, *_place(url))


async def _past(asker: Any, called: str, asked: Mapping[str, str]) -> Sequence[Any]:
    """The rows of one method since a time, oldest first."""
    symbol, since, most = asked.get("symbol", ""), int(asked.get("since", "0")), _most(asked)
    if called == tables.TRADES_PAST:
        return [texts.told(called, one) for one in await asker.fetch_trades(symbol, since, most)]
    timeframe = asked.get("timeframe", "1m")
    if called == tables.CANDLES_PAST:
        return [texts.told_candle(one) for one in await asker.fetch_ohlcv(symbol, timeframe, since, most)]
    return [texts.told(called, one) for one in await asker.fetch_open_interest_history(symbol, timeframe, since, most)]


def _most(asked: Mapping[str, str]) -> int | None:
    """How many rows are wanted; None for as many as the venue gives."""
    return int(asked.get("limit", "0")) or None


def _place(url: str) -> tuple[str, str]:
    """The addresses of REST and WebSocket that a configuration gave, "" for the venue's own."""
    given = dict(parse_qsl(urlsplit(url).query))
    return given.get("rest", ""), given.get("ws", "")


def _retry_after(asker: Any) -> dict[str, str]:
    headers = getattr(asker, "last_response_headers", None) or {}
    found = {str(name).lower(): str(value) for name, value in headers.items()}
    return {"retry-after": found["retry-after"]} if "retry-after" in found else {}
