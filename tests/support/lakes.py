"""A lake under a test's hand: rows published as real files through the one writer."""

import datetime as dt
from pathlib import Path

import pyarrow as pa

from lake import bars
from lake.publish import Placement, publish
from lake.rows import FileRow
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import HOUR, MINUTE, Interval
from tests.support.market_rows import T0, table

STREAM = {"exchange": "binance", "market_type": "linear"}


def date_of(time: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(microseconds=time)).isoformat()


class TestLake:
    """`part` and `day` publish rows; everything lies below `root`."""

    __test__ = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = LakeWriter.open(root, "node", T0)

    def part(self, kind: str, rows: list | pa.Table, level: str = "part", **placement) -> FileRow:
        data = rows if isinstance(rows, pa.Table) else table(kind, rows)
        time = data.column("ts_event").cast(pa.int64())[0].as_py()
        placed = STREAM | {"hour": time % (24 * HOUR) // HOUR} | placement
        return self._publish(kind, data, level=level, date=date_of(time), **placed)

    def day(self, kind: str, rows: list | pa.Table, symbol: str | None = "BTCUSDT", remove=(), **placement) -> FileRow:
        data = rows if isinstance(rows, pa.Table) else table(kind, rows)
        time = data.column("ts_event").cast(pa.int64())[0].as_py()
        return self._publish(
            kind, data, remove=remove, level="day", date=date_of(time), symbol=symbol, **(STREAM | placement)
        )

    def _publish(self, kind: str, data: pa.Table, remove=(), **placement) -> FileRow:
        row = publish(self.root, Placement(kind=kind, **placement), [data], run="test", now=T0)
        self.writer.publish(add=[row], remove=remove, now=T0)
        return row

    def cover(self, start: int, end: int, symbol: str = "BTCUSDT", kind: str = "trade") -> None:
        self.writer.record_coverage(
            [Coverage(**STREAM, kind=kind, symbol=symbol, session="n-1-1", ts_from=start, ts_to=end)]
        )

    def gap(self, start: int, end: int | None, symbol: str = "BTCUSDT", kind: str = "trade", **changed) -> None:
        held = {"id_from": None, "id_to": None, "cause": "cut", "proof": "interval", "state": "open", "session": None}
        held |= {"gap_id": f"{symbol}-{start}", "detected_at": start}
        self.writer.record_gaps([Gap(**STREAM, kind=kind, symbol=symbol, ts_from=start, ts_to=end, **(held | changed))])

    def close(self) -> None:
        self.writer.close()


def bar_table(trades: list, width: int = MINUTE, covered: Interval | None = None, **options) -> pa.Table:
    span = covered or Interval(0, 2**62)
    symbols = {row["symbol"] for row in trades}
    return bars.bars_from_trades(
        table("trade", trades), None, width, coverage={symbol: [span] for symbol in symbols}, **options
    )
