"""The `file://` store: a folder, through `lake.durable`, so that an object is there whole and durable or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lake import durable
from lake.errors import LakeError, StorageFailed
from lake.store import Blob, check_key
from market.errors import Malformed


class FileStore:
    """Objects as files below a folder, which is made when first written to. Other programs' files are objects too."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes | Path) -> None:
        place = self._place(key)
        durable.make_dirs(place.parent)
        durable.write_file(place, data)

    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        place = self._place(key)
        durable.make_dirs(place.parent)
        return durable.write_new(place, data)

    def get(self, key: str) -> bytes:
        return self._read(key, 0, -1)

    def range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise ValueError(f"no range of {length} bytes from {start}")
        return self._read(key, start, length)

    def _read(self, key: str, start: int, length: int) -> bytes:
        place = self._place(key)
        try:
            with place.open("rb") as file:
                file.seek(start)
                return file.read(length)
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(error.errno, "no such object", key) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageFailed(f"reading {place} failed: {error.strerror or error}") from error

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Objects whose key begins with `prefix`; only the folders that can hold such keys are looked into."""
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        start = self.root / folder if folder else self.root
        keys: list[Blob] = []
        for below, _, files in os.walk(start):
            for name in files:
                place = Path(below, name)
                key = place.relative_to(self.root).as_posix()
                if key.startswith(prefix) and _is_key(key) and place.is_file():
                    keys.append(Blob(key, place.stat().st_size))
        yield from sorted(keys)

    def head(self, key: str) -> Blob | None:
        place = self._place(key)
        return Blob(key, place.stat().st_size) if place.is_file() else None

    def delete(self, key: str) -> None:
        place = self._place(key)
        if place.is_file():
            if not durable.unlink(place):
                raise StorageFailed(f"{place} is held open by another program", "close it, or try again later")
            durable.fsync_dir(place.parent)

    def _place(self, key: str) -> Path:
        place = self.root / check_key(key)
        if not place.resolve().is_relative_to(self.root.resolve()):
            raise Malformed("key (a link leads out of the store)", key)
        return place


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except Malformed:
        return False  # a temporary file, or one that was not put here through a store
    return True


def open_url(url: str) -> FileStore:
    """The folder that `url` (the scheme, then its absolute path, percent-encoded) names. Raises LakeError."""
    parts = urlsplit(url)
    path = url2pathname(parts.path)
    if parts.netloc not in {"", "localhost"} or not Path(path).is_absolute() or parts.query or parts.fragment:
        raise LakeError(f"{url!r} names no folder of this machine", "write file:// and its absolute path")
    return FileStore(Path(path))
