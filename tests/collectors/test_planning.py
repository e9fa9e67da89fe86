"""Planning of connections: little moves, nothing is lost or carried twice, and the same twice changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import exchanges, patterns
from collectors.planning import Changes, Want, changes, plan
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import Connection, Endpoint, Limits, Stream
from market.times import HOUR, SECOND

SIZE = 6
ENDPOINT = Endpoint("http://v.test", {"p": "ws://v.test/p", "m": "ws://v.test/m"})
PATHS = {"trade": "p", "quote": "p", "kline": "m"}


def streams(
    _market: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    chosen = channels or {}
    return [Stream(f"{s}@{chosen.get(k, k)}", k, s, k, contiguous=False) for k in kinds for s in dict.fromkeys(symbols)]


def connections(market: str, wanted: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    return [
        Connection("v", market, f"v-{market}-{path}-{number}", endpoint.ws[path], group)
        for path in sorted({PATHS[s.kind] for s in wanted})
        for number, group in enumerate(groups([s for s in wanted if PATHS[s.kind] == path], SIZE), 1)
    ]


VENUE = SimpleNamespace(
    NAME="v", streams=streams, connections=connections,
    LIMITS={"spot": Limits(SIZE, 10, 1.0, 300, SECOND, 24 * HOUR, SECOND, SECOND)},
)  # fmt: skip


def want(symbols: str, kinds: str = "trade quote", **more: object) -> Want:
    held = {"endpoint": ENDPOINT, **more}
    return Want(VENUE, "spot", kinds.split(), symbols.split(), **held)


def step(old: Sequence[Connection], *wants: Want) -> Changes:
    return changes(old, plan(wants), lambda _connection: VENUE)


def home(held: Sequence[Connection]) -> dict[str, str]:
    return {stream.name: connection.name.removesuffix("-a") for connection in held for stream in connection.streams
            if not connection.name.endswith("-b")}  # fmt: skip


SYMBOLS = st.sets(st.sampled_from([f"S{n:02}" for n in range(14)]), max_size=12)
SOURCE = st.tuples(
    SYMBOLS, st.sets(st.sampled_from(sorted(PATHS)), min_size=1), st.sampled_from([1, 2]), st.sampled_from([100, 1000])
)
CONFIG = st.lists(SOURCE, max_size=3)


def wants_of(config: list[tuple[set[str], set[str], int, int]]) -> list[Want]:
    return [
        want(" ".join(sorted(symbols)), " ".join(sorted(kinds)), redundancy=twins, asking={"book_levels": levels})
        for symbols, kinds, twins, levels in config
    ]


def check(held: Sequence[Connection], wants: list[Want]) -> None:
    names = [connection.name for connection in held]
    assert len(set(names)) == len(names)
    asked = {s.name for w in wants for s in streams("spot", w.kinds, w.symbols)}
    carried = Counter(s.name for c in held if not c.name.endswith("-b") for s in c.streams)
    assert set(carried) == asked
    assert not carried or max(carried.values()) == 1
    twins = {c.name: c for c in held if c.name.endswith(("-a", "-b"))}
    for name, connection in twins.items():
        other = twins[name[:-1] + ("b" if name.endswith("a") else "a")]
        assert other.streams == connection.streams
        assert other.url == connection.url
        assert connection.age == (12 * HOUR if name.endswith("b") else 0)
    assert all(0 < len(connection.streams) <= SIZE for connection in held)
    assert all(connection.age == 0 for connection in held if connection.name not in twins)
    first: dict[str, Want] = {}
    for w in wants:
        for s in streams("spot", w.kinds, w.symbols):
            first.setdefault(s.name, w)
    for connection in held:
        for stream in connection.streams:
            asking = first[stream.name]
            assert connection.book_levels == asking.asking.get("book_levels", 1000)
            assert (connection.name in twins) == (asking.redundancy == 2)


@given(st.lists(CONFIG, min_size=1, max_size=5))
def test_however_the_configuration_changes_nothing_is_lost_or_twice_and_limits_are_kept(configs: list) -> None:
    held: tuple[Connection, ...] = ()
    for config in configs:
        wants = wants_of(config)
        found = step(held, *wants)
        assert {c.name for c in found.keep} | set(found.replan) | set(found.retire) == {c.name for c in held}
        before, after = home(held), home(found.result)
        assert {s.name for s in found.added} == set(after) - set(before)
        assert {s.name for s in found.removed} == set(before) - set(after)
        assert found.moved == {n for n in before.keys() & after.keys() if before[n] != after[n]}
        held = found.result
        check(held, wants)
        assert step(held, *wants).nothing


@given(CONFIG)
def test_planning_the_same_twice_changes_nothing(config: list) -> None:
    wants = wants_of(config)
    planned = plan(wants)
    check(planned, wants)
    assert plan(wants) == planned
    found = changes(planned, plan(wants), lambda _connection: VENUE)
    assert found.nothing
    assert list(found.keep) == planned


@given(SYMBOLS, SYMBOLS)
def test_a_change_of_symbols_moves_no_stream_and_touches_as_few_connections_as_it_can(one: set, two: set) -> None:
    held = plan([want(" ".join(sorted(one)))])
    found = step(held, want(" ".join(sorted(two))))
    assert found.moved == frozenset()
    removed = {c.name for c in held if any(s.symbol not in two for s in c.streams)}
    grown = [c for n, c in found.replan.items() if n not in removed]
    assert len(grown) <= -(-2 * len(two - one) // 2)
    assert set(found.retire) <= removed


def test_a_removed_symbol_leaves_every_other_where_it_is() -> None:
    held = plan([want("A B C D E F G H I", "trade")])
    assert [len(c.streams) for c in held] == [5, 4]
    found = step(held, want("B C D E F G H I", "trade"))
    assert found.keep == (held[1],)
    assert [s.symbol for s in found.replan[held[0].name].streams] == ["B", "C", "D", "E"]
    assert (found.retire, found.add, [s.name for s in found.removed]) == ((), (), ["A@trade"])


def test_a_new_symbol_goes_where_there_is_room_and_a_new_kind_beside_its_symbol() -> None:
    held = plan([want("A B C D E F G H I", "trade")])
    found = step(held, want("A B C D E F G H I X", "trade"))
    assert [s.symbol for s in found.replan["v-spot-p-2"].streams] == ["F", "G", "H", "I", "X"]
    found = step(held, *[want("A B C D E F G H I", "trade"), want("B", "quote")])
    assert "B@quote" in {s.name for s in found.replan["v-spot-p-1"].streams}


def test_full_connections_are_left_alone_and_a_new_one_is_opened_under_a_free_number() -> None:
    held = plan([want("A B C D E F", "trade")])
    found = step(held, want("A B C D E F X", "trade"))
    assert list(found.keep) == held
    assert [(c.name, len(c.streams)) for c in found.add] == [("v-spot-p-2", 1)]
    found = step(found.result, want("X", "trade"))
    assert found.retire == ("v-spot-p-1",)
    assert [c.name for c in step(found.result, want("X A B C D E F", "trade")).result] == ["v-spot-p-2", "v-spot-p-1"]


def test_twins_come_and_go_beside_a_connection_that_stays() -> None:
    (single,) = plan([want("A B")])
    found = step([single], want("A B", redundancy=2))
    assert {n: c.name for n, c in found.replan.items()} == {"v-spot-p-1": "v-spot-p-1-a"}
    assert [(c.name, c.age) for c in found.add] == [("v-spot-p-1-b", 12 * HOUR)]
    back = step(found.result, want("A B"))
    assert {n: c.name for n, c in back.replan.items()} == {"v-spot-p-1-a": "v-spot-p-1"}
    assert back.retire == ("v-spot-p-1-b",)
    assert back.result == (single,)
    assert (back.added, back.removed, back.moved) == ((), (), frozenset())


def test_another_address_takes_the_connections_along() -> None:
    held = plan([want("A B")])
    elsewhere = Endpoint("http://w.test", {"p": "ws://w.test/p", "m": "ws://w.test/m"})
    found = step(held, want("A B", endpoint=elsewhere))
    assert [(n, c.url) for n, c in found.replan.items()] == [("v-spot-p-1", "ws://w.test/p")]
    assert found.moved == frozenset()


def test_a_stream_that_changes_its_source_moves_and_is_said_to() -> None:
    held = plan([want("A B C", "trade", asking={"book_levels": 100}), want("D E", "trade")])
    found = step(held, want("A B", "trade", asking={"book_levels": 100}), want("C D E", "trade"))
    assert found.moved == {"C@trade"}
    assert (found.added, found.removed) == ((), ())


def test_two_sources_of_one_market_have_connections_of_different_names() -> None:
    assert [c.name for c in plan([want("A"), want("B")])] == ["v-spot-p-1", "v-spot-p-2"]


def test_binance_is_planned_within_its_limits_and_replanned_with_little_change() -> None:
    venue = exchanges.load("binance")
    symbols = [f"S{n:03}USDT" for n in range(300)]

    def planned(symbols: list[str]) -> list[Connection]:
        kinds = ["trade", "quote", "kline", "book_delta"]
        return plan([Want(venue, "linear", kinds, symbols, venue.ENDPOINTS["linear"])])

    held = planned(symbols)
    assert max(len(c.streams) for c in held) <= venue.LIMITS["linear"].streams_per_connection
    found = changes(held, planned([*symbols[1:], "NEWUSDT"]), lambda _connection: venue)
    assert len(found.replan) <= 4
    assert (found.add, found.retire, found.moved) == ((), (), frozenset())
    assert {s.symbol for s in found.added} == {"NEWUSDT"}
    with pytest.raises(Malformed):
        plan([Want(venue, "linear", ["funding"], symbols, venue.ENDPOINTS["linear"])])


# --- patterns ---

KNOWN = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "USDCUSDT": "TRADING", "ETHBTC": "TRADING", "OLDUSDT": "CLOSE",
         "RESTUSDT": "BREAK"}  # fmt: skip


def resolve(*entries: str, known: Mapping[str, str] = KNOWN, held: Sequence[str] = ()) -> patterns.Resolved:
    return patterns.resolve(entries, known, {"TRADING"}, {"CLOSE"}, held)


def test_a_pattern_means_what_trades_and_is_not_excluded() -> None:
    assert resolve("*USDT", "!USDC*").symbols == ("BTCUSDT", "ETHUSDT")
    assert resolve("???BTC", "BTCUSDT").symbols == ("BTCUSDT", "ETHBTC")
    assert resolve("*").symbols == ("BTCUSDT", "ETHBTC", "ETHUSDT", "USDCUSDT")
    assert resolve("[A-Z]*", "B.C*") == patterns.Resolved((), ("[A-Z]*", "B.C*"))
    assert resolve("XYZ", "*EUR") == patterns.Resolved(("XYZ",), ("*EUR",))


def test_what_is_collected_stays_through_a_pause_until_it_is_over() -> None:
    assert "RESTUSDT" not in resolve("*USDT").symbols
    assert "RESTUSDT" in resolve("*USDT", held=["RESTUSDT", "OLDUSDT"]).symbols
    assert "OLDUSDT" not in resolve("*USDT", held=["OLDUSDT"]).symbols
    assert "GONEUSDT" not in resolve("*USDT", held=["GONEUSDT"]).symbols


def test_a_name_is_taken_as_given_until_the_venue_says_that_it_is_over() -> None:
    assert resolve("XYZ", "BTCUSDT", "RESTUSDT").symbols == ("XYZ", "BTCUSDT", "RESTUSDT")
    assert resolve("OLDUSDT", "BTCUSDT", held=["OLDUSDT"]).symbols == ("BTCUSDT",)


def test_exclusions_need_a_pattern_to_exclude_from() -> None:
    assert patterns.problem(["*USDT", "!USDCUSDT"]) is None
    assert patterns.problem(["BTCUSDT"]) is None
    assert "there is none" in (patterns.problem(["BTCUSDT", "!ETHUSDT"]) or "")
    assert "both listed and excluded" in (patterns.problem(["*", "BTCUSDT", "!BTCUSDT"]) or "")


@given(SYMBOLS, SYMBOLS)
def test_resolving_is_independent_of_order_and_never_gives_one_twice(known: set, held: set) -> None:
    status = {symbol: ("TRADING", "BREAK", "CLOSE")[int(symbol[1:]) % 3] for symbol in known}
    once = resolve("S0*", "S1?", "S01", "!S05", known=status, held=sorted(held))
    again = resolve("S0*", "S1?", "S01", "!S05", known=dict(reversed(status.items())), held=sorted(held, reverse=True))
    assert once == again
    assert len(set(once.symbols)) == len(once.symbols)
    assert set(once.symbols) - {"S01"} <= set(known)
