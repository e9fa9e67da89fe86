"""The library itself: which ids there are, what each can do, and instances that keep digits and say what they lose.

The only module that imports ccxt, and only when asked: that takes a second and 100 MB.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from collectors.ccxt import tables
from collectors.ccxt.texts import Exact
from market.errors import Malformed, MarketError

TRADES_KEPT = 5_000
"""Trades a symbol that ccxt keeps until they are read."""
NEAR = 5
_TYPES = {"spot": {"spot"}, "linear": {"linear", "swap", "future"}, "inverse": {"inverse", "swap", "future"}}
"""Market -> the words by which venues' own lists are chosen in ccxt."""


class Heard(dict[str, Any]):
    """A dictionary that remembers what each of its keys was given until it is taken: ccxt itself keeps the newest."""

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, deque[Any]] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._given.setdefault(key, deque(maxlen=TRADES_KEPT)).append(value)

    def take(self, key: str) -> list[Any]:
        return list(self._given.pop(key, ()))


class UnknownVenue(MarketError):
    """ccxt has no such id; the message names those that are spelled alike."""

    def __init__(self, ccxt_id: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(ccxt_id, known, n=NEAR, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {len(known)}, e.g. {', '.join(known[:NEAR])}"
        super().__init__(f"unknown exchange 'ccxt:{ccxt_id}': ccxt streams from no such venue; {hint}")


def ids() -> tuple[str, ...]:
    """The venues that ccxt streams from, sorted; found without importing it."""
    found = importlib.util.find_spec("ccxt")
    places = found.submodule_search_locations if found is not None else None
    files = (file for place in places or () for file in Path(place, "pro").glob("*.py"))
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


def known(ccxt_id: str) -> str:
    """Raises UnknownVenue."""
    if ccxt_id not in ids():
        raise UnknownVenue(ccxt_id, ids())
    return ccxt_id


def load(ccxt_id: str) -> type[Any]:
    """Ccxt's class of a venue. Raises UnknownVenue."""
    known(ccxt_id)
    import ccxt.pro  # noqa: PLC0415 -- seconds and 100 MB, for whoever asks for it only

    found: type[Any] = getattr(ccxt.pro, ccxt_id)
    return found


@functools.cache
def has(ccxt_id: str, method: str) -> bool:
    """Whether a venue has a method by itself. Raises UnknownVenue."""
    return load(ccxt_id)().has.get(method) is True


def errors() -> Any:
    """Ccxt's module of errors."""
    return importlib.import_module("ccxt.base.errors")  # the package gives the name `base` to a list


def check(ccxt_id: str, market_type: str, kinds: Sequence[str], channels: Mapping[str, str]) -> None:
    """Raises Malformed for a kind that this venue has not by ccxt, naming what else would do; UnknownVenue."""
    venue = load(ccxt_id)()
    for kind in kinds:
        name = channels.get(kind) or _default(market_type, kind)
        channel = tables.CHANNELS[market_type].get(name)
        method = channel.method if channel is not None else name
        whose = f"kind of {ccxt_id} {market_type} by ccxt"
        if not venue.has.get(method):
            raise Malformed(f"{whose} (that venue has no {method}{_instead(venue, market_type, kind, method)})", kind)
        timeframes = venue.timeframes or {}
        if channel is not None and channel.timeframe and channel.timeframe not in timeframes:
            have = [one for one in tables.INTERVALS if one in timeframes]
            hint = f"give channels: {{kline: {tables.CANDLES}:{have[0]}}}" if have else "it has none that are collected"
            raise Malformed(f"interval of the candles of {ccxt_id} by ccxt ({hint})", channel.timeframe)


def _default(market_type: str, kind: str) -> str:
    """The channel or route of a kind where none is named; the kind itself where there is none."""
    poll = tables.POLLS[market_type].get(kind)
    found = (one.name for one in tables.CHANNELS[market_type].values() if one.kind == kind)
    return next(found, poll.route if poll is not None else kind)


def _instead(venue: Any, market_type: str, kind: str, method: str) -> str:
    """What else would do, as words behind a reason."""
    for one in tables.CHANNELS[market_type].values():
        if one.kind == kind and one.method != method and venue.has.get(one.method):
            return f"; it has {one.name}: give channels: {{{kind}: {one.name}}}"
    return ""


class Ear(Protocol):
    """Who hears what ccxt does not say."""

    def ended(self, reason: str) -> None:
        """A connection is over, which ccxt would open again without a word."""

    def failed(self, reason: str, message: Any) -> None:
        """A message of the venue was not understood; ccxt would stop reading, and stay connected."""


@functools.cache
def _watched(ccxt_id: str) -> type[Any]:
    """Ccxt's class of a venue, with numbers as texts and with an `ear`. Raises UnknownVenue."""
    base = load(ccxt_id)

    class Watched(base):  # type: ignore[misc, valid-type] # ccxt's own class, known at run time only
        ear: Ear | None = None

        @staticmethod
        def safe_float(dictionary: Any, key: Any, default_value: Any = None) -> Any:
            """As ccxt's; books are made of these, which have to compare and to keep their digits."""
            try:
                return Exact(dictionary[key])
            except (KeyError, IndexError, TypeError, ValueError):
                return default_value

        def safe_number(self, obj: Any, key: Any, defaultNumber: Any = None) -> Any:  # noqa: N803 -- ccxt's spelling
            """As ccxt's, whose numbers are texts here; those of lists are levels of books as often as not."""
            if isinstance(obj, list):
                return self.safe_float(obj, key, defaultNumber)
            return super().safe_number(obj, key, defaultNumber)

        async def fetch(self, *given: Any, **named: Any) -> Any:
            """As ccxt's, whose parsers would read rows of nothing from a web page."""
            said = await super().fetch(*given, **named)
            if isinstance(said, str):
                raise errors().ExchangeNotAvailable(f"an answer that is no JSON: {said[:100]!r}")
            return said

        def order_book(self, *given: Any) -> Any:
            return _comparing(super().order_book(*given))

        def indexed_order_book(self, *given: Any) -> Any:
            return _comparing(super().indexed_order_book(*given))

        def counted_order_book(self, *given: Any) -> Any:
            return _comparing(super().counted_order_book(*given))

        def handle_message(self, client: Any, message: Any) -> None:
            try:
                super().handle_message(client, message)
            except Exception as error:  # ccxt's parsers raise anything for what they do not expect
                if self.ear is None:
                    raise
                self.ear.failed(f"ccxt failed: {type(error).__name__}: {error}"[:200], message)

        def on_error(self, client: Any, error: Any) -> None:
            super().on_error(client, error)
            if self.ear is not None:
                self.ear.ended(f"{type(error).__name__}: {error}"[:200])

        def on_close(self, client: Any, error: Any) -> None:
            super().on_close(client, error)
            if self.ear is not None:
                self.ear.ended(f"closed with code {error}")

    return Watched


def _comparing(book: Any) -> Any:
    """The book, whose levels are numbers that compare, whatever it is given: "0" takes a level away."""
    for side in (book["bids"], book["asks"]):
        side.storeArray = functools.partial(_store, side.storeArray)
    return book


def _store(store: Callable[[list[Any]], None], delta: Sequence[Any]) -> None:
    numbers = [Exact(one) if isinstance(one, str) else one for one in delta[:2]]
    store([*numbers, *delta[2:]])


def make(ccxt_id: str, market_type: str, rest: str, ws: str, ear: Ear | None = None) -> Any:
    """An instance for one market, at other addresses where `rest` or `ws` is given. Raises UnknownVenue."""
    kind = "spot" if market_type == "spot" else "swap"
    subtype = {} if market_type == "spot" else {"defaultSubType": market_type}
    venue = _watched(ccxt_id)(
        {"options": {"defaultType": kind, "tradesLimit": TRADES_KEPT, **subtype}, "newUpdates": True}
    )
    venue.number = str
    venue.bidsasks = Heard()
    venue.ear = ear
    _narrow(venue, market_type)
    if rest or ws:
        venue.has["fetchCurrencies"] = False
        venue.urls["api"] = _moved(venue.urls["api"], rest, ws, venue.urls.get("hostname") or venue.hostname or "")
    return venue


def _narrow(venue: Any, market_type: str) -> None:
    """Of venues that have several lists of instruments, ask for those of this market."""
    lists = venue.options.get("fetchMarkets")
    types = lists.get("types") if isinstance(lists, dict) else None
    if isinstance(types, list):
        lists["types"] = [one for one in types if one in _TYPES[market_type]] or types


def _moved(urls: Any, rest: str, ws: str, hostname: str) -> Any:
    """Ccxt's tree of addresses with scheme and host replaced."""
    if isinstance(urls, dict):
        return {name: _moved(one, rest, ws, hostname) for name, one in urls.items()}
    if not isinstance(urls, str):
        return urls
    parts = urlsplit(urls.replace("{hostname}", hostname))
    base = ws if parts.scheme in ("ws", "wss") else rest
    return base.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "") if base else urls
