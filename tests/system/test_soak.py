"""A soak in a minute: every class of network fault against a running daemon, and the oracle finds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.support.live import plain_environment

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


def test_every_loss_of_a_minute_of_faults_is_told_and_nothing_else(tmp_path: Path) -> None:
    options = ("--minutes", "0.9", "--symbols", "4", "--rate", "400", "--lenient", "--json", "--out", str(tmp_path))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "soak.py"), *options],
        cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout, done.stderr[-4000:]
    result = json.loads(done.stdout)
    findings = result["verdict"]["findings"][:20]
    assert (result["violations"], done.returncode) == ([], 0), json.dumps(findings, indent=1)
    verdict = result["verdict"]
    assert {"drop_ids", "silence", "bad_price", "bad_time", "nobody was connected"} <= verdict["lost"].keys()
    assert {"jump", "disconnect", "silence"} <= verdict["causes"].keys()
    assert verdict["covered"] + verdict["in_quarantine"] + verdict["undetectable"] == verdict["missing"] > 0
