"""`dl delete`: nothing without a yes, exactly the days of one symbol, gaps that say so, the disk freed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from lake import Lake
from lake.layout import VERSIONS
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade


def dl(*words: object, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == expect, done.output
    return done


def dl_json(*words: object) -> Any:
    return json.loads(dl(*words, "--json").stdout)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    made = TestLake(tmp_path / "lake")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made.day("trade", [trade(T0 + n, "1", "1", n + 1, symbol=symbol) for n in range(5)], symbol=symbol)
    made.close()
    return made.root


def test_it_deletes_one_symbol_when_it_is_told_so_twice(lake: Path) -> None:
    told = ("--symbol", "BTCUSDT", "--data-type", "trade", "--lake", lake)
    refused = dl("delete", *told, expect=2)
    assert "--yes" in refused.output
    planned = dl_json("delete", *told, "--dry-run")
    assert [(one["of"]["symbol"], one["files"]["rows"]) for one in planned["planned"]] == [("BTCUSDT", 5)]
    with Lake(lake) as held:
        assert held.read("trade").num_rows == 10, "nothing was changed"
    done = dl_json("delete", *told, "--yes")
    assert done["deleted"] == [{"files": 1, "rows": 5, "bytes": planned["planned"][0]["files"]["bytes"], "gaps": 1}]
    with Lake(lake) as held:
        assert {row["symbol"] for row in held.read("trade").to_pylist()} == {"ETHUSDT"}
        assert [gap.cause for gap in held.gaps(state="all")] == ["deleted"]
    assert not list((lake / "tables").rglob("symbol=BTCUSDT/**/*.parquet"))
    assert list((lake / VERSIONS).rglob("symbol=BTCUSDT/**/*.parquet")), "readers that have begun go on"
    dl("delete", *told, "--yes", expect=1)
    dl("rebuild", "--dry-run", "--lake", lake)
