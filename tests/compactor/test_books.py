"""Days of order books: each opens with the book that the one before it left, and is sampled; again changes nothing."""

import random
import sqlite3

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from compactor import carry, view
from compactor.config import CompactorConfig
from compactor.sampler import Sampler
from compactor.service import compact_once
from lake import Lake, parquet
from lake.books import Observed
from lake.errors import BookUnknown
from lake.verify import verify_lake
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.book_rows import delta, table, whole
from tests.support.lakes import TestLake
from tests.support.market_rows import T0

BIDS = [("100.0", "1"), ("99.5", "2"), ("99.0", "3")]
ASKS = [("100.5", "1"), ("101.0", "2"), ("101.5", "3")]
MIDNIGHT = T0 + DAY
LATER = MIDNIGHT + DAY + HOUR
PLAIN = CompactorConfig()
SAMPLED = CompactorConfig(book_sample_ms=60_000, book_sample_depth=2)


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path)
    yield held
    held.close()


def compact(lake, now=LATER, config=PLAIN):
    return compact_once(lake.writer, InlineExecutor(), now, config)


def days(lake, kind="book_delta"):
    return {row.date: row for row in lake.writer.manifest.files(kind, level="day", parents=True)}


def rows_of(lake, date, kind="book_delta"):
    return parquet.read(lake.root / days(lake, kind)[date].path).to_pylist()


def certificate(lake, date, kind="book_delta"):
    return lake.writer.manifest.certificates(days(lake, kind)[date].path)[-1]


def checks(lake, date, kind="book_delta"):
    return {row.check: row.count for row in lake.writer.manifest.checks(days(lake, kind)[date].path)}


def dump(lake):
    with sqlite3.connect(lake.root / "manifest.db") as db:
        return list(db.iterdump())


FIRST = [
    whole(T0 + HOUR, 10, BIDS, ASKS),
    delta(T0 + 2 * HOUR, 11, [("99.75", "4.5"), ("50.0", "1")]),
    delta(MIDNIGHT - SECOND, 12, [], [("100.5", "0"), ("100.75", "1.25")]),
]
SECOND_DAY = [delta(MIDNIGHT + HOUR, 13, [("99.75", "0")]), delta(MIDNIGHT + 2 * HOUR, 14, [], [("100.6", "2")])]
D1, D2, D3 = "2024-07-19", "2024-07-20", "2024-07-21"


