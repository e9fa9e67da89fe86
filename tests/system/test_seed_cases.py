"""Cases that other lakes' own tests name and that no test beside the code of theirs looks at, by the real commands."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from cli.app import app
from tests.support.commands import ROOT
from tests.support.crash import quick_folder

MARKET = ("--exchange", "bitstamp", "--market", "spot", "--symbol", "BTC/USD", "--timezone", "UTC")
DAYS, A_DAY = 31, 500_000
GB = 10**9


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        yield made


def dl(*arguments: str | Path) -> str:
    """What a command says; it ended well."""
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def rows(lake: Path, kind: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in dl("read", kind, "--lake", lake, "--json", "--limit", "0").splitlines()]


def test_files_of_six_and_then_of_eight_columns_are_one_answer(folder: Path) -> None:
    six, eight, lake = folder / "six.csv", folder / "eight.csv", folder / "lake"
    six.write_text("time,open,high,low,close,volume\n2020-01-01 00:00:00,1,2,1,1.5,10\n")
    eight.write_text("time,open,high,low,close,volume,trades,vwap\n2020-01-02 00:00:00,1,2,1,1.6,20,7,1.4\n")
    for file in (six, eight):
        dl("import", file, *MARKET, "--kind", "kline", "--interval", "1m", "--lake", lake)
    told = [(row["close"], row["volume_base"], row["trade_count"]) for row in rows(lake, "kline")]
    assert told == [(1.5, 10.0, None), (1.6, 20.0, 7)]


def test_the_last_millisecond_of_a_day_and_the_first_of_the_next_are_days_of_their_own(folder: Path) -> None:
    file, lake = folder / "trades.csv", folder / "lake"
    file.write_text(
        "time,price,qty,side,id\n2020-01-01 23:59:59.999,1.5,1,buy,1\n2020-01-02 00:00:00.000,1.6,1,sell,2\n"
    )
    dl("import", file, *MARKET, "--kind", "trade", "--lake", lake)
    assert [(row["date"], row["ts_event"], row["price"]) for row in rows(lake, "trade")] == [
        ("2020-01-01", "2020-01-01T23:59:59.999000Z", 1.5), ("2020-01-02", "2020-01-02T00:00:00Z", 1.6),
    ]  # fmt: skip
    held = sorted(path.relative_to(lake).as_posix() for path in lake.rglob("*.parquet"))
    assert {path.partition("/year=")[2][:20] for path in held} == {"2020/month=01/day=01", "2020/month=01/day=02"}


def test_places_in_the_manifest_are_the_same_on_every_system(folder: Path) -> None:
    file, lake = folder / "trades.csv", folder / "lake"
    file.write_text("time,price,qty,side,id\n2020-01-01 00:00:01,1.5,1,buy,1\n")
    dl("import", file, *MARKET, "--kind", "trade", "--lake", lake)
    with sqlite3.connect(lake / "manifest.db") as db:
        places = [path for (path,) in db.execute("SELECT path FROM files")]
    db.close()
    assert places
    for path in places:
        assert "\\" not in path
        assert ":" not in path
        assert not path.startswith("/")
        assert (lake / path).is_file()
    elsewhere = folder / "moved"
    lake.rename(elsewhere)
    assert [row["price"] for row in rows(elsewhere, "trade")] == [1.5]


def trades(file: Path) -> None:
    """A month of trades in a CSV of more than 1 GB: a day's lines, again with each date."""
    lines = (
        f"2020-01-@@ {n // 25_000:02d}:{n // 450 % 60:02d}:{n // 8 % 60:02d}.{n % 8 * 125:03d}000,"
        f"{7000 + n % 997}.{n % 100:02d},0.{n % 99_991 + 1:08d},{n % 7}123.45670000,{'buy' if n % 3 else 'sell'},"
        f"8@@{n:07d}\n"
        for n in range(A_DAY)
    )
    day = "".join(lines).encode()
    with file.open("wb") as out:
        out.write(b"time,price,qty,quote_qty,side,id\n")
        for date in range(1, DAYS + 1):
            out.write(day.replace(b"@@", b"%02d" % date))


def resident(process: psutil.Process) -> int:
    """Bytes in memory of a process and of all that it started; what they share counts for each."""
    held = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    return held


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_csv_of_more_than_a_gigabyte_comes_in_with_less_than_that_in_memory() -> None:
    with tempfile.TemporaryDirectory(prefix="gigabyte-") as made:
        file, lake = Path(made, "trades.csv"), Path(made, "lake")
        trades(file)
        assert file.stat().st_size > GB
        command = [sys.executable, "-m", "cli", "import", file, *MARKET, "--kind", "trade", "--lake", lake, "--json"]
        peak = 0
        with Path(made, "said").open("wb") as said:
            process = subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=said)
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                peak = max(peak, resident(watched))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        assert process.returncode == 0
        (told,) = json.loads(Path(made, "said").read_bytes())["files"]
        assert (told["rows"], told["quarantined"], told["duplicates"]) == (DAYS * A_DAY, 0, 0)
        assert 10**8 < peak <= GB, f"{peak / 1e6:,.0f} MB were in memory at once"
        print(f"{file.stat().st_size / 1e6:,.0f} MB of CSV, {peak / 1e6:,.0f} MB in memory")
