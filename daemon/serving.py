"""The REST API as a process of the daemon's: started, started again where it fails, told to stop at the end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from api.config import ServeConfig
from runtime import guarding
from runtime.clock import SystemClock, within

STOP_SECONDS = 6.0
"""How long it may take to end once told; then it is killed."""
SAID = 2000
"""Characters of what it says on its way down that are passed on."""


class ServeFailed(Exception):
    """The server ended by itself; the message is what it said last."""


class ServeService:
    """Runs `dl serve` on the daemon's lake."""

    name = "serve"
    phase = 3

    def __init__(self, root: Path, file: Path, config: ServeConfig, clock: SystemClock) -> None:
        self._command = command(root, file, config, clock.offset_us)
        self._clock = clock
        self._address: str | None = None
        self._pid: int | None = None

    def status(self) -> Mapping[str, object]:
        return {"address": self._address, "pid": self._pid}

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop. Raises ServeFailed where the process ends before."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        self._pid = process.pid
        last = _Last(process.stderr)
        try:
            async with asyncio.TaskGroup() as group:
                told = group.create_task(stop.wait())
                ended = group.create_task(process.wait())
                listening = group.create_task(self._hear(process.stdout))
                saying = group.create_task(last.read())
                await asyncio.wait((told, ended), return_when=asyncio.FIRST_COMPLETED)
                by_itself = not told.done()
                if not by_itself:
                    await self._end(process)
                for task in (told, ended, listening, saying):
                    task.cancel()
        finally:
            self._address = self._pid = None
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if by_itself:
            raise ServeFailed(f"it ended by itself with exit code {process.returncode}: {last.text or 'nothing said'}")

    async def _hear(self, stream: asyncio.StreamReader) -> None:
        """Its first line says where it serves."""
        line = await stream.readline()
        with contextlib.suppress(msgspec.MsgspecError):
            self._address = msgspec.json.decode(line, type=dict[str, str]).get("serving")
            guarding.serving(address=self._address or "", pid=self._pid or 0)
        while await stream.read(4096):
            pass

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await within(self._clock, STOP_SECONDS, process.wait())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class _Last:
    """The end of what a process says on stderr: its warnings are in the daemon's own words when it has failed."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self.text = ""

    async def read(self) -> None:
        while data := await self._stream.read(4096):
            self.text = (self.text + data.decode(errors="replace"))[-SAID:].strip()


def command(root: Path, file: Path, config: ServeConfig, offset_us: int = 0) -> Sequence[str]:
    """What is started: this program's own `dl serve`, whose clock is as far ahead of the machine's as ours."""
    told = ["--config", str(file)] if file.is_file() else []
    told += [f"--clock-offset-us={offset_us}"] if offset_us else []
    where = ["--lake", str(root), "--host", config.host, "--port", str(config.port)]
    return [sys.executable, "-m", "cli", "serve", *where, *told, "--json"]
