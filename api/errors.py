"""What goes wrong, as an answer: `{"detail": sentence, "error": name}` and a status. Nothing of a traceback, ever.

Refused(status, message)   a request that is not taken, with the reason
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from collectors.files.reading import Refused as FileRefused
from lake.errors import (
    BookUnknown,
    CommitConflict,
    LakeError,
    LakeLocked,
    ManifestBusy,
    NotALake,
    NotHeld,
    TooMuch,
    WrongQuestion,
)
from market.errors import MarketError
from runtime.redaction import redacted

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (BookUnknown, 404),
    (NotHeld, 404),
    (WrongQuestion, 400),
    (FileRefused, 400),
    (TooMuch, 400),
    (MarketError, 400),
    (LakeLocked, 409),
    (CommitConflict, 409),
    (ManifestBusy, 503),
    (NotALake, 503),
    (LakeError, 500),
)


class Refused(HTTPException):
    """A request that is not taken. `name` is the word that programs go by."""

    def __init__(self, status: int, message: str, name: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.name = name

    def __str__(self) -> str:
        return self.detail


def not_found(message: str) -> Refused:
    """There is no such thing."""
    return Refused(404, message, "NotFound")


def wrong(message: str) -> Refused:
    """A question that cannot be answered as it stands."""
    return Refused(400, message, "WrongQuestion")


DEFECT = {"detail": "internal error; the log says more", "error": "InternalError"}
"""Of a defect of ours the asker learns that much."""
NAMES = {404: "NotFound", 405: "NoSuchMethod", 400: "WrongQuestion", 422: "WrongQuestion"}
"""Of what the framework refuses."""


def status_of(error: Exception) -> int:
    """The status of an error of ours, 500 for any other."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body_of(error: Exception, root: Path | None = None) -> dict[str, Any]:
    """The body of the answer to a request that met an error of ours. Files are named as they lie below `root`."""
    said = redacted(str(error))
    return {"detail": said if root is None else in_the_lake(said, root), "error": type(error).__name__}


def in_the_lake(said: str, root: Path) -> str:
    """A sentence that names files as they lie below `root`: nobody else needs to know where that is."""
    for place in (root.absolute(), root.resolve()):
        said = said.replace(f"{place.as_posix()}/", "")
    return said
