"""`dl archive` against a small archive: what is sound comes in once, what is not is refused by name."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors import exchanges
from collectors.files.archive.memory import PART, recall, zip_path
from collectors.files.archive.series import ArchiveFile, series_of
from compactor.service import compact_once
from compactor.summary import Summary
from daemon.archiving import Done, archive_job, control_job, look
from daemon.config import Config
from lake import Lake
from lake.adopting import DONE, REFUSED
from lake.errors import WrongQuestion
from lake.manifest import Manifest
from lake.publish import Placement
from lake.publish import publish as publish_part
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import Interval, date_of, parse
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.support.archive_host import ArchiveHost, archive_host, csv, day_us, summed, trades, zipped
from tests.support.clock import ManualClock
from tests.support.commands import run, sample
from tests.support.market_rows import table

NOW = parse("2026-06-01T12:00:00Z")
SPOT = series_of("binance", "spot", "trade", "BTCUSDT", None)
DAYS = ("2026-05-08", "2026-05-09", "2026-05-10")
EACH = 30


class Quick(ManualClock):
    """Waits for nothing."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def host() -> Iterator[ArchiveHost]:
    with archive_host() as made:
        for place, date in enumerate(DAYS):
            publish(made, date, trades(date, 100 + EACH * place, EACH))
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    LakeWriter.open(tmp_path / "lake", "node", NOW).close()
    return tmp_path / "lake"


def file(date: str) -> ArchiveFile:
    return ArchiveFile(date, SPOT)


def publish(host: ArchiveHost, date: str, lines: list[str], **changed: Any) -> None:
    host.put(file(date).path, zipped({file(date).member: csv(lines)}), **changed)


def config_of(host: ArchiveHost | None, **changed: Any) -> Config:
    archives: dict[str, Any] = {**(host.config if host is not None else {}), **changed}
    return Config.model_validate({"archives": archives, "collectors": {"node": "node"}})


def ask(
    root: Path, host: ArchiveHost | None = None, config: Config | None = None, close: bool = True,
    clock: Quick | None = None, **wanted: Any,
) -> Done:  # fmt: skip
    """One call, with what the command does behind it."""
    told = {"market_type": "spot", "kind": "trade", "symbols": ["BTCUSDT"], "first": DAYS[0], "last": DAYS[-1]} | wanted
    settings = config or config_of(host)
    with LakeWriter.open(root, "node", NOW) as writer:
        done = archive_job(writer, InlineExecutor(), clock or Quick(NOW), told, settings, lambda *_: None)
        if close:
            summary = compact_once(
                writer, InlineExecutor(), NOW, settings.compactor, lambda *_: None, retention=False,
                parsers=exchanges.parsers,
            )  # fmt: skip
            assert not summary.failures
    return done


def states(done: Done) -> list[str]:
    return [one.state for one in done.files]


