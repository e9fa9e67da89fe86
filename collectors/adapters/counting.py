"""Frames that become no rows: rejected with a reason, or counted by a label. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from market.session import Leave, Output, Rejected

LABELS_LIMIT = 200
LABEL_LENGTH = 64
GARBAGE_LIMIT = 100
"""Rejected frames in a row after which the connection is given up."""
NOTHING: tuple[Output, ...] = ()


class Counting:
    """For sessions; one with `learn` reads a recording, and gives nothing up."""

    def __init__(self, *, learn: bool) -> None:
        self.learn = learn
        self.ignored: Counter[str] = Counter()
        self._garbage = self._garbage_at = 0

    def reject(self, reason: str, stream: str | None, number: int) -> Sequence[Output]:
        """A frame that is not what the documentation says; too many in a row and the connection is given up."""
        self._garbage = self._garbage + 1 if self._garbage_at == number - 1 else 1
        self._garbage_at = number
        rejected = Rejected(reason[:300], number, stream)
        ours = reason == "impossible time"  # our clock may be the one that is wrong: a new connection has the same
        if self._garbage % GARBAGE_LIMIT or self.learn or ours:
            return (rejected,)
        return (rejected, Leave("garbage", f"{self._garbage} frames in a row were not understood"))

    def ignore(self, label: str) -> Sequence[Output]:
        """A frame that is no event, counted by `label`."""
        label = label[:LABEL_LENGTH]
        if label not in self.ignored and len(self.ignored) >= LABELS_LIMIT:
            label = "other"
        self.ignored[label] += 1
        return NOTHING
