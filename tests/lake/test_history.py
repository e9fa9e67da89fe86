"""What a ledger with lines that are lost, doubled or mixed up is made of: the newer is believed, the rest is noted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, create_engine, select

from lake import history as history_module
from lake import history_files, schema
from lake.commits import Added, Commit, Start, Void
from lake.history import NOTES, History
from lake.history_files import FileTale
from lake.ledger import Entry
from lake.manifest import Manifest
from lake.rows import BanRow


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    Manifest.create_or_open(tmp_path, now=1).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'manifest.db'}")
    with engine.begin() as made:
        yield made
    engine.dispose()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def tale(conn: Connection, notes: list[str]) -> FileTale:
    return FileTale(conn, notes.append)


def row(path: str, sha256: str = "a" * 64, revision: int = 0, **more: object) -> Added:
    fields = {
        "path": path, "exchange": "binance", "market_type": "spot", "kind": "trade", "level": "day", "symbol": path,
        "date": "2026-11-20", "hour": None, "revision": revision, "rows": 1, "bytes": 1, "sha256": sha256, "ts_min": 0,
        "ts_max": 0, **more,
    }  # fmt: skip
    return Added(**fields)  # type: ignore[arg-type]


def files(conn: Connection) -> dict[str, tuple[str, int | None, int | None]]:
    f = schema.files.c
    found = conn.execute(select(f.path, f.state, f.retired_at, f.unlinked_at))
    return {path: (state, retired, gone) for path, state, retired, gone in found}


def test_what_came_and_went_between_two_writings_is_only_its_end(conn: Connection, tale: FileTale) -> None:
    tale.add([row("a"), row("b")], 1)
    tale.retire(["a"], 2)
    tale.gone(["a"], 3)
    tale.flush()
    assert files(conn) == {"a": ("retired", 2, 3), "b": ("live", None, None)}
    tale.retire(["b"], 4)
    tale.gone(["b"], 5)
    tale.flush()
    assert files(conn)["b"] == ("retired", 4, 5)


def test_a_file_that_is_added_again_lives_again_wherever_its_row_is(
    conn: Connection, tale: FileTale, notes: list[str]
) -> None:
    tale.add([row("a")], 1)
    tale.retire(["a"], 2)
    tale.add([row("a")], 3)
    tale.flush()
    assert files(conn) == {"a": ("live", None, None)}
    tale.retire(["a"], 4)
    tale.flush()
    tale.add([row("a")], 5)
    tale.flush()
    assert (files(conn), notes) == ({"a": ("live", None, None)}, [])


def test_one_name_with_two_hashes_keeps_the_first(conn: Connection, tale: FileTale, notes: list[str]) -> None:
    tale.add([row("a"), row("a", "b" * 64)], 1)
    tale.flush()
    tale.add([row("a", "c" * 64)], 2)
    tale.flush()
    assert conn.execute(select(schema.files.c.sha256)).scalars().all() == ["a" * 64]
    assert notes == [f"a is told with two hashes, aaaaaaaaaaaa and {one * 12}: the first is kept" for one in "bc"]


def test_what_is_replaced_twice_or_unknown_is_noted(conn: Connection, tale: FileTale, notes: list[str]) -> None:
    tale.add([row("a")], 1)
    tale.retire(["a"], 2)
    tale.retire(["a"], 3)
    tale.retire(["nobody"], 4)
    tale.retire(["nobody"], 5)
    tale.gone(["a", "a", "nobody"], 6)
    tale.gone(["a"], 7)
    tale.flush()
    assert files(conn) == {"a": ("retired", 2, 6)}
    assert notes == [
        "a is told to be replaced twice", "nobody is told to be replaced twice",
        "nobody is told to be replaced, and is not live",
    ]  # fmt: skip


def test_of_two_revisions_that_are_told_to_be_live_both_the_newer_one_is(
    conn: Connection, tale: FileTale, notes: list[str]
) -> None:
    tale.add([row("new", revision=2, symbol="X")], 1)
    tale.flush()
    tale.add([row("old", revision=1, symbol="X")], 2)
    tale.flush()
    assert files(conn) == {"new": ("live", None, None), "old": ("retired", 2, None)}
    tale.add([row("newest", revision=3, symbol="X"), row("part", level="part", symbol=None)], 3)
    tale.flush()
    assert {path for path, (state, *_) in files(conn).items() if state == "live"} == {"newest", "part"}
    assert [note.split(":")[0] for note in notes] == [
        "new and old are told to be live both", "new and newest are told to be live both",
    ]  # fmt: skip


def test_many_files_are_written_before_they_are_too_many_to_hold(
    conn: Connection, tale: FileTale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_files, "BATCH", 3)
    tale.add([row("a", parents=("raw/1",)), row("b")], 1)
    assert files(conn) == {}
    tale.add([row("c")], 2)
    assert len(files(conn)) == 3
    assert conn.execute(select(schema.lineage.c.parent)).scalars().all() == ["raw/1"]


# --- the ledger's entries ---

START = Start(lake_id="lake", simulated=False, created_at=1, epoch=1, version=0)


def told(history: History, *entries: object) -> History:
    names = {Start: "start", Commit: "commit", Void: "void"}
    for n, entry in enumerate(entries, start=1):
        if isinstance(entry, Entry):
            history.take(entry)
        else:
            history.take(Entry(1, n, n, names[type(entry)], msgspec.Raw(msgspec.json.encode(entry)), "n"))
    return history


def commit(version: int, path: str, epoch: int = 1, **more: object) -> Commit:
    return Commit(epoch=epoch, version=version, now=version, add=(row(path),), **more)  # type: ignore[arg-type]


def test_a_commit_is_believed_once_something_follows_that_does_not_take_it_back(conn: Connection) -> None:
    history = told(History(conn), START, commit(1, "a"), Void(1, 1), commit(1, "b"), commit(2, "c"), Void(1, 7))
    history.finish(lambda _path: True)
    assert set(files(conn)) == {"b", "c"}
    assert (history.whole, history.void, history.notes) == (True, None, [])


def test_the_last_commit_took_place_where_its_files_are_there(conn: Connection) -> None:
    history = told(History(conn), START, commit(1, "a"), commit(2, "b"))
    history.finish(lambda path: path != "b")
    assert set(files(conn)) == {"a"}
    assert history.void == Void(1, 2)


def test_a_commit_that_is_told_again_replaces_the_first_telling(conn: Connection) -> None:
    history = told(History(conn), START, commit(3, "a"), commit(3, "b"))
    history.finish(lambda _path: True)
    assert set(files(conn)) == {"b"}


def test_a_writer_that_was_replaced_has_no_say(conn: Connection) -> None:
    second = msgspec.structs.replace(START, epoch=2, version=5)
    history = told(History(conn), START, commit(4, "a"), second, commit(6, "late", epoch=1))
    history.finish(lambda _path: True)
    assert set(files(conn)) == {"a"}
    assert history.notes == ["commit 6 of writer 1 came after writer 2 began"]
    assert history.epoch == 2


def test_a_commit_beyond_what_the_next_writer_found_never_was(conn: Connection) -> None:
    history = told(History(conn), START, commit(4, "a"), msgspec.structs.replace(START, epoch=2, version=3))
    history.finish(lambda _path: True)
    assert files(conn) == {}


def test_what_a_copy_knows_already_is_not_told_again(conn: Connection) -> None:
    history = told(History(conn, msgspec.structs.replace(START, version=4)), commit(4, "old"), commit(5, "new"))
    history.finish(lambda _path: True)
    assert set(files(conn)) == {"new"}


def test_lines_of_another_lake_and_lines_that_mean_nothing_are_noted(conn: Connection) -> None:
    senseless = Entry(1, 9, 9, "gap", msgspec.Raw(b'{"nothing":1}'), "n")
    history = told(History(conn), START, msgspec.structs.replace(START, lake_id="other"), senseless)
    history.finish(lambda _path: True)
    assert history.notes[0] == "a writer of another lake (other) began here: lines of two ledgers are mixed"
    assert history.notes[1].startswith("ledger: ")
    assert (history.noted, history.start, history.newest) == (2, START, 9)


def test_states_and_failures_of_segments_that_no_seal_tells_are_kept_apart(conn: Connection) -> None:
    segments = {"raw/a": "transformed"}
    history = told(History(conn), START, commit(1, "a", segments=segments, failed={"raw/b": "unreadable"}))
    history.finish(lambda _path: True)
    assert history.loose == segments
    assert history.notes == ["raw/b failed, and no entry tells its seal"]


def test_many_reports_are_written_before_they_are_too_many_to_hold(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "BATCH", 2)
    bans = [BanRow(exchange="binance", host=host, pool="p", until=1, status=429, at=1) for host in "abc"]
    entries = [Entry(1, n, n, "ban", msgspec.Raw(msgspec.json.encode(ban)), "n") for n, ban in enumerate(bans, 2)]
    history = told(History(conn), START, *entries)
    hosts = select(schema.bans.c.host).order_by(schema.bans.c.host)
    assert conn.execute(hosts).scalars().all() == ["a", "b"]
    history.finish(lambda _path: True)
    assert conn.execute(hosts).scalars().all() == ["a", "b", "c"]


def test_contradictions_without_end_are_counted_and_not_all_kept(conn: Connection) -> None:
    history = History(conn)
    for n in range(NOTES + 5):
        history.note(str(n))
    assert (len(history.notes), history.noted) == (NOTES, NOTES + 5)
