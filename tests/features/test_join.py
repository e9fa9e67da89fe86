"""What was known at each bar: never anything of the future, and always the newest of what was known."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import Put, put
from lake import Lake, asof
from lake.errors import WrongQuestion
from lake.feature_files import TIME
from market.times import DAY, MINUTE, SECOND
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, contract, trade

OF = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT"}
NOW = T0 + DAY


def at(*times: int) -> pa.Array:
    return pa.array(times, TIME)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Eight bars of a minute; `own` a value a minute, `late` the same a minute later, `told` with a column."""
    held = TestLake(tmp_path_factory.mktemp("join") / "lake")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = [trade(T0 + n * 20 * SECOND, "100.5", "1", n, symbol=symbol) for n in range(24)]
        held.day("bar_1m", bar_table(rows), symbol=symbol)
    held.part("contract", [contract(T0, "BTCUSDT", "1", "BTC/USDT:USDT", None)])
    minutes = [T0 + n * MINUTE for n in range(8)]
    table = pa.table({"time": at(*minutes), "x": range(8)})
    put(held.writer, table, Put(**OF, feature_set="own"), NOW)
    put(held.writer, table, Put(**OF, feature_set="late", delay=MINUTE), NOW)
    put(held.writer, table, Put(**OF | {"symbol": "ETHUSDT"}, feature_set="own"), NOW)
    corrected = pa.table(
        {
            "ts_event": at(minutes[0], minutes[0], minutes[2]),
            "known_at": at(minutes[1], minutes[5], minutes[3]),
            "x": [10, 11, 12],
        }
    )
    put(held.writer, corrected, Put(**OF, feature_set="told"), NOW)
    with Lake(held.root) as read:
        yield read
    held.close()


def joined(lake, sets, **more):
    return lake.features.join(sets, symbol="BTCUSDT", columns=["window_start"], **more).to_pydict()


