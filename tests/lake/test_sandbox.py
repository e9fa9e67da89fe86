"""SQL of somebody else: the same answers from a process of its own, which harms nothing and can be harmed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lake import Lake, confine
from lake.errors import LakeError, TooMuch, WrongQuestion
from lake.sandbox import Sandbox
from lake.sql_engine import Limits
from market.times import DAY
from tests.support.hostile_sql import fingerprint, spelt
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

LIMITS = Limits(seconds=8.0, rows=5, bytes=1_000_000, memory=128)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    held = TestLake(tmp_path_factory.mktemp("sandbox") / "lake")
    held.day("trade", [trade(T0 + n, "10.5", "2", seq=n) for n in (1, 2)])
    held.part("trade", [trade(T0 + DAY + n, "11", "1", seq=n) for n in (3, 4)])
    held.gap(T0 + 2, T0 + 3)
    before = fingerprint(held.root)
    yield held.root
    assert fingerprint(held.root) == before
    held.close()


@pytest.fixture(scope="module")
def sandbox(root):
    with Sandbox(root, LIMITS, wait=0.0) as held:
        yield held


def test_the_answer_is_that_of_the_lake(root, sandbox):
    query = "SELECT t.*, g.state FROM trade t JOIN gaps g USING (symbol) WHERE symbol = 'BTCUSDT' ORDER BY seq"
    with Lake(root) as lake:
        answer = sandbox.ask(query)
        assert answer.table.equals(lake.sql(query))
    assert (answer.table.num_rows, answer.capped) == (4, None)


@pytest.fixture(scope="module")
def wide(root):
    """With the limits that there are unless it is said otherwise."""
    with Sandbox(root) as held:
        yield held


@pytest.mark.parametrize("told", ["duckdb_views", "duckdb_columns", "duckdb_tables", "duckdb_functions"])
def test_nothing_that_is_told_of_names_says_where_the_lake_is(root, wide, told):
    held = str(wide.ask(f"FROM {told}(), trade").table.to_pylist())
    assert ("trade" in held) == (told != "duckdb_tables"), "there are views only"
    assert str(root) not in held


@pytest.mark.parametrize("query", ["SELECT error(symbol) FROM trade", "FROM nowhere", "SELECT price + side FROM trade"])
def test_no_refusal_says_where_the_lake_is(root, wide, query):
    with pytest.raises(WrongQuestion) as wrong:
        wide.ask(query)
    assert str(root) not in wrong.value.message + wrong.value.hint


def test_an_answer_is_cut_short_with_a_sentence(sandbox):
    answer = sandbox.ask("FROM range(1000000000000)")
    assert (answer.table.num_rows, answer.capped) == (5, "the first 5 rows; there are more")
    heavy = sandbox.ask("SELECT repeat('x', 400000) FROM range(4)")
    assert heavy.table.num_rows == 2
    assert heavy.capped == "the first 2 rows, which are 1,000,000 bytes; there are more"


def test_what_does_more_than_read_the_lake_is_refused(root, sandbox):
    with pytest.raises(WrongQuestion, match="disabled by configuration"):
        sandbox.ask(spelt("SELECT * FROM '{link}'", root, ""))


@pytest.mark.parametrize(
    "query, told",
    [
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t", "longer than 0.3 s"),
        ("SELECT repeat('x', 4000000000)", "memory|longer"),
    ],
)
def test_a_bomb_ends_its_own_process_only(sandbox, query, told):
    with pytest.raises(TooMuch, match=told):
        sandbox.ask(query, Limits(seconds=0.3))


def test_a_process_that_dies_is_an_error_and_the_next_query_has_another(sandbox, monkeypatch):
    sandbox._spare._held.kill()
    sandbox._spare._held.wait()
    answered, taken = sandbox._files, []
    take = sandbox._take_spare

    def took():
        taken.append(take())
        return taken[-1]

    def killed(*asked):
        taken[-1]._held.kill()
        return answered(*asked)

    with monkeypatch.context() as changed:
        changed.setattr(sandbox, "_take_spare", took)
        changed.setattr(sandbox, "_files", killed)
        with pytest.raises(TooMuch, match="process ended"):
            sandbox.ask("SELECT count(*) FROM trade")
    assert sandbox.ask("SELECT 1").table.num_rows == 1


def test_a_query_that_finds_no_turn_is_told_so(sandbox):
    for _ in range(2):
        assert sandbox._turns.acquire(blocking=False)
    with pytest.raises(TooMuch, match="other queries"):
        sandbox.ask("SELECT 1")
    sandbox._turns.release(2)


def test_nobody_is_answered_from_a_file_that_is_not_the_manifests(tmp_path):
    held = TestLake(tmp_path / "lake")
    file = held.root / held.day("trade", [trade(T0, "1", "1", seq=1)]).path
    secret = tmp_path / "secret"
    secret.write_text("secret")
    file.unlink()
    file.symlink_to(secret)
    with Sandbox(held.root, LIMITS) as sandbox, pytest.raises(LakeError, match="manifest says"):
        sandbox.ask("FROM trade")
    held.close()


def test_folders_that_came_later_are_read(tmp_path):
    held = TestLake(tmp_path / "lake")
    with Sandbox(held.root, LIMITS) as sandbox:
        assert sandbox.ask("FROM trade").table.num_rows == 0
        held.part("trade", [trade(T0, "1", "1", seq=1)])
        assert sandbox.ask("FROM trade").table.num_rows == 1
    held.close()


CONFINED = """
    import os, sys
    from pathlib import Path
    from lake import confine
    root = Path(sys.argv[1])
    confine.limited(1 << 28, 60)
    version = confine.only_read([root / "tables", root / "none"])
    def tried(what):
        try:
            return repr(what())
        except (OSError, MemoryError) as error:
            return type(error).__name__
    print(version)
    print(tried(lambda: (root / "tables" / "a").read_text()))
    print(tried(lambda: (root / "manifest.db").read_text()))
    print(tried(lambda: (root / "tables" / "link").read_text()))
    print(tried(lambda: (root / "tables" / "a").write_text("gone")))
    print(tried(lambda: (root / "tables" / "a").unlink()))
    print(tried(lambda: os.execv(sys.executable, [sys.executable, "-c", "1"])))
    print(tried(lambda: len(bytearray(1 << 30))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_a_confined_process_reads_those_folders_and_does_nothing_else(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a").write_text("row")
    (tmp_path / "manifest.db").write_text("secret")
    (tmp_path / "tables" / "link").symlink_to(tmp_path / "manifest.db")
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CONFINED), str(tmp_path)], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(confine.__file__).parent.parent)},
    )  # fmt: skip
    version, *tried = ran.stdout.split()
    if version == "0":
        pytest.skip("this kernel has no Landlock")
    denied = "PermissionError"
    assert tried == ["'row'", denied, denied, denied, denied, denied, "MemoryError"]
    assert (tmp_path / "tables" / "a").read_text() == "row"
