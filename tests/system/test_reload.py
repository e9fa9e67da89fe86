"""What is collected changes while streams flow: by SIGHUP, `dl reload` and listings; all the others notice nothing."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import Lake
from lake.manifest import Manifest
from market.session import Coverage, Gap
from simulator.instruments import dormant, named_in
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.crash import quick_folder
from tests.support.live import Daemon, Simulator, free_port, get, lines, simulator, wait_for, write_config

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP"),
]  # fmt: skip

KINDS = ["trade", "quote", "book_delta"]
ALWAYS, REMOVED, ADDED = ["BTCUSDT", "ETHUSDT"], "SOLUSDT", "BNBUSDT"
LISTED, ENDED = named_in("inverse", dormant([], 1)[0]), "ETHUSD_PERP"


def write(path: Path, sources: list[dict[str, Any]]) -> None:
    """Other sources into a configuration."""
    document = json.loads(path.read_text())
    document["collectors"]["sources"] = sources
    path.write_text(json.dumps(document))


def contract(exchange: Simulator, symbol: str, status: str) -> None:
    body = json.dumps({"market": "inverse", "symbol": symbol, "status": status}).encode()
    with urllib.request.urlopen(f"{exchange.address['control']}/contracts", body, timeout=60) as answer:
        assert answer.status == 200


def traded(lake: Path) -> set[str]:
    """Contracts of which trades and quotes are on disk."""
    found = {(kind, event["symbol"]) for market, kind, event in lines(lake) if market == "inverse"}
    return {symbol for kind, symbol in found if kind == "trade" and ("quote", symbol) in found}


class Flow:
    """What of a running daemon's streams is known."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/status"

    def market(self, name: str) -> dict[str, Any]:
        return json.loads(get(self._url)[1])["services"]["collectors"]["report"][f"binance/{name}"]

    def producing(self, name: str, streams: int) -> bool:
        """Whether a market's connections carry so many streams and all of them produce."""
        held = self.market(name)["connections"]
        return sum(each["streams"] for each in held) == streams and all(
            each.get("states", {}).get("producing") == each["streams"] for each in held
        )


class Run:
    def __init__(self, lake: Path, truth: Truth, said: str, answer: dict[str, Any], refused: str) -> None:
        self.lake, self.truth, self.said, self.answer, self.refused = lake, truth, said, answer, refused

    def gaps(self) -> list[Gap]:
        manifest = Manifest.read_only(self.lake)
        try:
            return manifest.gaps()
        finally:
            manifest.close()

    def coverage(self, **scope: str) -> list[Coverage]:
        manifest = Manifest.read_only(self.lake)
        try:
            return manifest.coverage(**scope)
        finally:
            manifest.close()

    def stored(self, market: str, symbol: str, kind: str = "trade") -> list[int]:
        column = "seq" if kind == "trade" else "update_id"
        table = Lake(self.lake).read(kind, exchange="binance", market_type=market, symbol=symbol, columns=[column])
        return [int(one) for one in pl.DataFrame(pl.from_arrow(table))[column]]

    def lost(self, market: str, symbol: str, kind: str = "trade") -> list[int]:
        """Ids of the venue's between the first and the last stored that are not stored."""
        held = self.stored(market, symbol, kind)
        assert len(held) == len(set(held))
        inside = [one for one in self.truth.of(kind, market, symbol) if held[0] <= one <= held[-1]]
        return sorted(set(inside) - set(held))


