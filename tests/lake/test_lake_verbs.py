"""What a lake says of itself: data sets, gaps, coverage, certificates, revisions, lineage, and completeness."""

import msgspec
import polars as pl
import pytest

from lake import completeness
from lake.errors import CorruptFile, NotHeld, WrongQuestion
from lake.rows import CertificateRow, SegmentRow
from lake.sources import bar_cursor
from lake.tables import Parent
from market.errors import Malformed, UnknownKind
from market.session import Coverage
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, trade

DATE = "2024-07-19"


def certify(made: TestLake, row, **more) -> None:
    held = {name: getattr(row, name) for name in ("path", "sha256", "kind", "symbol", "date", "revision", "rows")}
    made.writer.publish(certificates=[CertificateRow(**STREAM, **(held | {"issued_at": T0} | more))], now=T0)


def segment(made: TestLake, number: int, state: str = "transformed", kind: str = "trade") -> str:
    path = f"raw/exchange=binance/market_type=linear/data_type={kind}/date={DATE}/0000{number:02}-n-000001.jsonl"
    start = T0 + number * MINUTE
    made.writer.manifest.upsert_segments(
        [SegmentRow(path=path, **STREAM, kind=kind, state=state, period_start=start, period_end=start + MINUTE, rows=3)]
    )
    return path


def test_data_sets_are_named_by_symbol_whether_their_day_is_closed_or_not(made, lake):
    one = made.day("trade", [trade(T0 + n, "10", "1", seq=n + 1) for n in range(3)])
    made.day("trade", [trade(T0 + DAY, "10", "1", seq=9)])
    certify(made, one, verified="klines")
    made.part("trade", [trade(T0 + 2 * DAY, "10", "1", seq=10), trade(T0 + 2 * DAY, "1", "1", seq=1, symbol="ETHUSDT")])
    made.cover(T0, T0 + 3 * DAY)
    made.cover(T0 + 2 * DAY, T0 + 3 * DAY, symbol="ETHUSDT")
    made.gap(T0 + 5, T0 + 6)
    found = {one.symbol: one for one in lake.datasets()}
    assert sorted(found, key=str) == ["BTCUSDT", "ETHUSDT", None]
    btc = found["BTCUSDT"]
    assert (btc.files, btc.rows, btc.days, btc.verified_days, btc.open_gaps, btc.hot) == (2, 4, 2, 1, 1, True)
    assert (btc.ts_min, btc.ts_max) == (T0, T0 + DAY)
    assert (found["ETHUSDT"].rows, found["ETHUSDT"].hot) == (0, True), "whose hot rows are is told by coverage"
    assert found[None].rows == 2
    assert [one.symbol for one in lake.datasets(symbol="ETHUSDT", kind="trade")] == [None, "ETHUSDT"]
    assert lake.datasets(exchange="kraken") == lake.datasets(kind="quote") == []
    assert [one.days for one in lake.datasets(end=T0 + DAY)] == [1]
    assert msgspec.json.encode(lake.datasets())


def test_gaps_of_bars_are_those_of_their_trades(made, lake):
    made.gap(T0 + MINUTE, T0 + 2 * MINUTE)
    made.gap(T0 + HOUR, T0 + 2 * HOUR, state="repaired")
    made.gap(T0, T0 + SECOND, symbol="ETHUSDT")
    made.gap(T0, T0 + SECOND, kind="agg_trade", gap_id="other")
    assert [gap.ts_from - T0 for gap in lake.gaps(kind="trade", symbol="BTCUSDT")] == [MINUTE]
    assert {gap.kind for gap in lake.gaps(kind="bar_15m", symbol="BTCUSDT")} == {"trade", "agg_trade"}
    made.cover(T0, T0 + DAY)
    assert {gap.kind for gap in lake.gaps(kind="bar_15m", symbol="BTCUSDT")} == {"trade"}, "his trades are collected"
    assert len(lake.gaps(kind="trade", state="all")) == 3
    assert [gap.state for gap in lake.gaps(state=["repaired", "void"])] == ["repaired"]
    assert lake.gaps(kind="trade", symbol="BTCUSDT", start=T0 + 2 * MINUTE) == []
    assert len(lake.gaps(kind="trade", symbol="BTCUSDT", end=T0 + MINUTE + 1)) == 1
    with pytest.raises(WrongQuestion, match="state='broken'"):
        lake.gaps(state="broken")


