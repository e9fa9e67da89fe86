"""`--dry-run` changes nothing: every command that has it, found from the app itself, on a lake that it would change."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from cli.app import app
from lake.layout import LOCK, MANIFEST
from lake.lock import LockInfo
from market.times import MINUTE, text
from tests.support import archive_host, written
from tests.support.crash import quick_folder
from tests.support.written import T0

OF = ("--exchange", "binance", "--market", "linear", "--symbol", "BTCUSDT", "--set", "momentum")
BITSTAMP = ("--exchange", "bitstamp", "--market", "spot", "--symbol", "BTC/USD", "--timezone", "UTC")
HISTORY = ("--exchange", "binance", "--symbol", "BTCUSDT", "--days", "2")
WORDS: dict[str, tuple[str, ...]] = {
    "archive": ("--symbol", "BTCUSDT", "--from", "2026-05-08", "--source", "mirror"),
    "backfill": (*HISTORY, "--market", "spot", "--kind", "kline"),
    "delete": ("--symbol", "BTCUSDT", "--yes"),
    "download-history": HISTORY,
    "export": ("--format", "csv", "--type", "trade", "--out", "out"),
    "features delete": ("momentum", "--version", "1.0.0", "--yes"),
    "features put": ("new.csv", *OF, "--version", "1.0.2"),
    "features rollback": ("momentum",),
    "gaps": ("--repair",),
    "import": ("new-trades.csv", *BITSTAMP),
    "ingest": HISTORY,
    "rebuild": (),
    "reconcile": (),
    "reload": (),
    "reparse": ("--from", text(T0)[:10]),
    "scrub": (),
    "upload-feature": ("new.csv", *OF, "--version", "1.0.3"),
}
"""What each of them is asked for: something that it would do here."""
ELSEWHERE = {"backfill", "download-history", "gaps", "ingest", "reload"}
"""Those whose work needs a venue or a daemon."""
LENGTHY = {"archive", "import", "reparse"}
"""Those that take some seconds to carry out."""


def dry_runs() -> list[str]:
    """The commands with --dry-run as they are typed, e.g. `features put`."""
    found: list[str] = []
    left: list[tuple[tuple[str, ...], Any]] = [((name,), made) for name, made in get_command(app).commands.items()]  # type: ignore[attr-defined]
    while left:
        words, made = left.pop()
        left += [((*words, name), inner) for name, inner in getattr(made, "commands", {}).items()]
        if any("--dry-run" in option.opts for option in made.params):
            found.append(" ".join(words))
    return sorted(found)


def run(*words: str) -> Result:
    done = CliRunner().invoke(app, [*words, "--lake", "lake"], env={"COLUMNS": "200"})
    assert isinstance(done.exception, SystemExit | None), (words, done.output, done.exception)
    return done


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: when each file was last written, and its bytes. Where a reader notes that it reads
    (the lock, SQLite's -shm and -wal) is no part of it: what the WAL holds is told by `manifest`.
    """
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        if path.is_file()
        else (0, b"")
        for path in sorted(folder.rglob("*"))
        if path.name not in (LOCK, f"{MANIFEST}-shm", f"{MANIFEST}-wal")
    }


def manifest(lake: Path) -> list[str]:
    with sqlite3.connect(f"file:{lake / MANIFEST}?mode=ro", uri=True) as db:
        rows = list(db.iterdump())
    db.close()
    return rows


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A folder with a lake of a closed day that has a hole, two versions of a feature set, and files to take in."""
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        session = written.good_session()
        written.write(folder / "frames.jsonl", [*session[:21], *session[23:]])
        for name in ("one", "two", "new"):
            lines = "".join(f"{text(T0 + n * MINUTE)},{len(name)}{n}\n" for n in range(5))
            (folder / f"{name}.csv").write_text(f"time,mom\n{lines if name != 'two' else lines[:-1] + '0'}\n")
        (folder / "new-trades.csv").write_text("time,price,qty,side,id\n2020-01-03 00:00:01,1.5,1,buy,1\n")
        mirror = folder / "mirror/spot/daily/trades/BTCUSDT"
        mirror.mkdir(parents=True)
        name = "BTCUSDT-trades-2026-05-08"
        data = archive_host.zipped({f"{name}.csv": archive_host.csv(archive_host.trades("2026-05-08", 1, 50))})
        (mirror / f"{name}.zip").write_bytes(data)
        (mirror / f"{name}.zip.CHECKSUM").write_bytes(archive_host.summed(f"{name}.zip", data))
        for words in (
            ("replay", "frames.jsonl", "--exchange", "binance", "--market-type", "linear"),
            ("features", "put", "one.csv", *OF, "--version", "1.0.0"),
            ("features", "put", "two.csv", *OF, "--version", "1.0.1"),
        ):
            assert run(*words).exit_code == 0, words
        yield folder


def test_each_is_asked_for_something_here() -> None:
    assert dry_runs() == sorted(WORDS), "a command with --dry-run is asked for something in WORDS"


@pytest.mark.parametrize("name", dry_runs())
def test_a_dry_run_changes_nothing(name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    daemon = Mock()
    if name == "reload":
        changed = dict.fromkeys(("added", "removed", "replaced", "opened", "closed", "polls"), ())
        daemon.return_value = {"config": "c", "dry_run": True, "restart": [], "changed": changed}
        monkeypatch.setattr("lake.lock.read_lock", lambda _root: LockInfo(1, 1, 1))
        monkeypatch.setattr("cli.jobs.ask", daemon)
    before, held = tree(made), manifest(made / "lake")
    done = run(*name.split(), *WORDS[name], "--dry-run")
    assert done.exit_code in (0, 1), done.output
    assert manifest(made / "lake") == held
    assert tree(made) == before
    if name == "reload":  # the daemon's own test shows that it heeds this
        assert daemon.call_args.args[1:3] == ("reload", {"dry_run": True})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in LENGTHY)) for n in sorted(WORDS.keys() - ELSEWHERE)],
)
def test_and_without_the_option_there_is_something_that_it_changes(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quick_folder() as folder:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        monkeypatch.chdir(folder)
        before = tree(folder)
        done = run(*name.split(), *WORDS[name])
        assert tree(folder) != before, done.output
