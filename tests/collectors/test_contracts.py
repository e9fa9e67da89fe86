"""Instruments compared: the list that is fetched again, the venue's notices, and what an earlier run stored."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from collectors.contracts import ContractMerger
from market.kinds import Contract
from market.session import EVERY_SYMBOL, Resume
from market.times import SECOND

T = 1_785_701_700_000_000


def listed(n=0, source="rest", session="n-1-1", **more):
    told = {
        "uid": "binance:linear:AAAUSDT:1", "unified": "AAA/USDT:USDT", "base": "AAA", "quote": "USDT", "settle": "USDT",
        "tick": "0.10", "lot": "0.001", "multiplier": "1", "contract_size": None, "status": "TRADING", "listed": 1,
        "expiry": None, "funding_interval_s": None, "valid_from": 1, "valid_to": None, "known_to": None,
    }  # fmt: skip
    at = T + n * SECOND
    return Contract("AAAUSDT", "x", at, None, at, session, n + 1, 0, source, **(told | {"known_from": at} | more))


def notice(n=0, status="TRADING", session="n-2-1", **more):
    """A notice of a session that knows the instrument only by the frame itself."""
    nothing = dict.fromkeys(("unified", "base", "quote", "settle", "tick", "lot"))
    return listed(n, "ws", session, **(nothing | {"status": status} | more))


def made():
    return ContractMerger("binance", "linear")


def test_what_is_said_again_is_no_row_whoever_says_it():
    held = made()
    said = [listed(0), listed(3600), notice(3700), listed(7200, session="n-9-1"), notice(7300, session="n-8-1")]
    assert [held.merge(event) for event in said] == [True, False, False, False, False]
    assert held.duplicates == 4


def test_a_notice_of_a_change_is_a_row_and_the_list_that_says_so_later_is_none():
    held = made()
    said = [listed(0), notice(60, "PRE_SETTLE", expiry=T), notice(60, "PRE_SETTLE", "n-3-1", expiry=T)]
    assert [held.merge(event) for event in said] == [True, True, False]
    assert not held.merge(listed(3600, status="PRE_SETTLE", expiry=T))
    assert held.merge(listed(7200, status="SETTLING", expiry=T))


def test_a_notice_before_the_list_is_a_row_and_the_list_adds_what_it_did_not_say():
    held = made()
    assert [held.merge(event) for event in (notice(0), listed(1), notice(2), listed(3))] == [True, True, False, False]


def test_numbers_are_the_same_in_any_spelling_and_a_table_s():
    held = made()
    held.remember([listed(0, tick="0.1", lot="0.00100")])
    assert not held.merge(listed(1))
    assert held.merge(listed(2, tick="0.11"))


def test_a_change_back_is_a_change():
    held = made()
    said = [listed(n, status=status) for n, status in enumerate(("TRADING", "BREAK", "TRADING"))]
    assert [held.merge(event) for event in said] == [True] * 3


def test_another_listing_of_the_ticker_is_another_thing():
    held = made()
    assert held.merge(listed(0))
    assert held.merge(listed(1, uid="binance:linear:AAAUSDT:2", listed=2))


def test_the_list_ends_no_interruption_of_the_notices():
    held = made()
    held.merge(notice(0))
    (begun,) = held.interrupt("n-2-1", [EVERY_SYMBOL], "disconnect", T + SECOND)
    held.merge(listed(2, status="BREAK"))
    assert held.tick(T + 60 * SECOND) == []
    held.merge(notice(90, "SETTLING", session="n-5-1"))
    (ended,) = held.tick(T + 99 * SECOND)
    assert (ended.gap_id, ended.ts_to) == (begun.gap_id, T + 90 * SECOND)


def test_an_interruption_of_the_notices_ends_after_a_restart_where_the_venue_takes_them_on():
    before, after = made(), made()
    (begun,) = before.interrupt("n-1-1", [EVERY_SYMBOL], "stopped", T + SECOND)
    after.resume({EVERY_SYMBOL: Resume(begun.ts_from, None, "n-1-1", "stopped")})
    assert [(gap.gap_id, gap.ts_to) for gap in after.tick(T + 50 * SECOND)] == [(begun.gap_id, None)]
    after.acknowledged("n-2-1", [EVERY_SYMBOL], T + 60 * SECOND)
    assert [(gap.gap_id, gap.ts_to) for gap in after.tick(T + 99 * SECOND)] == [(begun.gap_id, T + 60 * SECOND)]


@given(st.lists(st.tuples(st.sampled_from(["TRADING", "BREAK", "SETTLING"]), st.booleans()), max_size=20))
def test_rows_are_exactly_the_changes_and_a_restart_between_any_two_changes_nothing(said):
    events = [
        notice(n, status, tick="0.1", lot="0.001", base="AAA", quote="USDT", settle="USDT", unified="AAA/USDT:USDT")
        if by_notice else listed(n, status=status)
        for n, (status, by_notice) in enumerate(said)
    ]  # fmt: skip
    whole = made()
    rows = [event for event in events if whole.merge(msgspec.structs.replace(event))]
    statuses = [status for status, _ in said]
    assert [row.status for row in rows] == [s for n, s in enumerate(statuses) if n == 0 or statuses[n - 1] != s]
    stored = []
    for event in events:
        started = made()
        started.remember(stored[-1:])
        stored += [event] if started.merge(event) else []
    assert [(row.status, row.known_from) for row in stored] == [(row.status, row.known_from) for row in rows]
