"""The loopback ports: health, readiness, metrics, status; jobs with a token; what a browser or a stranger may not."""

import asyncio
import json

import aiohttp
import pytest

from daemon.control import ControlService
from daemon.errors import StartFailed
from daemon.http import HttpService
from daemon.status import Status
from lake.lock import read_lock
from lake.rows import SegmentRow
from lake.writer import LakeWriter
from market import times
from market.session import Gap
from tests.support.clock import ManualClock
from tests.support.commands import dl, dl_json

NOW = times.parse("2026-11-20T10:00:00Z")


class Services:
    """A supervisor's answers."""

    def __init__(self, states):
        self._states = states

    def states(self):
        return self._states

    def status(self):
        return {name: {"state": state} for name, state in self._states.items()}


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as opened:
        yield opened


@pytest.fixture
async def serve():
    """`await serve(service)` runs it until the end of the test."""
    stop, tasks = asyncio.Event(), []

    async def start(service):
        tasks.append(asyncio.ensure_future(service.run(stop)))
        await asyncio.sleep(0)

    yield start
    stop.set()
    await asyncio.gather(*tasks)


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def http(serve, writer, services):
    service = HttpService("127.0.0.1", 0)
    await service.bind(Status(ManualClock(NOW), writer.manifest, Services(services), "live"))
    await serve(service)
    return service.address


