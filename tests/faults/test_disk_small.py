"""F09, F11, F12, F13, F15 on real limits of the system: a tmpfs of 8 MB, RLIMIT_FSIZE, a remount, a lost permission."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lake import durable
from lake.errors import LakeError, StorageFailed
from lake.layout import BALLAST
from lake.writer import LakeWriter
from market.session import Gap
from runtime.workers import InlineExecutor
from tests.support import invariants, life, narrow
from tests.support.life import NODE
from tests.support.station import MB, SMALL, Station, ticks, unexplained
from tests.support.toy import T0
from transformer.service import transform_once

THIS = "tests.faults.test_disk_small"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")


def summary(station: Station, sent: list[int], **more: Any) -> dict[str, Any]:
    """What a scenario tells: read before the lake is recovered, which must change nothing of it."""
    stored, lost, quotes = station.stored(), station.lost(), station.lost("quote")
    return {
        "states": station.states, "stored": stored, "lost": lost, "quotes": quotes,
        "unexplained": unexplained(sent, stored, lost), "wrong": station.wrong(stored), **more,
    }  # fmt: skip


# --- F09 -----------------------------------------------------------------------------------------------------------


async def full_while_collecting(folder: Path) -> dict[str, Any]:
    """The disk fills up between two looks, so that a write is cut in the middle of a line; then there is room again."""
    script, sent = ticks(110, each=40)
    torn: list[bool] = []
    seen: dict[str, Any] = {}
    with Station(folder / "lake", script, {**SMALL, "full_mb": 0}, memory=60_000, write_ms=200) as station:

        async def disk() -> None:
            await station.clock.sleep(10.1)
            filler = narrow.fill(folder, leave=20_000)
            for _ in range(25):
                await station.clock.sleep(2)
                for path in station.root.rglob("*.jsonl.open"):
                    torn.append(not path.read_bytes().endswith(b"\n"))
            assert station.watch is not None
            seen["full"] = dict(station.watch.status())
            seen["gaps"] = [row["cause"] for row in invariants.manifest_rows(station.root)["gaps"]]
            filler.unlink()

        await station.run(120, disk)
        assert station.watch is not None
        return summary(station, sent, torn=torn, seen=seen, after=dict(station.watch.status()))


def test_f09_a_disk_that_is_full_in_the_middle_of_a_line_keeps_whole_lines_and_goes_on_by_itself(place: Path) -> None:
    narrow.need_namespaces()
    found = narrow.run(f"{THIS}:full_while_collecting", place / "small", disk="8m")
    states = [state for _, state in found["states"]]
    assert states == [None, "disk_full", None]
    assert found["torn"]
    assert not any(found["torn"])
    assert found["seen"]["full"]["ballast_bytes"] == 0
    assert found["seen"]["full"]["outage"]["cause"] == "disk_full"
    assert "disk_full" in found["seen"]["gaps"], "said while it lasted: the ballast is for that"
    assert found["after"]["ballast_bytes"] == MB
    assert found["states"][2][0] <= 60 + 60, "I12"
    assert found["unexplained"] == []
    assert [gap[1] for gap in found["lost"]] == ["disk_full"]
    assert found["wrong"] == []


def full_while_transforming(folder: Path) -> dict[str, Any]:
    """ENOSPC in the middle of a Parquet file, then in SQLite's commit; with room again everything is made."""
    root = folder / "lake"
    root.mkdir()
    promises = []
    life.STAGES["collect"](root, promises.append)
    promised = promises[-1]
    failed: list[tuple[str, int | None]] = []
    filler = narrow.fill(folder, leave=1_000)
    temps = 0
    try:
        with LakeWriter.open(root, NODE, life.T0 + life.HOUR) as writer:
            transform_once(writer, InlineExecutor(), life.T0 + life.HOUR, life.TRANSFORMER)
    except StorageFailed as error:
        failed.append((str(error), error.errno))
        temps = len(list(root.rglob("*.tmp")))
    filler.unlink()
    with LakeWriter.open(root, NODE, life.T0 + life.HOUR) as writer:
        writer.recover(life.T0 + life.HOUR)
        whole = narrow.fill(folder)
        for n in range(400):
            gap = Gap(
                f"g{n}", *life.MARKET, "quote", f"S{n}", life.T0, life.T0 + 1, None, None, "jump", "interval", "open",
                None, life.T0, detail="x" * 2000,
            )  # fmt: skip
            try:
                writer.manifest.record(gaps=[gap])
            except StorageFailed as error:
                failed.append((str(error), error.errno))
                break
        before = {row["gap_id"] for row in invariants.manifest_rows(root)["gaps"]}
        whole.unlink()
        writer.manifest.record(gaps=[gap])
        summary = transform_once(writer, InlineExecutor(), life.T0 + life.HOUR, life.TRANSFORMER)
    return {
        "failed": failed, "temps": temps, "half": gap.gap_id in before, "rows": summary.rows,
        "wrong": invariants.check(root, promised),
    }  # fmt: skip


