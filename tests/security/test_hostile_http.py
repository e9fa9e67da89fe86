"""What means harm and is sent over HTTP, or asked by SQL however: no byte of the lake or beside it changes by it.

Names in posted fields and files, bombs, links, and the whole list of hostile queries by every way that takes one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.app import create
from api.config import ServeConfig
from api.state import Served
from cli.app import app
from tests.api.test_changing import BOUNDARY, FEATURES, TRADES, Daemon, daemon, here, post
from tests.api.test_hostile import WORDS
from tests.security.test_names import HOSTILE as NAMES
from tests.security.test_names import hostile
from tests.support.asgi import Answer, Asgi
from tests.support.clock import ManualClock
from tests.support.hostile_sql import HOSTILE, fingerprint, spelt
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

__all__ = ["daemon", "here", "hostile"]


def tree(folder: Path, but: Callable[[Path], bool] = lambda _: False) -> dict[str, str]:
    """Everything below a folder: the bytes of files, where links lead, which folders there are."""

    def told(path: Path) -> str:
        if path.is_symlink():
            return f"-> {path.readlink()}"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"

    shared = ("manifest.db-wal", "manifest.db-shm")  # which SQLite's readers write too
    return {str(path): told(path) for path in folder.rglob("*") if path.name not in shared and not but(path)}


async def send(api: Asgi, path: str, name: str, data: bytes, **fields: str) -> Answer:
    """A file and fields as a form sends them, whatever bytes these are."""
    disposition = "Content-Disposition: form-data; name="
    parts = [f'--{BOUNDARY}\r\n{disposition}"{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    parts.append(f'--{BOUNDARY}\r\n{disposition}"file"; filename="{name}"\r\n\r\n'.encode())
    body = b"".join([*parts, data, f"\r\n--{BOUNDARY}--\r\n".encode()])
    return await api.ask("POST", path, body=body, content_type=f"multipart/form-data; boundary={BOUNDARY}")


async def test_f56_every_hostile_name_is_asked_for_over_http_and_found_by_itself_alone(hostile: Path) -> None:
    before = tree(hostile.parent)
    held = Served(hostile, ServeConfig(), ManualClock(T0))
    api = Asgi(create(held))
    for n, name in enumerate(("BTCUSDT", *NAMES)):
        rows = (await api.get("/api/v1/read/trade", symbol=name)).json()["rows"]
        assert [(row["symbol"], row["seq"]) for row in rows] == [(name, n)], name
        listed = await api.get("/api/v1/datasets", symbol=name)
        if listed.status == 422:
            assert len(name) > 100
            continue
        (found,) = [one for one in listed.json()["datasets"] if one["symbol"] == name]
        shown = await api.get(f"/api/v1/datasets/{found['id']}/preview")
        assert shown.status == 200, (name, shown.body)
        assert {row["symbol"] for row in shown.json()["rows"]} == {name}
    held.close()
    assert tree(hostile.parent) == before


async def test_hostile_names_that_are_sent_write_nothing_outside_and_are_no_names_of_files(
    here: Asgi, daemon: Daemon, tmp_path: Path
) -> None:
    await daemon.start()
    root = daemon.writer.root
    outside = tree(tmp_path, lambda path: path.is_relative_to(root))
    names = {path.name for path in root.rglob("*")}
    for n, word in enumerate(WORDS):
        mine = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT"}
        field = ("exchange", "market", "symbol", "feature_set", "version", "columns", "member", "kind")[n % 8]
        for path, data in (("/api/v1/ingest/file", TRADES), ("/api/v1/features/upload", FEATURES)):
            said = await send(here, path, word.replace("\r\n", ""), data.encode(), **(mine | {field: word}))
            assert said.status in (200, 400, 409, 422), (path, field, word, said.body)
            assert b"Traceback" not in said.body
        await here.ask("DELETE", f"/api/v1/datasets/{word}", x_confirm="x")
        await here.ask("DELETE", f"/features/{word}")
        await post(here, "/api/v1/ingest/bulk-download", mine | {"exchange": word[:40], "symbols": [word]})
    assert tree(tmp_path, lambda path: path.is_relative_to(root)) == outside
    for path in root.rglob("*"):
        assert not path.is_symlink()
        assert path.name in names or not any(char in path.name for char in "/\\:*?\"<>|$`'; \0\n"), path
        assert path.resolve().is_relative_to(root.resolve())


def bombs() -> dict[str, bytes]:
    """Small files that unpack to much: packed once, twice, and of several members with names that lead elsewhere."""
    zeros = b"0" * 30_000_000
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("trades.csv", zeros)
    elsewhere = io.BytesIO()
    with zipfile.ZipFile(elsewhere, "w") as archive:
        archive.writestr("../../../../out.csv", TRADES)
        archive.writestr("/etc/cron.d/out", TRADES)
    link = io.BytesIO()
    with zipfile.ZipFile(link, "w") as archive:
        one = zipfile.ZipInfo("trades.csv")
        one.external_attr = 0o120777 << 16  # a symbolic link
        archive.writestr(one, "/etc/passwd")
    return {
        "bomb.csv.gz": gzip.compress(zeros), "bomb.zip": packed.getvalue(), "elsewhere.zip": elsewhere.getvalue(),
        "twice.gz": gzip.compress(packed.getvalue()), "link.zip": link.getvalue(), "deep.json": b"[" * 100_000,
        "keys.json": b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "long.csv": b"time,price\n" + b"9" * 20_000_000,
    }  # fmt: skip


async def test_bombs_that_are_sent_are_refused_and_leave_nothing(here: Asgi, daemon: Daemon, tmp_path: Path) -> None:
    await daemon.start()
    before = tree(tmp_path)
    fields = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "feature_set": "x"}
    for name, data in bombs().items():
        for path in ("/api/v1/ingest/file", "/api/v1/features/upload"):
            said = await send(here, path, name, data, **fields)
            assert said.status in (400, 413, 422), (path, name, said.body[:300])
            assert b"root:" not in said.body
            assert b"/tmp" not in said.body
    assert tree(tmp_path) == before


async def test_a_link_in_place_of_a_daily_file_is_no_way_out(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    daily = made.root / made.day("trade", [trade(T0, "1", "1", 1)]).path
    made.close()
    secret = tmp_path / "secret.parquet"
    shutil.copy(daily, secret)
    secret.write_bytes(secret.read_bytes() + b"more")
    for path in made.root.rglob("*.parquet"):
        path.unlink()
        path.symlink_to(secret)
    before = tree(tmp_path)
    held = Served(made.root, ServeConfig(), ManualClock(T0))
    for form in ("json", "csv", "jsonl", "parquet", "arrow"):
        try:
            said = await Asgi(create(held)).get("/api/v1/read/trade", format=form)
        except RuntimeError:
            continue  # the answer had begun, and was cut off
        assert (said.status, said.json()["error"]) == (500, "CorruptFile")
    held.close()
    for command in (["read", "trade"], ["sql", "FROM trade"], ["verify"]):
        done = CliRunner().invoke(app, [*command, "--json", "--lake", str(made.root)])
        assert done.exit_code == 1, done.output
        assert "Traceback" not in done.output
    assert tree(tmp_path) == before


# --- every hostile query, by every way that takes one ---


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_no_hostile_query_does_anything_over_http(here: Asgi, daemon: Daemon) -> None:
    root = daemon.writer.root
    before = fingerprint(root)
    for query in HOSTILE:
        if "\ud800" in query:
            continue  # no JSON can say it
        said = await post(here, "/api/v1/sql", {"query": spelt(query, root, "tables/none.parquet")})
        assert said.status in (400, 422), (query[:100], said.body)
        assert b"root:" not in said.body
    assert fingerprint(root) == before


@pytest.mark.slow
def test_no_hostile_query_does_anything_on_the_command_line(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    daily = made.day("trade", [trade(T0, "1", "1", 1)]).path
    made.close()
    before = fingerprint(made.root)
    for query in HOSTILE:
        done = CliRunner().invoke(
            app, ["sql", "--json", "--lake", str(made.root), "--", spelt(query, made.root, daily)]
        )
        assert done.exit_code in (1, 2), (query[:100], done.output)
        assert "root:" not in done.output
        assert "Traceback" not in done.output
    assert fingerprint(made.root) == before
