"""What becomes of a session's streams when it ends: interrupted, carried on by others, or wanted no more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from collectors.holes import HANDOVER, RETIRED, SILENCE, SINGLE, Memory
from collectors.links import TORN, Link, alive_until, had_by, taken_late, taken_on
from collectors.routes import Route
from market.session import Gap


class Departures:
    """Of one market. `links` are those that live on; gaps go to `found`. `around` gives the earliest and latest that
    the venue's clock may have said at a time of ours.
    """

    def __init__(
        self,
        links: Sequence[Link],
        route: Callable[[str], Route],
        found: Callable[[Iterable[Gap]], None],
        around: Callable[[int], tuple[int, int]],
    ) -> None:
        self._around = around
        self._links = links
        self._route = route
        self._found = found

    def over(self, link: Link, cause: str, now: int, code: int | None, *, wanted: bool) -> None:
        """A session is over. Without the venue's word, what it sent last may be lost, and so may what came since it was
        last heard; a connection that does not even agree to its being left was gone before that.
        """
        torn = code in TORN
        if cause == RETIRED or (cause == HANDOVER and (code is None or not torn)):
            self._pass_on(link, link.by_kind(), cause, now)
        elif wanted:
            self._interrupt(link, SILENCE if cause == HANDOVER else cause, now, link.heard if torn else now)
            self._pass_on(link, link.by_kind(wanted=False), RETIRED, now)
        else:
            self._let_go(link, cause, now)

    def _let_go(self, link: Link, cause: str, now: int) -> None:
        """Nothing more was wanted of a session, as of one that stopped: no gap. Where frames are read again others come
        after it, whose rows wait for nobody who is gone.
        """
        for kind, symbols in link.by_kind().items():
            merger = self._route(kind).merger
            if isinstance(merger, Memory):
                self._found(merger.let_go(link.session.session_id, symbols, cause, now))

    def _interrupt(self, link: Link, cause: str, now: int, heard: int) -> None:
        """Streams that no other session is producing stand still: a candle's, while it forms, has no event yet. Those
        this one produced, and another stood by to produce when this one was `heard` last, are handed over to it.
        """
        served = {stream for other in self._links for stream in other.producing(now)}
        standing = {one for other in self._links for one in other.standing_by(heard, now)} & {*link.producing(now)}
        session, taken = link.session.session_id, taken_on(link)
        shown = link.session.venue_time or (taken and self._around(taken)[0])
        general = SILENCE if cause in SINGLE else cause
        """A cause of single streams too is the end of all: those that others serve have lost this session."""
        for kind, symbols in link.by_kind().items():
            merger = self._route(kind).merger
            named = [one for one in symbols if (kind, one) not in served and (kind, one) not in link.unwanted]
            handed = [one for one in named if (kind, one) in standing and merger.begun(one)]
            lost = [one for one in named if one not in handed]
            for some, why in ((lost, cause), ((), general), (handed, HANDOVER)):
                self._found(merger.interrupt(session, some, why, now, shown))
        for kind, one, since in taken_late(link, self._links, heard):
            merger = self._route(kind).merger
            if isinstance(merger, Memory):
                there = link.session.venue_time or self._around(heard)[0]
                self._found(merger.missed(session, one, there, self._around(since)[1], general, now))

    def _pass_on(self, link: Link, streams: Mapping[str, Sequence[str]], cause: str, now: int) -> None:
        """Streams that other sessions carry go on there, the others are wanted no more: no gap, whichever it is. Of a
        handover to nobody that is known (a replay of some of the frames) ids say what is missing.
        """
        others = (other.by_kind(wanted=True).items() for other in self._links)
        elsewhere = {(kind, one) for carried in others for kind, held in carried for one in held}
        carried = {kind: [one for one in held if (kind, one) in elsewhere] for kind, held in streams.items()}
        if cause == HANDOVER and not any(carried.values()):
            carried = {kind: list(held) for kind, held in streams.items()}
        had, alive = had_by(link, self._links), alive_until(link, self._around(now)[0])
        for kind, held in streams.items():
            merger = self._route(kind).merger
            shown = link.session.venue_time
            if isinstance(merger, Memory):
                self._found(merger.passed_on(link.session.session_id, had.get(kind, {}), shown, alive, now))
            self._found(merger.interrupt(link.session.session_id, carried[kind], HANDOVER, now, shown))
            for one in set(held).difference(carried[kind]):
                since = self._around(link.unwanted.get((kind, one), now))[1]
                self._found(merger.forget([one], since, link.told(kind, one)))