def in_parts(lake, rows):
    for at in sorted({row["at"] // HOUR for row in rows}):
        lake.part("book_delta", table([row for row in rows if row["at"] // HOUR == at]))


def test_a_day_opens_with_the_book_that_the_one_before_it_left(lake):
    in_parts(lake, FIRST + SECOND_DAY)
    assert compact(lake).failures == []
    row, *rest = rows_of(lake, D2)
    assert (row["flags"], row["source"], row["last_id"]) == ("carried", "derived", 12)
    assert (row["session"], row["frame_no"], row["item"]) == ("n-1-1", 12, 0)
    assert row["ts_event"].isoformat() == "2024-07-20T00:00:00+00:00"
    assert (row["first_id"], row["prev_id"], row["ts_recv"], row["ts_estimated"]) == (None, None, None, False)
    assert [level["price"] for level in row["bids"]] == [100.0, 99.75, 99.5, 99.0], "50 was never in the known range"
    assert [level["price"] for level in row["asks"]] == [100.75, 101.0, 101.5]
    assert [held["last_id"] for held in rest] == [13, 14]
    assert rows_of(lake, D1)[0]["flags"] == "snapshot", "nothing is known of the day before the first"
    assert days(lake)[D1].path in days(lake)[D2].parents
    held = certificate(lake, D2)
    assert (held.rows, held.crossed, held.late, held.out_of_order, days(lake)[D2].rows) == (2, 0, 0, 0, 3)
    assert verify_lake(lake.root, lake.writer.manifest, lambda *_: None).findings == []


def test_no_day_opens_with_the_book_of_a_file_that_is_another_one_by_now(lake):
    in_parts(lake, FIRST)
    assert compact(lake, MIDNIGHT + HOUR).failures == []
    path = lake.root / days(lake)[D1].path
    held = pq.ParquetFile(path, memory_map=False).read()
    pq.write_table(held.slice(0, 2), path)  # whole, and its pages are right
    in_parts(lake, SECOND_DAY)
    (failure,) = compact(lake).failures
    assert "SHA-256" in failure
    assert list(days(lake)) == [D1]


def test_what_a_day_opens_with_comes_once_however_its_rows_are_cut(lake):
    in_parts(lake, FIRST + SECOND_DAY)
    compact(lake)
    day = parquet.read(lake.root / days(lake)[D2].path)
    ours, rows = day.slice(0, 1), day.slice(1)
    pieces = [rows.slice(place, 1) for place in range(rows.num_rows)]
    assert len(pieces) == 2
    found = [row for piece in carry.opened(iter(pieces), ours) for row in piece.to_pylist()]
    assert found == day.to_pylist()


def test_a_book_of_the_second_day_comes_from_its_own_file_alone(lake):
    in_parts(lake, FIRST + SECOND_DAY)
    with Lake(lake.root) as reader:
        before = [reader.book("BTCUSDT", at=MIDNIGHT + n * HOUR) for n in (1, 2)]
    compact(lake)
    (lake.root / days(lake)[D1].path).unlink()
    with Lake(lake.root) as reader:
        after = [reader.book("BTCUSDT", at=MIDNIGHT + n * HOUR) for n in (1, 2)]
        assert reader.book("BTCUSDT", at=MIDNIGHT).snapshot.flags == "carried"
    assert [(b.bids, b.asks, b.last_id) for b in before] == [(b.bids, b.asks, b.last_id) for b in after]
    assert {book.snapshot.flags for book in after} == {"carried"}


def test_a_second_run_changes_nothing(lake):
    in_parts(lake, FIRST + SECOND_DAY)
    assert compact(lake, config=SAMPLED).changed
    before = dump(lake)
    for _ in range(2):
        assert not compact(lake, config=SAMPLED).changed
        assert dump(lake) == before


def test_what_a_day_opens_with_is_no_content_and_not_kept_when_it_is_revised(lake):
    in_parts(lake, SECOND_DAY)
    compact(lake)
    alone = days(lake)[D2].content_digest
    in_parts(lake, FIRST)
    compact(lake)
    assert days(lake)[D2].content_digest == alone
    assert [row["flags"] for row in rows_of(lake, D2)] == ["carried", "", ""]
    assert (days(lake)[D2].revision, certificate(lake, D2).rows) == (1, 2)
    in_parts(lake, [delta(MIDNIGHT + 3 * HOUR, 15)])
    compact(lake, LATER + HOUR)
    assert [row["flags"] for row in rows_of(lake, D2)] == ["carried", "", "", ""]


def test_a_revision_of_the_day_before_makes_the_opening_again_and_so_on(lake):
    third = [delta(MIDNIGHT + DAY + HOUR, 15)]
    in_parts(lake, FIRST[:2] + SECOND_DAY + third)
    compact(lake, LATER + DAY)
    assert [row["flags"] for row in rows_of(lake, D2)] == ["", ""], "12 is missing: not known at midnight"
    assert [row["flags"] for row in rows_of(lake, D3)] == [""]
    in_parts(lake, FIRST[2:])
    compact(lake, LATER + DAY + HOUR)
    assert [row["flags"] for row in rows_of(lake, D2)] == ["carried", "", ""]
    assert [row["flags"] for row in rows_of(lake, D3)] == ["carried", ""]
    assert [days(lake)[date].revision for date in (D1, D2, D3)] == [1, 1, 1]
    before = dump(lake)
    assert not compact(lake, LATER + DAY + HOUR).changed
    assert dump(lake) == before
    in_parts(lake, [whole(T0 + HOUR + SECOND, 10, BIDS, ASKS, source="ws")])  # says nothing new
    compact(lake, LATER + DAY + 4 * HOUR)
    assert [days(lake)[date].revision for date in (D1, D2, D3)] == [2, 1, 1]


@pytest.mark.parametrize("why", ["gap", "hole", "crossed", "left"])
def test_a_book_that_is_not_known_at_midnight_is_not_carried(lake, why):
    rows = FIRST + SECOND_DAY
    if why == "gap":
        lake.gap(MIDNIGHT - MINUTE, MIDNIGHT + MINUTE, kind="book_delta")
    elif why == "hole":
        rows = FIRST[:2] + SECOND_DAY
    elif why == "crossed":
        rows = [*FIRST[:2], delta(MIDNIGHT - SECOND, 12, [("100.5", "1")]), *SECOND_DAY]
    else:
        gone = [(price, "0") for price in ("100.0", "99.75", "99.5", "99.0")]
        rows = [*FIRST[:2], delta(MIDNIGHT - SECOND, 12, gone), *SECOND_DAY]
    in_parts(lake, rows)
    compact(lake)
    assert [row["flags"] for row in rows_of(lake, D2)] == ["", ""]
    crossed = why == "crossed"
    assert (certificate(lake, D2).crossed, checks(lake, D2).get("book_crossed", 0)) == (crossed, crossed)


def test_each_symbol_opens_with_its_own_book(lake):
    other = [row | {"symbol": "ETHUSDT"} for row in [*FIRST[:1], delta(T0 + 2 * HOUR, 11), delta(MIDNIGHT, 12)]]
    lake.part("book_delta", table([FIRST[0], other[0]]))
    lake.part("book_delta", table([*FIRST[1:2], other[1]]))
    lake.part("book_delta", table(FIRST[2:]))
    lake.part("book_delta", table([*SECOND_DAY[:1], other[2]]), hour=0)
    compact(lake)
    held = {row.symbol: row for row in lake.writer.manifest.files("book_delta", date_from=D2)}
    flags = {name: parquet.read(lake.root / row.path).column("last_id")[0].as_py() for name, row in held.items()}
    assert flags == {"BTCUSDT": 12, "ETHUSDT": 11}


def test_samples_are_the_books_at_their_times(lake):
    lake.cover(T0, MIDNIGHT + DAY, kind="book_delta")
    lake.gap(T0 + 3 * HOUR, T0 + 3 * HOUR + 90 * SECOND, kind="book_delta")
    crossed = delta(MIDNIGHT - HOUR, 12, [("100.5", "1")]), delta(MIDNIGHT - HOUR + 90 * SECOND, 13, [("100.5", "0")])
    in_parts(lake, [*FIRST[:2], *crossed, delta(MIDNIGHT - SECOND, 14), delta(MIDNIGHT + HOUR, 15)])
    summary = compact(lake, config=SAMPLED)
    assert (summary.samples, summary.failures) == (2, [])
    with Lake(lake.root) as reader:
        rows = reader.read("book_sample", symbol="BTCUSDT", end=MIDNIGHT).to_pylist()
        at = [round(row["ts_event"].timestamp()) * SECOND for row in rows]
        dark = [time for time, row in zip(at, rows, strict=True) if not row["in_sync"]]
        assert dark == [T0, T0 + 3 * HOUR, MIDNIGHT - HOUR], "only where an unknown stretch begins"
        assert len(rows) == 23 * 60 + 1 - 2 + 1 - 2 + 1, (
            "60 an hour from the snapshot on, less two and two unknown ones"
        )
        for time, row in list(zip(at, rows, strict=True))[::37]:
            if not row["in_sync"]:
                assert row["bids"] == row["asks"] == []
                with pytest.raises(BookUnknown):
                    reader.book("BTCUSDT", at=time)
                continue
            book = reader.book("BTCUSDT", at=time, depth=2)
            for side in ("bids", "asks"):
                shown = [(level["price"], level["qty"]) for level in row[side]]
                assert shown == [(float(price), float(qty)) for price, qty in getattr(book, side)]
            assert (row["valid_low"], row["valid_high"]) == (float(book.valid_low), float(book.valid_high))
    held = certificate(lake, D1, "book_sample")
    assert (held.rows, held.crossed, checks(lake, D1, "book_sample")) == (len(rows), 2, {"book_crossed": 2})
    assert days(lake, "book_sample")[D1].parents == (days(lake)[D1].path,)
    assert rows_of(lake, D2, "book_sample")[0]["in_sync"], "the day opens with its book"
    assert verify_lake(lake.root, lake.writer.manifest, lambda *_: None).findings == []


def test_samples_follow_a_revision_of_their_updates(lake):
    in_parts(lake, FIRST + SECOND_DAY[:1])
    compact(lake, config=SAMPLED)
    before = days(lake, "book_sample")
    in_parts(lake, SECOND_DAY[1:])
    compact(lake, LATER + HOUR, config=SAMPLED)
    after = days(lake, "book_sample")
    assert after[D1] == before[D1]
    assert (after[D2].revision, before[D2].revision) == (1, 0)
    assert after[D2].rows > before[D2].rows
    assert view.cursors(lake.writer.manifest, view.SAMPLES_DUE) == {}


def test_books_are_not_sampled_unless_it_is_asked_for(lake):
    in_parts(lake, FIRST)
    compact(lake)
    assert lake.writer.manifest.files("book_sample") == []


def replayed(rows, every, depth=3, **observed):
    stored = table(rows)
    where = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT"}
    exact = any(stored.column(name).null_count < stored.num_rows for name in ("bids_text", "asks_text"))
    sampler = Sampler(where, T0, every, depth, Observed(**observed), exact=exact)
    made = [row for n in range(0, stored.num_rows, 7) for t in sampler.add(stored.slice(n, 7)) for row in t.to_pylist()]
    return made + [row for t in sampler.finish() for row in t.to_pylist()]


def test_numbers_that_no_float_holds_are_sampled_exactly():
    near = [("1.0000000000000000002", "3"), ("1.0000000000000000001", "2")]
    rows = [whole(T0, 1, near, [("2", "1")]), delta(T0 + HOUR, 2, [("1.00000000000000000020", "0")])]
    made = replayed([*rows, delta(T0 + 2 * HOUR, 3)], HOUR)
    assert [[level["price"] for level in row["bids_text"]] for row in made[:2]] == [
        ["1.0000000000000000002", "1.0000000000000000001"],
        ["1.0000000000000000001"],
    ]
    assert made[0]["asks_text"] is None
    assert [row["in_sync"] for row in made] == [True, True, True, False]


def test_a_long_day_is_sampled_in_bounded_pieces(monkeypatch):
    monkeypatch.setattr("compactor.sampler.ROWS", 50)
    some = random.Random(7)
    rows, last = [whole(T0, 0, BIDS, ASKS)], 0
    for n in range(1, 300):
        last += 2 if n == 150 else 1
        rows.append(delta(T0 + n * MINUTE, last, [(f"{some.randrange(990, 1000) / 10}", some.choice("012"))]))
    made = replayed(rows, 30 * SECOND)
    assert [row["in_sync"] for row in made].count(False) == 1
    assert len(made) == 299 + 1, "two a minute up to the minute before the hole, then what is not known, once"


def test_nothing_of_ours_is_counted_as_a_row_of_the_day(lake):
    in_parts(lake, FIRST + SECOND_DAY)
    compact(lake)
    with Lake(lake.root) as reader:
        assert pc.sum(pc.equal(reader.read("book_delta").column("flags").cast("string"), "carried")).as_py() == 1
