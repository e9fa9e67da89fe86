"""Every kind is declared once, and what is declared fits together."""

import msgspec
import pytest

from market import kinds
from market.errors import MarketError, UnknownKind
from market.instruments import MARKET_SIZING, MARKET_TYPES, check_market_type, unified


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=lambda k: k.name)
def test_key_order_and_checks_name_columns_of_the_kind(kind: kinds.Kind) -> None:
    names = [column.name for column in (*kinds.COMMON, *kind.columns)]
    assert len(names) == len(set(names)), "a column is declared twice"
    assert set(kind.key) <= set(names)
    assert set(kind.order) <= set(names)
    for check in kind.checks:
        assert set(msgspec.structs.asdict(check).values()) <= set(names)


@pytest.mark.parametrize("kind", [k for k in kinds.KINDS.values() if k.struct], ids=lambda k: k.name)
def test_every_field_of_a_line_has_its_column(kind: kinds.Kind) -> None:
    assert kind.struct is not None
    fields = {field.name for field in msgspec.structs.fields(kind.struct)}
    columns = {column.name for column in (*kinds.COMMON, *kind.columns)}
    assert fields - columns <= {"stream", "skew_us"}
    assert columns - fields <= {"exchange", "market_type", "date", "ts_estimated"}
    assert kinds.KIND_OF_EVENT[kind.struct] == kind.name


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownKind, match=r"unknown kind 'trades'; known kinds: trade, agg_trade"):
        kinds.kind("trades")


def test_every_market_has_a_sizing_and_unified_names_follow_ccxt() -> None:
    assert set(MARKET_SIZING) == set(MARKET_TYPES)
    assert unified("BTC", "USDT") == "BTC/USDT"
    assert unified("BTC", "USDT", "USDT", 1798156800 * 1_000_000) == "BTC/USDT:USDT-261225"
    with pytest.raises(MarketError, match="market_type"):
        check_market_type("futures")
