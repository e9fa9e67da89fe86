"""F17 to F23: files that were torn, zeroed, doubled, flipped, swapped, removed, or put there by somebody else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.config import WritingConfig
from collectors.intake import Pass, lines_of
from collectors.writing import GroupCommit
from lake import Lake
from lake.errors import LakeError
from lake.manifest import Manifest
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.kinds import BookDelta
from runtime.workers import InlineExecutor
from tests.support import invariants, life
from tests.support.faults import FIGURE, FULL, SEED, Lives, some
from tests.support.life import NODE, NOW_AFTER, Id, Promise
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
FLIPS = 1000 if FULL else 24
TRADES, QUOTES = "data_type=trade/", "data_type=quote/"


@pytest.fixture
def torn(place: Path) -> tuple[Path, Promise]:
    """A lake whose writer went away, its files still open."""
    root = place / "open"
    root.mkdir()
    return root, life.interrupted(root)


def the_file(root: Path, part: str, end: str) -> Path:
    (found,) = (path for path in root.rglob(f"*{end}") if part in path.as_posix())
    return found


def copied(root: Path, place: Path) -> Path:
    shutil.rmtree(place / "harmed", ignore_errors=True)
    return shutil.copytree(root, place / "harmed")


def last_id(kind: str) -> Id:
    """Of the last line of that kind that `life.interrupted` writes."""
    return [key for n in range(2) for key in life.ids_of(n) if key[0] == kind][-1]


@pytest.mark.parametrize("kind, part", [("trade", TRADES), ("quote", QUOTES)])
def test_f17_a_last_line_torn_at_any_byte_is_cut_off_and_counted(
    torn: tuple[Path, Promise], place: Path, kind: str, part: str
) -> None:
    root, promised = torn
    data = the_file(root, part, ".open").read_bytes()
    begin = data.rindex(b"\n", 0, -1) + 1
    before = Promise(promised.ids - {last_id(kind)}, promised.gaps)
    wrong = []
    for end in some(range(begin, len(data) + 1), 30, kind):
        harmed = copied(root, place)
        the_file(harmed, part, ".open").write_bytes(data[:end])
        found = invariants.check(harmed, promised if end == len(data) else before)
        aside = [row for row in invariants.manifest_rows(harmed)["quarantine"] if part in row["origin"]]
        if begin < end < len(data) - 1 and [row["bytes"] for row in aside] != [end - begin]:
            found.append(f"{end - begin} torn bytes, in quarantine are {aside}")
        wrong += [f"{end} of {len(data)} bytes: {what}" for what in found]
    assert wrong == []


@pytest.mark.parametrize("part, end", [("frames/", ".open"), ("ledger/", ".jsonl")])
def test_f17_frames_and_ledger_torn_at_any_byte_lose_no_row(
    torn: tuple[Path, Promise], place: Path, part: str, end: str
) -> None:
    root, promised = torn
    data = the_file(root, part, end).read_bytes()
    tail = len(data) - data.rindex(b"\n", 0, -1) - 1 if end == ".jsonl" else len(data)
    wrong = []
    for size in some(range(len(data) - tail, len(data) + 1), 30, part):
        harmed = copied(root, place)
        the_file(harmed, part, end).write_bytes(data[:size])
        wrong += [f"{size} of {len(data)} bytes: {what}" for what in invariants.check(harmed, promised)]
    assert wrong == []


def lived_on(root: Path) -> None:
    """What was recovered, transformed and closed."""
    life.transform(root)
    life.close(root)


def zero_tail(data: bytes, chance: random.Random) -> bytes:
    return data + bytes(chance.choice([1, 7, 512, 4096, 10_000]))


def doubled_block(data: bytes, chance: random.Random) -> bytes:
    """Whole lines that are there twice, as a block written again would have them."""
    lines = data.splitlines(keepends=True)
    first = chance.randrange(len(lines))
    last = chance.randrange(first, len(lines)) + 1
    return b"".join((*lines[:last], *lines[first:last], *lines[last:]))


def garbage(data: bytes, chance: random.Random) -> bytes:
    """A line in the middle that is anything, line feeds among it."""
    lines = data.splitlines(keepends=True)
    lines[chance.randrange(len(lines) - 1)] = chance.randbytes(chance.choice([5, 300, 5000])) + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("harm", [zero_tail, doubled_block, garbage])
@pytest.mark.parametrize("part", [TRADES, QUOTES])
def test_f18_zeros_doubles_and_garbage_cost_what_they_cover_and_no_more(
    torn: tuple[Path, Promise], place: Path, part: str, harm: Callable[[bytes, random.Random], bytes]
) -> None:
    root, promised = torn
    for turn in range(20 if FULL else 2):
        chance = random.Random(f"{SEED}-{turn}-{part}")
        harmed = copied(root, place)
        file = the_file(harmed, part, ".open")
        data = file.read_bytes()
        file.write_bytes(harm(data, chance))
        lived_on(harmed)
        seen = invariants.look(harmed, leaving=True)
        lost = promised.ids - seen.stored.keys()
        # a bad line with good ones behind it stays where it is: the segment is no plain JSON Lines any more
        assert [problem for problem in seen.wrong if harm is not garbage or "I3: raw/" not in problem] == []
        assert list(invariants.law(seen)) == []
        assert len(lost) == (harm is garbage)
        assert all(key[0] in part for key in lost)
        assert bool(seen.rows["quarantine"]) == (harm is not doubled_block)


def flipped(path: Path, chance: random.Random) -> str:
    """One bit of a file is another; which."""
    data = bytearray(path.read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} of {path.name}"


def test_f19_every_flipped_bit_of_a_sealed_segment_is_noticed(
    lives: Lives, place: Path, record_property: Callable[[str, object], None]
) -> None:
    wrong = []
    for turn in range(FLIPS):
        chance = random.Random(f"{SEED}-{turn}")
        root = lives.before("transform", place / "flipped")
        path = chance.choice(sorted((root / "raw").rglob("*.jsonl")))
        what = flipped(path, chance)
        life.transform(root)
        seen = invariants.look(root)
        name = path.relative_to(root).as_posix()
        noticed = any(row["path"] == name and row["check"] == "seal" for row in seen.rows["checks"])
        gap = any(row["cause"] == "altered_segment" or row["state"] == "open" for row in seen.rows["gaps"][1:])
        problems = [problem for problem in seen.wrong if name not in problem]  # it is not what its seal says: yes
        if not noticed or not gap or problems or verified(root).ok:
            wrong.append(f"{what}: noticed {noticed}, gap {gap}, {problems}")
        shutil.rmtree(root)
    assert wrong == []
    record_property(FIGURE + "flipped bits of segments noticed", (FLIPS, "flips, each noticed"))


def test_f19_a_bit_in_the_levels_of_a_book_costs_its_line_and_not_its_segment(place: Path) -> None:
    """Levels are kept as they came until they are read: a byte that is no UTF-8 shows only there."""
    lane = (*life.MARKET, "book_delta")
    levels = [b'[["1.5","2"]]', b'[["1\xb55","2"]]', b'[["1.6","2"]]']
    books = [
        BookDelta(
            "BTCUSDT", "btcusdt@depth", life.T0, None, life.T0, "n-1-1", n, 0, "ws", bids=msgspec.Raw(bids),
            asks=msgspec.Raw(b"[]"), first_id=n, last_id=n, prev_id=n - 1, checksum=None, flags=(),
        )
        for n, bids in enumerate(levels, start=1)
    ]  # fmt: skip
    with life.start(place / "lake", life.T0) as writer:
        made = GroupCommit(writer, NODE, WritingConfig())
        made.commit(Pass(life.T0 + 1, events=[(lane, [lines_of(books)])], final=True))
        summary = transform_once(writer, InlineExecutor(), life.T0 + life.HOUR, life.TRANSFORMER)
    assert (summary.lines, summary.rows, summary.quarantined, summary.failed) == (3, 2, 1, 0)


def verified(root: Path) -> Any:
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            return verify_lake(root, snapshot, lambda *_: None)
    finally:
        manifest.close()


def live_files(root: Path) -> list[dict[str, Any]]:
    return [row for row in invariants.manifest_rows(root)["files"] if row["state"] == "live"]


def refuses(root: Path, row: dict[str, Any]) -> bool:
    """Whether a reader of this file's rows is told instead of being given them."""
    try:
        with Lake(root) as lake:
            lake.read(row["kind"], **({"symbol": row["symbol"]} if row["symbol"] else {}))
    except LakeError:
        return True
    return False


