"""What is on disk and how it is read; nothing about who wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.reader import Lake

__all__ = ["Lake"]


def __getattr__(name: str) -> Any:
    """`from lake import Lake` loads the reader's engines only for those who ask for it."""
    if name == "Lake":
        from lake.reader import Lake  # noqa: PLC0415 # polars, DuckDB and pyarrow take a second to load

        return Lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
