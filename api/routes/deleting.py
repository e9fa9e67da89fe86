"""Deleting datasets: asked twice, the second time with what the first answer said; done by the daemon."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query
from starlette.responses import Response

from api import datasets, models
from api.answers import json_answer
from api.errors import wrong
from api.questions import Kind, lower
from api.routes.datasets import Id
from api.state import Served, State
from compactor.deleting import Deletion, Planned, plan
from lake.inventory import Dataset

router = APIRouter(tags=["datasets"])
_KEY = secrets.token_bytes(32)
"""Of this process: a confirmation is of what it was shown, and of nothing else."""
Confirm = Annotated[str | None, Header(max_length=100, description="What the answer before said in `confirm`.")]
ASKED: dict[int | str, dict[str, Any]] = {
    428: {"model": models.Confirmation, "description": "Ask again with the header X-Confirm."}
}


@router.delete("/datasets/{dataset:path}", response_model=models.Gone, responses=ASKED, summary="Delete a dataset")
async def one(served: State, dataset: Id, x_confirm: Confirm = None) -> Response:
    """Its closed days, for ever. The first answer (428) says what would go and how to confirm it.

    What is gone is told as gaps with the cause `deleted`. Files of all symbols are left: rows of days that are not
    closed go once these are. Readers that have begun go on; the bytes go after `compactor.grace_seconds`.
    """
    held = await served.reading.ask(lambda: datasets.one_of(served.lake, dataset))
    return await _delete(served, [held], x_confirm)


@router.delete(
    "/ingest/exchanges/{exchange}/markets/{market}/history",
    response_model=models.Gone, responses=ASKED, summary="Delete what is held of a symbol",
)  # fmt: skip
async def history(
    served: State,
    exchange: Annotated[str, Path(max_length=40)],
    market: Annotated[str, Path(max_length=20)],
    symbol: Annotated[str, Query(min_length=1, max_length=100)],
    data_type: Annotated[str | None, Query(max_length=40, description="One kind; all of them if not said.")] = None,
    kind: Kind = None,
    x_confirm: Confirm = None,
) -> Response:
    """The closed days of all kinds of one symbol, or of one, in the same way."""
    held = await served.reading.ask(
        lambda: datasets.found(
            served.lake, exchange=lower(exchange), market_type=lower(market), symbol=symbol,
            kind=datasets.kind_of(kind or data_type),
        )
    )  # fmt: skip
    return await _delete(served, held, x_confirm)


async def _delete(served: Served, held: list[Dataset], confirm: str | None) -> Response:
    """Raises Refused."""

    def look() -> list[tuple[Dataset, Planned]]:
        with served.lake.manifest.snapshot() as now:
            found = [(one, plan(now, one.exchange, one.market_type, one.kind, one.symbol)) for one in held]
        return [(one, planned) for one, planned in found if planned.files]

    found = await served.reading.ask(look)
    if not found:
        raise wrong("there is no closed day of it: rows of days that are not closed go with them")
    total = {
        "deleted_entries": len(found), "deleted_files": sum(planned.files for _, planned in found),
        "rows": sum(planned.rows for _, planned in found), "bytes": sum(planned.bytes for _, planned in found),
        "days": sorted({day for _, planned in found for day in planned.days})[-31:],
        "shared_files_left": sum(planned.shared for _, planned in found),
    }  # fmt: skip
    key = _confirmation(found)
    if confirm is None or not hmac.compare_digest(confirm.encode(), key.encode()):
        said = f"{_said(total, found)} would be deleted: ask again with the header X-Confirm, as `confirm` has it"
        return json_answer({"detail": said, "error": "ConfirmFirst", "confirm": key, **total}, 428)
    for one, planned in found:
        asked = Deletion(
            exchange=one.exchange, market_type=one.market_type, kind=one.kind, symbol=one.symbol, digest=planned.digest
        )
        await served.control.ask("delete", msgspec.to_builtins(asked))
    return json_answer({"status": "deleted", "message": f"deleted: {_said(total, found)}", **total})


def _said(total: Mapping[str, Any], found: Sequence[tuple[Dataset, Planned]]) -> str:
    files, rows = total["deleted_files"], total["rows"]
    names = [datasets.id_of(one) for one, _ in found]
    of = ", ".join(names[:9]) + f" and {len(names) - 9:,} more" * (len(names) > 9)
    return f"{files:,} daily file{'s' * (files != 1)} with {rows:,} rows of {of}"


def _confirmation(found: list[tuple[Dataset, Planned]]) -> str:
    """Of exactly these files."""
    said = "\n".join(f"{datasets.id_of(one)} {planned.digest}" for one, planned in found)
    return hmac.new(_KEY, said.encode(), hashlib.sha256).hexdigest()
