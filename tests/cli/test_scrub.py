"""`dl scrub`: by itself on a lake that nobody writes, beside a writer with --dry-run, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from lake.rows import FileRow
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, FileRow]:
    monkeypatch.chdir(tmp_path)
    held = TestLake(tmp_path / "lake")
    day = held.day("trade", [trade(T0 + n, "100.5", "1", n, symbol="BTCUSDT", frame_no=n) for n in range(5)])
    held.close()
    return tmp_path / "lake", day


def ask(*arguments: object, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == expect, done.output
    return done


def harm(root: Path, day: FileRow) -> None:
    path = root / day.path
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_a_whole_lake_is_ok(lake: tuple[Path, FileRow]) -> None:
    root, day = lake
    assert "1 file read again" in ask("scrub", "--lake", root).output
    told = json.loads(ask("scrub", "--lake", root, "--json").stdout)
    assert told == {"ok": True, "files": 1, "bytes": day.bytes, "found": [], "unreadable": []}


def test_a_dry_run_says_what_is_broken_beside_a_writer_and_changes_nothing(lake: tuple[Path, FileRow]) -> None:
    root, day = lake
    harm(root, day)
    held = TestLake(root)
    try:
        shown = ask("scrub", "--lake", root, "--dry-run", expect=1).output
        assert held.writer.manifest.file(day.path).state == "live"  # type: ignore[union-attr] # it is there
    finally:
        held.close()
    assert day.path in shown.replace("\n", "")
    assert "nothing was changed" in " ".join(shown.split())
    assert (root / day.path).exists()


def test_what_is_broken_is_set_right_or_told_to_be_lost_and_then_it_is_ok(lake: tuple[Path, FileRow]) -> None:
    root, day = lake
    harm(root, day)
    told = json.loads(ask("scrub", "--lake", root, "--json", expect=1).stdout)
    assert told["found"] == [{"path": day.path, "verdict": "altered", "outcome": "lost"}]
    ask("scrub", "--lake", root)
    shown = ask("gaps", "--lake", root, expect=1).output
    assert "bitrot" in shown


def test_a_file_that_the_disk_does_not_read_stays(lake: tuple[Path, FileRow], monkeypatch: pytest.MonkeyPatch) -> None:
    root, day = lake

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("lake.scrub.Reading.read", broken)
    shown = ask("scrub", "--lake", root, "--dry-run", expect=1).output
    assert "the disk does not read it" in " ".join(shown.split())
    assert (root / day.path).exists()
