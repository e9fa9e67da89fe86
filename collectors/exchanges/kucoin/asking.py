"""Sessions of KuCoin that only fetch: its envelope, its errors, and what it says of its limits. Pure.

Every answer is `{"code": "200000", "data": …}`; errors come with status 200 and another code, or with their own status.
Nothing in it says when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from collectors.adapters.answers import Failure, asked_pause, header
from collectors.adapters.asking import Failed, PollSession
from collectors.adapters.reading import BAD_FRAME
from market.session import Polled
from market.times import MINUTE, MS

GOOD, LIMITED = "200000", "429000"
RESET_HEADER = "gw-ratelimit-reset"
"""ms until what the pool allows is full again; without it a 429 means that the server is overloaded."""
LONGEST_RESET = MINUTE
_REFUSED = ("400100", "200003", "900001", "300000", "100001")
"""Codes that are the venue's word on the request itself: a wrong parameter, a symbol that it does not know."""
T = TypeVar("T")


class Envelope(msgspec.Struct, gc=False):
    """Every answer; `data` is looked at where the code is GOOD."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_envelope = msgspec.json.Decoder(Envelope).decode


def opened(body: bytes) -> msgspec.Raw:
    """The data of an answer. Raises BAD_FRAME, and Failed where the venue says that there is none."""
    found = _envelope(body)
    if found.code == GOOD:
        return found.data
    reason = f"code {found.code}: {found.msg}"[:300]
    pause = 0 if found.code == LIMITED else None
    code = int(found.code) if found.code.isascii() and found.code.isdigit() and len(found.code) < 10 else None
    raise Failed(Failure(reason, code, found.code in _REFUSED, pause))


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says."""
    pause = asked_pause(status, headers)
    reset = header(headers, RESET_HEADER) or ""
    if pause is not None and reset.isascii() and reset.isdigit() and len(reset) <= 9:
        pause = max(pause, min(int(reset) * MS, LONGEST_RESET))
    try:
        opened(body)
    except Failed as said:
        refused = said.failure.refused and 400 <= status < 500 and pause is None
        return Failure(f"status {status}, {said.failure.reason}"[:300], said.failure.code, refused, pause)
    except BAD_FRAME:
        pass
    return Failure(f"status {status}" if status else "no answer", pause=pause)


class Asking(PollSession):
    """What all of its polls have in common."""

    def __init__(self, session_id: str, polled: Polled, base: str, market: str, weight: int) -> None:
        self._market = market
        super().__init__(session_id, polled, base, weight)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)
