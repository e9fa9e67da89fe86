"""Frames of connections that a crash ended, which no frame tells: who came after them waits for them no longer."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import zstandard

from collectors import recorded
from collectors.config import CollectorsConfig
from collectors.replay import replay
from collectors.slices import URL
from collectors.unsettled import CRASH
from daemon.rederiving import Rederiver, Wanted
from lake.frames import FrameLine, read_frames
from lake.rows import FRAMES
from lake.writer import LakeWriter
from market.times import text
from runtime.workers import InlineExecutor
from tests.support import written
from tests.support.proven import LATER, NOW, SECOND
from tests.support.written import T0
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("kucoin", "spot")
"""Of its quotes one connection leads: what the others say waits."""
NAMES = {
    name: tuple(f"box-{T0 + at * SECOND}-{number}" for at, number in zip((0, 60, 81), numbers, strict=True))
    for name, numbers in {"numbered anew": (4, 3, 5), "going on": (4, 5, 6)}.items()
}
"""Of three connections; numbers that begin anew tell that the second one is another process's."""


def best(n: int, at: int, conn: str) -> str:
    data = {"asks": [f"100.{at}", "1"], "bids": ["100", "2"], "timestamp": (T0 + at * SECOND) // 1000}
    said = {"topic": "/spotMarket/level1:BTC-USDT", "type": "message", "subject": "level1", "data": data}
    return written.line(n, json.dumps(said, separators=(",", ":")), at=T0 + at * SECOND + 1, conn=conn)


def opened(at: int, conn: str) -> str:
    return written.line(0, dir="open", at=T0 + at * SECOND, url="wss://ws-api-spot.kucoin.com/", conn=conn)


def closed(n: int, at: int, conn: str, reason: str) -> str:
    return written.line(n, dir="close", at=T0 + at * SECOND, reason=reason, conn=conn)


def sources(folder: Path, names: tuple[str, ...], end: Sequence[str] = ()) -> list[Path]:
    """The first connection was ended by a crash (or by the line `end`), its successor had one quote and was left for
    its silence.
    """
    first, second, third = names
    before = [opened(0, first), *(best(n, n, first) for n in (1, 2, 3)), *end]
    after = [
        opened(60, second), best(1, 62, second), closed(1, 80, second, "silence: nothing for 18 s"),
        opened(81, third), *(best(n, 120 + n, third) for n in (1, 2)), closed(2, 130, third, "stopped"),
    ]  # fmt: skip
    return [written.write(folder / f"{n}.jsonl", lines) for n, lines in enumerate((before, after))]


def crashed_lake(root: Path, names: tuple[str, ...]) -> Path:
    """As two lives of a daemon make it."""
    with LakeWriter.open(root, "box", NOW) as writer:
        for source in sources(root.parent, names):
            replay([source], *MARKET, writer, CollectorsConfig(node="box"), NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        (session,) = writer.manifest.sessions(session=names[0])
        writer.record(sessions=[msgspec.structs.replace(session, close_cause=CRASH)], now=NOW)
        path = root / min(row.path for row in writer.manifest.segments(kind=FRAMES) if row.rows)
    kept = [line for line in read_frames(path) if line.dir != "close"]
    assert {line.conn for line in kept} == {names[0]}
    path.write_bytes(zstandard.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in kept)))
    return root


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_what_came_after_a_crash_waits_for_no_connection_that_the_crash_ended(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with Rederiver(
        crashed_lake(tmp_path / "lake", names), Wanted(*MARKET), CollectorsConfig(), LATER, tmp_path
    ) as work:
        while work.step():
            pass
    assert [one.problem for one in work.outcome.findings] == []
    (quotes,) = work.outcome.days
    assert (quotes.rows, quotes.derived, quotes.different) == (6, 6, 0)


def test_a_replay_tells_what_a_crash_took_and_keeps_what_came_after_it(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path / "lake", "box", NOW) as writer:
        files = sources(tmp_path, NAMES["numbered anew"])
        summary = replay(files, *MARKET, writer, CollectorsConfig(node="box"), NOW)
        gaps = sorted(writer.manifest.gaps(), key=lambda gap: gap.ts_from)
        (session,) = writer.manifest.sessions(session=NAMES["numbered anew"][0])
    assert (summary.events, summary.duplicates) == ({"quote": 6}, {})
    spans = [(gap.cause, (gap.ts_from - T0) // SECOND, ((gap.ts_to or 0) - T0) // SECOND) for gap in gaps]
    assert spans == [(CRASH, 3, 62), ("silence", 62, 121)]
    assert session.close_cause == CRASH


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_what_came_after_a_stop_waits_for_nobody(tmp_path: Path, names: tuple[str, ...]) -> None:
    with LakeWriter.open(tmp_path / "lake", "box", NOW) as writer:
        files = sources(tmp_path, names, [closed(3, 4, names[0], "stopped")])
        summary = replay(files, *MARKET, writer, CollectorsConfig(node="box"), NOW)
        gaps = sorted(writer.manifest.gaps(), key=lambda gap: gap.ts_from)
    assert (summary.events, summary.duplicates) == ({"quote": 6}, {})
    spans = [(gap.cause, (gap.ts_from - T0) // SECOND, ((gap.ts_to or 0) - T0) // SECOND) for gap in gaps]
    assert spans == [("stopped", 3, 62), ("silence", 62, 121)]


def book(n: int, at: int, conn: str, what: str, qty: int, *, holds: bool = True) -> str:
    """A frame of a book of one level a side, at 100 and 101, by the documented sum of which it holds or not."""
    stamp = text(T0 + at * SECOND).replace("Z", ".000000Z")
    data = {"symbol": "BTC/USD", "bids": [{"price": 100, "qty": qty}], "asks": [], "timestamp": stamp}
    data |= {"asks": [{"price": 101, "qty": 1}]} if what == "snapshot" else {}
    data["checksum"] = zlib.crc32(f"1011100{qty}".encode()) if holds else 1
    frame = json.dumps({"channel": "book", "type": what, "data": [data]}, separators=(",", ":"))
    return written.line(n, frame, at=T0 + at * SECOND + 1, conn=conn)


def test_a_book_that_is_lost_after_a_stop_is_lost_where_frames_are_read_again(tmp_path: Path) -> None:
    """A checksum that does not hold is a row where no other connection knows the book: who had stopped does not."""
    market, one, two = ("kraken", "spot"), "box-1-1", "box-2-1"
    lives = [
        [written.line(0, dir="open", at=T0, url="wss://ws.kraken.com/v2", conn=one), book(1, 1, one, "snapshot", 5),
         closed(1, 4, one, "stopped")],
        [written.line(0, dir="open", at=T0 + 60 * SECOND, url="wss://ws.kraken.com/v2", conn=two),
         book(1, 61, two, "snapshot", 6), book(2, 62, two, "update", 7), book(3, 63, two, "update", 8, holds=False),
         book(4, 70, two, "snapshot", 9), closed(4, 80, two, "stopped")],
    ]  # fmt: skip
    files = [written.write(tmp_path / f"{n}.jsonl", lines) for n, lines in enumerate(lives)]
    found = []
    for name, calls in {"as two lives of a daemon": [[path] for path in files], "in one call": [files]}.items():
        with LakeWriter.open(tmp_path / name, "box", NOW) as writer:
            summaries = [replay(call, *market, writer, CollectorsConfig(node="box"), NOW) for call in calls]
            gaps = sorted(writer.manifest.gaps(), key=lambda gap: gap.ts_from)
            transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        assert sum(summary.events["book_delta"] for summary in summaries) == 5
        found.append([(gap.cause, gap.session, gap.ts_from, gap.ts_to) for gap in gaps])
        with Rederiver(tmp_path / name, Wanted(*market), CollectorsConfig(), LATER, tmp_path) as work:
            while work.step():
                pass
        assert [finding.problem for finding in work.outcome.findings] == []
        (books,) = work.outcome.days
        assert (books.rows, books.derived, books.different) == (5, 5, 0)
    seconds = [(cause, who, (a - T0) // SECOND, ((b or 0) - T0) // SECOND) for cause, who, a, b in found[1]]
    assert seconds == [("stopped", one, 1, 61), ("checksum", two, 62, 70)]


@pytest.mark.parametrize(
    "opening, open_ones, found",
    [
        ("box-9-3", ["box-1-2", "box-1-4", "box-1-40"], ["box-1-2", "box-1-4", "box-1-40"]),
        ("box-9-41", ["box-1-2", "box-1-40"], []),
        ("box-1-3", ["box-9-4"], []),
        ("box-9-3", ["attic-1-4"], []),
        ("okx", ["box-1-4"], []),
    ],
    ids=["another process", "the same one", "slow to connect", "another node", "no name of ours"],
)
def test_numbers_that_begin_anew_tell_another_process(opening: str, open_ones: list[str], found: list[str]) -> None:
    def timed(name: str) -> str:
        return re.sub("-([0-9])-", lambda at: f"-{T0 + int(at[1])}-", name)

    line = FrameLine(ts_recv=T0, conn=timed(opening), dir="open", url="wss://x")
    assert recorded.killed(line, [timed(one) for one in open_ones]) == [timed(one) for one in found]
    for other in (msgspec.structs.replace(line, url=URL), msgspec.structs.replace(line, conn=opening)):
        assert recorded.killed(other, [timed(one) for one in open_ones]) == [], "not a name with a time of ours"
