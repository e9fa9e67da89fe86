"""The line of a segment: what is written is what is read, and a torn tail is told from a bad line."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import segments
from lake.errors import CorruptSegment, UnknownVersion
from lake.rows import SegmentRow
from lake.segments import Extent
from market import kinds
from market.errors import Malformed, UnknownKind
from market.kinds import BookDelta, Quote, Trade

T = 1_795_182_300_000_000


def trade(n: int = 1, **changes: object) -> Trade:
    event = Trade("BTCUSDT", "btcusdt@trade", T + n, None, T + 2 * n, "box1-1-1", n, 0, "ws", "64000.10", "0.00100",
                  "buy", n, "market")  # fmt: skip
    return msgspec.structs.replace(event, **changes)


def test_a_line_has_the_kinds_fields_in_their_order_and_the_venues_digits() -> None:
    line = segments.encode_lines([trade()])
    assert line == (
        b'{"symbol":"BTCUSDT","stream":"btcusdt@trade","ts_event":1795182300000001,"ts_publish":null,'
        b'"ts_recv":1795182300000002,"session":"box1-1-1","frame_no":1,"item":0,"source":"ws","price":"64000.10",'
        b'"qty":"0.00100","side":"buy","seq":1,"condition":"market"}\n'
    )
    assert segments.encode_lines([]) == b""
    assert b"multiplier" in segments.encode_lines([trade(multiplier="10")])


text = st.text(max_size=20)
times = st.integers(0, 2**62)
maybe = times | st.none()
fields = (text, text, maybe, maybe, times, text, times, times, text, text, text, text | st.none(), maybe, text)


@given(st.lists(st.builds(Trade, *fields), max_size=8))
def test_what_is_written_is_what_is_read_whatever_the_venue_calls_things(events: list[Trade]) -> None:
    data = segments.encode_lines(events)
    assert data.count(b"\n") == len(events)
    assert list(segments.read_lines("trade", data)) == events
    assert segments.good_length(data, "trade") == len(data)


@pytest.mark.parametrize("kind", [name for name, kind in kinds.KINDS.items() if kind.struct is not None])
def test_every_collected_kind_has_lines(kind: str) -> None:
    with pytest.raises(Malformed, match=kind):
        segments.decode_line(kind, b"{}")


def test_kinds_without_lines_and_unknown_ones_are_refused() -> None:
    with pytest.raises(Malformed, match="bar_1m"):
        segments.decode_line("bar_1m", b"{}")
    with pytest.raises(UnknownKind):
        segments.decode_line("tick", b"{}")


def test_a_venues_line_breaks_between_levels_do_not_break_the_line() -> None:
    def delta(levels: bytes) -> BookDelta:
        raw = msgspec.Raw(levels)
        return BookDelta("B", "s", None, None, T, "x", 1, 0, "ws", raw, msgspec.Raw(b"[]"), 1, 2, None)

    lines = segments.encode_lines([delta(b'[["1",\r\n"2"]]'), delta(b'[["3","4"]]')])
    assert lines.count(b"\n") == 2
    read = list(segments.read_lines("book_delta", lines))
    assert [json.loads(bytes(event.bids)) for event in read] == [[["1", "2"]], [["3", "4"]]]
    assert segments.encode_lines([delta(b'[["3","4"]]')]).count(b'[["3","4"]]') == 1


@pytest.mark.parametrize(
    "line",
    [
        b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b"\0\0\0", b'{"symbol":1}', b"[" * 100_000,
        segments.encode_lines([trade()])[:-2],
        segments.encode_lines([trade()])[:-1].replace(b'"64000.10"', b"64000.10"),
        segments.encode_lines([trade()])[:-1].replace(b'"seq":1', b'"seq":1.5'),
        segments.encode_lines([trade()])[:-1].replace(b'"seq":1', b'"seq":"1"'),
        segments.encode_lines([trade()])[:-1].replace(b"BTCUSDT", b"BTC\xffUSDT"),
        segments.encode_lines([trade()])[:-1].replace(b'"side":"buy",', b""),
        segments.encode_lines([trade()])[:-1] * 2,
    ],
)  # fmt: skip
def test_a_line_that_is_no_event_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        segments.decode_line("trade", line)


def test_a_torn_tail_is_found_at_every_byte() -> None:
    whole = segments.encode_lines([trade(1), trade(2)])
    last = segments.encode_lines([trade(3)])
    for cut in range(len(last) + 1):
        good = segments.good_length(whole + last[:cut], "trade")
        assert good == len(whole) + (len(last) if cut == len(last) else 0)
    assert segments.good_length(whole + b"\0" * 4096) == len(whole)
    assert segments.good_length(whole + b"\0\n\xff\n{}x\n" + last[:9]) == len(whole)
    assert segments.good_length(b"") == segments.good_length(b"\n\n") == segments.good_length(b"rubbish") == 0


def test_a_bad_line_before_good_ones_stays_and_is_told() -> None:
    first, second = segments.encode_lines([trade(1)]), segments.encode_lines([trade(9)])
    data = first + b"garbage\n" + second + b"torn"
    found = segments.scan("trade", data)
    assert (found.size, found.rows) == (len(data) - 4, 3)
    assert [(bad.offset, bad.number, bad.line) for bad in found.bad] == [(len(first), 2, b"garbage")]
    assert found.extent == Extent(T + 2, T + 18, T + 1, T + 9)
    read = list(segments.read_lines("trade", data))
    assert [type(line).__name__ for line in read] == ["Trade", "BadLine", "Trade", "BadLine"]
    assert read[-1].reason == "no line feed at its end"


@given(st.binary(max_size=60), st.integers(0, 3))
def test_every_line_is_an_event_or_a_bad_line_that_says_where_it_is(noise: bytes, at: int) -> None:
    lines = [segments.encode_lines([trade(n)]) for n in range(3)]
    data = b"".join((*lines[:at], noise, *lines[at:]))
    read = list(segments.read_lines("trade", data))
    assert len(read) == data.count(b"\n") + (not data.endswith(b"\n"))
    for bad in (line for line in read if isinstance(line, segments.BadLine)):
        assert data[bad.offset : bad.offset + len(bad.line)] == bad.line
        assert data[: bad.offset].count(b"\n") == bad.number - 1
    assert 0 <= segments.scan("trade", data).size <= len(data)


def test_the_extent_of_events_spans_their_times() -> None:
    assert segments.extent([trade(1), trade(3), trade(2)]) == Extent(T + 2, T + 4, T + 1, T + 3)
    quote = Quote("B", "s", None, None, T, "x", 1, 0, "ws", "1", "1", "2", "1", None)
    assert segments.extent([quote]) == Extent(T, T, None, None)
    assert segments.extent([trade(5), quote]) == Extent(T, T + 10, T + 5, T + 5)
    one, other = Extent(1, 2, None, None), Extent(0, 1, 7, 8)
    assert segments.widen(one, other) == segments.widen(other, one) == Extent(0, 2, 7, 8)
    assert segments.widen(None, one) == segments.widen(one, None) == one
    assert segments.widen(None, None) is None


def test_the_extent_of_a_long_segment_is_that_of_all_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [trade(n) for n in (3, 1, 7, 2, 5)]
    data = segments.encode_lines(events)
    whole = segments.scan("trade", data)
    assert whole.extent == segments.extent([trade(n) for n in (1, 2, 3, 5, 7)])
    for together in (1, 2, 5):
        monkeypatch.setattr(segments, "TOGETHER", together)
        assert segments.scan("trade", data) == whole


def sealed_row() -> SegmentRow:
    return SegmentRow(
        path="raw/x.jsonl", exchange="binance", market_type="spot", kind="trade", state="sealed", period_start=T,
        period_end=T + 60, rows=3, bytes=100, sha256="ab" * 32, recv_min=T, recv_max=T + 5, event_min=None, clean=False,
    )  # fmt: skip


def test_a_seal_says_the_same_when_read_back() -> None:
    data = segments.encode_seal(sealed_row())
    assert segments.decode_seal(data) == sealed_row()
    assert json.loads(data)["version"] == 1


def test_a_newer_seal_is_refused_by_its_version_and_a_broken_one_is_corrupt() -> None:
    data = segments.encode_seal(sealed_row())
    with pytest.raises(UnknownVersion, match="format 2"):
        segments.decode_seal(data.replace(b'"version": 1', b'"version": 2').replace(b'"rows"', b'"lines"'))
    for broken in (b"", b"{}", data[:-5], data.replace(b'"rows"', b'"lines"'), b"\xff"):
        with pytest.raises(CorruptSegment):
            segments.decode_seal(broken)
    with pytest.raises(ValueError, match="no end"):
        segments.encode_seal(msgspec.structs.replace(sealed_row(), period_end=None))
