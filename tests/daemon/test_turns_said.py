"""Two of the same heavy command at once: the second waits for its turn, and says for what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cli import jobs
from compactor.config import CompactorConfig
from compactor.service import CompactorService
from daemon import archiving, deleting, featuring, reparsing, taking_in
from daemon.config import Config
from lake.lock import LockInfo
from lake.writer import LakeWriter
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.support.clock import NOON, ManualClock, settle
from tests.support.held import Held
from transformer.config import TransformerConfig
from transformer.service import TransformService

DATES = {"first": "2026-11-20", "last": "2026-11-21"}
DELETED = {"exchange": "binance", "market_type": "spot", "kind": "trade", "symbol": None, "digest": ""}
COMPACTOR: Any = SimpleNamespace()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "node", NOON) as opened:
        yield opened


def reparse(writer: LakeWriter) -> Any:
    job = reparsing.control_job(Config(), writer, InlineExecutor(), ManualClock(), Slot(), COMPACTOR)
    return lambda progress: job(DATES, progress)


def archive(writer: LakeWriter) -> Any:
    job = archiving.control_job(Config(), writer, ManualClock(), Slot(), COMPACTOR, InlineExecutor)
    return lambda progress: job({}, progress)


def import_(writer: LakeWriter) -> Any:
    job = taking_in.control_job(writer, InlineExecutor(), "node", ManualClock())
    return lambda progress: job({"path": "/data/x.csv"}, progress)


def delete(writer: LakeWriter) -> Any:
    job = deleting.control_job(writer, ManualClock())
    return lambda progress: job(DELETED, progress)


def features(writer: LakeWriter) -> Any:
    job = featuring.control_job(writer, ManualClock())
    return lambda progress: job({}, progress)


def compact(writer: LakeWriter) -> Any:
    service = CompactorService(writer, InlineExecutor(), ManualClock(), CompactorConfig())
    return service.compact


def transform(writer: LakeWriter) -> Any:
    service = TransformService(writer, InlineExecutor(), ManualClock(), TransformerConfig())
    return service.once


@pytest.mark.parametrize(
    "made, place, result, what",
    [
        (reparse, "daemon.reparsing.reparse_job", reparsing.Done(dry_run=False, days=[]),
         "the re-parse of 2026-11-20 to 2026-11-21"),
        (archive, "daemon.archiving.archive_job", archiving.Done(dry_run=False), "another fetch of archives"),
        (import_, "daemon.taking_in.take_in", None, "the import of /data/x.csv"),
        (delete, "daemon.deleting.delete", None, "another deletion"),
        (features, "daemon.featuring.run", None, "another change of the feature store"),
        (compact, "compactor.service.compact_once", None, "the pass"),
        (transform, "transformer.service.transform_once", None, "the pass"),
    ],
)  # fmt: skip
async def test_the_second_waits_and_says_so(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch, made: Callable[[LakeWriter], Any], place: str, result: Any,
    what: str,
) -> None:  # fmt: skip
    held, said = Held(result), list[tuple[int, int, str]]()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(*one: Any) -> None:
        said.append(one)
        loop.call_soon_threadsafe(told.set)

    monkeypatch.setattr(place, held)
    monkeypatch.setattr(taking_in, "request_of", lambda asked: SimpleNamespace(**asked))
    monkeypatch.setattr(featuring, "job_of", lambda asked: asked)
    ask = made(writer)
    first = asyncio.ensure_future(ask(lambda *_: None))
    beginning = asyncio.ensure_future(held.begun.wait())
    await asyncio.wait((first, beginning), return_when=asyncio.FIRST_COMPLETED)
    assert beginning.done(), first.exception()
    second = asyncio.ensure_future(ask(tell))
    try:
        await told.wait()
        await settle()
        assert held.calls == 1
    finally:
        held.go.set()
    await asyncio.gather(first, second)
    assert held.calls == 2
    assert said == [(0, 1, f"waits until {what} is over")]


def test_who_asks_is_told_on_stderr_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    waits = {"progress": {"done": 0, "total": 1, "what": "waits until the re-parse of a to b is over"}}
    lines = [waits, waits, {"progress": {"done": 1, "total": 2, "what": "at work"}}, {"result": {"ok": True}}]

    class Daemon:
        def __init__(self, *_where: object, **_how: object) -> None: ...

        def request(self, *_asked: object) -> None: ...

        def getresponse(self) -> list[bytes]:
            return [msgspec.json.encode(line) for line in lines]

        def close(self) -> None: ...

    monkeypatch.setattr("http.client.HTTPConnection", Daemon)
    holder = LockInfo(pid=1, epoch=1, port=1, token="t")
    told: list[object] = []
    assert jobs.ask(holder, "reparse", {}, lambda *one: told.append(one)) == {"ok": True}
    assert len(told) == 3
    assert capsys.readouterr().err.splitlines() == ["dl reparse waits until the re-parse of a to b is over"]
