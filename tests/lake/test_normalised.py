"""Stored rows as messages: books whole, by change, best levels at an interval, holes told; frames in one order."""

import json

import pytest

from lake import Lake, frame_order, normalised
from lake.arrivals import Stream
from lake.errors import WrongQuestion
from lake.frames import FrameLine, encode_frame_lines
from lake.normalised import Asked, Part
from lake.rows import SegmentRow
from market.times import MINUTE, SECOND, Interval
from tests.support.book_rows import delta, table, whole
from tests.support.lakes import TestLake
from tests.support.market_rows import T0

BIDS, ASKS = [("100.0", "1"), ("99.5", "2")], [("100.5", "1"), ("101.0", "2")]
ROWS = [
    whole(T0 + SECOND, 10, BIDS, ASKS),
    delta(T0 + 2 * SECOND, 11, [("99.0", "5")]),
    delta(T0 + 3 * SECOND, 12, [("100.0", "0")]),
    delta(T0 + 11 * SECOND, 13, [], [("100.5", "7")]),
]


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path)
    held.part("book_delta", table(ROWS))
    yield held
    held.close()


def said(lake, name, start=T0, end=T0 + MINUTE, **asked):
    part = Part(normalised.asked(name), Stream("book_delta", "binance", "linear", "BTCUSDT"), "binance-futures")
    with Lake(lake.root) as reader:
        return [json.loads(one) for _, one in normalised.messages(reader, [part], Interval(start, end), **asked)]


def test_names_of_data_types_say_depth_and_interval():
    assert normalised.asked("quote") == Asked("quote", "book_delta", 1, 0)
    assert normalised.asked("quote_10s") == Asked("quote_10s", "book_delta", 1, 10 * SECOND)
    assert normalised.asked("book_snapshot_5_50ms") == Asked("book_snapshot_5_50ms", "book_delta", 5, 50_000)
    for bad in ("book_snapshot_5", "trade_bar_10s", "option_summary", "quote_1h", "book_snapshot_1001_1s"):
        with pytest.raises(WrongQuestion):
            normalised.asked(bad)


def test_a_book_is_whole_first_and_then_changes(lake):
    first, second, *_ = said(lake, "book_change")
    assert first == {
        "type": "book_change", "symbol": "BTCUSDT", "exchange": "binance-futures", "isSnapshot": True,
        "bids": [{"price": 100, "amount": 1}, {"price": 99.5, "amount": 2}],
        "asks": [{"price": 100.5, "amount": 1}, {"price": 101, "amount": 2}],
        "timestamp": "2024-07-19T00:00:01.000Z", "localTimestamp": "2024-07-19T00:00:01.000Z",
    }  # fmt: skip
    assert (second["isSnapshot"], second["bids"], second["asks"]) == (False, [{"price": 99, "amount": 5}], [])


def test_from_any_time_a_book_begins_as_it_was_then(lake):
    lake.cover(T0, T0 + MINUTE, kind="book_delta")
    first, second = said(lake, "book_change", start=T0 + 5 * SECOND)
    assert (first["isSnapshot"], first["timestamp"]) == (True, "2024-07-19T00:00:05.000Z")
    assert [level["price"] for level in first["bids"]] == [99.5], "99 lies below what the snapshot showed"
    assert (second["isSnapshot"], second["asks"]) == (False, [{"price": 100.5, "amount": 7}])


def test_best_levels_come_when_they_change_or_at_an_interval(lake):
    quotes = said(lake, "quote")
    assert [(one["bids"][0]["price"], one["asks"][0]["amount"]) for one in quotes] == [(100, 1), (99.5, 1), (99.5, 7)]
    assert (quotes[0]["type"], quotes[0]["name"], quotes[0]["depth"], quotes[0]["interval"]) == (
        "book_snapshot", "quote", 1, 0,
    )  # fmt: skip
    (every,) = said(lake, "book_snapshot_2_10s")
    assert (every["interval"], every["timestamp"]) == (10_000, "2024-07-19T00:00:10.000Z")
    assert [level["price"] for level in every["bids"]] == [99.5], "as it was before the interval ended"
    assert every["asks"][0]["amount"] == 1


def test_a_hole_is_a_disconnect(lake):
    lake.gap(T0 + 4 * SECOND, T0 + 6 * SECOND, kind="book_delta", symbol="*")
    lake.gap(T0 + 7 * SECOND, T0 + 8 * SECOND, kind="book_delta", state="repaired", closed_at=T0)
    types = [(one["type"], one.get("localTimestamp")[17:19]) for one in said(lake, "book_change", disconnects=True)]
    assert types == [(t, s) for t, s in zip(
        ["book_change"] * 3 + ["disconnect", "book_change"], ["01", "02", "03", "04", "11"], strict=True,
    )]  # fmt: skip
    assert "disconnect" not in {one["type"] for one in said(lake, "book_change")}


# --- frames ---


def segment(root, name, lines, start, end):
    (root / name).write_bytes(encode_frame_lines(lines))
    return SegmentRow(
        path=name, exchange="x", market_type="spot", kind="frames", state="sealed", period_start=start, period_end=end
    )


def line(at, text, conn="a"):
    return FrameLine(ts_recv=at, conn=conn, dir="recv", n=1, frame=text)


def test_frames_of_overlapping_files_and_unordered_passes_come_in_one_order(tmp_path):
    rows = [
        segment(tmp_path, "2", [line(T0 + n * SECOND, f"b{n}") for n in (5, 7, 9)], T0 + 5 * SECOND, None),
        segment(
            tmp_path, "1", [line(T0 + n * SECOND // 10, f"a{n}") for n in (0, 3, 1, 2, 40, 60)], T0, T0 + 10 * SECOND
        ),
        segment(tmp_path, "3", [line(T0 + MINUTE, "no")], T0 + MINUTE, None),
    ]
    span = Interval(T0 + SECOND // 10, T0 + 9 * SECOND)
    kept = frame_order.files(rows, span)
    assert [row.path for row in kept] == ["1", "2"]
    found = [one.frame for one in frame_order.lines(tmp_path, kept, span)]
    assert found == ["a1", "a2", "a3", "a40", "b5", "a60", "b7"]


def test_lines_wait_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_order, "MOST_HELD", 10)
    row = segment(tmp_path, "1", [line(T0 + n, "x" * 8) for n in (3, 2, 1)], T0, None)
    span = Interval(T0, T0 + SECOND)
    assert len(list(frame_order.lines(tmp_path, [row], span))) == 3
    (tmp_path / "1").unlink()
    assert list(frame_order.lines(tmp_path, [row], span)) == [], "retention was here"


def test_a_frame_that_two_connections_brought_comes_once():
    twins = frame_order.Twins()
    lines = [line(T0, "x", "a"), line(T0 + 5, "x", "b"), line(T0 + 6, "x", "a"), line(T0 + 7, "y", "b")]
    assert [twins.again(one) for one in lines] == [False, True, False, False]
    assert not twins.again(line(T0 + frame_order.TWIN + 7, "x", "b")), "long ago"
