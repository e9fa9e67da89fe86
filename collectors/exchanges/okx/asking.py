"""Sessions of OKX that only fetch: its envelope, its errors, and what it says of its limits. Pure.

Every answer is `{"code": "0", "msg": "", "data": […]}`. No header says what is left of a limit; what is too much is
answered with code 50011, with status 429 or 200, and names no pause.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import Failed, PollSession
from collectors.adapters.reading import BAD_FRAME
from market.session import Polled
from market.times import SECOND

TOO_MANY = ("50011", "50013", "50061")
PAUSE = 2 * SECOND
"""After too many requests, at least."""
_REFUSED = ("51000", "51001")
"""Codes that are the venue's word on the request itself: a wrong parameter, an instrument that does not exist."""
SERVERS = 500
ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class Envelope(msgspec.Struct, gc=False):
    """Every answer; `data` is looked at where the code is 0."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_envelope = msgspec.json.Decoder(Envelope).decode


def opened(body: bytes) -> list[msgspec.Raw]:
    """The rows of an answer with data. Raises BAD_FRAME, and Failed where the venue says that there is none."""
    found = _envelope(body)
    if found.code != "0":
        raise Failed(_said(found))
    return ROWS.decode(found.data)


def _said(found: Envelope) -> Failure:
    code = int(found.code) if found.code.isascii() and found.code.isdigit() and len(found.code) < 9 else None
    pause = PAUSE if found.code in TOO_MANY else None
    return Failure(f"code {found.code}: {found.msg}"[:300], code, found.code in _REFUSED, pause)


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says: the venue's code, where the body has one."""
    asked = asked_pause(status, headers)
    try:
        said = _said(_envelope(body))
    except BAD_FRAME:
        return Failure(f"status {status}" if status else "no answer", pause=asked)
    pause = said.pause if asked is None else max(asked, PAUSE)
    refused = said.refused and status < SERVERS  # what fails there is no word on the request
    return Failure(f"status {status}, {said.reason}"[:300], said.code, refused, pause)


class Asking(PollSession):
    """What all of its polls have in common."""

    weight = 1

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        super().__init__(session_id, polled, base, self.weight)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)
