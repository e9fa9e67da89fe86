"""Which open gaps are asked for, from where, when and in which order. Pure.

A gap is asked for of the venue where its history reaches, of its archive where that has the day, and is left alone
where neither is so: then the reason is said. Where nobody can be asked but frames of its time are kept, these are read
again once its day is closed: lines were lost, not what came. The newest day goes first, and of a day the smallest. What
came is judged by `repair_proofs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from collectors.adapters.past import INTERVAL
from collectors.history_plan import CANDLE, FOREVER, LOST, MARGIN, SETTLE, Wish, grained, hole, parts
from market.history import Absent, Offer
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, floor_to, intersect, subtract, text, union

Road = Literal["rest", "archive", "frames"]
REST: Road = "rest"
ARCHIVE: Road = "archive"
OWN: Road = "frames"
FRAMED = LOST | {"crash", "shed"}
"""Causes of gaps whose frames may have been kept."""
WHOLE = FRAMED - {"crash"}
"""Those during which frames went on: kept all the time, they tell all there was. After a crash nobody listened."""
ARCHIVED = frozenset({"trade", "agg_trade", "kline", "funding_rate"})
"""Kinds whose archived rows are those that a stream brings."""
SOONEST, LATEST = MINUTE, DAY
"""How long a gap rests after the first attempt that failed, and at most: twice as long after each further one."""
PROMPT, SOON = 10 * SECOND, 30 * SECOND
"""How long a hole of ids, or another one, is over before it is asked for, where pages say themselves what is final
(`Offer.prompt`): another connection may still bring what is missing, and a row behind the hole proves its end.
"""
EARLY = "it was asked for before all of it was final"
CALM = HOUR
"""How long a gap that no source can close is over before that is written down: connections may repeat until then."""
CLOSED = HOUR
"""How long after its end a day is closed for certain: frames of closed days are read again."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What tells of a market's past. `offers` are its REST routes' (None: the adapter has none yet), `archive` the
    kinds of its files, `fleeting` the kinds that nobody tells of later, each with the reason.
    """

    offers: Mapping[str, Offer | Absent] | None = None
    archive: Collection[str] = frozenset()
    fleeting: Mapping[str, str] = {}


class Asked(msgspec.Struct, frozen=True):
    """What was asked for and came, whole, on [start, end) of venue time: by a session opened at `at` (us); of candles
    those of `widths`.
    """

    kind: str
    symbol: str
    span: Interval
    road: Road
    session: str
    at: int
    widths: frozenset[str] = frozenset({INTERVAL})


class Tried(msgspec.Struct, frozen=True):
    """Attempts at a gap that failed, and when the last of them ended (us); none where it was asked for too early only,
    so that what came did not prove all of it.
    """

    at: int
    times: int

    @property
    def again(self) -> int:
        """When it may be asked for again (us)."""
        return self.at + min(SOONEST << min(self.times - 1, 20), LATEST) if self.times else self.at


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one market around its open gaps."""

    asked: Sequence[Asked] = ()
    streamed: Sequence[Coverage] = ()
    lacking: Sequence[Gap] = ()
    """Gaps of ids that the venue's own history lacks."""
    widths: Mapping[tuple[str, str], frozenset[str]] = {}
    """(symbol, session) -> the intervals of the candles that it brought."""
    frames: Sequence[Interval] = ()
    """Receive time of which frames are kept."""
    reread: Mapping[str, int] = {}
    """Rows that came when its frames were read again, by the name of the gap."""
    tried: Mapping[str, Tried] = {}
    """By the name of the gap."""


class Step(msgspec.Struct, frozen=True):
    """A gap that is asked for. `parts` are what of it no step before it asks for already; of an archive whole days."""

    gap: Gap
    road: Road
    by: Literal["ids", "time"]
    parts: tuple[Wish, ...] = ()


class Left(msgspec.Struct, frozen=True):
    """A gap that is not asked for now, and why; `again` (us) is when it may be, where that is known; `rests`: telling
    why was work, so that it is not told again soon.
    """

    gap: Gap
    why: str
    again: int | None = None
    rests: bool = False


class Hopeless(msgspec.Struct, frozen=True):
    """A gap that no source can close, and why."""

    gap: Gap
    why: str


class RepairPlan(msgspec.Struct, frozen=True):
    """Steps in their order; gaps of which all was asked for, so that they wait for a verdict; and the rest."""

    steps: tuple[Step, ...] = ()
    asked: tuple[Gap, ...] = ()
    left: tuple[Left, ...] = ()
    hopeless: tuple[Hopeless, ...] = ()

    def wishes(self, road: Road = REST) -> list[Wish]:
        """What is asked for on a road, in order."""
        return [part for step in self.steps if step.road == road for part in step.parts]


