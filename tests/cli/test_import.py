"""`dl import` as it is typed: what it shows, asks and refuses, and that a dry run writes nothing."""

import json

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.commands import import_
from tests.support.crash import quick_folder

MARKET = ("--exchange", "bitstamp", "--market", "spot", "--symbol", "BTC/USD")
TEXT = "time,open,high,low,close,volume\n" + "".join(f"2020-01-01 00:0{n}:00,1,2,1,1.50,{n}\n" for n in range(6))


@pytest.fixture
def folder():
    with quick_folder() as made:
        (made / "a.csv").write_text(TEXT)
        yield made


def run(*arguments, expect=0):
    done = CliRunner().invoke(app, ["import", *map(str, arguments)], env={"COLUMNS": "200"})
    assert isinstance(done.exception, SystemExit | None), done.output
    assert done.exit_code == expect, done.output
    return done


def test_a_file_becomes_rows_once(folder):
    asked = (folder / "a.csv", *MARKET, "--timezone", "UTC", "--lake", folder / "lake")
    dry = run(*asked, "--dry-run")
    assert "kline in the dialect columns (csv, ',' between columns, utf-8)" in dry.stdout
    assert "columns: time -> open_time, open -> open" in dry.stdout
    assert "from 2020-01-01T00:00:00Z to 2020-01-01T00:05:59.999Z" in dry.stdout
    assert "a.csv: 6 lines would become 6 rows of BTC/USD" in dry.stdout
    assert not (folder / "lake").exists()
    assert "a.csv: 6 lines became 6 rows of BTC/USD" in run(*asked).stdout
    again = json.loads(run(*asked, "--json").stdout)
    assert (again["files"][0]["already"], again["files"][0]["rows"]) == (True, 6)
    assert again["understood"][0]["rows"][0]["close"] == "1.50"
    assert "imported already as session" in run(*asked).stdout
    session = again["files"][0]["session"]
    found = ["trace", "kline", "--session", session, "--frame", "2", "--lake", str(folder / "lake")]
    traced = CliRunner().invoke(app, found, env={"COLUMNS": "200"})
    assert (traced.exit_code, "line     2 of that file, which the lake does not keep" in traced.stdout) == (0, True)
    assert "a.csv" in traced.stdout
    assert "segment" not in traced.stdout


def test_what_is_not_clear_is_refused_without_a_terminal(folder):
    done = run(folder / "a.csv", *MARKET, "--lake", folder / "lake", expect=2)
    assert "say --timezone UTC, an offset" in done.stderr
    assert not (folder / "lake").exists()


def test_all_that_is_not_clear_is_said_at_once(folder):
    (folder / "b.csv").write_text("Date,Open,High,Low,Close,Adj Close\n2024-01-02,1,2,1,2,2\n2024-01-03,1,2,1,2,2\n")
    done = run(folder / "b.csv", "--exchange", "x", "--market", "equity", "--lake", folder / "lake", expect=2)
    for option in ("say --timezone UTC", "and --symbol as its exchange spells it", "and --raw-prices"):
        assert option in done.stderr.replace("\n", " ")


def test_of_several_files_the_one_that_is_not_clear_is_named(folder):
    (folder / "b.csv").write_bytes(TEXT.encode() + b"\xff\n")
    files = (folder / "a.csv", folder / "b.csv", *MARKET, "--timezone", "UTC", "--lake", folder / "lake")
    assert "b.csv: it is not UTF-8 (byte 0xff at" in run(*files, expect=2).stderr.replace("\n", " ")


def test_a_terminal_is_asked(folder, monkeypatch):
    monkeypatch.setattr(import_, "_terminal", lambda: True)
    asked = ["import", str(folder / "a.csv"), *MARKET, "--lake", str(folder / "lake")]
    no = CliRunner().invoke(app, asked, input="UTC\nn\n")
    assert (no.exit_code, "nothing was written" in no.stderr) == (1, True)
    assert not (folder / "lake").exists()
    gone = CliRunner().invoke(app, asked, input="")
    assert (gone.exit_code, "interrupted" in gone.stderr) == (130, True)
    yes = CliRunner().invoke(app, asked, input="UTC\ny\n")
    assert yes.exit_code == 0, yes.output
    assert "does not say in which zone it is" in yes.stderr
    assert "6 lines became 6 rows" in yes.stdout


def test_rows_set_aside_and_files_that_are_missing_have_exit_codes(folder):
    (folder / "a.csv").write_text(TEXT + "2020-01-01 00:06:00,NaN,2,1,1,1\n")
    done = run(folder / "a.csv", *MARKET, "--timezone", "UTC", "--lake", folder / "lake", "--dry-run", expect=1)
    assert "set aside: line 8: open: no plain decimal: NaN" in done.stderr
    run(folder / "none.csv", *MARKET, "--lake", folder / "lake", expect=66)
    run(folder / "a.csv", *MARKET, "--map", "time", "--lake", folder / "lake", expect=2)
    run(folder / "a.csv", *MARKET, "--dates", "ydm", "--lake", folder / "lake", expect=2)


