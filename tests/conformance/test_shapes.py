"""Every adapter's description of its messages, held against its fixtures.

Frames and answers that it reads are as it says, and a field that is added anywhere in them is seen.
"""

import datetime as dt
import gzip
from collections import Counter

import msgspec
import pytest

from collectors import exchanges
from market.described import Described
from market.session import Refused, Rejected
from market.shapes import differences
from tests.conformance.test_exchanges import (
    FIXTURES,
    MEMBERS,
    POLLED,
    SAMPLES,
    STREAMED,
    answers_of,
    frames_of,
    outcomes_of,
    poller,
)

MESSAGES = [member for member in STREAMED if member[2] != "connection"]


def understood(venue, market, kind):
    """(message, described part) of the fixture's frames that the adapter takes for what they are."""
    adapter, found = exchanges.load(venue), []
    for (_, frame), outcome in zip(frames_of(venue, market, kind), outcomes_of(venue, market, kind), strict=True):
        if outcome.startswith("rejected") or "\trejected" in outcome:
            continue
        try:
            found.append(adapter.described(msgspec.json.decode(frame)))
        except msgspec.DecodeError:
            assert outcome.startswith("ignored")
    return found


def answered(venue, market, kind):
    """The same of a poll's answers, or of the instruments."""
    adapter = exchanges.load(venue)
    if kind == "contract":
        route = adapter.POLLS[market][kind].route
        return [(f"GET {route}", msgspec.json.decode((FIXTURES / venue / market / "reference.body").read_bytes()))]
    symbols, answers = answers_of(venue, market, kind)
    session, found = poller(venue, market, kind, symbols), []
    for time, tag, status, body in answers:
        said = session.respond(tag, status, {"content-type": "application/json"}, body, time)
        if status == 200 and said and not any(isinstance(out, Rejected | Refused) for out in said):
            found.append((f"GET {tag.partition(' ')[0]}", msgspec.json.decode(body)))
    return found


@pytest.mark.parametrize("venue, market, kind", MESSAGES)
def test_frames_look_as_the_adapter_says(venue, market, kind):
    shapes = exchanges.load(venue).SHAPES[market]
    for message, part in understood(venue, market, kind):
        assert message in shapes, message
        assert not differences(shapes[message], part), (message, part)


@pytest.mark.parametrize("venue, market, kind", POLLED)
def test_answers_look_as_the_adapter_says(venue, market, kind):
    shapes = exchanges.load(venue).SHAPES[market]
    for message, part in answered(venue, market, kind):
        found = [one for one in differences(shapes[message], part) if kind != "contract" or one.change != "type"]
        assert not found, (message, part)


@pytest.mark.parametrize("venue, market, kind", MESSAGES)
def test_a_field_that_is_added_anywhere_is_seen(venue, market, kind):
    shapes = exchanges.load(venue).SHAPES[market]
    for message, part in understood(venue, market, kind):
        for place in objects(part):
            place["drifted_"] = 1
            assert "added" in {one.change for one in differences(shapes[message], part)}, (message, part)
            del place["drifted_"]


@pytest.mark.parametrize("venue, market", MEMBERS)
def test_an_adapter_says_as_of_when_and_what_ends(venue, market):
    adapter = exchanges.load(venue)
    assert isinstance(adapter, Described)
    assert dt.date.fromisoformat(f"{adapter.AS_OF}-01"[:10]) >= dt.date(2025, 1, 1)
    assert market in adapter.SHAPES
    for ending in adapter.ENDS:
        assert ending.instead
        assert ending.source
        assert set(ending.markets) <= set(adapter.OFFERS)
        ending.said(dt.date(2026, 11, 20))


@pytest.mark.parametrize(
    "name", ["bybit/cf_v5_spot_20260809.jsonl.gz", "coinbase/cf_advtrade_20260809_first300.jsonl.gz"]
)
def test_what_venues_really_sent_lately_looks_as_the_adapter_says(name):
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    adapter, compared = exchanges.load(name.partition("/")[0]), Counter()
    for line in gzip.decompress(path.read_bytes()).splitlines():
        held = msgspec.json.decode(line)
        if held["t"] == "recv":
            message, part = adapter.described(msgspec.json.decode(held["data"]))
            known = adapter.SHAPES["spot"].get(message)
            assert known is None or not differences(known, part), (message, differences(known, part))
            compared[message] += known is not None
    assert sum(compared.values()) > 250
    assert len(compared) > 3


def objects(value):
    """Every object in a decoded message that is looked at."""
    if isinstance(value, dict):
        yield value
        for held in list(value.values()):
            yield from objects(held)
    elif isinstance(value, list):
        for held in value[:4]:
            yield from objects(held)
