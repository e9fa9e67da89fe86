"""Bybit's books of quote-saver: the stream's own frames as lines of a zip, in a chain, and onto a lake's book."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors.exchanges.bybit.archive import BOOKS, DEEP_UNTIL
from collectors.files.archive import series
from collectors.files.archive.config import ArchivesConfig
from collectors.files.archive.facts import NOTHING, Allowed, Hole
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.archiving import archive_job
from daemon.config import Config
from lake import Lake
from lake.writer import LakeWriter
from market.times import DAY, MS, date_of
from runtime.workers import InlineExecutor
from tests.support.archive_host import zipped
from tests.support.clock import ManualClock

FIXTURE = Path(__file__).parent.parent / "fixtures/exchanges/bybit/linear/book_delta.frames"
FRAMES = [line.partition(" ")[2] for line in FIXTURE.read_text().splitlines() if not line.startswith("#")][:5]
"""A whole book, two changes, one with a change missing before it, and a whole book again."""
FIRST = json.loads(FRAMES[0])
AT = FIRST["ts"] * MS
OF = series.series_of("bybit", "linear", "book_delta", "BTCUSDT")
FILE = series.file_at(OF, AT)


def packed(frames: list[str]) -> bytes:
    return zipped({FILE.name.removesuffix(".zip"): "".join(f"{frame}\n" for frame in frames).encode()})


def read(frames: list[str], allowed: Allowed = NOTHING) -> tuple[pl.DataFrame, Reading]:
    reading = Reading(FILE, allowed)
    return pl.concat(reading.batches(blocks(io.BytesIO(packed(frames)), FILE, Caps()))), reading


def test_frames_are_whole_books_and_changes_in_a_chain() -> None:
    rows, reading = read(FRAMES[:3])
    assert rows["flags"].to_list() == ["snapshot", "", ""]
    assert rows["last_id"].to_list() == [18521288, 18521289, 18521290]
    assert rows["first_id"].to_list() == [None, 18521289, 18521290]
    assert (rows["ts_event"][0], rows["ts_publish"][0]) == (FIRST["cts"] * MS, AT)
    assert rows["bids"][0].to_list()[0] == {"price": "16493.50", "qty": "0.006"}
    assert rows["bids"][2].to_list() == []
    assert (reading.facts.first_id, reading.facts.last_id, reading.facts.unit) == (18521288, 18521290, "ms")


def test_a_change_that_is_missing_is_refused_and_where_that_is_allowed_a_hole() -> None:
    with pytest.raises(Refused, match=r"ids: line 4: ids \[18521291, 18521292\) are missing"):
        read(FRAMES)
    rows, reading = read(FRAMES, Allowed(holes=True))
    assert rows["flags"].to_list() == ["snapshot", "", "", "gap_before", "snapshot"]
    ends = [(hole.id_from, hole.id_to) for hole in reading.facts.holes]
    assert ends == [(18521291, 18521292), (18521293, 18521295)]
    assert reading.facts.holes[0] == Hole(18521291, 18521292, AT + 199 * MS, AT + 299 * MS)


def changed(place: int, change: Callable[[dict[str, Any]], object]) -> list[str]:
    frame = json.loads(FRAMES[place])
    change(frame)
    return [*FRAMES[:place], json.dumps(frame), *FRAMES[place + 1 : 3]]


@pytest.mark.parametrize(
    "frames,rule",
    [
        ([*FRAMES[:2], "<html>"], "columns"),
        ([*FRAMES[:2], '{"type":"delta","ts":1785701708100}'], "value"),
        (changed(1, lambda frame: frame["data"].update(s="ETHUSDT")), "value"),
        (changed(1, lambda frame: frame.update(type="whole")), "value"),
        (changed(1, lambda frame: frame["data"].update(u=7)), "order"),
        (changed(1, lambda frame: frame.update(ts=frame["ts"] + DAY // MS)), "period"),
        (changed(1, lambda frame: frame.update(ts=frame["ts"] * 1000)), "unit"),
        (changed(1, lambda frame: frame["data"].update(b=[["1"]])), ""),
        (changed(1, lambda frame: frame.update(cts=1)), ""),
    ],
)
def test_what_is_no_frame_of_the_file_is_refused(frames: list[str], rule: str) -> None:
    if not rule:  # one row, set aside or timed by its gateway
        rows, _ = read(frames)
        assert rows["ts_event"].is_between(FILE.span.start, FILE.span.end, closed="left").all()
        return
    with pytest.raises(Refused) as caught:
        read(frames)
    assert (caught.value.rule, caught.value.name) == (rule, FILE.name)


def test_a_book_begins_anew_with_any_id() -> None:
    rows, _ = read([*FRAMES[:3], FRAMES[0].replace("18521288", "1")])
    assert rows["flags"].to_list() == ["snapshot", "", "", "snapshot"]


def test_files_have_their_own_host_and_depth() -> None:
    assert DEEP_UNTIL == "2025-08-21"
    names = [ArchiveFile(date, OF).path for date in ("2025-08-20", "2025-08-21")]
    assert names == [
        "orderbook/linear/BTCUSDT/2025-08-20_BTCUSDT_ob500.data.zip",
        "orderbook/linear/BTCUSDT/2025-08-21_BTCUSDT_ob200.data.zip",
    ]
    assert OF.dates([*names, names[0].replace("500", "50")], "daily") == {"2025-08-20", "2025-08-21"}
    assert BOOKS.removeprefix("https://") in ArchivesConfig().allowed("bybit")


def test_a_day_of_books_comes_in_and_is_a_book_at_any_time(tmp_path: Path) -> None:
    root, place = tmp_path / "lake", tmp_path / "mirror" / FILE.path
    place.parent.mkdir(parents=True)
    place.write_bytes(packed(FRAMES[:3]))
    now, date = AT + 3 * DAY, date_of(AT).isoformat()
    told = {"exchange": "bybit", "market_type": "linear", "kind": "book_delta", "symbols": ["BTCUSDT"], "first": date,
            "last": date, "source": str(tmp_path / "mirror")}  # fmt: skip
    LakeWriter.open(root, "node", now).close()
    with LakeWriter.open(root, "node", now) as writer:
        config = Config.model_validate({"collectors": {"node": "node"}})
        done = archive_job(writer, InlineExecutor(), ManualClock(now), told, config, lambda *_: None)
        assert [(one.state, one.rows, one.what) for one in done.files] == [("taken", 3, "")]
        made = compact_once(writer, InlineExecutor(), now, CompactorConfig(), retention=False)
        assert not made.failures
        again = archive_job(writer, InlineExecutor(), ManualClock(now), told, config, lambda *_: None)
    assert [one.state for one in again.files] == ["known"]
    book = Lake(root).book("BTCUSDT", exchange="bybit", market_type="linear", at=AT + 150 * MS)
    assert (book.bids, book.asks) == ([("16493", "0.1")], [("16611", "0.5"), ("16612", "0.213")])