def test_files_are_those_that_a_read_opens(made, lake):
    one = made.day("trade", [trade(T0, "10", "1", seq=1)])
    certify(made, one)
    made.day("trade", [trade(T0 + DAY, "10", "1", seq=2)])
    found = lake.files(kind="trade", date=DATE)
    assert [(held.file.path, held.certificate is not None, held.checks) for held in found] == [(one.path, True, ())]
    assert len(lake.files()) == 2
    assert lake.files(symbol="ETHUSDT") == lake.files(kind="quote") == []


def test_coverage_says_what_is_complete(made, lake):
    made.cover(T0, T0 + HOUR)
    made.writer.record_coverage(
        [Coverage(**STREAM, kind="trade", symbol="BTCUSDT", session="n-2-1", ts_from=T0 + 1, ts_to=T0 + 2 * HOUR)]
    )
    made.cover(T0 + 3 * HOUR, T0 + 4 * HOUR, symbol="ETHUSDT")
    btc, eth = lake.coverage(kind="trade")
    assert (btc.symbol, btc.intervals, btc.covered) == ("BTCUSDT", (Interval(T0, T0 + 2 * HOUR),), 2 * HOUR)
    assert (btc.complete, eth.covered) == (None, HOUR)
    span = {"symbol": "BTCUSDT", "start": T0, "end": T0 + 2 * HOUR}
    assert lake.coverage(kind="trade", **span)[0].complete is True
    assert lake.coverage(kind="bar_4h", **span)[0].complete is True
    assert lake.coverage(kind="trade", **span | {"end": T0 + 2 * HOUR + 1})[0].complete is False
    made.gap(T0 + MINUTE, T0 + 3 * MINUTE)
    held = lake.coverage(kind="bar_1m", **span)[0]
    assert (held.kind, held.complete, held.gaps, held.missing) == ("bar_1m", False, 1, 2 * MINUTE)
    assert lake.coverage(kind="quote") == []


def test_a_revision_is_current_then_replaced_then_gone(made, lake):
    first = made.day("trade", [trade(T0, "10", "1", seq=1)])
    certify(made, first)
    rows = [trade(T0, "10", "1", seq=1), trade(T0 + 1, "10", "1", seq=2)]
    second = made.day("trade", rows, remove=[first.path], revision=1)
    certify(made, second, issued_at=T0 + 1)
    made.day("trade", [trade(T0 + DAY, "10", "1", seq=3)])
    states = lambda: [(one.revision, one.state, one.rows) for one in lake.versions("trade", date=DATE)]  # noqa: E731
    assert states() == [(0, "replaced", 1), (1, "current", 2)]
    (made.root / first.path).unlink()
    made.writer.mark_unlinked([first.path], T0 + 5)
    assert states() == [(0, "gone", 1), (1, "current", 2)]
    made.writer.forget_retired(T0 + 9 * DAY, T0 + 10 * DAY)
    assert states() == [(0, "gone", 1), (1, "current", 2)], "the certificate stays for ever"
    assert len(lake.versions("trade")) == 3
    assert lake.certificate("trade", date=DATE).rows == 2
    assert lake.certificate("trade", date=DATE, revision=0).sha256 == first.sha256


def test_a_certificate_that_is_not_there_is_said_to_be_none(made, lake):
    with pytest.raises(NotHeld, match="no daily file of trade of BTCUSDT 2024-07-19"):
        lake.certificate("trade", symbol="BTCUSDT", date=DATE)
    row = made.day("trade", [trade(T0, "10", "1", seq=1)])
    with pytest.raises(NotHeld, match="has no certificate"):
        lake.certificate("trade", date=DATE)
    certify(made, row)
    with pytest.raises(NotHeld, match=r"no revision 3 \(it has 0\)"):
        lake.certificate("trade", date=DATE, revision=3)
    made.day("trade", [trade(T0, "10", "1", seq=1, symbol="ETHUSDT")], symbol="ETHUSDT")
    with pytest.raises(WrongQuestion, match="2 daily files: binance linear BTCUSDT, binance linear ETHUSDT"):
        lake.certificate("trade", date=DATE)
    with pytest.raises(WrongQuestion, match="is not a day"):
        lake.certificate("trade", date="2024-07-19T12:00")
    with pytest.raises(UnknownKind):
        lake.certificate("candle", date=DATE)


def test_lineage_goes_down_to_the_segments(made, lake):
    raw = segment(made, 1)
    part = made.part("trade", [trade(T0, "10", "1", seq=1)], parents=(Parent(raw, "ab"),))
    hour = made.part("trade", [trade(T0, "10", "1", seq=1)], level="hour", parents=(Parent(part.path, part.sha256),))
    day = made.day("trade", [trade(T0, "10", "1", seq=1)], parents=(Parent(hour.path, hour.sha256),))
    made.cover(T0, T0 + DAY)
    found = lake.lineage("trade", date=DATE)
    assert found.file.path == day.path
    assert [(one.what, one.depth, one.present) for one in found.ancestors] == [
        ("hour", 1, True), ("part", 2, True), ("segment", 3, False),
    ]  # fmt: skip
    assert [one.child for one in found.ancestors] == [day.path, hour.path, part.path]
    assert found.sessions == ["n-1-1"]


