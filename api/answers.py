"""Small answers in JSON: structs of ours, as msgspec writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

Page = dict[str, Any]


def json_answer(value: Any, status: int = 200) -> Response:
    """Any value of structs, lists, mappings, times."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def page(rows: Sequence[Any], limit: int, offset: int, name: str) -> Page:
    """`limit` rows from `offset` on under `name`, and how many there are."""
    return {name: rows[offset : offset + limit], "total": len(rows)}
