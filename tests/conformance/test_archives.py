"""One suite for every venue's archive: each data set comes in from the venue's twin, and every defect is refused.

It finds the members by itself. A venue with a module `archive` brings a twin of it, `archive.py` in its folder of
`simulator/venues`, and a part "Its archive" in its page of docs/exchanges.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import io
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from collectors import exchanges
from collectors.adapters.archives import LINES
from collectors.files.archive import memory, series
from collectors.files.archive.facts import Allowed
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile, Series
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.archiving import Done, archive_job, look
from daemon.config import Config
from lake import Lake, layout
from lake.writer import LakeWriter
from market import kinds
from market.times import DAY, Interval, parse
from runtime.workers import InlineExecutor
from simulator import funding
from tests.support.archive_twins import DAYS, NOW, Published, closed, opened, published
from tests.support.clock import ManualClock

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs" / "exchanges"
WORTH = "0.01"
ALL = "family"
"""Files of all symbols of a family, beside those of one."""
CASES = [
    (name, market, dataset.kind, *([ALL] if dataset.family is not None else []))
    for name in series.names()
    for dataset in series.load(name).datasets
    for market in dataset.paths
]
NOT_TOLD = {
    ("binance", "quote"), ("binance", "open_interest"), ("binance", "liquidation"), ("bybit", "book_delta"),
    ("okx", "book_delta"),
}  # fmt: skip
"""What no twin publishes: data sets that have ended, and what its market does not keep; other tests read them."""
TOLD = [case for case in CASES if (case[0], case[2]) not in NOT_TOLD]
ONE_EACH = [
    (name, next(iter(dataset.paths)), dataset.kind, *([ALL] if dataset.family is not None else []))
    for name in series.names()
    for dataset in series.load(name).datasets
    if dataset.kind == "trade" and name != "binance"  # tests/daemon/test_archiving.py changes its files
]
TIMES = ("time", "timestamp", "transact_time", "calc_time", "open_time", "trade_time", "created_time")


class Quick(ManualClock):
    """Waits for nothing."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Case(NamedTuple):
    """One data set of one market, as its twin has it."""

    twin: Published
    series: Series

    @property
    def size(self) -> str | None:
        dataset = self.series.dataset
        return WORTH if self.series.market_type in (*dataset.sized, *dataset.sizeable) else None

    @property
    def file(self) -> ArchiveFile:
        """The one of the second day, or its month."""
        period = "daily" if "daily" in self.series.periods else "monthly"
        return ArchiveFile(series.date_in(dt.date.fromisoformat(DAYS[1]), period), self.series)

    def mine(self, rows: list[str], least: int) -> int:
        """Which of its lines, not before the `least`, is of its symbol."""
        named = f"{self.series.symbol}," if self.series.family else ""
        return next(place for place, row in enumerate(rows) if place >= least and row.startswith(named))

    def data(self, file: ArchiveFile | None = None) -> bytes:
        return self.twin.files[(file or self.file).path]()


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Published]]:
    held: dict[str, tuple[Any, Published]] = {}

    def get(venue: str) -> Published:
        if venue not in held:
            made = published(tmp_path_factory.mktemp(venue), venue)
            held[venue] = (made, made.__enter__())
        return held[venue][1]

    yield get
    for made, _ in held.values():
        made.__exit__(None, None, None)


@pytest.fixture
def case(request: pytest.FixtureRequest, twins: Callable[[str], Published]) -> Case:
    name, market, kind, *sort = request.param
    twin = twins(name)
    (known,) = [each for each in series.load(name).of(market, kind) if (each.family is not None) == (ALL in sort)]
    interval = "1m" if known.intervals else None
    symbol = next(symbol for symbol, _ in twin.dated(market)) if ALL in sort else twin.book(market).symbol
    return Case(twin, series.series_of(name, market, kind, symbol, interval))


every_case = pytest.mark.parametrize("case", TOLD, indirect=True, ids="-".join)


def ask(root: pathlib.Path, case: Case, first: str, last: str, source: str | None = None) -> Done:
    of = case.series
    told: dict[str, Any] = {
        "exchange": of.exchange, "market_type": of.market_type, "kind": of.kind, "symbols": [of.symbol], "first": first,
        "last": last,
    }  # fmt: skip
    more = {"interval": of.interval or None, "contract_size": case.size, "source": source}
    told |= {name: value for name, value in more.items() if value is not None}
    config = Config.model_validate({"archives": case.twin.config, "collectors": {"node": "node"}})
    if not root.exists():
        return look(root, Quick(NOW), told, config)
    with LakeWriter.open(root, "node", NOW) as writer:
        return archive_job(writer, InlineExecutor(), Quick(NOW), told, config, lambda *_: None)


