"""The newest segments of a stream: those that reading all of them would have given."""

import random

import pytest

from lake.manifest import Manifest
from lake.newest_segments import newest
from lake.rows import SegmentRow

NOW = 1_790_000_000_000_000
STREAM = ("binance", "spot", "trade")


@pytest.fixture
def manifest(tmp_path):
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    yield opened
    opened.close()


def segment(number: int, start: int, state: str, rows: int, kind: str = "trade") -> SegmentRow:
    return SegmentRow(
        path=f"raw/{kind}-{number:03d}.jsonl", exchange="binance", market_type="spot", kind=kind, state=state,
        period_start=start, period_end=start + 10, rows=rows, recv_max=start + 9, event_max=start + 5,
    )  # fmt: skip


def test_they_are_the_last_that_hold_rows_whatever_their_state(manifest):
    chance = random.Random(3)
    told = [
        segment(n, NOW + chance.randrange(12), chance.choice(["open", "sealed", "transformed"]), chance.choice([0, 7]))
        for n in range(80)
    ]
    manifest.record(segments=[*told, segment(900, NOW + 99, "sealed", 7, kind="quote")])
    held = [row for row in told if row.state in ("sealed", "transformed") and row.rows]
    held.sort(key=lambda row: (row.period_start, row.path))
    assert len(held) > 20
    assert newest(manifest, *STREAM, 8) == held[-8:]
    assert newest(manifest, *STREAM, 1000) == held
    assert newest(manifest, "binance", "linear", "trade", 8) == []
