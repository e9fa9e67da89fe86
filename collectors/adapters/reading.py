"""How adapters read what a venue sends: which texts are numbers, which times are possible, and why a frame is refused.

Payloads are strict msgspec structs: a wrong type refuses the frame, unknown keys are skipped. Prices and quantities
stay the venue's texts, levels of a book its bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from market.times import DAY, MINUTE

Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""Far above what it counts to, and far enough below 2^63 that the id after it, and a gap's end, is a 64-bit integer."""
Millis = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]
"""Milliseconds since the epoch; nothing after 2099."""

LAST = 4_102_444_800_000_000
"""2100 in us: a time of the venue's that is not compared with ours lies before it."""
PAST = 7 * DAY
FUTURE = 5 * MINUTE
EARLY = -FUTURE
"""A live frame's receive time minus its venue times lies in [EARLY, PAST]."""
EARLIEST = 1_500_000_000_000_000
"""2017 (us): none of the venues existed before."""
BAD_FRAME = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Everything that msgspec raises for bytes of a peer."""

NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?", re.ASCII).fullmatch
"""A price or quantity as the venue writes it; None where a text is none."""
_NUMBER = r"(?!0[0-9])[0-9]{1,30}+(?:\.[0-9]{1,30}+)?+"  # the same texts, decided without a way back
TWO_NUMBERS = re.compile(" ".join([_NUMBER] * 2), re.ASCII).fullmatch
FOUR_NUMBERS = re.compile(" ".join([_NUMBER] * 4), re.ASCII).fullmatch
"""So many of them with a blank between: a match each would cost twice as much. (None holds a blank, so that two texts
are not taken for three.)
"""
_QUOTED = rb'"%b"' % _NUMBER.encode()
_LEVEL = rb"\[" + _QUOTED + rb"," + _QUOTED + rb"\]"
_COMPACT = re.compile(rb"\[(?:" + _LEVEL + rb"(?:," + _LEVEL + rb")*+)?\]").fullmatch
_levels = msgspec.json.Decoder(list[list[Any]]).decode


def all_good(*texts: str) -> bool:
    """Whether each is a strict decimal that is not negative: no exponent, no sign, no foreign digits."""
    for text in texts:  # noqa: SIM110 -- a generator costs as much as three of the questions
        if NUMBER(text) is None:
            return False
    return True


TOO_LONG = "a volume with more than 30 digits before or behind the point, times what a contract is worth"
"""What a product of two numbers may be: no column holds it, and nothing is rounded (`market.numbers.product`)."""


def good_levels(bids: msgspec.Raw, asks: msgspec.Raw) -> bool:
    """Whether both are a list of [price, quantity, …] with strict decimals that are not negative.

    What a venue sends has no blanks and is decided by one match of its bytes; anything else is decoded and looked at.
    """
    return (_COMPACT(bids) is not None or _good_spelling(bids)) and (_COMPACT(asks) is not None or _good_spelling(asks))


def _good_spelling(side: msgspec.Raw) -> bool:
    try:
        levels = _levels(side)
    except BAD_FRAME:
        return False
    return all(
        len(level) >= 2 and all(isinstance(text, str) and NUMBER(text) is not None for text in level[:2])
        for level in levels
    )


def why(error: Exception) -> str:
    """What is wrong with a frame, in words of ours: rejections are counted by reason, so there must be few."""
    if isinstance(error, msgspec.ValidationError):
        return str(error)[:200]
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
