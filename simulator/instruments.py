"""What the simulated venue lists: names, prices and quantities' grains, and how busy each symbol is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping

import msgspec

from simulator.reality import BASIS, Reality

MARKETS = ("spot", "linear", "inverse")
QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "BTC", "ETH", "EUR")
_KNOWN: dict[str, tuple[float | None, int, int, int]] = {
    # base: (price, price decimals, quantity decimals on spot, quantity decimals on linear); inverse counts contracts
    "BTC": (64000.0, 2, 5, 3),
    "ETH": (3100.0, 2, 4, 3),
    "SOL": (148.0, 2, 3, 2),
    "BNB": (590.0, 2, 3, 2),
    "XRP": (0.62, 4, 0, 1),
    "DOGE": (0.13, 5, 0, 0),
    "ADA": (0.45, 4, 1, 0),
    "TRX": (0.12, 5, 1, 0),
    "AVAX": (27.0, 2, 2, 0),
    "LINK": (14.0, 2, 2, 2),
    "DOT": (6.2, 3, 2, 1),
    "LTC": (71.0, 2, 3, 3),
    "1000PEPE": (0.0118, 7, 0, 0),
    "ATOM": (6.9, 3, 2, 2),
    "UNI": (7.8, 3, 2, 0),
    "FIL": (4.5, 3, 2, 1),
}
SLOTS = 1 << 14
LEAST_TICKS = 5000
"""A price is at least so many ticks, where a venue has coarser ones."""


class Custom(msgspec.Struct, frozen=True):
    """How a venue names and sizes what it lists."""

    coin_margined: str = "USD_PERP"
    """What stands behind the base where coins are the margin."""
    contract_size: int = 0
    """USD a contract of those; 0: 100 of BTC, 10 of others."""
    odd_prints: bool = True
    """Whether the stream of linear trades tells prints that are no market trades."""
    names: Mapping[str, str] = {}
    """Market -> how it spells a symbol: `{base}-{quote}`; what is joined by dashes is parted there."""
    spelt: Callable[[str, str, str], str] | None = None
    """(market, base, quote) -> the venue's name, where it is not base and quote in one word."""
    read: Callable[[str], tuple[str, str] | None] | None = None
    """Base and quote of a name of the venue's; None where it is none."""
    linear_contracts: bool = False
    """Whether quantities of linear markets are contracts, whole numbers."""
    coarser: Mapping[str, int] = {}
    """Market -> how many decimals fewer its prices have than Binance's."""


BINANCE = Custom()


class Instrument(msgspec.Struct, frozen=True):
    """One listed symbol. Prices are whole multiples of 10^-price_decimals, quantities of 10^-qty_decimals."""

    market: str
    symbol: str
    base: str
    quote: str
    price_decimals: int
    qty_decimals: int
    start_ticks: int
    first_id: int
    """Trade, aggregate and book ids start near here; the same for the same seed."""
    contract_size: int = 0
    """What one contract is worth in the quote, where quantities are contracts; 0 elsewhere."""
    odd_prints: bool = True


def split(symbol: str, custom: Custom = BINANCE) -> tuple[str, str]:
    """Base and quote of a made-up symbol: the quote is the longest known ending, USDT where there is none.

    `BTCUSD_PERP` (`BTCUSD` at other venues) is margined in its base.
    """
    if custom.names and "-" in symbol:
        base, quote, *_ = symbol.split("-")
        return base, quote
    if custom.read is not None and (found := custom.read(symbol)) is not None:
        return found
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    if symbol.endswith(custom.coin_margined) and len(symbol) > len(custom.coin_margined):
        return symbol[: -len(custom.coin_margined)], "USD"
    return symbol, "USDT"


def named_in(market: str, symbol: str, custom: Custom = BINANCE) -> str:
    """What a symbol is called in a market: BTCUSDT is BTCUSD_PERP where coins are the margin, and the other way."""
    base, quote = split(symbol, custom)
    if market in custom.names:
        dollars = "USD" if market == "inverse" else "USDT" if quote == "USD" else quote
        return custom.names[market].format(base=base, quote=dollars)
    if custom.spelt is not None:
        return custom.spelt(market, base, quote)
    if market == "inverse":
        return base + custom.coin_margined
    return f"{base}USDT" if quote == "USD" else symbol


def names(count: int) -> list[str]:
    """`count` symbol names: the known ones first, then SIM0017USDT and so on."""
    known = [f"{base}USDT" for base in _KNOWN]
    return (known + [f"SIM{n:04d}USDT" for n in range(len(known), count)])[:count]


def dormant(symbols: list[str], count: int) -> list[str]:
    """Names of `count` symbols that are none of `symbols`: made up, after them in the order of `names`."""
    free = (f"SIM{n:04d}USDT" for n in range(len(_KNOWN), 10_000))
    return list(itertools.islice((name for name in free if name not in symbols), count))


def listing(
    markets: list[str],
    symbols: list[str],
    seed: object,
    id_shift: int = 0,
    custom: Custom = BINANCE,
    reality: Reality | None = None,
) -> list[Instrument]:
    """The instruments of every market, drawn from the seed; `id_shift` moves all first ids up.

    Prices begin near those of the `reality` that several venues may share.
    """
    out = []
    reality = reality or Reality(seed)
    for market in markets:
        spelt = {named_in(market, symbol, custom): symbol for symbol in reversed(symbols)}
        for symbol in dict.fromkeys(named_in(market, symbol, custom) for symbol in symbols):
            chance = random.Random(f"{seed}/{market}/{symbol}")
            base, quote = split(symbol if custom.spelt is None or custom.read is not None else spelt[symbol], custom)
            known, decimals, spot_qty, linear_qty = _KNOWN.get(base, (None, 4, 1, 0))
            price = reality.first(base, known) * (1 + chance.uniform(-BASIS, BASIS))
            fewer = decimals - custom.coarser.get(market, 0)
            if fewer >= 0 and price * 10**fewer >= LEAST_TICKS:
                decimals = fewer
            linear_qty = 0 if custom.linear_contracts else linear_qty
            size = (custom.contract_size or (100 if base == "BTC" else 10)) if market == "inverse" else 0
            out.append(
                Instrument(
                    market=market,
                    symbol=symbol,
                    base=base,
                    quote=quote,
                    price_decimals=decimals,
                    qty_decimals={"spot": spot_qty, "linear": linear_qty}.get(market, 0),
                    start_ticks=max(1000, round(price * 10**decimals)),
                    first_id=chance.randrange(10**6, 10**8) + id_shift,
                    contract_size=size,
                    odd_prints=custom.odd_prints,
                )
            )
    return out


def activity(count: int) -> list[int]:
    """About SLOTS indices below `count`: index i in proportion to (i + 1)^-0.7, each at least once."""
    weights = [(rank + 1) ** -0.7 for rank in range(count)]
    total = sum(weights)
    shares = [max(1, int(SLOTS * weight / total)) for weight in weights]
    return [index for index, share in enumerate(shares) for _ in range(share)]
