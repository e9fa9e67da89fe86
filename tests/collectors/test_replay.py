"""Replay: frames files in, the rows of live collection out; twice is once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from collectors import exchanges
from collectors.config import CollectorsConfig
from collectors.replay import Summary, replay
from lake import durable
from lake.durable import Fault
from lake.errors import StorageFailed
from lake.frames import FrameLine, encode_frame_lines, payload, read_frames
from lake.segments import decode_line
from lake.writer import LakeWriter
from market import times
from market.times import DAY, MINUTE, SECOND, Interval, intersect
from tests.support import toy
from tests.support.toy import T0, q, t

NOW = T0 + 1000 * DAY
CONFIG = CollectorsConfig(node="r")


@pytest.fixture(autouse=True)
def toy_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "load", lambda _name: toy)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "r", NOW) as opened:
        yield opened


def recv(n: int, frame: bytes, at: int, conn: str = "box-1-1") -> FrameLine:
    """A received frame; `at` in ms after T0."""
    return FrameLine(ts_recv=T0 + at * 1000, conn=conn, dir="recv", n=n, **payload(frame))


def other(what: str, at: int, conn: str = "box-1-1", **more: object) -> FrameLine:
    return FrameLine(ts_recv=T0 + at * 1000, conn=conn, dir=what, **more)


def write(path: Path, *lines: FrameLine, packed: bool = False, tail: bytes = b"") -> Path:
    data = encode_frame_lines(lines) + tail
    path.write_bytes(zstandard.compress(data) if packed else data)
    return path


def run(writer: LakeWriter, *files: Path) -> Summary:
    return replay(files, "binance", "spot", writer, CONFIG, NOW)


def stored(writer: LakeWriter) -> list[tuple[str, int, int, int]]:
    """(session, frame_no, ts_recv, id) of every trade."""
    found = []
    for row in writer.manifest.segments("binance", "spot", "trade"):
        if row.rows:
            for line in (writer.root / row.path).read_bytes().splitlines():
                event = decode_line("trade", line)
                found.append((event.session, event.frame_no, event.ts_recv, event.seq))
    return found


DAY_ONE = [
    other("open", 0, url="ws://toy/stream"),
    other("send", 1, frame="subscribe"),
    recv(1, b"ack", 2),
    recv(2, t(1, 0), 5),
    recv(3, q(7, 0), 5),
    recv(4, b"x depth", 6),
    recv(5, b"rubbish", 7),
    recv(6, t(2, 90_000), 90_000),
]
DAY_TWO = [recv(7, t(3, 100_000), 100_000), recv(8, t(7, 101_000), 101_000), recv(9, t(8, 110_000), 110_000)]


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_received_is_received_again(tmp_path: Path, writer: LakeWriter, packed: bool) -> None:
    files = [write(tmp_path / "1", *DAY_ONE, packed=packed), write(tmp_path / "2", *DAY_TWO, packed=packed)]
    summary = run(writer, *files)
    assert summary.events == {"quote": 1, "trade": 5}
    assert summary.ignored == {"x": 1}
    assert summary.rejected == {"not understood": 1}
    assert (summary.files, summary.sessions, summary.frames, summary.gaps) == (2, 1, 9, 1)
    assert stored(writer) == [
        ("box-1-1", 2, T0 + 5_000, 1), ("box-1-1", 6, T0 + 90_000_000, 2), ("box-1-1", 7, T0 + 100_000_000, 3),
        ("box-1-1", 8, T0 + 101_000_000, 7), ("box-1-1", 9, T0 + 110_000_000, 8),
    ]  # fmt: skip
    (gap,) = writer.manifest.gaps()
    assert (gap.id_from, gap.id_to, gap.cause) == (4, 7, "jump")
    (session,) = writer.manifest.sessions()
    assert (session.source, session.url, session.frames, session.events) == ("ws", "ws://toy/stream", 9, 6)
    assert (session.opened_at, session.closed_at) == (T0, T0 + 110_000_000)
    assert {row.state for row in writer.manifest.segments()} == {"sealed"}
    assert writer.manifest.coverage(kind="trade")[0].ts_to == T0 + 110_000_000


def test_segments_turn_over_by_the_frames_own_time(tmp_path: Path, writer: LakeWriter) -> None:
    run(writer, write(tmp_path / "1", *DAY_ONE, *DAY_TWO))
    rows = writer.manifest.segments("binance", "spot", "trade")
    first = times.floor_to(T0, MINUTE) + MINUTE
    assert [row.period_end for row in rows] == [first, first + MINUTE, T0 + 110_000_001]
    assert [row.rows for row in rows] == [1, 1, 3]


def test_the_frames_are_in_the_lake_so_that_rows_can_be_traced(tmp_path: Path, writer: LakeWriter) -> None:
    run(writer, write(tmp_path / "1", *DAY_ONE, *DAY_TWO))
    held = [
        line
        for row in writer.manifest.segments(kind="frames")
        if row.rows
        for line in read_frames(writer.root / row.path)
    ]
    assert [line for line in held if line.dir == "recv"] == [
        line for line in (*DAY_ONE, *DAY_TWO) if line.dir == "recv"
    ]
    assert [line.dir for line in held if line.dir != "recv"] == ["open", "send", "close"]


def test_replaying_twice_is_replaying_once(tmp_path: Path, writer: LakeWriter) -> None:
    file = write(tmp_path / "1", *DAY_ONE, *DAY_TWO)
    run(writer, file)
    before = (stored(writer), writer.manifest.segments(), writer.manifest.gaps(), writer.manifest.sessions())
    again = run(writer, file)
    assert (again.frames, again.passed_over, again.sessions) == (0, 9, 0)
    assert before == (stored(writer), writer.manifest.segments(), writer.manifest.gaps(), writer.manifest.sessions())


def test_a_file_that_is_given_twice_counts_once(tmp_path: Path, writer: LakeWriter) -> None:
    file = write(tmp_path / "1", *DAY_ONE)
    summary = run(writer, file, file)
    assert summary.events == {"quote": 1, "trade": 2}
    assert summary.passed_over == 6


def test_files_are_taken_oldest_first_whatever_their_order(tmp_path: Path, writer: LakeWriter) -> None:
    first, second = write(tmp_path / "b", *DAY_ONE), write(tmp_path / "a", *DAY_TWO)
    done = run(writer, second, first)
    assert (done.frames, done.passed_over, done.damage) == (9, 0, [])
    assert [seq for *_, seq in stored(writer)] == [1, 2, 3, 7, 8]


def test_frames_without_numbers_are_counted_on_from_file_to_file(tmp_path: Path, writer: LakeWriter) -> None:
    def unnumbered(name: str, *ids: int) -> Path:
        return write(tmp_path / name, *(recv(0, t(n, n * 1000), n * 1000) for n in ids))

    files = [unnumbered("a", 1, 2, 3), unnumbered("b", 4, 5)]
    done = run(writer, *files)
    assert (done.frames, done.passed_over) == (5, 0)
    assert [(n, seq) for _, n, _, seq in stored(writer)] == [(n, n) for n in range(1, 6)]
    again = run(writer, *files)
    assert (again.frames, again.passed_over, again.damaged) == (0, 5, 0)
    alone = run(writer, unnumbered("c", 6))
    assert alone.damaged == 1, "its number is that of a frame the lake has, its time is not"
    assert "1 frames of box-1-1 were not taken" in alone.damage[0]


def test_frames_that_come_behind_later_ones_are_not_called_known(tmp_path: Path, writer: LakeWriter) -> None:
    run(writer, write(tmp_path / "b", *DAY_TWO))
    done = run(writer, write(tmp_path / "a", *DAY_ONE))
    assert (done.frames, done.passed_over, done.damaged) == (0, 0, 6)
    said = "a: 6 frames of box-1-1 were not taken, for later ones of it are in the lake:"
    assert done.damage == [f"{said} replay all files of that connection in one call, into a new lake"]
    # the same inside one file: number 8 is taken before 7, which is then too late, and 8 once more is nothing new
    mixed = [recv(n, t(n, 1), 200_000, "box-1-2") for n in (6, 8, 7, 8)]
    done = run(writer, write(tmp_path / "c", *mixed))
    assert (done.frames, done.passed_over, done.damaged) == (2, 1, 1)


def test_frames_that_are_in_no_file_are_a_gap_of_every_stream_and_not_covered(
    tmp_path: Path, writer: LakeWriter
) -> None:
    lines = [recv(n, (t, q)[n % 2](n // 2, n * 1000), n * 1000) for n in range(1, 21)]
    for where in (lines[:8], lines[14:]):  # the files of one connection, but for one in the middle
        write(tmp_path / f"from-{where[0].n:02}", *where)
    done = run(writer, *sorted(tmp_path.glob("from-*")))
    assert (done.sessions, done.frames, done.damage) == (1, 14, [])
    (quotes,) = writer.manifest.gaps("binance", "spot", "quote")
    (trades,) = writer.manifest.gaps("binance", "spot", "trade")
    assert {quotes.cause, trades.cause} == {"frames_missing"}
    assert (trades.id_from, trades.id_to, trades.state) == (5, 8, "open")
    assert quotes.ts_from <= T0 + 9 * SECOND
    assert quotes.ts_to == T0 + 15 * SECOND
    covered = [Interval(row.ts_from, row.ts_to) for row in writer.manifest.coverage("binance", "spot", "quote")]
    assert intersect(covered, [Interval(T0 + 9 * SECOND, T0 + 15 * SECOND)]) == []
    again = run(writer, *sorted(tmp_path.glob("from-*")))
    assert (again.frames, again.passed_over, again.gaps) == (0, 14, 0)


def test_the_rest_of_a_longer_file_is_taken_up(tmp_path: Path, writer: LakeWriter) -> None:
    run(writer, write(tmp_path / "1", *DAY_ONE))
    summary = run(writer, write(tmp_path / "2", *DAY_ONE, *DAY_TWO))
    assert (summary.frames, summary.passed_over) == (3, 6)
    assert [row[1] for row in stored(writer)] == [2, 6, 7, 8, 9]


@pytest.mark.parametrize("number", range(2, 40, 9))
def test_an_interrupted_replay_is_finished_by_another(tmp_path: Path, number: int) -> None:
    lines = [recv(n, t(n, n * 500), n * 500) for n in range(1, 400)]
    file = write(tmp_path / "1", other("open", 0), *lines)
    durable.inject(Fault("*", number * 3, "EIO", repeat=True))
    try:
        with LakeWriter.open(tmp_path / "lake", "r", NOW) as writer, pytest.raises(StorageFailed):
            run(writer, file)
    except StorageFailed:
        pass  # so early that there was no lake yet
    finally:
        durable.inject(None)
    with LakeWriter.open(tmp_path / "lake", "r", NOW) as writer:
        run(writer, file)
        assert sorted({row[3] for row in stored(writer)}) == list(range(1, 400))
        assert [gap for gap in writer.manifest.gaps() if gap.state == "open"] == []


def test_a_close_line_tells_why_the_session_ended(tmp_path: Path, writer: LakeWriter) -> None:
    lines = [
        recv(1, t(1, 0), 0),
        other("close", 10, n=1, code=1006, reason="disconnect: 1006 gone"),
        other("open", 900, "box-2-1", url="ws://toy"),
        recv(1, t(4, 1000), 1000, "box-2-1"),
        other("close", 1100, "box-2-1", n=1, reason="stopped"),
    ]
    summary = run(writer, write(tmp_path / "1", *lines))
    assert summary.sessions == 2
    assert [row.close_cause for row in writer.manifest.sessions()] == ["disconnect: 1006 gone", "stopped"]
    (gap,) = writer.manifest.gaps()
    assert (gap.cause, gap.id_from, gap.id_to) == ("disconnect", 2, 4)


def test_time_between_two_recordings_is_no_silence(tmp_path: Path, writer: LakeWriter) -> None:
    lines = [
        recv(1, t(1, 0), 0),
        other("close", 10, n=1, reason="stopped"),
        recv(1, t(2, 9 * 86_400_000), 9 * 86_400_000, "box-2-1"),
    ]
    run(writer, write(tmp_path / "1", *lines))
    rows = writer.manifest.segments(kind="trade")
    assert [row.rows for row in rows] == [1, 1]
    assert rows[0].period_end is not None
    assert rows[0].period_end < T0 + MINUTE


def test_reference_sessions_are_replayed_with_their_symbols(tmp_path: Path, writer: LakeWriter) -> None:
    lines = [
        other("open", 0, url="http://toy.test", tag="reference", headers={"symbols": '["AAA","BBB"]'}),
        other("http", 5, n=1, url="http://toy.test/info", method="GET", status=200, tag="info", frame="{}"),
        other("close", 6, n=1, reason="done"),
    ]
    assert run(writer, write(tmp_path / "1", *lines)).events == {"contract": 2}
    assert writer.manifest.sessions()[0].source == "rest"


def test_damage_is_reported_and_the_rest_is_taken(tmp_path: Path, writer: LakeWriter) -> None:
    file = write(tmp_path / "1", *DAY_ONE, tail=b'not a line\n{"ts_recv": 1')
    summary = run(writer, file)
    assert summary.events == {"quote": 1, "trade": 2}
    assert [note.split(":")[1] for note in summary.damage] == ["9", "10"]


@pytest.mark.parametrize("conn", ["../../etc/passwd", "", "a b"])
def test_a_hostile_connection_name_is_refused_and_the_rest_is_taken(
    tmp_path: Path, writer: LakeWriter, conn: str
) -> None:
    summary = run(writer, write(tmp_path / "1", *DAY_ONE, recv(1, t(1, 0), 0, conn)))
    assert summary.events == {"quote": 1, "trade": 2}
    assert summary.damaged == 1
    assert "is no name of a session" in summary.damage[0]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "it is empty"),
        (b"<html>\n<body>\n", "none of its 2 lines is one"),
        (b"\x28\xb5\x2f\xfd", "its compressed data ends before the first line does"),
        (b"\0" * 100, "there is no line in it"),
    ],
    ids=["empty", "html", "torn zstd", "zeros"],
)
def test_what_is_no_frames_file_is_said_once(tmp_path: Path, writer: LakeWriter, content: bytes, said: str) -> None:
    file = tmp_path / "1"
    file.write_bytes(content)
    summary = run(writer, file)
    assert len(summary.damage) == 1
    assert summary.damage[0].startswith(f"1 is no frames file: {said}")
    assert summary.damaged >= 1


def test_many_bad_lines_are_counted_and_the_first_are_named(tmp_path: Path, writer: LakeWriter) -> None:
    summary = run(writer, write(tmp_path / "1", *DAY_ONE, tail=b"x\n" * 25))
    assert summary.damaged == 25
    assert len(summary.damage) == 11
    assert summary.damage[-1].endswith("and 15 more lines that are none")


def test_progress_is_told(tmp_path: Path, writer: LakeWriter) -> None:
    said: list[int] = []
    files = [write(tmp_path / "1", *DAY_ONE), write(tmp_path / "2", *DAY_TWO)]
    replay(files, "binance", "spot", writer, CONFIG, NOW, lambda summary: said.append(summary.frames))
    assert said == [6, 9]


def test_files_written_before_the_clock_was_set_back_are_taken_first(tmp_path: Path, writer: LakeWriter) -> None:
    """Their frames have lower numbers, though they came later by the clock of that time."""
    names = [f"120000-box-{number:06d}.frames.jsonl.zst" for number in (1, 2, 3)]
    ahead = [recv(n, t(n - 1, 2_000 + n), MINUTE // 1000 + 2_000 + n) for n in (3, 4)]
    files = [
        write(tmp_path / names[0], *DAY_ONE[:3], recv(2, t(1, 2_000), 2_000)),
        write(tmp_path / names[1], *ahead),
        write(tmp_path / names[2], *(recv(n, t(n - 1, 2_000 + n), 2_000 + n) for n in (5, 6))),
    ]
    summary = run(writer, *reversed(files))
    assert (summary.frames, summary.gaps, summary.damage) == (6, 0, [])
    assert [place[1] for place in stored(writer)] == [2, 3, 4, 5, 6]
