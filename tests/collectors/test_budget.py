"""The budget: turns in a fair order, nothing reserved, what the venue says is used, and silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from collectors.budget import BACKFILL, HEAD_START_SECONDS, POLL, REPAIR, RESYNC, Budget
from collectors.exchanges.binance import LIMITS
from lake.rows import BanRow
from market import times
from market.session import Limits
from market.times import SECOND
from tests.support.clock import ManualClock, settle

T0 = times.parse("2026-11-20T13:45:10Z")
SPOT, LINEAR, INVERSE = LIMITS["spot"], LIMITS["linear"], LIMITS["inverse"]
PACE = 60 / 3000
"""Seconds of spot's half for each weight."""


class Asking:
    """Tasks that spend, and in which order and when their turns came."""

    def __init__(self, limits: Limits = SPOT, **options: object) -> None:
        self.clock = ManualClock(T0)
        self.budget = Budget(self.clock, **options)
        self.limits = limits
        self.turns: list[tuple[object, float]] = []

    def ask(self, name: object, weight: int, priority: int = RESYNC, limits: Limits | None = None) -> asyncio.Task:
        async def spending() -> None:
            await self.budget.spend(limits or self.limits, weight, priority)
            self.turns.append((name, round(self.clock.monotonic(), 3)))

        return asyncio.ensure_future(spending())

    @property
    def order(self) -> list[object]:
        return [name for name, _ in self.turns]

    def used(self, weight: int, *, limits: Limits | None = None, path: str = "/x", ago: float = 0.0) -> None:
        asked_at = self.clock.now() - round(ago * SECOND)
        self.budget.observe(limits or self.limits, {"x-mbx-used-weight-1m": str(weight)}, asked_at, path)


async def test_turns_come_in_order_at_half_of_what_is_allowed() -> None:
    asking = Asking()
    for name in range(4):
        asking.ask(name, 50)
    await asking.clock.advance(10)
    assert asking.turns == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


async def test_who_gives_up_delays_nobody() -> None:
    asking = Asking()
    asking.ask("first", 50)
    given_up = [asking.ask(n, 250) for n in range(100)]
    asking.ask("last", 50)
    await settle()
    for task in given_up:
        task.cancel()
    await asking.clock.advance(60)
    assert asking.turns == [("first", 0.0), ("last", 1.0)]
    assert asking.budget.status(SPOT)["waiting"] == 0


async def test_who_gives_up_at_the_very_moment_of_its_turn_delays_nobody() -> None:
    asking = Asking()
    asking.ask("first", 50)
    second, _third = asking.ask("second", 50), asking.ask("third", 50)
    await asking.clock.advance(0.999)

    async def at_its_turn() -> None:
        await asking.clock.sleep(0.001)
        second.cancel()

    cancelling = asyncio.ensure_future(at_its_turn())
    await asking.clock.advance(10)
    await cancelling
    assert asking.turns[-1][0] == "third"
    assert asking.turns[-1][1] <= 2.0


async def test_books_that_are_out_of_sync_come_first() -> None:
    asking = Asking()
    asking.ask("running", 50)
    await settle()
    for name, priority in (("backfill", BACKFILL), ("repair", REPAIR), ("poll", POLL), ("resync", RESYNC)):
        asking.ask(name, 50, priority)
    await asking.clock.advance(10)
    assert asking.order == ["running", "resync", "poll", "repair", "backfill"]


async def test_no_priority_starves() -> None:
    """Books that flap for ever ask for more than there is; a poll comes once its head start is used up."""
    asking = Asking()
    asking.ask("poll", 50, POLL)
    for n in range(400):
        asking.ask(n, 50)
        await asking.clock.advance(0.5)
    came = dict(asking.turns)["poll"]
    assert came <= 2 * HEAD_START_SECONDS + 2
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_markets_of_one_pool_share_it_and_others_do_not() -> None:
    asking = Asking()
    asking.ask("linear", 20, limits=LINEAR)
    asking.ask("inverse", 20, limits=INVERSE)
    asking.ask("spot", 20, limits=SPOT)
    await asking.clock.advance(5)
    assert asking.turns == [("linear", 0.0), ("spot", 0.0), ("inverse", 1.0)]


