"""The record of clocks and latencies: what is written is read once, whatever tears, repeats or packs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake import clock_files, durable, layout
from lake.clock_files import ClockFiles, ClockLook, Latencies, Record, Unreadable, VenueLook, newest, read
from lake.errors import StorageFailed
from lake.latency import Minute, histogram
from lake.latency_report import Wanted, report
from market.errors import Malformed
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, date_of

T0 = 1_763_646_300_000_000
VENUE = VenueLook(exchange="binance", market_type="spot", at=T0, offset_us=12_000, round_trip_us=8_000)


def look(at: int = T0, **said: object) -> ClockLook:
    return ClockLook(at=at, **said)


def heard(at: int = T0, name: str = "a", kind: str = "trade", delays: tuple[int, ...] = (900, 1100, 4000)) -> Latencies:
    minute = Minute(session="n-1-1", minute=at - at % MINUTE, rows=len(delays), event_to_receive=histogram(delays))
    return Latencies(segment=f"raw/{name}.jsonl", exchange="binance", market_type="spot", kind=kind, minutes=(minute,))


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "clocks").iterdir())


def test_what_was_written_is_read_day_by_day_and_as_it_was(tmp_path: Path) -> None:
    held: list[Record] = [heard(), look(venues=(VENUE,)), heard(T0 + DAY, "b"), look(T0 + DAY, synchronised=True)]
    made = ClockFiles(tmp_path, "n")
    made.append(held[2:])
    made.append(held[:2], sync=True)
    assert list(read(tmp_path)) == held
    assert files(tmp_path) == ["2025-11-20-n.jsonl", "2025-11-21-n.jsonl"]
    assert list(read(tmp_path, Interval(T0, T0 + HOUR))) == held[:2]
    assert list(read(tmp_path, clocks_only=True)) == [held[1], held[3]]
    assert list(read(tmp_path / "nothing")) == []


def test_a_segment_that_was_transformed_again_counts_once(tmp_path: Path) -> None:
    for node in ("n", "m"):
        ClockFiles(tmp_path, node).append([heard(), look()])
        ClockFiles(tmp_path, node).append([heard(), look()])
    assert list(read(tmp_path)) == [heard(), look(), look()], "two machines have two clocks"


def test_a_torn_end_is_told_and_what_follows_is_read(tmp_path: Path) -> None:
    ClockFiles(tmp_path, "n").append([heard(name="a")])
    place = tmp_path / "clocks/2025-11-20-n.jsonl"
    whole = place.read_bytes()
    place.write_bytes(whole + whole[:50])
    ClockFiles(tmp_path, "n").append([heard(name="b")])
    bad = Unreadable()
    assert [record.segment for record in read(tmp_path, None, bad)] == ["raw/a.jsonl", "raw/b.jsonl"]
    assert (bad.lines, bad.files) == (1, {"clocks/2025-11-20-n.jsonl"})
    place.write_bytes(place.read_bytes() + b'{"type":"of a later version"}\n\xff\n')
    assert report(tmp_path, None, Wanted()).unreadable == 3


def test_days_that_are_over_are_packed_and_old_ones_go(tmp_path: Path) -> None:
    made = ClockFiles(tmp_path, "n")
    days = [T0 + n * DAY for n in range(5)]
    for at in days:
        made.append([heard(at, f"s{at}"), look(at)])
    ClockFiles(tmp_path, "other").append([heard(T0 + DAY, "theirs")])
    (tmp_path / "clocks/notes.jsonl.txt").write_text("mine")
    before = list(read(tmp_path))
    assert made.tidy(days[4], 400 * DAY) == (3, 0)
    assert list(read(tmp_path)) == before
    assert [name for name in files(tmp_path) if "-n" in name] == [
        *(f"{date_of(at)}-n.jsonl.zst" for at in days[:3]), *(f"{date_of(at)}-n.jsonl" for at in days[3:]),
    ]  # fmt: skip
    made.append([heard(days[0], "late")])
    made.append([heard(days[0], "later")])
    assert made.tidy(days[4], 400 * DAY) == (1, 0)
    assert made.tidy(days[4], 400 * DAY) == (0, 0)
    assert len(list(read(tmp_path, Interval(days[0], days[0] + MINUTE)))) == 4
    assert made.tidy(days[4], 2 * DAY) == (0, 3), "one of them another writer's"
    assert date_of(days[1]).isoformat() not in {name[:10] for name in files(tmp_path)}
    assert "notes.jsonl.txt" in files(tmp_path), "nothing of ours"


def test_dying_while_packing_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    failed = 0
    for n in range(1, 20):
        root = tmp_path / str(n)
        made = ClockFiles(root, "n")
        made.append([heard(), look()])
        durable.inject(durable.Fault("*", n, "EIO"))
        try:
            made.tidy(T0 + 3 * DAY, 400 * DAY)
        except StorageFailed:
            failed += 1
        finally:
            durable.inject(None)
        assert list(read(root)) == [heard(), look()], n
        made.tidy(T0 + 3 * DAY, 400 * DAY)
        assert list(read(root)) == [heard(), look()], n
        assert files(root) == ["2025-11-20-n.jsonl.zst"]
    assert 5 < failed < 19, "every step, and then none"


def test_what_is_newest_is_read_from_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert newest(tmp_path) == (None, {})
    made = ClockFiles(tmp_path, "n")
    for n in range(50):
        made.append([heard(T0 + n * MINUTE, f"s{n}"), look(T0 + n * MINUTE), heard(T0, "q", "quote")])
    monkeypatch.setattr(clock_files, "TAIL", 1200)
    said, found = newest(tmp_path)
    assert said == look(T0 + 49 * MINUTE)
    assert found["binance", "spot", "trade"].segment == "raw/s49.jsonl"
    assert set(found) == {("binance", "spot", "trade"), ("binance", "spot", "quote")}


def test_how_often_a_day_was_not_synchronised(tmp_path: Path) -> None:
    made = ClockFiles(tmp_path, "n")
    said: list[Record] = [
        look(T0, synchronised=False, max_error_us=5000), look(T0 + 1, synchronised=True, max_error_us=90_000),
        look(T0 + 2, synchronised=False, max_error_us=7000), look(T0 + 3, unknown="no"), heard(),
        look(T0 + DAY, synchronised=False),
    ]  # fmt: skip
    made.append(said)
    assert clock_files.unsynchronised(tmp_path, "2025-11-20") == (2, 3, 7000)
    assert clock_files.unsynchronised(tmp_path, "2025-11-21") == (1, 1, None)
    assert clock_files.unsynchronised(tmp_path, "2025-11-22") == (0, 0, None)


@pytest.mark.parametrize("path", ["clocks/2025-13-01-n.jsonl", "clocks/2025-11-20.jsonl", "clocks/2025-11-20-N.jsonl"])
def test_other_names_are_none_of_ours(path: str) -> None:
    with pytest.raises(Malformed):
        layout.parse_clocks(path)
    assert layout.parse_clocks(layout.clocks_path("2025-11-20", "n") + layout.ZST) == ("2025-11-20", "n", True)


def test_a_report_adds_up_by_what_is_asked_for(tmp_path: Path) -> None:
    made = ClockFiles(tmp_path, "n")
    for n in range(4):
        at = T0 + n * 30 * MINUTE
        venue = VenueLook(exchange="binance", market_type="spot", at=at, offset_us=n * 1000, round_trip_us=8000)
        made.append([heard(at, f"t{n}"), heard(at, f"q{n}", "quote", (200,)), look(at, venues=(venue,), drift_us=-n)])
    made.append([look(T0 + 91 * MINUTE, venues=(venue,), steps=1, synchronised=True, estimated_error_us=3)])
    whole = report(tmp_path, None, Wanted())
    assert [(row.kind, row.rows, row.event_to_receive.count) for row in whole.rows] == [
        ("quote", 4, 4), ("trade", 12, 12),
    ]  # fmt: skip
    assert whole.rows[1].event_to_receive.max == 4000
    assert (whole.kernel.looks, whole.kernel.steps, whole.kernel.drift_us) == (5, 1, -3)
    assert (whole.kernel.synchronised, whole.kernel.estimated_error_us) == (1, 3)
    (venue_row,) = whole.venues
    assert (venue_row.looks, venue_row.offset_us, venue_row.error_us, venue_row.far) == (4, 1000, 4000, False)
    assert venue_row.skew_us == merged_p50([900, 1100, 4000, 200])
    assert len(report(tmp_path, None, Wanted(by=("market",))).rows) == 1
    assert len(report(tmp_path, None, Wanted(by=("session", "minute"))).rows) == 8
    hours = report(tmp_path, None, Wanted(kind="trade", by=("hour",))).rows
    assert [row.at % HOUR for row in hours] == [0] * len(hours)
    assert sum(row.rows for row in hours) == 12
    assert report(tmp_path, None, Wanted(exchange="bybit")).rows == []
    assert report(tmp_path, None, Wanted(session="other")).rows == []
    assert report(tmp_path, Interval(T0, T0 + MINUTE), Wanted()).kernel.looks == 1


def merged_p50(values: list[int]) -> int:
    found = histogram(values * 4)
    assert found is not None
    return found.quantile(0.5)


@pytest.mark.parametrize(
    "offset, trip, skew, far",
    [(900_000, 0, 0, False), (1_100_000, 0, 0, True), (1_100_000, 400_000, 0, False), (0, 0, -1_200_000, True)],
)
def test_a_venue_is_far_where_a_slow_answer_does_not_explain_it(
    tmp_path: Path, offset: int, trip: int, skew: int, far: bool
) -> None:
    venue = VenueLook(exchange="binance", market_type="spot", at=T0, offset_us=offset, round_trip_us=trip)
    ClockFiles(tmp_path, "n").append([look(venues=(venue,)), heard(delays=(skew,))])
    assert report(tmp_path, None, Wanted()).venues[0].far is far
    assert SECOND == 1_000_000
