"""What a REST request asks for: its parameters read by the venue's rules, and the venue's error bodies."""

from __future__ import annotations

from simulator import asking
from simulator.asking import Refused
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
        "openInterestHist": (30, 500),
    },
}
"""Default and greatest page."""


class Asked(asking.Asked):
    """One request to one market."""

    ILLEGAL = (-1100, "Illegal characters found in parameter '{}'; legal range is '^[0-9]{{1,20}}$'.")

    @property
    def spot(self) -> bool:
        """Whether it is the spot market, whose rules differ from those of the futures."""
        return self.market == "spot"

    def book(self) -> Book:
        """The symbol asked for."""
        symbol = self.query.get("symbol")
        if symbol is None:
            raise Refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in self.books:
            raise Refused(-1121, "Invalid symbol.")
        return self.books[symbol]

    def limit(self, route: str) -> int:
        """The page size."""
        default, most = PAGE["spot" if self.spot else "futures"][route]
        limit = self.number("limit")
        if limit is None:
            return default
        if limit < 1:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
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
