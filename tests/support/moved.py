"""libfaketime, for processes whose clocks a test moves or makes faster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FAKE = next(
    (p for n in ("faketime/libfaketimeMT.so.1", "faketime/libfaketime.so.1") for p in Path("/usr/lib").glob(f"*/{n}")),
    None,
)
moved = pytest.mark.skipif(
    FAKE is None or not sys.platform.startswith("linux"),
    reason="libfaketime is not installed (apt-get install faketime; make test-faults does it where it may)",
)
