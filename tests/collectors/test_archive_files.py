"""Files of an archive: which there are, and every way in which one may not be what it says it is."""

from __future__ import annotations

import datetime as dt
import io
import pickle
import zipfile
from collections.abc import Callable, Iterable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.adapters.archives import Period
from collectors.files.archive import planning
from collectors.files.archive.facts import NOTHING, Allowed
from collectors.files.archive.getting import read_sum
from collectors.files.archive.planning import There
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile, series_of
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from lake.errors import WrongQuestion
from lake.typed import Origin, typed
from market.times import DAY, HOUR, Interval
from tests.support.archive_host import MS, csv, day_us, trades, zipped

DATE = "2026-05-08"
START = day_us(DATE)
TRADES = ArchiveFile(DATE, series_of("binance", "spot", "trade", "BTCUSDT", None))
KLINES = ArchiveFile(DATE, series_of("binance", "spot", "kline", "BTCUSDT", "1h"))
SMALL = Caps(packed=1 << 20, unpacked=8 << 20, ratio=200, small=1 << 20)


def read(file: ArchiveFile, data: bytes, allowed: Allowed = NOTHING) -> tuple[pl.DataFrame, Reading]:
    """The rows of a zip's bytes."""
    reading = Reading(file, allowed)
    return pl.concat(reading.batches(blocks(io.BytesIO(data), file, SMALL))), reading


def of(file: ArchiveFile, lines: list[str]) -> bytes:
    return zipped({file.member: csv(lines)})


def test_names_and_places_are_the_archives_own():
    funding = ArchiveFile("2026-04", series_of("binance", "linear", "funding_rate", "BTCUSDT", None))
    assert TRADES.path == "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2026-05-08.zip"
    assert KLINES.path == "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip"
    assert funding.path == "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-04.zip"
    assert TRADES.member == "BTCUSDT-trades-2026-05-08.csv"
    assert TRADES.span == Interval(START, START + DAY)
    assert funding.span == Interval(day_us("2026-04-01"), day_us("2026-05-01"))
    december = ArchiveFile("2025-12", KLINES.series)
    assert december.span.end == day_us("2026-01-01")


@pytest.mark.parametrize(
    "asked,said",
    [
        (("option", "trade", "BTCUSDT", None), "no market option"),
        (("spot", "funding_rate", "BTCUSDT", None), "binance spot has no funding_rate"),
        (("linear", "liquidation", "BTCUSDT", None), "binance linear has no liquidation"),
        (("spot", "trade", "../../etc", None), "no symbol of binance"),
        (("spot", "trade", "BTCUSDT", "1m"), "--interval is of candles"),
        (("spot", "kline", "BTCUSDT", None), "--interval is missing"),
        (("linear", "kline", "BTCUSDT", "1s"), "--interval 1s is none of binance linear"),
    ],
)
def test_what_the_archive_does_not_have_is_refused_with_what_it_has(asked, said):
    with pytest.raises(WrongQuestion, match=said):
        series_of("binance", *asked)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def test_a_whole_month_is_one_file_and_edges_are_days():
    days = {f"2026-{month:02d}-{n:02d}" for month, last in ((3, 31), (4, 30), (5, 31)) for n in range(1, last + 1)}
    published = {"daily": days - {"2026-05-02"}, "monthly": {"2026-03", "2026-04"}}
    plan = planning.plan(TRADES.series, day("2026-03-30"), day("2026-05-03"), There(published))
    assert [file.date for file in plan.files] == ["2026-03-30", "2026-03-31", "2026-04", "2026-05-01", "2026-05-03"]
    assert plan.missing == ("2026-05-02",)


def test_a_month_serves_where_days_of_it_are_not_published():
    there = There({"daily": {"2026-04-11"}, "monthly": {"2026-04"}})
    plan = planning.plan(TRADES.series, day("2026-04-10"), day("2026-04-12"), there)
    assert [file.date for file in plan.files] == ["2026-04"]
    assert plan.missing == ()


