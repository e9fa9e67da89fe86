"""Configuration: every error at once with its place, overrides, hostile YAML, --check and --explain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import exchanges
from daemon import yaml_file
from daemon.arguments import parse
from daemon.config import Config, load, load_config
from daemon.errors import ConfigError, NoConfig
from daemon.explain import explain

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """\
lake: data
collectors:
  sources:
    - exchange: binance
      market_type: spot
      symbols: [BTCUSDT]
"""


BOMB = "k0: &k0 [lol, lol]\n" + "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.fixture
def config(tmp_path):
    """`config(text)` writes config.yml and returns its path."""

    def write(text, dotenv=None):
        (tmp_path / "config.yml").write_text(text, encoding="utf-8")
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv, encoding="utf-8")
        return tmp_path / "config.yml"

    return write


def problems(path, environ=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, dict(environ))
    assert caught.value.exit_code == 78
    return caught.value.problems


def test_the_shipped_configuration_is_right():
    loaded = load_config(ROOT / "config.yml", {})
    assert {(s.exchange, s.market_type) for s in loaded.collectors.sources} == {
        ("binance", "spot"),
        ("binance", "linear"),
    }
    assert loaded.lake == ROOT / "data"


def test_an_empty_file_is_the_defaults(config, tmp_path):
    assert load_config(config(""), {}) == Config(
        lake=tmp_path / "data", simulate={"lake": tmp_path / "simulated-lake"}
    ).model_copy(update={"collectors": load_config(config(""), {}).collectors})


def test_every_error_is_reported_at_once_with_line_and_column(config):
    said = problems(
        config(
            "lake: data\n"
            "lak: 3\n"
            "http: {prot: 1, port: abc, host: 0.0.0.0}\n"
            "collectors:\n"
            "  source: []\n"
            "  sources:\n"
            "    - exchange: binanze\n"
            "      market_type: spot\n"
            "      symbols: [BTCUSDT]\n"
            "    - {exchange: binance, market_type: sptt, symbols: []}\n"
            "    - {exchange: binance, market_type: option, symbols: [A], kinds: [trade]}\n"
            "    - {exchange: binance, market_type: spot, symbols: [A], kinds: [liquidation], endpoint: {ws: {x: ws://h}}}\n"
            "  connections: {transport: websocket}\n"
            "shutdown_seconds: 5\n"
            "shutdown_seconds: 1\n"
        )
    )
    assert [line.split(" ")[:2] for line in said] == [
        ["config.yml:2:1", "lak"],
        ["config.yml:3:8", "http.prot"],
        ["config.yml:3:23", "http.port"],
        ["config.yml:3:34", "http.host"],
        ["config.yml:5:3", "collectors.source"],
        ["config.yml:7:17", "collectors.sources[0].exchange"],
        ["config.yml:10:40", "collectors.sources[1].market_type"],
        ["config.yml:10:55", "collectors.sources[1].symbols"],
        ["config.yml:11:40", "collectors.sources[2].market_type"],
        ["config.yml:12:68", "collectors.sources[3].kinds[0]"],
        ["config.yml:12:98", "collectors.sources[3].endpoint.ws.x"],
        ["config.yml:13:28", "collectors.connections.transport"],
        ["config.yml:15:1", "shutdown_seconds"],
    ]
    assert said[0] == "config.yml:2:1 lak unknown key; did you mean 'lake'?"
    assert "did you mean 'binance'?" in said[5]
    assert "did you mean 'websockets'?" in said[11]


def test_a_key_with_no_near_one_lists_the_known(config):
    (said,) = problems(config("workers: {zzz: 1}\n"))
    assert said == "config.yml:1:11 workers.zzz unknown key; known: processes, recycle_after"


def test_a_missing_key_is_placed_where_it_belongs(config):
    (said,) = problems(config("collectors:\n  sources:\n    - symbols: [A]\n      market_type: spot\n"))
    assert said == "config.yml:3:7 collectors.sources[0].exchange is required"


def test_environment_over_dotenv_over_file_over_default(config, tmp_path):
    path = config(
        SOURCE + "http: {port: 1000}\nworkers: {processes: 2}\n",
        dotenv="# note\nexport LAKE__HTTP__PORT=2000\nLAKE__WORKERS__PROCESSES='3'\nOTHER=1\n\n",
    )
    environ = {
        "LAKE__HTTP__PORT": "3000",
        "LAKE__COLLECTORS__SOURCES__0__SYMBOLS": "[ETHUSDT, BTCUSDT]",
        "LAKE__LOGS__LEVEL": "DEBUG",
        "LAKE__LAKE": "/somewhere",
        "LAKE_FAULT": "write:1:KILL",
    }
    loaded = load(path, environ)
    assert (loaded.config.http.port, loaded.config.workers.processes, loaded.config.logs.level) == (3000, 3, "DEBUG")
    assert loaded.config.collectors.sources[0].symbols == ["ETHUSDT", "BTCUSDT"]
    assert loaded.config.lake == Path("/somewhere")
    assert loaded.origins["http", "port"] == "environment LAKE__HTTP__PORT"
    assert loaded.origins["workers", "processes"] == ".env:3 LAKE__WORKERS__PROCESSES"


def test_errors_of_the_environment_name_the_variable(config):
    environ = {
        "LAKE__HTTP__PORT": "x",
        "LAKE__HTTP__PROT": "1",
        "LAKE__COLLECTORS__SOURCES__7__SYMBOLS": "[A]",
        "LAKE__WORKERS": "[",
        "LAKE__": "1",
    }
    said = problems(config(SOURCE, dotenv="what is this\n"), environ)
    assert any(line.startswith("environment LAKE__HTTP__PORT http.port input should be") for line in said)
    assert "environment LAKE__HTTP__PROT http.prot unknown key; did you mean 'port'?" in said
    assert any("LAKE__COLLECTORS__SOURCES__7__SYMBOLS leads through something that has no '7'" in line for line in said)
    assert any(line.startswith("environment LAKE__WORKERS is not a YAML value") for line in said)
    assert "environment LAKE__ names no setting" in said
    assert ".env:1 is no NAME=value" in said


def test_an_environment_value_cannot_smuggle_in_other_keys(config):
    said = problems(config(SOURCE), {"LAKE__LOGS__LEVEL": "INFO\nlake: /elsewhere"})
    assert said == ["environment LAKE__LOGS__LEVEL is not a YAML value: is not one value"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("a: [1, 2\n", "config.yml:2:1"),
        ("- 1\n", "must hold keys and values"),
        ("logs: !!python/object/apply:os.system [echo]\n", "config.yml:1:7 logs tags are not allowed"),
        ("? [a, b]\n: 1\n", "a key must be text"),
        ("a: &a [*a]\n", "nested more than"),
        (BOMB, "more than 20000"),
        ("a: " + "[" * 200 + "]" * 200 + "\n", "nested more than"),
        ("a: " + "[" * 100_000 + "\n", "config.yml:1:1"),
        ("a: \x00\n", "config.yml:1:1"),
        ("a: 1\n---\nb: 2\n", "config.yml:2:1"),
    ],
)  # fmt: skip
def test_hostile_yaml_is_refused_quickly(config, text, said):
    assert any(said in line for line in problems(config(text)))


def test_a_large_file_and_other_encodings_are_refused(config, tmp_path):
    assert problems(config("# " + "x" * (256 * 1024)))[0].endswith("larger than 256 KB")
    (tmp_path / "config.yml").write_bytes(b"lake: data\nlogs: \xff\xfe\n")
    assert problems(tmp_path / "config.yml") == ["config.yml:2:1 the file is not UTF-8"]


def test_a_missing_file_is_exit_66(tmp_path):
    with pytest.raises(NoConfig) as caught:
        load_config(tmp_path / "no.yml", {})
    assert caught.value.exit_code == 66
    with pytest.raises(NoConfig):
        load_config(tmp_path, {})


@given(st.text(max_size=200))
def test_no_text_whatsoever_raises_anything_but_defects(text):
    document = yaml_file.parse(text)
    assert document.defects or isinstance(document.values, dict)


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_raise_anything_but_defects(data):
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"hostile-{os.getpid()}.yml"
    path.write_bytes(data)
    try:
        assert yaml_file.read(path) is not None
    finally:
        path.unlink()


def test_explain_shows_every_setting_once_with_its_meaning_and_origin(config):
    text = explain(load(config(SOURCE), {"LAKE__HTTP__PORT": "9000"}))
    assert "now 9000 (environment LAKE__HTTP__PORT)" in text
    assert "now [BTCUSDT] (config.yml:6:16)" in text
    assert "whole number, >= 0, <= 65535, default 8571" in text
    lines = [line.strip() for line in text.splitlines()]
    for section, model in (("", Config), *((f"{n}.", f.annotation) for n, f in Config.model_fields.items())):
        for name in getattr(model, "model_fields", {}):
            assert lines.count(f"{section}{name}") == 1, f"{section}{name}"


def test_every_setting_has_a_description():
    undescribed = []

    def visit(model, path):
        for name, field in model.model_fields.items():
            if not field.description:
                undescribed.append(f"{path}{name}")
            inner = explain.__globals__["section_of"](field.annotation)
            if inner is not None:
                visit(inner, f"{path}{name}.")

    visit(Config, "")
    assert undescribed == []


@pytest.mark.parametrize(
    "line",
    [
        ["--nonsense"],
        ["--only", "collector"],
        ["--only", ","],
        ["--duration", "-1"],
        ["--dur", "5"],
        ["--config", "a", "--config=b"],
        ["--only", "serve", "--only", "collectors"],
    ],
)
def test_a_wrong_command_line_is_exit_64(line, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(line)
    assert caught.value.code == 64
    assert "python -m daemon" in capsys.readouterr().err


def test_help_documents_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(code in said for code in ("0 ", "64", "66", "70", "73", "74", "78", "130"))


def test_check_from_the_shell(config):
    good = config(SOURCE)
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "--config", str(good), "--check"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"{good} is right: 1 source\n")
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "--config", str(config("lak: 1\n")), "--check"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert done.stderr == "config.yml:1:1 lak unknown key; did you mean 'lake'?\n"


def test_a_channel_that_is_none_of_its_kinds_is_named_with_those_that_are(config):
    source = "{exchange: binance, market_type: spot, symbols: [A], kinds: [book_delta], channels: {book_delta: %s}}"
    assert load_config(config(f"collectors: {{sources: [{source % 'depth'}]}}\n"), {}).collectors.sources[0].channels
    (said,) = problems(config(f"collectors: {{sources: [{source % 'depth@1s'}]}}\n"))
    assert "channels.book_delta channel of binance spot for book_delta (one of depth@100ms, depth): 'depth@1s'" in said


def test_a_kind_that_the_venue_lacks_is_refused_with_the_reason(config):
    source = "{exchange: kucoin, market_type: linear, symbols: [XBTUSDTM], kinds: [trade, liquidation]}"
    (said,) = problems(config(f"collectors: {{sources: [{source}]}}\n"))
    assert "kucoin linear does not offer 'liquidation' (the venue tells no forced orders in public" in said


LACKED = [
    (venue, market, kind, found.note)
    for venue in exchanges.names()
    for market, kinds in exchanges.load(venue).EVIDENCE.items()
    for kind, found in kinds.items()
    if found.basis == "absent"
]


def test_every_cell_of_the_table_that_a_venue_does_not_fill_is_refused_with_the_reason(config):
    entries = "".join(
        f"    - {{exchange: {venue}, market_type: {market}, symbols: [A], kinds: [{kind}]}}\n"
        for venue, market, kind, _ in LACKED
    )
    said = problems(config(f"collectors:\n  sources:\n{entries}"))
    assert len(LACKED) > 20
    for (venue, market, kind, why), line in zip(LACKED, said, strict=True):
        assert f"{venue} {market} does not offer '{kind}' ({why}); it offers " in line


def test_check_refuses_what_a_venue_lacks_and_takes_what_it_has(config):
    def checked(*sources):
        entries = "".join(f"    - {{{source}}}\n" for source in sources)
        path = str(config(f"collectors:\n  sources:\n{entries}"))
        command = [sys.executable, "-m", "daemon", "--config", path, "--check"]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    futures = "symbols: [A], kinds: [trade, quote, kline, open_interest]"
    feed = "channels: {trade: exchange.matches, book_delta: exchange.level2_batch}"
    good = (
        f"exchange: kucoin, market_type: inverse, {futures}", f"exchange: kraken, market_type: linear, {futures}",
        f"exchange: coinbase, market_type: linear, {futures}",
        f"exchange: coinbase, market_type: spot, symbols: [A], kinds: [trade, book_delta], {feed}",
    )  # fmt: skip
    assert checked(*good) == (0, "")
    code, said = checked("exchange: coinbase, market_type: linear, symbols: [A], kinds: [mark_price, liquidation]",
                         "exchange: coinbase, market_type: linear, symbols: [A], kinds: [trade], "
                         "channels: {trade: exchange.matches}")  # fmt: skip
    assert code == 78
    assert "'mark_price' (the venue tells an index of futures and no mark price)" in said
    assert "'liquidation' (the venue has no public feed of liquidations)" in said
    assert "channel of coinbase linear for trade (one of market_trades): 'exchange.matches'" in said
