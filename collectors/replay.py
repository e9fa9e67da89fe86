"""Replay: frames through the very pipeline of live data, at full speed, with the frames' own receive times.

What was received once is received again: the same sessions, numbers, lines, coverage, and gaps but those of silences,
which are found by asking the venue. The frames are stored too, so that every row can be traced. A frame that the lake
already has is passed over: twice is once, and what was interrupted is finished by another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from collectors import polling, recorded, recovery, replaying, venues
from collectors.apart import OWN, Apart
from collectors.config import CollectorsConfig
from collectors.intake import Intake
from collectors.links import Link, nonzero
from collectors.merger import HOLD
from collectors.nameless import Beside, beside
from collectors.pipeline import Pipeline
from collectors.recorded import Held, Skipped
from collectors.redundancy import merger_maker
from collectors.slices import Recording, SliceReader, Together, is_slice
from collectors.unsettled import CRASH
from collectors.writing import GroupCommit
from lake.frame_order import as_written
from lake.frames import FrameLine, FramesReader, read_frames
from lake.lasting import Lasting
from lake.rows import HISTORY
from lake.writer import LakeWriter
from market.errors import Malformed
from market.session import Exchange, Fetch, Gap
from market.times import DAY, SECOND

BATCH = 256
"""Frames of one session with one receive time that are handed on together, at most."""
TICK = SECOND // 4  # how often, in receive time, the mergers are told the time
PASS = 10 * SECOND
"""How much receive time a write pass takes at most: frames are never far ahead of the lines made from them."""


class Summary(msgspec.Struct, kw_only=True):
    """What a replay did. Counters are by kind, `ignored` by channel, `rejected` by reason."""

    files: int = 0
    sessions: int = 0
    frames: int = 0
    passed_over: int = 0
    """Frames that the lake had already."""
    events: dict[str, int] = {}
    duplicates: dict[str, int] = {}
    covered: dict[str, int] = {}
    """Events of a recording of somebody else, left out where the lake has their time and no id tells what is one."""
    not_taken: list[str] = []
    """Books of such times, in words."""
    ignored: dict[str, int] = {}
    rejected: dict[str, int] = {}
    gaps: int = 0
    damage: list[str] = []
    """What in the files was no frame: file, line and reason, for the first of a file."""
    damaged: int = 0
    """Lines that were none, however many."""


Progress = Callable[[Summary], None]


def replay(
    files: Sequence[Path],
    exchange: str,
    market_type: str,
    writer: LakeWriter,
    config: CollectorsConfig,
    now: int,
    on_progress: Progress | None = None,
) -> Summary:
    """Take frames files, oldest first, into the lake of `writer`; sealed and complete when this returns.

    Raw data of tardis.dev are taken as well (`collectors.slices`). All of one connection's files belong into one call,
    in any order. `now` (us) is today's time: nothing was received after it. A line that is none, a file without any,
    and a frame that comes behind later ones of its connection (it cannot be taken any more) is said in
    `damage` and the rest goes on.
    Raises UnknownExchange, Malformed for a line that never ends, FileNotFoundError, StorageFailed.
    """
    venue = venues.load(exchange)
    if market_type not in venue.ENDPOINTS:
        raise Malformed(f"market_type of {exchange} (one of {', '.join(venue.ENDPOINTS)})", market_type)
    stops = recovery.settle(writer, writer.recover(now), now)
    run = Run(venue, market_type, writer, config, stops, now, beside(writer.manifest, venue.NAME, market_type, now))
    try:
        raw = [path for path in files if is_slice(path)]
        for path in as_written((recorded.begins(path), path) for path in files if path not in raw):
            run.take(path)
            if on_progress is not None:
                on_progress(run.summary())
        run.take_raw(raw, on_progress)
        run.finish()
        for gaps in run.filled():
            writer.record_gaps(gaps)
    finally:
        run.close()
    return run.summary()


class Run:
    """One run over some files. Time is the receive time of the line in hand."""

    def __init__(
        self,
        exchange: Exchange,
        market_type: str,
        writer: LakeWriter,
        config: CollectorsConfig,
        stops: recovery.Stops,
        today: int,
        beside: Beside,
    ) -> None:
        self._today, self._beside = today, beside
        self._exchange = exchange
        self._market_type = market_type
        self._writer = writer
        self._stops = stops
        self._intake = Intake(config.writing)
        self._commit = GroupCommit(writer, config.node, config.writing)
        made = (exchange.NAME, market_type, self._intake, merger_maker(exchange, market_type))
        self._pipelines = Apart(lambda: Pipeline(*made, frames=config.writing.frames, keeper=beside))
        self._pressure = config.writing.queue_bytes // 2
        self.unknown: set[str] = set()  # connections of which nothing says what they asked for: they are left out
        self._links: dict[str, Link] = {}
        self._known: dict[str, Held] = {}
        self._counts: dict[str, int] = {}
        self._skipped: dict[str, list[Skipped]] = {}
        """Frame numbers by connection that later ones were taken before."""
        self._misplaced: Counter[str] = Counter()
        self._batch: list[bytes] = []
        self._batch_of: tuple[str, int, int] = ("", 0, 0)
        """(conn, number of the next frame, ts_recv) of the batch in hand."""
        self._now = 0
        self._ticked = 0
        self._committed = 0
        self._summary = Summary()

    def recall(self, known: Lasting) -> None:
        """What was stored before the first frame."""
        polling.remember(self._pipelines.of(OWN), known)

    def begin(self, line: FrameLine) -> Link | None:
        """A connection that was open before the first frame, as the line that opened it says."""
        return self._link(line)

    def lose(self, conn: str) -> None:
        """A connection ended without a word, if it is open: whoever had it was killed."""
        if (link := self._links.get(conn)) is not None:
            self._end(link, CRASH, self._now)

    def seal(self) -> None:
        """What was made so far is in sealed segments; connections and what is waited for stay as they are."""
        self._commit.commit(self._intake.collect(self._now, sync=True, final=True))

    @property
    def skipped(self) -> Mapping[str, Sequence[Skipped]]:
        """Connection -> numbers of its frames that were in no file, although later ones were."""
        return self._skipped

    def newest(self) -> dict[str, int]:
        """Connection -> number of the newest of its frames that was taken."""
        known = {conn: held.here for conn, held in self._known.items()}
        return known | {conn: link.session.frame_no for conn, link in self._links.items()}

    def take(self, path: Path) -> None:
        """Every line of one file."""
        reader = read_frames(path, self._counts)
        self._tell(path.name, reader, *self._take(reader.pairs()))

    def take_raw(self, paths: Sequence[Path], on_progress: Progress | None = None) -> None:
        """Every line of files of raw data, by their times."""

        def ended(reader: SliceReader) -> None:
            self._flush()
            self._tell(reader.path.name, reader, reader.lines, 0, [])
            if on_progress is not None:
                on_progress(self.summary())

        named = replaying.named(self._exchange.NAME, self._market_type, "X")
        adapter = replaying.adapter(self._exchange.NAME)
        recording = Recording(named, adapter, self._today + DAY, self._beside.taken)
        self._take(Together(paths, recording, ended).pairs())

    def _take(self, pairs: Iterable[tuple[bytes, FrameLine | None]]) -> tuple[int, int, list[tuple[int, str]]]:
        """How many lines there are, how many of them cannot be believed, and the first of those."""
        wrong: list[tuple[int, str]] = []
        number = refused = 0
        for number, (_, line) in enumerate(pairs, start=1):
            if line is None:
                continue  # the reader counts it
            if (
                line.dir == "recv"
                and (line.conn, line.n, line.ts_recv) == self._batch_of
                and line.frame is not None
                and len(self._batch) < BATCH
            ):
                self._batch.append(line.data)
                self._batch_of = (line.conn, line.n + 1, line.ts_recv)
                continue
            self._flush()
            problem = recorded.problem(line, self._today)
            if problem is not None:
                refused += 1
                if refused <= recorded.DAMAGE_SHOWN:
                    wrong.append((number, problem))
                continue
            self._advance(line.ts_recv)
            self._line(line)
        self._flush()
        return number, refused, wrong

    def _tell(
        self, name: str, reader: FramesReader | SliceReader, lines: int, refused: int, wrong: list[tuple[int, str]]
    ) -> None:
        said, damaged = recorded.damage(name, reader, lines, refused, wrong)
        self._summary.files += 1
        self._summary.damage += said
        self._summary.damaged += damaged
        self._tell_misplaced(name)

    def _tell_misplaced(self, name: str) -> None:
        """Say which frames of the last file came too late to be taken."""
        for conn, count in self._misplaced.items():
            self._summary.damaged += count
            self._summary.damage.append(
                f"{name}: {count:,} frames of {conn} were not taken, for later ones of it are in the lake: replay all"
                " files of that connection in one call, into a new lake"
            )
        self._misplaced.clear()

    def finish(self) -> None:
        """The frames are at an end: whatever is open ends where they do, and everything is sealed."""
        for link in list(self._links.values()):
            self._of(link.name).close(link, "end_of_frames", self._now, wanted=False)
        self._links.clear()
        self._seal()

    def filled(self) -> Iterator[list[Gap]]:
        """Gaps that a recording has closed: write each list down before the next is asked for."""
        return self._beside.filled(self._writer.manifest, self._exchange.NAME, self._market_type, self._today)

    def close(self) -> None:
        self._commit.close()

    def summary(self) -> Summary:
        totals, summary = self._pipelines.totals, self._summary
        ignored = totals.ignored.copy()
        for link in self._links.values():
            ignored.update(link.session.ignored)
        return msgspec.structs.replace(
            summary, frames=totals.frames, events=nonzero(totals.events), duplicates=nonzero(totals.duplicates),
            covered=nonzero(self._beside.left), not_taken=self._beside.seams.told(),
            ignored=nonzero(ignored), rejected=nonzero(totals.rejected), gaps=totals.gaps, damage=[*summary.damage],
        )  # fmt: skip

    # --- lines ---

    def _line(self, line: FrameLine) -> None:
        link = self._link(line)
        if link is None:
            return
        session = link.session
        if line.dir in ("recv", "http"):
            if line.n <= session.frame_no:
                self._pass_over(line)
                return
            if line.n > session.frame_no + 1:
                self._skipped.setdefault(line.conn, []).append(recorded.skipped(link, line))
                link = self._after_missing(link, line)
                session = link.session
            session.frame_no = line.n - 1
        if line.dir == "recv":
            self._batch = [line.data]
            self._batch_of = (line.conn, line.n + 1, line.ts_recv)
        elif line.dir == "http":
            self._of(line.conn).tick(link, line.ts_recv)
            asked = Fetch(line.tag or "", line.method or "GET", line.url or "")
            self._of(line.conn).respond(link, asked, line.status or 0, line.headers or {}, line.data, line.ts_recv)
        elif line.dir == "send":
            self._of(line.conn).sent(link, line.data.decode("utf-8", "replace"), line.ts_recv)
        elif line.dir == "close":
            cause, detail, wanted = recorded.ended(line)
            self._end(link, cause, line.ts_recv, line.n, code=line.code, detail=detail, wanted=wanted)

    def _after_missing(self, link: Link, line: FrameLine) -> Link:
        """Frames before this one are in no file: whatever streams they were of is interrupted, and begins anew here."""
        taken = link.session.frame_no
        if line.dir == "http" or taken == self._held(line.conn).here:  # nothing of it was taken before
            return link
        detail = f"frames {taken + 1} to {line.n - 1} of {line.conn} are in no file"
        self._end(link, "frames_missing", line.ts_recv, detail=detail)
        return self._link(line) or link

    def _end(self, link: Link, cause: str, now: int, frames: int = 0, **said: Any) -> None:
        """A connection ends: who comes back under its name goes on behind what was taken."""
        self._of(link.name).close(link, cause, now, **said)
        del self._links[link.name]
        self._known[link.name] = self._held(link.name)._replace(here=max(frames, link.session.frame_no))

    def _pass_over(self, line: FrameLine) -> None:
        """A frame that is not newer than what was taken of its connection: the lake has it, or never will."""
        held = self._held(line.conn)
        if line.n <= held.frames:
            there = held.first <= line.ts_recv <= held.last
        else:
            there = not any(one.start <= line.n < one.stop for one in self._skipped.get(line.conn, ()))
        if there:
            self._summary.passed_over += 1
        else:
            self._misplaced[line.conn] += 1

    def _link(self, line: FrameLine) -> Link | None:
        """The open session of a line's connection; None where the lake has all of it up to this line."""
        link = self._links.get(line.conn)
        if link is not None:
            return link
        held = self._held(line.conn)
        known = held.here
        if line.conn in self.unknown:
            return None
        if line.dir in ("recv", "http"):
            if line.n <= known:
                self._pass_over(line)
                return None
        elif known or line.dir != "open":
            return None  # an end, or the beginning of what is known already
        for lost in recorded.killed(line, self._links):
            self.lose(lost)
        session, polled = recorded.session(self._exchange, self._market_type, line)
        session.frame_no = known
        self._seed(line.conn)
        url = held.url or line.url or ""  # who goes on is who it was
        self._known[line.conn] = held._replace(url=url)
        self._beside.opened(line.conn, url)
        source = "ws" if polled is None else HISTORY if recorded.SPAN in polled else "rest"
        link, _ = self._of(line.conn).open(
            session, name=line.conn, source=source, url=url, now=line.ts_recv, polled=polled
        )
        self._links[line.conn] = link
        self._summary.sessions += held.here == held.frames  # else it goes on behind missing frames
        return link

    def _of(self, conn: str) -> Pipeline:
        """What the sessions of a connection's recording, or own ones, go through."""
        return self._pipelines.of(self._beside.apart(conn))

    def _held(self, conn: str) -> Held:
        """What the lake has of a connection."""
        held = self._known.get(conn)
        if held is None:
            held = self._known[conn] = recorded.held(self._writer.manifest, conn)
        return held

    def _seed(self, conn: str) -> None:
        """What an interrupted replay of this connection stored last, so that the rest joins it."""
        market = (self._exchange.NAME, self._market_type)
        if self._held(conn).here != self._held(conn).frames:
            return  # the mergers remember
        for lane, symbols in self._stops.items():
            mine = {symbol: stop for symbol, stop in symbols.items() if stop.session == conn}
            if lane[:2] == market and mine:
                self._of(conn).seed({lane[2]: mine})

    # --- time ---

    def _flush(self) -> None:
        """Hand on the batch in hand."""
        if self._batch:
            conn, _, ts_recv = self._batch_of
            self._of(conn).receive(self._links[conn], self._batch, ts_recv)
            self._batch, self._batch_of = [], ("", 0, 0)

    def _advance(self, now: int) -> None:
        """Time is now `now`: mergers are told, periods end, and memory stays bounded."""
        if not self._links and self._now and now - self._now > SECOND:
            self._seal()  # nothing was collected in between: that is no silence
        self._now = max(self._now, now)
        due = self._commit.due(self._now)
        if due or self._now - self._committed >= PASS or self._intake.waiting_bytes >= self._pressure:
            self._pipelines.advance(self._now, covered=due)
            self._commit.commit(self._intake.collect(self._now, sync=due))
            self._committed = self._ticked = self._now
        elif self._now - self._ticked >= TICK:
            self._pipelines.advance(self._now)
            self._ticked = self._now

    def _seal(self) -> None:
        if self._now:
            self._pipelines.advance(self._now + HOLD, covered=True)  # what is still waited for will not come any more
            self.seal()
