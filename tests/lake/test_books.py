"""`Lake.book`: the book at any time, by ids, hot and closed together; and what it refuses, since and until when."""

import pytest

from lake import Lake
from lake.errors import BookCrossed, BookUnknown, CorruptFile, WrongQuestion
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.support.book_rows import delta, table, whole
from tests.support.lakes import TestLake
from tests.support.market_rows import T0

BIDS = [("100.0", "1"), ("99.5", "2"), ("99.0", "3")]
ASKS = [("100.5", "1"), ("101.0", "2"), ("101.5", "3")]


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path)
    yield held
    held.close()


def book(lake, at, **asked):
    with Lake(lake.root) as reader:
        return reader.book("BTCUSDT", at=at, **asked)


def refused(lake, at, error=BookUnknown):
    with pytest.raises(error) as caught:
        book(lake, at)
    return str(caught.value)


ROWS = [
    whole(T0 + 1 * SECOND, 10, BIDS, ASKS),
    delta(T0 + 2 * SECOND, 11, [("100.0", "0"), ("99.75", "4.250")], []),
    delta(T0 + 3 * SECOND, 12, [], [("100.5", "9"), ("101.0", "0.000")]),
    delta(T0 + 4 * SECOND, 13, [("99.75", "0")], [("100.25", "1")]),
]


@pytest.mark.parametrize("closed", [True, False])
def test_the_book_at_a_time_is_the_snapshot_and_the_updates_up_to_it(lake, closed):
    (lake.day if closed else lake.part)("book_delta", table(ROWS))
    held = book(lake, T0 + 2 * SECOND)
    assert held.bids == [("99.75", "4.25"), ("99.5", "2"), ("99", "3")]
    assert held.asks == [("100.5", "1"), ("101", "2"), ("101.5", "3")]
    assert (held.last_id, held.ts_event, held.at) == (11, T0 + 2 * SECOND, T0 + 2 * SECOND)
    assert (held.valid_low, held.valid_high, held.crossed) == ("99", "101.5", False)
    assert (held.snapshot.last_id, held.snapshot.flags, held.snapshot.source) == (10, "snapshot", "rest")
    assert book(lake, T0 + 3 * SECOND, depth=1).asks == [("100.5", "9")]
    later = book(lake, T0 + 4 * SECOND - 1)
    assert (later.last_id, later.asks) == (12, [("100.5", "9"), ("101.5", "3")]), "the next update proves the silence"
    assert book(lake, "2024-07-19T00:00:04Z").bids == [("99.5", "2"), ("99", "3")]


def test_ids_decide_not_the_order_of_the_file(lake):
    rows = [
        delta(T0 + SECOND, 10, [("100.0", "7")]),
        delta(T0 + SECOND + 1, 12, [("99.5", "5")], prev=11),
        delta(T0 + SECOND + 2, 11, [("99.5", "4")]),
        delta(T0 + SECOND + 3, 13, [], [("100.5", "8")], prev=12),
        whole(T0 + SECOND + 4, 10, BIDS, ASKS, estimated=True),
    ]
    lake.part("book_delta", table(rows))
    lake.part("book_delta", table([delta(T0 + 2 * SECOND, 13, [], [("100.5", "8")], prev=12, frame_no=77)]))
    held = book(lake, T0 + SECOND + 4)
    assert held.bids == [("100", "1"), ("99.5", "5"), ("99", "3")], "10 is in the snapshot; 12 comes after 11"
    assert (held.asks[0], held.last_id, held.ts_event) == (("100.5", "8"), 13, T0 + SECOND + 4)


def test_spot_updates_chain_by_their_first_ids_and_may_overlap(lake):
    rows = [
        whole(T0 + SECOND, 10, BIDS, ASKS),
        delta(T0 + 2 * SECOND, 12, [("99.5", "5")], first=8, prev=None),
        delta(T0 + 3 * SECOND, 14, [("99.5", "6")], first=12, prev=None),
        delta(T0 + 4 * SECOND, 15, [("99.5", "7")], first=15, prev=None),
    ]
    lake.day("book_delta", table(rows, "spot"), market_type="spot")
    assert [book(lake, T0 + n * SECOND).bids[1][1] for n in (1, 2, 3, 4)] == ["2", "5", "6", "7"]


def test_futures_updates_join_a_snapshot_that_lies_inside_the_first_of_them(lake):
    rows = [whole(T0, 10, BIDS, ASKS), delta(T0 + 1, 15, [("99.5", "5")], first=9, prev=20)]
    lake.day("book_delta", table([*rows, delta(T0 + 2, 18, [], [], first=17, prev=15)]))
    assert book(lake, T0 + 2).last_id == 18