TARDIS = "exchange,symbol,timestamp,local_timestamp,"


def test_quotes_of_one_side_are_counted_by_the_side_that_is_missing(folder):
    at = "deribit,X,15856992{0:02}000000,15856992{0:02}100000"
    rows = ("10,7,6,2", ",,6,2", "10,7,,", ",,6,2", "10,8,6,2")
    lines = "".join(f"{at.format(n)},{row}\n" for n, row in enumerate(rows))
    (folder / "q.csv").write_text(f"{TARDIS}ask_amount,ask_price,bid_price,bid_amount\n{lines}")
    asked = (folder / "q.csv", "--exchange", "deribit", "--market", "inverse", "--lake", folder / "lake")
    for options in (("--dry-run",), ()):
        done = run(*asked, *options, expect=1)
        assert "q.csv: 5 lines " in done.stdout
        assert "3 set aside" in done.stdout
        assert "set aside: line 3: ask: missing (and 2 more lines)" in done.stderr
        assert "set aside in all: 2 ask: missing; 1 bid: missing" in done.stderr
    (made,) = json.loads(run(*asked, "--again", "--dry-run", "--json", expect=1).stdout)["files"]
    assert (made["rows"], made["quarantined"], made["why"]) == (2, 3, {"ask: missing": 2, "bid: missing": 1})


def test_what_the_lake_covers_is_said_before_anything_is_written(folder):
    line = "binance-futures,BTCUSDT,{0}000000,{0}100000,,10,7,6,2\n".replace(",,", ",")
    names = f"{TARDIS}ask_amount,ask_price,bid_price,bid_amount\n"
    for name, seconds in (("q.csv", range(0, 7201, 600)), ("r.csv", range(3600, 10801, 600))):
        (folder / name).write_text(names + "".join(line.format(1585699200 + second) for second in seconds))
    asked = ("--exchange", "binance", "--market", "linear", "--lake", folder / "lake")
    assert "the lake covers" not in run(folder / "q.csv", *asked).stdout
    done = run(folder / "r.csv", *asked, "--dry-run").stdout
    shown = "the lake covers 1.0 h of that time of BTCUSDT, and its rows go first: "
    assert shown in done
    assert "rows without an id are left out there, and taken in its gaps and outside" in " ".join(done.split())
    left = "13 lines {} 6 rows of BTCUSDT from 2020-04-01T02:10:00Z to "
    assert left.format("would become") in done
    assert "7 without an id left out where the lake has that time" in done
    done = run(folder / "r.csv", *asked).stdout
    assert left.format("became") in done
    assert done.index(shown) < done.index(left.format("became"))


def test_a_book_fills_what_the_lake_leaves_open_part_by_part(folder):
    names = f"{TARDIS}is_snapshot,side,price,amount\n"
    line = "binance-futures,BTCUSDT,{0}000000,{0}000000,{1},bid,{2},1\n"
    for name, wholes, seconds in (("a.csv", (60,), range(60, 120)), ("b.csv", (20,), range(180))):
        rows = (line.format(1585699200 + n, str(n in wholes).lower(), 90 + n % 7) for n in seconds)
        (folder / name).write_text(names + "".join(rows))
    asked = ("--exchange", "binance", "--market", "linear", "--lake", folder / "lake")
    assert "taken:" not in run(folder / "a.csv", *asked).stdout
    for more, verb in ((("--dry-run",), "would become"), ((), "became")):
        told = " ".join(run(folder / "b.csv", *asked, *more).stdout.split())
        assert f"b.csv: 180 lines {verb} 105 rows of BTCUSDT" in told
        assert "60 without an id left out where the lake has that time, 20 before a whole book left out" in told
        assert (
            "taken: 2020-04-01T00:00:20Z to 2020-04-01T00:01:00Z, 40 messages, begun with a whole book of its" in told
        )
        assert "60 messages, begun with what its messages before that came to" in told
        assert "not taken: 2020-04-01T00:00:00Z to 2020-04-01T00:00:19.000001Z: 20 messages come before any" in told
    assert "came to: 1 of 1 levels as the lake had them then" in told, "no wider than its own whole book"


def test_tickers_without_a_mark_are_counted(folder):
    at = "binance-futures,BTCUSDT,158569920{0}000000,158569920{0}100000"
    rows = ("1585728000000000,0.1,,30,6,6,7", ",,,31,6,,", "1585728000000000,0.1,,31,6,6,8", ",,,,6,,")
    lines = "".join(f"{at.format(n)},{row}\n" for n, row in enumerate(rows))
    names = "funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,mark_price"
    (folder / "t.csv").write_text(f"{TARDIS}{names}\n{lines}")
    asked = (folder / "t.csv", "--exchange", "binance", "--market", "linear", "--lake", folder / "lake")
    for options in (("--dry-run",), ()):
        done = run(*asked, *options)
        assert "left out: exchange, local_timestamp, predicted_funding_rate, open_interest, last_price" in " ".join(
            done.stdout.split()
        )
        assert "t.csv: 4 lines " in done.stdout
        assert "0 duplicates left out, 2 without a mark left out, 0 set aside" in done.stdout
