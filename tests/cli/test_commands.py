"""`dl` as it is typed: help, JSON, wrong options, a reader that leaves, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli import places
from cli.app import app
from daemon.errors import NoConfig
from lake.errors import CorruptManifest, LakeLocked
from market.errors import Malformed
from tests.support import written
from tests.support.commands import ROOT, dl
from tests.support.crash import quick_folder
from tests.support.leash import watched
from tests.support.written import MS, T0, line, trade

REPLAY = ("--exchange", "binance", "--market-type", "linear")
COMMANDS = (
    "status",
    "ls",
    "read",
    "gaps",
    "latency",
    "verify",
    "trace",
    "replay",
    "reload",
    "resume",
    "transform",
    "compact",
    "rebuild",
)


def ask(*arguments: str | Path, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    said = f"dl {' '.join(map(str, arguments))}: {done.exit_code}\n{done.output}"
    assert isinstance(done.exception, SystemExit | None), said
    assert done.exit_code == expect, said
    assert "Traceback" not in done.output, said
    return done


@pytest.fixture(scope="module")
def lake() -> Iterator[Path]:
    """A lake with a certified day of thirty trades and quotes."""
    with quick_folder() as folder:
        frames = written.write(folder / "frames.jsonl", written.good_session())
        dl("replay", frames, *REPLAY, "--lake", folder / "lake")
        yield folder / "lake"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_which_lake_it_means(command: str) -> None:
    said = ask(command, "--help").output
    assert "--lake" in said
    assert "--json" in said
    assert len(said.splitlines()) > 8


def test_exchanges_lists_what_is_offered_and_on_what_evidence() -> None:
    said = ask("exchanges", "--market-type", "linear", "--kind", "liquidation").output
    assert "forceOrder" in said
    assert "documentation" in said
    cells = json.loads(ask("exchanges", "--exchange", "binance", "--json").output)
    (absent,) = [cell for cell in cells if (cell["market_type"], cell["kind"]) == ("spot", "liquidation")]
    assert (absent["channel"], absent["copies"], absent["history"]) == (None, None, None)
    told = {(cell["market_type"], cell["kind"]): cell["history"] for cell in cells}
    assert (told["spot", "trade"], told["linear", "trade"], told["linear", "agg_trade"]) == ("all", None, "2 days")
    files = {(cell["market_type"], cell["kind"]): cell["archive"] for cell in cells}
    assert (files["spot", "trade"], files["linear", "open_interest"], files["spot", "quote"]) == (
        "daily, monthly", "daily", None,
    )  # fmt: skip
    assert {cell["copies"] for cell in cells if cell["kind"] == "trade"} == {"numbered"}
    assert absent["evidence"]["basis"] == "absent"
    assert "spot has no forced orders" in ask("exchanges", "--absent").output
    assert "spot has no forced orders" not in ask("exchanges").output
    assert "unknown exchange 'nasdaq'" in ask("exchanges", "--exchange", "nasdaq", expect=2).output


def test_a_traced_row_has_its_times_as_read_takes_them(lake: Path) -> None:
    said = ask("trace", "trade", "--id", "1005", "--lake", lake).stdout
    (time,) = [line.split()[1] for line in said.splitlines() if line.split()[:1] == ["ts_event"]]
    assert time.endswith("Z")
    assert "1005" in ask("read", "trade", "--start", time, "--limit", "1", "--lake", lake).stdout


def test_help_lists_every_command_with_a_sentence() -> None:
    said = ask("--help").output
    for command in COMMANDS:
        (text,) = [row for row in said.splitlines() if row.strip("│ ").startswith(f"{command} ")]
        assert len(text.strip("│ ").split()) > 4


@pytest.mark.parametrize(
    "command",
    [
        "status", "ls", "gaps", "gaps --state all", "latency", "latency --by session --by minute",
        "verify", "trace trade --id 1005", "transform", "compact", "read trade", "read bar_5m --fill empty",
    ],
)  # fmt: skip
def test_json_is_json(lake: Path, command: str) -> None:
    said = ask(*command.split(), "--lake", lake, "--json").stdout
    if command.startswith("read"):
        assert [json.loads(text) for text in said.splitlines()]
    else:
        json.loads(said)


@pytest.mark.parametrize(
    "command, code, message",
    [
        ("read trade --start yesterday", 2, "use 2026-11-20 or 2026-11-20T13:45:00Z"),
        ("read trade --start 2025-13-45", 2, "month must be in 1..12"),
        ("read trade --end 1763646300", 2, "malformed time"),
        ("read trade --start 2025-11-21 --end 2025-11-20", 2, "--start 2025-11-21 is not before --end 2025-11-20"),
        ("read candle", 2, "unknown kind 'candle'; known kinds: trade, agg_trade, quote"),
        ("read bar_7m", 2, "use for example bar_5m"),
        ("read bar_0m", 2, "unknown kind 'bar_0m'"),
        ("read trade --columns price,nope", 2, "trade has no column nope (it has exchange,"),
        ("read trade --fill empty", 2, "bars take none, empty or previous"),
        ("read trade --fill much", 2, "'none', 'empty', 'previous'"),
        ("read bar_1s --fill empty --start 0001-01-01 --end 9999-12-31", 2, "narrow the range or the symbols"),
        ("read trade --limit -1", 2, "greater than or equal to 0"),
        ("read trade --exchange nyse", 1, "no rows of trade here; the lake has trade of binance linear"),
        ("read bar_15m --symbol NOPE", 1, "no rows of bar_15m here; the lake has bar_15m of binance linear BTCUSDT"),
        ("book --at 2025-11-20", 2, "which symbol is not said"),
        ("book BTCUSDT --symbol BTCUSDT --at 2025-11-20", 2, "or said twice"),
        ("read kline", 1, "no rows of kline here; the lake has bar_1m, bar_1s, quote, trade"),
        ("sql --file nowhere.sql", 66, "--file nowhere.sql cannot be read: No such file"),
        ("read trade --out rows.xlsx", 2, "use .parquet, .csv, .jsonl"),
        ("read trade --out /nowhere/rows.csv", 2, "there is no folder /nowhere"),
        ("read trade --out /proc/rows.csv", 74, "/proc"),
        ("ls --date nonsense", 2, "use YYYY-MM-DD"),
        ("ls --date 20251120", 2, "use YYYY-MM-DD"),
        ("ls --kind candle", 2, "known kinds: trade"),
        ("ls --exchange nyse", 0, "the lake holds nothing like that"),
        ("gaps --state broken", 2, "use one of open, repaired, empty, void, unrepairable, all"),
        ("gaps --kind candle", 2, "known kinds: trade"),
        ("gaps --start never", 2, "malformed time"),
        ("latency --by week", 2, "'week' is not one of"),
        ("latency --kind candle", 2, "known kinds: trade"),
        ("latency --start 2030-01-01 --end 2030-01-02", 0, "no latency is recorded of that time"),
        ("trace trade", 2, "give --id, or --session and --frame"),
        ("trace candle --id 1", 2, "known kinds: trade"),
        ("trace bar_1m --id 1", 2, "bar_1m rows have no id"),
        ("trace trade --id 7", 1, "no published trade row answers to that"),
        ("trace trade --id 99999999999999999999999", 1, "no published trade row answers to that"),
    ],
)
def test_a_wrong_option_ends_with_a_sentence(lake: Path, command: str, code: int, message: str) -> None:
    assert message in ask(*command.split(), "--lake", lake, expect=code).output


def test_replay_says_what_it_knows_before_it_makes_a_lake(lake: Path, tmp_path: Path) -> None:
    frames = lake.parent / "frames.jsonl"
    target = ("--lake", tmp_path / "new")
    said = ask("replay", frames, "--exchange", "nyse", "--market-type", "spot", *target, expect=2).output
    assert "unknown exchange 'nyse'; known exchanges: binance" in said
    said = ask("replay", frames, "--exchange", "binance", "--market-type", "spott", *target, expect=2).output
    assert "binance has no market 'spott' (use --market-type spot or linear or inverse)" in said
    assert not (tmp_path / "new").exists()
    assert "is not a folder" in ask("replay", frames, *REPLAY, "--lake", frames, expect=66).output


def test_no_lake_is_66(tmp_path: Path) -> None:
    for command in ("status", "ls", "gaps", "verify", "transform", "compact"):
        said = ask(command, "--lake", tmp_path, expect=66).output
        assert "is no lake: it has no manifest.db (name one with --lake DIR or --config FILE)" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_rows_are_exported_whole(lake: Path, tmp_path: Path, name: str) -> None:
    assert "30 rows written" in ask("read", "trade", "--lake", lake, "--out", tmp_path / name).output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def raises(error: BaseException) -> int:
    """The exit code of a command that fails so."""

    @places.command
    def fails() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        fails()
    return caught.value.exit_code


def test_every_error_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert raises(LakeLocked("held")) == 73
    assert raises(CorruptManifest("broken")) == 74
    assert raises(NoConfig("none")) == 66
    assert raises(Malformed("time", "x")) == 2
    assert raises(PermissionError(13, "Permission denied", "/root/x")) == 74
    assert raises(KeyboardInterrupt()) == 130
    broken_off = ImportError("initialization failed")
    broken_off.__cause__ = KeyboardInterrupt()
    assert raises(broken_off) == 130, "Ctrl-C while a library was being imported"
    assert raises(ZeroDivisionError("a defect")) == 70
    said = capsys.readouterr().err
    assert "error: /root/x: Permission denied" in said
    assert "internal error: ZeroDivisionError: a defect" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of a POSIX shell")
@pytest.mark.parametrize("command", ["read bar_1s --limit 0", "read trade --json --limit 0", "ls --files", "status"])
def test_a_reader_that_leaves_is_no_error(lake: Path, command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *command.split(), "--lake", str(lake)],
            cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_behind_stdout_is_74(lake: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "ls", "--json", "--lake", str(lake)],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 74
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_late_rows_of_a_closed_day_are_there_when_the_replay_that_brought_them_ends(lake: Path) -> None:
    target, later = lake.parent / "late", T0 + 5 * MS
    first, late = lake.parent / "first.jsonl", lake.parent / "late.jsonl"
    written.write(first, [line(n, trade(seq, at=T0 + seq * MS)) for n, seq in enumerate((1, 2, 8, 9), 1)])
    written.write(late, [line(n, trade(n + 2), at=later, conn="other-1-1") for n in range(1, 6)])
    dl("replay", first, *REPLAY, "--lake", target)
    ask("gaps", "--lake", target, expect=1)
    dl("replay", late, *REPLAY, "--lake", target)
    rows = ask("read", "trade", "--lake", target, "--columns", "seq", "--json", "--limit", "0").stdout
    assert sorted(json.loads(row)["seq"] for row in rows.splitlines()) == list(range(1, 10))
    ask("gaps", "--lake", target)
    (held,) = json.loads(ask("ls", "--lake", target, "--kind", "trade", "--json").stdout)
    assert (held["file"]["revision"], held["certificate"]["missing"], held["certificate"]["rows"]) == (1, 0, 9)
    assert len(list(target.glob("tables/**/trade-*.parquet"))) == 1
    assert json.loads(ask("verify", "--lake", target, "--json").stdout)["ok"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process group")
def test_ctrl_c_ends_a_replay_with_130_and_another_one_finishes_it(lake: Path) -> None:
    count = 60_000
    frames = lake.parent / "long.jsonl"
    with frames.open("w") as file:
        for n in range(1, count + 1):
            file.write(line(n, trade(n, at=T0 + n * 10 * MS), at=T0 + n * 10 * MS) + "\n")
    target = lake.parent / "interrupted"
    command = ["replay", str(frames), *REPLAY, "--lake", str(target)]
    running = watched(subprocess.Popen(
        [sys.executable, "-m", "cli", *command],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # who started the tests may ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        env={**os.environ, "LAKE_FAULT": "write:1+:DELAY=0.3"},  # so that it is still at it, however busy the machine
    ))  # fmt: skip
    deadline = time.monotonic() + 60
    while not (target / "raw").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=60)
    assert (running.returncode, said[1]) == (130, "interrupted\n"), said
    done = json.loads(dl(*command, "--json").stdout)
    assert done["replayed"]["rejected"] == {}
    assert json.loads(ask("verify", "--lake", target, "--json").stdout)["ok"]
    rows = ask("read", "trade", "--lake", target, "--columns", "seq", "--json", "--limit", "0").stdout
    assert sorted(json.loads(row)["seq"] for row in rows.splitlines()) == list(range(1, count + 1))


def test_latency_says_what_the_lines_say(lake: Path, tmp_path: Path) -> None:
    found = json.loads(ask("latency", "--lake", lake, "--json").stdout)
    told = next(row for row in found["rows"] if row["kind"] == "trade")
    assert told["rows"] == 30
    assert told["event_to_receive"] == {"count": 30, **dict.fromkeys(("min", "p50", "p90", "p99", "max"), MS)}
    assert found["venues"][0]["skew_us"] == pytest.approx(1.5 * MS, rel=0.4)
    said = ask("latency", "--lake", lake, "--kind", "trade", "--by", "minute").stdout
    assert "our clock: nothing is recorded" in said
    assert [text.split()[-6:] for text in said.splitlines() if "event-receive" in text] == [["30", *["1.000"] * 5]]
    late = [line(n, trade(n, at=T0 + n * MS), at=T0 + n * MS + 3_000_000) for n in range(1, 30)]
    held = written.write(tmp_path / "frames.jsonl", [written.opened(), *late])
    ask("replay", held, *REPLAY, "--lake", tmp_path / "lake")
    assert "FAR" in ask("latency", "--lake", tmp_path / "lake", expect=1).stdout
