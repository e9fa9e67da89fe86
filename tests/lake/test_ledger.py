"""The ledger: every entry durable or refused, every damaged or missing line noticed, none of it ever cut."""

import json
import zlib
from pathlib import Path

import pytest

from lake import durable
from lake.errors import StorageFailed, UnknownVersion
from lake.ledger import BadEntry, Entry, Ledger, encode_entry, notes, read_ledger
from lake.rows import QuarantineRow
from market.errors import Malformed
from market.session import Gap
from market.times import DAY, parse
from tests.support.crash import at_each_step, needs_fork, quick_folder

T = parse("2026-11-20T13:45:00")
ROW = QuarantineRow(path="quarantine/x", origin="raw/x", reason="torn tail", count=1, bytes=5, at=T)
GAP = Gap("g1", "binance", "spot", "trade", "BTCUSDT", T, None, 5, 9, "id_jump", "ids", "open", None, T)


@pytest.fixture(name="tmp_path")
def _quick():
    with quick_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _no_fault_stays():
    yield
    durable.inject(None)


def read(root: Path) -> tuple[list[Entry], list[BadEntry]]:
    bad: list[BadEntry] = []
    return list(read_ledger(root, bad.append)), bad


def texts(entries: list[Entry]) -> list[str]:
    return [entry.read(str) for entry in entries]


def test_entries_come_back_as_what_they_were(tmp_path: Path) -> None:
    with Ledger(tmp_path, "box1") as ledger:
        ledger.append([("quarantine", ROW), ("gap", GAP)], T)
        ledger.append([], T)
        ledger.append([("note", "hello")], T + 1)
    entries, bad = read(tmp_path)
    assert bad == []
    assert [(entry.type, entry.at, entry.n, entry.node) for entry in entries] == [
        ("quarantine", T, 1, "box1"), ("gap", T, 2, "box1"), ("note", T + 1, 3, "box1"),
    ]  # fmt: skip
    assert entries[0].read(QuarantineRow) == ROW
    assert entries[1].read(Gap) == GAP
    with pytest.raises(Malformed, match="entry 3 of box1"):
        entries[2].read(Gap)


def test_a_line_is_json_and_its_crc_covers_the_rest_of_it(tmp_path: Path) -> None:
    line = encode_entry("note", {"a": 1}, at=T, n=1)
    assert line == b'{"crc":"%08x","v":1,"at":%d,"n":1,"type":"note","data":{"a":1}}\n' % (zlib.crc32(line[18:-1]), T)
    assert json.loads(line)["data"] == {"a": 1}
    assert line[18:].startswith(b'"v":1')


def test_one_append_is_one_write_and_one_sync(tmp_path: Path) -> None:
    with Ledger(tmp_path, "box1") as ledger:
        ledger.append([("note", "0")], T)
        with durable.observe((ops := []).append):
            ledger.append([("note", str(n)) for n in range(50)], T)
    assert [op.name for op in ops] == ["write", "sync"]


def test_each_day_has_its_file_and_days_are_read_in_order(tmp_path: Path) -> None:
    with Ledger(tmp_path, "box1") as ledger:
        for day in (0, 1, 0, 2):
            ledger.append([("note", str(day))], T + day * DAY + day)
    names = sorted(path.name for path in (tmp_path / "ledger").iterdir())
    assert names == ["2026-11-20-box1.jsonl", "2026-11-21-box1.jsonl", "2026-11-22-box1.jsonl"]
    entries, bad = read(tmp_path)
    assert bad == []
    assert texts(entries) == ["0", "0", "1", "2"]


def test_the_ledgers_of_two_writers_are_read_as_one(tmp_path: Path) -> None:
    with Ledger(tmp_path, "box1") as one, Ledger(tmp_path, "box2") as two:
        one.append([("note", "a")], T)
        two.append([("note", "b")], T + 1)
        one.append([("note", "c")], T + 2)
    assert [(entry.node, entry.read(str)) for entry in read(tmp_path)[0]] == [
        ("box1", "a"),
        ("box2", "b"),
        ("box1", "c"),
    ]


def test_a_new_run_goes_on_counting_where_the_last_one_stopped(tmp_path: Path) -> None:
    for run in range(3):
        with Ledger(tmp_path, "box1") as ledger:
            ledger.append([("note", str(run))], T)
    entries, bad = read(tmp_path)
    assert ([entry.n for entry in entries], bad) == ([1, 2, 3], [])


def test_a_line_torn_at_any_byte_is_told_and_what_follows_is_kept(tmp_path: Path) -> None:
    first, second = encode_entry("note", "first", at=T, n=1), encode_entry("note", "second", at=T, n=2)
    for cut in range(len(second)):
        root = tmp_path / str(cut)
        (root / "ledger").mkdir(parents=True)
        place = root / "ledger" / "2026-11-20-box1.jsonl"
        place.write_bytes(first + second[:cut])
        whole = ["first", "second"] if cut == len(second) - 1 else ["first"]
        entries, bad = read(root)
        assert texts(entries) == whole
        assert [(b.number, b.torn, b.line) for b in bad] == (
            [(2, True, second[:cut])] if cut and whole[1:] == [] else []
        )
        with Ledger(root, "box1") as ledger:
            ledger.append([("note", "third")], T + 1)
        entries, bad = read(root)
        assert texts(entries) == [*whole, "third"]
        assert [(b.line, b.torn) for b in bad] == ([(second[:cut], False)] if cut and whole[1:] == [] else [])
        assert [entry.n for entry in entries] == list(range(1, len(whole) + 2))
        assert place.read_bytes().startswith(first + second[:cut])


