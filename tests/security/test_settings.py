"""Hostile configuration: refused in one message that names the place, quickly, and without telling a secret (F62)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon import environment, yaml_file
from daemon.config import Config, load, load_config
from daemon.errors import ConfigError
from daemon.explain import explain
from tests.support.commands import ROOT, run

SECRET = "hunter2-canary-51c7"
PASSWORD = f"http://user:{SECRET}@proxy.example:8080"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
WIDE = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(500)) + "}\nb: [" + ", ".join(["*a"] * 500) + "]\n"
BROKEN = [
    "lake: [",
    "lake: {a: b",
    "\tlake: x",
    "lake: 'x",
    "lake: @x",
    "lake: `x`",
    "lake: %x",
    "%YAML 9.9\n---\nlake: x",
    "lake: &a *b",
    "lake: !!python/object/apply:os.system ['touch owned']",
    "lake: !!python/name:os.system",
    "lake: !!binary aGk=",
    "lake: !x y",
    "!!python/object:os.system {}",
    "lak: data",
    "http: {hosts: x}",
    "collectors: {sources: [{exchange: binance, evil: 1}]}",
    "lake: data\nlake: other",
    "<<: {lake: data}",
    "http: {<<: {port: 1}}",
    BOMB,
    WIDE,
    "a: &a [*a]",
    "[" * 5000,
    "{a: " * 5000,
    "a: b: c",
    "- lake",
    "42",
    "lake: \x00",
    "\ufeff\ufeffa: 1",
    "lake: data\n---\nlake: other",
    "? {a: b}\n: c",
    "x" * (yaml_file.MAX_BYTES + 1),
]


def refused(path: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_f62_what_is_no_configuration_is_refused_with_its_place_and_quickly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    said = refused(path)
    used = time.process_time() - began
    assert said.startswith("config.yml:") or "config.yml" in said.splitlines()[0]
    assert used < 10
    assert sorted(found.name for found in tmp_path.iterdir()) == ["config.yml"], "nothing ran"


@pytest.mark.parametrize(
    "text", ["LAKE__LAKE", "=x", "export", "A B=1", "LAKE__LAKE=[", "x" * (environment.MAX_BYTES + 1)]
)
def test_f62_a_dotenv_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yml").write_text("lake: data\n")
    (tmp_path / ".env").write_text(text)
    assert ".env" in refused(tmp_path / "config.yml")


WRONG = [
    "LAKE__HTTP__PORT",
    "LAKE__HTTP__HOST",
    "LAKE__LOGS__LEVEL",
    "LAKE__COLLECTORS__NODE",
    "LAKE__NOTHING",
    "LAKE__COLLECTORS__SOURCES",
    "LAKE__COLLECTORS__CONNECTIONS__TRANSPORT",
    "LAKE__WORKERS",
]


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(
    "value", [SECRET, PASSWORD, f"[{SECRET}, {SECRET}x]", f"{{a: {SECRET}}}", f"{SECRET}\nlake: x", f"[{SECRET}"]
)
def test_f62_a_value_of_the_environment_is_never_repeated(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text("lake: data\n")
    said = refused(path, {name: value})
    assert name in said
    assert SECRET not in said
    (tmp_path / ".env").write_text(f"{name}={value.splitlines()[0]}\n")
    assert SECRET not in refused(path)


SOURCE = "collectors: {{sources: [{{exchange: binance, market_type: spot, symbols: [A], endpoint: {{{0}}}}}]}}"
ENDPOINTS = [
    f"rest: 'https://user:{SECRET}@host'",
    f"ws: 'wss://{SECRET}@host'",
    f"ws: {{public: 'wss://u:{SECRET}@host/x'}}",
    f"rest: 'ftp://user:{SECRET}@host'",
    f"ws: 'http://u:{SECRET}@host'",
]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_f62_an_address_with_a_password_is_refused_without_saying_it(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(SOURCE.format(endpoint))
    said = refused(path)
    assert "endpoint" in said
    assert SECRET not in said


def test_f62_neither_check_nor_explain_nor_a_start_tells_what_the_environment_holds(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"lake: {tmp_path / 'lake'}\n")
    held = {"HTTPS_PROXY": PASSWORD, "API_SECRET": SECRET, "LAKE__HTTP__PORT": SECRET}
    for options in (["--check"], []):
        done = run("-m", "daemon", "--config", path, *options, env=held)
        assert done.returncode == 78
        assert "LAKE__HTTP__PORT" in done.stderr
        assert SECRET not in done.stdout + done.stderr
    del held["LAKE__HTTP__PORT"]
    done = run("-m", "daemon", "--config", path, "--explain", env=held)
    assert done.returncode == 0
    assert SECRET not in done.stdout + done.stderr


def test_no_setting_is_a_secret_since_public_data_need_none(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("lake: data\n")
    shown = explain(load(path, {})).lower()
    settings = [line.strip() for line in shown.splitlines() if line.strip() and " " not in line.strip()]
    assert len(settings) > 50
    for word in ("password", "secret", "api_key", "apikey", "token", "credential", "verify", "insecure", "ssl", "tls"):
        assert not [name for name in settings if word in name.split(".")[-1]], word
    assert Config.model_config["extra"] == "forbid"


@pytest.mark.parametrize("text", [BOMB, WIDE], ids=["deep", "wide"])
def test_f62_a_bomb_costs_a_process_no_memory(tmp_path: Path, text: str) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from daemon import yaml_file;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "assert yaml_file.read(Path(sys.argv[1])).defects;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    (tmp_path / "bomb.yml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.yml")], cwd=ROOT, capture_output=True, check=True
    )
    assert int(done.stdout) < 50_000, "kB"
