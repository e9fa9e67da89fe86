"""`dl features`, as a person uses it: put in, looked at, joined, rolled back, deleted."""

from __future__ import annotations

import hashlib
import json

import pytest
from typer.testing import CliRunner

from cli.app import app
from lake.lock import LakeLock
from market.times import MINUTE, SECOND, text
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

OF = ("--exchange", "binance", "--market", "linear", "--symbol", "BTCUSDT", "--set", "Momentum")


@pytest.fixture
def dl(tmp_path, monkeypatch):
    """Runs a command on a lake of fourteen bars, checks its exit code, and gives what it said."""
    held = TestLake(tmp_path / "lake")
    held.day("bar_1m", bar_table([trade(T0 + n * 20 * SECOND, "100.5", "1", n) for n in range(1, 40)]))
    held.close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("time,mom\n" + "".join(f"{text(T0 + n * MINUTE)},{n}.5\n" for n in range(5)))
    (tmp_path / "other.csv").write_text(f"time,mom\n{text(T0)},7\n")

    def run(*words: str, expect: int = 0):
        done = CliRunner().invoke(app, [*words, "--lake", "lake"])
        assert done.exit_code == expect, (words, done.output, done.exception)
        return json.loads(done.stdout) if "--json" in words and expect == 0 and words[1] != "get" else done.output

    return run


def test_the_life_of_a_set(dl, tmp_path):
    assert "no feature sets here" in dl("features", "list")
    said = dl("features", "put", "m.csv", *OF, "--computed-on", "bar_1m", "--dry-run")
    assert "momentum 1.0.0 of binance linear BTCUSDT would be put in: 5 rows" in said
    assert dl("features", "list", "--json") == []
    assert "known by own time; latest is 1.0.0" in dl("features", "put", "m.csv", *OF, "--computed-on", "bar_1m")
    assert "nothing changed" in dl("features", "put", "m.csv", *OF)
    assert "take the next version: 1.0.1" in dl("features", "put", "other.csv", *OF, expect=2)
    assert dl("upload-feature", "other.csv", *OF, "--version", "1.0.1", "--delay", "1m", "--json")["latest"] == "1.0.1"
    assert [row["latest"] for row in dl("features", "list", "--json")] == [False, True]
    assert "1.0.1 *" in dl("features", "list")
    told = dl("features", "show", "momentum", "--version", "1.0.0", "--json")
    assert (told["columns"], len(told["inputs"]), told["revised"]) == ({"mom": "float"}, 1, [])
    dl("features", "get", "momentum", "--version", "1.0.0", "--out", "out.parquet")
    assert hashlib.sha256((tmp_path / "out.parquet").read_bytes()).hexdigest() == told["sha256"]
    assert "5 of" not in dl("features", "get", "momentum", "--version", "1.0.0")
    dl("features", "join", "momentum@1.0.0", "--symbol", "BTCUSDT", "--columns", "window_start", "--out", "j.csv")
    assert (tmp_path / "j.csv").read_text().splitlines()[5].endswith(",4.5")
    assert "would be the latest" in dl("features", "rollback", "momentum", "--dry-run")
    assert "momentum 1.0.0 of binance linear BTCUSDT is the latest" in dl("features", "rollback", "momentum")
    assert "would be deleted" in dl("features", "delete", "momentum", "--version", "latest", "--dry-run")
    assert "latest is 1.0.1" in dl("features", "delete", "momentum", "--version", "1.0.0", "--yes")
    assert "--yes" in dl("features", "delete", "momentum", "--version", "all", "--json", expect=2), (
        "nobody can be asked"
    )
    assert dl("features", "delete", "momentum", "--version", "all", "--yes", "--json")["latest"] is None
    assert "there is no feature set momentum" in dl("features", "show", "momentum", expect=2)
    assert "deleted 20" in dl("features", "list", "--deleted")


def test_a_lake_that_is_being_written_says_so(dl, tmp_path):
    with LakeLock.acquire(tmp_path / "lake"):
        assert "is being written by process" in dl("features", "put", "m.csv", *OF, expect=73)


def test_an_export_in_another_programs_own_format(dl, tmp_path):
    out = ("--out", "out", "--symbol", "BTCUSDT")
    assert "needs --type" in dl("export", *out, "--format", "csv", expect=2)
    assert "names one symbol for nautilus" in dl(
        "export", *out, "--format", "hftbacktest", "--instrument", "X.Y", expect=2
    )
    assert "nothing is stored of that" in dl("export", *out, "--format", "hftbacktest", expect=1)
    bars = ("--format", "nautilus", "--type", "bar_1m", "--instrument", "BTCUSDT-PERP.BINANCE")
    named = "data/bar/BTCUSDT-PERP.BINANCE-1-MINUTE-LAST-EXTERNAL/2024-07-19T00-01-00-000000000Z_2024-07-20T00"
    assert f"would write {named}" in dl("export", *out, *bars, "--dry-run")
    assert named in dl("export", *out, *bars)
    (file,) = (tmp_path / "out").rglob("*.parquet")
    assert file.stat().st_size > 1000
