"""transformer.reader: both ways of reading agree, and no line disappears."""

import hashlib
import json

import pytest

from lake import segments, tables
from lake.errors import CorruptSegment
from lake.rows import SegmentRow
from market.kinds import BookDelta, Contract, Kline, MarkPrice, Quote
from tests.support.market_rows import T0
from tests.support.segments import read_segment
from transformer import cutting, reader

PATH = "raw/exchange=binance/market_type={m}/data_type={k}/date=2024-07-19/000000-n-000001.jsonl"


def line(**more):
    return {
        "symbol": "BTCUSDT", "stream": "btcusdt@trade", "ts_event": T0, "ts_publish": T0 + 1, "ts_recv": T0 + 9,
        "session": "n-1-1", "frame_no": 1, "item": 0, "source": "ws", "price": "64000.10", "qty": "0.003",
        "side": "buy", "seq": 7, "condition": "market",
    } | more  # fmt: skip


def quote_line(**more):
    sides = {"bid": "1.10", "bid_qty": "3", "ask": "1.2", "ask_qty": "0.000", "update_id": 5}
    own = {name: line()[name] for name in list(line())[:9]}
    return own | sides | more


def segment(root, lines, kind="trade", market_type="spot", **more):
    """A sealed segment of these lines: dicts, or bytes as they are."""
    data = b"".join((item if isinstance(item, bytes) else spelt(item)) + b"\n" for item in lines)
    return sealed(root, data, len(lines), kind, market_type, **more)