async def test_health_readiness_and_metrics(serve, client, writer):
    services = {"a": "running", "b": "done"}
    address = await http(serve, writer, services)
    async with client.get(f"{address}/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"health": "ok"})
    async with client.get(f"{address}/ready") as answer:
        assert answer.status == 200
    services["a"] = "backoff"
    async with client.get(f"{address}/ready") as answer:
        assert (answer.status, await answer.json()) == (503, {"ready": False, "waiting": {"a": "backoff"}})
    async with client.get(f"{address}/metrics") as answer:
        assert answer.content_type == "text/plain"
        assert "# TYPE lake_up gauge" in await answer.text()


async def test_status_tells_each_stream_its_watermark_lag_and_gaps(serve, client, writer):
    key = {"exchange": "binance", "market_type": "spot", "kind": "trade"}
    path = "raw/exchange=binance/market_type=spot/data_type=trade/date=2026-11-20/095900-node-000001.jsonl"
    writer.record(
        segments=[
            SegmentRow(
                path=path, state="sealed", period_start=NOW - 60_000_000, period_end=NOW - 5_000_000, rows=0, **key
            )
        ]
    )
    writer.record_gaps([
        Gap(
            gap_id="g", symbol="BTCUSDT", ts_from=1, ts_to=2, id_from=5, id_to=8, cause="cut", proof="ids",
            state="open", session=None, detected_at=NOW, **key,
        )
    ])  # fmt: skip
    address = await http(serve, writer, {"a": "running"})
    async with client.get(f"{address}/status") as answer:
        said = await answer.json()
    (stream,) = said["streams"]
    assert stream == {
        **key, "watermark": "2026-11-20T09:59:55Z", "lag_seconds": 5.0, "gaps_open": 1, "files": {}, "rows": 0,
    }  # fmt: skip
    assert (said["ready"], said["gaps_open"], said["now"], said["last_certificate"]) == (
        True, 1, "2026-11-20T10:00:00Z", None,
    )  # fmt: skip


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
async def test_a_web_page_cannot_read_the_status(serve, client, writer, headers):
    address = await http(serve, writer, {})
    async with client.get(f"{address}/status", headers=headers) as answer:
        assert answer.status == 403


async def test_a_taken_port_is_said_with_the_setting_to_change(serve, writer):
    address = await http(serve, writer, {})
    second = HttpService("127.0.0.1", int(address.rpartition(":")[2]))
    with pytest.raises(StartFailed, match=r"http\.port"):
        await second.bind(Status(ManualClock(NOW), writer.manifest, Services({}), "live"))


@pytest.fixture
async def control(serve, writer):
    """A running control port: (url, headers)."""

    async def count(arguments, progress):
        for n in range(arguments.get("to", 1)):
            await asyncio.to_thread(progress, n + 1, arguments["to"], "counting")
            await asyncio.sleep(0.005)
        return {"counted": arguments["to"]}

    async def fail(arguments, progress):
        raise ValueError("cannot")

    async def forever(arguments, progress):
        progress(0, 0, "begun")
        await asyncio.Event().wait()

    async def silent(arguments, progress):
        place = {"exchange": "okx", "market_type": "spot", "connection": "okx-spot-business-1"}
        return [{**place, "stream": "trades-all:BTC-USDT", "state": "silent"}]

    jobs = {"count": count, "fail": fail, "forever": forever, "silent": silent}
    await serve(ControlService(jobs, writer.set_control, ManualClock(NOW)))
    while not (info := read_lock(writer.root)).port:
        await asyncio.sleep(0.005)
    return f"http://127.0.0.1:{info.port}/control/jobs", {"Authorization": f"Bearer {info.token}"}


async def post(client, control, body, headers=None):
    url, right = control
    async with client.post(url, data=body, headers=right if headers is None else headers) as answer:
        return answer.status, [json.loads(line) for line in (await answer.text()).splitlines()]


async def test_a_job_s_progress_is_streamed_and_then_its_result(client, control):
    status, lines = await post(client, control, '{"job": "count", "arguments": {"to": 3}}')
    assert status == 200
    assert lines[-1] == {"result": {"counted": 3}}
    assert lines[0] == {"progress": {"done": 1, "total": 3, "what": "counting"}}


async def test_dl_status_names_the_silent_streams_of_a_running_daemon(control, writer):
    said = await asyncio.to_thread(dl_json, "status", "--lake", writer.root)
    assert [(one["stream"], one["state"]) for one in said["silent"]] == [("trades-all:BTC-USDT", "silent")]
    shown = (await asyncio.to_thread(dl, "status", "--lake", writer.root)).stdout
    assert "silent streams" in shown
    assert "trades-all:BTC-USDT" in shown


async def test_dl_status_of_a_daemon_that_does_not_answer_says_so_and_the_rest(writer):
    writer.set_control(1, "token")
    shown = (await asyncio.to_thread(dl, "status", "--lake", writer.root)).stdout
    assert "whether streams are silent is not known: process" in shown
    assert "no files yet" in shown


async def test_a_job_s_error_is_its_answer(client, control):
    assert await post(client, control, '{"job": "fail"}') == (200, [{"error": "cannot", "exit_code": 1}])


@pytest.mark.parametrize(
    "body, status",
    [("{}", 400), ("nonsense", 400), ('{"job": "count", "x": 1}', 400), ('{"job": "drop"}', 404), ("x" * 100_000, 413)],
)
async def test_what_is_no_job_is_refused(client, control, body, status):
    url, headers = control
    async with client.post(url, data=body, headers=headers) as answer:
        assert answer.status == status


async def test_only_who_can_read_the_lock_may_ask(client, control):
    for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": "Bearer \u00e9"}):
        assert (await post(client, control, '{"job": "count"}', headers))[0] == 401
    url, right = control
    async with client.post(url, data="{}", headers={**right, "Origin": "http://evil.example"}) as answer:
        assert answer.status == 403


async def test_a_job_under_way_ends_with_an_answer_when_the_daemon_stops(client, writer):
    stop, begun = asyncio.Event(), asyncio.Event()

    async def forever(arguments, progress):
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(ControlService({"forever": forever}, writer.set_control, ManualClock(NOW)).run(stop))
    while not (info := read_lock(writer.root)).port:
        await asyncio.sleep(0.005)
    url, headers = f"http://127.0.0.1:{info.port}/control/jobs", {"Authorization": f"Bearer {info.token}"}
    asking = asyncio.ensure_future(post(client, (url, headers), '{"job": "forever"}'))
    await begun.wait()
    stop.set()
    await task
    assert await asking == (200, [{"error": "the daemon stops", "exit_code": 1}])
