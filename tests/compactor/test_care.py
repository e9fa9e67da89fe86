"""The services that look after what is stored: when they work, how fast, what they say, and that they stop."""

import asyncio
import json

import msgspec
import pytest

from compactor import bitrot, care
from compactor.care import BackupService, ScrubService, scrub_once
from compactor.config import BackupConfig, ScrubConfig
from lake import backup, layout, scrub
from lake.checks import REPARSED_ADDED
from lake.errors import CommitConflict, CorruptManifest, ManifestBusy, StorageFailed
from lake.rows import CheckRow, SegmentRow, SessionRow
from lake.scrub import Target
from market.session import Coverage
from market.times import DAY, MINUTE, SECOND
from tests.support.clock import ManualClock
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, trade

NOW = T0 + 30 * DAY


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path)
    yield held
    held.close()


@pytest.fixture
def clock():
    return ManualClock(NOW)


def rows(count=5, symbol="BTCUSDT"):
    return [trade(T0 + n * MINUTE, "100.5", "1", n, symbol=symbol, frame_no=n) for n in range(count)]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def for_a_while(service, clock, seconds, *steps, grain=30):
    """Runs the service for so many virtual seconds; each step is called when its time has come.

    Time goes on only while the service sleeps: what it does in threads takes none.
    """

    async def calm(task):
        while not clock.sleeping and not task.done():
            await asyncio.sleep(0.001)

    async def run():
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))
        ahead = sorted(steps, key=lambda pair: pair[0])
        for at in range(0, int(seconds), grain):
            await calm(task)
            while ahead and ahead[0][0] <= at:
                ahead.pop(0)[1]()
            await clock.advance(grain)
        await calm(task)
        stop.set()
        await clock.run(task)

    asyncio.run(run())


# --- copies ---


def test_a_copy_is_made_every_hour_and_the_first_of_a_day_is_checked_whole(lake, clock, monkeypatch):
    checks = []
    make = backup.make
    monkeypatch.setattr(backup, "make", lambda root, now, full: checks.append(full) or make(root, now, full=full))
    service = BackupService(lake.root, clock, BackupConfig())
    for_a_while(service, clock, 25.5 * 3600, grain=600)
    assert len(checks) == 26
    assert checks[0], "the first of a run is"
    assert sum(checks) == 2, "and that of the next day"
    assert len(backup.backups(lake.root)) == 24, "which hold the newest of both days"
    said = service.status()
    assert json.loads(json.dumps(said)) == said
    assert said["newest"]["path"] == backup.backups(lake.root)[0].path
    assert (said["integrity"]["said"], said["error"]) == ("ok", None)


def test_a_run_that_follows_soon_makes_no_copy_before_its_time(lake, clock):
    backup.make(lake.root, NOW - 20 * 60 * SECOND)
    service = BackupService(lake.root, clock, BackupConfig())
    for_a_while(service, clock, 39 * 60)
    assert len(backup.backups(lake.root)) == 1
    for_a_while(service, clock, 2 * 60)
    assert len(backup.backups(lake.root)) == 2


def test_a_copy_of_the_future_holds_up_none(lake, clock):
    backup.make(lake.root, NOW + 10 * DAY)
    for_a_while(BackupService(lake.root, clock, BackupConfig()), clock, 60)
    assert len(backup.backups(lake.root)) == 2


def test_a_manifest_that_cannot_be_copied_is_tried_again_and_said(lake, clock, monkeypatch):
    answers = [ManifestBusy("manifest.db: locked"), CorruptManifest("a copy of manifest.db is damaged: page 3")]

    def make(root, now, full):
        if answers:
            raise answers.pop(0)
        return real(root, now, full=full)

    real = backup.make
    monkeypatch.setattr(backup, "make", make)
    service = BackupService(lake.root, clock, BackupConfig(interval_seconds=60))
    said = []
    for_a_while(
        service, clock, 150, (30, lambda: said.append(service.status())), (90, lambda: said.append(service.status()))
    )
    assert [one["error"] for one in said] == ["manifest.db: locked", "a copy of manifest.db is damaged: page 3"]
    assert said[0]["integrity"] is None
    assert said[1]["integrity"]["said"] == "a copy of manifest.db is damaged: page 3"
    assert (service.status()["error"], service.status()["integrity"]["said"]) == (None, "ok")


