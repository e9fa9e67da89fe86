"""A soak in a minute: every class of network fault at one venue and at all, and the oracle finds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import venues
from tests.support.commands import ROOT
from tests.support.live import plain_environment

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


@pytest.mark.parametrize("exchanges, size", [("binance", ("4", "400")), ("all", ("34", "300"))])
def test_every_loss_of_a_minute_of_faults_is_told_and_nothing_else(
    tmp_path: Path, exchanges: str, size: tuple[str, str]
) -> None:
    options = ("--exchanges", exchanges, "--minutes", "0.9", "--symbols", size[0], "--rate", size[1])
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "soak.py"), *options, "--lenient", "--json", "--out", str(tmp_path)],
        cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout, done.stderr[-4000:]
    result = json.loads(done.stdout)
    verdicts = result["verdicts"]
    findings = [(name, *verdict["findings"][:20]) for name, verdict in verdicts.items()]
    assert (result["violations"], done.returncode) == ([], 0), json.dumps(findings, indent=1)
    assert list(verdicts) == (venues.names() if exchanges == "all" else [exchanges])
    for verdict in verdicts.values():
        assert {"drop_ids", "bad_price", "bad_time", "nobody was connected"} <= verdict["lost"].keys()
        assert {"jump", "disconnect"} <= verdict["causes"].keys()
        # where a venue numbers its messages, the first one after a silence may show it before its bound does
        assert {"silence", "messages_missing"} & verdict["causes"].keys()
        assert verdict["covered"] + verdict["in_quarantine"] + verdict["undetectable"] == verdict["missing"] > 0
