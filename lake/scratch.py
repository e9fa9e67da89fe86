"""Folders outside of any lake for what is made to be compared and thrown away: no crash need leave anything of them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

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

    def take_in(self, name: str, source: BinaryIO) -> Path:
        """A file of that name with what `source` holds from where it is. Raises StorageFailed."""
        path = self.path / name
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error}") from error
        return path

    def remove(self) -> None:
        """Doing it twice is fine."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()
