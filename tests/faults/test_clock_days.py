"""F47, F48 for real: days, months and years that end where local time says otherwise; a daemon whose clock is moved."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors.config import CollectorsConfig
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import Lake
from lake.writer import LakeWriter
from market.errors import Malformed
from market.times import DAY, HOUR, MINUTE, SECOND, parse
from runtime.workers import InlineExecutor
from tests.support import written
from tests.support.commands import dl_json
from tests.support.faults import FULL, some
from tests.support.live import Daemon, free_port, get, lines, simulator, wait_for, write_config
from tests.support.moved import FAKE, moved
from transformer.config import TransformerConfig
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(1800 if FULL else 600)
DAYS = ["2026-12-31", "2028-02-29", "2026-03-08", "2026-11-01"]
"""A year's end, a leap day, and the two on which New York changes its time."""


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process cannot be changed here")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    assert time.tzname[0] in ("EST", "America"), "the machine knows the zone"
    yield
    monkeypatch.undo()
    time.tzset()


def times_of(midnight: int) -> list[int]:
    """When trades happen: each second of the whole day, or each of its minutes and of those around both midnights."""
    begin, end = midnight - DAY, midnight
    if FULL:
        return list(range(begin - 30 * SECOND, end + 30 * SECOND, SECOND))
    dense = [at + n * SECOND for at in (begin, end) for n in range(-30, 30)]
    return sorted({*range(begin, end, MINUTE), *dense, end - 1000, begin - 1000})


def lake_of(folder: Path, times: list[int]) -> Path:
    """Trades at those times, replayed, transformed and closed."""
    lines = [written.line(0, at=times[0] - SECOND, dir="open", url="wss://fstream.binance.com/stream")]
    lines += [
        written.line(n, written.trade(n, at=at, p=f"{100 + n % 7}"), at=at + 500) for n, at in enumerate(times, 1)
    ]
    lines.append(written.line(len(times), at=times[-1] + SECOND, dir="close", reason="stopped"))
    frames = written.write(folder / "frames.jsonl", lines)
    now = times[-1] + 2 * HOUR
    with LakeWriter.open(folder / "lake", "n", now) as writer:
        config = CollectorsConfig.model_validate({"node": "n", "writing": {"seal_seconds": 3600}})
        done = replay([frames], "binance", "linear", writer, config, now)
        assert (done.rejected, done.events["trade"]) == ({}, len(times))
        transform_once(writer, InlineExecutor(), now, TransformerConfig())
        compact_once(writer, InlineExecutor(), now, CompactorConfig())
    return folder / "lake"


