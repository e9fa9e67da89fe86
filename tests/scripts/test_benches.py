"""The load generator sends what it says, and the bench proves equal records before it measures."""

import asyncio
import json
import subprocess
import sys

import pytest
from websockets.asyncio.client import connect

from scripts import bench_ingest


async def received(ready, url):
    async with asyncio.timeout(20), connect(url, compression=None) as ws:
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
        assert process.wait(10) == 0
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
