"""Names that a venue, a configuration or a command line may say: each is one place inside the lake, or is refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path, PureWindowsPath

import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors.exchanges import binance
from daemon.config import load_config
from daemon.errors import ConfigError
from lake import Lake, layout, links, store
from lake.errors import CorruptManifest, LakeError, StorageFailed
from market.errors import MarketError
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

HOSTILE = [
    "../../etc", "..", "/etc/passwd", "a/b", "a\\b", "CON", "nul", "COM1.txt", "%2e%2e", "%2e%2e%2fetc", "A\0B",
    "X" * 300, "\N{ROCKET}USDT", "btcusdt", "C:\\x", "\\\\host\\share", "A:B", "BTC.", "BTC ", "~root", "$(id)",
    "`id`", "-rf", "A\nB", ".lock", "manifest.db", "\u202eTDSU", "symbol=X", "LPT1",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a daily file of each hostile name, and one of a name that is none; nothing else beside it."""
    root = tmp_path_factory.mktemp("names") / "lake"
    made = TestLake(root)
    for n, name in enumerate(("BTCUSDT", *HOSTILE)):
        made.day("trade", [trade(T0, "1", "1", n, symbol=name)], symbol=name)
        made.part("trade", [trade(T0, "1", "1", n, symbol=name)])
    made.close()
    return root


def test_f56_every_name_of_a_venue_is_one_place_inside_the_lake(hostile: Path) -> None:
    assert [path.name for path in hostile.parent.iterdir()] == ["lake"]
    for path in hostile.rglob("*"):
        assert path.resolve().is_relative_to(hostile.resolve())
        assert not path.is_symlink()
        assert len(path.name.encode()) <= 255
        assert path.name.isascii()
        assert path.name.isprintable()
        assert not PureWindowsPath(path.name).is_reserved(), path
        assert not path.name.endswith((".", " "))
    folders = [path.name for path in (hostile / "tables").rglob("symbol=*")]
    assert len(folders) == len({name.casefold() for name in folders}) == len(HOSTILE) + 1


def test_f56_what_lies_under_a_hostile_name_is_read_by_it_and_by_no_other(hostile: Path) -> None:
    with Lake(hostile) as lake:
        for n, name in enumerate(("BTCUSDT", *HOSTILE)):
            assert lake.read("trade", symbol=name).column("seq").to_pylist() == [n], name
        assert lake.read("trade", symbol="Btcusdt").num_rows == 0


@pytest.mark.parametrize("name", [name for name in HOSTILE if "\0" not in name])
def test_f56_a_command_takes_any_name_for_a_name(hostile: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in hostile.parent.rglob("*.parquet")}
    done = [
        CliRunner().invoke(app, [*command, f"--symbol={name}", "--lake", str(hostile), "--json"])
        for command in (("read", "trade"), ("gaps",))
    ]
    assert [(one.exit_code, "Traceback" in one.output) for one in done] == [(0, False)] * 2
    assert {json.loads(line)["symbol"] for line in done[0].stdout.splitlines()} == {name}
    assert {path: path.stat().st_mtime_ns for path in hostile.parent.rglob("*.parquet")} == before


@pytest.mark.parametrize("kind", ["../trade", "trade/../..", "TRADE", "", "trade\0"])
def test_f56_a_kind_an_exchange_and_a_market_are_declared_words_or_refused(kind: str) -> None:
    for arguments in ((kind, "spot", "trade"), ("binance", kind, "trade"), ("binance", "spot", kind)):
        with pytest.raises(MarketError):
            layout.raw_path(*arguments, opened_at=T0, node="box", number=1)
    with pytest.raises(MarketError):
        layout.ledger_path("2026-11-20", f"../{kind}")


