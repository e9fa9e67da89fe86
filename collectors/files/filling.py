"""`dl import` of a bought book of which the lake has a part: what of the file is taken, and what becomes of gaps.

What the lake covers goes first (`lake.book_parts`); the file fills what is open (`joining`), and closes the gaps of
that book that it fills from one end to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from collectors.files import joining
from collectors.files.blocks import Block, blocks
from collectors.files.changes import CHANGES
from collectors.files.joining import State, Taken
from collectors.files.reading import Reading
from collectors.files.rows import batches
from lake import adopting, book_parts, overlaps
from lake.adopting import FileSource, Published
from lake.book_parts import Parts
from lake.books import KIND
from lake.errors import BookCrossed, BookUnknown
from lake.manifest import Manifest
from lake.reader import Lake
from market import times
from market.session import Gap
from market.times import Interval, subtract

MOST_COMPARED = 100
Spans = Mapping[str, tuple[int, int]]
"""Symbol -> from its first message to behind its last (us)."""


class File(NamedTuple):
    """A file of one book, and where it belongs."""

    path: str
    member: str | None
    reading: Reading
    exchange: str
    market_type: str


class Filled(msgspec.Struct):
    """The parts of a file that became rows, and in words what did not although the lake does not cover it."""

    parts: list[Taken]
    not_taken: list[str]


def known(manifest: Manifest, exchange: str, market_type: str) -> bool:
    """Whether the lake may have something of a book of this market."""
    held = manifest.coverage(exchange, market_type, KIND)
    return bool(held or manifest.files(KIND, exchange=exchange, market_type=market_type))


def plan(root: str, file: File, session: str) -> Parts | None:
    """Which parts of the file's time are open; None where the lake has nothing of its days. Raises Refused."""
    ends: list[Block] = []
    for block, _ in blocks(Path(file.path), file.reading, file.member):
        ends = [ends[0] if ends else block, block]
    rows = [row for block in ends for row in batches(Path(file.path), file.reading, block)]
    stamps = [at for row in rows for at in (row["ts_event"].min(), row["ts_event"].max()) if isinstance(at, int)]
    if not stamps:
        return None
    span = Interval(min(stamps), max(stamps) + 1)
    return book_parts.parts(Path(root), file.exchange, file.market_type, str(rows[0]["symbol"][0]), span, session)


def planned(root: Path, executor: Executor, manifest: Manifest, file: File, session: str = "") -> Parts | None:
    """The same in a worker, and only where there may be something."""
    if file.reading.dialect != CHANGES or not known(manifest, file.exchange, file.market_type):
        return None
    return executor.submit(plan, str(root), file, session).result()


def work(
    root: str, source: FileSource, file: File, block: Block | None, now: int, open_: Sequence[Interval], state: State
) -> tuple[Published, State]:
    """One block in a worker process, or the end behind the last one; the state is for the next."""
    made = _made(
        lambda rows: adopting.publish_rows(Path(root), source, rows, run=source.session, now=now),
        file, block, open_, state,
    )  # fmt: skip
    return made, state


def rehearse(source: FileSource, file: File, block: Block | None, open_: Sequence[Interval], state: State) -> Published:
    """What `work` would make."""
    return _made(lambda rows: adopting.rehearse(source, rows, lambda _: None), file, block, open_, state)


def _made(
    publish: Callable[[Iterator[pl.DataFrame]], Published], file: File, block: Block | None,
    open_: Sequence[Interval], state: State,
) -> Published:  # fmt: skip
    before = _counts(state)
    made = publish(_rows(file, block, open_, state))
    made.covered, made.other, made.added = (now - then for now, then in zip(_counts(state), before, strict=True))
    return made


def _counts(state: State) -> tuple[int, int, int]:
    return state.covered, sum(one.rows for one in state.unjoined), state.added


def _rows(file: File, block: Block | None, open_: Sequence[Interval], state: State) -> Iterator[pl.DataFrame]:
    if block is None:
        yield joining.ended(state, open_)
        return
    for batch in batches(Path(file.path), file.reading, block):
        yield joining.joined(state, open_, file.reading.base, batch)