def spelt(fields):
    """A line as our own writer spells it."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def sealed(root, data, rows, kind="trade", market_type="spot", **more):
    path = PATH.format(m=market_type, k=kind)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return SegmentRow(
        path=path, exchange="binance", market_type=market_type, kind=kind, state="sealed", period_start=T0,
        period_end=T0 + 1, rows=rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **more,
    )  # fmt: skip


def both(root, row):
    """The segment read by the fast path and line by line."""
    fast = read_segment(root, row)
    row.clean = False
    return fast, read_segment(root, row)


def test_both_ways_of_reading_give_the_same_table(tmp_path):
    rows = [
        line(),
        line(seq=8, side=None, ts_event=None, price="0.1234567890123456789"),
        line(seq=None, side="sell", qty="0"),
        line(seq=9, symbol="ÄPFEL/USDT", ts_publish=None),
    ]
    rows = [row | {"trade_id": None, "qty_unit": None, "multiplier": None} for row in rows]
    rows[2]["trade_id"] = "a-1"
    rows[3] |= {"qty_unit": "contract", "multiplier": "0.01"}
    fast, slow = both(tmp_path, segment(tmp_path, rows))
    assert (fast.fast, slow.fast) == (True, False)
    assert fast.bad == slow.bad == []
    assert fast.table.equals(slow.table)
    assert fast.table.schema == tables.schema("trade")
    found = fast.table.to_pylist()
    assert [row["condition"] for row in found] == ["market", "market", "void", "market"]
    assert [row["ts_estimated"] for row in found] == [False, True, False, False]
    assert found[1]["price_text"] == "0.1234567890123456789"
    assert found[0]["price_text"] is None
    assert [(row["qty_unit"], row["multiplier"]) for row in found] == [("base", 1.0)] * 3 + [("contract", 0.01)]
    assert (found[0]["exchange"], found[0]["market_type"], found[0]["symbol"]) == ("binance", "spot", "BTCUSDT")
    tables.check_required(fast.table, "trade")


def test_lines_as_the_collectors_write_them_take_the_fast_path(tmp_path):
    common = ("BTCUSDT", "s", None, None, T0 + 1000, "n-1-1", 1, 0, "ws")
    quotes = [Quote(*common, "1", "2", "3", "4", 5, skew_us=-200), Quote(*common, "1", "2", "3", "4", 6, skew_us=0)]
    data = segments.encode_lines(quotes)
    fast, slow = both(tmp_path, sealed(tmp_path, data, 2, "quote"))
    assert fast.fast
    assert fast.table.equals(slow.table)
    assert fast.table["ts_event"].cast("int64").to_pylist() == [T0 + 1200, T0 + 1000]
    assert fast.table["ts_estimated"].to_pylist() == [True, True]


@pytest.mark.parametrize("market_type, unit", [("spot", "base"), ("linear", "base"), ("inverse", "contract")])
def test_a_line_without_units_means_those_of_its_market(tmp_path, market_type, unit):
    found = read_segment(tmp_path, segment(tmp_path, [line()], market_type=market_type)).table.to_pylist()
    assert (found[0]["qty_unit"], found[0]["multiplier"]) == (unit, 1.0)


BAD = {
    "nan": line(price="NaN"), "infinite": line(qty="inf"), "grouped": line(price="1_000"),
    "arabic": line(price="٣"), "huge": line(price="1e400"), "negative": line(qty="-1"),
    "forty digits": line(price="1" * 40), "empty": line(price=""), "no text": line(price=64000.1),
    "a number": line(qty=1), "null price": line(price=None), "null qty": line(qty=None),
    "null receive time": line(ts_recv=None), "no key": {k: v for k, v in line().items() if k != "qty"},
    "no nullable key": {k: v for k, v in line().items() if k != "ts_event"}, "id of 12.7": line(seq=12.7),
    "id as text": line(seq="12"), "id beyond 64 bits": line(seq=2**70), "time as text": line(ts_recv=str(T0)),
    "ms for us": line(ts_event=T0 // 1000), "ns for us": line(ts_event=T0 * 1000), "no time": line(ts_recv=0),
    "unknown side": line(side="long"), "unknown condition": line(condition="odd"), "no symbol": line(symbol=""),
    "unknown source": line(source="fax"), "null": b"null", "an array": b"[1]", "blank": b"", "half": b'{"symbol":"BT',
    "bytes": b"\xff\xfe", "two objects": json.dumps(line()).encode() * 2, "literal NaN": b'{"price":NaN}',
    "deep": b"[" * 3000, "symbol of a number": line(symbol=5), "boolean": line(item=True), "unit": line(qty_unit="kg"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_goes_to_quarantine_with_reason_and_place_and_its_neighbours_stay(tmp_path, name):
    rows = [line(seq=1), BAD[name], line(seq=3, price="0.5")]
    row = segment(tmp_path, rows)
    read = read_segment(tmp_path, row)
    data = (tmp_path / row.path).read_bytes()
    assert not read.fast
    assert (read.lines, read.table.num_rows, len(read.bad)) == (3, 2, 1)
    assert read.table["seq"].to_pylist() == [1, 3]
    bad = read.bad[0]
    assert bad.number == 2
    assert bad.reason
    assert data[bad.offset : bad.offset + len(bad.line) + 1] == bad.line + b"\n"
    good = read_segment(tmp_path, segment(tmp_path, [rows[0], rows[2]]))
    assert good.fast
    assert read.table.equals(good.table)


def test_keys_that_come_twice_or_that_nobody_knows_are_left_to_the_careful_path(tmp_path):
    text = spelt(line())
    for odd in (text[:-1] + b',"price":"7"}', text[:-1] + b',"more":"7"}'):
        read = read_segment(tmp_path, segment(tmp_path, [odd]))
        assert (read.fast, read.table.num_rows) == (False, 1)


ODD = {
    "escaped": [line(symbol='A"B\\C\n')], "a comma": [line(stream="a,b")], "spaces": [json.dumps(line()).encode()],
    "another order": [line(), dict(reversed(line().items()))], "another key": [line(), line(trade_id="7")],
    "no line": [line(), spelt(line()).replace(b"btcusdt", b"a\x01b")], "big id": [line(seq=2**63 - 1)],
    "returns": [spelt(line()) + b"\r", spelt(line())], "a mark": [b"\xef\xbb\xbf" + spelt(line())],
    "an id that begins with a zero": [spelt(line()).replace(b'"seq":7', b'"seq":07')],
    "an id with a plus": [spelt(line()).replace(b'"seq":7', b'"seq":+7')],
    "an id with a space": [spelt(line()).replace(b'"seq":7', b'"seq": 7')],
    "less than nothing": [spelt(line()).replace(b'"seq":7', b'"seq":-0')],
    "an id with an exponent": [spelt(line()).replace(b'"seq":7', b'"seq":9e2')],
    "ids below zero": [line(seq=-7), line(seq=-12), line(seq=5)], "an id of 25 digits": [line(seq=10**24), line()],
    "null as an id of four digits": [line(seq=None), line(seq=1234)], "a text of null": [line(symbol="null")],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_spelt_in_another_way_is_read_as_what_it_says(tmp_path, name):
    read, careful = both(tmp_path, segment(tmp_path, ODD[name]))
    assert read.table.equals(careful.table)
    assert read.bad == careful.bad


def test_a_torn_tail_is_a_bad_line(tmp_path):
    data = spelt(line()) + b"\n" + b'{"symbol":"BTC'
    read = read_segment(tmp_path, sealed(tmp_path, data, 1))
    assert (read.lines, read.table.num_rows) == (2, 1)
    assert read.bad[0].line == b'{"symbol":"BTC'


def test_bytes_that_are_not_those_of_the_seal_are_read_line_by_line_and_said(tmp_path):
    row = segment(tmp_path, [line(seq=1), line(seq=2)])
    path = tmp_path / row.path
    path.write_bytes(path.read_bytes()[:-20])
    read = read_segment(tmp_path, row)
    assert not read.fast
    assert read.table["seq"].to_pylist() == [1]
    assert "sealed 2 lines" in read.altered


def test_a_line_that_ends_in_something_else_is_bad_whatever_number_stands_before_it(tmp_path):
    lines = [quote_line(update_id=1234), spelt(quote_line(update_id=1235))[:-1] + b"x"]
    read = read_segment(tmp_path, segment(tmp_path, lines, "quote"))
    assert read.table["update_id"].to_pylist() == [1234]
    assert [bad.number for bad in read.bad] == [2]


@pytest.mark.parametrize("said", [1, 3])
def test_lines_are_counted_and_not_believed(tmp_path, said):
    row = segment(tmp_path, [line(seq=1), line(seq=2)])
    row.rows = said
    read = read_segment(tmp_path, row)
    assert (read.lines, read.table.num_rows, read.fast, read.altered) == (2, 2, False, None)


def test_an_empty_segment_has_no_file_and_a_missing_file_is_an_error(tmp_path):
    row = segment(tmp_path, [line()])
    (tmp_path / row.path).unlink()
    with pytest.raises(CorruptSegment, match="cannot be read"):
        read_segment(tmp_path, row)
    row.rows, row.bytes, row.sha256 = 0, 0, ""
    assert read_segment(tmp_path, row).table.num_rows == 0


def test_a_path_that_looks_like_a_pattern_is_read_all_the_same(tmp_path):
    root = tmp_path / "la[k]e*"
    read = read_segment(root, segment(root, [line()]))
    assert read.table.num_rows == 1


def test_the_fast_path_is_only_an_optimisation(tmp_path, monkeypatch):
    row = segment(tmp_path, [line(seq=n) for n in range(50)])
    fast = read_segment(tmp_path, row)
    monkeypatch.setattr(reader, "_fast", lambda *_: None)
    slow = read_segment(tmp_path, row)
    assert (fast.fast, slow.fast) == (True, False)
    assert fast.table.equals(slow.table)


def test_pieces_of_a_long_segment_are_joined_the_same_way(tmp_path, monkeypatch):
    rows = [line(seq=n, symbol=f"S{n % 7}", side=("buy", "sell", None)[n % 3]) for n in range(50)]
    whole = read_segment(tmp_path, segment(tmp_path, rows))
    monkeypatch.setattr(reader, "_ROWS_AT_ONCE", 8)
    monkeypatch.setattr(cutting, "AT_ONCE", 2000)
    fast, slow = both(tmp_path, segment(tmp_path, rows))
    assert (fast.fast, slow.fast) == (True, False)
    assert whole.table.equals(fast.table)
    assert whole.table.equals(slow.table)


@pytest.mark.parametrize("odd", [None, "1e3", "-7", "007"])
def test_texts_that_hardly_repeat_and_ids_that_grow_longer_are_columns_all_the_same(tmp_path, odd):
    rows = [
        line(
            seq=n, frame_no=n, ts_recv=T0 + 7 * n, price=f"{n}.{n:03d}", qty="0.5", session=f"n-1-{n // 900}",
            side=("buy", "sell", None)[n % 3], trade_id=None if n % 5 else f"id {n}",
        )
        for n in range(1, 1500)
    ]  # fmt: skip
    if odd:
        rows[1200]["price"] = odd
    fast, slow = both(tmp_path, segment(tmp_path, rows))
    assert (fast.fast, slow.fast) == (odd is None, False)
    assert fast.table.equals(slow.table)
    assert fast.table.num_rows == 1499 - len(fast.bad) == 1499 - (odd is not None)


def test_segments_that_are_read_together_say_what_they_say_alone(tmp_path):
    """Small ones share one reading; one that is odd, altered, torn, empty or gone costs the others nothing but that."""
    names = ["good", "odd", "altered", "more", "gone", "other", "empty", "last"]
    rows = []
    for number, name in enumerate(names):
        root = tmp_path / name
        one = segment(root, [line(seq=10 * number + n, symbol=f"S{n}") for n in range(number + 1)])
        path = one.path.replace("000001", f"{number:06d}")
        (root / one.path).rename(root / one.path.replace("000001", f"{number:06d}"))
        one.path = f"{name}/{path}"
        rows.append(one)
    held = dict(zip(names, rows, strict=True))
    place = tmp_path / held["odd"].path
    place.write_bytes(b"".join(text + b"\n" for text in [spelt(line(seq=1)), spelt(line(seq=2, trade_id="x"))]))
    held["odd"].sha256 = hashlib.sha256(place.read_bytes()).hexdigest()
    (tmp_path / held["altered"].path).write_bytes(spelt(line(seq=5)) + b"\n")
    (tmp_path / held["gone"].path).unlink()
    held["empty"].rows, held["empty"].bytes, held["empty"].sha256 = 0, 0, ""
    together = list(reader.read_segments(tmp_path, rows))
    assert [row.path for row, _ in together] == [row.path for row in rows]
    for row, found in together:
        if row is held["gone"]:
            assert isinstance(found, CorruptSegment)
            continue
        alone = read_segment(tmp_path, row)
        assert found.table.equals(alone.table)
        assert (found.bad, found.lines, found.fast, found.altered) == (
            alone.bad, alone.lines, alone.fast, alone.altered
        )  # fmt: skip
    assert [found.fast for row, found in together if row is not held["gone"]] == [
        n not in ("odd", "altered") for n in names if n != "gone"
    ]


def test_other_kinds_have_their_own_columns(tmp_path):
    common = ("BTCUSDT", "s", T0, None, T0, "n-1-1", 1, 0, "ws")
    mark = MarkPrice(*common, "1.5", None, "-0.0001", 0)
    read = read_segment(tmp_path, sealed(tmp_path, segments.encode_lines([mark]), 1, "mark_price"))
    assert read.fast
    assert read.table.to_pylist()[0]["predicted_rate"] == -0.0001
    candle = Kline(*common, "15m", T0, "1", "2", "0.5", "1.5", "10", "15", 3, "5", "7.5")
    for revision in (0, 2):
        candle.revision = revision  # which has no key in the line where it is 0
        read = read_segment(tmp_path, sealed(tmp_path, segments.encode_lines([candle]), 1, "kline"))
        assert (read.fast, read.table["revision"].to_pylist()) == (True, [revision])
    contract = Contract(*common, "u", "BTC/USDT", "BTC", "USDT", None, "0.1", None, None, None, "trading", None, None,
                        None, None, None, T0, None)  # fmt: skip
    read = read_segment(tmp_path, sealed(tmp_path, segments.encode_lines([contract]), 1, "contract"))
    assert read.fast
    assert read.table.to_pylist()[0]["multiplier"] is None


def test_book_levels_keep_their_digits_and_bad_ones_are_set_aside(tmp_path):
    import msgspec

    common = ("BTCUSDT", "s", T0, None, T0, "n-1-1", 1, 0, "ws")
    good = BookDelta(*common, msgspec.Raw(b'[["1.10","2"],["0.1234567890123456789","0"]]'), msgspec.Raw(b"[]"), 1, 2, 0,
                     flags=("snapshot", "clear"))  # fmt: skip
    bad = BookDelta(*common, msgspec.Raw(b'[["1.1",2]]'), msgspec.Raw(b"[]"), 1, 3, 0)
    read = read_segment(tmp_path, sealed(tmp_path, segments.encode_lines([good, bad]), 2, "book_delta"))
    assert (read.table.num_rows, len(read.bad)) == (1, 1)
    found = read.table.to_pylist()[0]
    assert found["bids"][0] == {"price": 1.1, "qty": 2.0}
    assert found["bids_text"][1]["price"] == "0.1234567890123456789"
    assert found["flags"] == "snapshot,clear"
