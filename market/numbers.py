"""Prices and quantities as the venue's own digits: which texts are numbers, and how they become integers and back.

A number travels as text from the frame to the table. This module says which texts are numbers, compares and
canonicalises them, and scales them to integers; the vectorised twins of these rules are in `lake.scaled`.
"""

import re

from market.errors import Malformed

DECIMAL_PATTERN = r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?"
"""A strict decimal (ASCII digits, no exponent, no sign but minus, no leading zero): `NaN`, `inf`, `1_000`, `1e5` and
Arabic digits are no numbers. At most 30 digits on either side."""

_DECIMAL = re.compile(DECIMAL_PATTERN, re.ASCII)


def is_decimal(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None


def plain(text: str) -> str:
    """Canonical form: no trailing zeros after the point, no bare point, no negative zero. Raises Malformed."""
    if not is_decimal(text):
        raise Malformed("decimal", text)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def decimals(text: str) -> int:
    """Digits after the point that matter: 2 for `0.250`. Raises Malformed."""
    short = plain(text)
    return len(short) - short.index(".") - 1 if "." in short else 0


def scale(text: str, exponent: int) -> int:
    """`text` x 10^exponent as an exact integer. Raises Malformed where digits would be lost."""
    short = plain(text)
    whole, _, fraction = short.partition(".")
    if len(fraction) > exponent:
        raise Malformed(f"decimal (more than {exponent} decimals)", text)
    return int(whole + fraction.ljust(exponent, "0"))


def unscale(value: int, exponent: int) -> str:
    """The plain decimal text of value / 10^exponent; a sum may have more digits than a venue's number."""
    if exponent == 0 or value == 0:
        return str(value)
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(exponent + 1, "0")
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}".rstrip("0").rstrip(".")


def product(left: str, right: str) -> str | None:
    """Left x right, exactly, as plain text; None where that has more digits than a number may. Raises Malformed."""
    exponents = decimals(left), decimals(right)
    text = unscale(scale(left, exponents[0]) * scale(right, exponents[1]), sum(exponents))
    return text if is_decimal(text) else None
