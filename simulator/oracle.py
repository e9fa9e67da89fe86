"""Compares what a collector stored and what it says it lost with what the simulator really sent.

Pure: plain rows in, findings out. The law: of every stream, from the first event stored to the stop, each event that
happened is stored once as it was, or an open gap covers it; and a gap covers something that is missing, or lies beside
a fault that explains it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from market.session import EVERY_SYMBOL, Gap
from market.times import SECOND
from simulator.truth import FaultLine
from simulator.windows import Windows
from simulator.witness import NOBODY, VALUES, Key, Told, Witness

NUMBERED = ("trade", "agg_trade")
"""Kinds whose ids follow each other by one: their gaps have to name just what is missing."""
COMPARED = (*VALUES, "book_delta", "book_snapshot")
"""Kinds whose streams the log has."""
SPOILED = ("bad_price", "bad_time")
"""What these took from kinds without contiguous ids is told by the quarantine alone."""
SPARSE = ("liquidation",)
"""Streams of which silence is ordinary: that a subscription was taken on by half does not show."""
OF_EVENTS = ("drop_ids", "bad_price", "bad_time")
"""Faults that leave connections alone: they spoil the judgement of no handover, and their gaps are jumps of ids."""
SLACK = SECOND
"""How far the ends of a gap in time may lie from the events around it: some venues give no time, or another clock's."""
CANDLE = 4 * SECOND  # the same of candles, whose gaps begin a little before what caused them
ASKED = 15 * SECOND  # a stream that is silent for less than this is not asked about (`collectors.inquiry`)
LEARNED = 40 * SECOND  # a candle whose closing no message says is known this long after it, at the latest
HANDED = "handover"
"""Cause of a gap of candles that only the next one tells: who left may have held one. It needs no fault."""
IN_FLIGHT = 15 * SECOND
"""What was sent so shortly before the stop, and after all that is stored of its kind, was still on its way."""
AFTERWARDS = 3 * SECOND  # how long after a planned end its gaps would show
EXAMPLES = 5


class Stored(msgspec.Struct):
    """One stream as stored, in any order: its ids and digests as `simulator.witness` makes them."""

    ids: Sequence[int]
    values: Sequence[int]
    wholes: Sequence[int] = ()
    """Of books that are known by times, up to which whole ones were stored: what was told of those times is in them."""


class Finding(msgspec.Struct):
    """What should not be: `rule` is one of RULES."""

    rule: str
    kind: str
    market: str
    symbol: str
    count: int
    detail: str


RULES: dict[str, str] = {
    "unknown": "stored, but never happened",
    "changed": "stored with other numbers than were sent",
    "twice": "stored twice",
    "unexplained_loss": "missing, and no gap says so",
    "lost_without_fault": "sent, missing, in a gap, and no fault was near",
    "unexplained_gap": "a gap in which nothing is missing, and no fault was near",
    "wrong_ids": "a gap names ids that are stored or never were",
    "never_stored": "sent, and nothing of the stream is stored",
    "planned_gap": "a gap at a planned handover",
    "asked_while_refused": "requests although the venue had asked for none",
}


class Verdict(msgspec.Struct):
    """The whole judgement. `lost` counts missing events by why; `covered` is how many of them an open gap tells."""

    streams: int = 0
    happened: int = 0
    stored: int = 0
    missing: int = 0
    covered: int = 0
    in_quarantine: int = 0
    """Missing, rejected, and of a kind whose ids do not show it."""
    undetectable: int = 0
    """Missing, and nobody could know: of sparse streams that the venue had acknowledged and not taken on; `unseen`."""
    unseen: int = 0
    """Updates of books behind the levels of which the venue tells a checksum, until the book was told whole again."""
    gaps: int = 0
    empty_gaps: int = 0
    empty_gap_seconds: float = 0.0
    handovers: int = 0
    lost: dict[str, int] = {}
    causes: dict[str, int] = {}
    findings: list[Finding] = []

    @property
    def good(self) -> bool:
        """Nothing was found."""
        return not self.findings


