"""Reloading: the configuration is read again, what changed of the sources is applied, and what needs a restart named.

A configuration that is wrong is refused whole, with the same list of errors as at the start. Nothing but
`collectors.sources` takes effect while the process runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
from pydantic import BaseModel

from collectors.collecting import Change
from collectors.config import SourceConfig
from daemon import place
from daemon.arguments import Options
from daemon.config import Config, load_config
from daemon.control import Progress
from daemon.errors import DaemonError
from daemon.problems import dotted
from daemon.yaml_file import KeyPath
from runtime import changing
from runtime.service import EXIT_CONFIG, Fatal

SOURCES: KeyPath = ("collectors", "sources")
"""What is applied without a restart."""


class Collects(Protocol):
    """What is asked of the collectors."""

    async def change(self, sources: list[SourceConfig], *, dry_run: bool = False) -> Change: ...


class Reloaded(msgspec.Struct, frozen=True):
    """The answer: what changed of what is collected (or would), and the settings that need a restart."""

    config: str
    dry_run: bool
    changed: Change
    restart: list[str]


class ReloadRefused(DaemonError):
    """Nothing has changed; the message says why."""

    exit_code = EXIT_CONFIG


class Reloader:
    """Reads the file that the process was started with, again. `pointed` is what `--simulate` does to what it says.

    `collects` is None where the collectors do not run.
    """

    def __init__(
        self,
        config: Config,
        options: Options,
        collects: Collects | None,
        pointed: Callable[[Config], Config],
    ) -> None:
        self._config = config
        """What the file said, as far as it is in force."""
        self._options = options
        self._collects = collects
        self._pointed = pointed
        self._lock = asyncio.Lock()

    async def job(self, arguments: Mapping[str, Any], _progress: Progress) -> object:
        """`reload` of the control port; argument `dry_run`."""
        return msgspec.to_builtins(await self.reload(dry_run=arguments.get("dry_run") is True))

    async def reload(self, *, dry_run: bool = False) -> Reloaded:
        """Read and apply; with `dry_run` only say what that would do. Raises DaemonError, having changed nothing."""
        async with self._lock:
            try:
                return await self._reload(dry_run=dry_run)
            except DaemonError as refused:
                if not dry_run:
                    changing.reload_refused(reason="; ".join(str(refused).splitlines()))
                raise

    async def _reload(self, *, dry_run: bool) -> Reloaded:
        # in a thread: what is read may lie on a slow disk
        config = await asyncio.to_thread(load_config, self._options.config)
        config = config.model_copy(update={"lake": place.root_of(config, self._options)})
        restart = [dotted(path) for path in differing(self._config, config)]
        changed = Change()
        if self._collects is not None:
            restart = [path for path in restart if path != dotted(SOURCES)]
            try:
                sources = self._pointed(config).collectors.sources
                changed = await self._collects.change(sources, dry_run=dry_run)
            except Fatal as refused:
                raise ReloadRefused(str(refused)) from refused
        if not dry_run:
            if self._collects is not None:
                collectors = self._config.collectors.model_copy(update={"sources": config.collectors.sources})
                self._config = self._config.model_copy(update={"collectors": collectors})
            changing.reloaded(
                added=len(changed.added), removed=len(changed.removed), restart=restart,
                connections=len(changed.replaced) + len(changed.opened) + len(changed.closed),
            )  # fmt: skip
        return Reloaded(str(self._options.config), dry_run, changed, restart)


class Hangup:
    """Reloads whenever `wanted` is set, as SIGHUP does; a refusal has been said, and what runs goes on."""

    name = "reload"
    phase = 3

    def __init__(self, wanted: asyncio.Event, reloader: Reloader) -> None:
        self._wanted = wanted
        self._reloader = reloader

    async def run(self, stop: asyncio.Event) -> None:
        """Stay until told to stop."""
        async with asyncio.TaskGroup() as group:
            heeding = group.create_task(self._heed())
            await stop.wait()
            heeding.cancel()

    async def _heed(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(DaemonError):
                await self._reloader.reload()


def differing(one: BaseModel, two: BaseModel, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The settings in which two configurations differ, lists as a whole."""
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(two, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from differing(before, after, (*path, name))
        elif before != after:
            yield (*path, name)
