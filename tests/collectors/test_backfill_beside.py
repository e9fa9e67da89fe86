"""History brought in beside a live stream: both are whole, and a disk that takes nothing holds up history alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Self
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from collectors import reaching
from collectors.exchanges import binance
from collectors.history_plan import Wish
from collectors.http import Answer
from lake.rows import HISTORY
from lake.segments import decode_line
from market.session import Endpoint
from market.times import HOUR, MINUTE, MS
from tests.support.station import Station
from tests.support.toy import T0, q, t

FIRST = T0 - T0 % HOUR - 40 * HOUR
SPAN = (FIRST, FIRST + 30 * HOUR)


class Http:
    """Candles of every minute, told at once."""

    asked = 0

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def fetch(self, _method: str, url: str) -> Answer:
        Http.asked += 1
        query = {name: int(values[0]) for name, values in parse_qs(urlsplit(url).query).items() if values[0].isdigit()}
        first = -(-query["startTime"] // 60_000) * 60_000
        opens = range(first, query.get("endTime", 2**62) + 1, 60_000)[: query["limit"]]
        rows = [[at, "1", "1", "1", "1", "5", at + 59_999, "5", 1, "2", "2", "0"] for at in opens]
        return Answer(200, {}, json.dumps(rows).encode())


def test_a_live_stream_goes_on_beside_it(tmp_path: Path) -> None:
    script: list[object] = [b"ack"]
    for number in range(1, 60):
        script += [[t(number, number * 500), q(number, number * 500)], 0.5]
    done = []

    with Station(tmp_path / "lake", script) as station:

        async def bring() -> None:
            await station.clock.sleep(2.0)
            rest = Endpoint("http://v", {})
            wish = Wish("kline", "AAA", *SPAN)
            done.append(await station.service.backfill(binance, "spot", rest, [wish], lambda *_: None))

        with mock.patch.object(reaching, "Http", Http):
            asyncio.run(station.run(40.0, bring))
        assert station.stored() == list(range(1, 60))
        assert station.stored("quote") == list(range(1, 60))
        assert station.lost() == []
        (summary,) = done
        assert (summary.done, summary.failed, summary.rows) == (1, [], 30 * 60)
        rows = [row for row in station.writer.manifest.segments(kind="kline") if row.rows]
        lines = [line for row in rows for line in (station.root / row.path).read_bytes().splitlines()]
        found = [decode_line("kline", line) for line in lines]
        assert [one.open_time for one in found] == list(range(SPAN[0], SPAN[1], MINUTE))
        assert {one.ts_event % MINUTE for one in found} == {MINUTE - MS}
        covered = station.writer.manifest.coverage(kind="kline")
        assert [(row.ts_from, row.ts_to) for row in covered] == [SPAN]
        (told,) = [row for row in station.writer.manifest.sessions() if row.source == HISTORY]
        assert (told.close_cause or "").startswith("done")
        assert station.wrong() == []
