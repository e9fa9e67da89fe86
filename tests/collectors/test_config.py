"""The collectors' configuration: what is refused, and what an endpoint becomes."""

import pytest
from pydantic import ValidationError

from collectors.config import CollectorsConfig, EndpointConfig, WritingConfig, host_node
from market.session import Endpoint
from market.times import SECOND

SOURCE = {"exchange": "binance", "market_type": "spot", "symbols": ["BTCUSDT"]}


def test_a_source_needs_three_words_only() -> None:
    config = CollectorsConfig.model_validate({"node": "box1", "sources": [SOURCE]})
    assert config.sources[0].kinds == ["trade", "quote"]
    assert config.writing.frames


@pytest.mark.parametrize(
    "change, said",
    [
        ({"market_type": "sport"}, "known: spot, linear"),
        ({"kinds": ["trades"]}, "unknown kind 'trades'; kinds that are collected: trade"),
        ({"kinds": ["bar_1m"]}, "unknown kind 'bar_1m'"),
        ({"kinds": []}, "at least 1 item"),
        ({"symbols": ["BTCUSDT", "BTCUSDT"]}, "'BTCUSDT' is listed twice"),
        ({"symbols": ["BTC USDT"]}, "is no symbol"),
        ({"symbols": ["A" * 65]}, "is no symbol"),
        ({"symbol": "BTCUSDT"}, "Extra inputs"),
        ({"endpoint": {"rest": "ftp://x"}}, "is no http:// or https:// address"),
        ({"endpoint": {"ws": {"public": "https://x"}}}, "is no ws:// or wss:// address"),
    ],
)
def test_a_wrong_source_is_refused_with_what_would_be_right(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CollectorsConfig.model_validate({"sources": [SOURCE | change]})


def test_the_same_stream_in_two_sources_is_refused() -> None:
    with pytest.raises(ValidationError, match="binance spot BTCUSDT trade is listed twice"):
        CollectorsConfig.model_validate({"sources": [SOURCE, SOURCE | {"kinds": ["trade"]}]})


@pytest.mark.parametrize("node", ["", "Box", "a-b", "a" * 33])
def test_a_node_is_letters_and_digits(node: str) -> None:
    with pytest.raises(ValidationError, match="is no node name"):
        CollectorsConfig.model_validate({"node": node})


def test_the_hosts_name_makes_a_node_name() -> None:
    assert CollectorsConfig(node=host_node()).node == host_node()
    assert CollectorsConfig().node == host_node()


VENUE = Endpoint("https://venue.test", {"public": "wss://w.test/public/stream", "spot": "wss://w.test:9443/stream?u=1"})


def test_one_base_address_moves_every_path_of_the_venue() -> None:
    moved = EndpointConfig(rest="http://127.0.0.1:1/spot", ws="ws://127.0.0.1:1/spot/").over(VENUE)
    assert moved.rest == "http://127.0.0.1:1/spot"
    assert moved.ws == {
        "public": "ws://127.0.0.1:1/spot/public/stream",
        "spot": "ws://127.0.0.1:1/spot/stream?u=1",
    }


def test_named_addresses_replace_the_venues_one_by_one() -> None:
    assert EndpointConfig(ws={"public": "wss://other.test/p"}).over(VENUE).ws["public"] == "wss://other.test/p"
    assert EndpointConfig(ws={"public": "wss://other.test/p"}).over(VENUE).ws["spot"] == VENUE.ws["spot"]
    assert EndpointConfig().over(VENUE) == VENUE


def test_each_cadence_has_its_age() -> None:
    config = WritingConfig(seal_seconds=7, slow_seal_seconds=70, reference_seal_seconds=700)
    ages = {kind: config.seal_age(kind) // SECOND for kind in ("trade", "frames", "book_delta", "contract")}
    assert ages == {"trade": 7, "frames": 7, "book_delta": 70, "contract": 700}
