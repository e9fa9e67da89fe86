"""What jobs published and nobody takes any more: removed, so that no later start has to find it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from lake.publish import discard
from lake.rows import FileRow
from lake.writer import LakeWriter


class Result(Protocol):
    """What a job answers."""

    @property
    def files(self) -> tuple[FileRow, ...]: ...


J = TypeVar("J")
R = TypeVar("R", bound=Result)


def finished(entry: tuple[J, Future[R]]) -> tuple[J, Future[R]]:
    """The entry, once its job has ended."""
    entry[1].exception()  # waits
    return entry


def let_go(writer: LakeWriter, futures: Iterable[Future[R]]) -> None:
    """Gives jobs up whose results are not wanted: one that runs already cannot be stopped, and is waited for."""
    for future in futures:
        if not future.cancel() and future.exception() is None:
            remove(writer, future.result().files)


def remove(writer: LakeWriter, files: Iterable[FileRow]) -> None:
    """Those of the files that no row of the manifest names."""
    discard(writer.root, [row for row in files if writer.manifest.file(row.path) is None])
