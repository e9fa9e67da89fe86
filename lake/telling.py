"""The verbs of `Lake` that tell what is held and what is known of it, without a row of the data.

All arguments are plain values, all answers structs that msgspec writes as JSON. `kind` may be a bar of any width: its
gaps and coverage are those of the trades that it is made from, its files those of the stored bar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from lake import inventory, reading, revisions
from lake.asking import Symbols, Time, asked, bar_kind, date_of, names, number, one_of, span_of, text
from lake.errors import MissingFile, NotHeld, WrongQuestion
from lake.held_files import Held
from lake.inventory import Covered, Dataset, Filter
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.plans import Names
from lake.revisions import Lineage, Revision
from lake.rows import CertificateRow
from lake.trace import Trace, Wanted, trace
from market.kinds import kind as declared
from market.session import Gap, GapState
from market.times import DAY, Interval, parse

P = TypeVar("P")
T = TypeVar("T")
ATTEMPTS = 20
"""Snapshots that are asked before a file that keeps missing is an error."""


class Telling:
    """What is held, covered, missing, certified, and where it came from; each answer from one snapshot."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self._names = Names(root)

    def datasets(
        self,
        *,
        kind: str | None = None,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
    ) -> list[Dataset]:
        """What is held: a row for each kind of each symbol, with files of days that the span touches.

        Raises UnknownKind, Malformed, WrongQuestion.
        """
        return self._asked(kind, exchange, market_type, symbol, span_of(start, end), inventory.datasets)

    def files(
        self,
        *,
        kind: str | None = None,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        date: Time | None = None,
    ) -> list[Held]:
        """The files that a read opens, those of `date` or of days that the span touches, with their certificates.

        Raises UnknownKind, Malformed, WrongQuestion.
        """
        span = _day(date) if date is not None else span_of(start, end)
        return self._asked(kind, exchange, market_type, symbol, span, inventory.files)

    def gaps(
        self,
        *,
        kind: str | None = None,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        state: str | Sequence[str] = "open",
    ) -> list[Gap]:
        """Known holes that overlap [start, end): of one `state` or some of them, or of `all`.

        Raises UnknownKind, Malformed, WrongQuestion.
        """
        wanted = names("state", state) or []
        for one in wanted:
            one_of(one, (*get_args(GapState), "all"), "state")
        states = None if "all" in wanted else tuple(wanted)
        span = span_of(start, end)
        return self._asked(
            kind, exchange, market_type, symbol, span,
            lambda snapshot, made: inventory.gaps(snapshot, made, states),  # type: ignore[arg-type] # looked at above
        )  # fmt: skip

    def coverage(
        self,
        *,
        kind: str | None = None,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
    ) -> list[Covered]:
        """When each stream was collected inside [start, end), what is missing in it, and whether all of it is there.

        Raises UnknownKind, Malformed, WrongQuestion.
        """
        return self._asked(kind, exchange, market_type, symbol, span_of(start, end), inventory.coverage)

    def versions(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        date: Time | None = None,
    ) -> list[Revision]:
        """The revisions of closed days, those of `date` or of all that [start, end) touches; the current one last.

        Raises UnknownKind, Malformed, WrongQuestion.
        """
        span = _day(date) if date is not None else span_of(start, end)
        return self._asked(
            kind,
            exchange,
            market_type,
            symbol,
            span,
            lambda snapshot, made: revisions.versions(self.root, snapshot, made),
        )

    def certificate(
        self,
        kind: str,
        *,
        date: Time,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
        revision: int | None = None,
    ) -> CertificateRow:
        """The quality certificate of one day's file, of the current revision by default.

        Raises NotHeld, WrongQuestion (several files answer to that), UnknownKind, Malformed.
        """
        found = self._asked(
            kind, exchange, market_type, symbol, _day(date),
            lambda snapshot, made: revisions.revision_of(self.root, snapshot, made, revision),
        )  # fmt: skip
        if found.certificate is None:
            raise NotHeld(f"{found.path} has no certificate", "it gets one with the next revision of its day")
        return found.certificate

    def lineage(
        self,
        kind: str,
        *,
        date: Time,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
        revision: int | None = None,
    ) -> Lineage:
        """What one day's file was made from, down to the raw segments, with hashes; `trace` does so for a row.

        Raises NotHeld, WrongQuestion (several files answer to that), UnknownKind, Malformed.
        """

        def follow(snapshot: Snapshot, made: Filter) -> Lineage:
            found = revisions.revision_of(self.root, snapshot, made, revision)
            return revisions.lineage(self.root, snapshot, found)

        return self._asked(kind, exchange, market_type, symbol, _day(date), follow)

    def trace(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
        id: int | None = None,  # noqa: A002 # the venue's word
        session: str | None = None,
        frame_no: int | None = None,
        item: int | None = None,
    ) -> list[Trace]:
        """Rows by the venue's id or by session and frame, each with the files, the line and the frame it came from.

        Raises UnknownKind, WrongQuestion (which row is not said, or the kind has no ids), CorruptFile.
        """
        bar_kind(kind)
        which = asked(exchange, market_type, symbol)
        number("id", id, 0, below=math.inf)  # of what no row can have there is none
        for name, value in {"frame_no": frame_no, "item": item}.items():
            number(name, value, 0)
        text("session", session)
        if id is None and (session is None or frame_no is None):
            raise WrongQuestion(f"which row of {kind} is not said", "give id, or session and frame_no")

        def follow(snapshot: Snapshot) -> tuple[int, list[Trace]]:
            rows = [
                Wanted(kind, one.exchange, one.market_type, one.symbol, id, session, frame_no, item)
                for one in self._names.wanted(snapshot, exchange, market_type, which)
            ]
            return snapshot.version, [found for row in rows for found in trace(self.root, snapshot, row)]

        return self._fresh(follow, lambda found: found)

    def spelt(self, exchange: str | None, market_type: str | None, symbol: Symbols) -> tuple[reading.Wanted, ...]:
        """Symbols as the venues spell them."""
        which = asked(exchange, market_type, symbol)
        return self.manifest.run(lambda conn: self._names.wanted(Snapshot(conn), exchange, market_type, which))

    def _asked(
        self,
        kind: str | None,
        exchange: str | None,
        market_type: str | None,
        symbol: Symbols,
        span: Interval,
        ask: Callable[[Snapshot, Filter], T],
    ) -> T:
        """What `ask` says of one snapshot, of a kind that there is and of symbols as the venues spell them."""
        if kind is not None:
            bar = bar_kind(kind)
            kind = declared(bar.stored if bar else kind).name
        which = asked(exchange, market_type, symbol)

        def read(snapshot: Snapshot) -> tuple[int, T]:
            wanted = self._names.wanted(snapshot, exchange, market_type, which)
            return snapshot.version, ask(snapshot, Filter(kind, exchange, market_type, wanted, span))

        return self._fresh(read, lambda found: found)

    def _fresh(self, ask: Callable[[Snapshot], tuple[int, P]], use: Callable[[P], T]) -> T:
        """`use` of what `ask` says of one snapshot (its version, and that), again from a new one where meanwhile files
        of it were replaced and let go of: a file that the newest snapshot names has to be there.
        """
        version = None
        for _ in range(ATTEMPTS - 1):
            try:
                version, found = self.manifest.run(lambda conn: ask(Snapshot(conn)))
                return use(found)
            except (MissingFile, FileNotFoundError):
                if version == self.manifest.version:
                    raise
        return use(self.manifest.run(lambda conn: ask(Snapshot(conn)))[1])


def _day(date: Time) -> Interval:
    start = parse(date_of(date))
    return Interval(start, start + DAY)
