"""Lake.read and scan: one snapshot, hot and final together, no row twice, bars over gaps, and wrong questions."""

import datetime as dt
import itertools
import threading

import polars as pl
import pyarrow as pa
import pytest

from lake import Lake, completeness, reading, tables
from lake.asking import bar_kind
from lake.errors import CorruptFile, LakeError, NotALake
from lake.rows import CertificateRow
from market.errors import Malformed, UnknownKind
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, contract, quote, trade


def us(table: pa.Table, column: str = "ts_event") -> list[int]:
    return table.column(column).cast(pa.int64()).to_pylist()


def test_what_is_no_lake_is_said_to_be_none(tmp_path):
    with pytest.raises(NotALake):
        Lake(tmp_path)


def test_an_empty_lake_answers_with_no_rows_of_the_right_columns(lake):
    table = lake.read("trade")
    assert table.num_rows == 0
    assert table.schema.names == [*tables.schema("trade").names, "qty_base", "qty_quote"]
    assert lake.read("bar_5m", fill="empty").num_rows == 0
    assert lake.scan("quote").collect().height == 0


def test_hot_and_final_come_together_sorted_and_in_the_types_of_the_files(made, lake):
    made.day("trade", [trade(T0 + n, "10.5", "2", seq=n) for n in (1, 2, 3)])
    made.part("trade", [trade(T0 + DAY + n, "11", "1", seq=n) for n in (6, 7)])
    made.part("trade", [trade(T0 + DAY + n, "11", "1", seq=n) for n in (4, 5)])
    table = lake.read("trade", symbol="BTCUSDT")
    assert table.column("seq").to_pylist() == [1, 2, 3, 4, 5, 6, 7]
    for field in tables.schema("trade"):
        assert table.schema.field(field.name).type == field.type, field.name
    assert table.column("qty_quote").to_pylist()[0] == 21.0


def test_of_two_hot_rows_with_one_id_the_first_received_stays(made, lake):
    made.part("trade", [trade(T0 + 1, "10", "1", seq=1, ts_recv=T0 + 50, session="n-2-1")])
    made.part("trade", [trade(T0 + 1, "10", "1", seq=1, ts_recv=T0 + 20), trade(T0 + 2, "10", "1", seq=2)])
    table = lake.read("trade")
    assert table.column("seq").to_pylist() == [1, 2]
    assert table.column("session").to_pylist()[0] == "n-1-1"


def test_rows_without_an_id_are_told_apart_by_their_provenance(made, lake):
    made.part("quote", [quote(T0 + 1, "1", "2", update_id=None, frame_no=n) for n in (1, 2)])
    made.part("quote", [quote(T0 + 1, "1", "2", update_id=None, frame_no=n) for n in (2, 3)])
    assert lake.read("quote").column("frame_no").to_pylist() == [1, 2, 3]


def test_a_closed_day_is_read_from_its_daily_file_only(made, lake):
    late = made.part("trade", [trade(T0 + 9, "10", "1", seq=9), trade(T0 + 9, "10", "1", seq=9, symbol="ETHUSDT")])
    made.day("trade", [trade(T0 + 1, "10", "1", seq=1)])
    table = lake.read("trade")
    held = list(zip(table.column("symbol").to_pylist(), table.column("seq").to_pylist(), strict=True))
    assert held == [("BTCUSDT", 1), ("ETHUSDT", 9)], "the other symbol's day is not closed yet"
    assert lake.manifest.files("trade", level="part")[0].path == late.path


def test_a_revision_replaces_a_day_at_once(made, lake):
    first = made.day("trade", [trade(T0 + 1, "10", "1", seq=1)])
    frame = lake.scan("trade")
    made.day(
        "trade", [trade(T0 + 1, "10", "1", seq=1), trade(T0 + 2, "10", "1", seq=2)], remove=[first.path], revision=1
    )
    assert lake.read("trade").num_rows == 2
    assert frame.collect().height == 1, "a lazy frame stays with its snapshot"


def test_start_is_included_and_end_is_not(made, lake):
    made.part("trade", [trade(T0 + n * SECOND, "10", "1", seq=n + 1) for n in range(10)])
    day = dt.datetime.fromtimestamp(T0 / 1e6, dt.UTC)
    for start, end in (
        (T0 + 2 * SECOND, T0 + 4 * SECOND),
        (day + dt.timedelta(seconds=2), day + dt.timedelta(seconds=4)),
        ("2024-07-19T00:00:02Z", "2024-07-19T00:00:04Z"),
    ):
        assert lake.read("trade", start=start, end=end).column("seq").to_pylist() == [3, 4]
    assert lake.read("trade", start="2024-07-20").num_rows == 0
    with pytest.raises(Malformed):
        lake.read("trade", start="yesterday")


