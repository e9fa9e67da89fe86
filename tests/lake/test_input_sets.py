"""What files and certificates were made of is told once for all that were made of the same, and read back as told."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import migrations
from lake.errors import UnknownVersion
from lake.manifest import Manifest
from lake.manifest_source import check_library
from lake.rows import CertificateRow, FileRow

NOW = 1_790_000_000_000_000
DATE = "2026-11-20"
HOURS = 24
DAILY = ("trade", "agg_trade", "quote", "mark_price", "book_delta")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hours_of(kind: str) -> list[str]:
    """Paths of a stream's hours, as long as real ones."""
    place = f"hot/exchange=binance/market_type=linear/data_type={kind}/year=2026/month=11/day=20"
    return [f"{place}/hour={hour:02d}/{kind}-000000000-3599000-g0-{sha(kind)[:8]}.parquet" for hour in range(HOURS)]


def daily(symbol: str, kind: str = "trade", revision: int = 0, parents: list[str] | None = None) -> FileRow:
    place = f"versions/exchange=binance/market_type=linear/data_type={kind}/symbol={symbol}/year=2026/month=11/day=20"
    digest = sha(f"{symbol} {kind} {revision}")
    return FileRow(
        path=f"{place}/{kind}-000000000-235959999-g{revision}-{digest[:8]}.parquet", exchange="binance",
        market_type="linear", kind=kind, level="day", symbol=symbol, date=DATE, hour=None, revision=revision, rows=10,
        bytes=1000, sha256=digest, ts_min=NOW, ts_max=NOW + 9, content_digest=sha("content"),
        parents=tuple(hours_of(kind) if parents is None else parents),
    )  # fmt: skip


def certificate(file: FileRow, **changed: object) -> CertificateRow:
    held: dict[str, object] = {
        "path": file.path, "sha256": file.sha256, "exchange": file.exchange, "market_type": file.market_type,
        "kind": file.kind, "symbol": file.symbol, "date": file.date, "revision": file.revision, "issued_at": NOW,
        "rows": file.rows, "inputs": {path: sha(path) for path in file.parents}, "content_digest": sha("content"),
    }  # fmt: skip
    return CertificateRow(**held | changed)  # type: ignore[arg-type]


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    yield opened
    opened.close()


def query(root: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)) as db:
        return list(db.execute(statement))


def counts(root: Path) -> tuple[int, int, int]:
    """Inputs, sets, and rows of sets."""
    (found,) = query(
        root, "SELECT (SELECT count(*) FROM inputs), count(DISTINCT id), count(*) FROM input_sets"
    )  # fmt: skip
    return found  # type: ignore[return-value]


def dangling(root: Path) -> list[tuple[object, ...]]:
    """References to nothing, and what nothing refers to."""
    return query(
        root,
        """
        SELECT 'child', child FROM made_of WHERE input_set NOT IN (SELECT id FROM input_sets)
        UNION ALL SELECT 'certificate', path FROM certified WHERE input_set NOT IN (SELECT id FROM input_sets)
        UNION ALL SELECT 'member', input FROM input_sets WHERE input NOT IN (SELECT id FROM inputs)
        UNION ALL SELECT 'input', path FROM inputs WHERE id NOT IN (SELECT input FROM input_sets)
        UNION ALL SELECT 'set', id FROM input_sets WHERE id NOT IN (SELECT input_set FROM made_of)
            AND id NOT IN (SELECT input_set FROM certified WHERE input_set IS NOT NULL)
    """,
    )


# --- what is told once ---


def test_the_days_of_all_symbols_refer_to_one_set_of_hours(manifest: Manifest) -> None:
    files = [daily(f"S{number}USDT") for number in range(20)]
    told = [certificate(file) for file in files]
    manifest.commit(add=files, certificates=told, now=NOW)
    assert counts(manifest.root) == (2 * HOURS, 2, 2 * HOURS), "paths alone, and paths with their hashes"
    assert [row.parents for row in manifest.files(parents=True)] == [tuple(hours_of("trade"))] * 20
    assert manifest.certificates() == sorted(told, key=lambda row: str(row.symbol))
    assert manifest.children(hours_of("trade")[7]) == sorted(file.path for file in files)
    assert dangling(manifest.root) == []


