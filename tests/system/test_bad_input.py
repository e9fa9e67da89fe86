"""Bad input as a stranger meets it: each piece ends as a row, in quarantine or in a clear message and exit code."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner, Result

from cli.app import app
from collectors.config import CollectorsConfig
from collectors.replay import replay
from lake import Lake
from lake.layout import encode_name
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.times import DAY
from tests.support import written
from tests.support.commands import dl, dl_json, run
from tests.support.crash import quick_folder
from tests.support.written import T0, combined, line, quote, session, trade

TODAY = T0 + 365 * DAY
REPLAY = ("--exchange", "binance", "--market-type", "linear")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with quick_folder() as place:
        yield place


def ask(*arguments: str | Path, expect: int = 0) -> Result:
    """`dl …` inside this process: as fast as its answer; never an exception."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    said = f"dl {' '.join(map(str, arguments))}: {done.exit_code}\n{done.output}"
    assert isinstance(done.exception, SystemExit | None), said
    assert done.exit_code == expect, said
    assert "Traceback" not in done.output, said
    assert "internal error" not in done.output, said
    return done


# --- frames ---

NUMBERS: list[Any] = [
    "NaN", "inf", "-inf", "1_000", "\u0661\u0662\u0663", "-1.5", "9" * 40, "1e5", "", "0x10", " 1", "1 ", "+1", "1.",
    "00.1", ".5", 100.1, None, True, [], {}, "1" * 100_000,
]  # fmt: skip
IDS: list[Any] = ["5", 5.5, -1, 2**63, 2**70, None]
TIMES: list[Any] = [
    0, 1, T0 // 1_000_000, T0, T0 * 1000, -5, 32_503_680_000_000, str(T0 // 1000), T0 / 1000 + 0.5, None,
]  # fmt: skip
"""1970, seconds, us, ns, negative, the year 3000: none of them is about now in ms."""
DEEP = "[" * 2000 + "]" * 2000
GARBAGE: list[str | bytes] = [
    trade(2000)[:60], "", "{}", "[]", "null", "5", '"x"', "[" * 2000, DEEP, '{"a":' * 2000 + "1" + "}" * 2000,
    trade(2000)[:-1] + f',"x":{DEEP}}}'[:500], f'{{"stream":"btcusdt@trade","data":{{"x":{DEEP}}}}}',
    b"\xff\xfe{}", b'{"stream":"btcusdt@trade","data":{"s":"\xff"}}', b"\x00" * 10,
    "<html><body>503</body></html>", '{"stream":"btcusdt@trade"}', '{"stream":5,"data":{}}',
    '{"stream":"btcusdt@trade","data":{"pad":"' + "x" * 20_000_000 + '"}}',
    trade(2000, "ETHUSDT", stream="btcusdt@trade"), trade(2000, X="WEIRD"), trade(2000, m="true"),
    trade(2000, "btcusdt"), trade(2000, "a/b"), trade(2000, "S" * 300), trade(2000, ""),
]  # fmt: skip
HOSTILE = ["../../ETC/PASSWD", "CON", "NUL\x00", "\U0001f680USDT", "..", "A\nB", "BTC%2FUSDT"]
"""Names that the venue's frame says, so they are rows; what they may not be is a place."""
IGNORED = [combined("btcusdt@avgPrice", {}), combined("../../x@miniTicker", {}), '{"result":null,"id":1}']


def hostile_frames() -> tuple[list[str | bytes], set[int]]:
    """Frames, and the numbers of those that are to be rejected."""
    good = [trade(1000), quote(10), trade(1001), quote(11)]
    bad: list[str | bytes] = []
    for value in NUMBERS:
        bad += [trade(2000, p=value), quote(2000, b=value)]
    for value in IDS:
        bad += [trade(value), quote(value)]
    for value in TIMES:
        bad += [trade(2000, T=value), trade(2000, E=value), quote(2000, T=value)]
    bad += GARBAGE
    after = [*IGNORED, *(trade(1, name) for name in HOSTILE), trade(1001), trade(1002), quote(12)]
    frames = [*good, *bad, *after]
    return frames, set(range(len(good) + 1, len(good) + len(bad) + 1))


