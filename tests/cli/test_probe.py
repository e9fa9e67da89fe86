"""`dl probe` against the simulator: what is as described, what has changed, what is broken, and who does not answer."""

import json

import pytest

from collectors import exchanges
from simulator import venues
from simulator.instruments import named_in, names
from tests.cli.test_commands import ask
from tests.support.live import Simulator, free_port, simulator, write_config

QUICK = ("bybit", "okx")
"""Whose changes are looked at."""


def listed_at(venue, market):
    """The symbol that a venue is asked for, or what its twin lists in its place."""
    held = [named_in(market, name, venues.load(venue).CUSTOM) for name in names(10)]
    liquid = exchanges.load(venue).LIQUID[market]
    return liquid if liquid in held else held[0]


def pointed(folder, running):
    """A configuration with a source of every market of a simulator."""
    venue, sources = running.venue, []
    for market in running.address["rest"]:
        sources.append(
            running.source(market, [listed_at(venue, market)], [next(iter(exchanges.load(venue).OFFERS[market]))])
        )
    return write_config(folder / f"{venue}.json", folder / "lake", sources, free_port())


def probed(config, *options, expect=0):
    done = ask("probe", "--config", config, "--seconds", "4", "--json", *options, expect=expect)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("venue", exchanges.names())
def test_a_twin_keeps_every_contract(venue, tmp_path):
    keeps_every_contract(venue, list(exchanges.load(venue).OFFERS), tmp_path)


def test_a_spot_twin_keeps_every_contract(tmp_path):
    keeps_every_contract("bybit", ["spot"], tmp_path)


def keeps_every_contract(venue, listed, tmp_path):
    markets = ",".join(listed)
    with simulator(tmp_path, "--venue", venue, "--markets", markets, "--rate", "300") as running:
        said = probed(pointed(tmp_path, running), "--keep", tmp_path / "kept", "--report", tmp_path / "report.json")
    found = {(one["market_type"], one["kind"], one["what"]): one for one in said["probed"]}
    assert {one["verdict"] for one in said["probed"]} == {"ok"}, [o for o in said["probed"] if o["verdict"] != "ok"]
    adapter = exchanges.load(venue)
    for market in listed:
        kinds = adapter.OFFERS[market]
        assert {kind for held, kind, what in found if (held, what) == (market, "route")} == set(adapter.POLLS[market])
        streamed = {kind for kind in kinds if adapter.streams(market, [kind], ["X"])}
        assert {kind for held, kind, what in found if (held, what) == (market, "channel")} == streamed
    assert json.loads((tmp_path / "report.json").read_text()) == said
    assert set(said["endings"]) == {venue}
    kept = tmp_path / "kept" / venue / "spot"
    frames = (kept / f"{next(iter(adapter.streams('spot', ['trade'], ['X']))).kind}.frames").read_bytes().splitlines()
    assert frames
    assert all(adapter.described(json.loads(frame))[0] in adapter.SHAPES["spot"] for frame in frames)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Running twins of two venues, with a configuration of each."""
    folder = tmp_path_factory.mktemp("twins")
    running = {one: Simulator(folder / one, "--venue", one, "--markets", "linear", "--rate", "300") for one in QUICK
               if (folder / one).mkdir() is None}  # fmt: skip
    yield {one: (held, pointed(folder / one, held)) for one, held in running.items()}
    for one in running.values():
        one.stop()


FIELDS = {"bybit": ("p", "T"), "okx": ("px", "ts")}


@pytest.mark.parametrize("venue", QUICK)
@pytest.mark.parametrize(
    "form, field, verdict, change", [
        ("added", None, "changed", "added"), ("renamed", 0, "broken", "missing"), ("removed", 0, "broken", "missing"),
        ("scaled", 1, "broken", "unit"),
    ],
)  # fmt: skip
def test_what_a_venue_changes_is_said(twins, venue, form, field, verdict, change):
    running, config = twins[venue]
    text = None if field is None else FIELDS[venue][field]
    running.fault("drift", kind="trade", form=form, text=text, count=1_000_000)
    try:
        said = probed(config, "--kind", "trade", expect=int(verdict == "broken"))
    finally:
        end_faults(running)
    trade = next(one for one in said["probed"] if one["kind"] == "trade")
    assert trade["verdict"] == verdict, trade
    told = {(one["change"], one["path"].rpartition("[].")[2]) for one in trade["changed"]}
    if verdict == "changed" or form == "scaled":
        assert (change, text or "drifted") in told
    assert trade["as_of"] == exchanges.load(venue).AS_OF
    assert json.loads(ask("probe", "--config", config, "--seconds", "4", "--json", "--kind", "trade").stdout)


def end_faults(running):
    import urllib.request

    base = f"{running.address['control']}/faults"
    for fault in json.loads(urllib.request.urlopen(base, timeout=60).read()):
        urllib.request.urlopen(urllib.request.Request(f"{base}/{fault['id']}", method="DELETE"), timeout=60)


def test_a_symbol_that_the_venue_does_not_list_is_refused_in_its_words(twins):
    _, config = twins["bybit"]
    said = probed(config, "--kind", "trade", "--symbol", "NOPEUSDT", expect=1)
    assert {one["verdict"] for one in said["probed"]} == {"refused"}
    assert "handler not found" in next(one for one in said["probed"] if one["what"] == "channel")["answer"]


def test_a_venue_that_does_not_answer_is_said_to_be_unreachable(tmp_path):
    port = free_port()
    base = {"rest": f"http://127.0.0.1:{port}", "ws": f"ws://127.0.0.1:{port}"}
    source = {"exchange": "okx", "market_type": "spot", "symbols": ["BTC-USDT"], "kinds": ["trade"], "endpoint": base}
    config = write_config(tmp_path / "c.json", tmp_path / "lake", [source], free_port())
    done = ask("probe", "--config", config, "--seconds", "2", expect=69)
    assert done.output.count("unreachable") == len(exchanges.load("okx").POLLS["spot"]) + 5
    assert "did not answer" not in done.output
    assert "not as described, or without an answer" in done.output


def test_against_takes_what_a_simulator_printed(twins, tmp_path):
    running, _ = twins["okx"]
    line = tmp_path / "addresses.json"
    for document in (running.address, {"venues": {"okx": running.address}}):
        line.write_text(json.dumps(document))
        done = ask("probe", "okx", "--against", line, "--kind", "mark_price", "--seconds", "4")
        assert "okx       linear  channel mark-price" in done.stdout
        assert "port 8443" in done.stdout, "what is to end is shown too"


@pytest.mark.parametrize(
    "arguments, said", [
        ((), "name one exchange, or --all"), (("okx", "--all"), "name one exchange, or --all"),
        (("mtgox",), "unknown exchange 'mtgox'"), (("okx", "--market-type", "option"), "no such market"),
        (("okx", "--against", "/none/such"), "holds no addresses"), (("okx", "--kind", "vibes"), "vibes"),
    ],
)  # fmt: skip
def test_what_cannot_be_probed_is_refused(arguments, said):
    assert said in ask("probe", *arguments, expect=2).output
