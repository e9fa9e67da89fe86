"""The control port's job `features`: what a daemon does for who has no lock."""

from __future__ import annotations

import asyncio

import pytest

from daemon.featuring import control_job
from lake import feature_table
from lake.errors import WrongQuestion
from lake.writer import LakeWriter
from tests.support.clock import ManualClock
from tests.support.market_rows import T0

OF = {"exchange": "binance", "market_type": "spot", "symbol": "BTCUSDT", "feature_set": "momentum"}


async def test_changes_follow_each_other_and_tell_what_came_of_them(tmp_path):
    (tmp_path / "m.csv").write_text(f"time,x\n{T0},1\n")
    (tmp_path / "n.csv").write_text(f"time,x\n{T0},2\n")
    with LakeWriter.open(tmp_path / "lake", "node", T0) as writer:
        job = control_job(writer, ManualClock(T0))
        told: list[int] = []

        def put(name: str, version: str):
            asked = {"action": "put", "path": str(tmp_path / name), "asked": OF | {"version": version}}
            return job(asked, lambda done, _total, _what: told.append(done))

        made = await asyncio.gather(put("m.csv", "1.0.0"), put("n.csv", "1.0.1"), put("m.csv", "1.0.0"))
        assert sum(one["changed"] for one in made) == 2
        assert told
        with pytest.raises(WrongQuestion, match="take the next version"):
            await put("n.csv", "1.0.0")
        done = await job({"action": "rollback", "feature_set": "momentum"}, lambda *_: None)
        assert (done["latest"], done["rows"][0]["version"]) == ("1.0.0", "1.0.0")
        await job({"action": "delete", "feature_set": "momentum", "version": "all"}, lambda *_: None)
        assert feature_table.features(writer.manifest) == []
