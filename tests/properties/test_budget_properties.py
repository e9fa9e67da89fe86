"""The budget's law, over any sequence of requests that come and give up."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.budget import HEAD_START_SECONDS, Budget
from collectors.exchanges.binance import LIMITS
from tests.support.clock import ManualClock

SPOT = LIMITS["spot"]
SHARE = 3000
"""Half of spot's weight a minute."""


class Asked(msgspec.Struct):
    """A request: it comes `after` seconds behind the one before and has the patience of `patience` seconds, if any."""

    after: float
    weight: int
    priority: int
    patience: float | None
    came: float = 0.0
    turn: float | None = None
    number: int = 0

    @property
    def rank(self) -> tuple[float, int]:
        return self.came + self.priority * HEAD_START_SECONDS, self.number


SECONDS = st.integers(0, 400).map(lambda n: n / 10)
REQUESTS = st.lists(
    st.builds(
        Asked,
        after=st.one_of(st.just(0.0), SECONDS),
        weight=st.sampled_from([1, 5, 25, 50, 250, 1000]),
        priority=st.integers(0, 3),
        patience=st.one_of(st.none(), SECONDS),
    ),
    max_size=40,
)


async def carry_out(requests: list[Asked]) -> None:
    clock = ManualClock()
    budget = Budget(clock)

    async def spending(asked: Asked) -> None:
        await budget.spend(SPOT, asked.weight, asked.priority)
        asked.turn = clock.monotonic()

    async def patient(asked: Asked) -> None:
        task = asyncio.ensure_future(spending(asked))
        if asked.patience is not None:
            await clock.sleep(asked.patience)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def everybody() -> None:
        tasks = []
        for number, asked in enumerate(requests):
            if asked.after:
                await clock.sleep(asked.after)
            asked.came, asked.number = clock.monotonic(), number
            tasks.append(asyncio.ensure_future(patient(asked)))
            for _ in range(5):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    await clock.run(everybody())
    assert budget.status(SPOT)["waiting"] == 0


@given(requests=REQUESTS)
@settings(max_examples=60, deadline=None)
def test_no_minute_holds_more_than_half_and_nobody_waits_for_more_than_the_work_before_it(
    requests: list[Asked],
) -> None:
    asyncio.run(carry_out(requests))
    done = sorted((r for r in requests if r.turn is not None), key=lambda r: (r.turn, r.rank))
    assert all(r.turn is not None for r in requests if r.patience is None), "who does not give up gets its turn"
    for first, one in enumerate(done):
        window = [r.weight for r in done[first:] if r.turn < one.turn + 60 - 1e-6]
        assert sum(window) <= SHARE + window[-1] + 1e-6
    for at, one in enumerate(done):
        before = [r for r in done[:at] if r.turn >= one.came]
        last = [r.weight for r in done[:at] if r.turn < one.came][-1:]
        demanded = (sum(r.weight for r in before) + sum(last)) * 60 / SHARE
        assert one.turn - one.came <= demanded + 1e-3
        assert all(r.rank < one.rank for r in before if r.turn > one.came), "nobody overtakes"