def test_any_range_of_any_symbols_is_that_part_of_all_rows(made, lake):
    """Files inside the range are read whole, those at its edges row by row, hot ones by symbol too."""
    for day in range(4):
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):
            rows = [trade(T0 + day * DAY + n * HOUR, "10", "2", n + 1, symbol=symbol) for n in range(day + 1)]
            made.day("trade", rows, symbol=symbol)
        own = ("price", "qty", "qty_unit", "multiplier", "side", "condition", "seq")
        marks = [
            {k: v for k, v in trade(T0 + day * DAY + n * HOUR, "1", "1", symbol=symbol).items() if k not in own}
            for symbol in ("AUSDT", "BUSDT") for n in (1, 2)
        ]  # fmt: skip
        made.day("mark_price", [row | {"mark": "10"} for row in marks], symbol=None)
    last = [trade(T0 + 4 * DAY + n, "10", "2", n, symbol=symbol) for symbol in ("AUSDT", "DUSDT") for n in (7, 8)]
    made.part("trade", last)
    edges = [None, T0, T0 + HOUR, T0 + DAY, T0 + 2 * DAY + 2 * HOUR, T0 + 4 * DAY + 8]
    for kind in ("trade", "mark_price"):
        whole = pl.DataFrame(lake.read(kind))
        at, of = pl.col("ts_event").cast(pl.Int64), pl.col("symbol").cast(pl.String)
        for start, end in itertools.combinations(edges, 2):
            for symbols in ("AUSDT", ["AUSDT", "DUSDT"], ["nobody"], None):
                names = whole["symbol"].cast(pl.String).unique() if symbols is None else pl.Series([symbols]).explode()
                wanted = whole.filter(at < end, of.is_in(names.implode()), at >= (start or 0))
                found = pl.DataFrame(lake.read(kind, start=start, end=end, symbol=symbols))
                assert found.equals(wanted), (kind, start, end, symbols)


def test_a_question_asked_again_sees_what_has_changed_since(made, lake):
    ask = lambda: lake.read("bar_1m", symbol="BTCUSDT", start=T0, end=T0 + DAY)  # noqa: E731
    assert ask().num_rows == 0
    minutes(made, 0, 1)
    assert closes(ask()) == closes(ask())
    assert [close is None for _, close in closes(ask())] == [False, False]
    made.gap(T0, T0 + SECOND)
    assert [close is None for _, close in closes(ask())] == [True, False]


def test_rows_of_many_symbols_come_sorted_by_symbol_then_time(made, lake):
    rows = [trade(T0 + n, "10", "1", seq=n + 1, symbol=s) for s in ("AAVEUSDT", "ZECUSDT") for n in range(3)]
    made.part("trade", rows)
    made.part(
        "trade", [trade(T0 + 10 + n, "10", "1", seq=n + 4, symbol=s) for s in ("AAVEUSDT", "ZECUSDT") for n in (0, 1)]
    )
    made.day("trade", [trade(T0 + DAY, "10", "1", seq=99, symbol="MUSDT")], symbol="MUSDT")
    table = lake.read("trade", exchange="binance", market_type="linear")
    symbols = table.column("symbol").to_pylist()
    assert symbols == ["AAVEUSDT"] * 5 + ["MUSDT"] + ["ZECUSDT"] * 5
    assert lake.read("trade", symbol=["MUSDT", "ZECUSDT"]).num_rows == 6
    assert lake.read("trade", exchange="kraken").num_rows == 0
    assert pl.from_arrow(table)["ts_event"].to_list()[:5] == sorted(pl.from_arrow(table)["ts_event"].to_list()[:5])


def test_scan_and_read_give_the_same_rows(made, lake):
    made.part("trade", [trade(T0 + n, "10", "1", seq=n + 1) for n in range(5)])
    made.day("bar_1m", bar_table([trade(T0 + 1, "10", "1", seq=1)]))
    for kind in ("trade", "bar_1m", "bar_5m"):
        scanned = lake.scan(kind, symbol="BTCUSDT").collect().to_arrow().to_pylist()
        assert scanned == lake.read(kind, symbol="BTCUSDT").to_pylist()


