"""The simulator as a process: one line when ready, a clean end, a log that can be read, the same story twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.truth import TornLog, load
from tests.support.live import told


@pytest.fixture
def spawn(tmp_path):
    running = []

    def start(name, *arguments, venue="binance"):
        log = tmp_path / name
        usual = ("--rate", "5000", "--log", str(log), "--venue", venue)
        command = [sys.executable, "-m", "simulator", *told(*usual, *arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        ready = json.loads(process.stdout.readline())["venues"]
        return process, ready if "," in venue else ready[venue], log

    yield start
    for process in running:
        process.stdin.close()
        process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()


def test_it_says_where_it_listens_and_ends_with_its_parents_pipe(spawn):
    process, ready, log = spawn("one")
    assert ready["rest"].keys() == ready["ws"].keys() == {"spot", "linear"}
    assert ready["ws"]["spot"].startswith("ws://127.0.0.1:")
    assert ready["control"].endswith("/sim")
    assert ready["log"] == str(log)
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stdout.read() == ""
    truth = load(log)
    assert truth.stopped > truth.started


def test_a_terminated_one_closes_its_log(spawn):
    process, _, log = spawn("one", "--markets", "spot")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert load(log).header["markets"] == ["spot"]
    assert load(log).stopped


def test_several_venues_have_ports_logs_and_faults_of_their_own(spawn):
    several = {"kraken": {"spot", "linear"}, "coinbase": {"linear"}, "okx": {"spot", "linear"}}
    given = ("--markets", "spot,linear", "--markets", "coinbase=linear", "--symbols", "okx=BTC-USDT", "--symbols", "2")
    process, ready, log = spawn("one.jsonl", *given, "--fault", "0s:cut:venue=okx", venue=",".join(several))
    assert {venue: set(told["ws"]) for venue, told in ready.items()} == several
    assert len({told["control"] for told in ready.values()}) == len(several)
    process.stdin.close()
    assert process.wait(60) == 0
    found = {venue: load(told["log"]) for venue, told in ready.items()}
    assert [log.with_stem(f"one-{venue}").resolve() for venue in several] == [Path(t["log"]) for t in ready.values()]
    assert {venue: truth.header["venue"] for venue, truth in found.items()} == {venue: venue for venue in several}
    assert [bool(truth.faults) for truth in found.values()] == [False, False, True]
    assert {one: truth.header["symbols"] for one, truth in found.items()}["okx"] == ["BTC-USDT"]
    shares = {venue: truth.header["rate"] for venue, truth in found.items()}
    assert shares == {"kraken": 2000, "coinbase": 1000, "okx": 2000}


def test_two_runs_of_a_seed_tell_the_same_story_and_a_killed_one_leaves_a_readable_log(spawn):
    stories = []
    for name in ("one", "two"):
        process, _, log = spawn(name, "--seed", "7", "--symbols", "BTCUSDT,币安人生USDT")
        while log.stat().st_size < 200_000:
            assert process.poll() is None
        process.kill()
        process.wait()
        events = load(log).events
        stories.append([(e.kind, e.market, e.symbol, e.id, e.price, e.qty, e.bid, e.ask_qty) for e in events])
    shared = min(map(len, stories))
    assert shared > 500
    assert stories[0][:shared] == stories[1][:shared]
    assert {e[2] for e in stories[0]} == {"BTCUSDT", "币安人生USDT"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--symbols", "0"], ["--rate", "-1"], ["--fault", "30s:explode"], ["--markets", "moon"], ["--what"],
        ["--venue", "mtgox"], ["--venue", "okx", "--symbols", "bybit=3"],
        ["--venue", "okx", "--fault", "1s:cut:venue=x"],
        ["--markets", "coinbase=inverse"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_refused(arguments):
    done = subprocess.run([sys.executable, "-m", "simulator", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error:" in done.stderr


def test_a_taken_port_is_a_clear_end(spawn, tmp_path):
    _, ready, _ = spawn("one")
    port = ready["control"].split(":")[2].split("/")[0]
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--venue", "okx", "--port", port, "--log", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"},  # tells what is slow
    )
    assert done.returncode == 71
    assert done.stderr.startswith("simulator: ")
    assert done.stderr.count("\n") == 1


def test_a_torn_end_is_left_out_and_a_torn_middle_named(tmp_path):
    log = tmp_path / "log"
    log.write_text('["start",1,{},5]\n["stop",6]\n["trade","sp')
    assert load(log).stopped == 6
    log.write_text('["start",1,{},5]\n["trade","sp\n["stop",6]\n')
    with pytest.raises(TornLog, match=":2:"):
        load(log)
    log.write_text('["start",2,{},5]\n')
    with pytest.raises(ValueError, match="format 2"):
        load(log)
