"""Every exchange has a twin that says what its rows are known by; all of them see one market."""

import json
import statistics

import pytest

from collectors import exchanges
from simulator import signs, venues, witness
from simulator.instruments import listing, names
from simulator.market import Market, Top
from simulator.reality import Reality

START = 1_795_132_800_000_000


@pytest.mark.parametrize("name", exchanges.names())
def test_an_exchange_has_a_twin_of_its_markets_that_tells_what_it_streams(name):
    adapter, twin = exchanges.load(name), venues.load(name)
    assert set(twin.MARKETS) == set(twin.SIGNS) == set(adapter.OFFERS)
    for market, held in twin.SIGNS.items():
        offered = set(held) & set(adapter.OFFERS[market])
        assert offered or market not in adapter.PARSERS or not adapter.PARSERS[market]
        assert all(adapter.streams(market, [kind], ["X"]) for kind in offered), "what is polled is no stream of the log"
        bases = twin.bases(market, "h:1")
        assert bases[0].startswith("http://h:1/")
        assert bases[1].startswith("ws://h:1/")


def test_prices_of_one_base_move_together_wherever_it_is_listed():
    reality, tracks = Reality(7), {}
    for name in venues.names():
        twin = venues.load(name)
        listed = listing(["spot"], names(2), f"7/{name}", 0, twin.CUSTOM, reality)
        market = Market(listed, f"7/{name}", 60.0, START, (), reality)
        for second in range(2, 121, 2):
            tops = [event for event in market.advance(START + second * 1_000_000) if isinstance(event, Top)]
            found = [float(top.bid) for top in tops if top.book.instrument.base == "BTC"]
            tracks.setdefault(name, []).extend(found[-1:])
    moved = {name: track[-1] / track[0] - 1 for name, track in tracks.items()}
    assert min(moved.values()) * max(moved.values()) > 0, moved
    assert max(map(abs, moved.values())) > 5e-5
    assert statistics.pstdev(moved.values()) < 0.3 * abs(statistics.fmean(moved.values())), moved
    last = [track[-1] for track in tracks.values()]
    assert 0 < max(last) / min(last) - 1 < 2e-3


def log_of(tmp_path, *lines):
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in [["start", 1, {}, 5], *lines]))
    return path


def test_events_get_the_numbers_that_the_venue_s_rows_have(tmp_path):
    book = ["book_delta", "spot", "BTC-USDT", 7, "books:BTC-USDT", 7, 6, [["1", "2"]], [], 9000, 9000, [1], {}]
    whole = ["agg_trade", "spot", "BTC-USDT", 4, "1.5", "2", False, 11, 13, 9000, 9000, [1], {}]
    mark = ["mark_price", "linear", "X", 9, "mark-price:X", "linear", "1", "2", "3", 4, 9000, 9000, [1], {}]
    rate = [*mark[:4], "funding-rate:X", *mark[5:]]
    seen = witness.read(log_of(tmp_path, book, whole, mark, rate), venues.load("okx").SIGNS).told
    assert {key[0]: list(told.ids) for key, told in seen.items()} == {
        "book_delta": [21], "agg_trade": [13], "mark_price": [9000],
    }  # fmt: skip


def test_what_has_no_number_is_known_by_time_or_by_what_it_says(tmp_path):
    change = ["book_delta", "spot", "BTC/USDT", 7, "book.25.BTC/USDT", 7, 6, [["1", "2"]], [], 9000, 9000, [1], {}]
    quote = ["quote", "spot", "BTC/USDT", 5, "1.50", "2", "1.60", "3", 9000, 9000, [1], {}]
    fill = ["trade", "linear", "PF_XBTUSD", 40, "1.5", "2", True, "MARKET", 9000, 9000, [1], {}]
    other = ["trade", "linear", "PF_XBTUSD", 41, "1.5", "2", True, "MARKET", 9000, 9000, [1], {}]
    seen = witness.read(log_of(tmp_path, change, change, quote, fill, other), venues.load("kraken").SIGNS).told
    found = {key[0]: list(told.ids) for key, told in seen.items()}
    assert found["book_delta"] == [9000, 9001], "two of one time follow each other"
    assert found["quote"] == [signs.digest(1.5, 2.0, 1.6, 3.0)]
    assert found["liquidation"] == [signs.digest(9000, 1.5, 2.0)], "forced orders are told as trades"
    assert found["trade"] == [40, 41]