def test_answers_say_up_to_when_they_are_complete_and_which_gaps_they_meet(made, lake):
    assert completeness.of(lake.read("trade")) == lake.completeness("trade")
    assert lake.completeness("trade").complete_until is None
    made.day("trade", [trade(T0, "10", "1", seq=1)])
    assert lake.completeness("trade").complete_until == T0 + DAY
    assert lake.completeness("trade", end=T0 + HOUR).complete_until == T0 + HOUR
    made.part("trade", [trade(T0 + DAY, "10", "1", seq=2)])
    segment(made, 24 * 60)
    assert lake.completeness("trade").complete_until == T0 + DAY + MINUTE - 5 * SECOND
    segment(made, 24 * 60 + 1, state="sealed")
    made.gap(T0 + 5, T0 + 6)
    made.gap(T0 + 7, None, state="unrepairable")
    made.gap(T0 + 8, T0 + 9, state="repaired")
    table = lake.read("trade", symbol="BTCUSDT", start=T0 + 6)
    told = completeness.of(table)
    assert told is not None
    assert told.complete_until == T0 + DAY + MINUTE - 5 * SECOND, "what is sealed is not there to be read yet"
    assert [gap.ts_from for gap in told.gaps] == [T0 + 7]
    assert told.manifest_version == lake.manifest.version
    assert completeness.of(table.slice(0, 1)) == told


def test_of_a_symbol_that_nobody_collects_no_answer_is_complete(made, lake):
    made.day("trade", [trade(T0, "10", "1", seq=1)])
    made.part("trade", [trade(T0 + DAY, "10", "1", seq=2)])
    segment(made, 24 * 60)
    until = T0 + DAY + MINUTE - 5 * SECOND

    def told(symbol, kind="trade", **more):
        found = lake.completeness(kind, symbol=symbol, **more)
        return found.complete_until, found.unknown

    assert told("BTCUSDT") == told(None) == (until, ())
    assert told("NOSUCH") == (None, ("NOSUCH",))
    assert told(["BTCUSDT", "NOSUCH"]) == (None, ("NOSUCH",))
    assert completeness.of(lake.read("trade", symbol="NOSUCH")).unknown == ("NOSUCH",)
    made.cover(T0 + DAY, T0 + DAY + 5 * MINUTE, symbol="QUIET")
    made.writer.record_coverage([Coverage("okx", "spot", "trade", "OTHER", "n-1-2", T0, T0 + DAY)])
    assert told("QUIET") == (until, ())
    assert told("QUIET", start=T0 + DAY + 9 * MINUTE) == (until, ()), "it goes on as far as anything does"
    assert told("QUIET", end=T0 + DAY) == (None, ("QUIET",)), "on the day before it was not collected"
    assert told("OTHER", exchange="binance") == (None, ("OTHER",))
    assert told("OTHER") == (until, ())
    made.part("bar_1m", bar_table([trade(T0 + DAY, "10", "1", seq=2)]))
    made.writer.publish(cursors={bar_cursor("binance", "linear"): until}, now=T0)
    assert told("QUIET", "bar_5m")[1] == (), "bars are made of what is collected"
    assert told("NOSUCH", "bar_5m") == (None, ("NOSUCH",))
    shown = lake.read("bar_1m", symbol=["QUIET", "NOSUCH"], fill="empty", end=T0 + 2 * DAY)
    assert shown.column("symbol").to_pylist() == ["QUIET"], "windows end where what is known does"


def test_who_reads_closed_days_only_is_told_how_far_these_go(made, lake):
    rows = [made.day("trade", [trade(T0 + n * DAY, "10", "1", seq=n + 1)]) for n in range(3)]
    for row in (rows[0], rows[2]):
        certify(made, row, verified="klines")
    made.part("trade", [trade(T0 + 3 * DAY, "10", "1", seq=9)])
    segment(made, 4 * 24 * 60)
    until = {state: lake.completeness("trade", min_state=state).complete_until for state in ("final", "verified")}
    assert until == {"final": T0 + 3 * DAY, "verified": T0 + DAY}
    assert lake.completeness("trade", version=0).complete_until == T0 + 3 * DAY
    segment(made, 5, state="sealed")
    assert lake.completeness("trade").complete_until == T0 + 5 * MINUTE - 5 * SECOND, "it came, and is not there yet"