def plan(gaps: Iterable[Gap], sources: Sources, known: Known, now: int, *, longest: int | None = None) -> RepairPlan:
    """What to do about the open ones of `gaps`, all of one market. `now` and `longest` (of a gap's time) us."""
    steps: list[Step] = []
    asked: list[Gap] = []
    left: list[Left] = []
    hopeless: list[Hopeless] = []
    taken: dict[tuple[str, str], list[Interval]] = {}
    for gap in ranked(gap for gap in gaps if gap.state == "open"):
        match _one(gap, sources, known, now, longest, taken):
            case Step() as step:
                steps.append(step)
                for part in step.parts:
                    taken.setdefault((part.kind, part.symbol), []).append(Interval(part.start, part.end))
            case Left() as one:
                left.append(one)
            case Hopeless() as one:
                hopeless.append(one)
            case None:
                asked.append(gap)
    return RepairPlan(tuple(steps), tuple(asked), tuple(left), tuple(hopeless))


def ranked(gaps: Iterable[Gap]) -> list[Gap]:
    """The newest day first, of a day the smallest, of equal ones those whose ids are known."""

    def rank(gap: Gap) -> tuple[int, int, bool, str, str, int, str]:
        span = hole(gap)
        place = (gap.kind, gap.symbol, span.start, gap.gap_id)
        return (-floor_to(span.start, DAY), span.length, gap.missing is None, *place)

    return sorted(gaps, key=rank)


def _one(
    gap: Gap,
    sources: Sources,
    known: Known,
    now: int,
    longest: int | None,
    taken: Mapping[tuple[str, str], Sequence[Interval]],
) -> Step | Left | Hopeless | None:
    """What to do about one gap; None where all of it was asked for."""
    span = hole(gap)
    if gap.ts_to is None:
        return Left(gap, "it still grows")
    symbols = symbols_of(gap, known)
    if not symbols and has_road(gap, sources):
        return Left(gap, "of which symbols it is cannot be told: nothing of its kind was collected then")
    missing = {symbol: subtract([span], asked_of(gap, symbol, known)) for symbol in symbols}
    if symbols and not any(missing.values()):
        return None
    offer, archive = _offer(gap, sources), _archived(gap, sources)
    tried = known.tried.get(gap.gap_id)
    if tried is not None and now < tried.again:
        times = "an attempt" if tried.times == 1 else f"{tried.times} attempts"
        return Left(gap, f"{times} at it came to nothing: it rests until {text(tried.again)}", tried.again)
    if offer is None and not archive:
        return _no_road(gap, sources, known, now)
    if longest is not None and span.length > longest:
        return Left(gap, f"it is longer than {longest // HOUR} hours: dl gaps --repair, or dl backfill, asks for it")
    if gap.kind == CANDLE and not any(INTERVAL in _widths(gap, symbol, known) for symbol in symbols):
        why = "its candles are of another width than a minute: dl archive or dl import may have them"
        return Left(gap, why, rests=True)
    if offer is not None and not _too_old(span, offer, now):
        return _by_rest(gap, offer, missing, now, taken, tried)
    if not archive:
        assert offer is not None
        hours = (offer.reach or 0) // HOUR
        return Left(gap, f"the venue gives the last {hours} hours only, and no archive of it is read")
    return _by_archive(gap, missing, now)


def has_road(gap: Gap, sources: Sources) -> bool:
    """Whether anybody can be asked for rows of its kind."""
    return _offer(gap, sources) is not None or _archived(gap, sources)


def _offer(gap: Gap, sources: Sources) -> Offer | None:
    offer = (sources.offers or {}).get(gap.kind)
    return offer if isinstance(offer, Offer) and offer.same else None


def _archived(gap: Gap, sources: Sources) -> bool:
    return gap.kind in sources.archive and gap.kind in ARCHIVED


def symbols_of(gap: Gap, known: Known) -> list[str]:
    """Whose rows a gap is of: of EVERY_SYMBOL those that were streamed around it, of what was lost those too that had
    been asked for.
    """
    if gap.symbol != EVERY_SYMBOL:
        return [gap.symbol]
    span = hole(gap)
    near = [(row.symbol, row.ts_from, row.ts_to) for row in known.streamed if row.kind == gap.kind]
    if gap.cause in LOST:
        had = (row for row in known.asked if row.kind == gap.kind and row.at < gap.detected_at)
        near += [(row.symbol, row.span.start, row.span.end) for row in had]
    return sorted({who for who, low, high in near if who != EVERY_SYMBOL and low <= span.end and span.start <= high})


def asked_of(gap: Gap, symbol: str, known: Known) -> list[Interval]:
    """When a gap's rows of a symbol were asked for and came: of candles, of each width that may be missing."""
    rows = rows_asked(gap, symbol, known)
    if gap.kind != CANDLE:
        return union(row.span for row in rows)
    widths = _widths(gap, symbol, known)
    found = [Interval(-FOREVER, FOREVER)] if widths else []
    for width in widths:
        found = intersect(found, union(row.span for row in rows if width in row.widths))
    return found


def rows_asked(gap: Gap, symbol: str, known: Known) -> list[Asked]:
    since = gap.detected_at if gap.cause in LOST else 0
    rows = [row for row in known.asked if (row.kind, row.symbol) == (gap.kind, symbol) and row.at >= since]
    return [row for row in rows if gap.kind != CANDLE or row.widths & _widths(gap, symbol, known)]


