"""Two connections for every stream, one of each pair killed a second: the lake has what an undisturbed one has."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import Lake, tables
from lake.digest import ContentDigest
from lake.manifest import Manifest
from simulator.truth import Truth
from tests.support.commands import dl
from tests.support.live import Daemon, Simulator, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)

KILLING_SECONDS = float(os.environ.get("TWINS_SECONDS", "20"))
"""How long sockets are killed: a minute where it is asked for."""
APART = 1.0
SETTLED = 0.3
"""How long a socket is open, at least, before the other one of its pair is killed."""
NOW_AND_THEN = ("kline", "liquidation")
"""Kinds of which either lake may have few rows or none: what both have seen is told by the trades beside them."""
RARE = "forceOrder"
"""In the names of streams that have nothing to send for minutes."""
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
KINDS = {
    "spot": ["trade", "agg_trade", "quote", "book_delta", "book_snapshot", "kline"],
    "linear": ["trade", "agg_trade", "quote", "book_delta", "book_snapshot", "kline", "mark_price", "liquidation"],
}
KEYS = {
    "trade": "seq", "agg_trade": "seq", "quote": "update_id", "book_delta": "last_id", "book_snapshot": "last_id",
    "kline": "open_time", "mark_price": "ts_event", "liquidation": "ts_event",
}  # fmt: skip
"""By what rows of a kind are put side by side."""
Sockets = dict[tuple[str, str], dict[int, int]]


def sockets(exchange: Simulator, others: set[int]) -> tuple[int, Sockets]:
    """The venue's time, and (market, path) -> number -> when it was opened, of the sockets that stream something."""
    state = json.loads(get(f"{exchange.address['control']}/state")[1])
    found: Sockets = {}
    for one in state["connections"]:
        if one["connection"] not in others and one["streams"]:
            found.setdefault((one["market"], one["path"]), {})[one["connection"]] = one["opened"]
    return state["now"], found


def producing(port: int) -> bool:
    """Whether all connections of a daemon have taken something of every stream: that the venue has sent it is not
    enough where the daemon has not come to read it.
    """
    connections = [each for report in status(port).values() for each in report["connections"]]
    return all(RARE in name for each in connections for name in each.get("not_producing", {"none": ""}))


def kill(exchange: Simulator, others: set[int], port: int) -> int:
    """Kill a socket a second, the older one of each pair in turn, once the younger one is there; how many."""
    killed, since, turn = 0, time.monotonic(), 0
    while killed < KILLING_SECONDS * 0.8 or time.monotonic() < since + KILLING_SECONDS:
        assert time.monotonic() < since + 3 * KILLING_SECONDS + 60, f"{killed} killed: the twins do not come back"
        began = time.monotonic()
        now, pairs = sockets(exchange, others)
        held = pairs[sorted(pairs)[turn % len(pairs)]]
        older, younger = sorted(held, key=held.__getitem__) if len(held) == 2 else (0, 0)
        if older and now - held[younger] > SETTLED * 1_000_000 and producing(port):
            exchange.fault("cut", connection=older)
            killed, turn = killed + 1, turn + 1
            time.sleep(max(0.0, began + APART - time.monotonic()))
        time.sleep(0.02)
    return killed


class Run:
    """What a run left behind."""

    def __init__(self, twins: Path, alone: Path, truth: Truth, killed: int) -> None:
        self.twins = twins
        self.alone = alone
        self.truth = truth
        self.killed = killed


def status(port: int) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(get(f"http://127.0.0.1:{port}/status")[1])
    report: dict[str, Any] = said["services"]["collectors"]["report"]
    return report


def in_sync(port: int) -> bool:
    connections = [each for report in status(port).values() for each in report["connections"]]
    return bool(connections) and all(each.get("books_out_of_sync") == [] for each in connections)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("twins")
    daemons: list[Daemon] = []
    with simulator(folder, "--symbols", ",".join(SYMBOLS), "--rate", "600") as exchange:
        configs = []
        for name, redundancy in (("alone", 1), ("twins", 2)):
            sources = [
                exchange.source(market, SYMBOLS, kinds) | {"redundancy": redundancy} for market, kinds in KINDS.items()
            ]
            port = free_port()
            configs.append(write_config(folder / f"{name}.json", folder / name, sources, port))
            daemons.append(Daemon(configs[-1], folder / f"{name}.log"))
            daemons[-1].wait_until_ready(port)
            wait_for(f"books of {name} in sync", lambda port=port: in_sync(port))
            if redundancy == 1:
                _, held = sockets(exchange, set())
                others = {number for pair in held.values() for number in pair}
        _, pairs = sockets(exchange, others)
        assert sorted(map(len, pairs.values())) == [2, 2, 2], "twins of every path"
        time.sleep(2)
        killed = kill(exchange, others, port)
        time.sleep(3)
        wait_for("books in sync after it", lambda: in_sync(port))
        for daemon in daemons:
            assert daemon.stop() == 0, daemon.log.read_text()[-4000:]
        truth = exchange.stop()
    for config in configs:
        dl("transform", "--config", config)
    return Run(folder / "twins", folder / "alone", truth, killed)


