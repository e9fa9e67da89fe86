"""The simulator's clock: the machine's wall clock plus a fixed offset, in us UTC."""

import time


class Clock:
    """Wall time shifted by `offset` us, so that a demonstration can start a minute before midnight."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    def now(self) -> int:
        """Microseconds since the epoch, UTC, shifted."""
        return time.time_ns() // 1000 + self.offset  # noqa: TID251 - its own process: runtime.clock is not importable here