def test_columns_are_those_asked_for_and_a_wrong_one_is_named(made, lake):
    made.part("trade", [trade(T0, "10", "1", seq=1)])
    assert lake.read("trade", columns=["seq", "price", "qty_base"]).schema.names == ["seq", "price", "qty_base"]
    with pytest.raises(LakeError, match="trade has no column prise"):
        lake.read("trade", columns=["prise"])
    for ask in (lake.read, lake.batches):
        with pytest.raises(LakeError, match="names no column"):
            ask("trade", columns=[])


def test_wrong_options_are_named(lake):
    with pytest.raises(UnknownKind):
        lake.read("trades")
    with pytest.raises(LakeError, match="bar_7m does not divide a day"):
        lake.read("bar_7m")
    with pytest.raises(LakeError, match="fill='zero'"):
        lake.read("bar_1m", fill="zero")
    with pytest.raises(LakeError, match="not possible for trade"):
        lake.read("trade", fill="empty")
    with pytest.raises(LakeError, match="min_state"):
        lake.read("trade", min_state="sure")
    assert bar_kind("bar_90s").stored == "bar_1s"
    assert bar_kind("bar_1d").width == DAY


def test_min_state_leaves_out_what_is_not_that_sure(made, lake):
    one = made.day("trade", [trade(T0, "10", "1", seq=1)])
    two = made.day("trade", [trade(T0 + DAY, "10", "1", seq=2)])
    made.part("trade", [trade(T0 + 2 * DAY, "10", "1", seq=3)])
    for row, word in ((one, "klines"), (two, None)):
        certificate = CertificateRow(
            path=row.path, sha256=row.sha256, **STREAM, kind="trade", symbol="BTCUSDT", date=row.date, revision=0,
            issued_at=T0, rows=1, verified=word,
        )  # fmt: skip
        made.writer.publish(certificates=[certificate], now=T0)
    found = {
        state: lake.read("trade", min_state=state).column("seq").to_pylist()
        for state in ("provisional", "final", "verified")
    }
    assert found == {"provisional": [1, 2, 3], "final": [1, 2], "verified": [1]}


def test_a_flipped_bit_is_found_before_anything_is_read(made, lake, monkeypatch):
    monkeypatch.setattr(reading, "_checked", {})
    row = made.day("trade", [trade(T0 + n, "10", "1", seq=n + 1) for n in range(100)])
    assert lake.read("trade").num_rows == 100
    path = made.root / row.path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile):
        lake.read("trade")
    with pytest.raises(CorruptFile):
        lake.scan("trade")
    with pytest.raises(CorruptFile):
        lake.sql("SELECT count(*) FROM trade")
    path.unlink()
    with pytest.raises(CorruptFile):
        lake.read("trade")


def test_a_file_is_hashed_once_until_it_changes(made, lake, monkeypatch):
    hashed: list[str] = []
    monkeypatch.setattr(reading, "_checked", {})
    monkeypatch.setattr(reading, "check_sha256", lambda path, _: hashed.append(path.name))
    made.day("trade", [trade(T0, "10", "1", seq=1)])
    lake.read("trade")
    lake.read("trade")
    assert len(hashed) == 1


def minutes(made: TestLake, *numbers: int, **options) -> None:
    """Final bars of these minutes, one trade each, price 100 + minute."""
    trades = [trade(T0 + n * MINUTE + 1, str(100 + n), "2", seq=n + 1) for n in numbers]
    made.day("bar_1m", bar_table(trades, covered=Interval(T0, T0 + 10 * MINUTE), **options))


