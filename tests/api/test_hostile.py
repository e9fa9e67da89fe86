"""Names, words and paths that mean harm: nothing outside is read, no file of the lake changes, no traceback."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Asgi

CANARY = "canary-31c2f9"
PATHS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "C:\\Windows",
         "\\\\host\\share", "file:///etc/passwd", "a\0b", "CON", "~root", "$(id)", "`id`", "{{7*7}}", "%n"]  # fmt: skip
SQL = [
    "' OR 1=1 --",
    "'; DROP TABLE files; --",
    "BTCUSDT' UNION SELECT * FROM meta --",
    "%' --",
    "a\\'b",
    "1); ATTACH '/x'",
]
TEXTS = ["<script>alert(1)</script>", "\r\nSet-Cookie: x=1", "é" * 50, "\u202eabc", "🚀" * 20, "=cmd|' /C calc'!A0"]

WORDS = [*PATHS, *SQL, *TEXTS]
"""Each in a sixth of the places: all of them are in some."""


@pytest.fixture
def hashes(lake: Path) -> Any:
    def now() -> dict[str, str]:
        """Of every file; the index that SQLite shares with readers says nothing."""
        files = (
            path for path in sorted(lake.rglob("*")) if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        )
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = now()
    yield before
    assert now() == before


@pytest.mark.parametrize("word", WORDS)
async def test_a_hostile_word_anywhere_reads_nothing_and_changes_nothing(api: Asgi, hashes: Any, word: str) -> None:
    asked = [
        ("/api/v1/datasets", {"symbol": word}), ("/api/v1/datasets", {"q": word, "exchange": word}),
        ("/api/v1/read/trade", {"symbol": word}), ("/api/v1/read/trade", {"exchange": word, "market_type": word[:20]}),
        ("/api/v1/read/trade", {"columns": word}), ("/api/v1/read/trade", {"start": word[:40]}),
        ("/api/v1/bars", {"interval": word[:20]}), ("/api/v1/gaps", {"kind": word[:40], "symbol": word}),
        ("/api/v1/book", {"symbol": word, "at": "2024-07-19"}), ("/list", {"symbol": word, "data_type": word[:40]}),
        (f"/api/v1/read/{word}", {}), (f"/api/v1/datasets/{word}", {}), (f"/api/v1/datasets/{word}/export", {}),
        (f"/api/v1/datasets/binance:linear:trade:{word}/preview", {}), (f"/api/v1/export/binance/{word}", {}),
        (f"/api/v1/export/{word}/BTCUSDT", {}), (f"/static/{word}", {}), (f"/{word}", {}),
    ]  # fmt: skip
    mine = WORDS.index(word) % 6
    for path, query in asked[mine::6]:
        said = await api.get(path, **query)
        assert said.status < 500, (path, query, said.body)
        assert b"root:" not in said.body
        assert b"Traceback" not in said.body
        assert "set-cookie" not in said.headers
        if said.status == 200 and path.startswith("/api/v1/read"):
            assert said.json()["rows"] == []


async def test_a_link_in_place_of_a_file_is_not_read_through(lake: Path, api: Asgi, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(CANARY)
    link = lake / "tables" / "link.parquet"
    link.symlink_to(outside)
    try:
        for path in ("/static/link.parquet", "/api/v1/datasets/link.parquet", "/tables/link.parquet"):
            assert CANARY not in (await api.get(path)).body.decode()
    finally:
        link.unlink()
