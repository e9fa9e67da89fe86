"""What closing a day says of its ids: holes that nobody noticed, and the venue numbering anew."""

from __future__ import annotations

import polars as pl
import pytest

from compactor.certificate import Measure, certify, reconcile
from lake.checks import Ids
from lake.rows import FileRow
from market.session import Coverage, Gap
from market.times import MINUTE, SECOND, parse

DAY = parse("2026-02-21T00:00:00Z")
FILE = FileRow(
    path="versions/x.parquet", exchange="binance", market_type="spot", kind="agg_trade", level="day", symbol="BTCUSDT",
    date="2026-02-21", hour=None, revision=1, rows=0, bytes=0, sha256="", ts_min=DAY, ts_max=DAY + MINUTE,
    seq_min=None, seq_max=None, late=0, schema_version=1, content_digest="",
)  # fmt: skip
COVERED = [Coverage("binance", "spot", "agg_trade", "BTCUSDT", "v-1-1", DAY, DAY + MINUTE)]


def ids(*numbers: int) -> Ids:
    """These ids, one a second, in the order in which they happened."""
    held = Ids()
    held.add(pl.Series(numbers), pl.Series([DAY + n * SECOND for n in range(len(numbers))]))
    return held


def reset(at: int) -> Gap:
    return Gap(
        gap_id="r", exchange="binance", market_type="spot", kind="agg_trade", symbol="BTCUSDT", ts_from=at,
        ts_to=at + 1, id_from=None, id_to=None, cause="id_reset", proof="interval", state="open",
        session="v-1-1", detected_at=at,
    )  # fmt: skip


def told(stored: Ids, gaps: list[Gap]) -> list[tuple[int | None, int | None]]:
    return [(gap.id_from, gap.id_to) for gap in reconcile(FILE, stored, gaps, COVERED, DAY + MINUTE)]


@pytest.mark.parametrize("more", [[], [4]])
def test_p17_between_two_numberings_of_a_day_no_id_is_missing(more: list[int]) -> None:
    """`more`: an id of the new numbering behind one that is lost, whose hole is said all the same."""
    stored = ids(11_786_328, 11_786_329, 1, 2, *more)
    assert told(stored, [reset(DAY + SECOND)]) == ([(3, 4)] if more else [])


def test_p17_without_a_new_numbering_the_same_ids_are_a_hole() -> None:
    assert told(ids(1, 2, 11_786_328, 11_786_329), []) == [(3, 11_786_328)]


def test_p17_a_day_of_two_numberings_has_no_first_and_last_id() -> None:
    """Else `dl verify` would count the ids between them."""
    measure = Measure("agg_trade")
    measure.ids = ids(11_786_328, 11_786_329, 1, 2)
    for gaps, ends in (([reset(DAY + SECOND)], (None, None)), ([], (1, 11_786_329))):
        row = certify(FILE, measure, gaps, COVERED, [], 0, DAY + MINUTE)
        assert (row.first_id, row.last_id) == ends