def closes(table: pa.Table) -> list[tuple[int, float | None]]:
    starts = [(start - T0) // MINUTE for start in us(table, "window_start")]
    return list(zip(starts, table.column("close").to_pylist(), strict=True))


def test_a_bar_over_an_open_gap_comes_back_null_and_says_so(made, lake):
    minutes(made, 0, 1, 2, 3)
    made.gap(T0 + MINUTE + 5, T0 + MINUTE + 6)
    made.gap(T0 + 3 * MINUTE, None)
    made.gap(T0, T0 + 5, state="repaired")
    made.gap(T0, T0 + 5, symbol="ETHUSDT")
    table = lake.read("bar_1m", symbol="BTCUSDT")
    assert closes(table) == [(0, 100.0), (1, None), (2, 102.0), (3, None)]
    assert table.column("gap").to_pylist() == [False, True, False, True]
    assert table.column("volume_base").to_pylist() == [2.0, None, 2.0, None]
    assert lake.scan("bar_1m").collect()["close"].to_list() == [100.0, None, 102.0, None]


def test_a_bar_made_while_a_gap_was_open_stays_hidden_until_it_is_made_again(made, lake):
    minutes(made, 0, 1, gaps={"BTCUSDT": [Interval(T0, T0 + 5)]})
    assert closes(lake.read("bar_1m")) == [(0, None), (1, 101.0)]


def test_a_gap_between_two_ids_of_one_moment_hides_its_bar(made, lake):
    minutes(made, 0, 1)
    made.gap(T0 + MINUTE, T0 + MINUTE, id_from=4, id_to=6)
    assert closes(lake.read("bar_1m")) == [(0, 100.0), (1, None)]


def test_windows_without_a_trade_come_back_on_request(made, lake):
    minutes(made, 1, 4)
    made.cover(T0, T0 + 5 * MINUTE)
    made.cover(T0 + 8 * MINUTE, T0 + 9 * MINUTE)
    made.gap(T0 + 3 * MINUTE, T0 + 3 * MINUTE + 9)
    span = {"start": T0, "end": T0 + 7 * MINUTE, "symbol": "BTCUSDT"}
    assert closes(lake.read("bar_1m", **span)) == [(1, 101.0), (4, 104.0)]
    empty = lake.read("bar_1m", fill="empty", **span)
    assert closes(empty) == [(0, None), (1, 101.0), (2, None), (3, None), (4, 104.0), (5, None), (6, None)]
    assert empty.column("trade_count").to_pylist() == [0, 1, 0, None, 1, None, None]
    assert empty.column("gap").to_pylist() == [False, False, False, True, False, False, False]
    assert empty.column("partial").to_pylist() == [False] * 5 + [True, True], "what was not collected is not empty"
    previous = lake.read("bar_1m", fill="previous", **span)
    assert closes(previous) == [(0, None), (1, 101.0), (2, 101.0), (3, None), (4, 104.0), (5, None), (6, None)]
    after = lake.read("bar_1m", fill="previous", symbol="BTCUSDT", start=T0 + 4 * MINUTE)
    assert closes(after) == [(4, 104.0), (5, None), (6, None), (7, None), (8, None)], "no price is carried over a hole"
    assert previous.column("open").to_pylist()[2] == 101.0
    assert previous.column("volume_base").to_pylist()[2] == 0.0
    assert previous.schema.names == lake.read("bar_1m").schema.names


def test_filling_without_a_range_goes_as_far_as_rows_and_coverage(made, lake):
    minutes(made, 2)
    made.cover(T0 + MINUTE, T0 + 4 * MINUTE)
    made.cover(T0, T0 + MINUTE, symbol="ETHUSDT")
    table = lake.read("bar_1m", fill="empty", symbol="BTCUSDT")
    assert [minute for minute, _ in closes(table)] == [1, 2, 3]
    both = lake.read("bar_1m", fill="empty")
    assert both.column("symbol").to_pylist() == ["BTCUSDT"] * 3 + ["ETHUSDT"]


def test_filling_ends_where_the_answer_is_complete(made, lake):
    minutes(made, 2)
    made.cover(T0, T0 + 4 * MINUTE)
    for fill in ("empty", "previous"):
        table = lake.read("bar_1h", fill=fill, symbol="BTCUSDT", end=T0 + 3 * DAY)
        assert completeness.of(table).complete_until == T0 + DAY, "of a closed day all is known"
        assert [minute // 60 for minute, _ in closes(table)] == list(range(24))
    made.cover(T0 + 2 * DAY, T0 + 2 * DAY + MINUTE)
    assert closes(lake.read("bar_1h", fill="empty", symbol="BTCUSDT", end=T0 + 3 * DAY))[-1] == (23 * 60, None)


def test_a_gap_of_every_symbol_hides_as_one_of_a_symbol_does(made, lake):
    minutes(made, 0, 1, 2, 3)
    made.gap(T0 + MINUTE + 5, T0 + MINUTE + 6, symbol="*")
    made.gap(T0 + 3 * MINUTE, T0 + 3 * MINUTE + 1)
    shown = [100.0, None, 102.0, None]
    for symbol in (None, "BTCUSDT"):
        table = lake.read("bar_1m", symbol=symbol)
        assert table.column("close").to_pylist() == shown
        assert table.column("gap").to_pylist() == [False, True, False, True]
        assert lake.scan("bar_1m", symbol=symbol).collect()["close"].to_list() == shown
        where = "" if symbol is None else "WHERE symbol = 'BTCUSDT'"
        rows = lake.sql(f"SELECT close, gap FROM bar_1m {where} ORDER BY window_start")
        assert rows.column("close").to_pylist() == shown, "SQL hides it too"
        assert rows.column("gap").to_pylist() == [False, True, False, True]
    assert lake.read("bar_2m", symbol="BTCUSDT").column("gap").to_pylist() == [True, True]


def test_other_widths_are_folded_from_what_is_stored(made, lake):
    minutes(made, 0, 1, 6)
    made.cover(T0, T0 + 10 * MINUTE)
    table = lake.read("bar_5m", symbol="BTCUSDT")
    assert closes(table) == [(0, 101.0), (5, 106.0)]
    assert table.column("volume_base").to_pylist() == [4.0, 2.0]
    assert table.column("partial").to_pylist() == [False, False]
    assert lake.read("bar_1h").column("partial").to_pylist() == [True]
    assert closes(lake.read("bar_5m", start=T0 + MINUTE)) == [(5, 106.0)], "a window that began before start is not cut"
    made.gap(T0 + 6 * MINUTE, T0 + 6 * MINUTE + 1)
    assert closes(lake.read("bar_5m")) == [(0, 101.0), (5, None)]


def test_of_two_hot_bars_of_one_window_the_higher_revision_counts(made, lake):
    one = [trade(T0, "10", "1", seq=1)]
    made.part("bar_1m", bar_table(one))
    made.part("bar_1m", bar_table([*one, trade(T0 + 1, "12", "1", seq=2)], revision=1))
    table = lake.read("bar_1m")
    assert (table.num_rows, table.column("close").to_pylist()) == (1, [12.0])


def test_a_unified_name_finds_the_venues_spelling_once_contracts_are_known(made, lake):
    made.day("trade", [trade(T0, "10", "1", seq=1)])
    made.day("trade", [trade(T0, "10", "1", seq=1, market_type="spot")], market_type="spot")
    assert lake.read("trade", symbol="BTC/USDT:USDT").num_rows == 0
    made.part("contract", [contract(T0, "BTCUSDT", "1", "BTC/USDT:USDT", None)])
    table = lake.read("trade", symbol="BTC/USDT:USDT")
    assert table.column("market_type").to_pylist() == ["linear"]
    assert lake.read("trade", symbol="BTCUSDT").num_rows == 2
    assert lake.read("trade", symbol="BTC/USDT:USDT", market_type="spot").num_rows == 0


def test_two_listings_of_one_ticker_are_not_joined_unasked(made, lake):
    made.day("trade", [trade(T0 + HOUR, "10", "1", seq=1)])
    made.day("trade", [trade(T0 + 9 * DAY, "90", "1", seq=1)])
    old = contract(T0, "BTCUSDT", "old", "BTC/USDT:USDT", T0 - DAY, T0 + DAY)
    made.part("contract", [old, contract(T0, "BTCUSDT", "new", "BTC/USDT:USDT", T0 + 8 * DAY, item=1)])
    with pytest.raises(LakeError, match="BTCUSDT was listed 2 times"):
        lake.read("trade", symbol="BTCUSDT")
    assert lake.read("trade", symbol="BTCUSDT", across_listings=True).num_rows == 2
    assert lake.read("trade", symbol="BTCUSDT", end=T0 + DAY).num_rows == 1


def test_while_days_are_replaced_every_read_sees_each_row_once(made):
    rows = [trade(T0 + n, "10", "1", seq=n + 1) for n in range(20)]
    live = made.day("trade", rows)
    parts = [made.part("trade", [trade(T0 + DAY + n, "10", "1", seq=100 + n)]) for n in range(5)]
    seen: list[tuple[int, ...]] = []
    globbed: list[int] = []
    stop, enough = threading.Event(), threading.Event()

    def look() -> None:
        with Lake(made.root) as lake:
            while not stop.is_set():
                seen.append(tuple(lake.read("trade", columns=["seq"]).column("seq").to_pylist()))
                if len(seen) > 3:
                    enough.set()
                globbed.append(len(list((made.root / "tables").rglob("*.parquet"))))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for revision in range(1, 9):
            live = made.day("trade", [*rows], remove=[live.path], revision=revision)
        made.day(
            "trade", [trade(T0 + DAY + n, "10", "1", seq=100 + n) for n in range(5)], remove=[p.path for p in parts]
        )
        assert enough.wait(60)
    finally:
        stop.set()
        reader.join()
    assert set(seen) == {(*range(1, 21), *range(100, 105))}
    assert set(globbed) <= {0, 1, 2}, "a glob may miss a replaced day for a moment, but never sees it twice"
