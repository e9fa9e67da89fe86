"""What changes a lake goes to the daemon: jobs, files, feature sets, deletions; and SQL, where it is allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from api import tokens
from api.app import create
from api.config import ServeConfig
from api.state import Served
from api.uploads import name_of
from daemon import deleting, featuring, taking_in
from daemon.control import ControlService
from daemon.jobs import Asked, JobsService
from lake.errors import LakeError, WrongQuestion
from lake.job_book import JobBook, Request
from lake.job_plan import BACKFILL
from lake.jobs import JobRow
from lake.lock import read_lock
from lake.writer import LakeWriter
from market import times
from runtime.workers import InlineExecutor
from tests.lake.test_jobs import NOW, chunk
from tests.support.asgi import Answer, Asgi, alive
from tests.support.clock import ManualClock
from tests.support.hostile_sql import HOSTILE, fingerprint, spelt
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

BOUNDARY = "e9c1"
TRADES = "time,price,qty,side,id\n" + "".join(f"{1_570_752_000 + n},1.5,2,buy,{n + 1}\n" for n in range(20))
TWENTY = [trade(T0 + n, "1", "1", n + 1) for n in range(20)]
FEATURES = "time,alpha\n2026-11-20T00:00:00Z,1.5\n2026-11-20T00:01:00Z,2.5\n"


class Fake:
    """A work that waits until it may go on."""

    def __init__(self, writer: LakeWriter, book: JobBook) -> None:
        self.writer, self.book = writer, book
        self.go = asyncio.Event()
        self.arguments: list[Mapping[str, Any]] = []
        self.fails = False

    async def plan(self, arguments: Mapping[str, Any], asked_by: str) -> Asked:
        self.arguments.append(arguments)
        if arguments.get("exchange") == "nowhere":
            raise WrongQuestion("unknown exchange 'nowhere'")
        told = Request(work="backfill", what="some past", arguments=arguments, priority=BACKFILL, asked_by=asked_by)
        return Asked(request=told, chunks=[chunk(0, "")], told={"parts": 1})

    async def run(self, job: JobRow, report: Any, stop: asyncio.Event) -> object:
        for one in self.writer.manifest.job_chunks(job.job):
            attempt = self.book.begun(one, NOW)
            report(1, 3, "at work")
            await self.go.wait()
            if self.fails:
                raise LakeError("the venue does not answer")
            self.book.ended(one, msgspec.structs.replace(attempt, rows=5), NOW)
        return {"rows": 5}


class Daemon:
    """The parts of one that take what changes a lake."""

    def __init__(self, root: Path) -> None:
        self.writer = LakeWriter.open(root, "node", NOW)
        self.clock = ManualClock(NOW)
        book = JobBook(self.writer)
        self.fake = Fake(self.writer, book)
        self.jobs = JobsService(self.writer, book, self.clock, {"backfill": self.fake}, lambda: False)
        taking = taking_in.control_job(self.writer, InlineExecutor(), "node", self.clock)
        works = {**self.jobs.control(), "features": featuring.control_job(self.writer, self.clock), "import": taking}
        self.control = ControlService(works, self.writer.set_control, self.clock)
        self.stop = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.tasks = [asyncio.ensure_future(one.run(self.stop)) for one in (self.jobs, self.control)]
        while not (info := read_lock(self.writer.root)) or not info.port:
            await asyncio.sleep(0.002)

    async def followed(self, job: str) -> None:
        """Returns once somebody hears of a job that is under way."""
        while not ((live := self.jobs._live.get(job)) and live.followers):
            await asyncio.sleep(0.002)

    async def end(self) -> None:
        self.stop.set()
        self.fake.go.set()
        await asyncio.gather(*self.tasks)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    held = Daemon(tmp_path / "lake")
    yield held
    await held.end()
    held.writer.close()


@pytest.fixture
async def here(daemon: Daemon) -> AsyncIterator[Asgi]:
    """The application over the daemon's lake, asked with a token of scope admin."""
    held = Served(daemon.writer.root, ServeConfig(sql=True), daemon.clock)
    token = tokens.make(daemon.writer.root, "admin", "admin", NOW)
    app = create(held)
    async with alive(app):
        yield Asgi(app, headers={"authorization": f"Bearer {token}"})
    held.close()


