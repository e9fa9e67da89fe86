"""F10: no space. Held in memory as far as that goes, then a gap that is exactly what was lost; no file goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import durable
from lake.durable import Fault
from lake.layout import BALLAST
from lake.space import Room
from tests.support.station import MB, SMALL, Station, ticks, unexplained
from tests.support.toy import T0

SECOND = 1_000_000
HOUR = 3600


@pytest.fixture(autouse=True)
def _no_fault() -> Iterator[None]:
    yield
    durable.inject(None)


def files(root: Path) -> dict[str, bytes]:
    """Sealed data files by name."""
    found = (path for tree in ("raw", "frames", "hot", "versions") for path in (root / tree).rglob("*"))
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).digest()
        for path in found
        if path.is_file() and not path.name.endswith(".open")
    }


async def test_f10_no_space_for_an_hour_is_one_gap_of_what_was_lost_and_nothing_is_deleted(place: Path) -> None:
    script, sent = ticks(HOUR + 80, every=10)
    fault = Fault("write", 1, "ENOSPC", repeat=True)
    before: dict[str, bytes] = {}
    with Station(place / "lake", script, memory=100_000, write_ms=5000, seal_seconds=30) as station:

        async def disk() -> None:
            await station.clock.sleep(45.5)
            before.update(files(station.root))
            durable.inject(fault)
            await station.clock.sleep(HOUR)
            durable.inject(None)

        await station.run(HOUR + 90, disk)
        assert fault.struck > 100
        assert [state for _, state in station.states] == [None, "disk_full", None]
        assert 45 <= station.states[1][0] <= 60
        assert HOUR + 45 <= station.states[2][0] <= HOUR + 56
        stored, (gap,), (quotes,) = station.stored(), station.lost(), station.lost("quote")
        assert unexplained(sent, stored, [gap]) == []
        assert gap.cause == quotes.cause == "disk_full"
        lost = sorted(set(sent) - set(stored))
        assert (gap.first, gap.end) == (lost[0], lost[-1] + 1)
        assert (gap.ts_from, gap.ts_to) == (at(lost[0]), at(lost[-1]) + 1)
        assert lost[-1] == pytest.approx(HOUR + 50, abs=10), "collected again as soon as there is room"
        assert lost[0] > 46 + 300, "memory held what fits"
        assert before.items() <= files(station.root).items()
        assert station.wrong(stored) == []


def at(number: int) -> int:
    """Venue time of a trade of `ticks`."""
    return T0 + (number - 1) * SECOND


async def test_f10_a_short_outage_loses_nothing(place: Path) -> None:
    script, ids = ticks(60)
    fault = Fault("write", 1, "ENOSPC", repeat=True)
    with Station(place / "lake", script) as station:

        async def disk() -> None:
            await station.clock.sleep(10)
            durable.inject(fault)
            await station.clock.sleep(20)
            durable.inject(None)

        await station.run(50, disk)
        assert fault.struck
        assert station.stored() == [n for n in ids if n <= 50]
        assert station.lost() == station.lost("quote") == []
        assert station.wrong(ids[:50]) == []


async def test_the_ladder_stops_kinds_in_order_releases_the_ballast_and_comes_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, ids = ticks(200)
    free = {"bytes": 100 * MB}
    monkeypatch.setattr(durable, "room", lambda _path: Room(free["bytes"], 1000 * MB))
    seen: dict[str, dict] = {}
    limits = {"low_percent": 0, "low_mb": 40, "critical_mb": 20, "full_mb": 4, "ballast_mb": 1}
    with Station(place / "lake", script, limits, queue_mb=1) as station:
        assert station.watch is None

        async def disk() -> None:
            for name, megabytes in (
                ("ok", 100), ("low", 30), ("books", 19), ("quotes", 15), ("full", 3), ("slack", 5),
                ("back", 26), ("again", 100),
            ):  # fmt: skip
                free["bytes"] = megabytes * MB
                await station.clock.sleep(20)
                assert station.watch is not None
                seen[name] = dict(station.watch.status())

        await station.run(170, disk)
        assert {name: held["level"] for name, held in seen.items()} == {
            "ok": "ok", "low": "low", "books": "critical", "quotes": "critical", "full": "full", "slack": "full",
            "back": "low", "again": "ok",
        }  # fmt: skip
        assert seen["low"]["waits"] == ["compaction", "scrub", "reproduction"]
        assert seen["books"]["waits"] == ["compaction", "scrub", "reproduction", "transform", "backup"]
        assert seen["books"]["stopped_kinds"] == ["book_delta", "book_snapshot"]
        assert seen["quotes"]["stopped_kinds"] == ["book_delta", "book_snapshot", "quote"]
        assert "trade" not in seen["full"]["stopped_kinds"]
        assert seen["full"]["outage"]["cause"] == "disk_full"
        assert [seen[name]["ballast_bytes"] for name in ("ok", "quotes", "full", "slack", "again")] == [
            MB,
            MB,
            0,
            0,
            MB,
        ]
        assert seen["again"]["outage"] is None
        # Trades were held in memory for forty seconds; quotes were given up from the third step of the ladder on.
        assert station.stored() == [n for n in ids if n <= 170]
        assert station.lost() == []
        (gap,) = station.lost("quote")
        assert gap.cause == "disk_full"
        assert T0 + 60 * SECOND <= gap.ts_from <= T0 + 63 * SECOND
        assert T0 + 119 * SECOND <= (gap.ts_to or 0) <= T0 + 123 * SECOND
        stored = set(station.stored("quote"))
        kept = {n for n in ids if n <= 170 and not gap.ts_from <= T0 + (n - 1) * SECOND < (gap.ts_to or 0)}
        assert stored == kept
        assert station.wrong(ids[:170]) == []


def test_the_ballast_is_no_part_of_the_lake(place: Path) -> None:
    with Station(place / "lake", [], SMALL) as station:
        durable.reserve(station.root / BALLAST, MB)
        assert (station.root / BALLAST).stat().st_blocks * 512 >= MB
        assert station.wrong() == []
