"""F20 to F22 through the scrub: files that the disk has changed or lost, made again, or told to be lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from compactor import bitrot, care
from compactor.bitrot import set_right_missing
from compactor.care import Scrubbed, ScrubService, scrub_once
from compactor.config import ScrubConfig
from lake import scrub
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.times import DAY
from tests.faults.test_damage import cut_short, emptied, flipped, live_files, refuses, removed, swapped, verified
from tests.support import invariants, life
from tests.support.clock import ManualClock
from tests.support.faults import FULL, SEED, Lives
from tests.support.life import NODE, NOW_AFTER, Promise

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
FLIPS = 1000 if FULL else 50


@pytest.mark.parametrize("stage", ["close", "late", "end"])
def test_f20_every_flipped_bit_of_a_stored_file_is_found_by_the_scrub(lives: Lives, place: Path, stage: str) -> None:
    """Hot, daily, raw and frames; whole again, it is whole for the scrub."""
    root = lives.before(stage, place / "flipped")
    manifest = Manifest.read_only(root)
    try:
        targets = scrub.due(manifest)
    finally:
        manifest.close()
    assert {target.path.partition("/")[0] for target in targets} >= {"versions" if stage != "close" else "hot"}
    wrong = []
    for turn in range(FLIPS):
        chance = random.Random(f"{SEED}-{turn}-{stage}-scrub")
        target = chance.choice(targets)
        path = root / target.path
        data = path.read_bytes()
        what = flipped(path, chance)
        if scrub.examine(root, target) != "altered":
            wrong.append(what)
        path.write_bytes(data)
    assert wrong == []
    assert [target.path for target in targets if scrub.examine(root, target) != "whole"] == []


def one_scrub(root: Path, now: int) -> Scrubbed:
    with life.start(root, now) as writer:
        return scrub_once(writer, now, lambda *_: None)


@pytest.mark.parametrize(
    "kind, harm",
    [
        *(("trade", harm) for harm in ("flip", "cut", "empty", "swap", "remove")),
        ("quote", "flip"),
        ("bar_1s", "remove"),
        ("bar_1m", "flip"),
    ],
)
def test_f20_f21_f22_the_scrub_has_a_broken_day_made_again_while_raw_is_there(
    lives: Lives, place: Path, kind: str, harm: str
) -> None:
    root = lives.before("late", place / "harmed")
    promised = lives.promises["late"]
    rows = [row for row in live_files(root) if row["level"] == "day"]
    row = next(row for row in rows if row["kind"] == kind)
    other = next(row for row in rows if row["kind"] != kind)
    link = root / row["path"].replace("versions/", "tables/", 1)
    before = invariants.look(root).stored
    link.unlink()  # with its twin it would be the same again at once
    if harm == "flip":
        flipped(root / row["path"], random.Random(f"{SEED}-{kind}"))
    else:
        {"cut": cut_short, "empty": emptied, "swap": swapped, "remove": removed}[harm](
            root / row["path"], root / other["path"]
        )
    now = life.LATE
    made = one_scrub(root, now) if harm != "flip" else one_round(root, now)
    assert [(found["path"], found["outcome"]) for found in made.found] == [(row["path"], "remade")]
    if row["kind"] in ("trade", "quote"):
        life.transform(root, now=now + life.MINUTE)
    life.compact(root, now + 2 * life.HOUR)
    seen = invariants.look(root, leaving=True)
    assert seen.wrong == []
    assert seen.stored == before
    assert seen.rows["gaps"] == invariants.manifest_rows(lives.at("late"))["gaps"]
    assert [aside["origin"] for aside in seen.rows["quarantine"]] == [row["path"]]
    assert (root / seen.rows["quarantine"][0]["path"]).exists() == (harm != "remove")
    assert promised.ids <= seen.stored.keys()
    assert verified(root).ok
    assert one_scrub(root, now + 3 * life.HOUR).ok


def one_round(root: Path, now: int) -> Scrubbed:
    """As the daemon's service does it: what has not been read for a week."""
    clock = ManualClock(now + 8 * DAY)
    with life.start(root, now) as writer:
        service = ScrubService(writer, clock, ScrubConfig())

        async def run() -> Scrubbed:
            return await clock.run(service.round(asyncio.Event()))

        return asyncio.run(run())


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_f20_f22_a_broken_day_whose_raw_is_gone_is_a_gap_and_no_reader_meets_it(
    lives: Lives, place: Path, harm: str
) -> None:
    root = lives.before("end", place / "harmed")
    row = next(row for row in live_files(root) if row["kind"] == "trade" and row["symbol"] == "BTCUSDT")
    for path in (root / "raw").rglob("*.jsonl"):
        path.unlink()
    before = invariants.look(root).stored
    (root / row["path"].replace("versions/", "tables/", 1)).unlink()
    if harm == "flip":
        flipped(root / row["path"], random.Random(SEED))
    else:
        (root / row["path"]).unlink()
    made = one_scrub(root, NOW_AFTER)
    outcomes = {found["path"]: found["outcome"] for found in made.found}
    assert outcomes.pop(row["path"]) == "lost"
    assert set(outcomes.values()) == {"dropped"}
    assert {path.partition("/")[0] for path in outcomes} == {"raw"}
    seen = invariants.look(root)
    (gap,) = [gap for gap in seen.rows["gaps"] if gap["cause"] == "bitrot"]
    assert (gap["symbol"], gap["state"], gap["id_from"], gap["id_to"]) == (
        "BTCUSDT", "open", row["seq_min"], row["seq_max"] + 1
    )  # fmt: skip
    lost = {key for key in before if key[:2] == ("trade", "BTCUSDT")}
    assert before.keys() - seen.stored.keys() == lost
    assert seen.wrong == []
    assert not refuses(root, row)
    assert one_scrub(root, NOW_AFTER + 1).ok
    assert invariants.check(root, Promise(lives.promises["end"].ids - lost, life.GAPS), thorough=True) == []


