"""F61: logs that cannot be written, on a full disk or a closed console, cost lines of the log and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT

FULL = Path("/dev/full")
SAYS = """
import resource, signal, sys
from pathlib import Path
from lake.writer import LakeWriter
from market import times
from runtime import logs, metrics, streams, telemetry
root, fails = Path(sys.argv[1]), sys.argv[2]
streams.hold()
now = times.parse("2026-11-20T10:00:00Z")
with LakeWriter.open(root, "n", now) as writer:
    logs.setup(folder=root / "logs")
    if fails == "disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    for n in range(200):
        telemetry.stopping(reason=f"{n} " + "x" * 500, deadline_seconds=1)
        try:
            raise OSError("odd")
        except OSError as error:
            telemetry.service_failed(service="x", error=error, exit_code=70)
    writer.set_control(1, "t")
    logs.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
counted = [s.value for m in metrics.EVENTS.collect() for s in m.samples if s.labels.get("event") == "stopping"]
Path(sys.argv[3]).write_text(str(max(counted)))
"""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("fails", ["disk", "console", "closed"])
def test_f61_what_cannot_be_logged_is_still_counted_and_stops_nothing(tmp_path: Path, fails: str) -> None:
    command = [sys.executable, "-c", SAYS, str(tmp_path / "lake"), fails, str(tmp_path / "told")]
    with FULL.open("w") as full:
        if fails == "closed":
            command = ["sh", "-c", 'exec "$@" 2>&- 1>&-', "sh", *command]
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=full,
            stderr=full,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 0
    assert float((tmp_path / "told").read_text()) == 200
    written = (tmp_path / "lake" / "logs" / "daemon.jsonl").read_text()
    if fails == "disk":
        assert 0 < len(written) <= 20_000, "the fault was there"
    else:
        lines = [json.loads(line) for line in written.splitlines()]
        assert len(lines) == 400, "the file has what the console could not take"
