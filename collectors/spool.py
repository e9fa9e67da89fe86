"""Spool: one stream of received items on its way to disk, as a sequence of files that rotate by receive time.

The period that a file answers for ends at a multiple of its age since 00:00 UTC, so that no file spans midnight, all
streams turn over together, and a replay cuts where live collection did. A period in which nothing came is a row
without a file: silence advances the watermark too.

What a failure interrupts is not lost: items wait until their bytes are written, bytes until they are synced. After a
failed sync the bytes go to a new file, since the kernel may have forgotten them; only if that fails too is it an error.

One thread may `put` and `keep` while another does the rest: what has come is in the file, where a kill cannot take it,
however long the disk takes for a sync, or for what else is sealed.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from collectors import pieces
from collectors.intake import Lines, MarketKey
from lake import layout
from lake.errors import StorageFailed
from lake.frames import FramesFile, recover_frames
from lake.rows import FRAMES, SegmentRow
from lake.segment_files import OpenFile, Recovered, SegmentFile, recover_segment
from lake.writer import LakeWriter
from market import times
from runtime import metrics, telemetry

WAITED_FOR = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
)  # fmt: skip

F = TypeVar("F", bound=OpenFile)


class Spool(ABC, Generic[F]):
    """One stream of one market; `kind` is FRAMES for frames. Times us, receive time."""

    def __init__(
        self, writer: LakeWriter, node: str, market: MarketKey, kind: str, *, age: int, max_bytes: int
    ) -> None:
        self.kind = kind
        self.lane = (*market, kind)
        self.rows = 0
        """Rows written since the start."""
        self.unsynced_bytes = 0
        """Written, and not known to be durable."""
        self._writer = writer
        self._node = node
        self._exchange, self._market_type = market
        self._age = age
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        """Held by whoever changes what follows; not while a sync of the file that is written takes its time."""
        self._arrived = deque[Lines]()
        self._waiting: list[Lines] = []
        self._unsynced: list[Lines] = []
        self._again: list[Lines] = []
        """Pieces that an abandoned file may have lost and the present one does not have yet."""
        self._abandoned: list[F] = []
        self._file: F | None = None
        self._next: F | None = None
        """The file of the next period, while the row of this one's is to be recorded."""
        self._sealing: int | None = None
        """The end of the period whose seal has been begun: nothing more is written to its file."""
        self._end = 0
        self._number = self._last_number()

    @abstractmethod
    def _path(self, opened_at: int, number: int) -> str: ...

    @abstractmethod
    def _open(self, row: SegmentRow) -> F: ...

    @abstractmethod
    def _recover(self, file: F) -> Recovered: ...

    def put(self, items: Sequence[Lines]) -> None:
        """Items to write, in order of arrival."""
        self._arrived.extend(items)

    def keep(self) -> bool:
        """Append what belongs into the open file, waiting for nobody. Whether that is all; `write` does the rest."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._take_in()
            if self._file is not None and self._file.created and self._sealing is None and not self._again:
                with contextlib.suppress(StorageFailed):
                    self._put_down_first(self._fitting_here())
            return not self._waiting
        finally:
            self._lock.release()

    def begin(self, now: int) -> None:
        """From `now` on this stream is collected, even if nothing comes. Nothing happens where it is already."""
        with self._lock:
            if self._file is None:
                self._file = self._next_file(now)

    def due(self, now: int) -> bool:
        """Whether a period has ended, so that the next write seals."""
        return self._file is not None and (self._sealing is not None or now >= self._end)

    @property
    def oversize(self) -> bool:
        return self._file is not None and self._file.size >= self._max_bytes

    def write(self, now: int) -> None:
        """Write what waits, sealing every period that has ended by `now`."""
        with self._lock:
            self._turn_over(now)
            if self._file is not None:
                self._write_first(self._fitting_here())

    def turn(self, now: int, *, final: bool = False) -> list[SegmentRow]:
        """End the period that is over by `now`, or with `final` the last one: all of it is durable under its name.

        The rows of its file and of the next one's, to be recorded before `turned` is called, those of many spools at
        once; none where nothing ends. What a failure interrupts is ended by the next call, before anything else.
        """
        with self._lock:
            self._take_in()
            if self._sealing is None:
                if self._file is None:
                    if not self._waiting:
                        return []
                    self.begin(self._waiting[0].ts_recv)
                if now >= self._end:
                    end = self._write_period(now)
                elif final:
                    self._write_first(self._fitting_here())
                    held = self._live.extent
                    end = max(now, self._live.row.period_start, held.recv_max + 1 if held else 0)
                else:
                    return []
                self.sync()
                self._sealing = end
            sealed = self._seal(self._sealing)
            self._next = None if final and self._sealing >= now else self._open(self._next_row(self._sealing))
            return [sealed] if self._next is None else [sealed, self._next.row]

    def turned(self, sealed: SegmentRow) -> None:
        """What `turn` returned, `sealed` first, is recorded: the next period may be written."""
        with self._lock:
            self._file, self._next, self._sealing = self._next, None, None
        if self.kind != FRAMES:
            metrics.watermark(self._exchange, self._market_type, self.kind, sealed.period_end or 0)
            telemetry.segment_sealed(
                exchange=self._exchange, market_type=self._market_type, kind=self.kind, rows=sealed.rows,
                nbytes=sealed.bytes, path=sealed.path,
            )  # fmt: skip

    def sync(self) -> None:
        """Make everything that is written by now durable. Raises StorageFailed where a second file fails too."""
        with self._lock:
            file, count = self._file, len(self._unsynced)
        try:
            if file is not None and count:
                file.sync()
        except StorageFailed as error:
            with self._lock:
                self._abandon(error)
                self._live.sync()
                count = len(self._unsynced)
        with self._lock:
            self.unsynced_bytes -= sum(len(piece.data) for piece in self._unsynced[:count])
            del self._unsynced[:count]
        if not self._again:
            self._settle_abandoned()

    def finish(self, now: int) -> int:
        """Write and seal everything; the period ends behind the last item. When (us) it does, `now` or later."""
        with self._lock:
            return max(now, self._turn_over(now, final=True))

    def step(self, before: int, now: int) -> None:
        """The wall clock was stepped from `before` to `now`: no file holds times of both sides, and the time between
        is nobody's silence. Calling it again after a failure goes on.
        """
        with self._lock:
            self._take_in()
            if self._file is None:
                return
            came = [item.ts_recv for item in self._waiting]
            early = pieces.before_step(came, before, now)
            later = self._waiting[early:]
            del self._waiting[early:]
            try:
                self.finish(before)
                self.begin(now if now > before else min([now, *came[early:]]))
            finally:
                self._waiting += later

    def close(self) -> None:
        """Leave an open file to recovery."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    # --- inside ---

    def _take_in(self) -> None:
        while self._arrived:
            self._waiting.append(self._arrived.popleft())

    def _fitting_here(self) -> int:
        """How many of the first that wait belong into the open file: what came since may be the next one's."""
        return next((n for n, item in enumerate(self._waiting) if item.ts_recv >= self._end), len(self._waiting))

    @property
    def _live(self) -> F:
        assert self._file is not None
        return self._file

    def _turn_over(self, now: int, *, final: bool = False) -> int:
        end = 0
        while rows := self.turn(now, final=final):
            self._writer.record(segments=rows)
            self.turned(rows[0])
            end = rows[0].period_end or 0
        return end

    def _write_period(self, now: int) -> int:
        """Write what of the waiting belongs into the period that is over; where that period ends."""
        self._waiting, early = pieces.parted(self._waiting, self._end)
        self._write_first(early)
        return self._end if self._live.rows else self._silence_until(now)

    def _seal(self, end: int) -> SegmentRow:
        """The row of the file, which is durable and closed."""
        try:
            return self._live.seal(end)
        except StorageFailed as error:
            if not self._live.failed:
                raise
            self._abandon(error)  # every line of it is durable already: what ends the period is a file without any
            row = self._live.seal(end)
            self._settle_abandoned()
            return row

    def _silence_until(self, now: int) -> int:
        """The end of a period without items: as far as the silence reaches, but not beyond midnight."""
        heard = min(self._waiting[0].ts_recv, now) if self._waiting else now
        start = self._live.row.period_start
        midnight = times.floor_to(start, times.DAY) + times.DAY
        return max(self._end, min(times.floor_to(heard, self._age), midnight))

    def _write_first(self, count: int) -> None:
        """Write the first `count` of what waits, forgetting each piece once it is written."""
        if self._again:
            try:
                self._write_again()
            except StorageFailed as error:
                self._abandon(error)
        wanted = len(self._waiting) - count
        while len(self._waiting) > wanted:
            try:
                self._put_down_first(len(self._waiting) - wanted)
            except StorageFailed as error:
                self._abandon(error)
                self._put_down_first(1)

    def _put_down_first(self, count: int) -> None:
        """Append the first `count` of what waits, forgetting each piece once it is written."""
        while count > 0:
            done = pieces.fitting(self._waiting, count)
            piece = pieces.joined(self._waiting[:done])
            self._live.append(piece.data, piece.rows, piece.extent)
            self._unsynced.append(piece)
            self.unsynced_bytes += len(piece.data)
            self.rows += piece.rows
            del self._waiting[:done]
            count -= done

    def _abandon(self, error: StorageFailed) -> None:
        """Go on in a new file, with all that the failed one may have lost. What no other file would help against (a
        full disk, a read-only one, too many open files) is waited for instead.
        """
        if error.errno in WAITED_FOR:
            raise error
        old = self._live
        new = self._next_file(old.row.period_start)  # where that fails too, nothing has changed here
        telemetry.storage_failed(path=old.row.path, error=error)
        old.close()
        self._abandoned.append(old)
        self._again = self._unsynced + self._again
        self._unsynced = []
        self._file = new
        self._write_again()

    def _write_again(self) -> None:
        while self._again:
            piece = self._again[0]
            self._live.append(piece.data, piece.rows, piece.extent)
            self._unsynced.append(self._again.pop(0))

    def _settle_abandoned(self) -> None:
        """Seal what abandoned files certainly have, now that all that they lost is durable elsewhere."""
        while self._abandoned:
            old = self._abandoned[0]
            kept = self._recover(old)
            row = kept.row or msgspec.structs.replace(old.row, state="sealed", clean=False)
            # The period goes on in the new file: this row must not claim any of it.
            row = msgspec.structs.replace(row, period_start=old.row.period_start, period_end=old.row.period_start)
            self._writer.record(segments=[row], quarantine=kept.quarantined)
            self._abandoned.pop(0)

    def _next_file(self, start: int) -> F:
        """The file of the period that begins at `start`, recorded as open; it is created with its first bytes."""
        row = self._next_row(start)
        self._writer.open_segment(row)
        return self._open(row)

    def _next_row(self, start: int) -> SegmentRow:
        """The row of the file of the period that begins at `start`."""
        midnight = times.floor_to(start, times.DAY) + times.DAY
        self._end = min(times.floor_to(start, self._age) + self._age, midnight)
        while True:
            self._number += 1
            path = self._path(start, self._number)
            if not any((self._writer.root / name).exists() for name in (path, path + layout.OPEN)):
                break
        return SegmentRow(
            path=path, exchange=self._exchange, market_type=self._market_type, kind=self.kind, state="open",
            period_start=start,
        )  # fmt: skip

    def _last_number(self) -> int:
        """The highest number that any writer has given a file of this stream."""
        rows = self._writer.manifest.segments(self._exchange, self._market_type, self.kind)
        parse = layout.parse_frames if self.kind == FRAMES else layout.parse_raw
        return max((parse(row.path).number for row in rows), default=0)


class SegmentSpool(Spool[SegmentFile]):
    """Events of one kind as JSON lines."""

    def _path(self, opened_at: int, number: int) -> str:
        return layout.raw_path(self._exchange, self._market_type, self.kind, opened_at, self._node, number)

    def _open(self, row: SegmentRow) -> SegmentFile:
        return SegmentFile(self._writer.root, row)

    def _recover(self, file: SegmentFile) -> Recovered:
        return recover_segment(self._writer.root, file.row.path, file.row.period_start, keep=file.synced)


class FramesSpool(Spool[FramesFile]):
    """Frames as they came, and what was asked."""

    def _path(self, opened_at: int, number: int) -> str:
        return layout.frames_path(self._exchange, self._market_type, opened_at, self._node, number)

    def _open(self, row: SegmentRow) -> FramesFile:
        return FramesFile(self._writer.root, row)

    def _recover(self, file: FramesFile) -> Recovered:
        return recover_frames(self._writer.root, file.row.path, file.row.period_start, keep=file.synced)