@pytest.mark.parametrize(
    "proven,bare,files,unproven,missing",
    [
        ({"daily": {"10"}}, {"daily": {"11"}}, ["10"], {"11": "11"}, ["12"]),
        ({"daily": {"10", "11", "12"}}, {"monthly": {""}}, ["10", "11", "12"], {}, []),
        ({"daily": {"10"}}, {"monthly": {""}}, ["10"], {"11": "", "12": ""}, []),
        ({"daily": {"10"}}, {"daily": {"12"}, "monthly": {""}}, ["10"], {"11": "", "12": "12"}, []),
        ({"monthly": {""}}, {"daily": {"10", "11", "12"}}, [""], {}, []),
        ({}, {"monthly": {""}, "daily": {"13"}}, [], dict.fromkeys(("10", "11", "12"), ""), []),
    ],
)
def test_a_file_without_its_checksum_stands_for_days_that_no_other_brings(
    proven: dict[Period, set[str]], bare: dict[Period, set[str]], files: list[str], unproven: dict[str, str],
    missing: list[str],
) -> None:  # fmt: skip
    def dated(days: Iterable[str]) -> list[str]:
        return [f"2026-04-{one}".rstrip("-") for one in days]

    there = There(
        {period: dated(days) for period, days in proven.items()}, {period: dated(days) for period, days in bare.items()}
    )
    plan = planning.plan(TRADES.series, day("2026-04-10"), day("2026-04-12"), there)
    assert [file.date for file in plan.files] == dated(files)
    assert [*plan.missing] == dated(missing)
    assert list(plan.bare) == dated(unproven)
    assert [file.date for file in plan.bare.values()] == dated(unproven.values())


@given(
    st.integers(0, 60), st.integers(0, 60), st.sets(st.integers(0, 130)),
    st.sets(st.sampled_from(["2026-01", "2026-02", "2026-03", "2026-04"])),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_every_date_is_in_one_file_or_named_as_missing(begin: int, length: int, days: set[int], months: set[str]):
    base = day("2026-01-01")
    first, last = (base + dt.timedelta(days=place) for place in (begin, begin + length))
    published = {"daily": {(base + dt.timedelta(days=place)).isoformat() for place in days}, "monthly": months}
    plan = planning.plan(TRADES.series, first, last, There(published))
    assert [file.span.start for file in plan.files] == sorted(file.span.start for file in plan.files)
    for place in range(length + 1):
        at = day_us((first + dt.timedelta(days=place)).isoformat())
        holding = [file for file in plan.files if file.span.start <= at < file.span.end]
        assert len(holding) + plan.missing.count((first + dt.timedelta(days=place)).isoformat()) == 1
    assert all(file.date in published[file.period] for file in plan.files)


def test_a_span_ends_yesterday_and_begins_before_it_ends():
    today = day("2026-05-10")
    assert planning.span(TRADES.series, "2026-05-08", "2026-06-08", today) == (
        day("2026-05-08"),
        day("2026-05-09"),
    )
    for first, last in (("2026-05-08", "2026-05-07"), ("2026-05-10", "2026-05-11"), ("2001-01-01", "2001-01-02")):
        with pytest.raises(WrongQuestion):
            planning.span(TRADES.series, first, last, today)


def test_a_list_names_whole_files_only_and_says_where_it_goes_on():
    page = (
        b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true'
        b"</IsTruncated><NextMarker>data/z</NextMarker><Contents><Key>data/a</Key></Contents></ListBucketResult>"
    )
    assert planning.read_listing(page) == (["data/a"], "data/z")
    folder = TRADES.series.folder("daily")
    names = ["BTCUSDT-trades-2026-05-08.zip", "BTCUSDT-trades-2026-05-08.zip.CHECKSUM", "BTCUSDT-trades-2026-05-09.zip",
             "BTCUSDT-trades-2026-13-01.zip", "BTCUSDT-trades-2026-13-01.zip.CHECKSUM", "BTCUSDT-trades-2026-05.zip",
             "BTCUSDT-trades-2026-05.zip.CHECKSUM"]  # fmt: skip
    assert TRADES.series.dates([f"{folder}/{name}" for name in names], "daily") == {"2026-05-08"}
    assert TRADES.series.bare([f"{folder}/{name}" for name in names], "daily") == {"2026-05-09"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<a/>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><a>&a;</a>',
        b"\xff\x00",
        '<!DOCTYPE x [<!ENTITY a "b">]><a>&a;</a>'.encode("utf-16"),
    ],
)
def test_a_list_that_is_none_is_refused(body):
    with pytest.raises(ValueError, match="it "):
        planning.read_listing(body)


