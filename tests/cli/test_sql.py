"""`dl sql` as it is typed: where the query comes from, the forms of its answer, and how it ends."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.app import app
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    held = TestLake(tmp_path_factory.mktemp("asked") / "lake")
    held.day("trade", [trade(T0 + n, "10.5", "2", seq=n) for n in range(1, 151)])
    yield held.root
    held.close()


def ask(lake: Path, *arguments: str | Path, expect: int = 0, stdin: str | None = None):
    asked = ["sql", *map(str, arguments), "--lake", str(lake)]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "200"}, input=stdin)
    assert done.exit_code == expect, done.output
    assert "Traceback" not in done.output
    return done


def test_rows_are_a_table_with_their_count(lake):
    done = ask(lake, "SELECT symbol, seq, ts_event, price FROM trade WHERE seq < 3 ORDER BY seq")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["symbol", "seq", "ts_event", "price"],
        ["BTCUSDT", "1", "2024-07-19T00:00:00.000001Z", "10.5"],
        ["BTCUSDT", "2", "2024-07-19T00:00:00.000002Z", "10.5"],
        ["(2", "rows)"],
    ]
    assert done.stderr == ""


def test_more_rows_than_are_shown_are_told_of(lake):
    done = ask(lake, "FROM trade")
    assert "(100 rows)" in done.stdout
    assert done.stderr == "the first 100 rows; there are more: --limit 0 for all of them\n"
    assert "(150 rows)" in ask(lake, "FROM trade", "--limit", "0").stdout
    assert "(150 rows)" in ask(lake, "FROM trade", "--limit", str(10**25)).stdout


@pytest.mark.parametrize("option, most", [("--memory", "100000000"), ("--timeout", "604800")])
def test_more_than_any_machine_has_is_refused_by_name(lake, option, most):
    said = ask(lake, "select 1", option, "1" + "0" * 18, expect=2).stderr
    assert option in said
    assert most in said
    assert "(1 row)" in ask(lake, "select 1", option, most).stdout


def test_the_query_may_come_from_a_file_or_from_stdin(lake, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT count(*) AS n FROM trade -- all of them\n")
    for given in (("--file", tmp_path / "q.sql"), ("-",), ()):
        assert "150" in ask(lake, *given, stdin="SELECT count(*) AS n FROM trade").stdout
    assert "two queries" in ask(lake, "SELECT 1", "--file", tmp_path / "q.sql", expect=2).output
    assert "No such file" in ask(lake, "--file", tmp_path / "none", expect=66).output
    (tmp_path / "q.sql").write_bytes(b"\xff\xfe")
    assert "UTF-8" in ask(lake, "--file", tmp_path / "q.sql", expect=2).output


def test_answers_are_json_lines_csv_or_a_parquet_file(lake, tmp_path):
    query = "SELECT seq, '=1+1' AS text, [price] AS list FROM trade ORDER BY seq"
    lines = ask(lake, query, "--json", "--limit", "2").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"seq": n, "text": "=1+1", "list": [10.5]} for n in (1, 2)]
    assert ask(lake, query, "--csv", "--limit", "1").stdout == "seq,text,list\n1,'=1+1,[10.5]\n"
    assert "150 rows written" in ask(lake, query, "--parquet", tmp_path / "a.parquet").output
    assert pq.read_table(tmp_path / "a.parquet").column("seq").to_pylist() == [*range(1, 151)]
    assert "one of them" in ask(lake, query, "--json", "--csv", expect=2).output
    assert "existing folder" in ask(lake, query, "--parquet", tmp_path / "no" / "a", expect=2).output


@pytest.mark.parametrize(
    "query, code, told",
    [
        ("DROP TABLE x", 2, "exactly one SELECT"),
        ("SELECT prise FROM trade", 2, 'Candidate bindings: "price"'),
        ("SELECT * FROM '/etc/passwd'", 2, "does not exist"),
        ("SELECT count(*) FROM range(1000000) a, range(1000000) b", 1, "longer than 0.1 s"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence_and_an_exit_code(lake, query, code, told):
    assert told in ask(lake, query, "--timeout", "0.1", expect=code).output


def test_no_lake_is_no_answer(tmp_path):
    ask(tmp_path / "none", "SELECT 1", expect=66)
