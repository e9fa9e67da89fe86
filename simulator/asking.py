"""What a REST request asks for, and what refuses it: each twin says what it calls a symbol, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import msgspec
from aiohttp import web

from simulator.hub import Hub
from simulator.market import Book

Error: TypeAlias = tuple[int | str, str]
"""The venue's code, and its words with `{}` in place of what is wrong."""


class Refused(Exception):
    """An answer with one of the venue's errors."""

    def __init__(self, code: int | str, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Asked:
    """One request to one market."""

    SYMBOL = "symbol"
    """The parameter, or the part of the path, that has the symbol."""
    UNKNOWN: ClassVar[Error]
    """Of a symbol that is not listed."""
    ILLEGAL: ClassVar[Error]
    """Of a parameter that is no number."""

    def __init__(self, hub: Hub, market: str, request: web.Request) -> None:
        self.hub, self.market, self.request, self.query = hub, market, request, request.query
        self.now = hub.clock.now()
        """us."""
        self.books = {book.symbol: book for book in hub.market.books if book.market == market and book.listed}

    @property
    def name(self) -> str:
        """The symbol asked for, as it was written."""
        return self.request.match_info.get(self.SYMBOL) or self.query.get(self.SYMBOL, "")

    def book(self) -> Book:
        """The book of the symbol asked for."""
        book = self.books.get(self.name)
        if book is None:
            raise refusal(self.UNKNOWN, self.name)
        return book

    def number(self, name: str) -> int | None:
        """An integer parameter; None where it was not sent."""
        text = self.query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise refusal(self.ILLEGAL, name)
        return int(text)


def refusal(error: Error, name: str) -> Refused:
    """That error about `name`."""
    code, text = error
    return Refused(code, text.format(name))


def respond(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body."""
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")
