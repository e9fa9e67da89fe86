"""What Kraken's spot REST answers look like: its envelope, its errors, and what it says of its limits. Pure.

Every answer is `{"error": [...], "result": ...}` with status 200, errors too; no header says a limit.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import Failed
from market.times import MINUTE, SECOND

LONGEST_PAUSE = 30 * MINUTE
_REFUSED = ("EQuery:Unknown asset pair", "EGeneral:Invalid arguments")
"""The venue's word on the request itself."""
_LIMITED = ("EAPI:Rate limit exceeded", "EGeneral:Too many requests")
_THROTTLED = "Throttled:"
"""Followed by the time (s) from which on it answers again."""


class Envelope(msgspec.Struct, gc=False):
    """Every answer."""

    error: list[str]
    result: msgspec.Raw = msgspec.Raw(b"{}")


class _Whole(msgspec.Struct, gc=False):
    error: list[str]
    result: msgspec.Raw


_errors = msgspec.json.Decoder(Envelope).decode
_whole = msgspec.json.Decoder(_Whole).decode


def opened(body: bytes, now: int) -> msgspec.Raw:
    """The result of an answer. Raises BAD_FRAME, and Failed where the venue says that there is none."""
    found = _errors(body)
    if not found.error:
        return _whole(body).result
    said = found.error[0]
    pause = 0 if said.startswith(_LIMITED) else None
    if _THROTTLED in said:
        at = said.rpartition(" ")[2].strip("[]")
        left = int(at) * SECOND - now if at.isascii() and at.isdigit() and len(at) <= 10 else 0
        pause = min(max(left, 0), LONGEST_PAUSE)
    raise Failed(Failure(said[:300] or "an error without words", refused=said.startswith(_REFUSED), pause=pause))


def failure(status: int, headers: Mapping[str, str]) -> Failure:
    """What another status than 200 says."""
    return Failure(f"status {status}" if status else "no answer", pause=asked_pause(status, headers))
