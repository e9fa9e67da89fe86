"""The load generator sends what it says, and every bench proves equal records before it measures."""

import asyncio
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from websockets.asyncio.client import connect

from lake import segments
from scripts import (
    bench_compact,
    bench_history,
    bench_ingest,
    bench_load,
    bench_page,
    bench_passes,
    bench_read,
    bench_transform,
    scale_day,
)

import bench_harness  # isort: skip -- the benches put their folder on the path


async def received(ready, url):
    async with asyncio.timeout(60), connect(url, compression=None) as ws:
        if "streams=" not in url:
            half = len(ready["streams"]) // 2
            for number, part in enumerate((ready["streams"][:half], ready["streams"][half:])):
                await ws.send(json.dumps({"method": "SUBSCRIBE", "params": part, "id": number}))
                assert json.loads(await ws.recv()) == {"result": None, "id": number}
        return [await ws.recv() for _ in range(ready["frames"])]


@pytest.mark.parametrize("mix, pace", [("ab", None), ("tb", None), ("ab", 5000.0)])
async def test_every_client_gets_the_same_frames_once_it_has_asked_for_all(mix, pace):
    command = [sys.executable, "scripts/blast.py", "--frames", "2000", "--symbols", "3", "--mix", mix]
    process = subprocess.Popen(
        command + (["--pace", str(pace)] if pace else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(process.stdout.readline())
        by_command = await received(ready, ready["ws"])
        by_address = await received(ready, f"{ready['ws']}?streams={'/'.join(ready['streams'])}")
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(60) == 0
    assert by_command == by_address
    assert {json.loads(text)["stream"] for text in by_command} == set(ready["streams"])
    quotes = sum("bookTicker" in text for text in by_command)
    assert quotes == ready["quotes"] == pytest.approx(1200 if mix == "ab" else 1100, abs=30)
    assert ready["trades"] == 2000 - quotes
    ids = {}
    for text in by_command:
        data = json.loads(text)["data"]
        if "u" not in data:
            ids.setdefault(data["s"], []).append(data["a" if mix == "ab" else "t"])
    assert all(found == list(range(found[0], found[0] + len(found))) for found in ids.values())


@pytest.mark.slow
def test_the_bench_proves_equal_records_and_gives_ratios(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_ingest, "OUT", tmp_path)
    code = bench_ingest.main(["--peers", "baseline", "--frames", "1500", "--rounds", "1", "--pace", "0", "--json"])
    told = json.loads(capsys.readouterr().out)["results"][0]
    assert code == 0
    assert told["sides"].keys() == {"ours", "ours-noframes", "baseline"}
    assert all(one["records_equal"] and one["stored_in_proof"] == 1500 for one in told["sides"].values())
    assert all(one["cpu_us_per_frame"] > 0 and one["rss_mb"] > 5 for one in told["sides"].values())
    assert told["ratios"].keys() == {"baseline / ours", "baseline / ours-noframes"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--peers", "nobody"], ["--rounds", "0"], ["--what"]])
def test_a_wrong_command_line_ends_with_64(wrong, capsys):
    with pytest.raises(SystemExit) as left:
        bench_ingest.main(wrong)
    assert left.value.code == 64


def side_by_side(module, monkeypatch, tmp_path, *given):
    """What a bench says in its smallest run."""
    monkeypatch.setattr(bench_harness, "OUT", tmp_path / "work")
    out = tmp_path / "result.json"
    assert module.main(["--quick", "--json", "--out", str(out), *given]) == 0
    assert list((tmp_path / "work").iterdir()) == []
    return json.loads(out.read_text())


@pytest.mark.timeout(300)
def test_bars_of_ours_and_of_a_peer_are_equal(tmp_path, monkeypatch):
    told = side_by_side(
        bench_transform,
        monkeypatch,
        tmp_path,
        "--rows",
        "1500",
        "--sides",
        "duckdb,pandas-tables,polars-tables,duckdb-tables",
    )
    bars, whole, folds = told["parts"]
    assert bars["equal"] == {"ours": True, "ours-bars": True, "duckdb": True}
    assert whole["equal"] == dict.fromkeys(("ours", "pandas-tables", "polars-tables", "duckdb-tables"), True)
    assert all(folds["equal"].values())
    assert set(bars["ratios"]) == {"duckdb / ours", "duckdb / ours-bars"}
    assert {goal["met"] for goal in told["targets"] if "duckdb" not in goal["name"]} <= {True, False, None}
    page = bench_page.page({"transform": told})
    assert "<svg" in page
    assert "http" not in page
    assert "duckdb / ours" not in bench_page.table({"transform": told})
    assert "| duckdb |" in bench_page.table({"transform": told})


def test_write_passes_are_measured_each_way_with_all_their_lines(tmp_path, capsys):
    given = ["--quick", "--markets", "2", "--minutes", "1", "--syncs", "2", "--place", str(tmp_path)]
    assert bench_passes.main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["files"], told["equal"]) == (10, True)
    assert told["sides"].keys() == {"one by one", "abreast", "two halves"}
    for side in told["sides"].values():
        assert side["lines"] == 2 * 4 * 20 * 3
        assert min(side["sync"], side["minute"], side["stop"], side["cpu_minute"]) > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit) as left:
        bench_passes.main(["--place", str(tmp_path / "missing")])
    assert left.value.code == 64


def test_bars_that_differ_are_found_out():
    import polars as pl

    made = {"symbol": ["A", "A"], "window": [0, 1]} | {name: [1.0, 2.0] for name in bench_transform.COLUMNS}
    frame = pl.DataFrame(made)
    assert bench_transform.same(frame, frame)
    for name in ("window", *bench_transform.COLUMNS):
        other = frame.with_columns(pl.col(name) + pl.Series([0, 1]))
        assert not bench_transform.same(frame, other)
    assert not bench_transform.same(frame, frame.with_columns(bid=pl.lit(None, dtype=pl.Float64)))
    assert not bench_transform.same(frame, frame.head(1))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_daily_files_of_ours_and_of_a_peer_hold_the_same_rows(tmp_path, monkeypatch):
    told = side_by_side(bench_compact, monkeypatch, tmp_path, "--rows", "3000", "--parts", "24", "--sides", "polars")
    assert told["parts"][0]["equal"] == dict.fromkeys(("ours-merge", "ours", "ours-hours", "polars", "codec"), True)
    assert {"content digest", "certificate", "read back and verify"} <= set(told["parts"][0]["sides"]["ours"]["split"])
    assert told["sizes"]["ours"] == told["sizes"]["ours-hours"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rows_of_files_of_ours_and_of_a_peer_are_equal(tmp_path, monkeypatch):
    told = side_by_side(bench_history, monkeypatch, tmp_path, "--rows", "2000", "--sides", "polars")
    plain, _, packed = told["parts"]
    assert plain["equal"] == {"ours-import": True, "polars": True}
    assert packed["equal"] == {"bound": True, "ours": True, "ours-closed": True}
    assert told["targets"][0]["met"] is None  # no pandas beside it


def test_rows_of_files_that_differ_are_found_out():
    import polars as pl

    frame = pl.DataFrame(
        {"id": [1, 2], "time": [3, 4], "price": [1.0, 2.0], "qty": [1.0, 1.5], "side": ["buy", "sell"]}
    )
    assert bench_history.same(frame, frame)
    assert bench_history.same(frame, frame.drop("side"))
    for name in ("id", "time", "price", "qty"):
        assert not bench_history.same(frame, frame.with_columns(pl.col(name) + pl.Series([0, 1])))
    assert not bench_history.same(frame, frame.with_columns(side=pl.lit("buy")))
    assert not bench_history.same(frame, frame.head(0))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_read_by_manifest_and_a_glob_give_the_same_rows(tmp_path, monkeypatch):
    told = side_by_side(
        bench_read, monkeypatch, tmp_path, "--symbols", "2", "--days", "2", "--sides", "wide-polars,glob-duckdb"
    )
    assert set(told["parts"][0]["equal"]) == {"ours", "ours-scan", "ours-sql", "wide-polars", "glob-duckdb"}
    assert all(told["parts"][0]["equal"].values())
    assert "2,880 rows out of 4 daily files" in told["parts"][0]["note"]


def test_lines_are_spelt_as_the_lake_encodes_them():
    rng = np.random.default_rng(1)
    for kind, made in (("trade", bench_load.trades), ("quote", bench_load.quotes)):
        lines = bench_load.lines(kind, made(rng, 50, ["AUSDT", "BUSDT"], 60_000_000)).to_list()
        events = [segments.decode_line(kind, text.encode()) for text in lines]
        assert segments.encode_lines(events) == "".join(lines).encode()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_simulated_day_leaves_what_it_must(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_harness, "OUT", tmp_path)
    assert scale_day.main(["--quick", "--symbols", "2", "--json"]) == 0


def test_the_page_shows_figures_first_each_as_far_from_what_it_must_be_as_it_is():
    far = bench_harness.target("speed", 0.6, 6, 30)
    near = bench_harness.target("memory", 50.0, 100, 10, less=True, unit="MB")
    unknown = bench_harness.target("peer", None, 2, None)
    held = {"python": "3", "cpus": 1, "system": "x", "versions": {"polars": "2"}}
    page = bench_page.page({"read": {"bench": "read", "parts": [], "targets": [far, near, unknown], "machine": held}})
    assert "1 of 2 measured targets met" in page
    assert page.index("must ≥ 6 x · moonshot ≥ 30 x") < page.index("<h2>")
    assert [bench_page.reach(ratio) for ratio in (0.1, 1, 10, 1000)] == [1.5, 50, 100, 100]
    widths = re.findall(r'<i style="width: ([0-9.]+)%', page)
    assert [float(width) for width in widths] == [1.5, pytest.approx(65.1)]
    assert page.count("not measured") == 1


def test_nothing_waits_for_the_disk_inside_and_everything_does_again_behind(tmp_path):
    from lake import durable

    plain = durable._flush
    with bench_harness.unsynced() as syncs:
        durable.write_file(tmp_path / "file", b"x")
        assert next(syncs) >= 1
    assert durable._flush is plain