def _widths(gap: Gap, symbol: str, known: Known) -> frozenset[str]:
    """Which candles of a symbol a gap may lack: those of its session, where that brought any, else of all around it; of
    what was lost, those too that had been asked for.
    """
    near = {row.session for row in known.streamed if row.kind == CANDLE and row.symbol == symbol}
    sessions = {gap.session} if gap.session in near else near
    found = [known.widths.get((symbol, session), frozenset[str]()) for session in sessions]
    if gap.cause in LOST:
        had = (row for row in known.asked if (row.kind, row.symbol) == (CANDLE, symbol))
        found += [row.widths for row in had if row.at < gap.detected_at]
    return frozenset().union(*found)


def _no_road(gap: Gap, sources: Sources, known: Known, now: int) -> Step | Left | Hopeless:
    """Nobody can be asked: whether its frames are read again, or that is so for good."""
    rows = known.reread.get(gap.gap_id)
    if rows is None and gap.cause in FRAMED and intersect([hole(gap)], known.frames):
        return _by_frames(gap, now)
    if (why := sources.fleeting.get(gap.kind)) is not None:
        why = why if rows is None else f"its frames were read again, {rows:,} rows came; {why}"
        calm = hole(gap).end + CALM
        return Hopeless(gap, why) if now >= calm else Left(gap, f"{why} (called unrepairable after an hour)", calm)
    if sources.offers is None:
        return Left(gap, "the venue's past is not asked for yet: dl archive or dl import may have it")
    offer = sources.offers.get(gap.kind)
    if isinstance(offer, Absent):
        return Left(gap, offer.why)
    what = "other rows of it" if isinstance(offer, Offer) else "none"
    return Left(gap, f"the venue's REST routes give {what} afterwards: dl archive or dl import may have it")


def _by_frames(gap: Gap, now: int) -> Step | Left:
    """Whole days."""
    days = grained(hole(gap), DAY)
    if now < days.end + CLOSED:
        return Left(gap, f"its frames are kept: read again from {text(days.end + CLOSED)} on", days.end + CLOSED)
    return Step(gap, OWN, "time", (Wish(gap.kind, gap.symbol, days.start, days.end),))


def _too_old(span: Interval, offer: Offer, now: int) -> bool:
    return offer.reach is not None and span.start < now - offer.reach + MARGIN


def _by_rest(
    gap: Gap,
    offer: Offer,
    missing: Mapping[str, Sequence[Interval]],
    now: int,
    taken: Mapping[tuple[str, str], Sequence[Interval]],
    tried: Tried | None,
) -> Step | Left:
    """What is over for a minute is final. Before all of a gap is, it is asked for once: all of it where pages say
    themselves what is final, else what is.
    """
    wanted = {symbol: [grained(one, offer.grain) for one in spans] for symbol, spans in missing.items()}
    over = max(one.end for spans in wanted.values() for one in spans) + SETTLE
    if now < over:
        again = tried is not None or any(spans != [hole(gap)] for spans in missing.values())
        when = over if again else min(_soon(gap, offer), over)
        if now < when:
            why = EARLY if again else "it has just ended"
            return Left(gap, f"{why}: asked for from {text(when)} on", when)
        if not offer.prompt:
            final = Interval(0, floor_to(now - SETTLE, offer.grain))
            wanted = {symbol: intersect(spans, [final]) for symbol, spans in wanted.items()}
    made = [
        Wish(gap.kind, symbol, part.start, part.end)
        for symbol, spans in wanted.items()
        for one in subtract(spans, taken.get((gap.kind, symbol), ()))
        for part in parts(one, offer.width)
    ]
    return Step(gap, REST, "ids" if has_ids(gap) and offer.width is None else "time", tuple(made))


def _soon(gap: Gap, offer: Offer) -> int:
    """When a gap is first asked for (us), unless all of it is final before: where pages do not say what is final, not
    before a grain of it is.
    """
    span = hole(gap)
    first = span.end + (PROMPT if offer.prompt and has_ids(gap) else SOON)
    return first if offer.prompt else max(first, span.start - span.start % offer.grain + offer.grain + SETTLE)


def _by_archive(gap: Gap, missing: Mapping[str, Sequence[Interval]], now: int) -> Step | Left:
    """Whole days: a file is of one. That of a day comes on the day after, later in it than not."""
    days = {symbol: union(grained(one, DAY) for one in spans) for symbol, spans in missing.items()}
    end = max(one.end for spans in days.values() for one in spans)
    if now < end + DAY // 2:
        return Left(gap, f"the venue's archive has it from about {text(end + DAY // 2)} on", end + DAY // 2)
    made = [Wish(gap.kind, symbol, one.start, one.end) for symbol, spans in days.items() for one in spans]
    return Step(gap, ARCHIVE, "ids" if has_ids(gap) else "time", tuple(made))


def has_ids(gap: Gap) -> bool:
    return (gap.missing or 0) > 0
