"""Write passes: what they say of how far behind the disk is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from collectors.config import WritingConfig
from collectors.intake import Intake, line_of
from collectors.passes import Passes
from collectors.writing import GroupCommit
from lake.frames import FrameLine
from runtime import metrics
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock
from tests.support.toy import T0

MARKET = ("binance", "spot")


async def test_how_old_the_oldest_unsynced_event_is_counts_what_came_while_a_sync_took_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, intake = ManualClock(T0), Intake(WritingConfig())
    takes = [0.01, 3.0, 0.01]  # the second and the third pass sync
    commit = SimpleNamespace(parked={}, due=lambda now: False, commit=lambda work: clock.jump(takes.pop(0)))
    told: list[tuple[float, float]] = []
    monkeypatch.setattr(metrics, "write_pass", lambda *said: told.append(tuple(round(one, 2) for one in said)))
    passes = Passes(WritingConfig(), clock, intake, cast("GroupCommit", cast("Any", commit)), {}, lambda: None)
    for wait in (0.3, 0.25, 0.04):
        clock.jump(wait)
        intake.frames(MARKET).offer((line_of(FrameLine(ts_recv=clock.now(), conn="a", dir="open")),), 100)
        await passes.turn(InlineExecutor())
    assert told == [(0.01, 0.31), (3.0, 3.0), (0.01, 0.01)]
