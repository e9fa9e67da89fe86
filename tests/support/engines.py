"""Tests open thousands of small lakes: what SQLAlchemy makes of each statement is made once for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

from lake import manifest_source


@contextlib.contextmanager
def quick_engines() -> Iterator[None]:
    """Statements are compiled once for all the lakes that a test opens, not once for each of them."""
    cache: LRUCache[Any, Any] = LRUCache(2_000)
    make = manifest_source.create_engine
    first = make("sqlite+pysqlite://")  # of no lake: the first that a test opens may be a damaged one
    with first.connect():
        dialect = first.dialect
    first.dispose()

    def create(*args: Any, **options: Any) -> Engine:
        engine = make(*args, **options)
        engine.dialect = engine.pool._dialect = dialect
        engine._compiled_cache = cache
        return engine

    manifest_source.create_engine = create
    try:
        yield
    finally:
        manifest_source.create_engine = make
