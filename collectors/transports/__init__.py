"""Transports: a WebSocket connection reduced to the verbs a driver needs; the directory is the registry.

A module `collectors/transports/<name>.py` (or `<name>_.py`, where the name is a library's) offers `connect`. All obey
`tests/conformance/test_transports.py`. `picows` is the default for its speed; `websockets` is the reference that it is
compared with, and what is used where picows cannot be imported.
"""

from __future__ import annotations

import functools
import importlib
import ipaddress
import pkgutil
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

Compression = Literal["off", "deflate"]
"""Whether permessage-deflate (RFC 7692) is offered to the venue, which may decline."""
DEFAULT = "picows"
REFERENCE = "websockets"
BATCH_FRAMES = 256
"""Most frames of one `receive`: what is done before the loop gets another turn."""
TURN_SECONDS = 0.06
"""A live feed wakes the process up for every frame: what is done about them is done once in this time for all of them,
while the data and the code are in the processor's caches. A write pass begins with it: at the default of 50 ms between
passes there is no turn but theirs, and what a pass writes is no older than that.
"""
PING_SECONDS = 20.0
"""A ping goes out this often; a connection that has sent nothing between two of them ends with code 1011."""
UNREAD_SECONDS = 0.1
"""Where it is about to end so it has this long yet: what came while the loop stood still is then read before."""
CLOSE_SECONDS = 2.0
"""How long the peer's part of a closing handshake is waited for."""
PAUSE_BYTES = 8 * 1024 * 1024
PAUSE_FRAMES = 16 * BATCH_FRAMES
"""Reading pauses while more than this is waiting to be received."""
QUOTED = 200
"""Bytes of a refusal's body that are repeated in its reason."""


class TransportError(Exception):
    """Root of a transport's errors; every one of them means: connect again.

    TransportError
     +-- ConnectFailed(reason)      no connection came about
     +-- Closed(code, reason)       the connection is over, whoever ended it
    """


class ConnectFailed(TransportError):
    """The handshake did not succeed: no address, refused, timed out, or answered with something else."""

    def __init__(self, reason: str, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        """HTTP status of the answer, where there was one."""
        self.headers = headers or {}
        """Those of the answer, names in lower case."""


class Closed(TransportError):
    """The connection ended. `code` is the WebSocket close code, 1006 where there was no closing handshake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class Frames(NamedTuple):
    """Frames in order, and when each was read (us): the line after the read of the socket."""

    data: list[bytes]
    times: list[int]


class Transport(Protocol):
    """One open connection. It answers pings by itself and reads no further ahead than it must."""

    async def receive(self) -> Frames:
        """Wait for a frame, then return those that have been read, in order (1 to BATCH_FRAMES; text as UTF-8).

        Where frames come one by one they may be handed over together, with a turn (`runtime.turns`) or up to
        TURN_SECONDS later; their times are those of the reads. Frames read before the end come first, then Closed is
        raised. Cancelling loses nothing.
        """
        ...

    def ready(self) -> Frames:
        """All that has been read and waits to be received, at once; nothing where nothing does.

        For what comes another way, and has its place behind it.
        """
        ...

    async def send(self, text: str) -> None:
        """Send one text frame. Raises Closed."""
        ...

    async def close(self) -> None:
        """End the connection; waits a moment for the peer's closing handshake. Never raises, may be repeated."""
        ...


class Connect(Protocol):
    """What a member offers as `connect`: open a connection, or raise ConnectFailed within `timeout` seconds.

    A message of more than `max_frame` bytes, in one piece or in many, inflated, ends the connection with code 1009;
    it is refused before it is inflated whole. No extension but that of `compression` is offered; a venue that declines
    is read as it is. The certificate of a wss:// address is verified (`tls`). Reads are stamped with `now` (us).
    """

    async def __call__(
        self,
        url: str,
        *,
        max_frame: int,
        timeout: float,  # noqa: ASYNC109 -- the handshake's own limit, part of the contract
        now: Callable[[], int],
        compression: Compression = "off",
    ) -> Transport: ...


def names() -> list[str]:
    """Names of the transports there are."""
    return sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Connect:
    """The `connect` of a transport. Raises ValueError, which lists the known names; ImportError without its library."""
    for module in pkgutil.iter_modules(__path__):
        if module.name.rstrip("_") == name:
            return cast("Connect", importlib.import_module(f"{__name__}.{module.name}").connect)
    raise ValueError(f"unknown transport {name!r}; known transports: {', '.join(names())}")


def load_or_reference(name: str, compression: Compression = "off") -> Connect:
    """The `connect` of a transport; where its library cannot be imported, the reference's, and a line says so.

    `compression` is what it offers unless a call says otherwise.
    """
    try:
        found = load(name)
    except ImportError as error:
        if name == REFERENCE:
            raise
        from runtime import telemetry  # noqa: PLC0415 - the configuration is read before there is anything to say

        telemetry.transport_missing(transport=name, used=REFERENCE, reason=f"{type(error).__name__}: {error}")
        found = load(REFERENCE)
    return found if compression == "off" else functools.partial(found, compression=compression)


@functools.cache
def tls() -> ssl.SSLContext:
    """How every wss:// connection is secured: the system's authorities, the host name checked, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def proxy(url: str) -> str | None:
    """The proxy that the system's settings name for `url`; never one for this machine itself."""
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - a refused start does not wait for it

    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "wss"
    if _loopback(host) or proxy_bypass(f"{host}:{parts.port or (443 if secure else 80)}"):
        return None
    settings = getproxies()
    for scheme in ("wss", "socks", "https") if secure else ("ws", "socks", "https", "http"):
        if scheme in settings:
            found = settings[scheme]
            return "socks5h://" + found[7:] if scheme == "socks" and found.startswith("http://") else found
    return None


def refusal(status: int, phrase: str, headers: Iterable[tuple[str, str]], body: bytes) -> ConnectFailed:
    """A handshake answered with something else, in the venue's own words: its status and how its body begins."""
    words = " ".join(body[:QUOTED].decode(errors="replace").split())
    reason = f"refused: HTTP {status} {phrase}".rstrip()
    lower = {name.lower(): value for name, value in headers}
    return ConnectFailed(f"{reason}: {words}" if words else reason, status=status, headers=lower)


def failure(error: BaseException, url: str) -> ConnectFailed:
    """No connection came about, in words for the operator; what is wrong with a certificate in OpenSSL's."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return ConnectFailed(f"the certificate of {urlsplit(url).hostname} is refused: {cause.verify_message}")
    return ConnectFailed(f"{type(error).__name__}: {error}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
