"""The market of `scale_day.py`: what a venue says of all its symbols, minute by minute, as events of our kinds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

MINUTE = 60_000_000
HOUR = 60 * MINUTE


class Market:
    """What a venue says of all its symbols, minute by minute; ids go on over the days."""

    def __init__(self, symbols: list[str], rate: float, start: int) -> None:
        self.symbols = symbols
        self.start = start
        self.per_minute = rate * 60
        self.frame_no = itertools.count(1)
        self.levels = [
            b"[" + b",".join(b'["%d.%02d","%d.5"]' % (900 + n, m, n + 1) for n in range(10)) + b"]" for m in range(60)
        ]

    def minute(self, at: int) -> Iterator[tuple[str, list[Any]]]:
        """(kind, its events of the minute that starts at `at`), in the order they are received."""
        from market import kinds

        number = (at - self.start) // MINUTE
        yield "trade", list(self._trades(kinds.Trade, at, number, self.per_minute))
        yield "quote", list(self._quotes(at, number))
        yield "agg_trade", list(self._trades(kinds.AggTrade, at, number, 1))
        yield "book_delta", [self._delta(place, symbol, at, number) for place, symbol in enumerate(self.symbols)]
        yield "mark_price", [kinds.MarkPrice(*self._head(s, at + 1000 * n), "900.5", "900.4", "0.0001", at + HOUR)
                             for n, s in enumerate(self.symbols)]  # fmt: skip
        if number % 15 == 0:
            yield "kline", [kinds.Kline(*self._head(s, at + 1000 * n), "15m", at - 15 * MINUTE, "900", "901", "899",
                                        "900.5", "12.5", "11250.5", 15, "6", "5400")
                            for n, s in enumerate(self.symbols)]  # fmt: skip
        if number % 60 == 0:
            yield from self._hourly(at, number)

    def _hourly(self, at: int, number: int) -> Iterator[tuple[str, list[Any]]]:
        import msgspec

        from market import kinds

        levels = msgspec.Raw(self.levels[0])
        every = list(enumerate(self.symbols))
        yield (
            "book_snapshot",
            [
                kinds.BookSnapshot(*self._head(s, at + 1000 * n, "rest"), levels, levels, 10 * number, 10)
                for n, s in every
            ],
        )
        yield (
            "open_interest",
            [kinds.OpenInterest(*self._head(s, at + 1000 * n, "rest"), "1234.5", "base", 1) for n, s in every],
        )
        yield (
            "liquidation",
            [
                kinds.Liquidation(*self._head(s, at + 1000 * n), "sell", "900.5", None, "0.5", None)
                for n, s in every[::10]
            ],
        )
        if number % 480 == 0:
            yield (
                "funding_rate",
                [
                    kinds.FundingRate(*self._head(s, at + 1000 * n, "rest"), "0.0001", "ratio", 28800, at)
                    for n, s in every
                ],
            )
        if number % 1440 == 0:
            yield "contract", [
                kinds.Contract(*self._head(s, at + 1000 * n, "rest"), f"binance:linear:{s}", None, s[:-4], "USDT",
                               "USDT", "0.01", "0.001", None, None, f"trading {number}", *[None] * 5, at, None)
                for n, s in every
            ]  # fmt: skip

    def _head(self, symbol: str, at: int, source: str = "ws") -> tuple[Any, ...]:
        return (symbol, "scale", at, at, at + 20_000, f"scale-{self.start}-1", next(self.frame_no), 0, source)

    def _times(self, at: int, number: int, per_minute: float) -> Iterator[tuple[int, int, int]]:
        """(time, place of the symbol, its event's number): so many a minute and symbol, spread over the minute."""
        first, last = int(number * per_minute), int((number + 1) * per_minute)
        count = max(1, (last - first) * len(self.symbols))
        for turn, which in enumerate(range(first, last)):
            for place in range(len(self.symbols)):
                yield at + (turn * len(self.symbols) + place) * (MINUTE // count) // 1000 * 1000, place, which

    def _trades(self, struct: Any, at: int, number: int, per_minute: float) -> Iterator[Any]:
        for time, place, which in self._times(at, number, per_minute):
            ids = {"first_id": 1000 + which, "last_id": 1000 + which} if struct.__name__ == "AggTrade" else {}
            yield struct(
                *self._head(self.symbols[place], time), f"{900 + which % 7}.{which % 100:02d}",
                f"0.{1 + which % 99:02d}", "buy" if which % 2 else "sell", 1000 + which, "market", **ids,
            )  # fmt: skip

    def _quotes(self, at: int, number: int) -> Iterator[Any]:
        from market.kinds import Quote

        for time, place, which in self._times(at, number, 2 * self.per_minute):
            yield Quote(*self._head(self.symbols[place], time), f"{900 + which % 7}.10", "1.5",
                        f"{900 + which % 7}.12", "2.5", 5000 + which)  # fmt: skip

    def _delta(self, place: int, symbol: str, at: int, number: int) -> Any:
        import msgspec

        from market.kinds import BookDelta

        levels = msgspec.Raw(self.levels[number % 60])
        head = self._head(symbol, at + 1000 * place)
        if number == 0:
            return BookDelta(*head, levels, levels, None, 10, None, flags=("snapshot",))
        return BookDelta(*head, levels, levels, 10 * number + 1, 10 * number + 10, 10 * number)
