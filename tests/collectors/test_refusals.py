"""What a venue refused is asked for again: when, how many at once, and when no more. One venue speaks for all."""

import json

from collectors import exchanges
from collectors.adapters.refusals import AT_ONCE, EVERY, FIRST_AFTER
from market.session import Acknowledged, Leave, Refused, Send
from market.times import HOUR, MINUTE, SECOND

NOW = 1_785_701_708_000_000
SILENT = ("silence", "no_first_message")
BYBIT = exchanges.load("bybit")


class Venue:
    """A connection of Bybit's and what the venue says to its requests: the first `taken` streams are good."""

    def __init__(self, count, taken=0):
        streams = BYBIT.streams("spot", ["trade"], [f"S{n:02}" for n in range(count)])
        (connection,) = BYBIT.connections("spot", streams, BYBIT.ENDPOINTS["spot"])
        self.names = [stream.name for stream in streams]
        self.session = BYBIT.session(connection, "fixture-1-1")
        self.now, self.refuses, self.answers = NOW, set(self.names[taken:]), True
        self.requests, self.out = [], []
        self.take(self.session.start(NOW))

    def take(self, outputs):
        for out in outputs:
            request = json.loads(out.text) if isinstance(out, Send) else {}
            if request.get("op") == "subscribe":
                self.requests.append((self.now, request["args"]))
                self.answer(request)
            elif isinstance(out, Acknowledged | Refused | Leave) and getattr(out, "cause", "") not in SILENT:
                self.out.append(out)

    def answer(self, request):
        good = not self.refuses & set(request["args"])
        said = {"success": good, "ret_msg": "" if good else "error:handler not found", "req_id": request["req_id"]}
        if self.answers:
            self.take(self.session.receive(json.dumps(said | {"op": "subscribe"}).encode(), self.now))

    def speak(self, name):
        now, symbol = self.now // 1000, name.rpartition(".")[2]
        row = {"T": now, "s": symbol, "S": "Buy", "v": "1", "p": "1", "i": "7", "BT": False}
        frame = {"topic": name, "type": "snapshot", "ts": now, "data": [row]}
        self.take(self.session.receive(json.dumps(frame).encode(), self.now))

    def wait(self, until, step=5 * SECOND):
        while self.now < until:
            self.now += step
            self.take(self.session.tick(self.now))

    def asked(self, since):
        return sum(time > since for time, _ in self.requests)

    def of(self, sort):
        return [out for out in self.out if isinstance(out, sort)]


def named(outs):
    return sorted(stream.name for out in outs for stream in out.streams)


def test_a_venue_that_refused_everything_for_a_moment_is_asked_for_all_of_it_a_minute_later():
    venue = Venue(20)
    venue.wait(NOW + FIRST_AFTER - SECOND, SECOND)
    assert named(venue.of(Refused)) == venue.names
    venue.refuses.clear()
    since = venue.now
    venue.wait(since + 2 * MINUTE)
    assert named(venue.of(Acknowledged)) == venue.names
    assert venue.asked(since) < len(venue.names), "several a request, as at the beginning"


def test_what_is_refused_for_good_costs_a_bounded_number_of_requests_an_hour_and_everybody_has_a_turn():
    venue = Venue(40)
    venue.wait(NOW + 30 * MINUTE)
    hours = []
    for _ in range(4):
        since = venue.now
        venue.wait(since + HOUR)
        hours.append(venue.asked(since))
    assert max(hours) <= 2 * AT_ONCE
    alone = [args[0] for time, args in venue.requests if len(args) == 1 and time > NOW + 30 * MINUTE]
    assert set(alone) == set(venue.names)
    assert named(venue.of(Refused)) == venue.names, "each is said once"
    assert venue.of(Leave) == []


def test_a_refused_stream_that_speaks_is_asked_for_no_more():
    venue = Venue(1)
    venue.wait(NOW + MINUTE // 2)
    venue.speak(venue.names[0])
    since = venue.now
    venue.wait(since + 3 * HOUR)
    assert venue.asked(since) == 0


def test_a_refused_stream_that_is_not_even_answered_later_costs_no_connection():
    venue = Venue(2, taken=1)
    venue.wait(NOW + FIRST_AFTER // 2)
    venue.answers = False
    until = NOW + 3 * EVERY
    while venue.now < until:
        venue.speak(venue.names[0])
        venue.wait(venue.now + MINUTE // 2)
    assert venue.of(Leave) == []
    assert venue.requests[-1][1] == [venue.names[1]]
    assert venue.requests[-1][0] > NOW + 2 * EVERY
