"""A small lake made of frames: two days of one market, with a hole, a stop between the days, copies and garbage.

Day one is closed and certified, day two is hot; frames and raw are all there. Built once a process and copied.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

from collectors import exchanges, recorded
from collectors.config import CollectorsConfig
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake.writer import LakeWriter
from market.session import Polled
from market.times import DAY, HOUR, MINUTE
from runtime.workers import InlineExecutor
from tests.support import written
from tests.support.written import MS, T0, line, quote, trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("binance", "linear")
FIRST, HOLE, COUNT = 1000, range(1010, 1013), 30
SECOND_DAY_FIRST = 1040
NOW = T0 + DAY + HOUR
LATER = T0 + 3 * DAY
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


MIDNIGHT = T0 - T0 % DAY + DAY
BEGIN, END = MIDNIGHT - 16 * MINUTE, MIDNIGHT + 5 * MINUTE
LIST = {
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL",
    "deliveryDate": 4133404800000, "onboardDate": 1569398400000, "marginAsset": "USDT",
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}],
}  # fmt: skip


def over_midnight(step: int = 10 * SECOND) -> list[str]:
    """A connection and a poll of instruments that go on over midnight, a trade and a quote each `step` us; the list is
    the same at every thirtieth of them.
    """
    venue = exchanges.load(MARKET[0])
    asked = Polled("contract", ("BTCUSDT",))
    (fetch,) = venue.poller(MARKET[1], "box-0-1", asked, venue.ENDPOINTS[MARKET[1]]).start(BEGIN)
    poll = {"conn": "box-0-1", "url": fetch.url, "tag": fetch.tag, "method": "GET", "status": 200}
    opened = {"conn": "box-0-1", "dir": "open", "url": "https://fapi.binance.com", "tag": "poll"}
    lines = [line(0, at=BEGIN, headers=recorded.headers(asked), **opened)]
    lines.append(line(0, at=BEGIN, dir="open", url="wss://fstream.binance.com/stream", conn="box-1-1"))
    for place, at in enumerate(range(BEGIN, END, step)):
        lines.append(line(2 * place + 1, trade(FIRST + place, at=at), at=at + MS, conn="box-1-1"))
        lines.append(line(2 * place + 2, quote(10 + place, at=at), at=at + 2 * MS, conn="box-1-1"))
        if place % 30 == 0:
            body = json.dumps({"serverTime": at // MS, "symbols": [LIST]})
            lines.append(line(place // 30 + 1, body, at=at + 3 * MS, dir="http", headers={}, **poll))
    lines.append(line(2 * place + 2, at=END, dir="close", reason="stopped", conn="box-1-1"))
    lines.append(line(place // 30 + 1, at=END, dir="close", reason="stopped", conn="box-0-1"))
    return lines


@functools.cache
def _midnight() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="midnight-lake-"))
    source = written.write(folder / "all.jsonl", over_midnight())
    with LakeWriter.open(folder / "lake", "box", LATER) as writer:
        replay([source], *MARKET, writer, CollectorsConfig(node="box"), LATER)
        transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
        compact(writer, LATER)
    return folder / "lake"


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


def midnight_lake(place: Path) -> Path:
    """A copy of the lake whose sessions go on over midnight, both days of it closed."""
    return Path(shutil.copytree(_midnight(), place, copy_function=shutil.copy2))
