"""One connection by ccxt in the place of a socket: what is sent asks to watch a symbol, frames come of that.

They hold what ccxt understood (`collectors.ccxt.wire`). Whatever ends below ends the connection too, so that ccxt never
connects again unseen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from collectors.ccxt import library, tables, texts, wire
from collectors.ccxt.session import FAILED, LOST, REFUSED, TAKEN
from collectors.transports import BATCH_FRAMES, CLOSE_SECONDS, PAUSE_BYTES, Closed, Frames
from runtime.clock import Clock, within

TAKEN_SECONDS = 5.0
"""So long without an error, and ccxt is taken to watch a symbol."""
SAMPLE_SECONDS = 1.0
"""Between two looks at a book."""
GOING_AWAY = 1006
INTERNAL = 1011


class CcxtTransport:
    """`collectors.transports.Transport`; `venue` is an instance of this connection alone, its markets loaded."""

    def __init__(self, venue: Any, market_type: str, clock: Clock, now: Callable[[], int]) -> None:
        self._venue = venue
        self._market_type = market_type
        self._clock = clock
        self._now = now
        self._errors = library.errors()
        self._frames: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: Closed | None = None

    # --- collectors.transports.Transport ---

    async def receive(self) -> Frames:
        while not self._frames:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._wake.wait()
        return self._take(BATCH_FRAMES)

    def ready(self) -> Frames:
        return self._take(len(self._frames))

    def _take(self, most: int) -> Frames:
        taken = [self._frames.popleft() for _ in range(min(len(self._frames), most))]
        self._bytes -= sum(len(frame) for frame, _ in taken)
        if self._bytes < PAUSE_BYTES:
            self._room.set()
        return Frames([frame for frame, _ in taken], [at for _, at in taken])

    async def send(self, text: str) -> None:
        if self._ended is not None:
            raise self._ended
        asked = wire.watch(text)
        self._spawn(self._watch(asked))

    async def close(self) -> None:
        self.end(GOING_AWAY, "closed by us")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await within(self._clock, CLOSE_SECONDS, self._venue.close())
        except Exception as error:  # noqa: BLE001 -- ccxt's own; the connection is over in any case
            self._ended = Closed(INTERNAL, f"{type(error).__name__}: {error}"[:200])

    def end(self, code: int, reason: str) -> None:
        """It is over, whoever ended it; frames that are here are still received."""
        if self._ended is None:
            self._ended = Closed(code, reason)
        self._wake.set()
        self._room.set()

    # --- collectors.ccxt.library.Ear ---

    def ended(self, reason: str) -> None:
        self.end(GOING_AWAY, reason)

    def failed(self, reason: str, message: Any) -> None:
        self._put({"channel": "", "symbol": "", "event": FAILED, "reason": reason, "info": message})

    # --- watching ---

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, asked: wire.Watch) -> None:
        """Watch one symbol until the end."""
        name = f"{asked.watch}:{asked.timeframe}" if asked.timeframe else asked.watch
        head = {"channel": name, "symbol": asked.symbol}
        errors = self._errors
        try:
            self._check(asked.symbol)
            self._spawn(self._taken(head))
            await self._look(asked, head | self._size(asked.symbol))
        except asyncio.CancelledError:
            raise
        except (errors.BadSymbol, errors.NotSupported, errors.ArgumentsRequired, errors.BadRequest) as error:
            self._put({**head, "event": REFUSED, "reason": f"{type(error).__name__}: {error}"[:300]})
        except (errors.AuthenticationError, errors.PermissionDenied) as error:
            reason = f"{type(error).__name__}: {error}: the venue wants a key for it"
            self._put({**head, "event": REFUSED, "reason": reason[:300]})
        except errors.BaseError as error:
            self.end(GOING_AWAY, f"{type(error).__name__}: {error}"[:200])
        except Exception as error:  # noqa: BLE001 -- ccxt's parsers raise anything for what they do not expect
            self.end(INTERNAL, f"ccxt failed: {type(error).__name__}: {error}"[:200])

    async def _taken(self, head: Mapping[str, str]) -> None:
        await self._clock.sleep(TAKEN_SECONDS)
        if self._ended is None:
            self._put({**head, "event": TAKEN})

    def _check(self, symbol: str) -> None:
        """Raises ccxt's BadSymbol for what is no instrument of this market."""
        market = self._venue.market(symbol)
        mine = market.get("spot") if self._market_type == "spot" else market.get(self._market_type)
        if not mine:
            raise self._errors.BadSymbol(f"{symbol} is no instrument of the market {self._market_type}")

    def _size(self, symbol: str) -> dict[str, str | None]:
        market = self._venue.market(symbol)
        return {} if self._market_type == "spot" else {"size": texts.text(market.get("contractSize"))}

    async def _look(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        look = {
            tables.TRADES: self._trades,
            tables.BIDS_ASKS: self._bids_asks,
            tables.BOOK: self._book,
            tables.CANDLES: self._candles,
            tables.LIQUIDATIONS: self._liquidations,
        }.get(asked.watch, self._ticker)
        await look(asked, head)

    async def _trades(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        """All trades that ccxt keeps and that were not seen, not only those it says are new: it forgets some."""
        last: Any = None
        while True:
            found = await self._venue.watch_trades(asked.symbol)
            at = self._now()
            kept = self._venue.trades.get(asked.symbol) or found
            new: list[Any] = []
            for trade in reversed(kept):
                if trade is last:
                    break
                new.append(trade)
            else:
                if last is not None and len(kept) >= library.TRADES_KEPT:
                    reason = f"more than {library.TRADES_KEPT:,} trades between two looks"
                    self._put({**head, "event": LOST, "reason": reason})
            if new:
                last = new[0]
                rows = [texts.told(tables.TRADES, trade) for trade in reversed(new)]
                await self._frame(head, rows, at)

    async def _book(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        before: Any = None
        while True:
            found = await self._venue.watch_order_book(asked.symbol)
            at = self._now()
            book = texts.told_book(found, asked.levels)
            if book != before and (book["parsed"]["bids"] or book["parsed"]["asks"]):
                before = book
                await self._frame(head, [book], at)
            await self._clock.sleep(SAMPLE_SECONDS)

    async def _candles(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        before: list[Any] = []
        while True:
            found = await self._venue.watch_ohlcv(asked.symbol, asked.timeframe)
            at = self._now()
            kept = (self._venue.ohlcvs.get(asked.symbol) or {}).get(asked.timeframe) or found
            told = [texts.told_candle(candle) for candle in kept[-3:]]
            rows = [row for row in told if row not in before]
            before = told
            if rows:
                await self._frame(head, rows, at)

    async def _liquidations(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        while True:
            found = await self._venue.watch_liquidations(asked.symbol)
            at = self._now()
            await self._frame(head, [texts.told(asked.watch, one) for one in found], at)

    async def _ticker(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        """Tickers as they are read: of those that came meanwhile ccxt keeps the newest only."""
        while True:
            watch = self._venue.watch_mark_price if asked.watch == tables.MARKS else self._venue.watch_ticker
            found = await watch(asked.symbol)
            at = self._now()
            await self._frame(head, [texts.told(asked.watch, found)], at)

    async def _bids_asks(self, asked: wire.Watch, head: Mapping[str, Any]) -> None:
        """All best prices of this symbol that came since the last look."""
        while True:
            newest = (await self._venue.watch_bids_asks([asked.symbol])).get(asked.symbol)
            at = self._now()
            heard = self._venue.bidsasks
            found = heard.take(asked.symbol) if isinstance(heard, library.Heard) else []
            rows = [texts.told(asked.watch, one) for one in found or ([] if newest is None else [newest])]
            if rows:
                await self._frame(head, rows, at)

    # --- frames ---

    async def _frame(self, head: Mapping[str, Any], rows: list[Any], at: int) -> None:
        """Hand on a frame; waits while more is waiting than may."""
        self._put({**head, "rows": rows}, at)
        if not self._room.is_set():
            await self._room.wait()

    def _put(self, frame: Mapping[str, Any], at: int | None = None) -> None:
        data = texts.encode(frame)
        self._frames.append((data, self._now() if at is None else at))
        self._bytes += len(data)
        if self._bytes >= PAUSE_BYTES:
            self._room.clear()
        self._wake.set()
