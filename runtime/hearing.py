"""Who hears what is said, settled before there is a logger: loguru takes 60 ms to import, most commands say nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Logger

Settle = Callable[["Logger"], None]
_waiting: list[Settle] = []


def settle(how: Settle) -> None:
    """`how` is called with the logger: now where something of ours has it, else before anything is said."""
    if "runtime.saying" in sys.modules:
        from loguru import logger  # noqa: PLC0415 # see above

        how(logger)
    else:
        _waiting.append(how)


def begin(logger: Logger) -> None:
    """Of whoever imports the logger to say something: what was asked for meanwhile is done."""
    while _waiting:
        _waiting.pop(0)(logger)
