"""Writes the ground truth: one JSON line for all that happened, written before it is sent, synced twice a second.

Syncing is for power cuts only: what is written survives the end of the process in any case.

The format is told in `simulator.truth`, which reads it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from simulator.events import KIND_OF, Aggregate, Event, Fill, Marks, Top
from simulator.truth import FORMAT

SYNC_SECONDS = 0.5


class TruthLog:
    """The open log. Lines are gathered by `event` and `line` and written by `flush`, which the tick calls first."""

    def __init__(self, path: Path, header: Mapping[str, Any], now: int, sync: float = SYNC_SECONDS) -> None:
        """`sync` is the number of seconds between syncs, 0 for one at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._lines: list[str] = []
        self._stop = threading.Event()
        self._dirty = threading.Event()
        self._syncer = threading.Thread(target=self._sync_often, name="truth log sync", daemon=True)
        self.line("start", FORMAT, dict(header), now)
        self.flush()
        os.fsync(self._file.fileno())
        self._sync = sync
        if sync:
            self._syncer.start()

    def event(self, event: Event, published: int, sent: str, dropped: str = "") -> None:
        """One event; `sent` and `dropped` are ready JSON: the items of the list, the members of the map."""
        if isinstance(event, Fill):
            self._lines.append(
                f'["trade",{event.book.tag},{event.id},"{event.price}","{event.qty}",'
                f'{"true" if event.maker else "false"},"{event.condition}",'
                f"{event.ts},{published},[{sent}],{{{dropped}}}]\n"
            )
        elif isinstance(event, Aggregate):
            self._lines.append(
                f'["agg_trade",{event.book.tag},{event.id},"{event.price}","{event.qty}",'
                f"{'true' if event.maker else 'false'},{event.first_id},{event.last_id},"
                f"{event.ts},{published},[{sent}],{{{dropped}}}]\n"
            )
        elif isinstance(event, Top):
            self._lines.append(
                f'["quote",{event.book.tag},{event.id},"{event.bid}","{event.bid_qty}","{event.ask}","{event.ask_qty}",'
                f"{event.ts},{published},[{sent}],{{{dropped}}}]\n"
            )

        elif isinstance(event, Marks):
            for mark in event.items:
                self.event(mark, published, sent, dropped)
        else:
            self._lines.append(
                f'["{KIND_OF[type(event)]}",{event.book.tag},{event.id},{event.told()},'
                f"{event.ts},{published},[{sent}],{{{dropped}}}]\n"
            )

    def line(self, *items: object) -> None:
        """Any other line."""
        self._lines.append(msgspec.json.encode(items).decode() + "\n")

    def flush(self) -> None:
        """Hand everything to the operating system: a killed simulator loses none of it."""
        if self._lines:
            view = memoryview("".join(self._lines).encode())
            self._lines.clear()
            while view:
                view = view[self._file.write(view) :]
            self._dirty.set()

    def close(self, now: int) -> None:
        """Write the last line, sync, close."""
        self.line("stop", now)
        self.flush()
        self._stop.set()
        if self._sync:
            self._syncer.join()
        os.fsync(self._file.fileno())
        self._file.close()

    def _sync_often(self) -> None:
        while not self._stop.wait(self._sync):
            if self._dirty.is_set():
                self._dirty.clear()
                os.fsync(self._file.fileno())
