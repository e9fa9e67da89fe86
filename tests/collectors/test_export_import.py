"""What `dl export` wrote and `dl import` took in again is what it was: the same content, by the digest."""

import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.files import blocks
from collectors.files.importing import rehearse, request_of, take_in
from collectors.files.reading import Options, Refused
from collectors.replaying import named
from lake import exporting, tables
from lake.digest import content_digest
from lake.reader import Lake
from lake.writer import LakeWriter
from market.times import DAY, MINUTE, MS, parse
from runtime.workers import InlineExecutor
from tests.support.book_rows import delta, levels, whole
from tests.support.book_rows import table as books
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, quote, table, trade

NOW = parse("2026-11-20T12:00:00Z")
MARKET = {"exchange": "binance", "market_type": "linear"}
BASE = {
    name: value
    for name, value in trade(T0, "1", "1", 1).items()
    if name not in ("price", "qty", "seq", "side", "qty_unit", "multiplier", "condition")
}
EXACT = "0.1234567890123456789"  # more digits than a float has


def row(kind, n, **own):
    return BASE | {"ts_event": T0 + n, "ts_recv": T0 + n + 5, "frame_no": n + 1, "ts_publish": T0 + n + 1} | own


def kline(n, source, **more):
    opened = dt.datetime.fromtimestamp((T0 + n * MINUTE) / 1e6, dt.UTC)
    prices = {"open": "1.5", "high": "2", "low": "1.25", "close": EXACT}
    volumes = {"volume_base": "7", "volume_quote": None, "taker_buy_base": None, "taker_buy_quote": "3"}
    own = {"interval": "1m", "open_time": opened, "trade_count": 4, "revision": 0, "source": source}
    return row("kline", (n + 1) * MINUTE - MS, **own) | volumes | prices | more


def at(n):
    """A time that is no event's."""
    return dt.datetime.fromtimestamp((T0 + n) / 1e6, dt.UTC)


LEVELS = [(EXACT, "1"), ("99.5", "2")], [("100.5", "1"), ("101.0", "2")]
ROWS = {
    "trade": [
        trade(T0, "61130.980", "0.00000145", 5, side=None, condition="rpi"),
        trade(T0 + 1, EXACT, "1", None, trade_id="=a,\"b'", side="sell", qty_unit="contract", multiplier="0.01"),
        trade(T0 + 2, "5", "1", 7, ts_estimated=True, condition="adl", ts_publish=T0),
    ],
    "agg_trade": [trade(T0, "1", "2", 5, first_id=3, last_id=4), trade(T0, "1", "2", 6, first_id=None, last_id=9)],
    "quote": [quote(T0, EXACT, "3", update_id=None), quote(T0, "1.5", "2", ts_estimated=True, bid_qty=None)],
    "liquidation": [
        row("liquidation", n, side="sell", price="10", avg_price=EXACT if n else None, qty="1", qty_unit="base",
            multiplier="1", seq=None) for n in range(2)
    ],
    "mark_price": [row("mark_price", n, mark=EXACT, index="11", predicted_rate="-0.0001",
                       next_funding=dt.datetime(2024, 7, 19, 8, tzinfo=dt.UTC)) for n in range(2)],
    "funding_rate": [row("funding_rate", 0, rate="-0.0001", rate_kind="ratio", interval_s=28800, known_at=None)],
    "open_interest": [row("open_interest", 0, oi="7.5", oi_unit="base", sides=1, oi_base=None, oi_quote=EXACT)],
    "kline": [kline(0, "ws"), kline(0, "rest"), kline(1, "ws"), kline(1, "ws", revision=1, close="1.75")],
    "book_delta": [
        whole(T0, 10, *LEVELS, flags="carried", source="derived"), delta(T0 + 5, 11, [("99.5", "0")]),
        whole(T0 + 6, 12, *LEVELS), delta(T0 + 6, 12, [], [(EXACT, "0.10")], flags="gap_before"),
        delta(T0 + 7, 13, [], []), delta(T0 + 8, 14, [], [("101.0", "9")]),
    ],
    "book_snapshot": [
        row("book_snapshot", n, bids=LEVELS[0], asks=LEVELS[1] if n else [], last_id=last, depth=5, source=source)
        for n, (last, source) in enumerate([(10, "ws"), (10, "rest"), (None, "ws")])
    ],
    "contract": [
        row("contract", n, uid="BTCUSDT", unified="BTC/USDT:USDT", base="BTC", quote="USDT", settle="USDT", tick="0.10",
            lot=EXACT, multiplier="1", contract_size=None, status=status, listed=at(0), expiry=None,
            funding_interval_s=28800, valid_from=at(0), valid_to=None, known_from=at(n), known_to=None, source="rest")
        for n, status in enumerate(("trading", "ended"))
    ],
}  # fmt: skip
FORMS = ("csv", "jsonl", "parquet")
CASES = [(kind, form) for kind in ROWS for form in FORMS if not kind.startswith("book_") or form != "csv"]


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as made:
        yield made


