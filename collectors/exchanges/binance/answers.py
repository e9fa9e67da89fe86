"""What an HTTP answer of Binance that is no data says. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.adapters.answers import BANNED, LIMITED, Failure, asked_pause
from collectors.exchanges.binance import wire

INVALID_SYMBOL = -1121
_PASSING = (-1003, -1007, -1008, -1016)
"""Codes that say nothing of the request: too many of them, timeout, overloaded, maintenance."""
_BLOCKED = (403, 408, BANNED, LIMITED, 451)


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an answer says that has no data; status 0 is no answer at all."""
    try:
        problem = wire.problem(body)
    except wire.BAD_FRAME:
        problem = None
    code = problem.code if problem is not None else None
    said = f" {problem.code}: {problem.msg}" if problem is not None else ""
    refused = 400 <= status < 500 and status not in _BLOCKED and code is not None and code not in _PASSING
    reason = f"status {status}{said}" if status else "no answer"
    return Failure(reason[:300], code, refused, asked_pause(status, headers))
