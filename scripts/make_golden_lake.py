"""A small complete lake, the same on every run: what later versions of the program must still be able to read.

    python scripts/make_golden_lake.py tests/fixtures/golden/v2

makes `lake.tar.zst` and `expected.json` there with the code as it is now. Every kind is in it, from frames written by
hand; segments, frames, hot parts, an hour file, daily files of two revisions, bars, samples, gaps with and without ids,
certificates, quarantine, a ban, the ledger. Nothing of it depends on the clock or on chance. A golden lake that was
released is never made again: its folder's README says by which commit it was.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collectors.config import CollectorsConfig
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import Lake
from lake import manifest as manifest_module
from lake.rows import BanRow
from lake.writer import LakeWriter
from market import kinds, times
from market.times import HOUR, MINUTE, MS, SECOND
from runtime.workers import InlineExecutor
from transformer.config import TransformerConfig
from transformer.service import transform_once

NODE = "golden"
MARKET = ("binance", "linear")
MIDNIGHT = times.parse("2026-01-01T00:00:00Z")
START = MIDNIGHT - 2 * MINUTE
URL = "wss://golden.test/stream"
REST = "https://golden.test"
LAKE_ID = "901de2901de2901d"
LATE = 50
"""The second after START whose ETHUSDT trade comes an hour later."""
NOT_PACKED = (".lock", "manifest.db-wal", "manifest.db-shm")
TOLD = ("segments", "files", "lineage", "gaps", "coverage", "certificates", "sessions", "quarantine", "bans")
"""Tables whose rows a later program must still have."""
COMPACTOR = CompactorConfig(book_sample_ms=20_000)
Line = dict[str, Any]


class Conn:
    """The lines of one connection, in order."""

    def __init__(self, name: str, at: int, url: str = URL, **opened: Any) -> None:
        self.name = name
        self.n = 0
        self.at = at
        self.lines: list[Line] = []
        self._line(at, "open", url=url, **opened)

    def _line(self, at: int, direction: str, **fields: Any) -> None:
        self.at = max(at, self.at)  # the time of a read never goes back
        self.lines.append({"ts_recv": self.at, "conn": self.name, "dir": direction, "n": self.n, **fields})

    def recv(self, at: int, frame: str) -> None:
        self.n += 1
        self._line(at + 3 * MS, "recv", frame=frame)

    def stream(self, at: int, name: str, **data: Any) -> None:
        self.recv(at, json.dumps({"stream": name, "data": data}, separators=(",", ":")))

    def answer(self, at: int, tag: str, body: Any) -> None:
        self.n += 1
        self._line(at, "http", method="GET", status=200, url=REST, tag=tag, frame=json.dumps(body))

    def close(self, at: int, reason: str, **fields: Any) -> list[Line]:
        self._line(at, "close", reason=reason, **fields)
        return self.lines


def _trade(conn: Conn, at: int, symbol: str, number: int, price: str, qty: str, **more: Any) -> None:
    low, ms = symbol.lower(), at // MS
    body = {"E": ms, "T": ms, "s": symbol, "p": price, "q": qty, "m": number % 2 == 0}
    conn.stream(at, f"{low}@trade", e="trade", t=number, X="MARKET", **(body | more))


def _quote(conn: Conn, at: int, symbol: str, number: int) -> None:
    ms = at // MS
    conn.stream(at, f"{symbol.lower()}@bookTicker", e="bookTicker", u=number, s=symbol, b="87654.30", B="1.500",
                a="87654.40", A="0.002", T=ms, E=ms)  # fmt: skip


def _book(conn: Conn, at: int, last: int, before: int) -> None:
    ms = at // MS
    body = {"e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", "U": before + 1, "u": last, "pu": before,
            "b": [["87654.30", f"{last % 9}.5"], ["87654.20", "0"]], "a": [["87654.40", "2"]]}  # fmt: skip
    conn.stream(at, "btcusdt@depth@100ms", **body)
    if last % 60 == 0:
        conn.stream(at, "btcusdt@depth20@100ms", **body)


def _slow(conn: Conn, at: int, second: int) -> None:
    """Marks, aggregated trades, candles, forced orders, notices."""
    ms = at // MS
    if second % 30 == 0:
        conn.stream(at, "btcusdt@markPrice@1s", e="markPriceUpdate", E=ms, s="BTCUSDT", p="87650.12345678",
                    i="87649.5", P="1", r="-0.00010000", T=(MIDNIGHT + 8 * HOUR) // MS)  # fmt: skip
    if second % 20 == 0:
        conn.stream(at, "btcusdt@aggTrade", e="aggTrade", E=ms, s="BTCUSDT", a=7_000 + second // 20, p="87654.30",
                    q="0.010", f=1_000 + second, l=1_001 + second, T=ms, m=False)  # fmt: skip
    if second % 60 == 0:
        opened = ms - 60_000
        candle = {"t": opened, "T": ms - 1, "s": "BTCUSDT", "i": "1m", "o": "87654.3", "c": "87600", "h": "87654.4",
                  "l": "87600", "v": "11", "n": 3, "x": True, "q": "964197.3", "V": "3", "Q": "262962.9"}  # fmt: skip
        conn.stream(at, "btcusdt@kline_1m", e="kline", E=ms, s="BTCUSDT", k=candle)
    if second == 70:
        order = {"s": "ETHUSDT", "S": "SELL", "q": "4", "p": "2900.00", "ap": "2901.50", "X": "FILLED", "T": ms}
        conn.stream(at, "ethusdt@forceOrder", e="forceOrder", E=ms, o=order)
    if second == 75:
        conn.stream(at, "!contractInfo", e="contractInfo", E=ms, s="ETHUSDT", ct="PERPETUAL", dt=ms + 86_400_000,
                    ot=1_569_398_400_000, cs="SETTLING")  # fmt: skip


def _stream(name: str, start: int, seconds: range, *, first_trade: int, end: tuple[str, int]) -> list[Line]:
    """One connection that says a little of everything; ids 1010 and 1011 never come, 505 later, 1015 twice."""
    conn = Conn(name, start)
    btc, last = first_trade, 100 + 10 * (seconds.start // 10)
    conn.answer(start + 2 * MS, "depth 1000 btcusdt@depth@100ms",
                {"lastUpdateId": last, "E": start // MS, "T": start // MS, "bids": [["87654.20", "3"]],
                 "asks": [["87654.50", "7.000"]]})  # fmt: skip
    for second in seconds:
        at = START + second * SECOND
        if second % 5 == 0:
            btc += 3 if btc == 1_009 else 1
            price = "87654.30" if second % 3 else "87654.123456789012345678"
            _trade(conn, at, "BTCUSDT", btc, price, f"0.0{10 + second % 80}")
            if btc == 1_015:
                _trade(conn, at, "BTCUSDT", btc, price, f"0.0{10 + second % 80}")
            _quote(conn, at + MS, "BTCUSDT", 10_000 + second)
        if second % 10 == 0:
            if second != LATE:
                _trade(conn, at, "ETHUSDT", 500 + second // 10, "2950.05", "1" if second % 40 else "0")
            _book(conn, at, last + 10, last)
            last += 10
        if second == 33:
            conn.recv(at, '{"stream":"btcusdt@trade","data":{"e":"trade","p":"NaN"}}')
        _slow(conn, at, second)
    return conn.close(START + seconds.stop * SECOND, end[0], code=end[1])


def _polls() -> list[Line]:
    """Instruments, open interest, settled funding."""
    info = {"serverTime": START // MS, "symbols": [
        {"symbol": name, "pair": name, "contractType": "PERPETUAL", "status": "TRADING", "marginAsset": "USDT",
         "baseAsset": name[:3], "quoteAsset": "USDT", "deliveryDate": 4_133_404_800_000,
         "onboardDate": 1_569_398_400_000,
         "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10"},
                     {"filterType": "LOT_SIZE", "stepSize": "0.001"}]}
        for name in ("BTCUSDT", "ETHUSDT")]}  # fmt: skip
    reference = Conn("golden-1-1", START - SECOND, REST, tag="reference", headers={"symbols": "[]"})
    reference.answer(START - SECOND, "exchangeInfo", info)
    made = reference.close(START - SECOND, "done")
    asked = {
        "open_interest": [
            ("openInterest BTCUSDT",
             {"symbol": "BTCUSDT", "openInterest": f"1500{n}.5", "time": START // MS + n * 60_000})
            for n in range(3)
        ],
        "funding_rate": [
            ("fundingInfo", []),
            ("fundingRate BTCUSDT", [
                {"symbol": "BTCUSDT", "fundingTime": MIDNIGHT // MS - n * 28_800_000, "fundingRate": f"-0.000{n}"}
                for n in (2, 1)
            ]),
        ],
    }  # fmt: skip
    for number, (kind, answers) in enumerate(asked.items(), 4):
        conn = Conn(f"golden-1-{number}", START, REST, tag="poll",
                    headers={"kind": kind, "symbols": '["BTCUSDT"]'})  # fmt: skip
        for n, (tag, body) in enumerate(answers):
            conn.answer(START + n * MINUTE + SECOND, tag, body)
        made += conn.close(START + 4 * MINUTE, "stopped")
    return made


def _late() -> list[Line]:
    """A trade of the closed day that comes an hour later."""
    conn = Conn("golden-1-6", MIDNIGHT + 70 * MINUTE)
    _trade(conn, START + LATE * SECOND, "ETHUSDT", 500 + LATE // 10, "2951.00", "2")
    conn.lines[-1]["ts_recv"] = MIDNIGHT + 70 * MINUTE + SECOND
    return conn.close(MIDNIGHT + 71 * MINUTE, "stopped")


def _tail() -> list[Line]:
    """What nobody has transformed yet."""
    conn = Conn("golden-1-7", MIDNIGHT + 160 * MINUTE)
    for n in range(3):
        at = MIDNIGHT + 160 * MINUTE + n * SECOND
        _trade(conn, at, "BTCUSDT", 2_000 + n, "87000.1", "0.5")
    return conn.close(MIDNIGHT + 161 * MINUTE, "stopped")


def recordings() -> Iterator[tuple[int, list[Line]]]:
    """(today, the frames of that moment): two connections over midnight with a cut between, a late trade, a tail."""
    first = _stream("golden-1-2", START, range(210), first_trade=1_000, end=("disconnect: reset by peer", 1006))
    second = _stream("golden-1-3", START + 220 * SECOND, range(220, 300), first_trade=1_047, end=("stopped", 1000))
    lines = sorted([*_polls(), *first, *second], key=lambda line: line["ts_recv"])
    yield MIDNIGHT + 5 * MINUTE, lines
    yield MIDNIGHT + 72 * MINUTE, _late()
    yield MIDNIGHT + 162 * MINUTE, _tail()


def collect(root: Path, number: int, now: int, lines: list[Line]) -> None:
    """One recording into the lake, sealed."""
    with tempfile.TemporaryDirectory() as folder, LakeWriter.open(root, NODE, now, simulated=True) as writer:
        file = Path(folder) / f"{number}.jsonl"
        file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
        done = replay([file], *MARKET, writer, CollectorsConfig(node=NODE), now)
        if done.damage:
            raise SystemExit(f"not every frame was taken: {done.damage}")
        if number == 0:
            ban = BanRow(exchange="binance", host="golden.test", until=now + MINUTE, status=418, at=now, pool="g")
            writer.record(bans=[ban], now=now)


def mature(root: Path, now: int) -> None:
    """Transform and compact what is there."""
    with LakeWriter.open(root, NODE, now, simulated=True) as writer:
        writer.recover(now)
        transform_once(writer, InlineExecutor(), now, TransformerConfig())
        made = compact_once(writer, InlineExecutor(), now, COMPACTOR, retention=False)
        if made.failures:
            raise SystemExit(f"not compacted: {made.failures}")


def expected(root: Path) -> dict[str, Any]:
    """What a reader sees: every row of every kind, gaps, coverage and certificates."""
    found: dict[str, Any] = {"rows": {}, "tables": {}}
    with Lake(root) as lake:
        for kind in kinds.KINDS:
            table = lake.read(kind)
            found["rows"][kind] = {"columns": table.column_names, "count": table.num_rows, "sha256": digest(lake, kind)}
    with sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        for name in (
            "segments",
            "files",
            "lineage",
            "gaps",
            "coverage",
            "certificates",
            "sessions",
            "quarantine",
            "bans",
        ):
            rows = [dict(row) for row in db.execute(f'SELECT * FROM "{name}"')]
            found["tables"][name] = sorted(rows, key=repr)
    db.close()
    return found


def digest(lake: Lake, kind: str, columns: list[str] | None = None) -> str:
    """SHA-256 of the rows of a kind as text, of these columns (all that there are)."""
    table = lake.read(kind, columns=columns)
    text = "\n".join(json.dumps(row, default=str, sort_keys=True) for row in table.to_pylist())
    return hashlib.sha256(text.encode()).hexdigest()


def packed(root: Path) -> bytes:
    """The lake as a tar.zst whose bytes say nothing of when and by whom it was made."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            if path.name not in NOT_PACKED:
                info = tar.gettarinfo(path, path.relative_to(root).as_posix())
                info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
                tar.addfile(info, path.open("rb") if info.isreg() else None)
    return zstandard.ZstdCompressor(level=19).compress(held.getvalue())


def build(root: Path) -> None:
    """All stages, in the order of time."""
    original = manifest_module.secrets.token_hex
    try:
        manifest_module.secrets.token_hex = lambda _size=None: LAKE_ID  # type: ignore[assignment]
        for number, (now, lines) in enumerate(recordings()):
            collect(root, number, now, lines)
            if number == 0:
                mature(root, now)
                mature(root, MIDNIGHT + 65 * MINUTE)
            elif number == 1:
                mature(root, MIDNIGHT + 150 * MINUTE)
    finally:
        manifest_module.secrets.token_hex = original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where lake.tar.zst and expected.json go")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        build(root)
        chosen.folder.mkdir(parents=True, exist_ok=True)
        log = root / "manifest.db-wal"
        if log.exists() and log.stat().st_size:
            raise SystemExit("the manifest's log is not folded into it")
        told = json.dumps(expected(root), sort_keys=True, separators=(",", ":")).replace('},{"', '},\n{"')
        (chosen.folder / "expected.json").write_text(told + "\n")
        data = packed(root)
        (chosen.folder / "lake.tar.zst").write_bytes(data)
        print(f"{chosen.folder}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
