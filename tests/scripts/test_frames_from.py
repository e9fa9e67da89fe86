"""Text recordings become frames files: verbatim, exact in time, one connection, nothing half-written."""

import gzip
import json
import os
import re
from pathlib import Path

import pytest

from lake.frames import read_frames
from scripts import frames_from

SAMPLES = Path(os.environ.get("LAKE_SAMPLES", "../shared/samples"))


def convert(tmp_path, content, name="one.gz", *more):
    source = tmp_path / name
    source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    code = frames_from.main([str(source), "--out", str(tmp_path / "out"), *more])
    files = sorted((tmp_path / "out").iterdir())
    reader = read_frames(files[0]) if files else None
    return code, list(reader) if reader else [], files


@pytest.mark.parametrize(
    "time", ["1721347020984480942", "1721347020984480", "1721347020984", "1721347020"], ids=["ns", "us", "ms", "s"]
)
@pytest.mark.parametrize("name", ["one.gz", "one.dat"])
def test_the_unit_of_time_is_decided_by_its_magnitude(tmp_path, capsys, time, name):
    code, lines, _ = convert(tmp_path, f'{time} {{"a":1}}\n'.encode(), name)
    assert code == 0
    assert lines[0].ts_recv == int(time[:16].ljust(16, "0"))
    assert (lines[0].dir, lines[0].n, lines[0].frame) == ("recv", 1, '{"a":1}')
    assert "1 frames" in capsys.readouterr().out


def test_a_spoken_recording_keeps_its_address_and_what_was_sent(tmp_path, capsys):
    content = (
        b"wss://venue/ws <-> 1618677447.2908978\n"
        b'wss://venue/ws <- 1618677447.5: {"op":"subscribe"}\n'
        b'1618677448.110592: {"x": "1: 2"}\n'
        b"\n"
        b"1618677448.1: \xff\xfe\n"
        b"wss://venue/two <-> 1618677449\n"
        b"1618677450: pong\n"
    )
    code, lines, files = convert(tmp_path, content, "cf_x.ws.txt.gz")
    assert code == 0
    assert [f.name for f in files] == ["cf_x.frames.jsonl.zst"]
    assert [(line.dir, line.n, line.ts_recv) for line in lines] == [
        ("open", 0, 1618677447290897),
        ("send", 0, 1618677447500000),
        ("recv", 1, 1618677448110592),
        ("recv", 2, 1618677448100000),
        ("open", 0, 1618677449000000),
        ("recv", 1, 1618677450000000),
    ]
    assert [line.url for line in lines if line.dir == "open"] == ["wss://venue/ws", "wss://venue/two"]
    assert lines[2].frame == '{"x": "1: 2"}'
    assert lines[3].data == b"\xff\xfe"
    assert {line.conn for line in lines[:4]} == {"recording-1618677447290897-1"}
    assert {line.conn for line in lines[4:]} == {"recording-1618677449000000-2"}


def test_files_of_one_call_are_one_connection(tmp_path, capsys):
    for name, time in (("a.gz", 1721347020984480942), ("b.gz", 1721347200064916040)):
        (tmp_path / name).write_bytes(gzip.compress(f"{time} x\n{time + 5000} y\n".encode()))
    sources = [str(tmp_path / "a.gz"), str(tmp_path / "b.gz")]
    out = tmp_path / "out"
    assert frames_from.main([*sources, "--out", str(out), "--url", "wss://venue/stream", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["frames"] for t in told] == [2, 2]
    first, second = (list(read_frames(out / f"{n}.frames.jsonl.zst")) for n in "ab")
    assert [line.dir for line in first] == ["open", "recv", "recv"]
    assert first[0].url == "wss://venue/stream"
    assert {line.conn for line in first + second} == {"recording-1721347020984480-1"}
    assert [line.n for line in second] == [3, 4]
    assert all(re.fullmatch(r"[a-z0-9]+-\d+-\d+", line.conn) for line in first)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"hello world\n", ":1:"),
        (b"1721347020984480942 a\nnot a line\n", ":2:"),
        (b"wss://v <-> 1618677447.2\n1618677448.1: ok\nbroken\n", ":3:"),
        (b"12 too small a time\n", "no time"),
        (b"", "empty"),
    ],
)
def test_what_is_no_recording_is_refused_by_file_and_line_and_leaves_nothing(tmp_path, capsys, content, said):
    code, _, files = convert(tmp_path, content)
    assert (code, files) == (65, [])
    error = capsys.readouterr().err
    assert said in error
    assert "one.gz" in error


def test_a_truncated_gzip_is_refused(tmp_path, capsys):
    source = tmp_path / "one.gz"
    source.write_bytes(gzip.compress(b"1721347020984480942 a\n" * 50_000)[:-20])
    assert frames_from.main([str(source), "--out", str(tmp_path / "out")]) == 65
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_file_and_a_wrong_command_line_have_their_codes(tmp_path, capsys):
    assert frames_from.main([str(tmp_path / "none.gz"), "--out", str(tmp_path)]) == 66
    for wrong in (["x.gz"], ["x.gz", "--out", "o", "--node", "A-b"], ["x.gz", "y/x.gz", "--out", "o"]):
        with pytest.raises(SystemExit) as left:
            frames_from.main(wrong)
        assert left.value.code == 64


@pytest.mark.parametrize("name", ["hft_um_btcusdt_20240718.gz", "hft_spot_btcusdt_20230405.dat.gz"])
def test_a_real_recording_comes_through_verbatim(tmp_path, capsys, name):
    source = SAMPLES / "binance" / name
    if not source.exists():
        pytest.skip(f"no recording at {source}; set LAKE_SAMPLES")
    assert frames_from.main([str(source), "--out", str(tmp_path)]) == 0
    with gzip.open(source, "rt") as file:
        wanted = [line.rstrip("\n").split(" ", 1) for line in file]
    reader = read_frames(next(tmp_path.iterdir()))
    got = list(reader)
    assert reader.damage == []
    assert [line.frame for line in got] == [text for _, text in wanted]
    assert [line.ts_recv for line in got] == [int(time[:16]) for time, _ in wanted]
    assert [line.n for line in got] == list(range(1, len(got) + 1))
