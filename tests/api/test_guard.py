"""Who may ask: names of the server, other sites' pages, tokens and scopes, sizes; and what every answer says."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import tokens
from api.app import create
from api.config import ServeConfig
from api.guard import HEADERS, MAX_BODY, MAX_TARGET
from api.state import Served
from lake.errors import WrongQuestion
from market.times import DAY
from runtime.guesses import FREE, LATE_SECONDS, WAITING
from tests.support.asgi import Asgi, alive
from tests.support.clock import ManualClock
from tests.support.market_rows import T0

LAN = "192.168.1.5:8572"
READS = ("/api/v1/datasets", "/api/v1/read/trade", "/list", "/api/v1/gaps")
PAGES = ("/health", "/docs", "/redoc", "/openapi.json")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
async def lan(lake: Path, clock: ManualClock) -> AsyncIterator[Asgi]:
    """The application where other machines reach it; `made` are its tokens."""
    held = Served(lake, ServeConfig(host="0.0.0.0", allowed_hosts=["lake.example"]), clock)
    app = create(held)
    async with alive(app):
        yield Asgi(app, LAN)
    held.close()


@pytest.fixture
def made(lake: Path) -> Any:
    held = {"read": tokens.make(lake, "r", "read", T0), "admin": tokens.make(lake, "a", "admin", T0)}
    yield held
    (lake / tokens.FILE).unlink()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


HOSTS = [
    "evil.example", "evil.example:8572", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example",
    "lake", "", "[::1", "192.168.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_a_name_that_was_rebound_to_this_machine_is_refused(api: Asgi, host: str) -> None:
    for path in (*READS, *PAGES):
        said = await api.ask("GET", path, host=host)
        assert (said.status, said.json()["error"]) == (421, "UnknownHost"), path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost", "LOCALHOST:8572", "[::1]:8572"])
async def test_the_names_of_this_machine_are_served(api: Asgi, host: str) -> None:
    assert (await api.ask("GET", "/list", host=host)).status == 200


@pytest.mark.parametrize("header", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
    {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
])  # fmt: skip
async def test_pages_of_other_sites_are_refused_and_never_allowed_by_cors(api: Asgi, header: Any) -> None:
    for method, path in (("GET", "/list"), ("POST", "/api/v1/datasets"), ("DELETE", "/api/v1/datasets/x"),
                         ("OPTIONS", "/list")):  # fmt: skip
        said = await api.ask(method, path, **header)
        assert said.status == 403, (method, path)
        assert not [name for name in said.headers if name.startswith("access-control")]


async def test_pages_of_this_server_are_answered(api: Asgi) -> None:
    assert (await api.ask("GET", "/list", origin="http://127.0.0.1:8572", sec_fetch_site="same-origin")).status == 200


async def test_reading_is_free_on_loopback_and_changing_is_not(api: Asgi, made: Any) -> None:
    for path in READS:
        assert (await api.get(path)).status == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await api.ask(method, "/api/v1/datasets/x")).status == 401, method
        assert (await api.ask(method, "/api/v1/datasets/x", **bearer(made["read"]))).json()["error"] == "ReadOnly"
        assert (await api.ask(method, "/api/v1/read/trade", **bearer(made["admin"]))).status == 405


async def test_other_machines_read_with_a_token_only(lan: Asgi, made: Any) -> None:
    for path in READS:
        said = await lan.get(path)
        assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
        assert (await lan.ask("GET", path, **bearer(made["read"]))).status == 200
        assert (await lan.ask("GET", path, host="lake.example", **bearer(made["admin"]))).status == 200
        assert (await lan.ask("GET", path, host="evil.example", **bearer(made["admin"]))).status == 421
    for path in PAGES:
        assert (await lan.get(path)).status == 200, "a page in a browser cannot send one, and says nothing of the data"


async def test_only_the_whole_token_is_one_and_never_in_the_address(lan: Asgi, made: Any) -> None:
    token = made["read"]
    for guess in ("", "x", token[:-1], token + "x", token.swapcase(), "null", "*"):
        assert (await lan.ask("GET", "/list", **bearer(guess))).status == 401, guess
    assert (
        await lan.ask("GET", "/list", {"token": token, "access_token": token}, cookie=f"token={token}")
    ).status == 401
    assert (await lan.ask("GET", "/list", authorization=f"Basic {token}")).status == 401


async def test_a_wrong_token_is_no_better_on_loopback(api: Asgi, made: Any) -> None:
    assert (await api.ask("GET", "/list", **bearer("guess"))).status == 401
    assert (await api.ask("GET", "/list", **bearer(made["read"]))).status == 200


async def test_guesses_beyond_a_few_are_answered_late(lan: Asgi, made: Any, clock: ManualClock) -> None:
    for _ in range(FREE):
        assert (await lan.ask("GET", "/list", **bearer("guess"))).status == 401
    late = [asyncio.ensure_future(lan.ask("GET", "/list", **bearer("guess"))) for _ in range(WAITING)]
    while clock.sleeping < WAITING:
        await asyncio.sleep(0)
    assert (await lan.ask("GET", "/list", **bearer("guess"))).status == 429
    assert (await lan.ask("GET", "/list", **bearer(made["read"]))).status == 200, "the token never waits"
    await clock.advance(LATE_SECONDS)
    assert [(await one).status for one in late] == [429] * WAITING


async def test_a_token_ends_when_it_is_revoked_and_at_its_time(lan: Asgi, lake: Path, made: Any, clock: Any) -> None:
    short = tokens.make(lake, "short", "read", T0, T0 + DAY)
    assert (await lan.ask("GET", "/list", **bearer(short))).status == 200
    assert tokens.revoke(lake, "r")
    assert (await lan.ask("GET", "/list", **bearer(made["read"]))).status == 401
    await clock.advance(DAY / 1e6)
    assert (await lan.ask("GET", "/list", **bearer(short))).status == 401


def test_a_token_has_256_bits_and_only_its_hash_is_kept(lake: Path, made: Any) -> None:
    text = (lake / tokens.FILE).read_text()
    assert all(len(token) == 43 and token not in text for token in made.values())
    assert stat.S_IMODE((lake / tokens.FILE).stat().st_mode) == 0o600
    with pytest.raises(tokens.BadTokens, match="there is a token"):
        tokens.make(lake, "r", "read", T0)
    for name in ("", "../x", "a b", "x" * 65, "é"):
        with pytest.raises(WrongQuestion, match="no name"):
            tokens.make(lake, name, "read", T0)
    assert not tokens.revoke(lake, "nobody")


async def test_damaged_tokens_let_nobody_in(lan: Asgi, lake: Path, made: Any) -> None:
    (lake / tokens.FILE).write_text("[{}]")
    said = await lan.ask("GET", "/list", **bearer(made["admin"]))
    assert said.status == 500
    assert "Traceback" not in said.body.decode()


async def test_what_is_too_long_or_too_large_is_refused_before_it_is_read(api: Asgi, made: Any) -> None:
    assert (await api.get("/list", symbol="x" * MAX_TARGET)).status == 414
    admin = bearer(made["admin"])
    assert (await api.ask("POST", "/list", content_length=str(MAX_BODY + 1), **admin)).status == 413
    assert (await api.ask("POST", "/list", content_length="1e3", **admin)).status == 413
    assert (await api.ask("POST", "/list", content_length="-5", **admin)).status == 413


async def test_every_answer_says_how_it_may_be_used(api: Asgi, lan: Asgi) -> None:
    said = [await api.get(path) for path in (*READS, "/health", "/nothing", "/static/swagger-ui.css")]
    said += [await lan.get("/list"), await api.ask("GET", "/list", host="evil.example")]
    for answer in said:
        for name, value in HEADERS.items():
            assert answer.headers[name.decode()] == value.decode(), name
        assert not {"server", "x-powered-by"} & set(answer.headers)


async def test_the_pages_of_the_api_ask_this_server_only(api: Asgi) -> None:
    for path in ("/docs", "/redoc"):
        page = await api.get(path)
        text = page.body.decode()
        policy = page.headers["content-security-policy"]
        assert "'unsafe-inline'" not in policy.split("style-src")[0]
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self' " in policy
        assert len(text) > 500
        assert "http://" not in text
        assert "https://" not in text
        for address in [part.split('"')[0] for part in text.split('src="')[1:] + text.split('href="')[1:]]:
            assert (await api.get(address)).status == 200, address
    assert (await api.get("/static/../app.py")).status == 404


async def test_a_defect_is_one_sentence(api: Asgi, served: Served, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    def fail(**_: Any) -> Any:
        raise RuntimeError("secret-9f31c2 in a traceback")

    monkeypatch.setattr(served.lake, "datasets", fail)
    answer = await api.get("/list")
    assert (answer.status, answer.json()) == (
        500,
        {"detail": "internal error; the log says more", "error": "InternalError"},
    )
    assert said("request_failed")


async def test_so_many_answers_at_a_time_and_then_no_more(served: Served, api: Asgi) -> None:
    for _ in range(served.config.reads_at_once):
        served.reading._take()
    busy = await api.get("/api/v1/read/trade")
    assert (busy.status, busy.headers["retry-after"]) == (429, "1")
    for _ in range(served.config.reads_at_once):
        served.reading._give_back()
    for _ in range(10):
        assert (await api.get("/api/v1/read/trade", format="csv")).status == 200, "each gives its place back"


def test_the_description_is_valid_and_has_examples(lake: Path) -> None:
    held = Served(lake, ServeConfig(), ManualClock(T0))
    described = create(held)._app.openapi()
    held.close()
    assert described["openapi"].startswith("3.1")
    for path, methods in described["paths"].items():
        for told in methods.values():
            assert told["summary"], path
            assert told["responses"]["401"], path
    assert json.dumps(described).count('"examples"') > 20
    assert described["security"] == [{}, {"token": []}], "a page can be given a token"
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
