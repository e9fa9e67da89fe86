"""What one pass of the compactor did, in numbers and words."""

from __future__ import annotations

import msgspec


class Summary(msgspec.Struct):
    """What one pass did: jobs by sort, daily files with their rows, problems in words, files let go of.

    `healed` are hot files whose bytes had changed and that are being made again from raw; `parked` are jobs that
    failed too often to be tried by themselves.
    """

    hours: int = 0
    days: int = 0
    bars: int = 0
    samples: int = 0
    files: int = 0
    rows: int = 0
    certificates: list[str] = []
    failures: list[str] = []
    conflicts: int = 0
    healed: list[str] = []
    parked: list[str] = []
    deleted: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything in the lake is different now."""
        return bool(self.hours or self.days or self.bars or self.samples or self.failures or self.deleted)
