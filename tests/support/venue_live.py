"""A daemon that collects from a venue's twin, as the live tests of the venues use it, and what its lake must say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from lake import Lake
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import Simulator, collecting, free_port, get, lines, simulator, wait_for, write_config

REPLAYED = ["spot", *(pytest.param(market, marks=pytest.mark.slow) for market in ("linear", "inverse"))]
"""Markets: inverse is parsed as linear is."""
SIDES = {"SELL": "sell", "BUY": "buy"}
FORCED = "liquidation"
LEAST = {"trade": 10, "agg_trade": 10}
"""Rows of a kind that must be there of a symbol; of others, one."""


class Venue(msgspec.Struct, frozen=True):
    """What is collected of a venue, and where book updates get lost on the way."""

    name: str
    markets: dict[str, list[str]]
    """Market -> symbols as the venue spells them."""
    spot: list[str]
    futures: list[str]
    """Kinds."""
    lost: list[tuple[str, str]]
    """(market, symbol) of the books that lose updates."""
    updates: int = 2
    """How many: a checksum shows those of the best levels only, and two may have been behind them."""
    connections: int = 3
    silent: str = "(?!)"
    """A pattern of the streams that may have told nothing yet."""
    more: dict[str, dict[str, Any]] = {}
    """Market -> more keys of its source."""

    @property
    def symbols(self) -> list[tuple[str, str]]:
        """(market, symbol) of everything that is collected."""
        return [(market, symbol) for market, names in self.markets.items() for symbol in names]

    def kinds(self, market: str) -> list[str]:
        """What is collected there."""
        return self.spot if market == "spot" else self.futures

    def reports(self, port: int) -> dict[str, Any]:
        """Market -> what its collector reports; nothing while one is missing."""
        said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
        named = {market: f"{self.name}/{market}" for market in self.markets}
        return {market: said[name] for market, name in named.items()} if len(said) == len(named) else {}

    def in_sync(self, port: int) -> bool:
        """Whether every stream is producing and every book is in sync, by the daemon's own word."""
        return in_sync(list(self.reports(port).values()), self.connections, self.silent)

    def told(self, lake: Path) -> bool:
        """Whether as much of every symbol is on disk as is looked at; of forced orders, of every market."""
        found = Counter(
            (market, kind, "*" if kind == FORCED else event["symbol"])
            for market, kind, event in lines(lake)
            if event.get("condition") != "history"
        )
        return all(
            found[market, kind, "*" if kind == FORCED else symbol] >= LEAST.get(kind, 1)
            for market, symbol in self.symbols
            for kind in self.kinds(market)
            if kind != "contract"
        )

    def collect(self, folder: Path, *options: str, then: Callable[[Simulator, int], None] | None = None) -> Collected:
        """Collect until the losses are known and mended, and `then` (the port is the daemon's) has returned."""
        lake, port = folder / "lake", free_port()
        with simulator(folder, "--venue", self.name, "--markets", ",".join(self.markets), *options) as exchange:
            sources = [
                exchange.source(market, names, self.kinds(market)) | self.more.get(market, {})
                for market, names in self.markets.items()
            ]
            config = write_config(folder / "config.json", lake, sources, port)
            with collecting(config, port):
                wait_for("books in sync", lambda: self.in_sync(port))
                for market, symbol in self.lost:
                    exchange.fault("drop_ids", market=market, kind="book_delta", symbol=symbol, count=self.updates)
                wait_for("losses", lambda: all(self.reports(port)[market]["gaps"] >= 1 for market, _ in self.lost))
                wait_for("books in sync again", lambda: self.in_sync(port))
                wait_for("rows of all that is collected", lambda: self.told(lake))
                if then is not None:
                    then(exchange, port)
            truth = exchange.stop()
        dl("transform", "--config", config)
        return Collected(self, lake, truth)


