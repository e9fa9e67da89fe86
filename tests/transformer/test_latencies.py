"""Latencies of what was just transformed: into the record, `/status` and the metrics; skew as an alarm."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from lake.clock_files import ClockFiles, Latencies, read
from lake.errors import StorageFailed
from lake.latency import Minute, histogram
from lake.refused import storage
from market.times import MINUTE, SECOND
from runtime import metrics
from transformer.latencies import LEAST, Newest

T0 = 1_763_646_300_000_000


def heard(minute: int, delay: int, kind: str = "trade", count: int = LEAST, exchange: str = "okx") -> Latencies:
    held = Minute(
        session="n-1-1", minute=T0 + minute * MINUTE, rows=count, event_to_receive=histogram([delay] * count),
        publish_to_receive=histogram([delay] * count),
    )  # fmt: skip
    return Latencies(
        segment=f"{kind}{minute}{count}", exchange=exchange, market_type="spot", kind=kind, minutes=(held,)
    )


class Bench:
    def __init__(self, root: Path) -> None:
        self.files = ClockFiles(root, "n")
        self.newest = Newest()
        self.before = self.total()

    def total(self) -> float:
        labels = {"event": "clock_skew", "level": "WARNING"}
        return metrics.REGISTRY.get_sample_value("lake_log_events_total", labels) or 0

    @property
    def alarms(self) -> float:
        return self.total() - self.before

    def passes(self, *found: Iterable[Latencies]) -> None:
        for some in found:
            self.newest.take(self.files, list(some))
            self.newest.settle()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_was_taken_is_recorded_shown_and_measured(bench: Bench, tmp_path: Path) -> None:
    bench.passes([heard(0, 9000), heard(1, 3000), heard(1, 5000, count=30)], [heard(1, 700, "quote")])
    assert len(list(read(tmp_path))) == 4
    status = bench.newest.status()
    assert status["skews"][0]["skew_seconds"] == pytest.approx(0.005, rel=0.07)
    quote, trade = status["streams"]
    assert (quote["kind"], trade["kind"], trade["event_to_receive"]["count"]) == ("quote", "trade", 40)
    assert trade["event_to_receive"]["p50"] == pytest.approx(0.005, rel=0.07)
    assert trade["event_to_publish"] is None
    labels = {"exchange": "okx", "market_type": "spot", "kind": "trade", "measure": "publish_to_receive"}
    found = metrics.REGISTRY.get_sample_value("lake_latency_seconds", labels | {"quantile": "0.99"})
    assert found == pytest.approx(0.005, rel=0.07)


@pytest.mark.parametrize("off", [10, -10])
def test_f49_a_skew_beyond_a_second_for_two_minutes_is_an_alarm_once(bench: Bench, off: int) -> None:
    bench.passes([heard(0, off * SECOND)], [heard(0, off * SECOND, "quote")])
    assert bench.alarms == 0, "a minute may be what a venue sends on subscribing"
    bench.passes(*([heard(n, off * SECOND)] for n in range(1, 9)))
    assert bench.alarms == 1
    bench.passes([heard(9, 20_000)], [heard(10, off * SECOND)], [heard(11, off * SECOND)])
    assert bench.alarms == 2
    skew = metrics.REGISTRY.get_sample_value("lake_clock_skew_seconds", {"exchange": "okx", "market_type": "spot"})
    assert skew == pytest.approx(off, rel=0.07)


def test_f49_a_skew_that_drifts_is_an_alarm_when_it_has_crossed_a_second(bench: Bench) -> None:
    crossed = None
    for n in range(60):
        bench.passes([heard(n, n * 40_000)])
        if crossed is None and bench.alarms:
            crossed = n * 40_000
    assert crossed == pytest.approx(SECOND, rel=0.15)
    assert bench.alarms == 1


def test_what_says_little_of_clocks_is_no_alarm(bench: Bench) -> None:
    for n in range(5):
        bench.passes([heard(n, 60 * SECOND, "kline"), heard(n, 60 * SECOND, "trade", count=LEAST - 1)])
    assert bench.alarms == 0
    bench.passes([heard(5, 60 * SECOND, "book_delta")], [heard(6, 60 * SECOND, "book_delta"), heard(3, 1, "quote")])
    assert bench.alarms == 1, "an older minute of another kind changes nothing"


@pytest.mark.parametrize("why, held_up", [(errno.ENOSPC, True), (errno.EACCES, False)])
def test_a_folder_that_takes_nothing_holds_up_no_segment_and_a_disk_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, why: int, held_up: bool
) -> None:
    def refused(*_: object) -> None:
        with storage("writing", Path("clocks")):
            raise OSError(why, os.strerror(why))

    monkeypatch.setattr(bench.files, "append", refused)
    with pytest.raises(StorageFailed) if held_up else contextlib.nullcontext():
        bench.passes([heard(0, 1000)])
    assert len(bench.newest.status()["streams"]) == (not held_up)