def test_to_be_complete_up_to_where_collecting_began_is_not_said(made, lake):
    first = made.day("trade", [trade(T0 + HOUR, "10", "1", seq=1)])
    second = made.day("trade", [trade(T0 + DAY, "10", "1", seq=2)])
    certify(made, second, verified="klines")
    assert lake.completeness("trade", min_state="verified").complete_until is None, "nothing is verified from the first"
    assert lake.read("trade", min_state="verified").num_rows == 1
    assert lake.completeness("trade", end=T0 + HOUR).complete_until is None, "nobody was there yet"
    made.cover(T0, T0 + 2 * DAY)
    assert lake.completeness("trade", end=T0 + HOUR).complete_until == T0 + HOUR, "nothing was traded until then"
    assert lake.completeness("bar_1m").complete_until is None, "no bar is made yet"
    certify(made, first, verified="klines")
    assert lake.completeness("trade", min_state="verified").complete_until == T0 + 2 * DAY


def test_bars_are_complete_as_far_as_they_are_written_and_partial_beyond(made, lake):
    trades = [trade(T0 + n * MINUTE, str(100 + n), "1", seq=n + 1) for n in range(7)]
    made.part("bar_1m", bar_table(trades))
    made.cover(T0, T0 + 10 * MINUTE)
    made.writer.publish(cursors={bar_cursor("binance", "linear"): T0 + 7 * MINUTE}, now=T0)
    assert lake.completeness("bar_1m").complete_until == T0 + 7 * MINUTE
    assert lake.bars("5m").column("partial").to_pylist() == [False, True], "its last minutes are no bars yet"
    shown = lake.read("bar_1m", fill="empty", end=T0 + 9 * MINUTE)
    assert shown.column("trade_count").to_pylist() == [1] * 7, "nor are they known to be empty"
    assert completeness.of(shown).complete_until == T0 + 7 * MINUTE, "which the answer says"


def test_a_file_that_retention_took_is_read_again_from_a_new_snapshot(made, lake, monkeypatch):
    first = made.day("trade", [trade(T0, "10", "1", seq=1)])
    whole, taken = lake._answered, []

    def then_replaced(snapshot, question):
        plan = whole(snapshot, question)
        if not taken:
            taken.append(plan)
            rows = [trade(T0, "10", "1", seq=1), trade(T0 + 1, "10", "1", seq=2)]
            made.day("trade", rows, remove=[first.path], revision=1)
            (made.root / first.path).unlink()
        return plan

    monkeypatch.setattr(lake, "_answered", then_replaced)
    assert lake.read("trade").column("seq").to_pylist() == [1, 2]
    taken.clear()
    (made.root / lake.manifest.files("trade")[0].path).unlink()
    taken.append(None)
    with pytest.raises(CorruptFile, match="is missing"):
        lake.read("trade")


def test_wrong_times_are_named(lake):
    with pytest.raises(WrongQuestion, match="is no time in microseconds"):
        lake.read("trade", start=1_721_347_200_000_000_000)
    with pytest.raises(WrongQuestion, match="is before start"):
        lake.gaps(start=T0 + 1, end=T0)
    with pytest.raises(Malformed):
        lake.coverage(start="then")
    with pytest.raises(WrongQuestion, match="symbol=5 is no name"):
        lake.datasets(symbol=[5])
    assert lake.read("trade", start=T0, end=T0).num_rows == 0


def test_a_scan_of_bars_is_answered_when_it_is_collected_with_what_is_needed_then(made, lake):
    trades = [trade(T0 + n * MINUTE, str(100 + n), str(n + 1), seq=n + 1) for n in range(5)]
    first = made.day("bar_1m", bar_table(trades, covered=Interval(T0, T0 + DAY)))
    for kind in ("bar_1m", "bar_2m"):
        frame = lake.scan(kind)
        assert frame.collect_schema().names() == lake.read(kind).column_names
        high = frame.filter(pl.col("high") > 101.5).select("volume_base")
        expected = [row["volume_base"] for row in lake.read(kind).to_pylist() if row["high"] > 101.5]
        assert high.collect().to_series().to_list() == expected
        assert frame.head(2).select("open").collect().height == 2
        assert frame.select(pl.len()).collect().item() == lake.read(kind).num_rows
    waiting = lake.scan("bar_1m").select("trade_count")
    made.day("bar_1m", bar_table(trades[:4], covered=Interval(T0, T0 + DAY)), remove=[first.path], revision=1)
    assert waiting.collect().height == 5, "it stays with its snapshot"
    (made.root / first.path).unlink()
    assert waiting.collect().height == 4, "or where its files are gone gets a new one"