def test_a_row_is_known_from_its_own_time_on_or_from_what_was_said(lake):
    found = joined(lake, ["own", "late", "told"])
    assert found["own__x"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found["late__x"] == [None, 0, 1, 2, 3, 4, 5, 6]
    assert found["told__x"] == [None, 10, 10, 12, 12, 12, 12, 12], "a late correction of what is older hides nothing"
    assert found["late__known_at"][1] == found["window_start"][1]


def test_a_bar_may_ask_at_its_close_too(lake):
    assert joined(lake, "late", at="close")["late__x"] == list(range(8))
    assert joined(lake, "own", at="close")["own__x"] == [1, 2, 3, 4, 5, 6, 7, 7]
    wide = joined(lake, "own", kind="bar_4m", at="close")
    assert (len(wide["window_start"]), wide["own__x"]) == (2, [4, 7])


def test_what_is_too_old_is_none(lake):
    assert joined(lake, "told", max_age=2 * MINUTE)["told__x"] == [None, 10, 10, 12, 12, None, None, None]


def test_a_part_of_the_bars_knows_what_came_before_it(lake):
    found = joined(lake, ["told", "own"], start=T0 + 6 * MINUTE)
    assert (found["told__x"], found["own__x"]) == ([12, 12], [6, 7])


def test_sets_of_another_symbol_stand_beside_it(lake):
    found = joined(lake, ["own@1.0.0", "ETHUSDT:own"])
    assert found["ETHUSDT__own__x"] == found["own__x"]


def test_what_was_known_then_is_read_as_it_was(lake):
    of = {"symbol": "BTCUSDT"}
    assert lake.features.read("told", **of)["x"].to_pylist() == [10, 11, 12]
    assert lake.features.read("told", **of, known_by=T0 + 4 * MINUTE)["x"].to_pylist() == [10, 12]
    assert lake.features.read("told", **of, columns=["known_at"], end=T0).num_rows == 0


def test_types_and_bars_stay_as_they_are(lake):
    bars = lake.read("bar_1m", **OF)
    table = lake.features.join("own", **OF)
    assert table.select(bars.column_names).equals(bars)
    assert [str(field.type) for field in table.schema][-3:] == ["timestamp[us, tz=UTC]"] * 2 + ["int64"]
    empty = lake.features.join("own", **OF, start=T0 + DAY)
    assert (empty.num_rows, empty.schema.names) == (0, table.schema.names)


@pytest.mark.parametrize(
    "asked, why",
    [
        ({"sets": "none"}, "there is no feature set none"),
        ({"sets": "own@2.0.0"}, r"has no version 2\.0\.0 \(it has 1\.0\.0"),
        ({"sets": ["own", "own@1.0.0"]}, "a column that is there already"),
        ({"sets": "own", "at": "noon"}, "at is open or close"),
        ({"sets": "own", "max_age": -1}, "no age is negative"),
        ({"sets": "own", "columns": ["colour"]}, "bar_1m has no column colour"),
        ({"sets": "own", "kind": "trade", "at": "close"}, "trade has no close"),
        ({"sets": "own", "symbol": "XRPUSDT"}, "there is no feature set own of XRPUSDT"),
    ],
)
def test_a_join_that_cannot_be(lake, asked, why):
    with pytest.raises(WrongQuestion, match=why):
        lake.features.join(**({"symbol": "BTCUSDT"} | asked))


def test_a_symbol_is_known_by_both_its_names_also_where_there_are_no_rows(lake):
    for start in (T0, T0 + DAY):
        own = lake.features.join("own", symbol="BTCUSDT", start=start)
        assert lake.features.join("own", symbol="BTC/USDT:USDT", start=start) == own
        assert own.num_rows == (0 if start > T0 else 8)


def test_a_set_of_several_symbols_is_not_guessed(lake):
    with pytest.raises(WrongQuestion, match="own is a set of 2 symbols: binance linear BTCUSDT, bin"):
        lake.features.read("own")


MOMENTS = st.integers(0, 12)


@st.composite
def told_rows(draw):
    """(own time, known at), each once, in the order of a file."""
    pairs = draw(st.sets(st.tuples(MOMENTS, MOMENTS), max_size=25))
    return sorted((own, max(own, known)) for own, known in {(own, max(own, known)) for own, known in pairs})


def newest_known(rows: list[tuple[int, int]], moment: int) -> int | None:
    """The plain meaning: of what is known the newest own time, and of that the last word."""
    known = [(own, since, place) for place, (own, since) in enumerate(rows) if since <= moment]
    return max(known)[2] if known else None


@settings(max_examples=150, deadline=None)
@given(told_rows(), st.lists(st.integers(-2, 14), max_size=15), st.none() | st.integers(0, 5))
def test_nothing_of_the_future_and_nothing_older_than_the_newest_known(rows, moments, max_age):
    features = pl.DataFrame(
        {"ts_event": [own for own, _ in rows], "known_at": [since for _, since in rows], "x": range(len(rows))},
        schema={"ts_event": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC"), "x": pl.Int64},
    )
    asking = pl.DataFrame({asof.AT: moments}, schema={asof.AT: pl.Datetime("us", "UTC")})
    found = asof.join(asking, features.sample(fraction=1, shuffle=True, seed=1), "s", max_age)
    assert found[asof.AT].to_physical().to_list() == moments, "one row each, in their order"
    wanted = [newest_known(rows, moment) for moment in moments]
    old = [
        max_age is not None and w is not None and rows[w][0] < m - max_age for w, m in zip(wanted, moments, strict=True)
    ]
    assert found["s__x"].to_list() == [None if gone else w for w, gone in zip(wanted, old, strict=True)]
    for moment, since in zip(moments, found["s__known_at"].to_physical().to_list(), strict=True):
        assert since is None or since <= moment


@settings(max_examples=60, deadline=None)
@given(told_rows(), st.integers(0, 13), st.integers(0, 12))
def test_what_becomes_known_later_changes_no_earlier_answer(rows, moment, later):
    """No look-ahead: an answer is the same whether or not anything is known after it."""

    def answer(known: list[tuple[int, int]]) -> list[object]:
        features = pl.DataFrame(
            {"ts_event": [own for own, _ in known], "known_at": [since for _, since in known]},
            schema={"ts_event": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")},
        )
        asking = pl.DataFrame({asof.AT: [moment]}, schema={asof.AT: pl.Datetime("us", "UTC")})
        return list(asof.join(asking, features, "s").row(0))

    assert answer(rows) == answer([row for row in rows if row[1] <= moment + later])