def test_f22_a_file_that_is_missing_at_the_start_is_its_twin_in_tables_again(lives: Lives, place: Path) -> None:
    root = lives.before("end", place / "harmed")
    before = invariants.manifest_rows(root)
    row = next(row for row in live_files(root) if row["kind"] == "quote")
    (root / row["path"]).unlink()
    with LakeWriter.open(root, NODE, NOW_AFTER) as writer:
        found = writer.recover(NOW_AFTER)
        assert found.missing == (row["path"],), "the start notices"
        set_right_missing(writer, found.missing, NOW_AFTER)
    assert invariants.manifest_rows(root)["files"] == before["files"]
    assert invariants.check(root, lives.promises["end"]) == []


def test_f22_where_everything_is_missing_at_once_a_disk_is_not_mounted_and_nothing_is_given_up(
    lives: Lives, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitrot, "MANY", 3)
    monkeypatch.setattr(care, "MANY", 3)
    root = lives.before("end", place / "harmed")
    (root / "versions").rename(place / "elsewhere")
    shutil.rmtree(root / "tables")
    with LakeWriter.open(root, NODE, NOW_AFTER) as writer:
        found = writer.recover(NOW_AFTER)
        before = invariants.manifest_rows(root)
        set_right_missing(writer, found.missing, NOW_AFTER)
    assert len(found.missing) > 3
    assert invariants.manifest_rows(root) == before
    made = one_scrub(root, NOW_AFTER)
    assert [one["outcome"] for one in made.found].count("held") == len(found.missing) - 3


@pytest.mark.parametrize("tree", ["raw", "frames"])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_f20_f22_a_broken_source_whose_rows_are_in_the_tables_is_a_copy_less(
    lives: Lives, place: Path, tree: str, harm: str
) -> None:
    root = lives.before("late", place / "harmed")
    before = invariants.look(root).stored
    path = next((root / tree).rglob("*[0-9].*jsonl*"))
    path = path if path.suffix != ".json" else path.with_name(path.name.removesuffix(".meta.json"))
    name = path.relative_to(root).as_posix()
    if harm == "flip":
        flipped(path, random.Random(f"{SEED}-{tree}"))
    else:
        path.unlink()
    made = one_scrub(root, life.LATE)
    assert [(found["path"], found["outcome"]) for found in made.found] == [(name, "dropped")]
    seen = invariants.look(root)
    assert seen.wrong == []
    assert seen.stored == before
    assert [row["state"] for row in seen.rows["segments"] if row["path"] == name] == ["deleted"]
    assert not path.exists()
    assert one_scrub(root, life.LATE + 1).ok


def test_f25_a_file_that_is_what_its_name_says_is_not_set_aside_for_a_damaged_manifest(
    lives: Lives, place: Path
) -> None:
    root = lives.before("late", place / "harmed")
    with contextlib.closing(sqlite3.connect(root / "manifest.db")) as db:
        paths = [db.execute("SELECT path FROM files WHERE state = 'live' LIMIT 1").fetchone()[0]]
        db.execute("UPDATE files SET sha256 = ? WHERE path = ?", ("0" * 64, paths[0]))
        paths.append(db.execute("SELECT path FROM segments WHERE state = 'transformed' LIMIT 1").fetchone()[0])
        db.execute("UPDATE segments SET sha256 = ? WHERE path = ?", ("0" * 64, paths[1]))
        db.commit()
    made = one_scrub(root, life.LATE)
    assert {(found["path"], found["outcome"]) for found in made.found} == {(path, "left") for path in paths}
    assert all((root / path).exists() for path in paths)
