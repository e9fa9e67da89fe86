"""The application: every route over one lake, behind the guard, described by OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api import errors, models, pages
from api.answers import json_answer
from api.errors import Refused
from api.guard import Guard, Policy
from api.questions import known, once
from api.routes import asking, datasets, deleting, features, jobs, live, older, quality, reading, taking_in, venues
from api.state import Served
from lake.errors import LakeError
from market.errors import MarketError

TITLE = "Market data lake"
ABOUT = """What a market-data lake holds, and how complete it is.

Every answer is made from one snapshot of the manifest. Times are UTC: ISO 8601 text in JSON and CSV, microseconds in
Parquet and Arrow and wherever a field of the manifest says so. Errors are `{"detail": sentence, "error": word}`.
Reading is free on this machine; from others, and for whatever changes something, a token is asked for.
"""
V1 = "/api/v1"
TAGS = {
    "datasets": "What is held: look for it, look into it, take it away as a file, delete it.",
    "rows": "Rows of any kind, bars of any interval, order books at a time: JSON, JSON lines, CSV, Parquet, Arrow.",
    "quality": "How complete and how sure it is: gaps, coverage, certificates, revisions, and where a file came from.",
    "features": "Values computed elsewhere, in versions that never change, and joins of them onto bars.",
    "live": "What happens now: the daemon's streams, and events as they come.",
    "venues": "Exchanges, their markets and symbols; files of other origin.",
    "jobs": "Asking venues for their past: start, watch, pause, cancel. The daemon carries it out.",
    "sql": "One SELECT, where the configuration allows it.",
    "server": "Whether it answers.",
    "by other lakes' names": "Routes and shapes that clients of the dl-datalake project know.",
}
"""The sections of the description, in their order."""
NOWHERE = "there is no such address here: /docs says what can be asked"
_SAID = {
    400: "The question cannot be answered as it stands.",
    401: "A token is missing or wrong.",
    403: "The token may not do that, or another site's page asks.",
    404: "There is no such thing.",
    405: "The path has no such method.",
    409: "The lake is not in a state that allows it.",
    413: "The body is too large.",
    414: "The address is too long.",
    421: "The server is not known by that name.",
    422: "A parameter is not what it must be.",
    429: "Too many wrong tokens, or too many answers at a time.",
    500: "Something of the lake is damaged, or a defect of ours; the log says more.",
    503: "The answer takes too long, or the manifest is busy.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": models.Problem, "description": said} for status, said in _SAID.items()
}


def create(served: Served, host: str | None = None, names: tuple[str, ...] = ()) -> Guard:
    """The ASGI application over `served`, listening on `host` (its configuration's), also known by `names`."""
    app = FastAPI(
        title=TITLE, description=ABOUT, version="1", docs_url=None, redoc_url=None, lifespan=_closing,
        responses=PROBLEMS, separate_input_output_schemas=False,
        openapi_tags=[{"name": name, "description": said} for name, said in TAGS.items()],
    )  # fmt: skip
    app.state.served = served
    app.add_api_route("/health", _health, response_model=models.Health, tags=["server"], summary="Whether it answers")
    app.add_api_route("/", _start, include_in_schema=False, response_model=None)
    for router in (older.router, features.plain):
        app.include_router(router, dependencies=[Depends(once)])
    for module in (datasets, reading, quality, live, venues, taking_in, jobs, features, asking, deleting):
        app.include_router(module.router, prefix=V1, dependencies=[Depends(known)])
    pages.add(app)
    for kind in (LakeError, MarketError):
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(Exception, _defect)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.openapi = partial(_described, app)  # type: ignore[method-assign] # FastAPI's own way of changing it
    config = served.config
    listed = frozenset(name.lower() for name in (*config.allowed_hosts, *names))
    most = config.upload_mb * 1024 * 1024
    bodies = dict.fromkeys((V1 + taking_in.UPLOAD, V1 + features.UPLOAD, features.UPLOAD), most)
    policy = Policy(host or config.host, listed, asks=frozenset({V1 + asking.SQL}), bodies=bodies)
    return Guard(app, policy, served.tokens, served.clock)


@asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.served.close()


def _described(app: FastAPI) -> dict[str, Any]:
    """The description, with the token that any question may have."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        made.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{}, {"token": []}]
        app.openapi_schema = made
    return app.openapi_schema


async def _health() -> Response:
    """`ok`, from whoever is asked; nothing is read for it."""
    return json_answer({"status": "ok"})


async def _start() -> Response:
    """To the page that says what can be asked."""
    return RedirectResponse("/docs", 307)


async def _ours(request: Request, error: Exception) -> Response:
    return json_answer(errors.body_of(error, request.app.state.served.root), errors.status_of(error))


async def _defect(_request: Request, _error: Exception) -> Response:
    """The guard says it to the log."""
    return json_answer(errors.DEFECT, 500)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = error.name if isinstance(error, Refused) else errors.NAMES.get(error.status_code, "Refused")
    detail = NOWHERE if error.detail == "Not Found" else str(error.detail)
    answer = json_answer({"detail": detail, "error": name}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:10]]
    return json_answer({"detail": "; ".join(said)[:2000], "error": "WrongQuestion"}, 422)
