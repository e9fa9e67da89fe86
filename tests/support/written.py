"""Frames files that a test writes by hand: Binance USD-M frames, good ones and what a peer may make of them."""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

T0 = 1_763_646_300_000_000
"""2025-11-20T13:45:00Z, us."""
MS = 1_000
CONN = "box-1-1"


def trade(seq: object, symbol: str = "BTCUSDT", *, stream: str | None = None, at: int = T0, **changed: object) -> str:
    """A trade frame; `changed` are fields of its payload."""
    payload = {"e": "trade", "E": at // MS, "T": at // MS, "s": symbol, "t": seq, "p": "100.10", "q": "0.5",
               "X": "MARKET", "m": False}  # fmt: skip
    return combined(f"{symbol.lower()}@trade" if stream is None else stream, payload | changed)


def quote(update: object, symbol: str = "BTCUSDT", *, at: int = T0, **changed: object) -> str:
    """A bookTicker frame."""
    payload = {"e": "bookTicker", "u": update, "s": symbol, "b": "100.0", "B": "1", "a": "100.1", "A": "2",
               "T": at // MS, "E": at // MS}  # fmt: skip
    return combined(f"{symbol.lower()}@bookTicker", payload | changed)


def combined(stream: str, payload: object) -> str:
    return json.dumps({"stream": stream, "data": payload})


def line(n: int, frame: str | bytes | None = None, *, at: int = T0, **fields: object) -> str:
    """A line of a frames file; bytes become frame_b64."""
    held: dict[str, object] = {"ts_recv": at, "conn": CONN, "dir": "recv", "n": n}
    if isinstance(frame, bytes):
        held["frame_b64"] = base64.b64encode(frame).decode()
    elif frame is not None:
        held["frame"] = frame
    return json.dumps(held | fields)


def opened() -> str:
    return line(0, dir="open", url="wss://fstream.binance.com/stream")


def session(frames: Sequence[str | bytes], step: int = MS) -> list[str]:
    """The lines of one connection that received these frames, one each `step` us."""
    received = [line(n, frame, at=T0 + n * step) for n, frame in enumerate(frames, 1)]
    end = line(len(frames), at=T0 + (len(frames) + 1) * step, dir="close", reason="stopped")
    return [opened(), *received, end]


def write(path: Path, lines: Iterable[str], tail: str = "") -> Path:
    """A plain frames file; `tail` is what follows its last line."""
    path.write_text("".join(f"{text}\n" for text in lines) + tail)
    return path


def good_session(count: int = 30, seconds: int = 1) -> list[str]:
    """`count` trades and quotes of one symbol, ids from 1000 and 10 on, each `seconds` s after the one before."""
    frames = []
    for n in range(count):
        at = T0 + n * seconds * 1_000_000
        frames += [
            line(2 * n + 1, trade(1000 + n, at=at), at=at + MS),
            line(2 * n + 2, quote(10 + n, at=at), at=at + 2 * MS),
        ]
    last = T0 + count * seconds * 1_000_000
    return [opened(), *frames, line(2 * count, at=last, dir="close", reason="stopped")]