async def post(api: Asgi, path: str, value: object = None) -> Answer:
    body = b"" if value is None else msgspec.json.encode(value)
    return await api.ask("POST", path, body=body, content_type="application/json")


async def send(api: Asgi, path: str, name: str, data: str, **fields: str) -> Answer:
    """A file and fields, as a form sends them."""
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{data}\r\n--{BOUNDARY}--\r\n"
    )
    body = "".join(parts).encode()
    return await api.ask("POST", path, body=body, content_type=f"multipart/form-data; boundary={BOUNDARY}")


ORDER = {"exchange": "Binance", "symbol": "BTCUSDT", "market": "spot", "start_date": times.text(NOW - 5 * times.DAY)}


async def test_without_a_daemon_nothing_is_changed_and_the_sentence_says_so(here: Asgi, daemon: Daemon) -> None:
    for path, value in (
        ("/api/v1/ingest/download", ORDER),
        ("/api/v1/jobs", {"work": "backfill", "arguments": {}}),
    ):
        said = await post(here, path, value)
        assert (said.status, said.json()["error"]) == (409, "NoDaemon")
        assert "takes no jobs" in said.json()["detail"], "the test holds the lake as a command would"
    sent = await send(here, "/api/v1/ingest/file", "a.csv", TRADES, exchange="binance", market="spot", symbol="BTCUSDT")
    assert sent.status == 409
    daemon.writer.close()
    gone = await post(here, "/api/v1/ingest/download", ORDER)
    assert (
        gone.json()["detail"] == "no daemon writes this lake, so nothing can be changed: start one (python -m daemon)"
    )


