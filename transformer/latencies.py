"""Latencies of transformed segments on their way into the lake's record, `/status` and the metrics.

A market whose events are stamped more than a second away from their receipt is an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from lake.clock_files import ClockFiles, Latencies
from lake.errors import StorageFailed
from lake.latency import MEASURES, TIMELY, Minute, merged, skew_of
from lake.refused import of_one_place
from market import times
from runtime import health, metrics, polled

Stream: TypeAlias = tuple[str, str, str]
"""(exchange, market_type, kind)"""
Market: TypeAlias = tuple[str, str]
LEAST = 10
"""Events of a minute below which its median says nothing."""
ALARM_US = times.SECOND
ALARM_MINUTES = 2
"""Minutes in a row beyond that: what a venue sends late once, on subscribing or after a cut, is no clock."""
QUANTILES = (0.5, 0.9, 0.99)


class Newest:
    """What the newest minute of each stream says. One thread takes and settles, any asks for the status."""

    def __init__(self) -> None:
        self._minutes: dict[Stream, list[Minute]] = {}
        self._changed: set[Stream] = set()
        self._far: dict[Market, list[int]] = {}
        """Of markets: minutes in a row whose median was beyond the alarm."""
        self._skews: dict[Market, int] = {}
        self._status: list[dict[str, object]] = []

    def take(self, files: ClockFiles, found: Sequence[Latencies]) -> None:
        """Segments, in any order, before they count as transformed: written down, and known here.

        Raises StorageFailed where the disk takes nothing: then they do not count, and come again. Where only this
        folder takes nothing that is said, and holds up no data.
        """
        try:
            files.append(found)
        except StorageFailed as error:
            if not of_one_place(error):
                raise
            health.clock_record_failed(error=error)
        for one in found:
            stream = (one.exchange, one.market_type, one.kind)
            for minute in one.minutes:
                held = self._minutes.get(stream)
                if not held or minute.minute > held[0].minute:
                    self._minutes[stream] = [minute]
                elif minute.minute == held[0].minute:
                    held.append(minute)
                self._changed.add(stream)

    def settle(self) -> None:
        """What was taken is what there is now: into the metrics, and judged."""
        for stream in self._changed:
            for measure in MEASURES:
                self._measure(stream, measure)
        for market in sorted({stream[:2] for stream in self._changed if stream[2] in TIMELY}):
            self._judge(market)
        if self._changed:
            self._status = [self._said(stream) for stream in sorted(self._minutes)]
        self._changed = set()

    def status(self) -> dict[str, object]:
        """Of each stream the latencies of its newest minute, of each market the skew; in seconds."""
        skews = [
            {"exchange": exchange, "market_type": market_type, "skew_seconds": skew / times.SECOND}
            for (exchange, market_type), skew in sorted(dict(self._skews).items())
        ]
        return {"skews": skews, "streams": self._status}

    def _measure(self, stream: Stream, measure: str) -> None:
        found = merged(minute.of(measure) for minute in self._minutes[stream])
        if found is not None:
            for share in QUANTILES:
                metrics.LATENCY.labels(*stream, measure, f"{share:g}").set(found.quantile(share) / times.SECOND)

    def _judge(self, market: Market) -> None:
        """The market's newest minute, of all that is sent as it happens."""
        streams = {stream: held for stream, held in self._minutes.items() if stream[:2] == market}
        streams = {stream: held for stream, held in streams.items() if stream[2] in TIMELY}
        newest = max(held[0].minute for held in streams.values())
        skew = skew_of([one for held in streams.values() for one in held if one.minute == newest], LEAST)
        if skew is None:
            return
        self._skews[market] = skew
        metrics.CLOCK_SKEW.labels(*market).set(skew / times.SECOND)
        far = self._far.setdefault(market, [])
        if abs(skew) <= ALARM_US:
            far.clear()
        elif newest not in far and len(far) < ALARM_MINUTES:
            far.append(newest)
            if len(far) == ALARM_MINUTES:
                polled.clock_skew(exchange=market[0], market_type=market[1], skew_seconds=skew / times.SECOND)

    def _said(self, stream: Stream) -> dict[str, object]:
        held = self._minutes[stream]
        found: dict[str, object] = dict(zip(("exchange", "market_type", "kind"), stream, strict=True))
        found["minute"] = times.text(held[0].minute)
        for measure in MEASURES:
            all_of_it = merged(minute.of(measure) for minute in held)
            found[measure] = None if all_of_it is None else {
                "count": all_of_it.count,
                **{f"p{share * 100:g}": all_of_it.quantile(share) / times.SECOND for share in QUANTILES},
                "max": all_of_it.high / times.SECOND,
            }  # fmt: skip
        return found
