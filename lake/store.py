"""The store seam: whole objects under keys, whatever holds them. The folder `lake.stores` is the registry by scheme.

Seven verbs, since more could not be kept alike everywhere. An object is there whole or not at all, and once a verb has
returned it is durable; callers cannot tell a folder from a bucket.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, cast, runtime_checkable

from lake import stores
from lake.errors import LakeError
from market.errors import Malformed

MAX_KEY = 1024
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]")
_TEMPORARY = re.compile(r"\..*\.tmp")
_SCHEME = re.compile(r"([a-z][a-z0-9]*)://")


class Blob(NamedTuple):
    """An object that is there: its key and its length in bytes."""

    key: str
    size: int


@runtime_checkable
class Store(Protocol):
    """Objects by key. Every verb raises Malformed for a key that `check_key` refuses, and StorageFailed where the store
    itself fails; then a write may or may not have happened, and doing it again is right.
    """

    def put(self, key: str, data: bytes | Path) -> None:
        """Make `key` hold `data` (or the bytes of that file), replacing what it held."""

    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        """The same, but only where nothing has that key; False, and nothing done, where something has. Atomic."""

    def get(self, key: str) -> bytes:
        """All of an object. Raises FileNotFoundError."""

    def range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on, fewer where it ends before. Raises FileNotFoundError, ValueError."""

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Every object whose key begins with `prefix` (any characters, not only whole folders), in the keys' order."""

    def head(self, key: str) -> Blob | None:
        """Whether an object is there, and how long it is."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""


class _Member(Protocol):
    def open_url(self, url: str) -> Store: ...


def names() -> tuple[str, ...]:
    """The schemes that have a store."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(stores.__path__)))


def open_store(url: str) -> Store:
    """The store at `url`: a scheme and what its module reads. Raises LakeError for an unknown scheme, a bad address."""
    match = _SCHEME.match(url)
    scheme = match[1] if match else ""
    if scheme not in names():
        known = ", ".join(f"{name}://" for name in names())
        raise LakeError(f"no store for {url!r}", f"known: {known}; a folder is file:// and its absolute path")
    member = cast("_Member", importlib.import_module(f"{stores.__name__}.{scheme}"))
    return member.open_url(url)


def check_key(key: str) -> str:
    """`key` if every store can hold it: a relative POSIX path that leads nowhere else. Raises Malformed."""
    parts = key.split("/")
    if len(key.encode("utf-8", "replace")) > MAX_KEY or _FORBIDDEN.search(key) or not key.isprintable():
        raise Malformed("key", key)
    if any(part in {"", ".", ".."} or part[-1] in ". " or _TEMPORARY.fullmatch(part) for part in parts):
        raise Malformed("key", key)
    return key
