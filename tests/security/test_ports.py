"""The daemon's own ports against web pages, strangers and senseless requests: real sockets, written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import control as control_module
from daemon import http as http_module
from daemon.config import HttpConfig
from daemon.control import MAX_BODY, ControlService
from daemon.http import HEADERS, HttpService
from daemon.status import Status
from lake.lock import read_lock
from lake.writer import LakeWriter
from market import times
from runtime.guesses import EACH_SECONDS, FREE, LATE_SECONDS, WAITING
from tests.support.clock import ManualClock

NOW = times.parse("2026-11-20T10:00:00Z")
CANARY = "canary-9f31c2"


class Services:
    """Nothing runs."""

    def states(self) -> dict[str, str]:
        return {}

    def status(self) -> dict[str, object]:
        return {}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as opened:
        yield opened


@contextlib.asynccontextmanager
async def running(service: Any) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(service.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
async def status(writer: LakeWriter) -> AsyncIterator[int]:
    """The port of /status."""
    service = HttpService("127.0.0.1", 0)
    await service.bind(Status(ManualClock(NOW), writer.manifest, Services(), "live"))
    async with running(service):
        yield int(service.address.rpartition(":")[2])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def jobs(writer: LakeWriter, clock: ManualClock) -> AsyncIterator[tuple[int, str, list[object]]]:
    """The control port, its token, and the jobs that were begun."""
    begun: list[object] = []

    async def job(arguments: Any, _progress: Any) -> object:
        begun.append(arguments)
        return "done"

    async with running(ControlService({"job": job}, writer.set_control, clock)):
        while not (info := read_lock(writer.root)) or not info.port:
            await asyncio.sleep(0.002)
        yield info.port, info.token, begun


async def ask(port: int, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of the answer to a request written by hand."""
    reader, writing = await asyncio.open_connection("127.0.0.1", port)
    try:
        writing.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 60)
    finally:
        writing.close()
        with contextlib.suppress(ConnectionError):
            await writing.wait_closed()
    top, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, rest


def request(method: str = "GET", path: str = "/status", host: str = "127.0.0.1", *more: str) -> str:
    return "\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *more])


def post(token: str | None, body: bytes, *more: str, host: str = "127.0.0.1") -> tuple[str, bytes]:
    right = [f"Authorization: Bearer {token}"] if token is not None else []
    return request("POST", "/control/jobs", host, f"Content-Length: {len(body)}", *right, *more), body


HOSTS = [
    "evil.example", "evil.example:8571", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", "0.0.0.0",
    "[::2]", "127.0.0.1@evil.example", "lake", "", "127.0.0.2",
]  # fmt: skip
PAGES = ["Origin: http://evil.example", "Origin: null", "Origin: http://127.0.0.1:8571", "Sec-Fetch-Site: cross-site"]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_name_that_was_rebound_to_this_machine_is_refused(status: int, jobs: Any, host: str) -> None:
    port, token, begun = jobs
    assert (await ask(status, request(host=host)))[0] in (400, 403)
    assert (await ask(port, *post(token, b'{"job": "job"}', host=host)))[0] in (400, 403)
    assert begun == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9999", "localhost", "localhost:1", "[::1]", "[::1]:8571"])
async def test_the_names_of_this_machine_are_served(status: int, host: str) -> None:
    assert (await ask(status, request(host=host)))[0] == 200


@pytest.mark.parametrize("header", PAGES)
async def test_a_page_of_the_operators_browser_is_refused_even_with_the_token(
    status: int, jobs: Any, header: str
) -> None:
    port, token, begun = jobs
    for path in ("/status", "/metrics", "/health", "/ready"):
        code, headers, _ = await ask(status, request("GET", path, "127.0.0.1", header))
        assert code == 403
        assert "access-control-allow-origin" not in headers
    assert (await ask(port, *post(token, b'{"job": "job"}', header)))[0] == 403
    assert begun == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
