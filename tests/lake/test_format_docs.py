"""The examples in the storage formats' documents are what the code writes and reads."""

import re
from pathlib import Path
from typing import get_args

import msgspec

from lake import layout, segments
from lake.clock_files import ClockFiles, ClockLook, Latencies, read
from lake.frames import FrameLine
from lake.latency import Minute, histogram
from lake.ledger import FORMAT_VERSION, EntryType, encode_entry

DOCS = Path(__file__).resolve().parents[2] / "docs" / "format"


def examples(name: str) -> list[str]:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)


def test_the_segment_line_and_seal() -> None:
    line, seal = examples("segment")
    event = segments.decode_line("trade", line.encode())
    assert segments.encode_lines([event]).decode() == line + "\n"
    row = segments.decode_seal(seal.encode())
    assert (row.kind, row.rows, row.clean) == ("trade", 15, True)
    assert f"Format version {segments.FORMAT_VERSION}" in (DOCS / "segment.md").read_text()


def test_the_frames_line() -> None:
    (line,) = examples("frames")
    parsed = msgspec.json.decode(line, type=FrameLine)
    assert msgspec.json.encode(parsed).decode() == line
    page = (DOCS / "frames.md").read_text()
    for field in FrameLine.__struct_fields__:
        assert f"`{field}`" in page, field


def test_the_ledger_line_with_its_crc_and_every_type() -> None:
    (line,) = examples("ledger")
    assert encode_entry("note", {"text": "…"}, at=1_795_182_300_000_000, n=3).decode() == line + "\n"
    page = (DOCS / "ledger.md").read_text()
    for kind in get_args(EntryType):
        assert f"| `{kind}` |" in page, kind
    assert f"Format version {FORMAT_VERSION}" in page


def test_the_records_of_clocks_and_latencies(tmp_path: Path) -> None:
    lines = examples("clocks")
    files = ClockFiles(tmp_path, "box")
    files.append([msgspec.json.decode(line, type=ClockLook | Latencies) for line in lines])
    assert (tmp_path / "clocks/2025-11-20-box.jsonl").read_text() == "".join(f"{line}\n" for line in lines)
    page = (DOCS / "clocks.md").read_text()
    for struct in (ClockLook, Latencies, Minute):
        for field in struct.__struct_fields__:
            assert f"`{field}`" in page, field
    (held,) = [record for record in read(tmp_path) if isinstance(record, Latencies)]
    assert held.minutes[0].event_to_receive == histogram([900, 1000, 3100])
    assert held.minutes[0].event_to_publish == histogram([0, 0, 2000])
    assert held.minutes[0].publish_to_receive == histogram([900, 1000, 1100])


def test_the_layouts_trees_and_paths() -> None:
    page = (DOCS / "layout.md").read_text()
    for tree in layout.TREES:
        assert f"| `{tree}` |" in page, tree
    for path, parse in (
        (r"raw/exchange=\S+\.jsonl", layout.parse_raw),
        (r"frames/exchange=\S+\.zst", layout.parse_frames),
        (r"ledger/2026\S+\.jsonl", layout.parse_ledger),
        (r"clocks/2026\S+\.jsonl", layout.parse_clocks),
    ):
        found = re.search(path, page)
        assert found, path
        parse(found[0])
    assert f"longer than {layout.MAX_NAME} bytes" in page
    assert "`BTC/USD` is `BTC%2FUSD`, `a` is `%61`" in page
    assert (layout.encode_name("BTC/USD"), layout.encode_name("a")) == ("BTC%2FUSD", "%61")
