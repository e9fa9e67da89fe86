"""What a query can want, as DuckDB's planner says, and the files that follow from it; the views over them."""

import random

import pytest

from lake import Lake, sql_plan
from lake.errors import WrongQuestion
from lake.manifest_reads import Snapshot
from lake.sql_gather import gather
from market.times import DAY, HOUR, MINUTE, text
from tests.support import book_rows
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, table, trade

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    held = TestLake(tmp_path_factory.mktemp("planned") / "lake")
    for symbol in SYMBOLS:
        for day in range(3):
            rows = [trade(T0 + day * DAY + n * HOUR, "10", "1", seq=10 * day + n, symbol=symbol) for n in (1, 20)]
            held.day("trade", rows, symbol=symbol)
    for hour in (2, 4):
        rows = [trade(T0 + 3 * DAY + hour * HOUR, "12", "1", seq=40 + hour, symbol=symbol) for symbol in SYMBOLS]
        held.part("trade", rows, hour=hour)
    stale = [trade(T0 + DAY + 2 * HOUR, "12", "1", seq=99)]
    held.part("trade", stale, hour=2)
    generator = random.Random(7)  # numbers of a test
    trades = [
        trade(T0 + n * 13_000_000, f"{generator.uniform(90, 110):.5f}", f"{generator.uniform(0, 9):.7f}", seq=n)
        for n in range(400)
    ]
    held.day("bar_1m", bar_table(trades))
    held.gap(T0 + 20 * MINUTE + 1, T0 + 22 * MINUTE)
    held.gap(T0 + 60 * MINUTE, None)
    yield held
    held.close()


@pytest.fixture(scope="module")
def lake(made):
    with Lake(made.root) as opened:
        yield opened


def wanted(lake: Lake, query: str) -> list[str]:
    """Days (0 is the first) with the initial of their symbol, `h` and the hour of hot parts."""
    scans = sql_plan.planner().scans(query)
    gathered = lake.manifest.run(lambda conn: gather(Snapshot(conn), scans))
    return sorted(
        f"h{file.hour}" if file.level == "part" else f"{(file.ts_min - T0) // DAY}{(file.symbol or '-')[0]}"
        for file in gathered.files
    )


ALL = ["0B", "0E", "1B", "1E", "2B", "2E", "h2", "h2", "h4"]
AT = {name: text(T0 + at) for name, at in {"d1": DAY, "d2": 2 * DAY, "d3": 3 * DAY, "noon": 3 * DAY + 3 * HOUR}.items()}

TWO_WITH = (
    "WITH a AS (FROM trade WHERE symbol = 'ETHUSDT'), b AS (FROM trade WHERE date = '{d2}'::DATE AND "
    "symbol = 'BTCUSDT') SELECT 1 FROM a, b"
)
NUMBERED = (
    "SELECT 1 FROM (SELECT *, row_number() OVER (PARTITION BY symbol ORDER BY seq) AS n FROM trade) "
    "WHERE symbol = 'ETHUSDT'"
)


