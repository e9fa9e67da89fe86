"""A connection joins another one with a whole book, before that one tells the update of its id: both are rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from collectors.config import CollectorsConfig
from collectors.replay import replay
from daemon.config import Config
from daemon.rederiving import Rederiver
from daemon.rederiving import Wanted as Frames
from daemon.reparsing import Tools, Wanted, reparse
from lake import Lake, parquet
from lake.manifest import Manifest
from lake.publish import Placement, publish
from lake.reproduced import ABSENT
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.daemon.test_numbering_anew import MARKET, book
from tests.support import proven, written
from tests.support.proven import LATER, NOW
from tests.support.written import MS, T0, line
from transformer.config import TransformerConfig
from transformer.service import transform_once

UPDATES, JOINED = 20, 8
FIRST = 50
"""The id before the first one: `u` = 1 is a restart."""


def frames() -> list[str]:
    """The update of the whole's id comes on the older connection half a millisecond behind the whole."""
    url, older, younger = "wss://stream.bybit.com/v5/public/linear", "box-1-1", "box-2-1"
    lines = [(T0, line(0, dir="open", url=url, conn=older)), (T0, line(0, dir="open", url=url, conn=younger))]
    for u in range(1, UPDATES + 1):
        at = T0 + u * 100 * MS
        told = book(u + FIRST, at, "snapshot" if u == 1 else "delta")
        lines.append((at + MS, line(u, told, at=at + MS, conn=older)))
        if u >= JOINED:
            told = book(u + FIRST, at, "snapshot" if u == JOINED else "delta")
            recv = at + (MS // 2 if u == JOINED else 2 * MS)
            lines.append((recv, line(u - JOINED + 1, told, at=recv, conn=younger)))
    end = T0 + HOUR
    for number, conn in ((UPDATES, older), (UPDATES - JOINED + 1, younger)):
        lines.append((end, line(number, at=end, dir="close", reason="stopped", conn=conn)))
    return [text for _, text in sorted(lines, key=lambda one: one[0])]


def made(place: Path, *, closed: bool) -> Path:
    source = written.write(place / "all.jsonl", frames())
    with LakeWriter.open(place / "lake", "box", NOW) as writer:
        replay([source], *MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        if closed:
            proven.compact(writer, NOW + DAY)
    return place / "lake"


def again(root: Path, scratch: Path) -> list[str]:
    with Rederiver(root, Frames(*MARKET), CollectorsConfig(), LATER, scratch) as work:
        while work.step():
            pass
    return [one.problem for one in work.outcome.findings]


@pytest.mark.parametrize("closed", [False, True], ids=["hot", "closed"])
def test_every_update_is_a_row_and_every_reader_comes_to_the_same_book(tmp_path: Path, closed: bool) -> None:
    root = made(tmp_path, closed=closed)
    with Lake(root) as lake:
        rows = lake.read("book_delta").to_pylist()
        told = [(row["last_id"] - FIRST, row["flags"]) for row in rows if row["flags"] != "carried"]
        assert sorted(told) == sorted(
            [(1, "snapshot"), (JOINED, "snapshot"), *((u, "") for u in range(2, UPDATES + 1))]
        )
        for u in range(2, UPDATES):
            held = lake.book("BTCUSDT", at=T0 + u * 100 * MS)
            assert (held.last_id, held.bids[0][0], held.asks[0][1]) == (FIRST + u, str(100 + FIRST + u), str(FIRST + u))
    manifest = Manifest.read_only(root)
    with manifest.snapshot() as snapshot:
        found = verify_lake(root, snapshot, lambda *_: None)
        gaps = [gap for gap in snapshot.gaps(*MARKET, "book_delta") if gap.id_to is not None]
    manifest.close()
    assert ([one for one in found.findings if one.severity == "error"], gaps) == ([], [])
    assert again(root, tmp_path) == []


def test_an_update_that_a_lake_of_before_lacks_is_named_and_a_reparse_adds_it(tmp_path: Path) -> None:
    root = made(tmp_path, closed=True)
    with LakeWriter.open(root, "box", NOW) as writer:
        (row,) = writer.manifest.files("book_delta", level="day")
        place = Placement(
            kind=row.kind, exchange=row.exchange, market_type=row.market_type, level=row.level, date=row.date,
            hour=row.hour, symbol=row.symbol, revision=row.revision + 1, lake_id=writer.lake_id,
        )  # fmt: skip
        table = parquet.read(root / row.path)
        lost = pc.and_(
            pc.equal(table.column("last_id"), FIRST + JOINED), pc.equal(table.column("flags").cast("string"), "")
        )
        less = publish(root, place, [table.filter(pc.invert(lost))], run="test", now=NOW)
        assert less.rows == row.rows - 1
        writer.publish(add=[less], remove=[row.path], now=NOW)
    assert any(ABSENT in text for text in again(root, tmp_path))
    manifest = Manifest.read_only(root)
    config = Config.model_validate({"compactor": {"reproduce": {"max_mb": 64_000}}})
    (day,) = reparse(
        root,
        manifest,
        Wanted(row.date, row.date),
        LATER,
        Tools(config, InlineExecutor, Slot(), lambda *_: None, lambda: False),
        None,
    )
    manifest.close()
    (kind,) = [one for one in day.streams if one.kind == "book_delta"]
    assert (kind.added, kind.changed, kind.removed) == (1, 0, 0)