def test_a_disk_without_room_gets_no_copy_until_it_has_some(lake, clock):
    low = [True]
    service = BackupService(lake.root, clock, BackupConfig(), lambda: low[0])
    said = []
    for_a_while(service, clock, 400, (200, lambda: said.append(service.status()) or low.__setitem__(0, False)))
    assert [(one["waits_for"], one["error"], one["newest"]) for one in said] == [("room on the disk", None, None)]
    assert len(backup.backups(lake.root)) == 1
    assert service.status()["waits_for"] is None


def test_storage_that_fails_is_for_the_supervisor(lake, clock, monkeypatch):
    def make(*_args, **_options):
        raise StorageFailed("writing failed")

    monkeypatch.setattr(backup, "make", make)
    service = BackupService(lake.root, clock, BackupConfig())
    with pytest.raises(StorageFailed):
        asyncio.run(clock.run(service.make()))
    assert service.status()["error"] == "writing failed"


# --- the scrub ---


def service_of(lake, clock, **options):
    low = options.pop("disk_low", care.never)
    return ScrubService(lake.writer, clock, ScrubConfig(**options), low)


def last_seen(lake):
    return {target.path: target.last for target in scrub.due(lake.writer.manifest)}


def test_what_was_published_is_read_again_after_a_week_and_then_every_week(lake, clock):
    day = lake.day("trade", rows())
    assert last_seen(lake) == {day.path: T0}, "when it was published it was right"
    service = service_of(lake, clock)
    for_a_while(service, clock, 120)
    first = last_seen(lake)[day.path]
    assert NOW <= first <= NOW + 120 * SECOND
    for days, again in ((6, False), (2, True)):
        clock.jump(days * 86400)
        asyncio.run(clock.run(service.round(asyncio.Event())))
        assert (last_seen(lake)[day.path] > first) == again
    said = service.status()
    assert json.loads(json.dumps(said)) == said
    assert (said["state"], said["files"], said["of_files"], said["found"]) == ("waiting", 2, 1, [])


def test_it_reads_no_faster_than_it_may(lake, clock):
    parts = [lake.part("trade", rows(5, f"S{n}"), hour=n) for n in range(4)]
    nbytes = sum(row.bytes for row in parts)
    service = service_of(lake, clock, bytes_per_second=64 * 1024)
    began = clock.monotonic()
    made = asyncio.run(clock.run(service.round(asyncio.Event())))
    assert (made.files, made.bytes, made.ok) == (4, nbytes, True)
    assert clock.monotonic() - began == pytest.approx(nbytes / (64 * 1024))


def test_it_stands_still_while_the_disk_is_low_and_goes_on_after(lake, clock):
    day = lake.day("trade", rows())
    low = [True]
    service = service_of(lake, clock, disk_low=lambda: low[0])
    said = []
    for_a_while(service, clock, 400, (200, lambda: said.append(service.status()) or low.clear() or low.append(False)))
    assert [(one["state"], one["waits_for"]) for one in said] == [("paused: the disk is low", "room on the disk")]
    assert service.status()["waits_for"] is None
    assert last_seen(lake)[day.path] >= NOW + 200 * SECOND


