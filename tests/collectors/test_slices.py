"""Raw data of tardis.dev: frames of the sessions that they were, through the pipeline of live data."""

import gzip
import json

import pytest

from collectors.config import CollectorsConfig
from collectors.files.importing import request_of
from collectors.files.reading import Options, Refused
from collectors.replay import replay
from collectors.slices import Recording, Together, is_slice
from daemon.replay_sources import frame_line
from lake.frames import FrameLine, encode_frame_lines
from lake.segments import decode_line
from lake.writer import LakeWriter
from market.times import DAY, HOUR, parse

T0 = parse("2023-01-01T00:00:00Z")
NOW = T0 + 1000 * DAY
CONFIG = CollectorsConfig(node="r")


def trade(number, at):
    data = {"e": "trade", "E": at // 1000, "s": "BNBBTC", "t": number, "p": "0.001", "q": "100", "T": at // 1000 - 4}
    return message("bnbbtc@trade", data | {"m": True, "M": True})


def depth(first, last, at):
    data = {"e": "depthUpdate", "E": at // 1000, "s": "BNBBTC", "U": first, "u": last, "b": [["1", "2"]], "a": []}
    return message("bnbbtc@depth@100ms", data)


def message(stream, data):
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


WHOLE = (
    b'{"stream":"bnbbtc@depthSnapshot","generated":true,"data":{"lastUpdateId":160,"bids":[["0.0024","10"]],'
    b'"asks":[["0.0026","100"]]}}'
)
HELD = [
    (T0 + 100, trade(1, T0)), (T0 + 200_000, WHOLE), (T0 + 300_000, depth(157, 161, T0 + 300_000)),
    (T0 + 400_000, trade(2, T0 + 400_000)), (T0 + 500_000, depth(162, 163, T0 + 500_000)),
]  # fmt: skip


def plain(at, text):
    return b"2023-01-01T00:00:%02d.%06d7Z " % divmod(at - T0, 1_000_000) + text + b"\n"


def wrapped(at, text):
    return frame_line(at, text)


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "r", NOW) as opened:
        yield opened


def write(path, lines, *, packed=False):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(lines)) if packed else b"".join(lines))
    return path


def run(writer, *files):
    return replay(files, "binance", "spot", writer, CONFIG, NOW)


def events(writer, kind):
    return [
        decode_line(kind, line)
        for row in writer.manifest.segments("binance", "spot", kind)
        if row.rows
        for line in (writer.root / row.path).read_bytes().splitlines()
    ]


@pytest.mark.parametrize("form, packed", [(plain, True), (plain, False), (wrapped, True)])
def test_messages_become_the_rows_of_the_connection_that_brought_them(writer, tmp_path, form, packed):
    files = [write(tmp_path / "a" / "1.json", [form(*one) for one in HELD[:3]], packed=packed)]
    files += [write(tmp_path / "a" / "2.json", [form(*one) for one in HELD[3:]], packed=packed)]
    said = run(writer, *files)
    assert (said.sessions, said.frames, said.gaps, said.damage, said.rejected) == (1, 4, 0, [], {})
    trades, books = events(writer, "trade"), events(writer, "book_delta")
    assert [(one.seq, one.ts_recv, one.source) for one in trades] == [(1, T0 + 100, "ws"), (2, T0 + 400_000, "ws")]
    assert [(one.first_id, one.last_id, one.flags, one.source) for one in books] == [
        (157, 161, (), "ws"), (None, 160, ("snapshot",), "rest"), (162, 163, (), "ws"),
    ]  # fmt: skip
    (session,) = writer.manifest.sessions()
    assert session.session == trades[0].session
    assert session.session.startswith(f"tardis-{T0 + 100}-")
    assert session.url == f"https://api.tardis.dev/v1/data-feeds/binance#taken={NOW}"
    again = run(writer, *files)
    assert (again.frames, again.passed_over) == (0, 5)
    assert len(events(writer, "trade")) == 2


def test_they_are_what_our_own_frames_become(writer, tmp_path):
    ours = [FrameLine(ts_recv=at, conn="x-1-1", dir="recv", n=n, frame=text.decode())
            for n, (at, text) in enumerate([HELD[0], *HELD[2:]], 1)]  # fmt: skip
    own = tmp_path / "own.jsonl"
    own.write_bytes(encode_frame_lines(ours))
    run(writer, write(tmp_path / "a" / "1", [plain(*one) for one in (HELD[0], *HELD[2:])]))
    with LakeWriter.open(tmp_path / "other", "r", NOW) as other:
        run(other, own)
        for kind in ("trade", "book_delta"):
            left, right = ([bare(one) for one in events(held, kind)] for held in (writer, other))
            assert left == right