def test_trades_keep_their_digits_and_say_what_they_prove():
    rows, reading = read(TRADES, of(TRADES, trades(DATE, 100, 50)))
    assert rows.height == 50
    assert rows["seq"].to_list() == list(range(100, 150))
    assert rows["frame_no"].to_list() == list(range(1, 51))
    assert rows["price"].dtype == pl.Float64, "eight decimals, and digits that a float holds: no text is needed"
    assert rows["ts_event"][0] == START + 629_785
    assert set(rows["side"]) == {"buy", "sell"}
    first, *_, maker, _best = trades(DATE, 100, 1)[0].split(",")
    assert (first, rows["side"][0]) == ("100", "sell" if maker == "True" else "buy")
    assert reading.facts.unit == "us"
    assert (reading.facts.first_id, reading.facts.last_id) == (100, 149)
    assert reading.coverage == [Interval(START + 629_785, rows["ts_event"][-1] + 1)]


def test_ids_go_on_over_blocks(monkeypatch):
    monkeypatch.setattr("collectors.files.archive.zips.BLOCK", 256)
    rows, reading = read(TRADES, of(TRADES, trades(DATE, 1, 40)))
    assert rows["frame_no"].to_list() == list(range(1, 41))
    assert reading.facts.rows == reading.facts.lines == 40


def test_a_header_is_no_row_but_counts_as_a_line():
    header = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
    rows, reading = read(TRADES, of(TRADES, [header, *trades(DATE, 1, 3)]))
    assert rows["frame_no"].to_list() == [2, 3, 4]
    assert reading.facts.header


def lines(change: Callable[[list[str]], object]) -> Callable[[], bytes]:
    """A sound file with one thing wrong in its lines."""

    def made() -> bytes:
        held = trades(DATE, 100, 20)
        change(held)
        return of(TRADES, held)

    return made


def cell(line: int, column: int, value: str) -> Callable[[], bytes]:
    def change(held: list[str]) -> None:
        cells = held[line].split(",")
        cells[column] = value
        held[line] = ",".join(cells)

    return lines(change)


def bomb() -> bytes:
    return zipped({TRADES.member: b"0" * (4 << 20)})


def lying() -> bytes:
    """Its sizes say less than it holds."""
    data = bytearray(of(TRADES, trades(DATE, 100, 200)))
    place = data.rfind(b"PK\x01\x02")
    size = int.from_bytes(data[place + 24 : place + 28], "little") - 40
    data[place + 24 : place + 28] = size.to_bytes(4, "little")
    return bytes(data)


