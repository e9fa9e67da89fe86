"""What KuCoin wants before a connection: a token that a REST route gives, for every connection a new one. Pure.

The answer names the address too and how often the venue wants a ping. An address that the operator has configured is
kept; the venue's own must be encrypted.
"""

from __future__ import annotations

import re

import msgspec

from collectors.adapters.asking import Failed
from collectors.adapters.reading import BAD_FRAME, why
from collectors.exchanges.kucoin.asking import failure, opened
from market.admission import Admission
from market.session import Connection, Fetch
from market.times import MINUTE, MS, SECOND

PATH = "/api/v1/bullet-public"
WEIGHT = 10
TAG = "bullet-public"
_TOKEN = re.compile(r"[A-Za-z0-9_\-.=+/%]{1,4096}", re.ASCII).fullmatch
_ADDRESS = re.compile(r"wss://[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._\-/]{0,200})?", re.ASCII).fullmatch


class _Server(msgspec.Struct):
    endpoint: str
    pingInterval: int  # noqa: N815 -- the venue's spelling


class _Bullet(msgspec.Struct):
    token: str
    instanceServers: list[_Server]  # noqa: N815


_bullet = msgspec.json.Decoder(_Bullet).decode


def asked(connection: Connection) -> Fetch | None:
    """The request for a token; None where no REST address is known."""
    if not connection.rest:
        return None
    return Fetch(TAG, "POST", connection.rest.rstrip("/") + PATH, WEIGHT)


def admitted(connection: Connection, default: str, name: str, status: int, body: bytes) -> Admission | str:
    """Where to connect, or why nowhere. `name` is the connection's for the venue; `default` its usual address."""
    if status != 200:
        return failure(status, {}, body).reason
    try:
        found = _bullet(opened(body))
    except Failed as error:
        return str(error)
    except BAD_FRAME as error:
        return f"status 200 without a token: {why(error)}"
    if not found.instanceServers or _TOKEN(found.token) is None:
        return "no server or no token"
    server = found.instanceServers[0]
    address = server.endpoint if connection.url == default else connection.url
    if connection.url == default and _ADDRESS(address) is None:
        return "an address that is not encrypted or none at all"
    every = min(max(server.pingInterval * MS, SECOND), MINUTE)
    joint = "&" if "?" in address else "?"
    return Admission(f"{address}{joint}token={found.token.replace('+', '%2B')}&connectId={name}", every)
