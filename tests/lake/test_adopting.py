"""Files that are taken in: their rows, their session, twice the same, and nothing half."""

import polars as pl
import pytest

from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import adopting
from lake.errors import VerifyFailed
from lake.manifest import Manifest
from lake.reader import Lake
from lake.rebuild import rebuild
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.session import Coverage
from market.times import DAY, HOUR, MINUTE, MS, Interval, parse
from runtime.workers import InlineExecutor

DAY0 = parse("2024-07-18")
NOW = parse("2026-11-20T12:00:00Z")
FILE = {"exchange": "binance", "market_type": "spot", "source": "import", "url": "/data/a.csv", "sha256": "ab" * 32}


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as made:
        yield made


def trades(*times, first=0, **columns):
    rows = {
        "symbol": ["BTCUSDT"] * len(times),
        "ts_event": list(times),
        "seq": list(range(100 + first, 100 + first + len(times))),
        "price": ["0.1234567890123456789"] * len(times),
        "qty": ["2.50"] * len(times),
        "side": ["buy"] * len(times),
        "frame_no": list(range(2 + first, 2 + first + len(times))),
    } | columns
    types = {name: pl.Int64 if name in ("ts_event", "seq", "frame_no") else pl.String for name in rows}
    return pl.DataFrame(rows, schema=types)


def take(writer, batches, kind="trade", now=NOW, **changed):
    source = adopting.begin(writer, "node", kind=kind, now=now, **(FILE | changed))
    if isinstance(source, adopting.Adopted):
        return source
    published = adopting.publish_rows(writer.root, source, batches, run="t", now=now)
    return adopting.finish(writer, source, published, now=now)


def test_rows_point_to_the_file_and_keep_every_digit(writer):
    made = take(writer, [trades(DAY0, DAY0 + 1)])
    assert (made.already, made.rows, made.files, made.symbols) == (False, 2, 1, ["BTCUSDT"])
    rows = Lake(writer.root).read("trade").to_pylist()
    assert [(row["seq"], row["frame_no"], row["item"]) for row in rows] == [(100, 2, 0), (101, 3, 0)]
    assert {row["price_text"] for row in rows} == {"0.1234567890123456789"}
    assert {row["qty_text"] for row in rows} == {None}
    assert {(row["source"], row["session"], row["condition"], row["qty_unit"]) for row in rows} == {
        ("import", f"node-{NOW}-0", "market", "base")
    }
    assert {row["ts_recv"].timestamp() * 1e6 for row in rows} == {NOW}
    [session] = writer.manifest.sessions()
    assert session.url == f"/data/a.csv#sha256={'ab' * 32}&kind=trade"
    assert (session.source, session.frames, session.events, session.close_cause) == ("import", 2, 2, adopting.DONE)
    [file] = writer.manifest.files("trade", parents=True)
    assert (file.level, file.date, file.parents) == ("part", "2024-07-18", ("/data/a.csv",))


def test_the_same_bytes_again_change_nothing_wherever_they_lie(writer):
    first = take(writer, [trades(DAY0)])
    version = writer.manifest.version
    again = take(writer, [trades(DAY0)], url="/elsewhere/b.csv", now=NOW + HOUR)
    assert (again.already, again.session, again.rows) == (True, first.session, 1)
    assert writer.manifest.version == version
    assert not take(writer, [trades(DAY0)], how="zone=UTC").already, "read otherwise it is another file"


def test_a_killed_import_is_taken_up_with_the_same_bytes(writer):
    source = adopting.begin(writer, "node", kind="trade", now=NOW, **FILE)
    published = adopting.publish_rows(writer.root, source, [trades(DAY0, DAY0 + 1)], run="t", now=NOW)
    writer.publish(add=published.files, now=NOW)  # killed here: the rows are there, the session has no end
    later = NOW + HOUR
    again = adopting.begin(writer, "node", kind="trade", now=later, **FILE)
    assert (again.session, again.recv) == (source.session, NOW)
    twice = adopting.publish_rows(writer.root, again, [trades(DAY0, DAY0 + 1)], run="u", now=later)
    assert [row.sha256 for row in twice.files] == [row.sha256 for row in published.files]
    adopting.finish(writer, again, twice, now=later)
    assert Lake(writer.root).read("trade").num_rows == 2
    assert len(writer.manifest.sessions()) == 1


def test_days_are_cut_at_midnight_and_the_open_day_by_the_hour(writer):
    today = NOW - NOW % DAY
    times = (DAY0 + DAY - 1, DAY0 + DAY, DAY0 + DAY + 5 * HOUR, today + HOUR, today + 2 * HOUR)
    take(writer, [trades(*times)])
    files = writer.manifest.files("trade")
    assert sorted((file.date, file.hour, file.rows) for file in files) == [
        ("2024-07-18", 23, 1),
        ("2024-07-19", 0, 2),
        ("2026-11-20", 1, 1),
        ("2026-11-20", 2, 1),
    ]


