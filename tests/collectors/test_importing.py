"""Files of every format into a lake: the same rows, exactly once, and nothing of what was refused."""

import asyncio
import gzip
import json
import os
import struct
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from collectors.files import blocks
from collectors.files.blocks import NoFile
from collectors.files.importing import Request, request_of, take_in
from collectors.files.preview import preview
from collectors.files.reading import Options, Refused
from compactor.bitrot import set_right
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.taking_in import control_job
from lake.errors import WrongQuestion
from lake.reader import Lake
from lake.scrub import Target
from lake.writer import LakeWriter
from market.session import Coverage
from market.times import SECOND, parse, text
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock

NOW = parse("2026-11-20T12:00:00Z")
T0 = 1_570_752_000
HEADER = "time,price,qty,side,id"
ROWS = [(T0 + n, f"0.1234567890123456{n + 101}", "1.50", "buy" if n % 2 else "SELL", 100 + n) for n in range(50)]
LINES = [",".join(map(str, row)) for row in ROWS]


def quiet(*_):
    pass


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as made:
        yield made


def options(**changed):
    return Options(**({"exchange": "binance", "market_type": "spot", "symbol": "BTCUSDT"} | changed))


def take(writer, path, now=NOW, again=False, **changed):
    request = request_of(path, options(**changed), again=again)
    return take_in(writer, InlineExecutor(), "node", now, request, quiet)


def csv_file(tmp_path, lines=LINES, name="a.csv"):
    path = tmp_path / name
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def rows(writer, kind="trade"):
    return Lake(writer.root).read(kind).to_pylist()


def told(writer):
    return [
        (row["seq"], row["price_text"], row["qty"], row["side"], text(int(row["ts_event"].timestamp() * 1e6)))
        for row in rows(writer)
    ]


WANTED = [(row[4], row[1], 1.5, row[3].lower(), text(row[0] * 1_000_000)) for row in ROWS]


def test_every_format_gives_the_same_rows(writer, tmp_path):
    plain = csv_file(tmp_path)
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(b"\n" + plain.read_bytes()))
    zipped = tmp_path / "c.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("__MACOSX/._d.tsv", "x")
        archive.writestr("d.tsv", plain.read_text().replace(",", "\t"))
    names = HEADER.split(",")
    objects = tmp_path / "e.jsonl"
    objects.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
    array = tmp_path / "f.json.gz"
    array.write_bytes(gzip.compress(json.dumps([dict(zip(names, row, strict=True)) for row in ROWS]).encode()))
    other = tmp_path / "g.csv"
    other.write_bytes(plain.read_text().encode("utf-16"))
    table = tmp_path / "h.parquet"
    columns = {name: pa.array([row[place] for row in ROWS]) for place, name in enumerate(names)}
    columns["time"] = pa.array([row[0] * 1000 for row in ROWS], pa.timestamp("ms", tz="Europe/Berlin"))
    pq.write_table(pa.table(columns), table, row_group_size=20)
    batches = tmp_path / "i.feather"
    feather.write_feather(pa.table(columns), batches, chunksize=20)
    for number, path in enumerate((plain, packed, zipped, objects, array, other, table, batches)):
        root = tmp_path / f"lake{number}"
        with LakeWriter.open(root, "node", NOW) as held:
            made = take(held, path)
            assert (made.rows, made.quarantined) == (50, 0), path.name
            assert told(held) == WANTED, path.name


def test_rows_name_their_lines_whatever_the_blocks(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "HEAD", 200)
    monkeypatch.setattr(blocks, "BLOCK", 300)
    path = csv_file(tmp_path, ["", *LINES[:20], "", *LINES[20:], "broken,NaN,1,buy,999"])
    made = take(writer, path)
    assert (made.rows, made.quarantined, made.files > 3) == (50, 1, True)
    assert told(writer) == WANTED
    assert [row["frame_no"] for row in rows(writer)] == [*range(3, 23), *range(24, 54)]
    [aside] = writer.manifest.quarantine()
    assert aside.reason == "line 54: ts_event: no time of the form s: broken"
    assert "broken,NaN,1,buy,999" in (writer.root / aside.path).read_text()


def test_an_array_is_cut_between_its_elements(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "HEAD", 300)
    monkeypatch.setattr(blocks, "BLOCK", 200)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([[*row] for row in ROWS]))
    columns = {"1": "time", "2": "price", "3": "qty", "4": "side", "5": "id"}
    assert take(writer, path, columns=columns, kind="trade").rows == 50
    assert told(writer) == WANTED
    assert [row["frame_no"] for row in rows(writer)] == list(range(1, 51))


