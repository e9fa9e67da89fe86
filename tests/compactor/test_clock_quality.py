"""A day on which the kernel's clock was not synchronised is certified with a check that says so."""

from pathlib import Path

from compactor.clock_quality import UNSYNCHRONISED
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake.clock_files import ClockLook
from lake.manifest import Manifest
from lake.rebuild import rebuild
from market.times import DAY, HOUR, MINUTE
from runtime.workers import InlineExecutor
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade


def compacted(root: Path, *looks: ClockLook) -> list[tuple[str, str, int, str]]:
    held = TestLake(root)
    try:
        rows = [trade(T0 + n * MINUTE, "100.0", "1", n, symbol="BTCUSDT", frame_no=n) for n in range(1, 9)]
        held.part("trade", rows)
        held.cover(T0, T0 + DAY)
        held.writer.clocks.append(looks)
        compact_once(held.writer, InlineExecutor(), T0 + DAY + HOUR, CompactorConfig())
        manifest = held.writer.manifest
        names = {row.path: row.kind for row in manifest.files(level="day")}
        return [
            (names[row.path], row.symbol, row.count, row.detail)
            for row in manifest.checks()
            if row.check == UNSYNCHRONISED
        ]
    finally:
        held.close()


def test_looks_that_found_it_so_are_counted_at_every_certified_file(tmp_path: Path) -> None:
    looks = [ClockLook(at=T0 + n * MINUTE, synchronised=n > 3, max_error_us=n * 1000) for n in range(10)]
    found = compacted(tmp_path, *looks, ClockLook(at=T0 + DAY, synchronised=False))
    assert sorted(kind for kind, *_ in found) == ["bar_1m", "bar_1s", "trade"]
    for _, symbol, count, detail in found:
        assert (symbol, count) == ("BTCUSDT", 4)
        assert detail == "4 of 10 looks at the kernel's clock; receive times may be wrong, by 0.003 s at most"


def test_a_clock_that_was_right_or_of_which_nobody_knows_is_no_finding(tmp_path: Path) -> None:
    assert compacted(tmp_path / "right", ClockLook(at=T0, synchronised=True)) == []
    assert compacted(tmp_path / "unknown", ClockLook(at=T0, unknown="no")) == []
    assert compacted(tmp_path / "nothing") == []


def test_it_survives_a_rebuild_as_the_record_does(tmp_path: Path) -> None:
    assert len(compacted(tmp_path, ClockLook(at=T0, synchronised=False))) == 3
    before = [path.read_bytes() for path in (tmp_path / "clocks").iterdir()]
    (tmp_path / "manifest.db").unlink()
    rebuild(tmp_path, "node", T0 + 2 * DAY)
    manifest = Manifest.read_only(tmp_path)
    assert len([row for row in manifest.checks() if row.check == UNSYNCHRONISED]) == 3
    manifest.close()
    assert [path.read_bytes() for path in (tmp_path / "clocks").iterdir()] == before
