"""What is deployed: the systemd unit as systemd reads it, the engines within its limits, and the Windows files."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "datalake.service"
WORST = 2.0

ENGINES = """
import ctypes, mmap, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit("memory may be written and executed")
except PermissionError:
    pass
import aiohttp, picows, pyarrow as pa, pyarrow.parquet as pq, duckdb, polars as pl, uvloop, zstandard
path = sys.argv[1]
pq.write_table(pa.table({"a": range(1000)}), path, compression="zstd")
assert duckdb.sql(f"select sum(a) from read_parquet('{path}')").fetchall() == [(499500,)]
assert pl.scan_parquet(path).select(pl.col("a").sum()).collect().item() == 499500
import collectors.service, compactor.service, daemon.lifecycle, transformer.service
"""


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # names keep their case
    parser.read_string(UNIT.read_text("utf-8"))
    return parser


def test_the_unit_is_rated_safe_and_has_nothing_that_systemd_does_not_know(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    rated = subprocess.run(
        [analyze, "security", "--offline=true", str(UNIT)], capture_output=True, text=True, check=True
    ).stdout
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", rated)
    assert exposure is not None
    assert float(exposure[1]) <= WORST, rated
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/datalake/.venv/bin/python", sys.executable))
    said = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (said.returncode, [line for line in said.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_unit_restarts_what_a_restart_may_cure_and_nothing_else() -> None:
    from runtime import service

    held = unit()["Service"]
    incurable = {service.EXIT_USAGE, service.EXIT_NO_INPUT, service.EXIT_LOCKED, service.EXIT_CONFIG}
    assert {int(code) for code in held["RestartPreventExitStatus"].split()} == incurable
    assert (held["Type"], held["Restart"]) == ("notify", "on-failure")


def test_the_engines_work_without_memory_that_is_written_and_executed(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux can forbid it")
    settings = dict(one.split("=") for one in unit()["Service"]["Environment"].split())
    done = subprocess.run(
        [sys.executable, "-c", ENGINES, str(tmp_path / "x.parquet")],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **settings},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid it")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_windows_files_are_well_formed_and_start_the_daemon() -> None:
    folder = ROOT / "deploy" / "windows"
    task = ET.fromstring((folder / "datalake-task.xml").read_text("utf-8"))
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    command = task.find("t:Actions/t:Exec/t:Command", space)
    arguments = task.find("t:Actions/t:Exec/t:Arguments", space)
    assert command is not None
    assert arguments is not None
    assert (command.text or "").startswith('"'), "a path with blanks is quoted"
    assert (arguments.text or "").startswith("-m daemon --config")
    runs = task.find("t:Principals/t:Principal/t:UserId", space)
    assert runs is not None
    assert runs.text == "S-1-5-19", "the local service, which may do little"
    script = ast.parse((folder / "service.py").read_text("utf-8"))
    assert any(isinstance(node, ast.ClassDef) and node.name == "DatalakeService" for node in script.body)


HARDENED = {
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "NoNewPrivileges": "true",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "true",
    "RestrictSUIDSGID": "true",
    "LockPersonality": "true",
    "ProtectKernelTunables": "true",
    "ProtectKernelModules": "true",
    "ProtectKernelLogs": "true",
    "ProtectControlGroups": "true",
    "ProtectClock": "true",
    "ProtectHostname": "true",
    "ProtectProc": "invisible",
    "SystemCallArchitectures": "native",
    "UMask": "0027",
    "MemoryDenyWriteExecute": "true",
    "ReadWritePaths": "/var/lib/datalake",
    "StateDirectory": "datalake",
    "StateDirectoryMode": "0750",
    "LimitCORE": "0",
}


def test_the_unit_may_do_what_it_must_and_nothing_else() -> None:
    held = unit()["Service"]
    assert {name: held[name] for name in HARDENED} == HARDENED
    assert held["User"] not in ("", "root")
    assert {"MemoryMax", "TasksMax", "LimitNOFILE", "WatchdogSec"} <= set(held)
    assert "SystemCallFilter=@system-service" in UNIT.read_text("utf-8")
    assert not held["ExecStart"].startswith(("+", "!", "-")), (
        "no privileges around the account, no failure that is success"
    )


def test_under_windows_an_account_without_rights_is_given_one_folder() -> None:
    told = (ROOT / "deploy" / "windows" / "README.md").read_text("utf-8")
    assert r'--username "NT SERVICE\datalake"' in told, "a virtual account of its own"
    granted = re.findall(r"icacls (\S+) /grant \"([^\"]+)\"", told)
    assert {place for place, _ in granted} == {r"C:\ProgramData\datalake"}
    assert all(right.endswith(":(OI)(CI)M") for _, right in granted), "to change files, not their owners"
    for path in (ROOT / "deploy" / "windows").iterdir():
        assert not re.search(r"LocalSystem|S-1-5-18\b|HighestAvailable", path.read_text("utf-8")), path.name
