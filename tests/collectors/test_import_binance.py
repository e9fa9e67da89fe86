"""Binance's own files through `dl import`: the side is kept, in either unit, with names or without."""

import pytest

from collectors.files.importing import request_of, take_in
from collectors.files.preview import preview
from collectors.files.reading import Options, Refused
from lake.reader import Lake
from lake.writer import LakeWriter
from market.times import parse, text
from runtime.workers import InlineExecutor

NOW = parse("2026-11-20T12:00:00Z")
NAMES = "id,price,qty,quote_qty,time,is_buyer_maker"


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as made:
        yield made


def take(writer, path, market="spot", **more):
    options = Options(exchange="binance", market_type=market, symbol="BTCUSDT", **more)
    return take_in(writer, InlineExecutor(), "node", NOW, request_of(path, options), lambda *_: None)


def rows(writer, kind):
    return Lake(writer.root).read(kind).to_pylist()


def at(row):
    return text(int(row["ts_event"].timestamp() * 1e6))


@pytest.mark.parametrize("scale, end", [(1000, ",True,True"), (1, ",true,true"), (1000, ",true")])
@pytest.mark.parametrize("head", ["", NAMES + "\n"])
def test_trades_keep_who_took(writer, tmp_path, scale, end, head):
    if head and end.count(",") > 1:
        head = ""  # with names the files have no best match
    start = parse("2026-11-01") // scale
    path = tmp_path / "BTCUSDT-trades-2026-11-01.csv"
    other = end.replace("rue", "alse").replace("T", "F").replace("t", "f")
    lines = [f"{7 + n},101.50000000,0.02000000,2.03,{start + n}{end if n % 2 else other}\n" for n in range(20)]
    path.write_text(head + "".join(lines))
    made = take(writer, path)
    assert (made.rows, made.quarantined) == (20, 0)
    found = rows(writer, "trade")
    assert [row["side"] for row in found] == ["buy", "sell"] * 10
    assert [row["seq"] for row in found] == list(range(7, 27))
    assert {(row["price"], row["qty"], row["condition"]) for row in found} == {(101.5, 0.02, "market")}
    assert at(found[1]) == text(parse("2026-11-01") + scale)


def test_what_is_understood_is_shown_in_the_digits_of_the_file(tmp_path):
    path = tmp_path / "BTCUSDT-trades-2026-11-01.csv"
    path.write_text("7,101.50000000,0.02000000,2.03,1793491200000,true\n")
    options = Options(exchange="binance", market_type="linear", symbol="BTCUSDT")
    shown = preview(request_of(path, options), lambda *_: None)
    assert [(row["price"], row["qty"], row["side"]) for row in shown.rows] == [("101.50000000", "0.02000000", "sell")]


def test_aggregated_trades_keep_the_ids_inside(writer, tmp_path):
    path = tmp_path / "BTCUSDT-aggTrades-2026-11-01.csv"
    start = parse("2026-11-01")
    path.write_text(f"7,101.5,0.02,20,22,{start},True,True\n8,101.6,0.03,23,23,{start + 5},False,True\n")
    assert take(writer, path).rows == 2
    found = [(row["seq"], row["first_id"], row["last_id"], row["side"]) for row in rows(writer, "agg_trade")]
    assert found == [(7, 20, 22, "sell"), (8, 23, 23, "buy")]


def test_candles_keep_what_takers_bought(writer, tmp_path):
    path = tmp_path / "BTCUSDT-1m-2026-11-01.csv"
    start = parse("2026-11-01")
    lines = [f"{start + n * 60_000_000},1,3,1,2,5,{start + n * 60_000_000 + 59_999_999},10,6,2,4,0\n" for n in range(3)]
    path.write_text("".join(lines))
    assert take(writer, path).rows == 3
    first = rows(writer, "kline")[0]
    assert (first["interval"], first["volume_quote"], first["trade_count"]) == ("1m", 10, 6)
    assert (first["taker_buy_base"], first["taker_buy_quote"], at(first)) == (2, 4, "2026-11-01T00:00:59.999Z")


def test_what_counts_contracts_is_refused_with_the_way_that_knows_them(tmp_path):
    path = tmp_path / "BTCUSD_PERP-trades-2026-11-01.csv"
    path.write_text("7,101.5,3,0.02,1793491200000,true\n")
    options = Options(exchange="binance", market_type="inverse", symbol="BTCUSD_PERP")
    with pytest.raises(Refused, match="no known dialect"):
        request_of(path, options)
    insisting = Options(
        exchange="binance", market_type="inverse", symbol="BTCUSD_PERP", dialect="binance-trades", kind="trade"
    )
    with pytest.raises(Refused, match=r"inverse counts contracts there .*dl archive --source"):
        request_of(path, insisting)


@pytest.mark.parametrize("kind", [None, "funding_rate", "trade"])
@pytest.mark.parametrize(
    "header, row, said",
    [
        (
            "calc_time,funding_interval_hours,last_funding_rate", "1775001600000,8,-0.00003449",
            (r"funding_rate of binance's archive .*dl archive --exchange binance --market linear --kind funding_rate"
            r".*--source FOLDER.*data/futures/um/monthly/fundingRate/"),
        ),
        (
            "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
            "7,1.5,2,1.6,3,1775001600000,1775001600001", r"quote of binance's archive .*--kind quote .*--source FOLDER",
        ),
    ],
)  # fmt: skip
def test_a_file_of_the_archive_that_import_does_not_read_is_refused_with_the_command_that_does(
    tmp_path, header, row, said, kind
):
    path = tmp_path / "BTCUSDT-2026-04.csv"
    path.write_text(f"{header}\n{row}\n")
    options = Options(exchange="binance", market_type="linear", symbol="BTCUSDT", kind=kind)
    with pytest.raises(Refused, match=said):
        request_of(path, options)
