"""What a day's certificates say of the clock by which its receive times were taken: checks of the certified files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lake import clock_files
from lake.rows import CertificateRow, CheckRow
from market import times

UNSYNCHRONISED = "clock_unsynchronised"
"""The check's name; its count is how many looks (a minute apart) found the kernel's clock so."""


class ClockQuality:
    """Reads the record of each day once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._days: dict[str, tuple[int, str]] = {}

    def checks(self, certificates: Iterable[CertificateRow]) -> list[CheckRow]:
        """A row for each certified file of a day on which the kernel's clock was not synchronised all the time."""
        found = []
        for row in certificates:
            if row.date not in self._days:
                self._days[row.date] = self._day(row.date)
            count, detail = self._days[row.date]
            if count:
                check = CheckRow(path=row.path, check=UNSYNCHRONISED, symbol=row.symbol or "", count=count)
                check.detail = detail
                found.append(check)
        return found

    def _day(self, date: str) -> tuple[int, str]:
        bad, said, largest = clock_files.unsynchronised(self._root, date)
        bound = "nobody knows by how much" if largest is None else f"by {largest / times.SECOND:.3f} s at most"
        return bad, f"{bad:,} of {said:,} looks at the kernel's clock; receive times may be wrong, {bound}"
