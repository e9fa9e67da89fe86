"""Datasets by name: each has an id that can stand in an address, and is found by words, whatever their case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from api.errors import not_found, wrong
from lake import layout
from lake.inventory import Dataset
from lake.reader import Lake
from market import times
from market.kinds import BARS, KINDS

Sort: TypeAlias = Literal["name", "size", "rows", "modified"]
ALL = "all"
"""In an id: the files of all symbols. No encoded symbol is written so."""
KIND_OF = {"raw": "kline", "ohlcv": "kline", "trades": "trade", "funding": "funding_rate"}
"""Kinds by the names that other lakes give them."""


def id_of(one: Dataset) -> str:
    symbol = ALL if one.symbol is None else layout.encode_name(one.symbol)
    return f"{one.exchange}:{one.market_type}:{one.kind}:{symbol}"


def kind_of(data_type: str | None) -> str | None:
    """The kind that a word means; words that mean none stay as they are."""
    if data_type is None or not data_type.strip():
        return None
    word = data_type.strip().lower()
    return KIND_OF.get(word, word)


def entry(one: Dataset) -> dict[str, Any]:
    """As the models have it."""
    return {
        "id": id_of(one), "exchange": one.exchange, "symbol": one.symbol, "market": one.market_type,
        "timeframe": one.kind.removeprefix("bar_") if one.kind in BARS else None, "data_type": one.kind,
        "file_path": layout.dataset_dir(one.exchange, one.market_type, one.kind, one.symbol),
        "file_size_bytes": one.bytes, "last_modified": _text(one.modified), "time_from": _text(one.ts_min),
        "time_to": _text(one.ts_max), "files": one.files, "rows": one.rows, "days": one.days,
        "verified_days": one.verified_days, "hot": one.hot, "open_gaps": one.open_gaps,
    }  # fmt: skip


def _text(time: int | None) -> str | None:
    return None if time is None else times.text(time)


def found(
    lake: Lake,
    *,
    exchange: str | None,
    market_type: str | None,
    symbol: str | None,
    kind: str | None,
    words: str | None = None,
    sort: Sort = "name",
) -> list[Dataset]:
    """What answers to all filters, whatever the case of their letters; nothing where a kind is none."""  # fmt: skip
    if kind is not None and kind not in KINDS:
        return []
    held: Iterable[Dataset] = lake.datasets(kind=kind, exchange=exchange, market_type=market_type)
    if symbol is not None:
        held = _named(held, symbol.strip())
    for word in (words or "").casefold().split():
        held = [one for one in held if word in id_of(one).casefold() or word in (one.symbol or "").casefold()]
    chosen = list(held)
    orders: dict[Sort, Any] = {
        "size": lambda one: -one.bytes, "rows": lambda one: -one.rows, "modified": lambda one: -(one.modified or 0),
    }  # fmt: skip
    return chosen if sort == "name" else sorted(chosen, key=orders[sort])


def _named(held: Iterable[Dataset], symbol: str) -> list[Dataset]:
    """Those of a symbol however it is spelt; but of a market that has one spelt so, none that only looks like it."""
    plain = _plain(symbol.casefold())
    alike = [one for one in held if one.symbol is not None and _plain(one.symbol.casefold()) == plain]
    for spelt in (str, str.casefold):
        sure = {(one.exchange, one.market_type) for one in alike if spelt(one.symbol or "") == spelt(symbol)}
        alike = [
            one for one in alike
            if (one.exchange, one.market_type) not in sure or spelt(one.symbol or "") == spelt(symbol)
        ]  # fmt: skip
    return alike


def _plain(symbol: str) -> str:
    """`BTC/USDT`, `BTC-USDT` and `BTCUSDT` are the same word to who looks for one."""
    return "".join(char for char in symbol if char.isalnum())


def one_of(lake: Lake, name: str) -> Dataset:
    """The dataset of that id. Raises Refused (no id, no such dataset)."""
    parts = name.split(":", 3)
    if len(parts) != 4:
        raise wrong("an id of a dataset is exchange:market:kind:symbol, as the list of datasets says it")
    exchange, market_type, kind, _ = parts
    if kind in KINDS:
        for one in lake.datasets(kind=kind, exchange=exchange, market_type=market_type):
            if name in (id_of(one), f"{exchange}:{market_type}:{kind}:{one.symbol}"):
                return one
    raise not_found(f"there is no dataset {name[:200]!r}")
