"""transformer.ordering: whatever order rows come in, a file's order comes out, and each identity once."""

import itertools
import random

import pytest

from lake import tables
from tests.support.market_rows import T0, quote, table, trade
from transformer.ordering import ordered


def pieces(kind, rows, cuts):
    bounds = [0, *sorted(cuts), len(rows)]
    return [table(kind, rows[low:high]) for low, high in itertools.pairwise(bounds)]


def placed(row):
    """What a row is sorted by: symbol, time, id (none first), provenance."""
    seq = row.get("seq", row.get("update_id"))
    return (row["symbol"].encode(), row["ts_event"], seq is not None, seq or 0, row["session"], row["frame_no"])


SEVERAL = ("B", "ÄPFEL", "A", "b", "A1")


def spread(count, *, ids, late, seed, symbols=SEVERAL):
    """Rows of some symbols in the order of their receipt; `late` of a hundred come out of order, `ids` may be none."""
    chance = random.Random(seed)
    rows = []
    for n in range(count):
        symbol = chance.choice(symbols)
        at = T0 + 1000 * (n // 3) - (5_000 if chance.random() < late / 100 else 0)
        rows.append(trade(at, "1.5", "2", ids(n), symbol=symbol, frame_no=n, session=f"n-1-{n % 2}", ts_recv=T0 + n))
    return rows


@pytest.mark.parametrize("symbols", [SEVERAL, ("A",)], ids=["several", "one"])
@pytest.mark.parametrize("late", [0, 10])
@pytest.mark.parametrize("ids", [lambda n: n, lambda _: None, lambda n: n if n % 4 else None])
def test_rows_come_out_as_if_each_were_compared_with_each(ids, late, symbols):
    rows = spread(300, ids=ids, late=late, seed=late, symbols=symbols)
    found, lost = ordered("trade", pieces("trade", rows, (0, 7, 100)))
    assert found.schema == tables.schema("trade")
    wanted = sorted(rows, key=placed)
    assert found["frame_no"].to_pylist() == [row["frame_no"] for row in wanted]
    assert found.to_pylist() == table("trade", wanted).to_pylist()
    assert not lost


def test_of_two_rows_of_one_identity_the_first_received_stays_and_the_other_is_counted():
    rows = spread(60, ids=lambda n: n, late=0, seed=1)
    again = [row | {"ts_recv": row["ts_recv"] + 1, "frame_no": 1000 + n} for n, row in enumerate(rows[::7])]
    found, lost = ordered("trade", pieces("trade", rows + again, (40,)))
    assert sorted(found["frame_no"].to_pylist()) == list(range(60))
    assert lost.total() == len(again)
    assert lost["A"] == sum(row["symbol"] == "A" for row in again)


def test_quotes_of_one_time_and_id_are_told_apart_by_where_they_come_from():
    rows = [quote(T0, "1", "2", 5, frame_no=n, session=session) for session in ("n-2-1", "n-1-1") for n in (3, 2)]
    found, lost = ordered("quote", [table("quote", rows[:3]), table("quote", rows[3:])])
    assert lost["BTCUSDT"] == 3
    assert found.num_rows == 1


def test_no_rows_are_a_table_too():
    found, lost = ordered("trade", [])
    assert (found.num_rows, found.schema, lost.total()) == (0, tables.schema("trade"), 0)
