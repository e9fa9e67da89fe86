"""The venue's own candles of five minutes. Nothing in them says that one is closed: the venue's clock does.

The channel tells what changes, up to 18 s behind the trades (measured). A candle becomes a row when a message of the
channel or a heartbeat is stamped GRACE after its end: with what was told of it last, under the frame that told it. One
that was told last before its end may lack its last trades, a silence of the channel looks the same: it is no row until
the channel, asked for anew, tells it again in the whole that it begins with, and those behind it wait. What changes
later still is a new revision; what is younger stays in the frames. `ts_event` is the candle's last millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, LAST, PAST, TOO_LONG, all_good, why
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import UNSIZED, CoinbaseSession, Parse
from market.kinds import Kline
from market.numbers import product
from market.session import Output, Rejected, Stream
from market.times import MINUTE, MS, SECOND

CHANNEL = "candles"
INTERVAL, LENGTH = "5m", 5 * MINUTE
GRACE = 30 * SECOND
FIRST_PAUSE, LONGEST_PAUSE = MINUTE, 30 * MINUTE
"""How soon a whole that did not come is asked for again, ever more patiently."""
KEPT = 100
"""Candles that a whole has: what is older is told no more."""


def _opened(text: str) -> int | None:
    """When a candle opened (us); None for what is no such time."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    time = int(text) * SECOND
    return time if 0 < time < LAST and time % LENGTH == 0 else None


class Forming:
    """Candles of a connection that are not rows yet: of each product in the order in which they open."""

    def __init__(self) -> None:
        self._held: dict[str, dict[int, Kline]] = {}
        """Product -> when it opened -> what was told of a candle last, and when (`ts_publish`)."""
        self._streams: dict[str, Stream] = {}
        self._untold: dict[str, tuple[int, int]] = {}
        """Product whose oldest candle is over and not told since -> when that is asked for next, and the pause then."""
        self._now = 0
        """The venue's time (us), as it said it last."""

    def take(self, row: Kline, stream: Stream) -> None:
        """What is told of a candle now."""
        held = self._held.setdefault(row.symbol, {})
        held[row.open_time] = row
        self._streams[row.symbol] = stream
        if len(held) > KEPT:
            del held[min(held)]

    def closed(self, publish: int) -> list[Output]:
        """Those that are over by the venue's time `publish` (us), and were told when they were."""
        out: list[Output] = []
        self._now = publish
        for symbol, held in self._held.items():
            waits = False
            for opened in sorted(held):
                end, row = opened + LENGTH, held[opened]
                if end + GRACE > publish:
                    break
                if waits := (row.ts_publish or 0) < end:
                    break
                out.append(held.pop(opened))
            if not waits:
                self._untold.pop(symbol, None)
            elif symbol not in self._untold:
                self._untold[symbol] = (0, FIRST_PAUSE)
        return out

    def told(self, symbol: str) -> int:
        """Until when (us) all candles of a product are rows."""
        held, over = self._held.get(symbol), self._now - GRACE
        return min(held) if held else over - over % LENGTH

    def anew(self, now: int) -> list[Stream]:
        """The streams that are to be subscribed to anew, for the whole that they begin with."""
        due = [symbol for symbol, (at, _) in self._untold.items() if now >= at]
        for symbol in due:
            pause = self._untold[symbol][1]
            self._untold[symbol] = (now + pause, min(2 * pause, LONGEST_PAUSE))
        return [self._streams[symbol] for symbol in due]

    def deadline(self) -> int | None:
        """When `anew` has something."""
        return min((at for at, _ in self._untold.values()), default=None)


def kline(session: CoinbaseSession) -> Parse:
    """`candles` of all products of the connection."""
    source, channel = session.session_id, session.channel(CHANNEL)
    forming = session.forming = Forming()

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.candles(frame)
        except BAD_FRAME as error:
            return session.not_read(frame, error, number)
        after = session.follow(found.sequence_num, number)
        publish = wire.micros(found.timestamp)
        if found.channel != CHANNEL or publish is None or not EARLY <= ts_recv - publish <= PAST:
            return [*session.reject("another channel or an impossible time", None, number), *after]
        out: list[Output] = []
        for item, raw in enumerate(raw for event in found.events for raw in event.candles):
            try:
                data = wire.candle(raw)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number, CHANNEL))
                continue
            state = session.state_of(channel, data.product_id, ts_recv)
            if state is None:
                continue
            name, opened = state.stream.name, _opened(data.start)
            if opened is None or ts_recv - opened < EARLY:
                out.append(Rejected("impossible time", number, name))
                continue
            size, prices = session.size(data.product_id), (data.open, data.high, data.low, data.close)
            if size is None or not all_good(*prices, data.volume):
                out.append(Rejected(UNSIZED if size is None else "not a decimal number", number, name))
                continue
            volume = data.volume if session.sizes is None else product(data.volume, size)
            if volume is None:
                out.append(Rejected(TOO_LONG, number, name))
                continue
            session.heard(state, ts_recv, publish)
            if ts_recv - opened > PAST:
                continue  # of a product that hardly trades, a hundred candles go back for weeks
            row = Kline(
                data.product_id, name, opened + LENGTH - MS, publish, ts_recv, source, number, item, "ws",
                INTERVAL, opened, *prices, volume, None, None, None, None,
            )  # fmt: skip
            forming.take(row, state.stream)
        out += forming.closed(publish)
        return session.said(out, after, f"{CHANNEL} forming")

    return parse
