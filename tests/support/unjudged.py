"""A closed day of trades and the bars of them, of which the lake has no candles, and the simulated venue that has."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.config import Config
from market.times import DAY, HOUR, SECOND, floor_to
from runtime.workers import InlineExecutor
from tests.support.past import END, Past, past
from transformer.config import TransformerConfig
from transformer.service import transform_once

SYMBOL = "BTCUSDT"


@contextlib.asynccontextmanager
async def unjudged(folder: Path) -> AsyncIterator[Past]:
    """The venue, of which nothing was asked so far."""
    async with past(folder, "spot", symbols=SYMBOL, rate="1") as made:
        await made.bring("spot", ["trade"])
        await made.clock.sleep((floor_to(END, DAY) + DAY + HOUR - made.clock.now()) / SECOND)
        with made.writer() as writer:
            now = made.clock.now()
            assert transform_once(writer, InlineExecutor(), now, TransformerConfig()).failed == 0
            assert not compact_once(writer, InlineExecutor(), now, CompactorConfig(), final=True).failures
        made.asked.clear()
        yield made


def config_of(venue: Past, **compactor: object) -> Config:
    """Who collects trades of that venue."""
    source = {"exchange": "binance", "market_type": "spot", "symbols": [SYMBOL], "kinds": ["trade"],
              "endpoint": {"rest": f"http://{venue.host}/spot"}}  # fmt: skip
    told = {"lake": str(venue.root), "collectors": {"node": "n", "sources": [source]}, "compactor": compactor}
    return Config.model_validate(told)
