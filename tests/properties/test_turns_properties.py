"""Whose turn it is at a venue: in whatever order who waits is told, by priority, by age, and never while banned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.exchanges.binance import LIMITS
from collectors.turns import BACKFILL, HEAD_START_SECONDS, POLL, REPAIR, RESYNC, SHARE, Asking, Known, decide, minute
from market.times import MINUTE, SECOND

SPOT = LIMITS["spot"]
NOW = 1_790_000_000_000_000
SECONDS = st.integers(0, 10_000).map(lambda n: n / 10)
PRIORITIES = st.sampled_from([RESYNC, POLL, REPAIR, BACKFILL])
WEIGHTS = st.integers(1, 5000)


@st.composite
def queues(draw: st.DrawFn) -> list[Asking]:
    told = draw(st.lists(st.tuples(SECONDS, PRIORITIES, WEIGHTS), min_size=1, max_size=8))
    return [Asking(came, priority, number, weight) for number, (came, priority, weight) in enumerate(told)]


@given(queues(), st.randoms(use_true_random=False))
def test_it_does_not_depend_on_the_order_in_which_they_are_told(waiting: list[Asking], random: object) -> None:
    shuffled = list(waiting)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(shuffled, Known(), SPOT, 1000.0, NOW) == decide(waiting, Known(), SPOT, 1000.0, NOW)


@given(queues())
def test_nobody_is_before_who_matters_more_and_has_waited_as_long(waiting: list[Asking]) -> None:
    first, _ = decide(waiting, Known(), SPOT, 1000.0, NOW)
    for other in waiting:
        if other is first:
            continue
        assert not (other.priority < first.priority and other.came <= first.came)
        assert not (other.priority == first.priority and other.came < first.came)
        head = (first.priority - other.priority) * HEAD_START_SECONDS
        assert first.came + head <= other.came, "who matters less has waited for longer by the head start"


def test_resync_then_live_poll_then_repair_then_backfill() -> None:
    waiting = [Asking(5.0, priority, number, 1) for number, priority in enumerate((BACKFILL, REPAIR, POLL, RESYNC))]
    order = []
    while waiting:
        first, _ = decide(waiting, Known(), SPOT, 10.0, NOW)
        order.append(first.priority)
        waiting.remove(first)
    assert order == [RESYNC, POLL, REPAIR, BACKFILL]


@given(queues(), st.floats(0.001, 1e6), SECONDS, st.integers(0, 6000), SECONDS)
def test_nobody_goes_while_the_host_asked_for_silence(
    waiting: list[Asking], silent: float, free_at: float, used: int, monotonic: float
) -> None:
    _, left = decide(waiting, Known(free_at, silent, minute(NOW), used), SPOT, monotonic, NOW)
    assert left >= silent > 0


@given(queues(), st.integers(0, 10_000), st.integers(0, MINUTE - 1))
def test_what_is_used_of_a_minute_ends_with_it(waiting: list[Asking], used: int, at: int) -> None:
    now = NOW - NOW % MINUTE + SECOND + at
    known = Known(0.0, -1.0, minute(now), used)
    first, left = decide(waiting, known, SPOT, 5.0, now)
    share = SPOT.weight_per_minute * SHARE
    if used >= share or (used and used + first.weight > share):
        assert 0 < left <= 60
        assert minute(now + round(left * SECOND)) == minute(now) + 1
    else:
        assert left <= 0
    assert decide(waiting, known._replace(minute=minute(now) - 1), SPOT, 5.0, now)[1] <= 0


@given(queues(), SECONDS, SECONDS)
def test_what_was_paid_for_is_waited_out(waiting: list[Asking], free_at: float, monotonic: float) -> None:
    _, left = decide(waiting, Known(free_at=free_at), SPOT, monotonic, NOW)
    assert (left <= 0) == (free_at <= monotonic)
