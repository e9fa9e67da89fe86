"""How soon a start is over: the bench of restarts and stops runs whole, in small, and a refused start is light."""

import json
import subprocess
import sys

import pytest

from scripts import bench_restart


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_p28_restarts_and_stops_are_measured_and_nothing_is_lost(tmp_path, capsys):
    given = ["--files", "12", "--mb", "3", "--stops", "1", "--rate", "300", "--json", "--place", str(tmp_path)]
    code = bench_restart.main([*given, "--out", str(tmp_path / "out.json")])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    assert told == json.loads((tmp_path / "out.json").read_text())
    assert told["many_files"]["files"] == 12
    assert told["unsealed"]["bytes"] >= 3_000_000
    assert told["unsealed"]["left_open"] == 0
    assert told["stops"]["lost"] == []
    assert 0 < told["stops"]["slowest_seconds"] < 60
    assert {one["name"].partition(":")[0] for one in told["targets"]} == {
        "many files", "unsealed segments", "slowest stop", "lost by stops",
    }  # fmt: skip


def test_p25_a_refused_start_does_not_wait_for_the_engines():
    """What a second daemon imports before it finds the lock held: two seconds are all it has, on a busy machine too."""
    heavy = ["polars", "pyarrow", "duckdb", "sqlalchemy", "aiohttp", "picows", "loguru", "prometheus_client"]
    code = f"import sys, daemon.__main__; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.strip() == "[]"


def test_p23_what_answers_sql_is_not_in_the_memory_of_a_daemon():
    """DuckDB is 30 MB of the 350 that it may have, and a quarter of a second of its start."""
    code = "import sys, daemon.wiring; print('lake.reader' in sys.modules, 'duckdb' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.split() == ["True", "False"]
