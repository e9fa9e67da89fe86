"""Service: what the supervisor runs. A name, a shutdown phase, and `run(stop)`; Fatal is the way to end the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_NO_INPUT = 66
EXIT_INTERNAL = 70
EXIT_LOCKED = 73
EXIT_STORAGE = 74
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130


class Service(Protocol):
    """A long-lived part of the process.

    `run` works until `stop` is set, then takes no new input, writes down what it holds, and returns. It must notice
    `stop` while it waits (`runtime.clock.pause`). Returning earlier means that it is done and is not started again.
    Raising Fatal ends the process; any other error is logged and `run` is called again after a backoff, so whatever
    `run` opens it closes.
    Services of a lower `phase` are stopped first: sources 0, transformer 1, compactor 2, http and control 3.
    """

    @property
    def name(self) -> str: ...

    @property
    def phase(self) -> int: ...

    async def run(self, stop: asyncio.Event) -> None: ...


@runtime_checkable
class Reports(Protocol):
    """A service that has something to say in `/status`: plain JSON values, cheap to make."""

    def status(self) -> Mapping[str, object]: ...


@runtime_checkable
class Moves(Protocol):
    """A service that can tell whether it stands still."""

    def stuck(self) -> str | None:
        """What has not moved for too long, in words; None where all is well."""
        ...


@runtime_checkable
class Impairable(Protocol):
    """A service that can run and yet not do its work, for a reason outside of it."""

    def impaired(self) -> str | None:
        """The reason in one word, shown as its state; None where it does its work."""
        ...


class Fatal(Exception):
    """The process cannot go on: it stops in phases and exits with `exit_code`."""

    def __init__(self, message: str, exit_code: int = EXIT_INTERNAL) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int | None:
    """The one place that decides retryable or fatal: an exit code where `error` must end the process, else None.

    Errors of other packages take part by an `exit_code` attribute of a condition that no retry cures:
    the lake lost to another writer, storage failed, a version or configuration mismatch. A group is as fatal as the
    first fatal error in it.
    """
    if isinstance(error, BaseExceptionGroup):
        return next((code for inner in error.exceptions if (code := exit_code_of(inner)) is not None), None)
    if isinstance(error, Fatal):
        return error.exit_code
    code = getattr(error, "exit_code", None)
    return code if code in (EXIT_LOCKED, EXIT_STORAGE, EXIT_CONFIG) else None


def cause_of(error: BaseException) -> BaseException:
    """The error to name: that of a group which is fatal, else its first one; `error` itself where it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = next((inner for inner in error.exceptions if exit_code_of(inner) is not None), error.exceptions[0])
    return error