@pytest.mark.parametrize(
    "query, files",
    [
        ("FROM trade", ALL),
        ("SELECT 1 FROM trade WHERE symbol = 'BTCUSDT'", ["0B", "1B", "2B", "h2", "h2", "h4"]),
        ("FROM trade WHERE symbol LIKE 'BTC%' AND exchange IN ('binance', 'x')", ["0B", "1B", "2B", "h2", "h2", "h4"]),
        ("FROM trade WHERE exchange = 'okx'", []),
        ("FROM trade WHERE date = '{d2}'::DATE", ["2B", "2E"]),
        ("FROM trade WHERE date > '{d2}'::DATE", ["h2", "h4"]),
        ("FROM trade WHERE ts_event >= '{noon}'", ["h4"]),
        ("FROM trade WHERE ts_event < '{d1}' AND symbol > 'C'", ["0E"]),
        ("FROM trade WHERE ts_event::DATE = '{d1}'::DATE", ALL),
        ("FROM trade WHERE upper(symbol) = 'BTCUSDT' OR symbol = 'X'", ALL),
        ("FROM trade WHERE symbol = 'X' OR price > 3", ALL),
        ("FROM trade WHERE NOT symbol = 'BTCUSDT'", ALL),
        ("FROM trade WHERE symbol = 'ETHUSDT' AND date IN ('{d1}'::DATE, '{d3}'::DATE)", ["1E", "h2", "h2", "h4"]),
        ("FROM trades('binance', 'ETHUSDT', '{d1}', '{d2}')", ["1E", "h2"]),
        (TWO_WITH, ["0E", "1E", "2B", "2E", "h2", "h2", "h4"]),
        ("SELECT (SELECT max(price) FROM trade WHERE date = '{d1}'::DATE AND symbol = 'ETHUSDT')", ["1E", "h2"]),
        (NUMBERED, ["0E", "1E", "2E", "h2", "h2", "h4"]),
        ("SELECT 1 FROM trade a JOIN trade b USING (symbol, date) WHERE a.symbol = 'ETHUSDT' AND b.date = '{d1}'::DATE",
         ["1E", "h2"]),
        ("SELECT max(price) FILTER (symbol = 'ETHUSDT') FROM trade", ALL),
        ("DESCRIBE trade", []),
    ],
)  # fmt: skip
def test_the_files_are_those_that_can_hold_wanted_rows(lake, query, files):
    asked = query.format(**AT)
    assert wanted(lake, asked) == files
    unpruned = asked.replace("trade", "(SELECT * FROM trade OFFSET 0)") if "trades(" not in asked else None
    if unpruned is not None and "DESCRIBE" not in asked:
        assert wanted(lake, unpruned) == ALL, "nothing goes below an OFFSET"
        assert rows(lake.sql(asked)) == rows(lake.sql(unpruned))


