"""OKX's books of static.okx.com: whole books and changes as lines of a tar.gz, without ids, and onto a lake's book."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors.files.archive import planning, series
from collectors.files.archive.facts import NOTHING, Allowed
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.archiving import Done, archive_job, look
from daemon.config import Config
from lake import Lake
from lake.errors import BookUnknown, WrongQuestion
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.session import Coverage
from market.times import DAY, HOUR, MINUTE, MS, Interval, day_start
from runtime.workers import InlineExecutor
from tests.support.archive_host import ArchiveHost, archive_host
from tests.support.past import Quick

SYMBOL = "BTC-USDT-SWAP"
DATE, NEXT, THIRD = "2026-05-08", "2026-05-09", "2026-05-10"
OF = series.series_of("okx", "linear", "book_delta", SYMBOL)
FILE = ArchiveFile(DATE, OF)
AT = day_start(dt.date.fromisoformat(DATE))
NOW = AT + 10 * DAY
SMALL = Caps(packed=1 << 20, unpacked=8 << 20, ratio=200, small=1 << 20)


def line(at: int, action: str, bids: Mapping[str, str], asks: Mapping[str, str]) -> dict[str, Any]:
    """A line of such a file, `at` ms into the day."""
    sides = {
        name: [[price, qty, "0" if qty == "0" else "2"] for price, qty in levels.items()]
        for name, levels in (("asks", asks), ("bids", bids))
    }
    return {"instId": SYMBOL, "action": action, "ts": str(AT // MS + at), **sides}


LINES = [
    line(4, "snapshot", {"101": "1.5", "100.5": "7"}, {"102": "2", "103": "4"}),
    line(14, "update", {"101": "0"}, {}),
    line(14, "update", {}, {"102": "0", "102.5": "1"}),
    line(24, "update", {"101.50": "3"}, {}),
    line(900_008, "snapshot", {"99": "5"}, {"105": "6"}),
    line(900_018, "update", {}, {"105": "9"}),
]


def text(lines: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(one, separators=(',', ':'))}\n" for one in lines).encode()


def tarred(
    members: Mapping[str, bytes], change: Callable[[tarfile.TarInfo], object] = lambda _: None, **how: Any
) -> bytes:
    """A tar, not packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **{"format": tarfile.USTAR_FORMAT, **how}) as made:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            change(entry)
            made.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def member(file: ArchiveFile = FILE) -> str:
    return f"{file.name.removesuffix('.tar.gz')}.data"


def packed(lines: list[dict[str, Any]], file: ArchiveFile = FILE) -> bytes:
    return gzip.compress(tarred({member(file): text(lines)}), mtime=0)


def read(data: bytes, allowed: Allowed = NOTHING) -> tuple[pl.DataFrame, Reading]:
    reading = Reading(FILE, allowed)
    return pl.concat(reading.batches(blocks(io.BytesIO(data), FILE, SMALL))), reading


