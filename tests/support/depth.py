"""Binance books by hand: updates, snapshots, and a pipeline with live sessions."""

import msgspec

from collectors.config import WritingConfig
from collectors.exchanges import load
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.session import Fetch
from market.times import MINUTE
from tests.support.lines import events_of

T = 1_785_701_700_000_000
MS = T // 1000
BINANCE = load("binance")


def update(first, last, before=0, symbol="BTCUSDT", bids='[["1","2"]]', market="linear"):
    data = (
        f'{{"e":"depthUpdate","E":{MS},"T":{MS},"s":"{symbol}","U":{first},"u":{last},"pu":{before},"b":{bids},"a":[]}}'
    )
    return f'{{"stream":"{symbol.lower()}@depth@100ms","data":{data}}}'.encode()


def answer(last, **more):
    return msgspec.json.encode({"lastUpdateId": last, "bids": [["1.0", "2"]], "asks": [["1.5", "1"]], **more})


class Market:
    """A pipeline with live sessions of one market, so that they are told of each other's books."""

    def __init__(self, market="linear", symbols=("BTCUSDT",), refresh=0):
        self.market, self.symbols, self.refresh = market, symbols, refresh
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline("binance", market, self.intake, merger_maker(BINANCE, market))

    def open(self, number, now=T, **more):
        streams = BINANCE.streams(self.market, ["book_delta"], list(self.symbols))
        (planned,) = BINANCE.connections(self.market, streams, BINANCE.ENDPOINTS[self.market])
        planned = msgspec.structs.replace(planned, rest="https://rest.test", book_refresh=self.refresh, **more)
        session = BINANCE.session(planned, f"n-{number}-1")
        link, _ = self.pipeline.open(session, name=str(number), source="ws", url="", now=now)
        self.pipeline.receive(link, [b'{"result":null,"id":1}'], now)
        return link

    def asked(self, link, now):
        return [task for task in self.pipeline.tick(link, now) if isinstance(task, Fetch)]

    def answer(self, link, fetch, last, now):
        self.pipeline.respond(link, fetch, 200, {}, answer(last), now)

    def flags(self, now):
        self.pipeline.advance(now + MINUTE, covered=True)
        work = self.intake.collect(now)
        return [
            event.flags for lane, events in work.events if lane[2] == "book_delta" for event in events_of(lane, events)
        ]