def test_a_disk_that_becomes_low_in_the_middle_of_a_file_stops_the_scrub_before_it_sets_anything_right(lake, clock):
    first, second = (lake.day("trade", rows(symbol=symbol), symbol=symbol) for symbol in ("A", "B"))
    for day in (first, second):
        (lake.root / day.path.replace("versions/", "tables/")).unlink()
        flip(lake.root / day.path)
    asked = []

    def low():
        asked.append(1)
        return 3 <= len(asked) <= 6

    service = service_of(lake, clock, disk_low=low)
    made = asyncio.run(clock.run(service.round(asyncio.Event())))
    assert (made.files, made.found, service.status()["state"]) == (0, [], "paused: the disk is low")
    while not (made := asyncio.run(clock.run(service.round(asyncio.Event())))).files:
        assert len(asked) <= 10
    assert (made.files, len(made.found), service.status()["state"]) == (2, 2, "waiting")


def test_told_to_stop_it_leaves_a_file_in_the_middle(lake, clock):
    day = lake.day("trade", rows())
    service = service_of(lake, clock, bytes_per_second=64 * 1024)
    stop = asyncio.Event()

    async def run():
        task = asyncio.create_task(service.round(stop))
        while not clock.sleeping:
            await asyncio.sleep(0.001)  # its thread reads the first piece
        stop.set()
        return await clock.run(asyncio.wait_for(task, None))

    made = asyncio.run(run())
    assert made.files == 0
    assert last_seen(lake)[day.path] == T0


def test_a_broken_file_is_found_by_the_service_set_right_and_in_its_status(lake, clock):
    day = lake.day("trade", rows())
    (lake.root / day.path.replace("versions/", "tables/")).unlink()
    flip(lake.root / day.path)
    service = service_of(lake, clock)
    made = asyncio.run(clock.run(service.round(asyncio.Event())))
    assert made.found == [{"path": day.path, "verdict": "altered", "outcome": "lost"}]
    assert service.status()["found"] == made.found
    assert [gap.cause for gap in lake.writer.manifest.gaps()] == ["bitrot"]
    assert asyncio.run(clock.run(service.round(asyncio.Event()))).ok


def test_what_the_disk_does_not_read_stays_and_is_asked_for_again(lake, clock, monkeypatch):
    good, bad = lake.day("trade", rows()), lake.day("trade", rows(5, "ETHUSDT"), symbol="ETHUSDT")
    real = scrub.Reading.read

    def read(self):
        if "ETHUSDT" in str(self._file.name):
            raise OSError(5, "Input/output error")
        return real(self)

    with monkeypatch.context() as failing:
        failing.setattr(scrub.Reading, "read", read)
        made = asyncio.run(clock.run(service_of(lake, clock).round(asyncio.Event())))
        assert (made.files, set(made.unreadable), made.ok) == (1, {bad.path}, False)
        assert scrub_once(lake.writer, NOW, lambda *_: None).unreadable == [bad.path]
        assert care.look_only(lake.root, scrub.due(lake.writer.manifest), lambda *_: None).unreadable == [bad.path]
    assert lake.writer.manifest.file(bad.path).state == "live"
    assert last_seen(lake)[good.path] >= NOW > last_seen(lake)[bad.path]
    assert scrub_once(lake.writer, NOW, lambda *_: None).ok


def test_a_lake_too_large_for_its_rate_is_said_once_a_day(lake, clock, monkeypatch):
    lake.day("trade", rows())
    said = []
    monkeypatch.setattr(care.caring, "scrub_behind", lambda **facts: said.append(facts))
    low = [False]
    service = service_of(lake, clock, disk_low=lambda: low[0])
    low[0] = True
    asyncio.run(clock.run(service.round(asyncio.Event())))
    asyncio.run(clock.run(service.round(asyncio.Event())))
    assert said == [{"oldest_days": 30.0, "wanted_days": 7}]


def test_all_at_once_with_progress_and_the_scrubs_of_what_is_gone_are_forgotten(lake, clock):
    day = lake.day("trade", rows())
    steps = []
    made = asyncio.run(service_of(lake, clock).once(lambda *step: steps.append(step)))
    assert (made.files, made.bytes, made.ok) == (1, day.bytes, True)
    assert steps == [(0, 1, day.path), (1, 1, "scrubbed")]
    lake.writer.publish(remove=[day.path], now=NOW)
    assert scrub.overdue(lake.writer.manifest, NOW + DAY, 9) == []
    assert scrub.summary(lake.writer.manifest).oldest is None