def judge(
    witness: Witness,
    stored: Mapping[Key, Stored],
    gaps: Iterable[Gap],
    until: int,
    grace: float = 45.0,
    wanted: Iterable[Key] = (),
) -> Verdict:
    """Everything that is wrong. `until` is when the collector was told to stop (us of the simulator's clock).

    Of the streams in `wanted` something has to have been sent and stored.

    A fault explains the gaps of its market until `grace` seconds after its end: reconnecting takes its time.
    """
    verdict, windows = Verdict(), Windows(witness, round(grace * SECOND))
    lost: Counter[str] = Counter()
    open_gaps = [gap for gap in gaps if gap.state == "open"]
    verdict.gaps = len(open_gaps)
    verdict.causes = dict(Counter(gap.cause for gap in open_gaps))
    by_stream: dict[Key, list[Gap]] = {}
    for gap in open_gaps:
        by_stream.setdefault((gap.kind, gap.market_type, gap.symbol), []).append(gap)
    ends = _ends(witness, stored, until)
    for key, told in witness.told.items():
        kind, market, symbol = key
        mine = by_stream.get(key, []) + by_stream.get((kind, market, EVERY_SYMBOL), [])
        stream = _Stream(key, told, mine, windows, verdict, lost, witness.ended.get((market, symbol)))
        stream.judge(stored.get(key), ends.get((kind, market), until))
    verdict.lost = dict(lost.most_common())
    for key in stored.keys() - witness.told.keys():
        verdict.findings.append(Finding("unknown", *key, len(stored[key].ids), "no such stream"))
    for key in set(wanted) - stored.keys():
        if key not in witness.told or not by_stream.get(key):
            verdict.findings.append(Finding("never_stored", *key, 1, "was to be collected"))
    compared = {key[:2] for key in witness.told}
    for gap in open_gaps:
        strange = (gap.kind, gap.market_type, gap.symbol) not in witness.told and gap.symbol != EVERY_SYMBOL
        strange = strange and (gap.kind, gap.market_type) in compared
        if strange and gap.kind in COMPARED and not windows.near(gap.market_type, gap.ts_from, gap.ts_to or until):
            text = f"{gap.cause} [{gap.ts_from}, {gap.ts_to}) of a stream without an event"
            verdict.findings.append(Finding("unexplained_gap", gap.kind, gap.market_type, gap.symbol, 1, text))
    verdict.findings += [*_handovers(witness, open_gaps, verdict, windows), *_requests(witness)]
    return verdict


def _ends(witness: Witness, stored: Mapping[Key, Stored], until: int) -> dict[tuple[str, str], int]:
    """(kind, market) -> the time of its newest event stored: what was sent later was on its way at the stop."""
    newest: dict[tuple[str, str], int] = {}
    for key, told in witness.told.items():
        kept = stored.get(key)
        if kept is not None and kept.ids:
            last = set(kept.ids)
            time = next((told.times[n] for n in range(len(told.ids) - 1, -1, -1) if told.ids[n] in last), 0)
            newest[key[:2]] = max(newest.get(key[:2], 0), time)
    return {scope: min(until, max(time, until - IN_FLIGHT)) for scope, time in newest.items()}


def _lies_in(gap: Gap, time: int) -> bool:
    """Whether a time (us) is inside a gap, as exactly as clocks allow."""
    return gap.ts_from - SLACK <= time and (gap.ts_to is None or time < gap.ts_to + SLACK)


