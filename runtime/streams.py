"""Standard streams that are there: a process that is started without them would give their numbers to its first files.

What then is written to "stderr" by a native library would go into a segment, or into the manifest.
"""

from __future__ import annotations

import os
import sys


def hold() -> None:
    """Open what is closed of the descriptors 0, 1 and 2 on the null device. Call it before any file is opened."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