def test_who_is_told_to_stop_touches_the_manifest_no_more(lake):
    lake.day("trade", rows())
    made = scrub_once(lake.writer, NOW, lambda *_: None, stopping=lambda: True)
    assert made.files == 0
    assert set(last_seen(lake).values()) == {T0}


def test_whoever_only_looks_changes_nothing(lake):
    day = lake.day("trade", rows())
    flip(lake.root / day.path)
    targets = scrub.due(lake.writer.manifest)
    made = care.look_only(lake.root, targets, lambda *_: None)
    assert made.found == [{"path": day.path, "verdict": "altered", "outcome": ""}]
    assert lake.writer.manifest.file(day.path).state == "live"
    assert (lake.root / day.path).exists()


# --- what becomes of one file ---


def target_of(row):
    return Target(row.path, row.bytes, row.sha256, T0)


def test_a_file_that_is_not_live_any_more_or_whole_the_second_time_is_nobodys(lake):
    first = lake.day("trade", rows())
    assert bitrot.set_right(lake.writer, target_of(first), "altered", NOW) == "settled", "it is whole when asked again"
    lake.day("trade", rows(6), remove=[first.path], revision=1)
    assert bitrot.set_right(lake.writer, target_of(first), "missing", NOW) == "settled"
    unknown = Target("versions/never", 1, "00", T0)
    assert bitrot.set_right(lake.writer, unknown, "missing", NOW) == "settled"
    bitrot.set_right_missing(lake.writer, ["versions/never"], NOW)
    assert lake.writer.manifest.gaps() == []


def test_a_commit_that_comes_between_leaves_the_file_to_the_next_look(lake, monkeypatch):
    day = lake.day("trade", rows())
    (lake.root / day.path.replace("versions/", "tables/")).unlink()
    (lake.root / day.path).unlink()

    def conflict(**_):
        raise CommitConflict("expected 1 live file to retire, found 0")

    with monkeypatch.context() as between:
        between.setattr(lake.writer, "publish", conflict)
        assert bitrot.set_right(lake.writer, target_of(day), "missing", NOW) == "settled"
    assert bitrot.set_right(lake.writer, target_of(day), "missing", NOW) == "lost"


def test_a_twin_that_is_broken_too_is_none(lake):
    day = lake.day("trade", rows())
    flip(lake.root / day.path)  # the link in tables/ is the same file
    assert bitrot.set_right(lake.writer, target_of(day), "altered", NOW) == "lost"


def raw(lake, number, date=T0, **changed):
    """A segment with rows of that day, transformed where nothing else is said."""
    path = layout.raw_path("binance", "linear", "trade", date, "node", number)
    held = {"state": "transformed", "rows": 5, "event_min": T0, "event_max": T0 + MINUTE} | changed
    if held["state"] == "transformed":
        (lake.root / path).parent.mkdir(parents=True, exist_ok=True)
        (lake.root / path).write_bytes(b"{}")
    row = SegmentRow(path=path, **STREAM, kind="trade", period_start=date, period_end=date + MINUTE, **held)
    lake.writer.record(segments=[msgspec.structs.replace(row, state="sealed")])
    lake.writer.publish(segments={path: row.state}, now=date)
    return path


def broken(lake, file, verdict="missing"):
    for name in {file.path, file.path.replace("versions/", "tables/")}:
        (lake.root / name).unlink()
    return bitrot.set_right(lake.writer, target_of(file), verdict, NOW)


def test_a_day_that_raw_has_whole_is_made_again_from_it(lake):
    path = raw(lake, 1)
    raw(lake, 2, rows=0, state="deleted")  # a minute in which nothing came
    assert broken(lake, lake.day("trade", rows())) == "remade"
    assert lake.writer.manifest.segment(path).state == "sealed"
    assert lake.writer.manifest.gaps() == []


