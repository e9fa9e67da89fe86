"""Rederivation: recorded frames of one market through today's parsers and mergers, into a folder that is thrown away.

What `dl verify --frames` and the nightly reproduction hold the lake against. Frames are not stored again; what was
stored before the first of them is recalled from the lake, since the mergers of that day knew it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from collectors import recorded, venues
from collectors.config import CollectorsConfig
from collectors.nameless import Beside
from collectors.recorded import Skipped
from collectors.replay import Run, Summary
from lake import durable, layout
from lake.errors import CorruptFile
from lake.frames import FrameLine, read_frames
from lake.lasting import Lasting
from lake.reproduced import Taken
from lake.rows import HISTORY, SegmentRow, SessionRow
from lake.writer import LakeWriter
from market.errors import Malformed
from market.kinds import Event
from runtime.saying import hushed

REST = "rest"
MOST_SPANS = 64
"""Of frames in no file that are told apart in one session: beyond them nothing of it counts as read."""


class Rederivation:
    """Frames files in, oldest first; sealed segments out, to be taken and dropped as it goes.

    `known` is what the lake had stored before the first of them, `today` (us) the time. Raises UnknownExchange,
    Malformed.
    """

    def __init__(
        self,
        exchange: str,
        market_type: str,
        scratch: Path,
        config: CollectorsConfig,
        known: Lasting,
        today: int,
        beside: Beside,
    ) -> None:
        venue = venues.load(exchange)
        if market_type not in venue.ENDPOINTS:
            raise Malformed(f"market_type of {exchange} (one of {', '.join(venue.ENDPOINTS)})", market_type)
        self.writer = LakeWriter.open(scratch, config.node, today, simulated=None)
        self._begun: set[str] = set()
        writing = config.writing.model_copy(update={"frames": False})
        with hushed():
            self._run = Run(
                venue, market_type, self.writer, config.model_copy(update={"writing": writing}), {}, today, beside
            )
            self._run.recall(known)

    def begin(self, opened: Iterable[FrameLine], unread: Iterable[str], said: Sequence[Event]) -> None:
        """Sessions that were open before the first file, by the lines that opened them; those `unread` are left out.
        `said` is the last event of each symbol before it, of kinds whose messages tell only what changes.
        """
        self._run.unknown.update(unread)
        with hushed():
            for line in opened:
                self._begun.add(line.conn)
                recorded.remind(self._run.begin(line), said)

    def take(self, path: Path, crashed: Iterable[str] = ()) -> None:
        """All of one file. `crashed` are sessions that a crash had ended before it: no frame tells that, and who is
        taken for alive is waited for. Raises CorruptFile.
        """
        with hushed():
            for session in crashed:
                self._run.lose(session)
            try:
                self._run.take(path)
            except (OSError, Malformed) as error:
                raise CorruptFile(f"{path}: {error}", "bring the file back from a copy") from error

    def finish(self) -> None:
        """There are no more frames: whatever is held back comes out."""
        with hushed():
            self._run.finish()

    def seal(self) -> None:
        """All that was made so far is to be in sealed segments."""
        with hushed():
            self._run.seal()

    def segments(self) -> list[SegmentRow]:
        """Sealed segments with lines that were not dropped."""
        return [row for row in self.writer.manifest.segments(state="sealed") if row.rows]

    def drop(self, rows: Iterable[SegmentRow], now: int) -> None:
        """These segments were taken: their bytes go."""
        paths = [row.path for row in rows]
        for path in paths:
            for name in (path, layout.meta_path(path)):
                durable.unlink(self.writer.root / name)
        self.writer.publish(segments=dict.fromkeys(paths, "deleted"), now=now)

    @property
    def summary(self) -> Summary:
        return self._run.summary()

    def rejected(self) -> Counter[str]:
        """Session -> frames that were set aside, of sessions whose frames have been written."""
        found: Counter[str] = Counter()
        for row in self.writer.manifest.quarantine():
            found[row.origin] += row.count
        return found

    def sessions(self) -> dict[str, SessionRow]:
        """What the sessions that ended were made to be."""
        return {row.session: row for row in self.writer.manifest.sessions() if row.closed_at is not None}

    def missing(self) -> dict[str, list[Skipped]]:
        """Session -> its frames that are in no file although later ones are; not those before the first file."""
        found = {
            session: [span for span in spans if span.start > 1 or session not in self._begun]
            for session, spans in self._run.skipped.items()
        }
        return {session: spans for session, spans in found.items() if spans}

    def taken(self) -> dict[str, Taken]:
        """Session -> which of its frames were read so far."""
        skipped = self._run.skipped
        found = {}
        for session, last in self._run.newest().items():
            spans = [(span.start, span.stop) for span in skipped.get(session, ())]
            begins = [span for span in spans if span[0] == 1]  # of a session that had begun before
            rest = [span for span in spans if span[0] > 1]
            end = last if len(rest) <= MOST_SPANS else rest[MOST_SPANS][0] - 1
            found[session] = Taken(max((stop for _, stop in begins), default=1), end, tuple(rest[:MOST_SPANS]))
        return found

    def close(self) -> None:
        with hushed():
            self._run.close()
        self.writer.close()


def opening(rows: Iterable[SessionRow], files: Sequence[Path]) -> tuple[list[FrameLine], set[str]]:
    """Lines that open these sessions, and those sessions of which nothing says any more what they asked for.

    A connection is known by its address; a session that only fetches is told by its own line in one of `files`.
    """
    wanted = {row.session: row for row in rows}
    lines = [
        FrameLine(ts_recv=row.opened_at, conn=row.session, dir="open", url=row.url)
        for row in wanted.values()
        if row.source not in (REST, HISTORY)
    ]
    asked = {name for name, row in wanted.items() if row.source in (REST, HISTORY)}
    for path in files:
        if not asked:
            break
        for line in read_frames(path):
            if line.conn in asked and line.dir == "open" and recorded.polled(line) is not None:
                lines.append(msgspec.structs.replace(line, n=0))
                asked.discard(line.conn)
    return sorted(lines, key=lambda line: line.ts_recv), asked