def bars(lake: Path, kind: str, day: int) -> pl.DataFrame:
    table = Lake(lake).read(kind, symbol="BTCUSDT", start=day, end=day + DAY)
    return pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col("window_start").cast(pl.Int64))


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize("date", some(DAYS, 1, "days"))
def test_f47_a_day_is_its_utc_day_wherever_the_machine_stands(tmp_path: Path, date: str) -> None:
    day = parse(date)
    times = times_of(day + DAY)
    lake = lake_of(tmp_path, times)
    inside = [at for at in times if day <= at < day + DAY]
    minutes, seconds = bars(lake, "bar_1m", day), bars(lake, "bar_1s", day)
    assert minutes["window_start"].to_list() == list(range(day, day + DAY, MINUTE))
    assert minutes.height == 1440
    assert seconds["window_start"].to_list() == sorted({at // SECOND * SECOND for at in inside})
    assert not FULL or seconds.height == 86_400
    assert minutes["trade_count"].sum() == seconds["trade_count"].sum() == len(inside)
    year, month, number = date.split("-")
    (path,) = (lake / "tables").rglob(f"data_type=trade/**/year={year}/month={month}/day={number}/*.parquet")
    held = pl.read_parquet(path, columns=["ts_event", "date"])
    assert held.height == len(inside)
    assert held["date"].cast(pl.String).unique().to_list() == [date]
    found = {p.parent.relative_to(lake).as_posix().partition("year=")[2] for p in lake.glob("versions/**/*.parquet")}
    days = {f"{p[:4]}-{p[11:13]}-{p[18:20]}" for p in found}
    assert days <= {str(pl.Series([at]).cast(pl.Datetime("us")).dt.date()[0]) for at in (day - 1, day, day + DAY)}


def test_f47_a_leap_second_falls_into_the_second_before_it(tmp_path: Path) -> None:
    """Unix time has no 23:59:60: a venue says 23:59:59 twice. No time of a user's may say it either."""
    midnight = parse("2026-12-31") + DAY
    twice = [midnight - SECOND + n * 100_000 for n in range(10)]
    times = [midnight - 2 * SECOND, *twice, *twice, midnight, midnight + SECOND]
    lake = lake_of(tmp_path, times)
    seconds = bars(lake, "bar_1s", midnight - DAY)
    assert seconds["window_start"].to_list() == [midnight - 2 * SECOND, midnight - SECOND]
    assert seconds["trade_count"].to_list() == [1, 20]
    with pytest.raises(Malformed):
        parse("2026-12-31T23:59:60Z")


# --- F48 on the real process ---


class Moved:
    """A daemon whose wall clock a test moves; monotonic time is the machine's own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._file = folder / "faketime"
        self.by(0)
        patch.setenv("LD_PRELOAD", str(FAKE))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def by(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s\n")
        fresh.rename(self._file)


def services(port: int) -> dict[str, Any]:
    """What /status says; on a busy machine an answer may take longer than one request waits."""
    answer = wait_for("the status", lambda: asked(port, "/status"))
    return dict(json.loads(answer)["services"])


def asked(port: int, path: str) -> bytes:
    """The body of an answer, nothing where none came in time."""
    status, body = get(f"http://127.0.0.1:{port}{path}")
    return body if status == 200 else b""


def causes(lake: Path) -> list[str]:
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT close_cause FROM sessions WHERE source = 'ws'") if row[0]]


@pytest.mark.slow
@moved
def test_f48_the_real_daemon_lives_through_an_hour_forward_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, port = tmp_path / "lake", free_port()
    with simulator(tmp_path, "--symbols", "BTCUSDT,ETHUSDT", "--rate", "300") as exchange:
        sources = [exchange.source("linear", ["BTCUSDT", "ETHUSDT"], ["trade", "quote"])]
        config = write_config(tmp_path / "config.json", lake, sources, port, transformer={"interval_seconds": 1})
        with monkeypatch.context() as patch:
            wall = Moved(tmp_path, patch)
            daemon = Daemon(config, tmp_path / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("lines", lambda: any(lines(lake, "trade")))
            for step, seconds in enumerate((3600, 0), 1):
                wall.by(seconds)
                wait_for("the step", lambda step=step: services(port)["clock"]["report"]["steps"] == step)
                wait_for("the handover", lambda step=step: len(causes(lake)) >= step)
                time.sleep(2)
            clock = services(port)["clock"]["report"]
            assert [round(s["seconds"]) for s in clock["last_steps"]] == [3600, -3600]
            assert not clock["sane"]
            assert b"lake_clock_sane 0.0" in wait_for("metrics", lambda: asked(port, "/metrics"))
        finally:
            code = daemon.stop()
        assert code == 0, daemon.said()[-4000:]
        truth = exchange.stop()
    said = causes(lake)
    assert sorted(cause.partition(":")[0] for cause in said) == ["handover", "handover", "stopped"], said
    assert daemon.said().count("clock_stepped") == 2
    dl_json("transform", "--lake", lake)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        stored = sorted(Lake(lake).read("trade", symbol=symbol)["seq"].to_pylist())
        sent = truth.of("trade", "linear", symbol)
        assert stored == list(range(stored[0], stored[-1] + 1)), "none is missing, none is there twice"
        assert set(stored) <= set(sent)
    assert [gap for gap in dl_json("gaps", "--lake", lake) if gap["state"] == "open"] == []
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"], verdict["findings"]
    ledger = "".join(path.read_text() for path in lake.glob("ledger/*.jsonl"))
    assert ledger.count("clock_step") == 2
    assert os.environ.get("LD_PRELOAD") != str(FAKE)
    shutil.rmtree(lake)
