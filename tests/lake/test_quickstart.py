"""docs/quickstart.ipynb: its cells, run one after the other, go from the demo's lake to a chart in ten lines."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest
import yaml

from market.session import Coverage, Gap
from market.times import SECOND, Interval
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, trade

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "docs/quickstart.ipynb"
SVG = "{http://www.w3.org/2000/svg}"
HELD, QUIET, HOLE = 30, range(10, 13), range(20, 22)
"""Seconds of the lake; those without a trade, and those over a gap."""


def cells(kind: str) -> list[str]:
    told = json.loads(BOOK.read_text(encoding="utf-8"))
    assert (told["nbformat"], told["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in told["cells"]}) == len(told["cells"])
    return ["".join(cell["source"]) for cell in told["cells"] if cell["cell_type"] == kind]


def run(source: str, names: dict[str, Any]) -> Any:
    """What a notebook shows of a cell: the value of its last line."""
    *first, last = ast.parse(source).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(first, []), str(BOOK), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(BOOK), "eval"), names)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake of the demo's name and market beside `docs`, where the notebook is."""
    made = TestLake(tmp_path / "demo-lake")
    spot = {"market_type": "spot"}
    rows = [
        trade(T0 + n * SECOND, f"{100 + n % 7}.5", "1", seq=n + 1, **spot)
        for n in range(HELD)
        if n not in (*QUIET, *HOLE)
    ]
    made.day("bar_1s", bar_table(rows, SECOND, Interval(T0, T0 + HELD * SECOND)), **spot)
    known = STREAM | spot | {"kind": "trade", "symbol": "BTCUSDT"}
    made.writer.record_coverage([Coverage(**known, session="n-1-1", ts_from=T0, ts_to=T0 + HELD * SECOND)])
    made.writer.record_gaps([
        Gap(**known, gap_id="hole", ts_from=T0 + HOLE.start * SECOND, ts_to=T0 + HOLE.stop * SECOND, id_from=None,
            id_to=None, cause="cut", proof="interval", state="open", session=None, detected_at=T0)
    ])  # fmt: skip
    made.close()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")


def test_ten_lines_from_the_lake_to_a_chart(demo: None) -> None:
    code = cells("code")
    assert sum(bool(line.strip()) for cell in code for line in cell.splitlines()) <= 10
    names: dict[str, Any] = {}
    shown = [run(cell, names) for cell in code]
    names["lake"].close()
    assert isinstance(shown[0], pl.DataFrame)
    assert shown[0].rows() == [("binance", "spot", "BTCUSDT", HELD - len(QUIET) - len(HOLE))]
    drawn = ET.fromstring(shown[-1]._repr_svg_())
    assert drawn.tag == f"{SVG}svg"
    (line,) = drawn.findall(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    assert [second for second, _ in points] == [n for n in range(HELD) if n not in HOLE]
    assert [below for _, below in points[:9]] == [6 - n % 7 for n in range(9)]
    assert {points[n][1] for n in QUIET} == {points[QUIET.start - 1][1]}, "a second without a trade is as the last one"
    assert (width, height) == (HELD, 6)


def test_what_it_asks_for_is_what_the_demo_collects() -> None:
    sources = yaml.safe_load((ROOT / "config.yml").read_text(encoding="utf-8"))["collectors"]["sources"]
    spot = next(source for source in sources if source["market_type"] == "spot")
    assert "BTCUSDT" in spot["symbols"]
    assert 'market_type="spot", symbol="BTCUSDT"' in cells("code")[-1]
    assert "demo-lake" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "quickstart.ipynb" in (ROOT / "README.md").read_text(encoding="utf-8")