def test_refused_rows_are_counted_with_their_lines_and_the_others_go_on(writer):
    batch = trades(*range(DAY0, DAY0 + 6), price=["1", "NaN", "1e5", "-1", None, "2"])
    batch = batch.with_columns(
        pl.Series("#bad", [None, None, None, None, None, "the time is none"]),
        pl.Series("#line", [f"line {n}" for n in range(6)]),
    )
    made = take(writer, [batch])
    assert (made.rows, made.quarantined) == (1, 5)
    assert made.reasons == ["line 3: price: no plain decimal: NaN (and 4 more lines)"]
    [row] = writer.manifest.quarantine()
    assert (row.origin, row.count) == (made.session, 5)
    text = (writer.root / row.path).read_text()
    assert '"reason":"the time is none","line":"line 5"' in text
    assert "price: missing" in text
    assert "below zero" in text


@pytest.mark.parametrize("said", [{}, {"condition": ["market"] * 3}])
@pytest.mark.parametrize("name", ["price", "qty"])
def test_a_trade_of_nothing_is_void_whatever_it_says(writer, name, said):
    take(writer, [trades(*range(DAY0, DAY0 + 3), **{name: ["1.5", "0.000", "2"]}, **said)])
    assert Lake(writer.root).read("trade")["condition"].to_pylist() == ["market", "void", "market"]


def test_a_repeated_identity_is_left_out_and_counted(writer):
    made = take(writer, [trades(DAY0, DAY0, seq=[7, 7], price=["1", "2"])])
    assert (made.rows, made.duplicates) == (1, 1)
    assert Lake(writer.root).read("trade")["price"].to_pylist() == [1.0], "the first of the file stays"
    assert [(check.check, check.count) for check in writer.manifest.checks()] == [("duplicate", 1)]


def test_what_the_reader_raises_leaves_nothing(writer):
    source = adopting.begin(writer, "node", kind="trade", now=NOW, **FILE)

    def batches():
        yield trades(DAY0, price=["x"])
        yield trades(DAY0 + 1)
        raise RuntimeError("line 4 is torn")

    with pytest.raises(RuntimeError):
        adopting.publish_rows(writer.root, source, batches(), run="t", now=NOW)
    adopting.abandon(writer, source, None, "line 4 is torn", now=NOW)
    assert not [path for tree in ("hot", "quarantine") for path in (writer.root / tree).rglob("*") if path.is_file()]
    [session] = writer.manifest.sessions()
    assert session.close_cause == "refused_file: line 4 is torn"
    assert not take(writer, [trades(DAY0)]).already, "a refused file may be tried again"


def test_batches_of_other_columns_are_a_defect_of_their_reader(writer):
    source = adopting.begin(writer, "node", kind="trade", now=NOW, **FILE)
    for batch, word in (
        (trades(DAY0).with_columns(colour=pl.lit("red")), "colour"),
        (trades(DAY0).with_columns(price=pl.lit(15)), "price of type Int32"),
        (trades(DAY0).drop("qty"), "lacks qty"),
    ):
        with pytest.raises(VerifyFailed, match=word):
            adopting.publish_rows(writer.root, source, [batch], run="t", now=NOW)


def test_coverage_is_what_the_rows_prove_or_what_is_said(writer):
    candle = pl.DataFrame(
        {
            "symbol": ["A"], "ts_event": [DAY0 + MINUTE - MS], "open_time": [DAY0], "interval": ["1m"], "open": ["1"],
            "high": ["2"], "low": ["1"], "close": ["1"], "volume_base": ["3"], "frame_no": [1],
        }
    )  # fmt: skip
    made = take(writer, [candle], kind="kline")
    market = ("binance", "spot")
    assert writer.manifest.coverage() == [Coverage(*market, "kline", "A", made.session, DAY0, DAY0 + MINUTE)]
    source = adopting.begin(writer, "node", kind="trade", now=NOW, **FILE)
    published = adopting.publish_rows(writer.root, source, [trades(DAY0)], run="t", now=NOW)
    said = {"BTCUSDT": Interval(DAY0, DAY0 + DAY)}
    adopting.finish(writer, source, published, now=NOW, coverage=said)
    [row] = writer.manifest.coverage(kind="trade")
    assert (row.ts_from, row.ts_to) == (DAY0, DAY0 + DAY)


def test_adopted_days_close_with_certificates_and_the_law_holds(writer):
    take(writer, [trades(*range(DAY0, DAY0 + 50 * MINUTE, MINUTE)), trades(DAY0 + HOUR, first=50)])
    done = compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), lambda *_: None, again=True)
    assert not done.failures
    [day] = writer.manifest.files("trade", level="day")
    assert (day.rows, day.symbol) == (51, "BTCUSDT")
    [certificate] = writer.manifest.certificates(kind="trade")
    assert (certificate.rows, certificate.missing, certificate.first_id, certificate.last_id) == (51, 0, 100, 150)
    assert Lake(writer.root).read("bar_1m").num_rows == 51
    with writer.manifest.snapshot() as snapshot:
        found = verify_lake(writer.root, snapshot, lambda *_: None)
    assert not found.findings


def test_a_rebuilt_manifest_knows_the_file_again(writer):
    take(writer, [trades(DAY0)])
    before = (writer.manifest.sessions(), writer.manifest.files("trade"), writer.manifest.coverage())
    root = writer.root
    writer.close()
    (root / "manifest.db").unlink()
    rebuild(root, "node", NOW + HOUR)
    held = Manifest.read_only(root)
    try:
        assert (held.sessions(), held.files("trade"), held.coverage()) == before
    finally:
        held.close()