async def test_jobs_are_posted_and_nothing_else_is(jobs: Any, method: str) -> None:
    port, token, begun = jobs
    code, headers, _ = await ask(port, request(method, "/control/jobs", "127.0.0.1", f"Authorization: Bearer {token}"))
    assert code == 405
    assert "access-control-allow-methods" not in headers
    assert begun == []


async def test_the_status_port_takes_no_writes_and_has_no_other_pages(status: int) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/status", "/metrics", "/health", "/ready"):
            assert (await ask(status, request(method, path, "127.0.0.1", "Content-Length: 0")))[0] == 405
    for path in (
        "/",
        "/config",
        "/control/jobs",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/status/",
        "/.lock",
        "//x",
    ):
        assert (await ask(status, request("GET", path)))[0] in (400, 404), path


def guesses(token: str) -> list[str | None]:
    flipped = ("B" if token[0] == "A" else "A") + token[1:]
    return [None, "", token[:-1], token + "x", flipped, token.swapcase(), "null", "é" * 20, "*", " " + token[1:]]


async def test_only_the_whole_token_is_a_token_and_never_in_the_address(jobs: Any) -> None:
    port, token, begun = jobs
    for guess in guesses(token):
        assert (await ask(port, *post(guess, b'{"job": "job"}')))[0] == 401, guess
    head = request("POST", f"/control/jobs?token={token}", "127.0.0.1", "Content-Length: 14", f"Cookie: token={token}")
    assert (await ask(port, head, b'{"job": "job"}'))[0] == 401
    assert begun == []
    assert (await ask(port, *post(token, b'{"job": "job"}')))[0] == 200
    assert begun == [{}]


def test_the_token_has_256_bits_is_new_each_time_and_compared_in_equal_time() -> None:
    made = {ControlService({}, lambda _port, _token: None, ManualClock())._token for _ in range(8)}
    assert len(made) == 8
    assert all(len(token) == 43 for token in made), "32 bytes as URL-safe text"
    source = Path(control_module.__file__).read_text(encoding="utf-8")
    assert "hmac.compare_digest(" in source
    assert "self._token ==" not in source


async def test_wrong_tokens_and_foreign_pages_are_told(jobs: Any, said: Any) -> None:
    port, token, _ = jobs
    for _ in range(20):
        await ask(port, *post("guess", b"{}"))
    await ask(port, *post(token, b"{}", "Origin: http://evil.example"))
    lines = said("request_refused")
    assert [line.split(": ")[1] for line in lines] == [
        "its token is wrong or missing", "it comes from a web page or another machine",
    ]  # fmt: skip
    assert token not in "".join(lines)


async def test_guesses_beyond_a_few_are_answered_late_and_the_token_never_is(jobs: Any, clock: ManualClock) -> None:
    port, token, begun = jobs
    for _ in range(FREE):
        assert (await ask(port, *post("guess", b"{}")))[0] == 401
    late = [asyncio.ensure_future(ask(port, *post("guess", b"{}"))) for _ in range(WAITING)]
    while clock.sleeping < WAITING:
        await asyncio.sleep(0)
    code, headers, _ = await ask(port, *post("guess", b"{}"))
    assert (code, headers["retry-after"]) == (429, "3"), "no more of them are kept waiting"
    assert not any(one.done() for one in late)
    assert (await ask(port, *post(token, b'{"job": "job"}')))[0] == 200
    assert begun == [{}]
    await clock.advance(LATE_SECONDS)
    assert [(await one)[0] for one in late] == [429] * WAITING
    await clock.advance(EACH_SECONDS)
    assert (await ask(port, *post("guess", b"{}")))[0] == 401, "one more after a while"


BODIES = [
    b"[" * 60_000, b'{"job":' * 9_000, b'{"job": "job", "arguments": ' + b'{"a":' * 9_000, b"\xff\xfe", b"\0" * 1000,
    b"null", b"[]", b'"job"', b'{"job": 1}', b'{"job": "job", "arguments": []}', b'{"job": "job", "job2": 1}',
    b'{"job": "' + b"x" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:12].decode("latin-1"))
