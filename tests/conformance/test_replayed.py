"""Every venue tells its frames apart for a replay: by the channel and symbol that its subscriptions ask for."""

import json
from pathlib import Path

import pytest

from collectors import exchanges, replaying
from market.errors import Malformed
from market.replayed import Filter, Replayed, wanted

FIXTURES = Path(__file__).parent.parent / "fixtures" / "exchanges"
ASKED = {
    (venue, market): asked
    for venue in exchanges.names()
    for market, asked in json.loads((FIXTURES / venue / "replayed.json").read_text()).items()
}
"""(venue, market) -> the `request` that a client sends, the kind whose frames are `taken` by it and one whose frames
are `left`, tardis.dev's `name` of the market."""


def frames(venue, market, kind):
    text = (FIXTURES / venue / market / f"{kind}.frames").read_text()
    return [line.partition(" ")[2].encode() for line in text.splitlines() if line and not line.startswith("#")]


def adapter(venue):
    held = replaying.adapter(venue)
    assert isinstance(held, Replayed)
    return held


@pytest.mark.parametrize("venue", exchanges.names())
def test_frames_of_data_have_a_channel_and_answers_have_none(venue):
    held = adapter(venue)
    assert {market for name, market in ASKED if name == venue}
    for folder in sorted(path for path in (FIXTURES / venue).iterdir() if path.is_dir()):
        assert held.named(folder.name, "X") == held.named(folder.name, "x")
        for path in sorted(folder.glob("*.frames")):
            found = [held.addressed(frame) for frame in frames(venue, folder.name, path.stem)]
            if path.stem == "connection":
                assert found[0] is None, path
            else:
                assert any(found), path
    for nonsense in (b"", b"pong", b"[]", b"{", b"\xff", b"[" * 9000):
        assert held.addressed(nonsense) is None


@pytest.mark.parametrize("venue, market", ASKED)
def test_a_subscription_asks_for_its_frames_and_no_others(venue, market):
    asked, held = ASKED[venue, market], adapter(venue)
    filters = held.subscribed(asked["request"])

    def taken(of):
        found = [address for frame in frames(venue, market, of) if (address := held.addressed(frame)) is not None]
        return [any(one.takes(*address) for one in filters) for address in found]

    assert any(taken(asked["taken"]))
    assert not any(taken(asked["left"]))
    assert held.named(market, asked.get("symbol", "X")) == asked["name"]
    for nonsense in (None, [], {}, 7, "x", {"op": "subscribe"}, {"method": "subscribe", "params": 1}):
        with_error = False
        try:
            found = held.subscribed(nonsense)
        except Malformed:
            with_error = True
        assert with_error or not [one for one in found if one.takes("trade", "X")]


def test_a_channel_is_named_with_what_follows_it_or_without():
    assert Filter("depth").takes("depth@100ms", "btcusdt")
    assert Filter("orderbook").takes("orderbook.50", "X")
    assert not Filter("orderbook.5").takes("orderbook.50", "X")
    assert wanted("t", ["btcusdt"]).takes("t", "BTCUSDT")
    assert wanted("t", ["btcusdt"]).takes("t", "")
    assert not wanted("t", ["btcusdt"]).takes("t", "ETHUSDT")
    for bad in ("", "x" * 129):
        with pytest.raises(Malformed):
            wanted(bad, [])


def test_a_book_that_was_asked_for_is_a_message_of_its_own_channel():
    from collectors.exchanges.binance.replayed import answered

    found = answered("https://x/api/v3/depth?symbol=BTCUSDT&limit=1000", b'{"lastUpdateId":1}')
    assert found == (
        "depthSnapshot", "BTCUSDT",
        b'{"stream":"btcusdt@depthSnapshot","generated":true,"data":{"lastUpdateId":1}}',
    )  # fmt: skip
    assert answered("https://x/api/v3/time", b"{}") is None
    assert answered('https://x/api/v3/depth?symbol="}', b"{}") is None


def test_exchanges_without_an_adapter_keep_their_names():
    assert replaying.adapter("ccxt-gate") is None
    assert [replaying.named("ccxt-gate", market, "X") for market in ("spot", "linear")] == [
        "ccxt-gate",
        "ccxt-gate-linear",
    ]
    assert [replaying.named("okx", "linear", one) for one in ("A-SWAP", "A-241227")] == ["okex-swap", "okex-futures"]
