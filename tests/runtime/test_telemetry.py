"""What the process says: one line and one count an event, repetition kept quiet, hostile text kept on its line."""

import gzip
import inspect
import io
import json
import logging
import typing

import pytest
from loguru import logger

from market import times
from runtime import logs, metrics, saying, telemetry
from tests.support.clock import ManualClock

EVENTS = [
    function
    for name, function in vars(telemetry).items()
    if inspect.isfunction(function) and function.__module__ == "runtime.telemetry"
]
SAMPLES = {str: "x", int: 3, float: 1.5, bool: False, BaseException: ValueError("x")}


def sample(annotation):
    """A value of an annotated type, for calling any event."""
    if typing.get_origin(annotation) is not None and annotation.__module__ == "collections.abc":
        return ["x", "y"]
    options = typing.get_args(annotation) or (annotation,)
    return SAMPLES[options[0]]


@pytest.fixture(autouse=True)
def nothing_said_before():
    saying._periods.clear()


@pytest.mark.parametrize("event", EVENTS, ids=lambda f: f.__name__)
def test_each_event_is_at_most_one_line_and_exactly_one_count(event, said):
    hints = typing.get_type_hints(event)
    facts = {name: sample(hints[name]) for name in inspect.signature(event).parameters}

    def counts():
        found = {}
        for metric in metrics.EVENTS.collect():
            for s in metric.samples:
                if s.name.endswith("_total") and s.labels["event"] == event.__name__:
                    found[s.labels["level"]] = s.value
        return sum(found.values())

    before = counts()
    event(**facts)
    lines = said(event.__name__)
    assert len(lines) == counts() - before
    assert len(lines) <= 1
    assert all(line == line.strip() and not line.endswith(".") for line in lines)


def test_repetition_is_counted_but_said_once(said):
    for n in range(50):
        telemetry.rejected(exchange="binance", market_type="spot", reason="no json", session="s", frame_no=n)
    assert len(said("rejected")) == 1
    assert metrics.REJECTED.labels("binance", "spot")._value.get() >= 50


def test_gaps_are_said_one_by_one_until_there_are_too_many(said, monkeypatch):
    gap = {"exchange": "x", "market_type": "spot", "kind": "trade", "cause": "cut", "ts_from": 0, "ts_to": None}
    for n in range(30):
        telemetry.gap_opened(symbol=f"S{n}", missing=None, **gap)
    assert len(said("gap_opened")) == 10
    monkeypatch.setattr(saying, "_clock", ManualClock())
    saying._periods = {key: (-60.0, *rest) for key, (_, *rest) in saying._periods.items()}
    telemetry.gap_opened(symbol="S", missing=3, **gap)
    assert said("gap_opened")[-1] == (
        "x spot trade S: 3 ids missing from 1970-01-01T00:00:00Z to -, cut (and 20 more like it before)"
    )


def test_a_venue_s_own_words_cannot_break_the_line(said):
    telemetry.refused(exchange="x", market_type="spot", streams=["a"], reason="no\nERROR {fake}\x1b[31m <red>line")
    (line,) = said("refused")
    assert "\n" not in line
    assert "\x1b" not in line


@pytest.fixture
def restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logs.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_console_reads_well_and_the_file_is_json(tmp_path, restore_logging):
    console = io.StringIO()
    clock = ManualClock(times.parse("2026-11-19T23:59:59.25"))
    logs.setup(clock=clock, console=console, folder=tmp_path)
    telemetry.midnight_crossed(date="2026-11-19", closes_in_seconds=5)
    try:
        raise OSError("disk {gone}")  # noqa: TRY301 - a traceback is what is tested
    except OSError as error:
        telemetry.storage_failed(path="raw/x", error=error)
    logging.getLogger("aiohttp.server").warning("odd request %s", "<b>{x}</b>")
    logs.close()
    lines = console.getvalue().splitlines()
    assert lines[0] == (
        "2026-11-19 23:59:59.250    midnight_crossed  00:00 UTC: 2026-11-19 has ended,"
        " its daily files follow in about 5 s"
    )
    assert len(lines) == 3
    assert lines[2].endswith("aiohttp           odd request <b>{x}</b>")
    said = [json.loads(line) for line in (tmp_path / logs.FILE_NAME).read_text().splitlines()]
    assert [(s["event"], s["level"]) for s in said] == [
        ("midnight_crossed", "INFO"),
        ("storage_failed", "ERROR"),
        ("aiohttp", "WARNING"),
    ]
    assert said[0]["date"] == "2026-11-19"
    assert "disk {gone}" in said[1]["traceback"]


def test_old_files_are_compressed_and_let_go(tmp_path, restore_logging):
    logs.setup(console=io.StringIO(), folder=tmp_path)
    *_, handler = logger._core.handlers.values()
    sink = handler._sink
    telemetry.control_job(job="compact", state="done")
    sink._terminate_file(is_rotating=True)
    telemetry.control_job(job="compact", state="done")
    logs.close()
    packed = list(tmp_path.glob("daemon.*.jsonl.gz"))
    assert len(packed) == 1
    assert b"control_job" in gzip.decompress(packed[0].read_bytes())


def test_metrics_are_exposed_as_prometheus_text():
    metrics.received("binance", "spot", "trade", 5, 2)
    metrics.frames("binance", "spot", 5, 500)
    metrics.write_pass(0.01)
    metrics.watermark("binance", "spot", "trade", 1_000_000)
    text = metrics.exposition().decode()
    assert 'lake_received_events_total{exchange="binance",kind="trade",market_type="spot"}' in text
    assert 'lake_watermark_seconds{exchange="binance",kind="trade",market_type="spot"} 1.0' in text


def test_sizes_read_as_a_person_says_them():
    assert [saying.size(n) for n in (999, 1500, 2_500_000, 3_000_000_000)] == ["999 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert saying.some(["a", "b", "c"], 2) == "a, b and 1 more"
