"""How the ids of a file's rows lie to each other: in order, following by one, or in any order. Pure.

Missing ones are holes where these are allowed, and refused where not; ids that come twice are refused.
"""

from __future__ import annotations

import polars as pl

from collectors.adapters.archives import Dataset
from collectors.files.archive.facts import Allowed, Facts, Hole
from collectors.files.archive.refused import Refused
from collectors.files.archive.series import ArchiveFile

MOST_HOLES = 10_000
MOST_RUNS = 100_000
"""Pieces of ids that follow by one, in a file whose lines are in no order."""
AGAIN = "fetch it again; if it stays so, the publisher's file is broken"
_HOLES = "--holes takes it all the same: the missing ids are then an open gap"


class IdRules:
    """The part of a `Reading` that looks at ids, over blocks too, and says what is refused."""

    file: ArchiveFile
    facts: Facts
    _dataset: Dataset
    _allowed: Allowed
    _runs: list[tuple[int, int, int, int]]
    """(first id, last id, their times) of what follows by one, where lines are in no order."""

    def refuse(self, rule: str, what: str, fix: str = AGAIN) -> Refused:
        return Refused(self.file.name, rule, what, fix)

    def all_of(self, frame: pl.DataFrame, name: str, good: pl.Series, what: str, rule: str = "value") -> None:
        """Refuses the file where a row is not good."""
        bad = ~good.fill_null(value=False)
        if bad.any():
            row = frame.filter(bad).row(0, named=True)
            raise self.refuse(rule, f"line {row['frame_no']}: {name} is {what}: {str(row[name])[:60]!r}")

    def _without(self, holes: list[Hole], where: str = "") -> None:
        """Missing ids: holes, where these are allowed."""
        facts = self.facts
        if holes and not self._allowed.holes:
            first = holes[0]
            raise self.refuse("ids", f"{where}ids [{first.id_from}, {first.id_to}) are missing", _HOLES)
        facts.holes += holes
        if len(facts.holes) > MOST_HOLES:
            raise self.refuse("ids", f"more than {MOST_HOLES:,} holes in its ids", "take it from elsewhere")

    def rising(self, frame: pl.DataFrame, name: str, values: pl.Series, last: int | None, *, equal: bool) -> None:
        """Values go up from line to line, over blocks too."""
        before = values.shift(1, fill_value=last) if last is not None else values.shift(1)
        good = (values >= before if equal else values > before).fill_null(value=True)
        if not good.all():
            line = frame.filter(~good)["frame_no"][0]
            raise self.refuse("order", f"line {line}: {name} {values.filter(~good)[0]} is not after the line before it")

    def contiguous(self, frame: pl.DataFrame, name: str, ids: pl.Series, times: pl.Series) -> None:
        """Ids go up by one from line to line; missing ones are holes where these are allowed."""
        facts = self.facts
        self.rising(frame, name, ids, facts.last_id, equal=False)
        before = ids.shift(1, fill_value=facts.last_id) if facts.last_id is not None else ids.shift(1)
        jumps = (ids - before > 1).fill_null(value=False)
        if jumps.any():
            earlier = times.shift(1, fill_value=facts.last) if facts.last_id is not None else times.shift(1)
            table = pl.DataFrame({"a": before + 1, "b": ids, "c": earlier, "d": times}).filter(jumps)
            line = frame.filter(jumps)["frame_no"][0]
            self._without([Hole(*row) for row in table.iter_rows()], f"line {line}: ")
        self.identified(ids)

    def chained(
        self, frame: pl.DataFrame, name: str, ids: pl.Series, times: pl.Series, *, begins: pl.Series
    ) -> pl.Series:
        """Which rows follow the one before by one; the file's first does. What does not is a hole, where these are
        allowed; only where a chain begins anew may ids go back.
        """
        facts = self.facts
        first = facts.last_id is None
        before = ids.shift(1, fill_value=ids[0] - 1 if first else facts.last_id)
        earlier = times.shift(1, fill_value=times[0] if first else facts.last)
        step = ids - before
        self.all_of(frame, name, begins | (step > 0), "not after the line before it", "order")
        table = pl.DataFrame({"a": before + 1, "b": ids, "c": earlier, "d": times, "e": frame["frame_no"]})
        rows = table.filter(step > 1).rows()
        self._without([Hole(*row[:4]) for row in rows], f"line {rows[0][4]}: " if rows else "")
        self.identified(ids)
        return step == 1

    def placed(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        """(ids of rows that have none, those of the rows before them): a row's time (us), one above the row before
        where that does not rise. Times do not go back.
        """
        last = self.facts.last_id
        number = pl.int_range(times.len(), eager=True)
        ids = (times - number).cum_max().clip(lower_bound=None if last is None else last + 1) + number
        before = ids.shift(1, fill_value=last)
        self.identified(ids)
        return ids, before

    def numbered(self, frame: pl.DataFrame, name: str, ids: pl.Series, times: pl.Series) -> None:
        """Ids follow by one, in whatever order their lines are; missing ones are holes where these are allowed."""
        table = pl.DataFrame({"id": ids, "at": times, "line": frame["frame_no"]}).sort("id")
        step = table["id"].diff()
        if (step == 0).any():
            raise self._twice(name, int(table.filter(step == 0)["id"][0]))
        runs = table.group_by((step > 1).fill_null(value=True).cum_sum().alias("run"), maintain_order=True).agg(
            pl.col("id").first().alias("a"), pl.col("id").last().alias("b"), pl.col("at").first().alias("c"),
            pl.col("at").last().alias("d"),
        )  # fmt: skip
        self._runs = self._merged(name, [*self._runs, *(row[1:] for row in runs.iter_rows())])
        if len(self._runs) > MOST_RUNS:
            raise self.refuse("ids", f"more than {MOST_RUNS:,} pieces of ids in its lines", "take it from elsewhere")

    def _merged(self, name: str, runs: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
        """Runs (first id, last id, their times), those that touch as one."""
        made: list[tuple[int, int, int, int]] = []
        for run in sorted(runs):
            if made and run[0] <= made[-1][1]:
                raise self._twice(name, run[0])
            if made and run[0] == made[-1][1] + 1:
                made[-1] = (made[-1][0], run[1], made[-1][2], run[3])
            else:
                made.append(run)
        return made

    def _twice(self, name: str, which: int) -> Refused:
        return self.refuse("order", f"{name} {which} is there twice")

    def _joined(self) -> None:
        """The end of a file of `numbered` lines: what is missing between them."""
        if not self._runs:
            return
        facts = self.facts
        begin = self._runs[0]
        before_all = [Hole(1, begin[0], self.file.span.start, begin[2])]
        between = [
            Hole(before[1] + 1, after[0], before[3], after[2])
            for before, after in zip(self._runs, self._runs[1:], strict=False)
        ]
        self._without((before_all if self._dataset.lines_numbered and begin[0] != 1 else []) + between)
        facts.first_id, facts.last_id = self._runs[0][0], self._runs[-1][1]

    def identified(self, ids: pl.Series) -> None:
        """Remember the ends of the ids."""
        if self.facts.first_id is None:
            self.facts.first_id = int(ids[0])
        self.facts.last_id = int(ids[-1])