def flipped() -> bytes:
    data = bytearray(of(TRADES, trades(DATE, 100, 200)))
    data[len(data) // 2] ^= 0x40
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(of(TRADES, trades(DATE, 100, 5)))
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no zip": (lambda: b"<html>not found</html>" * 3, "zip", "does not end as a zip"),
    "empty": (lambda: b"", "zip", "does not end as a zip"),
    "truncated": (lambda: of(TRADES, trades(DATE, 100, 200))[:-400], "zip", "does not end as a zip"),
    "flipped byte": (flipped, "zip", "cannot be unpacked"),
    "two members": (lambda: zipped({TRADES.member: b"", "b.csv": b""}), "zip", "holds 2 files"),
    "outside": (lambda: zipped({"../" + TRADES.member: csv(trades(DATE, 1, 2))}), "zip", "is expected"),
    "other name": (lambda: zipped({"BTCUSDT-trades-2026-05-09.csv": b"1"}), "zip", "is expected"),
    "bomb": (bomb, "size", "a bomb"),
    "too large": (lambda: zipped({TRADES.member: b"0" * (9 << 20)}, zipfile.ZIP_STORED), "size", "are taken"),
    "packed otherwise": (lambda: zipped({TRADES.member: b"1" * 50}, zipfile.ZIP_BZIP2), "zip", "by method 12"),
    "encrypted": (encrypted, "zip", "is encrypted"),
    "lying about its size": (lying, "zip", "cannot be unpacked"),
    "no lines": (lambda: zipped({TRADES.member: b""}), "columns", "it is empty"),
    "cut line": (lambda: zipped({TRADES.member: csv(trades(DATE, 100, 9))[:-9]}), "columns", "cut short"),
    "a column more": (lines(lambda held: held.insert(4, held[4] + ",1")), "columns", "line 5: Expected 7 columns"),
    "blank line": (lines(lambda held: held.insert(3, "")), "value", "line 4"),
    "no text": (lambda: zipped({TRADES.member: b"1,\xff,1,1,1,True,True\n"}), "columns", "UTF8"),
    "header changed": (lines(lambda held: held.insert(0, "id,price,size,quote_qty,time,is_buyer_maker,is_best_match")),
                       "header", "is known"),
    "ms for us": (lambda: of(TRADES, trades(DATE, 100, 9, unit=MS)), "unit", "its times are in ms"),
    "unit changes": (cell(7, 4, str(START // MS + 9)), "unit", "line 8: time is no time in us"),
    "seconds": (cell(0, 4, str(START // 1_000_000)), "unit", "its times are in s; those of spot 2026-05-08 are in us"),
    "another day": (lambda: of(TRADES, trades("2026-05-09", 100, 9)), "period", "2026-05-09T00:00:00.629785Z"),
    "one row of another day": (cell(19, 4, str(START + DAY)), "period", "line 20"),
    "ids missing": (lines(lambda held: held.pop(5)), "ids", r"line 6: ids \[105, 106\) are missing"),
    "ids twice": (lines(lambda held: held.insert(5, held[5])), "order", "line 7"),
    "ids going back": (lines(lambda held: held.reverse()), "order", "line 2"),
    "no id": (cell(3, 0, "1_000"), "value", "line 4: id is no integer: '1_000'"),
    "an id of 20 digits": (cell(3, 0, "9" * 20), "value", "no integer"),
    "no truth": (cell(2, 5, "1"), "value", "line 3: is_buyer_maker is neither true nor false"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_what_it_says_is_refused_by_name_and_rule(name):
    made, rule, said = HOSTILE[name]
    with pytest.raises(Refused, match=said) as caught:
        read(TRADES, made())
    assert caught.value.rule == rule
    assert caught.value.name == TRADES.name
    assert caught.value.fix
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_holes_and_units_are_taken_where_asked():
    held = trades(DATE, 100, 20)
    del held[5:8]
    rows, reading = read(TRADES, of(TRADES, held), Allowed(holes=True))
    (hole,) = reading.facts.holes
    assert (hole.id_from, hole.id_to) == (105, 108)
    assert reading.coverage == [
        Interval(rows["ts_event"][0], rows["ts_event"][4] + 1), Interval(rows["ts_event"][5], rows["ts_event"][-1] + 1),
    ]  # fmt: skip
    rows, reading = read(TRADES, of(TRADES, trades(DATE, 1, 5, unit=MS)), Allowed(any_unit=True))
    assert (reading.facts.unit, rows["ts_event"][0]) == ("ms", START + 629_000)


def test_a_checksum_is_of_its_file():
    good = b"a" * 64
    assert read_sum(TRADES, good + b"  BTCUSDT-trades-2026-05-08.zip\n") == "a" * 64
    for body in (b"", b"<html>", good, good + b"  other.zip\n", b"zz  BTCUSDT-trades-2026-05-08.zip"):
        with pytest.raises(Refused, match="checksum"):
            read_sum(TRADES, body)


def candle(hour: int, *, close: int | None = None) -> str:
    opened = START + hour * HOUR
    return f"{opened},1.5,2,1,1.5,3,{close or opened + HOUR - 1},4.5,7,1,1.5,0"


def test_candles_cover_what_they_are_of_and_no_more():
    rows, reading = read(KLINES, of(KLINES, [candle(hour) for hour in (0, 1, 2, 5)]))
    assert reading.coverage == [Interval(START, START + 3 * HOUR), Interval(START + 5 * HOUR, START + 6 * HOUR)]
    assert rows["ts_event"][0] == START + HOUR - 1000
    for bad, rule in (
        ([candle(0, close=START + HOUR)], "value"),
        ([candle(0).replace(str(START), str(START + 60_000_000))], "value"),
        ([candle(1), candle(0)], "order"),
        ([candle(0), candle(0)], "order"),
        ([candle(25)], "period"),
    ):
        with pytest.raises(Refused) as caught:
            read(KLINES, of(KLINES, bad))
        assert caught.value.rule == rule


def test_inverse_candles_count_base_and_quote_exactly():
    file = ArchiveFile(DATE, series_of("binance", "inverse", "kline", "BTCUSD_PERP", "1h"))
    line = f"{START // MS},100.1,102,99,101,300,{(START + HOUR) // MS - 1},2.97512345,70,120,1.19,0"
    rows, _ = read(file, of(file, [line]), Allowed(contract_size="100"))
    assert rows.select("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote").row(0) == (
        "2.97512345", "30000", "1.19", "12000",
    )  # fmt: skip
    rows, _ = read(file, of(file, [line]))
    assert rows["volume_quote"][0] is None
    origin = Origin("binance", "inverse", "kline", "archive", "n-1-1", START + 2 * DAY)
    for contracts, worth in (("9" * 30, "9" * 30 + "00"), ("9" * 27 + "." + "9" * 29, "9" * 29 + "." + "9" * 27)):
        rows, _ = read(file, of(file, [line.replace(",300,", f",{contracts},")]), Allowed(contract_size="100"))
        assert rows.select("volume_quote", "taker_buy_quote").row(0) == (worth, "12000")
        made = typed(origin, rows)
        stored, refused = made.table["volume_quote_text"].to_pylist(), made.bad["#bad"].to_list()
        assert (stored or refused) == ([worth] if "." in worth else [f"volume_quote: no plain decimal: {worth}"])


def test_futures_trades_may_have_a_header_and_inverse_ones_their_size():
    file = ArchiveFile(DATE, series_of("binance", "inverse", "trade", "BTCUSD_PERP", None))
    head = "id,price,qty,base_qty,time,is_buyer_maker"
    rows, reading = read(
        file, of(file, [head, f"7,100.5,3,2.985,{START // MS + 5},true"]), Allowed(contract_size="100")
    )
    assert rows.select("seq", "qty", "qty_unit", "multiplier", "side").row(0) == (7, 3.0, "contract", "100", "sell")
    assert (reading.facts.header, reading.facts.unit) == (True, "ms")


def test_open_interest_may_end_with_the_next_days_first():
    file = ArchiveFile(DATE, series_of("binance", "linear", "open_interest", "BTCUSDT", None))
    head = file.series.dataset.header["linear"]
    body = "BTCUSDT,105550.985,6858675634.70625,1.2,1.4,1.1,1.5"
    rows, reading = read(file, of(file, [head, f"2026-05-08 00:05:00,{body}", f"2026-05-09 00:00:00,{body}"]))
    assert rows.select("oi", "oi_unit", "oi_quote", "sides", "period").row(0) == (
        "105550.985", "base", "6858675634.70625", 1, "5m",
    )  # fmt: skip
    assert len(reading.coverage) == 2
    for wrong in ("2026-05-09 00:05:00," + body, "2026-05-08 00:05:00," + body.replace("BTC", "ETH"), "now," + body):
        with pytest.raises(Refused):
            read(file, of(file, [head, wrong]))
    with pytest.raises(Refused, match="it has no header"):
        read(file, of(file, [f"2026-05-08 00:05:00,{body}"]))


def test_open_interest_of_inverse_counts_contracts_and_says_their_worth_in_base():
    file = ArchiveFile(DATE, series_of("binance", "inverse", "open_interest", "BTCUSD_PERP", None))
    head = file.series.dataset.header["inverse"]
    rows, _ = read(file, of(file, [head, "2026-05-08 00:05:00,BTCUSD_PERP,20403,176.25,1.2,1.4,1.1,1.5"]))
    assert rows.select("oi", "oi_unit", "oi_base", "sides", "period").row(0) == ("20403", "contract", "176.25", 1, "5m")
    assert "oi_quote" not in rows.columns or rows["oi_quote"].to_list() == [None]


def test_quotes_have_both_clocks_and_forced_orders_are_counted_once():
    quotes = ArchiveFile("2023-06-15", series_of("binance", "linear", "quote", "BTCUSDT", None))
    start = day_us("2023-06-15") // MS
    head = quotes.series.dataset.header["linear"]
    rows, _ = read(
        quotes,
        of(quotes, [head, f"9,1.10,2,1.2,3,{start + 9},{start + 15}", f"12,1,2,1.2,3,{start + 20},{start + 21}"]),
    )
    assert (rows["ts_publish"] - rows["ts_event"]).to_list() == [6000, 1000]
    assert rows["bid"][0] == 1.1
    forced = ArchiveFile("2023-06-25", series_of("binance", "inverse", "liquidation", "BTCUSD_PERP", None))
    at = day_us("2023-06-25") // MS + 471
    line = f"{at},BUY,LIMIT,IOC,7,30741.3,30631.6,FILLED,6,7"
    head = forced.series.dataset.header["inverse"]
    rows, reading = read(
        forced, of(forced, [head, line, line, line.replace("BUY", "SELL")]), Allowed(contract_size="100")
    )
    assert rows["side"].to_list() == ["buy", "sell"]
    assert rows["frame_no"].to_list() == [2, 4]
    assert reading.facts.repeated == 1