async def test_a_venue_without_weights_is_not_paced() -> None:
    asking = Asking(msgspec.structs.replace(SPOT, weight_per_minute=0, weight_pool=""))
    for name in range(5):
        asking.ask(name, 50)
    await settle()
    assert asking.order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("used, waits", [(2949, False), (2951, True), (3000, True), (5999, True), (7000, True)])
async def test_what_others_use_counts_until_the_minute_turns(used: int, waits: bool) -> None:
    asking = Asking()
    asking.used(used)
    asking.ask("x", 50)
    await asking.clock.advance(50.5)  # 13:46:00.5: the venue's clock may be a little behind ours
    assert asking.order == ([] if waits else ["x"])
    await asking.clock.advance(0.6)
    assert asking.order == ["x"]


async def test_our_own_requests_since_the_last_answer_count() -> None:
    asking = Asking()
    asking.used(2900)
    for name in "abc":
        asking.ask(name, 50)
    await asking.clock.advance(40)
    assert asking.order == ["a", "b"]
    asking.used(2800)  # an answer that was on its way says less than we know
    await asking.clock.advance(5)
    assert asking.order == ["a", "b"]
    await asking.clock.advance(7)
    assert asking.order == ["a", "b", "c"]


async def test_one_request_larger_than_the_share_still_comes_in_a_fresh_minute() -> None:
    asking = Asking()
    asking.used(1)
    asking.ask("huge", 4000)
    await asking.clock.advance(50)
    assert asking.order == []
    await asking.clock.advance(2)
    assert asking.order == ["huge"]


def _wrong_path(asking: Asking) -> None:
    asking.used(2400, path="/fapi/v1/ticker/bookTicker")


def _of_the_last_minute(asking: Asking) -> None:
    asking.used(2400, ago=12.0)


def _no_number(asking: Asking) -> None:
    for text in ("", "many", "-1", "1e9", "²", "9" * 30):
        asking.budget.observe(LINEAR, {"x-mbx-used-weight-1m": text}, asking.clock.now())
    asking.budget.observe(LINEAR, {"x-mbx-used-weight-1s": "2400"}, asking.clock.now())


@pytest.mark.parametrize("said", [_wrong_path, _of_the_last_minute, _no_number])
async def test_what_says_nothing_of_this_minute_is_ignored(said: Callable[[Asking], None]) -> None:
    asking = Asking(LINEAR)
    said(asking)
    asking.ask("x", 20)
    await settle()
    assert asking.order == ["x"]


async def test_a_pool_that_was_silenced_keeps_its_queue_until_then() -> None:
    asking = Asking(LINEAR)
    asking.ask("before", 20)
    await settle()
    asking.ask("linear", 20)
    asking.ask("inverse", 20, limits=INVERSE)
    asking.ask("spot", 20, limits=SPOT)
    gone = asking.ask("gone", 20)
    asking.budget.silence("binance-futures", asking.clock.now() + 300 * SECOND)
    assert asking.budget.status(LINEAR)["silent_seconds"] == 300
    await asking.clock.advance(100)
    gone.cancel()
    asking.clock.step(10_000 * SECOND)
    await asking.clock.advance(199)
    assert asking.order == ["before", "spot"]
    await asking.clock.advance(10)
    assert asking.order == ["before", "spot", "linear", "inverse"]


async def test_a_ban_of_an_earlier_run_holds_the_queue() -> None:
    until = T0 + 9 * SECOND
    known = BanRow(exchange="binance", host="fapi.test", pool="binance-futures", until=until, status=418, at=T0)
    asking = Asking(INVERSE, bans=[known])
    asking.ask("x", 20)
    await asking.clock.advance(8.9)
    assert asking.order == []
    await asking.clock.advance(0.2)
    assert asking.order == ["x"]


async def test_status_says_what_is_used_and_who_waits() -> None:
    asking = Asking()
    assert asking.budget.status(SPOT) == {"pool": "binance-spot", "used_share": 0.0, "waiting": 0, "silent_seconds": 0}
    asking.used(1500)
    asking.ask("a", 50)
    waiting = asking.ask("b", 50)
    await settle()
    found = asking.budget.status(SPOT)
    assert (found["used_share"], found["waiting"]) == (0.25, 1)
    waiting.cancel()
    await settle()
    assert asking.budget.status(SPOT)["waiting"] == 0