def test_the_same_file_twice_changes_nothing_and_read_otherwise_is_refused(writer, tmp_path):
    path = csv_file(tmp_path)
    first = take(writer, path)
    version = writer.manifest.version
    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    again = take(writer, copy, now=NOW + 5)
    assert (again.already, again.session, again.rows) == (True, first.session, 50)
    assert writer.manifest.version == version
    with pytest.raises(Refused, match=r"was imported at 2026-11-20T12:00:00Z as trade, read otherwise.*--again"):
        take(writer, path, symbol="ETHUSDT")
    assert take(writer, path, symbol="ETHUSDT", again=True).rows == 50


@pytest.mark.parametrize("exchange", ["binance", "x"])  # with ids that follow each other, and without
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_whose_rows_the_disk_lost_can_be_taken_in_again(writer, tmp_path, exchange, beside):
    """It was called imported already. Its gap is closed where nobody else had covered its time."""
    lines = LINES if exchange == "binance" else [line.rpartition(",")[0] for line in LINES]
    path, market = csv_file(tmp_path, lines), {"exchange": exchange}
    path.write_text("\n".join([HEADER if exchange == "binance" else HEADER.removesuffix(",id"), *lines]) + "\n")
    first = take(writer, path, **market)
    compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), retention=False)
    before = told(writer)
    if beside:
        live = Coverage(exchange, "spot", "trade", "BTCUSDT", "n-1-1", T0 * SECOND, (T0 + 5) * SECOND)
        writer.record(coverage=[live], now=NOW)
    (row,) = writer.manifest.files("trade")
    for name in (row.path, row.path.replace("versions/", "tables/", 1)):
        (writer.root / name).unlink()
    assert set_right(writer, Target(row.path, row.bytes, row.sha256, NOW), "missing", NOW + 1) == "lost"
    assert rows_or_none(writer) == []
    again = take(writer, path, now=NOW + 2, **market)
    assert (again.already, again.rows, again.session != first.session) == (False, 50, True)
    assert told(writer) == before
    (gap,) = writer.manifest.gaps()
    assert (gap.state, gap.source) == (("open", None) if beside else ("repaired", "import"))
    compact_once(writer, InlineExecutor(), NOW + 3, CompactorConfig(), retention=False)
    assert told(writer) == before
    assert take(writer, path, now=NOW + 4, **market).already


def rows_or_none(writer):
    try:
        return rows(writer)
    except WrongQuestion:
        return []


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.csv", "\n".join([HEADER, *LINES, "1,2,3,4,5,6"]), "line 52 has 6 columns, the file has 5"),
        ("a.csv", "\n".join([HEADER, *LINES]).encode() + b"\n1,\xff,2,3,4", "is not UTF-8"),
        ("a.csv.gz", gzip.compress("\n".join([HEADER, *LINES]).encode())[:-9], "a.csv is damaged"),
        ("a.json", json.dumps([[*row] for row in ROWS])[:-1], "cut|JSON"),
    ],
)
def test_what_is_damaged_further_down_leaves_nothing(writer, tmp_path, monkeypatch, name, content, sentence):
    monkeypatch.setattr(blocks, "HEAD", 150)
    monkeypatch.setattr(blocks, "BLOCK", 200)
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    columns = {"1": "time", "2": "price", "3": "qty"} if name.endswith("json") else {}
    with pytest.raises(Refused, match=sentence):
        take(writer, path, columns=columns, kind="trade")
    assert not [one for one in (writer.root / "hot").rglob("*") if one.is_file()]
    for session in writer.manifest.sessions():
        assert session.close_cause.startswith("refused_file: "), session


def test_a_parquet_file_with_a_damaged_name_of_a_column_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"time": [1], "value": ["1"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"\x18\x05value", b"\x18\x05\xf6alue", 1))
    with pytest.raises(Refused, match="is no Parquet that can be read"):
        request_of(path, options())


def test_a_feather_file_whose_texts_would_be_read_beyond_their_end_is_refused(tmp_path):
    """Arrow itself checks no offset: one flipped bit of ten ended the process that looked at the file."""
    path = tmp_path / "a.feather"
    feather.write_feather(pa.table({"time": ["1", "2", "3"]}), path, compression="uncompressed")
    offsets = struct.pack("<4i", 0, 1, 2, 3)
    whole = path.read_bytes()
    assert whole.count(offsets) == 1
    path.write_bytes(whole.replace(offsets, struct.pack("<4i", 0, 1, 2, 200)))
    with pytest.raises(Refused, match="is no Feather that can be read"):
        request_of(path, options())