def test_before_a_snapshot_and_behind_a_missing_update_the_book_is_refused_with_since_and_until(lake):
    lost = delta(T0 + 6 * SECOND, 16, prev=15)
    again = whole(T0 + 8 * SECOND, 17, BIDS, ASKS)
    lake.day("book_delta", table([delta(T0, 9), *ROWS, lost, again, delta(T0 + 9 * SECOND, 18)]))
    said = refused(lake, T0)
    assert "no snapshot of it is stored up to then" in said
    assert "known again from 2024-07-19T00:00:01Z on" in said
    said = refused(lake, T0 + 7 * SECOND)
    assert "since 2024-07-19T00:00:04Z updates between the ids 13 and 16 are missing" in said
    assert "known again from 2024-07-19T00:00:08Z on" in said
    assert "nothing is stored of it since" in refused(lake, T0 + 5 * SECOND)
    assert book(lake, T0 + 9 * SECOND).last_id == 18
    assert "nothing of it is stored" in refused(lake, T0 - DAY)


def test_an_open_gap_over_it_makes_a_book_unknown_and_a_repaired_one_does_not(lake):
    lake.day("book_delta", table(ROWS))
    lake.gap(T0 + 2 * SECOND, T0 + 3 * SECOND, kind="book_delta")
    said = refused(lake, T0 + 2 * SECOND + 5)
    assert "a gap (cut) lies over it from 2024-07-19T00:00:02Z on, until 2024-07-19T00:00:03Z" in said
    assert "known again from 2024-07-19T00:00:03Z on" in said
    assert book(lake, T0 + 3 * SECOND).last_id == 12
    lake.gap(T0 + 2 * SECOND, T0 + 3 * SECOND, kind="book_delta", state="repaired", closed_at=T0)
    assert book(lake, T0 + 2 * SECOND + 5).last_id == 11
    lake.gap(T0 + 2 * SECOND, None, symbol="*", kind="book_delta")
    assert "it still grows" in refused(lake, T0 + 4 * SECOND)


def test_silence_after_the_last_row_is_believed_only_where_it_was_watched(lake):
    lake.day("book_delta", table(ROWS))
    assert "nothing is stored of it since 2024-07-19T00:00:04Z" in refused(lake, T0 + MINUTE)
    lake.cover(T0, T0 + 2 * MINUTE, kind="book_delta")
    assert book(lake, T0 + MINUTE).ts_event == T0 + 4 * SECOND
    assert refused(lake, T0 + 2 * MINUTE)


def test_a_crossed_book_is_refused_as_crossed(lake):
    lake.day("book_delta", table([*ROWS, delta(T0 + 5 * SECOND, 14, [("100.250", "1")])]))
    assert "best bid 100.25, best ask 100.25" in refused(lake, T0 + 5 * SECOND, BookCrossed)


def test_what_lies_beyond_the_snapshot_is_unknown_and_a_shorter_side_was_all_there(lake):
    rows = [whole(T0, 10, BIDS, ASKS[:2]), delta(T0 + 1, 11, [("98.0", "1"), ("99.9", "1")], [("500", "1")])]
    rows.append(delta(T0 + 2, 12, [(price, "0") for price in ("100.0", "99.9", "99.5", "99.0")]))
    lake.day("book_delta", table(rows))
    held = book(lake, T0 + 1)
    assert (held.valid_low, held.valid_high) == ("99", None)
    assert [price for price, _ in held.bids] == ["100", "99.9", "99.5", "99"]
    assert held.asks[-1] == ("500", "1")
    assert "the market has left what the snapshot of 2024-07-19T00:00:00Z showed (99 to -)" in refused(lake, T0 + 2)


def test_prices_and_quantities_that_no_float_holds_stay_the_venues(lake):
    near = [("1.0000000000000000002", "3.1415926535897932384"), ("1.0000000000000000001", "2")]
    rows = [whole(T0, 1, near, [("2", "1")]), delta(T0 + 1, 2, [("1.00000000000000000020", "0")])]
    lake.day("book_delta", table(rows))
    assert book(lake, T0).bids == near
    assert book(lake, T0 + 1).bids == near[1:]


def test_yesterdays_rows_are_asked_where_the_day_does_not_open_with_a_book(lake):
    lake.day("book_delta", table(ROWS))
    lake.part("book_delta", table([delta(T0 + DAY + HOUR, 14, [("99.5", "8")])]))
    lake.part("book_delta", table([delta(T0 + DAY + 2 * HOUR, 15, [("99.5", "9")])]))
    assert book(lake, T0 + DAY + HOUR).bids[0] == ("99.5", "8")
    assert book(lake, T0 + DAY + 2 * HOUR).bids[0] == ("99.5", "9")
    assert book(lake, T0 + DAY + 2 * HOUR - 1).last_id == 14
    lake.part("book_delta", table([delta(T0 + DAY + 3 * HOUR, 19, [("99.5", "1")])]))
    assert "since 2024-07-20T02:00:00Z updates between the ids 15 and 19" in refused(lake, T0 + DAY + 3 * HOUR)


