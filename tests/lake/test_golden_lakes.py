"""Lakes of every released version: this program opens, verifies, reads, migrates, rebuilds and goes on writing them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import loguru
import pytest

from compactor.service import compact_once
from lake import Lake, migrations, scrub
from lake.manifest import Manifest
from lake.rebuild import rebuild
from lake.verify import Verification, verify_lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from runtime.workers import InlineExecutor
from tests.support import golden
from tests.support.feeding import Feed
from tests.support.written import trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_golden_lake.py"
each = pytest.mark.parametrize("name", golden.NAMES)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden_lake", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(autouse=True)
def _quiet() -> None:
    loguru.logger.remove()


@pytest.fixture
def lake(tmp_path: Path, name: str) -> Path:
    return golden.unpack(name, tmp_path / "lake")


def rows_of(script: ModuleType, root: Path, name: str) -> Iterator[str]:
    """What is not as it was read when the lake was made."""
    with Lake(root) as held:
        for kind, was in golden.expected(name)["rows"].items():
            if script.digest(held, kind, was["columns"]) != was["sha256"]:
                yield f"{kind}: {len(held.read(kind))} rows, {was['count']} then"


def verified(root: Path) -> Verification:
    """What `dl verify` says, none of it an error."""
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            found = verify_lake(root, snapshot, lambda *_: None)
    finally:
        manifest.close()
    assert [finding for finding in found.findings if finding.severity == "error"] == []
    return found


def files_of(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_the_first_golden_lake_is_there_and_small() -> None:
    assert golden.NAMES[0] == "v1"
    assert sum(path.stat().st_size for path in (golden.FOLDER / "v1").iterdir()) < 300_000


@each
def test_a_reader_sees_what_was_seen_then_and_changes_nothing(script: ModuleType, lake: Path, name: str) -> None:
    before = files_of(lake)
    assert list(rows_of(script, lake, name)) == []
    assert files_of(lake) == before


@each
def test_everything_in_it_verifies(lake: Path, name: str) -> None:
    found = verified(lake)
    assert found.files == sum(row["state"] == "live" for row in golden.expected(name)["tables"]["files"])
    assert found.laws
    assert all(law.holds for law in found.laws)


@each
def test_a_writer_brings_it_to_todays_schema_with_all_that_it_holds(script: ModuleType, lake: Path, name: str) -> None:
    told = golden.expected(name)["tables"]
    was = golden.version_of(lake)
    now = 2 * DAY + max(row["created_at"] for row in told["files"])
    for again in (1, 2):
        with LakeWriter.open(lake, golden.NODE, now + again, simulated=None) as writer:
            found = writer.recover(now + again)
            assert (found.orphans, found.strangers, found.missing, found.quarantined) == ((), (), (), ())
            stats, live = writer.manifest.stats(), [row for row in told["files"] if row["state"] == "live"]
            assert sum(one.files for one in stats.files) == len(live)
            assert sum(stats.segments.values()) == len(told["segments"])
            paths = {one.path for one in scrub.overdue(writer.manifest, now + DAY, 10_000)}
            assert paths == {one.path for one in scrub.due(writer.manifest)} >= {row["path"] for row in live}
        assert was <= golden.version_of(lake) == migrations.VERSION
        assert golden.tables_of(lake, told) == golden.in_order(told)
    assert list(rows_of(script, lake, name)) == []


@each
def test_its_manifest_can_be_made_anew_from_ledger_and_footers(lake: Path, name: str) -> None:
    now = 3 * DAY + max(row["created_at"] for row in golden.expected(name)["tables"]["files"])
    LakeWriter.open(lake, golden.NODE, now, simulated=None).close()
    made = rebuild(lake, golden.NODE, now + 1, dry_run=True)
    assert list(made.differences or ()) == []
    assert list(made.contradictions) == []


@each
def test_it_is_written_on_and_its_open_day_closes(script: ModuleType, lake: Path, name: str) -> None:
    with Lake(lake) as held:
        before = held.read("trade").to_pylist()
    last = max(row["ts_event"] for row in before if row["symbol"] == "BTCUSDT")
    newest = max(row["seq"] for row in before if row["symbol"] == "BTCUSDT")
    waiting = sum(
        row["rows"] for row in golden.expected(name)["tables"]["segments"]
        if row["state"] == "sealed" and row["kind"] == "trade"
    )  # fmt: skip
    at = round(last.timestamp()) * 1_000_000 + 12 * HOUR
    feed = Feed(lake, at)
    feed.receive([trade(newest + 100 + n, at=at + n * MS) for n in range(5)], at + SECOND)
    feed.stop(at + MINUTE)
    with Feed(lake, at + DAY) as after:
        done = transform_once(after.writer, InlineExecutor(), at + DAY, TransformerConfig())
        assert (done.failed, done.parked, done.quarantined) == (0, 0, 0)
        assert compact_once(after.writer, InlineExecutor(), at + DAY, script.COMPACTOR).failures == []
    with Lake(lake) as held:
        rows = held.read("trade").to_pylist()
        final = held.read("trade", min_state="final")
    assert len(rows) == len(final) == len(before) + waiting + 5
    assert [row for row in rows if row["ts_event"] <= last] == before
    verified(lake)


BETTER_READ = {"book_delta": (13, "e63467bf"), "book_sample": (7, "7a3490d9"), "book_snapshot": (3, "c365a039")}
"""What v1 did not understand: a book's whole whose answer came before the first update. Rows and digest of its day."""


def test_todays_program_makes_of_the_same_frames_what_the_first_one_made(script: ModuleType, tmp_path: Path) -> None:
    """Rows and content digests are promises: a change of one is a new golden lake and a line in the changelog."""
    script.build(tmp_path / "lake")
    different = rows_of(script, tmp_path / "lake", golden.NAMES[-1])
    # Of the day that is open v1 has fewer bars: it took the delay of its one late trade for the clocks' difference.
    assert [kind for what in different if not (kind := what.partition(":")[0]).startswith("bar_")] == [*BETTER_READ]
    wanted, found = golden.expected(golden.NAMES[-1]), script.expected(tmp_path / "lake")

    def digests(told: dict[str, Any]) -> set[str]:
        names = ("kind", "symbol", "date", "revision", "rows", "missing", "content_digest")
        return {json.dumps([row[key] for key in names]) for row in told["tables"]["certificates"]}

    better = sorted(json.loads(one) for one in digests(found) - digests(wanted))
    assert {kind: (rows, digest[:8]) for kind, _, _, _, rows, _, digest in better} == BETTER_READ
    assert {json.loads(one)[0] for one in digests(wanted) - digests(found)} == BETTER_READ.keys()
    manifest = Manifest.read_only(tmp_path / "lake")
    assert manifest.meta().lake_id == script.LAKE_ID
    manifest.close()