@pytest.mark.parametrize("kind", [pa.timestamp("us", "No/Where"), pa.date32()])
def test_times_that_no_calendar_has_are_refused_by_the_name_of_their_column(tmp_path, kind):
    """Polars panics at some of them, which is no Exception."""
    path = tmp_path / "a.feather"
    numbers = pa.array([1, 2**62], pa.int64()) if kind.bit_width == 64 else pa.array([1, 2**31 - 1], pa.int32())
    feather.write_feather(pa.table({"time": numbers.view(kind), "price": ["1", "2"]}), path)
    with pytest.raises(Refused, match="the values of column time cannot be written as text"):
        request_of(path, options())


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_FREE", 1000)
    monkeypatch.setattr(blocks, "_RATIO", 100)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "\n" + LINES[0] + "\n").encode() + (LINES[1] + "\n").encode() * 200_000))
    with pytest.raises(Refused, match="unpacks to more than 100 times"):
        preview(request_of(path, options()), quiet)


def test_a_zip_of_several_asks_which(writer, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/a.csv", HEADER + "\n" + LINES[0])
        archive.writestr("b.csv", HEADER + "\n" + LINES[1])
    with pytest.raises(Refused, match=r"2 files .say --member, one of x/a.csv, b.csv"):
        take(writer, path)
    assert take(writer, path, member="b.csv").rows == 1
    with pytest.raises(Refused, match=r"holds no c\.csv"):
        take(writer, path, member="c.csv")


def test_a_file_that_is_not_there_or_changes_meanwhile(writer, tmp_path):
    with pytest.raises(NoFile, match="cannot be read: No such file"):
        request_of(tmp_path / "none.csv", options())
    path = csv_file(tmp_path)
    request = request_of(path, options())

    def grow(_done, _total, what):
        if "rows" in what:
            with path.open("a") as file:
                file.write(LINES[0] + "\n")
                os.fsync(file.fileno())

    with pytest.raises(Refused, match="changed while it was read"):
        take_in(writer, InlineExecutor(), "node", NOW, request, grow)
    assert not rows(writer)


def test_candles_close_when_their_calendar_says(writer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Date,Open,High,Low,Close\n2024-03-29,1,2,1,2\n2024-03-30,1,2,1,2\n2024-03-31,1,2,3,2\n")
    made = take(writer, path, market_type="equity", exchange="xetra", timezone="Europe/Berlin", symbol="SAP")
    found = [(text(int(row["open_time"].timestamp() * 1e6)), text(int(row["ts_event"].timestamp() * 1e6)))
             for row in rows(writer, "kline")]  # fmt: skip
    assert found[0] == ("2024-03-28T23:00:00Z", "2024-03-29T22:59:59.999Z")
    assert found[2] == ("2024-03-30T23:00:00Z", "2024-03-31T21:59:59.999Z"), "a day of 23 hours"
    assert made.rows == 3
    assert [(one.check, one.count) for one in writer.manifest.checks()] == [("ohlc_sane", 1)], "kept, and counted"
    [coverage] = writer.manifest.coverage()
    assert (text(coverage.ts_from), text(coverage.ts_to)) == ("2024-03-28T23:00:00Z", "2024-03-31T22:00:00Z")
    assert not writer.manifest.gaps()


def test_double_times_and_missing_prices_follow_the_rules_of_the_kind(writer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        f"time,open,high,low,close,volume\n{T0},1,2,1,2,5\n{T0},1,2,1,1,5\n{T0 + 60},NaN,NaN,NaN,NaN,0\n"
        f"{T0 + 120},,,,,0\n{T0 + 180},1,2,1,2\n"
    )
    made = take(writer, path, interval="1m")
    assert (made.rows, made.duplicates, made.quarantined) == (1, 1, 3)
    assert [row["close"] for row in rows(writer, "kline")] == [2.0], "the first of the file stays"
    reasons = (writer.root / writer.manifest.quarantine()[0].path).read_text()
    assert "no plain decimal: NaN" in reasons
    assert "open: missing" in reasons
    assert "fewer columns" in reasons


def test_quotes_without_sizes_have_none(writer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("EUR/USD,20130101 22:00:00.295,1.1,1.2\nEUR/USD,20130101 22:00:00.400,1.3,1.2\n")
    take(writer, path, symbol=None, exchange="truefx", market_type="fx")
    found = rows(writer, "quote")
    assert [(row["bid"], row["bid_qty"], row["symbol"]) for row in found] == [
        (1.1, None, "EUR/USD"),
        (1.3, None, "EUR/USD"),
    ]
    assert [(one.check, one.count) for one in writer.manifest.checks()] == [("not_crossed", 1)]


def test_marks_are_the_rows_that_tell_one(writer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
        "last_price,index_price,mark_price\n"
        "bf,BTCUSDT,1570752000000000,1,1570752060000000,-0.0001,,5,1,2,3\n"
        "bf,BTCUSDT,1570752001000000,1,,,,5,1,,\n"
    )
    made = take(writer, path, symbol=None, market_type="linear")
    [row] = rows(writer, "mark_price")
    assert (made.rows, made.quarantined) == (1, 0)
    assert (row["mark"], row["index"], row["predicted_rate"]) == (3.0, 2.0, -0.0001)
    assert row["next_funding"].timestamp() == 1570752060


def test_liquidations_and_trades_of_one_look_are_told_apart_by_kind(writer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "bf,BTCUSDT,1570752000000000,1,,sell,5,1\nbf,BTCUSDT,1570752000000000,1,7,unknown,5,1\n"
    )
    made = take(writer, path, symbol=None, market_type="linear", kind="liquidation")
    assert (made.rows, made.quarantined) == (1, 1), "a forced order has a side"
    made = take(writer, path, symbol=None, market_type="linear", kind="trade")
    assert [(row["side"], row["seq"]) for row in rows(writer)] == [("sell", None), (None, 7)]


def test_the_preview_shows_the_ends_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "HEAD", 200)
    monkeypatch.setattr(blocks, "BLOCK", 300)
    seen = preview(request_of(csv_file(tmp_path), options()), quiet)
    assert (text(seen.ts_first), text(seen.ts_last)) == (text(T0 * 1_000_000), text((T0 + 49) * 1_000_000))
    assert seen.columns == {"time": "ts_event", "price": "price", "qty": "qty", "side": "side", "id": "seq"}
    assert seen.times == {"ts_event": "s since 1970 UTC"}
    assert (seen.rows[0]["frame_no"], seen.rows[0]["price"], len(seen.rows)) == (2, "0.1234567890123456101", 3)


async def test_the_control_port_takes_files_in_one_after_the_other(writer, tmp_path):
    job = control_job(writer, InlineExecutor(), "node", ManualClock(NOW))
    path = csv_file(tmp_path)
    import msgspec

    asked = msgspec.to_builtins(request_of(path, options()))
    told = []
    first, second = await asyncio.gather(job(asked, lambda *said: told.append(said)), job(asked, quiet))
    assert (first["rows"], first["already"], second["already"]) == (50, False, True)
    assert told[-1][:2] == (path.stat().st_size, path.stat().st_size)
    with pytest.raises(WrongQuestion, match="no request"):
        await job({"path": "x"}, quiet)
    assert msgspec.convert(asked, Request) == request_of(path, options())


@pytest.mark.parametrize(
    "lost, wanted, covered",
    [
        (("2024-03-30", "2024-03-31"), [], [("2024-03-25T04:00:00Z", "2024-04-06T04:00:00Z")]),
        (("2024-03-29",), [], [("2024-03-25T04:00:00Z", "2024-04-06T04:00:00Z")]),
        (("2024-04-02",), ["2024-04-02"], [("2024-03-25T04:00:00Z", "2024-04-02T04:00:00Z"),
                                           ("2024-04-03T04:00:00Z", "2024-04-06T04:00:00Z")]),
    ],
)  # fmt: skip
def test_a_weekend_and_a_holiday_are_no_hole_and_a_missing_day_is_not_covered(writer, tmp_path, lost, wanted, covered):
    days = [f"2024-03-{day}" for day in range(25, 30)] + [f"2024-04-0{day}" for day in range(1, 6)]
    rows = [f"{day},1,2,1,2" for day in days if day not in lost and day != "2024-03-29"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["Date,Open,High,Low,Close", *rows]) + "\n")
    made = take(writer, path, market_type="equity", exchange="x", timezone="America/New_York", symbol="IBM")
    assert [day for one in made.missing for day in one.days] == wanted
    assert [(text(row.ts_from), text(row.ts_to)) for row in writer.manifest.coverage()] == covered
    assert not writer.manifest.gaps()
