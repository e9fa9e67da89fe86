"""Rows over HTTP are the rows of `Lake`, in every format, for every question."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from api import formats
from api.state import Served
from tests.api.conftest import DAY, TRADES
from tests.support.asgi import Asgi
from tests.support.market_rows import T0

QUESTIONS: list[dict[str, Any]] = [
    {"kind": "trade", "symbol": "BTCUSDT", "as_of": T0 + 1},
    {"kind": "trade", "symbol": "BTCUSDT", "start": T0 + 5_000_000, "end": T0 + DAY + 7_000_000},
    {"kind": "trade", "symbol": "BTC/USD", "columns": ["ts_event", "price", "qty_quote"]},
    {"kind": "trade", "symbol": "BTCUSDT", "min_state": "final"},
    {"kind": "bar_1m", "symbol": "BTCUSDT", "fill": "empty", "start": T0, "end": T0 + 600_000_000},
    {"kind": "bar_2m", "symbol": "BTCUSDT"},
    {"kind": "quote"},
]


def asked(question: dict[str, Any]) -> dict[str, Any]:
    query = {name: value for name, value in question.items() if name not in ("kind", "columns")}
    return query | ({"columns": ",".join(question["columns"])} if "columns" in question else {})


async def test_a_misspelt_parameter_is_refused_with_those_there_are(api: Asgi) -> None:
    for path in ("/api/v1/read/trade", "/api/v1/bars", "/api/v1/gaps", "/api/v1/datasets"):
        answer = await api.get(path, simbol="BTCUSDT")
        assert (answer.status, answer.json()["error"]) == (400, "WrongQuestion")
        assert "there is no parameter 'simbol' at this address" in answer.json()["detail"]
        assert " symbol" in answer.json()["detail"]
    assert (await api.get("/api/v1/status", x="1")).status == 400
    assert (await api.get("/api/v1/gaps", market="spot")).json()["total"] == 0, "as `market_type` everywhere"
    assert (await api.get("/list", simbol="BTCUSDT")).status == 200, "clients of other lakes go on working"


async def test_a_parameter_that_takes_one_value_is_refused_where_it_is_given_twice(api: Asgi) -> None:
    for path in ("/api/v1/gaps", "/api/v1/datasets", "/list", "/api/v1/read/trade"):
        answer = await api.get(path, exchange=["binance", "okx"])
        assert (answer.status, answer.json()["error"]) == (400, "WrongQuestion")
        assert "'exchange' is given 2 times, and takes one value" in answer.json()["detail"]
    assert "of symbol there may be several" in answer.json()["detail"]
    assert (await api.get("/api/v1/datasets", symbol=["BTCUSDT", "ETHUSDT"])).status == 400, "a filter, not a list"
    answer = await api.get("/api/v1/read/trade", symbol=["BTC/USD", "BTCUSDT"], columns="symbol")
    assert {row["symbol"] for row in answer.json()["rows"]} == {"BTC/USD", "BTCUSDT"}
    assert (await api.get("/list", other=["1", "2"])).status == 200, "what means nothing there may come as it likes"
    answer = await api.get("/api/v1/gaps", market="spot", market_type="linear")
    assert (answer.status, "are two markets" in answer.json()["detail"]) == (400, True)
    assert (await api.get("/api/v1/gaps", market="Linear", market_type="linear")).status == 200


async def test_of_a_symbol_that_nobody_collects_no_answer_says_that_it_is_complete(api: Asgi) -> None:
    answer = await api.get("/api/v1/completeness/trade", symbol="NOSUCH")
    assert (answer.json()["complete_until"], answer.json()["unknown"]) == (None, ["NOSUCH"])
    answer = await api.get("/api/v1/read/trade", symbol="NOSUCH")
    assert (answer.json()["complete_until"], answer.json()["unknown"]) == (None, ["NOSUCH"])
    assert "x-lake-complete-until" not in answer.headers
    answer = await api.get("/api/v1/read/trade", symbol="BTCUSDT")
    assert answer.headers["x-lake-complete-until"] == answer.json()["complete_until"]
    assert "unknown" not in answer.json()


async def test_the_columns_of_the_description_are_those_of_every_kind(api: Asgi) -> None:
    described = (await api.get("/openapi.json")).json()["paths"]["/api/v1/bars"]["get"]["parameters"]
    (columns,) = [one["schema"]["examples"][0] for one in described if one["name"] == "columns"]
    for path in ("read/trade", "bars", "read/bar_5m", "read/quote"):
        assert (await api.get(f"/api/v1/{path}", symbol="BTCUSDT", columns=columns)).status == 200


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_rows_in_arrow_and_parquet_are_those_of_the_lake(api: Asgi, served: Served, question: Any) -> None:
    wanted = served.lake.read(**question)
    arrow = await api.get(f"/api/v1/read/{question['kind']}", format="arrow", **asked(question))
    assert arrow.status == 200, arrow.body
    got = pa.ipc.open_stream(arrow.body).read_all()
    assert got.to_pylist() == wanted.to_pylist()
    assert got.schema.equals(wanted.schema)
    parquet = await api.get(f"/api/v1/read/{question['kind']}", format="parquet", **asked(question))
    assert pq.read_table(io.BytesIO(parquet.body)).to_pylist() == wanted.to_pylist()


async def test_rows_in_text_formats_are_those_of_the_lake(api: Asgi, served: Served) -> None:
    wanted = served.lake.read("trade", symbol="BTC/USD")
    rows = formats.plain_rows(wanted)
    asking = {"symbol": "BTC/USD"}
    said = (await api.get("/api/v1/read/trade", **asking)).json()
    assert said["rows"] == rows
    assert (said["count"], said["kind"]) == (60, "trade")
    lines = (await api.get("/api/v1/read/trade", format="jsonl", **asking)).body.splitlines()
    assert len(lines) == 60
    text = (await api.get("/api/v1/read/trade", format="csv", **asking)).body.decode()
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["price"] for row in table] == [str(row["price"]) for row in rows]
    assert table[0]["ts_event"] == "2024-07-19T00:00:00.000000Z"


@pytest.mark.parametrize("form", formats.MEDIA)
async def test_no_rows_are_an_answer_too_in_every_format(api: Asgi, form: str) -> None:
    said = await asyncio.wait_for(api.get("/api/v1/read/trade", format=form, symbol="NOBODY"), 60)
    assert (said.status, said.headers["content-type"]) == (200, formats.MEDIA[form])


async def test_limit_and_offset_cut_the_same_rows(api: Asgi) -> None:
    whole = (await api.get("/api/v1/read/trade")).json()["rows"]
    part = (await api.get("/api/v1/read/trade", limit=7, offset=5)).json()
    assert part["rows"] == whole[5:12]
    assert (part["limit"], part["offset"], part["count"]) == (7, 5, 7)
    assert (await api.get("/api/v1/read/trade", limit=0)).json()["rows"] == []


async def test_bars_of_any_interval_are_those_of_the_lake(api: Asgi, served: Served) -> None:
    said = await api.get("/api/v1/bars", interval="2m", symbol="BTCUSDT", format="arrow")
    wanted = served.lake.bars("2m", symbol="BTCUSDT")
    assert wanted.num_rows == 2
    assert pa.ipc.open_stream(said.body).read_all().to_pylist() == wanted.to_pylist()


@pytest.mark.parametrize("interval, offset", [("1m", "0s"), ("90s", "0s"), ("1w", "8h")])
async def test_bars_of_an_interval_are_never_all_in_memory(
    api: Asgi, served: Served, monkeypatch: pytest.MonkeyPatch, interval: str, offset: str
) -> None:
    asking = {"interval": interval, "window_offset": offset, "symbol": "BTCUSDT", "format": "arrow"}
    wanted = served.lake.bars(interval, offset=offset, symbol="BTCUSDT")
    monkeypatch.setattr(type(served.lake), "bars", None)
    monkeypatch.setattr("lake.batching.BATCH_ROWS", 1)
    said = await api.get("/api/v1/bars", **asking)
    found = pa.ipc.open_stream(said.body).read_all()
    assert found.to_pylist() == wanted.to_pylist()
    assert found.schema.equals(wanted.schema)
    assert said.headers["x-lake-gaps"] == "1"


WRONG = [
    ("/api/v1/read/trades", {}, 400, "UnknownKind"),
    ("/api/v1/read/bar_7m", {}, 400, "WrongQuestion"),
    ("/api/v1/read/trade", {"start": "yesterday"}, 400, "Malformed"),
    ("/api/v1/read/trade", {"columns": "prize"}, 400, "WrongQuestion"),
    ("/api/v1/read/trade", {"columns": ","}, 400, "WrongQuestion"),
    ("/api/v1/bars", {"columns": ""}, 400, "WrongQuestion"),
    ("/api/v1/read/trade", {"fill": "empty"}, 400, "WrongQuestion"),
    ("/api/v1/read/trade", {"format": "xlsx"}, 422, "WrongQuestion"),
    ("/api/v1/read/trade", {"limit": "-1"}, 422, "WrongQuestion"),
    ("/api/v1/bars", {"interval": "1 fortnight"}, 400, "WrongQuestion"),
    ("/api/v1/book", {"symbol": "BTCUSDT", "at": "2024-07-19T01:00:00Z"}, 404, "BookUnknown"),
    ("/api/v1/book", {"symbol": "BTCUSDT", "at": " "}, 400, "WrongQuestion"),
    ("/api/v1/nothing", {}, 404, "NotFound"),
    ("/api/v1/read/trade", {"start": "--5"}, 400, "Malformed"),
    ("/api/v1/bars", {"interval": "--5"}, 400, "WrongQuestion"),
    ("/api/v1/bars", {"window_offset": "--5"}, 400, "WrongQuestion"),
    ("/api/v1/read/trade", {"start": "253402300800000000"}, 400, "WrongQuestion"),
    ("/api/v1/bars", {"end": "9999-12-31T23:59:59-23:59"}, 400, "WrongQuestion"),
    ("/api/v1/book", {"symbol": "BTCUSDT", "at": "-62135596800000001"}, 400, "WrongQuestion"),
]


@pytest.mark.parametrize("path, query, status, name", WRONG)
async def test_what_is_wrong_is_a_sentence_and_a_word(api: Asgi, path: str, query: Any, status: int, name: str) -> None:
    said = await api.get(path, **query)
    assert (said.status, said.json()["error"]) == (status, name), said.body
    assert said.headers["content-type"] == "application/json"
    assert set(said.json()) == {"detail", "error"}


async def test_until_the_last_day_of_the_calendar_is_everything(api: Asgi) -> None:
    for path in ("read/trade", "bars", "gaps", "coverage", "versions/trade", "completeness/trade", "files"):
        whole = await api.get(f"/api/v1/{path}", symbol="BTCUSDT")
        ever = await api.get(f"/api/v1/{path}", symbol="BTCUSDT", start="0001-01-01", end="9999-12-31T23:59:59.999999")
        assert (ever.status, ever.json().keys()) == (200, whole.json().keys()), path
        assert ever.json().get("count") == whole.json().get("count")


async def test_large_answers_come_in_pieces(api: Asgi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.batching.BATCH_ROWS", 50)
    monkeypatch.setattr("api.rows.PIECE", 50)
    said = await api.get("/api/v1/read/trade", format="arrow")
    assert said.pieces >= 4
    assert pa.ipc.open_stream(said.body).read_all().num_rows == len(TRADES) + 60 + 30
    assert said.headers["x-lake-gaps"] == "1"


def test_formulas_are_no_formulas_in_csv_and_numbers_stay() -> None:
    table = pa.table({"a": ["=cmd|x", "+1", "-2.5", "@x", "\tx", "BTC-USD", "-x", None], "b": [-1.0] * 8})
    text = b"".join(formats.encode("csv", table.schema, [table], {})).decode()
    assert [row["a"] for row in csv.DictReader(io.StringIO(text))] == [
        "'=cmd|x", "+1", "-2.5", "'@x", "'\tx", "BTC-USD", "'-x", "",
    ]  # fmt: skip
    assert "'-1" not in text


def test_lists_in_csv_are_json() -> None:
    frame = pl.DataFrame({"bids": [[{"price": 1.5, "qty": 2.0}], []]})
    table = frame.to_arrow()
    text = b"".join(formats.encode("csv", table.schema, [table], {})).decode()
    assert text == 'bids\n"[{""price"":1.5,""qty"":2.0}]"\n[]\n'


@pytest.mark.parametrize("stem", ["../../etc/passwd", "a\r\nb", 'x"; y', "", "..", "é\0"])
def test_names_to_save_by_lead_nowhere(stem: str) -> None:
    name = formats.file_name(stem, "csv")
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert not name.startswith(".")