class _Stream:
    """The judgement of one stream."""

    def __init__(
        self,
        key: Key,
        told: Told,
        gaps: list[Gap],
        windows: Windows,
        verdict: Verdict,
        lost: Counter[str],
        ended: int | None = None,
    ) -> None:
        self.key, self.told, self.gaps = key, told, gaps
        self.windows, self.verdict, self.lost = windows, verdict, lost
        self.ended = ended
        """When its symbol was taken from the market, us."""

    def judge(self, stored: Stored | None, until: int) -> None:
        """Add what was found to the verdict."""
        told, verdict = self.told, self.verdict
        verdict.streams += 1
        verdict.happened += len(told.ids)
        place = {number: n for n, number in enumerate(told.ids)}
        if stored is None or not stored.ids:
            sent = [one for n, one in enumerate(told.ids) if n not in told.lost and told.times[n] < until - 2 * SECOND]
            if len(sent) > 1 and not self.gaps:
                self._say("never_stored", len(sent), f"ids {sent[0]} to {sent[-1]}")
            return
        verdict.stored += len(stored.ids)
        # nothing says the closing of a candle in which its symbol ended; the venue tells it as it was left
        ended = (self.ended or 0) if self.key[0] == "kline" else 0
        unknown = [n for n in stored.ids if n not in place and not max(told.ids, default=ended) < n <= ended]
        if unknown:
            self._say("unknown", len(unknown), f"ids {unknown[:EXAMPLES]}")
        seen = Counter(stored.ids)
        if twice := [number for number, count in seen.items() if count > 1]:
            self._say("twice", len(stored.ids) - len(seen), f"ids {twice[:EXAMPLES]}")
        changed = [
            number
            for number, value in zip(stored.ids, stored.values, strict=True)
            if (n := place.get(number)) is not None and value != told.values[n] and n not in told.zeros
        ]
        if changed:
            self._say("changed", len(changed), f"ids {changed[:EXAMPLES]}")
        kept = {*seen, *stored.wholes}  # a number may be told twice, where it is made of what an event says
        self._missing(array("q", (n for n, number in enumerate(told.ids) if number in kept)), until)

    def _missing(self, held: array[int], until: int) -> None:
        told, verdict = self.told, self.verdict
        if not held:
            return
        have = set(held)
        first = next((n for n in range(len(told.ids)) if told.lost.get(n) != NOBODY), held[0])
        missing = [n for n in range(max(first, held[0]), len(told.ids)) if n not in have]
        by, known = (1, until - LEARNED) if self.key[0] == "kline" else (0, until - SECOND)  # by the next one, perhaps
        missing = [n for n in missing if n < held[-1] or any(time < known for time in told.times[n + by : n + by + 1])]
        verdict.missing += len(missing)
        uncovered: list[int] = []
        alone: list[int] = []
        for n in missing:
            if not any(self._covers(gap, n) for gap in self.gaps):
                self._without_gap(n, uncovered)
                continue
            verdict.covered += 1
            why = told.lost.get(n, "")
            self.lost[why or "sent, then the connection ended"] += 1
            end = told.times[n] + SLACK
            if self.key[0] == "kline" and n + 1 < len(told.times):
                end = max(end, told.times[n + 1])  # some are known only by the next one
            handed = any(gap.cause == HANDED and self._covers(gap, n) for gap in self.gaps)
            if not (why or handed or n in told.repeated or self.windows.near(self.key[1], told.times[n] - SLACK, end)):
                alone.append(n)
        if shown := [n for n in uncovered if not self._short(n, held)]:
            self._say("unexplained_loss", len(shown), self._shown(shown))
        verdict.undetectable += len(uncovered) - len(shown)
        if alone:
            self._say("lost_without_fault", len(alone), self._shown(alone))
        gone = set(missing)
        for gap in self.gaps:
            self._judge_gap(gap, missing, gone, have)

    def _without_gap(self, n: int, uncovered: list[int]) -> None:
        kind, market, _ = self.key
        why, time = self.told.lost.get(n, ""), self.told.times[n]
        if not self.told.shows and why in SPOILED:
            self.verdict.in_quarantine += 1
        elif n in self.told.repeated or self._may_be_unknown(kind, why, market, time):
            self.verdict.undetectable += 1
        elif (shown := self.told.unseen.get(self.told.ids[n])) == 0:
            self.verdict.undetectable += 1
            self.verdict.unseen += 1
        elif shown and any(_lies_in(gap, shown) for gap in self.gaps):
            self.verdict.covered += 1  # told as soon as it could be seen
        else:
            uncovered.append(n)

    def _short(self, n: int, held: array[int]) -> bool:
        """Whether its stream fell silent for less than anybody asks about: where ids only rise nothing shows it."""
        if self.key[0] in NUMBERED or self.told.lost.get(n) != "silence":
            return False
        place = bisect_left(held, n)
        times = self.told.times
        return 0 < place < len(held) and times[held[place]] - times[held[place - 1]] < ASKED

    def _may_be_unknown(self, kind: str, why: str, market: str, time: int) -> bool:
        """Whether it is of a rare stream that the venue did not take on."""
        near = self.windows.near(market, time, time, "acks") or self.windows.untold(market, time, SLACK)
        return kind in SPARSE and why == NOBODY and near

    def _shown(self, places: list[int]) -> str:
        told = self.told
        few = [f"{told.ids[n]} at {told.times[n]} ({told.lost.get(n, '') or 'sent'})" for n in places[:EXAMPLES]]
        return ", ".join(few)

    def _covers(self, gap: Gap, n: int) -> bool:
        number, time = self.told.ids[n], self.told.times[n]
        if gap.id_from is not None and gap.id_to is not None:
            return gap.id_from <= number < gap.id_to
        if gap.id_from is not None and self.key[0] in NUMBERED and number < gap.id_from:
            return False
        return _lies_in(gap, time)

    def _judge_gap(self, gap: Gap, missing: list[int], gone: set[int], have: set[int]) -> None:
        told = self.told
        if self.key[0] in NUMBERED and gap.id_from is not None and gap.id_to is not None:
            inside = [n for n in missing if gap.id_from <= told.ids[n] < gap.id_to]
            if len(inside) != gap.id_to - gap.id_from:
                kept = [told.ids[n] for n in have if gap.id_from <= told.ids[n] < gap.id_to]
                text = f"[{gap.id_from}, {gap.id_to}) {gap.cause}: {len(inside)} missing, {len(kept)} stored"
                self._say("wrong_ids", gap.id_to - gap.id_from - len(inside), text)
            return
        if gap.symbol == EVERY_SYMBOL or any(n in gone and self._covers(gap, n) for n in self._near(gap)):
            return
        # one that grows may begin after the last event (candles), and a little before what caused it
        end = gap.ts_to if gap.ts_to is not None else max(told.times[-1], gap.ts_from + 2 * SLACK)
        self.verdict.empty_gaps += 1
        self.verdict.empty_gap_seconds += max(0, end - gap.ts_from) / SECOND
        if any(shown and _lies_in(gap, shown) for shown in told.unseen.values()):
            return  # what it is about was missed long before
        if gap.cause == HANDED or (self.ended is not None and (gap.ts_to is None or end >= self.ended)):
            return  # nobody can tell; or its silence is what was to come
        until = end + (CANDLE if self.key[0] == "kline" else SLACK)
        place = bisect_left(told.times, until)  # what went wrong before the next event is beside the gap
        until = told.times[place] if place < len(told.times) else until
        anew = any(gap.ts_from - SLACK <= at <= end for at in self.windows.anew if gap.cause == "id_reset")
        if not anew and not self.windows.near(gap.market_type, gap.ts_from - SLACK, until):
            self._say("unexplained_gap", 1, f"{gap.cause} [{gap.ts_from}, {gap.ts_to}) ids {gap.id_from} {gap.id_to}")

    def _near(self, gap: Gap) -> range:
        """Places whose times may be inside the gap; all, where it has no end."""
        times = self.told.times
        first = bisect_left(times, gap.ts_from - 2 * SLACK)
        return range(first, len(times) if gap.ts_to is None else bisect_left(times, gap.ts_to + 2 * SLACK))

    def _say(self, rule: str, count: int, detail: str) -> None:
        self.verdict.findings.append(Finding(rule, *self.key, count, detail))


