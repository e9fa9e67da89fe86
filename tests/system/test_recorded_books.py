"""Real recordings of depth, quotes, aggregate trades and candles: certified days whose books are those of the venue."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from lake import Lake
from tests.support.commands import dl_json, run, sample

RECORDED = {
    "linear": ("cf_um_20210417", {"agg_trade": 185, "book_delta": 1_016, "quote": 1_959}, 99),
    "spot": ("cf_spot_20211012", {"agg_trade": 2, "book_delta": 177, "quote": 84}, 2),
}
"""Market -> (recording, rows by kind, forming candles)."""
SNAPSHOT = re.compile(r"\S+/depth\?symbol=(\w+)&limit=\d+ -> [0-9.]+: (.*)")
Book = dict[str, dict[float, float]]


@pytest.fixture(scope="module", params=list(RECORDED))
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    market = request.param
    folder = tmp_path_factory.mktemp(market)
    recording = sample(f"binance/{RECORDED[market][0]}.ws.txt.gz")
    assert run("scripts/frames_from.py", recording, "--out", folder / "frames").returncode == 0
    lake = folder / "lake"
    frames = sorted((folder / "frames").iterdir())
    return market, lake, dl_json("replay", *frames, "--exchange", "binance", "--market-type", market, "--lake", lake)


def test_every_frame_is_a_row_or_counted_and_every_file_is_certified(replayed: tuple[str, Path, Any]) -> None:
    market, lake, said = replayed
    _, rows, forming = RECORDED[market]
    assert said["replayed"]["events"] == rows
    assert said["replayed"]["ignored"] == {"kline_1m forming": forming}
    assert said["replayed"]["frames"] == sum(rows.values()) + forming
    assert (said["replayed"]["rejected"], said["replayed"]["duplicates"]) == ({}, {})
    held = dl_json("ls", "--lake", lake)
    assert {row["file"]["kind"] for row in held} == {*rows, "bar_1s", "bar_1m"}, "bars come of aggregated trades here"
    assert all(row["file"]["level"] == "day" and row["certificate"] for row in held)
    assert {kind: Lake(lake).read(kind).num_rows for kind in rows} == rows


def test_the_lake_verifies_and_has_no_gap(replayed: tuple[str, Path, Any]) -> None:
    _, lake, _ = replayed
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"]
    assert verdict["findings"] == []
    assert dl_json("gaps", "--lake", lake) == []


def test_books_from_the_snapshot_and_the_stored_updates_have_the_quotes_of_equal_ids(
    replayed: tuple[str, Path, Any],
) -> None:
    market, lake, _ = replayed
    equal = 0
    for symbol, snapshot in snapshots(f"binance/{RECORDED[market][0]}.http.txt.gz").items():
        quotes = {row["update_id"]: row for row in Lake(lake).read("quote", symbol=symbol).to_pylist()}
        for last, book in books(market, snapshot, Lake(lake).read("book_delta", symbol=symbol).to_pylist()):
            bid, ask = max(book["bids"]), min(book["asks"])
            if (quote := quotes.get(last)) is not None:
                assert (quote["bid"], quote["bid_qty"]) == (bid, book["bids"][bid]), (symbol, last)
                assert (quote["ask"], quote["ask_qty"]) == (ask, book["asks"][ask]), (symbol, last)
                equal += 1
    assert equal == {"linear": 86, "spot": 26}[market]


def snapshots(name: str) -> dict[str, dict[str, Any]]:
    """Symbol -> the depth that was fetched while the recording ran."""
    with gzip.open(sample(name), "rt") as file:
        found = (SNAPSHOT.fullmatch(line.strip()) for line in file)
        return {match[1]: json.loads(match[2]) for match in found if match is not None}


def books(market: str, snapshot: dict[str, Any], updates: list[dict[str, Any]]) -> Any:
    """(update id, book) after each update, by the venue's rules for this market."""
    book: Book = {side: {float(p): float(q) for p, q in snapshot[side]} for side in ("bids", "asks")}
    last, began = snapshot["lastUpdateId"], False
    for row in updates:
        if row["last_id"] < (last if market == "linear" else last + 1):
            assert not began
            continue
        if market == "spot":
            assert row["first_id"] <= last + 1 if not began else row["first_id"] == last + 1
        else:
            joins = row["prev_id"] == last
            assert joins or (not began and row["first_id"] <= last <= row["last_id"])
        began, last = True, row["last_id"]
        for side, held in book.items():
            for level in row[side]:
                held[level["price"]] = level["qty"]
                if not level["qty"]:
                    del held[level["price"]]
        yield last, book
    assert began
