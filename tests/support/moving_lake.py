"""A lake that never rests: days that are hot, final, repaired and revised, under the real compactor, pass after pass.

`python -m tests.support.moving_lake ROOT` keeps it moving until stdin is closed, then prints how many passes there were
and how many rows each day has. What a day may hold is told here too: rows in the order in which they became known, so
that an answer is right where it is one of those states, none older than what was seen before.
"""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from compactor.config import CompactorConfig
from compactor.service import compact_once
from market.session import Gap
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.lakes import STREAM, TestLake
from tests.support.market_rows import T0, trade

STATES = ("final", "repaired", "revised", "hot")
"""A day each, in this order."""
FIRST = 40
"""Rows of a day that were there in time."""
MOST = 240
"""Rows of a day; then only copies come."""
NEVER = CompactorConfig.model_validate(
    {"revision_seconds": 0, "hour_delay_seconds": 0, "grace_seconds": 0, "audit": {"days": 0}}
)
"""Waits for nothing, and what was replaced is gone at once: no reader is spared."""


def span(state: str) -> tuple[int, int]:
    """[start, end) of the day of a state, us."""
    start = T0 + STATES.index(state) * DAY
    return start, start + DAY


def arrivals(state: str) -> list[dict[str, Any]]:
    """The rows of a day in the order in which they become known: the first FIRST at once, then one a turn.

    What is repaired lies between what was there, by REST; what comes late or last is of the stream.
    """
    start = span(state)[0]
    later = [n for n in range(MOST) if n % 6] if state in ("repaired", "revised") else list(range(FIRST, MOST))
    early = [n for n in range(MOST) if n not in later]
    base = STATES.index(state) * 10_000
    source = {"source": "rest", "session": "n-9-1"} if state == "repaired" else {}
    return [
        trade(start + n * 2 * MINUTE, f"{100 + n % 7}.{n % 10}", f"0.{1 + n % 9}", base + n, **(source if late else {}))
        for late, some in ((False, early), (True, later))
        for n in some
    ]  # fmt: skip


def at_once(state: str) -> int:
    """How many rows of a day are there before anything moves."""
    return MOST if state == "final" else FIRST


class Moving:
    """The lake and who changes it."""

    def __init__(self, root: Path) -> None:
        self.made = TestLake(root)
        self.rows = {state: arrivals(state) for state in STATES}
        self.known = {state: at_once(state) for state in STATES}
        self.turn = 0
        self.now = span("hot")[0] + 12 * HOUR
        self.made.cover(T0, self.now)
        for state in STATES:
            self._publish(sorted(self.rows[state][: self.known[state]], key=lambda row: row["seq"]))
        self._gaps(self.rows["repaired"][FIRST:], "open")
        self._compact()

    def step(self) -> None:
        """One more row of each day that still gets some, a copy of one that is there, and a pass of the compactor."""
        self.turn += 1
        for state in STATES[1:]:
            rows, known = self.rows[state], self.known[state]
            if known < MOST:
                self._publish([rows[known]])
                self.known[state] = known + 1
                if state == "repaired":
                    self._gaps([rows[known]], "repaired")
            copied = rows[self.turn % known]
            again = {"ts_recv": copied["ts_recv"] + SECOND, "session": "n-2-1", "frame_no": self.turn}
            self._publish([copied | again])
        self.now += SECOND
        self._compact()

    def _publish(self, rows: list[dict[str, Any]]) -> None:
        """As a transformer does: a part of each hour."""
        hours: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            hours.setdefault(row["ts_event"] // HOUR, []).append(row)
        for some in hours.values():
            self.made.part("trade", some, revision=self.turn)

    def _gaps(self, rows: list[dict[str, Any]], state: str) -> None:
        """A gap of each row: what is `repaired` was `open` before."""
        closed = self.now if state != "open" else None
        self.made.writer.record_gaps([
            Gap(
                **STREAM, kind="trade", symbol="BTCUSDT", gap_id=f"gap-{row['seq']}", ts_from=row["ts_event"],
                ts_to=row["ts_event"] + 1, id_from=row["seq"], id_to=row["seq"], cause="cut", proof="ids",
                state=state, session=None, detected_at=row["ts_event"], closed_at=closed,
            )
            for row in rows
        ])  # fmt: skip

    def _compact(self) -> None:
        done = compact_once(self.made.writer, InlineExecutor(), self.now, NEVER)
        if done.failures:
            raise AssertionError(done.failures)

    def told(self) -> dict[str, Any]:
        """What was done: passes, rows of each day, revisions of its file."""
        held = self.made.writer.manifest.files("trade", level="day")
        revisions = {row.date: row.revision for row in held}
        dates = {state: dt.date(1970, 1, 1) + dt.timedelta(microseconds=span(state)[0]) for state in STATES}
        return {
            "turns": self.turn, "rows": self.known,
            "revisions": {state: revisions.get(date.isoformat(), 0) for state, date in dates.items()},
        }  # fmt: skip


def keep_moving(moving: Moving, enough: Callable[[], bool]) -> dict[str, Any]:
    """Turn after turn until `enough`; what was done."""
    while not enough():
        moving.step()
    told = moving.told()
    moving.made.close()
    return told


def main() -> None:
    moving = Moving(Path(sys.argv[1]))
    sys.stdout.write("moving\n")
    sys.stdout.flush()
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    sys.stdout.buffer.write(msgspec.json.encode(keep_moving(moving, ended.is_set)) + b"\n")


if __name__ == "__main__":
    main()