def rows(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Lake(root).read("trade").to_pylist()
    return found


def sound(root: Path) -> bool:
    """What dl verify says of the whole lake."""
    with closing(Manifest.read_only(root)) as manifest, manifest.snapshot() as snapshot:
        found = verify_lake(root, snapshot, lambda *_: None)
    assert found.ok, found.findings
    return True


def outside(root: Path) -> set[str]:
    """Everything beside the lake: a test's folder has nothing else."""
    return {path.name for path in root.parent.iterdir()} - {root.name}


def test_days_come_in_with_proof_once_and_their_zips_go(root: Path, host: ArchiveHost):
    done = ask(root, host)
    assert done.ok
    assert states(done) == ["taken"] * 3
    assert [one.joined for one in done.files] == [None, True, True]
    held = rows(root)
    assert [row["seq"] for row in held] == list(range(100, 100 + 3 * EACH))
    assert {row["source"] for row in held} == {"archive"}
    assert held[EACH]["frame_no"] == 1
    with closing(Manifest.read_only(root)) as manifest:
        (session,) = manifest.sessions(session=held[EACH]["session"])
        covered = [Interval(row.ts_from, row.ts_to) for row in manifest.coverage("binance", "spot", "trade")]
        certificates = [manifest.certificates(row.path)[-1] for row in manifest.files("trade", level="day")]
    assert session.url.startswith(f"{host.address}/{file(DAYS[1]).path}#sha256={done.files[1].sha256}")
    assert session.close_cause == DONE
    # ids that go on prove that nothing lies between two days either
    assert min(one.start for one in covered) == parse(DAYS[0]) + 629_785
    assert sum(one.end - one.start for one in covered) >= max(one.end for one in covered) - min(
        one.start for one in covered
    )
    assert [(one.rows, one.missing) for one in certificates] == [(EACH, 0)] * 3
    assert sound(root)
    assert not list((root / "archives").rglob("*.zip"))
    assert outside(root) == set()

    host.asked.clear()
    again = ask(root, host)
    assert states(again) == ["known"] * 3
    assert [path for path, _ in host.asked if path.endswith(".zip")] == []
    assert rows(root) == held


@pytest.mark.parametrize("page", [1, 1000])
def test_a_whole_month_is_its_file_and_lists_are_read_to_their_end(root: Path, host: ArchiveHost, page: int):
    host.page = page
    month = [*trades("2026-04-01", 1, 5), *trades("2026-04-30", 6, 5)]
    april = file("2026-04")
    host.put(april.path, zipped({april.member: csv(month)}))
    told = {"market_type": "spot", "kind": "trade", "symbols": ["BTCUSDT"], "first": "2026-04-01", "last": "2026-05-11"}
    done = look(root, Quick(NOW), told, config_of(host))
    assert [one.name for one in done.files if one.state == "wanted"] == [
        april.name,
        *(file(date).name for date in DAYS),
    ]
    assert done.missing == {"BTCUSDT": [*(f"2026-05-{n:02d}" for n in range(1, 8)), "2026-05-11"]}
    assert not (root / "archives").exists()
    assert states(ask(root, host, first="2026-04-01", last="2026-04-30")) == ["taken"]
    assert [row["seq"] for row in rows(root)] == list(range(1, 11))


def test_a_mirror_without_lists_is_asked_for_every_day(root: Path, host: ArchiveHost):
    done = ask(root, config=config_of(None, mirrors={"binance": {"base": host.address}}), last="2026-05-11")
    assert states(done) == ["taken", "taken", "taken"]
    assert (done.missing, done.ok) == ({"BTCUSDT": ["2026-05-11"]}, False)


def test_a_defective_file_is_refused_by_name_and_the_others_come_in(root: Path, host: ArchiveHost):
    middle = file(DAYS[1])
    good = trades(DAYS[1], 100 + EACH, EACH)
    data = zipped({middle.member: csv(good)})
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    defects: dict[str, tuple[str, bytes, bytes | None]] = {
        "checksum": ("checksum", bytes(flipped), summed(middle.name, data)),
        "truncated, with a sum that fits": ("zip", data[:-60], None),
        "outside": ("zip", zipped({f"../../{middle.member}": csv(good)}), None),
        "another day": ("period", zipped({middle.member: csv(trades("2026-05-07", 1, 5))}), None),
        "ids missing": ("ids", zipped({middle.member: csv(good[:9] + good[10:])}), None),
    }
    for name, (rule, body, checksum) in defects.items():
        host.put(middle.path, body, checksum=checksum)
        done = ask(root, host, close=False)
        assert [one.rule for one in done.files] == ["", rule, ""], name
        assert done.files[1].name == middle.name
        assert done.files[1].fix
        assert not done.ok
        (rest,) = done.rest
        assert (rest.start[:10], rest.end[:10], rest.command[:11]) == (DAYS[1], DAYS[2], "dl backfill")
    assert len(rows(root)) == 2 * EACH
    assert outside(root) == set()
    assert not [path for path in root.rglob("*") if path.suffix in (".zip", ".part", ".tmp")]
    with closing(Manifest.read_only(root)) as manifest:
        ends = [row.close_cause or "open" for row in manifest.sessions(exchange="binance")]
    assert sum(end.startswith(f"{REFUSED}: {middle.name}") for end in ends) == len(defects) - 1
    assert "open" not in ends
    host.put(middle.path, data)
    assert states(ask(root, host)) == ["known", "taken", "known"]
    assert len(rows(root)) == 3 * EACH
    assert sound(root)


def test_holes_come_in_where_asked_and_are_covered_by_nothing(root: Path, host: ArchiveHost):
    good = trades(DAYS[0], 100, EACH)
    publish(host, DAYS[0], good[:9] + good[12:])
    (one,) = ask(root, host, last=DAYS[0], holes=True).files
    assert (one.state, one.missing_ids) == ("taken", 3)
    with closing(Manifest.read_only(root)) as manifest:
        covered = sorted(row.ts_to for row in manifest.coverage("binance", "spot", "trade"))
        (gap,) = manifest.gaps("binance", "spot", "trade")
    assert len(covered) == 2
    assert (gap.id_from, gap.id_to, gap.cause, gap.state) == (109, 112, "archive", "open")
    assert sound(root)


@pytest.mark.parametrize("fault", ["cut", "busy", "norange"])
def test_a_download_goes_on_where_it_ended(root: Path, host: ArchiveHost, fault: str):
    path = file(DAYS[0]).path
    lines = trades(DAYS[0], 100, 400)
    publish(host, DAYS[0], lines)
    size = len(host.files[path])
    host.faults[path] = fault
    if fault == "norange":  # a part of before, and a host that gives whole files only
        target = zip_path(root, file(DAYS[0]))
        target.parent.mkdir(parents=True)
        part = target.with_name(target.name + PART)
        part.write_bytes(host.files[path][:50])
        part.with_name(part.name + ".json").write_text(json.dumps({"etag": '"x"', "modified": None, "size": size}))
    done = ask(root, host, last=DAYS[0])
    assert states(done) == ["taken"]
    asked = [wanted for at, wanted in host.asked if at == path]
    if fault == "cut":  # what of the half had been read when the line was cut is the host's and the system's affair
        assert asked[1] is None or 0 < int(asked[1].removeprefix("bytes=").removesuffix("-")) <= size // 2
    assert len(asked) == {"cut": 2, "busy": 2, "norange": 1}[fault]
    assert len(rows(root)) == 400


def test_a_part_of_another_version_is_thrown_away(root: Path, host: ArchiveHost):
    path = file(DAYS[0]).path
    target = zip_path(root, file(DAYS[0]))
    target.parent.mkdir(parents=True)
    part = target.with_name(target.name + PART)
    part.write_bytes(b"old")
    part.with_name(part.name + ".json").write_text(json.dumps({"etag": '"old"', "modified": None, "size": 900}))
    assert states(ask(root, host, last=DAYS[0])) == ["taken"]
    assert (path, "bytes=3-") in host.asked


@pytest.mark.parametrize(
    "fault,said",
    [("redirect", "it is redirected to 'http://127.0.0.1:1/elsewhere'"), ("missing", "does not have it")],
)
def test_no_redirect_is_followed_and_a_missing_file_is_named(root: Path, host: ArchiveHost, fault: str, said: str):
    host.faults[file(DAYS[0]).path] = fault
    (one,) = ask(root, host, last=DAYS[0]).files
    assert (one.state, said in one.what) == ("refused", True)


@pytest.mark.parametrize("lists", [True, False])
def test_a_zip_without_its_checksum_is_said_to_be_that_and_taken_once_it_has_one(
    root: Path, host: ArchiveHost, lists: bool
):
    proof = host.files.pop(f"{file(DAYS[1]).path}.CHECKSUM")
    config = config_of(host) if lists else config_of(None, mirrors={"binance": {"base": host.address}})
    done = ask(root, config=config)
    (one,) = (one for one in done.files if one.state == "refused")
    assert sorted(states(done)) == ["refused", "taken", "taken"]
    assert (one.name, one.rule) == (file(DAYS[1]).name, "missing")
    assert one.what == f"{host.address} has the file and no CHECKSUM of it"
    assert one.fix == "ask later: its publisher gives each file one; or take both from elsewhere (--source)"
    assert (done.missing, done.ok) == ({}, False), "it is published"
    assert [(rest.start, rest.end) for rest in done.rest] == [(f"{DAYS[1]}T00:00:00Z", f"{DAYS[2]}T00:00:00Z")]
    assert [path for path, _ in host.asked if path == file(DAYS[1]).path] == ([] if lists else [file(DAYS[1]).path] * 2)
    if lists:
        told = {"market_type": "spot", "kind": "trade", "symbols": ["BTCUSDT"], "first": DAYS[0], "last": DAYS[-1]}
        seen = look(root, Quick(NOW), told, config)
        assert (states(seen), seen.missing, seen.rest) == (["known", "known", "refused"], {}, done.rest)
    host.files[f"{file(DAYS[1]).path}.CHECKSUM"] = proof
    assert states(ask(root, config=config)) == ["known", "taken", "known"]


def test_a_host_that_drips_is_given_up(root: Path, host: ArchiveHost):
    class Slow(Quick):
        seconds = 0.0

        def monotonic(self) -> float:
            self.seconds += 100
            return self.seconds

    clock = Slow(NOW)
    (one,) = ask(root, host, last=DAYS[0], clock=clock).files
    assert (one.rule, "fewer than 1,024 bytes a second" in one.what) == ("address", True)
    assert clock.slept == [1, 2, 4, 8]


def test_nothing_is_fetched_onto_a_disk_that_is_low(root: Path, host: ArchiveHost):
    full = Config.model_validate({"archives": host.config, "disk": {"low_mb": 1_000_000}})
    (one,) = ask(root, config=full, last=DAYS[0]).files
    assert (one.rule, "disk.low_mb" in one.what) == ("size", True)
    assert host.asked == []


def test_addresses_are_https_of_hosts_that_are_allowed(root: Path, host: ArchiveHost):
    for base in ("http://data.binance.vision", "https://u:p@data.binance.vision", "ftp://a"):
        with pytest.raises(ValueError, match=r"https|password"):
            config_of(None, mirrors={"binance": {"base": base}})
        with pytest.raises(WrongQuestion, match=r"https|password"):
            ask(root, host, source=base)
    with pytest.raises(WrongQuestion, match="its host is not allowed"):
        ask(root, host, source="https://elsewhere.example")
    with pytest.raises(ValueError, match="no archive of nowhere is read"):
        config_of(None, mirrors={"nowhere": {"base": "https://a.example"}})
    assert config_of(host).archives.place("binance").listing is not None
    with pytest.raises(WrongQuestion, match="no folder"):
        ask(root, host, source=str(root / "nothing"))


@pytest.mark.parametrize(
    "wanted,said",
    [
        ({"exchange": "kraken"}, "no archive of kraken"),
        ({"symbols": []}, "0 symbols"),
        ({"kind": "trade", "market_type": "inverse"}, "--contract-size"),
        ({"contract_size": "100"}, "--contract-size 100"),
        ({"first": "2026-05-09", "last": "2026-05-08"}, "is after --to"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_cannot_be_meant_is_said(root: Path, host: ArchiveHost, wanted: dict[str, Any], said: str):
    with pytest.raises(WrongQuestion, match=said):
        ask(root, host, **wanted)
    assert host.asked == []


def test_a_file_that_its_publisher_changed_is_a_revision_that_says_what(root: Path, host: ArchiveHost):
    ask(root, host)
    before = rows(root)
    lines = trades(DAYS[1], 100 + EACH, EACH)
    cells = lines[3].split(",")
    cells[1] = "1.25000000"
    lines[3] = ",".join(cells)
    publish(host, DAYS[1], [*lines[:-1]])
    last = trades(DAYS[2], 100 + 2 * EACH, EACH)
    publish(host, DAYS[2], [*last, last[-1].replace("189,", "190,", 1)])
    done = ask(root, host)
    first, second, third = done.files
    assert (first.state, second.state, third.state) == ("known", "replaced", "replaced")
    assert (second.added, second.changed, second.removed, second.revised) == (0, 1, 1, [DAYS[1]])
    assert any("1.25" in text for text in second.examples)
    assert third.added == 1
    after = rows(root)
    assert len(after) == len(before)
    changed = next(row for row in after if row["seq"] == 133)
    assert changed["price"] == 1.25
    assert changed["session"] == second.session
    same = next(row for row in after if row["seq"] == 132)
    assert same == next(row for row in before if row["seq"] == 132)
    assert 159 not in {row["seq"] for row in after}
    with closing(Manifest.read_only(root)) as manifest:
        (day,) = manifest.files("trade", level="day", date_from=DAYS[1], date_to=DAYS[1])
        told = manifest.certificates(day.path)[-1]
        (gap,) = manifest.gaps("binance", "spot", "trade", state="open")
    assert (gap.id_from, gap.id_to) == (159, 160)
    assert day.revision == 1
    assert told.inputs[f"{host.address}/{file(DAYS[1]).path}"] == second.sha256
    assert sound(root)
    known = recall(root, file(DAYS[1]))
    assert known is not None
    assert [one.sha256 for one in known.earlier] == [second.replaces]
    assert states(ask(root, host)) == ["known"] * 3
    assert rows(root) == after


@pytest.mark.parametrize("more", [2, -2])
def test_a_lake_whose_publisher_added_or_took_rows_keeps_its_law(root: Path, host: ArchiveHost, more: int):
    """No line in raw/ tells of them, and none is missing."""
    ask(root, host)
    publish(host, DAYS[2], trades(DAYS[2], 100 + 2 * EACH, EACH + more))
    assert states(ask(root, host)) == ["known", "known", "replaced"]
    assert len(rows(root)) == 3 * EACH + more
    assert sound(root)


def test_a_changed_file_is_compared_with_no_day_that_is_not_what_was_published(root: Path, host: ArchiveHost):
    """No checksum is of the footer, and what it hides would be no change."""
    ask(root, host)
    with closing(Manifest.read_only(root)) as manifest:
        (day,) = manifest.files("trade", level="day", date_from=DAYS[1], date_to=DAYS[1])
    path = root / day.path
    data = path.read_bytes()
    path.write_bytes(data.replace(b"parquet-cpp-arrow version", b"parquet-cpp-arrow versiom"))
    lines = trades(DAYS[1], 100 + EACH, EACH)
    publish(host, DAYS[1], [line.removesuffix("True") + "False" for line in lines])
    done = ask(root, host)
    assert states(done) == ["known", "refused", "known"]
    assert path.name in done.files[1].what
    path.write_bytes(data)
    assert states(ask(root, host)) == ["known", "replaced", "known"]


def again(root: Path, host: ArchiveHost, **wanted: Any) -> Done:
    with LakeWriter.open(root, "node", NOW) as writer:
        told = {"recheck": True, **wanted}
        return archive_job(writer, InlineExecutor(), Quick(NOW), told, config_of(host), lambda *_: None)


def test_all_that_was_taken_in_is_looked_at_again(root: Path, host: ArchiveHost):
    assert states(ask(root, host)) == ["taken"] * 3
    host.asked.clear()
    assert states(again(root, host)) == ["known"] * 3
    assert {path.rpartition(".")[2] for path, _ in host.asked} == {"CHECKSUM"}
    assert states(again(root, host, symbols=["ETHUSDT"])) == []
    assert states(again(root, host, exchange="bybit")) == []
    lines = trades(DAYS[1], 100 + EACH, EACH)
    publish(host, DAYS[1], [*lines[:5], lines[5].replace(",True,True", ",False,True"), *lines[6:]])
    del host.files[file(DAYS[2]).path], host.files[f"{file(DAYS[2]).path}.CHECKSUM"]
    with mock.patch.object(Manifest, "read_only", wraps=Manifest.read_only) as opened:
        seen = look(root, Quick(NOW), {"recheck": True}, config_of(host))
    assert opened.call_count == 1, "once, and not for every file"
    assert (states(seen), seen.ok) == (["known", "changed", "refused"], False)
    assert states(again(root, host, first=DAYS[0], last=DAYS[0])) == ["known"]
    done = again(root, host, kind="trade", symbols=["BTCUSDT"])
    assert (states(done), done.files[2].rule) == (["known", "replaced", "refused"], "missing")
    assert (done.files[2].what.endswith(" any more"), done.files[2].fix) == (True, "its rows stay")
    assert done.files[1].replaces
    assert states(again(root, host)) == ["known", "known", "refused"]
    for wrong in ({"contract_size": "1"}, {"source": str(root)}, {"exchange": "kraken"}):
        with pytest.raises(WrongQuestion):
            again(root, host, **wrong)


def test_a_candle_that_changed_is_a_new_revision_of_it(root: Path, host: ArchiveHost):
    klines = ArchiveFile(DAYS[0], series_of("binance", "spot", "kline", "BTCUSDT", "12h"))
    start = day_us(DAYS[0])

    def candle(place: int, close: str) -> str:
        opened = start + place * 43_200_000_000
        return f"{opened},1.5,2,1,{close},3,{opened + 43_199_999_999},4.5,7,1,1.5,0"

    wanted = {"kind": "kline", "interval": "12h", "last": DAYS[0]}
    host.put(klines.path, zipped({klines.member: csv([candle(0, "1.5"), candle(1, "1.5")])}))
    assert states(ask(root, host, **wanted)) == ["taken"]
    host.put(klines.path, zipped({klines.member: csv([candle(0, "1.5"), candle(1, "1.75")])}))
    (one,) = ask(root, host, **wanted).files
    assert (one.state, one.changed, one.added, one.removed) == ("replaced", 1, 0, 0)
    with closing(Manifest.read_only(root)) as manifest:
        (day,) = manifest.files("kline", level="day")
    assert day.rows == 3
    assert sound(root)


def test_a_folder_is_as_good_as_the_host_and_stays_as_it_is(root: Path, tmp_path: Path, host: ArchiveHost):
    for path, data in host.files.items():
        target = tmp_path / "mirror" / path.removeprefix("data/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    before = sorted((tmp_path / "mirror").rglob("*"))
    assert states(ask(root, config=config_of(None), source=str(tmp_path / "mirror"))) == ["taken"] * 3
    assert sorted((tmp_path / "mirror").rglob("*")) == before
    assert states(ask(root, host)) == ["known"] * 3


def test_the_daemon_does_it_too_and_closes_the_days(root: Path, host: ArchiveHost):
    asked: list[bool] = []

    class Compactor:
        async def compact(self, report: Any, *, again: bool) -> Summary:
            asked.append(again)
            return Summary()

    async def both() -> list[Any]:
        with LakeWriter.open(root, "node", NOW) as writer:
            job = control_job(
                config_of(host), writer, Quick(NOW), Slot(), Compactor(), InlineExecutor,  # type: ignore[arg-type]
            )  # fmt: skip
            told = {"market_type": "spot", "kind": "trade", "symbols": ["BTCUSDT"], "first": DAYS[0], "last": DAYS[0]}
            return list(await asyncio.gather(job(told, lambda *_: None), job(told, lambda *_: None)))

    one, two = asyncio.run(both())
    assert ([one["files"][0]["state"], two["files"][0]["state"]], asked) == (["taken", "known"], [True])


def test_a_download_that_was_killed_goes_on_at_the_next_run(tmp_path: Path, host: ArchiveHost):
    lake = tmp_path / "lake"
    LakeWriter.open(lake, "node", NOW).close()
    day = file(DAYS[0])
    data = csv(trades(DAYS[0], 1, 20_000))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        made.writestr(zipfile.ZipInfo(day.member), data)
    host.put(day.path, out.getvalue())
    (tmp_path / "config.yml").write_text(json.dumps({"lake": str(lake), "archives": host.config}))
    words = (
        "-m",
        "cli",
        "archive",
        "--config",
        str(tmp_path / "config.yml"),
        "--symbol",
        "BTCUSDT",
        "--from",
        DAYS[0],
        "--json",
    )
    killed = run(*words, env={"LAKE_FAULT": "write:11:KILL"})
    assert killed.returncode == -9, killed.stderr
    part = zip_path(lake, day)
    part = part.with_name(part.name + PART)
    had = part.stat().st_size
    assert 0 < had < len(out.getvalue())
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [(one["state"], one["rows"]) for one in told["files"]] == [("taken", 20_000)]
    assert [wanted for path, wanted in host.asked if path == day.path] == [None, f"bytes={had}-"]
    assert not part.exists()


def test_the_venues_own_files_come_in_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = sample("binance/vision")
    LakeWriter.open(tmp_path / "lake", "node", NOW).close()

    def dl(*words: str) -> tuple[int, str]:
        made = CliRunner().invoke(app, [*words, "--lake", str(tmp_path / "lake")], env={"COLUMNS": "200"})
        return made.exit_code, made.output

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, said = dl("archive", "--symbol", "BTCUSDT", "--kind", "kline", "--interval", "1h", "--from", "2026-05-07",
                    "--to", "2026-05-09", "--source", str(place))  # fmt: skip
    assert (code, "2 taken" in said, "48 rows" in said) == (1, True, True), said
    assert "not published: BTCUSDT 2026-05-07" in said
    code, said = dl("archive", "--symbol", "BTCUSDT", "--market-type", "linear", "--kind", "funding_rate", "--from",
                    "2026-04-01", "--to", "2026-04-30", "--source", str(place))  # fmt: skip
    assert (code, "1 taken" in said, "90 rows" in said) == (0, True, True), said
    lake = Lake(tmp_path / "lake")
    candle = lake.read("kline").to_pylist()[0]
    assert (candle["open"], candle["volume_base"], candle["trade_count"]) == (80006.0, 958.06006, 67626)
    assert lake.read("funding_rate").to_pylist()[0]["rate"] == -0.00003449
    assert sound(tmp_path / "lake")


def test_what_a_contract_is_worth_is_the_listing_s_where_nobody_says_it(root: Path, host: ArchiveHost):
    of = series_of("binance", "inverse", "trade", "BTCUSD_PERP")
    day = ArchiveFile(DAYS[0], of)
    lines = [line.rpartition(",")[0] for line in trades(DAYS[0], 100, 3, unit=1000)]
    host.put(day.path, zipped({day.member or "": csv(lines)}))
    wanted = {"market_type": "inverse", "symbols": ["BTCUSD_PERP"], "last": DAYS[0]}
    with pytest.raises(WrongQuestion, match="neither files nor lake say what one of BTCUSD_PERP is worth"):
        ask(root, host, **wanted)
    listed = {
        "symbol": "BTCUSD_PERP",
        "uid": "BTCUSD_PERP",
        "multiplier": "100",
        "status": "TRADING",
        "known_from": NOW,
    }
    common = {"exchange": "binance", "market_type": "inverse", "date": date_of(NOW), "ts_event": NOW, "ts_recv": NOW,
              "ts_estimated": False, "session": "n-1-1", "frame_no": 1, "item": 0, "source": "rest"}  # fmt: skip
    with LakeWriter.open(root, "node", NOW) as writer:
        place = Placement(kind="contract", exchange="binance", market_type="inverse", level="part",
                          date=date_of(NOW).isoformat(), hour=12)  # fmt: skip
        made = publish_part(root, place, [table("contract", [common | listed])], run="test", now=NOW)
        writer.publish(add=[made], now=NOW)
    assert states(ask(root, host, close=False, **wanted)) == ["taken"]
    held = Lake(root).read("trade", market_type="inverse").to_pylist()
    assert {(row["qty_unit"], row["multiplier"]) for row in held} == {("contract", 100.0)}