def truth(case: Case, spans: list[Interval]) -> list[tuple[Any, ...]]:
    """(time, what is said) of every row of some periods, as the twin's market knows it."""
    book, kind = case.twin.book(case.series.market_type), case.series.kind
    inside = [at for span in spans for at in (span.start, span.end)]

    def within(at: int) -> bool:
        return any(low <= at < high for low, high in zip(inside[::2], inside[1::2], strict=True))

    if kind == "kline":
        return [
            (one.open_time, float(book.price(one.open)), float(book.price(one.high)), float(book.price(one.low)),
             float(book.price(one.close)))
            for one in book.candles.read("1m") if within(one.open_time)
        ]  # fmt: skip
    if kind == "funding_rate":
        times = sorted(funding.settlements(max(inside), min(inside) - 1))
        return [(at, float(funding.text(funding.settled(book.seed, at)))) for at in times if within(at)]
    held = book.trades if kind == "trade" else book.aggregates
    if case.series.family:
        held = [one for symbol, one in case.twin.dated(book.market) if symbol == case.series.symbol]
    return sorted(
        (one.ts, float(one.price), float(one.qty), "sell" if one.maker else "buy") for one in held if within(one.ts)
    )


def told(root: pathlib.Path, case: Case) -> list[tuple[Any, ...]]:
    rows = Lake(root).read(case.series.kind, exchange=case.series.exchange).to_pylist()
    names = {
        "kline": ("open_time", "open", "high", "low", "close"), "funding_rate": ("ts_event", "rate"),
    }.get(case.series.kind, ("ts_event", "price", "qty", "side"))  # fmt: skip
    assert {row["symbol"] for row in rows} <= {case.series.symbol}
    return sorted((_us(row[names[0]]), *(row[name] for name in names[1:])) for row in rows)