def test_a_symbol_of_two_markets_is_asked_back_and_other_symbols_of_a_part_are_not_mixed_in(lake):
    other = whole(T0 + 2 * SECOND, 11, BIDS, ASKS, symbol="ETHUSDT")
    lake.part("book_delta", table([*ROWS, other]))
    lake.part("book_delta", table([other | {"symbol": "BNBUSDT"}], "spot"), market_type="spot")
    assert book(lake, T0 + 4 * SECOND).snapshot.last_id == 10
    lake.part("book_delta", table(ROWS[:1], "spot"), market_type="spot", hour=1)
    with pytest.raises(WrongQuestion, match="binance linear BTCUSDT, binance spot BTCUSDT"):
        book(lake, T0 + 4 * SECOND)
    assert book(lake, T0 + 4 * SECOND, market_type="linear").market_type == "linear"
    with pytest.raises(WrongQuestion, match="depth=0"):
        book(lake, T0, depth=0)


def test_which_markets_have_a_book_is_told_by_no_file_that_is_not_what_was_published(lake):
    """No checksum is of the footer."""
    lake.part("book_delta", table(ROWS))
    harmed = lake.root / lake.part("book_delta", table(ROWS[:1], "spot"), market_type="spot").path
    data = harmed.read_bytes()
    harmed.write_bytes(data.replace(b"parquet-cpp-arrow version", b"parquet-cpp-arrow versiom"))
    with pytest.raises(CorruptFile, match=harmed.name):
        book(lake, T0 + 4 * SECOND)


def test_ids_that_begin_anew_end_a_book_until_the_next_snapshot(lake):
    rows = [*ROWS, delta(T0 + MINUTE, 2, [("99.5", "1")], prev=1), delta(T0 + MINUTE + 1, 3)]
    lake.day("book_delta", table([*rows, whole(T0 + MINUTE + 2, 3, BIDS, ASKS), delta(T0 + MINUTE + 3, 4)]))
    assert "the venue's ids began anew" in refused(lake, T0 + MINUTE)
    assert book(lake, T0 + MINUTE + 3).last_id == 4


@pytest.mark.parametrize("closed", [True, False])
def test_a_stream_that_begins_just_behind_a_day_of_an_archive_is_another_numbering(lake, closed):
    """The lines of OKX's files have their times as ids, which are far above those of the stream."""
    last, begin = T0 + DAY - SECOND, T0 + DAY + 3 * SECOND
    archived = {"source": "archive"}
    lines = [
        whole(last, last, BIDS, ASKS, **archived),
        delta(last + 1, last + 1, [("99.0", "7")], prev=last, **archived),
    ]
    lake.day("book_delta", table(lines))
    carried = whole(T0 + DAY, last + 1, BIDS, ASKS, flags="carried", source="derived")
    early = delta(begin, 4_999, [("98.5", "1")])
    rows = [
        early,
        whole(begin + 5, 5_000, BIDS, [("100.5", "6")], source="ws"),
        delta(begin + 9, 5_001, [("99.0", "8")]),
    ]
    if closed:
        lake.day("book_delta", table([carried, *rows]))
    else:
        lake.part("book_delta", table(rows))
    lake.cover(last, begin + SECOND, kind="book_delta")
    assert book(lake, begin - 1).last_id == last + 1
    assert "the venue's ids began anew" in refused(lake, begin)
    found = book(lake, begin + 9)
    assert (found.last_id, found.asks, found.bids[-1]) == (5_001, [("100.5", "6")], ("99", "8"))


def test_a_connection_that_is_behind_is_no_new_numbering(lake):
    rows = [delta(T0 + 4 * SECOND + 5, 9, [("99.75", "9")]), whole(T0 + 5 * SECOND, 8, [], [])]
    lake.day("book_delta", table([*ROWS, *rows]))
    lake.cover(T0, T0 + MINUTE, kind="book_delta")
    assert book(lake, T0 + 5 * SECOND).last_id == 13


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("frame", [1, 99], ids=["whole first", "update first"])
def test_a_whole_among_the_updates_and_the_update_of_its_id_come_to_the_same_book(lake, closed, frame):
    """The whole of a connection that joined, beside the update of the other one, which a reader need not apply."""
    held = whole(T0 + 3 * SECOND, 12, [("99.75", "4.25"), ("99.5", "2"), ("99.0", "3")],
                 [("100.5", "9"), ("101.5", "3")], source="ws", frame_no=frame)  # fmt: skip
    (lake.day if closed else lake.part)("book_delta", table([*ROWS, held]))
    for at, bids in ((3, ["99.75", "99.5", "99"]), (4, ["99.5", "99"])):
        found = book(lake, T0 + at * SECOND)
        assert ([price for price, _ in found.bids], found.last_id, found.snapshot.last_id) == (bids, 9 + at, 12)
    with Lake(lake.root) as reader:
        assert reader.read("book_delta").num_rows == 5