def take(writer, file, **options):
    request = request_of(file, Options(**MARKET, **options))
    return take_in(writer, InlineExecutor(), "node", NOW, request, lambda *_: None)


def made(kind, rows):
    if kind == "book_snapshot":
        sides = {f"{side}{end}": column for side in ("bids", "asks")
                 for end, column in zip(("", "_text"), levels([row[side] for row in rows]), strict=True)}  # fmt: skip
        plain = table(kind, [{name: value for name, value in row.items() if name not in sides} for row in rows])
        for name, column in sides.items():
            plain = plain.set_column(plain.schema.get_field_index(name), plain.schema.field(name), column)
        return plain
    return books(rows) if kind == "book_delta" else table(kind, rows)


def there_and_back(folder, kind, data, form, what=None, options=None):
    """(digest of the rows that were exported, of those that were imported, what the import said)."""
    held = TestLake(folder / "one")
    alone = ("trade", "agg_trade", "quote", "book_delta", "book_snapshot")
    held.day(kind, data, symbol="BTCUSDT" if kind in alone else None)
    held.close()
    with Lake(held.root) as lake:
        tasks = exporting.plan(lake, form, [what or kind], None, None, [], None, named)
        (file,) = [exporting.export(lake, task, form, folder / "files") for task in tasks]
        before = lake.read(kind, **MARKET)
    with LakeWriter.open(folder / "two", "node", NOW) as writer:
        request = request_of(folder / "files" / tasks[0].name, Options(**MARKET, **(options or {})))
        said = take_in(writer, InlineExecutor(), "node", NOW, request, lambda *_: None)
    with Lake(folder / "two") as lake:
        after = lake.read(kind, **MARKET)
    assert before.num_rows == file.rows or what
    plain = [tables.conform(one.select(tables.schema(kind).names), kind) for one in (before, after)]
    return *(content_digest(one, "binance", "linear", kind) for one in plain), said


@pytest.mark.parametrize("kind, form", CASES)
def test_a_table_of_ours_is_the_same_again(tmp_path, kind, form):
    before, after, said = there_and_back(tmp_path, kind, made(kind, ROWS[kind]), form)
    assert said.reasons == []
    assert before == after
    assert (said.rows, said.quarantined, said.duplicates, said.dialect) == (len(ROWS[kind]), 0, 0, "lake")
    with Lake(tmp_path / "two") as lake:
        found = lake.read(kind, **MARKET)
    assert found.column("ts_recv").to_pylist() == made(kind, ROWS[kind]).column("ts_recv").to_pylist()


def test_books_bought_are_the_books_that_were(tmp_path, monkeypatch):
    """Ids are no part of such files; what the book is at any time is."""
    rows = [
        whole(T0, 10, *LEVELS), delta(T0 + 5, 11, [("99.5", "0"), ("98", "4")], [("100.5", "2.50")]),
        delta(T0 + 6, 12, [(EXACT, "0.10")]), delta(T0 + 6, 13, [("98", "5")]),
        whole(T0 + MINUTE, 40, [("90", "1")], [("91", "1")]), delta(T0 + MINUTE + 1, 41, [("90", "3")]),
    ]  # fmt: skip
    monkeypatch.setattr(blocks, "BLOCK", 64)  # messages are longer
    monkeypatch.setattr(blocks, "HEAD", 200)
    *_, said = there_and_back(tmp_path, "book_delta", books(rows), "tardis-csv", "incremental_book_L2")
    assert (said.dialect, said.quarantined, said.duplicates) == ("tardis-book", 0, 0)
    with Lake(tmp_path / "one") as one, Lake(tmp_path / "two") as two:
        for at in (T0, T0 + 5, T0 + 6, T0 + MINUTE, T0 + MINUTE + 1):
            was, now = (lake.book("BTCUSDT", at=at, **MARKET) for lake in (one, two))
            assert (was.bids, was.asks) == (now.bids, now.asks), at


def test_levels_bought_are_what_their_rows_say(writer, tmp_path):
    file = tmp_path / "a.csv"
    names = ",".join(f"{side}[{n}].{of}" for n in range(2) for side in ("asks", "bids") for of in ("price", "amount"))
    stream = "exchange,symbol,timestamp,local_timestamp"
    file.write_text(
        f"{stream},{names}\nbf,BTCUSDT,{T0},{T0 + 9},10.50,1,10,2,{EXACT},1,,\nbf,BTCUSDT,{T0},1,x,1,,,,,,\n"
    )
    made = take(writer, file)
    [found] = Lake(writer.root).read("book_snapshot").to_pylist()
    assert (made.rows, made.quarantined, found["depth"], found["last_id"]) == (1, 1, 2, None)
    assert found["bids"] == [{"price": 10.0, "qty": 2.0}]
    assert [one["price"] for one in found["asks_text"]] == [None, EXACT]
    assert "asks: a level that is no price and quantity" in made.reasons[0]


BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
OPTIONS = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,"
    "bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho\n"
    f"deribit,BTC-9JUN20-9875-P,{T0},{T0 + 5},put,9875,{T0 + DAY},0.1,0.0295,0.0205,37.6,61.2,,,,0.0209,63.5,SYN,9741,"
    "-0.6,0.0007,2.99,-117.6,-0.5\n"
)
TICKER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
    f"last_price,index_price,mark_price\nbinance-futures,BTCUSDT,{T0},{T0 + 5},{T0 + DAY},0.1,,31345.5,6,6,7\n"
)
OURS = {kind: ",".join(tables.schema(kind).names) + "\n" for kind in ("bar_1m", "trade")}


@pytest.mark.parametrize(
    "text, options, sentence",
    [
        (BOOK + f"x,A,{T0},{T0},true,bid,1,1\nx,B,{T0},{T0},true,bid,1,1\n", {}, "books of several symbols .* A, B"),
        (BOOK + f"x,A,{T0},5,true,bid,1,1\n", {}, "'5' is no local_timestamp in us"),
        (BOOK + f"x,A,{T0},{T0},true,bid,1,1\n", {"kind": "trade"}, "holds no trade .it holds book_delta"),
        (OPTIONS, {}, "may be of several kinds .say --kind quote or mark_price"),
        (TICKER, {"kind": "open_interest"}, "gives no open_interest: .* unit it is, nor whether both sides"),
        (TICKER, {"kind": "open_interest"}, "the venue's own values: dl backfill or dl archive --kind open_interest"),
        (TICKER, {"kind": "funding_rate"}, "gives no funding_rate: .* the next settlement.* settled ones: dl backfill"),
        (OPTIONS, {"kind": "open_interest"}, ".tardis-options. gives no open_interest: its open_interest says neither"),
        (OURS["bar_1m"] + "1," * 30, {}, "a table of bars, which are made here, of trades"),
        (OURS["trade"] + "binance,spot,BTC" + ",1" * 18, {}, "of market_type spot .say --market-type spot"),
    ],
)  # fmt: skip
def test_what_is_not_taken_says_why(tmp_path, text, options, sentence):
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(Refused, match=sentence):
        rehearse(request_of(file, Options(**MARKET, **options)), NOW, lambda *_: None)


def test_of_an_options_chain_marks_are_taken(writer, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(OPTIONS)
    assert take(writer, file, kind="mark_price").rows == 1
    [found] = Lake(writer.root).read("mark_price").to_pylist()
    assert (found["symbol"], found["mark"], found["index"]) == ("BTC-9JUN20-9875-P", 0.0209, 9741.0)


numbers = st.decimals(min_value="0.00000001", max_value=10**12, places=8).map(lambda value: format(value, "f"))
several = st.lists(
    st.builds(
        lambda price, qty, side, name: {"price": price, "qty": qty, "side": side, "trade_id": name},
        numbers, numbers, st.sampled_from(["buy", "sell", None]), st.text("aZ0-_,\"'=+@ ", min_size=1, max_size=9),
    ), min_size=1, max_size=6, unique_by=lambda one: one["trade_id"].strip(),
)  # fmt: skip


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several, st.sampled_from([*FORMS, "tardis-csv"]))
def test_any_trade_is_the_same_again(tmp_path_factory, held, form):
    rows = [trade(T0 + n, "1", "1") | {"frame_no": n} | one for n, one in enumerate(held)]
    rows = [one | {"trade_id": one["trade_id"].strip() or "x"} for one in rows]
    if form == "tardis-csv":  # ids of this exchange are numbers
        rows = [one | {"trade_id": None, "seq": n + 1} for n, one in enumerate(rows)]
    asked = ("trades", {"kind": "trade"}) if form == "tardis-csv" else ()
    before, after, said = there_and_back(tmp_path_factory.mktemp("x"), "trade", table("trade", rows), form, *asked)
    assert said.reasons == []
    assert before == after


def test_the_apostrophe_that_guards_a_spreadsheet_is_no_part_of_an_id(writer, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(f"exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nx,'-A,{T0},{T0},'=1+1,buy,1,1\n")
    request = request_of(file, Options(exchange="x", market_type="spot", kind="trade"))
    take_in(writer, InlineExecutor(), "node", NOW, request, lambda *_: None)
    [found] = Lake(writer.root).read("trade").to_pylist()
    assert (found["symbol"], found["trade_id"]) == ("-A", "=1+1")


def test_a_row_of_ours_that_is_cut_is_set_aside(writer, tmp_path):
    held = [trade(T0 + n, "1", "1", n + 1, condition="adl") for n in range(3)]
    _, _, said = there_and_back(tmp_path, "trade", table("trade", held), "csv")
    assert said.rows == 3
    [file] = (tmp_path / "files").iterdir()
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], lines[2].partition(",adl")[0], lines[3]]) + "\n")
    cut = take(writer, file)
    assert (cut.rows, cut.quarantined) == (2, 1)
    assert "fewer columns" in cut.reasons[0]