@pytest.fixture(scope="module")
def hostile(folder: Path) -> tuple[Path, dict[str, Any], int, set[int]]:
    """(lake, what dl replay said, frames, numbers of the bad ones)."""
    frames, bad = hostile_frames()
    place = folder / "hostile"
    place.mkdir()
    file = written.write(place / "frames.jsonl", session(frames))
    said = dl_json("replay", file, *REPLAY, "--lake", place / "lake", expect=1)
    return place / "lake", said, len(frames), bad


def test_every_frame_is_an_event_a_repetition_another_channel_or_rejected(hostile: Any) -> None:
    _, said, count, bad = hostile
    done = said["replayed"]
    assert done["frames"] == count
    assert sum(done["rejected"].values()) == len(bad)
    assert done["duplicates"] == {"trade": 1}
    assert sum(done["ignored"].values()) == len(IGNORED)
    assert done["events"] == {"quote": 3, "trade": 3 + len(HOSTILE)}
    told = ("events", "duplicates", "ignored", "rejected")
    assert sum(sum(done[name].values()) for name in told) == count
    assert said["transformed"]["rows"] == sum(done["events"].values())
    assert said["compacted"]["failures"] == []


def test_each_rejected_frame_is_in_quarantine_under_its_number(hostile: Any) -> None:
    lake, said, _, bad = hostile
    manifest = Manifest.read_only(lake)
    try:
        rows = manifest.quarantine()
    finally:
        manifest.close()
    assert sum(row.count for row in rows) == len(bad)
    kept = [json.loads(text) for row in rows for text in (lake / row.path).read_bytes().splitlines()]
    assert {held["n"] for held in kept} == bad
    assert {held["reason"] for held in kept} == set(said["replayed"]["rejected"])
    assert all(lake.joinpath(row.path).stat().st_size < 8_000_000 for row in rows), "a 20 MB frame is cut short"


def test_only_believable_values_are_rows(hostile: Any) -> None:
    lake = Lake(hostile[0])
    rows = lake.read("trade").to_pylist()
    assert {row["price"] for row in rows} == {100.1}
    assert {row["seq"] for row in rows if row["symbol"] == "BTCUSDT"} == {1000, 1001, 1002}
    assert {row["symbol"] for row in rows} == {"BTCUSDT", *HOSTILE}
    assert {row["ts_event"].year for row in rows} == {2025}
    assert len(lake.read("quote")) == 3


def test_hostile_names_are_places_inside_the_lake_only_and_are_read_by_their_own_spelling(hostile: Any) -> None:
    lake = hostile[0]
    assert sorted(path.name for path in lake.parent.iterdir()) == ["frames.jsonl", "lake"]
    days = {path.name for path in (lake / "tables").rglob("symbol=*")}
    assert days == {f"symbol={encode_name(name)}" for name in ("BTCUSDT", *HOSTILE)}
    for path in lake.rglob("*"):
        assert path.resolve().is_relative_to(lake.resolve())
        assert not {"CON", "NUL", "..", "PASSWD"} & set(path.name.split("=")[1:])
    for name in HOSTILE:
        assert json.loads(ask("read", "trade", "--symbol", name, "--lake", lake, "--json").stdout)["symbol"] == name


def test_a_lake_of_hostile_frames_verifies_and_prints(hostile: Any) -> None:
    lake = hostile[0]
    assert json.loads(ask("verify", "--lake", lake, "--json").stdout)["findings"] == []
    for command in (("status",), ("ls",), ("ls", "--files"), ("read", "trade"), ("read", "bar_1m")):
        ask(*command, "--lake", lake)
    ask("gaps", "--lake", lake)
    traced = json.loads(ask("trace", "trade", "--symbol", HOSTILE[0], "--id", "1", "--lake", lake, "--json").stdout)
    assert json.loads(traced[0]["frame"])["data"]["s"] == HOSTILE[0]


