"""A venue that misbehaves on the wire of a running daemon: it goes on, and each frame and each cut is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake import Lake
from lake.manifest import Manifest
from tests.support.commands import dl, dl_json
from tests.support.crash import quick_folder
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)

GARBAGE = 8


def healed(lake: Path) -> int:
    """Gaps that have an end, of connections that were cut."""
    manifest = Manifest.read_only(lake)
    try:
        gaps = manifest.gaps()
    finally:
        manifest.close()
    return sum(gap.cause == "disconnect" and gap.ts_to is not None for gap in gaps)


def test_huge_half_and_senseless_frames_and_a_page_for_an_answer_end_as_gaps_and_quarantine() -> None:
    with quick_folder() as folder, simulator(folder, "--symbols", "BTCUSDT", "--rate", "200") as exchange:
        lake, port = folder / "lake", free_port()
        exchange.fault("html_200", path="exchangeInfo", count=1)
        source = exchange.source("linear", ["BTCUSDT"], ["trade", "quote"])
        config = write_config(folder / "config.json", lake, [source], port)
        daemon = Daemon(config, folder / "daemon.log")
        daemon.wait_until_ready(port)
        wait_for("frames", lambda: "subscribed" in daemon.said())
        exchange.fault("garbage", count=GARBAGE)
        exchange.fault("huge_frame", size=20_000_000)
        wait_for("the cut after a huge frame to be healed", lambda: healed(lake) >= 2)
        exchange.fault("half_frame", kind="trade")
        wait_for("the cut after half a frame to be healed", lambda: healed(lake) >= 4)
        wait_for("instruments, asked for again", lambda: "reference_loaded" in daemon.said())
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200
        assert daemon.stop() == 0, daemon.log.read_text()[-4000:]
        said = daemon.log.read_text()
        exchange.stop()
        dl("transform", "--lake", lake)

        assert "Traceback" not in said
        assert "16777216" in said, said
        assert "status 200 without instruments (text/html" in said
        assert len(Lake(lake).read("contract")) == 1
        manifest = Manifest.read_only(lake)
        try:
            rejected = sum(row.count for row in manifest.quarantine())
            ignored = sum(row.ignored for row in manifest.sessions())
        finally:
            manifest.close()
        # one more is the page; a frame of a stream that nobody asked for is counted as ignored
        assert rejected + ignored == GARBAGE + 1
        assert dl_json("verify", "--lake", lake)["ok"]