class Collected:
    """What a daemon left of a venue, and what the venue has sent."""

    def __init__(self, venue: Venue, lake: Path, truth: Truth) -> None:
        self.venue, self.lake, self.truth = venue, lake, truth

    def rows(self, kind: str, market: str, symbol: str) -> list[dict[str, Any]]:
        """In the order in which they came."""
        return rows(self.lake, kind, market, symbol)

    def check_trades(self, market: str, symbol: str, stored: Sequence[Mapping[str, Any]]) -> None:
        """They are those that were sent, from the first on, but for the last moment."""
        sent = sorted(self.truth.sent("trade", market, symbol).values(), key=lambda event: event.id)
        assert len(stored) > 5
        told = [(float(e.price), float(e.qty), "sell" if e.buyer_is_maker else "buy") for e in sent[: len(stored)]]
        assert [(row["price"], row["qty"], row["side"]) for row in stored] == told
        assert len(sent) - len(stored) <= 40, "what was under way when the daemon was stopped"

    def check_books(self, market: str, symbol: str, stream: str, step: int = 1) -> None:
        """The rows give the venue's book, a loss is one new whole, and each change is as it was told in `stream`, whose
        ids are by `step` apart.
        """
        updates = self.rows("book_delta", market, symbol)
        flags = [row["flags"] for row in updates]
        faulted = (market, symbol) in self.venue.lost
        assert flags.count("snapshot") == 1 + faulted
        assert flags.count("gap_before") == faulted
        last = updates[-1]
        book = Lake(self.lake).book(symbol, at=last["ts_event"], exchange=self.venue.name, market_type=market)
        assert book.last_id == last["last_id"]
        quotes = [row for row in self.rows("quote", market, symbol) if row["ts_event"] <= last["ts_event"]]
        assert (float(book.bids[0][0]), float(book.asks[0][0])) == (quotes[-1]["bid"], quotes[-1]["ask"])
        told = {e.id: e for e in self.truth.stream(market, stream)}
        for row in updates:
            if row["flags"] in ("", "gap_before"):
                wanted = [(float(price), float(qty)) for price, qty in told[row["last_id"] // step].bids]
                assert [(level["price"], level["qty"]) for level in row["bids"]] == wanted

    def check_gaps(self) -> None:
        """The only ones are of the losses, and the lake proves itself."""
        missing = self.gaps()
        assert {(gap["kind"], gap["symbol"], gap["cause"]) for gap in missing} == {
            ("book_delta", symbol, "jump") for _, symbol in self.venue.lost
        }
        assert len(missing) <= 2, "what was dropped, and what came between the two subscriptions"
        assert all(gap["id_from"] < gap["id_to"] for gap in missing)
        self.check_proof()

    def gaps(self) -> list[dict[str, Any]]:
        """Those that the ledger has before the daemon was stopped."""
        return [gap for gap in dl_json("gaps", "--lake", self.lake, expect=1) if gap["cause"] != "stopped"]

    def check_proof(self) -> None:
        """The lake proves itself."""
        verdict = dl_json("verify", "--lake", self.lake)
        assert (verdict["ok"], verdict["findings"]) == (True, [])

    def check_derivative(self, kind: str, market: str) -> list[dict[str, Any]]:
        """It is stored of every symbol; forced orders, which come when they come, as they were sent."""
        found: list[dict[str, Any]] = Lake(self.lake).read(kind, market_type=market).to_pylist()
        if kind == "liquidation":
            told = {(e.ts_event, SIDES[e.side]) for e in self.truth.events if e.kind == kind}
            got = {(int(row["ts_event"].timestamp() * 1_000_000), row["side"]) for row in found}
            assert got <= told
            assert got
        else:
            assert {row["symbol"] for row in found} == set(self.venue.markets[market])
        return found

    def unified(self) -> dict[tuple[str, str], str]:
        """(market, symbol) -> its unified name."""
        found = Lake(self.lake).read("contract").to_pylist()
        return {(row["market_type"], row["symbol"]): row["unified"] for row in found}

    def check_replay(self, again: Path, market: str, compared: Mapping[str, list[str]]) -> None:
        """A replay of the frames gives the same rows, in these columns of each kind."""
        held = (self.lake / "frames").rglob(f"market_type={market}/**/*.frames.jsonl*")
        frames = sorted(path for path in held if path.suffix != ".json")
        dl("replay", *frames, "--exchange", self.venue.name, "--market-type", market, "--lake", again)
        for kind in compared.keys() & self.venue.kinds(market):
            names = ["symbol", "ts_event", "session", "frame_no", "item", *compared[kind]]
            live, replayed = (
                sorted(map(str, Lake(one).read(kind, market_type=market, columns=names).to_pylist()))
                for one in (self.lake, again)
            )
            assert live == replayed, kind


def in_sync(reports: Sequence[Mapping[str, Any]], connections: int, silent: str) -> bool:
    """Whether so many connections have books in sync, and streams that all produce but those that match `silent`."""
    held = [each for report in reports for each in report.get("connections", ())]
    quiet = {name for each in held for name in each.get("not_producing", {"none": ""})}
    talking = all(re.match(silent, name) for name in quiet)
    return len(held) == connections and talking and all(each.get("books_out_of_sync") == [] for each in held)


def rows(lake: Path, kind: str, market: str, symbol: str) -> list[dict[str, Any]]:
    """In the order in which they came."""
    table = Lake(lake).read(kind, market_type=market, symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table)).sort("session", "frame_no", "item").to_dicts()