def test_one_odd_spelling_does_not_take_a_stream_from_the_others(tmp_path: Path) -> None:
    file = written.write(tmp_path / "f", session([trade(5, "btcusdt"), trade(6)]))
    with LakeWriter.open(tmp_path / "lake", "n", TODAY) as writer:
        done = replay([file], "binance", "linear", writer, CollectorsConfig(node="n"), TODAY)
    assert done.events == {"trade": 1}
    assert sum(done.rejected.values()) == 1


def test_html_with_status_200_is_no_list_of_instruments(tmp_path: Path) -> None:
    asked = line(0, dir="open", url="https://fapi.binance.com", tag="reference", headers={"symbols": '["BTCUSDT"]'})
    answer = line(
        1, "<html>maintenance</html>", dir="http", method="GET", status=200, tag="exchangeInfo",
        url="https://fapi.binance.com/fapi/v1/exchangeInfo", headers={"Content-Type": "text/html"},
    )  # fmt: skip
    file = written.write(tmp_path / "f", [asked, answer])
    said = ask("replay", file, *REPLAY, "--lake", tmp_path / "lake", expect=1).output
    assert "status 200 without instruments (text/html): not JSON" in said
    assert "no rows of contract" in ask("read", "contract", "--lake", tmp_path / "lake", expect=1).output


# --- frames files ---

