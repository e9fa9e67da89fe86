"""What a REST request asks for: its parameters read by the venue's rules, and the venue's error bodies."""

from __future__ import annotations

from aiohttp import web

from simulator.market import Book

PAGE = {
    "spot": {
        "trades": (500, 1000),
        "historicalTrades": (500, 1000),
        "aggTrades": (500, 1000),
        "klines": (500, 1000),
        "depth": (100, 5000),
    },
    "futures": {
        "trades": (500, 1000),
        "historicalTrades": (100, 500),
        "aggTrades": (500, 1000),
        "klines": (500, 1500),
        "depth": (500, 1000),
        "fundingRate": (100, 1000),
    },
}
"""Default and greatest page."""


class BadRequest(Exception):
    """An error body of the venue."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


class Asked:
    """One request to one market."""

    def __init__(self, request: web.Request, market: str, books: dict[str, Book], now: int) -> None:
        self.request = request
        self.query = request.query
        self.market = market
        self.books = books
        self.now = now
        """us."""

    @property
    def spot(self) -> bool:
        """Whether it is the spot market, whose rules differ from those of the futures."""
        return self.market == "spot"

    def number(self, name: str) -> int | None:
        """An integer parameter."""
        text = self.query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            )
        return int(text)

    def book(self) -> Book:
        """The symbol asked for."""
        symbol = self.query.get("symbol")
        if symbol is None:
            raise BadRequest(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in self.books:
            raise BadRequest(-1121, "Invalid symbol.")
        return self.books[symbol]

    def limit(self, route: str) -> int:
        """The page size."""
        default, most = PAGE["spot" if self.spot else "futures"][route]
        limit = self.number("limit")
        if limit is None:
            return default
        if limit < 1:
            raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, most)

    def time(self, name: str) -> int | None:
        """A time parameter as us: ms, or us where its size says so."""
        value = self.number(name)
        return None if value is None else value if value >= 10**14 else value * 1000

    @property
    def unit(self) -> int:
        """Width in us of one unit of the answer's times."""
        micro = self.spot and self.request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        return 1 if micro else 1000
