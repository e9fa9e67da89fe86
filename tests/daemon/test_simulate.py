"""`--simulate` from start to end: a day closes, and what the status says is what lies on disk."""

import hashlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from daemon import simulate
from daemon.config import load_config
from daemon.errors import StartFailed
from lake.lock import read_lock
from lake.manifest import Manifest
from simulator import options, venues
from tests.support.commands import logged
from tests.support.leash import watched

ROOT = Path(__file__).resolve().parents[2]
QUICK = """\
collectors:
  node: node
  sources:
    - {exchange: binance, market_type: spot, symbols: [BTCUSDT], kinds: [trade, quote]}
    - {exchange: binance, market_type: linear, symbols: [BTCUSDT], kinds: [trade]}
transformer: {interval_seconds: 0.5, lateness_seconds: 0.5}
http: {port: 0}
shutdown_seconds: 120
simulate: {seconds_before_midnight: 4, close_delay_seconds: 1, seal_seconds: 1, rate: 400}
"""
OTHERS = """\
    - {exchange: okx, market_type: spot, symbols: [BTC-USDT], kinds: [trade]}
    - {exchange: okx, market_type: linear, symbols: [BTC-USDT-SWAP], kinds: [trade]}
    - {exchange: kraken, market_type: linear, symbols: [PF_XBTUSD], kinds: [trade]}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(QUICK)
    return path


def test_endpoints_point_at_the_simulator_with_the_venue_s_own_paths(config):
    loaded = load_config(config, {})
    base = {"spot": "http://127.0.0.1:1/spot", "linear": "http://127.0.0.1:1/linear"}
    ws = {market: url.replace("http", "ws") for market, url in base.items()}
    pointed = simulate.pointed_at(loaded, simulate.Addresses({"binance": simulate.Venue(base, ws, "", "")}))
    for source in pointed.collectors.sources:
        assert source.endpoint.rest.startswith(base[source.market_type])
        assert source.endpoint.ws
        assert all(url.startswith(ws[source.market_type]) for url in source.endpoint.ws.values())
    assert pointed.collectors.writing.seal_seconds == 1
    assert pointed.compactor.close_delay_seconds == 1
    assert pointed.collectors.writing.sync_ms == loaded.collectors.writing.sync_ms


async def test_a_simulator_that_cannot_start_is_said(config, tmp_path):
    loaded = load_config(config, {})
    with pytest.raises(StartFailed, match="exit code"):
        await simulate.Simulator(loaded, 0, tmp_path).start()
    nothing = loaded.model_copy(update={"collectors": loaded.collectors.model_copy(update={"sources": []})})
    with pytest.raises(StartFailed, match="sources is empty"):
        await simulate.Simulator(nothing, 0, tmp_path / "x").start()


@pytest.mark.timeout(700)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")
def test_a_simulated_day_closes_with_a_certificate_and_no_gap(config, tmp_path):
    for seconds in (4, 90):  # a machine that is busy elsewhere may take longer to start than a quick one has to wait
        config.write_text(QUICK.replace("seconds_before_midnight: 4", f"seconds_before_midnight: {seconds}"))
        lake = tmp_path / f"lake-{seconds}"
        if lived := lives_through_midnight(config, lake):
            break
    assert lived, f"nothing was collected within {seconds} s"
    status, output = lived
    assert status["gaps_open"] == 0, status
    assert status["services"]["collectors"]["state"] == "running"
    for event in ("collecting", "segment_sealed", "bars_written", "midnight_crossed", "certified", "day_closed"):
        assert f" {event} " in output, event
    with_certificate(lake, output)
    assert read_lock(lake) is None
    truth = [json.loads(line) for line in (lake / "simulator.jsonl").read_text().splitlines()]
    assert truth


def lives_through_midnight(config, lake):
    """What a daemon says until its day is closed and it has stopped; None where it began to collect too late."""
    process = watched(subprocess.Popen(
        [sys.executable, "-m", "daemon", "--config", str(config), "--simulate", "--lake", str(lake)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ))  # fmt: skip
    try:
        status = wait_for_bars(process, lake)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=240)
        assert process.returncode == 0, output
        assert "did not stop" not in output
    finally:
        process.kill()
        process.communicate()
    return status and (status, output)


def with_certificate(lake, output):
    """Every certified file lies there with the hash that was said."""
    manifest = Manifest.read_only(lake)
    certificates = manifest.certificates()
    manifest.close()
    assert {c.kind for c in certificates} >= {"trade", "quote", "bar_1s", "bar_1m"}
    for certificate in certificates:
        assert hashlib.sha256((lake / certificate.path).read_bytes()).hexdigest() == certificate.sha256
        assert certificate.sha256 in output
        assert (certificate.missing, certificate.open_gaps) == (0, 0)


def wait_for_bars(process, lake):
    """The status once both markets' days have certified bars; None once that cannot come any more."""
    address = None
    until = time.monotonic() + 330
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
        lines = logged(lake)
        address = address or next((line["address"] for line in lines if line["event"] == "ready"), None)
        began = {line["market_type"]: line["at"] for line in reversed(lines) if line["event"] == "subscribed"}
        if any(not "23:" <= at[11:19] < "23:59:59" for at in began.values()):
            return None
        bars = [line for line in lines if line["event"] == "certified" and " bar_1m " in line["message"]]
        if address and len(bars) == 2:
            with urllib.request.urlopen(f"{address}/status") as answer:
                return json.load(answer)
    raise AssertionError("no day was closed")


def test_patterns_have_instruments_to_mean(config, tmp_path):
    config.write_text(QUICK.replace("symbols: [BTCUSDT], kinds: [trade, quote]", "symbols: [XYZUSDT, '*USDT', '!E*']"))
    command = simulate.Simulator(load_config(config, {}), 0, tmp_path)._command()
    assert "--symbols=binance=XYZUSDT,BTCUSDT,10" in command
    (given,) = options.parse(command[3:], {"binance": ["spot", "linear"], "okx": ["spot"]})
    symbols = given.symbols
    assert symbols[:2] == ["XYZUSDT", "BTCUSDT"]
    assert len(symbols) == 11


def test_several_exchanges_are_simulated_together_each_with_its_own_spelling(config, tmp_path):
    config.write_text(
        QUICK.replace("    - {exchange: binance, market_type: linear, symbols: [BTCUSDT], kinds: [trade]}", OTHERS)
    )
    loaded = load_config(config, {})
    command = simulate.Simulator(loaded, 5, tmp_path / "log.jsonl")._command()
    given = options.parse(command[3:], {name: venues.load(name).MARKETS for name in venues.names()})
    assert [(one.venue, one.markets, one.symbols) for one in given] == [
        ("binance", ["spot"], ["BTCUSDT"]),
        ("okx", ["spot", "linear"], ["BTC-USDT", "BTC-USDT-SWAP"]),
        ("kraken", ["linear"], ["PF_XBTUSD"]),
    ]
    assert [one.rate for one in given] == [100, 200, 100]
    assert len({one.log for one in given}) == 3
    told = {
        one.venue: simulate.Venue(
            *({m: f"{scheme}://h:{n}/{m}" for m in one.markets} for scheme in ("http", "ws")), "", ""
        )
        for n, one in enumerate(given)
    }
    pointed = simulate.pointed_at(loaded, simulate.Addresses(told)).collectors.sources
    assert [source.endpoint.rest.split("//")[1].split("/")[0] for source in pointed] == ["h:0", "h:1", "h:1", "h:2"]
    del told["kraken"]
    with pytest.raises(StartFailed, match="runs without kraken linear"):
        simulate.pointed_at(loaded, simulate.Addresses(told))
