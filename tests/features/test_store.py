"""Versions of feature sets: the same again, other values, the latest, back, gone, and what a kill leaves."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from features import Put, delete, put, rollback
from features.jobs import job_of, run
from features.requests import VersionExists
from features.store import plan_delete, plan_rollback, rehearse, silent
from lake import Lake, durable, feature_files, feature_table, schema
from lake.errors import CommitConflict, CorruptManifest, LakeLocked, WrongQuestion
from lake.manifest import Manifest
from lake.rebuild import rebuild
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import DAY, MINUTE, SECOND, text
from tests.support.crash import needs_fork, quick_folder, run_until
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

NOW = T0 + DAY
OF = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT", "feature_set": "momentum"}
ROWS = "".join(
    f"{text(T0 + n * MINUTE)},{n * 0.5 if n % 3 else ''},{'up' if n % 2 else 'down'},{n}\n" for n in range(9)
)
CSV = "time,mom,label,n\n" + ROWS


@pytest.fixture
def lake(tmp_path: Path):
    held = TestLake(tmp_path / "lake")
    held.day("bar_1m", bar_table([trade(T0 + n * 20 * SECOND, "100.5", "1", n) for n in range(1, 30)]))
    yield held
    held.close()


def frame(mom: float | None = None) -> pl.DataFrame:
    found = pl.read_csv(CSV.encode()).with_columns(pl.col("time").str.to_datetime(time_zone="UTC"))
    return found if mom is None else found.with_columns(mom=pl.lit(mom))


def versions(writer: LakeWriter, state: str | None = "live") -> list[tuple[str, str]]:
    return [(row.version, row.state) for row in feature_table.features(writer.manifest, state=state)]


def problems(root: Path) -> list[str]:
    manifest = Manifest.read_only(root)
    with manifest.snapshot() as now:
        found = verify_lake(root, now, lambda *_: None)
    manifest.close()
    return [f"{one.path}: {one.problem}" for one in found.findings if one.path.startswith("features/")]


def test_a_csv_becomes_a_version_with_its_checksum_its_schema_and_the_data_it_was_computed_on(lake, tmp_path):
    (tmp_path / "m.csv").write_text(CSV)
    done = put(lake.writer, tmp_path / "m.csv", Put(**OF, computed_on=("bar_1m",), note="mine"), NOW)
    (row,) = done.rows
    (bars,) = lake.writer.manifest.files("bar_1m")
    assert row.columns == {"mom": "float", "label": "text", "n": "int"}
    assert (row.rows, row.ts_min, row.ts_max, row.known, row.note) == (9, T0, T0 + 8 * MINUTE, "own time", "mine")
    assert (row.inputs, row.as_of, done.latest) == ({bars.path: bars.sha256}, NOW, "1.0.0")
    assert feature_files.parquet.file_sha256(lake.root / row.path) == row.sha256
    with Lake(lake.root) as held:
        assert held.features.get("MOMENTUM", symbol="btcusdt") == row
        assert held.features.by_id(row.feature_id) == row
        table = held.features.read("momentum", columns=["n", "mom"], start=T0 + MINUTE, end=T0 + 3 * MINUTE)
        assert table.column_names == ["ts_event", "known_at", "n", "mom"]
        assert table.column("n").to_pylist() == [1, 2]
        assert held.features.lineage(row).revised == ()
    assert problems(lake.root) == []


def test_the_same_values_again_change_nothing_whatever_they_are_written_in(lake, tmp_path):
    (tmp_path / "m.csv").write_text(CSV)
    first = put(lake.writer, tmp_path / "m.csv", Put(**OF), NOW)
    version = lake.writer.manifest.version
    frame().write_parquet(tmp_path / "m.parquet")
    frame().write_ipc(tmp_path / "m.arrow")
    pandas = pd.read_csv(tmp_path / "m.csv", parse_dates=["time"])
    for again in (
        tmp_path / "m.csv", str(tmp_path / "m.parquet"), tmp_path / "m.arrow", frame(), frame().lazy(),
        frame().to_arrow(),
        pandas, pandas.set_index("time"),
    ):  # fmt: skip
        done = put(lake.writer, again, Put(**OF | {"symbol": "btcusdt"}), NOW + DAY)
        assert (done.changed, done.rows) == (False, first.rows), type(again)
    assert lake.writer.manifest.version == version


def test_other_values_are_refused_with_the_next_version_and_so_are_those_of_a_deleted_one(lake):
    put(lake.writer, frame(), Put(**OF), NOW)
    with pytest.raises(
        VersionExists, match=r"1\.0\.0 of BTCUSDT is there with other values \(take the next version: 1\.0\.1"
    ):
        put(lake.writer, frame(1.0), Put(**OF), NOW)
    put(lake.writer, frame(1.0), Put(**OF, version="1.0.1"), NOW)
    delete(lake.writer, "momentum", "1.0.1", now=NOW)
    with pytest.raises(VersionExists, match=r"was deleted, with other values .*1\.0\.2"):
        put(lake.writer, frame(2.0), Put(**OF, version="1.0.1"), NOW)
    assert put(lake.writer, frame(1.0), Put(**OF, version="1.0.1"), NOW).latest == "1.0.1"
    assert len(list((lake.root / "features").rglob("*.*"))) == 2, "nothing is left of what was refused"


def test_a_commit_never_changes_a_version_whoever_planned_it(lake):
    """Two that were planned at one moment: the second is refused whole, whatever else it holds."""
    row = put(lake.writer, frame(), Put(**OF), NOW).rows[0]
    other = msgspec.structs.replace(row, content_digest="0" * 64)
    with pytest.raises(CommitConflict, match=r"no momentum 1\.0\.0 of binance linear BTCUSDT, found one with other"):
        lake.writer.publish(features=[other], cursors={"c": 1}, now=NOW)
    assert feature_table.features(lake.writer.manifest) == [row]
    assert lake.writer.manifest.cursor("c") is None
    lake.writer.publish(features=[msgspec.structs.replace(row, note="told again")], now=NOW)
    assert feature_table.features(lake.writer.manifest)[0].note == "told again"


@pytest.mark.parametrize("columns", ["{", '["x"]', '{"x":1}'])
def test_a_version_that_the_manifest_does_not_tell_right_is_damage(lake, columns):
    put(lake.writer, frame(), Put(**OF), NOW)
    with contextlib.closing(sqlite3.connect(lake.root / "manifest.db")) as db, db:
        db.execute("UPDATE featured SET columns = ?", (columns,))
    with pytest.raises(CorruptManifest, match="unreadable feature set"):
        feature_table.features(lake.writer.manifest)


def test_latest_is_the_newest_until_it_is_rolled_back_and_moves_on_with_the_next(lake):
    for place, version in enumerate(("1.0.0", "1.0.2", "1.0.1", "1.0.10")):
        put(lake.writer, frame(float(place)), Put(**OF, version=version), NOW)
    with Lake(lake.root) as held:
        (found,) = held.features.sets()
        assert (found.versions, found.latest) == (("1.0.0", "1.0.1", "1.0.2", "1.0.10"), "1.0.10")
        assert plan_rollback(lake.writer.manifest, "momentum", None, *[None] * 3, NOW).latest == "1.0.2"
        assert held.features.get("momentum").version == "1.0.10", "a dry run changes nothing"
        assert rollback(lake.writer, "momentum", now=NOW).latest == "1.0.2"
        assert held.features.get("momentum").version == "1.0.2"
        assert rollback(lake.writer, "momentum", "1.0.0", now=NOW).changed
        assert not rollback(lake.writer, "momentum", "1.0.0", now=NOW).changed
        with pytest.raises(WrongQuestion, match="no version before 1"):
            rollback(lake.writer, "momentum", now=NOW)
        assert put(lake.writer, frame(9.0), Put(**OF, version="0.9.0"), NOW).latest == "1.0.0", "an old one stays old"
        assert put(lake.writer, frame(5.0), Put(**OF, version="1.1.0"), NOW).latest == "1.1.0"
        assert delete(lake.writer, "momentum", "1.1.0", now=NOW).latest == "1.0.0", "what was the latest before"
        assert [row.version for row in held.features.versions(version="latest")] == ["1.0.0"]


def test_deleting_frees_the_disk_and_says_so_before_it_does(lake):
    row = put(lake.writer, frame(), Put(**OF), NOW).rows[0]
    assert not plan_delete(lake.writer.manifest, "momentum", "1.0.0", *[None] * 3, NOW).changed
    assert (lake.root / row.path).exists()
    delete(lake.writer, "momentum", "all", now=NOW)
    assert not (lake.root / row.path).exists()
    assert (versions(lake.writer), versions(lake.writer, None)) == ([], [("1.0.0", "deleted")])
    with Lake(lake.root) as held, pytest.raises(WrongQuestion, match=r"there is no feature set momentum \(dl features"):
        held.features.read("momentum")
    assert problems(lake.root) == []


def test_a_rehearsal_reads_all_of_it_and_writes_nothing(lake):
    before = sorted(path.stat().st_mtime_ns for path in lake.root.rglob("*"))
    done = rehearse(lake.writer.manifest, frame(), Put(**OF, computed_on=("bar_1m",)), NOW)
    assert (done.changed, done.latest, done.rows[0].rows) == (False, "1.0.0", 9)
    assert sorted(path.stat().st_mtime_ns for path in lake.root.rglob("*")) == before


def test_lineage_tells_which_data_was_revised_since(lake):
    row = put(lake.writer, frame(), Put(**OF, computed_on=("bar_5m",)), NOW).rows[0]
    (old,) = lake.writer.manifest.files("bar_1m")
    trades = [trade(T0 + n * 20 * SECOND, "100.6", "1", n) for n in range(1, 30)]
    lake.day("bar_1m", bar_table(trades), remove=[old.path], revision=1)
    with Lake(lake.root) as held:
        assert held.features.lineage(row).revised == (old.path,)
    with pytest.raises(WrongQuestion, match="no trade of binance linear BTCUSDT was stored"):
        put(lake.writer, frame(1.0), Put(**OF, version="2.0.0", computed_on=("trade",)), NOW)


def test_a_damaged_file_is_found_and_put_right_by_the_same_values(lake):
    row = put(lake.writer, frame(), Put(**OF, computed_on=("bar_1m",)), NOW).rows[0]
    path = lake.root / row.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert len(problems(lake.root)) == 1
    with Lake(lake.root) as held, pytest.raises(Exception, match="the manifest says"):
        held.features.read("momentum")
    assert put(lake.writer, frame(), Put(**OF), NOW).changed
    assert problems(lake.root) == []
    assert feature_table.features(lake.writer.manifest)[0].inputs == row.inputs, "what it was computed on stays"


def test_jobs_are_plain_values(lake, tmp_path):
    (tmp_path / "m.csv").write_text(CSV)
    job = job_of({"action": "put", "path": str(tmp_path / "m.csv"), "asked": OF})
    assert run(lake.writer, job, NOW, silent).changed
    of = {"feature_set": "momentum", "version": "1.0.0"}
    assert not run(lake.writer, job_of({"action": "rollback"} | of), NOW, silent).changed
    assert run(lake.writer, job_of({"action": "delete"} | of), NOW, silent).changed
    for wrong in ({"action": "burn"}, {"action": "put", "path": "m.csv", "asked": OF | {"colour": "red"}}, {}):
        with pytest.raises(WrongQuestion, match="no change of feature sets"):
            job_of(wrong)


def test_two_writers_of_one_lake(lake):
    with pytest.raises(LakeLocked):
        LakeWriter.open(lake.root, "node", NOW)


def work(root: Path) -> None:
    with LakeWriter.open(root, "node", NOW) as writer:
        writer.recover(NOW)
        put(writer, TABLE, Put(**OF), NOW)
        put(writer, OTHER, Put(**OF, version="1.0.1"), NOW)
        delete(writer, "momentum", "1.0.1", now=NOW)


TABLE, OTHER = (
    pa.table({"time": pa.array([T0, T0 + 1], feature_files.TIME), "x": pa.array([value, None], pa.float64())})
    for value in (1.5, 2.5)
)


@needs_fork
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_killed_at_any_step_it_is_there_or_not_and_putting_it_in_again_finishes_it(every):
    with quick_folder() as folder:
        for number in range(every, 1000, every):
            root = folder / str(number)
            root.mkdir()
            code = run_until(lambda root=root: work(root), durable.Fault("*", number, "KILL"))
            with LakeWriter.open(root, "node", NOW) as writer:
                writer.recover(NOW)
                for row in feature_table.features(writer.manifest):
                    feature_files.verify(root / row.path)
                work_again(writer, number)
            told = {path.name for path in (root / "features").rglob("*.*")}
            assert len(told) == 1, f"{number}: {told}"
            assert problems(root) == [], number
            if code == 0:
                break
        assert number > 5 * every


def work_again(writer: LakeWriter, number: int) -> None:
    put(writer, TABLE, Put(**OF), NOW)
    held = dict(versions(writer, None))
    if held.get("1.0.1") != "deleted":
        put(writer, OTHER, Put(**OF, version="1.0.1"), NOW)
        delete(writer, "momentum", "1.0.1", now=NOW)
    assert dict(versions(writer, None)) == {"1.0.0": "live", "1.0.1": "deleted"}, number


def test_a_manifest_made_anew_knows_every_version(lake):
    put(lake.writer, frame(), Put(**OF, computed_on=("bar_1m",)), NOW)
    for place, version in enumerate(("1.0.1", "1.0.2", "1.0.3")):
        put(lake.writer, frame(float(place)), Put(**OF, version=version, computed_on=("bar_1m",)), NOW)
    rollback(lake.writer, "momentum", "1.0.1", now=NOW)
    delete(lake.writer, "momentum", "1.0.2", now=NOW)
    was = feature_table.features(lake.writer.manifest, state=None)
    lake.close()
    made = rebuild(lake.root, "node", NOW, dry_run=True)
    assert made.differences == []
    assert made.ok, made
    (lake.root / "manifest.db").unlink()
    rebuild(lake.root, "node", NOW)
    with Lake(lake.root) as held:
        assert held.features.versions(deleted=True) == was
        assert held.features.get("momentum").version == "1.0.1"


def test_without_a_ledger_versions_come_back_from_their_files(lake):
    for place, version in enumerate(("1.0.0", "1.0.1")):
        put(lake.writer, frame(float(place)), Put(**OF, version=version, computed_on=("bar_1m",), note="n"), NOW)
    was = feature_table.features(lake.writer.manifest)
    lake.close()
    (lake.root / "manifest.db").unlink()
    for path in (lake.root / "ledger").iterdir():
        path.unlink()
    made = rebuild(lake.root, "node", NOW)
    assert [path for path in made.adopted if path.startswith("features/")] == [row.path for row in was]
    with Lake(lake.root) as held:
        found = held.features.versions()
        assert held.features.get("momentum").version == "1.0.1"
    for row in (*was, *found):
        row.latest_at = 0
    assert found == was


def test_of_files_that_no_entry_tells_a_version_comes_in_and_what_is_none_is_told_of(lake, tmp_path):
    """And what comes in is what `latest` means only where it is newer than what the ledger knows."""
    row = put(lake.writer, frame(), Put(**OF), NOW).rows[0]
    gone = put(lake.writer, frame(2.0), Put(**OF, version="1.0.1"), NOW).rows[0]
    data = (lake.root / gone.path).read_bytes()
    delete(lake.writer, "momentum", "1.0.1", now=NOW)
    (lake.root / gone.path).write_bytes(data)  # the process died before it was removed
    ledger = max((lake.root / "ledger").iterdir())
    told = ledger.read_bytes()
    older = put(lake.writer, frame(1.0), Put(**OF, version="0.9.0"), NOW).rows[0]
    with LakeWriter.open(tmp_path / "other", "node", NOW) as other:
        stranger = put(other, frame(3.0), Put(**OF, version="3.0.0"), NOW).rows[0]
        (lake.root / stranger.path).write_bytes((other.root / stranger.path).read_bytes())
    (lake.root / "features/notes.txt").write_bytes(b"mine")
    lake.close()
    ledger.write_bytes(told + b"no line of a ledger\n")
    with (lake.root / row.path).open("ab") as file:
        file.write(b"longer")
    (lake.root / "manifest.db").unlink()
    made = rebuild(lake.root, "node", NOW, thorough=False)
    assert (made.adopted, made.left) == ([older.path], [])
    found = {one.path: one.problem for one in made.findings}
    assert found == {
        row.path: f"has {row.bytes + 6} bytes, {row.bytes} were published",
        stranger.path: f"is of another lake ({other.lake_id})",
        "features/notes.txt": "has no name of a feature set",
    }
    with Lake(lake.root) as held:
        assert held.features.get("momentum").version == "1.0.0"
        assert held.features.get("momentum", version="0.9.0").sha256 == older.sha256
    assert sorted(problems(lake.root)) == sorted([
        *(one for one in problems(lake.root) if one.startswith(row.path)),
        f"{gone.path}: is named by no live row of the manifest",
        f"{stranger.path}: is named by no row of the manifest",
        "features/notes.txt: is named by no row of the manifest",
    ])  # fmt: skip


def test_a_reader_of_an_older_lake_finds_no_features(tmp_path, monkeypatch):
    from lake import migrations

    with monkeypatch.context() as old:
        old.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:4])
        old.setattr(migrations, "VERSION", 4)
        Manifest.create_or_open(tmp_path, now=NOW).close()
    reader = Manifest.read_only(tmp_path)
    assert feature_table.features(reader, state=None) == []
    assert schema.featured.name == "featured"
    reader.close()
    durable.make_dirs(tmp_path / "ledger")
