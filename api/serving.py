"""Serving until told to stop: the socket, uvicorn on it, and who may reach it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from api.app import create
from api.config import ServeConfig
from api.sockets import watched
from api.state import Endpoints, Served, own_endpoint
from lake.errors import LakeError
from runtime.addresses import is_loopback
from runtime.clock import Clock

STOP_SECONDS = 5
"""How long answers under way may take to end."""
MAX_HEAD = 32 * 1024
"""Bytes of a request's line and headers."""
CONNECTIONS = 256
"""Sockets at the same time; who comes then is told to come again."""


class NotServed(LakeError):
    """An address that is not served at, since it is taken."""


class WrongAddress(NotServed):
    """One that is none, or that others reach while there is no token."""

    exit_code = 2


def run(
    root: Path,
    config: ServeConfig,
    clock: Clock,
    ready: Callable[[str], None],
    endpoint: Endpoints = own_endpoint,
) -> None:
    """Serve the lake at `root` until SIGINT or SIGTERM; `ready` is told the address.

    Raises NotServed, NotALake, UnknownVersion, CorruptFile.
    """
    served = Served(root, config, clock, endpoint)
    if not is_loopback(config.host) and not served.tokens:
        served.close()
        raise WrongAddress(
            f"other machines can reach {config.host}, and there is no token to ask of them",
            "make one with: dl token NAME, or listen on 127.0.0.1",
        )
    with _listening(config.host, config.port) as listener:
        address = _address(config.host, listener)
        server = server_of(served)
        ready(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, which waits for answers under way when it is told to stop: those without an end end then."""

    def __init__(self, served: Served, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._served = served

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._served.ending = True
        super().handle_exit(sig, frame)


def server_of(served: Served) -> uvicorn.Server:
    """The HTTP server of an application."""
    return _Server(
        served,
        uvicorn.Config(
            create(served, served.config.host),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            http=watched(served.config.answer_seconds),
            h11_max_incomplete_event_size=MAX_HEAD,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_SECONDS,
            proxy_headers=False,
        ),
    )


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises NotServed."""
    try:
        family, kind, number, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise WrongAddress(f"{host} is no address: {error.strerror or error}", "choose another with --host") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen(128)
        except OSError as error:
            said = f"cannot listen on {host}:{port}: {error.strerror or error}"
            raise NotServed(said, "choose another with --port or --host, or serve.port") from error
        yield listener


def _address(host: str, listener: socket.socket) -> str:
    name = listener.getsockname()
    shown = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{'localhost' if host == 'localhost' else shown}:{name[1]}"
