"""A small lake that is served: two symbols of trades, bars, a gap, hot and closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create
from api.config import ServeConfig
from api.state import Served
from market.times import MINUTE, SECOND
from tests.security.conftest import nothing_said_before, said
from tests.support.asgi import Asgi
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

__all__ = ["nothing_said_before", "said"]

DAY = 86_400 * SECOND
TRADES = [trade(T0 + n * SECOND, f"{100 + n % 7}.5", "0.5", n + 1) for n in range(240)]
OTHER = [trade(T0 + n * SECOND, "10", "2", n + 1, symbol="BTC/USD") for n in range(60)]
HOT = [trade(T0 + DAY + n * SECOND, "101", "1", 1000 + n) for n in range(30)]


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read by everybody, changed by nobody."""
    made = TestLake(tmp_path_factory.mktemp("api") / "lake")
    made.cover(T0, T0 + DAY)
    made.cover(T0, T0 + DAY, "BTC/USD")
    made.day("trade", TRADES)
    made.day("trade", OTHER, symbol="BTC/USD")
    made.day("bar_1m", bar_table(TRADES))
    made.part("trade", HOT)
    made.gap(T0 + 3 * MINUTE, T0 + 3 * MINUTE + 10 * SECOND)
    made.close()
    return made.root


@pytest.fixture(scope="session")
def served(lake: Path) -> Iterator[Served]:
    held = Served(lake, ServeConfig(), ManualClock(T0 + 2 * DAY))
    yield held
    held.close()


@pytest.fixture(scope="session")
def api(served: Served) -> Asgi:
    """The application on loopback."""
    return Asgi(create(served))
