"""Turn text recordings of WebSocket frames into frames files, which `dl replay` takes through the live pipeline.

    python scripts/frames_from.py FILE… --out DIR [--url URL] [--node NAME] [--json]

Two dialects are read, plain or gzip, each file told by its first line:

- `<receive time> <frame>`: time in s, ms, us or ns, decided by its magnitude;
- `<url> <-> <time>` first, then `<time>: <frame>` for what came and `<url> <- <time>: <text>` for what was sent,
  times in seconds with a fraction.

All FILEs of one call are one connection, in the given order, unless a file says that another was opened. Each file
becomes `DIR/<its name>.frames.jsonl.zst`. Exit code 0, 64 for a wrong command line, 65 for a file that is no recording
(the message names file and line, and no output is left), 66 for one that is missing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file: the packages are one folder up

from lake.frames import Direction, FrameLine, encode_frame_lines, payload
from market import times

BATCH = 2000
OPENED = re.compile(rb"(\S+) <-> ([0-9.]+)")
SENT = re.compile(rb"(\S+) <- ([0-9.]+): (.*)")
RECEIVED = re.compile(rb"([0-9.]+): (.*)")
TIMED = re.compile(rb"([0-9]+) (.*)")
UNITS = ((10**17, 1, 1000), (10**14, 1, 1), (10**11, 1000, 1), (10**8, 1_000_000, 1))
"""Least magnitude, factor and divisor to us: ns, us, ms, s. Each covers the years 1973 to 5138 and no other unit's."""


class BadRecording(Exception):
    """A line that is of neither dialect."""


class Line(NamedTuple):
    """One line of a recording: `what` is open, recv or send; time in us."""

    what: Direction
    time: int
    text: bytes
    url: str | None


def microseconds(text: bytes) -> int:
    """A whole number of s, ms, us or ns, told by its magnitude. Digits below the us are cut."""
    value = int(text)
    for least, factor, divisor in UNITS:
        if least <= value < least * 1000:
            return value * factor // divisor
    raise BadRecording(f"{text.decode()} is no time in s, ms, us or ns")


def fractional(text: bytes) -> int:
    """Seconds with a fraction as us, exactly; digits beyond the sixth are cut."""
    whole, _, fraction = text.partition(b".")
    if not (whole.isdigit() and (fraction.isdigit() or not fraction)):
        raise BadRecording(f"{text.decode()} is no time in seconds")
    return int(whole) * times.SECOND + int(fraction[:6].ljust(6, b"0"))


def understood(line: bytes, spoken: bool) -> Line:
    """One line of the dialect with `<url> <-> <time>` (spoken) or of the other."""
    if not spoken:
        if match := TIMED.fullmatch(line):
            return Line("recv", microseconds(match[1]), match[2], None)
        raise BadRecording("expected `<time> <frame>`")
    if match := RECEIVED.fullmatch(line):
        return Line("recv", fractional(match[1]), match[2], None)
    if match := OPENED.fullmatch(line):
        return Line("open", fractional(match[2]), b"", match[1].decode())
    if match := SENT.fullmatch(line):
        return Line("send", fractional(match[2]), match[3], None)
    raise BadRecording("expected `<time>: <frame>`, `<url> <- <time>: <text>` or `<url> <-> <time>`")


def open_recording(path: Path) -> BinaryIO:
    """The bytes of a plain or gzip file."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value] # GzipFile reads as one


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of one recording. Raises BadRecording naming file and line."""
    number, spoken = 0, None
    try:
        with open_recording(path) as file:
            for number, raw in enumerate(file, 1):  # noqa: B007 - named in the message of the except below
                line = raw.rstrip(b"\r\n")
                if not line:
                    continue
                if spoken is None:
                    spoken = OPENED.fullmatch(line) is not None or RECEIVED.fullmatch(line) is not None
                yield understood(line, spoken)
    except (BadRecording, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadRecording(f"{path}:{number}: {error}") from error
    if spoken is None:
        raise BadRecording(f"{path}: is empty")


class Converter:
    """Numbers frames over all files of one call."""

    def __init__(self, node: str, url: str | None) -> None:
        self.node = node
        self.url = url
        self.conn = ""
        self.connections = 0
        self.count = 0

    def convert(self, line: Line) -> list[FrameLine]:
        """The frames lines that one line of a recording becomes."""
        made = []
        if line.what == "open" or not self.connections:
            self.connections += 1
            self.count = 0
            self.conn = f"{self.node}-{line.time}-{self.connections}"
            url = line.url or self.url
            if url is not None:
                made.append(FrameLine(ts_recv=line.time, conn=self.conn, dir="open", n=0, url=url))
        if line.what == "recv":
            self.count += 1
        if line.what != "open":
            held = payload(line.text)
            made.append(
                FrameLine(
                    ts_recv=line.time,
                    conn=self.conn,
                    dir=line.what,
                    n=self.count,
                    frame=held.get("frame"),
                    frame_b64=held.get("frame_b64"),
                )
            )
        return made

    def write(self, source: Path, target: Path) -> dict[str, object]:
        """One recording into one frames file, visible when complete; what was written."""
        temporary = target.with_name(f".{target.name}.tmp")
        frames = rows = 0
        first = last = 0
        try:
            with temporary.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as packed:
                batch: list[FrameLine] = []
                for line in lines_of(source):
                    for made in self.convert(line):
                        batch.append(made)
                        frames += made.dir == "recv"
                    first, last = first or line.time, line.time
                    if len(batch) >= BATCH:
                        rows += len(batch)
                        packed.write(encode_frame_lines(batch))
                        batch.clear()
                rows += len(batch)
                packed.write(encode_frame_lines(batch))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return {
            "source": str(source), "file": str(target), "lines": rows, "frames": frames,
            "from": times.text(first), "to": times.text(last),
        }  # fmt: skip


def named(source: Path) -> str:
    """The output's name: the recording's without its compression and text endings."""
    name = source.name
    for ending in (".gz", ".txt", ".dat", ".ws"):
        name = name.removesuffix(ending)
    return f"{name}.frames.jsonl.zst"


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line; a wrong one ends with 64."""
    parser = argparse.ArgumentParser(
        "frames_from.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--url", help="address of the connection, where the recording does not tell")
    parser.add_argument("--node", default="recording", help="first part of the session's name, [a-z0-9]+")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    try:
        options = parser.parse_args(given)
    except SystemExit as left:
        raise SystemExit(64 if left.code else 0) from left
    wrong = None
    if not re.fullmatch(r"[a-z0-9]+", options.node):
        wrong = f"--node {options.node!r} is not [a-z0-9]+"
    elif len({named(file) for file in options.files}) < len(options.files):
        wrong = "two FILEs would become the same file in DIR"
    if wrong:
        print(f"frames_from: {wrong}", file=sys.stderr)
        raise SystemExit(64)
    return options


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    options = arguments(given)
    converter = Converter(options.node, options.url)
    options.out.mkdir(parents=True, exist_ok=True)
    for source in options.files:
        try:
            done = converter.write(source, options.out / named(source))
        except BadRecording as error:
            print(f"frames_from: {error}", file=sys.stderr)
            return 65
        except FileNotFoundError as error:
            print(f"frames_from: {error.filename}: no such file", file=sys.stderr)
            return 66
        text = f"{done['file']}: {done['frames']} frames, {done['from']} to {done['to']}"
        print(json.dumps(done) if options.json else text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
