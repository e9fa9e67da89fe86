"""A lake over HTTP, with the verbs of `Lake`: rows come as Arrow, what goes wrong as typed errors.

    from client import DatalakeClient

    with DatalakeClient("http://127.0.0.1:8572") as lake:
        bars = lake.bars("15m", exchange="binance", symbol="BTCUSDT", start="2026-11-19")   # pyarrow.Table

`AsyncDatalakeClient` has the same verbs, awaited. See docs/client.md.
"""

from __future__ import annotations

from client.aio import AsyncDatalakeClient
from client.errors import (
    AnswerBroken,
    ClientError,
    Conflict,
    Denied,
    NotFound,
    ServerBusy,
    ServerFailed,
    Unreachable,
    WrongQuestion,
)
from client.sync import DatalakeClient

__all__ = [
    "AnswerBroken", "AsyncDatalakeClient", "ClientError", "Conflict", "DatalakeClient", "Denied", "NotFound",
    "ServerBusy", "ServerFailed", "Unreachable", "WrongQuestion",
]  # fmt: skip
