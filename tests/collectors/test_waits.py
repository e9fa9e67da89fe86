"""How long a driver waits before it connects again."""

from __future__ import annotations

import pytest

from collectors.config import ConnectionConfig
from collectors.transports import ConnectFailed
from collectors.waits import TURNED_AWAY, Waits
from tests.support.clock import ManualClock


def waits(random: float = 1.0, **config: float) -> Waits:
    return Waits(ManualClock(), ConnectionConfig(**config), lambda: random)


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 1012, 1013])
def test_an_end_is_waited_out_longer_each_time(code: int | None) -> None:
    row = waits()
    assert [row.after_end(code) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("code", [1008, 4000, 4999])
def test_an_end_by_the_venues_rules_is_waited_out_ten_times_as_long(code: int) -> None:
    row = waits()
    assert [row.after_end(code) for _ in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    assert waits(random=0.0).after_end(code) == 5
    assert waits(random=0.0).after_end(1006) == 0


@pytest.mark.parametrize("status", sorted(TURNED_AWAY))
def test_a_refusal_by_the_venues_rules_is_waited_out_ten_times_as_long(status: int) -> None:
    row = waits()
    assert [row.after_refusal(ConnectFailed("no", status=status)) for _ in range(3)] == [10, 20, 40]
    assert row.after_refusal(ConnectFailed("refused")) == 1, "the two do not lengthen each other"
    assert row.after_refusal(ConnectFailed("down", status=503)) == 2


@pytest.mark.parametrize(
    "status, headers, wait",
    [
        (429, {"retry-after": "120"}, 120),
        (418, {"retry-after": "120"}, 132),  # a ban, with a tenth on top
        (503, {"retry-after": "30"}, 30),
        (429, {"retry-after": "3"}, 10),
        (429, {"retry-after": "Tue, 14 Nov 2023 22:18:20 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 300),
        (429, {"retry-after": "soon"}, 60),
        (429, {"retry-after": "99999999"}, 3 * 86_400),
    ],
)
def test_what_the_venue_asks_for_is_the_least(status: int, headers: dict[str, str], wait: float) -> None:
    assert waits().after_refusal(ConnectFailed("no", status=status, headers=headers)) == pytest.approx(wait)


def test_the_longest_wait_bounds_the_first() -> None:
    row = waits(backoff_first_seconds=60, backoff_max_seconds=1)
    assert (row.after_end(1006), row.after_end(1008)) == (1, 5)
