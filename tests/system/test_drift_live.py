"""A daemon on two venues that have changed their messages: everything is stored, each change is said once and stays."""

import json

import pytest

from lake import Lake
from tests.support.commands import dl, dl_json
from tests.support.live import collecting, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)
SYMBOLS = {"bybit": "BTCUSDT", "okx": "BTC-USDT-SWAP"}
NEW = {
    "bybit": {"topic": "newThing.BTCUSDT", "type": "snapshot", "data": []},
    "okx": {"arg": {"channel": "new-thing", "instId": "BTC-USDT-SWAP"}, "data": []},
}
ADDED = {"bybit": ("publicTrade", "data[].drifted"), "okx": ("trades-all", "data[].drifted")}


def report(port, venue):
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1] or b"{}")
    return said.get("services", {}).get("collectors", {}).get("report", {}).get(f"{venue}/linear", {})


def changes(port, venue):
    found = (report(port, venue).get("drift") or {}).get("changes", ())
    return {(one["message"], one["change"], one["path"]) for one in found}


def test_changes_of_two_venues_are_said_once_and_lose_nothing(tmp_path):
    lake, port, running, sources = tmp_path / "lake", free_port(), {}, []
    wanted = {
        venue: {(ADDED[venue][0], "added", ADDED[venue][1]), (new, "message", "")}
        for venue, new in (("bybit", "newThing"), ("okx", "new-thing"))
    }
    for venue in SYMBOLS:
        (tmp_path / venue).mkdir()
    options = ("--markets", "linear", "--rate", "200")
    with (
        simulator(tmp_path / "bybit", "--venue", "bybit", *options) as running["bybit"],
        simulator(tmp_path / "okx", "--venue", "okx", *options) as running["okx"],
    ):
        for venue, held in running.items():
            held.fault("drift", kind="trade", form="added", count=10_000_000)
            sources.append(held.source("linear", [SYMBOLS[venue]], ["trade", "quote"]))
        config = write_config(tmp_path / "config.json", lake, sources, port)
        with collecting(config, port) as daemon:
            for venue, held in running.items():
                wait_for("the added field", lambda venue=venue: any(c[1] == "added" for c in changes(port, venue)))
                held.fault("garbage", text=json.dumps(NEW[venue]), count=3)
                wait_for("both changes", lambda venue=venue: wanted[venue] <= changes(port, venue))
                wait_for("trades", lambda venue=venue: report(port, venue)["events"].get("trade", 0) > 20)
            metrics = get(f"http://127.0.0.1:{port}/metrics")[1].decode()
        said = daemon.log.read_text()
        for venue, held in running.items():
            truth = held.stop()
            assert truth.sent("trade", "linear", SYMBOLS[venue])
    assert 'lake_drift_messages_total{change="added",exchange="okx",market_type="linear"}' in metrics
    for venue, (message, path) in ADDED.items():
        told = [line for line in said.splitlines() if f"{venue} linear {message} has a field" in line and path in line]
        assert len(told) == 1, said[-4000:]
    shown = dl_json("status", "--config", config)["drift"]
    assert {(one["exchange"], one["message"], one["change"], one["path"]) for one in shown} >= {
        (venue, *one) for venue, held in wanted.items() for one in held
    }
    dl("transform", "--config", config)
    for venue in SYMBOLS:
        assert Lake(lake).read("trade", exchange=venue).num_rows > 10
