"""What a careful user of pandas does by hand to get of a CSV of trades what `dl import` gives: a side of bench_history.

In memory, as one does with pandas. Not done: text that is no strict decimal is not told, decimals are not kept beside
floats that cannot hold them, nothing is synced or recorded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import bench_harness as harness


def pandas_same(load: dict[str, Any], out: Path) -> harness.Measured:
    """What ours does of a CSV, by hand: the columns of the kind that hold anything, checks, a proven file."""
    import pandas as pd

    made = out / "day.parquet"
    watch = harness.Stopwatch()
    _digest(Path(load["csv"]))
    frame = pd.read_csv(load["csv"], names=load["names"], usecols=["id", "price", "qty", "time"])
    assert frame[["price", "qty"]].notna().all(axis=None)
    assert (frame["price"] > 0).all()
    assert (frame["qty"] > 0).all()
    frame["ts_event"] = pd.to_datetime(frame.pop("time"), unit="us", utc=True)
    assert frame["ts_event"].between(pd.Timestamp("1971", tz="UTC"), pd.Timestamp("2199", tz="UTC")).all()
    frame["ts_recv"] = pd.Timestamp(load["now"], unit="us", tz="UTC")
    frame["date"] = frame["ts_event"].dt.floor("D")
    constants = {"exchange": "binance", "market_type": load["market"], "symbol": load["symbol"], "source": "import",
                 "session": "bench-1-1", "condition": "market", "qty_unit": "base"}  # fmt: skip
    for name, value in constants.items():
        frame[name] = pd.Categorical.from_codes([0], [value]).repeat(len(frame))
    frame["ts_estimated"], frame["item"], frame["multiplier"] = False, 0, 1.0
    frame["frame_no"] = range(1, len(frame) + 1)
    frame = frame.drop_duplicates("id")
    if not (frame["ts_event"].is_monotonic_increasing and frame["id"].is_monotonic_increasing):
        frame = frame.sort_values(["ts_event", "id"])
    jumps = int((frame["id"].diff().iloc[1:] != 1).sum())
    frame.to_parquet(made, index=False, compression="zstd")
    back = pd.read_parquet(made)
    assert (len(back), back["id"].min(), back["id"].max()) == (len(frame), frame["id"].min(), frame["id"].max())
    assert (back["ts_event"].min(), back["ts_event"].max()) == (frame["ts_event"].min(), frame["ts_event"].max())
    assert back["ts_event"].is_monotonic_increasing
    _digest(made)
    return watch.result(bytes=made.stat().st_size, jumps=jumps)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