def condition(chance: random.Random, depth: int = 0) -> str:
    """Any condition on what files are chosen by, and on what they are not."""
    at = text(T0 + chance.randrange(-1, 5) * DAY + chance.choice((0, HOUR, 2 * HOUR, 2 * HOUR + 1)))
    day = f"'{at[:10]}'::DATE"
    how = chance.choice(("=", "<>", "<", "<=", ">", ">="))
    name = chance.choice((*SYMBOLS, "BTC", "binance", "zz", ""))
    if depth < 3 and chance.random() < 0.6:
        parts = [condition(chance, depth + 1) for _ in range(chance.choice((2, 2, 3)))]
        held = f" {chance.choice(('AND', 'OR'))} ".join(f"({part})" for part in parts)
        return f"NOT ({held})" if chance.random() < 0.2 else held
    return chance.choice((
        f"symbol {how} '{name}'", f"exchange {how} '{name}'", f"date {how} {day}", f"ts_event {how} '{at}'",
        f"symbol IN ('{name}', 'ETHUSDT')", f"symbol LIKE '{name}%'", f"symbol NOT LIKE '%{name}'",
        f"date IN ({day}, {day} + 1)", f"ts_event BETWEEN '{at}' AND '{at}'::TIMESTAMPTZ + INTERVAL 20 HOUR",
        f"ts_event::DATE {how} {day}", f"seq {how} {chance.randrange(50)}", "side IS NULL", "symbol IS NOT NULL",
        f"'{at}' {how} ts_event", f"coalesce(symbol, 'x') = '{name}'", f"date {how} ts_event::DATE - 1",
        f"symbol IN (SELECT symbol FROM trade WHERE date {how} {day})", f"ts_event + INTERVAL 1 DAY {how} '{at}'",
        f"extract('hour' FROM ts_event) {how} 20", "true", "false", f"symbol = ANY(['{name}', 'x'])",
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_asked_no_wanted_row_is_left_out(lake, seed):
    chance = random.Random(seed)  # conditions of a test
    for _ in range(12):
        asked = f"SELECT symbol, seq, ts_event FROM trade WHERE {condition(chance)}"
        whole = asked.replace("FROM trade", "FROM (SELECT * FROM trade OFFSET 0)", 1)
        assert rows(lake.sql(asked)) == rows(lake.sql(whole)), asked


def rows(answer):
    return sorted(str([*row.values()]) for row in answer.to_pylist())


def test_a_hot_row_of_a_closed_day_is_not_seen_whatever_is_asked(lake):
    at = f"ts_event >= '{text(T0 + DAY + 2 * HOUR)}' AND ts_event < '{text(T0 + DAY + 3 * HOUR)}'"
    assert lake.sql(f"SELECT seq FROM trade WHERE {at}").num_rows == 0


def test_bars_are_what_a_read_gives(lake):
    shown = lake.sql("SELECT * FROM bar_1m ORDER BY window_start")
    read = lake.read("bar_1m")
    assert shown.to_pylist() == read.to_pylist()
    assert shown.schema.field("ts_event") == read.schema.field("ts_event")
    assert shown["gap"].to_pylist().count(True) > 25
    assert 0 < shown["open"].null_count == shown["gap"].to_pylist().count(True)
    cut = f"window_start >= '{text(T0 + 21 * MINUTE)}' AND window_start < '{text(T0 + 23 * MINUTE)}'"
    assert lake.sql(f"SELECT gap FROM bars_1m WHERE {cut} ORDER BY window_start")["gap"].to_pylist() == [True, False]


@pytest.mark.parametrize("width", ["5m", "1h", "1d"])
def test_wider_bars_are_those_of_a_read(lake, width):
    names = ["window_start", "open", "high", "low", "close", "volume_base", "volume_quote", "trade_count"]
    end = text(T0 + 20 * MINUTE)
    folded = lake.sql(
        f"SELECT {', '.join(names)} FROM bars('{width}', 'binance', 'BTCUSDT', until := '{end}') ORDER BY 1"
    )
    read = lake.read(f"bar_{width}", symbol="BTCUSDT", end=T0 + 20 * MINUTE, columns=names)
    if width == "5m":
        assert folded.to_pylist() == read.to_pylist()
    assert folded.num_rows == read.num_rows


def test_levels_are_rows_with_their_place(tmp_path):
    held = TestLake(tmp_path / "lake")
    update = book_rows.delta(T0, 7, bids=[("10", "1"), ("9", "2")], asks=[("11", "0")])
    held.part("book_delta", book_rows.table([update]))
    with Lake(held.root) as lake:
        answer = lake.sql(
            "SELECT side, level, price, quantity, last_update_id FROM book_delta_levels WHERE symbol = 'BTCUSDT' "
            "ORDER BY side DESC, level"
        )
    assert [tuple(row.values()) for row in answer.to_pylist()] == [
        ("bid", 1, 10.0, 1.0, 7), ("bid", 2, 9.0, 2.0, 7), ("ask", 1, 11.0, 0.0, 7),
    ]  # fmt: skip
    held.close()


def test_each_trade_has_the_last_quote_before_it(tmp_path):
    held = TestLake(tmp_path / "lake")
    held.day("trade", [trade(T0 + n * MINUTE, "10", "1", seq=n) for n in (1, 3)])
    held.day("quote", [quote(T0 + 2 * MINUTE, bid, "12", update_id=n) for n, bid in ((1, "8"), (2, "9"))])
    with Lake(held.root) as lake:
        answer = lake.sql("SELECT seq, bid FROM trades_quoted('binance', 'BTCUSDT') ORDER BY seq")
    assert answer.to_pylist() == [{"seq": 1, "bid": None}, {"seq": 3, "bid": 9.0}]
    held.close()


def test_two_copies_are_judged_among_what_is_asked_for(tmp_path):
    held = TestLake(tmp_path / "lake")
    for at, received in ((T0 + HOUR, T0), (T0, T0 + 5)):
        held.part("trade", table("trade", [trade(at, "10", "1", seq=1, ts_recv=received)]))
    with Lake(held.root) as lake:
        for end in (T0 + MINUTE, T0 + 2 * HOUR):
            found = lake.sql(f"SELECT ts_recv FROM trade WHERE ts_event < '{text(end)}'")
            assert found["ts_recv"].to_pylist() == lake.read("trade", end=end)["ts_recv"].to_pylist()
    held.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT current_setting('allowed_directories')",
        "SELECT \"Current_Setting\"('allowed_directories')",
        "SELECT system.main.current_setting('temp_directory')",
        "SELECT list_transform([1], x -> current_setting('allowed_directories'))",
        "WITH a AS (SELECT 1 b) SELECT * FROM a WHERE b::VARCHAR IN (SELECT current_setting('allowed_paths'))",
    ],
)
def test_no_query_is_told_of_settings_which_name_the_lakes_folder(query):
    with pytest.raises(WrongQuestion, match="current_setting is not possible"):
        sql_plan.planner().scans(query)


def test_the_name_of_what_tells_of_settings_may_be_said():
    assert sql_plan.planner().scans("SELECT 'current_setting' AS current_setting FROM trade")[0].table == "trade"