def test_lines_are_whole_books_and_changes_whose_ids_are_their_times() -> None:
    rows, reading = read(packed(LINES))
    assert rows["flags"].to_list() == ["snapshot", "", "", "", "snapshot", ""]
    times = [AT + at * MS for at in (4, 14, 14, 24, 900_008, 900_018)]
    assert rows["ts_event"].to_list() == times
    ids = [times[0], times[1], times[1] + 1, *times[3:]]
    assert rows["last_id"].to_list() == ids, "two lines of one time are two rows, in their order"
    assert rows["prev_id"].to_list() == [None, *ids[:3], None, ids[4]]
    assert rows["frame_no"].to_list() == [1, 2, 3, 4, 5, 6]
    assert rows["bids"][3].to_list() == [{"price": "101.50", "qty": "3"}]
    assert rows["asks"][3].to_list() == []
    assert set(rows["symbol"]) == {SYMBOL}
    assert reading.facts.unit == "ms"
    assert reading.coverage == [Interval(times[0], times[-1] + 1)]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ids_go_on_over_pieces_of_a_file(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole, _ = read(packed(LINES))
    monkeypatch.setattr("collectors.files.archive.rows.BATCH_ROWS", size)
    rows, reading = read(packed(LINES))
    assert rows.equals(whole)
    assert (reading.facts.first_id, reading.facts.last_id) == (whole["last_id"][0], whole["last_id"][-1])


def test_many_lines_of_one_time_keep_their_order() -> None:
    """More than there are microseconds until the next: ids go on rising behind them."""
    lines = [LINES[0], *[line(14, "update", {"101": f"{n}"}, {}) for n in range(1, 1101)], LINES[3]]
    rows, _ = read(packed(lines))
    ids = rows["last_id"].to_list()
    assert ids[1:1101] == [AT + 14 * MS + n for n in range(1100)]
    assert ids[-1] == AT + 24 * MS


def changed(place: int, **fields: Any) -> Callable[[], bytes]:
    """The file with one line that is otherwise; None is a field that is not there."""

    def made() -> bytes:
        lines = [dict(one) for one in LINES]
        lines[place] |= fields
        lines[place] = {name: value for name, value in lines[place].items() if value is not None}
        return packed(lines)

    return made


CONTENT: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "another instrument": (changed(2, instId="BTC-USDT"), "value", "line 3: instId is not BTC-USDT-SWAP: 'BTC-USDT'"),
    "no instrument": (changed(2, instId=None), "value", "line 3: instId"),
    "another action": (changed(1, action="delete"), "value", "line 2: action is neither snapshot nor update"),
    "a change first": (lambda: packed(LINES[1:]), "order", "line 1: action is no whole book, which a file begins with"),
    "no time": (changed(0, ts=None), "value", "line 1: ts is not there"),
    "a time in words": (changed(1, ts="now"), "value", "line 2: ts is no time"),
    "a time with a fraction": (changed(1, ts=f"{AT // MS + 14}.5"), "value", "line 2: ts is no integer"),
    "seconds": (changed(0, ts=str(AT // 1_000_000)), "unit", "its times are in s"),
    "microseconds": (changed(3, ts=str(AT + 24 * MS)), "unit", "line 4: ts is no time in ms"),
    "time goes back": (changed(3, ts=str(AT // MS + 13)), "order", "line 4: ts .* is not after the line before it"),
    "the day before": (changed(0, ts=str(AT // MS - 1)), "period", "line 1: ts 2026-05-07T23:59:59.999Z is not"),
    "the next day": (changed(5, ts=str((AT + DAY) // MS)), "period", "line 6: ts 2026-05-09T00:00:00Z is not"),
    "no bids": (changed(1, bids=None), "value", "line 2: bids is not there"),
    "a price that is a number": (changed(1, bids=[[101.1, "0", "0"]]), "value", "numbers that are no texts"),
    "a quantity that is a number": (changed(1, bids=[["101", 1e-9, "0"]]), "value", "numbers that are no texts"),
    "no lists": (changed(1, bids={"101": "0"}), "columns", "is no such JSON"),
    "no JSON": (lambda: gzip.compress(tarred({member(): text(LINES) + b"<html>\n"})), "columns", "is no such JSON"),
    "a cut line": (lambda: gzip.compress(tarred({member(): text(LINES)[:-5]})), "columns", "cut short"),
    "no line": (lambda: packed([]), "columns", "it is empty"),
}  # fmt: skip


def test_a_time_that_goes_back_is_found_over_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.files.archive.rows.BATCH_ROWS", 3)
    with pytest.raises(Refused, match=r"line 4: ts .* is not after"):
        read(changed(3, ts=str(AT // MS + 13))())
    rows, _ = read(packed(LINES))
    assert rows["flags"][3] == "", "only the file's first line has to be whole"


def of_type(kind: bytes) -> Callable[[], bytes]:
    """An entry that is no plain file."""

    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = kind, "/etc/passwd"

    return lambda: gzip.compress(tarred({member(): b""}, change))


def named(name: str, **how: Any) -> Callable[[], bytes]:
    return lambda: gzip.compress(tarred({name: text(LINES)}, **how))


def ended(cut: int, *more: bytes) -> Callable[[], bytes]:
    """A sound gzip of a tar that ends elsewhere; `cut` of its bytes, and what comes behind them."""
    return lambda: gzip.compress(tarred({member(): text(LINES)})[:cut] + b"".join(more))


def sized(size: int) -> Callable[[], bytes]:
    """A tar whose record says another size."""

    def made() -> bytes:
        entry = tarfile.TarInfo(member())
        entry.size = size
        return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + text(LINES) + bytes(4096))

    return made


def flipped() -> bytes:
    data = bytearray(packed(LINES))
    data[len(data) // 2] ^= 0x40
    return bytes(data)


LENGTH = len(text(LINES))
FULL = 512 + LENGTH + -LENGTH % 512
TARS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no gzip": (lambda: b"<html>not found</html>" * 3, "gz", "cannot be unpacked"),
    "nothing": (lambda: b"", "gz", "it is cut short, or none"),
    "truncated": (lambda: packed(LINES)[:-9], "gz", "it is cut short"),
    "truncated early": (lambda: packed(LINES)[:40], "gz", "it is cut short"),
    "flipped byte": (flipped, "gz", "cannot be unpacked"),
    "not packed": (lambda: tarred({member(): text(LINES)}), "gz", "cannot be unpacked"),
    "no tar": (lambda: gzip.compress(text(LINES)), "tar", "is no tar"),
    "an empty tar": (lambda: gzip.compress(tarred({})), "tar", "is no tar, or an empty one"),
    "two files": (
        lambda: gzip.compress(tarred({member(): text(LINES), "b.data": b"1\n"})), "tar", "it holds 'b.data' too"
    ),
    "a second file behind the end": (
        ended(FULL, bytes(1024), tarred({"b.data": b"1\n"})), "tar", "something behind the end"
    ),
    "something in the padding": (ended(512 + LENGTH, b"x" * (-LENGTH % 512), bytes(1024)), "tar", "behind the end"),
    "no end": (ended(FULL), "tar", "it does not end as a tar does"),
    "cut in its file": (ended(FULL - 600), "tar", "it holds .* bytes of .* and says"),
    "outside": (named(f"../{member()}"), "tar", "is expected"),
    "a full path": (named(f"/etc/{member()}"), "tar", "is expected"),
    "in a folder": (named(f"a/{member()}"), "tar", "is expected"),
    "another day": (named(member(ArchiveFile(NEXT, OF))), "tar", "it holds .*-2026-05-09.data'"),
    "another depth": (named(member().replace("400", "5000")), "tar", "is expected"),
    "a long name": (named("x" * 300, format=tarfile.GNU_FORMAT), "tar", "is expected"),
    "a link": (of_type(tarfile.SYMTYPE), "tar", "is no plain file"),
    "a hard link": (of_type(tarfile.LNKTYPE), "tar", "is no plain file"),
    "a folder": (of_type(tarfile.DIRTYPE), "tar", "is no plain file"),
    "a device": (of_type(tarfile.CHRTYPE), "tar", "is no plain file"),
    "a sparse file": (of_type(tarfile.GNUTYPE_SPARSE), "tar", "is no plain file"),
    "a negative size": (sized(-4096), "tar", "is no plain file"),
    "more than it holds": (sized(LENGTH + 5000), "tar", "and says"),
    "less than it holds": (sized(LENGTH - 600), "tar", "behind the end of"),
    "too large": (sized(9 << 20), "size", "are taken"),
    "a bomb that says so": (sized(2 << 20), "size", "a bomb"),
    "a bomb that says nothing": (lambda: gzip.compress(bytes(4 << 20)), "size", "a bomb"),
    "a bomb behind its end": (ended(FULL, bytes(4 << 20)), "size", "a bomb"),
    "a bomb of names": (
        named(member(), format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 70_000}), "tar", "is expected"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENT | TARS)
def test_what_is_not_one_file_of_that_name_with_its_lines_is_refused_by_rule(name: str) -> None:
    made, rule, said = (CONTENT | TARS)[name]
    with pytest.raises(Refused, match=said) as caught:
        read(made())
    assert (caught.value.rule, caught.value.name) == (rule, FILE.name)
    assert caught.value.fix


@pytest.mark.parametrize(
    "how", [{"format": tarfile.GNU_FORMAT}, {"format": tarfile.PAX_FORMAT, "pax_headers": {"a": "b"}}]
)
@pytest.mark.parametrize("block", [256, 12 << 20])
def test_any_form_of_a_tar_and_pieces_of_any_size_give_the_same(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], block: int
) -> None:
    monkeypatch.setattr("collectors.files.archive.gzips.BLOCK", block)
    monkeypatch.setattr("collectors.files.archive.gzips.MOST", min(block, 4 << 20))
    rows, _ = read(gzip.compress(tarred({member(): text(LINES)}, **how)))
    assert rows.equals(read(packed(LINES))[0])


def test_days_are_those_of_utc_and_files_lie_in_two_places() -> None:
    assert FILE.places == (
        "okx/match/orderbook/pro/L2/400lv/daily/20260508/BTC-USDT-SWAP-L2orderbook-400lv-2026-05-08.tar.gz",
        "okx/match/orderbook/L2/400lv/daily/20260508/BTC-USDT-SWAP-L2orderbook-400lv-2026-05-08.tar.gz",
    )
    assert FILE.span == Interval(AT, AT + DAY)
    day = dt.date.fromisoformat(DATE)
    assert planning.file_dates(OF, day, day) == (day, day)
    trades = series.series_of("okx", "linear", "trade", SYMBOL)
    assert planning.file_dates(trades, day, day) == (day, day + dt.timedelta(days=1)), "those of trades are of UTC+8"
    assert ArchiveFile(DATE, trades).span.start == AT - 8 * HOUR
    with pytest.raises(WrongQuestion, match="published 3 days after it"):
        planning.span(OF, DATE, DATE, day)
    with pytest.raises(WrongQuestion, match="begins in 2023"):
        planning.span(OF, "2023-02-28", DATE, day)
    assert planning.span(trades, "2023-02-28", DATE, day + dt.timedelta(days=1))[0] == dt.date(2023, 2, 28)


@pytest.fixture
def host() -> Iterator[ArchiveHost]:
    with archive_host() as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    LakeWriter.open(tmp_path / "lake", "node", NOW).close()
    return tmp_path / "lake"


def wanted(**changed: Any) -> dict[str, Any]:
    told = {"exchange": "okx", "market_type": "linear", "kind": "book_delta", "symbols": [SYMBOL]}
    return {**told, "first": DATE, "last": DATE, **changed}


def ask(root: Path, host: ArchiveHost | None = None, **changed: Any) -> Done:
    mirrors = {"okx": {"base": host.address}} if host is not None else {}
    config = Config.model_validate({"archives": {"mirrors": mirrors}, "collectors": {"node": "node"}})
    if not root.exists():
        return look(root, Quick(NOW), wanted(**changed), config)
    with LakeWriter.open(root, "node", NOW) as writer:
        return archive_job(writer, InlineExecutor(), Quick(NOW), wanted(**changed), config, lambda *_: None)


def moved(lines: list[dict[str, Any]], days: int) -> list[dict[str, Any]]:
    return [one | {"ts": str(int(one["ts"]) + days * DAY // MS)} for one in lines]


def test_each_day_is_asked_for_where_files_lie_now_and_then_where_they_lay(root: Path, host: ArchiveHost) -> None:
    after = ArchiveFile(NEXT, OF)
    host.files[FILE.places[0]] = packed(LINES)
    host.files[FILE.places[1]] = b"not this one"
    host.files[after.places[1]] = packed(moved(LINES, 1), after)
    planned = ask(root.parent / "none", host, last=THIRD)
    assert ([one.state for one in planned.files], planned.missing) == (["wanted"] * 2, {SYMBOL: [THIRD]})
    gone = ArchiveFile(THIRD, OF)
    assert {path for path, _ in host.asked} == {FILE.places[0], *after.places, *gone.places}
    done = ask(root, host, last=THIRD)
    assert [(one.state, one.rows, one.what) for one in done.files] == [("taken", 6, "")] * 2
    (rest,) = done.rest
    assert (rest.start, rest.command) == (f"{THIRD}T00:00:00Z", "")
    with closing(Manifest.read_only(root)) as manifest:
        urls = [row.url.partition("#")[0] for row in manifest.sessions(exchange="okx")]
    assert urls == [f"{host.address}/{FILE.places[0]}", f"{host.address}/{after.places[1]}"]
    host.files[after.places[0]] = host.files.pop(after.places[1])
    assert [one.state for one in ask(root, host, last=NEXT).files] == ["known", "known"], "the same bytes, moved"


def test_a_host_that_has_had_enough_has_not_said_that_there_is_no_file(root: Path, host: ArchiveHost) -> None:
    host.files[FILE.places[1]] = packed(LINES)
    host.faults[FILE.places[0]] = "forbidden"
    with pytest.raises(Refused, match="not to be had: the host answers 403"):
        ask(root, host)
    assert FILE.places[1] not in {path for path, _ in host.asked}


def test_a_day_comes_in_and_is_a_book_at_any_time(root: Path, tmp_path: Path) -> None:
    """From a folder without the first folder of its path, and with a level that is no number."""
    place = tmp_path / "mirror" / FILE.places[1].removeprefix("okx/")
    place.parent.mkdir(parents=True)
    bad = line(900_028, "update", {"99": "1e"}, {})
    later = [line(900_038, "update", {"99": "1"}, {}), line(1_800_009, "snapshot", {"98": "1"}, {"99": "2"})]
    place.write_bytes(packed([*LINES, bad, *later]))
    done = ask(root, source=str(tmp_path / "mirror"))
    assert [(one.state, one.rows, one.quarantined) for one in done.files] == [("taken", 8, 1)]
    with LakeWriter.open(root, "node", NOW) as writer:
        assert not compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), retention=False).failures
    lake = Lake(root)

    def book(ms: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        found = lake.book(SYMBOL, exchange="okx", market_type="linear", at=AT + ms * MS)
        return found.bids, found.asks

    assert book(13) == ([("101", "1.5"), ("100.5", "7")], [("102", "2"), ("103", "4")])
    assert book(14) == ([("100.5", "7")], [("102.5", "1"), ("103", "4")])
    assert book(30) == ([("101.5", "3"), ("100.5", "7")], [("102.5", "1"), ("103", "4")])
    assert book(900_020) == ([("99", "5")], [("105", "9")])
    with pytest.raises(BookUnknown, match="are missing"):
        book(900_040)
    assert book(1_800_009) == ([("98", "1")], [("99", "2")])
    rows = lake.read("book_delta", exchange="okx", columns=["source", "ts_publish", "flags"]).to_pylist()
    assert {(row["source"], row["ts_publish"]) for row in rows} == {("archive", None)}
    place.write_bytes(packed([*LINES[:3], line(24, "update", {"101.50": "3.25"}, {}), *LINES[4:], *later]))
    (one,) = ask(root, source=str(tmp_path / "mirror")).files
    assert (one.state, one.added, one.changed, one.removed) == ("replaced", 0, 2, 0), "and the line behind the bad one"
    assert book(30)[0] == [("101.5", "3.25"), ("100.5", "7")]
    assert book(900_040)[0] == [("99", "1")]


def test_a_day_of_which_the_lake_holds_a_part_is_left_to_it(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "mirror" / FILE.path
    place.parent.mkdir(parents=True)
    place.write_bytes(packed(LINES))
    stream = ("okx", "linear", "book_delta", SYMBOL, "node-1")
    with LakeWriter.open(root, "node", NOW) as writer:
        writer.record_coverage([Coverage(*stream, AT + HOUR, AT + HOUR + MINUTE)])
    (one,) = ask(root, source=str(tmp_path / "mirror")).files
    assert (one.state, one.rule, one.rows) == ("refused", "held", 0)
    assert Lake(root).read("book_delta", exchange="okx").num_rows == 0
