"""Migrations: forward only, in one transaction, the same tables as declared; foreign and newer databases untouched."""

import sqlite3

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from lake import migrations, schema
from lake.errors import NotALake, UnknownVersion
from lake.manifest import Manifest
from lake.rows import BanRow

NOW = 1_790_000_000_000_000


@pytest.fixture
def lake(tmp_path):
    Manifest.create_or_open(tmp_path, now=NOW).close()
    return tmp_path


def change(root, *statements):
    conn = sqlite3.connect(root / "manifest.db")
    for statement in statements:
        conn.execute(statement)
    conn.commit()
    conn.close()


def test_migrated_tables_are_what_the_code_believes(lake):
    engine = create_engine(f"sqlite:///{lake / 'manifest.db'}", poolclass=NullPool)
    found = inspect(engine)
    views = {table.name for table in schema.VIEWS}
    assert set(found.get_table_names()) == set(schema.METADATA.tables) - views
    assert set(found.get_view_names()) == views
    for name, table in schema.METADATA.tables.items():
        assert [c["name"] for c in found.get_columns(name)] == [c.name for c in table.columns], name
        if name in views:
            continue
        held = {c["name"]: (c["nullable"], bool(c["primary_key"])) for c in found.get_columns(name)}
        assert held == {c.name: (bool(c.nullable), c.primary_key) for c in table.columns}, name
    engine.dispose()


@pytest.mark.parametrize("opening", ["write", "read"])
def test_a_newer_manifest_is_refused_by_its_version_and_left_untouched(lake, opening):
    change(lake, "UPDATE meta SET schema_version = 99")
    before = (lake / "manifest.db").read_bytes()
    with pytest.raises(UnknownVersion, match=rf"schema version 99, this program knows {migrations.VERSION}"):
        Manifest.read_only(lake) if opening == "read" else Manifest.create_or_open(lake, now=NOW)
    assert (lake / "manifest.db").read_bytes() == before


@pytest.mark.parametrize("opening", ["write", "read"])
def test_the_database_of_another_program_is_no_lake(tmp_path, opening):
    change(tmp_path, "CREATE TABLE birds (name TEXT)")
    before = (tmp_path / "manifest.db").read_bytes()
    with pytest.raises(NotALake, match=r"another program|no manifest in it"):
        Manifest.read_only(tmp_path) if opening == "read" else Manifest.create_or_open(tmp_path, now=NOW)
    assert (tmp_path / "manifest.db").read_bytes() == before


def test_a_migration_happens_whole_or_not_at_all(lake, monkeypatch):
    held = migrations.VERSION
    steps = (*migrations.MIGRATIONS, ("ALTER TABLE cursors ADD COLUMN note TEXT", "this is no SQL"))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(migrations, "VERSION", len(steps))
    with pytest.raises(Exception, match="syntax error"):
        Manifest.create_or_open(lake, now=NOW)
    monkeypatch.undo()
    opened = Manifest.create_or_open(lake, now=NOW)
    assert opened.meta().schema_version == held
    assert opened.epoch == 2, "the failed start took no epoch"
    opened.close()


def test_an_older_manifest_is_brought_forward_with_what_it_holds(lake, monkeypatch):
    change(lake, "INSERT INTO cursors VALUES ('c', 7)")
    steps = (*migrations.MIGRATIONS, ("CREATE TABLE birds (name TEXT NOT NULL PRIMARY KEY)",))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(migrations, "VERSION", len(steps))
    opened = Manifest.create_or_open(lake, now=NOW)
    assert opened.meta().schema_version == len(steps)
    assert opened.cursor("c") == 7
    opened.close()


def test_a_lake_of_version_1_gets_its_table_of_bans(tmp_path, monkeypatch):
    with monkeypatch.context() as old:
        old.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        old.setattr(migrations, "VERSION", 1)
        first = Manifest.create_or_open(tmp_path, now=NOW)
        assert first.meta().schema_version == 1
        first.close()
    reader = Manifest.read_only(tmp_path)
    assert reader.meta().schema_version == 1, "who only reads changes nothing, and may read an older lake"
    assert reader.segments() == []
    reader.close()
    change(tmp_path, "INSERT INTO cursors VALUES ('c', 7)")
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    ban = BanRow(exchange="binance", host="api.test", until=NOW + 1, status=418, at=NOW)
    opened.record(bans=[ban])
    assert (opened.bans(), opened.cursor("c"), opened.meta().schema_version) == ([ban], 7, migrations.VERSION)
    opened.close()