def lines(block: Block) -> int:
    """The number of the last line of a block of text."""
    return block.first + block.data.count(b"\n") - block.data.endswith(b"\n")


def close(root: str, source: FileSource, spans: Spans, line: int, now: int) -> Published:
    """In a worker: what ends a book that was taken whole, behind its `spans`; it covers nothing itself."""
    made = adopting.publish_rows(Path(root), source, _closing(spans, line), run=source.session, now=now)
    return _bare(made)


def rehearse_close(source: FileSource, spans: Spans, line: int) -> Published:
    """What `close` would make."""
    return _bare(adopting.rehearse(source, _closing(spans, line), lambda _: None))


def _closing(spans: Spans, line: int) -> Iterator[pl.DataFrame]:
    for symbol, (_, end) in sorted(spans.items()):
        yield joining.closing(symbol, end, line)


def _bare(made: Published) -> Published:
    made.added, made.spans, made.days = made.rows, {}, {}
    return made


def filled(state: State, parts: Parts) -> Filled:
    """What became of the file, in parts and in words."""
    told = [
        f"{times.text(one.ts_from)} to {times.text(one.ts_to)}: {one.rows:,} messages come before any whole book of the"
        " file, and nothing says of which book they are; a file that begins earlier, or the same under another"
        " --exchange, has them"
        for one in state.unjoined
    ]
    return Filled(parts=list(state.taken), not_taken=[*parts.told, *told])


def compared(root: str, file: File, symbol: str, taken: Sequence[Taken]) -> list[Taken]:
    """The parts, with how the book that they begin with agrees with that of the lake which ends there."""
    made: list[Taken] = []
    with Lake(Path(root)) as lake:
        for part in taken:
            if part.folded and len(made) < MOST_COMPARED:
                levels, same = _agreeing(lake, file, symbol, part.ts_from)
                part = msgspec.structs.replace(part, levels=levels, same=same)  # noqa: PLW2901 - the same part
            made.append(part)
    return made


def _agreeing(lake: Lake, file: File, symbol: str, at: int) -> tuple[int, int]:
    try:
        own, theirs = (
            lake.book(symbol, at=one, exchange=file.exchange, market_type=file.market_type) for one in (at - 1, at)
        )
    except (BookUnknown, BookCrossed):
        return 0, 0
    levels = same = 0
    for side in ("bids", "asks"):
        held, told = ({Decimal(price): qty for price, qty in getattr(one, side)} for one in (own, theirs))
        lows = [Decimal(one.valid_low) for one in (own, theirs) if one.valid_low is not None and side == "bids"]
        highs = [Decimal(one.valid_high) for one in (own, theirs) if one.valid_high is not None and side == "asks"]
        both = [
            price for price in held.keys() | told.keys()
            if all(low <= price for low in lows) and all(price <= high for high in highs)
        ]  # fmt: skip
        levels += len(both)
        same += sum(held.get(price) == told.get(price) for price in both)
    return levels, same


def covered(state: State) -> tuple[dict[str, Interval], dict[str, list[Interval]]]:
    """What the file's rows cover of its symbol: all of it, and the holes in that."""
    if not state.taken:
        return {}, {}
    whole = Interval(state.taken[0].ts_from, state.taken[-1].ts_to)
    held = [Interval(one.ts_from, one.ts_to) for one in state.taken]
    return {state.symbol: whole}, {state.symbol: subtract([whole], held)}


def closed(manifest: Manifest, file: File, state: State, now: int) -> list[Gap]:
    """The gaps of the book that are filled from one end to the other, as they are now."""
    taken = {state.symbol: [Interval(one.ts_from, one.ts_to) for one in state.taken]}
    said = f"the book of that time is that of {Path(file.path).name}"
    return overlaps.filled_gaps(manifest, file.exchange, file.market_type, KIND, taken, said, now)