def test_what_has_a_parent_of_its_own_has_a_set_of_its_own(manifest: Manifest) -> None:
    one, other = daily("A", parents=["hot/1", "hot/2", "versions/a"]), daily("B", parents=["hot/1", "hot/2", "hot/1"])
    none = daily("C", parents=[])
    manifest.commit(add=[one, other, none], certificates=[certificate(none)], now=NOW)
    assert counts(manifest.root) == (3, 2, 5)
    found = {row.symbol: row.parents for row in manifest.files(parents=True)}
    assert found == {"A": ("hot/1", "hot/2", "versions/a"), "B": ("hot/1", "hot/2"), "C": ()}
    assert manifest.children("versions/a") == [one.path]
    assert manifest.certificates()[0].inputs == {}
    assert dangling(manifest.root) == []


def test_inputs_of_any_name_come_back_as_they_were_told(manifest: Manifest) -> None:
    inputs = {'raw/"quoted"': "1", "raw/ünïcode": "2", "raw/back\\slash": "3", "raw/a": ""}
    told = certificate(daily("A"), inputs=inputs)
    manifest.commit(add=[daily("A", parents=list(inputs))], certificates=[told], now=NOW)
    assert manifest.certificates() == [told]
    assert manifest.files(parents=True)[0].parents == tuple(sorted(inputs))


# --- what goes ---


def test_what_a_forgotten_file_alone_was_made_of_goes_with_it(manifest: Manifest) -> None:
    parts = ["hot/part1", "hot/part2"]
    old, held = daily("A", parents=[*parts, "hot/shared"]), daily("B", parents=["hot/shared"])
    twin = daily("C", parents=["hot/shared"])
    manifest.commit(add=[old, held, twin], certificates=[certificate(held)], now=NOW)
    manifest.commit(remove=[old.path, twin.path], now=NOW + 1)
    manifest.mark_unlinked([old.path, twin.path], NOW + 2)
    assert manifest.forget_retired(NOW + 3) == 2
    assert [path for (path,) in query(manifest.root, "SELECT path FROM inputs WHERE sha256 = ''")] == ["hot/shared"]
    assert manifest.children("hot/shared") == [held.path]
    assert manifest.children("hot/part1") == []
    assert dangling(manifest.root) == []


def test_a_certificate_told_again_or_otherwise_leaves_no_set_behind(manifest: Manifest) -> None:
    file = daily("A")
    once = certificate(file)
    for _ in range(3):
        manifest.commit(certificates=[once, certificate(daily("B"))], now=NOW)
    assert counts(manifest.root) == (HOURS, 1, HOURS)
    other = certificate(file, inputs={"hot/other": "1"})
    manifest.commit(certificates=[once, other], now=NOW)
    assert manifest.certificates(symbol="A") == [other], "the last one of a key counts"
    assert manifest.certificates(symbol="B") == [certificate(daily("B"))], "another one's set stays"
    assert dangling(manifest.root) == []


# --- what it costs ---


def pages(root: Path) -> int:
    """Bytes that the tables and indexes take."""
    ((found,),) = query(root, "SELECT (SELECT page_count - freelist_count FROM pragma_page_count,"
                              " pragma_freelist_count) * page_size FROM pragma_page_size")  # fmt: skip
    return int(str(found))


def test_a_day_of_one_more_symbol_costs_a_few_kilobytes(tmp_path: Path) -> None:
    """Five daily files and certificates of 24 hours each: 100 kB where every one named its hours."""
    sizes = []
    for symbols in (50, 250):
        root = tmp_path / str(symbols)
        root.mkdir()
        manifest = Manifest.create_or_open(root, now=NOW)
        empty = pages(root)
        for kind in DAILY:
            files = [daily(f"S{number:04d}USDT", kind) for number in range(symbols)]
            manifest.commit(add=files, certificates=[certificate(file) for file in files], now=NOW)
        manifest.close()
        sizes.append(pages(root) - empty)
    assert (sizes[1] - sizes[0]) / 200 < 12_500, (
        "of it 4 kB rows of files, 5 kB certificates with their indexes, 1.5 kB when they were read last"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT parent FROM lineage WHERE child IN ('a', 'b')",
        "SELECT child FROM lineage WHERE parent IN ('a', 'b')",
        "SELECT f.path FROM files f JOIN lineage l ON l.child = f.path WHERE l.parent = 'a' AND f.kind = 'trade'",
        "SELECT inputs FROM certificates WHERE path = 'a'",
    ],
)
def test_no_question_reads_a_whole_table(manifest: Manifest, statement: str) -> None:
    steps = [str(row[3]) for row in query(manifest.root, f"EXPLAIN QUERY PLAN {statement}")]
    assert [step for step in steps if step.startswith("SCAN") and "subquery" not in step] == []
    assert any(step.startswith("SEARCH input_sets") for step in steps)


