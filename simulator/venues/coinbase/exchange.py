"""The venue's older feed, Exchange, beside Advanced Trade on the same address: flat messages of the same market.

A connection that asks in this feed's words is answered in them, and its events are told in them: the message of
Advanced Trade is told anew. Nothing is numbered; each product has a heartbeat that names its newest trade.
"""

from __future__ import annotations

from typing import Any

import msgspec

from simulator.connection import Connection
from simulator.market import Book

CHANNELS = {"matches": "market_trades", "ticker": "ticker", "level2_batch": "level2"}
"""This feed's channel -> the other's, under whose name the stream is held."""
SAID = {"level2_batch": "level2_50"}
"""What an answer calls a channel, where that is not what it is asked for as."""
KEYED = frozenset(("level2", "level3", "full", "user"))
BEAT = "heartbeat"
SIDES = {"bid": "buy", "offer": "sell", "BUY": "buy", "SELL": "sell"}


class Feed:
    """What the feed counts."""

    def __init__(self) -> None:
        self._sequences: dict[str, int] = {}

    def told(self, payload: str) -> str:
        """A message of Advanced Trade in this feed's words; one that is broken stays so."""
        try:
            message = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            return payload
        (event,) = message["events"]
        match message["channel"]:
            case "market_trades":
                return self._match(event["trades"][0], "match" if event["type"] == "update" else "last_match")
            case "ticker":
                return self._ticker(event["tickers"][0], message["timestamp"])
        if event["type"] == "snapshot":
            bids, asks = (
                [[one["price_level"], one["new_quantity"]] for one in event["updates"] if one["side"] == side]
                for side in ("bid", "offer")
            )
            return _json(type="snapshot", product_id=event["product_id"], asks=asks, bids=bids)
        levels = [[SIDES[one["side"]], one["price_level"], one["new_quantity"]] for one in event["updates"]]
        at = max(one["event_time"] for one in event["updates"])
        return _json(type="l2update", product_id=event["product_id"], changes=levels, time=at)

    def beat(self, product: str, book: Book, stamp: str) -> str:
        """The heartbeat of a product."""
        newest = book.trades[-1].id if book.trades else 0
        return _json(type=BEAT, sequence=self._sequence(product), last_trade_id=newest, product_id=product, time=stamp)

    def _sequence(self, product: str) -> int:
        self._sequences[product] = number = self._sequences.get(product, 0) + 3
        return number

    def _match(self, told: dict[str, Any], what: str) -> str:
        product = told["product_id"]
        return _json(
            type=what, trade_id=int(told["trade_id"]), maker_order_id="m", taker_order_id="t",
            side=SIDES[told["side"]], size=told["size"], price=told["price"], product_id=product,
            sequence=self._sequence(product), time=told["time"],
        )  # fmt: skip

    def _ticker(self, told: dict[str, Any], at: str) -> str:
        product = told["product_id"]
        return _json(
            type="ticker", sequence=self._sequence(product), product_id=product, price=told["price"],
            best_bid=told["best_bid"], best_bid_size=told["best_bid_quantity"], best_ask=told["best_ask"],
            best_ask_size=told["best_ask_quantity"], side="buy", time=at, trade_id=1, last_size="1",
        )  # fmt: skip


def _json(**fields: object) -> str:
    return msgspec.json.encode(fields).decode()


def error(reason: str) -> str:
    """What refuses a whole request."""
    return _json(type="error", message="Failed to subscribe", reason=reason)


def wanted(request: dict[str, Any]) -> list[tuple[str, str]] | str:
    """(channel, product) of each stream that a request names, or why it is refused."""
    common, found = request.get("product_ids", []), list[tuple[str, str]]()
    for one in request["channels"]:
        name, products = (one, common) if isinstance(one, str) else (one.get("name"), one.get("product_ids", common))
        if name in KEYED:
            return f"{name} requires authentication"
        if name not in CHANNELS and name != BEAT:
            return f"{name} is not a valid channel"
        found += [(name, product) for product in products]
    return found


def state(connection: Connection) -> str:
    """The answer to every request: all that the connection has."""
    names = {theirs: ours for ours, theirs in CHANNELS.items()}
    held: dict[str, list[str]] = {}
    for stream in connection.streams:
        channel, _, product = stream.partition(":")
        held.setdefault(names.get(channel, channel), []).append(product)
    channels = [{"name": SAID.get(one, one), "product_ids": ids, "account_ids": None} for one, ids in held.items()]
    return _json(type="subscriptions", channels=channels)
