"""Run the product's commands as a user would: own process, own output, own exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = Path(os.environ.get("LAKE_SAMPLES", ROOT.parent / "shared" / "samples"))


def sample(name: str) -> Path:
    """A real recording; the test is skipped, saying so, where the samples are not there."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no recording {name}: set LAKE_SAMPLES to the folder of real samples")
    return path


def run(
    *command: str | Path, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `python …` from the checkout; nothing is checked."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def dl(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `dl …` and check its exit code."""
    done = run("-m", "cli", *arguments)
    assert done.returncode == expect, (
        f"dl {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def dl_json(*arguments: str | Path, expect: int = 0) -> Any:
    """What `dl … --json` says."""
    return json.loads(dl(*arguments, "--json", expect=expect).stdout)


def logged(lake: Path) -> list[dict[str, Any]]:
    """What a daemon has logged in its lake; the line that it may be writing is none yet."""
    log = lake / "logs" / "daemon.jsonl"
    whole = log.read_text().rpartition("\n")[0] if log.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]
