"""scripts/cover.py: what was never run is said and is no figure."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from scripts import cover, figures
from tests.support.commands import ROOT


def report(total: float = 95.0, **missing: list[int]) -> dict[str, Any]:
    files = {
        name: {
            "missing_lines": missing.get(Path(name).stem, []),
            "missing_branches": [],
            "summary": {"num_branches": 20},
        }
        for name in ("lake/durable.py", "lake/manifest_reads.py", "lake/reader.py")
    }
    return {"files": files, "totals": {"percent_covered": total}}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    return tmp_path / "figures.json"


def test_one_line_that_was_never_run_is_named_and_nothing_is_written_down(written: Path, capsys: Any) -> None:
    assert cover.judged(report(durable=[7]), whole=False, record=True) == 1
    assert "lake/durable.py: never run: lines [7], branches []" in capsys.readouterr().out
    assert cover.judged({"files": {}, "totals": {"percent_covered": 100.0}}, whole=False, record=True) == 1
    assert cover.judged(report(total=89.9), whole=True, record=True) == 1
    assert not written.exists()


def test_what_was_run_whole_is_a_figure_whatever_other_modules_are(written: Path) -> None:
    assert cover.judged(report(total=60.0, reader=[1]), whole=False, record=True) == 0
    assert [(name, entry["unit"]) for name, entry in figures.held().items()] == [
        ("branches of what must not lose data", "% of 40 branches in 2 modules")
    ]
    assert cover.judged(report(), whole=True, record=True) == 0
    assert figures.held()["lines and branches of everything"]["value"] == 95.0


def test_whoever_changes_the_manifest_is_among_the_code() -> None:
    texts = {path: path.read_text("utf-8") for package in cover.PACKAGES for path in (ROOT / package).rglob("*.py")}
    changing = {
        path.relative_to(ROOT)
        for path, text in texts.items()
        for node in (ast.parse(text).body if "sqlalchemy" in text else ())
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy")
        if {name.name for name in node.names} & {"insert", "update", "delete"}
    }
    assert len(changing) > 5
    assert [path for path in changing if not any(path.match(pattern) for pattern in cover.CODE)] == []


def test_the_code_and_the_tests_it_names_are_there() -> None:
    assert [pattern for pattern in cover.CODE if not list(ROOT.glob(pattern))] == []
    named = [ROOT / at / f"test_{name}.py" for at, names in cover.TESTS.items() for name in names]
    assert [path for path in named if not path.is_file()] == []
