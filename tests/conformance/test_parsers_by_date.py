"""Every venue's sessions read a frame by the rules of its day: one suite, with a change of rules that is made up."""

import importlib
import importlib.util

import msgspec
import pytest

from collectors import exchanges
from collectors.adapters.dated import Dated
from market.kinds import Event
from market.session import Rejected
from market.times import date_of, parse
from tests.conformance.test_exchanges import frames_of, learning

MADE = [
    (name, market)
    for name in exchanges.names()
    for market in exchanges.load(name).OFFERS
    if exchanges.load(name).streams(market, ["trade"] if "trade" in exchanges.load(name).OFFERS[market] else [], ["X"])
]
OTHER_RULES = "by the rules of before"


def dated(venue, market, change, monkeypatch):
    """Let every parser of a market be one that holds since `change`; the one before it refuses everything."""

    def before(session, _frame, _ts_recv, number):
        return (Rejected(OTHER_RULES, number),)

    folder = f"collectors.exchanges.{venue}"
    own = importlib.util.find_spec(f"{folder}.{market}")  # a venue's markets share one table, or each has a module
    module = importlib.import_module(f"{folder}.{market if own else 'markets'}")
    channels = module.CHANNELS if own else module.CHANNELS[market]
    if not hasattr(next(iter(channels.values())), "maker"):  # its frames are read by a word in them
        for readers in (held for name, held in vars(module).items() if name.endswith("READERS")):
            for word, read in list(readers.items()):
                monkeypatch.setitem(readers, word, Dated(before, (change, read)))
        return
    for name, channel in list(channels.items()):
        made = channel.maker.held[-1] if isinstance(channel.maker, Dated) else channel.maker
        old = lambda session, *_: lambda *given: before(session, *given)  # noqa: E731
        monkeypatch.setitem(channels, name, msgspec.structs.replace(channel, maker=Dated(old, (change, made))))


@pytest.mark.parametrize("venue", exchanges.names())
def test_every_venue_has_its_changes_told_and_is_held_against_a_made_up_one(venue):
    adapter = exchanges.load(venue)
    assert set(adapter.PARSERS) == set(adapter.OFFERS)
    assert any(name == venue for name, _ in MADE)
    for market, kinds in adapter.PARSERS.items():
        for kind, channels in kinds.items():
            assert adapter.streams(market, [kind], ["X"])
            for dates in channels.values():
                assert [date_of(parse(date)).isoformat() for date in dates] == sorted(set(dates))


@pytest.mark.parametrize("venue,market", MADE)
def test_a_frame_is_read_by_the_rules_of_its_day_whenever_its_connection_began(venue, market, monkeypatch):
    frames = frames_of(venue, market, "trade")
    change = date_of(frames[0][0] + 86_400_000_000).isoformat()
    midnight = parse(change)
    told = [event for time, frame in frames for event in learning(venue, market).receive(frame, time)]
    assert any(isinstance(event, Event) for event in told)
    dated(venue, market, change, monkeypatch)
    for begun in (midnight - 60_000_000, midnight):
        session = learning(venue, market)
        session.start(begun)
        old = [out for time in (midnight - 1,) for _, frame in frames for out in session.receive(frame, time)]
        new = [out for _, frame in frames for out in session.receive(frame, midnight)]
        again = session.receive(frames[0][1], midnight - 1)
        assert not [out for out in (*old, *again) if isinstance(out, Event)]
        assert OTHER_RULES in {out.reason for out in old if isinstance(out, Rejected)}
        assert [out for out in new if isinstance(out, Event)]
        assert OTHER_RULES not in {out.reason for out in new if isinstance(out, Rejected)}
