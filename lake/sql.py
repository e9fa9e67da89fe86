"""SQL over a lake: one SELECT on DuckDB views, one a kind, over the files of one manifest snapshot.

DuckDB's planner is asked first what the query can want (`lake.sql_plan`), the manifest then which files hold that
(`lake.sql_gather`), and only those are hashed and opened (`lake.sql_engine`). Nothing can be written. That keeps a
mistake harmless; a query of somebody else is answered in a process of its own (`lake.sandbox`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from lake import feature_table, sql_features, sql_plan
from lake.errors import CorruptFile
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.reading import check
from lake.sql_engine import Answer, Engine, Limits
from lake.sql_features import Catalog
from lake.sql_gather import Gathered, gather

__all__ = ["Answer", "Asking", "Limits", "fresh", "gathered_for", "sets_of"]

ATTEMPTS = 3
"""How often a query is asked of a new snapshot."""
REMEMBERED = 16
"""Questions whose files are remembered."""


class Asking:
    """Queries to one lake, in this process. It may be shared between threads."""

    def __init__(self, root: Path, manifest: Manifest, memory: int | None = None) -> None:
        """`memory`: MB that queries may have together; DuckDB's own limit, most of the machine's, where it is None."""
        self._root, self._manifest, self._memory = root.absolute(), manifest, memory
        self._engine: Engine | None = None
        self._making = threading.Lock()
        self._held: dict[bytes, tuple[int, Gathered]] = {}

    def ask(self, query: str, limits: Limits | None = None) -> Answer:
        """Raises WrongQuestion (not one SELECT, or what is wrong with it), TooMuch, CorruptFile."""
        features = sets_of(self._manifest, query)
        scans = sql_plan.planner(features).scans(query)

        def use(version: int) -> Answer:
            held = self._gathered(scans, version, bool(features))
            if not held.features:
                return self._shared().answer(query, held.sources, held.rows, limits)
            with contextlib.closing(self._made()) as engine:  # a schema would be seen by queries of other snapshots
                return engine.answer(query, held.sources, held.rows, limits, held.features)

        return fresh(self._manifest, use)

    def _made(self) -> Engine:
        return Engine(f"{self._root.as_posix()}/", Limits(memory=self._memory))

    def _shared(self) -> Engine:
        with self._making:
            if self._engine is None:
                self._engine = self._made()
            return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _gathered(self, scans: list[sql_plan.Scan], version: int, features: bool) -> Gathered:
        """What those scans need, remembered for as long as the manifest does not change. Raises CorruptFile."""
        key = msgspec.json.encode((scans, features))
        held = self._held.get(key)
        if held is not None and held[0] == version:
            check(self._root, held[1].files)
            return held[1]
        found = gathered_for(self._manifest, self._root, scans, features)
        self._held = {**(self._held if len(self._held) < REMEMBERED else {}), key: (version, found)}
        return found


def fresh(manifest: Manifest, use: Callable[[int], Answer]) -> Answer:
    """`use` of the manifest's version, again where meanwhile files were replaced and let go of."""
    for _ in range(ATTEMPTS - 1):
        version = manifest.version
        try:
            return use(version)
        except CorruptFile:
            if version == manifest.version:
                raise
    return use(manifest.version)


def sets_of(manifest: Manifest, query: str) -> Catalog:
    """The feature sets that there are, where a query may name one."""
    if not sql_plan.names_features(query):
        return ()
    return sql_features.catalog(sql_features.current(feature_table.features(manifest)))


def gathered_for(manifest: Manifest, root: Path, scans: Iterable[sql_plan.Scan], features: bool) -> Gathered:
    """What those scans need, as of now, every file hashed; with the feature sets on request. Raises CorruptFile."""
    wanted = list(scans)
    gathered = manifest.run(lambda conn: gather(Snapshot(conn), wanted, features))
    check(root, gathered.files)
    return gathered
