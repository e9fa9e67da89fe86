"""dl bars, coverage, certificate and lineage: what `Lake` answers, for people and for programs."""

import errno
import json
import os
import socket

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.app import app
from cli.verbs import COMMANDS, Once
from lake.rows import CertificateRow
from lake.tables import Parent
from market.times import DAY, MINUTE, SECOND, Interval
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, contract, trade


def ask(*arguments, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    said = f"dl {' '.join(map(str, arguments))}: {done.exit_code}\n{done.output}"
    assert isinstance(done.exception, SystemExit | None), said
    assert done.exit_code == expect, said
    return done


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A closed day with a revision, and a gap behind its first hour."""
    made = TestLake(tmp_path_factory.mktemp("asking") / "lake")
    rows = [trade(T0 + n * MINUTE, str(100 + n), "2", seq=n + 1) for n in range(60)]
    first = made.day("trade", rows[:50])
    row = made.day("trade", rows, remove=[first.path], revision=1, parents=(Parent(first.path, first.sha256),))
    held = {name: getattr(row, name) for name in ("path", "sha256", "kind", "symbol", "date", "revision", "rows")}
    made.writer.publish(certificates=[CertificateRow(**STREAM, **held, issued_at=T0, missing=2)], now=T0)
    made.day("bar_1m", bar_table(rows, covered=Interval(T0, T0 + DAY)))
    made.cover(T0, T0 + DAY)
    made.gap(T0 + 60 * MINUTE, T0 + 60 * MINUTE + SECOND)
    made.close()
    return made.root


def rows_of(lake, *command: str, expect: int = 0) -> list[dict]:
    return [json.loads(line) for line in ask(*command, "--lake", lake, "--json", expect=expect).stdout.splitlines()]


def test_bars_of_any_interval_say_how_complete_they_are(lake):
    found = rows_of(lake, "bars", "30m", "--offset", "10m", "--columns", "window_start,open,close,partial,gap")
    assert [(row["open"], row["close"], row["partial"]) for row in found] == [
        (100.0, 109.0, True), (110.0, 139.0, False), (None, None, False),
    ]  # fmt: skip
    said = ask("bars", "1h", "--lake", lake)
    assert "close=159" in said.stdout or " 159 " in said.stdout
    assert "complete until 2024-07-20T00:00:00Z; gaps in it: 1, the first at 2024-07-19T01:00:00Z" in said.output
    said = ask("bars", "1h", "--lake", lake, "--symbol", "NOSUCH", expect=1)
    assert "not complete: nothing is known of NOSUCH in this time" in said.output
    said = ask("read", "trade", "--lake", lake, "--start", "2024-07-19T20:00", "--end", "2024-07-19T21:00", expect=1)
    assert "complete until 2024-07-19T21:00:00Z" in said.output, "a time without trades is not one that nobody knows of"
    assert len(rows_of(lake, "bars", "6h", "--fill", "empty", "--start", "2024-07-19", "--end", "2024-07-20")) == 4
    nothing = " ".join(ask("bars", "--lake", lake, "--exchange", "nyse", expect=1).output.split())
    assert "no bars here; the lake has bars of binance linear BTCUSDT (2024-07-19 to 2024-07-19)" in nothing
    assert "use whole seconds" in ask("bars", "0s", "--lake", lake, expect=2).output


@pytest.mark.parametrize(
    "words, name",
    [
        (("read", "trade", "--exchange", "binance", "--exchange", "okx"), "--exchange"),
        (("read", "trade", "--from", "2024-07-19", "--start", "2024-07-20"), "--start / --from"),
        (("certificate", "trade", "--date", "2024-07-19", "--symbol", "BTCUSDT", "--symbol", "X"), "--symbol"),
        (("features", "list", "--lake", "elsewhere"), "--lake"),
        (("status", "--config=a", "--config", "b"), "--config"),
    ],
)
def test_an_option_that_takes_one_value_is_refused_by_name_where_it_is_given_twice(lake, words, name):
    said = ask(*words, "--lake", lake, expect=2)
    assert f"{name} is given 2 times, and takes one value." in said.stderr
    assert said.stdout == ""


@pytest.mark.parametrize("words", [("read", "trade", "--symbol", ""), ("status", "--config="), ("ls", "--kind", "")])
def test_an_option_given_an_empty_text_is_refused_by_name(lake, words):
    """A script whose variable is not set means something else than nothing."""
    name = words[-2] if not words[-1] else words[-1].removesuffix("=")
    said = ask(*words, "--lake", lake, expect=2).stderr
    assert f"{name} is given an empty text. Leave it out, or say what is meant." in said
    said = ask("features", "put", "x.csv", "--exchange", "e", "--market", "spot", "--symbol", "S", "--set", "s",
               "--note", "", "--lake", lake, expect=2).stderr  # fmt: skip
    assert "empty text" not in said, "of a note nothing may be said"


def test_what_cannot_be_meant_is_told_by_its_name(lake):
    for columns in (",", "price,,qty"):
        said = ask("read", "trade", "--columns", columns, "--lake", lake, expect=2).stderr
        assert f"--columns {columns!r} has a column without a name" in said
    asked = ("backfill", "--exchange", "binance", "--market", "spot", "--symbol", "S", "--kind", "kline")
    assert "36500" in ask(*asked, "--days", 10**14, "--dry-run", "--lake", lake, expect=2).stderr
    folder = ask("replay", lake, "--exchange", "binance", "--market", "spot", "--lake", lake, expect=66).stderr
    assert f"{lake} is a folder (name the files in it: " in folder.replace("\n", "")


def test_what_may_be_given_twice_may_and_help_is_shown_in_any_case(lake):
    assert ask("status", "--json", "--json", "--lake", lake).stdout
    assert "Usage" in ask("read", "--lake", "a", "--lake", "b", "--help").stdout
    types = ("--type", "trade", "--type", "bar_1m", "--symbol", "BTCUSDT", "--symbol", "X")
    said = ask("export", "--out", lake.parent / "files", "--format", "csv", *types, "--lake", lake, "--dry-run").stdout
    assert said.count("would write") == 2


def test_every_command_looks_at_how_often_an_option_is_given():
    made = [verb.load(name) for name, verb in COMMANDS.items()]
    every = [one for verb in made for one in getattr(verb, "commands", {"": verb}).values()]
    assert [one.name for one in every if not isinstance(one, Once)] == []


def test_several_symbols_are_read_and_one_that_nobody_collects_is_named(lake):
    both = ("--symbol", "BTCUSDT", "--symbol", "NOSUCH")
    assert len(rows_of(lake, "read", "trade", *both)) == 60
    assert len(rows_of(lake, "bars", "30m", *both)) == len(rows_of(lake, "bars", "30m"))
    assert "nothing is known of NOSUCH" in ask("read", "trade", *both, "--lake", lake).stderr
    assert "like that of NOSUCH" in ask("ls", *both, "--lake", lake).stderr
    assert "nothing is stored of NOSUCH" in ask("gaps", *both, "--lake", lake, expect=1).stderr
    hour = ("--kind", "trade", "--start", "2024-07-19", "--end", "2024-07-19T01:00", "--lake", lake)
    assert "nothing of NOSUCH was collected" in ask("coverage", *both, *hour, expect=1).stderr
    assert ask("coverage", *both[:2], *hour).stderr == ""
    assert "of one --symbol" in ask("gaps", "--repair", *both, "--lake", lake, expect=2).stderr


def test_a_limit_holds_for_rows_as_json_too_and_is_none_of_a_files(lake):
    assert [len(rows_of(lake, "read", "trade", *limit)) for limit in ((), ("--limit", "0"), ("--limit", "20"))] == [
        60, 60, 20,
    ]  # fmt: skip
    assert len(rows_of(lake, "read", "trade", "--limit", str(10**25))) == 60
    assert ask("read", "trade", "--limit", 10**25, "--lake", lake).stdout.count("\n") >= 60
    for what in (("read", "trade"), ("bars", "1h")):
        said = ask(*what, "--out", lake.parent / "x.csv", "--limit", 5, "--lake", lake, expect=2).stderr
        assert "--out writes all rows" in said
    assert not (lake.parent / "x.csv").exists()


def test_where_nothing_can_be_served_the_code_says_whether_the_command_line_is_wrong(lake):
    assert "there is no token" in ask("serve", "--host", "0.0.0.0", "--lake", lake, expect=2).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for what in (("serve",), ("replay", "--serve")):
            said = ask(*what, "--port", port, "--lake", lake, expect=1).stderr
            assert f"cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)} (choose another" in said


def test_what_is_wrong_on_the_command_line_ends_with_its_code(lake, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "config.yml").write_text("lake: elsewhere\n")
    asked = ("estimate", "--config", tmp_path / "config.yml", "--lake")
    assert f"{tmp_path / 'file'} is not a folder" in ask(*asked, tmp_path / "file", expect=66).output.replace("\n", "")
    ask(*asked, tmp_path / "not made yet")
    assert "no name of a token" in ask("token", "bad name", "--lake", lake, expect=2).output
    for name in ("reload", "resume"):
        assert "no daemon writes" in ask(name, "--lake", lake, expect=69).output
    wrong = ask("replay", tmp_path / "file", "--exchange", "nyse", "--market", "spot", "--lake", lake, expect=2).output
    assert "unknown exchange 'nyse'" in wrong, "which is said before the file is looked into"


def test_coverage_with_a_range_is_an_answer_for_scripts(lake):
    assert "BTCUSDT" in ask("coverage", "--lake", lake).stdout
    hour = ("--start", "2024-07-19", "--end", "2024-07-19T01:00")
    ask("coverage", "--lake", lake, "--kind", "bar_15m", *hour)
    ask("coverage", "--lake", lake, "--kind", "trade", "--start", "2024-07-19", "--end", "2024-07-20", expect=1)
    ask("coverage", "--lake", lake, "--kind", "quote", *hour, expect=1)
    (found,) = json.loads(ask("coverage", "--lake", lake, "--json").stdout)
    assert (found["covered"], found["gaps"], found["missing"]) == (DAY, 1, SECOND)


def test_a_day_has_a_certificate_revisions_and_a_lineage(lake):
    day = ("trade", "--date", "2024-07-19", "--lake", lake)
    found = json.loads(ask("certificate", *day, "--json").stdout)
    assert (found["certificate"]["missing"], [one["state"] for one in found["versions"]]) == (
        2,
        ["replaced", "current"],
    )
    assert "missing          2" in ask("certificate", *day).stdout
    said = ask("lineage", *day).stdout
    assert "revision 1, current, 60 rows" in said
    assert "50 rows" in said
    assert json.loads(ask("lineage", *day, "--json").stdout)["ancestors"][0]["what"] == "day"
    assert (
        "there is no daily file of trade"
        in ask("certificate", "trade", "--date", "2024-07-20", "--lake", lake, expect=1).output
    )
    assert "has no revision 7" in ask("lineage", *day, "--revision", "7", expect=1).output
    assert "is not a day" in ask("lineage", "trade", "--date", "2024-07-19T01:00", "--lake", lake, expect=2).output


def test_rows_of_a_revision_and_of_a_time(lake):
    assert len(rows_of(lake, "read", "trade", "--revision", "0")) == 50
    assert "has no revision 4 (it has 0, 1" in ask("read", "trade", "--revision", "4", "--lake", lake, expect=1).output
    assert "min_state='sure'" in ask("read", "trade", "--min-state", "sure", "--lake", lake, expect=2).output
    ask("read", "trade", "--as-of", "2024-07-18", "--lake", lake, expect=1)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A trade that is not in a daily file yet, in a lake that knows how ccxt calls its symbol."""
    made = TestLake(tmp_path_factory.mktemp("listed") / "lake")
    made.part("trade", [trade(T0, "100", "2", seq=7)])
    made.part("contract", [contract(T0, "BTCUSDT", "1", "BTC/USDT:USDT", None)])
    made.cover(T0, T0 + DAY)
    made.close()
    return made.root


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC/USDT:USDT"])
def test_a_symbol_is_known_by_either_spelling(listed, symbol):
    (row,) = json.loads(ask("trace", "trade", "--id", 7, "--symbol", symbol, "--lake", listed, "--json").stdout)
    assert row["row"]["price"] == 100.0
    held = json.loads(ask("ls", "--symbol", symbol, "--lake", listed, "--json").stdout)
    assert {one["file"]["kind"] for one in held} == {"trade", "contract"}
    assert ask("gaps", "--symbol", symbol, "--lake", listed).output == "no open gaps\n"


@pytest.mark.parametrize("asked", [("--symbol", "BTCUSD"), ("--exchange", "okx"), ("--kind", "quote")])
def test_what_nobody_collects_is_not_said_to_have_no_gaps(listed, asked):
    assert ask("gaps", *asked, "--lake", listed).output == "nothing is stored of that; dl ls says what is\n"
    assert json.loads(ask("gaps", *asked, "--lake", listed, "--json").stdout) == []
    assert ask("ls", *asked, "--lake", listed).output == "the lake holds nothing like that\n"