def _us(at: dt.datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


@every_case
def test_a_data_set_comes_in_as_the_twin_traded_and_is_known_again(tmp_path: pathlib.Path, case: Case) -> None:
    root = tmp_path / "lake"
    first, last = DAYS[1], DAYS[1]
    if case.file.period == "monthly":
        first, last = "2026-11-01", "2026-11-30"
    planned = ask(tmp_path / "none", case, first, last)
    assert {one.state for one in planned.files} == {"wanted"}
    LakeWriter.open(root, "node", NOW).close()
    done = ask(root, case, first, last)
    assert (done.ok, [one.state for one in done.files]) == (True, ["taken"] * len(planned.files)), done
    known = list(memory.every(root, case.series.exchange))
    spans = [one.file.span for one in known if one.file is not None and one.had.bytes]
    assert len(spans) == len(done.files)
    asked = Interval(parse(first), parse(last) + DAY)
    assert min(one.start for one in spans) <= asked.start < asked.end <= max(one.end for one in spans)
    held = told(root, case)
    assert held
    assert held == truth(case, spans)
    again = ask(root, case, first, last)
    assert [one.state for one in again.files] == ["known"] * len(done.files)
    assert told(root, case) == held
    assert not [path for path in (root / layout.ARCHIVES).rglob("*") if path.is_file() and path.suffix != ".json"]


def _read(case: Case, data: bytes) -> int:
    reading = Reading(case.file, Allowed(contract_size=case.size))
    caps = Caps(packed=1 << 22, unpacked=1 << 25, ratio=200, small=1 << 20)
    return sum(piece.height for piece in reading.batches(blocks(io.BytesIO(data), case.file, caps)))


def _lines(case: Case, change: Callable[[list[str], list[str]], list[str]], file: ArchiveFile | None = None) -> bytes:
    """The file with other lines: `change` is given the names of its columns and the rows."""
    name, data = opened(case.data(file))
    lines = data.decode().splitlines()
    names = case.series.dataset.header[case.series.market_type].split(",")
    head = lines[:1] if lines[0].lower().split(",")[0] == names[0].lower() else []
    made = [*head, *change(names, lines[len(head) :])]
    return closed(case.file.member or name, "".join(f"{line}\n" for line in made).encode())


def _scaled(names: list[str], rows: list[str]) -> list[str]:
    """Times in another unit than documented."""
    place = next(place for place, name in enumerate(names) if name in TIMES)
    made = []
    for row in rows:
        cells = row.split(",")
        whole = cells[place].partition(".")[0]
        cells[place] = whole[:-3] if len(whole) > 13 else f"{whole}000"
        made.append(",".join(cells))
    return made


@every_case
def test_a_file_that_is_not_what_it_says_is_refused_by_rule(case: Case) -> None:
    data, dataset = case.data(), case.series.dataset
    packing = "gz" if dataset.packing == "gz" else "zip"
    assert _read(case, data) == _read(case, _lines(case, lambda _, rows: rows))
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x40
    name, _ = opened(data)
    defects: dict[str, tuple[bytes, set[str]]] = {
        "flipped byte": (bytes(flipped), {packing, "columns"}),
        "cut": (data[: len(data) * 2 // 3], {packing}),
        "no file": (b"<html>not found</html>" * 3, {packing}),
        "empty": (closed(name, b""), {"columns"}),
        "bomb": (closed(name, b"0" * (24 << 20)), {"size"}),
        "last line cut": (closed(name, opened(data)[1][:-5]), {"columns"}),
        "a column more": (_lines(case, lambda _, rows: [f"{row},1,2,3" for row in rows]), {"columns", "header"}),
        "another unit": (_lines(case, _scaled), {"unit"}),
        "another header": (closed(name, b"a,b,c\n" + opened(data)[1]), {"header"}),
    }
    after = series.file_at(case.series, case.file.span.end, case.file.period)
    if after.path in case.twin.files:
        defects["another period"] = (_lines(case, lambda _, rows: rows, after), {"period"})
    if dataset.numbered or dataset.lines_numbered:

        def fewer(_: list[str], rows: list[str]) -> list[str]:
            gone = case.mine(rows, 5)
            return rows[:gone] + rows[gone + 1 :]

        defects["a row missing"] = (_lines(case, fewer), {"ids"})
    for what, (body, rules) in defects.items():
        with pytest.raises(Refused) as caught:
            _read(case, body)
        assert caught.value.rule in rules, (what, str(caught.value))
        assert caught.value.name == case.file.name
        assert caught.value.fix, what


@pytest.mark.parametrize("case", ONE_EACH, indirect=True, ids="-".join)
def test_a_file_that_its_publisher_changed_is_a_revision_that_says_what(tmp_path: pathlib.Path, case: Case) -> None:
    """From a folder, as from a host: with the same paths, and a CHECKSUM where the venue has them."""
    root, mirror = tmp_path / "lake", tmp_path / "mirror"
    for path, make in case.twin.files.items():
        if any(case.series.dates([path, f"{path}{series.SUM}"], period) for period in case.series.periods):
            _lay(case, mirror / path, make())
    LakeWriter.open(root, "node", NOW).close()
    done = ask(root, case, DAYS[1], DAYS[1], str(mirror))
    assert {one.state for one in done.files} == {"taken"}
    with LakeWriter.open(root, "node", NOW) as writer:
        assert not compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), retention=False).failures
    before = told(root, case)

    def cheaper(names: list[str], rows: list[str]) -> list[str]:
        place = case.mine(rows, 3)
        cells = rows[place].split(",")
        cells[names.index("price")] = "1.5"
        return [*rows[:place], ",".join(cells), *rows[place + 1 :]]

    _lay(case, mirror / case.file.path, _lines(case, cheaper))
    again = ask(root, case, DAYS[1], DAYS[1], str(mirror))
    (one,) = [each for each in again.files if each.state != "known"]
    changed = (0, 1, 0) if case.series.dataset.identity != LINES else (1, 0, 1)
    assert (one.state, (one.added, one.changed, one.removed)) == ("replaced", changed), one
    after = told(root, case)
    assert len(after) == len(before)
    assert len(set(after) - set(before)) == 1
    assert {one.state for one in ask(root, case, DAYS[1], DAYS[1], str(mirror)).files} == {"known"}


def _lay(case: Case, path: pathlib.Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if sums := case.series.archive.sums:
        digest = hashlib.new(sums, data, usedforsecurity=False).hexdigest()
        path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


@pytest.mark.parametrize("name", series.names())
def test_what_is_declared_holds_together(name: str) -> None:
    archive, venue = series.load(name), exchanges.load(name)
    assert urlsplit(archive.base).scheme == "https"
    assert re.fullmatch(archive.symbol, archive.example)
    assert set(archive.markets) <= set(venue.ENDPOINTS)
    assert bool(archive.lists) == (archive.listing is not None)
    for dataset in archive.datasets:
        kinds.kind(dataset.kind)
        for market, paths in dataset.paths.items():
            interval = next(iter(dataset.intervals.get(market, {})), None)
            example = archive.symbols(market, dataset).example
            assert archive.dataset(market, dataset.kind, example) is dataset
            of = series.series_of(name, market, dataset.kind, example, interval)
            for period in paths:
                file = ArchiveFile("2026-05-08"[: 10 if period == "daily" else 7], of)
                layout.archive_path(name, file.path)
                assert file.period == period
                assert file.path.startswith(archive.roots or "")
                assert of.dates([file.path, f"{file.path}{series.SUM}", "x"], period) == {file.date}
                assert of.bare([file.path, f"{file.path}{series.SUM}", "x"], period) == set()
                assert of.bare([file.path, "x"], period) == ({file.date} if archive.sums else set())
                assert series.file_at(of, file.span.start, period) == file
                assert dataset.units(market, file.span.start)
            assert {"seq", "trade_id"}.isdisjoint(dataset.identity) or dataset.kind in ("trade", "agg_trade")
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert "## Its archive" in page, "docs/exchanges says what is read of it and what is not"
    assert archive.base in page
