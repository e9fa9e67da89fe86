"""`dl verify`: the law as a table and as JSON, frames with their limits, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from tests.support import proven


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return proven.lake(tmp_path / "lake")


def ask(*arguments: object, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == expect, done.output
    return done


def test_files_that_an_import_left_when_it_was_interrupted_are_counted_and_not_all_listed(lake: Path) -> None:
    held = next((lake / "hot").rglob("trade-*.parquet"))
    for number in range(30):
        (held.parent / f"trade-000000000-000000001-g0-{number:08x}.parquet").write_bytes(held.read_bytes())
    shown = ask("verify", "--lake", lake)
    assert shown.stderr.count("is named by no row of the manifest") == 10 + 1
    assert "and 20 more: is named by no row of the manifest (--json names each)" in shown.stderr
    told = json.loads(ask("verify", "--lake", lake, "--json").stdout)["findings"]
    assert sum(one["problem"] == "is named by no row of the manifest" for one in told) == 30


def test_the_law_is_one_table_and_the_same_as_json(lake: Path) -> None:
    shown = ask("verify", "--lake", lake).output
    line = next(text.split() for text in shown.splitlines() if text.startswith("binance   linear  trade"))
    assert line[3:] == ["37", "37", "0", "0", "0", "0", "0", "1", "50", "37", "0", "3", "10", "0", "yes"]
    assert shown.rstrip().endswith("verified")
    told = json.loads(ask("verify", "--lake", lake, "--json").stdout)
    assert told["ok"]
    trades = next(one for one in told["streams"] if one["kind"] == "trade")
    assert (trades["lines"], trades["ids"]["numbered"], trades["ids"]["missing"]) == (37, 50, 3)
    assert told["markets"][0]["events"] == 77


def test_frames_are_compared_with_rows_and_a_difference_is_exit_code_1(lake: Path) -> None:
    shown = ask("verify", "--frames", "--lake", lake).output
    assert "79 frames of 2 files: 77 events, 1 duplicates, 1 rejected, 0 of other channels" in shown
    told = json.loads(
        ask("verify", "--frames", "--kind", "trade", "--date", "2025-11-20", "--lake", lake, "--json").stdout
    )
    (market,) = told["markets"]
    assert (told["ok"], [day["kind"] for day in market["days"]]) == (True, ["trade"])
    gone = next((lake / "frames").rglob("*date=2025-11-21/*.zst"))
    gone.unlink()
    done = ask("verify", "--frames", "--lake", lake, expect=1)
    assert f"error {gone.relative_to(lake).as_posix()}: is missing" in done.stderr
    assert "not made of any frame: BTCUSDT" in done.stderr


def test_a_date_of_which_nothing_is_stored_proves_nothing(lake: Path) -> None:
    ask("verify", "--frames", "--symbol", "BTCUSDT", "--date", "2025-11-20", "--lake", lake)
    dates = ("--date", "2025-11-20", "--date", "2019-01-01")
    done = ask("verify", "--frames", *dates, "--lake", lake, expect=1)
    assert "neither rows nor frames are stored of 2019-01-01: that proves nothing" in done.stderr
    assert not json.loads(ask("verify", "--frames", *dates, "--lake", lake, "--json", expect=1).stdout)["ok"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--kind", "trade"), "use it with --frames"),
        (("--scratch", "."), "use it with --frames"),
        (("--frames", "--exchange", "kraken"), "the lake has nothing of that"),
        (("--frames", "--symbol", "NOSUCH"), "the lake has nothing of that"),
        (("--frames", "--symbol", "BTC/USDT"), "the lake has nothing of that"),
        (("--frames", "--date", "yesterday"), "yesterday"),
        (("--frames", "--scratch", "nowhere"), "is no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_to_do(lake: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in ask("verify", "--lake", lake, *arguments, expect=2).stderr
