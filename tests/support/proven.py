"""A small lake made of frames: two days of one market, with a hole, a stop between the days, copies and garbage.

Day one is closed and certified, day two is hot; frames and raw are all there. Built once a process and copied.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from collectors.config import CollectorsConfig
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake.writer import LakeWriter
from market.times import DAY, HOUR
from runtime.workers import InlineExecutor
from tests.support import written
from tests.support.written import MS, T0, line, quote, trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("binance", "linear")
FIRST, HOLE, COUNT = 1000, range(1010, 1013), 30
SECOND_DAY_FIRST = 1040
NOW = T0 + DAY + HOUR
SECOND = 1_000_000


def frames() -> list[str]:
    """Day one: trades 1000..1029 but 1010..1012, one told twice, and a frame of garbage; day two: 1040..1049."""
    lines = [line(0, dir="open", url="wss://fstream.binance.com/stream", conn="box-1-1")]
    n = 0
    for place in range(COUNT):
        at = T0 + place * SECOND
        if FIRST + place not in HOLE:
            n += 1
            lines.append(line(n, trade(FIRST + place, at=at), at=at + MS, conn="box-1-1"))
        n += 1
        lines.append(line(n, quote(10 + place, at=at), at=at + 2 * MS, conn="box-1-1"))
    end = T0 + COUNT * SECOND
    lines.append(line(n + 1, trade(FIRST + COUNT - 1, at=end - SECOND), at=end, conn="box-1-1"))
    lines.append(line(n + 2, "rubbish", at=end + MS, conn="box-1-1"))
    lines.append(line(n + 2, at=end + SECOND, dir="close", reason="stopped", conn="box-1-1"))
    lines.append(line(0, dir="open", at=T0 + DAY, url="wss://fstream.binance.com/stream", conn="box-2-1"))
    for place in range(10):
        at = T0 + DAY + place * SECOND
        lines.append(line(2 * place + 1, trade(SECOND_DAY_FIRST + place, at=at), at=at + MS, conn="box-2-1"))
        lines.append(line(2 * place + 2, quote(60 + place, at=at), at=at + 2 * MS, conn="box-2-1"))
    lines.append(line(20, at=T0 + DAY + 10 * SECOND, dir="close", reason="stopped", conn="box-2-1"))
    return lines


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="proven-lake-"))
    lines = frames()
    cut = next(place for place, text in enumerate(lines) if "box-2-1" in text)
    days = [written.write(folder / f"{n}.jsonl", some) for n, some in enumerate((lines[:cut], lines[cut:]))]
    with LakeWriter.open(folder / "lake", "box", NOW) as writer:
        for source in days:
            replay([source], *MARKET, writer, CollectorsConfig(node="box"), NOW)
            transform_once(writer, InlineExecutor(), NOW, TransformerConfig())
        compact(writer)
    return folder / "lake"


def compact(writer: LakeWriter, now: int = NOW) -> None:
    config = CompactorConfig.model_validate({"hour_delay_seconds": 7200})
    compact_once(writer, InlineExecutor(), now, config, retention=False)


def lake(place: Path) -> Path:
    """A copy of its own at `place`."""
    return Path(shutil.copytree(_template(), place, copy_function=shutil.copy2))