def rows(lake: Path, market: str, kind: str, symbol: str) -> pl.DataFrame:
    names = tables.schema(kind).names
    table = Lake(lake).read(kind, market_type=market, symbol=symbol, columns=names)
    frame = pl.DataFrame(pl.from_arrow(table))
    return frame.filter(pl.col("source").cast(pl.String) == "ws") if kind == "book_snapshot" else frame


def common(run: Run, market: str, kind: str, symbol: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of both lakes in the span that both have seen."""
    both = [rows(lake, market, kind, symbol) for lake in (run.twins, run.alone)]
    if kind == "book_delta":
        both = [frame.filter(pl.col("flags").cast(pl.String).fill_null("") != "snapshot") for frame in both]
    beside, key = both, KEYS[kind]
    if kind in NOW_AND_THEN:
        # but for the first and last ones: streams begin and end one by one
        beside, key = [rows(lake, market, "trade", symbol)[100:-100] for lake in (run.twins, run.alone)], "ts_event"
    keys = [frame[key] for frame in beside]
    low, high = max(k.min() for k in keys), min(k.max() for k in keys)  # type: ignore[type-var]
    inside = [frame.filter(pl.col(key).is_between(low, high)) for frame in both]
    return inside[0], inside[1]


def digest(frame: pl.DataFrame, market: str, kind: str) -> str:
    made = ContentDigest("binance", market, kind)
    made.update(frame.sort(KEYS[kind], maintain_order=True).to_arrow().cast(tables.schema(kind)))
    return made.hexdigest()


STREAMS = [(market, kind, symbol) for market, kinds in KINDS.items() for kind in kinds for symbol in SYMBOLS]


def test_a_socket_of_each_pair_was_killed_again_and_again(run: Run) -> None:
    assert run.killed >= KILLING_SECONDS * 0.8
    assert sum(link.cause == "cut" for link in run.truth.links.values()) == run.killed


def test_no_gap_is_in_the_ledger(run: Run) -> None:
    for lake in (run.twins, run.alone):
        manifest = Manifest.read_only(lake)
        try:
            assert manifest.gaps() == []
        finally:
            manifest.close()


@pytest.mark.parametrize(
    "market,kind,symbol", [s for s in STREAMS if s[1] in ("trade", "agg_trade", "quote", "book_delta")]
)
def test_the_rows_with_ids_are_the_venues(run: Run, market: str, kind: str, symbol: str) -> None:
    stored = rows(run.twins, market, kind, symbol)
    if kind == "book_delta":
        stored = stored.filter(pl.col("flags").cast(pl.String).fill_null("") != "snapshot")
    ids = sorted(stored[KEYS[kind]])
    said = sorted(i for i in run.truth.of(kind, market, symbol) if ids[0] <= i <= ids[-1])
    assert ids == said
    assert len(ids) > 20


@pytest.mark.parametrize("market,kind,symbol", STREAMS)
def test_the_content_is_that_of_an_undisturbed_lake(run: Run, market: str, kind: str, symbol: str) -> None:
    twins, alone = common(run, market, kind, symbol)
    assert len(twins) == len(alone)
    if kind not in ("liquidation", "kline"):
        assert len(twins) > 10
    assert digest(twins, market, kind) == digest(alone, market, kind)


def test_one_snapshot_served_all_sessions_of_a_book(run: Run) -> None:
    for market, kinds in KINDS.items():
        if "book_delta" not in kinds:
            continue
        for symbol in SYMBOLS:
            flags = rows(run.twins, market, "book_delta", symbol)["flags"].cast(pl.String)
            assert (flags == "snapshot").sum() == 1, (market, symbol)
