"""SQL over HTTP, where the configuration allows it: each query in a process of its own that reads Parquet only."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api import formats, models
from api.answers import json_answer
from api.errors import Refused
from api.questions import Formats
from api.routes.reading import FORMS
from api.state import State

router = APIRouter(tags=["sql"])
SQL = "/sql"


@router.post(SQL, response_model=models.SqlRows, responses=FORMS, summary="One SELECT")
async def sql(served: State, asked: models.Query, form: Formats = "json") -> Response:
    """One SELECT over a view a kind (docs/sql.md), limited in time, rows and memory; off unless `serve.sql` says so.

    A token of scope read is asked for, on loopback too.
    """
    sandbox = served.sandbox
    if sandbox is None:
        raise Refused(403, "SQL over HTTP is off: serve.sql: true allows it", "SqlIsOff")
    answer = await served.reading.read(lambda: sandbox.ask(asked.query))
    if form != "json":

        def read() -> Any:
            return answer.table.schema, [answer.table], {}

        return await served.reading.stream(read, form, "answer")
    rows = formats.plain_rows(answer.table)
    told = {"columns": answer.table.column_names, "rows": rows, "count": len(rows), "capped": answer.capped}
    return json_answer(told)
