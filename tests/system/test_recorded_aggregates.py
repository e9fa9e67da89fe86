"""A real recording that holds aggregated trades and no others, replayed: certified files, and bars all the same."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from lake import Lake
from market.times import MS, SECOND
from tests.support.commands import dl, dl_json, run, sample

SAMPLE = "binance/cf_um_20210417.ws.txt.gz"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = sample(SAMPLE)
    folder = tmp_path_factory.mktemp("aggregates")
    done = run("scripts/frames_from.py", frames, "--out", folder / "frames")
    assert done.returncode == 0, done.stderr
    files = sorted((folder / "frames").iterdir())
    dl("replay", *files, "--exchange", "binance", "--market-type", "linear", "--lake", folder / "lake")
    return folder / "lake"


def in_seconds() -> dict[tuple[str, int], list[dict[str, str]]]:
    """The venue's aggregated trades by symbol and second (us), as the frames say them."""
    found = defaultdict(list)
    for line in gzip.decompress(sample(SAMPLE).read_bytes()).decode().splitlines():
        data = json.loads(line.split(": ", 1)[1]).get("data", {}) if ": " in line else {}
        if data.get("e") == "aggTrade":
            time = data["T"] * MS
            found[data["s"], time - time % SECOND].append(data)
    return found


def test_every_second_with_an_aggregated_trade_has_its_final_bar(recorded: Path) -> None:
    bars = {
        (bar["symbol"], round(bar["window_start"].timestamp()) * SECOND): bar
        for bar in Lake(recorded).read("bar_1s", min_state="final").to_pylist()
    }
    expected = in_seconds()
    assert len(expected) > 50
    assert bars.keys() == expected.keys()
    for key, rows in expected.items():
        bar = bars[key]
        rows.sort(key=lambda row: (row["T"], row["a"]))
        prices = [Decimal(row["p"]) for row in rows]
        sizes = [Decimal(row["q"]) for row in rows]
        amounts = [price * size for price, size in zip(prices, sizes, strict=True)]
        assert [bar[name] for name in ("open", "high", "low", "close")] == [
            float(price) for price in (prices[0], max(prices), min(prices), prices[-1])
        ]
        assert bar["trade_count"] == sum(row["l"] - row["f"] + 1 for row in rows)
        assert (bar["first_seq"], bar["last_seq"]) == (rows[0]["f"], rows[-1]["l"])
        assert bar["volume_base"] == float(sum(sizes))
        assert bar["volume_quote"] == float(sum(amounts))
        bought = [n for n, row in enumerate(rows) if not row["m"]]
        assert bar["taker_buy_base"] == float(sum(sizes[n] for n in bought))
        assert bar["taker_buy_quote"] == float(sum(amounts[n] for n in bought))
    assert not all(bar["partial"] for bar in bars.values())
    assert not any(bar["gap"] for bar in bars.values())


def test_minutes_hold_what_their_seconds_hold_and_the_last_quote(recorded: Path) -> None:
    lake = Lake(recorded)
    seconds, minutes = (lake.read(kind).to_pylist() for kind in ("bar_1s", "bar_1m"))
    for bar in minutes:
        inside = [row for row in seconds if row["symbol"] == bar["symbol"]]
        assert bar["trade_count"] == sum(row["trade_count"] for row in inside)
        assert bar["partial"], "the recording is shorter than a minute"
        assert bar["bid"] < bar["ask"]


def test_the_lake_verifies_and_a_second_run_changes_nothing(recorded: Path) -> None:
    assert dl_json("verify", "--lake", recorded)["ok"]
    before = dl_json("ls", "--lake", recorded)
    assert {row["file"]["kind"] for row in before} == {"agg_trade", "book_delta", "quote", "bar_1s", "bar_1m"}
    assert all(row["certificate"] for row in before)
    dl("transform", "--lake", recorded)
    dl("compact", "--lake", recorded)
    assert dl_json("ls", "--lake", recorded) == before
