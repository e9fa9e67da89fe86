"""`dl read --out`: rows go to the file as they are read, and the file appears whole or not at all."""

import json

import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.rows import spelt
from cli.written import write_batches
from lake import Lake
from lake.reader import Lake as Reader
from market.times import DAY, MINUTE
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

NAMES = ["symbol", "ts_event", "price", "seq"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three closed days and a hot part of one symbol."""
    made = TestLake(tmp_path_factory.mktemp("written") / "lake")
    for day in range(3):
        made.day("trade", [trade(T0 + day * DAY + n * MINUTE, "1.5", "2", day * 100 + n) for n in range(10)])
    made.part("trade", [trade(T0 + 3 * DAY + n * MINUTE, "1.5", "2", 300 + n) for n in range(10)])
    made.close()
    return made.root


def read_back(path):
    if path.suffix == ".parquet":
        return pl.read_parquet(path).select(NAMES).to_dicts()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pl.read_csv(path, try_parse_dates=True).select(NAMES).to_dicts()


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_rows_are_written_as_they_are_read(root, tmp_path, monkeypatch, ending):
    with Lake(root) as lake:
        whole = lake.read("trade", columns=NAMES)
    monkeypatch.setattr(Reader, "read", lambda *_, **__: pytest.fail("all rows are held"))
    out = tmp_path / f"rows{ending}"
    given = ["read", "trade", "--lake", str(root), "--columns", ",".join(NAMES), "--out", str(out)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "40 rows written to" in done.stderr
    assert "complete" in done.stderr
    rows = read_back(out)
    assert [row["seq"] for row in rows] == whole.column("seq").to_pylist()
    assert [row["price"] for row in rows] == [1.5] * 40
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_no_rows_are_said_and_leave_an_empty_file(root, tmp_path):
    out = tmp_path / "rows.csv"
    given = ["read", "trade", "--lake", str(root), "--symbol", "NONE", "--columns", "symbol,seq", "--out", str(out)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1
    assert "no rows of trade here" in done.stderr
    assert out.read_text() == "symbol,seq\n"


def test_what_breaks_off_leaves_the_file_that_was_there(tmp_path):
    schema = pa.schema({"n": pa.int64()})

    def broken():
        yield pa.record_batch([[1, 2]], schema=schema)
        raise OSError("the disk is gone")

    for ending in (".parquet", ".csv", ".jsonl"):
        out = tmp_path / f"rows{ending}"
        out.write_text("before")
        with pytest.raises(OSError, match="the disk is gone"):
            write_batches(schema, broken(), out)
        assert out.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_screen_shows_all_digits_of_what_a_venue_says():
    assert spelt(99999999.99999999, "price") == "99999999.99999999"
    assert spelt(0.30000000000000004, "qty") == "0.30000000000000004"
    assert [spelt(one, "price") for one in (64134.0, 1e-08, 1e22)] == ["64134", "0.00000001", "1" + "0" * 22]
    assert spelt(6.050000000000001, "qty_quote") == "6.05", "what is computed has fifteen"
    level = [{"price": 99999999.99999999, "qty": 0.1}]
    assert spelt(level, "bids") == "0.1@99999999.99999999"
