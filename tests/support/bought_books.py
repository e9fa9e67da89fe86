"""A book that changes once a second, as own capture, a file that is sold and raw data of tardis.dev tell of it."""

import datetime as dt
import json
import random
from decimal import Decimal

from lake.reader import Lake
from market.times import SECOND
from tests.support.book_rows import delta, whole
from tests.support.market_rows import T0

MARKET = {"exchange": "binance", "market_type": "linear"}
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"


class Market:
    """A book that changes once a second, as own capture numbers it and as a file tells of it."""

    def __init__(self, seed: int, count: int) -> None:
        made = random.Random(seed)
        self.at = [T0 + n * SECOND for n in range(count)]
        self.books = [({Decimal(99 - n): n + 1 for n in range(5)}, {Decimal(101 + n): n + 1 for n in range(5)})]
        self.changes = [((), ())]
        for _ in self.at[1:]:
            sides = [dict(side) for side in self.books[-1]]
            told = []
            for place, best in enumerate((99, 101)):
                price = Decimal(best + made.randrange(8) * (1 if place else -1))
                qty = made.choice((0, 1, 2, 3))
                sides[place][price] = qty
                sides[place] = {one: held for one, held in sides[place].items() if held}
                told.append(((str(price), str(qty)),))
            self.books.append((sides[0], sides[1]))
            self.changes.append((told[0], told[1]))

    def whole(self, n: int):
        return [[(str(price), str(qty)) for price, qty in side.items()] for side in self.books[n]]

    def own(self, first: int, last: int) -> list:
        """Rows of one connection: a whole book, then changes; ids count on with the market."""
        rows = [whole(self.at[first], 100 + first, *self.whole(first))]
        return rows + [delta(self.at[n], 100 + n, *self.changes[n]) for n in range(first + 1, last)]

    def file(self, first: int, last: int, wholes=(), line=None) -> str:
        text = BOOK
        for n in range(first, last):
            sides = self.whole(n) if n in wholes else self.changes[n]
            flag = "true" if n in wholes else "false"
            for side, levels in zip(("bid", "ask"), sides, strict=True):
                for price, qty in levels:
                    text += f"bf,BTCUSDT,{self.at[n]},{self.at[n] + 7},{flag},{side},{price},{qty}\n"
            text += line(n) if line is not None else ""
        return text

    def raw(self, first: int, last: int, wholes: tuple[int, ...] = (), *, late: int = 12) -> bytes:
        """What a recorder of Binance's futures heard, so many ms later; it asked for whole books after some updates."""
        lines = []
        for n in range(first, last):
            at, (bids, asks) = self.at[n] // 1000, self.changes[n]
            data = {"e": "depthUpdate", "E": at, "T": at, "s": "BTCUSDT", "U": 100 + n, "u": 100 + n, "pu": 99 + n}
            lines.append((n, "btcusdt@depth@100ms", data | {"b": bids, "a": asks}))
            if n in wholes:
                bids, asks = self.whole(n)
                book = {"lastUpdateId": 100 + n, "E": at, "T": at, "bids": bids, "asks": asks}
                lines.append((n, "btcusdt@depthSnapshot", book))
        text = b""
        for n, stream, data in lines:
            heard = dt.datetime.fromtimestamp(self.at[n] // SECOND, dt.UTC)
            made = {"generated": True} if stream.endswith("Snapshot") else {}
            message = json.dumps({"stream": stream} | made | {"data": data}, separators=(",", ":"))
            text += f"{heard:%Y-%m-%dT%H:%M:%S}.{late:03d}0000Z {message}\n".encode()
        return text

    def right(self, lake: Lake, n: int) -> bool:
        """Whether the lake's book is that of then."""
        found = lake.book("BTCUSDT", at=self.at[n], **MARKET)
        said = [{Decimal(price): int(qty) for price, qty in side} for side in (found.bids, found.asks)]
        return [known(side, found, place) for place, side in enumerate(self.books[n])] == said


def known(side, found, place):
    """The levels that the whole book which the lake began from showed the range of."""
    low, high = (Decimal(one) if one else None for one in (found.valid_low, found.valid_high))
    edge = high if place else low
    return {one: qty for one, qty in side.items() if edge is None or (one <= edge if place else one >= edge)}
