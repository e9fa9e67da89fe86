"""What is no name, number, time or list is refused by every verb of `Lake`, with the name of the argument."""

import inspect

import polars as pl
import pytest

from features import Put, put
from lake import Lake
from lake.errors import LakeError, NotALake, WrongQuestion
from market.errors import MarketError
from market.times import to_datetime
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

VERBS = (
    "read", "bars", "scan", "batches", "completeness", "sql", "book", "datasets", "files", "gaps", "coverage",
    "versions", "certificate", "lineage", "trace",
)  # fmt: skip
FEATURES = ("versions", "sets", "by_id", "get", "read", "path", "lineage", "join")
RIGHT = {
    "kind": "trade", "date": T0, "symbol": "BTCUSDT", "at": T0, "query": "SELECT 1", "feature_set": "x", "sets": "x",
    "feature_id": "x", "row": None, "id": 1,
}  # fmt: skip
NEITHER = {"deleted"}
"""Taken as true or false."""


@pytest.fixture
def lake(tmp_path):
    made = TestLake(tmp_path / "lake")
    made.day("trade", [trade(T0, "100", "1", seq=1)])
    told = Put(exchange="binance", market_type="linear", symbol="BTCUSDT", feature_set="x")
    put(made.writer, pl.DataFrame({"ts_event": [to_datetime(T0)], "value": [1.0]}), told, T0)
    made.close()
    with Lake(tmp_path / "lake") as opened:
        yield opened


def arguments(verb):
    for name, one in inspect.signature(verb).parameters.items():
        if one.kind is not inspect.Parameter.VAR_KEYWORD and name not in NEITHER:
            yield name


def needed(verb):
    held = inspect.signature(verb).parameters.values()
    return {one.name: RIGHT[one.name] for one in held if one.default is one.empty and one.name in RIGHT}


@pytest.mark.parametrize("wrong", [object(), 5.5, b"x", [5], {"a": 1}, [None]], ids=range(6))
def test_every_argument_of_a_wrong_type_is_named(lake, wrong):
    verbs = [getattr(lake, name) for name in VERBS] + [getattr(lake.features, name) for name in FEATURES]
    for verb in verbs:
        for name in arguments(verb):
            if (name, wrong) == ("timeout", 5.5):
                continue
            with pytest.raises((LakeError, MarketError), match=rf"\b{name}=|has no column"):
                verb(**needed(verb) | {name: wrong})


def test_a_list_with_nothing_in_it_is_not_every_symbol(lake):
    with pytest.raises(WrongQuestion, match=r"symbol=None is no name"):
        lake.read("trade", symbol=[None])
    assert lake.read("trade", symbol=[]).num_rows == 0
    assert lake.read("trade", symbol=(one for one in ["BTCUSDT"])).num_rows == 1
    assert lake.read("trade", columns=(one for one in ["price"])).to_pylist() == [{"price": 100.0}]


def test_numbers_have_their_limits(lake):
    for wrong in (-1, True, 2**63):
        with pytest.raises(WrongQuestion, match="limit="):
            lake.sql("SELECT 1", limit=wrong)
        with pytest.raises(WrongQuestion, match="batch_rows="):
            lake.batches("trade", batch_rows=wrong)
    for wrong in (0, -1, float("nan"), 2**70):
        with pytest.raises(WrongQuestion, match="timeout="):
            lake.sql("SELECT 1", timeout=wrong)
    with pytest.raises(WrongQuestion, match="which row of trade is not said"):
        lake.trace("trade", item=0)
    assert lake.trace("trade", id=2**70) == [], "no row has it"


def test_what_is_no_path_is_no_lake(tmp_path):
    for wrong in (5, None, b"x"):
        with pytest.raises(WrongQuestion, match="path="):
            Lake(wrong)
    with pytest.raises(NotALake):
        Lake(tmp_path / ("long" * 100))


def test_a_time_says_whose_it_is(lake):
    for name in ("start", "end", "as_of"):
        with pytest.raises(MarketError, match=rf"malformed time .* for {name}: '2026-02-31'"):
            lake.read("trade", **{name: "2026-02-31"})
