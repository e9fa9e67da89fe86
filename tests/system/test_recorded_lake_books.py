"""Real recordings with the snapshots that were fetched beside: `Lake.book` has the best prices of the quotes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import Lake
from lake.errors import BookUnknown
from lake.frames import FrameLine, encode_frame_lines, read_frames
from tests.support.book_rows import plain, scaled_text
from tests.support.commands import dl, dl_json, run, sample

SNAPSHOT = re.compile(r"(\S+/depth\?symbol=(\w+)&limit=(\d+)) -> ([0-9.]+): (.*)")
RECORDED = {
    "cf_um": ("linear", ["cf_um_20210417.ws.txt.gz"], "cf_um_20210417.http.txt.gz", 80),
    "cf_spot": ("spot", ["cf_spot_20211012.ws.txt.gz"], "cf_spot_20211012.http.txt.gz", 20),
    "hft_um": ("linear", ["hft_um_btcusdt_20240718.gz", "hft_um_btcusdt_20240719.gz"], None, 60),
}
"""Recording -> (market, its files, the answers beside it, books that must have been compared)."""
MOST = 80
"""Books that are compared of one symbol: a recording of every change has thousands."""
DEPTH = re.compile(r'"stream":"(\w+@depth[@0-9ms]*)"')


@pytest.fixture(scope="module", params=list(RECORDED))
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    market, names, answers, _ = RECORDED[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    files = [sample(f"binance/{name}") for name in names]
    assert run("scripts/frames_from.py", *files, "--out", folder / "plain").returncode == 0
    found = fetched(sample(f"binance/{answers}")) if answers else []
    lines = [line for path in sorted((folder / "plain").iterdir()) for line in read_frames(path)]
    (folder / "frames.jsonl").write_bytes(encode_frame_lines(list(answered(lines, found))))
    lake = folder / "lake"
    dl("replay", folder / "frames.jsonl", "--exchange", "binance", "--market-type", market, "--lake", lake)
    return request.param, lake


def fetched(path: Path) -> list[tuple[int, str, str, str]]:
    """(time, symbol, levels, body) of every snapshot that was fetched."""
    with gzip.open(path, "rt") as file:
        held = (SNAPSHOT.fullmatch(line.strip()) for line in file)
        return sorted((round(float(m[4]) * 1_000_000), m[2], m[3], m[5]) for m in held if m is not None)


def answered(lines: list[FrameLine], found: list[tuple[int, str, str, str]]) -> Iterator[FrameLine]:
    """The lines of one connection with the answers in their places, as a live run would have written them."""
    streams: dict[str, str] = {}
    waiting, number = list(found), 0
    for line in lines:
        text = line.frame or ""
        number += line.dir == "recv"
        if line.dir == "recv" and text.startswith('{"lastUpdateId"'):  # an answer among the frames
            (stream,) = streams.values()
            yield answer(line, number, "1000", stream, text)
            continue
        yield FrameLine(ts_recv=line.ts_recv, conn=line.conn, dir=line.dir, n=number, frame=line.frame, url=line.url)
        if (match := DEPTH.search(text[:200])) is not None:
            streams.setdefault(match[1].partition("@")[0].upper(), match[1])
        for one in [one for one in waiting if one[0] <= line.ts_recv and one[1] in streams]:
            waiting.remove(one)
            number += 1
            yield answer(line, number, one[2], streams[one[1]], one[3])
    assert not waiting


def answer(line: FrameLine, number: int, levels: str, stream: str, body: str) -> FrameLine:
    return FrameLine(ts_recv=line.ts_recv, conn=line.conn, dir="http", n=number, frame=body, method="GET", status=200,
                     url="https://example.com/depth", tag=f"depth {levels} {stream}")  # fmt: skip


def test_books_at_the_times_of_updates_have_the_best_prices_of_the_quotes_of_equal_ids(
    replayed: tuple[str, Path],
) -> None:
    name, root = replayed
    equal = refused = 0
    with Lake(root) as lake:
        rows = lake.read("book_delta", columns=["symbol", "ts_event", "last_id", "flags"]).to_pylist()
        quotes = {(row["symbol"], row["update_id"]): row for row in lake.read("quote").to_pylist()}
        assert any(row["flags"] == "snapshot" for row in rows)
        matching = [row for row in rows if not row["flags"] and (row["symbol"], row["last_id"]) in quotes]
        for row in matching[:: max(1, len(matching) // MOST)]:
            try:
                book = lake.book(row["symbol"], at=row["ts_event"], depth=1)
            except BookUnknown:
                refused += 1  # before its snapshot
                continue
            if book.last_id != row["last_id"]:
                continue  # another update of the same microsecond
            quote = quotes[row["symbol"], row["last_id"]]
            for side, names in ((book.bids, ("bid", "bid_qty")), (book.asks, ("ask", "ask_qty"))):
                said = tuple(quote[f"{one}_text"] or scaled_text(repr(quote[one])) for one in names)
                assert side == plain([said]), (row, book)
            equal += 1
    assert equal >= RECORDED[name][3], (equal, refused, len(matching))


def test_a_day_opens_with_the_book_that_the_one_before_it_left(replayed: tuple[str, Path]) -> None:
    name, root = replayed
    opened = [row["file"]["date"] for row in dl_json("ls", "--lake", root) if row["file"]["kind"] == "book_delta"]
    with Lake(root) as lake:
        rows = lake.read("book_delta", columns=["flags", "last_id", "ts_event"]).to_pylist()
        carried = [row for row in rows if row["flags"] == "carried"]
        assert len(carried) == (name == "hft_um"), opened
        for row in carried:
            last = max(held["last_id"] for held in rows if held["ts_event"] < row["ts_event"])
            assert row["last_id"] == last
            assert lake.book("BTCUSDT", at=row["ts_event"]).snapshot.flags == "carried"
    assert dl_json("verify", "--lake", root)["ok"]


def test_the_command_says_the_same_as_json(replayed: tuple[str, Path]) -> None:
    _, root = replayed
    with Lake(root) as lake:
        rows = lake.read("book_delta").to_pylist()
        row = next(row for row in rows if row["flags"] == "snapshot")
        said = dl_json("book", row["symbol"], "--at", row["ts_event"].isoformat(), "--depth", "3", "--lake", root)
        book = lake.book(row["symbol"], at=row["ts_event"], depth=3)
    assert [tuple(level) for level in said["bids"]] == book.bids
    assert json.dumps(said["snapshot"]["flags"]) == '"snapshot"'
    dl("book", "NOSUCH", "--at", "2024-07-18", "--lake", root, expect=1)