def test_f09_a_disk_that_is_full_in_the_middle_of_a_file_or_of_a_commit_changes_nothing(place: Path) -> None:
    narrow.need_namespaces()
    found = narrow.run(f"{THIS}:full_while_transforming", place / "small", disk="8m")
    assert len(found["failed"]) == 2, found
    assert [number for _, number in found["failed"]] == [errno.ENOSPC, errno.ENOSPC], found["failed"]
    assert "manifest.db" in found["failed"][1][0]
    assert found["temps"] == 0
    assert not found["half"]
    assert found["rows"] > 0
    assert found["wrong"] == []


def start_on_a_full_disk(folder: Path) -> dict[str, Any]:
    root = folder / "lake"
    LakeWriter.open(root, NODE, T0).close()
    durable.reserve(root / BALLAST, 4 * MB)
    filler = narrow.fill(folder)
    with LakeWriter.open(root, NODE, T0 + 1) as writer:
        writer.recover(T0 + 1)
        held = (root / BALLAST).exists()
    filler.unlink()
    return {"held": held, "free": True}


def test_f09_a_start_on_a_full_disk_lives_on_the_ballast(place: Path) -> None:
    narrow.need_namespaces()
    assert narrow.run(f"{THIS}:start_on_a_full_disk", place / "small", disk="8m") == {"held": False, "free": True}


# --- F11 -----------------------------------------------------------------------------------------------------------


async def files_may_not_grow(folder: Path) -> dict[str, Any]:
    script, sent = ticks(40, each=60)
    with Station(folder / "lake", script, seal_seconds=600) as station:
        await station.run(50)
        sizes = [path.stat().st_size for path in station.root.rglob("*.jsonl")]
        return summary(station, sent, sizes=sizes, files=len(list(station.root.glob("raw/**/*.jsonl"))))


def test_f11_a_file_that_may_not_grow_is_followed_by_another(place: Path) -> None:
    limit = 400_000
    found = narrow.run(f"{THIS}:files_may_not_grow", place, limits={"FSIZE": limit})
    assert max(found["sizes"]) <= limit
    assert found["files"] > 2, "the limit was met: what came did not fit into one file a kind"
    assert found["lost"] == []
    assert found["unexplained"] == []
    assert found["wrong"] == []


# --- F12 -----------------------------------------------------------------------------------------------------------


async def read_only_for_a_while(folder: Path) -> dict[str, Any]:
    script, sent = ticks(110, each=10)
    seen: dict[str, Any] = {}
    with Station(folder / "lake", script, SMALL, memory=30_000, seal_seconds=5) as station:

        async def disk() -> None:
            await station.clock.sleep(20.2)
            narrow.shut(station.root)
            await station.clock.sleep(40)
            try:
                (station.root / "probe").write_bytes(b"x")
            except OSError as error:
                seen["errno"] = error.errno
            with station.writer.manifest.snapshot() as snapshot:
                seen["readable"] = len(snapshot.sessions())
            narrow.open_again(station.root)

        await station.run(120, disk)
        return summary(station, sent, seen=seen)


