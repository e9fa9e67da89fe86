"""Files that are sent: kept in a folder of their own until the daemon has read them, then gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import UploadFile

from api.errors import wrong
from lake.scratch import Scratch

MAX_NAME = 120


@asynccontextmanager
async def kept(file: UploadFile) -> AsyncIterator[Path]:
    """Where the daemon finds the file, by a harmless form of the name that it came with. Raises Refused (no bytes)."""
    if not file.size:
        raise wrong("the file is empty")
    with await asyncio.to_thread(Scratch, "lake-upload-") as scratch:
        yield await asyncio.to_thread(scratch.take_in, name_of(file.filename or ""), file.file)


def name_of(given: str) -> str:
    """The last part of a name, of letters, digits, dots, - and _, not hidden: its ending says what a file is."""
    last = given.replace("\\", "/").rpartition("/")[2]
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in last)
    return safe.lstrip(".")[-MAX_NAME:].lstrip(".") or "file"