@pytest.fixture(scope="module")
def run() -> Any:
    """The lake of a run in which sources changed by signal, by command, and by listings."""
    with quick_folder() as folder:
        lake, port = folder / "lake", free_port()
        symbols = ",".join([*ALWAYS, REMOVED, ADDED])
        options = ("--symbols", symbols, "--markets", "linear,inverse", "--rate", "400", "--dormant", "1")
        with simulator(folder, *options) as exchange:
            steady = exchange.source("inverse", ["*USD_PERP", "!SOL*"], ["trade", "quote"])
            first = exchange.source("linear", [*ALWAYS, REMOVED], KINDS)
            config = write_config(folder / "config.json", lake, [steady, first], port)
            daemon, flow = Daemon(config, folder / "daemon.log"), Flow(port)
            daemon.wait_until_ready(port)
            wait_for("all streams", lambda: flow.producing("linear", 9))
            wait_for("what the pattern means", lambda: flow.market("inverse")["sources"][0]["symbols"] == 3)
            time.sleep(2)

            # a symbol goes, another comes, and so does a kind: by signal
            second = exchange.source("linear", [*ALWAYS, ADDED], [*KINDS, "agg_trade"])
            write(config, [steady, second])
            daemon.process.send_signal(signal.SIGHUP)
            wait_for("the streams of the second configuration", lambda: flow.producing("linear", 12))
            time.sleep(2)

            # twins, and a kind goes: by command
            third = second | {"kinds": ["trade", "book_delta", "agg_trade"], "redundancy": 2}
            write(config, [steady, third])
            assert dl_json("reload", "--lake", lake, "--dry-run")["changed"]["added"] == []
            answer = dl_json("reload", "--lake", lake)
            wait_for("twins", lambda: flow.producing("linear", 18))
            write(config, [steady, third | {"kinds": ["trades"]}])
            refused = dl("reload", "--lake", lake, expect=78).stderr

            contract(exchange, LISTED, "TRADING")
            wait_for("the new listing", lambda: f"begins {LISTED}" in daemon.said())
            wait_for("what it means too", lambda: flow.market("inverse")["sources"][0]["symbols"] == 4)
            wait_for("trades and quotes of all", lambda: traded(lake) >= {"BTCUSD_PERP", "BNBUSD_PERP", LISTED, ENDED})
            contract(exchange, ENDED, "CLOSE")
            wait_for("the end of a listing", lambda: f"ends {ENDED}" in daemon.said())
            assert daemon.stop() == 0, daemon.said()[-4000:]
            said, truth = daemon.said(), exchange.stop()
        dl("transform", "--lake", lake)
        yield Run(lake, truth, said, answer, refused)


def test_nothing_is_missing_and_no_gap_is_recorded(run: Run) -> None:
    assert run.gaps() == []
    for market, symbol in [
        *(("linear", one) for one in (*ALWAYS, REMOVED, ADDED)),
        *(("inverse", one) for one in ("BTCUSD_PERP", "BNBUSD_PERP", LISTED, ENDED)),
    ]:
        assert run.lost(market, symbol) == [], (market, symbol)
    for symbol in (*ALWAYS, REMOVED):
        assert run.lost("linear", symbol, "quote") == []
    assert "Traceback" not in run.said


def test_what_was_removed_ends_and_what_was_added_is_covered(run: Run) -> None:
    always = run.stored("linear", "BTCUSDT")
    assert always[-1] == max(run.truth.sent("trade", "linear", "BTCUSDT"))
    gone = run.stored("linear", REMOVED)[-1]
    assert gone < max(run.truth.of("trade", "linear", REMOVED))
    assert {row.kind for row in run.coverage(market_type="linear", symbol=ADDED)} == {
        "trade", "quote", "book_delta", "agg_trade",
    }  # fmt: skip
    assert {row.kind for row in run.coverage(market_type="inverse", symbol=LISTED)} == {"trade", "quote"}
    assert run.stored("inverse", LISTED)
    (ending,) = [one.time for one in run.truth.statuses if one.symbol == ENDED]
    assert max(row.ts_to for row in run.coverage(market_type="inverse", symbol="BTCUSD_PERP")) > ending


def test_the_answer_lists_what_changed(run: Run) -> None:
    changed = run.answer["changed"]
    assert changed["added"] == []
    assert sorted(changed["removed"]) == [
        f"binance linear {one.lower()}@bookTicker" for one in sorted([*ALWAYS, ADDED])
    ]
    assert sorted(changed["replaced"]) == ["binance-linear-market-1", "binance-linear-public-1"]
    assert sorted(changed["opened"]) == ["binance-linear-market-1-b", "binance-linear-public-1-b"]
    assert run.answer["restart"] == []
    assert "unknown kind 'trades'" in run.refused


def test_the_lake_is_whole(run: Run) -> None:
    assert dl_json("verify", "--lake", run.lake)["ok"]