def test_a_flipped_bit_anywhere_in_a_line_is_noticed(tmp_path: Path) -> None:
    lines = [encode_entry("gap", GAP, at=T, n=n) for n in (1, 2, 3)]
    (tmp_path / "ledger").mkdir()
    place = tmp_path / "ledger" / "2026-11-20-box1.jsonl"
    for position in range(len(lines[1])):
        damaged = bytearray(lines[1])
        damaged[position] ^= 1 << (position % 8)
        place.write_bytes(lines[0] + bytes(damaged) + lines[2])
        entries, bad = read(tmp_path)
        assert bad, position
        assert all(entry.read(Gap) == GAP for entry in entries)
        assert {entry.n for entry in entries} <= {1, 3}


def test_a_line_that_was_removed_is_missed(tmp_path: Path) -> None:
    lines = [encode_entry("note", str(n), at=T, n=n) for n in (1, 2, 3, 4)]
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "2026-11-20-box1.jsonl").write_bytes(lines[0] + lines[3])
    entries, bad = read(tmp_path)
    assert texts(entries) == ["1", "4"]
    assert [b.reason for b in bad] == ["entries 2 to 3 are missing before this one"]


def test_foreign_files_and_lines_are_told_and_newer_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "notes.jsonl").write_bytes(b"{}\n")
    place = tmp_path / "ledger" / "2026-11-20-box1.jsonl"
    body = b'"v":1,"at":1,"n":1,"type":"poem","data":1}'
    place.write_bytes(b'{}\n\n{"crc":"%08x",%b\n' % (zlib.crc32(body), body))
    entries, bad = read(tmp_path)
    assert entries == []
    assert [(b.path, b.number) for b in bad] == [
        ("ledger/notes.jsonl", 0), *(("ledger/2026-11-20-box1.jsonl", n) for n in (1, 2, 3)),
    ]  # fmt: skip
    body = b'"v":2,"at":1,"n":1,"kind":"note"}'
    place.write_bytes(b'{"crc":"%08x",%b\n' % (zlib.crc32(body), body))
    with pytest.raises(UnknownVersion, match="ledger format 2"):
        read(tmp_path)
    assert read(tmp_path / "empty") == ([], [])


def test_an_unknown_type_and_a_bad_node_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path, "box1") as ledger, pytest.raises(ValueError, match="poem"):
        ledger.append([("poem", "x")], T)
    with pytest.raises(Malformed):
        Ledger(tmp_path, "Box 1")


def test_notes_are_found_by_day_and_time_and_nothing_else_is_decoded(tmp_path: Path) -> None:
    assert list(notes(tmp_path, 0)) == []
    with Ledger(tmp_path, "box1") as ledger:
        ledger.append([("note", "old")], T - DAY)
        ledger.append([("note", "too soon"), ("gap", GAP)], T - 1)
        ledger.append([("note", "harmed"), ("note", "good")], T)
    place = next((tmp_path / "ledger").glob("2026-11-20-*"))
    place.write_bytes(place.read_bytes().replace(b"harmed", b"hormed"))
    (tmp_path / "ledger" / "notes.jsonl").write_bytes(b'{"type":"note"}\n')
    assert texts(list(notes(tmp_path, T))) == ["good"]
    assert texts(list(notes(tmp_path, T - DAY))) == ["old", "too soon", "good"]


@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_failed_append_is_told_and_can_be_repeated(tmp_path: Path, step: str) -> None:
    with Ledger(tmp_path, "box1") as ledger:
        ledger.append([("note", "one")], T)
        durable.inject(durable.Fault(step, 1, "EIO"))
        with pytest.raises(StorageFailed):
            ledger.append([("note", "two")], T)
        ledger.append([("note", "two")], T)
    entries, bad = read(tmp_path)
    assert bad == []
    assert texts(entries) == (["one", "two"] if step == "write" else ["one", "two", "two"])


def work(root: Path) -> None:
    with Ledger(root, "box1") as ledger:
        for n in range(1, 4):
            ledger.append([("note", f"{n}a"), ("note", f"{n}b")], T)
            (root / "durable").write_text(str(n))


@needs_fork
def test_killed_at_any_step_no_promised_entry_is_lost(tmp_path: Path) -> None:
    for step, root in at_each_step(tmp_path, work, ("KILL", "KILL_AFTER", "TORN")):
        note = root / "durable"
        promised = int(note.read_text()) if note.exists() else 0
        entries, bad = read(root)
        wanted = [f"{n}{half}" for n in (1, 2, 3) for half in "ab"]
        held = texts(entries)
        assert held == wanted[: len(held)], step
        assert len(held) >= 2 * promised, step
        assert all(b.torn for b in bad), step
