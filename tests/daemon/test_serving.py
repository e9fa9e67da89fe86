"""The REST API as the daemon's child: its address is told, it ends when told, and its end by itself is an error."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from api.config import ServeConfig
from cli.app import app
from daemon import serving
from daemon.serving import ServeFailed, ServeService, command
from runtime.clock import SystemClock

SERVES = 'import sys, time; print(\'{"serving":"http://127.0.0.1:1"}\', flush=True); time.sleep(60)'
DEAF = 'import signal, time; signal.signal(15, signal.SIG_IGN); print(\'{"serving":"x"}\', flush=True); time.sleep(60)'
FAILS = "import sys; sys.exit('error: cannot listen on 127.0.0.1:1')"


def service(monkeypatch: pytest.MonkeyPatch, code: str) -> ServeService:
    monkeypatch.setattr(serving, "command", lambda *_: [sys.executable, "-S", "-c", code])
    return ServeService(Path("lake"), Path("config.yml"), ServeConfig(), SystemClock())


@pytest.mark.parametrize("code", [SERVES, DEAF])
async def test_it_says_where_it_serves_and_ends_when_told(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(serving, "STOP_SECONDS", 0.2)
    child, stop = service(monkeypatch, code), asyncio.Event()
    task = asyncio.ensure_future(child.run(stop))
    while child.status()["address"] is None:
        await asyncio.sleep(0.005)
    stop.set()
    await task
    assert child.status() == {"address": None, "pid": None}


async def test_its_end_by_itself_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServeFailed, match=r"exit code 1: error: cannot listen"):
        await service(monkeypatch, FAILS).run(asyncio.Event())


def test_it_is_our_own_command_with_the_configured_address(tmp_path: Path) -> None:
    config: Any = ServeConfig(host="::1", port=9)
    file = tmp_path / "config.yml"
    told = list(command(Path("lake"), file, config))
    assert told[1:] == ["-m", "cli", "serve", "--lake", "lake", "--host", "::1", "--port", "9", "--json"]
    file.touch()
    assert str(file) in command(Path("lake"), file, config)


def test_on_a_simulated_lake_it_has_the_time_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs and tokens are judged by the time in which they were written, not by the machine's."""
    (tmp_path / "manifest.db").touch()
    child = ServeService(tmp_path, tmp_path / "config.yml", ServeConfig(), SystemClock(-3_600_000_000))
    clocks: list[SystemClock] = []
    monkeypatch.setattr("api.serving.run", lambda *given: clocks.append(given[2]))
    asked = list(child._command)
    assert app(asked[asked.index("serve") :], standalone_mode=False) == 0
    assert [clock.offset_us for clock in clocks] == [-3_600_000_000]
    assert not any("clock" in word for word in command(tmp_path, tmp_path / "config.yml", ServeConfig()))
