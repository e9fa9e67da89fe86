"""What a rebuild finds on the disk where the ledger has lost lines: what comes in, what is told of, what gives way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import layout
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.rebuild import Rebuilt, rebuild
from lake.rows import FileRow, SegmentRow
from lake.segment_files import SegmentFile
from lake.segments import encode_lines, extent
from lake.tables import Parent
from lake.writer import LakeWriter
from market.kinds import Trade
from market.times import MINUTE, SECOND
from tests.support.lakes import STREAM, TestLake, bar_table, date_of
from tests.support.market_rows import T0, table, trade

NOW = T0 + MINUTE


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[TestLake]:
    held = TestLake(tmp_path / "lake")
    yield held
    held.close()


def published(lake: TestLake, level: str, at: int, kind: str = "trade", **placement: object) -> FileRow:
    """A file of which no commit tells."""
    told = {"symbol": "BTCUSDT"} if level == "day" else {"hour": 0}
    one = trade(at, "1", "1", seq=at - T0 + 1)
    rows = table(kind, [one]) if kind == "trade" else bar_table([one])
    place = Placement(
        kind=kind, **STREAM, level=level, date=date_of(T0), lake_id=lake.writer.lake_id, **(told | placement)
    )  # type: ignore[arg-type] # plain values of a placement
    return publish(lake.root, place, [rows], run="r", now=T0)


def committed(lake: TestLake, level: str, at: int, kind: str = "trade", **placement: object) -> FileRow:
    row = published(lake, level, at, kind, **placement)
    lake.writer.publish(add=[row], now=T0)
    return row


def of(*rows: FileRow) -> tuple[Parent, ...]:
    return tuple(Parent(row.path, row.sha256) for row in rows)


def made_anew(lake: TestLake, *, without_ledger: bool = False) -> Rebuilt:
    """The ledger has lost a line, nobody knows which, or all of them."""
    lake.close()
    for ledger in (lake.root / "ledger").iterdir():
        ledger.write_bytes(ledger.read_bytes() + b"no line of a ledger\n")
    if without_ledger:
        shutil.rmtree(lake.root / "ledger")
    (lake.root / "manifest.db").unlink()
    return rebuild(lake.root, "node", NOW)


def states(root: Path) -> dict[str, str]:
    manifest = Manifest.read_only(root)
    try:
        return {row.path: state for state in ("live", "retired") for row in manifest.files(state=state)}
    finally:
        manifest.close()


def test_a_part_that_a_file_of_the_ledger_was_made_of_comes_in_as_replaced(lake: TestLake) -> None:
    part = published(lake, "part", T0)
    hour = committed(lake, "hour", T0, parents=of(part), revision=1)
    assert made_anew(lake).adopted == [part.path]
    assert states(lake.root) == {part.path: "retired", hour.path: "live"}


def test_a_file_of_a_job_that_came_too_late_is_left(lake: TestLake) -> None:
    """Its parts are in another hour already: both of them live would tell their rows twice."""
    part = committed(lake, "part", T0)
    hour = committed(lake, "hour", T0, parents=of(part), revision=1)
    late = published(lake, "hour", T0, parents=of(part), revision=2)
    (lake.root / part.path).unlink()
    made = made_anew(lake)
    assert (made.left, made.adopted) == ([late.path], [])
    assert late.path not in states(lake.root)
    assert states(lake.root)[hour.path] == "live"


def test_a_day_that_the_ledger_knows_a_later_revision_of_comes_in_as_replaced(lake: TestLake) -> None:
    first = published(lake, "day", T0)
    second = committed(lake, "day", T0 + SECOND, revision=1)
    assert made_anew(lake).adopted == [first.path]
    assert states(lake.root) == {first.path: "retired", second.path: "live"}


def test_bars_of_an_hour_take_the_place_of_its_parts(lake: TestLake) -> None:
    """Bars name trades as parents, and no older bars."""
    part = committed(lake, "part", T0 + MINUTE, "bar_1m")
    hour = published(lake, "hour", T0, "bar_1m", revision=1)
    assert made_anew(lake).adopted == [hour.path]
    assert states(lake.root) == {part.path: "retired", hour.path: "live"}


def test_of_bars_that_no_entry_tells_of_the_hour_is_live_and_not_its_parts(lake: TestLake) -> None:
    hour = published(lake, "hour", T0, "bar_1m", revision=1)
    parts = [published(lake, "part", T0 + n * MINUTE, "bar_1m") for n in (1, 2)]
    assert hour.path < parts[0].path < parts[1].path, "the hour is met first"
    made = made_anew(lake, without_ledger=True)
    assert made.adopted == [hour.path, *(part.path for part in parts)]
    assert states(lake.root) == {hour.path: "live"} | dict.fromkeys((part.path for part in parts), "retired")


def test_a_whole_file_with_the_name_of_another_is_told_of_and_not_taken_in(lake: TestLake) -> None:
    row = published(lake, "part", T0)
    other = row.path.replace(row.sha256[:8], "0" * 8)
    (lake.root / row.path).rename(lake.root / other)
    made = made_anew(lake)
    assert [(one.severity, one.path) for one in made.findings] == [("error", other)]
    assert made.findings[0].problem == "is not what its name says"
    assert (made.adopted, states(lake.root)) == ([], {})


def sealed(lake: TestLake, number: int) -> SegmentRow:
    path = layout.raw_path(*STREAM.values(), "trade", T0, "node", number)
    row = SegmentRow(path=path, **STREAM, kind="trade", state="open", period_start=T0)
    place = ("BTCUSDT", "trade", T0 + number, None, T0 + number, "node-1-1", number, 0, "ws")
    event = Trade(*place, price="1", qty="1", side="buy", seq=number, condition="market")
    with SegmentFile(lake.root, row) as file:
        file.append(encode_lines([event]), 1, extent([event]))
        return file.seal(T0 + MINUTE)


def test_of_segments_that_no_entry_tells_those_come_in_that_are_what_their_seal_says(lake: TestLake) -> None:
    """The others are the next start's, which reads them."""
    whole, harmed, longer, bare = (sealed(lake, number) for number in range(1, 5))
    (lake.root / layout.meta_path(harmed.path)).write_bytes(b"{")
    with (lake.root / longer.path).open("ab") as file:
        file.write(b"more")
    (lake.root / layout.meta_path(bare.path)).unlink()
    made = made_anew(lake)
    assert made.sealed == [whole.path]
    found = {one.path: one.problem for one in made.findings}
    assert found.keys() == {harmed.path, longer.path}
    assert found[longer.path] == f"has {longer.bytes + 4} bytes, its seal says {longer.bytes}"
    with LakeWriter.open(lake.root, "node", NOW) as writer:
        writer.recover(NOW)
        held = {row.path: (row.state, row.rows, row.clean) for row in writer.manifest.segments()}
    assert held == {
        whole.path: ("sealed", 1, True),
        harmed.path: ("sealed", 1, False),
        longer.path: ("quarantined", 1, True),
        bare.path: ("sealed", 1, False),
    }
