"""A venue begins the numbering of its books anew, twice a day: what comes of every numbering stays, and is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collectors.config import CollectorsConfig
from collectors.replay import replay
from daemon.rederiving import Rederiver, Wanted
from lake import Lake
from lake.manifest import Manifest
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE
from runtime.workers import InlineExecutor
from tests.support import proven, written
from tests.support.proven import LATER, NOW
from tests.support.written import MS, T0, line
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("bybit", "linear")
STARTS = (0, 7 * MINUTE, 2 * HOUR)  # the first two lie in one hour, and so in one part
UPDATES = 20


def book(u: int, at: int, what: str = "delta", depth: int = 200) -> str:
    body = {"s": "BTCUSDT", "b": [[f"{100 + u}", "1"]], "a": [["200", f"{u}"]], "u": u, "seq": u}
    head = {"topic": f"orderbook.{depth}.BTCUSDT", "type": what, "ts": at // MS, "data": body, "cts": at // MS}
    return json.dumps(head, separators=(",", ":"))


def frames() -> list[str]:
    """One connection that hears the service start three times, each time with u = 1."""
    lines = [line(0, dir="open", url="wss://stream.bybit.com/v5/public/linear", conn="box-1-1")]
    for start in STARTS:
        for u in range(1, UPDATES + 1):
            at = T0 + start + u * 100 * MS
            told = book(u, at, "snapshot" if u == 1 else "delta")
            lines.append(line(len(lines), told, at=at + MS, conn="box-1-1"))
            lines.append(line(len(lines), book(u, at, "snapshot", 1), at=at + 2 * MS, conn="box-1-1"))
    lines.append(line(len(lines) - 1, at=T0 + 3 * HOUR, dir="close", reason="stopped", conn="box-1-1"))
    return lines


@pytest.fixture(params=["hot", "closed"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source = written.write(tmp_path / "all.jsonl", frames())
    with LakeWriter.open(tmp_path / "lake", "box", NOW) as writer:
        replay([source], *MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        if request.param == "closed":
            proven.compact(writer, NOW + DAY)
    return tmp_path / "lake"


def test_the_updates_of_every_numbering_are_read(root: Path) -> None:
    with Lake(root) as lake:
        quotes = lake.read("quote", columns=["update_id"]).column("update_id").to_pylist()
        assert quotes == [*range(1, UPDATES + 1)] * len(STARTS)
        rows = lake.read("book_delta", columns=["ts_event", "last_id", "flags"]).to_pylist()
        updates = [row["last_id"] for row in rows if row["flags"] == ""]
        assert updates == [*range(2, UPDATES + 1)] * len(STARTS)
        seen = lake.sql("SELECT last_id FROM book_delta WHERE flags = '' ORDER BY ts_event, last_id")
        assert seen.column("last_id").to_pylist() == updates
        for start in STARTS:
            last = UPDATES - 1  # what lies behind the last one is a gap
            held = lake.book("BTCUSDT", at=T0 + start + last * 100 * MS)
            assert (held.bids[0][0], held.asks[0][1]) == (str(100 + last), str(last)), start


def test_every_line_has_its_row_and_the_frames_tell_the_same(root: Path, tmp_path: Path) -> None:
    manifest = Manifest.read_only(root)
    with manifest.snapshot() as snapshot:
        found = verify_lake(root, snapshot, lambda *_: None)
    manifest.close()
    assert [one for one in found.findings if one.severity == "error"] == []
    (books,) = [one for one in found.streams if one.kind == "book_delta"]
    assert books.lines == books.rows > UPDATES * len(STARTS)
    with Rederiver(root, Wanted(*MARKET), CollectorsConfig(), LATER, tmp_path) as work:
        while work.step():
            pass
    assert work.outcome.ok, work.outcome.findings