def test_f12_a_disk_that_turns_read_only_is_waited_for_and_what_was_lost_is_written_afterwards(place: Path) -> None:
    narrow.need_namespaces()
    found = narrow.run(f"{THIS}:read_only_for_a_while", place / "small", disk="16m")
    assert found["seen"]["errno"] == errno.EROFS
    assert found["seen"]["readable"] > 0
    assert [state for _, state in found["states"]] == [None, "read_only", None]
    assert found["states"][2][0] <= 60 + 5, "I12: back as soon as the disk is"
    assert [gap[1] for gap in found["lost"]] == ["read_only"]
    assert found["unexplained"] == []
    assert found["wrong"] == []


# --- F13 -----------------------------------------------------------------------------------------------------------


async def one_folder_is_shut(folder: Path) -> dict[str, Any]:
    script, sent = ticks(80, each=2)
    refused: list[bool] = []
    with Station(folder / "lake", script, seal_seconds=10) as station:
        shut = station.root / "raw/exchange=binance/market_type=spot/data_type=quote"

        async def disk() -> None:
            await station.clock.sleep(15)
            for path in (shut, *shut.iterdir()):
                path.chmod(0o500)
            refused.append(not os.access(shut, os.W_OK))
            await station.clock.sleep(30)
            for path in (shut, *shut.iterdir()):
                path.chmod(0o700)

        await station.run(90, disk)
        return summary(station, sent, refused=refused == [True])


def test_f13_a_folder_without_permission_stops_its_own_kind_and_no_other(place: Path) -> None:
    found = narrow.run(f"{THIS}:one_folder_is_shut", place, wrapper=narrow.without_override())
    assert found["refused"], "the permission was lost"
    assert found["lost"] == []
    assert found["unexplained"] == []
    (gap,) = found["quotes"]
    assert gap[1] == "read_only"
    assert T0 + 19 * 1_000_000 <= gap[4] <= T0 + 25 * 1_000_000
    assert T0 + 40 * 1_000_000 <= gap[5] <= T0 + 48 * 1_000_000
    assert found["wrong"] == []


# --- F15 -----------------------------------------------------------------------------------------------------------


def _one_more() -> int | None:
    try:
        return os.open("/dev/null", os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return None


async def no_more_files(folder: Path) -> dict[str, Any]:
    script, sent = ticks(70)
    taken: list[int] = []
    attempts: list[int] = []
    with Station(folder / "lake", script, seal_seconds=10) as station:

        async def files() -> None:
            await station.clock.sleep(12)
            while (fd := _one_more()) is not None:
                taken.append(fd)
            await station.clock.sleep(30)
            assert station.service.outage is not None
            attempts.append(station.service.outage.attempts)
            for fd in taken:
                os.close(fd)

        await station.run(80, files)
        return summary(station, sent, taken=len(taken), attempts=attempts)


def test_f15_too_many_open_files_are_waited_out_without_hurry(place: Path) -> None:
    found = narrow.run(f"{THIS}:no_more_files", place, limits={"NOFILE": 64})
    assert found["taken"] > 0
    assert found["attempts"][0] < 30, "attempts grow rarer"
    assert "storage_failed" in [state for _, state in found["states"]]
    assert found["states"][-1][1] is None
    assert found["unexplained"] == []
    assert found["lost"] == []
    assert found["wrong"] == []


def test_a_manifest_error_is_told_by_sort() -> None:
    from lake.manifest_source import explain

    class Said(sqlite3.OperationalError):
        sqlite_errorcode = 0

    def told(code: int, text: str) -> LakeError:
        from sqlalchemy.exc import DatabaseError

        error = Said(text)
        error.sqlite_errorcode = code
        return explain(DatabaseError("x", None, error))  # type: ignore[return-value]

    assert told(sqlite3.SQLITE_FULL, "database or disk is full").errno == errno.ENOSPC
    assert told(sqlite3.SQLITE_READONLY, "attempt to write a readonly database").errno == errno.EROFS
    assert told(sqlite3.SQLITE_IOERR, "disk I/O error").errno == errno.EIO