def test_a_day_of_which_some_raw_is_not_on_the_disk_any_more_is_lost(lake):
    there, gone = raw(lake, 1), raw(lake, 2)
    (lake.root / gone).unlink()
    day = lake.day("trade", rows())
    assert broken(lake, day) == "lost"
    assert {lake.writer.manifest.segment(path).state for path in (there, gone)} == {"transformed"}
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.ts_from, gap.ts_to, gap.id_from, gap.id_to) == (T0, day.ts_max + 1, 0, 5)


@pytest.mark.parametrize("level", ["day", "part"])
def test_rows_of_a_taken_in_file_that_are_lost_with_a_day_are_a_gap_although_raw_makes_the_rest_again(lake, level):
    path = raw(lake, 1)
    session = SessionRow(
        session="node-1-0", **STREAM, source="archive", url="https://data/x.zip#sha256=0", opened_at=T0, closed_at=T0
    )
    live = msgspec.structs.replace(session, session="node-2-0", source="ws")
    lake.writer.record_sessions([session, live])
    stream = STREAM | {"kind": "trade"}
    lake.writer.record_coverage([
        Coverage(**stream, symbol="BTCUSDT", session="node-1-0", ts_from=T0 - DAY, ts_to=T0 + MINUTE),
        Coverage(**stream, symbol="BTCUSDT", session="node-2-0", ts_from=T0 + MINUTE, ts_to=T0 + DAY),
        Coverage(**stream, symbol="ETHUSDT", session="node-1-0", ts_from=T0, ts_to=T0 + DAY),
    ])  # fmt: skip
    assert broken(lake, getattr(lake, level)("trade", rows())) == "lost"
    assert lake.writer.manifest.segment(path).state == "sealed"
    (gap,) = lake.writer.manifest.gaps()
    ends = {"day": T0 + MINUTE, "part": T0 + 4 * MINUTE + 1}  # a part has rows of every symbol
    assert (gap.ts_from, gap.ts_to, gap.id_from) == (T0, ends[level], None)
    assert (gap.cause, gap.state, gap.symbol) == ("bitrot", "open", "BTCUSDT" if level == "day" else "*")


def test_rows_that_frames_told_otherwise_are_a_gap_where_raw_makes_their_day_again(lake):
    raw(lake, 1)
    day = lake.day("trade", rows())
    lake.writer.publish(checks=[CheckRow(path=day.path, check=REPARSED_ADDED, symbol="", count=1)], now=T0)
    assert broken(lake, day) == "lost"
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.ts_from, gap.ts_to, gap.cause) == (T0, T0 + 4 * MINUTE + 1, "bitrot")


def test_a_broken_sample_of_books_or_bar_asks_for_no_raw(lake):
    raw(lake, 1)
    bars = lake.day("bar_1m", bar_table(rows()))
    assert broken(lake, bars) == "remade"
    assert lake.writer.manifest.cursor(f"compactor/bars/binance/linear/{bars.date}") == 1
    assert lake.writer.manifest.gaps() == []


def test_hot_bars_that_are_lost_are_no_gap(lake):
    bars = lake.part("bar_1m", bar_table(rows()))
    (lake.root / bars.path).unlink()
    assert bitrot.set_right(lake.writer, target_of(bars), "missing", NOW) == "remade"
    assert lake.writer.manifest.gaps() == []


def test_a_day_of_samples_is_sampled_again(lake, monkeypatch):
    day = lake.day("trade", rows())
    monkeypatch.setattr(bitrot, "SAMPLES", "trade")  # whichever kind it is
    (lake.root / day.path.replace("versions/", "tables/")).unlink()
    (lake.root / day.path).unlink()
    assert bitrot.set_right(lake.writer, target_of(day), "missing", NOW) == "remade"
    assert lake.writer.manifest.cursor(f"compactor/samples/binance/linear/{day.date}") == 1
