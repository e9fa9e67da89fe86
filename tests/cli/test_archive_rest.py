"""`dl archive --rest` from end to end: files of one day, the venue's routes for those around it, the market's truth."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors.http import Answer, Http
from lake import Lake
from lake.manifest import Manifest
from market.times import Interval
from runtime.workers import InlineExecutor
from simulator import venues
from tests.support.archive_twins import DAYS, Published, published

DATE = DAYS[1]


class Inline(InlineExecutor):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def kill(self) -> None:
        """Nothing runs beside the caller."""


class Case(NamedTuple):
    """What is asked for."""

    exchange: str
    market_type: str
    kind: str


CASES = (
    Case("binance", "spot", "trade"),
    Case("binance", "linear", "kline"),
    Case("okx", "spot", "trade"),  # whose files are days of UTC+8, and whose pages go back in time
)


@pytest.fixture(params=CASES, ids=lambda one: "-".join(one[:3]))
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


@pytest.fixture
def twin(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    with published(tmp_path, case.exchange) as made:
        monkeypatch.setattr("runtime.clock.SystemClock", lambda: made.hub.clock)
        monkeypatch.setattr("cli.jobs.SystemClock", lambda: made.hub.clock)
        monkeypatch.setattr("cli.jobs.Workers", Inline)
        yield made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each request that left."""
    fetch, made = Http.fetch, list[str]()

    async def watched(http: Http, method: str, url: str) -> Answer:
        made.append(url)
        return await fetch(http, method, url)

    monkeypatch.setattr(Http, "fetch", watched)
    return made


def lay(twin: Published, mirror: Path) -> None:
    """The day's files in a folder, as somebody has copied them."""
    for path, make in twin.files.items():
        if DATE in path:
            (mirror / path).parent.mkdir(parents=True, exist_ok=True)
            (mirror / path).write_bytes(make())
            if twin.module.SUMS:
                told = f"{hashlib.new(twin.module.SUMS, make()).hexdigest()}  {path.rpartition('/')[2]}\n"
                (mirror / f"{path}.CHECKSUM").write_text(told)


def truth(twin: Published, case: Case) -> list[tuple[Any, ...]]:
    """All that was traded from the first day to the last."""
    book = twin.book(case.market_type)
    if case.kind == "trade":
        return [(one.id, one.ts, float(one.price), float(one.qty)) for one in book.trades]
    return [
        (0, one.open_time, float(book.price(one.open)), float(book.price(one.close)))
        for one in book.candles.read("1m")
    ]  # fmt: skip


def stored(root: Path, case: Case) -> dict[tuple[Any, ...], str]:
    """Every row of the lake, with its source; none twice."""
    names = ("ts_event", "price", "qty") if case.kind == "trade" else ("open_time", "open", "close")
    rows = Lake(root).read(case.kind, exchange=case.exchange).to_pylist()
    made = {(row.get("seq") or 0, us(row[names[0]]), row[names[1]], row[names[2]]): row["source"] for row in rows}
    assert len(made) == len(rows)
    return made


def us(at: dt.datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def test_files_give_what_they_hold_and_routes_the_rest(
    tmp_path: Path, twin: Published, case: Case, asked: list[str]
) -> None:
    lay(twin, tmp_path / "mirror")
    book, host = twin.book(case.market_type), urlsplit(twin.address).netloc
    source = {"exchange": case.exchange, "market_type": case.market_type, "symbols": [book.symbol]}
    endpoint = {"rest": venues.load(case.exchange).bases(case.market_type, host)[0]}
    config = tmp_path / "config.yml"
    config.write_text(
        json.dumps(
            {
                "lake": "lake",
                "disk": {"low_percent": 0, "ballast_mb": 1},
                "collectors": {"node": "n", "sources": [source | {"kinds": [case.kind], "endpoint": endpoint}]},
            }
        )
    )
    words = [
        "archive", "--exchange", case.exchange, "--market-type", case.market_type, "--symbol", book.symbol, "--kind",
        case.kind, *(["--interval", "1m"] if case.kind == "kline" else []), "--from", DAYS[0], "--to", DAYS[2],
        "--source", str(tmp_path / "mirror"), "--config", str(config),
    ]  # fmt: skip
    first = CliRunner().invoke(app, words, env={"COLUMNS": "250"})
    assert (first.exit_code, asked) == (1, []), first.output
    files = stored(tmp_path / "lake", case)
    assert set(files.values()) == {"archive"}
    done = CliRunner().invoke(app, [*words, "--rest"], env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    assert f"asking REST for {book.symbol}, {DAYS[0]}T00:00:00Z to " in done.output
    held = stored(tmp_path / "lake", case)
    assert sorted(held) == truth(twin, case)
    assert {row for row, brought in held.items() if brought == "archive"} == set(files)
    assert set(held.values()) == {"archive", "rest"}
    with contextlib.closing(Manifest.read_only(tmp_path / "lake")) as manifest:
        (job,) = (one for one in manifest.jobs() if one.work == "backfill")
        parts = [Interval(one.ts_from, one.ts_to) for one in manifest.job_chunks(job.job)]
    twice = {row[1] for row in files if any(part.start < row[1] < part.end - 1 for part in parts)}
    assert not twice, "the files gave that"
    (fetched,) = re.findall("([0-9]+) rows in [0-9]+ requests; ", done.output)
    shown = sum(any(row[1] in (part.start, part.end - 1) for part in parts) for row in files)
    assert int(fetched) - list(held.values()).count("rest") <= shown, "what lies at each border shows that they join"
    asked.clear()
    again = CliRunner().invoke(app, [*words, "--rest"], env={"COLUMNS": "250"})
    assert (again.exit_code, "nothing to ask for" in again.output) == (0, True), again.output
    assert (asked, stored(tmp_path / "lake", case)) == ([], held)