async def test_a_download_is_a_job_that_is_watched_paused_and_cancelled(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    said = await post(here, "/api/v1/ingest/download", ORDER | {"data_type": "both"})
    assert said.status == 202, said.body
    job = said.json()["task_id"]
    assert daemon.fake.arguments[0] == {
        "exchange": "binance", "market_type": "spot", "kinds": ["kline", "funding_rate"], "symbols": ["BTCUSDT"],
        "start": NOW - 5 * times.DAY, "end": NOW,
    }  # fmt: skip
    while (await here.get("/api/v1/ingest/status")).json()["tasks"][0]["status"] != "running":
        await asyncio.sleep(0.002)
    listed = (await here.get("/api/v1/jobs")).json()
    assert (listed["total"], listed["jobs"][0]["job"]["asked_by"]) == (1, "REST API")
    shown = (await here.get(f"/api/v1/jobs/{job}")).json()
    assert (shown["progress"]["chunks"], len(shown["chunks"])) == (1, 1)
    watching = asyncio.ensure_future(here.get(f"/api/v1/jobs/{job}/events"))
    await daemon.followed(job)
    daemon.fake.go.set()
    events = (await watching).body.decode()
    assert 'event: progress\ndata: {"done":1,"total":3,"what":"at work"}' in events
    assert "event: done\n" in events
    assert (await post(here, f"/api/v1/jobs/{job}/pause")).status == 400, "it is over"
    assert b"event:" in (await here.get(f"/api/v1/jobs/{job}/events")).body
    daemon.fake.go.clear()
    other = (
        await post(here, "/api/v1/ingest/bulk-download", {"exchange": "ccxt:bitget", "symbols": ["A", "B"]})
    ).json()
    assert daemon.fake.arguments[-1]["symbols"] == ["A", "B"]
    assert (await post(here, f"/api/v1/jobs/{other['task_id']}/pause")).json()["state"] == "paused"
    assert (await post(here, f"/api/v1/jobs/{other['task_id']}/cancel")).json()["state"] == "cancelled"
    assert [one["job"]["state"] for one in (await here.get("/api/v1/jobs", state="cancelled")).json()["jobs"]] == [
        "cancelled"
    ]


async def test_a_job_that_fails_says_why_to_who_watches(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    daemon.fake.fails = True
    job = (await post(here, "/api/v1/ingest/download", ORDER)).json()["task_id"]
    watching = asyncio.ensure_future(here.get(f"/api/v1/jobs/{job}/events"))
    await daemon.followed(job)
    daemon.fake.go.set()
    assert "event: failed\ndata: " in (await watching).body.decode()


WRONG_ORDERS = [
    {"symbol": ""}, {"exchange": "nowhere"}, {"start_date": "2037-01-01"}, {"full_history": True}, {"data_type": "x"},
    {"start_date": "yesterday"}, {"more": 1}, {"end_date": "1970-01-01"},
]  # fmt: skip


async def test_a_wrong_order_is_refused_with_the_reason(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    for changed in WRONG_ORDERS:
        said = await post(here, "/api/v1/ingest/download", ORDER | changed)
        assert said.status in (400, 422), changed
        assert len(said.json()["detail"]) > 10
    assert (await here.get("/api/v1/jobs")).json()["total"] == 0
    assert (await here.get("/api/v1/jobs/none")).status == 404
    assert (await post(here, "/api/v1/jobs/none/pause")).status == 404


async def test_a_file_is_taken_in_once_and_a_dry_run_writes_nothing(here: Asgi, daemon: Daemon) -> None:
    fields = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT"}
    dry = await send(here, "/api/v1/ingest/file", "t.csv", TRADES, dry_run="true", **fields)
    assert dry.status == 200, dry.body
    assert (dry.json()["dry_run"], dry.json()["result"]["rows"]) == (True, 20)
    assert (await here.get("/api/v1/read/trade")).json()["count"] == 0
    await daemon.start()
    for already in (False, True):
        said = (await send(here, "/api/v1/ingest/file", "../../t.csv", TRADES, **fields)).json()
        assert (said["result"]["already"], said["understood"]["kind"]) == (already, "trade")
        assert "/tmp" not in json.dumps(said)
    assert (await here.get("/api/v1/read/trade")).json()["count"] == 20


async def test_a_dry_run_of_a_bought_book_says_which_parts_would_be_taken(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    fields = {"exchange": "binance", "market": "spot"}
    names = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    line = "binance,BTCUSDT,{0}000000,{0}000000,{1},bid,{2},1\n"
    first, second = (
        names + "".join(line.format(1585699200 + n, str(n == span[0]).lower(), 90 + n % 7) for n in span)
        for span in (range(60, 120), range(180))
    )
    said = (await send(here, "/api/v1/ingest/file", "a.csv", first, **fields)).json()["result"]
    assert (said["rows"], said["filled"]) == (60 + 1, None), "each second one, and the row clear behind them"
    for dry_run in ("true", "false"):
        done = await send(here, "/api/v1/ingest/file", "b.csv", second, dry_run=dry_run, **fields)
        result = done.json()["result"]
        assert (result["covered"], result["added"]) == (60, 5)
        assert [one["rows"] for one in result["filled"]["parts"]] == [60, 60]


async def test_a_file_that_is_none_is_refused(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    fields = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT"}
    for name, data in (("a.csv", ""), ("a.csv", "no\nidea\n"), ("a.zip", "PK"), ("a.parquet", "PAR1")):
        said = await send(here, "/api/v1/ingest/file", name, data, **fields)
        assert said.status == 400, (name, said.body)
    assert (await post(here, "/api/v1/ingest/file", {})).status == 422
    assert (await send(here, "/api/v1/ingest/file", "a.csv", TRADES, columns="x", **fields)).status == 400


@pytest.mark.parametrize(
    "given, kept",
    [("../../etc/passwd", "passwd"), ("a b.csv", "a_b.csv"), ("C:\\x\\y.csv.gz", "y.csv.gz"), ("", "file"),
     (".hidden", "hidden"), ("...", "file"), ("x" * 300 + ".csv", "x" * 116 + ".csv"), ("a\0b\n.csv", "a_b_.csv")],
)  # fmt: skip
def test_names_of_files_lead_nowhere(given: str, kept: str) -> None:
    assert name_of(given) == kept


async def test_a_feature_set_is_put_in_read_rolled_back_and_deleted(here: Asgi, daemon: Daemon) -> None:
    await daemon.start()
    fields = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "feature_set": "momentum"}
    first = await send(here, "/features/upload", "f.csv", FEATURES, **fields)
    assert first.status == 200, first.body
    entry = first.json()
    assert {"id", "exchange", "symbol", "market", "feature_set", "version", "path", "checksum", "created_at"} <= set(
        entry
    )
    again = await send(here, "/features/upload", "f.csv", FEATURES.replace("2.5", "3.5"), **fields)
    assert again.status == 400, "a version never changes"
    second = await send(
        here, "/api/v1/features/upload", "f.csv", FEATURES.replace("2.5", "3.5"), version="1.0.1", **fields
    )
    assert second.status == 200, second.body
    assert [one["version"] for one in (await here.get("/features", feature_set="Momentum")).json()] == [
        "1.0.0",
        "1.0.1",
    ]
    assert (await here.get("/api/v1/features", limit=1)).json()["total"] == 2
    (told,) = (await here.get("/features/sets")).json()["feature_sets"]
    assert told == {"name": "momentum", "exchange": "binance", "symbol": "BTCUSDT", "market": "spot",
                    "versions": ["1.0.0", "1.0.1"], "latest": "1.0.1"}  # fmt: skip
    values = await here.get(f"/features/{entry['id']}/download", format="arrow")
    assert pa.ipc.open_stream(values.body).read_all().column("alpha").to_pylist() == [1.5, 2.5]
    parquet = await here.get(f"/features/{entry['id']}/download")
    assert pq.read_table(pa.BufferReader(parquet.body)).column_names == ["ts_event", "known_at", "alpha"]
    assert (await here.get(f"/features/{entry['id']}")).json()["columns"] == {"alpha": "float"}
    for form in ("json", "jsonl", "csv", "parquet", "arrow"):
        wrong = await here.get(f"/features/{entry['id']}/download", format=form, start="2026-11-21", end="2026-11-20")
        assert (wrong.status, wrong.json()["error"]) == (400, "WrongQuestion"), form
    assert (await post(here, f"/api/v1/features/{entry['id']}/rollback")).status == 200
    assert [one["version"] for one in (await here.get("/features", version="latest")).json()] == ["1.0.0"]
    assert (await here.ask("DELETE", f"/features/{entry['id']}")).status == 200
    assert (await here.get(f"/features/{entry['id']}")).status == 404


async def test_sql_is_off_unless_it_is_allowed_and_asks_for_a_token(api: Asgi, here: Asgi) -> None:
    query = {"query": "SELECT 1 AS x"}
    assert (await post(api, "/api/v1/sql", query)).status == 401
    assert (await post(here, "/api/v1/sql", query)).json() == {
        "columns": ["x"], "rows": [{"x": 1}], "count": 1, "capped": None,
    }  # fmt: skip
    arrow = await here.ask("POST", "/api/v1/sql", {"format": "arrow"}, msgspec.json.encode(query),
                           content_type="application/json")  # fmt: skip
    assert pa.ipc.open_stream(arrow.body).read_all().to_pylist() == [{"x": 1}]
    wrong = await post(here, "/api/v1/sql", {"query": "SELECT nothing FROM trade"})
    assert (wrong.status, wrong.json()["error"]) == (400, "WrongQuestion")


async def test_errors_name_files_as_they_lie_in_the_lake(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    file = made.day("trade", [trade(T0, "10", "1", 1)])
    made.close()
    (made.root / file.path).write_bytes(b"PAR1")
    token = tokens.make(made.root, "sql", "read", NOW)
    held = Served(made.root, ServeConfig(sql=True), ManualClock(NOW))
    api = Asgi(create(held), headers={"authorization": f"Bearer {token}"})
    said = await post(api, "/api/v1/sql", {"query": "FROM trade"})
    held.close()
    assert (said.status, said.json()["error"]) == (500, "CorruptFile")
    assert said.json()["detail"].startswith(file.path)
    assert str(made.root) not in said.body.decode()


async def test_sql_that_is_off_says_which_setting_allows_it(lake: Path) -> None:
    held = Served(lake, ServeConfig(), ManualClock(NOW))
    token = tokens.make(lake, "sql", "read", NOW)
    said = await post(
        Asgi(create(held), headers={"authorization": f"Bearer {token}"}), "/api/v1/sql", {"query": "SELECT 1"}
    )
    tokens.revoke(lake, "sql")
    held.close()
    assert (said.status, said.json()["detail"]) == (403, "SQL over HTTP is off: serve.sql: true allows it")


async def test_hostile_sql_changes_no_file_and_reads_none_outside(here: Asgi, daemon: Daemon) -> None:
    root = daemon.writer.root
    before = fingerprint(root)
    for query in HOSTILE[21:52:30]:
        if "\ud800" in query:
            continue  # no JSON can say it
        said = await post(here, "/api/v1/sql", {"query": spelt(query, root, "tables/none.parquet")})
        assert said.status in (400, 422), (query, said.body)
        assert b"root:" not in said.body
    assert fingerprint(root) == before


async def test_a_dataset_is_deleted_only_when_confirmed_and_its_days_are_gaps(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    made.day("trade", TWENTY)
    made.day("trade", [trade(T0, "1", "1", 1, symbol="ETHUSDT")], symbol="ETHUSDT")
    made.part("trade", [trade(T0 + 86_400_000_000, "1", "1", 99)])
    job = deleting.control_job(made.writer, ManualClock(NOW))
    control, stop = ControlService({"delete": job}, made.writer.set_control, ManualClock(NOW)), asyncio.Event()
    task = asyncio.ensure_future(control.run(stop))
    while not (info := read_lock(made.root)) or not info.port:
        await asyncio.sleep(0.002)
    held = Served(made.root, ServeConfig(), ManualClock(NOW))
    token = tokens.make(made.root, "admin", "admin", NOW)
    api = Asgi(create(held), headers={"authorization": f"Bearer {token}"})
    path = "/api/v1/datasets/binance:linear:trade:BTCUSDT"
    for wrong in (None, "x", "é"):
        first = await api.ask("DELETE", path, **({"x_confirm": wrong} if wrong else {}))
        assert (first.status, first.json()["deleted_files"], first.json()["rows"]) == (428, 1, 20)
    assert "1 daily file with 20 rows of binance:linear:trade:BTCUSDT would be deleted" in first.json()["detail"]
    assert held.lake.read("trade", symbol="BTCUSDT").num_rows == 21
    confirm = first.json()["confirm"]
    other = "/api/v1/datasets/binance:linear:trade:ETHUSDT"
    assert (await api.ask("DELETE", other, x_confirm=confirm)).status == 428, "of these files, and of no others"
    done = await api.ask("DELETE", path, x_confirm=confirm)
    assert (done.status, done.json()["status"], done.json()["shared_files_left"]) == (200, "deleted", 1)
    assert held.lake.read("trade", symbol="BTCUSDT").num_rows == 1, "the hot row is of a day that is not closed"
    assert held.lake.read("trade", symbol="ETHUSDT").num_rows == 1
    (gap,) = held.lake.gaps(state="unrepairable")
    assert (gap.cause, gap.symbol, gap.id_from, gap.id_to) == ("deleted", "BTCUSDT", 1, 21)
    assert not list((made.root / "tables").rglob("*BTCUSDT*/**/*.parquet")), "no dead links"
    assert (await api.ask("DELETE", path, x_confirm=confirm)).status == 404
    both = "/api/v1/ingest/exchanges/Binance/markets/linear/history"
    shown = await api.ask("DELETE", both, {"symbol": "ethusdt"})
    gone = await api.ask("DELETE", both, {"symbol": "ethusdt"}, x_confirm=shown.json()["confirm"])
    assert {"status", "deleted_entries", "deleted_files", "message"} <= set(gone.json())
    held.close()
    stop.set()
    await task
    made.close()
