"""Folders outside of any lake for what is made to be compared and thrown away: no crash need leave anything of them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from lake.errors import StorageFailed


class Scratch:
    """A new folder of its own below `base` (None: the system's temporary folder), gone with all in it after `remove`.

    Raises StorageFailed where none can be made.
    """

    def __init__(self, prefix: str, base: Path | None = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        except OSError as error:
            raise StorageFailed(f"no folder can be made in {base or tempfile.gettempdir()}: {error}") from error

    def remove(self) -> None:
        """Doing it twice is fine."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()
