"""What the kernel says of its clock, and what it does not."""

from __future__ import annotations

import sys

import pytest

from runtime.kernel_clock import STA_UNSYNC, TIME_ERROR, UNBOUNDED_US, KernelClock, judged, kernel_clock


def test_a_synchronised_clock_has_its_errors() -> None:
    assert judged(0, 0x2001, 120, 4500) == KernelClock(synchronised=True, estimated_error_us=120, max_error_us=4500)
    assert judged(1, 0, 0, 9).synchronised is True, "a leap second to come is no error"


@pytest.mark.parametrize("state, status", [(TIME_ERROR, 0), (0, STA_UNSYNC), (TIME_ERROR, STA_UNSYNC)])
def test_an_unsynchronised_clock_is_told_by_state_or_status(state: int, status: int) -> None:
    assert judged(state, status, 120, 4500).synchronised is False


def test_errors_that_are_not_counted_any_more_are_unknown() -> None:
    found = judged(TIME_ERROR, STA_UNSYNC, UNBOUNDED_US, UNBOUNDED_US)
    assert (found.estimated_error_us, found.max_error_us) == (None, None)


@pytest.mark.parametrize("platform", ["win32", "darwin", "freebsd14"])
def test_elsewhere_it_is_unknown_and_said_so(platform: str) -> None:
    found = kernel_clock(platform)
    assert found.synchronised is None
    assert platform in (found.unknown or "")


def test_where_it_may_not_be_asked_it_is_unknown() -> None:
    def refused() -> tuple[int, int, int, int]:
        raise PermissionError(1, "Operation not permitted")

    found = kernel_clock("linux", refused)
    assert found.synchronised is None
    assert "Operation not permitted" in (found.unknown or "")


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux's")
def test_this_kernel_answers() -> None:
    found = kernel_clock()
    assert (found.synchronised is None) == (found.unknown is not None)
    assert found.max_error_us is None or 0 <= found.max_error_us < UNBOUNDED_US
