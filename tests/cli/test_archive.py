"""`dl archive` as a person meets it: the venue's own file, and each way in which one is not what it says."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app
from cli.commands import backfill
from tests.support.archive_host import summed, zipped
from tests.support.commands import sample

FOLDER = Path("spot/daily/klines/BTCUSDT/1h")
NAMED = ("--symbol", "BTCUSDT", "--kind", "kline", "--interval", "1h")


def dl(*words: object) -> tuple[int, str]:
    made = CliRunner().invoke(app, ["archive", *map(str, words)], env={"COLUMNS": "250"})
    return made.exit_code, made.output


def of_day(data: str, date: int) -> str:
    """The candles of 2026-05-08 as those of another day of the month."""
    later = (date - 8) * 86_400_000_000
    rows = [line.split(",") for line in data.splitlines()]
    moved = [[*(str(int(row[0]) + later), *row[1:6], str(int(row[6]) + later), *row[7:])] for row in rows]
    return "".join(",".join(row) + "\n" for row in moved)


def test_each_defect_is_refused_by_name_and_the_sound_file_comes_in(tmp_path: Path) -> None:
    real = sample("binance/vision") / FOLDER / "BTCUSDT-1h-2026-05-08.zip"
    with zipfile.ZipFile(io.BytesIO(real.read_bytes())) as opened:
        text = opened.read("BTCUSDT-1h-2026-05-08.csv").decode()
    place = tmp_path / "mirror" / FOLDER
    place.mkdir(parents=True)

    def lay(date: int, data: bytes, proven: bytes | None = None) -> None:
        name = f"BTCUSDT-1h-2026-05-{date:02d}.zip"
        (place / name).write_bytes(data)
        (place / f"{name}.CHECKSUM").write_bytes(summed(name, data if proven is None else proven))

    def packed(date: int, data: str) -> bytes:
        return zipped({f"BTCUSDT-1h-2026-05-{date:02d}.csv": data.encode()})

    flipped = bytearray(packed(3, of_day(text, 3)))
    flipped[len(flipped) // 2] ^= 1
    lay(3, bytes(flipped), packed(3, of_day(text, 3)))
    lay(4, packed(4, of_day(text, 4))[:-200])
    lay(5, packed(5, of_day(text, 6)))
    in_ms = (line.split(",") for line in of_day(text, 6).splitlines())
    lay(
        6,
        packed(6, "".join(f"{row[0][:-3]},{','.join(row[1:6])},{row[6][:-3]},{','.join(row[7:])}\n" for row in in_ms)),
    )
    lay(7, packed(7, "0" * (8 << 20)))
    lay(8, real.read_bytes())
    lay(9, packed(9, of_day(text, 9)))
    (place / "BTCUSDT-1h-2026-05-09.zip.CHECKSUM").unlink()
    lay(10, packed(10, of_day(text, 10)))
    (place / "BTCUSDT-1h-2026-05-10.zip.CHECKSUM").write_bytes(summed("BTCUSDT-1h-2026-05-11.zip", b""))
    in_ns = (line.split(",") for line in of_day(text, 11).splitlines())
    lay(11, packed(11, "".join(f"{row[0]}000,{','.join(row[1:6])},{row[6]}000,{','.join(row[7:])}\n" for row in in_ns)))
    lay(12, packed(13, of_day(text, 13)))
    lake = tmp_path / "lake"
    code, said = dl(
        *NAMED, "--from", "2026-05-02", "--to", "2026-05-12", "--source", tmp_path / "mirror", "--lake", lake
    )
    assert code == 1
    for date, why in {
        3: "checksum: its SHA-256 is ",
        4: "zip: it does not end as a zip does: it is cut short, or no zip (fetch it again",
        5: "period: line 1: open_time 2026-05-06T00:00:00Z is not in 2026-05-05 (it is another period's file",
        6: "unit: its times are in ms; those of spot 2026-05-06 are in us (--any-unit takes times by their size",
        7: "200 times is taken: a bomb (take nothing from it: remove it, and fetch the venue's own file)",
        9: "missing: there is no CHECKSUM beside it (put the publisher's beside it)",
        10: "checksum: its CHECKSUM is of 'BTCUSDT-1h-2026-05-11.zip' (fetch it again",
        11: "unit: line 1: open_time 1778457600000000000 is no time in s, ms or us (fetch it again",
        12: "zip: it holds 'BTCUSDT-1h-2026-05-13.csv', 'BTCUSDT-1h-2026-05-12.csv' is expected (take nothing from it",
    }.items():
        assert f"refused: BTCUSDT-1h-2026-05-{date:02d}.zip: " in said
        assert why in said
    assert "1 taken, 0 replaced, 0 known, 9 refused; 24 rows" in said
    assert "not published: BTCUSDT 2026-05-02" in said
    assert "not from files: BTCUSDT 2026-05-02T00:00:00Z to 2026-05-08T00:00:00Z; not over REST either: " in said
    assert [path.name for path in (lake / "archives").rglob("*") if path.is_file()] == [f"{real.name}.json"]


def test_what_no_file_holds_is_told_with_its_command_and_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    words = ("--exchange", "okx", "--symbol", "BTC-USDT", "--from", "2026-05-02", "--source", tmp_path / "mirror",
             "--lake", tmp_path / "lake")  # fmt: skip
    code, said = dl(*words, "--dry-run", "--json")
    (rest,) = json.loads(said)["rest"]
    assert (code, rest["start"], rest["end"]) == (1, "2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z")
    assert rest["command"] == (
        "dl backfill --exchange okx --market spot --symbol BTC-USDT --kind trade"
        " --from 2026-05-02T00:00:00Z --to 2026-05-03T00:00:00Z"
    )
    assert not (tmp_path / "lake").exists()
    asked: list[dict[str, Any]] = []
    shape = inspect.signature(backfill.backfill)

    def ask(*given: Any, **named: Any) -> None:
        asked.append(dict(shape.bind(*given, **named).arguments))
        raise typer.Exit(0)

    monkeypatch.setattr(backfill, "backfill", ask)
    code, said = dl(*words, "--rest")
    assert (code, "asking REST for BTC-USDT" in said) == (0, True), said
    (one,) = asked
    assert (one["exchange"], one["market_type"], one["symbol"], one["kind"]) == ("okx", "spot", ["BTC-USDT"], ["trade"])
    assert (one["start"], one["end"]) == (rest["start"], rest["end"])


@pytest.mark.parametrize(
    "words,said",
    [
        ((), "--symbol and --from are needed"),
        (("--symbol", "BTCUSDT"), "--symbol and --from are needed"),
        ((*NAMED, "--from", "2026-05-02", "--rest", "--json"), "--rest goes with none of"),
        (("--symbol", "BTCUSDT", "--from", "2026-05-02", "--exchange", "kraken"), "no archive of kraken is read"),
        ((*NAMED, "--from", "2026-05-02", "--source", "/no/such/place"), "--source /no/such/place is no folder"),
        (("--symbol", "BTC/USDT", "--from", "2026-05-02"), "is no symbol of binance"),
        (("--symbol", "BTC-USDT-SWAP", "--from", "2026-05-02", "--exchange", "okx", "--market-type", "linear"),
         "say --contract-size"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said_before_a_lake_is_made(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, output = dl(*words, "--lake", tmp_path / "lake")
    assert (code, said in " ".join(output.split())) == (2, True), output
    assert not (tmp_path / "lake").exists()
