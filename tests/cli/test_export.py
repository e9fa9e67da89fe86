"""`dl export` as it is typed; and what it wrote, imported again, is what was exported."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors.files.importing import request_of, take_in
from collectors.files.reading import Options
from lake import Lake
from lake.digest import content_digest
from lake.writer import LakeWriter
from market.times import SECOND
from runtime.workers import InlineExecutor
from tests.support.crash import quick_folder
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, quote, trade


@pytest.fixture
def folder():
    with quick_folder() as made:
        yield made


def run(*arguments, expect=0):
    done = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})
    assert isinstance(done.exception, SystemExit | None), done.output
    assert done.exit_code == expect, done.output
    return done


def trades():
    dice = random.Random(7)
    made = [
        trade(T0 + n * SECOND // 3, f"{dice.randrange(1, 10**9) / 10**4:.4f}", f"0.{dice.randrange(1, 10**8):08d}",
              n + 1, side=dice.choice(("buy", "sell", None)), ts_recv=T0 + n * SECOND // 3 + dice.randrange(10**6))
        for n in range(60)
    ]  # fmt: skip
    return [*made, trade(T0 + 59 * SECOND, "0.12345678901234567891", "12345678901234567.891", 61)]


def others():
    base = {key: value for key, value in trade(T0, "1", "1", 1).items() if key not in ("seq", "condition", "trade_id")}
    marks = [
        {key: value for key, value in base.items() if key not in ("price", "qty", "side", "qty_unit", "multiplier")}
        | {"ts_event": T0 + n * SECOND, "ts_recv": T0 + n * SECOND + 9, "mark": f"10.{n}", "index": "10.00000001",
           "predicted_rate": "-0.00012500", "next_funding": T0 + 3600 * SECOND}
        for n in range(5)
    ]  # fmt: skip
    forced = {"price": "9.50", "qty": "3", "side": "sell"}
    liquidations = [base | forced | {"ts_event": T0 + n, "frame_no": n + 1} for n in range(3)]
    return {
        "quotes": ("quote", [quote(T0 + n, f"1.0{n}", f"1.{n}1", update_id=None, frame_no=n) for n in range(1, 6)]),
        "derivative_ticker": ("mark_price", marks),
        "liquidations": ("liquidation", liquidations),
    }


def digest(root, kind):
    with Lake(root) as lake:
        found = lake.read(kind)
        names = [name for name in found.column_names if name not in ("qty_base", "qty_quote")]
        return content_digest(found.select(names), "binance", "linear", kind), found.num_rows


@pytest.mark.parametrize("what, kind, rows", [("trades", "trade", trades()), *((w, *k) for w, k in others().items())])
def test_what_is_exported_and_imported_again_has_the_same_content(folder, what, kind, rows):
    lake = TestLake(folder / "lake")
    lake.day(kind, rows, symbol="BTCUSDT" if kind in ("trade", "quote") else None)
    lake.close()
    out = ("--out", folder / "out", "--format", "tardis-csv", "--type", what)
    made = json.loads(run("export", *out, "--lake", folder / "lake", "--json").stdout)
    (one,) = made["files"]
    assert (one["rows"], one["left_out"], one["disordered"]) == (len(rows), 0, 0)
    assert one["path"].endswith(f"/binance-futures_{what}_2024-07-19_BTCUSDT.csv.gz")
    options = Options(exchange="binance", market_type="linear", kind=kind)
    with LakeWriter.open(folder / "again", "node", T0) as writer:
        request = request_of(Path(one["path"]), options, again=False)
        taken = take_in(writer, InlineExecutor(), "node", T0, request, lambda *_: None)
    assert (taken.rows, taken.quarantined, taken.duplicates, taken.symbols) == (len(rows), 0, 0, ["BTCUSDT"])
    assert digest(folder / "again", kind) == digest(folder / "lake", kind)


def test_files_are_named_before_they_are_written_and_wrong_questions_are_answered(folder):
    lake = TestLake(folder / "lake")
    lake.day("trade", [trade(T0, "1", "1", 1, condition="adl"), trade(T0 + 1, "1", "1", 2, ts_recv=T0 + 5)])
    lake.close()
    asked = ("export", "--out", folder / "out", "--lake", folder / "lake", "--format")
    tardis = (*asked, "tardis-csv", "--type")
    name = "binance-futures_trades_2024-07-19_BTCUSDT.csv.gz"
    assert run(*tardis, "trades", "--dry-run").stdout == f"would write {name}\n"
    assert not (folder / "out").exists()
    said = run(*tardis, "trades").stdout
    assert name in said
    assert "trades have no place for conditions, units and multipliers" in said
    assert "1 row left out: the form cannot tell such trades from others" in said
    assert "options_chain is no data type" in run(*tardis, "options_chain", expect=2).stderr
    assert "nothing is stored of that" in run(*tardis, "quotes", expect=1).stderr
    assert "nothing is stored" in run(*tardis, "trades", "--end", "2024-07-19", expect=1).stderr
    run(*asked, "csv", "--type", "nonsense", expect=2)
    (folder / "file").write_text("")
    run("export", "--out", folder / "file", "--lake", folder / "lake", "--format", "csv", "--type", "trade", expect=2)
    assert "1 row in 1 file" in run(*asked, "csv", "--type", "trade", "--start", "2024-07-19T00:00:00.000001Z").stdout
