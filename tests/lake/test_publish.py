"""Publication: one verified file under its unique name, or nothing at all."""

import msgspec
import pytest

from lake import durable, layout, parquet, tables
from lake.errors import StorageFailed, VerifyFailed
from lake.publish import Placement, publish
from tests.support.market_rows import T0, quote, table, trade

PART = Placement(
    kind="trade", exchange="binance", market_type="spot", level="part", date="2024-07-19", hour=0, lake_id="l",
    parents=(tables.Parent("raw/a", "1"),), late=3,
)  # fmt: skip

DAY = {"kind": "trade", "exchange": "binance", "market_type": "spot", "level": "day", "date": "2024-07-19"}


def rows(n, symbol="BTCUSDT"):
    return table("trade", [trade(T0 + i, "1.5", "2", i, symbol=symbol) for i in range(n)])


def everything(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_the_row_says_what_the_file_is(tmp_path):
    row = publish(tmp_path, PART, [rows(10)], run="r", now=5)
    path = tmp_path / row.path
    assert everything(tmp_path) == [path]
    assert (row.rows, row.bytes, row.sha256) == (10, path.stat().st_size, parquet.file_sha256(path))
    assert (row.ts_min, row.ts_max, row.seq_min, row.seq_max) == (T0, T0 + 9, 0, 9)
    assert (row.level, row.symbol, row.hour, row.late, row.parents, row.created_at) == (
        "part",
        None,
        0,
        3,
        ("raw/a",),
        5,
    )
    said = layout.parse_parquet(row.path)
    assert (said.tree, said.kind, said.date, said.hour, said.sha8) == ("hot", "trade", "2024-07-19", 0, row.sha256[:8])
    footer = parquet.read_footer(path)
    assert (footer.root, footer.parents) == (tables.root_hash(PART.parents), PART.parents)
    assert row.content_digest is None


def test_a_daily_file_lies_under_versions_with_its_content_digest(tmp_path):
    day = Placement(
        kind="trade",
        exchange="binance",
        market_type="spot",
        level="day",
        date="2024-07-19",
        symbol="BTC/USD",
        revision=4,
    )
    row = publish(tmp_path, day, [rows(4, "BTC/USD")], run="r", now=5)
    assert row.path.startswith("versions/exchange=binance/market_type=spot/data_type=trade/symbol=BTC%2FUSD/year=2024/")
    assert "-g4-" in row.path
    assert row.content_digest == parquet.read_footer(tmp_path / row.path).content_digest
    assert len(row.content_digest) == 64
    part = publish(tmp_path, PART, [rows(4)], run="r", now=5)
    codecs = [parquet.open_file(tmp_path / f.path).metadata.row_group(0).column(0).compression for f in (row, part)]
    assert codecs == ["ZSTD", "LZ4"]


def test_publishing_again_is_done_already_whoever_does_it_and_when(tmp_path):
    first = publish(tmp_path, PART, [rows(10)], run="r", now=5)
    again = publish(tmp_path, PART, [rows(4), rows(10).slice(4)], run="other", now=5)
    assert again == first
    assert len(everything(tmp_path)) == 1


@pytest.mark.parametrize(
    "batches, placement, message",
    [
        ([], PART, "no rows"),
        ([rows(5).slice(2), rows(2)], PART, "not sorted"),
        ([rows(2)], Placement(**DAY, symbol="A"),
         "file of A would hold BTCUSDT"),
        ([rows(2)], Placement(**DAY | {"level": "part"}), "hour"),
    ],
    ids=["empty", "unsorted", "another symbol", "no hour"],
)  # fmt: skip
def test_what_does_not_verify_is_not_published_and_leaves_nothing(tmp_path, batches, placement, message):
    with pytest.raises(VerifyFailed, match=message):
        publish(tmp_path, placement, batches, run="r", now=5)
    assert everything(tmp_path) == []


@pytest.mark.parametrize("step", ["create", "write", "fsync", "rename"])
def test_a_failing_step_leaves_no_file_under_a_final_name(tmp_path, step):
    fault = durable.Fault(step, 1, "EIO")
    durable.inject(fault)
    try:
        with pytest.raises(StorageFailed):
            publish(tmp_path, PART, [rows(10)], run="r", now=5)
    finally:
        durable.inject(None)
    assert fault.struck == 1
    assert [path for path in everything(tmp_path) if not path.name.startswith(".")] == []
    assert publish(tmp_path, PART, [rows(10)], run="r", now=5).rows == 10


def test_the_steps_come_in_their_order(tmp_path):
    publish(tmp_path, PART, [rows(1)], run="r", now=5)
    ops = []
    with durable.observe(ops.append):
        publish(tmp_path, PART, [rows(10)], run="r", now=5)
    names = [op.name for op in ops]
    order = [names.index("create"), names.index("write"), names.index("fsync"), names.index("rename")]
    assert order == sorted(order)
    assert names[-1] == "fsync_dir"


@pytest.mark.parametrize(
    "estimated, clock", [((False, False), "venue"), ((True, True), "receive"), ((True, False), "mixed")]
)
def test_the_footer_says_whose_time_orders_the_rows(tmp_path, estimated, clock):
    quotes = table("quote", [quote(T0 + n, "1", "2", n, ts_estimated=flag) for n, flag in enumerate(estimated)])
    row = publish(tmp_path, Placement(**DAY | {"kind": "quote"}), [quotes], run="r", now=5)
    assert parquet.read_footer(tmp_path / row.path).clock == clock


def test_a_file_that_reads_back_another_number_of_rows_is_not_published(tmp_path, monkeypatch):
    """As a writer would leave it that loses a row group and tells nobody."""
    real = parquet.write
    monkeypatch.setattr(parquet, "write", lambda *given, **more: msgspec.structs.replace(real(*given, **more), rows=11))
    with pytest.raises(VerifyFailed, match="holds 10 rows, 11 were written"):
        publish(tmp_path, PART, [rows(10)], run="r", now=5)
    assert everything(tmp_path) == []
