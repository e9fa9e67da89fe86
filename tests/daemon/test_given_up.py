"""Frames for which the disk had no room: what came after them is neither called wrong nor made anew without them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import zstandard

from collectors.config import CollectorsConfig
from collectors.replay import replay
from daemon.rederiving import Outcome, Rederiver, Wanted
from daemon.reparser import DayChange, Job, Reparser
from lake.frames import read_frames
from lake.rows import FRAMES
from lake.writer import LakeWriter
from market.session import Gap
from runtime.workers import InlineExecutor
from tests.support import proven, written
from tests.support.proven import LATER, SECOND
from tests.support.written import MS, T0
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("bybit", "linear")
DATE = "2025-11-20"
SESSION = "box-1-1"
WHOLE = {"markPrice": "100.5", "indexPrice": "100.4", "fundingRate": "0.0001", "nextFundingTime": "1763683200000"}
CHANGES = [{"markPrice": "101"}, {"markPrice": "102"}, {"openInterest": "7"}, {"openInterest": "8"},
           {"markPrice": "103"}, {"markPrice": "104"}]  # fmt: skip
"""Frames 2 to 7: of the open interest no mark is made, and what follows needs the index that the whole one told."""
LOST = (4, 5)


def ticker(n: int, told: dict[str, str]) -> str:
    """Frame n of a connection."""
    at, what = T0 + n * SECOND, "delta" if n > 1 else "snapshot"
    said = {"topic": "tickers.BTCUSDT", "type": what, "data": {"symbol": "BTCUSDT"} | told, "ts": at // MS}
    return written.line(n, json.dumps(said), at=at)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A closed day of marks. Two of its frames are in no file."""
    root = tmp_path / "lake"
    frames = [ticker(n, told) for n, told in enumerate((WHOLE, *CHANGES), 1)]
    opened = written.line(0, dir="open", url="wss://stream.bybit.com/v5/public/linear")
    closed = written.line(7, at=T0 + 8 * SECOND, dir="close", reason="stopped")
    source = written.write(tmp_path / "all.jsonl", [opened, *frames, closed])
    with LakeWriter.open(root, "box", LATER) as writer:
        replay([source], *MARKET, writer, CollectorsConfig(node="box"), LATER)
        transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
        proven.compact(writer, LATER)
        (path,) = [root / row.path for row in writer.manifest.segments(kind=FRAMES) if row.rows]
    kept = [line for line in read_frames(path) if line.dir != "recv" or line.n not in LOST]
    path.write_bytes(zstandard.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in kept)))
    return root


def no_room(root: Path, cause: str, at: int = T0 + LOST[0] * SECOND) -> None:
    """A gap of another kind of that market tells that events were given up."""
    with LakeWriter.open(root, "box", LATER) as writer:
        gap = Gap(
            "full", *MARKET, "open_interest", "BTCUSDT", at, at + SECOND, None, None, cause, "counted", "open",
            SESSION, at,
        )  # fmt: skip
        writer.record_gaps([gap])


def reproduce(root: Path, scratch: Path) -> Outcome:
    with Rederiver(root, Wanted(*MARKET), CollectorsConfig(), LATER, scratch) as work:
        while work.step():
            pass
    return work.outcome


def told(outcome: Outcome) -> list[tuple[str, str]]:
    return [(one.severity, one.problem.partition(":")[0]) for one in outcome.findings]


@pytest.mark.parametrize("cause", ["disk_full", "read_only", "storage_failed"])
def test_rows_behind_frames_that_were_given_up_cannot_be_proven_and_are_no_difference(
    lake: Path, tmp_path: Path, cause: str
) -> None:
    no_room(lake, cause)
    outcome = reproduce(lake, tmp_path)
    assert told(outcome) == [("warning", f"frames 4 to 5 of {SESSION} were given up")]
    assert outcome.ok
    (marks,) = outcome.days
    assert (marks.rows, marks.derived, marks.different, marks.unreachable) == (5, 5, 0, 2)
    assert list(marks.files.values()) == [None]


@pytest.mark.parametrize("cause, at", [("disconnect", T0 + 4 * SECOND), ("disk_full", T0 + proven.HOUR)])
def test_frames_that_nothing_says_were_given_up_are_an_error_and_so_is_what_differs(
    lake: Path, tmp_path: Path, cause: str, at: int
) -> None:
    no_room(lake, cause, at)
    outcome = reproduce(lake, tmp_path)
    assert told(outcome) == [("error", DATE), ("error", f"frames 4 to 5 of {SESSION} are in no file")]
    (marks,) = outcome.days
    assert (marks.different, list(marks.files.values())) == (2, [False])


@pytest.mark.parametrize("cause", ["disk_full", "disconnect"])
def test_what_is_read_again_leaves_rows_behind_frames_in_no_file_as_they_are(
    lake: Path, tmp_path: Path, cause: str
) -> None:
    no_room(lake, cause)
    job = Job(*MARKET, DATE, (DATE,), None, None, 5)
    with Reparser(lake, job, CollectorsConfig(), LATER, tmp_path, None) as work:
        while work.step():
            pass
        found: DayChange = work.result()
    (marks,) = found.streams
    assert (marks.rows, marks.same, marks.kept) == (5, 3, 2)
    assert (marks.changed, marks.added, marks.removed, marks.files) == (0, 0, 0, [])
