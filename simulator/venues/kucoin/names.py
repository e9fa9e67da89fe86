"""How KuCoin spells what it lists: `BTC-USDT` on spot, `XBTUSDTM` and `XBTUSDM` on futures."""

from __future__ import annotations

QUOTES = ("USDT", "USDC", "USD")
_THEIRS = {"BTC": "XBT"}
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}


def currency(name: str) -> str:
    """What futures call a currency."""
    return _THEIRS.get(name, name)


def spell(market: str, base: str, quote: str) -> str:
    """The venue's name of a symbol: dollars are the quote where coins are the margin, USDT elsewhere."""
    quote = "USD" if market == "inverse" else "USDT" if quote == "USD" else quote
    return f"{base}-{quote}" if market == "spot" else f"{currency(base)}{quote}M"


def read(symbol: str) -> tuple[str, str] | None:
    """Base and quote of a name of the venue's; None for what is none."""
    base, dash, quote = symbol.partition("-")
    if dash:
        return base, quote
    for quote in QUOTES:
        if symbol.endswith(f"{quote}M") and len(symbol) > len(quote) + 1:
            base = symbol[: -len(quote) - 1]
            return _OURS.get(base, base), quote
    return None