@pytest.mark.parametrize("stage", ["merge", "end"])
def test_f20_every_flipped_bit_of_a_table_is_noticed_by_reader_and_verification(
    lives: Lives, place: Path, stage: str, record_property: Callable[[str, object], None]
) -> None:
    root = lives.before(stage, place / "flipped")
    wrong = []
    for turn in range(FLIPS // 2):
        chance = random.Random(f"{SEED}-{turn}-{stage}")
        row = chance.choice(live_files(root))
        path = root / row["path"]
        data = path.read_bytes()
        what = flipped(path, chance)
        named = {finding.path for finding in verified(root).findings if finding.severity == "error"}
        if row["path"] not in named or not refuses(root, row):
            wrong.append(f"{what}: verification names {named}")
        path.write_bytes(data)
    assert wrong == []
    assert verified(root).ok
    record_property(FIGURE + "flipped bits of tables noticed", (FLIPS // 2, "flips, each noticed"))


def cut_short(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def removed(path: Path, _other: Path) -> None:
    path.unlink()


HARMS = [cut_short, emptied, swapped, removed]


@pytest.mark.parametrize("harm", HARMS)
def test_f21_f22_a_daily_file_that_is_not_itself_is_noticed(
    lives: Lives, place: Path, harm: Callable[[Path, Path], None]
) -> None:
    for number in range(len(live_files(lives.at("end")))):
        root = lives.before("end", place / "harmed")
        rows = live_files(root)
        row, other = rows[number], rows[number - 1]
        harm(root / row["path"], root / other["path"])
        assert refuses(root, row)
        assert row["path"] in {finding.path for finding in verified(root).findings if finding.severity == "error"}
        with LakeWriter.open(root, NODE, NOW_AFTER) as writer:
            found = writer.recover(NOW_AFTER)
        assert (row["path"] in found.missing) == (harm is removed)
        shutil.rmtree(root)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", ["trade", "quote"])
def test_f21_f22_a_hot_file_that_is_not_itself_is_made_again_from_its_segments(
    lives: Lives, place: Path, harm: Callable[[Path, Path], None], kind: str
) -> None:
    root = lives.before("close", place / "harmed")
    rows = {row["kind"]: row for row in live_files(root) if row["level"] == "hour"}
    harm(root / rows[kind]["path"], root / rows["quote" if kind == "trade" else "trade"]["path"])
    for _ in range(4):  # three failures, then it is set aside
        life.close(root)
    life.transform(root, now=life.MIDNIGHT + 30 * life.MINUTE)
    life.compact(root, life.MIDNIGHT + 3 * life.HOUR)
    seen = invariants.look(root, leaving=True)
    assert seen.wrong == []
    expected = {key for key in life.everything() - {life.LATE_ID} if key[0] == kind}
    assert {key for key in seen.stored if key[0] == kind} == expected
    assert any(rows[kind]["path"] == row["origin"] for row in seen.rows["quarantine"])


def test_f23_what_others_put_there_stays_and_only_our_own_leftovers_go(lives: Lives, place: Path) -> None:
    root = lives.before("close", place / "shared")
    part = next(path for path in (root / "hot").rglob("trade-*.parquet"))
    segment = next(path for path in (root / "raw").rglob("*.jsonl"))
    ours = [part.with_name(f".{part.name}.compact-99.tmp"), segment.with_name(f".{segment.name}.w1-1.tmp")]
    theirs = [
        root / "README.txt",
        root / "tables/notes.md",
        part.with_name("copy of a file.parquet"),
        part.with_name(".hidden"),
        part.with_name(part.stem[:-8] + "00000000.parquet"),  # a name of ours with another file's hash, and no parents
        segment.with_name("notes.jsonl"),
        segment.with_name("backup.jsonl.bak"),
        root / "raw/elsewhere/deep/file",
        root / "quarantine/mine",
        root.parent / "outside.tmp",
    ]
    for path in (*ours, *theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours: " + path.name.encode())
    before = {path: path.read_bytes() for path in theirs}
    for _ in range(2):
        with LakeWriter.open(root, NODE, NOW_AFTER) as writer:
            found = writer.recover(NOW_AFTER)
        assert {path: path.read_bytes() for path in theirs} == before
        assert not any(path.exists() for path in ours)
        strangers = {path.relative_to(root).as_posix() for path in theirs[2:3] + theirs[4:8]}
        assert strangers <= set(found.strangers)
    life.close(root)
    assert {path: path.read_bytes() for path in theirs} == before
    seen = invariants.look(root, leaving=True)
    assert seen.wrong == []
    assert life.everything() - {life.LATE_ID} <= seen.stored.keys()