def bare(event):
    event.session = ""
    return event


def test_an_empty_line_ends_a_connection_and_leaves_a_gap(writer, tmp_path):
    later = (T0 + 9_000_000, trade(5, T0 + 9_000_000))
    lines = [b"\n", plain(*HELD[0]), plain(*HELD[3]), b"\n", b"\n"]
    said = run(writer, write(tmp_path / "1", lines), write(tmp_path / "2", [plain(*later), b"\n"]))
    assert (said.sessions, said.frames, said.damage) == (2, 3, [])
    found = [(one.cause, one.id_from, one.id_to) for one in writer.manifest.gaps() if one.kind == "trade"]
    assert found == [("disconnect", 3, 5)]


def test_channels_that_lie_in_several_files_of_a_time_are_connections_of_their_own(tmp_path):
    files = [write(tmp_path / f"{n}", [plain(*one) for one in HELD[n:]]) for n in range(2)]
    ended = []
    lines = [line for _, line in Together(files, Recording("binance", None, NOW), ended.append).pairs()]
    opened = [line.conn for line in lines if line.dir == "open"]
    assert len(set(opened)) == len(opened) == 2
    assert [line.ts_recv for line in lines] == sorted(line.ts_recv for line in lines)
    for place, conn in enumerate(opened):
        numbers = [line.n for line in lines if line.conn == conn and line.dir == "recv"]
        assert numbers == [*range(1, 6 - place)]
    assert [(one.path, one.lines) for one in ended] == [(files[0], 5), (files[1], 4)]


def test_a_whole_book_whose_stream_is_never_told_is_kept_as_it_came(writer, tmp_path):
    said = run(writer, write(tmp_path / "1", [plain(*HELD[0]), plain(*HELD[1]), plain(T0 + 300_000, WHOLE)]))
    assert (said.frames, said.events) == (3, {"trade": 1})


def known(writer, kind):
    """(time, id) of every event, and the dates of the segments."""
    rows = [(one.ts_event, one.last_id if kind == "book_delta" else one.seq) for one in events(writer, kind)]
    segments = writer.manifest.segments("binance", "spot", kind)
    return rows, [row.path.partition("date=")[2][:10] for row in segments if row.rows]


def test_files_of_one_time_are_the_rows_that_one_file_of_all_is(writer, tmp_path):
    """Whole days of several channels, a file each, as who asks a channel at a time has them."""
    hours = [T0 + n * 2 * HOUR for n in range(30)]
    trades = [(at, trade(n + 1, at)) for n, at in enumerate(hours)]
    depths = [(at + 7, depth(2 * n + 1, 2 * n + 2, at)) for n, at in enumerate(hours)]
    run(
        writer,
        *(write(tmp_path / name, [wrapped(*one) for one in held]) for name, held in (("t", trades), ("d", depths))),
    )
    with LakeWriter.open(tmp_path / "other", "r", NOW) as other:
        run(other, write(tmp_path / "all", [wrapped(*one) for one in sorted(trades + depths)]))
        for kind in ("trade", "book_delta"):
            assert known(writer, kind) == known(other, kind)
        assert len(writer.manifest.gaps()) == len(other.manifest.gaps())


def test_what_is_no_message_is_named_and_the_rest_goes_on(writer, tmp_path):
    lines = [
        plain(*HELD[0]),
        b"rubbish\n",
        b"2023-13-01T00:00:00.0000000Z {}\n",
        b'{"localTimestamp":"x"}\n',
        plain(*HELD[3]),
    ]
    whole = gzip.compress(b"".join(lines))
    file = tmp_path / "1.gz"
    file.write_bytes(whole + gzip.compress(plain(*HELD[4]) * 50)[:-12])
    said = run(writer, file)
    assert said.events["trade"] == 2
    assert said.damaged == 4
    assert [one.partition(":")[2][:30] for one in said.damage[:3]] == [
        "2: no time and message: it doe", "3: no time and message: malfor", "4: no time and message: Object",
    ]  # fmt: skip
    assert "not readable beyond this" in said.damage[3]


def test_an_import_says_which_command_takes_them(tmp_path):
    file = write(tmp_path / "1.json.gz", [plain(*HELD[0])], packed=True)
    assert is_slice(file)
    with pytest.raises(Refused, match=r"as tardis.dev recorded them .dl replay 1.json.gz --exchange"):
        request_of(file, Options(exchange="binance", market_type="spot"))
    assert not is_slice(write(tmp_path / "2.json.gz", [b"x"]))