@pytest.mark.parametrize("node", ["../x", "a/b", "A", "", "a" * 33, "n\0", "é"])
def test_f56_a_node_of_the_configuration_is_a_word_or_refused(tmp_path: Path, node: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(json.dumps({"collectors": {"node": node}}))
    with pytest.raises(ConfigError):
        load_config(path, {})
    with pytest.raises(MarketError):
        layout.check_node(node)


@pytest.mark.parametrize("symbol", ["A B", "A\nB", "A\0B", "", "X" * 65, "A\x7f"])
def test_f56_a_symbol_of_the_configuration_has_no_blanks_and_an_end(tmp_path: Path, symbol: str) -> None:
    path = tmp_path / "config.yml"
    source = {"exchange": "binance", "market_type": "spot", "symbols": [symbol]}
    path.write_text(json.dumps({"collectors": {"sources": [source]}}))
    with pytest.raises(ConfigError) as refused:
        load_config(path, {})
    assert "symbols" in str(refused.value)


def test_f56_hostile_symbols_of_the_configuration_lead_to_no_other_address() -> None:
    hostile = ["../../etc", "A/B", "A?x=1", "A#b", "A&c", "..%2f", "@host", "A\\B"]
    streams = binance.streams("spot", ["book_delta"], hostile, {})
    assert {stream.symbol for stream in streams} == {symbol.upper() for symbol in hostile}
    endpoint = binance.ENDPOINTS["spot"]
    for connection in binance.connections("spot", streams, endpoint):
        assert connection.url.split("?")[0].rstrip("/") in {
            url.split("?")[0].rstrip("/") for url in endpoint.ws.values()
        }


KEYS = [
    "../x",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    "a/./b",
    "a\\b",
    "C:/x",
    "a\0b",
    "",
    "a/",
    ".x.tmp",
    "a/b.",
    "a/b ",
    "a:b",
]


@pytest.mark.parametrize("key", KEYS)
def test_f56_a_key_of_a_store_leads_nowhere_else(tmp_path: Path, key: str) -> None:
    held = store.open_store((tmp_path / "store").as_uri())
    for verb in (lambda: held.put(key, b"x"), lambda: held.get(key), lambda: held.delete(key), lambda: held.head(key)):
        with pytest.raises(MarketError):
            verb()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../outside.parquet", "/etc/passwd", "tables/../../x", "C:/x", "hot\\..\\x", "", "hot//x"]
)
def test_a_manifest_of_a_strangers_lake_names_no_place_outside(tmp_path: Path, path: str) -> None:
    made = TestLake(tmp_path / "lake")
    held = made.day("trade", [trade(T0, "1", "1", 1)])
    made.close()
    outside = tmp_path / "outside.parquet"
    outside.write_bytes((made.root / held.path).read_bytes())
    with sqlite3.connect(made.root / layout.MANIFEST) as manifest:
        manifest.execute("PRAGMA foreign_keys = OFF")
        manifest.execute("UPDATE files SET path = ?", (path,))
    manifest.close()
    with Lake(made.root) as lake, pytest.raises(CorruptManifest, match="no place in a lake"):
        lake.read("trade")
    for command in ("compact", "verify"):
        done = CliRunner().invoke(app, [command, "--lake", str(made.root)])
        assert done.exit_code not in (0, 70), f"{command}: {done.output}"
    assert outside.exists()


def test_a_folder_of_the_lake_that_is_a_link_stops_the_start_before_anything_is_written(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    made.day("trade", [trade(T0, "1", "1", 1)])
    outside = tmp_path / "outside"
    outside.mkdir()
    (made.root / "versions/exchange=binance/market_type=spot").symlink_to(outside)
    with pytest.raises(StorageFailed, match="is a symbolic link inside a lake"):
        made.writer.recover(T0)
    made.close()
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_new_file_is_not_written_through(tmp_path: Path) -> None:
    made = TestLake(tmp_path / "lake")
    secret = tmp_path / "secret"
    secret.write_bytes(b"kept")
    held = made.day("trade", [trade(T0, "1", "1", 1)])
    shown = made.root / str(links.link_of(held.path))
    shown.unlink()
    shown.symlink_to(secret)
    assert made.writer.relink() == 1
    assert not shown.is_symlink()
    assert shown.samefile(made.root / held.path)
    ledger = next((made.root / layout.LEDGER).iterdir())
    made.close()
    ledger.unlink()
    ledger.symlink_to(secret)
    with pytest.raises((LakeError, OSError)):
        TestLake(made.root)
    assert secret.read_bytes() == b"kept"
