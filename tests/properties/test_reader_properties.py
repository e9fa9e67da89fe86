"""Property of reading a segment: the fast path never says anything that the careful one does not."""

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.rows import SegmentRow
from tests.support.market_rows import T0
from tests.support.segments import read_segment

GOOD = {
    "symbol": "BTCUSDT", "stream": "s", "ts_event": T0, "ts_publish": None, "ts_recv": T0 + 9, "session": "n-1-1",
    "frame_no": 1, "item": 0, "source": "ws", "price": "64000.10", "qty": "0.003", "side": "buy", "seq": 7,
    "condition": "market",
}  # fmt: skip
numbers = st.from_regex(r"-?[0-9]{1,8}(\.[0-9]{1,8})?", fullmatch=True)
odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), numbers, st.just([]), st.just({}),
    st.sampled_from(["NaN", "inf", "1e5", "1_0", "-0", "00", "1.", ".5", " 1", "buy", '"', "\\", "\u0663", "null"]),
)  # fmt: skip
keys = st.sampled_from([*GOOD, "trade_id", "qty_unit", "multiplier", "other"])
changes = st.lists(st.tuples(keys, odd), max_size=2)
lines = st.one_of(
    st.builds(lambda change, drop: {k: v for k, v in (GOOD | dict(change)).items() if k not in drop},
              changes, st.lists(keys, max_size=1)).map(lambda value: json.dumps(value).encode()),
    st.just(json.dumps(GOOD, separators=(",", ":")).encode()),
    st.binary(max_size=12).filter(lambda b: b"\n" not in b),
    st.just(json.dumps(GOOD).encode()[:-1] + b',"price":"7"}'),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, min_size=1, max_size=4))
def test_both_ways_agree_and_no_line_is_lost(tmp_path, held):
    data = b"".join(line + b"\n" for line in held)
    path = "raw/segment.jsonl"
    (tmp_path / "raw").mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(data)
    row = SegmentRow(path=path, exchange="binance", market_type="spot", kind="trade", state="sealed", period_start=T0,
                     period_end=T0 + 1, rows=len(held), bytes=len(data),
                     sha256=hashlib.sha256(data).hexdigest())  # fmt: skip
    read = read_segment(tmp_path, row)
    row.clean = False
    slow = read_segment(tmp_path, row)
    assert read.table.equals(slow.table)
    assert read.bad == slow.bad
    assert slow.lines == slow.table.num_rows + len(slow.bad) == len(held)
    assert all(bad.reason and data[bad.offset :].startswith(bad.line + b"\n") for bad in slow.bad)
    assert all(bad.line == held[bad.number - 1] for bad in slow.bad)
