"""What an HTTP answer that is no data says, and how patiently to ask again. Pure.

Status 429 and 418, 5xx, HTML with status 200 and bodies that end early are never data. A refusal is the venue's word
on the request itself (an unknown symbol): asking the same again soon changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from market.times import HOUR, SECOND

FIRST_PAUSE = 5 * SECOND
LONGEST_PAUSE = 300 * SECOND
REFUSED_PAUSE = HOUR
"""Until what was refused is asked for again: a symbol may be listed later."""
LONGEST_BAN = 3 * 24 * HOUR
BANNED, LIMITED = 418, 429


class Failure(msgspec.Struct, frozen=True):
    """An answer that has no data. `pause` (us) is what the venue asked for, where it did."""

    reason: str
    code: int | None = None
    refused: bool = False
    pause: int | None = None

    @property
    def limited(self) -> bool:
        """Whether the venue asked for silence."""
        return self.pause is not None


def longer(pause: int) -> int:
    """The pause after one that did not help."""
    return min(pause * 2, LONGEST_PAUSE)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header whose name is given in lower case."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def seconds(text: str | None) -> int | None:
    """Retry-After in us where it is a number of seconds; bounded by the longest ban that a venue names."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return min(int(text) * SECOND, LONGEST_BAN)


def asked_pause(status: int, headers: Mapping[str, str]) -> int | None:
    """The silence (us) that a status asks for: 0 where it does not say how long, None where it asks for none."""
    if status not in (LIMITED, BANNED):
        return None
    return seconds(header(headers, "retry-after")) or 0
