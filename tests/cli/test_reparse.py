"""`dl reparse`: what it says, its exit codes, and that what it does is done whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.app import app
from lake import parquet
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.verify import verify_lake
from lake.writer import LakeWriter
from runtime.workers import InlineExecutor
from tests.support import proven
from tests.support.crash import quick_folder
from tests.support.proven import LATER

DAY = "2025-11-21"


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lake of which one side of a trade is not what its frame says."""
    with quick_folder() as folder:
        root = proven.midnight_lake(folder / "lake")
        with LakeWriter.open(root, "box", LATER) as writer:
            (row,) = writer.manifest.files("trade", level="day", date_from=DAY)
            table = parquet.read(root / row.path)
            sides = table.column("side").cast(pa.string()).to_pylist()
            sides[3] = "sell" if sides[3] == "buy" else "buy"
            place = table.column_names.index("side")
            column = pa.chunked_array([sides]).dictionary_encode().cast(table.schema.field("side").type)
            table = table.set_column(place, table.schema.field("side"), column)
            where = Placement(
                kind="trade", exchange=row.exchange, market_type=row.market_type, level="day", date=DAY,
                symbol=row.symbol, revision=1, lake_id=writer.lake_id,
            )  # fmt: skip
            made = publish(root, where, [table], run="test", now=LATER)
            told = writer.manifest.certificates(row.path)[-1]
            told.path, told.sha256, told.content_digest = made.path, made.sha256, made.content_digest or ""
            told.issued_at += 1
            writer.publish(add=[made], remove=[row.path], certificates=[told], now=LATER)
        (folder / "config.yml").write_text(
            f"lake: {root}\ncompactor:\n  reproduce:\n    max_mb: 64000\n    folder: {folder}\n"
        )
        yield root


def ask(lake: Path, *words: str) -> tuple[int, str]:
    made = CliRunner().invoke(
        app, ["reparse", "--config", str(lake.parent / "config.yml"), *words], env={"COLUMNS": "200"}
    )
    return made.exit_code, made.output


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames are read in this process."""
    monkeypatch.setattr("runtime.workers.Workers", InlineExecutor)


@pytest.mark.usefixtures("_here")
def test_a_dry_run_says_what_would_change_and_nothing_does(lake: Path) -> None:
    files = sorted(str(path) for path in lake.rglob("*.parquet"))
    code, said = ask(lake, "--from", DAY, "--dry-run")
    assert code == 0, said
    assert "changed trade BTCUSDT 2025-11-21T00:00:30+00:00 (box-1-1 frame 199 item 0)\n    side: sell -> buy\n" in said
    assert said.endswith("1 row would change\n")
    code, told = ask(lake, "--from", DAY, "--dry-run", "--json", "--examples", "0", "--kind", "quote")
    (day,) = json.loads(told)["days"]
    assert (code, [one["kind"] for one in day["streams"]]) == (0, ["quote"])
    assert sorted(str(path) for path in lake.rglob("*.parquet")) == files


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    "words, code, sentence",
    [
        (("--from", "2025-11-22", "--dry-run"), 2, "the lake has nothing of that"),
        (("--from", "soon", "--dry-run"), 2, "soon"),
        (("--from", DAY, "--to", "2025-11-20", "--dry-run"), 2, "--to is the last date, included"),
        (("--from", DAY, "--kind", "bar_1m", "--dry-run"), 2, "is made of other rows"),
        (("--from", DAY, "--exchange", "okx", "--dry-run"), 2, "the lake has nothing of that"),
    ],
)
def test_what_cannot_be_meant_ends_in_a_sentence(lake: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    got, said = ask(lake, *words)
    assert sentence in said
    assert got == code, said


def command(lake: Path, fault: str = "") -> int:
    """`dl reparse` in a process of its own, which a fault may end."""
    words = ["reparse", "--config", str(lake.parent / "config.yml"), "--from", DAY, "--json"]
    environment = {**os.environ, "LAKE_FAULT": fault} if fault else dict(os.environ)
    made = subprocess.run(
        [sys.executable, "-m", "cli", *words], env=environment, capture_output=True, timeout=300, check=False
    )
    return made.returncode


def sides(lake: Path) -> list[str]:
    manifest = Manifest.read_only(lake)
    try:
        (row,) = manifest.files("trade", level="day", date_from=DAY)
        return [str(side) for side in parquet.read(lake / row.path).column("side").to_pylist()]
    finally:
        manifest.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rename:1:KILL", "fsync:3:KILL", "link:1:KILL", "unlink:40:KILL", "write:30:KILL"])
def test_a_kill_in_the_middle_leaves_the_old_day_or_the_new_one(lake: Path, fault: str) -> None:
    wrong = sides(lake)
    command(lake, fault)
    after = sides(lake)
    assert sum(a != b for a, b in zip(wrong, after, strict=True)) in (0, 1)
    assert command(lake) == 0
    assert set(sides(lake)) == {"buy"}
    manifest = Manifest.read_only(lake)
    try:
        with manifest.snapshot() as snapshot:
            found = verify_lake(lake, snapshot, lambda *_: None)
    finally:
        manifest.close()
    assert [one.problem for one in found.findings if one.severity == "error"] == []
