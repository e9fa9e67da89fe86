"""Who may ask: every request passes here first, before a route sees it, and every answer on its way out.

In this order: the Host header (DNS rebinding), where it comes from (Origin, Sec-Fetch-Site), the token and its scope,
how large its body is. Reading is free on loopback; anything else asks for a token, and whatever changes something asks
for one of scope admin everywhere. A wrong token is answered late after a few of them (`runtime.guesses`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

import msgspec

from api.errors import DEFECT, Refused, body_of
from api.tokens import Tokens
from runtime import guarding
from runtime.addresses import is_loopback, is_number
from runtime.clock import Clock
from runtime.guesses import EACH_SECONDS, Guesses

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY = 1024 * 1024
"""Bytes of a request's body, where a route does not say otherwise."""
MAX_TARGET = 8 * 1024
"""Bytes of a path with its question."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}
"""Of every answer; pages have a policy of their own for scripts and styles."""
OPEN = ("/health", "/docs", "/redoc", "/openapi.json", "/static/")
"""What says nothing of the data: a page in a browser cannot send a token."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"", "none", "same-origin"})


class Policy(msgspec.Struct, frozen=True):
    """What is asked of whom. `asks` are paths of questions that are posted: scope read is enough, and needed."""

    host: str
    names: frozenset[str] = frozenset()
    asks: frozenset[str] = frozenset()
    bodies: dict[str, int] = {}
    """path -> bytes of a body, where more than MAX_BODY are possible."""

    @property
    def local(self) -> bool:
        return is_loopback(self.host)

    def knows(self, host: str) -> bool:
        """Whether a Host header is one of ours: an address cannot be rebound, a name must be listed."""
        name = _without_port(host).lower()
        if self.local:
            return name == "localhost" or is_loopback(name) or name in self.names
        return is_number(name) or name in self.names or name in ("localhost", self.host.lower())

    def needs(self, method: str, path: str) -> str | None:
        """The scope that a request must have, None where anybody may."""
        if method not in _SAFE:
            return "read" if path in self.asks else "admin"
        if self.local or any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN):
            return None
        return "read"


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: App, policy: Policy, tokens: Tokens, clock: Clock) -> None:
        self._app = app
        self._policy = policy
        self._tokens = tokens
        self._clock = clock
        self._guesses = Guesses(clock)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            receive = await self._admitted(scope, receive)
            await self._app(scope, receive, answer)
        except Refused as refused:
            if answer.begun:
                raise
            await _refuse(scope, answer, refused)
        except Exception as error:
            guarding.request_failed(path=scope["path"], error=error)
            if not answer.begun:
                failed = Refused(500, DEFECT["detail"], DEFECT["error"])
                await _refuse(scope, answer, failed)
            elif not answer.ended:
                raise  # the answer is cut off: what came of it is not whole

    async def _admitted(self, scope: Message, receive: Receive) -> Receive:
        """How the body may be read. Raises Refused."""
        headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        method, path = scope.get("method", "GET"), scope["path"]
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_TARGET:
            raise Refused(414, f"an address has at most {MAX_TARGET} bytes", "TooLong")
        host = headers.get(b"host", "")
        if not self._policy.knows(host):
            guarding.request_refused(path=path, why="its Host is no name of this server")
            raise Refused(421, "this server is not known by that name; list it in serve.allowed_hosts", "UnknownHost")
        if not _from_here(scope, headers, host):
            guarding.request_refused(path=path, why="it comes from another site's page")
            raise Refused(403, "pages of other sites are not answered", "ForeignPage")
        await self._may(headers, method, path)
        most = self._policy.bodies.get(path, MAX_BODY)
        length = headers.get(b"content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > most:
            raise _too_large(most)
        return _limited(receive, most)

    async def _may(self, headers: MutableMapping[bytes, str], method: str, path: str) -> None:
        """Raises Refused where the token does not allow it."""
        needed, given = self._policy.needs(method, path), headers.get(b"authorization")
        if needed is None and given is None:
            return
        kind, _, token = (given or "").partition(" ")
        scope = self._tokens.scope_of(token.strip(), self._clock.now()) if kind.lower() == "bearer" else None
        if scope is None:
            guarding.request_refused(path=path, why="its token is wrong or missing")
            if given is not None and await self._guesses.too_many():
                raise Refused(429, "too many wrong tokens", "TooMany", {"Retry-After": str(int(EACH_SECONDS))})
            wrong = "" if given is None else "that token is not known here, or is over: "
            said = f"{wrong}a token of scope {needed or 'read'} is asked for (dl token): Authorization: Bearer <token>"
            raise Refused(401, said, "NoToken", {"WWW-Authenticate": "Bearer"})
        if needed == "admin" and scope != "admin":
            raise Refused(403, "this token may read only; changing anything asks for one of scope admin", "ReadOnly")


class _Answer:
    """Passes an answer on, with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            held = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS.items() if name not in held]
            message = {**message, "headers": [*message["headers"], *more]}
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        elif message["type"].startswith("websocket."):
            self.begun = self.begun or message["type"] == "websocket.accept"
        await self._send(message)


def _without_port(host: str) -> str:
    if host.startswith("["):
        inside, closed, _ = host[1:].partition("]")
        return inside if closed else ""
    return host.partition(":")[0]


def _from_here(scope: Message, headers: MutableMapping[bytes, str], host: str) -> bool:
    """Whether no other site's page sent it: a page of ours has our own origin."""
    origin = headers.get(b"origin")
    if origin is None:
        return headers.get(b"sec-fetch-site", "") in _OWN
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return origin in (f"{scheme}://{host}", f"https://{host}")


def _too_large(most: int) -> Refused:
    more = " (serve.upload_mb): dl import and dl features put take larger files" if most > MAX_BODY else ""
    return Refused(413, f"a body has at most {most:,} bytes here{more}", "TooLarge")


def _limited(receive: Receive, most: int) -> Receive:
    """Whatever the header said, no more than `most` bytes of a body are read."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body") or b"")
            if read > most:
                raise _too_large(most)
        return message

    return counted


async def _refuse(scope: Message, send: Send, refused: Refused) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)[:120]})
        return
    body = msgspec.json.encode({**body_of(refused), "error": refused.name})
    headers = list(_headers(refused.headers or {}, body))
    await send({"type": "http.response.start", "status": refused.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(more: Mapping[str, str], body: bytes) -> Iterable[tuple[bytes, bytes]]:
    yield b"content-type", b"application/json"
    yield b"content-length", str(len(body)).encode()
    for name, value in more.items():
        yield name.lower().encode(), value.encode()
