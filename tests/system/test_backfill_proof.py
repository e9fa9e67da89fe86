"""A backfill over processes that are killed in the middle of it (`scripts/prove_backfill.py`, scaled down)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def prove(folder: Path, *options: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "scripts/prove_backfill.py", "--folder", str(folder), *options], cwd=ROOT, text=True,
        capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_f55_every_venues_backfill_survives_kills(tmp_path: Path) -> None:
    said = prove(tmp_path, "--days", "1", "--kills", "9", "--rate", "0.05")
    assert (said["wrong"], said["kills"]) == ([], 9)