async def test_what_is_no_job_however_deep_is_a_sentence(jobs: Any, body: bytes) -> None:
    port, token, begun = jobs
    code, headers, answer = await ask(port, *post(token, body))
    assert code == 400
    assert headers["content-type"] == "application/json"
    assert set(json.loads(answer)) == {"error"}
    assert b"Traceback" not in answer
    assert begun == []


async def test_a_body_has_an_end(jobs: Any) -> None:
    port, token, begun = jobs
    assert (await ask(port, *post(token, b"x" * (MAX_BODY + 1))))[0] == 413
    head = request("POST", "/control/jobs", "127.0.0.1", f"Authorization: Bearer {token}", "Transfer-Encoding: chunked")
    assert (await ask(port, head, (b"%x\r\n" % (MAX_BODY + 1)) + b"x" * (MAX_BODY + 1) + b"\r\n0\r\n\r\n"))[0] == 413
    assert begun == []


SENSELESS = [
    request("GET", "/" + "a" * 10_000),
    request("GET", "/status", "127.0.0.1", "X: " + "a" * 10_000),
    "GET",
    "\x16\x03\x01\x00",
    "GET /status HTTP/9.9",
    "GET /status HTTP/1.1\nHost 127.0.0.1",
    "GET /status HTTP/1.1\nContent-Length: -1\nHost: localhost",
    "POST /status HTTP/1.1\nHost: localhost\nContent-Length: 5\nTransfer-Encoding: chunked",
    "GET http://evil.example/status HTTP/1.1",
]


@pytest.mark.parametrize("head", SENSELESS, ids=range(len(SENSELESS)))
async def test_a_senseless_request_is_refused_without_a_word_of_the_inside(status: int, head: str) -> None:
    code, _, answer = await ask(status, head)
    assert 400 <= code < 500
    assert b"Traceback" not in answer
    assert b".py" not in answer


async def test_every_answer_says_what_it_is_and_nothing_of_what_made_it(status: int, jobs: Any) -> None:
    port, token, _ = jobs
    answers = [
        await ask(status, request("GET", path)) for path in ("/status", "/metrics", "/health", "/ready", "/nothing")
    ]
    answers += [await ask(status, request("POST", "/status", "127.0.0.1", "Content-Length: 0"))]
    answers += [await ask(status, request("GET", "/status", "evil.example"))]
    answers += [await ask(port, *post(token, b'{"job": "job"}')), await ask(port, *post("x", b"{}"))]
    answers += [await ask(port, *post(token, b"{}")), await ask(port, request("GET", "/control/jobs"))]
    for code, headers, _ in answers:
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value, (code, name)
        assert "server" not in headers
        assert "set-cookie" not in headers
        assert headers["content-type"].split(";")[0] in {"application/json", "text/plain", "application/x-ndjson"}
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]


async def test_a_defect_is_a_word_for_the_asker_and_a_traceback_for_the_log(
    writer: LakeWriter, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError(f"defect with {CANARY}")

    monkeypatch.setattr(Status, "report", broken)
    service = HttpService("127.0.0.1", 0)
    await service.bind(Status(ManualClock(NOW), writer.manifest, Services(), "live"))
    async with running(service):
        code, headers, answer = await ask(int(service.address.rpartition(":")[2]), request())
    assert (code, json.loads(answer)) == (500, {"error": "internal error; the log says more"})
    assert headers["x-content-type-options"] == "nosniff"
    (line,) = said("request_failed")
    assert CANARY in line


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.1.1",
        "10.0.0.1",
        "example.com",
        "",
        "127.0.0.1 ",
        "::ffff:10.0.0.1",
        "*",
        "localhost.evil.example",
    ],
)
def test_the_port_is_on_loopback_and_configuration_cannot_move_it(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        HttpConfig(host=host)


def test_the_control_port_is_on_loopback_whatever_is_configured() -> None:
    source = Path(control_module.__file__).read_text(encoding="utf-8")
    assert 'listen(app, "127.0.0.1", 0,' in source
    assert "enable_cors" not in Path(http_module.__file__).read_text(encoding="utf-8")