def _handovers(witness: Witness, gaps: list[Gap], verdict: Verdict, others: Windows) -> list[Finding]:
    """Gaps in the time of a shutdown that was announced five seconds before, where nothing else went wrong."""
    found = []
    for fault in witness.faults:
        lead = round(fault.parameters.get("seconds", 10) * SECOND)
        if fault.name != "shutdown" or fault.phase != "begin" or lead < 5 * SECOND:
            continue
        market, start, end = fault.parameters.get("market"), fault.time - SECOND, fault.time + lead + AFTERWARDS
        if market is None or others.near(market, start, end, but=OF_EVENTS):
            continue
        verdict.handovers += 1
        found += [
            Finding("planned_gap", gap.kind, market, gap.symbol, 1, f"{gap.cause} [{gap.ts_from}, {gap.ts_to})")
            for gap in gaps
            if gap.market_type == market and gap.ts_from < end and (gap.ts_to is None or gap.ts_to > start)
            # a candle's goes back to the one before it, whenever the connection was lost that was to tell the next
            if gap.cause not in ("jump", HANDED)
            if gap.kind != "kline" or (gap.ts_from >= start and gap.detected_at <= end)
        ]
    return found


def _requests(witness: Witness) -> list[Finding]:
    """Requests of a market in the seconds for which the venue had asked for none."""
    found = []
    for fault in witness.faults:
        wait = _wait(fault)
        if fault.phase != "applied" or not wait:
            continue
        market = str(fault.detail["target"]).split("/")[1]
        start, end = fault.time + SECOND // 2, fault.time + wait - SECOND
        early = [one for one in witness.requests if one.market == market and start < one.time < end]
        if early:
            text = f"{fault.parameters.get('status')} asked for {wait // SECOND} s, then {early[0].target}"
            found.append(Finding("asked_while_refused", "", market, "", len(early), text))
    return found


def _wait(fault: FaultLine) -> int:
    """How long the refusal asked to be left alone, us."""
    if fault.name != "http_status" or fault.parameters.get("path") == "ws":
        return 0
    after = fault.parameters.get("retry_after")
    return after * SECOND if isinstance(after, int) else 0
