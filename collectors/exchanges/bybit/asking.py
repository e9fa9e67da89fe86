"""Sessions of Bybit that only fetch: its envelope, its errors, and what it says of its limits. Pure.

Every answer is `{"retCode": …, "result": …, "time": …}` with status 200, errors too. An address that asks too much is
answered 403 for ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure, asked_pause, header
from collectors.adapters.asking import Failed, NoData, PollSession
from collectors.adapters.reading import EARLIEST, LAST, Millis
from market.session import Output, Polled
from market.times import MINUTE, MS

FORBIDDEN = 403
FORBIDDEN_PAUSE = 10 * MINUTE
LONGEST_RESET = MINUTE
TOO_MANY = 10006
RESET_HEADER = "x-bapi-limit-reset-timestamp"
"""When (ms) what a route allows is full again."""
_REFUSED = (10001, 10029)
"""Codes that are the venue's word on the request itself: a wrong parameter, a symbol that it does not give."""
T = TypeVar("T")


class Envelope(msgspec.Struct, gc=False):
    """Every answer; `result` is looked at where the code is 0."""

    retCode: int  # noqa: N815 -- the venue's spelling
    retMsg: str = ""  # noqa: N815
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: Millis | None = None


_envelope = msgspec.json.Decoder(Envelope).decode


def opened(body: bytes, headers: Mapping[str, str], now: int) -> Envelope:
    """The envelope of an answer with data. Raises BAD_FRAME, and Failed where the venue says that there is none."""
    found = _envelope(body)
    if found.retCode == 0:
        return found
    pause = None
    if found.retCode == TOO_MANY:
        at = header(headers, RESET_HEADER) or ""
        left = int(at) * MS - now if at.isascii() and at.isdigit() and len(at) <= 13 else 0
        pause = min(max(left, 0), LONGEST_RESET)
    reason = f"retCode {found.retCode}: {found.retMsg}"[:300]
    raise Failed(Failure(reason, found.retCode, found.retCode in _REFUSED, pause))


def failure(status: int, headers: Mapping[str, str]) -> Failure:
    """What another status than 200 says."""
    pause = FORBIDDEN_PAUSE if status == FORBIDDEN else asked_pause(status, headers)
    return Failure(f"status {status}" if status else "no answer", pause=pause)


def time_of(found: Envelope, now: int) -> int:
    """The venue's time (us) of an answer. Raises NoData where it says none that is possible."""
    time = (found.time or 0) * MS
    if not EARLIEST <= time < min(LAST, now + 5 * MINUTE):
        raise NoData("impossible time")
    return time


class Asking(PollSession):
    """What all of its polls have in common."""

    def __init__(self, session_id: str, polled: Polled, base: str, category: str) -> None:
        self._category = category
        self._headers: Mapping[str, str] = {}
        super().__init__(session_id, polled, base, 1)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self._headers = headers
        return super().respond(tag, status, headers, body, ts_recv)

    def _url(self, name: str) -> str:
        return f"{self._base}?category={self._category}&symbol={quote(name, safe='')}"

    def _opened(self, body: bytes, result: msgspec.json.Decoder[T], now: int) -> tuple[T, Envelope]:
        """(result, envelope) of an answer. Raises BAD_FRAME, Failed."""
        found = opened(body, self._headers, now)
        return result.decode(found.result), found

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del body, now
        return failure(status, headers)