# --- manifests from before ---


def third(root: Path, edges: list[tuple[str, str]], told: list[CertificateRow]) -> None:
    """A manifest of version 3 that says this."""
    manifest = Manifest.create_or_open(root, now=NOW)
    manifest.commit(certificates=told, now=NOW)
    manifest.close()
    with contextlib.closing(sqlite3.connect(root / "manifest.db", isolation_level=None)) as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(certificates)")]
        rows = list(db.execute("SELECT * FROM certificates"))
        for name in ("lineage", "certificates", "features"):
            db.execute(f"DROP VIEW {name}")
        later = ("jobs", "job_chunks", "job_attempts", "featured", "totals", "segment_totals")
        for name in ("files_added", "files_again", "files_over", "segments_added", "segments_moved"):
            db.execute(f"DROP TRIGGER {name}")
        for name in ("coverage_by_end", "coverage_by_begin", "gaps_by_state"):
            db.execute(f"DROP INDEX {name}")
        for name in ("certified", "made_of", "input_sets", "inputs", *later):
            db.execute(f"DROP TABLE {name}")
        for statement in migrations.MIGRATIONS[0]:
            if any(f" {name} " in statement.split("(")[0] + " " for name in ("lineage", "certificates")):
                db.execute(statement)
        db.executemany(f"INSERT INTO certificates VALUES ({', '.join('?' for _ in names)})", rows)
        db.executemany("INSERT INTO lineage VALUES (?, ?)", edges)
        db.execute("UPDATE meta SET schema_version = 3")


def test_a_manifest_of_version_3_keeps_every_edge_and_every_certificate(tmp_path: Path) -> None:
    hours = hours_of("trade")
    edges = [(f"versions/{child}", hour) for child in range(30) for hour in hours[: 24 - child % 3]]
    edges += [("hot/one", "raw/one"), ("versions/0", "versions/before"), ("versions/'\"", "raw/\"ü'\\")]
    told = [certificate(daily(f"S{number}")) for number in range(10)]
    told += [certificate(daily("S0"), issued_at=NOW + 1, reproduced=True, inputs={"raw/\"ü'\\": "1", "raw/2": ""})]
    told += [certificate(daily("S1"), issued_at=NOW + 1, inputs={})]
    third(tmp_path, edges, told)
    was = {name: query(tmp_path, f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("lineage", "certificates")}
    assert len(was["lineage"]) == len(edges)
    reader = Manifest.read_only(tmp_path)
    before = reader.certificates(), reader.children(hours[3]), reader.children("raw/one")
    reader.close()
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    assert opened.meta().schema_version == migrations.VERSION
    assert (opened.certificates(), opened.children(hours[3]), opened.children("raw/one")) == before
    assert before[0] == sorted(told, key=lambda row: (row.symbol or "", row.issued_at))
    opened.close()
    assert {name: query(tmp_path, f"SELECT * FROM {name} ORDER BY 1, 2") for name in was} == was
    assert [len(json.loads(str(row[0]))) for row in query(tmp_path, "SELECT inputs FROM certificates")].count(24) == 10
    assert counts(tmp_path)[1] == 3 + 1 + 2 + 2, "three of the days, versions/0, two small ones; two of certificates"
    assert dangling(tmp_path) == []


def test_a_library_without_json_is_refused_by_its_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    check_library()
    monkeypatch.setattr("lake.manifest_source.JSON", "SELECT json_of_another_name()")
    with pytest.raises(UnknownVersion, match="JSON"):
        check_library()
