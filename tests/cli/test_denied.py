"""What this user may not read or write: the exit code, and a sentence with the path and what to do about it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from lake.layout import LOCK, MANIFEST
from lake.refused import PERMIT
from tests.support.commands import run
from tests.support.crash import quick_folder
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or (sys.platform != "linux" and os.geteuid() == 0), reason="nothing is denied to this user"
)
CAPGET_3 = 0x20080522
OVERRIDE, SEARCH = 1, 2
"""The capabilities that let root read, write and enter what permissions deny (linux/capability.h)."""
DROP_FROM_BOUND = 24
"""prctl's PR_CAPBSET_DROP: children do not have them either."""
SOURCE = ("--exchange", "bitstamp", "--market", "spot", "--symbol", "BTC/USD", "--timezone", "UTC")
SET = ("--exchange", "binance", "--market", "linear", "--symbol", "BTCUSDT", "--set", "momentum")


def as_anybody() -> None:
    """Take from this thread, for good, what only root may."""
    if os.geteuid() != 0:
        return
    libc, header, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(CAPGET_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    for one in (OVERRIDE, SEARCH):
        libc.prctl(DROP_FROM_BOUND, one, 0, 0, 0)
        for which in range(3):  # effective, permitted, inheritable
            sets[which] &= ~(1 << one)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


def dl(*words: str) -> Result:
    """A command of a user who is not root."""
    with ThreadPoolExecutor(1, initializer=as_anybody) as anybody:
        done = anybody.submit(CliRunner().invoke, app, [*words], env={"COLUMNS": "300"}).result()
    assert isinstance(done.exception, SystemExit | None), (words, done.output, done.exception)
    assert "Traceback" not in done.output
    return done


@pytest.fixture(scope="module")
def pristine() -> Iterator[Path]:
    with quick_folder() as folder:
        held = TestLake(folder / "lake")
        held.day("trade", [trade(T0 + n, "1", "1", n + 1) for n in range(5)])
        held.close()
        (folder / "lake" / LOCK).touch()
        (folder / "a.csv").write_text("time,price,qty,side,id\n2020-01-03 00:00:01,1.5,1,buy,1\n")
        (folder / "m.csv").write_text("time,mom\n2020-01-03 00:01:00,1\n")
        (folder / "shut").mkdir()
        yield folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lake and files to take in, which may be denied; they may be removed again afterwards."""
    made = tmp_path / "made"
    shutil.copytree(pristine, made)
    monkeypatch.chdir(made)
    yield made
    for at, folders, _ in os.walk(made):
        for name in folders:
            os.chmod(os.path.join(at, name), 0o755)


def refused(done: Result, path: str, fix: str, code: int) -> None:
    assert done.exit_code == code, done.output
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert path in sentence
    assert fix in sentence


@pytest.mark.parametrize(
    "file, words, code",
    [
        ("a.csv", ("import", "a.csv", *SOURCE), 66),
        ("m.csv", ("features", "put", "m.csv", *SET), 74),
        ("a.csv", ("replay", "a.csv", "--exchange", "binance", "--market-type", "linear"), 74),
        ("config.yml", ("ls", "--config", "config.yml"), 66),
        ("shut/a.csv", ("import", "shut/a.csv", *SOURCE), 66),
        ("shut/m.csv", ("features", "put", "shut/m.csv", *SET), 74),
        ("shut/x", ("export", "--format", "csv", "--type", "trade", "--out", "shut/x"), 74),
        ("shut/x.csv", ("read", "trade", "--out", "shut/x.csv"), 74),
        ("shut/trades.zip", ("archive", "--symbol", "BTCUSDT", "--from", "2026-05-08", "--source", "shut"), 74),
    ],
)  # fmt: skip
def test_a_file_that_may_not_be_read_or_written(folder: Path, file: str, words: tuple[str, ...], code: int) -> None:
    (folder / "config.yml").write_text("lake: lake\n")
    (folder / file).chmod(0) if (folder / file).exists() else None
    (folder / "shut").chmod(0)
    lake = () if "--config" in words else ("--lake", "lake")
    refused(dl(*words, *lake), file.partition("/")[0], PERMIT, code)


def test_a_lake_that_may_only_be_read(folder: Path) -> None:
    for at, _, names in os.walk("lake", topdown=False):
        for name in names:
            os.chmod(os.path.join(at, name), 0o444)
        os.chmod(at, 0o555)
    assert "trade" in dl("ls", "--lake", "lake").stdout
    assert dl("read", "trade", "--lake", "lake", "--json").stdout.count("BTCUSDT") == 5
    for words in (("import", "a.csv", *SOURCE), ("transform",), ("delete", "--symbol", "BTCUSDT", "--yes")):
        refused(dl(*words, "--lake", "lake"), f"lake/{LOCK}", "run as the user of the lake", 74)
    refused(dl("rebuild", "--lake", "lake"), f"lake/{LOCK}", "make it writable for this user", 74)


def test_the_status_of_a_lake_whose_writer_is_another_user(folder: Path) -> None:
    """As the group of the lake sees it: everything but the lock."""
    (folder / "lake" / LOCK).chmod(0)
    said = dl("status", "--lake", "lake")
    assert said.exit_code == 0
    assert "who writes it is not known: lake/.lock belongs to another user (run as the user of the lake)" in said.stdout
    assert "trade" in said.stdout, "what the files say is told"
    told = json.loads(dl("status", "--lake", "lake", "--json").stdout)
    assert (told["writer"], told["writer_unknown"]) == (None, str(said.stdout).split("not known: ")[1].splitlines()[0])
    refused(dl("compact", "--lake", "lake"), f"lake/{LOCK}", "run as the user of the lake", 74)


@pytest.mark.parametrize("words", [("ls",), ("import", "a.csv", *SOURCE), ("status",), ("verify",)])
def test_a_manifest_that_may_not_be_read(folder: Path, words: tuple[str, ...]) -> None:
    (folder / "lake" / MANIFEST).chmod(0)
    refused(dl(*words, "--lake", "lake"), f"lake/{MANIFEST}", PERMIT, 74)


@pytest.mark.parametrize("what", ["lake", "shut/lake"])
@pytest.mark.parametrize("words", [("ls",), ("init",), ("import", "a.csv", *SOURCE)])
def test_a_folder_that_may_not_be_entered(folder: Path, words: tuple[str, ...], what: str) -> None:
    (folder / "lake").chmod(0)
    (folder / "shut").chmod(0)
    refused(dl(*words, "--lake", what), what, "as the user ", 74)


def test_rows_that_may_not_be_read(folder: Path) -> None:
    for file in (folder / "lake").rglob("*.parquet"):
        file.chmod(0)
    refused(dl("sql", "SELECT * FROM trade", "--lake", "lake"), "symbol=BTCUSDT", PERMIT, 1)
    with ThreadPoolExecutor(1, initializer=as_anybody) as anybody:  # a process: pyarrow's threads here are root's
        done = anybody.submit(run, "-m", "cli", "read", "trade", "--lake", folder / "lake").result()
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "symbol=BTCUSDT" in sentence
    assert PERMIT in sentence
