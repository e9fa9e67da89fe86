"""Reload: a wrong configuration is refused whole, what needs a restart is named, and SIGHUP ends nothing."""

import asyncio
import os
import signal
import subprocess
import sys

import msgspec
import pytest

from collectors.collecting import Change
from daemon import reloading, simulate
from daemon.arguments import Options
from daemon.config import load_config
from daemon.errors import ConfigError, DaemonError, StartFailed
from daemon.reloading import Hangup, Reloader
from daemon.stopping import Stopper
from lake.lock import read_lock
from runtime.service import Fatal
from tests.support.commands import ROOT, dl, dl_json
from tests.support.leash import watched
from tests.support.live import PATIENCE, wait_for

BEFORE = """\
lake: data
collectors:
  sources:
    - {exchange: binance, market_type: spot, symbols: [BTCUSDT]}
http: {port: 0}
"""


class Collects:
    """Collectors that write down what they are asked for."""

    def __init__(self, refusal=None):
        self.asked = []
        self._refusal = refusal

    async def change(self, sources, *, dry_run=False):
        self.asked.append(([source.symbols for source in sources], dry_run))
        if self._refusal:
            raise Fatal(self._refusal, 78)
        return Change(added=["binance spot ethusdt@trade"], replaced=["binance-spot-stream-1"])


def as_given(config):
    return config


@pytest.fixture
def path(tmp_path):
    (tmp_path / "config.yml").write_text(BEFORE)
    return tmp_path / "config.yml"


def reloader(path, collects, pointed=as_given, **options):
    given = Options(config=path, **options)
    config = load_config(path)
    return Reloader(
        config.model_copy(update={"lake": reloading.place.root_of(config, given)}), given, collects, pointed
    )


async def test_sources_are_applied_and_what_else_changed_is_named_until_a_restart(path):
    collects = Collects()
    made = reloader(path, collects)
    path.write_text(BEFORE.replace("[BTCUSDT]", "[BTCUSDT, ETHUSDT]").replace("port: 0", "port: 1"))
    done = await made.reload(dry_run=True)
    assert (done.dry_run, done.restart) == (True, ["http.port"])
    done = await made.reload()
    assert done.changed.added == ["binance spot ethusdt@trade"]
    assert collects.asked == [([["BTCUSDT", "ETHUSDT"]], True), ([["BTCUSDT", "ETHUSDT"]], False)]
    assert (await made.reload()).restart == ["http.port"]
    path.write_text(BEFORE.replace("lake: data", "lake: other"))
    assert (await made.reload()).restart == ["lake"]
    assert (await reloader(path, collects, lake=path.parent / "x").reload()).restart == []


async def test_a_wrong_file_is_refused_whole_with_every_error(path):
    collects = Collects()
    made = reloader(path, collects)
    path.write_text(BEFORE.replace("spot", "sport").replace("port: 0", "port: none") + "lak: 1\n")
    with pytest.raises(ConfigError) as refused:
        await made.reload()
    assert [line.split()[1] for line in refused.value.problems] == [
        "collectors.sources[0].market_type", "http.port", "lak",
    ]  # fmt: skip
    path.unlink()
    with pytest.raises(DaemonError, match="no configuration file"):
        await made.reload()
    assert collects.asked == []


async def test_what_the_collectors_refuse_is_a_refusal_and_is_not_remembered(path):
    made = reloader(path, Collects("the sources need 2 connections"))
    path.write_text(BEFORE.replace("[BTCUSDT]", "[A, B]"))
    with pytest.raises(reloading.ReloadRefused, match="need 2") as refused:
        await made.reload()
    assert refused.value.exit_code == 78


async def test_without_collectors_sources_need_a_restart_too(path):
    made = reloader(path, None)
    path.write_text(BEFORE.replace("[BTCUSDT]", "[A, B]"))
    assert (await made.reload()).restart == ["collectors.sources"]
    assert msgspec.to_builtins(await made.reload())["changed"]["added"] == []


async def test_under_simulate_new_sources_point_at_the_simulator_too(path):
    spot = simulate.Venue({"spot": "http://127.0.0.1:1/spot"}, {"spot": "ws://127.0.0.1:1/spot"}, "", "")
    addresses = simulate.Addresses({"binance": spot})
    pointed_to = []

    class Pointed(Collects):
        async def change(self, sources, *, dry_run=False):
            pointed_to.extend(source.endpoint.rest for source in sources)
            return await super().change(sources, dry_run=dry_run)

    made = reloader(path, Pointed(), lambda config: simulate.pointed_at(config, addresses), simulate=True)
    path.write_text(BEFORE.replace("[BTCUSDT]", "[ETHUSDT]"))
    assert (await made.reload()).restart == []
    assert pointed_to == ["http://127.0.0.1:1/spot"]
    path.write_text(BEFORE.replace("spot", "linear"))
    with pytest.raises(StartFailed, match="runs without binance linear"):
        await made.reload()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
async def test_a_hangup_reloads_and_stops_nothing(path):
    collects = Collects()
    stop = asyncio.Event()
    with Stopper(5.0) as stopper:
        hangup = asyncio.ensure_future(Hangup(stopper.reload, reloader(path, collects)).run(stop))
        os.kill(os.getpid(), signal.SIGHUP)
        while not collects.asked:
            await asyncio.sleep(0.005)
        path.write_text("nonsense: 1\n")
        os.kill(os.getpid(), signal.SIGHUP)
        while stopper.reload.is_set() or len(collects.asked) == 1:
            path.write_text(BEFORE)
            stopper.reload.set()
            await asyncio.sleep(0.005)
        assert not stopper.stop.is_set()
        stop.set()
        await hangup


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_the_daemon_reloads_by_signal_and_by_command_and_goes_on_after_a_refusal(path):
    path.write_text("collectors: {sources: []}\nhttp: {port: 0}\nlogs: {file: false}\n")
    said, lake = path.parent / "said.txt", path.parent / "data"
    with said.open("w") as out:
        process = watched(
            subprocess.Popen(
                [sys.executable, "-m", "daemon", "--config", str(path)], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )
        )

    def wait(*, until):
        def reached():
            assert process.poll() is None, said.read_text()
            return until()

        wait_for("what it is to say", reached)

    try:
        wait(until=lambda: (info := read_lock(lake)) is not None and info.port)
        process.send_signal(signal.SIGHUP)
        wait(until=lambda: "0 streams added" in said.read_text())
        path.write_text("collectors: {sources: []}\nhttp: {port: 1}\nlogs: {file: false}\n")
        assert dl_json("reload", "--lake", lake, "--dry-run")["restart"] == ["http.port"]
        assert "http.port needs a restart" in dl("reload", "--config", path).stdout
        path.write_text("collectors: {sources: [{exchange: binance}]}\n")
        refused = dl("reload", "--lake", lake, expect=78).stderr
        assert "config.yml:1:24 collectors.sources[0].market_type is required" in refused
        assert "collectors.sources[0].symbols is required" in refused
        process.send_signal(signal.SIGHUP)
        wait(until=lambda: said.read_text().count("nothing changes: ") == 2)
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    assert "needs a restart: http.port" in said.read_text()
    assert "no daemon writes" in dl("reload", "--lake", lake, expect=69).stderr