NO_FRAMES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "lines is one"),
    "page": (b"<html>\n<body>\n", "none of its 2 lines is one"),
    "zeros": (b"\0" * 100_000, "there is no line in it"),
    "torn zstd": (zstandard.ZstdCompressor().compress(b"x" * 100)[:12], "its compressed data ends before"),
    "ms": (line(1, trade(1), at=T0 // 1000).encode() + b"\n", "is no time in microseconds"),
    "year 3000": (line(1, trade(1), at=32_503_680_000_000_000).encode() + b"\n", "is no time in microseconds"),
    "negative": (line(1, trade(1), at=-5).encode() + b"\n", "is no time in microseconds"),
    "path": (line(1, trade(1), conn="../../evil").encode() + b"\n", "is no name of a session"),
    "count": (line(2**80, trade(1)).encode() + b"\n", "is no number of a frame"),
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frames_file_is_said_so_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    content, expected = NO_FRAMES[name]
    (tmp_path / "given").write_bytes(content)
    said = ask("replay", tmp_path / "given", *REPLAY, "--lake", tmp_path / "lake", expect=1).output
    assert "given is no frames file" in said
    assert expected in said.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_a_torn_file_gives_what_was_whole_and_bad_lines_are_named(folder: Path) -> None:
    lines = written.good_session(5)
    lines[3:3] = ["nonsense", '{"ts_recv":"x"}', line(9, frame_b64="!!!"), "[" * 3000]
    file = written.write(folder / "torn.jsonl", lines[:-1], tail=line(11, trade(1))[:50])
    said = ask("replay", file, *REPLAY, "--lake", folder / "torn", expect=1).output
    assert "10 frames" in said
    for number in (4, 5, 6, 7, 16):
        assert f"torn.jsonl:{number}: " in said
    assert json.loads(ask("verify", "--lake", folder / "torn", "--json").stdout)["ok"]


@pytest.mark.parametrize("given", ["nothing-here", "."])
def test_a_file_that_is_not_there_is_66_and_makes_no_lake(tmp_path: Path, given: str) -> None:
    said = ask("replay", tmp_path / given, *REPLAY, "--lake", tmp_path / "lake", expect=66).output
    assert ("is a folder" if given == "." else "there is no frames file") in said.replace("\n", " ")
    assert not (tmp_path / "lake").exists()


# --- a lake damaged by hand ---


@pytest.fixture(scope="module")
def closed(folder: Path) -> Path:
    """A lake with a certified day."""
    file = written.write(folder / "closed.jsonl", written.good_session())
    dl("replay", file, *REPLAY, "--lake", folder / "closed")
    return folder / "closed"


@pytest.fixture(scope="module")
def sealed(folder: Path) -> Path:
    """A lake with sealed segments that nobody has transformed."""
    file = written.write(folder / "sealed.jsonl", written.good_session())
    with LakeWriter.open(folder / "sealed", "n", TODAY) as writer:
        replay([file], "binance", "linear", writer, CollectorsConfig(node="n"), TODAY)
    return folder / "sealed"


@pytest.fixture
def copy(folder: Path, request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """A copy of a lake that may be damaged."""

    def make(lake: Path) -> Path:
        place = folder / f"copy-{abs(hash(request.node.name))}"
        request.addfinalizer(lambda: shutil.rmtree(place, ignore_errors=True))
        return Path(shutil.copytree(lake, place))

    return make


def one(lake: Path, pattern: str) -> Path:
    (found,) = lake.glob(pattern)
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


DAY_FILE = "versions/**/data_type=trade/**/*.parquet"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (lambda path: flip(path, path.stat().st_size // 3), "has SHA-256"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:100]), "has SHA-256"),
    "deleted": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_daily_file_is_refused_by_readers_and_named_by_verify(
    copy: Callable[[Path], Path], closed: Path, damage: str
) -> None:
    lake = copy(closed)
    file = one(lake, DAY_FILE)
    link = one(lake, "tables/**/data_type=trade/**/*.parquet")
    link.unlink()  # a copy keeps no links
    work, problem = DAMAGE[damage]
    work(file)
    said = ask("read", "trade", "--lake", lake, expect=1).output
    assert problem in said
    assert "dl verify" in said
    ask("read", "quote", "--lake", lake)
    verdict = json.loads(ask("verify", "--lake", lake, "--json", expect=1).stdout)
    errors = [finding for finding in verdict["findings"] if finding["severity"] == "error"]
    assert [finding["path"] for finding in errors] == [file.relative_to(lake).as_posix()]
    assert problem in errors[0]["problem"]
    assert "dl scrub" in errors[0]["hint"]
    assert "bring the file back" in errors[0]["hint"]
    if damage == "deleted":
        assert "is missing" in ask("transform", "--lake", lake).output


def test_a_deleted_link_is_a_warning_and_comes_back_with_the_next_writer(
    copy: Callable[[Path], Path], closed: Path
) -> None:
    lake = copy(closed)
    shutil.rmtree(lake / "tables")
    assert "is missing in tables/" in ask("verify", "--lake", lake).output.replace("\n", " ")
    ask("read", "trade", "--lake", lake)
    ask("compact", "--lake", lake)
    assert json.loads(ask("verify", "--lake", lake, "--json").stdout)["findings"] == []


def test_foreign_files_are_named_and_left_alone(copy: Callable[[Path], Path], closed: Path) -> None:
    lake = copy(closed)
    for name in ("raw/notes.txt", "tables/mine.parquet"):
        (lake / name).write_bytes(b"mine")
    said = {row["path"]: row for row in json.loads(ask("verify", "--lake", lake, "--json").stdout)["findings"]}
    assert set(said) == {"raw/notes.txt", "tables/mine.parquet"}
    assert all(row["severity"] == "warning" and "move it away" in row["hint"] for row in said.values())
    assert "raw/notes.txt is no file of this lake" in ask("transform", "--lake", lake).output
    assert (lake / "raw/notes.txt").read_bytes() == b"mine"


SEALED = "raw/**/data_type=trade/**/*.jsonl"


def test_a_segment_that_is_not_what_its_seal_says_gives_what_can_be_read_and_a_gap(
    copy: Callable[[Path], Path], sealed: Path
) -> None:
    lake = copy(sealed)
    segment = one(lake, SEALED)
    flip(segment, segment.read_bytes().index(b"100.10", 3000))  # 000.10
    verdict = json.loads(ask("verify", "--lake", lake, "--json", expect=1).stdout)
    assert "has SHA-256" in verdict["findings"][0]["problem"]
    done = json.loads(ask("transform", "--lake", lake, "--json", expect=1).stdout)
    assert (done["lines"], done["rows"], done["quarantined"], done["altered"]) == (60, 59, 1, 1)
    gaps = json.loads(ask("gaps", "--lake", lake, "--json", expect=1).stdout)
    assert "altered_segment" in {gap["cause"] for gap in gaps}
    assert len(Lake(lake).read("trade")) == 29


def test_a_deleted_segment_is_tried_again_then_set_aside_with_a_gap(copy: Callable[[Path], Path], sealed: Path) -> None:
    lake = copy(sealed)
    one(lake, SEALED).unlink()
    for attempt in (1, 2, 3):
        done = json.loads(ask("transform", "--lake", lake, "--json", expect=1).stdout)
        assert (done["failed"], done["parked"]) == ((1, 0) if attempt < 3 else (0, 1))
    ask("transform", "--lake", lake)
    assert "unreadable_segment" in ask("gaps", "--lake", lake, expect=1).output
    assert "was set aside" in ask("verify", "--lake", lake).output.replace("\n", " ")


def test_a_torn_segment_and_a_torn_frames_file_are_cut_sealed_and_told(
    copy: Callable[[Path], Path], sealed: Path
) -> None:
    lake = copy(sealed)
    for pattern, keep in ((SEALED, 1000), ("frames/**/*.zst", 300)):
        whole = one(lake, pattern)
        torn = whole.with_name(whole.name.replace("000001", "000009") + ".open")
        torn.write_bytes(whole.read_bytes()[:keep])
    said = ask("transform", "--lake", lake).output
    assert said.count("in quarantine") == 2
    assert not list(lake.rglob("*.open"))
    assert json.loads(ask("verify", "--lake", lake, "--json").stdout)["ok"]


def garble(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE meta SET schema_version = 99")
    database.commit()
    database.close()


def another(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE somebody (elses)")
    database.commit()
    database.close()


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


MANIFESTS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "garbled": (garble, 74, "manifest.db is damaged"),
    "torn": (torn, 74, "manifest.db is damaged"),
    "empty": (empty, 66, "manifest"),
    "deleted": (lambda path: path.unlink(), 66, "no manifest.db"),
    "newer": (newer, 78, "schema version 99, this program knows"),
    "of another program": (another, 66, "manifest"),
}


@pytest.mark.parametrize("state", MANIFESTS)
def test_a_manifest_that_cannot_be_used_stops_every_command_before_it_does_anything(
    copy: Callable[[Path], Path], closed: Path, state: str
) -> None:
    lake = copy(closed)
    work, code, message = MANIFESTS[state]
    for log in lake.glob("manifest.db-*"):
        log.unlink()
    work(lake / "manifest.db")
    before = {path: path.stat().st_size for path in lake.rglob("*") if path.is_file() and path.name != ".lock"}
    file = written.write(lake.parent / "more.jsonl", written.good_session(2))
    for command in (
        ("status",), ("ls",), ("read", "trade"), ("gaps",), ("verify",), ("trace", "trade", "--id", "1000"),
        ("transform",), ("compact",), ("replay", file, *REPLAY),
    ):  # fmt: skip
        assert message in ask(*command, "--lake", lake, expect=code).output
    after = {path: path.stat().st_size for path in lake.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path.name for path in after} - {path.name for path in before} <= {"manifest.db-wal", "manifest.db-shm"}
    assert {path: size for path, size in after.items() if path in before} == before


def test_damage_in_the_ledger_is_a_warning_since_the_manifest_has_it_still(
    copy: Callable[[Path], Path], closed: Path
) -> None:
    lake = copy(closed)
    ledger = one(lake, "ledger/*.jsonl")
    flip(ledger, 100)
    with ledger.open("ab") as file:
        file.write(b'{"crc":"0')
    found = json.loads(ask("verify", "--lake", lake, "--json").stdout)["findings"]
    assert len(found) >= 2
    assert {row["severity"] for row in found} == {"warning"}
    assert {row["path"] for row in found} == {ledger.relative_to(lake).as_posix()}


# --- the daemon's start ---


@pytest.fixture(scope="module")
def config(folder: Path) -> Path:
    path = folder / "config.yml"
    path.write_text("http: {port: 0}\nlogs: {file: false}\ncollectors: {node: test, sources: []}\n")
    return path


def test_the_daemon_refuses_a_manifest_of_a_newer_program(
    copy: Callable[[Path], Path], closed: Path, config: Path
) -> None:
    lake = copy(closed)
    work, code, message = MANIFESTS["newer"]
    for log in lake.glob("manifest.db-*"):
        log.unlink()
    work(lake / "manifest.db")
    done = run("-m", "daemon", "--config", config, "--lake", lake, "--duration", "1")
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("state", ["garbled", "torn", "empty", "deleted"])
def test_the_daemon_makes_a_lost_manifest_anew_and_says_so(
    copy: Callable[[Path], Path], closed: Path, config: Path, state: str
) -> None:
    lake = copy(closed)
    for log in lake.glob("manifest.db-*"):
        log.unlink()
    read = json.loads(ask("ls", "--lake", lake, "--json").stdout)
    MANIFESTS[state][0](lake / "manifest.db")
    done = run("-m", "daemon", "--config", config, "--lake", lake, "--duration", "0.3")
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said) == (0, False), said
    assert "it was made anew" in said
    aside = [path for path in lake.glob("quarantine/manifest.db.*") if not path.name.endswith(("-wal", "-shm"))]
    assert len(aside) == (state != "deleted")
    assert json.loads(ask("ls", "--lake", lake, "--json").stdout) == read
    assert "no difference" in ask("rebuild", "--dry-run", "--lake", lake).stdout
    assert json.loads(ask("verify", "--lake", lake, "--json").stdout)["ok"]


def test_the_daemon_starts_on_a_damaged_lake_and_says_what_is_wrong(
    copy: Callable[[Path], Path], closed: Path, config: Path
) -> None:
    lake = copy(closed)
    one(lake, DAY_FILE).unlink()
    (lake / "raw/notes.txt").write_text("mine")
    done = run("-m", "daemon", "--config", config, "--lake", lake, "--duration", "0.3")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "1 files of the manifest are not on disk" in said
    assert "raw/notes.txt" in said
    assert "Traceback" not in said


WRONG = """\
lake: data
unknown_key: 1
http:
  port: 99999999
collectors:
  node: "UPPER CASE"
  sources:
    - {exchange: nyse, market_type: spot, symbols: [BTCUSDT], kinds: [trade]}
    - {exchange: binance, market_type: spot, symbols: [], kinds: [candles]}
"""


def test_a_wrong_configuration_is_told_all_at_once_with_places(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(WRONG)
    done = run("-m", "daemon", "--config", path)
    assert done.returncode == 78
    places = [text.split(" ")[0] for text in done.stderr.splitlines()]
    assert places == [f"config.yml:{place}" for place in ("2:1", "4:9", "6:9", "8:18", "9:55", "9:66", "9:67")], (
        done.stderr
    )
    assert not (tmp_path / "data").exists()
    said = ask("status", "--config", path, expect=78).output
    assert "config.yml:2:1 unknown_key" in said


def test_no_configuration_is_66(tmp_path: Path) -> None:
    done = run("-m", "daemon", "--config", tmp_path / "none.yml")
    assert (done.returncode, done.stderr.count("\n")) == (66, 1)
    assert "there is no configuration file" in ask("status", "--config", tmp_path / "none.yml", expect=66).output
